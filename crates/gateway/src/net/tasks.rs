//! Every task of the process belongs to one tracker, so that shutdown can wait for all of them.
//!
//! Owns: spawning, the three signals of a shutdown (stop accepting; finish what you do; stop now), and the count of
//! panics: a panic costs one connection.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hyper::rt::Executor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The tracker of all tasks.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    draining: CancellationToken,
    closing: CancellationToken,
    stopped: CancellationToken,
    panics: Arc<AtomicU64>,
}

impl Tasks {
    /// Runs `work` until it ends or everything is stopped.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stopped.clone();
        let panics = Arc::clone(&self.panics);
        // A future has room for what it captures and again for what it awaits; unboxed, each layer around `work` would
        // double it.
        let work = Box::pin(work);
        self.tracker.spawn(async move {
            let _counter = PanicCounter(panics);
            stopped.run_until_cancelled_owned(work).await;
        });
    }

    /// Cancelled when no new connection is to be accepted.
    #[must_use]
    pub fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// Cancelled when a connection is to end as soon as it has finished what it does.
    #[must_use]
    pub fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Ends every task at its next await, and waits for them.
    pub async fn stop(&self) {
        self.draining.cancel();
        self.closing.cancel();
        self.stopped.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// How many tasks ended in a panic.
    #[must_use]
    pub fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// How many tasks run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tracker.len()
    }
}

/// hyper runs each request of an HTTP/2 connection as a task.
impl<F> Executor<F> for Tasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, work: F) {
        self.spawn(work);
    }
}

struct PanicCounter(Arc<AtomicU64>);

impl Drop for PanicCounter {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
