//! Whether a segment, a part or a chunk of one is whole, seen as it passes by.
//!
//! Owns: that boxes of ISO BMFF fill it exactly (ISO/IEC 14496-12, 4.2), or packets of MPEG-TS (ISO/IEC 13818-1,
//! 2.4.3.2); how long each chunk plays, and the time code of its first picture. Does not own: what is in the samples and
//! packets.

use std::collections::VecDeque;

use crate::time_code::TimeCode;

/// Bytes of a transport stream searched for the time code: the first picture of a segment begins within them.
const SEARCHED_LEN: usize = 8 << 10;
/// Bytes of an `mdat` searched for it: it comes before the first picture.
const SEARCHED_SAMPLES_LEN: usize = 1 << 10;
/// Longest `moof` that is read: sixty entries of sixteen bytes for each second are usual.
const MOOF_LEN_MAX: usize = 64 << 10;
/// Bytes of a packet of MPEG-TS, and the first of them.
const PACKET_LEN: u64 = 188;
const SYNC_BYTE: u8 = 0x47;
/// Bytes of a box before its content.
const BOX_HEADER_LEN: usize = 8;

/// Flags of `tfhd` (ISO/IEC 14496-12, 8.8.7): which fields are there.
const TFHD_BASE_DATA_OFFSET: u32 = 0x1;
const TFHD_DESCRIPTION_INDEX: u32 = 0x2;
const TFHD_DEFAULT_DURATION: u32 = 0x8;
/// Flags of `trun` (8.8.8): which fields are there, and for each sample.
const TRUN_DATA_OFFSET: u32 = 0x1;
const TRUN_FIRST_FLAGS: u32 = 0x4;
const TRUN_DURATION: u32 = 0x100;
const TRUN_PER_SAMPLE: [u32; 4] = [TRUN_DURATION, 0x200, 0x400, 0x800];

/// A movie fragment that has come whole: `moof` and `mdat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// How long it plays, in units of its track; none if it does not say that itself.
    pub duration: Option<u64>,
    /// The time code of its first picture.
    pub code: Option<TimeCode>,
}

/// Looks at a segment as it arrives.
#[derive(Debug, Default)]
pub struct Checker {
    kind: Option<Kind>,
    /// Header of the box or packet so far.
    header: [u8; BOX_HEADER_LEN],
    header_len: usize,
    /// The name of the box that the next bytes belong to.
    name: [u8; 4],
    /// Bytes of it, or of a packet, that are still to come.
    left: u64,
    /// What is kept of it: a `moof`, the beginning of an `mdat` or of a transport stream.
    kept: Vec<u8>,
    duration: Option<u64>,
    first_code: Option<TimeCode>,
    chunks: VecDeque<Chunk>,
    len: u64,
    is_damaged: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Boxes,
    Packets,
}

impl Checker {
    /// Takes the next bytes.
    pub fn read(&mut self, mut input: &[u8]) {
        self.len += input.len() as u64;
        while !input.is_empty() && !self.is_damaged {
            if self.left > 0 {
                let taken = usize::try_from(self.left)
                    .unwrap_or(usize::MAX)
                    .min(input.len());
                let (content, rest) = input.split_at(taken);
                input = rest;
                self.left -= taken as u64;
                self.keep(content);
                if self.left == 0 {
                    self.end_of_box();
                }
            } else if let Some((byte, rest)) = input.split_first() {
                input = rest;
                self.step(*byte);
            }
        }
    }

    /// The next chunk that has come whole since the last call.
    pub fn next_chunk(&mut self) -> Option<Chunk> {
        self.chunks.pop_front()
    }

    /// The time code of the first picture so far.
    #[must_use]
    pub fn time_code(&self) -> Option<TimeCode> {
        self.first_code.or_else(|| match self.kind {
            Some(Kind::Packets) => TimeCode::find(&self.kept),
            _ => None,
        })
    }

    /// The segment has ended.
    ///
    /// # Errors
    /// It is empty, cut off or damaged.
    pub fn finish(&self) -> Result<(), &'static str> {
        if self.len == 0 {
            Err("a segment is empty")
        } else if self.is_damaged || self.left > 0 || self.header_len > 0 {
            Err("a segment is damaged")
        } else {
            Ok(())
        }
    }

    fn step(&mut self, byte: u8) {
        let is_packet = byte == SYNC_BYTE;
        let kind = *self.kind.get_or_insert(if is_packet {
            Kind::Packets
        } else {
            Kind::Boxes
        });
        if kind == Kind::Packets {
            self.is_damaged = !is_packet;
            self.left = PACKET_LEN - 1;
            self.keep(&[byte]);
            return;
        }
        if let Some(slot) = self.header.get_mut(self.header_len) {
            *slot = byte;
        }
        self.header_len += 1;
        if self.header_len < BOX_HEADER_LEN {
            return;
        }
        self.header_len = 0;
        let [a, b, c, d, name @ ..] = self.header;
        let content =
            u64::from(u32::from_be_bytes([a, b, c, d])).checked_sub(BOX_HEADER_LEN as u64);
        self.is_damaged = content.is_none() || !name.iter().all(u8::is_ascii_graphic);
        self.left = content.unwrap_or(0);
        self.name = name;
        self.kept.clear();
    }

    fn keep(&mut self, content: &[u8]) {
        let max = match (self.kind, &self.name) {
            (Some(Kind::Packets), _) => SEARCHED_LEN,
            (_, b"mdat") => SEARCHED_SAMPLES_LEN,
            (_, b"moof") => MOOF_LEN_MAX,
            _ => 0,
        };
        let room = max.saturating_sub(self.kept.len()).min(content.len());
        self.kept
            .extend_from_slice(content.get(..room).unwrap_or_default());
    }

    fn end_of_box(&mut self) {
        match (self.kind, &self.name) {
            (Some(Kind::Boxes), b"moof") => self.duration = duration(&self.kept),
            (Some(Kind::Boxes), b"mdat") => {
                let code = TimeCode::find(&self.kept);
                self.first_code = self.first_code.or(code);
                self.chunks.push_back(Chunk {
                    duration: self.duration.take(),
                    code,
                });
            }
            _ => {}
        }
    }
}

/// How long the fragment of a `moof` with this content plays; none if that stands in the initialisation section.
fn duration(moof: &[u8]) -> Option<u64> {
    let traf = child(moof, b"traf")?;
    let (flags, fields) = full_box(child(traf, b"tfhd")?)?;
    // The track's number is always there.
    let before = [(TFHD_BASE_DATA_OFFSET, 8), (TFHD_DESCRIPTION_INDEX, 4)];
    let at = before.iter().filter(|(flag, _)| flags & flag != 0);
    let at = 4 + at.map(|(_, len)| len).sum::<usize>();
    let usual = (flags & TFHD_DEFAULT_DURATION != 0)
        .then(|| u32_at(fields, at))
        .flatten();
    let (flags, fields) = full_box(child(traf, b"trun")?)?;
    let count = u32_at(fields, 0)?;
    if flags & TRUN_DURATION == 0 {
        return Some(u64::from(count) * u64::from(usual?));
    }
    let before = [TRUN_DATA_OFFSET, TRUN_FIRST_FLAGS];
    let before = before.iter().filter(|flag| flags & **flag != 0).count();
    let each = TRUN_PER_SAMPLE.iter().filter(|flag| flags & **flag != 0);
    let samples = fields.get(4 + 4 * before..)?.chunks_exact(4 * each.count());
    let durations = samples.map(|sample| u32_at(sample, 0).map(u64::from));
    let durations: Option<Vec<u64>> = durations.collect();
    let durations = durations?;
    (durations.len() as u64 == u64::from(count)).then(|| durations.iter().sum())
}

/// The content of the first box with that name.
fn child<'a>(mut boxes: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    loop {
        let size = u32_at(boxes, 0)? as usize;
        let content = boxes.get(BOX_HEADER_LEN..size)?;
        if boxes.get(4..BOX_HEADER_LEN)? == name {
            return Some(content);
        }
        boxes = boxes.get(size..)?;
    }
}

/// The flags of a box that has a version, and its fields.
fn full_box(content: &[u8]) -> Option<(u32, &[u8])> {
    Some((u32_at(content, 0)? & 0xFF_FFFF, content.get(4..)?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_media::container::fmp4::{Sample, fragment};

    use super::*;

    const CODE: TimeCode = TimeCode {
        sent_us: 5,
        number: 6,
    };

    fn boxes() -> Vec<u8> {
        let content = CODE.nal();
        let size = (content.len() as u32 + 8).to_be_bytes();
        [&[0, 0, 0, 8], b"moof", &size, b"mdat", &content[..]].concat()
    }

    fn packets() -> Vec<u8> {
        let mut packets = vec![SYNC_BYTE; 3 * 188];
        packets[200..200 + CODE.nal().len()].copy_from_slice(&CODE.nal());
        packets
    }

    fn read(bytes: &[u8], piece_len: usize) -> Checker {
        let mut checker = Checker::default();
        bytes
            .chunks(piece_len)
            .for_each(|piece| checker.read(piece));
        checker
    }

    fn check(bytes: &[u8], expected: Result<Option<TimeCode>, &str>) {
        for piece_len in [1, 7, bytes.len().max(1)] {
            let checker = read(bytes, piece_len);
            let found = checker.finish().map(|()| checker.time_code());
            assert_eq!(found, expected, "{piece_len}");
        }
    }

    #[test]
    fn whole_segments_pass() {
        check(&boxes(), Ok(Some(CODE)));
        check(&packets(), Ok(Some(CODE)));
        check(&[0, 0, 0, 8, b'm', b'o', b'o', b'f'], Ok(None));
    }

    #[test]
    fn torn_and_damaged_segments_do_not() {
        let damaged = Err("a segment is damaged");
        check(&[], Err("a segment is empty"));
        check(b"<html>not found</html>", damaged);
        check(&[0, 0, 0, 7, b'm', b'o', b'o', b'f'], damaged);
        for whole in [boxes(), packets()] {
            check(&whole[..whole.len() - 1], damaged);
            check(&[&whole[..], &[0]].concat(), damaged);
            let mut lost = whole;
            lost.remove(100.min(lost.len() - 1));
            check(&lost, damaged);
        }
    }

    #[test]
    fn chunks_say_how_long_they_play() {
        let sample = |duration: u32, payload: Vec<u8>| Sample {
            duration,
            composition: 0,
            sync: true,
            payload: payload.into(),
        };
        let even = fragment(1, 0, &[sample(3_000, CODE.nal()), sample(3_000, vec![1])]);
        let uneven = fragment(
            2,
            6_000,
            &[sample(2_999, vec![1; 2_000]), sample(3_001, vec![2])],
        );
        let all = [&even[..], &uneven].concat();
        let expected = [Some(CODE), None].map(|code| Chunk {
            duration: Some(6_000),
            code,
        });
        for piece_len in [1, 100, all.len()] {
            let mut checker = read(&all, piece_len);
            let chunks: Vec<_> = std::iter::from_fn(|| checker.next_chunk()).collect();
            assert_eq!(chunks, expected, "{piece_len}");
        }
        let mut torn = read(&all[..all.len() - 1], 100);
        assert!(torn.next_chunk().is_some() && torn.next_chunk().is_none());
    }

    proptest! {
        #[test]
        fn arbitrary_fragments_never_panic(moof: Vec<u8>) {
            let _ = duration(&moof);
            let size = (moof.len() as u32 + 8).to_be_bytes();
            let traf = [&size[..], b"traf", &moof].concat();
            let _ = duration(&traf);
        }
    }
}
