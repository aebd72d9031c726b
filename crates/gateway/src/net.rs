//! What all connections share: tasks, listeners, sockets.

pub mod http;
pub mod listener;
pub mod rtmp;
mod socket;
pub mod tasks;
pub(crate) mod throttle;

pub(crate) use socket::{Burst, Socket};
pub(crate) use throttle::{STRANGERS, Throttle};
