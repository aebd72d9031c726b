//! A manifest of DASH as a live player reads it (ISO/IEC 23009-1, 5).
//!
//! Owns: Periods, the first Representation of pictures and of sound in each, and their segment timelines written out.
//! Does not own: fetching ([`crate::viewer`]). BaseURL, byte ranges and templates without a timeline are not read.

use std::time::Duration;

use roxmltree::{Document, Node};

/// Most segments that a timeline is read to have; a day of two-second ones has 43 200.
const SEGMENTS_MAX: usize = 50_000;
/// Longest period of time that is read: fifty years, since zero may be 1970.
const SECONDS_MAX: f64 = 4e9;

/// What there is to play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Whether more can come.
    pub is_live: bool,
    /// How often to ask for it again, if at all.
    pub update: Option<Duration>,
    /// How far behind the present to play; none if it does not say.
    pub latency: Option<Duration>,
    /// The zero of all times, since 1970.
    pub available: Duration,
    /// What there is, oldest first.
    pub periods: Vec<Period>,
}

/// A stretch of time with the same tracks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Period {
    /// When it starts, since the zero.
    pub start: Duration,
    /// Pictures, if it has any.
    pub video: Option<Track>,
    /// Sound, if it has any.
    pub audio: Option<Track>,
}

/// Pictures or sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Units in a second.
    pub timescale: u64,
    /// The time in the track at which the Period starts.
    pub offset: u64,
    /// Where the initialisation segment is.
    pub init: Option<String>,
    /// How much earlier than at its end a segment may be asked for.
    pub early: Duration,
    /// The segments, oldest first.
    pub segments: Vec<Segment>,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Where it is.
    pub uri: String,
    /// When it starts, in units of its track.
    pub time: u64,
    /// How long it plays, in the same units.
    pub duration: u64,
}

/// What is wrong with a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is not XML, or not a manifest.
    #[error("this is not a manifest")]
    NotOne,
    /// An attribute whose value cannot be read.
    #[error("the value of {0} in the manifest is damaged")]
    Value(&'static str),
    /// What must be there.
    #[error("{0} is missing in the manifest")]
    Missing(&'static str),
    /// What is in the standard and not read here.
    #[error("{0} in the manifest is not read")]
    NotRead(&'static str),
    /// More segments than anybody needs.
    #[error("the manifest has too many segments")]
    TooMany,
    /// The zero of all times never changes.
    #[error("availabilityStartTime changed")]
    Moved,
}

impl Manifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// It is not one, or one of a kind that is not read.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(bytes).map_err(|_| Error::NotOne)?;
        let document = Document::parse(text).map_err(|_| Error::NotOne)?;
        let root = document.root_element();
        if root.tag_name().name() != "MPD" {
            return Err(Error::NotOne);
        }
        let has_base = document
            .descendants()
            .any(|node| node.tag_name().name() == "BaseURL");
        if has_base {
            return Err(Error::NotRead("BaseURL"));
        }
        let is_live = root.attribute("type") == Some("dynamic");
        let available = root.attribute("availabilityStartTime").map(date);
        let available = available.transpose()?.unwrap_or_default();
        let latency = element(root, "ServiceDescription").and_then(|node| element(node, "Latency"));
        let target = latency
            .map(|node| number(node, "target"))
            .transpose()?
            .flatten();
        let delay = duration_of(root, "suggestedPresentationDelay")?;
        let mut manifest = Self {
            is_live,
            update: duration_of(root, "minimumUpdatePeriod")?,
            latency: target.map(Duration::from_millis).or(delay),
            available,
            periods: Vec::new(),
        };
        for node in elements(root, "Period") {
            manifest.periods.push(Period::parse(node)?);
        }
        Ok(manifest)
    }
}

impl Period {
    fn parse(node: Node<'_, '_>) -> Result<Self, Error> {
        let mut period = Self {
            start: duration_of(node, "start")?.unwrap_or_default(),
            video: None,
            audio: None,
        };
        for set in elements(node, "AdaptationSet") {
            let representation = element(set, "Representation");
            let representation = representation.ok_or(Error::Missing("Representation"))?;
            let kind = [
                (set, "contentType"),
                (set, "mimeType"),
                (representation, "mimeType"),
            ];
            let kind = kind.iter().find_map(|(node, name)| node.attribute(*name));
            let track = match kind.unwrap_or_default() {
                kind if kind.starts_with("video") => &mut period.video,
                kind if kind.starts_with("audio") => &mut period.audio,
                _ => continue,
            };
            if track.is_none() {
                *track = Some(Track::parse(set, representation)?);
            }
        }
        Ok(period)
    }
}

impl Track {
    fn parse(set: Node<'_, '_>, representation: Node<'_, '_>) -> Result<Self, Error> {
        let template = element(representation, "SegmentTemplate");
        let template = template.or_else(|| element(set, "SegmentTemplate"));
        let template = template.ok_or(Error::Missing("SegmentTemplate"))?;
        let timeline = element(template, "SegmentTimeline");
        let timeline = timeline.ok_or(Error::NotRead("SegmentTemplate without a timeline"))?;
        let media = template.attribute("media");
        let media = media.ok_or(Error::Missing("SegmentTemplate@media"))?;
        let name = |template: &str, of: Option<(u64, u64)>| fill(template, representation, of);
        let init = template.attribute("initialization");
        let early = template.attribute("availabilityTimeOffset");
        let mut track = Self {
            timescale: number(template, "timescale")?.unwrap_or(1),
            offset: number(template, "presentationTimeOffset")?.unwrap_or(0),
            init: init.map(|template| name(template, None)).transpose()?,
            early: early
                .map(|text| seconds(text, "availabilityTimeOffset"))
                .transpose()?
                .unwrap_or_default(),
            segments: Vec::new(),
        };
        if track.timescale == 0 {
            return Err(Error::Value("timescale"));
        }
        let first_number = number(template, "startNumber")?.unwrap_or(1);
        let mut time = 0_u64;
        for entry in elements(timeline, "S") {
            time = number(entry, "t")?.unwrap_or(time);
            let duration = number(entry, "d")?.ok_or(Error::Missing("S@d"))?;
            let repeated = entry.attribute("r").unwrap_or("0").parse::<usize>();
            let repeated = repeated.map_err(|_| Error::NotRead("an endless S@r"))?;
            for _ in 0..=repeated {
                if track.segments.len() >= SEGMENTS_MAX {
                    return Err(Error::TooMany);
                }
                let number = first_number.saturating_add(track.segments.len() as u64);
                track.segments.push(Segment {
                    uri: name(media, Some((time, number)))?,
                    time,
                    duration,
                });
                time = time.saturating_add(duration);
            }
        }
        Ok(track)
    }

    /// So many units of time.
    #[must_use]
    pub fn time(&self, units: u64) -> Duration {
        Duration::from_secs_f64(units as f64 / self.timescale as f64)
    }
}

/// A name from its template (5.3.9.4.4), for a segment with this time and number.
fn fill(
    template: &str,
    representation: Node<'_, '_>,
    segment: Option<(u64, u64)>,
) -> Result<String, Error> {
    let mut name = String::with_capacity(template.len() + 16);
    // What is between two dollar signs is an identifier; nothing between them is one of them.
    for (index, piece) in template.split('$').enumerate() {
        if index % 2 == 0 {
            name.push_str(piece);
            continue;
        }
        match (piece, segment) {
            ("", _) => name.push('$'),
            ("RepresentationID", _) => name.push_str(representation.attribute("id").unwrap_or("")),
            ("Bandwidth", _) => name.push_str(representation.attribute("bandwidth").unwrap_or("")),
            ("Time", Some((time, _))) => name.push_str(&time.to_string()),
            ("Number", Some((_, number))) => name.push_str(&number.to_string()),
            _ => return Err(Error::NotRead("an identifier of a template")),
        }
    }
    Ok(name)
}

fn elements<'a, 'input>(
    node: Node<'a, 'input>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'input>> {
    let children = node.children();
    children.filter(move |child| child.is_element() && child.tag_name().name() == name)
}

fn element<'a, 'input>(node: Node<'a, 'input>, name: &'static str) -> Option<Node<'a, 'input>> {
    elements(node, name).next()
}

fn number(node: Node<'_, '_>, name: &'static str) -> Result<Option<u64>, Error> {
    let value = node.attribute(name).map(str::parse);
    value.transpose().map_err(|_| Error::Value(name))
}

fn duration_of(node: Node<'_, '_>, name: &'static str) -> Result<Option<Duration>, Error> {
    node.attribute(name)
        .map(|text| duration(text, name))
        .transpose()
}

/// An `xs:duration` without years and months.
fn duration(text: &str, of: &'static str) -> Result<Duration, Error> {
    let damaged = Error::Value(of);
    let mut rest = text.strip_prefix('P').ok_or(damaged)?;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        rest = rest.strip_prefix('T').unwrap_or(rest);
        let at = rest
            .find(|c: char| c.is_ascii_alphabetic())
            .ok_or(damaged)?;
        let (value, unit) = rest.split_at(at);
        let factor = match unit.chars().next() {
            Some('D') => 86_400.0,
            Some('H') => 3_600.0,
            Some('M') => 60.0,
            Some('S') => 1.0,
            _ => return Err(damaged),
        };
        let value: f64 = value.parse().map_err(|_| damaged)?;
        let seconds = Some(value * factor).filter(|seconds| (0.0..SECONDS_MAX).contains(seconds));
        sum += Duration::from_secs_f64(seconds.ok_or(damaged)?);
        rest = unit.get(1..).unwrap_or_default();
    }
    Ok(sum)
}

fn seconds(text: &str, of: &'static str) -> Result<Duration, Error> {
    text.parse()
        .ok()
        .filter(|seconds| (0.0..SECONDS_MAX).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or(Error::Value(of))
}

/// An `xs:dateTime` in UTC, since 1970.
fn date(text: &str) -> Result<Duration, Error> {
    let damaged = Error::Value("availabilityStartTime");
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once('T').ok_or(damaged)?;
    let whole = |text: &str| text.parse::<u64>().map_err(|_| damaged);
    let [year, month, day] = *date.split('-').map(whole).collect::<Result<Vec<_>, _>>()? else {
        return Err(damaged);
    };
    let [hour, minute, second] = *time.split(':').collect::<Vec<_>>() else {
        return Err(damaged);
    };
    if !(1970..3_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Err(damaged);
    }
    // Days of the proleptic Gregorian calendar, whose years begin in March here.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    /// The same sum for 1970-01-01.
    const DAYS_BEFORE_1970: u64 = 719_468;
    let minutes =
        (days - DAYS_BEFORE_1970) * 1_440 + whole(hour)?.min(24) * 60 + whole(minute)?.min(60);
    Ok(Duration::from_secs(minutes * 60) + seconds(second, "availabilityStartTime")?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MANIFEST: &str = r#"<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic" availabilityStartTime="2026-11-25T20:13:51.198Z"
     minimumUpdatePeriod="PT1S" suggestedPresentationDelay="PT6S">
  <ServiceDescription id="0"><Latency target="2083"/></ServiceDescription>
  <Period id="0" start="P1DT2H3M4.5S">
    <AdaptationSet contentType="audio"><SegmentTemplate timescale="48000" media="a/$Number$" startNumber="7">
      <SegmentTimeline><S t="0" d="96000" r="1"/></SegmentTimeline></SegmentTemplate>
      <Representation id="a" bandwidth="1"/></AdaptationSet>
    <AdaptationSet mimeType="video/mp4"><SegmentTemplate timescale="90000" presentationTimeOffset="5"
      initialization="$RepresentationID$/init" media="v$$/$Bandwidth$/$Time$" availabilityTimeOffset="1.639">
      <SegmentTimeline><S t="100" d="180000"/><S d="90000"/></SegmentTimeline></SegmentTemplate>
      <Representation id="v" bandwidth="9"/></AdaptationSet>
  </Period>
</MPD>"#;

    #[test]
    fn reads_what_a_player_needs() {
        let manifest = Manifest::parse(MANIFEST.as_bytes()).expect("it is one");
        assert!(manifest.is_live);
        assert_eq!(manifest.update, Some(Duration::from_secs(1)));
        assert_eq!(manifest.latency, Some(Duration::from_millis(2_083)));
        assert_eq!(manifest.available, Duration::from_millis(1_795_637_631_198));
        let period = &manifest.periods[0];
        assert_eq!(period.start, Duration::from_millis(93_784_500));
        let video = period.video.as_ref().expect("it has pictures");
        let names = |track: &Track| {
            let segments = track.segments.iter();
            segments
                .map(|segment| (segment.uri.clone(), segment.time, segment.duration))
                .collect::<Vec<_>>()
        };
        let expected = [
            ("v$/9/100".to_owned(), 100, 180_000),
            ("v$/9/180100".to_owned(), 180_100, 90_000),
        ];
        assert_eq!(names(video), expected);
        assert_eq!((video.offset, video.init.as_deref()), (5, Some("v/init")));
        assert_eq!(video.early, Duration::from_millis(1_639));
        let audio = period.audio.as_ref().expect("it has sound");
        let expected = [
            ("a/7".to_owned(), 0, 96_000),
            ("a/8".to_owned(), 96_000, 96_000),
        ];
        assert_eq!(names(audio), expected);
    }

    #[test]
    fn what_is_damaged_or_not_known_is_refused() {
        for (from, to, expected) in [
            ("<MPD", "<NPD", Error::NotOne),
            (
                "</Period>",
                "<BaseURL/></Period>",
                Error::NotRead("BaseURL"),
            ),
            ("PT1S", "1S", Error::Value("minimumUpdatePeriod")),
            ("PT1S", "PT1E9D", Error::Value("minimumUpdatePeriod")),
            (
                "2026-11-25T",
                "2026-13-25T",
                Error::Value("availabilityStartTime"),
            ),
            ("48000", "0", Error::Value("timescale")),
            (" d=\"90000\"", "", Error::Missing("S@d")),
            ("r=\"1\"", "r=\"-1\"", Error::NotRead("an endless S@r")),
            ("r=\"1\"", "r=\"99999999\"", Error::TooMany),
            (
                "$Number$",
                "$SubNumber$",
                Error::NotRead("an identifier of a template"),
            ),
        ] {
            let text = MANIFEST.replace(from, to);
            assert_ne!(text, MANIFEST, "{from}");
            assert_eq!(
                Manifest::parse(text.as_bytes()).err(),
                Some(expected),
                "{to}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_values_are_read_or_refused(text in "[-PTDHMSZ0-9:.]{0,24}") {
            let _ = duration(&text, "x");
            let _ = date(&text);
            let _ = Manifest::parse(text.as_bytes());
        }
    }
}
