//! AAC access units as a stream that needs no configuration beside it.
//!
//! Owns: `adts_frame` with one raw data block and no CRC (ISO/IEC 14496-3 1.A.2.2). It states the core coder, also
//! when spectral band replication is signalled: its two bits of profile know no HE-AAC, and decoders find SBR and
//! parametric stereo in the frames themselves (implicit signalling, 1.6.5.2).
//! Does not own: the raw data blocks.

use super::{Config, SAMPLE_RATES, object_type, sample_rate};
use crate::codec::bits::Bits;

/// Bytes of a header.
pub const HEADER_LEN: usize = 7;
/// Samples of one channel in a frame, at the core sample rate; there is no flag for 960.
pub const SAMPLES: u32 = 1024;
/// `aac_frame_length` has 13 bits and counts the header.
const FRAME_LEN_MAX: usize = 0x1FFF;
/// Audio object types that the two bits of `profile_ObjectType` can state: Main, LC, SSR, LTP.
const OBJECT_TYPES: std::ops::RangeInclusive<u8> = 1..=4;

/// The header of every frame of a configuration, but for the frame's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framing {
    fixed: [u8; HEADER_LEN],
}

impl Framing {
    /// The framing of `config`, or `None` when a header cannot express it: low delay coders, frames of 960 samples,
    /// sample rates outside the table, channels laid out by a program config element.
    #[must_use]
    pub fn new(config: &Config) -> Option<Self> {
        if !OBJECT_TYPES.contains(&config.object_type) || config.frame_len != SAMPLES {
            return None;
        }
        let profile = config.object_type - 1;
        let rate = SAMPLE_RATES
            .iter()
            .position(|&rate| rate == config.sample_rate)?;
        let rate = u8::try_from(rate).ok()?;
        let channels = channel_config(config).filter(|channels| (1..=7).contains(channels))?;
        let fixed = [
            0xFF,
            0xF1, // MPEG-4, no CRC
            profile << 6 | rate << 2 | channels >> 2,
            channels << 6,
            0,
            0x1F, // adts_buffer_fullness 0x7FF: a variable rate
            0xFC,
        ];
        Some(Self { fixed })
    }

    /// The header before a raw data block of `len` bytes, or `None` when that is more than a frame can hold.
    #[must_use]
    pub fn header(&self, len: usize) -> Option<[u8; HEADER_LEN]> {
        let frame_len = len
            .checked_add(HEADER_LEN)
            .filter(|&len| len <= FRAME_LEN_MAX)?;
        let [_, .., b2, b1, b0] = frame_len.to_be_bytes();
        debug_assert_eq!(b2, 0, "13 bits of length");
        let mut header = self.fixed;
        header[3] |= b1 >> 3;
        header[4] = b1 << 5 | b0 >> 3;
        header[5] |= b0 << 5;
        Some(header)
    }
}

/// `channelConfiguration` as the configuration states it; 0 names a program config element.
fn channel_config(config: &Config) -> Option<u8> {
    let bits = &mut Bits::new(&config.asc);
    object_type(bits).ok()?;
    sample_rate(bits).ok()?;
    bits.byte(4).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hex;

    #[test]
    fn states_the_core_coder() {
        let check = |asc: &str, len: usize, expected: &str| {
            let config = Config::parse(hex(asc)).expect("a valid configuration");
            let header = Framing::new(&config).and_then(|framing| framing.header(len));
            assert_eq!(
                header.map(|header| header.to_vec()),
                Some(hex(expected).to_vec()),
                "{asc}"
            );
        };
        // FFmpeg's adts muxer writes the same for these.
        check("1190", 0, "fff14c8000fffc");
        check("1190", 341, "fff14c802b9ffc");
        check("1210", 1, "fff15080011ffc");
        check("120856e500", 1, "fff15040011ffc");
        // 5.1 and 7.1.
        check("11b0", 1, "fff14d80011ffc");
        check("11b8", 1, "fff14dc0011ffc");
        // HE-AAC, explicit and compatible, and version 2: core at 24 kHz, mono with parametric stereo.
        check("2b118800", 1, "fff15880011ffc");
        check("131056e598", 1, "fff15880011ffc");
        check("eb098800", 1, "fff15840011ffc");
        // 48 000 written as 24 bits.
        check("17805dc010", 1, "fff14c80011ffc");
        check("1190", FRAME_LEN_MAX - HEADER_LEN, "fff14c83fffffc");
    }

    #[test]
    fn refuses_what_a_header_cannot_say() {
        let check = |asc: &str| {
            let config = Config::parse(hex(asc)).expect("a valid configuration");
            assert_eq!(Framing::new(&config), None, "{asc}");
        };
        check("1194"); // 960 samples
        check("1780166610"); // 11 468 Hz
        check("b98800"); // AAC-LD
        check("f8e62000"); // AAC-ELD
        check("118004c4040021100d4c61766335392e33372e31303056e500"); // quad
        let config = Config::parse(hex("1190")).expect("a valid configuration");
        let framing = Framing::new(&config).expect("AAC-LC");
        assert_eq!(framing.header(FRAME_LEN_MAX - HEADER_LEN + 1), None);
        assert_eq!(framing.header(usize::MAX), None);
    }
}
