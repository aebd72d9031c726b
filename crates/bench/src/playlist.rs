//! HLS playlists as a player reads them, and what must stay true from one to the next.
//!
//! Owns: the tags that a player of whole segments needs (RFC 8216, 4.3), and the rules for reloads (6.2.1, 6.2.2). Does
//! not own: fetching ([`crate::viewer`]).

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

/// Most segments that a playlist is read to have; a day of two-second ones has 43 200.
const SEGMENTS_MAX: usize = 50_000;
/// How many segments of the past are remembered: more than a player has fetched and not yet seen go.
const REMEMBERED_MAX: usize = 64;
/// Longest segment: what is longer is a mistake of the writer.
const SEGMENT_SECONDS_MAX: f64 = 3_600.0;

/// What a playlist is.
#[derive(Debug, Clone, PartialEq)]
pub enum Playlist {
    /// Renditions to choose from.
    Multivariant(Multivariant),
    /// Segments.
    Media(Media),
}

/// Renditions to choose from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Multivariant {
    /// URI and group of sound, in the order of the playlist.
    pub variants: Vec<(String, Option<String>)>,
    /// Group and URI of sound that is a rendition of its own; the default one of a group is first.
    pub sounds: Vec<(String, String)>,
}

/// Segments.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Media {
    /// No segment is longer, rounded to seconds.
    pub target_duration: Duration,
    /// Number of the first segment.
    pub sequence: u64,
    /// The segments, oldest first.
    pub segments: Vec<Segment>,
    /// Whether no more come.
    pub has_ended: bool,
}

/// One segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Where it is.
    pub uri: String,
    /// How long it plays.
    pub duration: Duration,
    /// Where its initialisation section is.
    pub map: Option<String>,
}

/// What is wrong with a playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not begin with `#EXTM3U`.
    #[error("this is not a playlist")]
    NotOne,
    /// A tag whose value cannot be read.
    #[error("the value of {0} is damaged")]
    Value(&'static str),
    /// A tag that must be there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// More segments than anybody needs.
    #[error("the playlist has too many segments")]
    TooMany,
    /// A media playlist where renditions should be, or none of them.
    #[error("the playlist has nothing to play")]
    Empty,
    /// Numbers only go up.
    #[error("the media sequence number went back")]
    SequenceBack,
    /// A number stays with its segment.
    #[error("a media sequence number has another segment than before")]
    Renumbered,
    /// It never changes.
    #[error("the target duration changed")]
    TargetDuration,
    /// A segment is longer than the target duration.
    #[error("a segment is longer than the target duration")]
    TooLong,
}

impl Playlist {
    /// Reads a playlist.
    ///
    /// # Errors
    /// It is not one.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut lines = text.lines().map(str::trim_end);
        if lines.next() != Some("#EXTM3U") {
            return Err(Error::NotOne);
        }
        if text.contains("\n#EXT-X-STREAM-INF:") {
            return Ok(Self::Multivariant(Multivariant::parse(lines)));
        }
        Media::parse(lines).map(Self::Media)
    }
}

impl Multivariant {
    fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        let mut playlist = Self::default();
        let mut group = None;
        let mut is_next = false;
        for line in lines {
            if let Some(list) = line.strip_prefix("#EXT-X-STREAM-INF:") {
                group = attribute(list, "AUDIO").map(str::to_owned);
                is_next = true;
            } else if let Some(list) = line.strip_prefix("#EXT-X-MEDIA:") {
                let wanted = ["GROUP-ID", "URI"].map(|name| attribute(list, name));
                let is_sound = attribute(list, "TYPE") == Some("AUDIO");
                if let ([Some(group), Some(uri)], true) = (wanted, is_sound) {
                    let sound = (group.to_owned(), uri.to_owned());
                    if attribute(list, "DEFAULT") == Some("YES") {
                        playlist.sounds.insert(0, sound);
                    } else {
                        playlist.sounds.push(sound);
                    }
                }
            } else if is_next && is_uri(line) {
                playlist.variants.push((line.to_owned(), group.take()));
                is_next = false;
            }
        }
        playlist
    }

    /// The media playlists that a player of the first variant loads: pictures, and sound if that is on its own.
    ///
    /// # Errors
    /// There is no variant.
    pub fn first(&self) -> Result<Vec<&str>, Error> {
        let (uri, group) = self.variants.first().ok_or(Error::Empty)?;
        let mut uris = vec![uri.as_str()];
        let sound = self
            .sounds
            .iter()
            .find(|(of, _)| Some(of) == group.as_ref());
        uris.extend(sound.map(|(_, uri)| uri.as_str()));
        Ok(uris)
    }
}

impl Media {
    fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Self, Error> {
        let mut playlist = Self::default();
        let (mut target, mut duration, mut map) = (None, None, None);
        for line in lines {
            if let Some(value) = line.strip_prefix("#EXT-X-TARGETDURATION:") {
                let seconds = value
                    .parse()
                    .map_err(|_| Error::Value("EXT-X-TARGETDURATION"))?;
                target = Some(Duration::from_secs(seconds));
            } else if let Some(value) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
                let number = value.parse();
                playlist.sequence = number.map_err(|_| Error::Value("EXT-X-MEDIA-SEQUENCE"))?;
            } else if let Some(value) = line.strip_prefix("#EXTINF:") {
                let seconds = value
                    .split(',')
                    .next()
                    .and_then(|seconds| seconds.parse().ok());
                let seconds = seconds
                    .filter(|seconds| (0.0..SEGMENT_SECONDS_MAX).contains(seconds))
                    .ok_or(Error::Value("EXTINF"))?;
                duration = Some(Duration::from_secs_f64(seconds));
            } else if let Some(list) = line.strip_prefix("#EXT-X-MAP:") {
                map = attribute(list, "URI").map(str::to_owned);
            } else if line == "#EXT-X-ENDLIST" {
                playlist.has_ended = true;
            } else if is_uri(line) {
                if playlist.segments.len() >= SEGMENTS_MAX {
                    return Err(Error::TooMany);
                }
                playlist.segments.push(Segment {
                    uri: line.to_owned(),
                    duration: duration.take().ok_or(Error::Missing("EXTINF"))?,
                    map: map.clone(),
                });
            }
        }
        playlist.target_duration = target.ok_or(Error::Missing("EXT-X-TARGETDURATION"))?;
        Ok(playlist)
    }

    /// Each segment with its number.
    pub fn numbered(&self) -> impl DoubleEndedIterator<Item = (u64, &Segment)> + ExactSizeIterator {
        let first = self.sequence;
        let number = move |index: usize| first.saturating_add(index as u64);
        let segments = self.segments.iter().enumerate();
        segments.map(move |(index, segment)| (number(index), segment))
    }
}

/// What is remembered of a playlist to judge the next one.
#[derive(Debug, Default)]
pub struct Continuity {
    sequence: u64,
    target_duration: Option<Duration>,
    /// Numbers and hashed URIs, oldest first.
    seen: VecDeque<(u64, u64)>,
}

impl Continuity {
    /// Judges the next playlist; whether it has a new segment.
    ///
    /// # Errors
    /// It contradicts an earlier one, or itself.
    pub fn check(&mut self, playlist: &Media) -> Result<bool, Error> {
        if playlist.sequence < self.sequence {
            return Err(Error::SequenceBack);
        }
        self.sequence = playlist.sequence;
        let target = *self.target_duration.get_or_insert(playlist.target_duration);
        if playlist.target_duration != target {
            return Err(Error::TargetDuration);
        }
        // RFC 8216, 4.3.3.1: rounded to the nearest second.
        let longest = target + Duration::from_millis(500);
        if playlist
            .segments
            .iter()
            .any(|segment| segment.duration >= longest)
        {
            return Err(Error::TooLong);
        }
        let mut is_new = false;
        for (number, segment) in playlist.numbered() {
            let mut hasher = DefaultHasher::new();
            segment.uri.hash(&mut hasher);
            let uri = hasher.finish();
            match self.seen.iter().rev().find(|(known, _)| *known == number) {
                Some((_, known)) if *known != uri => return Err(Error::Renumbered),
                Some(_) => {}
                None if self.seen.back().is_none_or(|(last, _)| *last < number) => {
                    is_new = true;
                    self.seen.push_back((number, uri));
                }
                // Older than what is remembered.
                None => {}
            }
            if self.seen.len() > REMEMBERED_MAX {
                self.seen.pop_front();
            }
        }
        Ok(is_new)
    }
}

fn is_uri(line: &str) -> bool {
    !line.is_empty() && !line.starts_with('#')
}

/// The value of an attribute in a list (RFC 8216, 4.2), without its quotes.
fn attribute<'a>(mut list: &'a str, wanted: &str) -> Option<&'a str> {
    loop {
        let (name, rest) = list.split_once('=')?;
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (value, rest) = quoted.split_once('"')?;
                (value, rest.strip_prefix(',').unwrap_or(rest))
            }
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        if name.trim() == wanted {
            return Some(value);
        }
        list = rest;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MULTIVARIANT: &str = "#EXTM3U\n#EXT-X-VERSION:7\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"b\",NAME=\"x, y\",URI=\"other.m3u8\"\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x\",URI=\"de.m3u8\"\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"y\",DEFAULT=YES,URI=\"en.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"a,b\",AUDIO=\"a\"\n# comment\nvideo.m3u8?s=1\n\
        #EXT-X-STREAM-INF:BANDWIDTH=2\nlow.m3u8\n";
    const MEDIA: &str = "#EXTM3U\r\n#EXT-X-TARGETDURATION:2\r\n#EXT-X-MEDIA-SEQUENCE:7\r\n\
        #EXT-X-MAP:URI=\"init.mp4\"\r\n#EXTINF:2.000,\r\na.m4s\r\n#EXTINF:1.5,title\r\nb.m4s\r\n";

    fn media(text: &str) -> Media {
        match Playlist::parse(text) {
            Ok(Playlist::Media(media)) => media,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_what_a_player_needs() {
        let Ok(Playlist::Multivariant(multivariant)) = Playlist::parse(MULTIVARIANT) else {
            panic!("it has variants");
        };
        assert_eq!(multivariant.first(), Ok(vec!["video.m3u8?s=1", "en.m3u8"]));
        assert_eq!(multivariant.variants[1], ("low.m3u8".to_owned(), None));
        let media = media(MEDIA);
        let segments: Vec<_> = media
            .numbered()
            .map(|(number, segment)| (number, segment.uri.as_str(), segment.duration.as_millis()))
            .collect();
        assert_eq!(segments, [(7, "a.m4s", 2_000), (8, "b.m4s", 1_500)]);
        assert_eq!(media.segments[1].map.as_deref(), Some("init.mp4"));
        assert!(!media.has_ended);
    }

    #[test]
    fn what_is_damaged_is_refused() {
        for (text, expected) in [
            ("", Error::NotOne),
            ("<html>", Error::NotOne),
            ("#EXTM3U\n", Error::Missing("EXT-X-TARGETDURATION")),
            (
                "#EXTM3U\n#EXT-X-TARGETDURATION:2\na.ts\n",
                Error::Missing("EXTINF"),
            ),
            (
                "#EXTM3U\n#EXT-X-TARGETDURATION:x\n",
                Error::Value("EXT-X-TARGETDURATION"),
            ),
            (
                "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:-1\n",
                Error::Value("EXT-X-MEDIA-SEQUENCE"),
            ),
            ("#EXTM3U\n#EXTINF:nan,\n", Error::Value("EXTINF")),
            ("#EXTM3U\n#EXTINF:1e99,\n", Error::Value("EXTINF")),
        ] {
            assert_eq!(Playlist::parse(text), Err(expected), "{text}");
        }
        let none = Playlist::parse("#EXTM3U\n#EXT-X-STREAM-INF:\n");
        assert!(
            matches!(none, Ok(Playlist::Multivariant(none)) if none.first() == Err(Error::Empty))
        );
    }

    /// Judges one playlist after the other.
    fn judged(texts: &[(u64, &[&str], u64)]) -> Result<Vec<bool>, Error> {
        let mut continuity = Continuity::default();
        let judge = |(sequence, uris, target): &(u64, &[&str], u64)| {
            let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:{target}\n");
            text += &format!("#EXT-X-MEDIA-SEQUENCE:{sequence}\n");
            for uri in *uris {
                text += &format!("#EXTINF:2.4,\n{uri}\n");
            }
            continuity.check(&media(&text))
        };
        texts.iter().map(judge).collect()
    }

    #[test]
    fn reloads_are_judged() {
        let first = (7, &["a", "b", "c"][..], 2);
        let check = |next, expected| assert_eq!(judged(&[first, next]), expected, "{next:?}");
        check(first, Ok(vec![true, false]));
        check((8, &["b", "c", "d"], 2), Ok(vec![true, true]));
        check((20, &["x"], 2), Ok(vec![true, true]));
        check((6, &["a", "b", "c"], 2), Err(Error::SequenceBack));
        check((8, &["c", "d"], 2), Err(Error::Renumbered));
        check((7, &["a", "x", "c"], 2), Err(Error::Renumbered));
        check((7, &["a", "b", "c"], 3), Err(Error::TargetDuration));
        assert_eq!(judged(&[(1, &["a"], 1)]), Err(Error::TooLong));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(lines in prop::collection::vec("(#EXT[A-Z-]{0,12}:)?[a-zA-Z0-9=\",.]{0,12}", 0..12)) {
            let text = format!("#EXTM3U\n{}", lines.join("\n"));
            if let Ok(Playlist::Media(media)) = Playlist::parse(&text) {
                let _ = Continuity::default().check(&media);
            }
        }
    }
}
