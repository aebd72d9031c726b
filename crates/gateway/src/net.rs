//! What all connections share: tasks, listeners, sockets.

pub mod client;
mod deadline;
pub mod dial;
pub mod http;
pub mod listener;
mod outbox;
mod retry;
pub mod rtmp;
mod socket;
pub mod tasks;
pub(crate) mod throttle;
pub mod tls;

pub(crate) use deadline::Deadline;
pub(crate) use outbox::{FileRange, Outbox, STAND_IN_LEN_MAX};
pub(crate) use retry::{RETRY_MAX, retry_wait};
pub(crate) use socket::{Burst, Socket};
pub(crate) use throttle::{STRANGERS, Throttle};
