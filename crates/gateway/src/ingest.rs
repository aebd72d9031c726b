//! Streams coming in: every source ends in a [`weir_hub::Publisher`].
//!
//! Owns: the way from a protocol's messages to [`weir_media::Input`]. Does not own: time (the stream's timeline) or
//! anything that goes out.

pub mod demo;
mod flv;
pub mod pull;
pub mod rtmp;
