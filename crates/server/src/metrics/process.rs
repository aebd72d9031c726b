//! What the process itself costs: processor time and memory, as Linux counts them in `/proc/self` (proc(5)).
//!
//! Owns: reading those files when somebody asks. On a system without them the families are left out.

use std::{
    fmt, fs,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use prometheus_client::encoding::DescriptorEncoder;

use super::family::Families;

/// Clock ticks a second in `/proc/self/stat`: `USER_HZ`, which is 100 on every architecture that we build for.
const TICKS_PER_SECOND: f64 = 100.0;
/// Shortest time over which processor use is measured. Below it a single tick would count for much.
const SAMPLE_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Reads the process when it is asked.
#[derive(Debug)]
pub(super) struct Collector {
    started_at: SystemTime,
    sample: Mutex<Sample>,
}

/// Processor use up to an instant.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    cpu_seconds: f64,
    /// Between the sample before and this one.
    percent: f64,
}

impl Default for Collector {
    fn default() -> Self {
        let cpu_seconds = read_cpu_seconds().unwrap_or_default();
        let sample = Sample {
            at: Instant::now(),
            cpu_seconds,
            percent: 0.0,
        };
        Self {
            started_at: SystemTime::now(),
            sample: Mutex::new(sample),
        }
    }
}

impl prometheus_client::collector::Collector for Collector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        families.info("streaming_build", "What was built.", version)?;
        let started_at = self
            .started_at
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        families.gauge(
            "process_start_time_seconds",
            "When the server started, in seconds since 1970.",
            started_at.as_secs_f64(),
        )?;
        if let Some(cpu_seconds) = read_cpu_seconds() {
            let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
            *sample = sample.next(Instant::now(), cpu_seconds);
            families.gauge(
                "streaming_cpu_percent",
                "Processor use since the last scrape; 100 is one core.",
                sample.percent,
            )?;
            families.counter("process_cpu_seconds", "Processor time used.", cpu_seconds)?;
        }
        if let Some(bytes) = read_memory_bytes() {
            families.gauge("streaming_memory_bytes", "Resident memory.", bytes)?;
            families.gauge("process_resident_memory_bytes", "Resident memory.", bytes)?;
        }
        Ok(())
    }
}

impl Sample {
    /// The sample after this one; the same when too little time has passed.
    fn next(self, at: Instant, cpu_seconds: f64) -> Self {
        let elapsed = at.saturating_duration_since(self.at);
        if elapsed < SAMPLE_INTERVAL_MIN {
            return self;
        }
        let percent = (cpu_seconds - self.cpu_seconds) / elapsed.as_secs_f64() * 100.0;
        Self {
            at,
            cpu_seconds,
            percent,
        }
    }
}

fn read_cpu_seconds() -> Option<f64> {
    cpu_seconds(&fs::read_to_string("/proc/self/stat").ok()?)
}

fn read_memory_bytes() -> Option<u64> {
    memory_bytes(&fs::read_to_string("/proc/self/status").ok()?)
}

/// User and system time in the text of `/proc/self/stat`.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The name of the program comes second, in parentheses, and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    // The fields 14 and 15 of the line; the one after the name is the third.
    let mut times = fields.split_whitespace().skip(11);
    let mut ticks = || times.next()?.parse::<u32>().ok().map(f64::from);
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

/// The resident set in the text of `/proc/self/status`.
fn memory_bytes(status: &str) -> Option<u64> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_processor_time() {
        let stat = "71 (weir) S 1 71 71 0 -1 4194560 900 0 3 0 250 50 7 9 20 0 5 0 100 1 2";
        for (text, expected) in [
            (stat.to_owned(), Some(3.0)),
            (stat.replace("weir", "a ) 1 2 (b"), Some(3.0)),
            (stat.replace("250", "x"), None),
            ("71 (weir) S 1".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(cpu_seconds(&text), expected, "{text}");
        }
    }

    #[test]
    fn reads_the_memory() {
        for (text, expected) in [
            (
                "VmPeak:\t  90 kB\nVmRSS:\t    12 kB\nThreads:\t3\n",
                Some(12 << 10),
            ),
            ("VmRSS:\t    12 MB\n", None),
            ("VmRSS:\t    18446744073709551615 kB\n", None),
            ("", None),
        ] {
            assert_eq!(memory_bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn processor_use_is_measured_between_scrapes() {
        let start = Instant::now();
        let first = Sample {
            at: start,
            cpu_seconds: 5.0,
            percent: 0.0,
        };
        let second = first.next(start + Duration::from_secs(10), 20.0);
        assert!((second.percent - 150.0).abs() < 1e-9, "{second:?}");
        let too_soon = second.next(start + Duration::from_millis(10_900), 99.0);
        assert!((too_soon.percent - 150.0).abs() < 1e-9, "{too_soon:?}");
        let idle = too_soon.next(start + Duration::from_secs(12), 20.0);
        assert!(idle.percent.abs() < 1e-9, "{idle:?}");
    }
}
