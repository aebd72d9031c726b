//! Clocks that jump or stand apart, and tracks that fall silent (FAULTS F9, F10).

use super::*;

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
