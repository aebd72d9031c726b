//! Whether a segment is whole, seen as it passes by.
//!
//! Owns: that boxes of ISO BMFF fill it exactly (ISO/IEC 14496-12, 4.2), or packets of MPEG-TS (ISO/IEC 13818-1,
//! 2.4.3.2), and the time code of its first picture. Does not own: what is in the boxes and packets.

use crate::time_code::TimeCode;

/// Bytes searched for the time code: the first picture of a segment begins within them.
const SEARCHED_LEN: usize = 8 << 10;
/// Bytes of a packet of MPEG-TS, and the first of them.
const PACKET_LEN: u64 = 188;
const SYNC_BYTE: u8 = 0x47;
/// Bytes of a box before its content.
const BOX_HEADER_LEN: usize = 8;

/// Looks at a segment as it arrives.
#[derive(Debug, Default)]
pub struct Checker {
    kind: Option<Kind>,
    /// Header of the box or packet so far.
    header: [u8; BOX_HEADER_LEN],
    header_len: usize,
    /// Bytes of it that are still to come.
    left: u64,
    /// The beginning, for the time code.
    begin: Vec<u8>,
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
        let room = SEARCHED_LEN.saturating_sub(self.begin.len());
        self.begin
            .extend_from_slice(input.get(..room).unwrap_or(input));
        self.len += input.len() as u64;
        while !input.is_empty() && !self.is_damaged {
            if self.left > 0 {
                let taken = usize::try_from(self.left)
                    .unwrap_or(usize::MAX)
                    .min(input.len());
                input = input.get(taken..).unwrap_or_default();
                self.left -= taken as u64;
            } else if let Some((byte, rest)) = input.split_first() {
                input = rest;
                self.step(*byte);
            }
        }
    }

    /// The segment has ended: its time code, if it has one.
    ///
    /// # Errors
    /// It is empty, cut off or damaged.
    pub fn finish(&self) -> Result<Option<TimeCode>, &'static str> {
        if self.len == 0 {
            Err("a segment is empty")
        } else if self.is_damaged || self.left > 0 || self.header_len > 0 {
            Err("a segment is damaged")
        } else {
            Ok(TimeCode::find(&self.begin))
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
    }
}

#[cfg(test)]
mod tests {
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

    fn check(bytes: &[u8], expected: Result<Option<TimeCode>, &str>) {
        for piece_len in [1, 7, bytes.len().max(1)] {
            let mut checker = Checker::default();
            bytes
                .chunks(piece_len)
                .for_each(|piece| checker.read(piece));
            assert_eq!(checker.finish(), expected, "{piece_len}");
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
}
