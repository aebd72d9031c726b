//! The unit that travels through the hub.

use bytes::Bytes;

use crate::TrackId;

/// One access unit of one track, on the stream's output clock. Never an FLV tag, never an RTP packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The track it belongs to.
    pub track: TrackId,
    /// Decoding time in ticks of the track's timescale; strictly increasing within the track.
    pub dts: i64,
    /// Presentation time in ticks of the track's timescale.
    pub pts: i64,
    /// Whether decoding can start here: an IDR picture, or any audio frame.
    pub sync: bool,
    /// Length-prefixed NAL units (H.264) or a raw AAC access unit.
    pub payload: Bytes,
}
