//! H.264: the decoder configuration record and the NAL units of an access unit.
//!
//! Owns: `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 5.3.3.1), splitting length-prefixed access units
//! (5.3.4.2), NAL unit types (ITU-T H.264 table 7-1), and in its submodules what the sequence parameter set says
//! about the picture, and access units as a byte stream. Does not own: decoding, or which container the record came
//! in.

pub mod annex_b;
mod sps;

use bytes::{Buf, Bytes};

/// Longest configuration record in bytes. Real ones are below 1 KiB; it is kept for the life of an epoch and
/// copied into every init segment.
pub const RECORD_LEN_MAX: usize = 64 * 1024;
/// NAL unit type of a slice of a non-IDR picture.
pub const NAL_SLICE: u8 = 1;
/// NAL unit type of a slice of an IDR picture: decoding can start here.
pub const NAL_IDR: u8 = 5;
/// NAL unit type of supplemental enhancement information.
pub const NAL_SEI: u8 = 6;
/// NAL unit type of a sequence parameter set.
pub const NAL_SPS: u8 = 7;
/// NAL unit type of a picture parameter set.
pub const NAL_PPS: u8 = 8;
/// NAL unit type of an access unit delimiter.
pub const NAL_AUD: u8 = 9;

/// What an SEI message with closed captions holds (ATSC A/53 part 4, 6.2.3; ITU-T T.35): the United States, ATSC, `GA94`,
/// and that captions follow. No emulation prevention byte ever comes between them.
const CAPTIONS: &[u8] = &[0xB5, 0x00, 0x31, b'G', b'A', b'9', b'4', 0x03];

/// Bits of a NAL unit's first byte that hold its type.
const NAL_TYPE_MASK: u8 = 0x1F;
/// Bytes of a record before the number of its sequence parameter sets.
const RECORD_HEADER_LEN: usize = 5;

/// What a decoder must know before the first frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The whole record as it was received: the content of an `avcC` box or of an FLV sequence header.
    pub record: Bytes,
    /// Bytes of the length before each NAL unit: 1, 2 or 4.
    pub nal_length_size: usize,
    /// `AVCProfileIndication`: 66 baseline, 77 main, 100 high.
    pub profile: u8,
    /// `profile_compatibility`: the constraint flags.
    pub constraints: u8,
    /// `AVCLevelIndication`: ten times the level, so 31 is level 3.1.
    pub level: u8,
    /// What the first sequence parameter set says, or `None` when it cannot be understood. The stream goes
    /// on without it: a decoder may know better.
    pub picture: Option<Picture>,
}

/// Size and nominal rate of the pictures, as the sequence parameter set states them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels after cropping, 1 to 16 384.
    pub width: u32,
    /// Height in pixels after cropping, 1 to 16 384.
    pub height: u32,
    /// Pictures a second as a reduced fraction whose denominator is never 0. It is what the encoder states,
    /// not what it sends, and absent when it states nothing or nothing plausible.
    pub frame_rate: Option<(u32, u32)>,
}

/// The parameter sets of a record, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterSets {
    /// Sequence parameter sets; at least one.
    pub sps: Vec<Bytes>,
    /// Picture parameter sets.
    pub pps: Vec<Bytes>,
}

/// Why a record or an access unit cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The record ends before its fields do.
    #[error("the H.264 configuration record ends after {0} bytes, in the middle of a field")]
    RecordTooShort(usize),
    /// Longer than [`RECORD_LEN_MAX`].
    #[error("the H.264 configuration record of {0} bytes is longer than {RECORD_LEN_MAX}")]
    RecordTooLong(usize),
    /// `configurationVersion` is not 1.
    #[error("the H.264 configuration record has version {0}, not 1")]
    RecordVersion(u8),
    /// The record holds no sequence parameter set.
    #[error("the H.264 configuration record holds no SPS")]
    NoSps,
    /// NAL unit lengths of 3 bytes are forbidden.
    #[error("NAL unit lengths of {0} bytes are not allowed; 1, 2 and 4 are")]
    NalLengthSize(usize),
    /// A NAL unit's length reaches beyond its access unit.
    #[error("a NAL unit claims {claimed} bytes where {left} are left")]
    NalTooLong {
        /// The length before the NAL unit.
        claimed: usize,
        /// Bytes of the access unit behind that length.
        left: usize,
    },
    /// An access unit ends inside a NAL unit's length.
    #[error("{0} bytes are left where a NAL unit's length belongs")]
    NalLengthCut(usize),
}

impl Config {
    /// Reads a configuration record.
    ///
    /// # Errors
    /// Only for the record's structure: its length, its version, a missing SPS, lengths that lie. An SPS
    /// that makes no sense leaves [`Self::picture`] empty instead.
    pub fn parse(record: Bytes) -> Result<Self, Error> {
        if record.len() > RECORD_LEN_MAX {
            return Err(Error::RecordTooLong(record.len()));
        }
        let &[version, profile, constraints, level, length, ..] = &record[..] else {
            return Err(Error::RecordTooShort(record.len()));
        };
        if version != 1 {
            return Err(Error::RecordVersion(version));
        }
        let nal_length_size = usize::from(length & 0b11) + 1;
        if nal_length_size == 3 {
            return Err(Error::NalLengthSize(nal_length_size));
        }
        let sets = split_record(&record)?;
        let first = sets.sps.first().ok_or(Error::NoSps)?;
        let picture = sps::picture(first);
        Ok(Self {
            nal_length_size,
            profile,
            constraints,
            level,
            picture,
            record,
        })
    }

    /// The parameter sets of the record.
    #[must_use]
    pub fn parameter_sets(&self) -> ParameterSets {
        split_record(&self.record).unwrap_or(ParameterSets {
            sps: Vec::new(),
            pps: Vec::new(),
        })
    }

    /// The `codecs` parameter of RFC 6381, such as `avc1.64001F`.
    #[must_use]
    pub fn rfc6381(&self) -> String {
        format!(
            "avc1.{:02X}{:02X}{:02X}",
            self.profile, self.constraints, self.level
        )
    }
}

/// The NAL units of one access unit; empty ones are passed over. See [`nal_units`].
#[derive(Debug, Clone)]
pub struct NalUnits {
    rest: Bytes,
    nal_length_size: usize,
}

/// Splits an access unit into NAL units, each a slice of `payload` without its length.
///
/// An error ends the iteration: behind a length that lies nothing can be found.
#[must_use]
pub fn nal_units(payload: &Bytes, nal_length_size: usize) -> NalUnits {
    NalUnits {
        rest: payload.clone(),
        nal_length_size,
    }
}

/// Whether `payload` is an IDR picture: whether its first slice is one. A payload that cannot be read is not.
#[must_use]
pub fn is_idr(payload: &Bytes, nal_length_size: usize) -> bool {
    nal_units(payload, nal_length_size)
        .map_while(Result::ok)
        .map(|nal| nal_type(&nal))
        .find(|nal| (NAL_SLICE..=NAL_IDR).contains(nal))
        == Some(NAL_IDR)
}

/// Whether an access unit carries closed captions (CEA-608 or 708), or room for them.
#[must_use]
pub fn has_captions(payload: &Bytes, nal_length_size: usize) -> bool {
    nal_units(payload, nal_length_size)
        .map_while(Result::ok)
        .take_while(|nal| !(NAL_SLICE..=NAL_IDR).contains(&nal_type(nal)))
        .any(|nal| {
            nal_type(&nal) == NAL_SEI && nal.windows(CAPTIONS.len()).any(|at| at == CAPTIONS)
        })
}

/// The type of a NAL unit; 0, which is unspecified, for an empty one.
#[must_use]
pub fn nal_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |header| header & NAL_TYPE_MASK)
}

impl Iterator for NalUnits {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            match take_nal(&mut self.rest, self.nal_length_size) {
                Ok(nal) if nal.is_empty() => {}
                Ok(nal) => return Some(Ok(nal)),
                Err(error) => {
                    self.rest.clear();
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

fn take_nal(rest: &mut Bytes, nal_length_size: usize) -> Result<Bytes, Error> {
    if !matches!(nal_length_size, 1 | 2 | 4) {
        return Err(Error::NalLengthSize(nal_length_size));
    }
    if rest.len() < nal_length_size {
        return Err(Error::NalLengthCut(rest.len()));
    }
    let claimed = usize::try_from(rest.get_uint(nal_length_size)).unwrap_or(usize::MAX);
    if claimed > rest.len() {
        return Err(Error::NalTooLong {
            claimed,
            left: rest.len(),
        });
    }
    Ok(rest.split_to(claimed))
}

fn split_record(record: &Bytes) -> Result<ParameterSets, Error> {
    let too_short = Error::RecordTooShort(record.len());
    if record.len() < RECORD_HEADER_LEN {
        return Err(too_short);
    }
    let mut rest = record.slice(RECORD_HEADER_LEN..);
    let sps = take_sets(&mut rest, 0x1F).ok_or(too_short)?;
    let pps = take_sets(&mut rest, 0xFF).ok_or(too_short)?;
    Ok(ParameterSets { sps, pps })
}

/// Takes as many parameter sets as the first byte says, or `None` when the bytes end before.
fn take_sets(rest: &mut Bytes, count_mask: u8) -> Option<Vec<Bytes>> {
    let count = rest.try_get_u8().ok()? & count_mask;
    let mut sets = Vec::new();
    for _ in 0..count {
        let len = usize::from(rest.try_get_u16().ok()?);
        if len > rest.len() {
            return None;
        }
        sets.push(rest.split_to(len));
    }
    Some(sets)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::codec::hex;

    /// Records that FFmpeg 5.1 with x264 wrote for known pictures.
    const RECORDS: [(&str, &str, Picture); 8] = [
        (
            "0142c01effe100196742c01eda0280bfe5c044000003000400000300c83c58ba8001000468ce0fc8",
            "avc1.42C01E",
            Picture {
                width: 640,
                height: 360,
                frame_rate: Some((25, 1)),
            },
        ),
        (
            "01640028ffe1001967640028acd940780227e5c04400000fa40003a9803c60c65801000468ef8fcbfdf8f800",
            "avc1.640028",
            Picture {
                width: 1920,
                height: 1080,
                frame_rate: Some((30_000, 1001)),
            },
        ),
        // Interlaced.
        (
            "01640028ffe1001a67640028acd94078044fde0220000003002000000643e2c5b2c001000468fe8fcbfdf8f800",
            "avc1.640028",
            Picture {
                width: 1920,
                height: 1080,
                frame_rate: Some((25, 1)),
            },
        ),
        // 4:4:4 and a size that is no multiple of anything: cropping counts single pixels.
        (
            "01f40016ffe1001a67f40016919b282a10f1f1f80880000003008000003c078b16cb01000668ef8f192190fff8f800",
            "avc1.F40016",
            Picture {
                width: 322,
                height: 242,
                frame_rate: Some((60, 1)),
            },
        ),
        // 4:2:2 with 10 bits and a colour description.
        (
            "017a0015ffe1001f677a0015b6cd9415087888fc05a808080a000003000200000300c81e2c5b2c01000468ef8fcbfefafa00",
            "avc1.7A0015",
            Picture {
                width: 322,
                height: 242,
                frame_rate: Some((50, 1)),
            },
        ),
        // A sample aspect ratio.
        (
            "0164001effe1001d6764001eacd100b4126ffc010000b440000003004000000c83c58b448001000768ebe3cb3002c0fdf8f800",
            "avc1.64001E",
            Picture {
                width: 720,
                height: 576,
                frame_rate: Some((25, 1)),
            },
        ),
        // One picture a second.
        (
            "0142c00affe100176742c00ada0836c044000003000400000300083c489a8001000468ce0fc8",
            "avc1.42C00A",
            Picture {
                width: 128,
                height: 96,
                frame_rate: Some((1, 1)),
            },
        ),
        // A variable rate: the timing is the encoder's millisecond clock, not a rate.
        (
            "0142c00bffe100166742c00bda0b13b0110000030001000007d00f142aa001000468ce0fc8",
            "avc1.42C00B",
            Picture {
                width: 176,
                height: 144,
                frame_rate: None,
            },
        ),
    ];

    #[test]
    fn reads_the_records_of_real_encoders() {
        for (record, rfc6381, picture) in RECORDS {
            let config = Config::parse(hex(record)).expect("a real record");
            assert_eq!(config.rfc6381(), rfc6381);
            assert_eq!(config.picture, Some(picture), "{record}");
            assert_eq!(config.nal_length_size, 4);
            assert_eq!(config.record, hex(record));
            let sets = config.parameter_sets();
            assert_eq!((sets.sps.len(), sets.pps.len()), (1, 1));
            assert_eq!(
                (nal_type(&sets.sps[0]), nal_type(&sets.pps[0])),
                (NAL_SPS, NAL_PPS)
            );
        }
    }

    #[test]
    fn refuses_records_whose_structure_is_wrong() {
        let check = |record: &str, expected| {
            assert_eq!(Config::parse(hex(record)), Err(expected), "{record}");
        };
        check("", Error::RecordTooShort(0));
        check("0142c01eff", Error::RecordTooShort(5));
        check("0042c01effe1000467000000", Error::RecordVersion(0));
        check("0142c01efee1000467000000", Error::NalLengthSize(3));
        check("0142c01effe000", Error::NoSps);
        check("0142c01effe1ffff6700", Error::RecordTooShort(10));
        check("0142c01effe10001670100", Error::RecordTooShort(11));
        let long = Bytes::from(vec![1; RECORD_LEN_MAX + 1]);
        assert_eq!(
            Config::parse(long),
            Err(Error::RecordTooLong(RECORD_LEN_MAX + 1))
        );
    }

    #[test]
    fn an_sps_that_makes_no_sense_only_marks_the_picture() {
        for record in [
            "0142c01effe1000000",
            "0142c01effe100016700",
            "0142c01effe1000467ffffff00",
        ] {
            let config = Config::parse(hex(record)).expect("the structure is right");
            assert_eq!(config.picture, None, "{record}");
            assert_eq!(config.rfc6381(), "avc1.42C01E");
        }
    }

    #[test]
    fn a_cut_record_is_an_error_at_every_byte_before_the_last_set() {
        let whole = hex(RECORDS[0].0);
        for len in 0..whole.len() {
            assert!(Config::parse(whole.slice(..len)).is_err(), "{len}");
        }
    }

    #[test]
    fn splits_access_units() {
        let check = |payload: &str, size, expected: &[Result<&str, Error>]| {
            let units: Vec<_> = nal_units(&hex(payload), size).collect();
            let expected: Vec<_> = expected.iter().map(|unit| unit.map(hex)).collect();
            assert_eq!(units, expected, "{payload}");
        };
        check("", 4, &[]);
        check("000000020910000000036588ff", 4, &[Ok("0910"), Ok("6588ff")]);
        check("0002091000036588ff", 2, &[Ok("0910"), Ok("6588ff")]);
        check("02091000036588ff", 1, &[Ok("0910"), Ok("6588ff")]);
        check("0000000000000000", 4, &[]);
        check(
            "0000000209",
            4,
            &[Err(Error::NalTooLong {
                claimed: 2,
                left: 1,
            })],
        );
        check(
            "ffffffff65",
            4,
            &[Err(Error::NalTooLong {
                claimed: 0xFFFF_FFFF,
                left: 1,
            })],
        );
        check("000000010900", 4, &[Ok("09"), Err(Error::NalLengthCut(1))]);
        for size in [0, 3, 5, 9] {
            check("0000000109", size, &[Err(Error::NalLengthSize(size))]);
        }
    }

    #[test]
    fn tells_idr_pictures_from_others() {
        let check = |payload: &str, expected| {
            assert_eq!(is_idr(&hex(payload), 4), expected, "{payload}");
        };
        check("0000000165", true);
        check(
            "000000010900000001670000000168000000010600000001650000000165",
            true,
        );
        check("0000000141", false);
        // A recovery point: an SEI, then a slice of an I picture that is not IDR.
        check("00000001060000000141", false);
        // The first slice decides; a picture cannot be both.
        check("00000001410000000165", false);
        check("0000000106", false);
        check("", false);
        check("0000ffff65", false);
    }

    #[test]
    fn tells_pictures_with_captions_from_others() {
        let check = |payload: &str, expected| {
            assert_eq!(has_captions(&hex(payload), 4), expected, "{payload}");
        };
        let captions = "0604 0b b5003147413934 03 41ff fc80 80".replace(' ', "");
        let unit = |nal: &str| format!("{:08x}{nal}", nal.len() / 2);
        let (slice, plain) = (unit("65"), unit("06052c"));
        check(
            &[unit("09f0"), plain.clone(), unit(&captions), slice.clone()].concat(),
            true,
        );
        check(&[plain, slice.clone()].concat(), false);
        // Bar data of the same organisation.
        check(
            &(unit("0604 0b b5003147413934 06".replace(' ', "").as_str()) + &slice),
            false,
        );
        // Behind the first slice they belong to no picture.
        check(&(slice + &unit(&captions)), false);
        check(&captions, false);
        check("", false);
    }

    proptest! {
        #[test]
        fn arbitrary_records_never_panic(bytes: Vec<u8>) {
            let _ = Config::parse(bytes.into());
        }

        #[test]
        fn arbitrary_sps_never_panics_and_stays_in_range(sps: Vec<u8>, profile: u8) {
            let mut record = vec![1, 0x64, 0, 31, 0xFF, 0xE1];
            record.extend(u16::try_from(sps.len() + 2).unwrap().to_be_bytes());
            record.extend([0x67, profile]);
            record.extend(&sps);
            record.push(0);
            let config = Config::parse(record.into()).unwrap();
            if let Some(picture) = config.picture {
                prop_assert!((1..=sps::PICTURE_SIDE_MAX).contains(&picture.width));
                prop_assert!((1..=sps::PICTURE_SIDE_MAX).contains(&picture.height));
                prop_assert!(picture.frame_rate.is_none_or(|(rate, scale)| rate > 0 && scale > 0));
            }
        }

        #[test]
        fn one_changed_byte_never_panics(which in 0..RECORDS.len(), at: prop::sample::Index, to: u8) {
            let mut record = hex(RECORDS[which].0).to_vec();
            let at = at.index(record.len());
            record[at] = to;
            let _ = Config::parse(record.into());
        }

        #[test]
        fn arbitrary_access_units_are_split_within_their_bytes(bytes: Vec<u8>, size in 0usize..6) {
            let payload = Bytes::from(bytes);
            let taken: usize = nal_units(&payload, size).flatten().map(|nal| nal.len() + size).sum();
            prop_assert!(taken <= payload.len());
            let _ = is_idr(&payload, size);
        }

        #[test]
        fn access_units_come_apart_as_they_were_put_together(nals: Vec<Vec<u8>>) {
            let mut payload = Vec::new();
            for nal in &nals {
                payload.extend(u32::try_from(nal.len()).unwrap().to_be_bytes());
                payload.extend(nal);
            }
            let split: Vec<_> = nal_units(&payload.into(), 4).map(|nal| nal.unwrap().to_vec()).collect();
            let expected: Vec<_> = nals.into_iter().filter(|nal| !nal.is_empty()).collect();
            prop_assert_eq!(split, expected);
        }
    }
}
