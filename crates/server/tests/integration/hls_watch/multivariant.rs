//! A multivariant playlist, read strictly, and what it must say (draft-pantos-hls-rfc8216bis, section 4.4.6).
//!
//! Owns: CONFORMANCE H1, H2, H16 and H18 as far as the text alone shows them.

use super::{
    media::lines,
    syntax::{Attributes, integer, micros, seconds},
};

/// A multivariant playlist.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Multivariant {
    pub(crate) independent: bool,
    pub(crate) variants: Vec<Variant>,
    pub(crate) renditions: Vec<Rendition>,
}

/// EXT-X-STREAM-INF and its URI.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Variant {
    pub(crate) uri: String,
    pub(crate) bandwidth: u64,
    pub(crate) average_bandwidth: Option<u64>,
    pub(crate) codecs: Vec<String>,
    pub(crate) resolution: Option<(u64, u64)>,
    /// Frames in a million seconds, as written with three decimals.
    pub(crate) frame_rate: Option<i64>,
    pub(crate) audio: Option<String>,
}

/// EXT-X-MEDIA.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Rendition {
    pub(crate) kind: String,
    pub(crate) group: String,
    pub(crate) name: String,
    pub(crate) language: Option<String>,
    pub(crate) uri: Option<String>,
}

impl Multivariant {
    /// Reads the text; the first break of its form ends the reading.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut playlist = Self::default();
        let mut version = None;
        let mut variant: Option<Variant> = None;
        for line in lines(text)? {
            let (tag, value) = line.split_once(':').unwrap_or((line, ""));
            if let Some(mut variant) = variant.take() {
                if line.starts_with('#') {
                    return Err(format!("H1: {line} where a URI is to follow"));
                }
                line.clone_into(&mut variant.uri);
                playlist.variants.push(variant);
                continue;
            }
            match tag {
                "#EXT-X-VERSION" => {
                    let number = integer(value).ok_or(format!("H2: version {value}"))?;
                    if version.replace(number).is_some() {
                        return Err("H2: #EXT-X-VERSION twice".into());
                    }
                }
                "#EXT-X-INDEPENDENT-SEGMENTS" if playlist.independent => {
                    return Err(format!("H15: {tag} twice"));
                }
                "#EXT-X-INDEPENDENT-SEGMENTS" => playlist.independent = true,
                "#EXT-X-START" if value.starts_with("TIME-OFFSET=") => {}
                "#EXT-X-STREAM-INF" => variant = Some(stream_inf(value)?),
                "#EXT-X-MEDIA" => playlist.renditions.push(media(value)?),
                _ if tag.starts_with("#EXT") => return Err(format!("H1: {tag} is not known")),
                _ if !line.starts_with('#') => return Err(format!("H1: {line} without a variant")),
                _ => {}
            }
        }
        match (version, variant) {
            (None, _) => Err("H2: no #EXT-X-VERSION".into()),
            (_, Some(_)) => Err("H1: a variant without a URI".into()),
            _ => Ok(playlist),
        }
    }

    /// What is wrong with what it says.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut need = |holds: bool, what: String| {
            if !holds {
                problems.push(what);
            }
        };
        need(!self.variants.is_empty(), "H16: no variant".into());
        for variant in &self.variants {
            let uri = &variant.uri;
            let average = variant.average_bandwidth;
            need(
                average.is_some(),
                format!("H16: {uri}: no AVERAGE-BANDWIDTH"),
            );
            need(
                (1..=variant.bandwidth).contains(&average.unwrap_or(1)),
                format!("H16: {uri}: AVERAGE-BANDWIDTH above BANDWIDTH"),
            );
            need(!variant.codecs.is_empty(), format!("H16: {uri}: no CODECS"));
            let pictures = ["avc1", "avc3", "hvc1", "hev1", "av01", "vp09"];
            let codecs = &mut variant.codecs.iter();
            if codecs.any(|codec| pictures.iter().any(|picture| codec.starts_with(picture))) {
                need(
                    variant.resolution.is_some(),
                    format!("H16: {uri}: no RESOLUTION"),
                );
                need(
                    variant.frame_rate.is_some(),
                    format!("H16: {uri}: no FRAME-RATE"),
                );
            }
            if let Some(group) = &variant.audio {
                let mut renditions = self.renditions.iter();
                need(
                    renditions
                        .any(|rendition| rendition.kind == "AUDIO" && rendition.group == *group),
                    format!("H18: {uri}: no rendition in {group}"),
                );
            }
        }
        for (at, rendition) in self.renditions.iter().enumerate() {
            let name = (&rendition.group, &rendition.name);
            let mut before = self.renditions[..at].iter();
            need(
                !before.any(|other| (&other.group, &other.name) == name),
                format!("H18: {name:?} twice"),
            );
            need(
                rendition.kind != "AUDIO" || rendition.language.is_some(),
                format!("H18: {name:?}: no LANGUAGE"),
            );
        }
        problems
    }

    /// The URI of every media playlist, each once.
    pub(crate) fn playlists(&self) -> Vec<String> {
        let variants = self.variants.iter().map(|variant| Some(&variant.uri));
        let renditions = self
            .renditions
            .iter()
            .map(|rendition| rendition.uri.as_ref());
        let mut uris: Vec<String> = variants.chain(renditions).flatten().cloned().collect();
        let mut seen = Vec::new();
        uris.retain(|uri| {
            let new = !seen.contains(uri);
            seen.push(uri.clone());
            new
        });
        uris
    }
}

fn stream_inf(value: &str) -> Result<Variant, String> {
    let mut list = Attributes::parse("#EXT-X-STREAM-INF", value)?;
    let bandwidth = list.bare("BANDWIDTH", integer)?;
    let size = |text: &str| {
        let (width, height) = text.split_once('x')?;
        Some((integer(width)?, integer(height)?))
    };
    let rate = |text: &str| seconds(text).filter(|(_, decimals)| *decimals == 3);
    let codecs = list.quoted("CODECS")?.unwrap_or_default();
    let variant = Variant {
        uri: String::new(),
        bandwidth: list.needed("BANDWIDTH", bandwidth)?,
        average_bandwidth: list.bare("AVERAGE-BANDWIDTH", integer)?,
        codecs: codecs
            .split(',')
            .filter(|codec| !codec.is_empty())
            .map(str::to_owned)
            .collect(),
        resolution: list.bare("RESOLUTION", size)?,
        frame_rate: list.bare("FRAME-RATE", rate)?.map(|(rate, _)| rate),
        audio: list.quoted("AUDIO")?.map(str::to_owned),
    };
    list.bare("VIDEO-RANGE", |text| {
        ["SDR", "HLG", "PQ"].contains(&text).then_some(())
    })?;
    list.bare("SCORE", micros)?;
    // A group would need renditions of TYPE=CLOSED-CAPTIONS, which there are not.
    list.bare("CLOSED-CAPTIONS", |text| (text == "NONE").then_some(()))?;
    list.finish()?;
    Ok(variant)
}

fn media(value: &str) -> Result<Rendition, String> {
    let mut list = Attributes::parse("#EXT-X-MEDIA", value)?;
    let kind = |text: &str| {
        ["AUDIO", "VIDEO", "SUBTITLES"]
            .contains(&text)
            .then(|| text.to_owned())
    };
    let kind = list.bare("TYPE", kind)?;
    let (group, name) = (list.quoted("GROUP-ID")?, list.quoted("NAME")?);
    let rendition = Rendition {
        kind: list.needed("TYPE", kind)?,
        group: list.needed("GROUP-ID", group)?.to_owned(),
        name: list.needed("NAME", name)?.to_owned(),
        language: list.quoted("LANGUAGE")?.map(str::to_owned),
        uri: list.quoted("URI")?.map(str::to_owned),
    };
    for flag in ["DEFAULT", "AUTOSELECT", "FORCED"] {
        list.flag(flag)?;
    }
    list.quoted("CHANNELS")?;
    list.finish()?;
    Ok(rendition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::changes::rows;

    const GOOD: &str = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Default\",LANGUAGE=\"und\",DEFAULT=YES,\
        AUTOSELECT=YES,CHANNELS=\"2\",URI=\"audio/index.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=900,AVERAGE-BANDWIDTH=800,CODECS=\"avc1.42c01e,mp4a.40.2\",\
        RESOLUTION=640x360,FRAME-RATE=29.970,CLOSED-CAPTIONS=NONE,AUDIO=\"audio\"\nvideo/index.m3u8\n";

    /// Changes of it, and how the problem begins.
    const BROKEN: &str = r#"
#EXTM3U => \u{feff}#EXTM3U => H1: the first line
#EXTM3U\n => #EXTM3U\r\n => H1: the first line
video/index.m3u8\n => video/index.m3u8 => H1: the last line
#EXT-X-VERSION:6\n =>  => H2: no
#EXT-X-VERSION:6\n => #EXT-X-VERSION:x\n => H2: version x
#EXT-X-VERSION:6\n => #EXT-X-VERSION:6\n#EXT-X-VERSION:6\n => H2: #EXT-X-VERSION twice
#EXT-X-INDEPENDENT => #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-INDEPENDENT => H15
#EXT-X-INDEPENDENT-SEGMENTS => #EXT-X-OTHER => H1: #EXT-X-OTHER is not known
#EXT-X-INDEPENDENT-SEGMENTS => other.m3u8 => H1: other.m3u8 without a variant
video/index.m3u8\n =>  => H1: a variant without a URI
video/index.m3u8 => #EXT-X-STREAM-INF:BANDWIDTH=1 => H1: #EXT-X-STREAM-INF:BANDWIDTH=1 where a URI
BANDWIDTH=900, =>  => H1: #EXT-X-STREAM-INF: no BANDWIDTH
BANDWIDTH=900 => BANDWIDTH=9.5 => H1: #EXT-X-STREAM-INF: BANDWIDTH is 9.5
29.970 => 29.97 => H1: #EXT-X-STREAM-INF: FRAME-RATE
640x360 => 640 => H1: #EXT-X-STREAM-INF: RESOLUTION
RESOLUTION=640x360 => SIZE=640x360 => H1: #EXT-X-STREAM-INF: SIZE is not known
CAPTIONS=NONE => CAPTIONS="cc" => H1: #EXT-X-STREAM-INF: CLOSED-CAPTIONS
TYPE=AUDIO => TYPE=MUSIC => H1: #EXT-X-MEDIA: TYPE is MUSIC
NAME="Default", =>  => H1: #EXT-X-MEDIA: no NAME
AVERAGE-BANDWIDTH=800, =>  => H16: video/index.m3u8: no AVERAGE
=800 => =901 => H16: video/index.m3u8: AVERAGE-BANDWIDTH above
CODECS="avc1.42c01e,mp4a.40.2", =>  => H16: video/index.m3u8: no CODECS
RESOLUTION=640x360, =>  => H16: video/index.m3u8: no RESOLUTION
FRAME-RATE=29.970, =>  => H16: video/index.m3u8: no FRAME-RATE
AUDIO="audio" => AUDIO="sound" => H18: video/index.m3u8: no rendition
LANGUAGE="und", =>  => H18: ("audio", "Default"): no LANGUAGE
"#;

    fn problems(text: &str) -> Vec<String> {
        match Multivariant::parse(text) {
            Ok(playlist) => playlist.problems(),
            Err(problem) => vec![problem],
        }
    }

    #[test]
    fn a_good_playlist_is_read() {
        let playlist = Multivariant::parse(GOOD).expect("it is good");
        assert_eq!(playlist.problems(), Vec::<String>::new());
        assert_eq!(
            playlist.playlists(),
            ["video/index.m3u8", "audio/index.m3u8"]
        );
        assert_eq!(playlist.variants[0].frame_rate, Some(29_970_000));
        assert_eq!(playlist.variants[0].resolution, Some((640, 360)));
    }

    #[test]
    fn broken_playlists_are_found() {
        for change in rows(BROKEN) {
            change.assert_found(&problems(&change.apply(GOOD)));
        }
        let none = Multivariant::default().problems();
        assert_eq!(none, ["H16: no variant"]);
        let mut twice = Multivariant::parse(GOOD).expect("it is good");
        twice.renditions.push(twice.renditions[0].clone());
        assert_eq!(twice.problems(), ["H18: (\"audio\", \"Default\") twice"]);
    }
}
