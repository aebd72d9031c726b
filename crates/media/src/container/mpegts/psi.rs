//! Tables: which programs there are, what they consist of, what they are called.
//!
//! Owns: the sections of a stream with one program: program association, program map (ISO/IEC 13818-1 2.4.4) and
//! service description (ETSI EN 300 468 5.2.3, 6.2.33), each short enough for one packet.
//! Does not own: when they are repeated.

use bytes::{BufMut, Bytes, BytesMut};

/// `stream_type` of H.264.
pub const STREAM_TYPE_H264: u8 = 0x1B;
/// `stream_type` of AAC in ADTS.
pub const STREAM_TYPE_ADTS: u8 = 0x0F;

/// Longest section: what one packet has room for behind its `pointer_field`.
const SECTION_LEN_MAX: usize = 183;
/// Elementary streams of a program: their entries of 5 bytes must leave room for the rest.
const STREAMS_MAX: usize = 16;
/// Bytes of a service name: any stream's name.
const NAME_LEN_MAX: usize = 128;
/// Bytes of a provider's name: a section has not much room beside a service name.
const PROVIDER_LEN_MAX: usize = 24;

const TABLE_PAT: u8 = 0x00;
const TABLE_PMT: u8 = 0x02;
/// Service description of the stream that carries it.
const TABLE_SDT: u8 = 0x42;
/// `section_syntax_indicator` and reserved ones; the next bit is 0 in PAT and PMT and reserved in an SDT.
const LONG_SECTION: u16 = 0xB000;
const LONG_SECTION_DVB: u16 = 0xF000;
const CRC_LEN: usize = 4;
/// Bytes up to and with `section_length`, which counts what follows them.
const LENGTH_END: usize = 3;
/// Reserved bits before a PID and before an empty descriptor loop.
const RESERVED_3: u16 = 0xE000;
const RESERVED_4: u16 = 0xF000;
/// `service_descriptor`, and the service types it states.
const SERVICE_DESCRIPTOR: u8 = 0x48;
const SERVICE_TELEVISION: u8 = 0x01;
const SERVICE_RADIO: u8 = 0x02;
/// `running_status` 4 (running), not scrambled.
const RUNNING: u16 = 0x8000;
/// `original_network_id` from the range that needs no registration.
const PRIVATE_NETWORK: u16 = 0xFF01;

/// A section with its CRC; it fits one packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section(Bytes);

impl Section {
    /// The bytes, from `table_id` to the CRC.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// An elementary stream of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElementaryStream {
    /// What it is.
    pub stream_type: u8,
    /// Where it is.
    pub pid: u16,
}

/// What a receiver shows of a program. Names are printable ASCII; what is not is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Who sends it; the first 24 bytes are stated.
    pub provider: String,
    /// What it is called; the first 128 bytes are stated.
    pub name: String,
    /// Whether it has pictures.
    pub has_video: bool,
}

/// The program association section of a stream with one program.
#[must_use]
pub fn pat(stream: u16, program: u16, pmt_pid: u16) -> Section {
    let mut body = BytesMut::with_capacity(4);
    body.put_u16(program);
    body.put_u16(RESERVED_3 | (pmt_pid & 0x1FFF));
    section(TABLE_PAT, LONG_SECTION, stream, 0, &body)
}

/// The program map section. `version` counts its changes and wraps at 32; streams beyond the sixteenth are left out.
#[must_use]
pub fn pmt(program: u16, version: u32, pcr_pid: u16, streams: &[ElementaryStream]) -> Section {
    let mut body = BytesMut::new();
    body.put_u16(RESERVED_3 | (pcr_pid & 0x1FFF));
    body.put_u16(RESERVED_4); // no descriptors of the program
    for stream in streams.iter().take(STREAMS_MAX) {
        body.put_u8(stream.stream_type);
        body.put_u16(RESERVED_3 | (stream.pid & 0x1FFF));
        body.put_u16(RESERVED_4); // no descriptors of the stream
    }
    section(TABLE_PMT, LONG_SECTION, program, version, &body)
}

/// The service description section of a stream with one program.
#[must_use]
pub fn sdt(stream: u16, program: u16, version: u32, service: &Service) -> Section {
    let mut descriptor = BytesMut::new();
    descriptor.put_u8(if service.has_video {
        SERVICE_TELEVISION
    } else {
        SERVICE_RADIO
    });
    put_name(&mut descriptor, &service.provider, PROVIDER_LEN_MAX);
    put_name(&mut descriptor, &service.name, NAME_LEN_MAX);
    let descriptor_len = u8::try_from(descriptor.len()).expect("two names of at most 152 bytes");

    let mut body = BytesMut::new();
    body.put_u16(PRIVATE_NETWORK);
    body.put_u8(0xFF); // reserved
    body.put_u16(program);
    body.put_u8(0xFC); // no event information
    body.put_u16(RUNNING | (u16::from(descriptor_len) + 2));
    body.put_slice(&[SERVICE_DESCRIPTOR, descriptor_len]);
    body.put_slice(&descriptor);
    section(TABLE_SDT, LONG_SECTION_DVB, stream, version, &body)
}

fn put_name(out: &mut BytesMut, name: &str, len_max: usize) {
    let name: Vec<u8> = name
        .bytes()
        .filter(|byte| (b' '..=b'~').contains(byte))
        .take(len_max)
        .collect();
    out.put_u8(u8::try_from(name.len()).expect("at most 128 bytes"));
    out.put_slice(&name);
}

/// A current section that is the only one of its table.
fn section(table: u8, flags: u16, extension: u16, version: u32, body: &[u8]) -> Section {
    let len = LENGTH_END + 5 + body.len() + CRC_LEN;
    debug_assert!(
        len <= SECTION_LEN_MAX,
        "the entries are counted so that they fit"
    );
    let mut out = BytesMut::with_capacity(len);
    out.put_u8(table);
    out.put_u16(flags | u16::try_from(len - LENGTH_END).expect("a section fits a packet"));
    out.put_u16(extension);
    // Reserved ones, five bits of version, current_next_indicator.
    out.put_u8(0xC0 | ((version & 0x1F) as u8) << 1 | 1);
    out.put_u16(0); // section_number and last_section_number
    out.put_slice(body);
    out.put_u32(crc32(&out));
    Section(out.freeze())
}

/// The CRC of annex A: the remainder over a section with its CRC is 0.
fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x04C1_1DB7;
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte) << 24, |crc, _| {
            crc << 1 ^ if crc >> 31 == 1 { POLYNOMIAL } else { 0 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::hex;

    #[test]
    fn the_crc_is_that_of_annex_a() {
        assert_eq!(crc32(b"123456789"), 0x0376_E6E7);
        assert_eq!(crc32(b""), u32::MAX);
    }

    /// FFmpeg 5.1 writes the same sections for the same program.
    #[test]
    fn sections_are_laid_out_as_specified() {
        let check = |section: Section, expected: &str| assert_eq!(section.bytes(), hex(expected));
        check(pat(1, 1, 0x1000), "00b00d0001c100000001f0002ab104b2");
        let streams = [
            ElementaryStream {
                stream_type: STREAM_TYPE_H264,
                pid: 0x100,
            },
            ElementaryStream {
                stream_type: STREAM_TYPE_ADTS,
                pid: 0x101,
            },
        ];
        check(
            pmt(1, 0, 0x100, &streams),
            "02b0170001c10000e100f0001be100f0000fe101f0002f44b99b",
        );
        let service = Service {
            provider: "FFmpeg".into(),
            name: "Service01".into(),
            has_video: true,
        };
        check(
            sdt(1, 1, 0, &service),
            "42f0250001c10000ff01ff0001fc80144812010646466d70656709536572766963653031777c43ca",
        );
    }

    #[test]
    fn versions_wrap_and_everything_fits_a_packet() {
        let version = |section: &Section| section.bytes()[5] >> 1 & 0x1F;
        for (count, expected) in [(0, 0), (1, 1), (31, 31), (32, 0), (u32::MAX, 31)] {
            assert_eq!(version(&pmt(1, count, 0x100, &[])), expected);
        }
        let many = [ElementaryStream {
            stream_type: STREAM_TYPE_H264,
            pid: 0x100,
        }; 40];
        let long = Service {
            provider: "p".repeat(300),
            name: "ü\n".repeat(90) + &"n".repeat(300),
            has_video: false,
        };
        for section in [pmt(1, 0, 0x100, &many), sdt(1, 1, 0, &long)] {
            let len = section.bytes().len();
            assert!((90..=SECTION_LEN_MAX).contains(&len), "{len}");
            assert_eq!(crc32(section.bytes()), 0);
        }
    }
}
