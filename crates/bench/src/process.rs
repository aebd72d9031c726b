//! What a process, or one thread of ours, costs: processor time and memory, as Linux counts them in `/proc` (proc(5)).
//!
//! Owns: reading those files. Does not own: when.

use std::{fs, io, path::PathBuf};

/// Clock ticks a second in `stat`: `USER_HZ`, which is 100 on every architecture that we build for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Whose costs are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meter {
    folders: Vec<PathBuf>,
}

/// The costs so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Processor time of all threads, in user and in system mode.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub rss_bytes: u64,
}

impl Usage {
    /// What has been used since `earlier`, with another figure for the memory.
    #[must_use]
    pub fn since(self, earlier: Self, rss_bytes: u64) -> Self {
        Self {
            cpu_seconds: self.cpu_seconds - earlier.cpu_seconds,
            rss_bytes,
        }
    }
}

impl Meter {
    /// Of all these processes together; a server may have workers.
    ///
    /// # Errors
    /// One of them does not run, or may not be looked at.
    pub fn of_processes(pids: &[u32]) -> io::Result<Self> {
        let folder = |pid: &u32| PathBuf::from(format!("/proc/{pid}"));
        let meter = Self {
            folders: pids.iter().map(folder).collect(),
        };
        meter.read().map(|_| meter)
    }

    /// Of this process.
    #[must_use]
    pub fn of_ourselves() -> Self {
        Self {
            folders: vec![PathBuf::from("/proc/self")],
        }
    }

    /// Of the calling thread, readable from any other.
    #[must_use]
    pub fn of_this_thread() -> Self {
        let id = rustix::thread::gettid().as_raw_nonzero();
        Self {
            folders: vec![PathBuf::from(format!("/proc/self/task/{id}"))],
        }
    }

    /// Reads the costs so far.
    ///
    /// # Errors
    /// The process has ended.
    pub fn read(&self) -> io::Result<Usage> {
        let mut usage = Usage::default();
        for folder in &self.folders {
            let stat = fs::read_to_string(folder.join("stat"))?;
            let status = fs::read_to_string(folder.join("status"))?;
            let damaged = || io::Error::from(io::ErrorKind::InvalidData);
            usage.cpu_seconds += cpu_seconds(&stat).ok_or_else(damaged)?;
            usage.rss_bytes += rss_bytes(&status).ok_or_else(damaged)?;
        }
        Ok(usage)
    }
}

/// Processor time that all processes of the machine have used so far, the system's own included.
///
/// # Errors
/// `/proc/stat` cannot be read.
pub fn machine_cpu_seconds() -> io::Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    busy_seconds(&stat).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The time in the text of `/proc/stat` that was not idle; what the host took away from a virtual machine counts too.
fn busy_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.lines().next()?.split_whitespace();
    if fields.next() != Some("cpu") {
        return None;
    }
    let ticks: Vec<f64> = fields.map_while(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; what follows is contained in the first two.
    let &[user, nice, system, _, _, irq, softirq, steal, ..] = &ticks[..] else {
        return None;
    };
    Some((user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND)
}

/// User and system time in the text of `stat`.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The name of the program comes second, in parentheses, and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    // The fields 14 and 15 of the line; the one after the name is the third.
    let mut times = fields.split_whitespace().skip(11);
    let mut ticks = || times.next()?.parse::<u32>().ok().map(f64::from);
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

/// The resident set in the text of `status`.
fn rss_bytes(status: &str) -> Option<u64> {
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
        let stat = "71 (a ) 1 2 (b) S 1 71 71 0 -1 4194560 900 0 3 0 250 50 7 9 20 0 5 0 100 1 2";
        for (text, expected) in [
            (stat.to_owned(), Some(3.0)),
            (stat.replace("250", "x"), None),
            ("71 (weir) S 1".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(cpu_seconds(&text), expected, "{text}");
        }
    }

    #[test]
    fn reads_the_memory() {
        let status = "VmPeak:\t  90 kB\nVmRSS:\t    12 kB\nThreads:\t3\n";
        assert_eq!(rss_bytes(status), Some(12 << 10));
        assert_eq!(rss_bytes("VmRSS:\t    12 MB\n"), None);
        assert_eq!(rss_bytes(""), None);
    }

    #[test]
    fn reads_what_the_machine_does() {
        let stat = "cpu  100 20 30 9999 888 1 2 47 5 6\ncpu0 1 2 3\n";
        assert_eq!(busy_seconds(stat), Some(2.0));
        assert_eq!(busy_seconds("cpu 1 2 3\n"), None);
        assert_eq!(busy_seconds("intr 1 2 3 4 5 6 7 8\n"), None);
        assert!(machine_cpu_seconds().is_ok());
    }

    #[test]
    fn measures_itself_and_not_the_dead() {
        let own = Meter::of_ourselves().read().expect("it runs");
        assert!(own.rss_bytes > 1 << 20);
        assert!(Meter::of_this_thread().read().is_ok());
        assert!(Meter::of_processes(&[std::process::id()]).is_ok());
        assert!(Meter::of_processes(&[u32::MAX]).is_err());
    }
}
