//! One publisher session before and after it starts: its clock, its configurations, the frames it holds back.
//!
//! Owns: unwrapping of the source's clock, and the decision when enough is known to start. Does not own: the output
//! clock ([`super::Timeline`]).

use std::{collections::VecDeque, time::Duration};

use super::{RawFrame, US};
use crate::{Kind, codec::Codec, rescale};

/// How long a session waits for a second track before it starts with the one it has (F13).
const TRACK_WAIT: Duration = Duration::from_secs(2);
/// How long a session waits for the first key frame before it starts with its audio alone (F10).
const KEY_WAIT: Duration = Duration::from_secs(3);
/// Audio this much older than the first key frame is not shown: nothing could be seen with it.
const AUDIO_LEAD_MS_MAX: i64 = 200;
/// Bounds what a publisher that sends faster than real time can make us hold.
const HELD_BYTES_MAX: usize = 16 << 20;
/// As [`HELD_BYTES_MAX`], for tiny frames: three seconds of 240 fps video with audio.
const HELD_FRAMES_MAX: usize = 1_024;

/// Where the source's clock stops, 36 000 years from zero: far from what 64 bits of microseconds hold, so that sums of
/// a few such times cannot overflow. Only a source that jumps on purpose, millions of times, gets there.
const SOURCE_US_MAX: i64 = 1 << 60;

/// The clock a source stamps its frames with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionClock {
    /// Width of the timestamps: they wrap at 2^bits. 1 to 63.
    pub bits: u32,
    /// Ticks a second.
    pub hz: u32,
}

impl SessionClock {
    /// 32-bit milliseconds, as RTMP and FLV count.
    pub const MS_32_BIT: Self = Self {
        bits: 32,
        hz: 1_000,
    };

    /// The distance from `from` to `to` on the wrapping clock, taken the short way round.
    fn distance(self, from: u64, to: u64) -> i64 {
        let modulus = 1_i128 << self.bits.clamp(1, 63);
        let ahead = (i128::from(to) - i128::from(from)).rem_euclid(modulus);
        let signed = if ahead >= modulus / 2 {
            ahead - modulus
        } else {
            ahead
        };
        i64::try_from(signed).unwrap_or(0)
    }
}

#[derive(Debug)]
pub(super) struct Session {
    clock: SessionClock,
    video: Source,
    audio: Source,
    declared: Option<(bool, bool)>,
    held: VecDeque<(Duration, RawFrame)>,
    held_bytes: usize,
    waiting_since: Option<Duration>,
    started: bool,
}

#[derive(Debug, Default)]
struct Source {
    config: Option<Codec>,
    last: Option<(u64, i64)>,
}

/// What a session starts with.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) kinds: Vec<Kind>,
    pub(super) frames: Vec<RawFrame>,
    /// The earliest timestamp among the frames, on the source's unwrapped clock.
    pub(super) first_raw: i64,
    /// When the first of the frames arrived.
    pub(super) arrived: Duration,
}

impl Session {
    pub(super) fn new(clock: SessionClock) -> Self {
        Self {
            clock,
            video: Source::default(),
            audio: Source::default(),
            declared: None,
            held: VecDeque::new(),
            held_bytes: 0,
            waiting_since: None,
            started: false,
        }
    }

    pub(super) fn clock(&self) -> SessionClock {
        self.clock
    }

    pub(super) fn started(&self) -> bool {
        self.started
    }

    pub(super) fn config(&self, kind: Kind) -> Option<&Codec> {
        match kind {
            Kind::Video => self.video.config.as_ref(),
            Kind::Audio => self.audio.config.as_ref(),
        }
    }

    pub(super) fn declare(&mut self, video: bool, audio: bool) {
        self.declared = Some((video, audio));
    }

    pub(super) fn configure(&mut self, codec: Codec) {
        let kind = codec.kind();
        self.source_mut(kind).config = Some(codec);
    }

    /// The timestamp on a clock that never wraps.
    pub(super) fn unwrap(&mut self, kind: Kind, raw: u64) -> i64 {
        let raw = raw & ((1_u64 << self.clock.bits.clamp(1, 63)) - 1);
        let other = match kind {
            Kind::Video => self.audio.last,
            Kind::Audio => self.video.last,
        };
        let clock = self.clock;
        let source = self.source_mut(kind);
        let unwrapped = match source.last.or(other) {
            Some((last_raw, last)) => last.saturating_add(clock.distance(last_raw, raw)),
            None => i64::try_from(raw).unwrap_or(0),
        };
        let limit = rescale(SOURCE_US_MAX, US, clock.hz);
        let unwrapped = unwrapped.clamp(-limit, limit);
        source.last = Some((raw, unwrapped));
        unwrapped
    }

    /// Keeps a frame until the session starts; returns how many frames were dropped instead.
    pub(super) fn hold(&mut self, now: Duration, frame: RawFrame) -> u64 {
        self.waiting_since.get_or_insert(now);
        if frame.kind == Kind::Video && !frame.sync && !self.holds_key() {
            return 1;
        }
        self.held_bytes += frame.payload.len();
        self.held.push_back((now, frame));
        0
    }

    /// Starts the session when enough is known, or when it has waited long enough.
    pub(super) fn try_start(&mut self, now: Duration) -> Option<Start> {
        let waited = now.saturating_sub(self.waiting_since?);
        let full = self.held_bytes > HELD_BYTES_MAX || self.held.len() > HELD_FRAMES_MAX;
        if !self.tracks_known() && waited < TRACK_WAIT && !full {
            return None;
        }
        let key_raw = self
            .held
            .iter()
            .find(|(_, frame)| frame.kind == Kind::Video)
            .map(|(_, frame)| frame.raw);
        if self.video.config.is_some() && key_raw.is_none() && waited < KEY_WAIT && !full {
            return None;
        }
        let mut kinds = Vec::with_capacity(2);
        kinds.extend(key_raw.map(|_| Kind::Video));
        kinds.extend(self.audio.config.as_ref().map(|_| Kind::Audio));
        let earliest = key_raw
            .map(|raw| raw.saturating_sub(AUDIO_LEAD_MS_MAX * i64::from(self.clock.hz) / 1_000));
        self.held_bytes = 0;
        let held = std::mem::take(&mut self.held);
        let mut kept = held
            .into_iter()
            .filter(|(_, frame)| earliest.is_none_or(|at| frame.raw >= at))
            .peekable();
        let arrived = kept.peek()?.0;
        let frames: Vec<RawFrame> = kept.map(|(_, frame)| frame).collect();
        let first_raw = frames.iter().map(|frame| frame.raw).min()?;
        self.started = true;
        Some(Start {
            kinds,
            frames,
            first_raw,
            arrived,
        })
    }

    #[cfg(test)]
    pub(super) fn held_frames(&self) -> usize {
        self.held.len()
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.held.iter().map(|(_, frame)| frame.payload.len()).sum()
    }

    fn tracks_known(&self) -> bool {
        let (video, audio) = self.declared.unwrap_or((true, true));
        (video || audio)
            && (!video || self.video.config.is_some())
            && (!audio || self.audio.config.is_some())
    }

    fn holds_key(&self) -> bool {
        self.held.iter().any(|(_, frame)| frame.kind == Kind::Video)
    }

    fn source_mut(&mut self, kind: Kind) -> &mut Source {
        match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        }
    }
}
