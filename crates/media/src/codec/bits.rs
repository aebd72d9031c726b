//! Reading bits, most significant first.
//!
//! Owns: fixed-width fields and the Exp-Golomb codes of H.264 (ITU-T H.264 9.1), and the removal of
//! emulation prevention bytes (7.4.1). Does not own: what the fields mean.
//!
//! The input is the bit budget: every read consumes at least one bit of it or fails, so the work is bounded
//! by the length of the input whatever the fields claim.

/// Most zeros before an Exp-Golomb code: one more and the value needs more than 32 bits.
const GOLOMB_ZEROS_MAX: u32 = 31;

/// The input ends before the field does, or an Exp-Golomb code is longer than any field allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bits end in the middle of a field")]
pub(crate) struct End;

/// A cursor over bits. Every read fails once the input is used up.
#[derive(Debug, Clone)]
pub(crate) struct Bits<'a> {
    bytes: &'a [u8],
    /// Position in bits.
    at: usize,
}

impl<'a> Bits<'a> {
    /// Starts at the first bit of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bits that are left.
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len().saturating_mul(8).saturating_sub(self.at)
    }

    /// One bit.
    pub(crate) fn flag(&mut self) -> Result<bool, End> {
        let byte = *self.bytes.get(self.at / 8).ok_or(End)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit == 1)
    }

    /// An unsigned field of `width` bits, at most 32.
    pub(crate) fn field(&mut self, width: u32) -> Result<u32, End> {
        debug_assert!(
            width <= u32::BITS,
            "fields wider than 32 bits do not fit the result"
        );
        (0..width).try_fold(0, |value, _| Ok(value << 1 | u32::from(self.flag()?)))
    }

    /// An unsigned field of `width` bits, at most 8.
    pub(crate) fn byte(&mut self, width: u32) -> Result<u8, End> {
        self.field(width)
            .and_then(|value| u8::try_from(value).map_err(|_| End))
    }

    /// Passes over `width` bits.
    pub(crate) fn skip(&mut self, width: usize) -> Result<(), End> {
        if width > self.remaining() {
            return Err(End);
        }
        self.at += width;
        Ok(())
    }

    /// Passes over the bits that are left of the current byte.
    pub(crate) fn align(&mut self) {
        self.at = self.at.next_multiple_of(8);
    }

    /// An unsigned Exp-Golomb code, `ue(v)`.
    pub(crate) fn unsigned_golomb(&mut self) -> Result<u32, End> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > GOLOMB_ZEROS_MAX {
                return Err(End);
            }
        }
        Ok((1 << zeros) - 1 + self.field(zeros)?)
    }

    /// A signed Exp-Golomb code, `se(v)`.
    pub(crate) fn signed_golomb(&mut self) -> Result<i64, End> {
        let code = i64::from(self.unsigned_golomb()?);
        Ok(if code % 2 == 1 {
            code / 2 + 1
        } else {
            -(code / 2)
        })
    }
}

/// A NAL unit without its emulation prevention bytes: each `03` after two zeros is left out.
pub(crate) fn without_emulation_prevention(nal: &[u8]) -> Vec<u8> {
    let mut zeros = 0;
    let keep = |&byte: &u8| {
        let prevents = zeros >= 2 && byte == 3;
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        !prevents
    };
    nal.iter().copied().filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_fields_across_bytes() {
        let mut bits = Bits::new(&[0b1010_0101, 0xFF, 0x00, 0x12, 0x34, 0x56]);
        assert_eq!(bits.flag(), Ok(true));
        assert_eq!(bits.byte(3), Ok(0b010));
        assert_eq!(bits.field(8), Ok(0b0101_1111));
        bits.align();
        assert_eq!(bits.field(32), Ok(0x0012_3456));
        assert_eq!(
            (bits.remaining(), bits.flag(), bits.field(0)),
            (0, Err(End), Ok(0))
        );
        bits.align();
        assert_eq!(bits.skip(1), Err(End));
    }

    #[test]
    fn reads_golomb_codes() {
        // ITU-T H.264 table 9-2: code numbers 0 to 5, then the two mappings of table 9-3.
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1001_1000]);
        let codes: Vec<_> = (0..6).map_while(|_| bits.unsigned_golomb().ok()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5]);
        let mut bits = Bits::new(&[0b1010_0110, 0b0100_0010, 0b1001_1000]);
        let codes: Vec<_> = (0..6).map_while(|_| bits.signed_golomb().ok()).collect();
        assert_eq!(codes, [0, 1, -1, 2, -2, 3]);
    }

    #[test]
    fn golomb_codes_end_at_32_bits() {
        let mut longest = Bits::new(&[0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF]);
        assert_eq!(longest.unsigned_golomb(), Ok(u32::MAX - 1));
        let mut too_long = Bits::new(&[0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0]);
        assert_eq!(too_long.unsigned_golomb(), Err(End));
        assert_eq!(Bits::new(&[0b0000_1000]).unsigned_golomb(), Err(End));
    }

    #[test]
    fn emulation_prevention_is_removed() {
        for (nal, expected) in [
            (&[0, 0, 3, 1][..], &[0, 0, 1][..]),
            (&[0, 0, 3, 0, 0, 3], &[0, 0, 0, 0]),
            (&[0, 0, 0, 3, 3], &[0, 0, 0, 3]),
            (&[0, 3, 0, 3], &[0, 3, 0, 3]),
            (&[], &[]),
        ] {
            assert_eq!(without_emulation_prevention(nal), expected, "{nal:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bits_never_panic(bytes: Vec<u8>, widths: Vec<(u8, bool)>) {
            let mut bits = Bits::new(&bytes);
            for (width, golomb) in widths {
                let before = bits.remaining();
                let took_bits = if golomb {
                    bits.signed_golomb().is_ok()
                } else {
                    bits.field(u32::from(width % 33)).is_ok() && width % 33 > 0
                };
                prop_assert!(!took_bits || bits.remaining() < before);
            }
        }
    }
}
