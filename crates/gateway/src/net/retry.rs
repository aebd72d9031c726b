//! Trying again: how long to wait after a failure.

use std::time::Duration;

/// The longest wait before the first new attempt; it doubles with each failure. The shortest is half of it.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest wait before any attempt.
pub(crate) const RETRY_MAX: Duration = Duration::from_secs(15);

/// How long to wait after so many failures in a row: from half of the longest wait to the whole of it, by chance.
pub(crate) fn retry_wait(failures: u32) -> Duration {
    // Without randomness everybody returns at once to a server that was away, which is no failure of this one.
    wait(failures, getrandom::u64().unwrap_or_default())
}

fn wait(failures: u32, random: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let longest = RETRY_FIRST.saturating_mul(1 << doublings).min(RETRY_MAX);
    let share = (random as f64 / u64::MAX as f64).clamp(0.0, 1.0);
    longest.mul_f64(0.5 + share / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_apart() {
        for (failures, shortest_ms, longest_ms) in [
            (1, 500, 1_000),
            (2, 1_000, 2_000),
            (4, 4_000, 8_000),
            (5, 7_500, 15_000),
            (u32::MAX, 7_500, 15_000),
        ] {
            let waits = [0, u64::MAX].map(|random| wait(failures, random).as_millis());
            assert_eq!(waits, [shortest_ms, longest_ms], "{failures}");
        }
    }
}
