//! `hls-watch`: HLS and LL-HLS as the strictest player sees them (CONFORMANCE sections 1 and 2).
//!
//! Owns: a strict reader of playlists, the rules for one playlist and from one version to the next, and players that
//! follow a stream and report; none of its code is the server's. Every problem begins with the row that is broken.

mod follower;
mod media;
mod multivariant;
mod reload;
mod rules;
mod sample;
pub(crate) mod studio;
pub(crate) mod succession;
mod syntax;
mod tests;
mod watch;
mod watch_tests;

pub(crate) use media::Media;
pub(crate) use reload::{ended_table, reload_table};
pub(crate) use syntax::date_ms;
pub(crate) use watch::{Options, resolve, watch};
