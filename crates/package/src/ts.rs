//! A stream as MPEG-TS: without end for HTTP and UDP ([`Muxer`]), or in segments for HLS ([`Packager`]).
//!
//! Owns: what both have in common, the schedule of one program (CONFORMANCE section 9): its PIDs, which never change;
//! when tables and clock references are due; how far times are ahead of the clock. Carries H.264 and AAC.
//! Does not own: the layout of packets ([`weir_media::container::mpegts`]) or where segments begin ([`crate::cut`]).
//!
//! # Time
//!
//! A packet's time is the decoding time of what it carries; that of video is moved by the reorder delay of the epoch's
//! first picture (at most `REORDER_MAX`), so that pictures and sound of one instant stand together and a segment's
//! first picture has the time of its mark. The program clock reference is that time less `PCR_LEAD`, 0.5 s: the
//! middle of the 0.1 to 1.0 s that T5 allows. Sound may then come 0.4 s late, as encoders interleave, and pictures
//! may be shown 0.5 s after their packets' time, which is a reorder delay of 15 pictures at 30 fps. More would only
//! make players that follow the clock start later.
//!
//! Output times are the stream's plus one second (`TIME_OFFSET`), so that the clock of a run that begins at 0 does
//! not begin with a wrap.
//!
//! # Sound
//!
//! A PES costs 14 bytes and on average half a packet of stuffing, as much as a quarter of an AAC frame. Sound is
//! therefore sent up to 70 ms at once (`SOUND_SPAN_MAX`): three frames at 48 kHz, which is 43 ms of latency for
//! some 25 kbit/s less.

#[cfg(test)]
mod check;
mod muxer;
mod program;
mod segment;
mod sound;
#[cfg(test)]
mod tests;

use weir_media::{Track, codec::Codec, codec::aac::adts};

pub use muxer::Muxer;
pub use segment::{Packager, Segment};

/// The media type of a transport stream.
pub const MEDIA_TYPE: &str = "video/mp2t";

/// Ticks of 90 kHz in a millisecond.
const MS: i64 = 90;
/// What is added to the stream's times.
const TIME_OFFSET: i64 = 1_000 * MS;
/// How far the clock is behind the time of a packet.
const PCR_LEAD: i64 = 500 * MS;
/// Most of a reorder delay that is taken into account. More, and decoding times would come too close to the clock.
const REORDER_MAX: i64 = 300 * MS;
/// Most time that sound in one PES spans.
const SOUND_SPAN_MAX: i64 = 70 * MS;

/// Whether a transport stream can carry `track`. Sound must be AAC that an ADTS header can describe; a track that is
/// not carried is left out and the others go on.
#[must_use]
pub fn carries(track: &Track) -> bool {
    match &track.codec {
        Codec::H264(_) => true,
        Codec::Aac(config) => adts::Framing::new(config).is_some(),
    }
}
