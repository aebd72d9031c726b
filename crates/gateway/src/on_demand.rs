//! Streams that begin when somebody asks for them.
//!
//! Owns: which stream a viewer gets: one that runs, or one that is fetched for it; one pull a name however many ask at
//! once, the end of a pull that nobody watches, and the memory of those that failed.
//! Does not own: how a stream is fetched ([`crate::ingest::pull`]), or who the viewers are ([`crate::deliver`]).
//!
//! Two servers that fetch from each other do not recurse: the second request for a name finds the pull that waits for
//! it, and all of them fail when their time is over. A server that is its own source is told so at once.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::watch;
use weir_hub::{PublishError, Stream};
use weir_media::StreamName;

use crate::{
    Gateway,
    ingest::pull::{self, Error, Progress, Source},
    net::STRANGERS,
};

/// How long a viewer waits for the first frame; players give up after ten seconds.
const FIRST_FRAME_WAIT: Duration = Duration::from_secs(8);
/// How long a failure is the answer before the source is asked again.
const FAILURE_KEPT: Duration = Duration::from_secs(5);
/// Failures that are kept at most: anybody can ask for any name.
const FAILURES_MAX: usize = 1_024;
/// How often a pull looks whether anybody watches.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Why there is nothing to play.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Nobody publishes it, and the source, if there is one, does not have it.
    #[error("no such stream is live")]
    NotFound,
    /// It would be one stream too many.
    #[error("the server already runs {0} streams, its limit (MAX_CONCURRENT_STREAMS)")]
    Full(usize),
}

/// A stream that somebody asked for and that does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// Its name.
    pub name: StreamName,
    /// Why its pull failed, in words; `None` while the source is being asked.
    pub failure: Option<String>,
}

/// The streams that are fetched.
#[derive(Debug, Clone)]
pub struct OnDemand {
    source: Option<Arc<Source>>,
    idle_timeout: Duration,
    pulls: Arc<Mutex<Pulls>>,
}

#[derive(Debug, Default)]
struct Pulls {
    running: HashMap<StreamName, Running>,
    failures: HashMap<StreamName, Failure>,
}

#[derive(Debug)]
struct Running {
    progress: watch::Receiver<Progress>,
    /// When somebody last asked for it, or watched.
    wanted: Instant,
}

#[derive(Debug)]
struct Failure {
    answer: Missing,
    reason: String,
    until: Instant,
}

/// What is there for a viewer that asks.
enum Found {
    Stream(Arc<Stream>),
    Pull(watch::Receiver<Progress>),
}

impl OnDemand {
    /// Fetches from `source`, if there is one; stops `idle_timeout` after the last viewer left.
    #[must_use]
    pub fn new(source: Option<Source>, idle_timeout: Duration) -> Self {
        Self {
            source: source.map(Arc::new),
            idle_timeout,
            pulls: Arc::default(),
        }
    }

    /// The streams that were asked for and have no run, in order of names: they are being fetched, or that has failed a
    /// moment ago.
    #[must_use]
    pub fn absent(&self) -> Vec<Absent> {
        let now = Instant::now();
        let pulls = self.pulls.lock();
        let running = pulls.running.iter();
        let asked = running.filter(|(_, running)| running.is_connecting());
        let asked = asked.map(|(name, _)| (name, None));
        let failed = pulls.failures.iter();
        let failed = failed.filter(|(_, failure)| now < failure.until);
        let failed = failed.map(|(name, failure)| (name, Some(failure.reason.clone())));
        let mut absent: Vec<_> = asked
            .chain(failed)
            .map(|(name, failure)| Absent {
                name: name.clone(),
                failure,
            })
            .collect();
        absent.sort_by(|a, b| a.name.cmp(&b.name));
        absent
    }
}

impl Gateway {
    /// The stream of that name: one that runs, or one that is fetched now, once its first frame is out.
    ///
    /// # Errors
    /// There is none, or no room for it.
    pub async fn stream(&self, name: &StreamName) -> Result<Arc<Stream>, Missing> {
        let Some(source) = &self.on_demand.source else {
            return self.hub.get(name).ok_or(Missing::NotFound);
        };
        let mut progress = match self.find(name, source)? {
            Found::Stream(stream) => return Ok(stream),
            Found::Pull(progress) => progress,
        };
        let flows = progress.wait_for(|progress| matches!(progress, Progress::Flowing(_)));
        match tokio::time::timeout(FIRST_FRAME_WAIT, flows).await {
            Ok(Ok(progress)) => progress.stream().cloned().ok_or(Missing::NotFound),
            // The pull is over. It may have failed because a publisher has brought the stream itself.
            Ok(Err(_)) => self.hub.get(name).ok_or_else(|| {
                let pulls = self.on_demand.pulls.lock();
                let failure = pulls.failures.get(name);
                failure.map_or(Missing::NotFound, |failure| failure.answer)
            }),
            Err(_) => Err(Missing::NotFound),
        }
    }

    /// The stream of that name, if it runs. Who asks wants it, as with [`Self::stream`]: its pull goes on.
    #[must_use]
    pub fn running(&self, name: &StreamName) -> Option<Arc<Stream>> {
        if self.on_demand.source.is_some() {
            self.on_demand.pulls.lock().want(name, Instant::now());
        }
        self.hub.get(name)
    }

    fn find(&self, name: &StreamName, source: &Arc<Source>) -> Result<Found, Missing> {
        let now = Instant::now();
        let mut pulls = self.on_demand.pulls.lock();
        if let Some(progress) = pulls.want(name, now) {
            return Ok(Found::Pull(progress.clone()));
        }
        if let Some(stream) = self.hub.get(name) {
            return Ok(Found::Stream(stream));
        }
        if self.tasks.draining().is_cancelled() {
            return Err(Missing::NotFound);
        }
        if let Some(failure) = pulls.failures.get(name)
            && now < failure.until
        {
            return Err(failure.answer);
        }
        let streams_max = self.hub.limits().streams_max;
        let connecting = pulls.running.values().filter(|one| one.is_connecting());
        if self.hub.stream_count() + connecting.count() >= streams_max {
            return Err(Missing::Full(streams_max));
        }
        pulls.failures.remove(name);
        let (report, progress) = watch::channel(Progress::Connecting);
        let running = Running {
            progress: progress.clone(),
            wanted: now,
        };
        pulls.running.insert(name.clone(), running);
        let (gateway, name, source) = (self.clone(), name.clone(), Arc::clone(source));
        self.tasks.spawn(async move {
            tokio::select! {
                error = pull::run(&name, &source, &gateway, &report) => {
                    gateway.pull_failed(&name, &error, &report);
                }
                () = gateway.pull_unwanted(&name, &report) => {
                    let idle_s = gateway.on_demand.idle_timeout.as_secs();
                    tracing::info!(stream = %name, idle_s, "pull stopped: nobody watches");
                }
            }
        });
        Ok(Found::Pull(progress))
    }

    /// Waits until nobody has wanted a pull for a while, and ends its run.
    async fn pull_unwanted(&self, name: &StreamName, report: &watch::Sender<Progress>) {
        // The row of the pull holds a receiver; each viewer that waits for the first frame holds another one.
        const RECEIVERS_IDLE: usize = 1;
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let now = Instant::now();
            let wanted =
                report.receiver_count() > RECEIVERS_IDLE || self.hub.sessions().is_watched(name);
            // Under this lock nobody can find the run between the decision and its end.
            let mut pulls = self.on_demand.pulls.lock();
            let Some(running) = pulls.running.get_mut(name) else {
                return;
            };
            if wanted {
                running.wanted = now;
            } else if now.saturating_duration_since(running.wanted) >= self.on_demand.idle_timeout {
                pulls.running.remove(name);
                if let Some(stream) = report.borrow().stream() {
                    self.hub.end(stream);
                }
                return;
            }
        }
    }

    /// Ends the run of a pull that brought nothing, and keeps the reason for a while.
    fn pull_failed(&self, name: &StreamName, error: &Error, report: &watch::Sender<Progress>) {
        let mut pulls = self.on_demand.pulls.lock();
        pulls.running.remove(name);
        if let Some(stream) = report.borrow().stream() {
            self.hub.end(stream);
        }
        let answer = match error {
            Error::Killed(_) => return,
            Error::Publish(PublishError::StreamLimit(streams_max)) => Missing::Full(*streams_max),
            _ => Missing::NotFound,
        };
        let now = Instant::now();
        let failure = Failure {
            answer,
            reason: error.to_string(),
            until: now + FAILURE_KEPT,
        };
        pulls.keep(name.clone(), failure, now);
        drop(pulls);
        // Anybody can ask for any name, so these lines share the throttle of strangers.
        if let Some(times) = STRANGERS.lock().count(now) {
            tracing::info!(stream = %name, reason = %error, times, "pull failed");
        }
    }
}

impl Running {
    /// Whether it has no run yet.
    fn is_connecting(&self) -> bool {
        self.progress.borrow().stream().is_none()
    }
}

impl Pulls {
    /// The progress of a pull that goes on; somebody wants it now.
    fn want(&mut self, name: &StreamName, now: Instant) -> Option<&watch::Receiver<Progress>> {
        let running = self.running.get_mut(name)?;
        // One that panicked has left its row, and nobody reports to it.
        running.progress.has_changed().ok()?;
        running.wanted = now;
        Some(&running.progress)
    }

    fn keep(&mut self, name: StreamName, failure: Failure, now: Instant) {
        if self.failures.len() >= FAILURES_MAX {
            self.failures.retain(|_, failure| now < failure.until);
        }
        if self.failures.len() >= FAILURES_MAX {
            let first = self
                .failures
                .iter()
                .min_by_key(|(_, failure)| failure.until);
            if let Some(first) = first.map(|(name, _)| name.clone()) {
                self.failures.remove(&first);
            }
        }
        self.failures.insert(name, failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_a_pull_is_noted_while_it_goes_on() {
        let (mut pulls, start) = (Pulls::default(), Instant::now());
        let name = StreamName::parse("demo").expect("a valid name");
        let (report, progress) = watch::channel(Progress::Connecting);
        let running = Running {
            progress,
            wanted: start,
        };
        pulls.running.insert(name.clone(), running);
        let (later, too_late) = (start + LOOK_INTERVAL, start + 2 * LOOK_INTERVAL);
        assert!(pulls.want(&name, later).is_some());
        assert_eq!(pulls.running[&name].wanted, later);
        drop(report);
        assert!(pulls.want(&name, too_late).is_none(), "it is over");
        assert_eq!(pulls.running[&name].wanted, later);
    }

    #[test]
    fn failures_that_are_kept_are_bounded() {
        let mut pulls = Pulls::default();
        let start = Instant::now();
        let name = |number: usize| StreamName::parse(&format!("s{number}")).expect("a valid name");
        for number in 0..=FAILURES_MAX {
            let now = start + Duration::from_micros(number as u64);
            let failure = Failure {
                answer: Missing::NotFound,
                reason: "away".to_owned(),
                until: now + FAILURE_KEPT,
            };
            pulls.keep(name(number), failure, now);
        }
        assert_eq!(pulls.failures.len(), FAILURES_MAX);
        assert!(!pulls.failures.contains_key(&name(0)), "the oldest goes");
        let failure = Failure {
            answer: Missing::NotFound,
            reason: "away".to_owned(),
            until: start + 3 * FAILURE_KEPT,
        };
        pulls.keep(name(0), failure, start + 2 * FAILURE_KEPT);
        assert_eq!(pulls.failures.len(), 1, "what is over goes");
    }
}
