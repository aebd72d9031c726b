//! Fragmented MP4 as CMAF: one init segment per track, then fragments.
//!
//! Owns: the boxes of ISO/IEC 14496-12 within the constraints of CMAF (ISO/IEC 23000-19): one track per file,
//! one `traf` per fragment, 64-bit decode times, composition offsets that may be negative (`trun` version 1, brand
//! `cmf2`) and no edit list.
//! Does not own: where fragments and segments are cut (crate `package`), or codec bytes ([`crate::codec`]).
//!
//! Every default stands in the fragment and not in the init segment, as `cmf2` asks, so that a fragment is
//! understood by itself.

mod init;

use bytes::{BufMut, Bytes, BytesMut};
use mp4_atom::{Encode, FourCC, Mfhd, Moof, Styp, Tfdt, Tfhd, Traf, Trun, TrunEntry};

pub use init::init;

/// The `track_id` of the one track of every file.
pub const TRACK_ID: u32 = 1;

/// Sample flags (ISO/IEC 14496-12 8.8.3.1): depends on no other sample, and is a sync sample.
const FLAGS_SYNC: u32 = 0x0200_0000;
/// Sample flags: depends on others, and is not a sync sample.
const FLAGS_NON_SYNC: u32 = 0x0101_0000;
/// Bytes of a `moof` around its samples, at most: moof 8, mfhd 16, traf 8, tfhd 24, tfdt 20, trun 24.
const MOOF_LEN_AROUND_SAMPLES: usize = 100;
/// Bytes of one sample in a `trun`, at most: duration, size, flags, composition offset.
const TRUN_ENTRY_LEN_MAX: usize = 16;
/// Bytes of a box header with a 32-bit size.
const BOX_HEADER_LEN: usize = 8;

/// One access unit with the time that belongs to it, in ticks of the track's timescale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// From its decoding time to that of the next sample.
    pub duration: u32,
    /// Presentation time minus decoding time.
    pub composition: i32,
    /// Whether decoding can start here.
    pub sync: bool,
    /// Length-prefixed NAL units or a raw AAC access unit.
    pub payload: Bytes,
}

impl Sample {
    fn flags(&self) -> u32 {
        if self.sync {
            FLAGS_SYNC
        } else {
            FLAGS_NON_SYNC
        }
    }
}

/// The `styp` box that may stand before the first fragment of a segment.
#[must_use]
pub fn segment_type() -> Bytes {
    let mut out = BytesMut::new();
    put_box(
        &Styp {
            major_brand: FourCC::new(b"msdh"),
            minor_version: 0,
            compatible_brands: [b"msdh", b"cmfs", b"iso6"].map(FourCC::new).into(),
        },
        &mut out,
    );
    out.freeze()
}

/// A fragment, `moof` and `mdat`, whose first sample is decoded at `decode_time`.
///
/// `sequence` goes up with every fragment that is served under one init segment. The next fragment's
/// `decode_time` is this one's plus all durations, exactly. Each payload is copied once, into the buffer that is
/// returned; the payloads of one fragment stay far below 4 GiB because the stream's ring holds them all.
#[must_use]
pub fn fragment(sequence: u32, decode_time: u64, samples: &[Sample]) -> Bytes {
    let payload_len = samples
        .iter()
        .map(|sample| sample.payload.len())
        .sum::<usize>();
    let moof_len_max = MOOF_LEN_AROUND_SAMPLES + TRUN_ENTRY_LEN_MAX * samples.len();
    let mut out = BytesMut::with_capacity(moof_len_max + BOX_HEADER_LEN + payload_len);

    // The length of the moof does not depend on the offset in it: write it once to learn the offset.
    let mut moof = moof(sequence, decode_time, samples);
    put_box(&moof, &mut out);
    let data_offset = i32::try_from(out.len() + BOX_HEADER_LEN).unwrap_or(i32::MAX);
    for trun in moof.traf.iter_mut().flat_map(|traf| &mut traf.trun) {
        trun.data_offset = Some(data_offset);
    }
    out.clear();
    put_box(&moof, &mut out);

    out.put_u32(u32_len(BOX_HEADER_LEN + payload_len));
    out.put_slice(b"mdat");
    for sample in samples {
        out.put_slice(&sample.payload);
    }
    out.freeze()
}

/// What all samples share stands once in `tfhd`; the rest stands with each sample in `trun`.
fn moof(sequence: u32, decode_time: u64, samples: &[Sample]) -> Moof {
    let duration = shared(samples, |sample| sample.duration);
    // Usually only the first sample differs: a key frame and what depends on it.
    let later = samples
        .get(1..)
        .filter(|later| !later.is_empty())
        .unwrap_or(samples);
    let flags = shared(later, Sample::flags);
    let composed = samples.iter().any(|sample| sample.composition != 0);
    let entry = |(index, sample): (usize, &Sample)| {
        let own_flags = match flags {
            Some(shared) => index == 0 && sample.flags() != shared,
            None => true,
        };
        TrunEntry {
            duration: duration.is_none().then_some(sample.duration),
            size: Some(u32_len(sample.payload.len())),
            flags: own_flags.then(|| sample.flags()),
            cts: composed.then_some(sample.composition.into()),
        }
    };
    let trun = Trun {
        data_offset: Some(0),
        samples: samples
            .iter()
            .enumerate()
            .map(entry)
            .collect::<Vec<_>>()
            .into(),
    };
    let tfhd = Tfhd {
        track_id: TRACK_ID,
        default_base_is_moof: true,
        default_sample_duration: duration,
        default_sample_flags: flags,
        ..Default::default()
    };
    let tfdt = Tfdt {
        base_media_decode_time: decode_time,
    };
    let traf = Traf {
        tfhd,
        tfdt: Some(tfdt),
        trun: vec![trun],
        ..Default::default()
    };
    Moof {
        mfhd: Mfhd {
            sequence_number: sequence,
        },
        traf: vec![traf],
    }
}

/// The value that all samples have in common.
fn shared<T: PartialEq>(samples: &[Sample], value: impl Fn(&Sample) -> T) -> Option<T> {
    let first = value(samples.first()?);
    samples
        .iter()
        .all(|sample| value(sample) == first)
        .then_some(first)
}

fn put_box(atom: &impl Encode, out: &mut BytesMut) {
    atom.encode(out)
        .expect("the boxes written here are far below 4 GiB and their fields in range");
}

fn u32_len(len: usize) -> u32 {
    u32::try_from(len).expect("the payloads of a fragment are far below 4 GiB")
}

#[cfg(test)]
mod tests {
    use mp4_atom::{Any, Decode, DecodeMaybe, Mdat};
    use proptest::prelude::*;

    use super::*;

    fn sample(duration: u32, composition: i32, sync: bool, payload: &'static [u8]) -> Sample {
        Sample {
            duration,
            composition,
            sync,
            payload: payload.into(),
        }
    }

    /// Reads a fragment as a player does: samples with their own bytes, and the decode time behind them.
    fn read_back(fragment: &Bytes) -> (u32, u64, Vec<Sample>, u64) {
        let mut rest = &fragment[..];
        let Some(Any::Moof(moof)) = Any::decode_maybe(&mut rest).unwrap() else {
            panic!("no moof")
        };
        let moof_len = fragment.len() - rest.len();
        let mdat = Mdat::decode(&mut rest).unwrap();
        assert!(rest.is_empty());
        let [traf] = &moof.traf[..] else {
            panic!("one traf")
        };
        let [trun] = &traf.trun[..] else {
            panic!("one trun")
        };
        assert_eq!(traf.tfhd.track_id, TRACK_ID);
        assert!(traf.tfhd.default_base_is_moof && traf.tfhd.base_data_offset.is_none());
        let mut at = usize::try_from(trun.data_offset.unwrap()).unwrap();
        assert_eq!(
            at,
            moof_len + BOX_HEADER_LEN,
            "data_offset points at the first byte of the mdat"
        );
        let start = traf.tfdt.as_ref().unwrap().base_media_decode_time;
        let mut end = start;
        let mut samples = Vec::new();
        for entry in &trun.samples {
            let len = usize::try_from(entry.size.unwrap()).unwrap();
            let flags = entry.flags.or(traf.tfhd.default_sample_flags).unwrap();
            assert!([FLAGS_SYNC, FLAGS_NON_SYNC].contains(&flags));
            let duration = entry
                .duration
                .or(traf.tfhd.default_sample_duration)
                .unwrap();
            samples.push(Sample {
                duration,
                composition: i32::try_from(entry.cts.unwrap_or(0)).unwrap(),
                sync: flags == FLAGS_SYNC,
                payload: fragment.slice(at..at + len),
            });
            at += len;
            end += u64::from(duration);
        }
        assert_eq!(at, fragment.len(), "the samples fill the mdat");
        assert_eq!(mdat.data.len(), at - moof_len - BOX_HEADER_LEN);
        (moof.mfhd.sequence_number, start, samples, end)
    }

    #[test]
    fn fragments_read_back_as_they_were_written() {
        let check = |samples: &[Sample], header_len: usize| {
            let fragment = fragment(7, u64::from(u32::MAX) + 5, samples);
            let (sequence, start, read, _) = read_back(&fragment);
            assert_eq!((sequence, start), (7, u64::from(u32::MAX) + 5));
            assert_eq!(read, samples);
            let payload: usize = samples.iter().map(|sample| sample.payload.len()).sum();
            assert_eq!(fragment.len() - payload, header_len, "{samples:?}");
        };
        // Beside its 96 to 104 bytes a fragment spends 4 bytes on a sample, 8 with composition offsets.
        check(&[sample(1024, 0, true, b"aac")], 108);
        check(
            &[
                sample(1024, 0, true, b"aac"),
                sample(1024, 0, true, b"more"),
            ],
            112,
        );
        let gop = [
            sample(3600, 7200, true, b"I"),
            sample(3600, 10_800, false, b"PP"),
        ];
        check(&gop, 124);
        check(&gop[1..], 112);
        // A first sample that differs in duration, negative offsets, sync in the middle, an empty payload.
        let odd = [
            sample(1, 0, false, b"a"),
            sample(2, -5, true, b""),
            sample(2, i32::MIN, false, b"c"),
            sample(2, i32::MAX, true, b"d"),
        ];
        check(&odd, 160);
    }

    #[test]
    fn decode_times_are_64_bits_even_when_small() {
        let fragment = fragment(1, 3, &[sample(1, 0, true, b"x")]);
        let tfdt = fragment
            .windows(4)
            .position(|kind| kind == b"tfdt")
            .unwrap();
        assert_eq!(
            fragment[tfdt + 4..tfdt + 16],
            [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]
        );
    }

    #[test]
    fn composition_offsets_are_signed() {
        let fragment = fragment(1, 0, &[sample(1, -1, true, b"x")]);
        let trun = fragment
            .windows(4)
            .position(|kind| kind == b"trun")
            .unwrap();
        assert_eq!(fragment[trun + 4], 1, "trun version");
    }

    #[test]
    fn a_fragment_is_one_allocation() {
        let samples = vec![
            sample(1, 1, true, &[0; 100]),
            sample(2, -1, false, &[0; 100]),
        ];
        let payload_len = 200;
        let fragment = BytesMut::from(fragment(1, 0, &samples));
        let overhead = MOOF_LEN_AROUND_SAMPLES + 2 * TRUN_ENTRY_LEN_MAX + BOX_HEADER_LEN;
        assert!(
            fragment.capacity() <= overhead + payload_len,
            "{}",
            fragment.capacity()
        );
    }

    #[test]
    fn the_segment_type_is_one_box() {
        assert_eq!(
            &segment_type()[..],
            b"\0\0\0\x1cstypmsdh\0\0\0\0msdhcmfsiso6"
        );
    }

    proptest! {
        #[test]
        fn a_day_of_fragments_does_not_drift(
            fragments in prop::collection::vec(
                prop::collection::vec((1u32..90_000, any::<i32>(), any::<bool>(), any::<u8>()), 1..20),
                1..10,
            ),
            start in 0u64..1 << 60,
        ) {
            let mut expected = start;
            for (sequence, samples) in (1u32..).zip(&fragments) {
                let samples: Vec<_> = samples
                    .iter()
                    .map(|&(duration, composition, sync, len)| Sample {
                        duration, composition, sync, payload: vec![len; len.into()].into(),
                    })
                    .collect();
                let (read_sequence, read_start, read, end) = read_back(&fragment(sequence, expected, &samples));
                prop_assert_eq!((read_sequence, read_start), (sequence, expected));
                prop_assert_eq!(read, samples);
                expected = end;
            }
        }
    }
}
