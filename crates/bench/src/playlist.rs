//! HLS playlists as a player reads them, and what must stay true from one to the next.
//!
//! Owns: the tags that a player of segments or of parts needs (RFC 8216, 4.3; draft-pantos-hls-rfc8216bis, 4.4), and the
//! rules for reloads (6.2.1, 6.2.2). Does not own: fetching ([`crate::viewer`]).

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
/// The least that a part lasts of the target, unless it ends its segment (rfc8216bis, 4.4.4.9).
const PART_SHARE_MIN: f64 = 0.85;
/// How inexact the duration of a part is written, at worst.
const PART_ROUNDING: Duration = Duration::from_millis(1);

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
    /// How many segments a delta update leaves out, before the first one here.
    pub skipped: u64,
    /// The parts that are listed, oldest first; the last ones may belong to a segment that is not complete.
    pub parts: Vec<Part>,
    /// No part is longer; none if there are no parts.
    pub part_target: Option<Duration>,
    /// What the server does for players.
    pub control: Control,
}

/// What the server does for players (EXT-X-SERVER-CONTROL).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Control {
    /// Whether a request may wait for what is to come.
    pub blocks: bool,
    /// Whether delta updates are to be had.
    pub skips: bool,
    /// How far from the end a player of parts stays.
    pub part_hold_back: Option<Duration>,
}

/// One part of a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The number of its segment.
    pub number: u64,
    /// Its own number in it, from 0.
    pub index: u32,
    /// Where it is.
    pub uri: String,
    /// How long it plays.
    pub duration: Duration,
    /// Whether it begins with a key frame.
    pub independent: bool,
    /// Where its initialisation section is, if the playlist says that.
    pub map: Option<String>,
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
    /// A part is longer than the target of parts, or shorter than parts within a segment may be.
    #[error("a part lasts {0:?} where PART-TARGET is {1:?}")]
    PartDuration(Duration, Duration),
    /// The durations of the parts do not add up.
    #[error("the parts of a segment do not last as long as it does")]
    PartSum,
    /// Parts that are byte ranges of a resource.
    #[error("parts that are byte ranges are not played")]
    ByteRange,
}

impl Playlist {
    /// Reads a playlist.
    ///
    /// # Errors
    /// It is not one.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(bytes).map_err(|_| Error::NotOne)?;
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
        let mut reader = Reader::default();
        for line in lines {
            reader.line(line)?;
        }
        reader.finish()
    }

    /// Each segment with its number.
    pub fn numbered(&self) -> impl DoubleEndedIterator<Item = (u64, &Segment)> + ExactSizeIterator {
        let first = self.sequence.saturating_add(self.skipped);
        let number = move |index: usize| first.saturating_add(index as u64);
        let segments = self.segments.iter().enumerate();
        segments.map(move |(index, segment)| (number(index), segment))
    }

    /// The segment and the part in it that come next.
    #[must_use]
    pub fn next_part(&self) -> (u64, u32) {
        let number = self
            .sequence
            .saturating_add(self.skipped)
            .saturating_add(self.segments.len() as u64);
        let last = self.parts.last().filter(|part| part.number == number);
        (number, last.map_or(0, |part| part.index + 1))
    }
}

/// A media playlist that is being read.
#[derive(Default)]
struct Reader {
    playlist: Media,
    target: Option<Duration>,
    duration: Option<Duration>,
    map: Option<String>,
    /// Where the parts of the segment that comes next begin in the list.
    parts_from: usize,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), Error> {
        if is_uri(line) {
            return self.segment(line);
        }
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        let playlist = &mut self.playlist;
        match tag {
            "#EXT-X-TARGETDURATION" => {
                let seconds = value.parse();
                let seconds = seconds.map_err(|_| Error::Value("EXT-X-TARGETDURATION"))?;
                self.target = Some(Duration::from_secs(seconds));
            }
            "#EXT-X-MEDIA-SEQUENCE" => {
                let number = value.parse();
                playlist.sequence = number.map_err(|_| Error::Value("EXT-X-MEDIA-SEQUENCE"))?;
            }
            "#EXTINF" => {
                let value = value.split(',').next().unwrap_or_default();
                self.duration = Some(seconds(Some(value), "EXTINF")?);
            }
            "#EXT-X-MAP" => self.map = attribute(value, "URI").map(str::to_owned),
            "#EXT-X-ENDLIST" => playlist.has_ended = true,
            "#EXT-X-SKIP" => {
                let skipped = attribute(value, "SKIPPED-SEGMENTS");
                let skipped = skipped.and_then(|number| number.parse().ok());
                playlist.skipped = skipped.ok_or(Error::Value("EXT-X-SKIP"))?;
            }
            "#EXT-X-PART-INF" => {
                let target = attribute(value, "PART-TARGET");
                playlist.part_target = Some(seconds(target, "EXT-X-PART-INF")?);
            }
            "#EXT-X-SERVER-CONTROL" => {
                let is_on = |name| attribute(value, name) == Some("YES");
                let hold_back = attribute(value, "PART-HOLD-BACK");
                let hold_back = hold_back.map(|text| seconds(Some(text), "EXT-X-SERVER-CONTROL"));
                playlist.control = Control {
                    blocks: is_on("CAN-BLOCK-RELOAD"),
                    skips: attribute(value, "CAN-SKIP-UNTIL").is_some(),
                    part_hold_back: hold_back.transpose()?,
                };
            }
            "#EXT-X-PART" => self.part(value)?,
            _ => {}
        }
        Ok(())
    }

    fn segment(&mut self, uri: &str) -> Result<(), Error> {
        let playlist = &mut self.playlist;
        if playlist.segments.len() >= SEGMENTS_MAX {
            return Err(Error::TooMany);
        }
        let duration = self.duration.take().ok_or(Error::Missing("EXTINF"))?;
        let parts = playlist.parts.get(self.parts_from..).unwrap_or_default();
        let sum: Duration = parts.iter().map(|part| part.duration).sum();
        let rounding = PART_ROUNDING * (parts.len() as u32 + 1);
        if !parts.is_empty() && sum.abs_diff(duration) > rounding {
            return Err(Error::PartSum);
        }
        self.parts_from = playlist.parts.len();
        playlist.segments.push(Segment {
            uri: uri.to_owned(),
            duration,
            map: self.map.clone(),
        });
        Ok(())
    }

    fn part(&mut self, list: &str) -> Result<(), Error> {
        let number = self.playlist.next_part().0;
        let parts = &mut self.playlist.parts;
        if parts.len() >= SEGMENTS_MAX {
            return Err(Error::TooMany);
        }
        if attribute(list, "BYTERANGE").is_some() {
            return Err(Error::ByteRange);
        }
        let uri = attribute(list, "URI").ok_or(Error::Value("EXT-X-PART"))?;
        parts.push(Part {
            number,
            index: (parts.len() - self.parts_from) as u32,
            uri: uri.to_owned(),
            duration: seconds(attribute(list, "DURATION"), "EXT-X-PART")?,
            independent: attribute(list, "INDEPENDENT") == Some("YES"),
            map: self.map.clone(),
        });
        Ok(())
    }

    fn finish(mut self) -> Result<Media, Error> {
        let missing = Error::Missing("EXT-X-TARGETDURATION");
        self.playlist.target_duration = self.target.ok_or(missing)?;
        let parts = &self.playlist.parts;
        if !parts.is_empty() {
            let missing = Error::Missing("EXT-X-PART-INF");
            let target = self.playlist.part_target.ok_or(missing)?;
            let least = target.mul_f64(PART_SHARE_MIN);
            let longer = parts.iter().find(|part| part.duration > target);
            let shorter = parts.windows(2).find_map(|pair| match pair {
                [part, next] if part.number == next.number && part.duration < least => Some(part),
                _ => None,
            });
            if let Some(part) = longer.or(shorter) {
                return Err(Error::PartDuration(part.duration, target));
            }
        }
        Ok(self.playlist)
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

/// Seconds with a fraction, as in many attributes.
fn seconds(text: Option<&str>, of: &'static str) -> Result<Duration, Error> {
    text.and_then(|text| text.parse().ok())
        .filter(|seconds| (0.0..SEGMENT_SECONDS_MAX).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or(Error::Value(of))
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
        match Playlist::parse(text.as_bytes()) {
            Ok(Playlist::Media(media)) => media,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn reads_what_a_player_needs() {
        let Ok(Playlist::Multivariant(multivariant)) = Playlist::parse(MULTIVARIANT.as_bytes())
        else {
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
            assert_eq!(Playlist::parse(text.as_bytes()), Err(expected), "{text}");
        }
        let none = Playlist::parse(b"#EXTM3U\n#EXT-X-STREAM-INF:\n");
        assert!(
            matches!(none, Ok(Playlist::Multivariant(none)) if none.first() == Err(Error::Empty))
        );
    }

    const PARTS: &str = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n\
        #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0,PART-HOLD-BACK=1.5\n\
        #EXT-X-PART-INF:PART-TARGET=0.5\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n\
        #EXTINF:2,\na.m4s\n#EXT-X-PART:DURATION=0.5,URI=\"b.0.m4s\",INDEPENDENT=YES\n\
        #EXT-X-PART:DURATION=0.25,URI=\"b.1.m4s\"\n#EXTINF:0.75,\nb.m4s\n\
        #EXT-X-PART:DURATION=0.5,URI=\"c.0.m4s\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"c.1.m4s\"\n";

    #[test]
    fn reads_parts() {
        let playlist = media(PARTS);
        let parts: Vec<_> = playlist
            .parts
            .iter()
            .map(|part| (part.number, part.index, &*part.uri, part.independent))
            .collect();
        let expected = [
            (11, 0, "b.0.m4s", true),
            (11, 1, "b.1.m4s", false),
            (12, 0, "c.0.m4s", false),
        ];
        assert_eq!(parts, expected);
        assert_eq!(playlist.next_part(), (12, 1));
        let numbers: Vec<_> = playlist.numbered().map(|(number, _)| number).collect();
        assert_eq!((numbers, playlist.skipped), (vec![10, 11], 3));
        let control = Control {
            blocks: true,
            skips: true,
            part_hold_back: Some(Duration::from_millis(1_500)),
        };
        assert_eq!(playlist.control, control);
        let (complete, _) = PARTS
            .split_once("#EXT-X-PART:DURATION=0.5,URI=\"c")
            .expect("it is there");
        assert_eq!(media(complete).next_part(), (12, 0));
    }

    #[test]
    fn parts_are_judged() {
        let part_duration = |target_ms| {
            let part = Duration::from_millis(500);
            Error::PartDuration(part, Duration::from_millis(target_ms))
        };
        for (from, to, expected) in [
            ("=0.25,", "=0.2501,", None),
            ("=0.25,", "=0.3,", Some(Error::PartSum)),
            (
                "PART-TARGET=0.5",
                "PART-TARGET=0.4",
                Some(part_duration(400)),
            ),
            (
                "PART-TARGET=0.5",
                "PART-TARGET=0.6",
                Some(part_duration(600)),
            ),
            (
                "#EXT-X-PART-INF:PART-TARGET=0.5\n",
                "",
                Some(Error::Missing("EXT-X-PART-INF")),
            ),
            (
                "URI=\"c.0.m4s\"",
                "BYTERANGE=\"1@0\"",
                Some(Error::ByteRange),
            ),
            (
                "URI=\"c.0.m4s\"",
                "GAP=YES",
                Some(Error::Value("EXT-X-PART")),
            ),
            (
                "SKIPPED-SEGMENTS=3",
                "SKIPPED-SEGMENTS=-3",
                Some(Error::Value("EXT-X-SKIP")),
            ),
        ] {
            let text = PARTS.replace(from, to);
            assert_ne!(text, PARTS);
            assert_eq!(Playlist::parse(text.as_bytes()).err(), expected, "{text}");
        }
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
            if let Ok(Playlist::Media(media)) = Playlist::parse(text.as_bytes()) {
                let _ = Continuity::default().check(&media);
            }
        }
    }
}
