//! Threads with a runtime each, so that what runs on one is never moved and never contended.
//!
//! Owns: starting them, telling them that all is over, and waiting for them. Does not own: what they do.

use std::{io, thread};

use tokio::{runtime, sync::watch};

/// Some threads that work until all is over.
#[derive(Debug)]
pub(crate) struct Crew {
    over: watch::Sender<bool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Crew {
    pub(crate) fn new() -> Self {
        Self {
            over: watch::channel(false).0,
            threads: Vec::new(),
        }
    }

    /// Cores that we may use.
    pub(crate) fn cores() -> usize {
        thread::available_parallelism().map_or(1, usize::from)
    }

    /// Changes when all is over.
    pub(crate) fn over(&self) -> watch::Receiver<bool> {
        self.over.subscribe()
    }

    /// Runs `work` on a thread of its own.
    pub(crate) fn spawn(
        &mut self,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let thread = thread::Builder::new().name("bench".to_owned());
        self.threads
            .push(thread.spawn(move || runtime.block_on(work))?);
        Ok(())
    }

    /// Whether every thread has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.threads.iter().all(thread::JoinHandle::is_finished)
    }

    /// Says that all is over and waits; how many threads panicked.
    pub(crate) fn end(&mut self) -> usize {
        self.over.send_replace(true);
        let ended = self.threads.drain(..).map(thread::JoinHandle::join);
        ended.filter(Result::is_err).count()
    }
}

impl Drop for Crew {
    /// Nobody is left behind when something goes wrong half-way.
    fn drop(&mut self) {
        self.end();
    }
}
