//! One track as CMAF: frames and cut marks in, parts and segments out (CONFORMANCE section 4).
//!
//! Owns: sample durations, decode times, composition offsets and the moment a part or segment is complete.
//! Does not own: where the cuts are ([`crate::cut`]) or the boxes ([`weir_media::container::fmp4`]).
//!
//! Samples keep the decode times and composition offsets of the source, so the offsets are hardly ever negative, and
//! nothing else moves a track: FFmpeg and GStreamer show pictures late where offsets are negative, and GStreamer
//! ignores edit lists in fragments. Cuts are told in presentation time all the same (C6): within an epoch, decode time
//! plus the offset of its first sample (the shift) stands for it.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use weir_media::{
    Anchor, Frame, Track,
    codec::{Codec, h264},
    container::fmp4::{self, Sample},
    rescale,
};

use crate::{
    cut::{Cut, Mark},
    keep::Keep,
    window::{Init, Open, Part, Segment, Span},
};

const US: u32 = 1_000_000;
/// How far a track may go on behind a cut and still have its last sample before the cut reach to it. More is a hole, and
/// the segment behind the cut begins with it. The longest AAC frame, 1024 samples at 7350 Hz, lasts 139 ms.
const HOLE_US_MAX: i64 = 200_000;
/// What the last video sample before a hole or the end is taken to last, when nothing has shown it.
const VIDEO_SAMPLE_MS_DEFAULT: u32 = 40;

/// Packages one track of one epoch after another.
#[derive(Debug)]
pub struct Packager {
    rendition: &'static str,
    keep: Arc<dyn Keep>,
    current: Option<Current>,
    parts_made: u64,
    /// The wall time of the newest segment. It never goes back, even where sound ran ahead of the picture that begins
    /// an epoch (H12).
    wall: SystemTime,
}

#[derive(Debug)]
struct Current {
    init: Arc<Init>,
    anchor: Anchor,
    /// What is added to dts to get the time that cuts are told in: the epoch's first sample is presented there; ticks.
    shift: Option<i64>,
    /// The newest frame: how long it lasts is known when the next comes.
    held: Option<Frame>,
    frame_ticks: i64,
    samples: Vec<Sample>,
    /// mfhd sequence number of the part that `samples` become: it goes up over the whole run (C4).
    chunk: u32,
    /// Decode time of the first of `samples`, shifted, ticks.
    part_start: i64,
    /// Where the newest sample ends, shifted, ticks.
    end: Option<i64>,
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
    captions: bool,
    parts: Vec<Part>,
}

impl Packager {
    /// A packager at the start of a run, whose parts are kept by `keep` as those of `rendition`.
    #[must_use]
    pub fn new(rendition: &'static str, keep: Arc<dyn Keep>) -> Self {
        Self {
            rendition,
            keep,
            current: None,
            parts_made: 0,
            wall: UNIX_EPOCH,
        }
    }

    /// Takes a frame; it belongs behind every mark that was passed to [`Self::cut`]. One that belongs before them or
    /// within the sample before it, because it came too late, is dropped: decode times only go up (C3).
    pub fn push(&mut self, frame: Frame) {
        let Some(current) = self.current.as_mut() else {
            return;
        };
        let shift = *current.shift.get_or_insert_with(|| shift_of(&frame));
        let at_us = rescale(frame.dts + shift, current.init.track.timescale, US);
        if at_us < current.segment.mark_us || current.end.is_some_and(|end| frame.dts + shift < end)
        {
            return;
        }
        current.settle(Some(frame.dts + shift));
        current.held = Some(frame);
    }

    /// Ends what the mark says, and begins what comes after it. The last sample before an epoch mark gets the duration
    /// of those before it. `track` is the track in the mark's epoch; without it, segments are gaps from there on.
    /// `first` says that the run begins here. Returns the segment that became complete.
    pub fn cut(&mut self, mark: &Mark, track: Option<&Track>, first: bool) -> Option<Segment> {
        let Some(current) = self.current.as_mut() else {
            self.begin(mark, track?, first);
            return None;
        };
        match mark.cut {
            Cut::Epoch => current.settle(None),
            Cut::Segment => {
                current.stretch_to(rescale(mark.at_us, US, current.init.track.timescale))
            }
            Cut::Part => {}
        }
        self.end_part();
        if let Some(current) = self.current.as_mut() {
            current.chunk = mark.chunk;
        }
        if mark.cut == Cut::Part {
            return None;
        }
        let segment = self.end_segment(mark.ends_us);
        match (mark.cut, track, self.current.as_mut()) {
            (Cut::Epoch, Some(track), _) => self.begin(mark, track, first),
            (cut, _, Some(current)) => {
                current.anchor = mark.epoch.anchor;
                current.segment = OpenSegment::new(mark, cut == Cut::Epoch);
            }
            (_, _, None) => {}
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

    /// `frame` is the first behind the mark at `mark_us`: its predecessor ends where it begins, unless that is far off.
    pub fn settle_before(&mut self, frame: &Frame, mark_us: i64) {
        if let Some(current) = self.current.as_mut()
            && let Some(shift) = current.shift
            && rescale(frame.dts + shift, current.init.track.timescale, US) - mark_us <= HOLE_US_MAX
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

    /// Counts the parts that became complete.
    #[must_use]
    pub fn parts_made(&self) -> u64 {
        self.parts_made
    }

    /// What is open, for the snapshot.
    #[must_use]
    pub fn open(&self) -> Option<Open> {
        let current = self.current.as_ref()?;
        let segment = &current.segment;
        Some(Open {
            msn: segment.msn,
            discontinuity: segment.discontinuity,
            after_discontinuity: segment.after_discontinuity,
            init: Arc::clone(&current.init),
            span: segment.presented(),
            program_date_time: self.wall.max(current.anchor.wall_at(current.start_us())),
            parts: segment.parts.clone(),
        })
    }

    fn begin(&mut self, mark: &Mark, track: &Track, first: bool) {
        let is_lead = mark.epoch.lead().is_some_and(|lead| lead.id == track.id);
        let init = Init {
            discontinuity: mark.discontinuity,
            begins: Anchor {
                media_us: mark.epoch_us,
                wall: mark.epoch.anchor.wall_at(mark.epoch_us),
            },
            tracks: mark.epoch.tracks.len(),
            track: track.clone(),
            bytes: fmp4::init(track),
        };
        self.current = Some(Current {
            init: Arc::new(init),
            anchor: mark.epoch.anchor,
            shift: mark.composition.filter(|_| is_lead),
            held: None,
            frame_ticks: default_frame_ticks(track),
            samples: Vec::new(),
            chunk: mark.chunk,
            part_start: 0,
            end: None,
            segment: OpenSegment::new(mark, mark.cut == Cut::Epoch && !first),
        });
    }

    fn end_part(&mut self) {
        let Some(current) = self.current.as_mut() else {
            return;
        };
        let Some(first) = current.samples.first() else {
            return;
        };
        let independent = first.sync;
        let decode_time = current.part_start - current.shift.unwrap_or(0);
        let decode_time = u64::try_from(decode_time).unwrap_or(0);
        let chunk = fmp4::fragment(current.chunk, decode_time, &current.samples);
        let bytes = if current.segment.parts.is_empty() {
            with_segment_type(&chunk)
        } else {
            chunk
        };
        let ticks: i64 = current
            .samples
            .iter()
            .map(|sample| i64::from(sample.duration))
            .sum();
        let end = current.part_start + ticks;
        let timescale = current.init.track.timescale;
        let duration_us = rescale(end, timescale, US) - rescale(current.part_start, timescale, US);
        let start = current
            .segment
            .span
            .map_or(current.part_start, |(start, _)| start);
        current.segment.span = Some((start, end));
        let samples = u32::try_from(current.samples.len()).unwrap_or(u32::MAX);
        let msn = current.segment.msn;
        current.segment.parts.push(Part {
            duration_us,
            independent,
            samples,
            content: self.keep.keep(self.rendition, msn, bytes),
        });
        current.samples.clear();
        self.parts_made += 1;
    }

    fn end_segment(&mut self, end_us: i64) -> Option<Segment> {
        let current = self.current.as_mut()?;
        let (start_us, end_us) = (current.start_us(), current.end_us(end_us));
        self.wall = self.wall.max(current.anchor.wall_at(start_us));
        Some(Segment {
            msn: current.segment.msn,
            discontinuity: current.segment.discontinuity,
            after_discontinuity: current.segment.after_discontinuity,
            init: Some(Arc::clone(&current.init)),
            duration_us: end_us - start_us,
            span: current.segment.presented(),
            program_date_time: self.wall,
            captions: current.segment.captions,
            parts: std::mem::take(&mut current.segment.parts),
            archived: None,
        })
    }
}

/// What is added to every dts of an epoch that begins with `frame`. Decode times cannot be negative.
pub(crate) fn shift_of(frame: &Frame) -> i64 {
    (frame.pts - frame.dts).max(-frame.dts)
}

impl Current {
    /// Where the first sample of the open segment begins, ticks; none without one, or when a hole comes before it: then
    /// the segment begins at its mark.
    fn first_sample(&self) -> Option<i64> {
        let (start, _) = self.segment.span?;
        let start_us = rescale(start, self.init.track.timescale, US);
        (start_us - self.segment.mark_us <= HOLE_US_MAX).then_some(start)
    }

    /// Where the open segment begins, microseconds.
    fn start_us(&self) -> i64 {
        let start = self.first_sample();
        start.map_or(self.segment.mark_us, |start| {
            rescale(start, self.init.track.timescale, US)
        })
    }

    /// Where it ends if nothing more comes, microseconds; without a sample, at `end_us`.
    fn end_us(&self, end_us: i64) -> i64 {
        match self.segment.span {
            Some((_, end)) => rescale(end, self.init.track.timescale, US),
            None => end_us.max(self.segment.mark_us),
        }
    }

    /// Turns the held frame into a sample that lasts until `next`, or as long as the one before it.
    fn settle(&mut self, next: Option<i64>) {
        let (Some(frame), Some(shift)) = (self.held.take(), self.shift) else {
            return;
        };
        let start = frame.dts + shift;
        let duration = match next {
            Some(next) => next - start,
            None => self.frame_ticks,
        };
        // A pause says nothing about the sample at the end, which must not outgrow its segment.
        if (1..=rescale(HOLE_US_MAX, US, self.init.track.timescale)).contains(&duration) {
            self.frame_ticks = duration;
        }
        if self.samples.is_empty() {
            self.part_start = start;
        }
        self.end = Some(start + duration);
        if let Codec::H264(config) = &self.init.track.codec {
            self.segment.captions =
                self.segment.captions || h264::has_captions(&frame.payload, config.nal_length_size);
        }
        self.samples.push(Sample {
            duration: u32::try_from(duration).unwrap_or(1),
            composition: i32::try_from(frame.pts - frame.dts).unwrap_or(0),
            sync: frame.sync,
            payload: frame.payload,
        });
    }

    /// The track is silent when its segment ends: its last sample is shown until there, so that decode times stay
    /// continuous (C3).
    fn stretch_to(&mut self, mark: i64) {
        let (Some(frame), Some(shift)) = (self.held.as_ref(), self.shift) else {
            return;
        };
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
            captions: false,
            parts: Vec::new(),
        }
    }

    fn presented(&self) -> Option<Span> {
        let (start, end) = self.span?;
        Some(Span {
            start,
            duration: end - start,
        })
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
