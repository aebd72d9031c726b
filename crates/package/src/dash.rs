//! The DASH manifest as text (ISO/IEC 23009-1; CONFORMANCE section 3).
//!
//! Owns: what a manifest says. Pure text from an immutable [`Snapshot`]. Does not own: which segments it announces
//! ([`timeline`]), or the objects, which are those of HLS.
//!
//! The zero of all times is the unix epoch. A discontinuity begins a Period, which starts at the wall time of its first
//! sample. Times of a Period are those of the run's clock; `presentationTimeOffset` takes them to the Period's start.

mod timeline;

use std::{
    fmt::{self, Display, Write as _},
    time::{Duration, UNIX_EPOCH},
};

use weir_media::{Kind, codec::Codec};

use crate::{
    hls::Start,
    name::{init_name, timed_segment_name},
    wall::iso8601,
    window::{Rendition, Segment, Snapshot, Span},
};
use timeline::{DEPTH_TARGETS_MIN, Period, Track};

/// The media type of manifests (ISO/IEC 23009-1, annex C).
pub const MEDIA_TYPE: &str = "application/dash+xml";
/// Where the server tells its time, as a path on it.
pub const TIME_PATH: &str = "/time";

/// How often players are to ask for the manifest, milliseconds: as often as dash.js does at most. A segment lasts longer
/// (CONFORMANCE D2), and a new one is known soon enough to be fetched while it is made.
const UPDATE_MS: i64 = 1_000;
/// What the latency that players aim at leaves beyond [`UPDATE_MS`], in parts: one until the segment is announced, one
/// until its chunk is there, one for the network.
const LATENCY_PARTS: i64 = 3;
/// Players that fall further back than so many target durations start anew at the live edge.
const LATENCY_TARGETS_MAX: i64 = 3;
/// How far players that do not fetch segments while they are made stay behind, in target durations: one is being made,
/// one is being fetched, one is played.
const DELAY_TARGETS: i64 = 3;
/// How much longer than the target a segment may be (CONFORMANCE H3).
const OVER_TARGET_MS: i64 = 500;

const PROFILE: &str = "urn:mpeg:dash:profile:isoff-live:2011";
/// Appended to the other.
const PROFILE_LOW_LATENCY: &str = ",http://www.dashif.org/guidelines/low-latency-live-v5";
/// Identifies the clock at [`TIME_PATH`] (CONFORMANCE D5).
const CLOCK: &str = "urn:mpeg:dash:utc:http-xsdate:2014";
const CLOCK_BY_DATE: &str = "urn:mpeg:dash:utc:http-head:2014";
const CHANNELS: &str = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011";

/// What a template's name stands for at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named<'a> {
    /// A complete segment.
    Complete(&'a Segment),
    /// The segment that is being made, by its media sequence number.
    Open(u64),
    /// The segment that is being made, if its first part turns out to start there: the one before it ends there, so that
    /// players may ask for it already.
    Next,
}

/// What a manifest is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The live window, the open segment with it.
    LowLatency,
    /// The live window, complete segments only.
    Classic,
    /// All that can be rewound to, complete segments only, for a viewer who begins there.
    Rewind(Start),
}

/// What starts at `time` in a rendition.
#[must_use]
pub fn find(rendition: &Rendition, discontinuity: u64, time: u64) -> Option<Named<'_>> {
    let time = i64::try_from(time).ok()?;
    let served = rendition.served().rev().map(|segment| &**segment);
    let mut segments = served.filter(|segment| segment.discontinuity == discontinuity);
    let newest = segments.clone().next();
    let starts = |span: Option<Span>| span.is_some_and(|span| span.start == time);
    if let Some(segment) = segments.find(|segment| starts(segment.span)) {
        return Some(Named::Complete(segment));
    }
    let open = rendition.open.as_ref()?;
    if open.span.is_some() {
        let found = open.discontinuity == discontinuity && starts(open.span);
        return found.then_some(Named::Open(open.msn));
    }
    let before = newest.filter(|newest| newest.msn + 1 == open.msn)?;
    (before.span?.end() == time).then_some(Named::Next)
}

/// The manifest. With `low_latency` it announces the open segment, to be fetched while it is made. It is the same until
/// there is another segment to announce or to complete.
#[must_use]
pub fn manifest(snapshot: &Snapshot, low_latency: bool) -> String {
    let form = if low_latency {
        Form::LowLatency
    } else {
        Form::Classic
    };
    render(snapshot, form)
}

/// The manifest of the rewind window for a viewer who begins at `start`, or where the window does. It is the same until a
/// segment is complete.
#[must_use]
pub fn rewind_manifest(snapshot: &Snapshot, start: Start) -> String {
    render(snapshot, Form::Rewind(start))
}

fn render(snapshot: &Snapshot, form: Form) -> String {
    let periods = timeline::periods(snapshot, form);
    let mut text = String::with_capacity(4_096);
    text.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a string cannot fail.
    let _ = presentation(&mut text, snapshot, form, &periods);
    text
}

fn presentation(
    text: &mut String,
    snapshot: &Snapshot,
    form: Form,
    periods: &[Period<'_>],
) -> fmt::Result {
    let low_latency = form == Form::LowLatency;
    let low_latency_profile = if low_latency { PROFILE_LOW_LATENCY } else { "" };
    let segment_ms = i64::from(snapshot.config.segment_ms);
    write!(
        text,
        "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" profiles=\"{PROFILE}{low_latency_profile}\" \
         availabilityStartTime=\"{}\" publishTime=\"{}\" minBufferTime=\"{}\" maxSegmentDuration=\"{}\" ",
        iso8601(UNIX_EPOCH),
        iso8601(timeline::published(snapshot, periods)),
        Seconds(segment_ms),
        Seconds(longest_ms(snapshot, periods)),
    )?;
    if snapshot.ended {
        let end_ms = periods.last().map_or(0, Period::end_ms);
        let duration = Seconds(end_ms);
        writeln!(
            text,
            "type=\"static\" mediaPresentationDuration=\"{duration}\">"
        )?;
    } else {
        let reach = Reach::of(snapshot, form, periods);
        writeln!(
            text,
            "type=\"dynamic\" minimumUpdatePeriod=\"{}\" timeShiftBufferDepth=\"{}\" \
             suggestedPresentationDelay=\"{}\">",
            Seconds(reach.update_ms),
            Seconds(reach.depth_ms),
            Seconds(reach.delay_ms),
        )?;
    }
    if low_latency && !snapshot.ended {
        service_description(text, snapshot)?;
    }
    for period in periods {
        period_element(text, snapshot, low_latency, period)?;
    }
    write!(
        text,
        "  <UTCTiming schemeIdUri=\"{CLOCK}\" value=\"{TIME_PATH}\"/>\n  \
           <UTCTiming schemeIdUri=\"{CLOCK_BY_DATE}\" value=\"{TIME_PATH}\"/>\n\
         </MPD>\n"
    )
}

/// How far back players may go, and where they begin.
struct Reach {
    update_ms: i64,
    depth_ms: i64,
    delay_ms: i64,
}

impl Reach {
    fn of(snapshot: &Snapshot, form: Form, periods: &[Period<'_>]) -> Self {
        let segment_ms = i64::from(snapshot.config.segment_ms);
        let target_ms = snapshot.target_s * 1_000;
        let listed_ms = i64::try_from(snapshot.config.playlist_segments)
            .unwrap_or(i64::MAX)
            .saturating_mul(segment_ms);
        let live = Self {
            update_ms: UPDATE_MS,
            depth_ms: listed_ms.max(DEPTH_TARGETS_MIN * target_ms),
            delay_ms: DELAY_TARGETS * target_ms,
        };
        let Form::Rewind(start) = form else {
            return live;
        };
        // What is really there: players seek to wherever they are told that something is.
        let announced_ms = match (periods.first(), periods.last()) {
            (Some(first), Some(last)) => last.end_ms() - first.begins_ms(),
            _ => 0,
        };
        let depth_ms = live.depth_ms.max(announced_ms);
        Self {
            // It is long, and nobody who rewinds waits for its end.
            update_ms: segment_ms.max(UPDATE_MS),
            depth_ms,
            delay_ms: (start.back_us / 1_000).clamp(live.delay_ms, depth_ms),
        }
    }
}

fn service_description(text: &mut String, snapshot: &Snapshot) -> fmt::Result {
    let latency_ms = UPDATE_MS + LATENCY_PARTS * part_ms(snapshot);
    let longest_ms = LATENCY_TARGETS_MAX * latency_ms.max(snapshot.target_s * 1_000);
    writeln!(
        text,
        "  <ServiceDescription id=\"0\">\n    \
           <Latency target=\"{latency_ms}\" min=\"{UPDATE_MS}\" max=\"{longest_ms}\"/>\n    \
           <PlaybackRate min=\"0.96\" max=\"1.04\"/>\n  \
         </ServiceDescription>"
    )
}

/// How long a chunk is at most.
fn part_ms(snapshot: &Snapshot) -> i64 {
    snapshot.part_target_us / 1_000
}

/// No segment is longer.
fn longest_ms(snapshot: &Snapshot, periods: &[Period<'_>]) -> i64 {
    let usual_ms = snapshot.target_s * 1_000 + OVER_TARGET_MS;
    let tracks = periods.iter().flat_map(|period| &period.tracks);
    let longest_ms = tracks.map(Track::longest_ms).max();
    usual_ms.max(longest_ms.map_or(0, |ms| ms + 1))
}

/// A Period without `duration`: it ends where the next one starts, so a hole between the two is nobody's.
fn period_element(
    text: &mut String,
    snapshot: &Snapshot,
    low_latency: bool,
    period: &Period<'_>,
) -> fmt::Result {
    writeln!(
        text,
        "  <Period id=\"{}-{}\" start=\"{}\">",
        snapshot.run,
        period.discontinuity,
        Seconds(period.start_ms)
    )?;
    for track in &period.tracks {
        adaptation_set(text, snapshot, low_latency, period, track)?;
    }
    writeln!(text, "  </Period>")
}

fn adaptation_set(
    text: &mut String,
    snapshot: &Snapshot,
    low_latency: bool,
    period: &Period<'_>,
    track: &Track<'_>,
) -> fmt::Result {
    let codec = &track.init.track.codec;
    // Kinds have the same identifiers in all Periods: players go on with the track that they have.
    let (id, kind) = match codec.kind() {
        Kind::Video => (1, "video"),
        Kind::Audio => (2, "audio"),
    };
    write!(
        text,
        "    <AdaptationSet id=\"{id}\" contentType=\"{kind}\" mimeType=\"{kind}/mp4\" segmentAlignment=\"true\""
    )?;
    if track.independent {
        text.push_str(" startWithSAP=\"1\"");
    }
    match codec {
        Codec::H264(config) => {
            if let Some(picture) = &config.picture {
                write!(
                    text,
                    " maxWidth=\"{}\" maxHeight=\"{}\"",
                    picture.width, picture.height
                )?;
            }
            text.push_str(">\n");
        }
        Codec::Aac(config) => writeln!(
            text,
            " lang=\"und\">\n      \
             <AudioChannelConfiguration schemeIdUri=\"{CHANNELS}\" value=\"{}\"/>",
            config.channels
        )?,
    }
    let offset = track.presentation_time_offset();
    let start = UNIX_EPOCH + Duration::from_millis(u64::try_from(period.start_ms).unwrap_or(0));
    writeln!(
        text,
        "      <ProducerReferenceTime id=\"{id}\" type=\"encoder\" wallClockTime=\"{}\" presentationTime=\"{offset}\">\n        \
                 <UTCTiming schemeIdUri=\"{CLOCK}\" value=\"{TIME_PATH}\"/>\n      \
               </ProducerReferenceTime>",
        iso8601(start),
    )?;
    segment_template(text, snapshot, low_latency, period, track)?;
    representation(text, track)?;
    writeln!(text, "    </AdaptationSet>")
}

fn segment_template(
    text: &mut String,
    snapshot: &Snapshot,
    low_latency: bool,
    period: &Period<'_>,
    track: &Track<'_>,
) -> fmt::Result {
    let (name, run) = (track.rendition.name(), &snapshot.run);
    write!(
        text,
        "      <SegmentTemplate timescale=\"{}\" presentationTimeOffset=\"{}\" \
         initialization=\"{name}/{}\" media=\"{name}/{}\"",
        track.timescale(),
        track.presentation_time_offset(),
        init_name(run, track.init),
        timed_segment_name(run, period.discontinuity, "$Time$"),
    )?;
    if low_latency && !snapshot.ended {
        let early_ms = (period.longest_ms() - part_ms(snapshot)).max(0);
        let (seconds, ms) = (early_ms / 1_000, early_ms % 1_000);
        write!(
            text,
            " availabilityTimeOffset=\"{seconds}.{ms:03}\" availabilityTimeComplete=\"false\""
        )?;
    }
    text.push_str(">\n        <SegmentTimeline>\n");
    timeline_entries(text, &track.entries)?;
    text.push_str("        </SegmentTimeline>\n      </SegmentTemplate>\n");
    Ok(())
}

/// Equal durations without a hole between them are one element.
fn timeline_entries(text: &mut String, entries: &[Span]) -> fmt::Result {
    let mut expected = None;
    let same = |a: &Span, b: &Span| a.end() == b.start && a.duration == b.duration;
    for run in entries.chunk_by(same) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            continue;
        };
        text.push_str("          <S");
        if expected != Some(first.start) {
            write!(text, " t=\"{}\"", first.start)?;
        }
        write!(text, " d=\"{}\"", first.duration)?;
        if run.len() > 1 {
            write!(text, " r=\"{}\"", run.len() - 1)?;
        }
        text.push_str("/>\n");
        expected = Some(last.end());
    }
    Ok(())
}

fn representation(text: &mut String, track: &Track<'_>) -> fmt::Result {
    let codec = &track.init.track.codec;
    write!(
        text,
        "      <Representation id=\"{}\" bandwidth=\"{}\" codecs=\"{}\"",
        track.rendition.name(),
        track.peak_bps,
        codec.rfc6381(),
    )?;
    match codec {
        Codec::H264(config) => {
            if let Some(picture) = &config.picture {
                write!(
                    text,
                    " width=\"{}\" height=\"{}\"",
                    picture.width, picture.height
                )?;
                match picture.frame_rate {
                    Some((frames, 1)) => write!(text, " frameRate=\"{frames}\"")?,
                    Some((frames, seconds)) => {
                        write!(text, " frameRate=\"{frames}/{seconds}\"")?;
                    }
                    None => {}
                }
            }
        }
        Codec::Aac(config) => {
            write!(text, " audioSamplingRate=\"{}\"", config.output_sample_rate)?;
        }
    }
    text.push_str("/>\n");
    Ok(())
}

/// Milliseconds as `xs:duration`. Periods start at whole ones: what players read into floating point stays exact.
struct Seconds(i64);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, ms) = (self.0 / 1_000, self.0 % 1_000);
        if ms == 0 {
            write!(f, "PT{seconds}S")
        } else {
            write!(f, "PT{seconds}.{ms:03}S")
        }
    }
}

#[cfg(test)]
mod tests;
