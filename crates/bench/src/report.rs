//! What a measurement says, for programs (JSON) and for people (Markdown).
//!
//! Owns: the figures of the report, and when the load generator itself was the limit. Does not own: measuring.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde::Serialize;

use crate::{
    histogram::Percentiles,
    load::{Outcome, Plan},
    publish,
    tally::Counters,
    viewer::WITNESS_EVERY,
};

/// Share of our cores beyond which we may have been too slow to read what the server sent.
const OWN_SHARE_MAX: f64 = 0.85;
/// Lateness of our timers, 99 of 100, beyond which arrival times are not to be trusted.
const LAG_MS_MAX: f64 = 50.0;
/// Share of a core that all other processes together may use before they count as noise.
const OTHERS_CORES_MAX: f64 = 0.25;
/// What costs are related to.
const GB: f64 = 1e9;

/// The report of a measurement with viewers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// `flv`, `rtmp`, …, or `floor`.
    pub kind: String,
    /// Viewers that were to watch.
    pub viewers: usize,
    /// Seconds over which they set out.
    pub ramp_s: f64,
    /// Seconds that were measured behind it.
    pub measured_s: f64,
    /// Milliseconds between two reads of a viewer, but for one in [`WITNESS_EVERY`], which take the times; none if all read
    /// at once.
    pub round_ms: Option<f64>,
    /// Plain sums over all viewers and the whole time.
    pub totals: Counters,
    /// What was not whole, not in order, refused or broken off, and how often.
    pub errors: BTreeMap<String, u64>,
    /// From setting out to the first key frame, or segment.
    pub first_key_ms: Option<Percentiles>,
    /// From the time code to arrival; none if there was no time code.
    pub latency_ms: Option<Percentiles>,
    /// How much later than its best picture a viewer got each one.
    pub lateness_ms: Option<Percentiles>,
    /// From the request for a segment or a part to the first byte of the answer.
    pub answer_ms: Option<Percentiles>,
    /// From the request for a segment or a part to its last byte.
    pub fetch_ms: Option<Percentiles>,
    /// How much later than the first viewer others got the same playlist, of those that were waited for.
    pub release_ms: Option<Percentiles>,
    /// Megabits a second within the measured time.
    pub mbit_per_s: f64,
    /// Megabits of each second from the start.
    pub mbit_of_each_second: Vec<f64>,
    /// What the server cost within the measured time; none if no process was named.
    pub server: Option<Costs>,
    /// What the load generator cost.
    pub own: Own,
    /// Cores that everybody else on this machine kept busy; a server that is not metered is one of them.
    pub others_cores: f64,
}

/// What the server cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Costs {
    /// Processor time.
    pub cpu_seconds: f64,
    /// The same as a share of one core.
    pub cpu_percent: f64,
    /// The same for each gigabyte (10^9 bytes) that viewers got.
    pub cpu_seconds_per_gb: f64,
    /// The most memory it had, megabytes (10^6 bytes).
    pub rss_mb_max: f64,
}

/// What the load generator cost, and whether it was the limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Own {
    /// Processor time within the measured time.
    pub cpu_seconds: f64,
    /// The same as a share of all cores that we may use.
    pub cpu_percent_of_cores: f64,
    /// Cores that we may use.
    pub cores: usize,
    /// Memory at the end, megabytes.
    pub rss_mb: f64,
    /// How late our timers were.
    pub lag_ms: Option<Percentiles>,
    /// Why the figures say more of the load generator than of the server; none if they do not.
    pub bottleneck: Option<String>,
}

impl Report {
    /// The report of what came of a plan.
    #[must_use]
    pub fn new(kind: &str, plan: &Plan, outcome: &Outcome) -> Self {
        let Outcome {
            tally,
            measured,
            per_second,
            server,
            own,
            cores,
            machine_cpu_seconds,
        } = outcome;
        let seconds = measured.as_secs_f64();
        let bytes = tally.counters.measured_bytes as f64;
        let share = |cpu_seconds: f64, cores: usize| {
            if measured.is_zero() {
                0.0
            } else {
                cpu_seconds / seconds / cores as f64
            }
        };
        let mbit = |bytes: f64| bytes * 8.0 / 1e6;
        let known = own.cpu_seconds + server.map_or(0.0, |server| server.cpu_seconds);
        let own_share = share(own.cpu_seconds, *cores);
        let lag_ms = tally.lag.percentiles();
        Self {
            kind: kind.to_owned(),
            viewers: plan.viewers,
            ramp_s: plan.ramp.as_secs_f64(),
            measured_s: seconds,
            round_ms: plan.round.map(|round| round.as_secs_f64() * 1e3),
            totals: tally.counters,
            errors: tally.errors.clone(),
            first_key_ms: tally.first_key.percentiles(),
            latency_ms: tally.latency.percentiles(),
            lateness_ms: tally.lateness.percentiles(),
            answer_ms: tally.answer.percentiles(),
            fetch_ms: tally.fetch.percentiles(),
            release_ms: tally.release.percentiles(),
            mbit_per_s: if measured.is_zero() {
                0.0
            } else {
                mbit(bytes) / seconds
            },
            mbit_of_each_second: per_second.iter().map(|bytes| mbit(*bytes as f64)).collect(),
            server: server.map(|usage| Costs {
                cpu_seconds: usage.cpu_seconds,
                cpu_percent: share(usage.cpu_seconds, 1) * 100.0,
                cpu_seconds_per_gb: if bytes > 0.0 {
                    usage.cpu_seconds / (bytes / GB)
                } else {
                    0.0
                },
                rss_mb_max: usage.rss_bytes as f64 / 1e6,
            }),
            own: Own {
                cpu_seconds: own.cpu_seconds,
                cpu_percent_of_cores: own_share * 100.0,
                cores: *cores,
                rss_mb: own.rss_bytes as f64 / 1e6,
                lag_ms,
                bottleneck: bottleneck(own_share, lag_ms, *measured),
            },
            others_cores: share((machine_cpu_seconds - known).max(0.0), 1),
        }
    }

    /// Whether every viewer was served, whole and without a stop.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let totals = &self.totals;
        let missing = totals.skipped_pictures + totals.skipped_segments;
        self.errors.is_empty()
            && totals.viewers_served == self.viewers as u64
            && totals.stalls == 0
            && missing == 0
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> String {
        to_json(self)
    }

    /// For people: a table.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut rows = Rows::new(&format!("{} × {}", self.viewers, self.kind));
        let totals = &self.totals;
        rows.put(
            "measured",
            format!(
                "{:.1} s after a ramp of {:.1} s",
                self.measured_s, self.ramp_s
            ),
        );
        rows.put(
            "served",
            format!("{} of {} viewers", totals.viewers_served, self.viewers),
        );
        if let Some(ms) = self.round_ms {
            let timed = format!("every {ms:.0} ms; times are of one viewer in {WITNESS_EVERY}");
            rows.put("read", timed);
        }
        rows.put("errors", self.errors.values().sum::<u64>());
        for (error, count) in &self.errors {
            rows.put("", format!("{count} × {error}"));
        }
        rows.put(
            "stalls",
            format!(
                "{} in {} viewers, {:.1} s in all",
                totals.stalls,
                totals.viewers_stalled,
                totals.stalled_ms as f64 / 1e3
            ),
        );
        if totals.playlists > 0 {
            rows.put(
                "fetched",
                format!(
                    "{} playlists, {} parts, {} segments; {} segments missed",
                    totals.playlists, totals.parts, totals.segments, totals.skipped_segments
                ),
            );
            if totals.compared_segments > 0 {
                let compared = format!("{} segments", totals.compared_segments);
                rows.put("compared with their parts", compared);
            }
            rows.put("asked again after a failure", totals.retries);
        } else {
            rows.put(
                "frames",
                format!(
                    "{}, {} pictures left out",
                    totals.frames, totals.skipped_pictures
                ),
            );
        }
        rows.percentiles("first key frame", self.first_key_ms);
        rows.percentiles("latency", self.latency_ms);
        rows.percentiles("lateness", self.lateness_ms);
        rows.percentiles("first byte", self.answer_ms);
        rows.percentiles("fetch", self.fetch_ms);
        rows.percentiles("release after the first", self.release_ms);
        rows.put("throughput", format!("{:.1} Mbit/s", self.mbit_per_s));
        self.put_costs(&mut rows);
        rows.0
    }

    fn put_costs(&self, rows: &mut Rows) {
        if let Some(server) = self.server {
            rows.put(
                "server",
                format!(
                    "{:.2} CPU-s ({:.1} % of a core), **{:.3} CPU-s/GB**, {:.1} MB at most",
                    server.cpu_seconds,
                    server.cpu_percent,
                    server.cpu_seconds_per_gb,
                    server.rss_mb_max
                ),
            );
        }
        let own = &self.own;
        rows.put(
            "load generator",
            format!(
                "{:.2} CPU-s ({:.1} % of {} cores), {:.1} MB",
                own.cpu_seconds, own.cpu_percent_of_cores, own.cores, own.rss_mb
            ),
        );
        rows.percentiles("its timers' lag", own.lag_ms);
        if self.server.is_some() && self.others_cores > OTHERS_CORES_MAX {
            let others = format!("**noise**: they kept {:.1} cores busy", self.others_cores);
            rows.put("other processes", others);
        }
        if let Some(why) = &own.bottleneck {
            rows.put("**not valid**", why);
        }
    }
}

impl publish::Summary {
    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> String {
        to_json(self)
    }

    /// For people: a table.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut rows = Rows::new(&format!("{} × publish", self.streams));
        rows.put(
            "granted",
            format!("{} of {} streams", self.granted, self.streams),
        );
        rows.put(
            "sent",
            format!("{} frames, {:.1} MB", self.frames, self.bytes as f64 / 1e6),
        );
        rows.percentiles("lateness", self.lateness_ms);
        rows.put("failed", self.failures.len());
        for failure in &self.failures {
            rows.put("", failure);
        }
        rows.0
    }
}

/// A table of two columns.
struct Rows(String);

impl Rows {
    fn new(title: &str) -> Self {
        Self(format!("| {title} | |\n| --- | --- |\n"))
    }

    fn put(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "| {name} | {value} |");
    }

    fn percentiles(&mut self, name: &str, of: Option<Percentiles>) {
        if let Some(of) = of {
            self.put(
                name,
                format!(
                    "p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
                    of.p50, of.p95, of.p99, of.max
                ),
            );
        }
    }
}

fn bottleneck(own_share: f64, lag_ms: Option<Percentiles>, measured: Duration) -> Option<String> {
    if measured.is_zero() {
        return Some("nothing was measured: the run ended within its ramp".to_owned());
    }
    if own_share > OWN_SHARE_MAX {
        let percent = own_share * 100.0;
        return Some(format!(
            "the load generator was the limit: it used {percent:.0} % of its cores"
        ));
    }
    let lag_ms = lag_ms.map_or(0.0, |lag| lag.p99);
    (lag_ms > LAG_MS_MAX)
        .then(|| format!("the load generator was the limit: its timers were {lag_ms:.0} ms late"))
}

fn to_json(value: &impl Serialize) -> String {
    // Maps with text for keys and plain numbers can always be written.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{process::Usage, tally::Tally, viewer::Protocol};

    fn plan() -> Plan {
        Plan {
            protocol: Protocol::Flv,
            url: "http://h/a.flv".to_owned(),
            streams: 1,
            viewers: 2,
            ramp: Duration::from_secs(1),
            duration: Duration::from_secs(10),
            buffer: None,
            round: None,
            fetches: true,
            threads: None,
            sources: Vec::new(),
        }
    }

    fn outcome(own_cpu_seconds: f64, lag_ms: u64) -> Outcome {
        let mut tally = Tally::new();
        tally.measuring = true;
        tally.read(500_000_000);
        tally.error("a timestamp went back");
        tally.lagged(Duration::from_millis(lag_ms));
        let usage = |cpu_seconds| Usage {
            cpu_seconds,
            rss_bytes: 30_000_000,
        };
        Outcome {
            tally,
            measured: Duration::from_secs(10),
            per_second: vec![125_000_000],
            server: Some(usage(0.5)),
            own: usage(own_cpu_seconds),
            cores: 2,
            machine_cpu_seconds: 0.5 + own_cpu_seconds + 1.0,
        }
    }

    #[test]
    fn costs_are_related_to_what_viewers_got() {
        let report = Report::new("flv", &plan(), &outcome(4.0, 1));
        let server = report.server.expect("it was metered");
        assert!((server.cpu_seconds_per_gb - 1.0).abs() < 1e-9, "{server:?}");
        assert!((server.cpu_percent - 5.0).abs() < 1e-9, "{server:?}");
        assert!((report.mbit_per_s - 400.0).abs() < 1e-9);
        assert_eq!(report.mbit_of_each_second, [1_000.0]);
        assert_eq!(report.own.bottleneck, None);
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).expect("JSON");
        assert_eq!(json["errors"]["a timestamp went back"], 1);
        let markdown = report.to_markdown();
        for line in [
            "| 2 × flv | |\n| --- | --- |\n",
            "| errors | 1 |\n|  | 1 × a timestamp went back |\n",
            "| server | 0.50 CPU-s (5.0 % of a core), **1.000 CPU-s/GB**, 30.0 MB at most |\n",
        ] {
            assert!(markdown.contains(line), "{markdown}");
        }
    }

    #[test]
    fn rounds_are_said() {
        let slow = Plan {
            round: Some(Duration::from_millis(100)),
            ..plan()
        };
        let markdown = |plan: &Plan| Report::new("flv", plan, &outcome(4.0, 1)).to_markdown();
        let line = "| read | every 100 ms; times are of one viewer in 10 |\n";
        assert!(markdown(&slow).contains(line), "{}", markdown(&slow));
        assert!(!markdown(&plan()).contains("| read |"));
    }

    #[test]
    fn good_is_whole_and_without_a_stop() {
        let good = Counters {
            viewers_served: 2,
            retries: 1,
            ..Counters::default()
        };
        let is_good = |counters: Counters| {
            let mut outcome = outcome(1.0, 1);
            outcome.tally.errors.clear();
            outcome.tally.counters = counters;
            Report::new("flv", &plan(), &outcome).is_good()
        };
        assert!(is_good(good));
        let changes: [fn(&mut Counters); 4] = [
            |counters| counters.viewers_served = 1,
            |counters| counters.stalls = 1,
            |counters| counters.skipped_pictures = 1,
            |counters| counters.skipped_segments = 1,
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut bad = good;
            change(&mut bad);
            assert!(!is_good(bad), "{index}");
        }
        let mut outcome = outcome(1.0, 1);
        outcome.tally.counters = good;
        assert!(!Report::new("flv", &plan(), &outcome).is_good(), "errors");
    }

    #[test]
    fn a_busy_machine_is_noise() {
        let mut outcome = outcome(4.0, 1);
        let noise = "| other processes | **noise**: they kept 0.3 cores busy |";
        assert!(
            !Report::new("flv", &plan(), &outcome)
                .to_markdown()
                .contains("noise")
        );
        outcome.machine_cpu_seconds += 2.0;
        let report = Report::new("flv", &plan(), &outcome);
        assert!(
            report.to_markdown().contains(noise),
            "{}",
            report.to_markdown()
        );
    }

    #[test]
    fn it_says_when_it_was_the_limit_itself() {
        let bottleneck = |outcome: &Outcome| {
            Report::new("flv", &plan(), outcome)
                .own
                .bottleneck
                .unwrap_or_default()
        };
        assert_eq!(bottleneck(&outcome(16.9, 49)), "");
        assert!(bottleneck(&outcome(17.5, 1)).contains("88 % of its cores"));
        assert!(bottleneck(&outcome(1.0, 60)).contains("60 ms late"));
        let too_short = Outcome {
            measured: Duration::ZERO,
            ..outcome(0.0, 0)
        };
        assert!(bottleneck(&too_short).contains("nothing was measured"));
    }
}
