//! AAC: the `AudioSpecificConfig`.
//!
//! Owns: ISO/IEC 14496-3 1.6.2.1 with spectral band replication (SBR) and parametric stereo (PS) signalled
//! either way (1.6.5), and as much of `GASpecificConfig` (4.4.1) as gives the frame length and the channels.
//! Its submodule frames access units as ADTS. Does not own: decoding, LATM framing.

pub mod adts;

use bytes::Bytes;

use super::bits::{Bits, End};

/// Longest configuration in bytes. The longest sensible one, with a full program config element and comment,
/// has about 340.
pub const CONFIG_LEN_MAX: usize = 1024;
/// Lowest sample rate in hertz: the last of the standard's table.
pub const SAMPLE_RATE_MIN: u32 = 7_350;
/// Highest sample rate in hertz; twice what the standard's table has.
pub const SAMPLE_RATE_MAX: u32 = 192_000;

/// `samplingFrequencyIndex` to hertz (1.6.3.4).
const SAMPLE_RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];
/// `samplingFrequencyIndex` that is followed by 24 bits of hertz.
const SAMPLE_RATE_ESCAPE: u8 = 15;
/// Audio object type that is followed by 6 more bits.
const OBJECT_TYPE_ESCAPE: u8 = 31;
/// Audio object types (table 1.17).
const MAIN: u8 = 1;
const LTP: u8 = 4;
const SBR: u8 = 5;
const ER_LC: u8 = 17;
const ER_LTP: u8 = 19;
const ER_LD: u8 = 23;
const PS: u8 = 29;
const ER_ELD: u8 = 39;
/// `syncExtensionType` before SBR and before PS (1.6.2.1).
const SYNC_SBR: u32 = 0x2B7;
const SYNC_PS: u32 = 0x548;
const SYNC_WIDTH: u32 = 11;

/// What a decoder must know before the first frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The whole `AudioSpecificConfig` as it was received.
    pub asc: Bytes,
    /// Audio object type of the core coder: 2 is AAC-LC, also below SBR.
    pub object_type: u8,
    /// Samples a second of the core coder, 7 350 to 192 000. It is the clock of the track: a frame lasts
    /// exactly [`Self::frame_len`] of its ticks, with SBR or without.
    pub sample_rate: u32,
    /// Samples a second that a decoder puts out: more than [`Self::sample_rate`] when SBR is signalled.
    pub output_sample_rate: u32,
    /// Channels of the core coder, at least 1. With parametric stereo a decoder makes two of one.
    pub channels: u8,
    /// Whether spectral band replication is signalled (HE-AAC).
    pub sbr: bool,
    /// Whether parametric stereo is signalled (HE-AAC version 2).
    pub ps: bool,
    /// Samples of one channel in a frame, at the core sample rate: 1024 or 960; 512 or 480 for low delay.
    pub frame_len: u32,
}

/// Why a configuration cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The configuration ends before its fields do.
    #[error("the AAC configuration ends in the middle of a field")]
    TooShort,
    /// Longer than [`CONFIG_LEN_MAX`].
    #[error("the AAC configuration of {0} bytes is longer than {CONFIG_LEN_MAX}")]
    TooLong(usize),
    /// An audio object type that is not AAC as broadcast uses it.
    #[error("audio object type {0} is not supported; AAC-LC and HE-AAC are")]
    ObjectType(u8),
    /// `samplingFrequencyIndex` is reserved.
    #[error("the AAC sample rate index {0} is reserved")]
    SampleRateIndex(u8),
    /// Outside [`SAMPLE_RATE_MIN`] to [`SAMPLE_RATE_MAX`].
    #[error("the AAC sample rate {0} is not within {SAMPLE_RATE_MIN} to {SAMPLE_RATE_MAX}")]
    SampleRate(u32),
    /// A reserved `channelConfiguration`, or a program config element without a channel.
    #[error("the AAC channel configuration {0} names no channels")]
    Channels(u8),
}

impl Config {
    /// Reads an `AudioSpecificConfig`.
    ///
    /// # Errors
    /// When it is cut off, too long, or describes something that is not AAC with a sane sample rate and at
    /// least one channel: without these the track has no clock.
    pub fn parse(asc: Bytes) -> Result<Self, Error> {
        if asc.len() > CONFIG_LEN_MAX {
            return Err(Error::TooLong(asc.len()));
        }
        let bits = &mut Bits::new(&asc);
        let signalled = object_type(bits)?;
        let core_sample_rate = sample_rate(bits)?;
        let channel_config = bits.byte(4)?;
        let mut sbr = matches!(signalled, SBR | PS).then_some(Sbr {
            output_sample_rate: core_sample_rate,
            ps: signalled == PS,
        });
        let mut core = signalled;
        if let Some(sbr) = &mut sbr {
            sbr.output_sample_rate = sample_rate(bits)?;
            core = object_type(bits)?;
        }
        let (frame_len, channels) = core_config(bits, core, channel_config)?;
        if sbr.is_none() && core <= LTP {
            // What cannot be read behind the core configuration is padding.
            sbr = extension(bits).unwrap_or(None);
        }
        Ok(Self {
            object_type: core,
            sample_rate: core_sample_rate,
            output_sample_rate: sbr.map_or(core_sample_rate, |sbr| sbr.output_sample_rate),
            channels,
            sbr: sbr.is_some(),
            ps: sbr.is_some_and(|sbr| sbr.ps),
            frame_len,
            asc,
        })
    }

    /// The `codecs` parameter of RFC 6381: `mp4a.40.2` for AAC-LC, `mp4a.40.5` with SBR, `mp4a.40.29` with
    /// parametric stereo.
    #[must_use]
    pub fn rfc6381(&self) -> String {
        let object_type = match (self.ps, self.sbr) {
            (true, _) => PS,
            (false, true) => SBR,
            (false, false) => self.object_type,
        };
        format!("mp4a.40.{object_type}")
    }
}

impl From<End> for Error {
    fn from(End: End) -> Self {
        Self::TooShort
    }
}

/// What the signalling of SBR says.
#[derive(Debug, Clone, Copy)]
struct Sbr {
    output_sample_rate: u32,
    ps: bool,
}

/// Reads SBR and PS behind the core configuration, where decoders that know neither do not look.
fn extension(bits: &mut Bits<'_>) -> Result<Option<Sbr>, Error> {
    if bits.field(SYNC_WIDTH)? != SYNC_SBR || object_type(bits)? != SBR || !bits.flag()? {
        return Ok(None);
    }
    let output_sample_rate = sample_rate(bits)?;
    let ps = bits.field(SYNC_WIDTH) == Ok(SYNC_PS) && bits.flag() == Ok(true);
    Ok(Some(Sbr {
        output_sample_rate,
        ps,
    }))
}

fn object_type(bits: &mut Bits<'_>) -> Result<u8, End> {
    match bits.byte(5)? {
        OBJECT_TYPE_ESCAPE => Ok(32 + bits.byte(6)?),
        object_type => Ok(object_type),
    }
}

fn sample_rate(bits: &mut Bits<'_>) -> Result<u32, Error> {
    let rate = match bits.byte(4)? {
        SAMPLE_RATE_ESCAPE => bits.field(24)?,
        index => match SAMPLE_RATES.get(usize::from(index)) {
            Some(&rate) => rate,
            None => return Err(Error::SampleRateIndex(index)),
        },
    };
    if !(SAMPLE_RATE_MIN..=SAMPLE_RATE_MAX).contains(&rate) {
        return Err(Error::SampleRate(rate));
    }
    Ok(rate)
}

/// Frame length and channels from the configuration of the core coder.
fn core_config(
    bits: &mut Bits<'_>,
    object_type: u8,
    channel_config: u8,
) -> Result<(u32, u8), Error> {
    let (long, short) = match object_type {
        MAIN..=LTP | ER_LC | ER_LTP => (1024, 960),
        ER_LD | ER_ELD => (512, 480),
        _ => return Err(Error::ObjectType(object_type)),
    };
    let frame_len = if bits.flag()? { short } else { long };
    if object_type == ER_ELD {
        // Its configuration goes on differently, and a program config element is not allowed.
        return Ok((frame_len, channels(channel_config)?));
    }
    if bits.flag()? {
        bits.skip(14)?; // coreCoderDelay
    }
    let extended = bits.flag()?;
    let channels = if channel_config == 0 {
        program_config_channels(bits)?
    } else {
        channels(channel_config)?
    };
    if extended && object_type <= LTP {
        bits.flag()?; // extensionFlag3
    }
    Ok((frame_len, channels))
}

/// Channels of a `channelConfiguration` (table 1.19).
fn channels(channel_config: u8) -> Result<u8, Error> {
    match channel_config {
        1..=6 => Ok(channel_config),
        7 | 12 | 14 => Ok(8),
        11 => Ok(7),
        13 => Ok(24),
        reserved => Err(Error::Channels(reserved)),
    }
}

/// Counts the channels of a `program_config_element` (4.4.1.1).
fn program_config_channels(bits: &mut Bits<'_>) -> Result<u8, Error> {
    bits.skip(4 + 2 + 4)?; // element_instance_tag, object_type, sampling_frequency_index
    let mut elements = 0;
    for _ in ["front", "side", "back"] {
        elements += bits.byte(4)?;
    }
    let low_frequency = bits.byte(2)?;
    let associated_data = bits.byte(3)?;
    let coupling = bits.byte(4)?;
    for mixdown_width in [4, 4, 3] {
        if bits.flag()? {
            bits.skip(mixdown_width)?;
        }
    }
    let mut channels = low_frequency;
    for _ in 0..elements {
        channels += if bits.flag()? { 2 } else { 1 };
        bits.skip(4)?; // element_tag_select
    }
    bits.skip(usize::from(low_frequency) * 4)?;
    bits.skip(usize::from(associated_data) * 4)?;
    bits.skip(usize::from(coupling) * 5)?;
    bits.align();
    let comment_len = bits.byte(8)?;
    bits.skip(usize::from(comment_len) * 8)?;
    if channels == 0 {
        Err(Error::Channels(0))
    } else {
        Ok(channels)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::hex;

    #[test]
    fn reads_the_configurations_of_real_encoders() {
        let check = |asc: &str, rfc6381: &str, rates: (u32, u32), channels, frame_len| {
            let config = Config::parse(hex(asc)).unwrap_or_else(|error| panic!("{asc}: {error}"));
            assert_eq!(config.rfc6381(), rfc6381, "{asc}");
            assert_eq!(
                (config.sample_rate, config.output_sample_rate),
                rates,
                "{asc}"
            );
            assert_eq!(
                (config.channels, config.frame_len),
                (channels, frame_len),
                "{asc}"
            );
            assert_eq!(config.asc, hex(asc));
        };
        // FFmpeg 5.1; it writes the SBR extension with the flag off.
        check("119056e500", "mp4a.40.2", (48_000, 48_000), 2, 1024);
        check("120856e500", "mp4a.40.2", (44_100, 44_100), 1, 1024);
        check("11b056e500", "mp4a.40.2", (48_000, 48_000), 6, 1024);
        check("101056e500", "mp4a.40.2", (96_000, 96_000), 2, 1024);
        // OBS and most phones: nothing but the core.
        check("1190", "mp4a.40.2", (48_000, 48_000), 2, 1024);
        check("1210", "mp4a.40.2", (44_100, 44_100), 2, 1024);
        // 960 samples, as DAB+ has.
        check("1194", "mp4a.40.2", (48_000, 48_000), 2, 960);
        // HE-AAC, explicit and then compatible with old decoders.
        check("2b118800", "mp4a.40.5", (24_000, 48_000), 2, 1024);
        check("131056e598", "mp4a.40.5", (24_000, 48_000), 2, 1024);
        // HE-AAC version 2, both ways.
        check("eb098800", "mp4a.40.29", (24_000, 48_000), 1, 1024);
        check("130856e59d4880", "mp4a.40.29", (24_000, 48_000), 1, 1024);
        // The rate as 24 bits instead of an index: 48 000, then 11 468.
        check("17805dc010", "mp4a.40.2", (48_000, 48_000), 2, 1024);
        check("1780166610", "mp4a.40.2", (11_468, 11_468), 2, 1024);
        // AAC-LD and AAC-ELD.
        check("b98800", "mp4a.40.23", (48_000, 48_000), 1, 512);
        check("f8e62000", "mp4a.40.39", (48_000, 48_000), 1, 512);
        // Layouts that need a program config element, from FFmpeg 5.1: quad, 2.1, 6.1.
        check(
            "118004c4040021100d4c61766335392e33372e31303056e500",
            "mp4a.40.2",
            (48_000, 48_000),
            4,
            1024,
        );
        check(
            "118004c4010020000d4c61766335392e33372e31303056e500",
            "mp4a.40.2",
            (48_000, 48_000),
            3,
            1024,
        );
        check(
            "118004c848002000c4400d4c61766335392e33372e31303056e500",
            "mp4a.40.2",
            (48_000, 48_000),
            7,
            1024,
        );
    }

    #[test]
    fn the_extension_is_found_behind_a_program_config_element() {
        let asc = hex("118004c4040021100d4c61766335392e33372e31303056e598");
        assert_eq!(Config::parse(asc).unwrap().rfc6381(), "mp4a.40.5");
    }

    #[test]
    fn refuses_what_gives_no_clock_or_no_channels() {
        let check = |asc: &str, expected| {
            assert_eq!(Config::parse(hex(asc)), Err(expected), "{asc}");
        };
        check("", Error::TooShort);
        check("11", Error::TooShort);
        check("0190", Error::ObjectType(0));
        check("f9e62000", Error::ObjectType(47));
        check("16900000", Error::SampleRateIndex(13));
        check("1780000010", Error::SampleRate(0));
        check("1780000090", Error::SampleRate(1));
        check("17ffffff90", Error::SampleRate(0x00FF_FFFF));
        check("11c0", Error::Channels(8));
        check("11f8", Error::Channels(15));
        check("11800480000000000000", Error::Channels(0));
        let long = Bytes::from(vec![0x11; CONFIG_LEN_MAX + 1]);
        assert_eq!(Config::parse(long), Err(Error::TooLong(CONFIG_LEN_MAX + 1)));
    }

    #[test]
    fn a_cut_extension_is_padding() {
        let whole = hex("130856e59d4880");
        let mut seen = Vec::new();
        for len in 2..=whole.len() {
            let text = Config::parse(whole.slice(..len))
                .expect("the core is whole")
                .rfc6381();
            if seen.last() != Some(&text) {
                seen.push(text);
            }
        }
        assert_eq!(seen, ["mp4a.40.2", "mp4a.40.5", "mp4a.40.29"]);
    }

    proptest! {
        #[test]
        fn arbitrary_configurations_never_panic_and_keep_a_clock(asc: Vec<u8>) {
            if let Ok(config) = Config::parse(asc.into()) {
                prop_assert!((SAMPLE_RATE_MIN..=SAMPLE_RATE_MAX).contains(&config.sample_rate));
                prop_assert!((SAMPLE_RATE_MIN..=SAMPLE_RATE_MAX).contains(&config.output_sample_rate));
                prop_assert!(config.channels > 0);
                prop_assert!([1024, 960, 512, 480].contains(&config.frame_len));
            }
        }

        #[test]
        fn arbitrary_program_config_elements_never_panic(tail: Vec<u8>) {
            let asc: Bytes = [0x11, 0x80].into_iter().chain(tail).collect();
            let _ = Config::parse(asc);
        }
    }
}
