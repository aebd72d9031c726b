//! Percentiles of millions of samples in constant memory.
//!
//! Owns: counting durations in buckets that are a thirty-second of their value wide, so that a percentile is right to
//! 3 %. Does not own: what is measured.

use std::time::Duration;

use serde::Serialize;

/// Buckets within each doubling.
const STEPS: usize = 32;
const STEPS_LOG2: u32 = STEPS.trailing_zeros();
/// Doublings behind the exact part: 2^36 µs are 19 hours, and whatever is longer counts as that.
const DOUBLINGS: usize = 31;
const BUCKETS: usize = STEPS * (DOUBLINGS + 1);

/// Counts of durations.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max_us: u64,
}

/// The percentiles of a report, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// Samples behind the figures.
    pub count: u64,
    /// Half of them are at most this.
    pub p50: f64,
    /// 95 of 100.
    pub p95: f64,
    /// 99 of 100.
    pub p99: f64,
    /// The greatest, exact to the microsecond.
    pub max: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS],
            count: 0,
            max_us: 0,
        }
    }
}

impl Histogram {
    /// Counts one sample.
    pub fn record(&mut self, sample: Duration) {
        let us = crate::time_code::micros(sample);
        if let Some(bucket) = self.buckets.get_mut(bucket_of(us)) {
            *bucket += 1;
        }
        self.count += 1;
        self.max_us = self.max_us.max(us);
    }

    /// Adds the samples of another one.
    pub fn merge(&mut self, other: &Self) {
        for (ours, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *ours += theirs;
        }
        self.count += other.count;
        self.max_us = self.max_us.max(other.max_us);
    }

    /// The least duration, in microseconds, that at least `fraction` of all samples do not exceed. 0 without samples.
    #[must_use]
    pub fn quantile_us(&self, fraction: f64) -> u64 {
        let wanted = (self.count as f64 * fraction).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return upper_us(index).min(self.max_us);
            }
        }
        self.max_us
    }

    /// The percentiles of a report; none without samples.
    #[must_use]
    pub fn percentiles(&self) -> Option<Percentiles> {
        let ms = |us: u64| us as f64 / 1_000.0;
        (self.count > 0).then(|| Percentiles {
            count: self.count,
            p50: ms(self.quantile_us(0.50)),
            p95: ms(self.quantile_us(0.95)),
            p99: ms(self.quantile_us(0.99)),
            max: ms(self.max_us),
        })
    }
}

/// Exact below [`STEPS`], then [`STEPS`] buckets for each doubling.
fn bucket_of(us: u64) -> usize {
    let doubling = us.max(STEPS as u64).ilog2() - STEPS_LOG2;
    let step = usize::try_from(us >> doubling).unwrap_or(usize::MAX);
    if us < STEPS as u64 {
        return step;
    }
    (STEPS * doubling as usize)
        .saturating_add(step)
        .min(BUCKETS - 1)
}

/// The greatest value that falls into a bucket.
fn upper_us(index: usize) -> u64 {
    if index < STEPS {
        return index as u64;
    }
    let (doubling, step) = (index / STEPS - 1, index % STEPS + STEPS);
    (((step as u64) + 1) << doubling) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(samples: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        for us in samples {
            histogram.record(Duration::from_micros(us));
        }
        histogram
    }

    #[test]
    fn percentiles_of_known_samples() {
        let hundred = of(1..=100);
        for (fraction, exact) in [(0.50, 50), (0.95, 95), (0.99, 99), (1.0, 100), (0.0, 1)] {
            let found = hundred.quantile_us(fraction);
            let most = exact + exact / STEPS as u64 + 1;
            assert!((exact..=most).contains(&found), "{fraction}: {found}");
        }
        let shown = hundred.percentiles().expect("there are samples");
        assert_eq!((shown.count, shown.max), (100, 0.1));
        // One in a hundred does not move p99, two do.
        assert!(of((0..99).map(|_| 10).chain([5_000])).quantile_us(0.99) < 12);
        assert!(of((0..98).map(|_| 10).chain([5_000; 2])).quantile_us(0.99) >= 5_000);
    }

    #[test]
    fn nothing_has_no_percentiles() {
        assert_eq!(Histogram::default().percentiles(), None);
    }

    #[test]
    fn merging_is_counting_together() {
        let mut merged = of([1, 2, 3]);
        merged.merge(&of([900, 1_000_000]));
        let together = of([1, 2, 3, 900, 1_000_000]);
        assert_eq!(merged.percentiles(), together.percentiles());
    }

    proptest! {
        #[test]
        fn a_bucket_is_at_most_a_thirty_second_wide(us in 0u64..1 << 36) {
            let upper = upper_us(bucket_of(us));
            prop_assert!(upper >= us && upper - us <= us / STEPS as u64, "{us} {upper}");
        }

        #[test]
        fn any_duration_is_counted(us: u64) {
            prop_assert_eq!(of([us]).quantile_us(0.5) > 0, us > 0);
        }
    }
}
