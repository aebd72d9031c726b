//! Bodies of audio and video tags, which RTMP messages of types 8 and 9 carry unchanged.
//!
//! Owns: telling configuration from frames, and naming what is not supported in words that the operator of an
//! encoder understands. Does not own: keeping the configuration, or time.

use bytes::{Buf, Bytes};

use super::{
    AAC_RAW, AAC_SEQUENCE_HEADER, AVC_END_OF_SEQUENCE, AVC_NALU, AVC_SEQUENCE_HEADER, CODEC_ID_AVC,
    Error, FRAME_TYPE_KEY, SOUND_FORMAT_AAC,
};
use crate::codec::{aac, h264};

/// Frame type of a seek or other command, which holds no picture.
const FRAME_TYPE_COMMAND: u8 = 5;
/// Bit of the first byte that makes the body one of Enhanced RTMP.
const EX_HEADER: u8 = 0x80;
/// Sound format that makes the body one of Enhanced RTMP.
const SOUND_FORMAT_EX_HEADER: u8 = 9;

/// What a video body holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoBody {
    /// The configuration of the frames that follow.
    Config(h264::Config),
    /// One access unit.
    Frame {
        /// Whether the sender calls it a key frame. It is a claim: senders also mark pictures at which
        /// decoding recovers only after a while (an open GOP, intra refresh). Whether decoding can start
        /// here only [`h264::is_idr`] tells, which needs the configuration.
        sync: bool,
        /// Presentation time minus decoding time in milliseconds; negative values occur.
        composition_ms: i32,
        /// Length-prefixed NAL units; not empty.
        payload: Bytes,
    },
    /// No frame follows with the current configuration.
    EndOfSequence,
    /// Nothing of use, and no fault.
    Skipped(SkipReason),
}

/// What an audio body holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioBody {
    /// The configuration of the frames that follow.
    Config(aac::Config),
    /// One raw AAC access unit; not empty.
    Frame(Bytes),
    /// Nothing of use, and no fault.
    Skipped(SkipReason),
}

/// Why a body was passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// It holds no data.
    Empty,
    /// It is a command to a player, not a picture.
    Command,
    /// Its packet type is not known.
    PacketType(u8),
}

/// Reads the body of a video tag.
///
/// # Errors
/// Another codec than H.264, a body cut off, or an unusable sequence header.
pub fn parse_video(mut body: Bytes) -> Result<VideoBody, Error> {
    let Some(&first) = body.first() else {
        return Ok(VideoBody::Skipped(SkipReason::Empty));
    };
    let frame_type = first >> 4 & 0b111;
    if frame_type == FRAME_TYPE_COMMAND {
        return Ok(VideoBody::Skipped(SkipReason::Command));
    }
    if first & EX_HEADER != 0 {
        return Err(Error::UnsupportedCodec(enhanced_codec(&body)));
    }
    if first & 0x0F != CODEC_ID_AVC {
        return Err(Error::UnsupportedCodec(video_codec(first & 0x0F)));
    }
    let &[_, packet_type, high, middle, low, ..] = &body[..] else {
        return cut_video(&body);
    };
    body.advance(5);
    match packet_type {
        AVC_SEQUENCE_HEADER => Ok(VideoBody::Config(h264::Config::parse(unshared(&body))?)),
        AVC_NALU if body.is_empty() => Ok(VideoBody::Skipped(SkipReason::Empty)),
        AVC_NALU => Ok(VideoBody::Frame {
            sync: frame_type == FRAME_TYPE_KEY,
            // The shift down again carries the sign of 24 bits.
            composition_ms: i32::from_be_bytes([high, middle, low, 0]) >> 8,
            payload: body,
        }),
        AVC_END_OF_SEQUENCE => Ok(VideoBody::EndOfSequence),
        other => Ok(VideoBody::Skipped(SkipReason::PacketType(other))),
    }
}

/// Reads the body of an audio tag.
///
/// # Errors
/// Another codec than AAC, a body cut off, or an unusable sequence header.
pub fn parse_audio(mut body: Bytes) -> Result<AudioBody, Error> {
    let Some(&first) = body.first() else {
        return Ok(AudioBody::Skipped(SkipReason::Empty));
    };
    let sound_format = first >> 4;
    if sound_format == SOUND_FORMAT_EX_HEADER {
        return Err(Error::UnsupportedCodec(enhanced_codec(&body)));
    }
    if sound_format != SOUND_FORMAT_AAC {
        return Err(Error::UnsupportedCodec(audio_codec(sound_format)));
    }
    let &[_, packet_type, ..] = &body[..] else {
        return Err(Error::BodyTooShort {
            kind: "AAC",
            len: body.len(),
        });
    };
    body.advance(2);
    match packet_type {
        AAC_SEQUENCE_HEADER => Ok(AudioBody::Config(aac::Config::parse(unshared(&body))?)),
        AAC_RAW if body.is_empty() => Ok(AudioBody::Skipped(SkipReason::Empty)),
        AAC_RAW => Ok(AudioBody::Frame(body)),
        other => Ok(AudioBody::Skipped(SkipReason::PacketType(other))),
    }
}

/// A configuration outlives the buffer it came in by hours and must not hold on to it. Nothing beyond the longest
/// configuration is copied: one byte more is enough to have it refused.
fn unshared(body: &[u8]) -> Bytes {
    const COPY_LEN_MAX: usize = h264::RECORD_LEN_MAX + 1;
    Bytes::copy_from_slice(body.get(..COPY_LEN_MAX).unwrap_or(body))
}

/// Some encoders leave out the composition time at the end of a sequence.
fn cut_video(body: &[u8]) -> Result<VideoBody, Error> {
    if body.get(1) == Some(&AVC_END_OF_SEQUENCE) {
        return Ok(VideoBody::EndOfSequence);
    }
    Err(Error::BodyTooShort {
        kind: "H.264",
        len: body.len(),
    })
}

/// Names of codec ids (E.4.3.1), and 12 as Chinese CDNs use it.
fn video_codec(codec_id: u8) -> &'static str {
    match codec_id {
        1 => "JPEG video",
        2 => "Sorenson H.263 video",
        3 | 6 => "screen video",
        4 | 5 => "VP6 video",
        8 => "H.263 video",
        9 => "MPEG-4 Part 2 video",
        12 => "H.265 (HEVC) video",
        13 => "AV1 video",
        _ => "an unknown video codec",
    }
}

/// Names of sound formats (E.4.2.1).
fn audio_codec(sound_format: u8) -> &'static str {
    match sound_format {
        0 | 3 => "uncompressed (PCM) audio",
        1 => "ADPCM audio",
        2 | 14 => "MP3 audio",
        4..=6 => "Nellymoser audio",
        7 | 8 => "G.711 audio",
        11 => "Speex audio",
        13 => "Opus audio",
        _ => "an unknown audio codec",
    }
}

/// Names of the FourCC that stands second in most bodies of Enhanced RTMP.
fn enhanced_codec(body: &[u8]) -> &'static str {
    match body.get(1..5) {
        Some(b"hvc1") => "H.265 (HEVC) video",
        Some(b"vvc1") => "H.266 (VVC) video",
        Some(b"av01") => "AV1 video",
        Some(b"vp08") => "VP8 video",
        Some(b"vp09") => "VP9 video",
        Some(b"avc1") => "H.264 video in the form of Enhanced RTMP",
        Some(b"Opus") => "Opus audio",
        Some(b"fLaC") => "FLAC audio",
        Some(b"ac-3" | b"ec-3") => "Dolby audio",
        Some(b".mp3") => "MP3 audio",
        Some(b"mp4a") => "AAC audio in the form of Enhanced RTMP",
        _ => "a codec of Enhanced RTMP",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::*, *};
    use crate::codec::hex;

    const AVCC: &str =
        "0142c01effe100196742c01eda0280bfe5c044000003000400000300c83c58ba8001000468ce0fc8";

    #[test]
    fn reads_video_bodies() {
        let check = |body: &str, expected| {
            assert_eq!(parse_video(hex(body)), expected, "{body}");
        };
        let frame = |sync, composition_ms, payload: &str| {
            Ok(VideoBody::Frame {
                sync,
                composition_ms,
                payload: hex(payload),
            })
        };
        let config = h264::Config::parse(hex(AVCC)).unwrap();
        check(&format!("1700000000{AVCC}"), Ok(VideoBody::Config(config)));
        check("17010000000000000165", frame(true, 0, "0000000165"));
        check("27010000500000000141", frame(false, 80, "0000000141"));
        check("2701ffffd80000000141", frame(false, -40, "0000000141"));
        check(
            "27018000000000000141",
            frame(false, -0x0080_0000, "0000000141"),
        );
        // Disposable and generated frames are not key frames.
        check("37010000000000000141", frame(false, 0, "0000000141"));
        check("47010000000000000141", frame(false, 0, "0000000141"));
        check("1702000000", Ok(VideoBody::EndOfSequence));
        check("1702", Ok(VideoBody::EndOfSequence));
        check("", Ok(VideoBody::Skipped(SkipReason::Empty)));
        check("1701000000", Ok(VideoBody::Skipped(SkipReason::Empty)));
        check("5700", Ok(VideoBody::Skipped(SkipReason::Command)));
        check("d068766331", Ok(VideoBody::Skipped(SkipReason::Command)));
        check(
            "1709000000",
            Ok(VideoBody::Skipped(SkipReason::PacketType(9))),
        );
        check(
            "17010000",
            Err(Error::BodyTooShort {
                kind: "H.264",
                len: 4,
            }),
        );
        check("1700000000", Err(h264::Error::RecordTooShort(0).into()));
        check("1c01", Err(Error::UnsupportedCodec("H.265 (HEVC) video")));
        check("12", Err(Error::UnsupportedCodec("Sorenson H.263 video")));
        check(
            "9068766331",
            Err(Error::UnsupportedCodec("H.265 (HEVC) video")),
        );
        check("9061763031", Err(Error::UnsupportedCodec("AV1 video")));
        check(
            "90",
            Err(Error::UnsupportedCodec("a codec of Enhanced RTMP")),
        );
    }

    #[test]
    fn reads_audio_bodies() {
        let check = |body: &str, expected| {
            assert_eq!(parse_audio(hex(body)), expected, "{body}");
        };
        let config = aac::Config::parse(hex("1190")).unwrap();
        check("af001190", Ok(AudioBody::Config(config)));
        check("af0121104500", Ok(AudioBody::Frame(hex("21104500"))));
        check("", Ok(AudioBody::Skipped(SkipReason::Empty)));
        check("af01", Ok(AudioBody::Skipped(SkipReason::Empty)));
        check("af02", Ok(AudioBody::Skipped(SkipReason::PacketType(2))));
        check(
            "af",
            Err(Error::BodyTooShort {
                kind: "AAC",
                len: 1,
            }),
        );
        check("af00", Err(aac::Error::TooShort.into()));
        check("2f01", Err(Error::UnsupportedCodec("MP3 audio")));
        check("904f707573", Err(Error::UnsupportedCodec("Opus audio")));
    }

    #[test]
    fn refusals_speak_to_the_operator_of_an_encoder() {
        assert_eq!(
            parse_video(hex("9068766331")).unwrap_err().to_string(),
            "the encoder sends H.265 (HEVC) video, which is not supported: \
             set it to H.264 video and AAC audio"
        );
    }

    #[test]
    fn what_is_written_reads_back() {
        let video = h264::Config::parse(hex(AVCC)).unwrap();
        assert_eq!(
            parse_video(video_config(&video)),
            Ok(VideoBody::Config(video))
        );
        let audio = aac::Config::parse(hex("119056e500")).unwrap();
        assert_eq!(
            parse_audio(audio_config(&audio)),
            Ok(AudioBody::Config(audio))
        );
        let body = [&audio_frame_header()[..], b"raw"].concat();
        assert_eq!(parse_audio(body.into()), Ok(AudioBody::Frame("raw".into())));
    }

    proptest! {
        #[test]
        fn frames_read_back(sync: bool, composition_ms in -0x0080_0000..0x0080_0000) {
            let payload = Bytes::from_static(b"nal");
            let body = [&video_frame_header(sync, composition_ms)[..], &payload].concat();
            let expected = VideoBody::Frame { sync, composition_ms, payload };
            prop_assert_eq!(parse_video(body.into()), Ok(expected));
        }

        #[test]
        fn arbitrary_bodies_never_panic(first: u8, packet_type in 0u8..4, rest: Vec<u8>) {
            for first in [first, 0x17, 0xAF] {
                let body: Bytes = [first, packet_type].into_iter().chain(rest.clone()).collect();
                let _ = parse_video(body.clone());
                let _ = parse_audio(body);
            }
        }
    }
}
