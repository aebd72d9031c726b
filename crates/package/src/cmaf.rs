//! One track as CMAF: frames and cut marks in, parts and segments out (CONFORMANCE section 4).
//!
//! Owns: sample durations, decode times, composition offsets and the moment a part or segment is complete.
//! Does not own: where the cuts are ([`crate::cut`]) or the boxes ([`weir_media::container::fmp4`]).
//!
//! Composition offsets are signed (C6, brand `cmf2`): decode times are moved so that the first sample of an epoch is
//! presented at its decode time. A segment's earliest presentation time then equals the time playlists give it.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use weir_media::{
    Anchor, Frame, Track,
    codec::Codec,
    container::fmp4::{self, Sample},
    rescale,
};

use crate::{
    cut::{Cut, Mark},
    window::{Init, Open, Part, Segment},
};

const US: u32 = 1_000_000;
/// What the last video sample before a hole or the end is taken to last, when nothing has shown it.
const VIDEO_SAMPLE_MS_DEFAULT: u32 = 40;

/// Packages one track of one epoch after another.
#[derive(Debug)]
pub struct Packager {
    current: Option<Current>,
    /// mfhd sequence number: goes up over the whole run (C4).
    sequence: u32,
}

#[derive(Debug)]
struct Current {
    init: Arc<Init>,
    anchor: Anchor,
    /// What is added to dts so that the epoch's first sample is presented when it is decoded; ticks.
    shift: Option<i64>,
    /// The newest frame: how long it lasts is known when the next comes.
    held: Option<Frame>,
    frame_ticks: i64,
    samples: Vec<Sample>,
    /// Decode time of the first of `samples`, shifted, ticks.
    part_start: i64,
    segment: OpenSegment,
}

#[derive(Debug)]
struct OpenSegment {
    msn: u64,
    discontinuity: u64,
    after_discontinuity: bool,
    mark_us: i64,
    /// First and end decode time, shifted, ticks; none while there is no sample.
    span: Option<(i64, i64)>,
    parts: Vec<Part>,
}

impl Packager {
    /// A packager at the start of a run.
    #[must_use]
    pub fn new() -> Self {
        Self { current: None, sequence: 0 }
    }

    /// Takes a frame; it belongs behind every mark that was passed to [`Self::cut`].
    pub fn push(&mut self, frame: Frame) {
        let Some(current) = self.current.as_mut() else { return };
        let shift = *current.shift.get_or_insert(frame.pts - frame.dts);
        current.settle(Some(frame.dts + shift));
        current.held = Some(frame);
    }

    /// Ends what the mark says, and begins what comes after it. The last sample before an epoch mark gets the duration
    /// of those before it. `track` is the track in the mark's epoch; `first` says
    /// that the run begins here. Returns the segment that became complete.
    pub fn cut(&mut self, mark: &Mark, track: &Track, first: bool) -> Option<Segment> {
        let Some(current) = self.current.as_mut() else {
            self.begin(mark, track, first);
            return None;
        };
        match mark.cut {
            Cut::Epoch => current.settle(None),
            Cut::Part | Cut::Segment => current.stretch_to(rescale(mark.at_us, US, current.init.track.timescale)),
        }
        self.end_part();
        if mark.cut == Cut::Part {
            return None;
        }
        let segment = self.end_segment(mark.at_us);
        if mark.cut == Cut::Epoch {
            self.begin(mark, track, first);
        } else if let Some(current) = self.current.as_mut() {
            current.segment = OpenSegment::new(mark, false);
        }
        segment
    }

    /// Ends the run: returns the last segment.
    pub fn finish(&mut self, at_us: i64) -> Option<Segment> {
        self.current.as_mut()?.settle(None);
        self.end_part();
        let segment = self.end_segment(at_us);
        self.current = None;
        segment.filter(|segment| !segment.is_gap())
    }

    /// The newest frame is the first behind the next mark: its predecessor ends where it begins.
    pub fn settle_before(&mut self, frame: &Frame) {
        if let Some(current) = self.current.as_mut()
            && let Some(shift) = current.shift
        {
            current.settle(Some(frame.dts + shift));
        }
    }

    /// What is added to a dts so that the first sample of the epoch is presented when it is decoded, in ticks; none
    /// before that sample.
    #[must_use]
    pub fn shift(&self) -> Option<i64> {
        self.current.as_ref()?.shift
    }

    /// What is open, for the snapshot.
    #[must_use]
    pub fn open(&self) -> Option<Open> {
        let current = self.current.as_ref()?;
        let segment = &current.segment;
        Some(Open { msn: segment.msn, init: Arc::clone(&current.init), parts: segment.parts.clone() })
    }

    fn begin(&mut self, mark: &Mark, track: &Track, first: bool) {
        let init = Init { discontinuity: mark.discontinuity, track: track.clone(), bytes: fmp4::init(track) };
        self.current = Some(Current {
            init: Arc::new(init),
            anchor: mark.epoch.anchor,
            shift: None,
            held: None,
            frame_ticks: default_frame_ticks(track),
            samples: Vec::new(),
            part_start: 0,
            segment: OpenSegment::new(mark, !first),
        });
    }

    fn end_part(&mut self) {
        let Some(current) = self.current.as_mut() else { return };
        let Some(first) = current.samples.first() else { return };
        let independent = first.sync;
        self.sequence = self.sequence.wrapping_add(1);
        let decode_time = u64::try_from(current.part_start).unwrap_or(0);
        let chunk = fmp4::fragment(self.sequence, decode_time, &current.samples);
        let bytes = if current.segment.parts.is_empty() { with_segment_type(&chunk) } else { chunk };
        let ticks: i64 = current.samples.iter().map(|sample| i64::from(sample.duration)).sum();
        let end = current.part_start + ticks;
        let timescale = current.init.track.timescale;
        let duration_us = rescale(end, timescale, US) - rescale(current.part_start, timescale, US);
        let start = current.segment.span.map_or(current.part_start, |(start, _)| start);
        current.segment.span = Some((start, end));
        let samples = u32::try_from(current.samples.len()).unwrap_or(u32::MAX);
        current.segment.parts.push(Part { duration_us, independent, samples, bytes });
        current.samples.clear();
    }

    fn end_segment(&mut self, end_us: i64) -> Option<Segment> {
        let current = self.current.as_mut()?;
        let timescale = current.init.track.timescale;
        let (start_us, end_us) = match current.segment.span {
            Some((start, end)) => (rescale(start, timescale, US), rescale(end, timescale, US)),
            None => (current.segment.mark_us, end_us.max(current.segment.mark_us)),
        };
        Some(Segment {
            msn: current.segment.msn,
            discontinuity: current.segment.discontinuity,
            after_discontinuity: current.segment.after_discontinuity,
            init: Arc::clone(&current.init),
            duration_us: end_us - start_us,
            program_date_time: wall_at(current.anchor, start_us),
            parts: std::mem::take(&mut current.segment.parts),
        })
    }
}

impl Default for Packager {
    fn default() -> Self {
        Self::new()
    }
}

impl Current {
    /// Turns the held frame into a sample that lasts until `next`, or as long as the one before it.
    fn settle(&mut self, next: Option<i64>) {
        let (Some(frame), Some(shift)) = (self.held.take(), self.shift) else { return };
        let start = frame.dts + shift;
        let duration = match next {
            Some(next) => next - start,
            None => self.frame_ticks,
        };
        if (1..=i64::from(self.init.track.timescale)).contains(&duration) {
            self.frame_ticks = duration;
        }
        if self.samples.is_empty() {
            self.part_start = start;
        }
        self.samples.push(Sample {
            duration: u32::try_from(duration).unwrap_or(1),
            composition: i32::try_from(frame.pts - start).unwrap_or(0),
            sync: frame.sync,
            payload: frame.payload,
        });
    }

    /// The track is silent when a mark comes: its last sample is shown until there, so that decode times stay
    /// continuous (C3).
    fn stretch_to(&mut self, mark: i64) {
        let (Some(frame), Some(shift)) = (self.held.as_ref(), self.shift) else { return };
        let next = (frame.dts + shift < mark).then_some(mark);
        self.settle(next);
    }
}

impl OpenSegment {
    fn new(mark: &Mark, after_discontinuity: bool) -> Self {
        Self {
            msn: mark.msn,
            discontinuity: mark.discontinuity,
            after_discontinuity,
            mark_us: mark.at_us,
            span: None,
            parts: Vec::new(),
        }
    }
}

fn default_frame_ticks(track: &Track) -> i64 {
    match &track.codec {
        Codec::H264(_) => i64::from(track.timescale / 1_000 * VIDEO_SAMPLE_MS_DEFAULT),
        Codec::Aac(config) => i64::from(config.frame_len),
    }
}

fn with_segment_type(chunk: &Bytes) -> Bytes {
    let styp = fmp4::segment_type();
    let mut bytes = BytesMut::with_capacity(styp.len() + chunk.len());
    bytes.extend_from_slice(&styp);
    bytes.extend_from_slice(chunk);
    bytes.freeze()
}

fn wall_at(anchor: Anchor, media_us: i64) -> SystemTime {
    let offset = Duration::from_micros((media_us - anchor.media_us).unsigned_abs());
    let wall = if media_us >= anchor.media_us {
        anchor.wall.checked_add(offset)
    } else {
        anchor.wall.checked_sub(offset)
    };
    wall.unwrap_or(anchor.wall)
}
