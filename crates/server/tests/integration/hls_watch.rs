//! `hls-watch`: HLS and LL-HLS as the strictest player sees them (CONFORMANCE sections 1 and 2).
//!
//! Owns: a strict reader of playlists and the rules for one playlist and from one version to the next; none of its
//! code is the server's. Every problem begins with the row that is broken.

mod media;
mod multivariant;
mod rules;
mod sample;
mod succession;
mod syntax;
mod tests;
