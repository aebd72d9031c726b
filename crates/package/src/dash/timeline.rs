//! Which segments a manifest announces, with their times.
//!
//! Owns: Periods, the time of each segment (S@t), and how long the segment that is being made is going to last. Does not
//! own: the text ([`super`]).
//!
//! Players keep the duration that they were told first. dash.js and shaka fetch a segment twice that turns out longer,
//! and dash.js leaves out what begins within a segment that turns out shorter, as FFmpeg does if a whole second lies
//! between the two ends. So the open segment is told to last what segments do while they are steady, and rather too
//! little than too much when they are not.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use weir_media::{self as media, codec::Codec, rescale};

use crate::{
    Config,
    window::{Init, Open, Rendition, Snapshot, Span},
};

const US: u32 = 1_000_000;
/// From how many complete segments the duration of the next is told.
const STEADY_SEGMENTS: usize = 4;
/// How far their durations may differ and still be steady: sources round to milliseconds.
const STEADY_US_MAX: i64 = 5_000;
/// By how much at least the open segment is told to last longer, once it has lasted longer than was told.
const STEP_US_MIN: i64 = 1_000_000;

/// What holds between two discontinuities.
pub(super) struct Period<'a> {
    pub(super) discontinuity: u64,
    /// Wall time since the unix epoch, milliseconds.
    pub(super) start_ms: i64,
    /// How long a segment of the lead track usually lasts, milliseconds.
    pub(super) usual_ms: i64,
    /// Those that have a segment, the lead track first.
    pub(super) tracks: Vec<Track<'a>>,
}

/// One track of a Period.
pub(super) struct Track<'a> {
    pub(super) rendition: &'a Rendition,
    pub(super) init: &'a Init,
    /// Never empty; times only go up.
    pub(super) entries: Vec<Span>,
    /// Whether every segment starts with a sync sample.
    pub(super) independent: bool,
}

impl Period<'_> {
    /// Where its last segment ends, milliseconds since the unix epoch.
    pub(super) fn end_ms(&self) -> i64 {
        let ends = self.tracks.iter().map(|track| {
            let end = track.entries.last().map_or(0, Span::end);
            let from_start = end - track.presentation_time_offset();
            rescale(from_start, track.timescale(), 1_000)
        });
        self.start_ms + ends.max().unwrap_or(0)
    }
}

impl Track<'_> {
    /// Ticks a second.
    pub(super) fn timescale(&self) -> u32 {
        self.init.track.timescale
    }

    /// The time of the track that is presented when its Period starts.
    pub(super) fn presentation_time_offset(&self) -> i64 {
        rescale(self.init.begins.media_us, US, self.timescale())
    }

    /// The longest segment, milliseconds, rounded up.
    pub(super) fn longest_ms(&self) -> i64 {
        let longest = self.entries.iter().map(|entry| entry.duration).max();
        rescale(longest.unwrap_or(0), self.timescale(), 1_000) + 1
    }
}

/// What the manifest announces, in order.
pub(super) fn periods(snapshot: &Snapshot, low_latency: bool) -> Vec<Period<'_>> {
    let mut periods = BTreeMap::<u64, Period<'_>>::new();
    for rendition in &snapshot.renditions {
        let listed = rendition.listed().filter_map(|segment| {
            let init = segment.init.as_deref()?;
            Some((init, segment.span?, segment.independent()))
        });
        let open = open(snapshot, rendition).filter(|_| low_latency);
        for (init, entry, independent) in listed.chain(open) {
            let period = periods
                .entry(init.discontinuity)
                .or_insert_with(|| Period::starting(init, rendition, snapshot.config));
            match period.tracks.last_mut() {
                Some(track) if track.rendition.name() == rendition.name() => {
                    track.entries.push(entry);
                    track.independent &= independent;
                }
                _ => period.tracks.push(Track {
                    rendition,
                    init,
                    entries: vec![entry],
                    independent,
                }),
            }
        }
    }
    periods.into_values().collect()
}

/// When the manifest became what it is: the mean over all tracks of the wall time that each had reached when it last had
/// something to announce. It goes up with every change, whichever track it comes from, and with nothing else
/// (CONFORMANCE D2).
pub(super) fn published(snapshot: &Snapshot, low_latency: bool) -> SystemTime {
    let since_epoch = |rendition: &Rendition| {
        let reached = announced(snapshot, rendition, low_latency);
        reached.duration_since(UNIX_EPOCH).unwrap_or_default()
    };
    let sum: Duration = snapshot.renditions.iter().map(since_epoch).sum();
    let count = u32::try_from(snapshot.renditions.len()).unwrap_or(u32::MAX);
    // The end may come when no track has anything new.
    let ended = Duration::from_millis(snapshot.ended.into());
    UNIX_EPOCH + sum / count.max(1) + ended
}

/// The wall time that a track had reached when it last had something to announce.
fn announced(snapshot: &Snapshot, rendition: &Rendition, low_latency: bool) -> SystemTime {
    let made = |us: i64| Duration::from_micros(us.unsigned_abs());
    let open = rendition.open.as_ref();
    if let Some(open) = open.filter(|_| low_latency && !snapshot.ended)
        && let Some(first) = open.parts.first()
    {
        let usual_us = usual_us(rendition, open.discontinuity, snapshot.config);
        let told_us = match expected_us(open, usual_us) {
            expected_us if expected_us == usual_us => first.duration_us,
            expected_us => expected_us - step_us(usual_us),
        };
        return open.program_date_time + made(told_us);
    }
    rendition.segments.back().map_or(UNIX_EPOCH, |segment| {
        segment.program_date_time + made(segment.duration_us)
    })
}

impl Period<'_> {
    fn starting(init: &Init, lead: &Rendition, config: Config) -> Self {
        let start = init.begins.wall.duration_since(UNIX_EPOCH);
        Self {
            discontinuity: init.discontinuity,
            start_ms: i64::try_from(start.unwrap_or_default().as_millis()).unwrap_or(0),
            usual_ms: usual_us(lead, init.discontinuity, config) / 1_000,
            tracks: Vec::new(),
        }
    }
}

/// The open segment, from its first part on.
fn open<'a>(snapshot: &Snapshot, rendition: &'a Rendition) -> Option<(&'a Init, Span, bool)> {
    let open = rendition.open.as_ref().filter(|_| !snapshot.ended)?;
    let (span, first) = (open.span?, open.parts.first()?);
    let lead = snapshot.renditions.first();
    let lead = lead.filter(|lead| lead.name() != rendition.name());
    let lead_end_us = lead.and_then(|lead| end_us(lead, open.msn, snapshot.config));
    let duration = match lead_end_us {
        Some(end_us) => until(&open.init.track, span, end_us),
        None => {
            let usual_us = usual_us(rendition, open.discontinuity, snapshot.config);
            rescale(expected_us(open, usual_us), US, open.init.track.timescale)
        }
    };
    Some((&open.init, Span { duration, ..span }, first.independent))
}

/// Where the segment of that number ends, or is going to end, presentation time in microseconds.
fn end_us(lead: &Rendition, msn: u64, config: Config) -> Option<i64> {
    let us = |ticks: i64, init: &Init| rescale(ticks, init.track.timescale, US);
    if let Some(segment) = lead.segment(msn) {
        return Some(us(segment.span?.end(), segment.init.as_deref()?));
    }
    let open = lead.open.as_ref().filter(|open| open.msn == msn)?;
    let usual_us = usual_us(lead, open.discontinuity, config);
    Some(us(open.span?.start, &open.init) + expected_us(open, usual_us))
}

/// Ticks from the start of a span to the first frame that begins at or after `end_us`, which is not within it: all
/// tracks are cut where the lead track is.
fn until(track: &media::Track, span: Span, end_us: i64) -> i64 {
    let frame = match &track.codec {
        Codec::Aac(config) => i64::from(config.frame_len),
        Codec::H264(_) => 1,
    };
    let wanted = rescale(end_us, US, track.timescale) - span.start;
    (wanted.max(span.duration) + frame - 1).div_euclid(frame) * frame
}

/// How long the open segment is going to last: as long as usual, or more once it has.
fn expected_us(open: &Open, usual_us: i64) -> i64 {
    let made_us: i64 = open.parts.iter().map(|part| part.duration_us).sum();
    if made_us < usual_us {
        return usual_us;
    }
    let step_us = step_us(usual_us);
    usual_us + ((made_us - usual_us) / step_us + 1) * step_us
}

/// By how much longer than it was told to last an open segment is then told to last.
fn step_us(usual_us: i64) -> i64 {
    usual_us.max(STEP_US_MIN)
}

/// How long a segment after a discontinuity usually lasts, from its newest ones; what is wanted while there is none.
fn usual_us(rendition: &Rendition, discontinuity: u64, config: Config) -> i64 {
    let newest = rendition
        .listed()
        .rev()
        .filter(|segment| segment.discontinuity == discontinuity && !segment.is_gap())
        .take(STEADY_SEGMENTS)
        .map(|segment| segment.duration_us);
    let (shortest_us, longest_us) = (newest.clone().min(), newest.max());
    match shortest_us.zip(longest_us) {
        Some((shortest_us, longest_us)) if longest_us - shortest_us <= STEADY_US_MAX => longest_us,
        Some((shortest_us, _)) => shortest_us,
        None => i64::from(config.segment_ms) * 1_000,
    }
}
