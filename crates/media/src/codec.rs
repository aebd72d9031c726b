//! Codec configurations and the little of each bitstream that a server must read.
//!
//! Owns: parsing of decoder configuration records into what playlists, manifests and containers need.
//! Does not own: decoding. Every parser here takes hostile input: bounded work, no panic, no allocation from a
//! length field.

pub mod aac;
mod bits;
pub mod h264;

use crate::{Kind, VIDEO_TIMESCALE};

/// A codec with its configuration. A closed set: each new codec is a variant here and a module beside this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Codec {
    /// H.264 / AVC.
    H264(h264::Config),
    /// AAC.
    Aac(aac::Config),
}

impl Codec {
    /// What the codec carries.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::H264(_) => Kind::Video,
            Self::Aac(_) => Kind::Audio,
        }
    }

    /// Ticks a second of a track with this codec: 90 000 for video, the sample rate for audio.
    #[must_use]
    pub fn timescale(&self) -> u32 {
        match self {
            Self::H264(_) => VIDEO_TIMESCALE,
            Self::Aac(config) => config.sample_rate,
        }
    }

    /// The `codecs` parameter of RFC 6381, such as `avc1.64001F` or `mp4a.40.2`.
    #[must_use]
    pub fn rfc6381(&self) -> String {
        match self {
            Self::H264(config) => config.rfc6381(),
            Self::Aac(config) => config.rfc6381(),
        }
    }

    /// The name users read: `H.264`, `AAC`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::H264(_) => "H.264",
            Self::Aac(_) => "AAC",
        }
    }
}

/// Test vectors are written as hexadecimal text.
#[cfg(test)]
pub(crate) fn hex(text: &str) -> bytes::Bytes {
    let pair = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("two hexadecimal digits");
    (0..text.len()).step_by(2).map(pair).collect()
}
