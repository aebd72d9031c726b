//! Transport packets of one PID.
//!
//! Owns: the packet header, adaptation fields, continuity counters (ISO/IEC 13818-1 2.4.3.2 to 2.4.3.5), and how a PES
//! is divided into packets. Does not own: what is in them.

use bytes::{BufMut, BytesMut};

use super::{Section, wrap};

/// Bytes of a packet.
pub const PACKET_LEN: usize = 188;

const SYNC: u8 = 0x47;
/// Bytes of a packet behind its header.
const BODY_LEN: usize = 184;
const STUFFING: u8 = 0xFF;
/// Packets after which a continuity counter is where it was.
const COUNTER_CYCLE: usize = 16;

/// `payload_unit_start_indicator` in the second byte of a packet.
const UNIT_START: u8 = 0x40;
/// `adaptation_field_control`, shifted to its place.
const HAS_PAYLOAD: u8 = 0x10;
const HAS_ADAPTATION: u8 = 0x20;
/// Flags of an adaptation field.
const DISCONTINUITY: u8 = 0x80;
const RANDOM_ACCESS: u8 = 0x40;
const HAS_PCR: u8 = 0x10;

/// What an adaptation field says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Adaptation {
    /// The program clock reference, ticks of 90 kHz.
    pub pcr: Option<i64>,
    /// Decoding can start here.
    pub random_access: bool,
    /// The clock of the program jumps here.
    pub discontinuity: bool,
}

impl Adaptation {
    /// Bytes it needs, with the one that states its length; none when it says nothing.
    fn len(self) -> usize {
        match self {
            Self { pcr: Some(_), .. } => 8,
            Self {
                random_access: false,
                discontinuity: false,
                ..
            } => 0,
            _ => 2,
        }
    }

    /// Appends a field of exactly `len` bytes, at least [`Self::len`].
    fn put(self, out: &mut BytesMut, len: usize) {
        let Some(behind_length) = len.checked_sub(1) else {
            return;
        };
        out.put_u8(u8::try_from(behind_length).expect("a field is at most 184 bytes long"));
        if behind_length == 0 {
            return;
        }
        let end = out.len() + behind_length;
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        out.put_u8(
            flag(self.discontinuity, DISCONTINUITY)
                | flag(self.random_access, RANDOM_ACCESS)
                | flag(self.pcr.is_some(), HAS_PCR),
        );
        if let Some(pcr) = self.pcr {
            // 33 bits of base, 6 reserved ones, 9 bits of extension, which is 0: the clock has whole ticks.
            out.put_uint(wrap(pcr) << 15 | 0x7E00, 6);
        }
        out.resize(end, STUFFING);
    }
}

/// Writes the packets of one PID and counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pid {
    number: u16,
    /// The continuity counter of the next packet with payload.
    counter: u8,
}

impl Pid {
    /// The PID `number`, 13 bits, whose first packet has counter 0.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self {
            number: number & 0x1FFF,
            counter: 0,
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }

    /// Whether the next packet with payload has counter 0 again.
    #[must_use]
    pub const fn is_aligned(&self) -> bool {
        self.counter == 0
    }

    /// Appends one packet with a section.
    pub fn put_section(&mut self, out: &mut BytesMut, section: &Section) {
        self.put_header(out, UNIT_START, HAS_PAYLOAD);
        let end = out.len() + BODY_LEN;
        out.put_u8(0); // pointer_field: the section starts here
        out.put_slice(section.bytes());
        out.resize(end, STUFFING);
    }

    /// Appends a packet that carries no payload; the counter stays (2.4.3.3).
    pub fn put_adaptation(&mut self, out: &mut BytesMut, adaptation: Adaptation) {
        self.put_header(out, 0, HAS_ADAPTATION);
        adaptation.put(out, BODY_LEN);
    }

    /// Appends the packets of a PES, `adaptation` in the first.
    pub fn put_pes(&mut self, out: &mut BytesMut, adaptation: Adaptation, pes: &[u8]) {
        self.put_in_packets(out, adaptation, pes, packets_needed(adaptation, pes.len()));
    }

    /// As [`Self::put_pes`], with so many packets that [`Self::is_aligned`] holds behind them. A packet must have
    /// payload to be counted, so the last packets carry a byte each.
    pub fn put_pes_aligned(&mut self, out: &mut BytesMut, adaptation: Adaptation, pes: &[u8]) {
        let needed = packets_needed(adaptation, pes.len());
        let before = usize::from(self.counter);
        let packets = (before + needed).next_multiple_of(COUNTER_CYCLE) - before;
        self.put_in_packets(out, adaptation, pes, packets);
    }

    fn put_in_packets(
        &mut self,
        out: &mut BytesMut,
        adaptation: Adaptation,
        pes: &[u8],
        packets: usize,
    ) {
        let mut rest = pes;
        for behind in (0..packets).rev() {
            let first = behind + 1 == packets;
            let adaptation = if first {
                adaptation
            } else {
                Adaptation::default()
            };
            let room = BODY_LEN - adaptation.len();
            let (payload, left) = rest.split_at(room.min(rest.len().saturating_sub(behind)));
            rest = left;
            let adaptation_len = BODY_LEN - payload.len();
            let control = if adaptation_len > 0 {
                HAS_ADAPTATION | HAS_PAYLOAD
            } else {
                HAS_PAYLOAD
            };
            self.put_header(out, if first { UNIT_START } else { 0 }, control);
            adaptation.put(out, adaptation_len);
            out.put_slice(payload);
        }
    }

    fn put_header(&mut self, out: &mut BytesMut, start: u8, control: u8) {
        let counter = if control & HAS_PAYLOAD == 0 {
            self.counter.wrapping_sub(1) & 0x0F
        } else {
            let counter = self.counter;
            self.counter = (counter + 1) & 0x0F;
            counter
        };
        let [high, low] = self.number.to_be_bytes();
        out.put_slice(&[SYNC, start | high, low, control | counter]);
    }
}

/// Packets that `len` bytes take when every packet is as full as can be.
fn packets_needed(adaptation: Adaptation, len: usize) -> usize {
    let first = BODY_LEN - adaptation.len();
    1 + len.saturating_sub(first).div_ceil(BODY_LEN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn adaptation_fields_are_filled_to_the_byte() {
        let check = |adaptation: Adaptation, payload_len: usize, head: &[u8]| {
            let mut out = BytesMut::new();
            Pid::new(0x100).put_pes(&mut out, adaptation, &vec![0xAA; payload_len]);
            assert_eq!(out.len(), PACKET_LEN);
            assert_eq!(&out[..head.len()], head, "{adaptation:?} {payload_len}");
            assert!(
                out[PACKET_LEN - payload_len..]
                    .iter()
                    .all(|&byte| byte == 0xAA)
            );
            assert!(
                out[head.len()..PACKET_LEN - payload_len]
                    .iter()
                    .all(|&byte| byte == STUFFING)
            );
        };
        let none = Adaptation::default();
        check(none, 184, &[0x47, 0x41, 0x00, 0x10]);
        check(none, 183, &[0x47, 0x41, 0x00, 0x30, 0]);
        check(none, 182, &[0x47, 0x41, 0x00, 0x30, 1, 0]);
        check(none, 1, &[0x47, 0x41, 0x00, 0x30, 182, 0, 0xFF]);
        let key = Adaptation {
            random_access: true,
            ..none
        };
        check(key, 182, &[0x47, 0x41, 0x00, 0x30, 1, 0x40]);
        let pcr = Adaptation {
            pcr: Some(1),
            random_access: true,
            discontinuity: true,
        };
        check(
            pcr,
            176,
            &[0x47, 0x41, 0x00, 0x30, 7, 0xD0, 0, 0, 0, 0, 0xFE, 0],
        );
        let wrapped = Adaptation {
            pcr: Some((1 << 33) + 2),
            ..none
        };
        check(
            wrapped,
            10,
            &[0x47, 0x41, 0x00, 0x30, 173, 0x10, 0, 0, 0, 1, 0x7E, 0],
        );
        let last = Adaptation {
            pcr: Some(-1),
            ..none
        };
        check(
            last,
            10,
            &[
                0x47, 0x41, 0x00, 0x30, 173, 0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE, 0,
            ],
        );
    }

    #[test]
    fn only_packets_with_payload_are_counted() {
        let mut out = BytesMut::new();
        let mut pid = Pid::new(0x1FFF);
        pid.put_adaptation(&mut out, Adaptation::default());
        for _ in 0..17 {
            pid.put_pes(&mut out, Adaptation::default(), &[0]);
        }
        pid.put_adaptation(&mut out, Adaptation::default());
        let counters: Vec<u8> = out
            .chunks(PACKET_LEN)
            .map(|packet| packet[3] & 0x0F)
            .collect();
        assert_eq!(
            counters,
            [
                15, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 0
            ]
        );
        assert!(
            out.chunks(PACKET_LEN)
                .all(|packet| packet[1] & 0x1F == 0x1F && packet[2] == 0xFF)
        );
    }

    proptest! {
        #[test]
        fn a_pes_is_divided_without_loss(
            lengths in prop::collection::vec(16_usize..4_000, 1..8),
            pcr: Option<i64>,
            random_access: bool,
        ) {
            let adaptation = Adaptation { pcr, random_access, discontinuity: false };
            let mut pid = Pid::new(0x101);
            let mut out = BytesMut::new();
            let mut sent = Vec::new();
            for (at, &len) in lengths.iter().enumerate() {
                let pes: Vec<u8> = (0..len).map(|byte| (byte * 7 + at) as u8).collect();
                if at + 1 == lengths.len() {
                    pid.put_pes_aligned(&mut out, adaptation, &pes);
                } else {
                    pid.put_pes(&mut out, adaptation, &pes);
                }
                sent.extend(pes);
            }
            prop_assert_eq!(out.len() / PACKET_LEN % COUNTER_CYCLE, 0);
            prop_assert!(pid.is_aligned());
            let mut received = Vec::new();
            for (at, packet) in out.chunks(PACKET_LEN).enumerate() {
                prop_assert_eq!(packet.len(), PACKET_LEN);
                prop_assert_eq!(usize::from(packet[3] & 0x0F), at % COUNTER_CYCLE);
                let skip = if packet[3] & HAS_ADAPTATION != 0 { 1 + usize::from(packet[4]) } else { 0 };
                prop_assert!(skip < BODY_LEN, "a counted packet has payload");
                received.extend_from_slice(&packet[4 + skip..]);
            }
            prop_assert_eq!(received, sent);
        }
    }
}
