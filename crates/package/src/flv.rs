//! A stream as FLV tags, which RTMP messages share (CONFORMANCE section 5).
//!
//! Owns: the order of what a viewer gets first ([`head`]), and a frame's tag or message body ([`Body`]). Gaps between
//! epochs are collapsed: timestamps continue where the last epoch ended, because FLV players stall at holes.
//! Timestamps count from the start of the run, not from the viewer's first tag: the bytes are the same for everyone.
//! Does not own: the byte layout of tags ([`weir_media::container::flv`]) or of RTMP chunks.

use std::time::UNIX_EPOCH;

use bytes::{Bytes, BytesMut};
use weir_media::{
    Epoch, Frame, Kind, Track,
    codec::Codec,
    container::{
        amf0::{self, Value},
        flv::{self, TagKind},
    },
    rescale,
};

/// The media type of HTTP-FLV.
pub const MEDIA_TYPE: &str = "video/x-flv";

/// The body of a tag or message: a few bytes of header, and the payload they stand before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Audio or video.
    pub kind: TagKind,
    header: [u8; 5],
    header_len: usize,
    payload: Bytes,
}

impl Body {
    /// The body of a frame of `track`.
    #[must_use]
    pub fn of(track: &Track, frame: &Frame) -> Self {
        let mut header = [0; 5];
        let (kind, header_len) = match &track.codec {
            Codec::H264(_) => {
                let composition_ms = to_ms(frame.pts, track) - to_ms(frame.dts, track);
                header =
                    flv::video_frame_header(frame.sync, i32::try_from(composition_ms).unwrap_or(0));
                (TagKind::Video, header.len())
            }
            Codec::Aac(_) => {
                let [first, second] = flv::audio_frame_header();
                (header[0], header[1]) = (first, second);
                (TagKind::Audio, 2)
            }
        };
        Self {
            kind,
            header,
            header_len,
            payload: frame.payload.clone(),
        }
    }

    /// The pieces, in order.
    #[must_use]
    pub fn pieces(&self) -> [&[u8]; 2] {
        [
            self.header.get(..self.header_len).unwrap_or_default(),
            &self.payload,
        ]
    }
}

/// A frame's decoding time with the gaps between epochs taken out, milliseconds since the run began.
#[must_use]
pub fn collapsed_ms(epoch: &Epoch, track: &Track, frame: &Frame) -> i64 {
    to_ms(frame.dts, track) - epoch.gap_us / 1_000
}

/// What FLV and RTMP write for `ms`: it wraps at 32 bits.
#[must_use]
pub fn timestamp(ms: i64) -> u32 {
    // The low 32 bits are what the formats carry.
    (ms & i64::from(u32::MAX)) as u32
}

/// Appends the tag of a frame.
pub fn put_frame(out: &mut BytesMut, epoch: &Epoch, track: &Track, frame: &Frame) {
    let body = Body::of(track, frame);
    flv::put_tag(
        out,
        body.kind,
        timestamp(collapsed_ms(epoch, track, frame)),
        &body.pieces(),
    );
}

/// What a viewer needs before the first frame of an epoch, as bodies in order: metadata, only when the viewer joins
/// and has none yet, and the sequence headers (V4).
#[must_use]
pub fn head(epoch: &Epoch, joins: bool) -> Vec<(TagKind, Bytes)> {
    let mut bodies = Vec::with_capacity(3);
    if joins {
        bodies.push((TagKind::Script, flv::metadata(epoch)));
    }
    for track in &epoch.tracks {
        bodies.push(match &track.codec {
            Codec::H264(config) => (TagKind::Video, flv::video_config(config)),
            Codec::Aac(config) => (TagKind::Audio, flv::audio_config(config)),
        });
    }
    bodies
}

/// The time that a body of [`head`] carries before a frame at `at_ms` (V5). Script bodies carry 0: FFmpeg takes metadata
/// at another time for a text track.
#[must_use]
pub fn head_ms(kind: TagKind, at_ms: i64) -> i64 {
    if kind == TagKind::Script { 0 } else { at_ms }
}

/// The file header and the tags of [`head`] for a viewer that joins; only the tags for one that has been watching.
/// `at_ms` is the collapsed time of the frame that follows. A viewer that wants to measure its
/// latency gets `onAnchor` as well; others do not, because FFmpeg makes a data stream of any script tag.
#[must_use]
pub fn head_tags(epoch: &Epoch, at_ms: i64, joins: bool, with_anchor: bool) -> Bytes {
    let mut out = BytesMut::new();
    if joins {
        let has = |kind| epoch.first(kind).is_some();
        out.extend_from_slice(&flv::file_header(has(Kind::Audio), has(Kind::Video)));
    }
    let mut bodies = head(epoch, joins);
    if with_anchor {
        bodies.push((TagKind::Script, anchor(epoch, at_ms)));
    }
    for (kind, body) in bodies {
        flv::put_tag(&mut out, kind, timestamp(head_ms(kind, at_ms)), &[&body]);
    }
    out.freeze()
}

/// The script body `onAnchor`: which wall time a timestamp had.
fn anchor(epoch: &Epoch, at_ms: i64) -> Bytes {
    let wall_ms = epoch
        .anchor
        .wall
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let anchored_ms = (epoch.anchor.media_us - epoch.gap_us) / 1_000;
    let wall_ms = i64::try_from(wall_ms).unwrap_or(0) + at_ms - anchored_ms;
    let values = vec![
        (
            "timestamp_ms".to_owned(),
            Value::Number(f64::from(timestamp(at_ms))),
        ),
        ("wall_ms".to_owned(), Value::Number(wall_ms as f64)),
    ];
    let mut body = BytesMut::new();
    amf0::encode(&"onAnchor".into(), &mut body);
    amf0::encode(&Value::Object(values), &mut body);
    body.freeze()
}

fn to_ms(ticks: i64, track: &Track) -> i64 {
    rescale(ticks, track.timescale, 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, BOTH, S};

    #[test]
    fn head_is_metadata_then_configurations() {
        let kinds = |joins| {
            let bodies = head(&fixture::epoch(0, 0, &BOTH), joins);
            bodies.into_iter().map(|(kind, _)| kind).collect::<Vec<_>>()
        };
        assert_eq!(kinds(false), [TagKind::Video, TagKind::Audio]);
        assert_eq!(
            kinds(true),
            [TagKind::Script, TagKind::Video, TagKind::Audio]
        );
    }

    #[test]
    fn only_a_viewer_that_joins_gets_the_file_header() {
        let epoch = fixture::epoch(0, 0, &fixture::AUDIO);
        let joins = head_tags(&epoch, 0, true, false);
        assert!(
            joins.starts_with(b"FLV\x01\x04"),
            "the flags name the tracks (V2)"
        );
        assert!(!head_tags(&epoch, 0, false, false).starts_with(b"FLV"));
    }

    #[test]
    fn only_a_viewer_that_asks_gets_the_anchor() {
        let epoch = fixture::epoch(0, 0, &fixture::AUDIO);
        for (joins, with_anchor) in [(true, true), (true, false), (false, true), (false, false)] {
            let tags = head_tags(&epoch, 0, joins, with_anchor);
            let found = tags.windows(8).any(|bytes| bytes == b"onAnchor");
            assert_eq!(found, with_anchor);
        }
    }

    #[test]
    fn gaps_are_collapsed_and_the_anchor_knows() {
        let mut epoch = fixture::epoch(1, 60 * S, &BOTH);
        std::sync::Arc::get_mut(&mut epoch)
            .expect("not shared")
            .gap_us = 50 * S;
        let (epoch, frame) = fixture::audio(&epoch, 60 * S, 61 * S).remove(0);
        let track = epoch.track(frame.track).expect("audio");
        assert_eq!(collapsed_ms(&epoch, track, &frame), 10_000);
        // The frame after one second has the anchor's wall time and a second.
        let wall_ms = (fixture::BEGINS_S + 61) as f64 * 1_000.0;
        let body = anchor(&epoch, 11_000);
        assert!(body.windows(8).any(|bytes| bytes == wall_ms.to_be_bytes()));
    }

    #[test]
    fn timestamps_wrap_at_32_bits() {
        for (ms, expected) in [
            (0, 0),
            (0xFF_FFFF, 0xFF_FFFF),
            (0xFFFF_FFFF, 0xFFFF_FFFF),
            (0x1_0000_0005, 5),
        ] {
            assert_eq!(timestamp(ms), expected);
        }
    }

    #[test]
    fn composition_is_in_milliseconds_and_signed() {
        let epoch = fixture::epoch(0, 0, &BOTH);
        for (ticks, bytes) in [
            (0, [0, 0, 0]),
            (3_600, [0, 0, 40]),
            (-3_600, [0xFF, 0xFF, 0xD8]),
        ] {
            let (_, mut frame) = fixture::video_gop(&epoch, S, 2 * S, 25).remove(0);
            frame.pts = frame.dts + ticks;
            let track = epoch.track(frame.track).expect("video");
            let body = Body::of(track, &frame);
            assert_eq!(body.pieces()[0][..2], [0x17, 1]);
            assert_eq!(body.pieces()[0][2..], bytes);
            assert_eq!(body.pieces()[1], &frame.payload[..]);
        }
    }
}
