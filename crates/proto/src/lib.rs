//! Protocol machines without I/O: bytes in, events and bytes out, time passed in.
//!
//! Owns: both ends of RTMP ([`rtmp`]) and the server's end of WebSocket ([`websocket`]).
//! Does not own: sockets, clocks, tasks, logging, the decision who may publish or play. Nothing here may come to
//! depend on tokio.

pub mod rtmp;
pub mod websocket;
