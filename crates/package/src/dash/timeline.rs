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

use weir_media::{codec::Codec, rescale};

use super::Form;
use crate::{
    Config, hls,
    window::{Init, Part, Rendition, Segment, Snapshot, Span},
};

const US: u32 = 1_000_000;
/// From how many complete segments the duration of the next is told.
const STEADY_SEGMENTS: usize = 4;
/// How far their durations may differ and still be steady: sources round to milliseconds.
const STEADY_US_MAX: i64 = 5_000;
/// A manifest reaches back at least as many target durations as a playlist (CONFORMANCE H8).
pub(super) const DEPTH_TARGETS_MIN: i64 = 3;
/// By how much at least the open segment is told to last longer, once it has lasted longer than was told.
const STEP_US_MIN: i64 = 1_000_000;

/// What holds between two discontinuities.
pub(super) struct Period<'a> {
    pub(super) discontinuity: u64,
    /// Wall time since the unix epoch, milliseconds.
    pub(super) start_ms: i64,
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
    /// The highest bit rate of its complete segments, bits a second.
    pub(super) peak_bps: u64,
    /// Whether one of its segments is complete.
    complete: bool,
    /// The wall time that it had reached when it last had something to announce.
    announced: SystemTime,
}

/// A segment to announce.
struct Entry {
    span: Span,
    independent: bool,
    complete: bool,
    announced: SystemTime,
}

impl Period<'_> {
    fn starting(init: &Init) -> Self {
        let start = init.begins.wall.duration_since(UNIX_EPOCH);
        Self {
            discontinuity: init.discontinuity,
            start_ms: i64::try_from(start.unwrap_or_default().as_millis()).unwrap_or(0),
            tracks: Vec::new(),
        }
    }

    /// Whether every track of its epoch is there; a track that is not by the end of a segment is silent.
    fn is_whole(&self) -> bool {
        let mut tracks = self.tracks.iter();
        tracks.any(|track| track.complete || self.tracks.len() >= track.init.tracks)
    }

    /// The longest segment of its lead track, milliseconds.
    pub(super) fn longest_ms(&self) -> i64 {
        self.tracks.first().map_or(0, Track::longest_ms)
    }

    /// Where its first segment begins, milliseconds since the unix epoch.
    pub(super) fn begins_ms(&self) -> i64 {
        let begins = self.tracks.iter().filter_map(|track| {
            let from_start = track.entries.first()?.start - track.presentation_time_offset();
            Some(rescale(from_start, track.timescale(), 1_000))
        });
        self.start_ms + begins.min().unwrap_or(0)
    }

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

impl<'a> Track<'a> {
    fn starting(rendition: &'a Rendition, init: &'a Init, entry: Entry, peak_bps: u64) -> Self {
        Self {
            rendition,
            init,
            entries: vec![entry.span],
            independent: entry.independent,
            peak_bps,
            complete: entry.complete,
            announced: entry.announced,
        }
    }

    fn push(&mut self, entry: Entry) {
        self.entries.push(entry.span);
        self.independent &= entry.independent;
        self.complete |= entry.complete;
        self.announced = entry.announced;
    }

    /// Ticks a second.
    pub(super) fn timescale(&self) -> u32 {
        self.init.track.timescale
    }

    /// The time of the track that is presented when its Period starts.
    pub(super) fn presentation_time_offset(&self) -> i64 {
        rescale(self.init.begins.media_us, US, self.timescale())
    }

    /// The longest segment, milliseconds.
    pub(super) fn longest_ms(&self) -> i64 {
        let longest = self.entries.iter().map(|entry| entry.duration).max();
        rescale(longest.unwrap_or(0), self.timescale(), 1_000)
    }
}

/// What the manifest announces, in order. Only with low latency something is open.
///
/// The newest segment counts as open until there is a part behind it, and all tracks are listed from the same segment
/// on: so a manifest changes once a segment, and a Period leaves as one.
pub(super) fn periods(snapshot: &Snapshot, form: Form) -> Vec<Period<'_>> {
    let with_open = form == Form::LowLatency && !snapshot.ended;
    let mut lead = None;
    let mut periods = BTreeMap::<u64, Period<'_>>::new();
    for rendition in &snapshot.renditions {
        let view = View::of(rendition, snapshot, lead.as_ref(), form);
        let peak_bps = hls::peak_bps(view.complete.iter().copied(), snapshot.target_s);
        for (init, entry) in view.entries(lead.as_ref(), snapshot.config) {
            let period = periods
                .entry(init.discontinuity)
                .or_insert_with(|| Period::starting(init));
            match period.tracks.last_mut() {
                Some(track) if track.rendition.name() == rendition.name() => track.push(entry),
                _ => period
                    .tracks
                    .push(Track::starting(rendition, init, entry, peak_bps)),
            }
        }
        lead.get_or_insert(view);
    }
    let mut periods: Vec<_> = periods.into_values().collect();
    // Players do not look for tracks that join a Period.
    if with_open {
        let _ = periods.pop_if(|period| !period.is_whole());
    }
    periods
}

/// When the manifest became what it is: the mean over all tracks of the wall time that each had reached when it last had
/// something to announce. It goes up with every change, whichever track it comes from, and with nothing else
/// (CONFORMANCE D2).
pub(super) fn published(snapshot: &Snapshot, periods: &[Period<'_>]) -> SystemTime {
    let newest = |rendition: &Rendition| {
        let tracks = periods.iter().rev().flat_map(|period| &period.tracks);
        let mut own = tracks.filter(|track| track.rendition.name() == rendition.name());
        own.next().map(|track| track.announced)
    };
    let announced: Vec<_> = snapshot.renditions.iter().filter_map(newest).collect();
    let since_epoch = |wall: &SystemTime| wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    let sum: Duration = announced.iter().map(since_epoch).sum();
    let count = u32::try_from(announced.len()).unwrap_or(u32::MAX);
    // The end may come when no track has anything new.
    let ended = Duration::from_millis(snapshot.ended.into());
    UNIX_EPOCH + sum / count.max(1) + ended
}

/// A rendition as a manifest shows it.
struct View<'a> {
    complete: Vec<&'a Segment>,
    open: Option<Newest<'a>>,
}

/// The segment that is being made, or was a moment ago.
#[derive(Clone, Copy)]
struct Newest<'a> {
    msn: u64,
    init: &'a Init,
    start: i64,
    program_date_time: SystemTime,
    /// Its parts but for the one that completed it.
    parts: &'a [Part],
}

impl<'a> View<'a> {
    /// Of the lead it shows as much as a playlist does, of the others as much as of the `lead`, even if a playlist of
    /// theirs begins a segment later: what has left it is served for a while.
    fn of(
        rendition: &'a Rendition,
        snapshot: &Snapshot,
        lead: Option<&View<'_>>,
        form: Form,
    ) -> Self {
        let with_open = form == Form::LowLatency && !snapshot.ended;
        let open = Newest::of(rendition).filter(|_| with_open);
        let end = open.map_or(u64::MAX, |open| open.msn);
        let before_end = |segment: &&Segment| segment.msn < end;
        let complete: Vec<&Segment> = match form {
            Form::Rewind(_) => rendition.served().map(|segment| &**segment).collect(),
            Form::LowLatency | Form::Classic => {
                let live = rendition.segments.iter().map(|segment| &**segment);
                live.filter(before_end).collect()
            }
        };
        let first = |msn| complete.partition_point(|segment| segment.msn < msn);
        let begins = match (lead, form) {
            (Some(lead), _) => first(lead.begins()),
            (None, Form::Rewind(_)) => {
                let listed = rendition.rewindable().next();
                first(listed.map_or(0, |segment| segment.msn))
            }
            (None, Form::LowLatency | Form::Classic) => listed_from(&complete, snapshot),
        };
        Self {
            complete: complete.get(begins..).unwrap_or_default().to_vec(),
            open,
        }
    }

    /// The number of its first segment.
    fn begins(&self) -> u64 {
        let first = self.complete.first().map(|segment| segment.msn);
        first.or(self.open.map(|open| open.msn)).unwrap_or(0)
    }

    /// What there is to announce, each with its init object; the others follow the `lead`.
    fn entries(&self, lead: Option<&View<'_>>, config: Config) -> Vec<(&'a Init, Entry)> {
        let mut entries = Vec::with_capacity(self.complete.len() + 1);
        for segment in &self.complete {
            let announced = segment.program_date_time + micros(segment.duration_us);
            if let (Some(init), Some(span)) = (segment.init.as_deref(), segment.span) {
                let independent = segment.independent();
                let entry = Entry {
                    span,
                    independent,
                    complete: true,
                    announced,
                };
                entries.push((init, entry));
            } else if let (None, Some((_, last))) = (lead, entries.last_mut()) {
                // A gap of the lead takes something out of the manifest all the same.
                last.announced = announced;
            }
        }
        entries.extend(self.open.map(|open| {
            let usual_us = self.usual_us(open.init.discontinuity, config);
            let lead_end_us = lead.and_then(|lead| lead.end_us(open.msn, config));
            let (duration, told_us) = match lead_end_us {
                Some(end_us) => (open.until(end_us), open.first_us()),
                None => (
                    open.ticks(open.expected_us(usual_us)),
                    open.told_us(usual_us),
                ),
            };
            let entry = Entry {
                span: Span {
                    start: open.start,
                    duration,
                },
                independent: open.parts.first().is_some_and(|part| part.independent),
                complete: false,
                announced: open.program_date_time + micros(told_us),
            };
            (open.init, entry)
        }));
        entries
    }

    /// Where the segment of that number ends, or is going to end, presentation time in microseconds.
    fn end_us(&self, msn: u64, config: Config) -> Option<i64> {
        let us = |ticks: i64, init: &Init| rescale(ticks, init.track.timescale, US);
        if let Some(open) = self.open.filter(|open| open.msn == msn) {
            let usual_us = self.usual_us(open.init.discontinuity, config);
            return Some(us(open.start, open.init) + open.expected_us(usual_us));
        }
        let segment = self.complete.iter().find(|segment| segment.msn == msn)?;
        Some(us(segment.span?.end(), segment.init.as_deref()?))
    }

    /// How long a segment after a discontinuity usually lasts, from its newest ones; what is wanted while there is none.
    fn usual_us(&self, discontinuity: u64, config: Config) -> i64 {
        let newest = self
            .complete
            .iter()
            .rev()
            .filter(|segment| segment.discontinuity == discontinuity && !segment.is_gap())
            .take(STEADY_SEGMENTS)
            .map(|segment| segment.duration_us);
        let (shortest_us, longest_us) = (newest.clone().min(), newest.max());
        match shortest_us.zip(longest_us) {
            Some((shortest_us, longest_us)) if longest_us - shortest_us <= STEADY_US_MAX => {
                longest_us
            }
            Some((shortest_us, _)) => shortest_us,
            None => i64::from(config.segment_ms) * 1_000,
        }
    }
}

/// The first of the segments that a playlist of them lists (CONFORMANCE H8).
fn listed_from(segments: &[&Segment], snapshot: &Snapshot) -> usize {
    let us_min = DEPTH_TARGETS_MIN * snapshot.target_s * i64::from(US);
    let (mut first, mut us) = (segments.len(), 0);
    for segment in segments.iter().rev() {
        if segments.len() - first >= snapshot.config.playlist_segments && us >= us_min {
            break;
        }
        first -= 1;
        us += segment.duration_us;
    }
    first
}

impl<'a> Newest<'a> {
    fn of(rendition: &'a Rendition) -> Option<Self> {
        if let Some(open) = &rendition.open
            && let Some(span) = open.span
        {
            return Some(Self {
                msn: open.msn,
                init: &open.init,
                start: span.start,
                program_date_time: open.program_date_time,
                parts: &open.parts,
            });
        }
        let segment = rendition.segments.back()?;
        let (_, before) = segment.parts.split_last()?;
        Some(Self {
            msn: segment.msn,
            init: segment.init.as_deref()?,
            start: segment.span?.start,
            program_date_time: segment.program_date_time,
            parts: if before.is_empty() {
                &segment.parts
            } else {
                before
            },
        })
    }

    fn made_us(&self) -> i64 {
        self.parts.iter().map(|part| part.duration_us).sum()
    }

    fn first_us(&self) -> i64 {
        self.parts.first().map_or(0, |part| part.duration_us)
    }

    fn ticks(&self, us: i64) -> i64 {
        rescale(us, US, self.init.track.timescale)
    }

    /// How many ticks it lasts if the lead is cut at `end_us`: it ends with the first frame that begins there or later.
    fn until(&self, end_us: i64) -> i64 {
        let frame = match &self.init.track.codec {
            Codec::Aac(config) => i64::from(config.frame_len),
            Codec::H264(_) => 1,
        };
        let wanted = (self.ticks(end_us) - self.start).max(self.ticks(self.made_us()));
        (wanted + frame - 1).div_euclid(frame) * frame
    }

    /// How long it is going to last: as long as usual, or more once it has.
    fn expected_us(&self, usual_us: i64) -> i64 {
        let made_us = self.made_us();
        if made_us < usual_us {
            return usual_us;
        }
        let step_us = usual_us.max(STEP_US_MIN);
        usual_us + ((made_us - usual_us) / step_us + 1) * step_us
    }

    /// How much of it there was when that was told.
    fn told_us(&self, usual_us: i64) -> i64 {
        match self.expected_us(usual_us) {
            expected_us if expected_us == usual_us => self.first_us(),
            expected_us => expected_us - usual_us.max(STEP_US_MIN),
        }
    }
}

fn micros(us: i64) -> Duration {
    Duration::from_micros(us.unsigned_abs())
}
