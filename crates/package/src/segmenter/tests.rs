//! Whole runs through the segmenter: every playlist and every segment on the way is checked by [`Packaged`]; the
//! tests here say what is special about each run.

mod golden;
mod keep;
mod properties;
mod replica;
mod rewind;
mod transport;

use bytes::{Bytes, BytesMut};
use weir_media::rescale;

use super::*;
use crate::fixture::*;

/// Packages a whole run and checks it.
fn check(frames: &[Timed]) -> Packaged {
    let mut packaged = Packaged::of(frames, Source::Whole);
    packaged.finish();
    packaged
}

fn check_with_holes(frames: &[Timed]) -> Packaged {
    let mut packaged = Packaged::of(frames, Source::WithHoles);
    packaged.finish();
    packaged
}

#[track_caller]
fn assert_target(frames: &[Timed], target_s: i64, segment_us: i64) {
    let packaged = check(frames);
    assert_eq!(
        packaged.target.map(|(target_s, _)| target_s),
        Some(target_s)
    );
    let durations = packaged.durations_us("video");
    let whole = &durations[..durations.len() - 1];
    assert!(!whole.is_empty());
    for &duration_us in whole {
        assert!(
            (duration_us - segment_us).abs() <= 240_000,
            "{segment_us} us expected: {durations:?}"
        );
    }
}

#[test]
fn h04_target_duration_follows_the_first_gop() {
    // GOP in frames of 40 ms, target duration, segment.
    let cases = [
        (1, 2, 1_920_000), // Every frame is a key frame: the first within the tolerance.
        (12, 2, 1_920_000),
        (25, 2, 2 * S),
        (50, 2, 2 * S),
        (60, 3, 2_400_000),
        (63, 3, 2_520_000),
        (75, 3, 3 * S),
        (200, 10, 8 * S),
        (750, 10, 10_080_000), // Cut by force.
    ];
    for (gop, target_s, segment_us) in cases {
        let epoch = epoch(0, 0, &BOTH);
        let tracks = vec![video_gop(&epoch, 0, 40 * S, gop), audio(&epoch, 0, 40 * S)];
        assert_target(&interleave(tracks, 0), target_s, segment_us);
    }
}

/// A picture with an SEI message that says that captions follow (ATSC A/53).
const CAPTIONED: &[u8] =
    b"\0\0\0\x0d\x06\x04\x0a\xb5\x00\x31GA94\x03\x41\xff\x80\0\0\0\x02\x65\x88";

#[test]
fn captions_are_denied_only_where_there_are_none() {
    let mut frames = ordinary(40 * S, 50);
    let denied = |frames: &[Timed]| {
        let snapshot = check(frames).snapshot();
        crate::hls::multivariant(&snapshot, "").contains(",CLOSED-CAPTIONS=NONE,")
    };
    assert!(denied(&frames));
    let mut newest = frames.iter_mut().rev().map(|(_, frame)| frame);
    let picture = newest.find(|frame| frame.payload.starts_with(b"picture"));
    picture.expect("there are pictures").payload = Bytes::from_static(CAPTIONED);
    assert!(!denied(&frames));
}

#[test]
fn h04_millisecond_rounding_does_not_raise_the_target() {
    for gop_us in [1_999_000, 2_000_000, 2_001_000] {
        let epoch = epoch(0, 0, &VIDEO);
        assert_target(
            &video(&epoch, 0, 20 * S, gop_us / 50, |n| n % 50 == 0),
            2,
            gop_us,
        );
    }
    // 30000/1001 fps as RTMP rounds it.
    let epoch = epoch(0, 0, &VIDEO);
    let mut frames = video(&epoch, 0, 20 * S, 33_367, |n| n % 60 == 0);
    for (_, frame) in &mut frames {
        frame.dts = rescale(rescale(frame.dts, 90_000, 1_000), 1_000, 90_000);
        frame.pts = frame.dts;
    }
    assert_target(&frames, 2, 2_002_000);
}

#[test]
fn h04_one_frame_a_second() {
    let epoch = epoch(0, 0, &VIDEO);
    assert_target(&video(&epoch, 0, 30 * S, S, |n| n % 2 == 0), 2, 2 * S);
    // Four seconds are more than the second key frame is waited for; the segments then follow the key frames.
    assert_target(&video(&epoch, 0, 60 * S, S, |n| n % 4 == 0), 10, 4 * S);
}

#[test]
fn l01_parts_are_alike_at_every_frame_rate() {
    for (frame_us, expected_us) in [
        (8_333, 333_320),
        (16_667, 333_340),
        (20_000, 340_000),
        (33_333, 333_330),
        (33_367, 333_670),
        (40_000, 320_000),
        (41_667, 333_336),
        (66_667, 333_335),
        (100_000, 300_000),
        (200_000, 400_000),
        (S, S),
    ] {
        let epoch = epoch(0, 0, &BOTH);
        let gop = (2 * S / frame_us).max(1);
        let mut pictures = video(&epoch, 0, 30 * S, frame_us, |n| n % gop == 0);
        for (_, frame) in &mut pictures {
            // As RTMP rounds it.
            frame.dts = rescale(rescale(frame.dts, 90_000, 1_000), 1_000, 90_000);
            frame.pts = frame.dts;
        }
        let packaged = check(&interleave(vec![pictures, audio(&epoch, 0, 30 * S)], 0));
        let first = packaged.track("video")[1].parts[0].duration_us;
        assert!(
            (first - expected_us).abs() <= 1_500,
            "{frame_us}: {first} is not {expected_us}"
        );
    }
}

#[test]
fn h04_audio_only_does_not_wait() {
    let epoch = epoch(0, 0, &AUDIO);
    let packaged = check(&audio(&epoch, 0, 30 * S));
    let (target_s, at_us) = packaged.target.expect("known");
    assert_eq!(target_s, 2);
    assert!(at_us <= 2 * S);
    let durations = packaged.durations_us("audio");
    assert!(
        durations[..durations.len() - 1]
            .iter()
            .all(|us| (1_900_000..=2_000_000).contains(us)),
        "{durations:?}"
    );
}

#[test]
fn h04_second_key_frame_is_awaited_for_three_seconds() {
    let epoch = epoch(0, 0, &VIDEO);
    // The lead pauses before its second key frame: the pause is not a GOP.
    let mut frames = video_gop(&epoch, 0, S, 1_000);
    frames.extend(video_gop(&epoch, 40 * S, 60 * S, 25));
    let packaged = check_with_holes(&frames);
    assert_eq!(packaged.target.map(|(target_s, _)| target_s), Some(10));
}

#[test]
fn h04_epochs_before_the_target_is_known_fit_into_it() {
    let (first, second) = (epoch(0, 0, &VIDEO), epoch(1, 2_880_000, &VIDEO));
    let mut frames = video_gop(&first, 0, 2_880_000, 1_000);
    frames.extend(video_gop(&second, 2_880_000, 20 * S, 25));
    let packaged = check(&frames);
    assert_eq!(packaged.target.map(|(target_s, _)| target_s), Some(3));
}

#[test]
fn irregular_key_frames_cut_by_force_and_say_so() {
    // The first GOP promises 2 s; then one of 7 s comes, then ordinary ones.
    let keys = [
        0, 50, 100, 275, 300, 350, 400, 450, 500, 550, 600, 650, 700, 750, 800,
    ];
    let epoch = epoch(0, 0, &BOTH);
    let pictures = video(&epoch, 0, 34 * S, FRAME_US, |n| keys.contains(&n));
    let frames = interleave(vec![pictures, audio(&epoch, 0, 34 * S)], 0);
    let mut packaged = Packaged::new(CONFIG, Source::Whole);
    let mut independent = Vec::new();
    for timed in &frames {
        let before = packaged.segmenter.segments_made();
        packaged.push_all(std::slice::from_ref(timed));
        if packaged.segmenter.segments_made() != before {
            independent.extend(
                packaged
                    .playlists
                    .get("video")
                    .map(|playlist| playlist.independent),
            );
        }
    }
    packaged.finish();
    assert_eq!(packaged.target.map(|(target_s, _)| target_s), Some(2));
    assert!(
        packaged
            .track("video")
            .iter()
            .any(|segment| !segment.independent())
    );
    let changes: Vec<bool> = independent
        .windows(2)
        .filter(|pair| pair[0] != pair[1])
        .map(|pair| pair[1])
        .collect();
    assert_eq!(
        changes,
        [false, true],
        "absent while a forced cut is served, back afterwards"
    );
    assert_eq!(independent.first(), Some(&true));
}

#[test]
fn h05_first_number_is_the_start_of_the_run() {
    let packaged = check(&ordinary(20 * S, 50));
    for name in ["video", "audio"] {
        let numbers: Vec<u64> = packaged
            .track(name)
            .iter()
            .map(|segment| segment.msn)
            .collect();
        let expected: Vec<u64> = (BEGINS_S..BEGINS_S + numbers.len() as u64).collect();
        assert_eq!(numbers, expected);
        assert!(numbers.len() >= 9);
    }
    assert_eq!(packaged.segmenter.next_numbers().msn, BEGINS_S + 10);
}

#[test]
fn h06_discontinuities_leave_the_window_in_order() {
    let mut frames = Vec::new();
    // Each session lasts less than the window and leaves a gap of real time.
    for index in 0..8_u32 {
        let start_us = i64::from(index) * 12 * S;
        let epoch = epoch(index, start_us, &BOTH);
        let end_us = start_us + 7 * S;
        frames.extend(interleave(
            vec![
                video_gop(&epoch, start_us, end_us, 50),
                audio(&epoch, start_us, end_us),
            ],
            0,
        ));
    }
    let packaged = check(&frames);
    for name in ["video", "audio"] {
        let tagged = packaged
            .track(name)
            .iter()
            .filter(|segment| segment.after_discontinuity)
            .count();
        assert_eq!(tagged, 7, "{name}");
        let last = &packaged.playlists[name];
        let listed = last
            .entries
            .iter()
            .filter(|entry| entry.discontinuity)
            .count() as u64;
        assert_eq!(last.discontinuity_sequence + listed, BEGINS_S + 7);
    }
    assert_eq!(
        packaged.segmenter.next_numbers().discontinuity,
        BEGINS_S + 8
    );
}

#[test]
fn h09_removed_segments_are_served_for_a_while() {
    let mut packaged = Packaged::new(CONFIG, Source::Whole);
    let mut removed_at: Vec<(u64, i64)> = Vec::new();
    let mut dropped = 0;
    for (at, timed) in ordinary(120 * S, 50).iter().enumerate() {
        packaged.push_all(std::slice::from_ref(timed));
        let now_us = time_us(&timed.0, &timed.1);
        if at % 25 != 0 || packaged.playlists.is_empty() {
            continue;
        }
        let snapshot = packaged.snapshot();
        let rendition = snapshot.rendition("video").expect("video");
        let first = packaged.playlists["video"].msn;
        for msn in BEGINS_S + removed_at.len() as u64..first {
            removed_at.push((msn, now_us));
        }
        for &(msn, at_us) in &removed_at {
            let served = rendition.segment(msn).is_some();
            // Its own 2 s and a playlist of 6 segments, which holds a 7th for the moment of the change.
            assert!(
                served || now_us - at_us >= 14 * S,
                "{msn} was removed at {at_us}, and is gone at {now_us}"
            );
            dropped += u64::from(!served);
        }
        assert!(
            rendition.segments.len() <= 6 + 9,
            "memory is bounded: {}",
            rendition.segments.len()
        );
    }
    assert!(dropped > 0, "old segments are let go");
}

#[test]
fn h08_playlist_of_short_segments_lasts_three_targets() {
    // Target 10 from the first GOP; then segments of 2 s, of which six would be 12 s.
    let epoch = epoch(0, 0, &VIDEO);
    let frames = video(&epoch, 0, 120 * S, FRAME_US, |n| {
        n == 0 || n >= 200 && n % 50 == 0
    });
    let packaged = check(&frames);
    assert_eq!(packaged.target.map(|(target_s, _)| target_s), Some(10));
    let listed_us: i64 = packaged.playlists["video"]
        .entries
        .iter()
        .map(|entry| entry.duration_us)
        .sum();
    assert!((30 * S..34 * S).contains(&listed_us), "{listed_us}");
}

#[test]
fn h17_tracks_are_cut_together_however_they_are_interleaved() {
    let epoch = epoch(0, 0, &BOTH);
    let tracks = || vec![video_gop(&epoch, 0, 30 * S, 50), audio(&epoch, 0, 30 * S)];
    let expected = check(&interleave(tracks(), 0));
    for late_us in [-900_000, -20_000, 20_000, 500_000, 1_500_000] {
        let packaged = check(&interleave(tracks(), late_us));
        for name in ["video", "audio"] {
            let (segments, others) = (packaged.track(name), expected.track(name));
            let both = segments.iter().zip(&others).take(13);
            assert_eq!(
                both.filter(|(a, b)| a == b).count(),
                13,
                "{name}, audio {late_us} us late: same bytes"
            );
        }
    }
}

#[test]
fn c06_reordered_pictures_are_presented_when_the_playlist_says() {
    let epoch = epoch(0, 0, &BOTH);
    let mut pictures = video_gop(&epoch, 0, 20 * S, 50);
    // I P B B B with B as reference: two frames of delay, as x264 writes it.
    for (n, (_, frame)) in pictures.iter_mut().enumerate() {
        let delay = match n % 50 {
            0 | 49 => 2,
            at => [1, 5, 2, 0][at % 4],
        };
        frame.pts = frame.dts + delay * 3_600;
    }
    let packaged = check(&interleave(
        vec![pictures, audio(&epoch, 80_000, 20 * S)],
        0,
    ));
    assert_eq!(packaged.durations_us("video")[..9], [2 * S; 9]);
    // Sound before the first picture is left out.
    let first = packaged.track("audio")[0].program_date_time;
    assert!(first >= packaged.track("video")[0].program_date_time);
}

#[test]
fn c06_negative_composition_at_the_start_keeps_decode_times_positive() {
    let epoch = epoch(0, 0, &VIDEO);
    let mut pictures = video_gop(&epoch, 0, 10 * S, 50);
    for (_, frame) in &mut pictures {
        frame.pts = frame.dts - 3_600;
    }
    assert_eq!(
        check_with_holes(&pictures).durations_us("video")[..4],
        [2 * S; 4]
    );
}

#[test]
fn c10_segment_is_the_bytes_of_its_parts() {
    let packaged = check(&ordinary(10 * S, 50));
    let segment = packaged.track("video")[1];
    assert_eq!(segment.parts.len(), 7, "8 frames each");
    let mut whole = BytesMut::new();
    for part in &segment.parts {
        whole.extend_from_slice(bytes_of(part));
    }
    assert_eq!(whole.len(), segment.len());
    // The open segment grows by whole parts, which are those of the finished one.
    let mut packaged = Packaged::new(CONFIG, Source::Whole);
    let mut open = Vec::new();
    for timed in &ordinary(10 * S, 50) {
        packaged.push_all(std::slice::from_ref(timed));
        let Some(snapshot) = packaged.segmenter.snapshot() else {
            continue;
        };
        let video = snapshot.rendition("video").expect("video");
        let Some(now) = video.open.as_ref().filter(|now| now.msn == segment.msn) else {
            continue;
        };
        assert!(now.parts.starts_with(&open));
        open.clone_from(&now.parts);
    }
    assert_eq!(open[..], segment.parts[..open.len()]);
    assert_eq!(open.len(), 6);
}

#[test]
fn f10_silent_audio_becomes_gaps_and_holds_nothing_up() {
    let epoch = epoch(0, 0, &BOTH);
    let mut sound = audio(&epoch, 0, 7_500_000);
    sound.extend(audio(&epoch, 20_300_000, 40 * S));
    let packaged = check_with_holes(&interleave(
        vec![video_gop(&epoch, 0, 40 * S, 50), sound],
        0,
    ));
    assert_eq!(
        packaged.durations_us("video")[..19],
        [2 * S; 19],
        "video does not notice"
    );
    let audio = packaged.track("audio");
    let gaps: Vec<u64> = audio
        .iter()
        .filter(|segment| segment.is_gap())
        .map(|segment| segment.msn - BEGINS_S)
        .collect();
    assert_eq!(gaps, [4, 5, 6, 7, 8, 9]);
    for (at, segment) in audio[..19].iter().enumerate() {
        assert!(
            (segment.duration_us - 2 * S).abs() < 22_000,
            "{at}: {}",
            segment.duration_us
        );
    }
}

#[test]
fn f10_short_audio_hole_across_a_cut_keeps_durations() {
    for hole_us in [100_000, 500_000, 1_000_000, 2_900_000] {
        let epoch = epoch(0, 0, &BOTH);
        let mut sound = audio(&epoch, 0, 7_900_000);
        sound.extend(audio(&epoch, 7_900_000 + hole_us, 20 * S));
        let packaged = check_with_holes(&interleave(
            vec![video_gop(&epoch, 0, 20 * S, 50), sound],
            0,
        ));
        let durations = packaged.durations_us("audio");
        assert!(
            durations[..9]
                .iter()
                .all(|us| (us - 2 * S).abs() <= 200_000),
            "{hole_us}: {durations:?}"
        );
    }
}

#[test]
fn f10_silent_video_becomes_gaps_and_holds_nothing_up() {
    let epoch = epoch(0, 0, &BOTH);
    let mut pictures = video_gop(&epoch, 0, 7_500_000, 50);
    pictures.extend(video_gop(&epoch, 21_300_000, 40 * S, 50));
    let packaged = check_with_holes(&interleave(vec![pictures, audio(&epoch, 0, 40 * S)], 0));
    let gaps = packaged
        .track("video")
        .iter()
        .filter(|segment| segment.is_gap())
        .count();
    assert!((5..=7).contains(&gaps), "{gaps}");
    let sound = packaged.track("audio");
    assert!(sound.iter().all(|segment| !segment.is_gap()));
    let total_us: i64 = sound.iter().map(|segment| segment.duration_us).sum();
    assert!(
        (total_us - 40 * S).abs() < 50_000,
        "nothing of the audio is lost: {total_us}"
    );
}

#[test]
fn f10_video_that_never_returns_leaves_audio_playable() {
    let epoch = epoch(0, 0, &BOTH);
    let packaged = check_with_holes(&interleave(
        vec![video_gop(&epoch, 0, S, 1_000), audio(&epoch, 0, 60 * S)],
        0,
    ));
    let sound: i64 = packaged.durations_us("audio").iter().sum();
    assert!(sound > 55 * S, "{sound}");
}

#[test]
fn f10_epoch_whose_video_never_comes_begins_with_its_audio() {
    let (first, second) = (epoch(0, 0, &BOTH), epoch(1, 10 * S, &BOTH));
    let mut frames = interleave(
        vec![video_gop(&first, 0, 10 * S, 50), audio(&first, 0, 10 * S)],
        0,
    );
    frames.extend(audio(&second, 10 * S, 60 * S));
    frames.extend(interleave(
        vec![
            video_gop(&second, 60 * S, 70 * S, 50),
            audio(&second, 60 * S, 70 * S),
        ],
        0,
    ));
    let packaged = check_with_holes(&frames);
    let sound: i64 = packaged.durations_us("audio").iter().sum();
    assert!(sound > 69 * S, "{sound}");
}

#[test]
fn f13_late_track_joins_with_a_discontinuity() {
    for first_kinds in [VIDEO, AUDIO] {
        let (first, second) = (epoch(0, 0, &first_kinds), epoch(1, 20 * S, &BOTH));
        let mut frames = interleave(
            vec![video_gop(&first, 0, 20 * S, 50), audio(&first, 0, 20 * S)]
                .into_iter()
                .map(|track| {
                    track
                        .into_iter()
                        .filter(|(epoch, frame)| epoch.track(frame.track).is_some())
                        .collect()
                })
                .collect(),
            0,
        );
        frames.extend(interleave(
            vec![
                video_gop(&second, 20 * S, 40 * S, 50),
                audio(&second, 20 * S, 40 * S),
            ],
            0,
        ));
        let packaged = check_with_holes(&frames);
        let snapshot = packaged.snapshot();
        assert_eq!(snapshot.renditions.len(), 2);
        assert_eq!(snapshot.renditions[0].kind, Kind::Video);
        let tagged = |name| {
            packaged
                .track(name)
                .iter()
                .find(|segment| segment.after_discontinuity)
                .map(|s| s.msn)
        };
        assert_eq!(tagged("video"), tagged("audio"));
        assert!(tagged("video").is_some());
        assert_eq!(
            packaged.track("video").last().map(|s| s.msn),
            packaged.track("audio").last().map(|s| s.msn)
        );
    }
}

#[test]
fn f13_track_that_an_epoch_lacks_goes_on_as_gaps() {
    for kinds in [VIDEO, AUDIO] {
        let (first, second, third) = (
            epoch(0, 0, &BOTH),
            epoch(1, 10 * S, &kinds),
            epoch(2, 30 * S, &BOTH),
        );
        let both = |epoch: &Arc<Epoch>, start_us, end_us| {
            let of_epoch = |(at, frame): &Timed| at.track(frame.track).is_some();
            let tracks = [
                video_gop_any(epoch, start_us, end_us),
                audio_any(epoch, start_us, end_us),
            ];
            interleave(
                tracks
                    .map(|track| track.into_iter().filter(of_epoch).collect())
                    .into(),
                0,
            )
        };
        let frames = [
            both(&first, 0, 10 * S),
            both(&second, 10 * S, 30 * S),
            both(&third, 30 * S, 40 * S),
        ]
        .concat();
        let packaged = check_with_holes(&frames);
        let lacking = if kinds == VIDEO { "audio" } else { "video" };
        let gaps = packaged
            .track(lacking)
            .iter()
            .filter(|segment| segment.is_gap())
            .count();
        assert!((9..=11).contains(&gaps), "{lacking}: {gaps}");
        let ends = |name| packaged.track(name).last().map(|segment| segment.msn);
        assert_eq!(ends("video"), ends("audio"));
    }
}

fn video_gop_any(epoch: &Arc<Epoch>, start_us: i64, end_us: i64) -> Vec<Timed> {
    video_gop(epoch, start_us, end_us, 50)
}

fn audio_any(epoch: &Arc<Epoch>, start_us: i64, end_us: i64) -> Vec<Timed> {
    if epoch.track(TrackId::AUDIO).is_some() {
        audio(epoch, start_us, end_us)
    } else {
        Vec::new()
    }
}

#[test]
fn zlm3991_huge_segment_on_rollback() {
    for jump_ms in [-3_600_000, 3_600_000] {
        let packaged = check_with_holes(&properties::frames_around_a_jump(jump_ms));
        for name in ["video", "audio"] {
            let durations = packaged.durations_us(name);
            assert!(
                durations.iter().all(|&us| us <= 2_500_000),
                "{jump_ms}: {durations:?}"
            );
            assert!(
                durations.iter().sum::<i64>() <= 20_100_000,
                "{jump_ms}: {durations:?}"
            );
            assert_eq!(
                packaged
                    .track(name)
                    .iter()
                    .filter(|segment| segment.after_discontinuity)
                    .count(),
                1
            );
        }
    }
}

#[test]
fn hole_of_an_hour_in_the_lead_is_no_segment_of_an_hour() {
    let epoch = epoch(0, 0, &VIDEO);
    let mut segmenter = Packaged::new(CONFIG, Source::WithHoles).segmenter;
    let around = [
        video_gop(&epoch, 0, 10 * S, 50),
        video_gop(&epoch, 3_610 * S, 3_612 * S, 50),
    ];
    for (epoch, frame) in around.iter().flatten() {
        segmenter.push(epoch, frame);
    }
    let snapshot = segmenter.snapshot().expect("playable");
    let segments = &snapshot.renditions[0].segments;
    assert!(
        segments
            .iter()
            .all(|segment| segment.duration_us <= 2_500_000)
    );
    assert!(segments.len() < 20, "memory is bounded");
}

#[test]
fn lead_that_slows_down_stays_within_the_target() {
    // 25 fps, then pictures at 0.3 to 0.9 s, as a screen capture sends them.
    let epoch = epoch(0, 0, &BOTH);
    let mut pictures = video_gop(&epoch, 0, 4 * S, 50);
    let mut at_us = 4 * S;
    for step_ms in [300, 900, 700, 450, 650, 900, 900, 900, 310, 870].repeat(5) {
        pictures.extend(video(&epoch, at_us, at_us + 1, 1, |_| false));
        at_us += step_ms * 1_000;
    }
    check_with_holes(&interleave(vec![pictures, audio(&epoch, 0, at_us)], 0));
}

#[test]
fn late_frames_of_a_track_never_turn_decode_time_back() {
    let epoch = epoch(0, 0, &BOTH);
    // Video arrives up to 5 s after the audio of its time.
    let frames = interleave(
        vec![video_gop(&epoch, 0, 30 * S, 50), audio(&epoch, 0, 30 * S)],
        -5 * S,
    );
    check_with_holes(&frames);
    let frames = interleave(
        vec![video_gop(&epoch, 0, 30 * S, 50), audio(&epoch, 0, 30 * S)],
        5 * S,
    );
    check_with_holes(&frames);
}

#[test]
fn same_frames_make_same_bytes() {
    let (first, second) = (check(&ordinary(20 * S, 50)), check(&ordinary(20 * S, 50)));
    assert_eq!(first.snapshot(), second.snapshot());
    assert_eq!(first.playlists, second.playlists);
}

#[test]
fn run_shorter_than_a_segment_is_playable_when_it_ends() {
    let packaged = check(&ordinary(1_200_000, 50));
    assert_eq!(packaged.playlists["video"].entries.len(), 1);
    assert!(packaged.playlists["video"].ended);
    let packaged = check(&ordinary(2_900_000, 1_000));
    assert_eq!(
        packaged.target.map(|(target_s, _)| target_s),
        Some(3),
        "the one segment fits"
    );
}

#[test]
fn nothing_is_shown_before_every_track_has_a_segment() {
    let mut packaged = Packaged::new(CONFIG, Source::Whole);
    for timed in &ordinary(10 * S, 50) {
        packaged.push_all(std::slice::from_ref(timed));
        if let Some(snapshot) = packaged.segmenter.snapshot() {
            assert_eq!(snapshot.renditions.len(), 2);
            assert!(
                snapshot
                    .renditions
                    .iter()
                    .all(|rendition| !rendition.segments.is_empty())
            );
        }
    }
    assert!(packaged.segmenter.snapshot().is_some());
}
