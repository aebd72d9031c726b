//! A transport stream without end.
//!
//! Owns: when frames that arrive one by one are written, and what a new epoch means. Gaps between epochs are shown, as
//! in HLS: by the time of the gap the clock jumps, and says so; a receiver that keeps the clock has waited as long.
//! Does not own: the packets ([`super::program`]).

use std::sync::Arc;

use bytes::BytesMut;
use weir_media::{Epoch, Frame, Kind};

use super::{MS, REORDER_MAX, program::Program, sound::Group};

/// A pause up to this is filled with clock references, a longer one is a jump: references that come this late are no
/// help to a receiver that has been waiting for them.
const FILL_MAX: i64 = 1_000 * MS;

/// Writes a stream's frames as one transport stream with continuous counters. Receivers may start at every key frame:
/// tables stand before it.
#[derive(Debug)]
pub struct Muxer {
    program: Program,
    epoch: Option<Arc<Epoch>>,
    /// Reorder delay of the epoch, once its first picture has shown it.
    reorder: Option<i64>,
    sound: Group,
}

impl Muxer {
    /// A muxer whose service description says `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            program: Program::new(Some(name), FILL_MAX),
            epoch: None,
            reorder: None,
            sound: Group::default(),
        }
    }

    /// Appends what becomes ready with `frame`: whole packets, and none for a frame that cannot be carried. Up to 70 ms
    /// of sound are held back.
    pub fn push(&mut self, epoch: &Arc<Epoch>, frame: &Frame, out: &mut BytesMut) {
        if !self
            .epoch
            .as_ref()
            .is_some_and(|current| Epoch::same(current, epoch))
        {
            self.flush(out);
            self.program.begin_epoch(epoch);
            self.epoch = Some(Arc::clone(epoch));
            self.reorder = None;
        }
        match self.program.kind_of(frame) {
            Some(Kind::Video) => self.push_picture(frame, out),
            Some(Kind::Audio) => self.push_sound(frame, out),
            None => {}
        }
    }

    /// Appends what is held back: the stream ends or pauses.
    pub fn flush(&mut self, out: &mut BytesMut) {
        if self.sound.frames().is_empty() {
            return;
        }
        self.program.pass_to(self.sound.at(), false, out);
        self.program.put_sound(self.sound.frames(), false, out);
        self.sound.clear();
    }

    fn push_picture(&mut self, frame: &Frame, out: &mut BytesMut) {
        let dts = self.program.time(frame.track, frame.dts);
        let pts = self.program.time(frame.track, frame.pts);
        let reorder = *self
            .reorder
            .get_or_insert(pts.saturating_sub(dts).clamp(0, REORDER_MAX));
        let at = dts.saturating_add(reorder);
        if self.sound.is_overdue(at) {
            self.flush(out);
        }
        self.program.pass_to(at, frame.sync, out);
        self.program.put_picture(frame, false, out);
    }

    fn push_sound(&mut self, frame: &Frame, out: &mut BytesMut) {
        if self.sound.refuses(frame) {
            self.flush(out);
        }
        self.sound
            .push(self.program.time(frame.track, frame.dts), frame.clone());
        if self.sound.is_full(self.program.sound_frame_time()) {
            self.flush(out);
        }
    }
}
