//! PES packets: access units with their times.
//!
//! Owns: the PES header (ISO/IEC 13818-1 2.4.3.6, 2.4.3.7). Does not own: what follows it.

use bytes::{BufMut, BytesMut};

use super::wrap;

/// `stream_id` of the first video stream.
pub const VIDEO_STREAM_ID: u8 = 0xE0;
/// `stream_id` of the first audio stream.
pub const AUDIO_STREAM_ID: u8 = 0xC0;
/// Longest PES whose length can be stated. Only video may be longer, and then states none.
pub const PES_LEN_MAX: usize = LENGTH_END + 0xFFFF;

/// Bytes up to and with `PES_packet_length`, which counts what follows them.
const LENGTH_END: usize = 6;
/// Bits of '10', then `data_alignment_indicator`: an access unit starts right behind the header.
const ALIGNED: u8 = 0x84;
const HAS_PTS: u8 = 0x80;
const HAS_PTS_AND_DTS: u8 = 0xC0;
/// Bits before a time: of a PTS alone, of a PTS that a DTS follows, of a DTS.
const PTS_ALONE: u64 = 0b0010;
const PTS_OF_TWO: u64 = 0b0011;
const DTS_OF_TWO: u64 = 0b0001;

/// What stands before the access units of a PES.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PesHeader {
    /// Which elementary stream.
    pub stream_id: u8,
    /// Presentation time of the first access unit, ticks of 90 kHz.
    pub pts: i64,
    /// Its decoding time; written only when it differs.
    pub dts: i64,
}

impl PesHeader {
    /// Appends the header; its length field is 0 until [`seal_pes`].
    pub fn put(self, out: &mut BytesMut) {
        out.put_slice(&[0, 0, 1, self.stream_id, 0, 0, ALIGNED]);
        let (pts, dts) = (wrap(self.pts), wrap(self.dts));
        if pts == dts {
            out.put_slice(&[HAS_PTS, 5]);
            put_time(out, PTS_ALONE, pts);
        } else {
            out.put_slice(&[HAS_PTS_AND_DTS, 10]);
            put_time(out, PTS_OF_TWO, pts);
            put_time(out, DTS_OF_TWO, dts);
        }
    }
}

/// States the length of `pes`, a header and its access units, so that a demuxer need not wait for the next one to know
/// where it ends. Beyond [`PES_LEN_MAX`] the length stays 0, which video may have.
pub fn seal_pes(pes: &mut BytesMut) {
    let len = pes
        .len()
        .checked_sub(LENGTH_END)
        .and_then(|len| u16::try_from(len).ok());
    if let (Some(len), Some(field)) = (len, pes.get_mut(LENGTH_END - 2..LENGTH_END)) {
        field.copy_from_slice(&len.to_be_bytes());
    }
}

/// Appends 33 bits in three pieces, each followed by a marker bit.
fn put_time(out: &mut BytesMut, prefix: u64, time: u64) {
    let pieces = (time >> 30 & 0x7) << 33 | (time >> 15 & 0x7FFF) << 17 | (time & 0x7FFF) << 1;
    let markers = 1 << 32 | 1 << 16 | 1;
    out.put_uint(prefix << 36 | pieces | markers, 5);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_33_bits_between_markers() {
        let check = |pts, dts, payload_len: usize, expected: &[u8]| {
            let mut pes = BytesMut::new();
            PesHeader {
                stream_id: VIDEO_STREAM_ID,
                pts,
                dts,
            }
            .put(&mut pes);
            pes.resize(pes.len() + payload_len, 0);
            seal_pes(&mut pes);
            assert_eq!(&pes[..pes.len() - payload_len], expected, "{pts} {dts}");
        };
        check(
            0,
            0,
            1,
            &[0, 0, 1, 0xE0, 0, 9, 0x84, 0x80, 5, 0x21, 0, 1, 0, 1],
        );
        check(
            90_000,
            90_000,
            0,
            &[0, 0, 1, 0xE0, 0, 8, 0x84, 0x80, 5, 0x21, 0, 5, 0xBF, 0x21],
        );
        let both = &[
            0, 0, 1, 0xE0, 0, 13, 0x84, 0xC0, 10, 0x31, 0, 1, 0, 3, 0x1F, 0xFF, 0xFF, 0xFF, 0xFF,
        ];
        check((1 << 33) + 1, (1 << 33) - 1, 0, both);
        // A picture too long for its length to be stated.
        check(
            0,
            0,
            PES_LEN_MAX - 13,
            &[0, 0, 1, 0xE0, 0, 0, 0x84, 0x80, 5, 0x21, 0, 1, 0, 1],
        );
        check(
            0,
            0,
            PES_LEN_MAX - 14,
            &[0, 0, 1, 0xE0, 0xFF, 0xFF, 0x84, 0x80, 5, 0x21, 0, 1, 0, 1],
        );
    }
}
