//! RTMP 1.0: handshake, chunks, messages, commands, and what ties them together: the server's [`Session`] and the
//! [`client::Client`].
//!
//! Owns: everything between the bytes of a connection and events such as "wants to publish" or "a video message".
//! Does not own: what is inside audio and video messages (`weir_media::container::flv`), the socket and its
//! deadlines, and whether a request is granted.
//! Specification: Adobe, "Adobe's Real Time Messaging Protocol" 1.0, 2012 (cited as RTMP with a section number).

mod address;
pub mod chunk;
pub mod client;
mod command;
mod error;
mod handshake;
mod link;
pub mod message;
mod session;
#[cfg(test)]
mod transcript;
mod url;

pub use address::{Params, Secret};
pub use error::{Cause, Error};
pub use session::{Config, Event, PlayRequest, PublishRequest, Refusal, STREAMS_MAX, Session};
pub use url::{Url, UrlError};
