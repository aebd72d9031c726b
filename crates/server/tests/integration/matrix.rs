//! Each kind of source that encoders push, played back over each protocol: nothing lost, nothing twice, times kept.
//!
//! Owns: the sources and how they are pushed. What is compared stands in [`playback`].

mod playback;

use std::{path::Path, process::Command, time::Duration};

use crate::support::{
    Dir, PATIENCE, Weir,
    ffmpeg::{self, AUDIO, VIDEO},
    ffprobe,
    process::Process,
};

/// H.264 as low-latency encoders make it; the distance of key frames and the rate are added.
const X264: &str = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p";
/// How long most sources last: long enough for HLS to list several segments while they are pushed.
const SECONDS: u64 = 10;

#[test]
fn e2e_h264_and_aac_arrive_whole() {
    let source = format!("{VIDEO}:rate=30 {AUDIO}:s=48000 {X264} -g 60 -c:a aac");
    check(&source, SECONDS, push);
}

#[test]
fn e2e_video_alone_arrives_whole() {
    check(&format!("{VIDEO}:rate=25 {X264} -g 50"), SECONDS, push);
}

#[test]
fn e2e_audio_alone_arrives_whole() {
    check(&format!("{AUDIO}:s=48000 -c:a aac"), SECONDS, push);
}

#[test]
fn e2e_b_frames_arrive_whole() {
    let x264 = "-c:v libx264 -preset medium -bf 3 -b_strategy 0 -pix_fmt yuv420p";
    let source = format!("{VIDEO}:rate=25 {AUDIO}:s=48000 {x264} -g 50 -c:a aac");
    check(&source, SECONDS, push);
}

#[test]
fn e2e_one_frame_a_second_arrives_whole() {
    let source = format!("{VIDEO}:rate=1 {AUDIO}:s=48000 {X264} -g 2 -c:a aac");
    check(&source, 14, push);
}

#[test]
fn e2e_44100_hz_mono_arrives_whole() {
    let source = format!("{VIDEO}:rate=30 {AUDIO}:s=44100 {X264} -g 60 -c:a aac -ac 1");
    check(&source, SECONDS, push);
}

#[test]
fn e2e_a_group_of_8_seconds_arrives_whole() {
    let source = format!("{VIDEO}:rate=25 {AUDIO}:s=48000 {X264} -g 200 -sc_threshold 0 -c:a aac");
    check(&source, 20, push);
}

#[test]
fn e2e_gstreamer_arrives_whole() {
    let source = format!("{VIDEO}:rate=30 {AUDIO}:s=48000 {X264} -g 60 -c:a aac");
    check(&source, SECONDS, push_with_gstreamer);
}

/// Encodes a source, pushes it, plays it over every protocol at once, and compares.
fn check(arguments: &str, seconds: u64, push: fn(&Path, &str) -> Process) {
    let dir = Dir::new("matrix");
    let file = dir.path().join("source.flv");
    ffmpeg::encode(&format!("{arguments} -t {seconds}"), &file);
    let source = ffprobe::start(file.to_str().expect("UTF-8")).output(PATIENCE);
    let source = ffprobe::packets(&source);

    let weir = Weir::start("dev", &[("WEIR_LIMITS_PUBLISHER_GRACE", "1")]);
    let publisher = push(&file, &weir.rtmp_url("source"));
    weir.wait_until_live("source");
    let players = [
        weir.rtmp_url("source"),
        weir.http_url("/live/source.flv"),
        weir.http_url("/live/source/index.m3u8"),
    ];
    let players = players.map(|url| (ffprobe::start(&url), url));
    publisher.output(Duration::from_secs(seconds) + PATIENCE);
    let mut failures = Vec::new();
    for (player, url) in players {
        let played = ffprobe::packets(&player.output(PATIENCE));
        failures.extend(
            playback::problems(&source, &played)
                .into_iter()
                .map(|problem| format!("{url}: {problem}")),
        );
    }
    assert!(failures.is_empty(), "{failures:#?}\n{}", weir.log());
}

fn push(file: &Path, url: &str) -> Process {
    ffmpeg::push(file, url)
}

/// `rtmp2sink` is an RTMP client of its own, not FFmpeg's.
fn push_with_gstreamer(file: &Path, url: &str) -> Process {
    let mut command = Command::new("gst-launch-1.0");
    let file = file.to_str().expect("UTF-8");
    let pipeline = format!(
        "filesrc location={file} ! flvdemux name=demux \
         flvmux name=mux streamable=true ! rtmp2sink location={url} sync=true \
         demux.video ! queue ! h264parse ! mux.video \
         demux.audio ! queue ! aacparse ! mux.audio"
    );
    command.args(pipeline.split_whitespace());
    Process::start(command)
}
