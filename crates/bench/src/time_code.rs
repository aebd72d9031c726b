//! When a picture was sent, and its number, written into the picture itself.
//!
//! Owns: an SEI message of H.264 (ITU-T H.264 D.1.7, user data unregistered) that decoders ignore and servers carry
//! along, so that the end-to-end latency is measured from the data itself, whatever the protocol. Does not own: the
//! clocks, which must agree where sender and receiver are two machines.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weir_media::codec::h264::NAL_SEI;

/// Bytes of the NAL unit, without its length.
pub const NAL_LEN: usize = 3 + UUID.len() + 2 * DIGITS + 1;

/// What tells this message from others. No zero in it, so that nothing needs emulation prevention.
const UUID: [u8; 16] = *b"weir-bench-clock";
/// SEI payload type: user data unregistered.
const USER_DATA_UNREGISTERED: u8 = 5;
/// Hexadecimal digits of each number: text holds no zero byte either.
const DIGITS: usize = 16;
/// Bytes of the payload: UUID and two numbers.
const PAYLOAD_LEN: u8 = (UUID.len() + 2 * DIGITS) as u8;
/// The stop bit behind the message.
const TRAILING: u8 = 0x80;

/// One time code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeCode {
    /// Wall time of sending, microseconds since 1970.
    pub sent_us: u64,
    /// Number of the picture in its stream, from 0.
    pub number: u64,
}

impl TimeCode {
    /// The NAL unit that carries it.
    #[must_use]
    pub fn nal(&self) -> Vec<u8> {
        let mut nal = vec![NAL_SEI, USER_DATA_UNREGISTERED, PAYLOAD_LEN];
        nal.extend_from_slice(&UUID);
        nal.extend_from_slice(format!("{:016x}{:016x}", self.sent_us, self.number).as_bytes());
        nal.push(TRAILING);
        nal
    }

    /// The first time code that lies whole in `bytes`.
    #[must_use]
    pub fn find(bytes: &[u8]) -> Option<Self> {
        let at = bytes
            .windows(UUID.len())
            .position(|window| window == UUID)?;
        let digits = bytes.get(at + UUID.len()..)?.get(..2 * DIGITS)?;
        let (sent, number) = digits.split_at(DIGITS);
        Some(Self {
            sent_us: parse(sent)?,
            number: parse(number)?,
        })
    }
}

/// The wall clock as time codes have it.
#[must_use]
pub fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    micros(since.unwrap_or_default())
}

/// Whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn parse(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_unit_is_an_sei_of_the_declared_length() {
        let code = TimeCode {
            sent_us: 1_700_000_000_123_456,
            number: 7,
        };
        let nal = code.nal();
        assert_eq!(nal.len(), NAL_LEN);
        assert_eq!(nal[..3], [6, 5, 48]);
        assert_eq!(nal.last(), Some(&0x80));
        assert!(!nal.contains(&0), "it would need emulation prevention");
    }

    #[test]
    fn damaged_codes_are_none() {
        let code = TimeCode {
            sent_us: 1,
            number: 2,
        };
        let whole = code.nal();
        for len in 0..whole.len() - 1 {
            assert_eq!(TimeCode::find(&whole[..len]), None, "{len}");
        }
        let mut wrong_digit = whole.clone();
        wrong_digit[20] = b'x';
        assert_eq!(TimeCode::find(&wrong_digit), None);
        let mut other_uuid = whole;
        other_uuid[5] = b'x';
        assert_eq!(TimeCode::find(&other_uuid), None);
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(sent_us: u64, number: u64, before: Vec<u8>, after: Vec<u8>) {
            let code = TimeCode { sent_us, number };
            let bytes = [before, code.nal(), after].concat();
            prop_assert_eq!(TimeCode::find(&bytes), Some(code));
        }
    }
}
