//! The one place where a source's timestamps become the stream's output clock (DESIGN 2).
//!
//! Owns: unwrapping of 24/31/32/33-bit clocks, clamping of jumps, the sample grid of audio, the start of a
//! publisher session (waiting for its tracks and its first key frame), stitching a publisher that returns onto the
//! same output clock, and when a new [`Epoch`] begins. Everything behind it trusts time.
//! Does not own: reading a clock. The caller says what time it is ([`Now`]), so every case here is a plain test.
//!
//! The rule at a discontinuity: next dts = max(last + one frame, time since the run began).

mod clock;
mod session;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use crate::{Anchor, Epoch, Frame, Kind, Track, TrackId, codec::Codec, rescale};
use clock::{TrackClock, offset_us};
use session::Session;
pub use session::SessionClock;

/// A jump forward beyond this is a new clock, not a pause (FAULTS F9).
const JUMP_FORWARD_MS_MAX: i64 = 10_000;
/// A jump backward beyond this is a new clock, not jitter (FAULTS F9).
const JUMP_BACKWARD_MS_MAX: i64 = 500;
/// A track that joins this far from the rest of its stream has a clock of its own, and is taken to belong where it
/// arrives (FAULTS F10). No packager waits longer for one track.
const JOIN_SKEW_MS_MAX: i64 = 3_000;
/// How long a change of tracks waits for a key frame to happen at, so that the segment it starts is decodable.
const CHANGE_WAIT: Duration = Duration::from_secs(2);
/// A composition offset beyond this is damage, not reordering: 16 pictures at 1 fps still fit.
const COMPOSITION_MS_MAX: i64 = 16_000;

const US: u32 = 1_000_000;

/// The time at which something arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time since the run began. It decides.
    pub run: Duration,
    /// The wall clock. It only labels.
    pub wall: SystemTime,
}

impl Now {
    fn us(self) -> i64 {
        i64::try_from(self.run.as_micros()).unwrap_or(i64::MAX)
    }
}

/// What a publisher session hands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Which kinds of track the publisher's metadata names. A hint only: it shortens the wait for a track.
    Declared {
        /// Video is named.
        video: bool,
        /// Audio is named.
        audio: bool,
    },
    /// A codec configuration; repeated ones are recognised.
    Config(Codec),
    /// One access unit.
    Frame {
        /// Which track it belongs to.
        kind: Kind,
        /// Decoding time as the source wrote it, wrapped to the bits of its [`SessionClock`].
        dts: u64,
        /// Presentation minus decoding time, in ticks of the source's clock.
        composition: i32,
        /// Whether decoding can start here.
        sync: bool,
        /// The access unit.
        payload: Bytes,
    },
}

/// A frame on the output clock, with the epoch it belongs to.
pub type Timed = (Arc<Epoch>, Frame);

/// What the timeline had to do to its input; every counter only goes up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Frames dropped because no configuration came before them (F14).
    pub dropped_without_config: u64,
    /// Frames dropped while a key frame was awaited.
    pub dropped_before_key: u64,
    /// Frames whose timestamp did not go up and was moved (F18).
    pub clamped: u64,
    /// Jumps that were taken as a new clock (F9).
    pub jumps: u64,
}

/// The clock of one run. It lives with the stream, so it outlives every connection that feeds it.
#[derive(Debug)]
pub struct Timeline {
    epoch: Option<Arc<Epoch>>,
    session: Option<Session>,
    video: TrackClock,
    audio: TrackClock,
    gap_us: i64,
    change: Option<Change>,
    anchored_at: Duration,
    stats: Stats,
    drift_us: i64,
}

/// A new epoch that waits for its key frame.
#[derive(Debug, Clone, Copy)]
struct Change {
    since: Duration,
    /// The source's clock was replaced, so the gap rule applies and the anchor is taken anew.
    clock_jumped: bool,
}

impl Default for Timeline {
    fn default() -> Self {
        Self::new()
    }
}

impl Timeline {
    /// A timeline at the beginning of its run.
    #[must_use]
    pub fn new() -> Self {
        Self {
            epoch: None,
            session: None,
            video: TrackClock::video(),
            audio: TrackClock::audio(),
            gap_us: 0,
            change: None,
            anchored_at: Duration::ZERO,
            stats: Stats::default(),
            drift_us: 0,
        }
    }

    /// A publisher begins, or returns, with timestamps on `clock`. What the last one left pending is dropped.
    pub fn begin_session(&mut self, clock: SessionClock) {
        self.session = Some(Session::new(clock));
        self.change = None;
    }

    /// The publisher is gone; the next one continues this clock.
    pub fn end_session(&mut self) {
        self.session = None;
    }

    /// What the timeline did so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// How far the publisher's clock has run ahead of the monotonic clock since the epoch's anchor, in microseconds.
    /// It is measured and shown, never corrected.
    #[must_use]
    pub fn drift_us(&self) -> i64 {
        self.drift_us
    }

    /// Takes one input and appends what it makes ready, in order, to `out`. Input without a session is ignored.
    pub fn push(&mut self, now: Now, input: Input, out: &mut Vec<Timed>) {
        let Some(session) = self.session.as_mut() else {
            return;
        };
        match input {
            Input::Declared { video, audio } => session.declare(video, audio),
            Input::Config(codec) => self.configure(now, codec),
            Input::Frame {
                kind,
                dts,
                composition,
                sync,
                payload,
            } => {
                let raw = session.unwrap(kind, dts);
                let frame = RawFrame {
                    kind,
                    raw,
                    composition,
                    sync,
                    payload,
                };
                if session.started() {
                    self.run_frame(now, frame, out);
                } else {
                    self.hold_frame(now, frame, out);
                }
            }
        }
    }

    fn configure(&mut self, now: Now, codec: Codec) {
        let Some(session) = self.session.as_mut() else {
            return;
        };
        let kind = codec.kind();
        session.configure(codec);
        if session.started() {
            // A kind that the epoch lacks joins with its first frame, not with its configuration.
            let current = self.epoch.as_ref().and_then(|epoch| epoch.first(kind));
            if current.is_some_and(|track| Some(&track.codec) != session.config(kind)) {
                self.request_change(now, false);
            }
        }
    }

    fn hold_frame(&mut self, now: Now, frame: RawFrame, out: &mut Vec<Timed>) {
        let Some(session) = self.session.as_mut() else {
            return;
        };
        if session.config(frame.kind).is_none() {
            self.stats.dropped_without_config += 1;
            return;
        }
        self.stats.dropped_before_key += session.hold(now.run, frame);
        let clock = session.clock();
        let Some(start) = session.try_start(now.run) else {
            return;
        };
        let begins_us = self.next_dts_us(Now {
            run: start.arrived,
            wall: now.wall,
        });
        let offset_us = offset_us(begins_us, start.first_raw, clock.hz);
        let media_us = rescale(start.first_raw, clock.hz, US).saturating_add(offset_us);
        let waited = now.run.saturating_sub(start.arrived);
        let wall = now.wall.checked_sub(waited).unwrap_or(now.wall);
        if self.epoch.is_some() {
            self.gap_us += whole_ms(media_us - self.end_us());
        }
        self.video.begin(offset_us, media_us);
        self.audio.begin(offset_us, media_us);
        self.anchored_at = start.arrived;
        self.open_epoch(Anchor { media_us, wall }, &start.kinds);
        for frame in start.frames {
            self.run_frame(now, frame, out);
        }
    }

    fn run_frame(&mut self, now: Now, frame: RawFrame, out: &mut Vec<Timed>) {
        let Some(session) = self.session.as_ref() else {
            return;
        };
        let clock = session.clock();
        let configured = session.config(frame.kind).is_some();
        let Some(epoch) = self.epoch.clone() else {
            return;
        };
        if !configured {
            self.stats.dropped_without_config += 1;
            return;
        }
        let can_join = frame.kind == Kind::Audio || frame.sync;
        if can_join && epoch.first(frame.kind).is_none() {
            self.request_change(now, false);
        }
        self.detect_jump(now, &frame, clock);
        self.apply_change(now, &frame, clock);
        let Some(epoch) = self.epoch.clone() else {
            return;
        };
        let Some(track) = epoch.first(frame.kind) else {
            self.stats.dropped_before_key += 1;
            return;
        };
        let config = self
            .session
            .as_ref()
            .and_then(|session| session.config(frame.kind));
        if config != Some(&track.codec) {
            self.stats.dropped_before_key += 1;
            return;
        }
        let timed = self.place(track, frame, clock);
        if Some(timed.track) == epoch.lead().map(|lead| lead.id) {
            let media_us = rescale(timed.dts, track.timescale, US);
            let elapsed_us = now.us()
                - Now {
                    run: self.anchored_at,
                    wall: now.wall,
                }
                .us();
            self.drift_us = media_us - epoch.anchor.media_us - elapsed_us;
        }
        out.push((epoch, timed));
    }

    fn place(&mut self, track: &Track, frame: RawFrame, clock: SessionClock) -> Frame {
        let track_clock = self.clock_mut(frame.kind);
        let wanted = track_clock.to_output(frame.raw, clock.hz, track.timescale);
        let (dts, clamped) = track_clock.advance(wanted, track);
        let limit = COMPOSITION_MS_MAX * i64::from(track.timescale) / 1_000;
        let composition =
            rescale(i64::from(frame.composition), clock.hz, track.timescale).clamp(-limit, limit);
        self.stats.clamped += u64::from(clamped);
        Frame {
            track: track.id,
            dts,
            pts: dts + composition,
            sync: frame.sync,
            payload: frame.payload,
        }
    }

    /// A timestamp far from the last one replaces the source's clock: the output goes on one frame later, and a
    /// discontinuity is announced at the next key frame. The other track of the source jumps too; it follows with
    /// the same offset instead of announcing another one.
    fn detect_jump(&mut self, now: Now, frame: &RawFrame, clock: SessionClock) {
        if self
            .epoch
            .as_ref()
            .is_none_or(|epoch| epoch.first(frame.kind).is_none())
        {
            return;
        }
        let other_offset_us = self.clock_mut(other_than(frame.kind)).offset_us();
        let end_us = self.end_us();
        let own = self.clock_mut(frame.kind);
        if !own.jumped(frame.raw, clock.hz, end_us, now.us()) {
            return;
        }
        let previous_us = own.offset_us();
        own.set_offset_us(other_offset_us);
        if previous_us != other_offset_us && !own.jumped(frame.raw, clock.hz, end_us, now.us()) {
            return;
        }
        // Nothing of a track that joins is out yet, so its clock can be set without a discontinuity.
        let joins = !own.comparable();
        let was_silent = own.silent_us(end_us) > JOIN_SKEW_MS_MAX * 1_000;
        let next_us = if joins || was_silent {
            end_us
        } else {
            own.end_us()
        };
        own.continue_at(next_us, frame.raw, clock.hz);
        let offset_us = own.offset_us();
        let other = self.clock_mut(other_than(frame.kind));
        if !other.comparable() {
            // It has not begun on the clock that was replaced, so it begins on this one.
            other.set_offset_us(offset_us);
        }
        self.stats.jumps += 1;
        if !joins {
            self.request_change(now, true);
        }
    }

    fn request_change(&mut self, now: Now, clock_jumped: bool) {
        let change = self.change.get_or_insert(Change {
            since: now.run,
            clock_jumped,
        });
        change.clock_jumped |= clock_jumped;
    }

    /// Opens the epoch that waits, at a key frame or when it has waited long enough.
    fn apply_change(&mut self, now: Now, frame: &RawFrame, clock: SessionClock) {
        let (Some(change), Some(session), Some(epoch)) =
            (self.change, self.session.as_ref(), self.epoch.clone())
        else {
            return;
        };
        let has_video = epoch.first(Kind::Video).is_some();
        let video_key = frame.kind == Kind::Video && frame.sync;
        let due = video_key || !has_video;
        if !due && now.run.saturating_sub(change.since) < CHANGE_WAIT {
            return;
        }
        // A new video configuration can only begin with a key frame, however long that takes.
        let video_kept =
            epoch.first(Kind::Video).map(|track| &track.codec) == session.config(Kind::Video);
        if !video_key && !video_kept && has_video {
            return;
        }
        let kinds: Vec<Kind> = [Kind::Video, Kind::Audio]
            .into_iter()
            .filter(|&kind| session.config(kind).is_some())
            .filter(|&kind| kind == Kind::Audio || has_video || video_key)
            .collect();
        // An epoch begins with a frame, never empty.
        if !kinds.contains(&frame.kind) {
            return;
        }
        self.change = None;
        let mut anchor = epoch.anchor;
        if epoch.first(frame.kind).is_none() {
            self.align_joining(now, frame, clock);
        }
        let at_us = self.clock_mut(frame.kind).at_us(frame.raw, clock.hz);
        if change.clock_jumped {
            let end_us = self.end_us();
            // The other track may have gone on, past what this one jumped over. Then only the rest is a gap.
            let behind = end_us.saturating_sub(at_us) > JUMP_BACKWARD_MS_MAX * 1_000;
            let begins_us = if behind {
                self.next_dts_us(now)
            } else {
                now.us()
            };
            let shift_us = whole_ms(begins_us.saturating_sub(at_us));
            let gap_us = if behind {
                whole_ms(now.us().saturating_sub(end_us))
            } else {
                shift_us
            };
            self.clock_mut(frame.kind).shift(shift_us);
            self.clock_mut(other_than(frame.kind)).shift(gap_us);
            self.gap_us += gap_us;
            anchor = Anchor {
                media_us: at_us + shift_us,
                wall: now.wall,
            };
            self.anchored_at = now.run;
        }
        self.open_epoch(anchor, &kinds);
    }

    /// A track that begins an epoch must not turn the time of the stream back, nor leave a hole. If its clock is that far
    /// off, it belongs where it arrives.
    fn align_joining(&mut self, now: Now, frame: &RawFrame, clock: SessionClock) {
        let (end_us, next_us) = (self.end_us(), self.next_dts_us(now));
        let own = self.clock_mut(frame.kind);
        let at_us = own.at_us(frame.raw, clock.hz);
        let behind = end_us.saturating_sub(at_us) > JUMP_BACKWARD_MS_MAX * 1_000;
        if behind || at_us.saturating_sub(next_us) > JOIN_SKEW_MS_MAX * 1_000 {
            own.continue_at(end_us, frame.raw, clock.hz);
            self.stats.jumps += 1;
        }
    }

    fn open_epoch(&mut self, anchor: Anchor, kinds: &[Kind]) {
        let Some(session) = self.session.as_ref() else {
            return;
        };
        let tracks = kinds
            .iter()
            .filter_map(|&kind| {
                session
                    .config(kind)
                    .map(|codec| Track::new(id_of(kind), codec.clone()))
            })
            .collect();
        let index = self
            .epoch
            .as_ref()
            .map_or(0, |epoch| epoch.index.saturating_add(1));
        // A source that ran ahead of the wall clock, or a wall clock that was set back, must not turn the time of the
        // stream back (CONFORMANCE H12).
        let ahead = self
            .epoch
            .as_ref()
            .map(|epoch| epoch.anchor.wall_at(anchor.media_us));
        let anchor = Anchor {
            wall: ahead.map_or(anchor.wall, |ahead| ahead.max(anchor.wall)),
            ..anchor
        };
        self.epoch = Some(Arc::new(Epoch {
            index,
            anchor,
            gap_us: self.gap_us,
            tracks,
        }));
    }

    /// The rule at a discontinuity, for a frame that arrived at `now`.
    fn next_dts_us(&self, now: Now) -> i64 {
        now.us().max(self.end_us())
    }

    /// Where the output ends so far, over all tracks.
    fn end_us(&self) -> i64 {
        self.video.end_us().max(self.audio.end_us())
    }

    fn clock_mut(&mut self, kind: Kind) -> &mut TrackClock {
        match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        }
    }
}

/// A frame whose source clock is unwrapped but not yet on the output clock.
#[derive(Debug, Clone)]
struct RawFrame {
    kind: Kind,
    raw: i64,
    composition: i32,
    sync: bool,
    payload: Bytes,
}

/// A gap in whole milliseconds, rounded down: what formats that collapse gaps subtract must be exact.
fn whole_ms(gap_us: i64) -> i64 {
    gap_us.max(0) / 1_000 * 1_000
}

fn other_than(kind: Kind) -> Kind {
    match kind {
        Kind::Video => Kind::Audio,
        Kind::Audio => Kind::Video,
    }
}

fn id_of(kind: Kind) -> TrackId {
    match kind {
        Kind::Video => TrackId::VIDEO,
        Kind::Audio => TrackId::AUDIO,
    }
}

#[cfg(test)]
mod tests;
