//! Playlists as text, compared with files that people can read. `UPDATE_EXPECT=1` writes them anew.

use super::*;
use crate::{
    fixture::expect,
    hls::{self, Form},
};

#[test]
fn multivariant_playlist() {
    expect(
        "multivariant.m3u8",
        &hls::multivariant(&check(&ordinary(10 * S, 50)).snapshot(), "?hls_ctx=abc"),
    );
}

#[test]
fn multivariant_playlist_of_audio_alone() {
    let epoch = epoch(0, 0, &AUDIO);
    expect(
        "multivariant-audio.m3u8",
        &hls::multivariant(&check(&audio(&epoch, 0, 10 * S)).snapshot(), ""),
    );
}

#[test]
fn media_playlist() {
    let packaged = Packaged::of(&ordinary(20 * S, 50), Source::Whole);
    expect("media-video.m3u8", &media(&packaged, "video"));
    expect("media-audio.m3u8", &media(&packaged, "audio"));
}

#[test]
fn media_playlist_with_a_discontinuity() {
    let (first, second) = (epoch(0, 0, &VIDEO), epoch(1, 12 * S, &VIDEO));
    for (file, end_us) in [
        ("media-discontinuity.m3u8", 19 * S),
        ("media-discontinuity-passed.m3u8", 27 * S),
    ] {
        let mut frames = video_gop(&first, 0, 5 * S, 50);
        frames.extend(video_gop(&second, 12 * S, end_us, 50));
        expect(file, &media(&Packaged::of(&frames, Source::Whole), "video"));
    }
}

#[test]
fn media_playlist_with_a_gap() {
    let epoch = epoch(0, 0, &BOTH);
    let frames = interleave(
        vec![video_gop(&epoch, 0, 20 * S, 50), audio(&epoch, 0, 9 * S)],
        0,
    );
    expect(
        "media-gap.m3u8",
        &media(&Packaged::of(&frames, Source::WithHoles), "audio"),
    );
}

#[test]
fn media_playlist_of_a_run_that_ended() {
    expect(
        "media-ended.m3u8",
        &media(&check(&ordinary(9 * S, 50)), "video"),
    );
}

#[test]
fn media_playlist_with_parts() {
    let packaged = Packaged::of(&ordinary(20 * S + 800_000, 50), Source::Whole);
    let playlist = |name, form| text(&packaged, name, form);
    expect(
        "low-latency-video.m3u8",
        &playlist("video", Form::LowLatency),
    );
    expect(
        "low-latency-audio.m3u8",
        &playlist("audio", Form::LowLatency),
    );
}

#[test]
fn l_delta_update_leaves_out_what_is_far_from_the_end() {
    let mut config = CONFIG;
    config.playlist_segments = 12;
    let mut packaged = Packaged::new(config, Source::Whole);
    packaged.push_all(&ordinary(30 * S + 800_000, 50));
    let [whole, delta] = [Form::LowLatency, Form::Delta].map(|form| text(&packaged, "video", form));
    expect("low-latency-delta.m3u8", &delta);
    let (head, kept) = delta
        .split_once("#EXT-X-SKIP:SKIPPED-SEGMENTS=6\n")
        .expect("six");
    assert!(whole.starts_with(head), "the head is the same");
    let (map, kept) = kept.split_once('\n').expect("more lines");
    assert!(map.starts_with("#EXT-X-MAP:"), "{map}");
    assert!(whole.ends_with(kept), "what is kept is the same");
    // Segments of 2 s, 0.64 s of the next: what is kept is the least that covers six target durations.
    assert_eq!(kept.matches("#EXTINF:").count(), 6);
}

#[test]
fn l_delta_update_that_would_leave_out_nothing_is_whole() {
    let packaged = Packaged::of(&ordinary(9 * S, 50), Source::Whole);
    let [whole, delta] = [Form::LowLatency, Form::Delta].map(|form| text(&packaged, "video", form));
    assert_eq!(whole, delta);
}

#[test]
fn l05_a_discontinuity_stands_before_the_first_part() {
    let (first, second) = (epoch(0, 0, &VIDEO), epoch(1, 12 * S, &VIDEO));
    let mut frames = video_gop(&first, 0, 5 * S, 50);
    frames.extend(video_gop(&second, 12 * S, 13 * S, 50));
    let packaged = Packaged::of(&frames, Source::Whole);
    let playlist = text(&packaged, "video", Form::LowLatency);
    expect("low-latency-discontinuity.m3u8", &playlist);
}

#[test]
fn rewind_playlists() {
    let mut config = CONFIG;
    config.rewind.window_us = 24 * S;
    let mut packaged = Packaged::new(config, Source::Whole);
    packaged.push_all(&ordinary(60 * S + 800_000, 50));
    let [whole, delta] =
        [Form::Rewind, Form::RewindDelta].map(|form| text(&packaged, "video", form));
    expect("rewind-video.m3u8", &whole);
    expect("rewind-delta.m3u8", &delta);
    let start = hls::Start::parse("-20.5").expect("valid");
    let multivariant = hls::rewind_multivariant(&packaged.snapshot(), start, "?hls_ctx=abc");
    expect("rewind-multivariant.m3u8", &multivariant);
}

fn media(packaged: &Packaged, name: &str) -> String {
    text(packaged, name, Form::Classic)
}

fn text(packaged: &Packaged, name: &str, form: Form) -> String {
    let snapshot = packaged.snapshot();
    let rendition = snapshot.rendition(name).expect("the rendition is there");
    hls::media(&snapshot, rendition, form)
}
