//! Runs, muxed and read again.

mod run;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use weir_media::{Epoch, Frame, Kind, TrackId, VIDEO_TIMESCALE, codec::h264, rescale};

use self::run::{BOTH, Run, S, SHAPE, Shape, demo, epoch, frames, hex};
use super::{
    Muxer, Packager, Segment,
    check::{Report, check, check_segment},
};
use crate::cut::{Cut, Mark};

const PACKET_LEN: usize = 188;

fn shape(kinds: &[Kind]) -> Shape {
    Shape {
        kinds: kinds.to_vec(),
        ..SHAPE
    }
}

fn run(shape: &Shape) -> Run {
    frames(shape, &epoch(0, &shape.kinds, shape.asc))
}

fn mux(run: &Run) -> Vec<u8> {
    let mut muxer = Muxer::new("demo");
    let mut out = BytesMut::new();
    for (epoch, frame) in run {
        let before = out.len();
        muxer.push(epoch, frame, &mut out);
        assert_eq!((out.len() - before) % PACKET_LEN, 0);
    }
    muxer.flush(&mut out);
    out.to_vec()
}

/// What a packager is told.
enum Event {
    Cut(Mark, TrackId),
    Push(Frame),
}

/// Cuts at key frames of the lead track that are at least `segment_us` behind the last cut. The other track's frames and
/// marks come `behind_us` later than the lead's of the same time.
fn package(run: &Run, segment_us: i64, behind_us: i64) -> Vec<Segment> {
    let mut events: Vec<((u32, i64), Event)> = Vec::new();
    let mut newest: Option<Mark> = None;
    let mut shift = 0;
    for (epoch, frame) in run {
        let track = epoch.track(frame.track).expect("a known track");
        let is_lead = epoch.lead() == Some(track);
        let new_epoch = newest
            .as_ref()
            .is_none_or(|mark| !Epoch::same(&mark.epoch, epoch));
        if is_lead && new_epoch {
            shift = frame.pts - frame.dts;
        }
        let moved = if is_lead { shift } else { 0 };
        let at_us = rescale(frame.dts + moved, track.timescale, 1_000_000);
        let due = newest
            .as_ref()
            .is_none_or(|mark| at_us - mark.at_us >= segment_us);
        if is_lead && (new_epoch || frame.sync && due) {
            let (msn, cut) = match &newest {
                Some(mark) => (
                    mark.msn + 1,
                    if new_epoch { Cut::Epoch } else { Cut::Segment },
                ),
                None => (100, Cut::Epoch),
            };
            let mark = Mark {
                at_us,
                ends_us: at_us,
                epoch_us: 0,
                cut,
                msn,
                discontinuity: 7,
                chunk: 1,
                composition: None,
                targets: None,
                epoch: Arc::clone(epoch),
            };
            for other in &epoch.tracks {
                let delay = if *other == *track { 0 } else { behind_us };
                let at = if cut == Cut::Epoch {
                    i64::MIN
                } else {
                    at_us + delay
                };
                events.push(((epoch.index, at), Event::Cut(mark.clone(), other.id)));
            }
            newest = Some(mark);
        }
        let delay = if is_lead { 0 } else { behind_us };
        events.push(((epoch.index, at_us + delay), Event::Push(frame.clone())));
    }
    // A mark at the time of a frame comes before it.
    events.sort_by_key(|(at, event)| (*at, matches!(event, Event::Push(_))));
    let mut packager = Packager::new();
    let mut segments = Vec::new();
    for (_, event) in events {
        match event {
            Event::Cut(mark, track) => segments.extend(packager.cut(&mark, track)),
            Event::Push(frame) => packager.push(frame),
        }
    }
    segments.extend(packager.finish());
    segments
}

/// Both ways of muxing a run obey every rule, and give back what went in.
fn check_run(run: &Run, pauses: bool) -> (Report, Vec<Segment>) {
    let report = check(&mux(run), pauses).unwrap_or_else(|violation| panic!("stream: {violation}"));
    compare(run, &report);
    assert_eq!(report.service.as_deref(), Some("demo"));
    let segments = package(run, 2_000_000, 0);
    for segment in &segments {
        check_segment(&segment.bytes)
            .unwrap_or_else(|violation| panic!("{}: {violation}", segment.msn));
        let alone = check(&segment.bytes, pauses);
        alone.unwrap_or_else(|violation| panic!("segment {}: {violation}", segment.msn));
    }
    let joined: Vec<u8> = segments
        .iter()
        .flat_map(|segment| segment.bytes.clone())
        .collect();
    let whole = check(&joined, pauses).unwrap_or_else(|violation| panic!("segments: {violation}"));
    compare(run, &whole);
    assert_eq!(
        package(run, 2_000_000, 300_000),
        segments,
        "tracks may be behind"
    );
    (report, segments)
}

/// Payloads are those of the run, in order, and so are times.
fn compare(run: &Run, report: &Report) {
    let expected = |track: TrackId| run.iter().filter(move |(_, frame)| frame.track == track);
    let pictures = report.video.iter().map(|pes| {
        let units = pes
            .units
            .iter()
            .filter(|unit| !matches!(unit[0] & 0x1F, 7..=9));
        let payload: Vec<u8> = units
            .flat_map(|unit| {
                (unit.len() as u32)
                    .to_be_bytes()
                    .into_iter()
                    .chain(unit.clone())
            })
            .collect();
        (pes.dts, pes.pts, payload)
    });
    let wanted = expected(TrackId::VIDEO).map(|(_, frame)| {
        let wrapped = |ticks: i64| (ticks + S).rem_euclid(1 << 33);
        let own: Vec<u8> = without_parameter_sets(&frame.payload);
        (wrapped(frame.dts), wrapped(frame.pts), own)
    });
    assert!(pictures.eq(wanted), "pictures differ");
    let sound = report.audio.iter().flat_map(|pes| &pes.units);
    assert!(
        sound.eq(expected(TrackId::AUDIO).map(|(_, frame)| &frame.payload)),
        "sound differs"
    );
    // A decoder gives every frame behind the first of a PES the time at which the one before it ends.
    let mut sound = expected(TrackId::AUDIO);
    for pes in &report.audio {
        for (at, (epoch, frame)) in sound.by_ref().take(pes.units.len()).enumerate() {
            let timescale = epoch.track(frame.track).expect("a track").timescale;
            let begin = frame.pts - 1_024 * at as i64;
            let pts = (rescale(begin, timescale, VIDEO_TIMESCALE) + S).rem_euclid(1 << 33);
            assert_eq!(pes.pts, pts, "frame {at} of a PES");
        }
    }
}

fn without_parameter_sets(payload: &Bytes) -> Vec<u8> {
    let units = h264::nal_units(payload, 4).map(|unit| unit.expect("a whole unit"));
    let kept = units.filter(|unit| !matches!(h264::nal_type(unit), 7..=9));
    kept.flat_map(|unit| (unit.len() as u32).to_be_bytes().into_iter().chain(unit))
        .collect()
}

#[test]
fn streams_and_segments_obey_every_rule() {
    let check = |kinds: &[Kind], streams: &[(u8, u16)], change: &dyn Fn(&mut Shape)| {
        let mut shape = shape(kinds);
        change(&mut shape);
        let (report, segments) = check_run(&run(&shape), false);
        assert_eq!(report.programs, [(0, streams.to_vec())], "{shape:?}");
        assert_eq!(report.discontinuities, 0, "{shape:?}");
        let msns: Vec<u64> = segments.iter().map(|segment| segment.msn).collect();
        assert_eq!(msns, [100, 101, 102], "{shape:?}");
        let as_marked = |segment: &Segment| segment.independent && segment.discontinuity == 7;
        assert!(segments.iter().all(as_marked));
    };
    const VIDEO: (u8, u16) = (0x1B, 0x100);
    const AUDIO: (u8, u16) = (0x0F, 0x101);
    check(&[Kind::Video], &[VIDEO], &|_| {});
    check(&[Kind::Audio], &[AUDIO], &|_| {});
    let check = |change: &dyn Fn(&mut Shape)| check(&BOTH, &[VIDEO, AUDIO], change);
    check(&|_| {});
    // 30, 60, 12 and 2 pictures a second.
    for (picture_ticks, group) in [(3_000, 60), (1_500, 120), (7_500, 24), (45_000, 4)] {
        check(&|shape| {
            shape.picture_ticks = picture_ticks;
            shape.pictures_per_group = group;
            shape.reorder = 0;
        });
    }
    // Every picture a key frame; large pictures; tiny ones and silence.
    check(&|shape| shape.pictures_per_group = 1);
    check(&|shape| {
        shape.picture_len = 10_000;
        shape.picture_ticks = 9_000;
        shape.pictures_per_group = 20;
    });
    check(&|shape| {
        shape.picture_len = 1;
        shape.sound_len = 6;
    });
    // HE-AAC, and 44.1 kHz.
    check(&|shape| shape.asc = "2b118800");
    check(&|shape| {
        shape.asc = "1210";
        shape.sound_len = 800;
    });
}

#[test]
fn segments_tell_their_time() {
    let segments = package(&run(&shape(&BOTH)), 2_000_000, 0);
    let times: Vec<_> = segments
        .iter()
        .map(|segment| (segment.at_us, segment.duration_us))
        .collect();
    // Two pictures of reorder delay; the last segment ends where its last picture does.
    assert_eq!(
        times,
        [
            (80_000, 2_000_000),
            (2_080_000, 2_000_000),
            (4_080_000, 2_000_000)
        ]
    );
    assert!(segments.iter().all(|segment| !segment.after_discontinuity));
}

#[test]
fn times_wrap_at_33_bits() {
    // The offset of one second is part of what wraps: 90 000 ticks before the wrap on the wire.
    for start in [
        (1 << 33) - 2 * S,
        (1 << 33) - S,
        (1 << 33) - 3 * S,
        5 * (1 << 33) - 2 * S,
    ] {
        let (report, _) = check_run(
            &run(&Shape {
                start,
                ..shape(&BOTH)
            }),
            false,
        );
        let (first, last) = report.pcr.expect("a clock");
        assert_eq!(
            (
                report.discontinuities,
                (5 * S..7 * S).contains(&(last - first))
            ),
            (0, true)
        );
        let wrapped = report
            .video
            .windows(2)
            .filter(|pair| pair[0].dts > pair[1].dts)
            .count();
        assert_eq!(
            wrapped,
            usize::from((start + S) & ((1 << 33) - 1) != 0),
            "{start}"
        );
    }
}

#[test]
fn a_new_epoch_changes_the_version_and_announces_a_jump_of_the_clock() {
    let check = |gap: i64, kinds: &[Kind], discontinuities: usize| {
        let mut both = run(&shape(&BOTH));
        let second = Shape {
            start: 6 * S + gap,
            ..shape(kinds)
        };
        both.extend(frames(&second, &epoch(1, kinds, "1210")));
        let (report, segments) = check_run(&both, true);
        let versions: Vec<u8> = report
            .programs
            .iter()
            .map(|(version, _)| *version)
            .collect();
        assert_eq!(
            (versions, report.programs[1].1.len()),
            (vec![0, 1], kinds.len()),
            "{gap} {kinds:?}"
        );
        assert_eq!(report.discontinuities, discontinuities, "{gap} {kinds:?}");
        let after: Vec<bool> = segments
            .iter()
            .map(|segment| segment.after_discontinuity)
            .collect();
        assert_eq!(after, [false, false, false, true, false, false]);
    };
    for kinds in [&BOTH[..], &BOTH[..1], &BOTH[1..]] {
        check(0, kinds, 0);
        check(S / 2, kinds, 0);
        check(20 * S, kinds, 1);
        check(3_600 * S, kinds, 1);
    }
}

#[test]
fn pauses_are_filled_or_announced() {
    let check = |pause: i64, discontinuities: usize| {
        let epoch = epoch(0, &BOTH, "1190");
        let mut paused = frames(&shape(&BOTH), &epoch);
        let later = Shape {
            start: 6 * S + pause,
            ..shape(&BOTH)
        };
        paused.extend(frames(&later, &epoch));
        let (report, _) = check_run(&paused, true);
        assert_eq!(report.discontinuities, discontinuities, "{pause}");
    };
    check(S * 9 / 10, 0);
    check(9 * S, 1);
}

#[test]
fn one_track_may_fall_silent() {
    for silent in [TrackId::VIDEO, TrackId::AUDIO] {
        let mut frames = run(&Shape {
            duration: 12 * S,
            ..shape(&BOTH)
        });
        frames.retain(|(epoch, frame)| {
            let timescale = i64::from(epoch.track(frame.track).expect("a track").timescale);
            frame.track != silent
                || frame.sync && !(3..9).contains(&(frame.dts / timescale))
                || frame.dts < 3 * timescale
        });
        check_run(&frames, true);
    }
}

#[test]
fn sound_that_was_lost_is_not_closed_up() {
    let mut number = 0;
    let mut frames = run(&shape(&BOTH));
    frames.retain(|(_, frame)| {
        number += usize::from(frame.track == TrackId::AUDIO);
        frame.track == TrackId::VIDEO || number % 5 != 3
    });
    check_run(&frames, false);
}

#[test]
fn frames_that_cannot_be_carried_are_left_out() {
    let mut frames = run(&shape(&BOTH));
    let whole = frames.clone();
    for at in [1, 40, 90] {
        let (epoch, frame) = frames[at].clone();
        frames.insert(
            at,
            (
                Arc::clone(&epoch),
                Frame {
                    payload: vec![1; 9_000].into(),
                    track: TrackId::AUDIO,
                    ..frame.clone()
                },
            ),
        );
        frames.insert(
            at,
            (
                epoch,
                Frame {
                    payload: hex("000000020930"),
                    track: TrackId::VIDEO,
                    ..frame
                },
            ),
        );
    }
    let report = check(&mux(&frames), false).expect("a good stream");
    compare(&whole, &report);
    // A program config element: ADTS cannot describe the channels.
    let asc = "118004c4040021100d4c61766335392e33372e31303056e500";
    let report = check(
        &mux(&run(&Shape {
            asc,
            ..shape(&BOTH)
        })),
        false,
    )
    .expect("a good stream");
    assert_eq!((report.programs.len(), report.audio.len()), (1, 0));
    assert_eq!(
        mux(&run(&Shape {
            asc,
            ..shape(&[Kind::Audio])
        })),
        [0; 0]
    );
    let segments = package(
        &run(&Shape {
            asc,
            ..shape(&[Kind::Audio])
        }),
        2_000_000,
        0,
    );
    assert!(segments.iter().all(Segment::is_gap));
}

#[test]
fn broken_samples_are_refused() {
    let check_broken = |row: &str, damage: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = mux(&run(&Shape {
            duration: 2 * S,
            ..shape(&BOTH)
        }));
        damage(&mut bytes);
        let violation = check(&bytes, false).expect_err(row);
        assert!(violation.starts_with(row), "{row}: {violation}");
    };
    check_broken("T1", &|bytes| bytes.truncate(bytes.len() - 1));
    check_broken("T1", &|bytes| bytes[5 * PACKET_LEN] = 0x48);
    check_broken("T2", &|bytes| {
        drop_packets(bytes, |packet| packet[3] & 0x30 == 0x20)
    });
    check_broken("T2", &|bytes| {
        let is_pcr = |packet: &[u8]| packet[3] & 0x30 == 0x20;
        let at = bytes
            .chunks(PACKET_LEN)
            .position(is_pcr)
            .expect("a clock reference");
        bytes[at * PACKET_LEN + 8] ^= 0x40;
    });
    check_broken("T3", &|bytes| {
        keep_first(bytes, |packet| packet[1] & 0x1F == 0x10)
    });
    check_broken("T3", &|bytes| {
        keep_first(bytes, |packet| packet[1] & 0x1F == 0 && packet[2] == 0)
    });
    check_broken("T4", &|bytes| {
        drop_packets(bytes, |packet| packet[1] == 0x01 && packet[3] == 0x17)
    });
    check_broken("T4", &|bytes| {
        bytes.copy_within(6 * PACKET_LEN..7 * PACKET_LEN, 7 * PACKET_LEN)
    });
    let check_picture = |row: &str, at: usize, flipped: u8| {
        check_broken(row, &|bytes| {
            let picture = bytes
                .windows(4)
                .position(|four| four == [0, 0, 1, 0xE0])
                .expect("a picture");
            bytes[picture + at] ^= flipped;
        });
    };
    // A PTS 12 s later; another stream_id; not aligned; no delimiter; an IDR picture that is none.
    check_picture("T5", 11, 0x40);
    check_picture("T6", 3, 0x20);
    check_picture("T6", 6, 0x04);
    check_picture("T6", 4, 0x01);
    check_picture("T6", 23, 0x0F);
    check_broken("T6", &|bytes| {
        replace_once(bytes, &[0, 0, 0, 1, 0x68], &[0, 0, 0, 1, 0x66])
    });
    check_broken("T6", &|bytes| {
        replace_once(bytes, &[0, 0, 0, 1, 0x65], &[0, 0, 0, 1, 0x61])
    });
    check_broken("T6", &|bytes| {
        replace_once(bytes, &[0xFF, 0xF1, 0x4C], &[0xFF, 0xF9, 0x4C])
    });
    check_broken("T10", &|bytes| bytes[12] ^= 1);
}

#[test]
fn segments_that_do_not_fit_together_are_refused() {
    let segments = package(&run(&shape(&BOTH)), 2_000_000, 0);
    let bytes = &segments[0].bytes;
    let check_broken = |damage: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = bytes.to_vec();
        damage(&mut bytes);
        assert!(
            check_segment(&bytes)
                .expect_err("a broken segment")
                .starts_with("H27")
        );
    };
    check_broken(&|bytes| bytes.truncate(bytes.len() - PACKET_LEN));
    check_broken(&|bytes| drop(bytes.drain(..PACKET_LEN)));
    let stream = mux(&run(&shape(&BOTH)));
    assert!(check_segment(&stream).is_err(), "a stream is not a segment");
    let swapped: Vec<u8> = [1, 0]
        .iter()
        .flat_map(|&at: &usize| segments[at].bytes.clone())
        .collect();
    assert!(
        check(&swapped, false)
            .expect_err("time goes back")
            .starts_with("T2")
    );
}

fn drop_packets(bytes: &mut Vec<u8>, mut wanted: impl FnMut(&[u8]) -> bool) {
    let kept = bytes.chunks(PACKET_LEN).filter(|packet| !wanted(packet));
    *bytes = kept.flatten().copied().collect();
}

/// Drops the matching packets but the first sixteen, and counts on: nothing else is wrong.
fn keep_first(bytes: &mut Vec<u8>, wanted: impl Fn(&[u8]) -> bool) {
    let mut seen = 0;
    drop_packets(bytes, |packet| {
        seen += usize::from(wanted(packet));
        wanted(packet) && seen > 1
    });
}

fn replace_once(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let at = bytes
        .windows(from.len())
        .position(|window| window == from)
        .expect("it is there");
    bytes[at..at + to.len()].copy_from_slice(to);
}

#[test]
fn the_demo_sample_comes_out_as_it_went_in() {
    let run = demo(2);
    let (report, segments) = check_run(&run, false);
    assert_eq!((report.discontinuities, report.programs.len()), (0, 1));
    assert!(segments.len() > 5, "{}", segments.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_run_obeys_every_rule(
        kinds in prop::sample::select(vec![BOTH.to_vec(), vec![Kind::Video], vec![Kind::Audio]]),
        asc in prop::sample::select(vec!["1190", "1210", "2b118800", "131056e598"]),
        start in 0_i64..(1 << 34),
        picture_ticks in 900_i64..20_000,
        pictures_per_group in 1_usize..40,
        reorder in 0_i64..3,
        picture_len in 1_usize..5_000,
        sound_len in 0_usize..900,
    ) {
        let reorder = reorder.min(12_000 / picture_ticks);
        let duration = 3 * S;
        let shape = Shape {
            kinds, asc, start, duration, picture_ticks, pictures_per_group, reorder, picture_len, sound_len,
        };
        check_run(&run(&shape), false);
    }

    #[test]
    fn no_times_and_no_payload_break_the_packets(
        frames in prop::collection::vec((any::<bool>(), any::<i64>(), any::<i64>(), any::<bool>(), any::<Vec<u8>>()), 1..40),
    ) {
        let epoch = epoch(0, &BOTH, "1190");
        let run: Run = frames
            .into_iter()
            .map(|(video, dts, pts, sync, payload)| {
                let track = if video { TrackId::VIDEO } else { TrackId::AUDIO };
                let len = u32::try_from(payload.len()).expect("short").to_be_bytes();
                let length = if video { &len[..] } else { &[] };
                let payload = [length, &payload].concat().into();
                (Arc::clone(&epoch), Frame { track, dts, pts, sync, payload })
            })
            .collect();
        let bytes = mux(&run);
        let mut packager = Packager::new();
        let at_us = run[0].1.dts;
        let mark = Mark { at_us, ends_us: at_us, epoch_us: at_us, cut: Cut::Epoch, msn: 1, discontinuity: 1, chunk: 1, composition: None, targets: None, epoch };
        for track in [TrackId::VIDEO, TrackId::AUDIO] {
            packager.cut(&mark, track);
        }
        for (_, frame) in run {
            packager.push(frame);
        }
        let segments = packager.finish();
        prop_assert!(segments.iter().all(|segment| check_segment(&segment.bytes).is_ok()));
        prop_assert!(bytes.chunks(PACKET_LEN).all(|packet| packet.len() == PACKET_LEN && packet[0] == 0x47));
        prop_assert!(bytes.len() < 40 * 2_000 * PACKET_LEN);
    }
}
