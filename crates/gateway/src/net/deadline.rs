//! A deadline that every sign of life puts off.
//!
//! Owns: putting it off at no cost: the timer below is not moved, but looks at the new time when it goes off at the old
//! one. Does not own: what is too late.

use std::pin::Pin;

use tokio::time::{Instant, Sleep};

/// Passes once, unless it is put off until then.
#[derive(Debug)]
pub(crate) struct Deadline {
    due: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Deadline {
    pub(crate) fn new(due: Instant) -> Self {
        Self {
            due,
            timer: Box::pin(tokio::time::sleep_until(due)),
        }
    }

    /// Moves it, mostly to later.
    pub(crate) fn move_to(&mut self, due: Instant) {
        self.due = due;
        if due < self.timer.deadline() {
            self.timer.as_mut().reset(due);
        }
    }

    /// Waits until it has passed. Cancel-safe.
    pub(crate) async fn passed(&mut self) {
        loop {
            self.timer.as_mut().await;
            if self.timer.deadline() >= self.due {
                return;
            }
            self.timer.as_mut().reset(self.due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn it_passes_when_it_was_last_moved_to() {
        for moves in [&[][..], &[3], &[3, 5], &[5, 3], &[7, 1], &[1, 4]] {
            let began = Instant::now();
            let mut deadline = Deadline::new(began + 2 * SECOND);
            for &at in moves {
                deadline.move_to(began + at * SECOND);
            }
            deadline.passed().await;
            let expected = *moves.last().unwrap_or(&2);
            assert_eq!(began.elapsed().as_secs(), u64::from(expected), "{moves:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_given_up_loses_nothing() {
        let began = Instant::now();
        let mut deadline = Deadline::new(began + 2 * SECOND);
        for second in 1..=9 {
            let waited = tokio::time::timeout(SECOND, deadline.passed()).await;
            assert!(waited.is_err(), "passed after {second} s");
            deadline.move_to(Instant::now() + 2 * SECOND);
        }
        deadline.passed().await;
        assert_eq!(began.elapsed().as_secs(), 11);
    }
}
