//! Manifests as text, and what holds for the times in them.

use std::sync::Arc;

use super::*;
use crate::fixture::{
    self, AUDIO, BOTH, Packaged, S, Source, Timed, epoch, expect, interleave, ordinary, video_gop,
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
