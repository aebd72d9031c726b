//! `mpd-watch`: DASH and low-latency DASH as the strictest player sees them (CONFORMANCE section 3).
//!
//! Owns: a strict reader of manifests, the rules for one manifest and from one version to the next, and a player that
//! follows a stream and reports; none of its code is the server's. Every problem begins with the row that is broken.
//! Does not own: validation by DASH-MPD.xsd (D1), which no package brings.

mod mpd;
mod rules;
mod studio;
mod tests;
mod watch;

pub(crate) use watch::{Options, watch};
