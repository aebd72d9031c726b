//! What a player of segments has shown, and whether anybody would have seen it stop.
//!
//! Owns: media time that has come, and the measures taken of it. Does not own: what is fetched ([`super`]).

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{Error, Seat};
use crate::{judge::Arrival, stall, tally::Tally, time_code::TimeCode};

/// The screen of one viewer.
pub(super) struct Screen {
    asked: Arrival,
    tally: Arc<Mutex<Tally>>,
    player: stall::Player,
    buffer: Duration,
    /// Media time that has come and is shown.
    media: Duration,
    /// What comes first and is not shown, since the player begins behind a key frame.
    before: Duration,
    is_served: bool,
}

impl Screen {
    pub(super) fn new(seat: &Seat, asked: Arrival) -> Self {
        Self {
            asked,
            tally: Arc::clone(&seat.tally),
            player: stall::Player::new(seat.buffer),
            buffer: seat.buffer,
            media: Duration::ZERO,
            before: Duration::ZERO,
            is_served: false,
        }
    }

    /// What a player holds before it plays.
    pub(super) fn buffer(&self) -> Duration {
        self.buffer
    }

    /// Media comes from now on of which the first `before` is not shown. A player that has not begun holds `buffer`
    /// before it does.
    pub(super) fn begin(&mut self, before: Duration, buffer: Duration) {
        self.before = before;
        if !self.player.has_begun() {
            self.player = stall::Player::new(buffer);
        }
    }

    /// Whether any media has come.
    pub(super) fn is_served(&self) -> bool {
        self.is_served
    }

    /// So much media is there, and when its first picture was sent.
    pub(super) fn receive(&mut self, duration: Duration, code: Option<TimeCode>) {
        let now = Arrival::now();
        let since_asked = now.at.saturating_duration_since(self.asked.at);
        let mut tally = self.tally.lock();
        if !self.is_served {
            self.is_served = true;
            tally.first_key.record(since_asked);
            tally.counters.viewers_served += 1;
        }
        let shown = duration.saturating_sub(self.before);
        self.before = self.before.saturating_sub(duration);
        let from = self.media;
        self.media += shown;
        self.player.receive(since_asked, from, self.media);
        // What was there before the viewer says nothing of how fast the server is.
        if let Some(code) = code.filter(|code| code.sent_us >= self.asked.wall_us) {
            tally.latency(Duration::from_micros(
                now.wall_us.saturating_sub(code.sent_us),
            ));
        }
    }

    /// The watching is over, with an error if it was not to be.
    pub(super) fn finish(&mut self, error: Option<Error>) {
        let now = Arrival::now().at.saturating_duration_since(self.asked.at);
        self.player.finish(now);
        let mut tally = self.tally.lock();
        tally.counters.played(&self.player);
        if let Some(error) = error {
            tally.error(&error.to_string());
        }
    }
}
