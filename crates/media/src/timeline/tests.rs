//! The faults of publishers (FAULTS 3.1), one test each, and the invariants behind which everything trusts time.

mod properties;

use std::time::UNIX_EPOCH;

use super::*;
use crate::codec::{aac, h264, hex};

const VIDEO_360: &str =
    "0142c01effe100196742c01eda0280bfe5c044000003000400000300c83c58ba8001000468ce0fc8";
const VIDEO_1080: &str =
    "01640028ffe1001967640028acd940780227e5c04400000fa40003a9803c60c65801000468ef8fcbfdf8f800";
const STEREO_48000: &str = "1190";
const MONO_48000: &str = "1188";
const STEREO_44100: &str = "1210";

const GOP_MS: i64 = 1_000;
const VIDEO_FRAME_MS: i64 = 40;
const WALL_START_S: u64 = 1_800_000_000;

fn video_config(record: &str) -> Codec {
    Codec::H264(h264::Config::parse(hex(record)).expect("a valid record"))
}

fn audio_config(asc: &str) -> Codec {
    Codec::Aac(aac::Config::parse(hex(asc)).expect("a valid configuration"))
}

fn wall_after(run: Duration) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(WALL_START_S) + run
}

/// A publisher and the timeline it feeds. The run's clock stands still until a test moves it.
struct Run {
    timeline: Timeline,
    now_ms: i64,
    clock: SessionClock,
    out: Vec<Timed>,
}

impl Run {
    fn new() -> Self {
        Self {
            timeline: Timeline::new(),
            now_ms: 0,
            clock: SessionClock::MS_32_BIT,
            out: Vec::new(),
        }
    }

    /// A run whose publisher has sent both configurations.
    fn with_both() -> Self {
        let mut run = Self::new();
        run.begin_both();
        run
    }

    fn begin(&mut self) {
        self.timeline.begin_session(self.clock);
    }

    fn begin_both(&mut self) {
        self.begin();
        self.config(video_config(VIDEO_360));
        self.config(audio_config(STEREO_48000));
    }

    fn push(&mut self, input: Input) {
        let run = Duration::from_millis(self.now_ms.unsigned_abs());
        self.timeline.push(
            Now {
                run,
                wall: wall_after(run),
            },
            input,
            &mut self.out,
        );
    }

    fn config(&mut self, codec: Codec) {
        self.push(Input::Config(codec));
    }

    fn frame(&mut self, kind: Kind, dts_ms: i64, composition: i32, sync: bool) {
        let mask = (1_u64 << self.clock.bits) - 1;
        let payload = Bytes::from_static(b"access unit");
        self.push(Input::Frame {
            kind,
            dts: dts_ms as u64 & mask,
            composition,
            sync,
            payload,
        });
    }

    fn video(&mut self, dts_ms: i64, sync: bool) {
        self.frame(Kind::Video, dts_ms, 0, sync);
    }

    fn audio(&mut self, dts_ms: i64) {
        self.frame(Kind::Audio, dts_ms, 0, true);
    }

    /// Sends the chosen tracks in real time for `length_ms`, with source timestamps from `first_ms`.
    fn stream(&mut self, kinds: &[Kind], first_ms: i64, length_ms: i64) {
        let mut frames: Vec<(i64, Kind, bool)> = Vec::new();
        if kinds.contains(&Kind::Video) {
            frames.extend((0..length_ms / VIDEO_FRAME_MS).map(|n| {
                (
                    n * VIDEO_FRAME_MS,
                    Kind::Video,
                    n * VIDEO_FRAME_MS % GOP_MS == 0,
                )
            }));
        }
        if kinds.contains(&Kind::Audio) {
            let count = length_ms * 48 / 1_024;
            frames.extend(
                (0..count).map(|n| ((n * 1_024 * 1_000 + 24_000) / 48_000, Kind::Audio, true)),
            );
        }
        frames.sort_by_key(|&(at_ms, kind, _)| (at_ms, kind == Kind::Audio));
        let start_ms = self.now_ms;
        for (at_ms, kind, sync) in frames {
            self.now_ms = start_ms + at_ms;
            self.frame(kind, first_ms + at_ms, 0, sync);
        }
        self.now_ms = start_ms + length_ms;
    }

    fn stream_both(&mut self, first_ms: i64, length_ms: i64) {
        self.stream(&[Kind::Video, Kind::Audio], first_ms, length_ms);
    }

    fn epochs(&self) -> Vec<Arc<Epoch>> {
        let mut epochs: Vec<Arc<Epoch>> = Vec::new();
        for (epoch, _) in &self.out {
            if epochs.last().is_none_or(|last| !Epoch::same(last, epoch)) {
                epochs.push(Arc::clone(epoch));
            }
        }
        epochs
    }

    /// Output times of a track in milliseconds.
    fn times_ms(&self, kind: Kind) -> Vec<i64> {
        let of_kind = self
            .out
            .iter()
            .filter(|(epoch, frame)| kind_of(epoch, frame) == kind);
        of_kind.map(|(epoch, frame)| ms(epoch, frame)).collect()
    }

    fn first_ms(&self, epoch: u32) -> i64 {
        let found = self
            .out
            .iter()
            .find(|(at, _)| at.index == epoch)
            .expect("the epoch has a frame");
        ms(&found.0, &found.1)
    }

    fn last_ms(&self, epoch: u32) -> i64 {
        let frames = self.out.iter().filter(|(at, _)| at.index == epoch);
        frames
            .map(|(epoch, frame)| ms(epoch, frame))
            .max()
            .expect("the epoch has a frame")
    }

    #[track_caller]
    fn check(&self, epochs: usize) {
        assert_eq!(self.epochs().len(), epochs);
        check_invariants(&self.out).expect("time can be trusted");
    }
}

fn kind_of(epoch: &Epoch, frame: &Frame) -> Kind {
    epoch
        .track(frame.track)
        .expect("a frame's epoch has its track")
        .kind()
}

fn ms(epoch: &Epoch, frame: &Frame) -> i64 {
    let track = epoch
        .track(frame.track)
        .expect("a frame's epoch has its track");
    rescale(frame.dts, track.timescale, 1_000)
}

/// What everything behind the timeline relies on; says what is broken.
fn check_invariants(out: &[Timed]) -> Result<(), String> {
    let mut last_epoch: Option<Arc<Epoch>> = None;
    let mut last: [Option<(i64, u32, i64)>; 2] = [None, None];
    for (epoch, frame) in out {
        if let Some(before) = last_epoch
            .replace(Arc::clone(epoch))
            .filter(|before| !Epoch::same(before, epoch))
        {
            if epoch.index != before.index + 1 {
                return Err(format!(
                    "epoch {} comes after {}",
                    epoch.index, before.index
                ));
            }
            if epoch.gap_us < before.gap_us {
                return Err(format!(
                    "the gap shrinks from {} to {}",
                    before.gap_us, epoch.gap_us
                ));
            }
            if epoch.anchor.wall < before.anchor.wall_at(epoch.anchor.media_us) {
                return Err(format!("the wall time goes back at epoch {}", epoch.index));
            }
        }
        let track = epoch
            .track(frame.track)
            .ok_or("a frame without its track")?;
        let flv_ms = rescale(frame.dts, track.timescale, 1_000) - epoch.gap_us / 1_000;
        let slot = last
            .get_mut(usize::from(frame.track.0))
            .ok_or("an unknown track")?;
        if let Some((dts, timescale, before_ms)) =
            slot.replace((frame.dts, track.timescale, flv_ms))
        {
            if i128::from(frame.dts) * i128::from(timescale)
                <= i128::from(dts) * i128::from(track.timescale)
            {
                return Err(format!(
                    "{dts}/{timescale} then {}/{}",
                    frame.dts, track.timescale
                ));
            }
            if flv_ms < before_ms {
                return Err(format!(
                    "FLV time goes from {before_ms} to {flv_ms} ms in epoch {}",
                    epoch.index
                ));
            }
        }
    }
    Ok(())
}

#[test]
fn f01_publisher_returns_with_timestamps_from_zero() {
    let mut run = Run::with_both();
    run.stream_both(0, 3_000);
    run.timeline.end_session();
    run.now_ms += 5_000;
    run.begin_both();
    run.stream_both(0, 3_000);
    run.check(2);
    // The gap is real time, its formats that collapse it do not see it, and wall time is right on both sides.
    assert_eq!(run.first_ms(1), 8_000);
    let epochs = run.epochs();
    assert_eq!(epochs[1].anchor.wall, wall_after(Duration::from_secs(8)));
    assert!(
        (4_900_000..=5_040_000).contains(&epochs[1].gap_us),
        "{}",
        epochs[1].gap_us
    );
}

#[test]
fn f02_publisher_returns_with_timestamps_that_go_on() {
    let mut run = Run::with_both();
    run.stream_both(70_000, 3_000);
    run.timeline.end_session();
    run.now_ms += 5_000;
    run.begin_both();
    run.stream_both(78_000, 3_000);
    run.check(2);
    assert_eq!(run.first_ms(1), 8_000);
}

#[test]
fn f03_take_over_while_the_old_session_still_sends() {
    let mut run = Run::with_both();
    // The old publisher is ahead of real time: the new one may not go back behind it.
    run.stream_both(0, 3_000);
    run.now_ms = 1_000;
    run.begin_both();
    run.stream_both(500, 2_000);
    run.check(2);
    assert!(
        run.first_ms(1) >= run.last_ms(0),
        "{} then {}",
        run.last_ms(0),
        run.first_ms(1)
    );
    assert!(run.first_ms(1) <= run.last_ms(0) + VIDEO_FRAME_MS);
    assert_eq!(run.epochs()[1].gap_us / 1_000, 0, "nothing to collapse");
}

#[test]
fn f03_take_over_drops_what_the_old_session_held_back() {
    let mut run = Run::new();
    run.begin();
    run.config(audio_config(STEREO_48000));
    run.stream(&[Kind::Audio], 0, 1_000);
    assert!(run.out.is_empty(), "the second track is awaited");
    run.begin_both();
    run.stream_both(0, 1_000);
    run.check(1);
    assert_eq!(run.times_ms(Kind::Audio).len(), 46);
}

#[test]
fn f05_silent_publisher_is_ended_and_its_late_frames_are_ignored() {
    let mut run = Run::with_both();
    run.stream_both(0, 2_000);
    run.now_ms += 10_000;
    run.timeline.end_session();
    let before = run.out.len();
    run.video(2_000, true);
    run.audio(2_000);
    assert_eq!(run.out.len(), before);
    run.begin_both();
    run.stream_both(12_000, 1_000);
    run.check(2);
    assert_eq!(run.first_ms(1), 12_000);
}

#[test]
fn f06_24_bit_border_is_nothing_to_a_32_bit_clock() {
    check_wrap(SessionClock::MS_32_BIT, 0xFF_FFF0);
}

#[test]
fn f07_31_and_32_bit_clocks_wrap() {
    check_wrap(SessionClock::MS_32_BIT, 0x7FFF_FF00);
    check_wrap(SessionClock::MS_32_BIT, 0xFFFF_FF00);
    check_wrap(
        SessionClock {
            bits: 31,
            hz: 1_000,
        },
        0x7FFF_FF00,
    );
    check_wrap(
        SessionClock {
            bits: 24,
            hz: 1_000,
        },
        0xFF_FFF0,
    );
    check_wrap(
        SessionClock {
            bits: 33,
            hz: 1_000,
        },
        (1 << 33) - 200,
    );
}

#[track_caller]
fn check_wrap(clock: SessionClock, first_ms: i64) {
    let mut run = Run {
        clock,
        ..Run::new()
    };
    run.begin_both();
    run.stream_both(first_ms, 4_000);
    run.check(1);
    assert_eq!(run.timeline.stats(), Stats::default());
    let video: Vec<i64> = (0..100).map(|n| n * VIDEO_FRAME_MS).collect();
    assert_eq!(run.times_ms(Kind::Video), video);
    assert_eq!(run.times_ms(Kind::Audio).len(), 187);
}

#[test]
fn f09_jump_of_both_tracks_is_one_discontinuity() {
    for jump_ms in [10_500, 3_600_000, -600, -30_000, 1 << 30] {
        let mut run = Run::with_both();
        run.stream_both(100_000, 3_000);
        run.stream_both(103_000 + jump_ms, 3_000);
        run.check(2);
        assert_eq!(run.timeline.stats().jumps, 1, "{jump_ms}");
        let (end_ms, next_ms) = (run.last_ms(0), run.first_ms(1));
        assert!(
            (0..=100).contains(&(next_ms - end_ms)),
            "{jump_ms}: {end_ms} then {next_ms}"
        );
        assert_in_sync(&run, jump_ms);
    }
}

/// Video and audio of the last epoch start together and go on together.
#[track_caller]
fn assert_in_sync(run: &Run, case: i64) {
    let last = run.epochs().len() as u32 - 1;
    let first = |kind| {
        let mut frames = run
            .out
            .iter()
            .filter(|(epoch, frame)| epoch.index == last && kind_of(epoch, frame) == kind);
        frames
            .next()
            .map(|(epoch, frame)| ms(epoch, frame))
            .expect("the track is there")
    };
    let skew_ms = first(Kind::Audio) - first(Kind::Video);
    assert!(
        skew_ms.abs() <= 60,
        "{case}: audio is {skew_ms} ms from video"
    );
}

#[test]
fn f09_jump_seen_by_audio_first_waits_for_the_key_frame() {
    let mut run = Run::with_both();
    run.stream_both(0, 2_000);
    run.audio(3_600_000);
    run.video(3_600_000, false);
    assert_eq!(run.epochs().len(), 1);
    run.video(3_600_040, true);
    run.check(2);
    assert_eq!(run.timeline.stats().jumps, 1);
}

#[test]
fn f09_small_steps_are_clamped_without_a_discontinuity() {
    let mut run = Run::with_both();
    run.stream_both(0, 2_000);
    run.stream(&[Kind::Video], 1_600, 1_000);
    run.check(1);
    assert_eq!(run.timeline.stats().jumps, 0);
    assert_eq!(run.timeline.stats().clamped, 10, "1600 to 1960");
    let times = run.times_ms(Kind::Video);
    assert_eq!(
        times[49..53],
        [1_960, 1_961, 1_962, 1_963],
        "each a millisecond after the last"
    );
    assert_eq!(
        times.last(),
        Some(&2_560),
        "then the clock is caught up with"
    );
}

#[test]
fn f09_jump_after_a_pause_of_the_source_leaves_the_pause() {
    let mut run = Run::with_both();
    run.stream_both(0, 2_000);
    run.now_ms += 60_000;
    run.stream_both(62_000, 2_000);
    run.check(2);
    assert_eq!(run.first_ms(1), 62_000);
    assert_eq!(run.times_ms(Kind::Video).last(), Some(&63_960));
}

#[test]
fn f10_clocks_five_seconds_apart_are_aligned_by_arrival() {
    for (video_ms, audio_ms) in [(5_000, 0), (0, 5_000), (0, 36_000_000), (36_000_000, 0)] {
        let mut run = Run::with_both();
        for at_ms in (0..4_000).step_by(20) {
            run.now_ms = at_ms;
            if at_ms % VIDEO_FRAME_MS == 0 {
                run.video(video_ms + at_ms, at_ms % GOP_MS == 0);
            }
            run.audio(audio_ms + at_ms);
        }
        run.check(1);
        let last = |kind| {
            run.times_ms(kind)
                .last()
                .copied()
                .expect("the track is there")
        };
        let skew_ms = last(Kind::Audio) - last(Kind::Video);
        assert!(
            skew_ms.abs() <= 100,
            "{video_ms}, {audio_ms}: audio is {skew_ms} ms from video"
        );
    }
}

#[test]
fn f10_one_track_stops_and_returns_without_a_discontinuity() {
    for stopped in [Kind::Video, Kind::Audio] {
        let other = if stopped == Kind::Video {
            Kind::Audio
        } else {
            Kind::Video
        };
        let mut run = Run::with_both();
        run.stream_both(0, 2_000);
        run.stream(&[other], 2_000, 20_000);
        assert!(
            run.times_ms(other).last() > Some(&21_900),
            "the other goes on"
        );
        run.stream_both(22_000, 2_000);
        run.check(1);
        assert_eq!(run.timeline.stats(), Stats::default());
        assert!(run.times_ms(stopped).last() > Some(&23_900));
    }
}

#[test]
fn f10_session_without_key_frames_starts_with_its_audio() {
    let mut run = Run::with_both();
    for at_ms in (0..3_200).step_by(40) {
        run.now_ms = at_ms;
        run.video(at_ms, false);
        run.audio(at_ms);
    }
    assert_eq!(run.epochs().len(), 1);
    assert!(run.epochs()[0].first(Kind::Video).is_none());
    assert_eq!(run.timeline.stats().dropped_before_key, 80);
    run.stream_both(3_200, 1_000);
    run.check(2);
    assert!(run.epochs()[1].first(Kind::Video).is_some());
}

#[test]
fn f13_audio_only_and_video_only_start_after_two_seconds() {
    for (kind, codec) in [
        (Kind::Audio, audio_config(STEREO_48000)),
        (Kind::Video, video_config(VIDEO_360)),
    ] {
        let mut run = Run::new();
        run.begin();
        run.config(codec.clone());
        run.stream(&[kind], 0, 1_900);
        assert!(run.out.is_empty(), "the other track may come");
        run.stream(&[kind], 1_900, 400);
        run.check(1);
        assert_eq!(run.first_ms(0), 0);
        assert_eq!(run.epochs()[0].tracks.len(), 1);

        let mut hinted = Run::new();
        hinted.begin();
        hinted.push(Input::Declared {
            video: kind == Kind::Video,
            audio: kind == Kind::Audio,
        });
        hinted.config(codec);
        hinted.stream(&[kind], 0, 40);
        assert!(!hinted.out.is_empty(), "metadata says that no other comes");
    }
}

#[test]
fn f13_late_second_track_is_one_new_epoch() {
    let cases = [
        (
            Kind::Video,
            video_config(VIDEO_360),
            audio_config(STEREO_48000),
        ),
        (
            Kind::Audio,
            audio_config(STEREO_48000),
            video_config(VIDEO_360),
        ),
    ];
    for (first, config, late_config) in cases {
        let mut run = Run::new();
        run.begin();
        run.config(config);
        run.stream(&[first], 0, 20_000);
        run.config(late_config);
        assert_eq!(
            run.epochs().len(),
            1,
            "a configuration alone changes nothing"
        );
        run.stream_both(20_000, 4_000);
        run.check(2);
        assert_eq!(run.epochs()[1].tracks.len(), 2);
        assert_eq!(run.epochs()[1].gap_us, 0);
        assert_in_sync(&run, 0);
        let (_, start) = run
            .out
            .iter()
            .find(|(epoch, _)| epoch.index == 1)
            .expect("a frame");
        assert!(start.sync);
    }
}

#[test]
fn f13_track_that_joins_never_turns_time_back() {
    // After a jump of the first track, it follows the new clock.
    let mut run = Run::with_both();
    run.stream(&[Kind::Audio], 0, 10_000);
    run.stream(&[Kind::Audio], 9_000, 1_000);
    run.stream_both(10_000, 1_000);
    run.check(3);
    assert!(
        (11_000..=11_060).contains(&run.first_ms(2)),
        "{}",
        run.first_ms(2)
    );
    assert_in_sync(&run, 0);
    // A clock of its own, behind or ahead, is taken to show the time of arrival.
    for skew_ms in [-2_000, -36_000_000, 5_000, 36_000_000] {
        let mut run = Run::with_both();
        run.stream(&[Kind::Audio], 40_000_000, 10_000);
        for at_ms in (10_000..12_000).step_by(20) {
            run.now_ms = at_ms;
            run.audio(40_000_000 + at_ms);
            run.video(40_000_000 + at_ms + skew_ms, at_ms % 1_000 == 0);
        }
        run.check(2);
        assert!(
            (9_990..=10_050).contains(&run.first_ms(1)),
            "{skew_ms}: {}",
            run.first_ms(1)
        );
        assert_in_sync(&run, skew_ms);
    }
}

#[test]
fn f14_media_before_its_header_is_dropped_and_counted() {
    let mut run = Run::new();
    run.begin();
    run.video(0, true);
    run.audio(0);
    assert_eq!(run.timeline.stats().dropped_without_config, 2);
    run.config(video_config(VIDEO_360));
    run.audio(20);
    run.config(audio_config(STEREO_48000));
    run.stream_both(40, 1_000);
    run.check(1);
    assert_eq!(run.timeline.stats().dropped_without_config, 3);
}

#[test]
fn f14_header_repeated_every_gop_changes_nothing() {
    let mut run = Run::with_both();
    for gop in 0..5 {
        run.config(video_config(VIDEO_360));
        run.config(audio_config(STEREO_48000));
        run.stream_both(gop * GOP_MS, GOP_MS);
    }
    run.check(1);
    assert_eq!(run.times_ms(Kind::Video).len(), 125);
}

#[test]
fn f15_changed_header_is_a_new_epoch_at_the_next_key_frame() {
    let cases = [
        video_config(VIDEO_1080),
        audio_config(STEREO_44100),
        audio_config(MONO_48000),
    ];
    for changed in cases {
        let mut run = Run::with_both();
        run.stream_both(0, 2_500);
        run.config(changed.clone());
        // The rest of the old GOP.
        for at_ms in (2_500..3_000).step_by(40) {
            run.now_ms = at_ms;
            run.video(at_ms, false);
            run.audio(at_ms);
        }
        assert_eq!(run.epochs().len(), 1);
        run.stream_both(3_000, 2_000);
        run.check(2);
        let epochs = run.epochs();
        assert_eq!(
            epochs[1].first(changed.kind()).map(|track| &track.codec),
            Some(&changed)
        );
        assert_eq!(
            (epochs[1].gap_us, epochs[1].anchor),
            (0, epochs[0].anchor),
            "time just goes on"
        );
        let (_, first) = run
            .out
            .iter()
            .find(|(epoch, _)| epoch.index == 1)
            .expect("a frame");
        assert!(first.sync && first.track == TrackId::VIDEO);
        assert_eq!(run.first_ms(1), 3_000);
        for (epoch, frame) in run.out.iter().filter(|(epoch, _)| epoch.index == 0) {
            assert_ne!(
                epoch.track(frame.track).map(|track| &track.codec),
                Some(&changed)
            );
        }
    }
}

#[test]
fn f17_composition_offsets_reorder_but_never_move_decoding() {
    let mut run = Run::with_both();
    for (at_ms, composition, sync) in [
        (0, 80, true),
        (40, 200, false),
        (80, 0, false),
        (120, -40, false),
    ] {
        run.frame(Kind::Video, at_ms, composition, sync);
    }
    run.frame(Kind::Video, 160, i32::MAX, false);
    run.frame(Kind::Video, 200, i32::MIN, false);
    run.check(1);
    let offsets: Vec<i64> = run
        .out
        .iter()
        .map(|(_, frame)| (frame.pts - frame.dts) / 90)
        .collect();
    assert_eq!(offsets, [80, 200, 0, -40, 16_000, -16_000]);
    assert_eq!(run.times_ms(Kind::Video), [0, 40, 80, 120, 160, 200]);
}

#[test]
fn f18_jitter_duplicates_and_disorder_become_increasing_time() {
    let mut run = Run::with_both();
    for (at_ms, sync) in [
        (0, true),
        (40, false),
        (40, false),
        (40, false),
        (30, false),
        (95, false),
        (80, false),
    ] {
        run.video(at_ms, sync);
    }
    run.check(1);
    assert_eq!(run.times_ms(Kind::Video), [0, 40, 41, 42, 43, 95, 96]);
    assert_eq!(run.timeline.stats().clamped, 4);
    // Audio within 30 ms of its grid stays on it.
    for at_ms in [0, 35, 43, 43, 85, 107] {
        run.audio(at_ms);
    }
    let audio: Vec<i64> = run
        .out
        .iter()
        .filter(|(_, frame)| frame.track == TrackId::AUDIO)
        .map(|(_, f)| f.dts)
        .collect();
    assert_eq!(audio, [0, 1_024, 2_048, 3_072, 4_096, 5_120]);
    for _ in 0..20 {
        run.audio(107);
    }
    run.check(1);
    assert!(run.timeline.stats().clamped > 4);
}

#[test]
fn f22_sessions_without_end_leave_nothing_behind() {
    let mut run = Run::new();
    for _ in 0..1_000 {
        run.begin_both();
        run.stream_both(0, 80);
        run.timeline.end_session();
        run.now_ms += 10;
    }
    run.check(1_000);
    // Sessions that never start hold frames back; beginning again lets them go.
    for _ in 0..1_000 {
        run.begin();
        run.config(audio_config(STEREO_48000));
        run.audio(0);
    }
    assert_eq!(
        run.timeline.session.as_ref().map(Session::held_frames),
        Some(1)
    );
}

#[test]
fn f37_a_wall_clock_that_is_set_back_never_turns_stream_time_back() {
    let mut run = Run::with_both();
    run.stream_both(0, 2_000);
    run.timeline.end_session();
    run.begin_both();
    let now = Now {
        run: Duration::from_secs(3),
        wall: UNIX_EPOCH + Duration::from_secs(1),
    };
    let input = |kind| Input::Frame {
        kind,
        dts: 0,
        composition: 0,
        sync: true,
        payload: Bytes::new(),
    };
    run.timeline.push(now, input(Kind::Video), &mut run.out);
    run.check(2);
    assert_eq!(
        run.epochs()[1].anchor.wall,
        wall_after(Duration::from_secs(3))
    );
}

#[test]
fn an_hour_of_44100_hz_stays_on_the_grid_and_with_the_video() {
    let mut run = Run::new();
    run.begin();
    run.config(video_config(VIDEO_360));
    run.config(audio_config(STEREO_44100));
    let frames = 3_600 * 44_100 / 1_024;
    let mut video = 0_i64;
    for n in 0..frames {
        let at_ms = n * 1_024 * 1_000 / 44_100;
        while video * VIDEO_FRAME_MS <= at_ms {
            run.video(video * VIDEO_FRAME_MS, video % 25 == 0);
            video += 1;
        }
        run.now_ms = at_ms;
        run.audio(at_ms);
        let (_, frame) = run.out.last().expect("started");
        assert_eq!(frame.dts, n * 1_024, "no drift, no clamp");
        assert!((rescale(frame.dts, 44_100, 1_000) - at_ms).abs() <= 30);
    }
    assert_eq!(run.timeline.stats(), Stats::default());
    assert!(
        run.timeline.drift_us().abs() < 50_000,
        "{}",
        run.timeline.drift_us()
    );
}
