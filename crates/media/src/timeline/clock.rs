//! The output clock of one track: its offset to the source, its last timestamp, its grid.
//!
//! Owns: strictly increasing timestamps for one track. Does not own: when a clock is replaced
//! ([`super::Timeline`] decides that).

use super::{JOIN_SKEW_MS_MAX, JUMP_BACKWARD_MS_MAX, JUMP_FORWARD_MS_MAX, US};
use crate::{Track, VIDEO_TIMESCALE, codec::Codec, rescale};

/// How far a source's audio timestamp may lie beside the sample grid and still be the next frame. RTMP rounds to
/// milliseconds and encoders jitter by less than one AAC frame; more than this is a real hole. It keeps the A/V
/// error under the 40 ms that FAULTS 4.2 allows.
const GRID_TOLERANCE_MS: i64 = 30;
/// What a video frame is taken to last until two of them have shown it.
const VIDEO_FRAME_MS_DEFAULT: i64 = 40;
/// A longer distance between two frames is a pause, not a frame rate: 1 fps is the slowest stream we measure.
const VIDEO_FRAME_MS_MAX: i64 = 1_100;
/// A video timestamp that does not go up is moved to this long after the last (F18).
const CLAMP_STEP_MS: i64 = 1;

#[derive(Debug)]
pub(super) struct TrackClock {
    offset_us: i64,
    timescale: u32,
    last_dts: Option<i64>,
    /// No timestamp comes before this. It keeps what is late out of the gap before its epoch, which formats that
    /// collapse gaps would turn into time going backward.
    earliest_us: i64,
    frame_ticks: i64,
    /// Whether the last timestamp says where the next one should be; not right after a new offset.
    comparable: bool,
}

impl TrackClock {
    pub(super) fn video() -> Self {
        Self::new(
            VIDEO_TIMESCALE,
            ticks_of_ms(VIDEO_FRAME_MS_DEFAULT, VIDEO_TIMESCALE),
        )
    }

    /// The timescale is replaced by that of the first track placed.
    pub(super) fn audio() -> Self {
        Self::new(48_000, 1_024)
    }

    fn new(timescale: u32, frame_ticks: i64) -> Self {
        Self {
            offset_us: 0,
            timescale,
            last_dts: None,
            earliest_us: 0,
            frame_ticks,
            comparable: false,
        }
    }

    /// A new source clock, whose output begins at `earliest_us`.
    pub(super) fn begin(&mut self, offset_us: i64, earliest_us: i64) {
        self.offset_us = offset_us;
        self.earliest_us = earliest_us;
        self.comparable = false;
    }

    /// Opens a gap in the output.
    pub(super) fn shift(&mut self, gap_us: i64) {
        // A millisecond behind the last frame: rounded to what FLV can express, the next must not come before it.
        let after_us = self.last_dts.map_or(0, |last| {
            rescale(last, self.timescale, US) + CLAMP_STEP_MS * 1_000
        });
        self.offset_us = self.offset_us.saturating_add(gap_us);
        self.earliest_us = self.earliest_us.max(after_us) + gap_us;
        self.comparable &= gap_us == 0;
    }

    pub(super) fn offset_us(&self) -> i64 {
        self.offset_us
    }

    pub(super) fn set_offset_us(&mut self, offset_us: i64) {
        self.offset_us = offset_us;
    }

    /// Whether the source's clock has placed a frame of this track.
    pub(super) fn comparable(&self) -> bool {
        self.comparable
    }

    /// Where the output of this track ends: the last timestamp plus one frame, or where its clock begins.
    pub(super) fn end_us(&self) -> i64 {
        let end_us = self.last_dts.map_or(0, |last| {
            rescale(last + self.frame_ticks, self.timescale, US)
        });
        end_us.max(self.earliest_us)
    }

    /// How far the rest of the stream has gone on without this track.
    pub(super) fn silent_us(&self, stream_end_us: i64) -> i64 {
        stream_end_us.saturating_sub(self.end_us())
    }

    /// Whether `raw` lies too far from what was put out last to be of the same clock. Forward is measured from the end
    /// of the whole stream (`stream_end_us`), so that a track which was silent may return. A track that only joins is
    /// measured against the stream alone.
    pub(super) fn jumped(&self, raw: i64, hz: u32, stream_end_us: i64, now_us: i64) -> bool {
        let at_us = self.at_us(raw, hz);
        let ahead_us = at_us.saturating_sub(stream_end_us);
        match self.last_dts.filter(|_| self.comparable) {
            Some(last) => {
                // A track that was silent cannot tell by its own last frame.
                let was_silent = self.silent_us(stream_end_us) > JOIN_SKEW_MS_MAX * 1_000;
                let last_us = rescale(last, self.timescale, US);
                let last_us = if was_silent { stream_end_us } else { last_us };
                let behind_us = last_us.saturating_sub(at_us);
                ahead_us > JUMP_FORWARD_MS_MAX * 1_000 || behind_us > JUMP_BACKWARD_MS_MAX * 1_000
            }
            // The whole source may have paused.
            None => {
                let late_us = at_us.saturating_sub(stream_end_us.max(now_us));
                late_us.max(ahead_us.saturating_neg()) > JOIN_SKEW_MS_MAX * 1_000
            }
        }
    }

    /// Replaces the offset so that `raw` comes at `next_us`, or up to a millisecond later: whole milliseconds keep FLV
    /// and RTMP timestamps exact.
    pub(super) fn continue_at(&mut self, next_us: i64, raw: i64, hz: u32) {
        self.offset_us = offset_us(next_us, raw, hz);
    }

    /// Where the source's `raw` lies on the output clock, microseconds.
    pub(super) fn at_us(&self, raw: i64, hz: u32) -> i64 {
        rescale(raw, hz, US).saturating_add(self.offset_us)
    }

    /// The same, in ticks of `timescale`.
    pub(super) fn to_output(&self, raw: i64, hz: u32, timescale: u32) -> i64 {
        rescale(raw, hz, timescale).saturating_add(rescale(self.offset_us, US, timescale))
    }

    /// The timestamp of the next frame, wanted at `wanted`: strictly after the last. Says whether it had to be moved.
    pub(super) fn advance(&mut self, wanted: i64, track: &Track) -> (i64, bool) {
        if self.timescale != track.timescale {
            self.last_dts = self
                .last_dts
                .map(|last| rescale(last, self.timescale, track.timescale));
            self.timescale = track.timescale;
        }
        let earliest = rescale(self.earliest_us, US, self.timescale);
        let late = wanted < earliest;
        let (dts, clamped) = match &track.codec {
            Codec::Aac(config) => {
                self.frame_ticks = i64::from(config.frame_len);
                self.on_grid(wanted.max(earliest))
            }
            Codec::H264(_) => self.increasing(wanted.max(earliest)),
        };
        self.last_dts = Some(dts);
        self.comparable = true;
        (dts, clamped || late)
    }

    fn on_grid(&self, wanted: i64) -> (i64, bool) {
        let Some(last) = self.last_dts else {
            return (wanted, false);
        };
        let next = last + self.frame_ticks;
        let beside = wanted.saturating_sub(next).saturating_abs();
        if self.comparable && beside <= ticks_of_ms(GRID_TOLERANCE_MS, self.timescale) {
            (next, false)
        } else if wanted > last {
            (wanted, false)
        } else {
            (last + 1, true)
        }
    }

    fn increasing(&mut self, wanted: i64) -> (i64, bool) {
        let Some(last) = self.last_dts else {
            return (wanted, false);
        };
        if wanted <= last {
            return (last + ticks_of_ms(CLAMP_STEP_MS, self.timescale), true);
        }
        if self.comparable && wanted - last <= ticks_of_ms(VIDEO_FRAME_MS_MAX, self.timescale) {
            self.frame_ticks = wanted - last;
        }
        (wanted, false)
    }
}

/// What is added to the source's `raw` so that it comes at `next_us`, rounded up to whole milliseconds.
pub(super) fn offset_us(next_us: i64, raw: i64, hz: u32) -> i64 {
    next_us
        .saturating_sub(rescale(raw, hz, US))
        .saturating_add(999)
        .div_euclid(1_000)
        * 1_000
}

fn ticks_of_ms(ms: i64, timescale: u32) -> i64 {
    rescale(ms, 1_000, timescale)
}
