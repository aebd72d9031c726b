//! Which segments a manifest announces, with their times.
//!
//! Owns: Periods, the time of each segment (S@t), and how long the segment that is being made is going to last. Does not
//! own: the text ([`super`]).
//!
//! Players keep the duration that they were told first. dash.js and shaka fetch a segment twice that turns out longer,
//! and dash.js leaves out what begins within a segment that turns out shorter, as FFmpeg does if a whole second lies
//! between the two ends. So the open segment is told to last what segments do while they are steady, and rather too
//! little than too much when they are not.

use std::{collections::BTreeMap, time::UNIX_EPOCH};

use weir_media::{codec::Codec, rescale};

use crate::{
    Config,
    window::{Init, Open, Rendition, Segment, Snapshot},
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
    pub(super) entries: Vec<Entry>,
    /// Whether every segment starts with a sync sample.
    pub(super) independent: bool,
}

/// A segment: S@t and S@d, in ticks of its track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) time: u64,
    pub(super) duration: u64,
}

impl Entry {
    pub(super) fn end(&self) -> u64 {
        self.time.saturating_add(self.duration)
    }
}

impl Period<'_> {
    /// Where its last segment ends, milliseconds since the unix epoch.
    pub(super) fn end_ms(&self) -> i64 {
        let ends = self.tracks.iter().map(|track| {
            let end = track.entries.last().map_or(0, Entry::end);
            let from_start = ticks(end) - track.presentation_time_offset();
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
        rescale(ticks(longest.unwrap_or(0)), self.timescale(), 1_000) + 1
    }
}

/// The time that names a segment (S@t): when its first sample is presented, in ticks. It is its decode time and the
/// composition offset of the first sample of its epoch, so that segments without a hole between them follow each other
/// exactly.
pub(super) fn segment_time(decode_time: u64, composition_ticks: i64) -> u64 {
    decode_time.saturating_add_signed(composition_ticks)
}

/// What the manifest announces, in order.
pub(super) fn periods(snapshot: &Snapshot, config: Config) -> Vec<Period<'_>> {
    let mut periods = BTreeMap::<u64, Period<'_>>::new();
    for rendition in &snapshot.renditions {
        let listed = rendition.listed().filter_map(|segment| {
            let init = segment.init.as_deref().filter(|_| !segment.is_gap())?;
            Some((init, complete(segment), segment.independent()))
        });
        for (init, entry, independent) in listed.chain(open(snapshot, rendition, config)) {
            let period = periods
                .entry(init.discontinuity)
                .or_insert_with(|| Period::starting(init, rendition, config));
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

fn complete(segment: &Segment) -> Entry {
    Entry {
        time: segment_time(segment.decode_time, segment.composition_ticks),
        duration: u64::try_from(segment.duration_ticks).unwrap_or(0),
    }
}

/// The open segment, from its first part on.
fn open<'a>(
    snapshot: &Snapshot,
    rendition: &'a Rendition,
    config: Config,
) -> Option<(&'a Init, Entry, bool)> {
    let open = rendition.open.as_ref().filter(|_| !snapshot.ended)?;
    let first = open.parts.first()?;
    let time = segment_time(open.decode_time, open.composition_ticks);
    let mut others = snapshot.renditions.iter();
    let lead = others.next().filter(|lead| lead.name() != rendition.name());
    let lead_end_us = lead.and_then(|lead| end_us(lead, open.msn, config));
    let duration = match lead_end_us {
        Some(end_us) => until(open, time, end_us),
        None => rescale(
            expected_us(open, rendition, config),
            US,
            open.init.track.timescale,
        ),
    };
    let entry = Entry {
        time,
        duration: u64::try_from(duration).unwrap_or(0),
    };
    Some((&open.init, entry, first.independent))
}

/// Where the segment of that number ends, or is going to end, presentation time in microseconds.
fn end_us(lead: &Rendition, msn: u64, config: Config) -> Option<i64> {
    let us = |time: u64, init: &Init| rescale(ticks(time), init.track.timescale, US);
    if let Some(segment) = lead.segment(msn) {
        let init = segment.init.as_deref().filter(|_| !segment.is_gap())?;
        return Some(us(complete(segment).end(), init));
    }
    let open = lead.open.as_ref().filter(|open| open.msn == msn)?;
    open.parts.first()?;
    let begins = segment_time(open.decode_time, open.composition_ticks);
    Some(us(begins, &open.init) + expected_us(open, lead, config))
}

/// Ticks from `time` to the first frame that begins at or after `end_us`: all tracks are cut where the lead track is.
fn until(open: &Open, time: u64, end_us: i64) -> i64 {
    let track = &open.init.track;
    let frame = match &track.codec {
        Codec::Aac(config) => i64::from(config.frame_len),
        Codec::H264(_) => 1,
    };
    let wanted = rescale(end_us, US, track.timescale) - ticks(time);
    let made = rescale(made_us(open), US, track.timescale);
    let frames = (wanted.max(made) + frame - 1).div_euclid(frame);
    frames.max(1) * frame
}

/// How long the open segment is going to last: as long as usual, or more once it has.
fn expected_us(open: &Open, rendition: &Rendition, config: Config) -> i64 {
    let usual_us = usual_us(rendition, open.init.discontinuity, config);
    let made_us = made_us(open);
    if made_us < usual_us {
        return usual_us;
    }
    let step_us = usual_us.max(STEP_US_MIN);
    usual_us + ((made_us - usual_us) / step_us + 1) * step_us
}

fn made_us(open: &Open) -> i64 {
    open.parts.iter().map(|part| part.duration_us).sum()
}

/// How long a segment after a discontinuity usually lasts, from its newest ones; what is wanted while there is none.
fn usual_us(rendition: &Rendition, discontinuity: u64, config: Config) -> i64 {
    let newest = rendition
        .listed()
        .rev()
        .filter(|segment| segment.discontinuity == discontinuity && !segment.is_gap())
        .take(STEADY_SEGMENTS)
        .map(|segment| duration_us(segment));
    let (shortest_us, longest_us) = (newest.clone().min(), newest.max());
    match shortest_us.zip(longest_us) {
        Some((shortest_us, longest_us)) if longest_us - shortest_us <= STEADY_US_MAX => longest_us,
        Some((shortest_us, _)) => shortest_us,
        None => i64::from(config.segment_ms) * 1_000,
    }
}

fn duration_us(segment: &Segment) -> i64 {
    segment.init.as_deref().map_or(0, |init| {
        rescale(segment.duration_ticks, init.track.timescale, US)
    })
}

/// A time as a signed number; times of a run stay far below its limit.
fn ticks(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}
