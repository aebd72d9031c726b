//! The media playlist: which segments and parts of a rendition there are (CONFORMANCE H1–H17, L1–L10).

use std::{
    fmt::{self, Write as _},
    sync::Arc,
};

use super::{LIVE, independent};
use crate::{
    name::{init_name, part_name, segment_name, ts_segment_name},
    wall::iso8601,
    window::{Init, Part, Rendition, Segment, Snapshot},
};

/// fMP4 in ordinary playlists needs 6 (EXT-X-MAP, H2), MPEG-TS 3 (durations with a fraction); EXT-X-GAP needs 8, a
/// delta update 9.
const VERSION: u32 = 6;
const VERSION_TS: u32 = 3;
const VERSION_WITH_GAP: u32 = 8;
const VERSION_LOW_LATENCY: u32 = 9;

/// How far from the end of the playlist a player of whole segments stays, in target durations (L3).
const HOLD_BACK_TARGETS: i64 = 3;
/// How far a player of parts stays, in part targets (L2).
const HOLD_BACK_PARTS: i64 = 3;
/// Segments that end further from the end of the playlist than that, in target durations, are left out of a delta
/// update (L3).
const SKIP_UNTIL_TARGETS: i64 = 6;
/// Parts of segments that end further from the end than that, in target durations, are no longer listed (L8).
const PARTS_LISTED_TARGETS: i64 = 3;

const US_PER_S: i64 = 1_000_000;

/// What a media playlist tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Whole segments.
    Classic,
    /// Parts as well, as they come.
    LowLatency,
    /// As [`Self::LowLatency`], without the segments that a player which reloads in time knows (EXT-X-SKIP).
    Delta,
    /// Whole segments, those of the rewind window too.
    Rewind,
    /// As [`Self::Rewind`], without the segments that a player which reloads in time knows.
    RewindDelta,
}

impl Form {
    fn has_parts(self) -> bool {
        matches!(self, Self::LowLatency | Self::Delta)
    }

    fn is_delta(self) -> bool {
        matches!(self, Self::Delta | Self::RewindDelta)
    }

    fn listed(self, rendition: &Rendition) -> Vec<&Arc<Segment>> {
        match self {
            Self::Classic | Self::LowLatency | Self::Delta => rendition.listed().collect(),
            Self::Rewind | Self::RewindDelta => rendition.rewindable().collect(),
        }
    }
}

/// The media playlist of one rendition.
#[must_use]
pub fn media(snapshot: &Snapshot, rendition: &Rendition, form: Form) -> String {
    let listed = form.listed(rendition);
    let mut text = String::with_capacity(512 + listed.len() * 160);
    let end_us = end_us(&listed, rendition, form);
    let target_us = snapshot.target_s * US_PER_S;
    let skipped = if form.is_delta() {
        skipped(&listed, end_us - SKIP_UNTIL_TARGETS * target_us)
    } else {
        0
    };
    head(&mut text, snapshot, &listed, form, skipped);
    if skipped > 0 {
        let _ = writeln!(text, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}");
    }
    let mut listing = Listing {
        text: &mut text,
        run: &snapshot.run,
        map: None,
    };
    let mut at_us = 0;
    for (index, segment) in listed.iter().enumerate() {
        at_us += segment.duration_us;
        if index >= skipped {
            let with_parts = form.has_parts() && end_us - at_us <= PARTS_LISTED_TARGETS * target_us;
            listing.segment(segment, with_parts);
        }
    }
    if form.has_parts() {
        listing.open(rendition);
        if !snapshot.ended {
            reports(&mut text, snapshot, rendition);
        }
    }
    if snapshot.ended {
        text.push_str("#EXT-X-ENDLIST\n");
    }
    text
}

fn head(
    text: &mut String,
    snapshot: &Snapshot,
    listed: &[&Arc<Segment>],
    form: Form,
    skipped: usize,
) {
    let first = listed.first();
    let gaps = listed.iter().any(|segment| segment.is_gap());
    let version = match first {
        _ if form.has_parts() || skipped > 0 => VERSION_LOW_LATENCY,
        _ if gaps => VERSION_WITH_GAP,
        Some(segment) if segment.init.is_none() => VERSION_TS,
        _ => VERSION,
    };
    let target_s = snapshot.target_s;
    let _ = write!(
        text,
        "#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:{target_s}\n"
    );
    let skip_until_s = SKIP_UNTIL_TARGETS * target_s;
    if matches!(form, Form::Rewind | Form::RewindDelta) {
        let _ = writeln!(
            text,
            "#EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL={skip_until_s}.0"
        );
    }
    if form.has_parts() {
        let _ = write!(
            text,
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={skip_until_s}.0,HOLD-BACK={}.0,PART-HOLD-BACK={}\n\
             #EXT-X-PART-INF:PART-TARGET={}\n",
            HOLD_BACK_TARGETS * target_s,
            Seconds(HOLD_BACK_PARTS * snapshot.part_target_us),
            Seconds(snapshot.part_target_us),
        );
    }
    // The number belongs to what comes before the first DISCONTINUITY tag in the playlist.
    let discontinuity = first.map_or(0, |segment| {
        segment
            .discontinuity
            .saturating_sub(u64::from(segment.after_discontinuity))
    });
    let _ = write!(
        text,
        "#EXT-X-MEDIA-SEQUENCE:{}\n#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuity}\n",
        first.map_or(0, |segment| segment.msn),
    );
    if independent(listed.iter().copied()) {
        text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    }
}

/// How long the playlist is with its parts, microseconds.
fn end_us(listed: &[&Arc<Segment>], rendition: &Rendition, form: Form) -> i64 {
    let complete: i64 = listed.iter().map(|segment| segment.duration_us).sum();
    let open = rendition.open.iter().filter(|_| form.has_parts());
    let parts = open.flat_map(|open| &open.parts);
    complete + parts.map(|part| part.duration_us).sum::<i64>()
}

/// How many segments end before `until_us`.
fn skipped(listed: &[&Arc<Segment>], until_us: i64) -> usize {
    let ends = listed.iter().scan(0, |at_us, segment| {
        *at_us += segment.duration_us;
        Some(*at_us)
    });
    ends.take_while(|&ends_us| ends_us <= until_us).count()
}

/// Where the other renditions are: a player that switches needs not ask for their whole playlist first (L10).
fn reports(text: &mut String, snapshot: &Snapshot, rendition: &Rendition) {
    for other in &snapshot.renditions {
        if other.name() == rendition.name() {
            continue;
        }
        let open = other.open.as_ref().filter(|open| !open.parts.is_empty());
        let newest = match (open, other.segments.back()) {
            (Some(open), _) => Some((open.msn, open.parts.len())),
            (None, Some(segment)) => Some((segment.msn, segment.parts.len())),
            (None, None) => None,
        };
        let Some((msn, parts)) = newest else { continue };
        let name = other.name();
        let _ = write!(
            text,
            "#EXT-X-RENDITION-REPORT:URI=\"../{name}/{LIVE}\",LAST-MSN={msn}"
        );
        if let Some(part) = parts.checked_sub(1) {
            let _ = write!(text, ",LAST-PART={part}");
        }
        text.push('\n');
    }
}

/// The lines of segments and parts, in order.
struct Listing<'a> {
    text: &'a mut String,
    run: &'a str,
    /// Discontinuity sequence number of the init object in force.
    map: Option<u64>,
}

impl Listing<'_> {
    fn segment(&mut self, segment: &Segment, with_parts: bool) {
        self.begin(segment.after_discontinuity, segment.init.as_deref());
        let wall = iso8601(segment.program_date_time);
        let _ = writeln!(self.text, "#EXT-X-PROGRAM-DATE-TIME:{wall}");
        if with_parts {
            self.parts(segment.msn, &segment.parts);
        }
        if segment.is_gap() {
            self.text.push_str("#EXT-X-GAP\n");
        }
        let name = match segment.init {
            Some(_) => segment_name(self.run, segment.msn),
            None => ts_segment_name(self.run, segment.msn),
        };
        let _ = writeln!(
            self.text,
            "#EXTINF:{},\n{name}",
            Seconds(segment.duration_us)
        );
    }

    /// The parts of the segment that is being made, and the one that comes next. What holds for the segment stands
    /// before its first part (L5).
    fn open(&mut self, rendition: &Rendition) {
        let Some(open) = &rendition.open else { return };
        if !open.parts.is_empty() {
            self.begin(open.after_discontinuity, Some(&open.init));
            let wall = iso8601(open.program_date_time);
            let _ = writeln!(self.text, "#EXT-X-PROGRAM-DATE-TIME:{wall}");
            self.parts(open.msn, &open.parts);
        }
        let next = part_name(self.run, open.msn, open.parts.len() as u64);
        let _ = writeln!(self.text, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{next}\"");
    }

    fn begin(&mut self, after_discontinuity: bool, init: Option<&Init>) {
        if after_discontinuity {
            self.text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if let Some(init) = init.filter(|init| self.map != Some(init.discontinuity)) {
            let name = init_name(self.run, init);
            let _ = writeln!(self.text, "#EXT-X-MAP:URI=\"{name}\"");
            self.map = Some(init.discontinuity);
        }
    }

    fn parts(&mut self, msn: u64, parts: &[Part]) {
        for (number, part) in (0..).zip(parts) {
            let name = part_name(self.run, msn, number);
            let duration = Seconds(part.duration_us);
            let _ = write!(self.text, "#EXT-X-PART:DURATION={duration},URI=\"{name}\"");
            self.text.push_str(if part.independent {
                ",INDEPENDENT=YES\n"
            } else {
                "\n"
            });
        }
    }
}

/// Microseconds as seconds with every decimal (H11).
struct Seconds(i64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / US_PER_S, self.0 % US_PER_S)
    }
}
