//! A media playlist, read strictly (draft-pantos-hls-rfc8216bis, sections 4.4.1 to 4.4.5).
//!
//! Owns: the form: which tags there are, once, in order, with which attributes (CONFORMANCE H1, H5, L5, L9, L12). The
//! first break ends the reading; its text begins with its row.
//! Does not own: what the values must be ([`super::rules`], [`super::succession`]).

use super::syntax::{Attributes, date_ms, integer, micros, seconds};

/// One version of a media playlist.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Media {
    pub(crate) version: Option<u64>,
    pub(crate) target_s: i64,
    pub(crate) media_sequence: u64,
    pub(crate) discontinuity_sequence: Option<u64>,
    pub(crate) independent: bool,
    /// Microseconds of EXT-X-START.
    pub(crate) start_us: Option<i64>,
    pub(crate) control: Option<ServerControl>,
    pub(crate) part_target_us: Option<i64>,
    /// In place of how many segments EXT-X-SKIP stands, and whether date ranges were left out.
    pub(crate) skipped: Option<(u64, bool)>,
    pub(crate) segments: Vec<Segment>,
    /// What is said of the segment that is not complete yet.
    pub(crate) open: Option<Segment>,
    pub(crate) hints: Vec<String>,
    pub(crate) reports: Vec<RenditionReport>,
    pub(crate) ended: bool,
}

/// EXT-X-SERVER-CONTROL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ServerControl {
    pub(crate) can_block: bool,
    pub(crate) hold_back_us: Option<i64>,
    pub(crate) part_hold_back_us: Option<i64>,
    pub(crate) skip_until_us: Option<i64>,
    pub(crate) skip_dateranges: bool,
}

/// One segment with everything that was said of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Segment {
    /// Empty while the segment is not complete.
    pub(crate) uri: String,
    pub(crate) duration_us: i64,
    /// With how many decimals the duration is written.
    pub(crate) decimals: usize,
    /// The init object in force.
    pub(crate) map: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub(crate) date_ms: Option<i64>,
    pub(crate) discontinuity: bool,
    pub(crate) gap: bool,
    pub(crate) parts: Vec<Part>,
}

/// EXT-X-PART.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Part {
    pub(crate) uri: String,
    pub(crate) duration_us: i64,
    pub(crate) independent: bool,
    pub(crate) gap: bool,
}

/// EXT-X-RENDITION-REPORT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RenditionReport {
    pub(crate) uri: String,
    pub(crate) last_msn: Option<u64>,
    pub(crate) last_part: Option<u64>,
}

/// The tags that come once and before the first segment.
const HEAD: [&str; 9] = [
    "#EXT-X-VERSION",
    "#EXT-X-TARGETDURATION",
    "#EXT-X-MEDIA-SEQUENCE",
    "#EXT-X-DISCONTINUITY-SEQUENCE",
    "#EXT-X-INDEPENDENT-SEGMENTS",
    "#EXT-X-START",
    "#EXT-X-SERVER-CONTROL",
    "#EXT-X-PART-INF",
    "#EXT-X-SKIP",
];

impl Media {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut reader = Reader::default();
        let lines = lines(text)?;
        for line in &lines {
            reader.line(line)?;
        }
        for tag in ["#EXT-X-TARGETDURATION", "#EXT-X-MEDIA-SEQUENCE"] {
            let row = if tag == HEAD[1] { "H3" } else { "H5" };
            if !reader.seen.iter().any(|seen| seen == tag) {
                return Err(format!("{row}: no {tag}"));
            }
        }
        reader.finish()
    }

    /// Number of the segment that is not complete, or of the next one.
    pub(crate) fn open_msn(&self) -> u64 {
        let skipped = self.skipped.map_or(0, |(segments, _)| segments);
        self.media_sequence + skipped + self.segments.len() as u64
    }

    /// How far the playlist goes: the open segment, and how many parts of it are listed.
    pub(crate) fn position(&self) -> (u64, usize) {
        let parts = self.open.as_ref().map_or(0, |open| open.parts.len());
        (self.open_msn(), parts)
    }

    pub(crate) fn duration_us(&self) -> i64 {
        self.segments
            .iter()
            .map(|segment| segment.duration_us)
            .sum()
    }

    /// Each segment with its number, the open one last.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (u64, &Segment)> {
        let first = self.open_msn() - self.segments.len() as u64;
        (first..).zip(self.segments.iter().chain(&self.open))
    }

    /// What a segment's number says of it; `msn` may be that of the open one.
    pub(crate) fn segment(&self, msn: u64) -> Option<&Segment> {
        self.numbered()
            .find(|(number, _)| *number == msn)
            .map(|(_, segment)| segment)
    }
}

/// The lines behind the first one.
pub(super) fn lines(text: &str) -> Result<Vec<&str>, String> {
    let text = text
        .strip_suffix('\n')
        .ok_or("H1: the last line has no end")?;
    let mut lines = text.split('\n');
    if lines.next() != Some("#EXTM3U") {
        return Err("H1: the first line is not #EXTM3U".into());
    }
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    let odd = |line: &&&str| line.chars().any(char::is_control) || line.trim() != **line;
    match lines.iter().find(odd) {
        Some(line) => Err(format!("H1: {line:?} has blanks around it or controls")),
        None => Ok(lines),
    }
}

#[derive(Debug, Default)]
struct Reader {
    media: Media,
    seen: Vec<String>,
    segment: Segment,
    /// Whether anything was said of `segment`.
    begun: bool,
    timed: bool,
    map: Option<String>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if self.media.ended {
            return Err(format!("H7: {line} behind EXT-X-ENDLIST"));
        }
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        if HEAD.contains(&tag) {
            return self.head(tag, value);
        }
        let behind = !self.media.hints.is_empty() || !self.media.reports.is_empty();
        match tag {
            "#EXT-X-ENDLIST" => self.media.ended = true,
            "#EXT-X-PRELOAD-HINT" => self.hint(value)?,
            "#EXT-X-RENDITION-REPORT" => self.report(value)?,
            _ if behind => return Err(format!("L9: {line} behind hints or reports")),
            _ if !line.starts_with('#') => self.uri(line)?,
            "#EXTINF" => self.duration(value)?,
            "#EXT-X-PART" => self.part(value)?,
            "#EXT-X-DISCONTINUITY" | "#EXT-X-GAP" | "#EXT-X-MAP" | "#EXT-X-PROGRAM-DATE-TIME" => {
                self.of_segment(tag, value)?;
            }
            _ if tag.starts_with("#EXT") => return Err(format!("H1: {tag} is not known")),
            _ => {}
        }
        Ok(())
    }

    fn head(&mut self, tag: &str, value: &str) -> Result<(), String> {
        let row = match tag {
            "#EXT-X-VERSION" => "H2",
            "#EXT-X-TARGETDURATION" => "H3",
            "#EXT-X-DISCONTINUITY-SEQUENCE" => "H6",
            "#EXT-X-INDEPENDENT-SEGMENTS" => "H15",
            "#EXT-X-SERVER-CONTROL" => "L3",
            "#EXT-X-PART-INF" => "L1",
            _ => "H5",
        };
        if self.seen.iter().any(|seen| seen == tag) {
            return Err(format!("{row}: {tag} twice"));
        }
        if self.begun || !self.media.segments.is_empty() {
            return Err(format!("{row}: {tag} among the segments"));
        }
        self.seen.push(tag.to_owned());
        let number = || integer(value).ok_or(format!("{row}: {tag}:{value} is no whole number"));
        let media = &mut self.media;
        match tag {
            "#EXT-X-VERSION" => media.version = Some(number()?),
            "#EXT-X-TARGETDURATION" => media.target_s = number()?.try_into().unwrap_or(i64::MAX),
            "#EXT-X-MEDIA-SEQUENCE" => media.media_sequence = number()?,
            "#EXT-X-DISCONTINUITY-SEQUENCE" => media.discontinuity_sequence = Some(number()?),
            "#EXT-X-INDEPENDENT-SEGMENTS" => media.independent = true,
            _ => self.head_list(tag, Attributes::parse(tag, value)?)?,
        }
        Ok(())
    }

    fn head_list(&mut self, tag: &str, mut list: Attributes<'_>) -> Result<(), String> {
        let media = &mut self.media;
        match tag {
            "#EXT-X-START" => {
                let signed = |text: &str| match text.strip_prefix('-') {
                    Some(text) => micros(text).map(|micros| -micros),
                    None => micros(text),
                };
                let offset = list.bare("TIME-OFFSET", signed)?;
                media.start_us = Some(list.needed("TIME-OFFSET", offset)?);
                list.flag("PRECISE")?;
            }
            "#EXT-X-SERVER-CONTROL" => {
                media.control = Some(ServerControl {
                    can_block: list.flag("CAN-BLOCK-RELOAD")?,
                    hold_back_us: list.bare("HOLD-BACK", micros)?,
                    part_hold_back_us: list.bare("PART-HOLD-BACK", micros)?,
                    skip_until_us: list.bare("CAN-SKIP-UNTIL", micros)?,
                    skip_dateranges: list.flag("CAN-SKIP-DATERANGES")?,
                });
            }
            "#EXT-X-PART-INF" => {
                let target = list.bare("PART-TARGET", micros)?;
                media.part_target_us = Some(list.needed("PART-TARGET", target)?);
            }
            _ => {
                let segments = list.bare("SKIPPED-SEGMENTS", integer)?;
                let dateranges = list.quoted("RECENTLY-REMOVED-DATERANGES")?.is_some();
                media.skipped = Some((list.needed("SKIPPED-SEGMENTS", segments)?, dateranges));
            }
        }
        list.finish()
    }

    fn of_segment(&mut self, tag: &str, value: &str) -> Result<(), String> {
        if !self.segment.parts.is_empty() && tag != "#EXT-X-GAP" {
            return Err(format!(
                "L5: {tag} behind the first part of segment {}",
                self.media.open_msn()
            ));
        }
        let twice = match tag {
            "#EXT-X-DISCONTINUITY" => std::mem::replace(&mut self.segment.discontinuity, true),
            "#EXT-X-GAP" => std::mem::replace(&mut self.segment.gap, true),
            "#EXT-X-MAP" => {
                let mut list = Attributes::parse(tag, value)?;
                let uri = list.quoted("URI")?;
                self.map = Some(list.needed("URI", uri)?.to_owned());
                list.finish()?;
                self.segment.map.replace(String::new()).is_some()
            }
            _ => {
                let date = date_ms(value);
                let date = date.ok_or(format!("H12: {value} has no milliseconds and zone"))?;
                self.segment.date_ms.replace(date).is_some()
            }
        };
        self.begun = true;
        if twice {
            return Err(format!(
                "H1: {tag} twice for segment {}",
                self.media.open_msn()
            ));
        }
        Ok(())
    }

    fn duration(&mut self, value: &str) -> Result<(), String> {
        let (text, _title) = value.split_once(',').unwrap_or((value, ""));
        let (duration_us, decimals) =
            seconds(text).ok_or(format!("H1: EXTINF {value} is no duration"))?;
        if std::mem::replace(&mut self.timed, true) {
            return Err("H1: EXTINF twice for a segment".into());
        }
        self.begun = true;
        self.segment.duration_us = duration_us;
        self.segment.decimals = decimals;
        Ok(())
    }

    fn part(&mut self, value: &str) -> Result<(), String> {
        if self.timed {
            return Err("L5: EXT-X-PART between EXTINF and URI".into());
        }
        self.begun = true;
        let mut list = Attributes::parse("#EXT-X-PART", value)?;
        let (uri, duration) = (list.quoted("URI")?, list.bare("DURATION", micros)?);
        self.segment.parts.push(Part {
            uri: list.needed("URI", uri)?.to_owned(),
            duration_us: list.needed("DURATION", duration)?,
            independent: list.flag("INDEPENDENT")?,
            gap: list.flag("GAP")?,
        });
        list.finish().map_err(|problem| {
            problem.replacen("H1", "L12", usize::from(value.contains("BYTERANGE")))
        })
    }

    fn uri(&mut self, uri: &str) -> Result<(), String> {
        if !std::mem::replace(&mut self.timed, false) {
            return Err(format!("H1: no EXTINF for {uri}"));
        }
        self.begun = false;
        let mut segment = std::mem::take(&mut self.segment);
        segment.map.clone_from(&self.map);
        uri.clone_into(&mut segment.uri);
        self.media.segments.push(segment);
        Ok(())
    }

    fn hint(&mut self, value: &str) -> Result<(), String> {
        let mut list = Attributes::parse("#EXT-X-PRELOAD-HINT", value)?;
        let kind = list.bare("TYPE", |kind| Some(kind.to_owned()))?;
        let uri = list.quoted("URI")?;
        let uri = list.needed("URI", uri)?.to_owned();
        match list.needed("TYPE", kind)?.as_str() {
            "PART" => self.media.hints.push(uri),
            "MAP" => {}
            kind => return Err(format!("L9: a hint of TYPE={kind}")),
        }
        list.finish()
    }

    fn report(&mut self, value: &str) -> Result<(), String> {
        let mut list = Attributes::parse("#EXT-X-RENDITION-REPORT", value)?;
        let uri = list.quoted("URI")?;
        self.media.reports.push(RenditionReport {
            uri: list.needed("URI", uri)?.to_owned(),
            last_msn: list.bare("LAST-MSN", integer)?,
            last_part: list.bare("LAST-PART", integer)?,
        });
        list.finish()
    }

    fn finish(mut self) -> Result<Media, String> {
        if self.timed {
            return Err("H1: EXTINF without a segment".into());
        }
        if self.begun {
            let mut open = self.segment;
            open.map.clone_from(&self.map);
            self.media.open = Some(open);
        }
        Ok(self.media)
    }
}
