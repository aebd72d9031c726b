//! The output clock of one track: its offset to the source, its last timestamp, its grid.
//!
//! Owns: strictly increasing timestamps for one track. Does not own: when a clock is replaced
//! ([`super::Timeline`] decides that).

use super::{JUMP_BACKWARD_MS_MAX, JUMP_FORWARD_MS_MAX, US};
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
    frame_ticks: i64,
    /// Whether the last timestamp says where the next one should be; not right after a new offset.
    comparable: bool,
}

impl TrackClock {
    pub(super) fn video() -> Self {
        Self::new(VIDEO_TIMESCALE, ticks_of_ms(VIDEO_FRAME_MS_DEFAULT, VIDEO_TIMESCALE))
    }

    /// The timescale is replaced by that of the first track placed.
    pub(super) fn audio() -> Self {
        Self::new(48_000, 1_024)
    }

    fn new(timescale: u32, frame_ticks: i64) -> Self {
        Self { offset_us: 0, timescale, last_dts: None, frame_ticks, comparable: false }
    }

    /// A new source clock.
    pub(super) fn begin(&mut self, offset_us: i64) {
        self.offset_us = offset_us;
        self.comparable = false;
    }

    /// Opens a gap in the output.
    pub(super) fn shift(&mut self, gap_us: i64) {
        self.offset_us += gap_us;
        self.comparable &= gap_us == 0;
    }

    pub(super) fn offset_us(&self) -> i64 {
        self.offset_us
    }

    pub(super) fn set_offset_us(&mut self, offset_us: i64) {
        self.offset_us = offset_us;
    }

    /// Where the output of this track ends: the last timestamp plus one frame; 0 before the first.
    pub(super) fn end_us(&self) -> i64 {
        self.last_dts.map_or(0, |last| rescale(last + self.frame_ticks, self.timescale, US))
    }

    /// Whether `raw` lies too far from what was put out last to be of the same clock. Forward is measured from the end
    /// of the whole stream (`stream_end_us`), so that a track which was silent may return.
    pub(super) fn jumped(&self, raw: i64, hz: u32, stream_end_us: i64) -> bool {
        let Some(last) = self.last_dts.filter(|_| self.comparable) else { return false };
        let at_us = rescale(raw, hz, US) + self.offset_us;
        let last_us = rescale(last, self.timescale, US);
        at_us - stream_end_us > JUMP_FORWARD_MS_MAX * 1_000 || last_us - at_us > JUMP_BACKWARD_MS_MAX * 1_000
    }

    /// Replaces the offset so that `raw` comes one frame after the last.
    pub(super) fn continue_from_last(&mut self, raw: i64, hz: u32, timescale: u32) {
        let raw_us = rescale(raw, hz, US);
        let next_us = self.end_us().max(rescale(1, timescale, US));
        self.offset_us = (next_us - raw_us + 999).div_euclid(1_000) * 1_000;
    }

    pub(super) fn to_output(&self, raw: i64, hz: u32, timescale: u32) -> i64 {
        rescale(raw, hz, timescale) + rescale(self.offset_us, US, timescale)
    }

    /// The timestamp of the next frame, wanted at `wanted`: strictly after the last. Says whether it had to be moved.
    pub(super) fn advance(&mut self, wanted: i64, track: &Track) -> (i64, bool) {
        if self.timescale != track.timescale {
            self.last_dts = self.last_dts.map(|last| rescale(last, self.timescale, track.timescale));
            self.timescale = track.timescale;
        }
        let (dts, clamped) = match &track.codec {
            Codec::Aac(config) => {
                self.frame_ticks = i64::from(config.frame_len);
                self.on_grid(wanted)
            }
            Codec::H264(_) => self.increasing(wanted),
        };
        self.last_dts = Some(dts);
        self.comparable = true;
        (dts, clamped)
    }

    fn on_grid(&self, wanted: i64) -> (i64, bool) {
        let Some(last) = self.last_dts else { return (wanted, false) };
        let next = last + self.frame_ticks;
        if (wanted - next).abs() <= ticks_of_ms(GRID_TOLERANCE_MS, self.timescale) {
            (next, false)
        } else if wanted > last {
            (wanted, false)
        } else {
            (last + 1, true)
        }
    }

    fn increasing(&mut self, wanted: i64) -> (i64, bool) {
        let Some(last) = self.last_dts else { return (wanted, false) };
        if wanted <= last {
            return (last + ticks_of_ms(CLAMP_STEP_MS, self.timescale), true);
        }
        if wanted - last <= ticks_of_ms(VIDEO_FRAME_MS_MAX, self.timescale) {
            self.frame_ticks = wanted - last;
        }
        (wanted, false)
    }
}

fn ticks_of_ms(ms: i64, timescale: u32) -> i64 {
    rescale(ms, 1_000, timescale)
}
