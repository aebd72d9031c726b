//! HLS playlists as text (draft-pantos-hls-rfc8216bis; CONFORMANCE sections 1 and 2).
//!
//! Owns: what a playlist says, and how a request to reload one is to be answered. Pure text from an immutable
//! [`Snapshot`](crate::window::Snapshot).
//! Does not own: when a playlist is rendered, or how a viewer's session is carried (the caller hands in the query).

mod media;
mod multivariant;
pub mod reload;
mod start;

pub use media::{Form, media};
pub(crate) use multivariant::peak_bps;
pub use multivariant::{multivariant, rewind_multivariant, ts_multivariant};
pub use start::{Start, StartError};

use crate::window::Segment;

/// The media type of playlists (RFC 8216, section 4).
pub const MEDIA_TYPE: &str = "application/vnd.apple.mpegurl";
/// The live media playlist of a rendition, in its folder.
pub const LIVE: &str = "index.m3u8";
/// The rewind media playlist of a rendition, in its folder.
pub const REWIND: &str = "rewind.m3u8";

fn independent<'a, S: AsRef<Segment> + 'a>(listed: impl IntoIterator<Item = &'a S>) -> bool {
    let mut listed = listed.into_iter().map(AsRef::as_ref);
    listed.all(|segment| segment.is_gap() || segment.independent())
}
