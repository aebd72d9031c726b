//! What all connections share: tasks, listeners, sockets.

pub mod http;
pub mod listener;
pub mod rtmp;
mod socket;
pub mod tasks;
mod throttle;
pub mod tls;

pub(crate) use socket::{Burst, Socket};
pub(crate) use throttle::{STRANGERS, Throttle};
