//! Synthetic runs for tests, and one checker of everything that a run's packaging promises.
//!
//! Owns: frames ([`video`], [`audio`]), the pass of a run through a [`Segmenter`] ([`Packaged`]), and a reader of
//! playlists that shares nothing with their writer ([`playlist`]).

mod media;
pub(crate) mod playlist;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use weir_media::{
    Anchor, Epoch, Frame, Kind, Track, TrackId, VIDEO_TIMESCALE,
    codec::{Codec, aac, h264},
    rescale,
};

use crate::{
    Config, Numbers, Segmenter, hls,
    keep::Content,
    window::{Part, Rendition, Segment, Snapshot, rewind::Rewind},
};
use playlist::Playlist;

pub(crate) type Timed = (Arc<Epoch>, Frame);

pub(crate) const BOTH: [Kind; 2] = [Kind::Video, Kind::Audio];
pub(crate) const VIDEO: [Kind; 1] = [Kind::Video];
pub(crate) const AUDIO: [Kind; 1] = [Kind::Audio];
/// 25 fps.
pub(crate) const FRAME_US: i64 = 40_000;
pub(crate) const S: i64 = 1_000_000;
/// When every run begins, unix seconds.
pub(crate) const BEGINS_S: u64 = 1_800_000_000;
pub(crate) const CONFIG: Config = Config {
    segment_ms: 2_000,
    part_ms: 333,
    playlist_segments: 6,
    rewind: Rewind {
        window_us: 0,
        memory_bytes: 0,
    },
};

const RECORD: &str =
    "0142c01effe100196742c01eda0280bfe5c044000003000400000300c83c58ba8001000468ce0fc8";
const ASC: &str = "1190";

pub(crate) fn codec(kind: Kind) -> Codec {
    match kind {
        Kind::Video => Codec::H264(h264::Config::parse(hex(RECORD)).expect("a valid record")),
        Kind::Audio => Codec::Aac(aac::Config::parse(hex(ASC)).expect("a valid configuration")),
    }
}

fn hex(text: &str) -> Bytes {
    let pair = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("two hexadecimal digits");
    (0..text.len()).step_by(2).map(pair).collect()
}

pub(crate) fn wall(run_us: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(BEGINS_S) + Duration::from_micros(run_us.unsigned_abs())
}

/// An epoch whose clock shows `start_us` when the wall clock does.
pub(crate) fn epoch(index: u32, start_us: i64, kinds: &[Kind]) -> Arc<Epoch> {
    let id = |kind| {
        if kind == Kind::Video {
            TrackId::VIDEO
        } else {
            TrackId::AUDIO
        }
    };
    let tracks = kinds
        .iter()
        .map(|&kind| Track::new(id(kind), codec(kind)))
        .collect();
    let anchor = Anchor {
        media_us: start_us,
        wall: wall(start_us),
    };
    Arc::new(Epoch {
        index,
        anchor,
        gap_us: 0,
        tracks,
    })
}

/// Video from `start_us` to `end_us` whose nth frame is a key frame if `key` says so.
pub(crate) fn video(
    epoch: &Arc<Epoch>,
    start_us: i64,
    end_us: i64,
    frame_us: i64,
    key: impl Fn(i64) -> bool,
) -> Vec<Timed> {
    let count = (end_us - start_us + frame_us - 1) / frame_us;
    let frame = |n| {
        let dts = rescale(start_us + n * frame_us, 1_000_000, VIDEO_TIMESCALE);
        let payload = Bytes::from(format!("picture {n} of epoch {}", epoch.index));
        Frame {
            track: TrackId::VIDEO,
            dts,
            pts: dts,
            sync: key(n),
            payload,
        }
    };
    (0..count).map(|n| (Arc::clone(epoch), frame(n))).collect()
}

/// 25 fps with a key frame every `gop` frames.
pub(crate) fn video_gop(epoch: &Arc<Epoch>, start_us: i64, end_us: i64, gop: i64) -> Vec<Timed> {
    video(epoch, start_us, end_us, FRAME_US, |n| n % gop == 0)
}

/// 48 kHz AAC from `start_us` to `end_us`.
pub(crate) fn audio(epoch: &Arc<Epoch>, start_us: i64, end_us: i64) -> Vec<Timed> {
    let (start, end) = (
        rescale(start_us, 1_000_000, 48_000),
        rescale(end_us, 1_000_000, 48_000),
    );
    let frame = |dts: i64| {
        let payload = Bytes::from(format!("sound at {dts}"));
        Frame {
            track: TrackId::AUDIO,
            dts,
            pts: dts,
            sync: true,
            payload,
        }
    };
    (start..end)
        .step_by(1_024)
        .map(|dts| (Arc::clone(epoch), frame(dts)))
        .collect()
}

/// Interleaves tracks as an encoder does: by epoch, then by decoding time; audio comes `audio_late_us` late.
pub(crate) fn interleave(tracks: Vec<Vec<Timed>>, audio_late_us: i64) -> Vec<Timed> {
    let mut frames: Vec<Timed> = tracks.into_iter().flatten().collect();
    frames.sort_by_key(|(epoch, frame)| {
        let late_us = if frame.track == TrackId::AUDIO {
            audio_late_us
        } else {
            0
        };
        (epoch.index, time_us(epoch, frame) + late_us)
    });
    frames
}

/// An ordinary run of `length_us`: 25 fps, a key frame every `gop` frames, audio.
pub(crate) fn ordinary(length_us: i64, gop: i64) -> Vec<Timed> {
    let epoch = epoch(0, 0, &BOTH);
    interleave(
        vec![
            video_gop(&epoch, 0, length_us, gop),
            audio(&epoch, 0, length_us),
        ],
        0,
    )
}

pub(crate) fn time_us(epoch: &Epoch, frame: &Frame) -> i64 {
    let track = epoch
        .track(frame.track)
        .expect("a frame's epoch has its track");
    rescale(frame.dts, track.timescale, 1_000_000)
}

/// Compares a text with the golden file; `UPDATE_EXPECT=1` writes it anew.
#[track_caller]
pub(crate) fn expect(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(file);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, text).expect("the golden file can be written");
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text, golden,
        "{file} differs; UPDATE_EXPECT=1 accepts the change"
    );
}

/// How much of a run's packaging must be exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// No frame is missing: times are continuous, and all tracks are cut at the same instants.
    Whole,
    /// Frames are missing: times only go up.
    WithHoles,
}

/// A run as it went through a segmenter, every playlist on the way checked against the one before.
pub(crate) struct Packaged {
    pub(crate) segmenter: Segmenter,
    pub(crate) source: Source,
    /// Every segment that was ever listed, by rendition and media sequence number.
    pub(crate) segments: BTreeMap<&'static str, BTreeMap<u64, Arc<Segment>>>,
    /// The newest playlist of each rendition.
    pub(crate) playlists: BTreeMap<&'static str, Playlist>,
    /// The newest rewind playlist of each rendition.
    pub(crate) rewinds: BTreeMap<&'static str, Playlist>,
    /// Whether the segment of a number is in a file.
    pub(crate) is_stored: fn(u64) -> bool,
    /// The target duration of the first snapshot, and the time of the frame that brought it.
    pub(crate) target: Option<(i64, i64)>,
    made: u64,
}

impl Packaged {
    pub(crate) fn new(config: Config, source: Source) -> Self {
        let first = Numbers {
            msn: BEGINS_S,
            discontinuity: BEGINS_S,
        };
        Self {
            segmenter: Segmenter::new(config, "run".to_owned(), first),
            source,
            segments: BTreeMap::new(),
            playlists: BTreeMap::new(),
            rewinds: BTreeMap::new(),
            is_stored: |_| true,
            target: None,
            made: 0,
        }
    }

    pub(crate) fn of(frames: &[Timed], source: Source) -> Self {
        let mut packaged = Self::new(CONFIG, source);
        packaged.push_all(frames);
        packaged
    }

    pub(crate) fn push_all(&mut self, frames: &[Timed]) {
        for (epoch, frame) in frames {
            self.segmenter.push(epoch, frame);
            if self.segmenter.segments_made() != self.made {
                self.made = self.segmenter.segments_made();
                self.look(time_us(epoch, frame));
            }
        }
    }

    /// Ends the run, and checks all that it left.
    pub(crate) fn finish(&mut self) {
        self.segmenter.finish();
        self.look(i64::MAX);
        self.check_media();
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.segmenter.snapshot().expect("the run can be played")
    }

    pub(crate) fn track(&self, name: &str) -> Vec<&Arc<Segment>> {
        self.segments
            .get(name)
            .into_iter()
            .flat_map(BTreeMap::values)
            .collect()
    }

    pub(crate) fn durations_us(&self, name: &str) -> Vec<i64> {
        self.track(name)
            .iter()
            .map(|segment| segment.duration_us)
            .collect()
    }

    fn look(&mut self, at_us: i64) {
        let is_stored = self.is_stored;
        self.segmenter.settle_rewind(|_, msn| is_stored(msn));
        let Some(snapshot) = self.segmenter.snapshot() else {
            return;
        };
        let (target_s, _) = *self.target.get_or_insert((snapshot.target_s, at_us));
        assert_eq!(
            snapshot.target_s, target_s,
            "the target duration never changes (H3)"
        );
        for rendition in &snapshot.renditions {
            for (playlists, form) in [
                (&mut self.playlists, hls::Form::Classic),
                (&mut self.rewinds, hls::Form::Rewind),
            ] {
                let now = Playlist::parse(&hls::media(&snapshot, rendition, form));
                assert_eq!(now.target_s, target_s);
                now.check_alone(rendition, self.source);
                if let Some(before) = playlists.get(rendition.name()) {
                    now.check_after(before, self.source);
                }
                playlists.insert(rendition.name(), now);
            }
            if self.source == Source::Whole {
                check_parts(&snapshot, rendition);
            }
            let kept = self.segments.entry(rendition.name()).or_default();
            for segment in &rendition.segments {
                let known = kept
                    .entry(segment.msn)
                    .or_insert_with(|| Arc::clone(segment));
                assert!(
                    Arc::ptr_eq(known, segment),
                    "a listed segment never changes"
                );
            }
        }
    }
}

/// The bytes of a part that memory keeps.
pub(crate) fn bytes_of(part: &Part) -> &Bytes {
    match &part.content {
        Content::Memory(bytes) => bytes,
        Content::Kept(kept) => panic!("not in memory: {kept:?}"),
    }
}

/// Parts are as alike as L1 asks for; the last one of a segment may be shorter.
fn check_parts(snapshot: &Snapshot, rendition: &Rendition) {
    let target_us = snapshot.part_target_us;
    let open = rendition.open.iter().map(|open| &open.parts[..]);
    let complete = rendition.segments.iter().map(|segment| &segment.parts[..]);
    for parts in complete.chain(open) {
        let durations: Vec<i64> = parts.iter().map(|part| part.duration_us).collect();
        for (at, &us) in durations.iter().enumerate() {
            let is_last = at + 1 == durations.len();
            assert!(
                us <= target_us && (is_last || us * 100 >= target_us * 85),
                "L1: {durations:?} in {} for {target_us}",
                rendition.name()
            );
        }
    }
}
