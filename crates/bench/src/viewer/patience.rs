//! What a player does when a request fails: it asks again, as players do that people use.
//!
//! Owns: how often and after what pause. Does not own: what is asked again.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::sleep;

use super::Error;
use crate::tally::Tally;

/// Attempts in a row that fail before a player gives up: as many as hls.js makes for a segment.
const RETRIES_MAX: u32 = 6;
/// The pause before the second attempt, doubled for each further one: that of hls.js.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause: that of hls.js.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// How a player bears failures.
pub(super) struct Patience {
    tally: Arc<Mutex<Tally>>,
    failures: u32,
    last: Option<Error>,
}

impl Patience {
    pub(super) fn new(tally: &Arc<Mutex<Tally>>) -> Self {
        Self {
            tally: Arc::clone(tally),
            failures: 0,
            last: None,
        }
    }

    /// Waits until it is time to ask again.
    ///
    /// # Errors
    /// The error, if it is not one that passes or has come too often.
    pub(super) async fn bear(&mut self, error: Error) -> Result<(), Error> {
        if !error.may_pass() || self.failures >= RETRIES_MAX {
            return Err(error);
        }
        let pause = (PAUSE * 2_u32.pow(self.failures)).min(PAUSE_MAX);
        self.failures += 1;
        self.last = Some(error);
        self.tally.lock().counters.retries += 1;
        sleep(pause).await;
        Ok(())
    }

    /// It has worked again.
    pub(super) fn recover(&mut self) {
        self.failures = 0;
        self.last = None;
    }

    /// What has not passed when all is over.
    pub(super) fn last(&mut self) -> Option<Error> {
        self.last.take()
    }
}
