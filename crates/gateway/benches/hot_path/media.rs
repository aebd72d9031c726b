//! A stream that is the same in every run: 2.7 Mbit/s at 30 pictures a second, a key frame every two, 48 kHz sound.
//!
//! Owns: its frames. Does not own: clocks; its wall time is a constant.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use weir_hub::MediaItem;
use weir_media::{
    Anchor, Epoch, Frame, Kind, Track, TrackId, VIDEO_TIMESCALE,
    codec::{Codec, aac, h264},
    rescale,
};

/// How long a picture lasts, in ticks of the video track.
pub(crate) const PICTURE_TICKS: u32 = VIDEO_TIMESCALE / 30;
/// Bytes of a picture.
pub(crate) const PICTURE_LEN: usize = 11_000;
/// Pictures from one key frame to the next.
const GROUP_LEN: i64 = 60;
/// Bytes of an audio frame: 96 kbit/s.
const SOUND_LEN: usize = 256;
const SOUND_HZ: u32 = 48_000;
/// Samples of an AAC frame.
const SOUND_TICKS: usize = 1_024;

/// 640×360, constrained baseline.
const RECORD: &[u8] = b"\x01\x42\xc0\x1e\xff\xe1\x00\x19\x67\x42\xc0\x1e\xda\x02\x80\xbf\xe5\xc0\x44\x00\x00\x03\x00\x40\
    \x00\x00\x03\x00\xc8\x3c\x58\xba\x80\x01\x00\x04\x68\xce\x0f\xc8";
/// AAC-LC, 48 kHz, stereo.
const SOUND: &[u8] = b"\x11\x90";

/// The configuration of a track.
pub(crate) fn codec(kind: Kind) -> Codec {
    match kind {
        Kind::Video => {
            Codec::H264(h264::Config::parse(Bytes::from_static(RECORD)).expect("a valid record"))
        }
        Kind::Audio => {
            Codec::Aac(aac::Config::parse(Bytes::from_static(SOUND)).expect("a valid one"))
        }
    }
}

/// When the stream begins.
pub(crate) fn wall() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// The nth picture.
pub(crate) fn picture(n: i64) -> Frame {
    let dts = n * i64::from(PICTURE_TICKS);
    Frame {
        track: TrackId::VIDEO,
        dts,
        pts: dts,
        sync: n % GROUP_LEN == 0,
        payload: Bytes::from(vec![0x5a; PICTURE_LEN]),
    }
}

/// So many seconds of pictures and sound, in the order of their times.
pub(crate) fn frames(seconds: i64) -> Vec<MediaItem> {
    let epoch = Arc::new(Epoch {
        index: 0,
        anchor: Anchor {
            media_us: 0,
            wall: wall(),
        },
        gap_us: 0,
        tracks: vec![
            Track::new(TrackId::VIDEO, codec(Kind::Video)),
            Track::new(TrackId::AUDIO, codec(Kind::Audio)),
        ],
    });
    let pictures = (0..seconds * 30).map(picture);
    let sound = (0..seconds * i64::from(SOUND_HZ)).step_by(SOUND_TICKS);
    let sound = sound.map(|dts| Frame {
        track: TrackId::AUDIO,
        dts,
        pts: dts,
        sync: true,
        payload: Bytes::from(vec![0xa5; SOUND_LEN]),
    });
    let mut frames: Vec<Frame> = pictures.chain(sound).collect();
    frames.sort_by_key(|frame| {
        let track = epoch.track(frame.track).expect("it is of the epoch");
        rescale(frame.dts, track.timescale, 1_000_000)
    });
    let item = |frame| MediaItem {
        epoch: Arc::clone(&epoch),
        frame,
    };
    frames.into_iter().map(item).collect()
}
