//! The state between ingest and delivery: which streams are live, the bounded feeds that fan them out, and the one
//! table of sessions.
//!
//! Owns: streams and their runs ([`Hub`], [`Stream`], [`Publisher`]), fan-out ([`Feed`], [`Cursor`]), sessions
//! ([`Sessions`]) and the question who may publish or play ([`Request`]).
//! Does not own: sockets, tasks, and any protocol or container. A protocol's name is a label here, nothing
//! more. Publishers never wait: every queue is a bounded ring that readers fall off.

mod feed;
mod registry;
mod request;
mod session;
mod stream;

pub use feed::{Cursor, Feed, Item, Join, LagLimit, Read, Retention};
pub use registry::{Hub, Limits, PublishError};
pub use request::{Decision, Grant, KeyId, Refusal, Request, Requests, Role, Secret};
pub use session::{
    KillReason, Meter, Session, SessionId, Sessions, Snapshot as SessionSnapshot, Traffic,
};
pub use stream::{MediaItem, Moment, Publisher, RunId, State, Stream, StreamStatus};
