//! Sound frames on their way into one PES.
//!
//! Owns: which of them go together. Does not own: when the PES is written.

use weir_media::{Frame, codec::aac::adts, container::mpegts::PES_LEN_MAX};

use super::SOUND_SPAN_MAX;

/// Bytes of access units that fit a PES whose length can be stated, whatever its headers take.
const LEN_MAX: usize = PES_LEN_MAX - 4_096;

/// Frames that follow each other without a pause.
#[derive(Debug, Default)]
pub(super) struct Group {
    frames: Vec<Frame>,
    len: usize,
    /// Time of the first and of the newest frame.
    first_at: i64,
    newest_at: i64,
}

impl Group {
    /// Whether `frame` must not join: after a pause, a decoder would place it where the one before it ends.
    pub(super) fn refuses(&self, frame: &Frame) -> bool {
        self.frames.last().is_some_and(|newest| {
            frame.dts.checked_sub(newest.dts) != Some(i64::from(adts::SAMPLES))
                || self.len + frame.payload.len() + adts::HEADER_LEN > LEN_MAX
        })
    }

    /// Adds a frame at `at` on the program's clock.
    pub(super) fn push(&mut self, at: i64, frame: Frame) {
        if self.frames.is_empty() {
            self.first_at = at;
        }
        self.newest_at = at;
        self.len += frame.payload.len() + adts::HEADER_LEN;
        self.frames.push(frame);
    }

    /// Whether another frame like the newest, which lasts `frame_time`, would make the group span too much.
    pub(super) fn is_full(&self, frame_time: i64) -> bool {
        !self.frames.is_empty()
            && self.newest_at.saturating_sub(self.first_at) > SOUND_SPAN_MAX - 2 * frame_time
    }

    /// Whether what comes at `at` finds the group too old to wait for more.
    pub(super) fn is_overdue(&self, at: i64) -> bool {
        !self.frames.is_empty() && at.saturating_sub(self.first_at) > SOUND_SPAN_MAX
    }

    /// The time at which the group can be written: that of its newest frame.
    pub(super) fn at(&self) -> i64 {
        self.newest_at
    }

    /// The frames; empty when there are none.
    pub(super) fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Starts over.
    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.len = 0;
    }
}
