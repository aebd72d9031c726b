//! MPEG transport stream: packets, tables and PES headers, written.
//!
//! Owns: ISO/IEC 13818-1: transport packets with their adaptation fields and continuity counters (2.4.3), PES headers
//! (2.4.3.6), the program association and map sections with their CRC (2.4.4), and the service description section
//! of ETSI EN 300 468 (5.2.3). All times are ticks of 90 kHz and wrap here, at 33 bits.
//! Does not own: when tables and clock references are due, or what a segment is (crate `package`); elementary
//! streams ([`crate::codec::h264::annex_b`], [`crate::codec::aac::adts`]).
//!
//! It is our own rather than `libmpegts`: of that crate's 16 000 lines a muxer of one program could use three table
//! builders and a PES header. Its packetiser takes a `Vec` for every frame, cannot put a clock reference into a
//! packet with payload, and cannot spread a PES over more packets than it needs, which segments with equal counters
//! depend on; what is left is no longer than the code that would wrap it.

mod packet;
mod pes;
mod psi;

pub use packet::{Adaptation, PACKET_LEN, Pid};
pub use pes::{AUDIO_STREAM_ID, PES_LEN_MAX, PesHeader, VIDEO_STREAM_ID, seal_pes};
pub use psi::{
    ElementaryStream, STREAM_TYPE_ADTS, STREAM_TYPE_H264, Section, Service, pat, pmt, sdt,
};

/// Ticks a second of PTS, DTS and the base of a clock reference.
pub const CLOCK_HZ: u32 = 90_000;
/// Times have this many bits and wrap every 26.5 hours.
const CLOCK_BITS: u32 = 33;

/// The 33 bits that are written of a time.
fn wrap(ticks: i64) -> u64 {
    ticks.cast_unsigned() & ((1 << CLOCK_BITS) - 1)
}
