//! HLS as a strict player and a strict cache see it: playlists over time, objects, headers (CONFORMANCE section 1).

use std::{process::Command, time::Duration};

use crate::{
    hls_watch::{Media, Options, ended_table, reload_table, watch},
    support::{
        Dir, PATIENCE, Weir,
        ffmpeg::{self, AUDIO, VIDEO},
        http::{Connection, Response, request},
        process::Process,
        wait_for, wait_until,
    },
};

/// Segments that a playlist lists here: few, so that some leave soon.
const PLAYLIST_SIZE: usize = 3;
/// How long a stream is watched: the window passes twice.
const WATCH: Duration = Duration::from_secs(14);
const RENDITIONS: [&str; 2] = ["video", "audio"];

#[test]
fn e2e_hls_holds_over_time() {
    let weir = Weir::start("dev", &[("PLAYLIST_SIZE", &PLAYLIST_SIZE.to_string())]);
    let mut player = Connection::open(weir.http_addr()).expect("weir accepts");
    wait_until("there is a playlist", PATIENCE, || {
        player
            .get("/live/demo/video/index.m3u8")
            .is_ok_and(|answer| answer.status == 200)
    });
    let options = Options {
        low_latency: false,
        lasts: WATCH,
    };
    for playlist in ["/live/demo/index.m3u8", "/live/demo/playlist.m3u8"] {
        let report = watch(weir.http_addr(), playlist, options);
        assert_eq!(report.problems, Vec::<String>::new(), "{playlist}");
        assert!(report.segments > PLAYLIST_SIZE, "{playlist}: {report:?}");
    }
}

#[test]
fn e2e_low_latency_hls_holds_over_time() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    let path = "/live/demo/video/index.m3u8";
    wait_until("there is a playlist", PATIENCE, || {
        weir.get(path).status == 200
    });
    let options = Options {
        low_latency: true,
        lasts: WATCH,
    };
    let report = watch(weir.http_addr(), "/live/demo/index.m3u8", options);
    assert_eq!(report.problems, Vec::<String>::new(), "{report:?}");
    assert!(report.parts > 60, "{report:?}");
    assert!(report.hints > 30, "{report:?}");
    assert_eq!(reload_table(weir.http_addr(), path), Vec::<String>::new());
}

#[test]
fn e2e_directives_are_ignored_after_the_end() {
    let dir = Dir::new("hls-ended");
    let source = dir.path().join("source.flv");
    let x264 = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 25 -c:a aac";
    let encoding = format!("{VIDEO}:rate=25 {AUDIO}:s=48000 {x264} -t 6");
    ffmpeg::encode(&encoding, &source);
    let weir = Weir::start("dev", &[("WEIR_LIMITS_PUBLISHER_GRACE", "1")]);
    let _push = ffmpeg::push(&source, &weir.rtmp_url("room"));
    let path = "/live/room/video/index.m3u8";
    wait_until("the stream ends", PATIENCE, || {
        weir.get(path).text().ends_with("#EXT-X-ENDLIST\n")
    });
    assert_eq!(ended_table(weir.http_addr(), path), Vec::<String>::new());
}

#[test]
fn e2e_hls_headers_suit_players_and_caches() {
    let weir = Weir::start("dev", &[]);
    let mut player = Connection::open(weir.http_addr()).expect("weir accepts");
    let [video, audio] = RENDITIONS.map(|rendition| {
        let path = format!("/live/demo/{rendition}/index.m3u8");
        let text = wait_for("there is a playlist", PATIENCE, || {
            let answer = player.get(&path).expect("weir answers");
            (answer.status == 200).then(|| answer.text())
        });
        let segment = Media::parse(&text).expect("it is good").segments.remove(0);
        (segment.uri, segment.map.expect("it is fMP4"))
    });
    let playlists = ["/live/demo/index.m3u8", "/live/demo/video/index.m3u8"];
    let objects = [
        (format!("/live/demo/video/{}", video.0), "video/iso.segment"),
        (format!("/live/demo/video/{}", video.1), "video/mp4"),
        (format!("/live/demo/audio/{}", audio.0), "audio/mp4"),
        (format!("/live/demo/audio/{}", audio.1), "audio/mp4"),
    ];
    for path in playlists {
        check_playlist_headers(&weir, path);
        check_cors(&weir, path);
    }
    for (path, media_type) in &objects {
        check_object_headers(&weir, path, media_type);
        check_cors(&weir, path);
    }
}

/// H19, H23, H26.
fn check_playlist_headers(weir: &Weir, path: &str) {
    let answer = get(weir, path, &[("Range", "bytes=0-3")]);
    assert_eq!(
        answer.status, 200,
        "nothing is gained by a range of a playlist: {path}"
    );
    let plain = [
        ("content-type", Some("application/vnd.apple.mpegurl")),
        ("cache-control", Some("no-cache")),
        ("vary", Some("Accept-Encoding")),
        ("content-encoding", None),
        ("last-modified", None),
    ];
    assert_headers(path, &answer, &plain);
    let answer = get(weir, path, &[("Accept-Encoding", "gzip")]);
    let compressed = [
        ("content-encoding", Some("gzip")),
        ("vary", Some("Accept-Encoding")),
    ];
    assert_headers(path, &answer, &compressed);
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--compressed",
        &weir.http_url(path),
    ]);
    let text = Process::start(curl).output(PATIENCE);
    assert!(text.starts_with("#EXTM3U\n"), "{text}");
}

/// H20, H21, H23.
fn check_object_headers(weir: &Weir, path: &str, media_type: &str) {
    let answer = get(weir, path, &[("Accept-Encoding", "gzip")]);
    assert_eq!(answer.status, 200, "{path}");
    let length = answer.body.len().to_string();
    let expected = [
        ("content-type", Some(media_type)),
        ("cache-control", Some("public, max-age=31536000, immutable")),
        ("content-encoding", None),
        ("content-length", Some(&*length)),
    ];
    assert_headers(path, &answer, &expected);
}

/// H24.
fn check_cors(weir: &Weir, path: &str) {
    let answer = get(weir, path, &[("Origin", "http://example.com")]);
    assert_headers(path, &answer, &[("access-control-allow-origin", Some("*"))]);
    let exposed = answer
        .header("access-control-expose-headers")
        .unwrap_or_default();
    for name in [
        "Date",
        "Age",
        "ETag",
        "Content-Length",
        "Content-Range",
        "Accept-Ranges",
    ] {
        assert!(
            exposed.split(", ").any(|known| known == name),
            "{path}: {exposed}"
        );
    }
    let answer = request(weir.http_addr(), "OPTIONS", path, &[]).expect("weir answers");
    assert_eq!(answer.status, 204, "{path}");
    assert_headers(path, &answer, &[("access-control-allow-origin", Some("*"))]);
    assert!(answer.header("access-control-max-age").is_some(), "{path}");
}

fn get(weir: &Weir, path: &str, headers: &[(&str, &str)]) -> Response {
    request(weir.http_addr(), "GET", path, headers).expect("weir answers")
}

#[track_caller]
fn assert_headers(path: &str, answer: &Response, expected: &[(&str, Option<&str>)]) {
    for (name, value) in expected {
        assert_eq!(answer.header(name), *value, "{path}: {name}");
    }
}
