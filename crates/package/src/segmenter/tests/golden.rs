//! Playlists as text, compared with files that people can read. `UPDATE_EXPECT=1` writes them anew.

use super::*;
use crate::{fixture::expect, hls};

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

fn media(packaged: &Packaged, name: &str) -> String {
    let snapshot = packaged.snapshot();
    hls::media(
        &snapshot,
        snapshot.rendition(name).expect("the rendition is there"),
        hls::Form::Classic,
    )
}
