//! Who is let in, and what the others are told: in the words that FFmpeg shows, and in one line of the log.

use std::path::Path;

use crate::support::{
    Dir, PATIENCE, Weir,
    ffmpeg::{self, AUDIO, VIDEO},
    ffprobe,
    http::request,
    process::Process,
    wait_until,
};

const SECRET: &str = "2fd4e1c67a2d28fc";
/// What FFmpeg prints before the description of a refusal.
const TOLD: &str = "Server error: ";
const NEEDS_KEY: &str =
    "publishing to this stream needs its key: use {name}?key={secret} as the stream key";

/// A source of H.264 and AAC that is there already.
fn sample() -> &'static Path {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/demo.flv"
    ))
}

fn serve_room() -> Weir {
    Weir::start(
        "serve",
        &[("WEIR_AUTH_PUBLISH_KEYS", &format!("room={SECRET}"))],
    )
}

/// The publisher fails, and FFmpeg shows `reason`.
#[track_caller]
fn assert_refused(publisher: &Process, reason: &str) {
    let status = publisher.wait(PATIENCE);
    let shown = publisher.stderr();
    assert!(
        shown.contains(&format!("{TOLD}{reason}\n")),
        "{reason}\nis not in\n{shown}"
    );
    assert!(!status.success(), "FFmpeg takes it for a success\n{shown}");
}

#[track_caller]
fn assert_logged_once(weir: &Weir, reason: &str) {
    let log = weir.log();
    let lines = log.lines().filter(|line| line.contains(reason));
    assert_eq!(lines.count(), 1, "{reason}\n{log}");
    let refusals = log.lines().filter(|line| line.contains("refused"));
    assert_eq!(refusals.count(), 1, "{log}");
}

#[test]
fn e2e_a_publisher_without_the_key_is_told_how_to_use_it() {
    for name in [
        "room",
        "room?key=another-key-4711",
        "elsewhere",
        "another-bare-key",
    ] {
        let weir = serve_room();
        assert_refused(&ffmpeg::push(sample(), &weir.rtmp_url(name)), NEEDS_KEY);
        assert_logged_once(&weir, NEEDS_KEY);
        assert!(
            !weir.log().contains("another"),
            "what may be a key is not logged: {}",
            weir.log()
        );
        assert_eq!(weir.status()["streams"].as_array().map(Vec::len), Some(0));
    }
}

#[test]
fn e2e_the_key_lets_in_and_is_told_to_nobody() {
    let weir = serve_room();
    for key in [format!("room?key={SECRET}"), SECRET.to_owned()] {
        let publisher = ffmpeg::push_forever(sample(), &weir.rtmp_url(&key));
        weir.wait_until_live("room");
        for path in ["/status", "/metrics", "/health", "/live/room/index.m3u8"] {
            let answer = weir.get(path);
            assert_eq!(answer.status, 200, "{path}");
            assert!(!answer.text().contains(SECRET), "{path}: {}", answer.text());
        }
        publisher.signal("TERM");
        publisher.wait(PATIENCE);
        let waits = || {
            weir.stream("room")
                .is_some_and(|room| room["state"] == "waiting")
        };
        wait_until("the publisher is gone", PATIENCE, waits);
    }
    assert!(!weir.log().contains(SECRET), "{}", weir.log());
    assert!(!weir.stdout().contains(SECRET), "{}", weir.stdout());
}

#[test]
fn e2e_a_second_publisher_does_not_disturb_the_first() {
    let weir = serve_room();
    let url = weir.rtmp_url(&format!("room?key={SECRET}"));
    let publisher = ffmpeg::push_forever(sample(), &url);
    weir.wait_until_live("room");
    assert_refused(&ffmpeg::push(sample(), &weir.rtmp_url("room")), NEEDS_KEY);
    assert_frames_flow(&weir, "room");
    assert!(publisher.is_running());
}

#[test]
fn e2e_publishers_without_keys_are_strangers() {
    let weir = Weir::start("dev", &[]);
    let publisher = ffmpeg::push_forever(sample(), &weir.rtmp_url("room"));
    weir.wait_until_live("room");
    let reason = "this stream is already being published by somebody else; stop that publisher or use another name";
    assert_refused(&ffmpeg::push(sample(), &weir.rtmp_url("room")), reason);
    assert_logged_once(&weir, reason);
    assert_frames_flow(&weir, "room");
    assert!(publisher.is_running());
}

#[test]
fn e2e_the_same_key_takes_over_and_the_old_publisher_is_told() {
    let weir = serve_room();
    let url = weir.rtmp_url(&format!("room?key={SECRET}"));
    let old = ffmpeg::push_forever(sample(), &url);
    weir.wait_until_live("room");
    let new = ffmpeg::push_forever(sample(), &url);
    assert_refused(
        &old,
        "another connection with the same key took over this stream",
    );
    assert_frames_flow(&weir, "room");
    assert!(new.is_running());
}

#[test]
fn e2e_an_unknown_application_is_refused() {
    let weir = Weir::start("dev", &[]);
    let reason = "unknown application; this server accepts rtmp://host/live/<name>";
    let url = format!("rtmp://{}/broadcast/room", weir.rtmp_addr());
    assert_refused(&ffmpeg::push(sample(), &url), reason);
    assert_logged_once(&weir, reason);
}

#[test]
fn e2e_codecs_that_are_not_carried_are_refused() {
    let video = format!("{VIDEO}:rate=25");
    let audio = format!("{AUDIO}:s=44100");
    let x264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p";
    for (arguments, codec) in [
        (
            format!("{video} {audio} {x264} -c:a libmp3lame"),
            "MP3 audio",
        ),
        (
            format!("{video} {audio} -c:v flv1 -c:a aac"),
            "Sorenson H.263 video",
        ),
        (
            format!("{audio} -c:a pcm_s16le"),
            "uncompressed (PCM) audio",
        ),
    ] {
        let dir = Dir::new("codecs");
        let file = dir.path().join("source.flv");
        ffmpeg::encode(&format!("{arguments} -t 5"), &file);
        let weir = Weir::start("dev", &[]);
        let reason = format!(
            "the encoder sends {codec}, which is not supported: set it to H.264 video and AAC audio"
        );
        assert_refused(&ffmpeg::push(&file, &weir.rtmp_url("room")), &reason);
        assert_logged_once(&weir, &reason);
    }
}

#[test]
fn e2e_a_stream_that_does_not_run_cannot_be_played() {
    let weir = Weir::start("dev", &[]);
    assert_refused(
        &ffprobe::start(&weir.rtmp_url("nothing")),
        "no such stream is live",
    );
    for path in [
        "/live/nothing.flv",
        "/nothing.flv",
        "/live/nothing/index.m3u8",
        "/live/nothing/video/index.m3u8",
        "/live/nothing/video/1-1.m4s",
        "/live/demo/video/1-1.m4s",
        "/live/demo/subtitles/index.m3u8",
    ] {
        for method in ["GET", "HEAD"] {
            let answer = request(weir.http_addr(), method, path, &[]).expect("weir answers");
            assert_eq!(answer.status, 404, "{method} {path}");
            assert_eq!(
                answer.header("cache-control"),
                Some("no-store"),
                "{method} {path}"
            );
        }
    }
}

/// More frames arrive than have arrived by now.
fn assert_frames_flow(weir: &Weir, name: &str) {
    let frames = || weir.stream(name).and_then(|row| row["frames"].as_u64());
    let before = frames().expect("it runs");
    wait_until("frames flow", PATIENCE, || {
        frames().is_some_and(|now| now > before)
    });
}
