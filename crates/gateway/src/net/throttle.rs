//! Keeps a fault that repeats from filling the log (FAULTS R10): the first is logged, or the first few, then as many
//! lines every ten seconds, with the count of what they stand for.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

const INTERVAL: Duration = Duration::from_secs(10);
/// Lines about strangers in one interval: enough to help somebody whose encoder does not get in.
const STRANGER_LINES: u32 = 100;

/// Connections that come to nothing. Anybody can make any number of them, so they share one throttle.
pub(crate) static STRANGERS: Mutex<Throttle> = Mutex::new(Throttle::lines(STRANGER_LINES));

/// One place that logs, for one connection.
#[derive(Debug)]
pub(crate) struct Throttle {
    lines_max: u32,
    /// Lines since `began`.
    lines: u32,
    began: Option<Instant>,
    /// Occurrences since the last line.
    since: u64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self::lines(1)
    }
}

impl Throttle {
    /// Allows `lines_max` lines in ten seconds.
    const fn lines(lines_max: u32) -> Self {
        Self {
            lines_max,
            lines: 0,
            began: None,
            since: 0,
        }
    }

    /// Counts one occurrence at `now`. When it is time for a line: how many it stands for.
    pub(crate) fn count(&mut self, now: Instant) -> Option<u64> {
        self.since += 1;
        let goes_on = self
            .began
            .is_some_and(|at| now.saturating_duration_since(at) < INTERVAL);
        if !goes_on {
            self.began = Some(now);
            self.lines = 0;
        }
        if self.lines == self.lines_max {
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_faults_in_ten_seconds_are_two_lines() {
        let start = Instant::now();
        let mut throttle = Throttle::default();
        let faults = (0..1_000_000).map(|at| start + Duration::from_micros(at * 11));
        let lines: Vec<u64> = faults.filter_map(|at| throttle.count(at)).collect();
        let before_the_second = INTERVAL.as_micros().div_ceil(11) as u64;
        assert_eq!(lines, [1, before_the_second]);
    }
    #[test]
    fn several_lines_may_pass() {
        let start = Instant::now();
        let mut throttle = Throttle::lines(2);
        let faults = [0, 1, 2, 3, 10, 11, 12].map(|s| start + Duration::from_secs(s));
        let lines = faults.map(|at| throttle.count(at));
        assert_eq!(
            lines,
            [Some(1), Some(1), None, None, Some(3), Some(1), None]
        );
    }
}
