//! Tracks and the epochs that hold them.
//!
//! Owns: which elementary streams a live stream has, their clocks, and what stays constant between two
//! discontinuities. Does not own: how time is derived from a source ([`crate::Timeline`]).

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::codec::Codec;

/// Ticks a second of every video track. 90 kHz holds every usual frame rate and every RTMP millisecond exactly.
pub const VIDEO_TIMESCALE: u32 = 90_000;

/// The index of a track within its stream; stable for the life of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId(pub u8);

impl TrackId {
    /// The default video track (E-RTMP track 0).
    pub const VIDEO: Self = Self(0);
    /// The default audio track (E-RTMP track 0).
    pub const AUDIO: Self = Self(1);
}

/// What a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

/// One elementary stream: its codec configuration, out of band, and its clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Which track of the stream this is.
    pub id: TrackId,
    /// Ticks a second of [`crate::Frame::dts`] and [`crate::Frame::pts`]: 90 000 for video, the sample rate for audio.
    pub timescale: u32,
    /// The codec and its configuration.
    pub codec: Codec,
}

impl Track {
    /// A track with the timescale that its codec asks for.
    #[must_use]
    pub fn new(id: TrackId, codec: Codec) -> Self {
        Self {
            id,
            timescale: codec.timescale(),
            codec,
        }
    }

    /// What the track carries.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.codec.kind()
    }
}

/// Maps media time to wall time: at media time `media_us` the wall clock showed `wall`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Media time in microseconds on the stream's output clock.
    pub media_us: i64,
    /// The wall clock at that media time. It only labels (PROGRAM-DATE-TIME); it never decides a timeout.
    pub wall: SystemTime,
}

impl Anchor {
    /// The wall time of a media time, in microseconds; the anchor's own where the clock cannot express it.
    #[must_use]
    pub fn wall_at(&self, media_us: i64) -> SystemTime {
        let offset = Duration::from_micros(media_us.saturating_sub(self.media_us).unsigned_abs());
        let wall = if media_us >= self.media_us {
            self.wall.checked_add(offset)
        } else {
            self.wall.checked_sub(offset)
        };
        wall.unwrap_or(self.wall)
    }
}

/// What holds between two discontinuities: the tracks and the anchor. Every frame points at its epoch, so a reader
/// that joins or skips sees a change by comparing pointers.
#[derive(Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Counts the discontinuities since the run began; the first epoch is 0.
    pub index: u32,
    /// Media time against wall time for the whole epoch.
    pub anchor: Anchor,
    /// How far this epoch's clock is ahead of one without the gaps, in microseconds. Formats that collapse gaps
    /// (FLV, RTMP) subtract it; formats that show them (HLS, DASH) do not.
    pub gap_us: i64,
    /// The tracks, video before audio.
    pub tracks: Vec<Track>,
}

impl Epoch {
    /// The track `id`, if the epoch has it.
    #[must_use]
    pub fn track(&self, id: TrackId) -> Option<&Track> {
        self.tracks.iter().find(|track| track.id == id)
    }

    /// The first track of a kind.
    #[must_use]
    pub fn first(&self, kind: Kind) -> Option<&Track> {
        self.tracks.iter().find(|track| track.kind() == kind)
    }

    /// The track whose key frames decide where segments are cut: video when there is one.
    #[must_use]
    pub fn lead(&self) -> Option<&Track> {
        self.first(Kind::Video).or_else(|| self.tracks.first())
    }

    /// Whether two frames belong to the same epoch.
    #[must_use]
    pub fn same(a: &Arc<Self>, b: &Arc<Self>) -> bool {
        Arc::ptr_eq(a, b)
    }
}

/// Converts `ticks` of `from` ticks a second into ticks of `to`, rounding to nearest.
#[must_use]
pub fn rescale(ticks: i64, from: u32, to: u32) -> i64 {
    if from == to || from == 0 {
        return ticks;
    }
    let (ticks, from, to) = (i128::from(ticks), i128::from(from), i128::from(to));
    let scaled = (ticks * to + from / 2).div_euclid(from);
    i64::try_from(scaled).unwrap_or(if scaled < 0 { i64::MIN } else { i64::MAX })
}
