//! Manifests as text, and what holds for the times in them.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use mp4_atom::{Any, DecodeMaybe as _};
use weir_media::{Frame, VIDEO_TIMESCALE, rescale};

use super::*;
use crate::Config;
use crate::fixture::{
    self, AUDIO, BOTH, FRAME_US, Packaged, S, Source, Timed, VIDEO, bytes_of, epoch, expect,
    interleave, ordinary, video, video_gop,
};

fn of(frames: &[Timed], source: Source) -> Arc<Snapshot> {
    Packaged::of(frames, source).snapshot()
}

fn text(snapshot: &Snapshot) -> String {
    manifest(snapshot, true)
}

#[test]
fn manifest_of_a_live_run() {
    // Half of a segment is open.
    expect(
        "manifest.mpd",
        &text(&of(&ordinary(11 * S, 50), Source::Whole)),
    );
}

#[test]
fn manifest_of_audio_alone() {
    let epoch = epoch(0, 0, &AUDIO);
    let frames = fixture::audio(&epoch, 0, 9 * S);
    expect("manifest-audio.mpd", &text(&of(&frames, Source::Whole)));
}

#[test]
fn manifest_with_a_discontinuity() {
    let (first, second) = (epoch(0, 0, &BOTH), epoch(1, 12 * S, &BOTH));
    let frames = interleave(
        vec![
            video_gop(&first, 0, 5 * S, 50),
            fixture::audio(&first, 0, 5 * S),
            video_gop(&second, 12 * S, 17 * S, 50),
            fixture::audio(&second, 12 * S, 17 * S),
        ],
        0,
    );
    expect(
        "manifest-discontinuity.mpd",
        &text(&of(&frames, Source::Whole)),
    );
}

#[test]
fn manifest_with_a_gap() {
    let epoch = epoch(0, 0, &BOTH);
    let mut sound = fixture::audio(&epoch, 0, 5 * S);
    sound.extend(fixture::audio(&epoch, 11 * S, 20 * S));
    let frames = interleave(vec![video_gop(&epoch, 0, 20 * S, 50), sound], 0);
    expect("manifest-gap.mpd", &text(&of(&frames, Source::WithHoles)));
}

#[test]
fn manifest_of_a_run_that_ended() {
    let mut packaged = Packaged::of(&ordinary(9 * S, 50), Source::Whole);
    packaged.finish();
    expect("manifest-ended.mpd", &text(&packaged.snapshot()));
}

#[test]
fn manifest_without_low_latency() {
    let snapshot = of(&ordinary(11 * S, 50), Source::Whole);
    expect("manifest-classic.mpd", &manifest(&snapshot, false));
}

fn rewinding() -> Config {
    let mut config = fixture::CONFIG;
    config.rewind.window_us = 24 * S;
    config
}

fn back(seconds: &str) -> Start {
    Start::parse(seconds).expect("valid")
}

#[test]
fn manifest_of_the_rewind_window() {
    let mut packaged = Packaged::new(rewinding(), Source::Whole);
    packaged.push_all(&ordinary(60 * S + 800_000, 50));
    let snapshot = packaged.snapshot();
    let rewound = rewind_manifest(&snapshot, back("-20.5"));
    expect("manifest-rewind.mpd", &rewound);
    // No earlier than there is something.
    let (beyond, whole) = (back("-1000"), back("-24"));
    let beyond = rewind_manifest(&snapshot, beyond);
    assert!(
        beyond.contains(
            " timeShiftBufferDepth=\"PT24.011S\" suggestedPresentationDelay=\"PT24.011S\""
        ),
        "{beyond}"
    );
    assert_ne!(beyond, rewind_manifest(&snapshot, whole));
    // Nobody begins closer to the live edge than players of complete segments can.
    let close = rewind_manifest(&snapshot, back("-1"));
    assert!(
        close.contains(" suggestedPresentationDelay=\"PT6S\""),
        "{close}"
    );
    // The plain one is as short as ever.
    let plain = of(&ordinary(60 * S + 800_000, 50), Source::Whole);
    assert_eq!(manifest(&snapshot, true), manifest(&plain, true));
    assert_eq!(manifest(&snapshot, false), manifest(&plain, false));
    packaged.finish();
    let ended = rewind_manifest(&packaged.snapshot(), back("-20"));
    assert!(
        ended.contains(" type=\"static\"") && !ended.contains("Delay"),
        "{ended}"
    );
    assert!(ended.len() > manifest(&packaged.snapshot(), true).len());
}

#[test]
fn segments_that_left_memory_are_announced_and_found() {
    let with_memory = |memory_bytes| {
        let mut config = fixture::CONFIG;
        (config.rewind.window_us, config.rewind.memory_bytes) = (60 * S, memory_bytes);
        let mut packaged = Packaged::new(config, Source::Whole);
        packaged.push_all(&ordinary(100 * S + 800_000, 50));
        packaged.snapshot()
    };
    let (archived, held) = (with_memory(0), with_memory(usize::MAX));
    let start = back("-50");
    let text = rewind_manifest(&archived, start);
    assert_eq!(text, rewind_manifest(&held, start));
    let periods = timeline::periods(&archived, Form::Rewind(start));
    let mut gone = 0;
    for track in periods.iter().flat_map(|period| &period.tracks) {
        assert!(track.entries.len() >= 30);
        for entry in &track.entries {
            let time = u64::try_from(entry.start).expect("after the epoch");
            let found = find(track.rendition, fixture::BEGINS_S, time);
            let Some(Named::Complete(segment)) = found else {
                panic!("{time}: {found:?}")
            };
            assert_eq!(segment.span, Some(*entry));
            gone += usize::from(segment.archived.is_some());
        }
    }
    assert!(gone > 2 * 10, "{gone}");
}

/// How well the duration of the open segment is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// From the second segment on, exactly.
    Exactly,
    /// It may turn out to be another one.
    Roughly,
}

#[test]
fn d15_what_is_announced_holds_for_steady_sources() {
    watch(&ordinary(30 * S, 50), Source::Whole, Told::Exactly);
    // Two groups make a segment.
    watch(&ordinary(30 * S, 25), Source::Whole, Told::Exactly);
    let alone = epoch(0, 0, &AUDIO);
    watch(
        &fixture::audio(&alone, 0, 20 * S),
        Source::Whole,
        Told::Exactly,
    );
    let alone = epoch(0, 0, &VIDEO);
    watch(
        &video_gop(&alone, 0, 30 * S, 50),
        Source::Whole,
        Told::Exactly,
    );
}

#[test]
fn d15_what_is_announced_holds_for_pictures_out_of_order() {
    let epoch = epoch(0, 0, &BOTH);
    let mut pictures = video_gop(&epoch, 0, 20 * S, 50);
    reorder(&mut pictures);
    let frames = interleave(vec![pictures, fixture::audio(&epoch, 0, 20 * S)], 0);
    let snapshot = watch(&frames, Source::Whole, Told::Exactly);
    let period = &timeline::periods(&snapshot, Form::LowLatency)[0];
    assert_eq!(period.tracks[0].presentation_time_offset(), 2 * FRAME);
    assert_eq!(
        period.start_ms % 1_000,
        80,
        "it starts with its first picture"
    );
}

#[test]
fn d15_what_is_announced_holds_when_times_are_rounded() {
    // 29.97 fps, a key frame every 1.67 s, in the milliseconds of RTMP.
    let epoch = epoch(0, 0, &BOTH);
    let mut pictures = video(&epoch, 0, 40 * S, 33_367, |n| n % 50 == 0);
    for (_, frame) in &mut pictures {
        let ms = rescale(frame.dts, VIDEO_TIMESCALE, 1_000);
        frame.dts = rescale(ms, 1_000, VIDEO_TIMESCALE);
        frame.pts = frame.dts;
    }
    let frames = interleave(vec![pictures, fixture::audio(&epoch, 0, 40 * S)], 0);
    watch(&frames, Source::Whole, Told::Roughly);
}

#[test]
fn d15_what_is_announced_holds_whatever_comes() {
    // Key frames anywhere: some segments are cut by force, and what follows them is short.
    let keys = [0, 50, 120, 125, 300, 330, 480, 490, 700];
    let epoch_0 = epoch(0, 0, &BOTH);
    let pictures = video(&epoch_0, 0, 30 * S, FRAME_US, |n| keys.contains(&n));
    let sound = fixture::audio(&epoch_0, 0, 30 * S);
    watch(
        &interleave(vec![pictures, sound], 0),
        Source::Whole,
        Told::Roughly,
    );

    // The sound is away for a while.
    let mut sound = fixture::audio(&epoch_0, 0, 5 * S);
    sound.extend(fixture::audio(&epoch_0, 14 * S, 30 * S));
    let frames = interleave(vec![video_gop(&epoch_0, 0, 30 * S, 50), sound], 0);
    watch(&frames, Source::WithHoles, Told::Roughly);

    // The publisher comes back, once with the picture alone.
    let alone = epoch(1, 12 * S, &VIDEO);
    let again = epoch(2, 25 * S, &BOTH);
    let frames = interleave(
        vec![
            video_gop(&epoch_0, 0, 7 * S, 50),
            fixture::audio(&epoch_0, 0, 7 * S),
            video_gop(&alone, 12 * S, 19 * S, 50),
            video_gop(&again, 25 * S, 33 * S, 50),
            fixture::audio(&again, 25 * S, 33 * S),
        ],
        0,
    );
    let snapshot = watch(&frames, Source::Whole, Told::Roughly);
    let tracks: Vec<usize> = timeline::periods(&snapshot, Form::LowLatency)
        .iter()
        .map(|period| period.tracks.len())
        .collect();
    assert_eq!(
        tracks,
        [1, 2],
        "the sound has no part in the Period without it"
    );
}

/// Ticks of a picture.
const FRAME: i64 = FRAME_US * VIDEO_TIMESCALE as i64 / S;

/// I B B P B B P …: of three pictures, the last one is decoded first.
fn reorder(pictures: &mut [Timed]) {
    let first = |frame: &Frame| frame.dts / FRAME % 50 == 0;
    for (_, frame) in pictures {
        let ahead = match (first(frame), frame.dts / FRAME % 50 % 3) {
            (true, _) => 2,
            (false, 1) => 4,
            (false, _) => 1,
        };
        frame.pts = frame.dts + ahead * FRAME;
    }
}

/// Every segment that was ever announced: its durations, one after the other.
type Announced = BTreeMap<(u64, &'static str, i64), Vec<i64>>;

/// One kind of manifest of a run.
struct Watched {
    form: Form,
    announced: Announced,
    /// When the newest was published, and what it says else.
    newest: Option<(SystemTime, String)>,
}

/// Passes a run through a segmenter, and compares each manifest with the one before (D2, D15) and with the media.
fn watch(frames: &[Timed], source: Source, told: Told) -> Arc<Snapshot> {
    let mut packaged = Packaged::new(rewinding(), source);
    let mut all = [Form::LowLatency, Form::Classic, Form::Rewind(back("-20"))].map(Watched::new);
    for frame in frames {
        packaged.push_all(std::slice::from_ref(frame));
        if let Some(snapshot) = packaged.segmenter.snapshot() {
            all.iter_mut().for_each(|watched| watched.look(&snapshot));
        }
    }
    let open = packaged.snapshot();
    packaged.finish();
    let ended = packaged.snapshot();
    for watched in &mut all {
        watched.look(&ended);
        for ((_, name, start), durations) in &watched.announced {
            let (Some(last), Some(first)) = (durations.last(), durations.first()) else {
                panic!("announced without a duration")
            };
            let is_open = watched.form == Form::LowLatency;
            let roughly = told == Told::Roughly || is_first_or_last(&ended, name, *start);
            assert!(
                (is_open && roughly) || first == last,
                "{name} {start}: {durations:?}"
            );
        }
    }
    for rendition in &ended.renditions {
        for segment in rendition.served() {
            check_media(segment);
        }
    }
    open
}

/// Nobody can know how long the first segment of all will be, and that the run ends.
fn is_first_or_last(ended: &Snapshot, name: &str, start: i64) -> bool {
    let rendition = ended.rendition(name).expect("it was announced");
    let last = rendition.segments.back().expect("it has segments");
    start == 0 || last.span.is_some_and(|span| span.start == start)
}

impl Watched {
    fn new(form: Form) -> Self {
        Self {
            form,
            announced: Announced::new(),
            newest: None,
        }
    }

    fn look(&mut self, snapshot: &Snapshot) {
        let periods = timeline::periods(snapshot, self.form);
        let published = timeline::published(snapshot, &periods);
        let stamp = format!("publishTime=\"{}\"", iso8601(published));
        let text = render(snapshot, self.form);
        assert!(text.contains(&stamp));
        let rest = text.replace(&stamp, "");
        if let Some((earlier, known)) = &self.newest {
            assert!(published >= *earlier, "the publication time goes back");
            let (is_new, is_later) = (rest != *known, iso8601(published) > iso8601(*earlier));
            let differs = known.lines().zip(rest.lines()).find(|(a, b)| a != b);
            assert!(
                is_new == is_later,
                "{:?} published at {} and {}: {differs:?} (D2)",
                self.form,
                iso8601(*earlier),
                iso8601(published)
            );
        }
        self.newest = Some((published, rest));
        for period in periods {
            for track in &period.tracks {
                for pair in track.entries.windows(2) {
                    assert!(pair[1].start >= pair[0].end(), "segments overlap: {pair:?}");
                }
                assert!(track.entries[0].start >= track.presentation_time_offset());
                for entry in &track.entries {
                    let key = (period.discontinuity, track.rendition.name(), entry.start);
                    let durations = self.announced.entry(key).or_default();
                    if durations.last() != Some(&entry.duration) {
                        durations.push(entry.duration);
                    }
                }
            }
        }
    }
}

/// The earliest sample of a segment is presented at the time that names it (D3, C6).
fn check_media(segment: &Segment) {
    let Some(span) = segment.span else {
        assert!(segment.is_gap());
        return;
    };
    let (mut earliest, mut ticks) = (i64::MAX, 0);
    for part in &segment.parts {
        let mut rest = &bytes_of(part)[..];
        while let Some(atom) = Any::decode_maybe(&mut rest).expect("boxes") {
            let Any::Moof(moof) = atom else { continue };
            let traf = &moof.traf[0];
            let tfdt = traf.tfdt.as_ref().expect("a decode time");
            let mut at = i64::try_from(tfdt.base_media_decode_time).expect("small");
            for sample in traf.trun.iter().flat_map(|trun| &trun.samples) {
                earliest = earliest.min(at + sample.cts.unwrap_or(0));
                let duration = sample.duration.or(traf.tfhd.default_sample_duration);
                at += i64::from(duration.expect("a duration"));
                ticks += i64::from(duration.expect("a duration"));
            }
        }
    }
    assert_eq!((span.start, span.duration), (earliest, ticks));
}

#[test]
fn segments_are_found_by_the_names_that_are_announced() {
    let epoch = epoch(0, 0, &BOTH);
    let mut packaged = Packaged::new(fixture::CONFIG, Source::Whole);
    let mut seen = Vec::new();
    for frame in &interleave(
        vec![
            video_gop(&epoch, 0, 9 * S, 50),
            fixture::audio(&epoch, 0, 9 * S),
        ],
        0,
    ) {
        packaged.push_all(std::slice::from_ref(frame));
        let Some(snapshot) = packaged.segmenter.snapshot() else {
            continue;
        };
        let video = snapshot.rendition("video").expect("it has pictures");
        let discontinuity = fixture::BEGINS_S;
        let found = |time| match find(video, discontinuity, time) {
            Some(Named::Complete(segment)) => format!("complete {}", segment.msn - discontinuity),
            Some(Named::Open(msn)) => format!("open {}", msn - discontinuity),
            Some(Named::Next) => "next".to_owned(),
            None => "nothing".to_owned(),
        };
        assert_eq!(found(0), "complete 0");
        assert_eq!(found(90_000), "nothing", "no segment starts there");
        assert_eq!(find(video, discontinuity + 1, 0), None);
        let third = found(360_000);
        if seen.last() != Some(&third) {
            seen.push(third);
        }
    }
    assert_eq!(seen, ["nothing", "next", "open 2", "complete 2"]);
}
