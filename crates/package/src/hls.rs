//! HLS playlists as text (draft-pantos-hls-rfc8216bis; CONFORMANCE sections 1 and 2).
//!
//! Owns: what a playlist says, and how a request to reload one is to be answered. Pure text from an immutable
//! [`Snapshot`](crate::window::Snapshot).
//! Does not own: when a playlist is rendered, or how a viewer's session is carried (the caller hands in the query).

mod media;
mod multivariant;
pub mod reload;

pub use media::{Form, media};
pub(crate) use multivariant::peak_bps;
pub use multivariant::{multivariant, ts_multivariant};

use crate::window::Rendition;

/// The media type of playlists (RFC 8216, section 4).
pub const MEDIA_TYPE: &str = "application/vnd.apple.mpegurl";

fn independent(rendition: &Rendition) -> bool {
    rendition
        .listed()
        .all(|segment| segment.is_gap() || segment.independent())
}
