//! MPEG-TS beside CMAF: the same cuts, from the moment it is wanted.

use super::*;
use crate::hls;

/// A run in which MPEG-TS is wanted from `from` on, counted in frames.
fn wanted_from(frames: &[Timed], from: usize) -> Segmenter {
    let mut segmenter = Segmenter::new(
        CONFIG,
        "run".to_owned(),
        Numbers {
            msn: 100,
            discontinuity: 7,
        },
    );
    for (at, (epoch, frame)) in frames.iter().enumerate() {
        segmenter.want_ts(at >= from);
        segmenter.push(epoch, frame);
    }
    segmenter
}

#[test]
fn segments_have_the_numbers_and_times_of_their_cmaf_twins() {
    let segmenter = wanted_from(&ordinary(30 * S, 50), 500);
    let snapshot = segmenter.snapshot().expect("a playable run");
    let ts = snapshot.ts.as_ref().expect("MPEG-TS is wanted");
    let video = snapshot.rendition("video").expect("there is video");
    assert!(ts.segments.len() > 3, "{}", ts.segments.len());
    for segment in &ts.segments {
        let twin = video.segment(segment.msn).expect("the same number");
        assert_eq!(segment.program_date_time, twin.program_date_time);
        assert_eq!(segment.duration_us, twin.duration_us);
        assert!(segment.independent() && segment.init.is_none());
        let bytes = bytes_of(&segment.parts[0]);
        assert!(
            bytes.len().is_multiple_of(188) && bytes.chunks(188).all(|packet| packet[0] == 0x47)
        );
    }
    let numbers: Vec<u64> = ts.segments.iter().map(|segment| segment.msn).collect();
    assert!(
        numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{numbers:?}"
    );
}

/// What is listed when MPEG-TS is first wanted before frame `from`.
fn first_listed(frames: &[Timed], from: usize) -> Vec<Arc<Segment>> {
    let segmenter = wanted_from(&frames[..=from], from);
    let snapshot = segmenter.snapshot().expect("a playable run");
    snapshot
        .ts
        .as_ref()
        .map_or_else(Vec::new, |ts| ts.segments.iter().cloned().collect())
}

#[test]
fn whoever_asks_first_gets_the_newest_segments_at_once() {
    let frames = ordinary(30 * S, 50);
    let all = wanted_from(&frames, 0).snapshot().expect("a playable run");
    let all = all.ts.as_ref().expect("MPEG-TS is wanted");
    for from in 900..1_100 {
        let made = wanted_from(&frames[..=from], usize::MAX);
        let newest = made.snapshot().expect("a playable run");
        let newest = newest
            .rendition("audio")
            .and_then(|audio| audio.segments.back());
        let listed = first_listed(&frames, from);
        assert!((2..=3).contains(&listed.len()), "{from}: {}", listed.len());
        assert_eq!(
            listed.last().map(|segment| segment.msn),
            newest.map(|segment| segment.msn),
            "{from}"
        );
        for segment in listed {
            assert!(all.segment(segment.msn) == Some(&segment), "{from}");
        }
    }
}

#[test]
fn nothing_of_an_earlier_epoch_is_made_afterwards() {
    let mut frames = Vec::new();
    for index in 0..2_u32 {
        let start_us = i64::from(index) * 15 * S;
        let (epoch, end_us) = (epoch(index, start_us, &BOTH), start_us + 11 * S);
        let tracks = vec![
            video_gop(&epoch, start_us, end_us, 50),
            audio(&epoch, start_us, end_us),
        ];
        frames.extend(interleave(tracks, 0));
    }
    let begins = |(epoch, _): &Timed| epoch.index == 1;
    let second = frames.iter().position(begins).expect("a second epoch");
    let all = wanted_from(&frames, 0).snapshot().expect("a playable run");
    let all = all.ts.as_ref().expect("MPEG-TS is wanted");
    for from in second + 1..frames.len() {
        for segment in first_listed(&frames, from) {
            assert!(all.segment(segment.msn) == Some(&segment), "{from}");
            assert_eq!(segment.discontinuity, 8, "{from}");
        }
    }
    assert!(first_listed(&frames, second + 500).len() >= 2);
}

#[test]
fn nothing_is_made_that_nobody_wants() {
    let frames = ordinary(30 * S, 50);
    assert!(
        wanted_from(&frames, usize::MAX)
            .snapshot()
            .expect("a playable run")
            .ts
            .is_none()
    );
    let mut segmenter = wanted_from(&frames, 0);
    assert!(segmenter.snapshot().expect("a playable run").ts.is_some());
    segmenter.want_ts(false);
    assert!(segmenter.snapshot().expect("a playable run").ts.is_none());
}

#[test]
fn playlists_name_ts_segments_and_no_init_object() {
    let mut segmenter = wanted_from(&ordinary(30 * S, 50), 0);
    segmenter.finish();
    let snapshot = segmenter.snapshot().expect("a playable run");
    let ts = snapshot.ts.as_ref().expect("MPEG-TS is wanted");
    let media = hls::media(&snapshot, ts, hls::Form::Classic);
    assert!(media.starts_with("#EXTM3U\n#EXT-X-VERSION:3\n"), "{media}");
    assert!(
        !media.contains("EXT-X-MAP")
            && media.contains(".ts\n")
            && media.ends_with("#EXT-X-ENDLIST\n"),
        "{media}"
    );
    let multivariant =
        hls::ts_multivariant(&snapshot, "ts.m3u8", "?hls_ctx=1").expect("there is MPEG-TS");
    let codecs = "CODECS=\"avc1.42C01E,mp4a.40.2\",RESOLUTION=640x360,FRAME-RATE=25.000";
    assert!(
        multivariant.contains(codecs) && multivariant.ends_with("\nts.m3u8?hls_ctx=1\n"),
        "{multivariant}"
    );
}
