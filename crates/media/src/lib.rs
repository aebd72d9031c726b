//! What a live stream is made of: names, time, tracks, frames, and the codecs and containers that carry them.
//!
//! Owns: the model every other crate shares ([`Frame`], [`Track`], [`StreamName`], [`Timeline`]) and the
//! byte formats of codecs ([`codec`]) and containers ([`container`]).
//! Does not own: sockets, clocks, locks, tasks, protocols. Everything here is a pure function or a state
//! machine that is handed its input and its time; it must not come to depend on tokio.

pub mod codec;
pub mod container;
mod frame;
mod name;
mod timeline;
mod track;

pub use frame::Frame;
pub use name::{NameError, StreamName};
pub use timeline::{Input, Now, SessionClock, Stats as TimelineStats, Timed, Timeline};
pub use track::{Anchor, Epoch, Kind, Track, TrackId, VIDEO_TIMESCALE, rescale};
