//! HTTP-FLV as bytes: what players that are stricter than FFmpeg stumble over (CONFORMANCE V1–V5, V8).

mod checker;
mod websocket;

use std::io::Read as _;

use crate::support::{
    Dir, PATIENCE, Weir,
    ffmpeg::{self, AUDIO, VIDEO},
    http::{open, request},
};
use checker::Tracks;

/// Some seconds of the demo stream.
const DEMO_LEN: u64 = 100_000;

#[test]
fn e2e_flv_of_a_running_stream_is_well_formed() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    for path in ["/live/demo.flv", "/demo.flv", "/live/demo.flv?unknown=1"] {
        let answer = open(
            weir.http_addr(),
            "GET",
            path,
            &[("Accept-Encoding", "gzip")],
        );
        let answer = answer.expect("weir answers");
        assert_eq!(answer.status, 200, "{path}");
        for (name, value) in [
            ("content-type", Some("video/x-flv")),
            ("cache-control", Some("no-store")),
            ("access-control-allow-origin", Some("*")),
            ("content-encoding", None),
        ] {
            assert_eq!(answer.header(name), value, "{path} {name}");
        }
        let mut bytes = Vec::new();
        answer
            .body
            .take(DEMO_LEN)
            .read_to_end(&mut bytes)
            .expect("the stream goes on");
        let tracks = checker::check_start(&bytes).expect(path);
        assert_eq!(
            tracks,
            Tracks {
                video: true,
                audio: true
            }
        );
    }
}

#[test]
fn e2e_flv_names_only_tracks_that_exist_and_ends_with_a_whole_tag() {
    let x264 = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 25";
    for (arguments, tracks) in [
        (
            format!("{VIDEO}:rate=25 {x264}"),
            Tracks {
                video: true,
                audio: false,
            },
        ),
        (
            format!("{AUDIO}:s=44100 -c:a aac"),
            Tracks {
                video: false,
                audio: true,
            },
        ),
        (
            format!("{VIDEO}:rate=25 {AUDIO}:s=48000 {x264} -c:a aac"),
            Tracks {
                video: true,
                audio: true,
            },
        ),
    ] {
        let dir = Dir::new("flv");
        let file = dir.path().join("source.flv");
        ffmpeg::encode(&format!("{arguments} -t 4"), &file);
        let weir = Weir::start("dev", &[("WEIR_LIMITS_PUBLISHER_GRACE", "0")]);
        let publisher = ffmpeg::push(&file, &weir.rtmp_url("source"));
        weir.wait_until_live("source");
        let mut answer =
            open(weir.http_addr(), "GET", "/live/source.flv", &[]).expect("weir answers");
        let mut bytes = Vec::new();
        // A reset instead of the end would be an error here.
        answer
            .body
            .read_to_end(&mut bytes)
            .expect("the response ends as it should");
        assert_eq!(checker::check_whole(&bytes), Ok(tracks), "{arguments}");
        publisher.output(PATIENCE);
    }
}

#[test]
fn e2e_flv_head_is_headers_alone() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    for path in ["/live/demo.flv", "/demo.flv"] {
        let answer = request(weir.http_addr(), "HEAD", path, &[]).expect("weir answers and closes");
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some("video/x-flv"))
        );
        assert_eq!(answer.body, b"", "{path}");
    }
    let viewers = weir.stream("demo").map(|row| row["viewers"].clone());
    assert_eq!(
        viewers,
        Some(0.into()),
        "who only asks for headers does not watch"
    );
}
