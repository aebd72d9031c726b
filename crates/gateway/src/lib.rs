//! Every socket of the data plane.
//!
//! Owns: listeners and connections ([`net`]), streams coming in ([`ingest`]), streams going out ([`deliver`]), and the
//! bytes that viewers share ([`mod@derive`]).
//! Does not own: what a protocol says (crate `proto`), what a playlist says (crate `package`), who may publish (a
//! [`weir_hub::Request`] is decided elsewhere). `ingest` and `deliver` never name each other; a connection that turns
//! out to be one or the other is handed over in [`rtmp`], and a stream that is fetched because somebody wants to watch
//! it begins in [`on_demand`].

pub mod deliver;
pub mod derive;
pub mod ingest;
pub mod net;
pub mod on_demand;
pub mod read_cache;
pub mod rtmp;

use std::{sync::Arc, time::Duration};

use weir_hub::{Hub, Join, LagLimit, Requests};

use crate::{derive::Derived, net::tasks::Tasks, on_demand::OnDemand};

/// What every connection needs.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// Streams and sessions.
    pub hub: Arc<Hub>,
    /// Who may publish or play is asked here.
    pub requests: Requests,
    /// All tasks.
    pub tasks: Tasks,
    /// Shared bytes by stream and format.
    pub derived: Derived,
    /// Streams that begin when somebody asks for them.
    pub on_demand: OnDemand,
    /// Limits and time-outs.
    pub limits: Limits,
}

/// Limits and time-outs of connections (FAULTS 1.9).
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From accept until a client publishes or plays, and for the head of an HTTP request.
    pub handshake_timeout: Duration,
    /// A publisher that sends nothing for this long is taken as gone.
    pub input_timeout: Duration,
    /// A socket that takes no byte for this long is closed.
    pub write_stall_timeout: Duration,
    /// An HTTP connection without a request for this long is closed.
    pub keep_alive_timeout: Duration,
    /// How far a viewer may lag before it jumps to the newest key frame.
    pub viewer_lag: LagLimit,
    /// Where a viewer starts: at the cached key frame, or at the next one.
    pub join: Join,
}
