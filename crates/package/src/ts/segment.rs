//! A run as transport stream segments, for HLS.
//!
//! Owns: which frames a segment holds, and its bytes. A segment is a pure function of its mark, the next one and its
//! frames (DESIGN 4): it begins with tables, and every PID's counter begins at 0 and ends where it began, the last PES
//! spread over as many packets as that takes and the tables repeated. Players then see one continuous stream in
//! segments that any node has made (CONFORMANCE H13, H27).
//! Clock references go on to the end of the segment, so that the next one's first is in time. The service description
//! is left out: no HLS player reads it, and it would take 16 packets.
//! Does not own: where segments begin ([`crate::cut`]) or the order in which tracks reach the marks.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};
use weir_media::{Epoch, Frame, Kind, TrackId, container::mpegts::CLOCK_HZ, rescale};

use super::{MS, REORDER_MAX, TIME_OFFSET, program::Program, sound::Group};
use crate::cut::{Cut, Mark};

/// A pause up to this is filled with clock references: more than the longest segment, whose 10 s a silent track can
/// stretch.
const FILL_MAX: i64 = 30_000 * MS;
/// What the last picture of an epoch is taken to last, when no other has shown it.
const PICTURE_US_DEFAULT: i64 = 40_000;

const US: u32 = 1_000_000;

/// A complete segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Media sequence number.
    pub msn: u64,
    /// Discontinuity sequence number.
    pub discontinuity: u64,
    /// Whether it comes after a discontinuity.
    pub after_discontinuity: bool,
    /// Presentation time at which it begins, on the output clock, microseconds.
    pub at_us: i64,
    /// Media time, microseconds.
    pub duration_us: i64,
    /// Whether it starts with a sync sample of the lead track.
    pub independent: bool,
    /// The epoch it belongs to; its anchor gives the wall time.
    pub epoch: Arc<Epoch>,
    /// Whole packets. None when every track was silent: then it is a gap.
    pub bytes: Bytes,
}

/// Packages the tracks of a run as one program.
///
/// Each track's frames and marks come in the track's own order, as they do for a [`crate::cmaf::Packager`]; tracks may
/// be ahead of each other. A segment is complete when all tracks of its epoch have passed its end.
#[derive(Debug, Default)]
pub struct Packager {
    /// Segments that are not complete, oldest first.
    open: VecDeque<Open>,
    /// The segment that each track is in.
    tracks: Vec<(TrackId, u64)>,
}

#[derive(Debug)]
struct Open {
    mark: Mark,
    /// Where the next segment of the epoch begins, once that is known.
    end_us: Option<i64>,
    frames: Vec<Frame>,
}

impl Packager {
    /// A packager at the start of a run.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a frame; it belongs behind every mark that was passed to [`Self::cut`] for its track.
    pub fn push(&mut self, frame: Frame) {
        let Some(&(_, msn)) = self.tracks.iter().find(|(track, _)| *track == frame.track) else {
            return;
        };
        if let Some(open) = self.open.iter_mut().find(|open| open.mark.msn == msn) {
            open.frames.push(frame);
        }
    }

    /// `track` has reached `mark`. Returns the segments that became complete, oldest first. A part's mark changes
    /// nothing; an epoch's mark completes what the epochs before it have open, because its first frame comes after all
    /// of theirs.
    pub fn cut(&mut self, mark: &Mark, track: TrackId) -> Vec<Segment> {
        if mark.cut == Cut::Part {
            return Vec::new();
        }
        match self.tracks.iter_mut().find(|(id, _)| *id == track) {
            Some((_, msn)) => *msn = mark.msn,
            None => self.tracks.push((track, mark.msn)),
        }
        if self
            .open
            .back()
            .is_none_or(|newest| newest.mark.msn < mark.msn)
        {
            self.begin(mark);
        }
        let complete = self
            .open
            .iter()
            .take_while(|open| self.is_complete(open))
            .count();
        self.open.drain(..complete).map(Open::finish).collect()
    }

    /// Ends the run: returns the last segments, which hold something.
    pub fn finish(&mut self) -> Vec<Segment> {
        self.tracks.clear();
        self.open
            .drain(..)
            .map(Open::finish)
            .filter(|segment| !segment.is_gap())
            .collect()
    }

    fn begin(&mut self, mark: &Mark) {
        if let Some(newest) = self.open.back_mut()
            && mark.cut == Cut::Segment
        {
            newest.end_us = Some(mark.at_us);
        }
        self.open.push_back(Open {
            mark: mark.clone(),
            end_us: None,
            frames: Vec::new(),
        });
    }

    fn is_complete(&self, open: &Open) -> bool {
        let newest = self.open.back().map_or(0, |newest| newest.mark.epoch.index);
        let passed = |id: TrackId| {
            self.tracks
                .iter()
                .any(|&(track, msn)| track == id && msn > open.mark.msn)
        };
        newest > open.mark.epoch.index
            || open.mark.epoch.tracks.iter().all(|track| passed(track.id))
    }
}

impl Segment {
    /// Whether every track was silent, so that there is nothing to fetch.
    #[must_use]
    pub fn is_gap(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl Open {
    fn finish(self) -> Segment {
        let Self {
            mark,
            end_us,
            frames,
        } = self;
        let lead = mark.epoch.lead().map(|track| track.id);
        let first = frames.iter().find(|frame| Some(frame.track) == lead);
        let independent = first.is_some_and(|frame| frame.sync);
        let after_discontinuity = mark.cut == Cut::Epoch && mark.epoch.index > 0;
        let ends_us = end_us.unwrap_or_else(|| last_end_us(&mark, &frames));
        Segment {
            msn: mark.msn,
            discontinuity: mark.discontinuity,
            after_discontinuity,
            at_us: mark.at_us,
            duration_us: ends_us.saturating_sub(mark.at_us).max(0),
            independent,
            bytes: render(&mark, end_us, frames, after_discontinuity),
            epoch: mark.epoch,
        }
    }
}

/// Where the last frame of the lead track ends when no mark says so: it lasts as long as the one before it.
fn last_end_us(mark: &Mark, frames: &[Frame]) -> i64 {
    let Some(lead) = mark.epoch.lead() else {
        return mark.at_us;
    };
    let mut times = frames
        .iter()
        .filter(|frame| frame.track == lead.id)
        .map(|frame| frame.dts);
    let Some(first) = times.next() else {
        return mark.at_us;
    };
    let (last, before) = times.fold((first, None), |(last, _), next| (next, Some(last)));
    let frame_us = match (before, lead.kind()) {
        (Some(before), _) => rescale(last.saturating_sub(before), lead.timescale, US),
        (None, Kind::Video) => PICTURE_US_DEFAULT,
        (None, Kind::Audio) => rescale(
            i64::from(weir_media::codec::aac::adts::SAMPLES),
            lead.timescale,
            US,
        ),
    };
    let span_us = rescale(last.saturating_sub(first), lead.timescale, US);
    mark.at_us.saturating_add(span_us).saturating_add(frame_us)
}

/// The bytes of the segment that begins at `mark` and ends at `end_us`, if the epoch goes on there.
fn render(mark: &Mark, end_us: Option<i64>, frames: Vec<Frame>, discontinuity: bool) -> Bytes {
    let to_clock = |us: i64| rescale(us, US, CLOCK_HZ).saturating_add(TIME_OFFSET);
    let start = to_clock(mark.at_us);
    let mut program = Program::new(None, FILL_MAX);
    program.begin_epoch(&mark.epoch);
    if discontinuity {
        program.jump();
    }
    let frames = schedule(&program, start, frames);
    if frames.is_empty() {
        return Bytes::new();
    }
    let capacity = frames
        .iter()
        .map(|(_, _, frame)| frame.payload.len())
        .sum::<usize>();
    let mut out = BytesMut::with_capacity(capacity + capacity / 8);
    program.pass_to(start, true, &mut out);
    put_frames(&mut program, frames, &mut out);
    if let Some(end_us) = end_us {
        program.fill_to(to_clock(end_us), &mut out);
    }
    program.align_tables(&mut out);
    out.freeze()
}

/// The frames that can be carried, each with its kind and the time at which it is sent, in that order. Pictures come
/// before sound of the same instant, so that a segment begins with its key frame.
fn schedule(program: &Program, start: i64, frames: Vec<Frame>) -> Vec<(i64, Kind, Frame)> {
    let dts = |frame: &Frame| program.time(frame.track, frame.dts);
    let carried = frames
        .into_iter()
        .filter_map(|frame| Some((program.kind_of(&frame)?, frame)));
    let mut reorder = None;
    let mut scheduled: Vec<(i64, Kind, Frame)> = carried
        .map(|(kind, frame)| {
            let moved = match kind {
                // The first picture is presented at the mark if none was delayed by more than that.
                Kind::Video => {
                    *reorder.get_or_insert(start.saturating_sub(dts(&frame)).clamp(0, REORDER_MAX))
                }
                Kind::Audio => 0,
            };
            (dts(&frame).saturating_add(moved).max(start), kind, frame)
        })
        .collect();
    scheduled.sort_by_key(|&(at, kind, _)| (at, kind == Kind::Audio));
    scheduled
}

fn put_frames(program: &mut Program, frames: Vec<(i64, Kind, Frame)>, out: &mut BytesMut) {
    let count = |wanted: Kind| {
        frames
            .iter()
            .filter(|&&(_, kind, _)| kind == wanted)
            .count()
    };
    let (mut pictures_left, mut sound_left) = (count(Kind::Video), count(Kind::Audio));
    let mut sound = Group::default();
    for (at, kind, frame) in frames {
        match kind {
            Kind::Video => {
                if sound.is_overdue(at) {
                    flush(program, &mut sound, false, out);
                }
                pictures_left -= 1;
                program.pass_to(at, frame.sync, out);
                program.put_picture(&frame, pictures_left == 0, out);
            }
            Kind::Audio => {
                if sound.refuses(&frame) {
                    flush(program, &mut sound, false, out);
                }
                sound_left -= 1;
                sound.push(at, frame);
                if sound_left == 0 || sound.is_full(program.sound_frame_time()) {
                    flush(program, &mut sound, sound_left == 0, out);
                }
            }
        }
    }
}

fn flush(program: &mut Program, sound: &mut Group, last: bool, out: &mut BytesMut) {
    program.pass_to(sound.at(), false, out);
    program.put_sound(sound.frames(), last, out);
    sound.clear();
}
