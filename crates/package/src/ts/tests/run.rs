//! Runs to mux: synthetic ones of any shape, and the demo sample.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use bytes::{BufMut, Bytes, BytesMut};
use weir_media::{
    Anchor, Epoch, Frame, Input, Kind, Now, SessionClock, Timeline, Track, TrackId,
    VIDEO_TIMESCALE,
    codec::{Codec, aac, h264},
    container::flv::{self, AudioBody, VideoBody},
    rescale,
};

const RECORD: &str =
    "0142c01effe100196742c01eda0280bfe5c044000003000400000300c83c58ba8001000468ce0fc8";
pub(super) const S: i64 = 90_000;
pub(super) const BOTH: [Kind; 2] = [Kind::Video, Kind::Audio];

pub(super) type Run = Vec<(Arc<Epoch>, Frame)>;

pub(super) fn hex(text: &str) -> Bytes {
    let pair = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("two hexadecimal digits");
    (0..text.len()).step_by(2).map(pair).collect()
}

pub(super) fn epoch(index: u32, kinds: &[Kind], asc: &str) -> Arc<Epoch> {
    let track = |&kind: &Kind| match kind {
        Kind::Video => Track::new(
            TrackId::VIDEO,
            Codec::H264(h264::Config::parse(hex(RECORD)).expect("a record")),
        ),
        Kind::Audio => Track::new(
            TrackId::AUDIO,
            Codec::Aac(aac::Config::parse(hex(asc)).expect("a configuration")),
        ),
    };
    let anchor = Anchor {
        media_us: 0,
        wall: UNIX_EPOCH,
    };
    Arc::new(Epoch {
        index,
        anchor,
        gap_us: 0,
        tracks: kinds.iter().map(track).collect(),
    })
}

/// What a run is made of.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) kinds: Vec<Kind>,
    pub(super) asc: &'static str,
    /// Ticks of 90 kHz.
    pub(super) start: i64,
    pub(super) duration: i64,
    pub(super) picture_ticks: i64,
    pub(super) pictures_per_group: usize,
    /// Pictures by which presentation is later than decoding.
    pub(super) reorder: i64,
    pub(super) picture_len: usize,
    pub(super) sound_len: usize,
}

pub(super) const SHAPE: Shape = Shape {
    kinds: Vec::new(),
    asc: "1190",
    start: 0,
    duration: 6 * S,
    picture_ticks: 3_600,
    pictures_per_group: 50,
    reorder: 2,
    picture_len: 500,
    sound_len: 341,
};

/// Frames of an epoch in the order of their decoding times.
pub(super) fn frames(shape: &Shape, epoch: &Arc<Epoch>) -> Run {
    let mut timed = Vec::new();
    let mut dts = shape.start;
    let mut number = 0;
    while shape.kinds.contains(&Kind::Video) && dts < shape.start + shape.duration {
        let sync = number % shape.pictures_per_group == 0;
        let moved = if shape.reorder == 0 || sync {
            shape.reorder
        } else {
            [2 * shape.reorder, 0, 1][number % 3]
        };
        let nal = filled(
            if sync { 0x65 } else { 0x41 },
            number,
            shape.picture_len * if sync { 8 } else { 1 },
        );
        let mut payload = BytesMut::new();
        payload.put_u32(u32::try_from(nal.len()).expect("short"));
        payload.put_slice(&nal);
        let pts = dts + moved * shape.picture_ticks;
        timed.push((
            dts,
            Frame {
                track: TrackId::VIDEO,
                dts,
                pts,
                sync,
                payload: payload.freeze(),
            },
        ));
        dts += shape.picture_ticks;
        number += 1;
    }
    if let Some(track) = epoch.first(Kind::Audio) {
        let mut dts = rescale(shape.start, VIDEO_TIMESCALE, track.timescale);
        let end = rescale(
            shape.start + shape.duration,
            VIDEO_TIMESCALE,
            track.timescale,
        );
        while dts < end {
            let payload = filled(
                0x21,
                usize::try_from(dts & 0xFFFF).expect("16 bits"),
                shape.sound_len,
            )
            .into();
            let at = rescale(dts, track.timescale, VIDEO_TIMESCALE);
            timed.push((
                at,
                Frame {
                    track: TrackId::AUDIO,
                    dts,
                    pts: dts,
                    sync: true,
                    payload,
                },
            ));
            dts += 1_024;
        }
    }
    timed.sort_by_key(|(at, _)| *at);
    timed
        .into_iter()
        .map(|(_, frame)| (Arc::clone(epoch), frame))
        .collect()
}

/// Bytes without zeros, so that they hold no start code.
fn filled(first: u8, seed: usize, len: usize) -> Vec<u8> {
    let byte = |at: usize| ((at * 31 + seed * 17) % 255 + 1) as u8;
    std::iter::once(first)
        .chain((1..len.max(1)).map(byte))
        .collect()
}

/// The demo sample through the timeline, `rounds` times in a row.
pub(super) fn demo(rounds: u32) -> Run {
    const LOOP_MS: u64 = 8_000;
    let file = include_bytes!("../../../../../testdata/demo.flv");
    let mut timeline = Timeline::new();
    timeline.begin_session(SessionClock::MS_32_BIT);
    let mut run = Vec::new();
    for round in 0..u64::from(rounds) {
        let mut reader = flv::Reader::new();
        reader.push(Bytes::from_static(file));
        while let Some(tag) = reader.next().expect("a good sample") {
            let dts = round * LOOP_MS + u64::from(tag.timestamp_ms);
            let input = match tag.kind {
                flv::TagKind::Video => match flv::parse_video(tag.body).expect("H.264") {
                    VideoBody::Config(config) => Input::Config(Codec::H264(config)),
                    VideoBody::Frame {
                        sync,
                        composition_ms,
                        payload,
                    } => Input::Frame {
                        kind: Kind::Video,
                        dts,
                        composition: composition_ms,
                        sync,
                        payload,
                    },
                    _ => continue,
                },
                flv::TagKind::Audio => match flv::parse_audio(tag.body).expect("AAC") {
                    AudioBody::Config(config) => Input::Config(Codec::Aac(config)),
                    AudioBody::Frame(payload) => Input::Frame {
                        kind: Kind::Audio,
                        dts,
                        composition: 0,
                        sync: true,
                        payload,
                    },
                    AudioBody::Skipped(_) => continue,
                },
                flv::TagKind::Script => continue,
            };
            let now = Duration::from_millis(dts);
            timeline.push(
                Now {
                    run: now,
                    wall: UNIX_EPOCH + now,
                },
                input,
                &mut run,
            );
        }
    }
    run
}
