//! FLV: tags and the bodies that RTMP messages share with them.
//!
//! Owns: Adobe Flash Video File Format 10.1, annex E: the file header and tags (E.2 to E.4.1), audio and video
//! tag bodies (E.4.2, E.4.3), the `onMetaData` script body (E.5), and reading all of them. Does not own: which
//! tags a viewer gets in which order, timestamps starting near zero, or RTMP chunks.

mod body;
mod reader;

use bytes::{BufMut, Bytes, BytesMut};

pub use body::{AudioBody, SkipReason, VideoBody, parse_audio, parse_video};
pub use reader::{Reader, TAG_BODY_LEN_MAX, Tag};

use super::amf0::{self, Value};
use crate::{
    Epoch, Kind,
    codec::{Codec, aac, h264},
};

/// Bytes of a tag before its body.
pub const TAG_HEADER_LEN: usize = 11;
/// Bytes of the `PreviousTagSize` behind every tag and behind the file header.
pub const PREVIOUS_TAG_SIZE_LEN: usize = 4;
/// Bytes of the file header.
const FILE_HEADER_LEN: u8 = 9;
/// `DataSize` has 24 bits.
const DATA_SIZE_MAX: usize = 0x00FF_FFFF;
/// Smallest and largest composition time: it has 24 bits.
const COMPOSITION_MS_MIN: i32 = -0x0080_0000;
const COMPOSITION_MS_MAX: i32 = 0x007F_FFFF;

/// First byte of a video body: frame type in the upper half, codec id in the lower.
const FRAME_TYPE_KEY: u8 = 1;
const FRAME_TYPE_INTER: u8 = 2;
const CODEC_ID_AVC: u8 = 7;
/// Second byte of an AVC body.
const AVC_SEQUENCE_HEADER: u8 = 0;
const AVC_NALU: u8 = 1;
const AVC_END_OF_SEQUENCE: u8 = 2;
/// First byte of an audio body; with AAC its rate, size and channels are fixed and say nothing.
const SOUND_FORMAT_AAC: u8 = 10;
const AAC_FIRST_BYTE: u8 = SOUND_FORMAT_AAC << 4 | 0x0F;
/// Second byte of an AAC body.
const AAC_SEQUENCE_HEADER: u8 = 0;
const AAC_RAW: u8 = 1;

/// What a tag holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TagKind {
    /// Sound or its configuration.
    Audio,
    /// Pictures or their configuration.
    Video,
    /// AMF0 values, such as `onMetaData`.
    Script,
}

impl TagKind {
    /// The number of the tag type; RTMP message types have the same.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Audio => 8,
            Self::Video => 9,
            Self::Script => 18,
        }
    }

    /// The kind with that number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            8 => Some(Self::Audio),
            9 => Some(Self::Video),
            18 => Some(Self::Script),
            _ => None,
        }
    }
}

/// Why FLV data cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The data does not start with `FLV` and version 1.
    #[error("this is not an FLV stream of version 1")]
    Signature,
    /// The file header claims another length than 9.
    #[error("the FLV header claims {0} bytes instead of {FILE_HEADER_LEN}")]
    HeaderLen(u32),
    /// The tag is encrypted.
    #[error("the FLV tag is encrypted")]
    Encrypted,
    /// A tag's body is longer than [`TAG_BODY_LEN_MAX`].
    #[error("an FLV tag claims {0} bytes, more than {TAG_BODY_LEN_MAX}")]
    TagTooLong(usize),
    /// A body ends before its own header does.
    #[error("an {kind} body of {len} bytes is cut off")]
    BodyTooShort {
        /// `H.264` or `AAC`.
        kind: &'static str,
        /// Its length.
        len: usize,
    },
    /// The encoder sends something that this server does not carry.
    #[error("the encoder sends {0}, which is not supported: set it to H.264 video and AAC audio")]
    UnsupportedCodec(&'static str),
    /// The H.264 sequence header.
    #[error(transparent)]
    H264(#[from] h264::Error),
    /// The AAC sequence header.
    #[error(transparent)]
    Aac(#[from] aac::Error),
}

/// The file header and `PreviousTagSize0`. A flag for a track that never comes stalls players.
#[must_use]
pub const fn file_header(has_audio: bool, has_video: bool) -> [u8; 13] {
    let flags = (has_audio as u8) << 2 | has_video as u8;
    [
        b'F',
        b'L',
        b'V',
        1,
        flags,
        0,
        0,
        0,
        FILE_HEADER_LEN,
        0,
        0,
        0,
        0,
    ]
}

/// Appends a tag whose body is the pieces of `body` one after the other, with its `PreviousTagSize`.
///
/// `timestamp_ms` may use all 32 bits. A body beyond 24 bits of length cannot be expressed and is left out;
/// frames are capped far below that where they enter.
pub fn put_tag(out: &mut BytesMut, kind: TagKind, timestamp_ms: u32, body: &[&[u8]]) {
    let len = body.iter().map(|piece| piece.len()).sum::<usize>();
    let Some(data_size) = u32::try_from(len).ok().filter(|_| len <= DATA_SIZE_MAX) else {
        return;
    };
    out.reserve(TAG_HEADER_LEN + len + PREVIOUS_TAG_SIZE_LEN);
    out.put_u8(kind.number());
    out.put_uint(data_size.into(), 3);
    out.put_uint(u64::from(timestamp_ms & 0x00FF_FFFF), 3);
    out.put_u8(timestamp_ms.to_be_bytes()[0]);
    out.put_uint(0, 3); // StreamID
    for piece in body {
        out.put_slice(piece);
    }
    out.put_u32(TAG_HEADER_LEN as u32 + data_size);
}

/// The body of an AVC sequence header.
#[must_use]
pub fn video_config(config: &h264::Config) -> Bytes {
    let first = FRAME_TYPE_KEY << 4 | CODEC_ID_AVC;
    [&[first, AVC_SEQUENCE_HEADER, 0, 0, 0], &config.record[..]]
        .concat()
        .into()
}

/// The body of an AAC sequence header.
#[must_use]
pub fn audio_config(config: &aac::Config) -> Bytes {
    [&[AAC_FIRST_BYTE, AAC_SEQUENCE_HEADER], &config.asc[..]]
        .concat()
        .into()
}

/// What comes before the length-prefixed NAL units of a frame. `composition_ms` is presentation minus decoding
/// time; it is clamped to its 24 bits.
#[must_use]
pub fn video_frame_header(sync: bool, composition_ms: i32) -> [u8; 5] {
    let frame_type = if sync {
        FRAME_TYPE_KEY
    } else {
        FRAME_TYPE_INTER
    };
    let clamped = composition_ms.clamp(COMPOSITION_MS_MIN, COMPOSITION_MS_MAX);
    let [_, high, middle, low] = clamped.to_be_bytes();
    [frame_type << 4 | CODEC_ID_AVC, AVC_NALU, high, middle, low]
}

/// What comes before the raw AAC of a frame.
#[must_use]
pub const fn audio_frame_header() -> [u8; 2] {
    [AAC_FIRST_BYTE, AAC_RAW]
}

/// The body of the `onMetaData` script tag: what is known of the tracks that exist, and nothing else.
#[must_use]
pub fn metadata(epoch: &Epoch) -> Bytes {
    let mut properties = Vec::new();
    let mut put = |name: &str, value: Value| properties.push((name.to_owned(), value));
    if let Some(Codec::H264(config)) = epoch.first(Kind::Video).map(|track| &track.codec) {
        if let Some(picture) = config.picture {
            put("width", f64::from(picture.width).into());
            put("height", f64::from(picture.height).into());
            if let Some((rate, scale)) = picture.frame_rate {
                put("framerate", (f64::from(rate) / f64::from(scale)).into());
            }
        }
        put("videocodecid", f64::from(CODEC_ID_AVC).into());
    }
    if let Some(Codec::Aac(config)) = epoch.first(Kind::Audio).map(|track| &track.codec) {
        put("audiocodecid", f64::from(SOUND_FORMAT_AAC).into());
        put(
            "audiosamplerate",
            f64::from(config.output_sample_rate).into(),
        );
        put("audiosamplesize", 16.0.into());
        put("stereo", (config.channels > 1 || config.ps).into());
        put("audiochannels", f64::from(config.channels).into());
    }
    put("encoder", "Weir".into());
    let mut body = BytesMut::new();
    amf0::encode(&"onMetaData".into(), &mut body);
    amf0::encode(&Value::EcmaArray(properties), &mut body);
    body.freeze()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{Anchor, Track, TrackId, codec::hex};

    #[test]
    fn the_header_names_only_tracks_that_exist() {
        for (audio, video, flags) in [(true, true, 5), (false, true, 1), (true, false, 4)] {
            let expected = [b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0];
            assert_eq!(file_header(audio, video), expected);
        }
    }

    #[test]
    fn tags_are_laid_out_byte_by_byte() {
        let check = |kind, timestamp_ms, body: &[&[u8]], expected: &str| {
            let mut out = BytesMut::new();
            put_tag(&mut out, kind, timestamp_ms, body);
            assert_eq!(out.freeze(), hex(expected));
        };
        check(TagKind::Audio, 0, &[], "08000000000000000000000000000b");
        check(
            TagKind::Video,
            0x00FF_FFFF,
            &[b"a", b"bc"],
            "09000003ffffff000000006162630000000e",
        );
        check(
            TagKind::Script,
            0x0100_0000,
            &[b"a"],
            "1200000100000001000000610000000c",
        );
        check(
            TagKind::Video,
            0xFEDC_BA98,
            &[b"a"],
            "09000001dcba98fe000000610000000c",
        );
    }

    #[test]
    fn a_body_that_24_bits_cannot_count_is_left_out() {
        let half = vec![0; DATA_SIZE_MAX / 2 + 1];
        let mut out = BytesMut::new();
        put_tag(&mut out, TagKind::Video, 0, &[&half, &half]);
        assert!(out.is_empty());
    }

    #[test]
    fn composition_times_are_clamped_to_24_bits() {
        let check = |sync, composition_ms, expected: &str| {
            assert_eq!(
                video_frame_header(sync, composition_ms)[..],
                hex(expected)[..]
            );
        };
        check(true, 0, "1701000000");
        check(false, 80, "2701000050");
        check(false, -40, "2701ffffd8");
        check(false, i32::MAX, "27017fffff");
        check(false, i32::MIN, "2701800000");
    }

    #[test]
    fn metadata_tells_what_exists() {
        let video = Codec::H264(h264::Config::parse(hex(AVCC)).unwrap());
        let audio = Codec::Aac(aac::Config::parse(hex("119056e500")).unwrap());
        let video = Track::new(TrackId::VIDEO, video);
        let audio = Track::new(TrackId::AUDIO, audio);
        let check = |tracks: Vec<Track>, expected: &[(&str, Value)]| {
            let anchor = Anchor {
                media_us: 0,
                wall: SystemTime::UNIX_EPOCH,
            };
            let body = metadata(&Epoch {
                index: 0,
                anchor,
                gap_us: 0,
                tracks,
            });
            let values = amf0::decode_all(&body).unwrap();
            let mut properties: Vec<_> = expected
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect();
            properties.push(("encoder".to_owned(), "Weir".into()));
            assert_eq!(values, ["onMetaData".into(), Value::EcmaArray(properties)]);
        };
        let about_video = [
            ("width", 640.0.into()),
            ("height", 360.0.into()),
            ("framerate", 25.0.into()),
            ("videocodecid", 7.0.into()),
        ];
        let about_audio = [
            ("audiocodecid", 10.0.into()),
            ("audiosamplerate", 48_000.0.into()),
            ("audiosamplesize", 16.0.into()),
            ("stereo", true.into()),
            ("audiochannels", 2.0.into()),
        ];
        check(vec![video.clone()], &about_video);
        check(vec![audio.clone()], &about_audio);
        check(
            vec![video, audio],
            &[&about_video[..], &about_audio[..]].concat(),
        );
        check(vec![], &[]);
    }

    /// 640x360 at 25 pictures a second, from x264.
    const AVCC: &str =
        "0142c01effe100196742c01eda0280bfe5c044000003000400000300c83c58ba8001000468ce0fc8";
}
