//! The sums over the viewers of one thread.
//!
//! Owns: counters, histograms and the kinds of errors, and adding threads up. Each thread has its own and alone writes
//! it; whoever reports locks it once a second. Does not own: percentiles ([`crate::histogram`]) or their report.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{histogram::Histogram, stall};

/// Different errors that are kept; servers fail in few ways, and texts of theirs must not pile up.
const ERROR_KINDS_MAX: usize = 32;
/// What further ones count as.
const OTHER_ERRORS: &str = "other errors";

/// What viewers have had and done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Viewers that set out.
    pub viewers_started: u64,
    /// Viewers that got the stream: their first key frame, or their first segment.
    pub viewers_served: u64,
    /// Viewers whose model of a player began to play.
    pub viewers_played: u64,
    /// Viewers whose player stopped at least once.
    pub viewers_stalled: u64,
    /// How often all players stopped.
    pub stalls: u64,
    /// How long they stood still, all together.
    pub stalled_ms: u64,
    /// Bytes from the sockets.
    pub bytes: u64,
    /// Bytes from the sockets within the measured time.
    pub measured_bytes: u64,
    /// Reads that gave some.
    pub reads: u64,
    /// Frames of audio and video.
    pub frames: u64,
    /// Pictures that the server left out, by their numbers.
    pub skipped_pictures: u64,
    /// Bodies of a kind that the judge does not know.
    pub unknown_bodies: u64,
    /// Segments fetched whole.
    pub segments: u64,
    /// Segments that had left the playlist before they could be fetched.
    pub skipped_segments: u64,
    /// Parts fetched whole.
    pub parts: u64,
    /// Segments that were fetched beside their parts and compared with them.
    pub compared_segments: u64,
    /// Playlists or manifests fetched.
    pub playlists: u64,
    /// Requests that failed and were made again.
    pub retries: u64,
}

/// What the viewers of a thread add up to.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Whether the ramp is over: lateness, latency and the measured bytes count only then.
    pub measuring: bool,
    /// Plain sums.
    pub counters: Counters,
    /// What was wrong, and how often.
    pub errors: BTreeMap<String, u64>,
    /// From setting out to the first whole key frame, or segment.
    pub first_key: Histogram,
    /// From the time code to arrival.
    pub latency: Histogram,
    /// How much later than its best picture a viewer got each one.
    pub lateness: Histogram,
    /// How long segments and parts took from request to the first byte of the answer.
    pub answer: Histogram,
    /// How long segments and parts took from request to last byte.
    pub fetch: Histogram,
    /// How much later than the first viewer others got the same playlist that all had waited for.
    pub release: Histogram,
    /// How late the timers of the load generator were.
    pub lag: Histogram,
}

impl Tally {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            measuring: false,
            counters: Counters::default(),
            errors: BTreeMap::new(),
            first_key: Histogram::default(),
            latency: Histogram::default(),
            lateness: Histogram::default(),
            answer: Histogram::default(),
            fetch: Histogram::default(),
            release: Histogram::default(),
            lag: Histogram::default(),
        }
    }

    /// Counts an error.
    pub fn error(&mut self, text: &str) {
        if let Some(count) = self.errors.get_mut(text) {
            *count += 1;
            return;
        }
        let is_full = self.errors.len() >= ERROR_KINDS_MAX;
        let text = if is_full { OTHER_ERRORS } else { text };
        *self.errors.entry(text.to_owned()).or_default() += 1;
    }

    /// Counts bytes that one read gave.
    pub fn read(&mut self, len: usize) {
        self.counters.reads += 1;
        self.counters.bytes += len as u64;
        if self.measuring {
            self.counters.measured_bytes += len as u64;
        }
    }

    /// Counts how late a picture was.
    pub fn late(&mut self, by: Duration) {
        if self.measuring {
            self.lateness.record(by);
        }
    }

    /// Counts how old a picture was on arrival.
    pub fn latency(&mut self, age: Duration) {
        if self.measuring {
            self.latency.record(age);
        }
    }

    /// Counts how long a segment took, and the first byte of its answer.
    pub fn fetched(&mut self, answer: Duration, took: Duration) {
        if self.measuring {
            self.answer.record(answer);
            self.fetch.record(took);
        }
    }

    /// Counts how much later than the first a playlist came that was waited for.
    pub fn released(&mut self, after_first: Duration) {
        if self.measuring {
            self.release.record(after_first);
        }
    }

    /// Counts how late a timer was.
    pub fn lagged(&mut self, by: Duration) {
        if self.measuring {
            self.lag.record(by);
        }
    }

    /// Adds another thread.
    pub fn merge(&mut self, other: &Self) {
        self.counters.merge(&other.counters);
        for (text, count) in &other.errors {
            *self.errors.entry(text.clone()).or_default() += count;
        }
        self.first_key.merge(&other.first_key);
        self.latency.merge(&other.latency);
        self.lateness.merge(&other.lateness);
        self.answer.merge(&other.answer);
        self.fetch.merge(&other.fetch);
        self.release.merge(&other.release);
        self.lag.merge(&other.lag);
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

impl Counters {
    /// Counts what a viewer's player has gone through.
    pub fn played(&mut self, player: &stall::Player) {
        self.stalls += u64::from(player.stalls());
        self.stalled_ms += u64::try_from(player.stalled().as_millis()).unwrap_or(u64::MAX);
        self.viewers_stalled += u64::from(player.stalls() > 0);
        self.viewers_played += u64::from(player.has_begun());
    }

    /// Adds others.
    pub fn merge(&mut self, other: &Self) {
        let Self {
            viewers_started,
            viewers_served,
            viewers_played,
            viewers_stalled,
            stalls,
            stalled_ms,
            bytes,
            measured_bytes,
            reads,
            frames,
            skipped_pictures,
            unknown_bodies,
            segments,
            skipped_segments,
            parts,
            compared_segments,
            playlists,
            retries,
        } = other;
        self.viewers_started += viewers_started;
        self.viewers_served += viewers_served;
        self.viewers_played += viewers_played;
        self.viewers_stalled += viewers_stalled;
        self.stalls += stalls;
        self.stalled_ms += stalled_ms;
        self.bytes += bytes;
        self.measured_bytes += measured_bytes;
        self.reads += reads;
        self.frames += frames;
        self.skipped_pictures += skipped_pictures;
        self.unknown_bodies += unknown_bodies;
        self.segments += segments;
        self.skipped_segments += skipped_segments;
        self.parts += parts;
        self.compared_segments += compared_segments;
        self.playlists += playlists;
        self.retries += retries;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_a_bounded_number_of_kinds() {
        let mut tally = Tally::new();
        for index in 0..1_000 {
            tally.error(&format!("error {index}"));
        }
        assert_eq!(tally.errors.len(), ERROR_KINDS_MAX + 1);
        assert_eq!(tally.errors.values().sum::<u64>(), 1_000);
    }

    #[test]
    fn threads_add_up() {
        let mut one = Tally::new();
        one.measuring = true;
        one.read(100);
        one.error("a");
        let mut two = Tally::new();
        two.read(10);
        two.error("a");
        two.error("b");
        one.merge(&two);
        assert_eq!(
            (one.counters.bytes, one.counters.measured_bytes),
            (110, 100)
        );
        assert_eq!(one.errors.values().copied().collect::<Vec<_>>(), [2, 1]);
    }
}
