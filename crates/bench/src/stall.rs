//! Whether somebody watching would have seen the picture stop.
//!
//! Owns: a player of which only the clock is left. It begins once it holds some media, plays at the speed of the wall
//! clock, stops when it has played all that came, and goes on once it holds as much again. Does not own: the bytes.

use std::time::Duration;

/// A player's buffer. Times of the wall are any clock that only goes up, media time is that of the stream.
#[derive(Debug, Clone)]
pub struct Player {
    /// How much media must be there to begin and to go on.
    buffer: Duration,
    /// Media time of the first and behind the newest picture.
    media: Option<(Duration, Duration)>,
    state: State,
    stalls: u32,
    stalled: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Waiting for the first media.
    Filling,
    /// `played` of media time was due on the screen at `at` of the wall.
    Playing { at: Duration, played: Duration },
    /// Stopped since `since` of the wall, with `played` on the screen.
    Stalled { since: Duration, played: Duration },
}

impl Player {
    /// A player that holds `buffer` of media before it shows any.
    #[must_use]
    pub fn new(buffer: Duration) -> Self {
        Self {
            buffer,
            media: None,
            state: State::Filling,
            stalls: 0,
            stalled: Duration::ZERO,
        }
    }

    /// Media up to `until` has come at `now`. `from` is where it begins, which counts for the first.
    pub fn receive(&mut self, now: Duration, from: Duration, until: Duration) {
        self.advance(now);
        let (_, end) = self.media.get_or_insert((from, from));
        *end = until.max(*end);
        let end = *end;
        let played = match self.state {
            State::Playing { .. } => return,
            State::Filling => self.media.map_or(from, |(begin, _)| begin),
            State::Stalled { played, .. } => played,
        };
        if end.saturating_sub(played) < self.buffer {
            return;
        }
        if let State::Stalled { since, .. } = self.state {
            self.stalled += now.saturating_sub(since);
        }
        self.state = State::Playing { at: now, played };
    }

    /// Nothing more comes: what has been missing up to `now` counts.
    pub fn finish(&mut self, now: Duration) {
        self.advance(now);
        if let State::Stalled { since, played } = self.state {
            self.stalled += now.saturating_sub(since);
            self.state = State::Stalled { since: now, played };
        }
    }

    /// How often it stopped.
    #[must_use]
    pub fn stalls(&self) -> u32 {
        self.stalls
    }

    /// How long it stood still altogether.
    #[must_use]
    pub fn stalled(&self) -> Duration {
        self.stalled
    }

    /// Whether it ever began.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.state != State::Filling
    }

    fn advance(&mut self, now: Duration) {
        let (State::Playing { at, played }, Some((_, end))) = (self.state, self.media) else {
            return;
        };
        let empty_at = at + end.saturating_sub(played);
        if now > empty_at {
            self.stalls += 1;
            self.state = State::Stalled {
                since: empty_at,
                played: end,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUFFER_MS: u64 = 500;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Plays pictures of 40 ms, given as (arrival, media time); stalls and how long.
    #[track_caller]
    fn check(pictures: impl IntoIterator<Item = (u64, u64)>, end: u64, expected: (u32, u64)) {
        let mut player = Player::new(ms(BUFFER_MS));
        for (now, at) in pictures {
            player.receive(ms(now), ms(at), ms(at + 40));
        }
        player.finish(ms(end));
        assert_eq!(
            (player.stalls(), player.stalled()),
            (expected.0, ms(expected.1))
        );
    }

    fn steady(from: u64, until: u64) -> impl Iterator<Item = (u64, u64)> {
        (from..until).step_by(40).map(|at| (at, at))
    }

    #[test]
    fn a_steady_stream_never_stops() {
        check(steady(0, 10_000), 10_000, (0, 0));
        // Media time begins anywhere.
        check(
            steady(0, 10_000).map(|(now, at)| (now, at + 90_000)),
            10_000,
            (0, 0),
        );
        // A burst first, as from a GOP cache, and lumps of 300 ms afterwards.
        let lumps = steady(0, 9_000).map(|(_, at)| (at.div_ceil(300) * 300, at));
        check(lumps, 9_000, (0, 0));
    }

    #[test]
    fn a_hole_stops_it_once_the_buffer_is_empty() {
        let late = |by: u64| {
            steady(0, 4_000).chain(steady(4_000, 8_000).map(move |(now, at)| (now + by, at)))
        };
        // It began at 480 with 520 held, so that much may be missing.
        check(late(400), 8_000, (0, 0));
        // Empty at 4480, the next picture comes at 4600; it goes on when it holds 500 ms again, at 5080.
        check(late(600), 8_500, (1, 600));
    }

    #[test]
    fn an_end_of_the_media_counts_up_to_the_end_of_the_watching() {
        check(steady(0, 2_000), 5_000, (1, 5_000 - 2_480));
        check([], 5_000, (0, 0));
        // Never began: too little came. It says so instead of stalling.
        let mut player = Player::new(ms(BUFFER_MS));
        player.receive(ms(0), ms(0), ms(40));
        player.finish(ms(9_000));
        assert!(!player.has_begun() && player.stalls() == 0);
    }
}
