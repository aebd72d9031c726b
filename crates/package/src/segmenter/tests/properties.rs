//! Arbitrary publishers, through the timeline: whatever comes out can be packaged.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use weir_media::{Input, Now, SessionClock, Timeline};

use super::*;
use crate::flv;

/// A stretch of a publisher's life.
#[derive(Debug, Clone)]
struct Phase {
    /// Whether the publisher comes anew, with timestamps from zero.
    restarts: bool,
    /// How far the source's clock jumps before it, milliseconds.
    jump_ms: i64,
    /// How long nothing is sent before it.
    pause_ms: i64,
    length_ms: i64,
    frame_ms: i64,
    gop: i64,
    video: bool,
    audio: bool,
    /// One frame of so many is lost; 0 for none.
    lost_every: usize,
}

fn phase() -> impl Strategy<Value = Phase> {
    let rare = |range: std::ops::Range<i64>| prop_oneof![4 => Just(0), 1 => range];
    let frame_ms = prop_oneof![3 => Just(40_i64), 1 => 4..1_200_i64];
    let gop = prop_oneof![3 => 1..60_i64, 1 => 60..2_000_i64];
    (
        (
            prop::bool::weighted(0.2),
            rare(-20_000..20_000),
            rare(0..20_000),
            0..12_000_i64,
        ),
        (
            frame_ms,
            gop,
            prop::bool::weighted(0.85),
            prop::bool::weighted(0.85),
            0..20_usize,
        ),
    )
        .prop_map(
            |(
                (restarts, jump_ms, pause_ms, length_ms),
                (frame_ms, gop, video, audio, lost_every),
            )| Phase {
                restarts,
                jump_ms,
                pause_ms,
                length_ms,
                frame_ms,
                gop,
                video,
                audio,
                lost_every,
            },
        )
}

/// What the timeline makes of a publisher with these phases.
fn frames_of(phases: &[Phase]) -> Vec<Timed> {
    let (mut timeline, mut out) = (Timeline::new(), Vec::new());
    let (mut now_ms, mut source_ms, mut sent) = (0_i64, 0_i64, 0_usize);
    for (at, phase) in phases.iter().enumerate() {
        now_ms += phase.pause_ms;
        source_ms += phase.pause_ms + phase.jump_ms;
        if at == 0 || phase.restarts {
            timeline.begin_session(SessionClock::MS_32_BIT);
            source_ms = 0;
            timeline.push(
                at_run_ms(now_ms),
                Input::Config(codec(Kind::Video)),
                &mut out,
            );
            timeline.push(
                at_run_ms(now_ms),
                Input::Config(codec(Kind::Audio)),
                &mut out,
            );
        }
        let mut tracks: Vec<(i64, Kind, bool)> = Vec::new();
        if phase.video {
            tracks.extend(
                (0..phase.length_ms / phase.frame_ms)
                    .map(|n| (n * phase.frame_ms, Kind::Video, n % phase.gop == 0)),
            );
        }
        if phase.audio {
            tracks.extend(
                (0..phase.length_ms * 48 / 1_024).map(|n| (n * 1_024 / 48, Kind::Audio, true)),
            );
        }
        tracks.sort_by_key(|&(at_ms, kind, _)| (at_ms, kind == Kind::Audio));
        for (at_ms, kind, sync) in tracks {
            sent += 1;
            if phase.lost_every > 0 && sent.is_multiple_of(phase.lost_every) {
                continue;
            }
            let dts = (source_ms + at_ms) as u64;
            let payload = Bytes::from_static(b"x");
            let input = Input::Frame {
                kind,
                dts,
                composition: 0,
                sync,
                payload,
            };
            timeline.push(at_run_ms(now_ms + at_ms), input, &mut out);
        }
        now_ms += phase.length_ms;
        source_ms += phase.length_ms;
    }
    out
}

/// Ten seconds of both tracks, a jump of the source's clock, ten more seconds.
pub(super) fn frames_around_a_jump(jump_ms: i64) -> Vec<Timed> {
    let phase = Phase {
        restarts: false,
        jump_ms: 0,
        pause_ms: 0,
        length_ms: 10_000,
        frame_ms: 40,
        gop: 50,
        video: true,
        audio: true,
        lost_every: 0,
    };
    frames_of(&[phase.clone(), Phase { jump_ms, ..phase }])
}

fn at_run_ms(ms: i64) -> Now {
    Now {
        run: Duration::from_millis(ms.unsigned_abs()),
        wall: wall(ms * 1_000),
    }
}

proptest! {
    #[test]
    fn whatever_publishers_do_can_be_packaged(phases in prop::collection::vec(phase(), 1..8)) {
        let frames = frames_of(&phases);
        let mut last_ms = [i64::MIN; 2];
        for (epoch, frame) in &frames {
            let track = epoch.track(frame.track).expect("a frame's epoch has its track");
            let now_ms = flv::collapsed_ms(epoch, track, frame);
            let last = &mut last_ms[usize::from(frame.track.0)];
            prop_assert!(now_ms >= *last, "FLV time goes from {last} to {now_ms}");
            *last = now_ms;
        }
        check_with_holes(&frames);
    }
}
