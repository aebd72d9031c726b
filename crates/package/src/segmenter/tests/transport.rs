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
        let bytes = &segment.parts[0].bytes;
        assert!(bytes.len() % 188 == 0 && bytes.chunks(188).all(|packet| packet[0] == 0x47));
    }
    let numbers: Vec<u64> = ts.segments.iter().map(|segment| segment.msn).collect();
    assert!(
        numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{numbers:?}"
    );
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
