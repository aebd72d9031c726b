//! Keeps a fault that repeats from filling the log (FAULTS R10): the first is logged, then one line every ten seconds
//! with the count.

use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(10);

/// One place that logs, for one connection.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    logged_at: Option<Instant>,
    since: u64,
}

impl Throttle {
    /// Counts one occurrence at `now`. When it is time for a line: how many it stands for.
    pub(crate) fn count(&mut self, now: Instant) -> Option<u64> {
        self.since += 1;
        if self
            .logged_at
            .is_some_and(|at| now.saturating_duration_since(at) < INTERVAL)
        {
            return None;
        }
        self.logged_at = Some(now);
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
}
