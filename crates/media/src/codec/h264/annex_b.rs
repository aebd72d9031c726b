//! H.264 access units as a byte stream that needs no configuration beside it.
//!
//! Owns: the byte stream format (ITU-T H.264 annex B) in the order that MPEG-TS asks for (7.4.1.2.3; ISO/IEC 13818-1
//! 2.14.1): an access unit delimiter, the parameter sets before an IDR picture, the NAL units. Emulation prevention
//! is part of a NAL unit in either format, so nothing is escaped here.
//! Does not own: decoding.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Config, NAL_AUD, nal_type, nal_units};

/// What stands before every NAL unit; the leading zero is required before the first one and before parameter sets.
pub const START_CODE: [u8; 4] = [0, 0, 0, 1];
/// An access unit delimiter that allows every slice type.
const DELIMITER: [u8; 2] = [NAL_AUD, 0xF0];

/// How access units of a configuration become a byte stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Framing {
    nal_length_size: usize,
    /// All parameter sets, each behind its start code.
    parameter_sets: Bytes,
}

impl Framing {
    /// The framing of `config`.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let sets = config.parameter_sets();
        let mut parameter_sets = BytesMut::new();
        for set in sets.sps.iter().chain(&sets.pps) {
            put_nal(&mut parameter_sets, set);
        }
        Self {
            nal_length_size: config.nal_length_size,
            parameter_sets: parameter_sets.freeze(),
        }
    }

    /// Whether [`Self::put`] has anything to write of `payload`.
    #[must_use]
    pub fn carries(&self, payload: &Bytes) -> bool {
        self.units(payload).next().is_some()
    }

    /// Appends the access unit `payload`, with the parameter sets when it is an IDR picture (`sync`). Its own
    /// delimiters are replaced; what lies behind a NAL unit whose length is wrong is left out.
    pub fn put(&self, out: &mut BytesMut, payload: &Bytes, sync: bool) {
        put_nal(out, &DELIMITER);
        if sync {
            out.put_slice(&self.parameter_sets);
        }
        for nal in self.units(payload) {
            put_nal(out, &nal);
        }
    }

    fn units(&self, payload: &Bytes) -> impl Iterator<Item = Bytes> + use<> {
        nal_units(payload, self.nal_length_size)
            .map_while(Result::ok)
            .filter(|nal| nal_type(nal) != NAL_AUD)
    }
}

fn put_nal(out: &mut BytesMut, nal: &[u8]) {
    out.put_slice(&START_CODE);
    out.put_slice(nal);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hex;

    const RECORD: &str =
        "0142c01effe100196742c01eda0280bfe5c044000003000400000300c83c58ba8001000468ce0fc8";
    const SETS: &str = "000000016742c01eda0280bfe5c044000003000400000300c83c58ba800000000168ce0fc8";

    #[test]
    fn delimits_every_access_unit_and_configures_every_idr() {
        let check = |payload: &str, sync: bool, expected: &str| {
            let framing = Framing::new(&Config::parse(hex(RECORD)).expect("a valid record"));
            let payload = hex(payload);
            let mut out = BytesMut::new();
            framing.put(&mut out, &payload, sync);
            assert_eq!(out, hex(expected), "{payload:?}");
            assert_eq!(
                framing.carries(&payload),
                out.len() > 6 || sync && out.len() > 6 + SETS.len() / 2
            );
        };
        check("0000000241aa", false, "0000000109f00000000141aa");
        check(
            "0000000265bb",
            true,
            &format!("0000000109f0{SETS}0000000165bb"),
        );
        // SEI and two slices; an own delimiter and an empty unit are dropped, emulation prevention stays.
        check(
            "0000000209100000000000000002060500000006410000030141000000024102",
            false,
            "0000000109f00000000106050000000141000003014100000001 4102"
                .replace(' ', "")
                .as_str(),
        );
        // The second unit claims more than there is.
        check("0000000241aa00000009bb", false, "0000000109f00000000141aa");
        check("", false, "0000000109f0");
        check("000000020910", false, "0000000109f0");
    }
}
