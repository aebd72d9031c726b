//! The registry: which streams run, under which names.
//!
//! Owns: names to runs, the limit on streams, and the end of a run when its grace is over.

use std::{collections::HashMap, sync::Arc, time::Duration, time::Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use weir_media::{SessionClock, StreamName};

use crate::{
    Feed, KeyId, Moment, Publisher, Retention, Role, RunId, Sessions,
    stream::Stream,
};

/// What the hub allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Streams that may run at once (`MAX_CONCURRENT_STREAMS`).
    pub streams_max: usize,
    /// How long a stream waits for its publisher to return.
    pub publisher_grace: Duration,
    /// What the frame feed of a stream keeps: the GOP cache.
    pub gop_cache: Retention,
}

/// Why a publisher cannot have the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Somebody else is publishing it.
    #[error("this stream is already being published by somebody else; stop that publisher or use another name")]
    NameTaken,
    /// The same key took over too often.
    #[error("two publishers with the same key are fighting over this stream; stop one of them")]
    TakeOversTooFast,
    /// The limit on streams is reached.
    #[error("the server already runs {0} streams, its limit (MAX_CONCURRENT_STREAMS)")]
    StreamLimit(usize),
    /// The run ended in this very moment.
    #[error("the stream has just ended; try again")]
    Ended,
}

/// All streams and all sessions of this process.
#[derive(Debug)]
pub struct Hub {
    limits: Limits,
    streams: RwLock<HashMap<StreamName, Arc<Stream>>>,
    /// The newest run and when it began. Taken inside `streams`, never the other way round.
    last_run: Mutex<Option<(RunId, Instant)>>,
    sessions: Arc<Sessions>,
    changes: watch::Sender<u64>,
}

impl Hub {
    /// An empty hub.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            streams: RwLock::default(),
            last_run: Mutex::default(),
            sessions: Arc::default(),
            changes: watch::Sender::new(0),
        })
    }

    /// The table of sessions.
    #[must_use]
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The running stream of that name.
    #[must_use]
    pub fn get(&self, name: &StreamName) -> Option<Arc<Stream>> {
        self.streams.read().get(name).cloned()
    }

    /// Every running stream, in order of names.
    #[must_use]
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        let mut streams: Vec<_> = self.streams.read().values().cloned().collect();
        streams.sort_by(|a, b| a.name().cmp(b.name()));
        streams
    }

    /// How many streams run.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.streams.read().len()
    }

    /// Changes whenever a run begins or ends.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Makes the caller the publisher of `name`: of a new run, of one that waits for its publisher, or, with the same
    /// key, of one that somebody publishes now.
    ///
    /// # Errors
    /// [`PublishError`], in words for the encoder.
    pub fn publish(
        &self,
        name: &StreamName,
        key: Option<KeyId>,
        protocol: &'static str,
        clock: SessionClock,
        now: Moment,
    ) -> Result<Publisher, PublishError> {
        let stream = self.get_or_start(name, now)?;
        let session = self.sessions.open(Role::Publish, protocol, name.clone(), now.at);
        let publisher = stream.attach(session, key, clock, &self.sessions, now.at)?;
        Ok(publisher.with_grace(self.limits.publisher_grace))
    }

    /// Ends the runs whose grace is over and samples bit rates. To be called about once a second.
    pub fn expire(&self, now: Instant) {
        let ended: Vec<_> = self.streams().into_iter().filter(|stream| stream.expire(now)).collect();
        for stream in &ended {
            self.remove(stream);
        }
    }

    /// Ends every run: readers take what is left and see the end.
    pub fn end_all(&self) {
        for stream in self.streams() {
            stream.end();
            self.remove(&stream);
        }
    }

    fn get_or_start(&self, name: &StreamName, now: Moment) -> Result<Arc<Stream>, PublishError> {
        let mut streams = self.streams.write();
        if let Some(stream) = streams.get(name) {
            return Ok(Arc::clone(stream));
        }
        if streams.len() >= self.limits.streams_max {
            return Err(PublishError::StreamLimit(self.limits.streams_max));
        }
        let run = self.next_run(now);
        let stream = Stream::new(name.clone(), run, now, Feed::new(self.limits.gop_cache));
        streams.insert(name.clone(), Arc::clone(&stream));
        drop(streams);
        self.changes.send_modify(|changes| *changes += 1);
        Ok(stream)
    }

    /// A run above everything that the runs before it can have numbered, also when the wall clock was
    /// set back since.
    fn next_run(&self, now: Moment) -> RunId {
        let mut last = self.last_run.lock();
        let above = last.map(|(run, at)| run.plus(now.at.saturating_duration_since(at)));
        let run = RunId::starting(now.wall, above);
        *last = Some((run, now.at));
        run
    }

    fn remove(&self, stream: &Arc<Stream>) {
        let mut streams = self.streams.write();
        if streams.get(stream.name()).is_some_and(|current| Arc::ptr_eq(current, stream)) {
            streams.remove(stream.name());
            drop(streams);
            self.changes.send_modify(|changes| *changes += 1);
        }
    }
}
