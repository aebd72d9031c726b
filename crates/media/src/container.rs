//! Container formats: how frames look as bytes.
//!
//! Owns: FLV tags, fragmented MP4 boxes, MPEG-TS packets, and AMF0, which FLV script tags and RTMP commands share.
//! Does not own: where a stream is cut (crate `package`) or how bytes travel (crates `proto` and `gateway`).

pub mod amf0;
pub mod flv;
pub mod fmp4;
pub mod mpegts;
