//! Arbitrary publishers: whatever they do, time can be trusted.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Operation {
    Begin {
        bits: u32,
        hz: u32,
    },
    End,
    Declare(bool, bool),
    Config(usize),
    Frame {
        video: bool,
        time: FrameTime,
        composition: i32,
        sync: bool,
    },
    Wait {
        ms: u32,
    },
}

#[derive(Debug, Clone)]
enum FrameTime {
    /// Anywhere on the source's clock.
    Anywhere(u64),
    /// This far from the last one.
    Step(i64),
}

fn operation() -> impl Strategy<Value = Operation> {
    let composition = prop_oneof![4 => -200..200_i32, 1 => any::<i32>()];
    let time = prop_oneof![
        1 => any::<u64>().prop_map(FrameTime::Anywhere),
        1 => (-20_000..20_000_i64).prop_map(FrameTime::Step),
        8 => (0..60_i64).prop_map(FrameTime::Step),
    ];
    let frame = (any::<bool>(), time, composition, any::<bool>()).prop_map(
        |(video, time, composition, sync)| Operation::Frame {
            video,
            time,
            composition,
            sync,
        },
    );
    prop_oneof![
        1 => (1..=63_u32, prop_oneof![Just(1), Just(1_000), Just(90_000), 1..u32::MAX])
            .prop_map(|(bits, hz)| Operation::Begin { bits, hz }),
        1 => Just(Operation::Begin { bits: 32, hz: 1_000 }),
        1 => Just(Operation::End),
        1 => any::<(bool, bool)>().prop_map(|(video, audio)| Operation::Declare(video, audio)),
        4 => (0..5_usize).prop_map(Operation::Config),
        40 => frame,
        10 => (0..1_500_u32).prop_map(|ms| Operation::Wait { ms }),
    ]
}

proptest! {
    #[test]
    fn time_can_be_trusted_whatever_publishers_do(operations in prop::collection::vec(operation(), 0..200)) {
        let configs = [
            video_config(VIDEO_360), video_config(VIDEO_1080),
            audio_config(STEREO_48000), audio_config(MONO_48000), audio_config(STEREO_44100),
        ];
        let mut run = Run::new();
        let mut source_time = 0_u64;
        let mut frames = 0;
        run.begin_both();
        for operation in operations {
            match operation {
                Operation::Begin { bits, hz } => run.timeline.begin_session(SessionClock { bits, hz }),
                Operation::End => run.timeline.end_session(),
                Operation::Declare(video, audio) => run.push(Input::Declared { video, audio }),
                Operation::Config(n) => run.config(configs[n].clone()),
                Operation::Wait { ms } => run.now_ms += i64::from(ms),
                Operation::Frame { video, time, composition, sync } => {
                    source_time = match time {
                        FrameTime::Anywhere(at) => at,
                        FrameTime::Step(step) => source_time.wrapping_add_signed(step),
                    };
                    let kind = if video { Kind::Video } else { Kind::Audio };
                    let payload = Bytes::from_static(b"x");
                    run.push(Input::Frame { kind, dts: source_time, composition, sync, payload });
                    frames += 1;
                }
            }
        }
        prop_assert!(run.out.len() <= frames, "no frame is made up");
        check_invariants(&run.out).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn what_is_held_back_is_bounded(
        frames in prop::collection::vec((any::<bool>(), any::<bool>(), 0..4_usize << 20), 1..64),
        repeat in 1..64_usize,
    ) {
        // Time stands still, so that only the bounds can start the session.
        let mut run = Run::with_both();
        for (at, (video, sync, len)) in frames.iter().cycle().take(frames.len() * repeat).enumerate() {
            let kind = if *video { Kind::Video } else { Kind::Audio };
            let payload = Bytes::from(vec![0; 1]).slice(..1);
            let payload = if *len > 1 << 20 { Bytes::from_static(&[0; 1 << 20]) } else { payload };
            run.push(Input::Frame { kind, dts: at as u64, composition: 0, sync: *sync, payload });
            let held = run.timeline.session.as_ref().map_or(0, Session::held_frames);
            let held_bytes = run.timeline.session.as_ref().map_or(0, Session::held_bytes);
            prop_assert!(held <= 1_024 && held_bytes <= 16 << 20, "{held} frames, {held_bytes} bytes");
        }
    }
}
