//! DASH over HTTP and in players: manifests, the clock, the open segment (CONFORMANCE section 3).

mod manifest;

use std::{io::Read as _, process::Command, thread, time::Duration};

use serde_json::Value;

use crate::{
    mpd_watch::{Options, watch},
    support::{
        Dir, PATIENCE, Weir,
        ffmpeg::{self, AUDIO, VIDEO},
        ffprobe,
        http::{self, Response, request},
        player::{self, kept_file},
        process::Process,
        wait_for,
    },
};
use manifest::Manifest;

/// How long a stream is watched: the window passes twice.
const WATCH: Duration = Duration::from_secs(14);
/// How long players play here.
const PLAYED_S: u64 = 30;
/// A player that only fetched complete segments would be further behind.
const LOW_LATENCY_MS_MAX: f64 = 4_000.0;

#[test]
fn e2e_dash_holds_over_time() {
    for (low_latency, switch) in [(true, "true"), (false, "false")] {
        let environment = [("PLAYLIST_SIZE", "3"), ("LOW_LATENCY_HLS", switch)];
        let weir = Weir::start("dev", &environment);
        wait_for_manifest(&weir, "demo");
        let options = Options {
            low_latency,
            lasts: WATCH,
        };
        let report = watch(weir.http_addr(), "/live/demo/manifest.mpd", options);
        assert_eq!(report.problems, Vec::<String>::new(), "{switch}");
        assert!(report.segments > 8 && report.versions > 4, "{report:?}");
    }
}

#[test]
fn e2e_manifests_suit_players_and_caches() {
    let weir = Weir::start("dev", &[]);
    let manifest = wait_for_manifest(&weir, "demo");
    assert_eq!(manifest.attribute("type"), "dynamic");
    for path in ["/live/demo/manifest.mpd", "/streams/demo/manifest.mpd"] {
        let answer = weir.get(path);
        for (name, value) in [
            ("content-type", Some("application/dash+xml")),
            ("cache-control", Some("no-cache")),
            ("vary", Some("Accept-Encoding")),
            ("access-control-allow-origin", Some("*")),
            ("content-encoding", None),
        ] {
            assert_eq!(answer.header(name), value, "{path} {name}");
        }
        let compressed = ask(&weir, "GET", path, &[("Accept-Encoding", "gzip")]);
        assert_eq!(compressed.header("content-encoding"), Some("gzip"));
        let preflight = ask(&weir, "OPTIONS", path, &[]);
        assert_eq!(preflight.status, 204, "{path}");
    }
    // It may become another one at any moment, but not each time.
    wait_for("a manifest that is known", PATIENCE, || {
        let etag = weir.get("/live/demo/manifest.mpd");
        let etag = etag.header("etag").expect("a tag").to_owned();
        let path = "/live/demo/manifest.mpd";
        let again = ask(&weir, "GET", path, &[("If-None-Match", &etag)]);
        (again.status == 304).then_some(())
    });
    let redirect = weir.get("/live/demo.mpd");
    assert_eq!(redirect.status, 302);
    let location = redirect.header("location").expect("a location");
    assert!(
        location.starts_with("/live/demo/manifest.mpd?hls_ctx="),
        "{location}"
    );
    assert_eq!(weir.get(location).status, 200);
    assert_eq!(weir.get("/live/nothing/manifest.mpd").status, 404);
    let viewers = weir.stream("demo").expect("it is live")["viewers_by_protocol"].clone();
    // One by its session, one by its address.
    assert_eq!(viewers, serde_json::json!({"dash": 2}));
}

#[test]
fn e2e_the_clock_is_told() {
    let weir = Weir::start("dev", &[]);
    for method in ["GET", "HEAD"] {
        let answer = ask(&weir, method, "/time", &[]);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert!(answer.header("date").is_some());
        let exposed = answer.header("access-control-expose-headers");
        assert!(exposed.is_some_and(|exposed| exposed.contains("Date")));
    }
    let (before, told) = (player::wall_ms(), weir.get("/time").text());
    let mut date = Command::new("date");
    date.args(["--utc", "+%s%3N", "--date", &told]);
    let told_ms: i64 = Process::start(date)
        .output(PATIENCE)
        .trim()
        .parse()
        .unwrap_or_else(|_| panic!("not a time: {told}"));
    assert!(told.ends_with('Z') && told.contains('.'), "{told}");
    assert!((before..=player::wall_ms()).contains(&told_ms), "{told}");
}

#[test]
fn e2e_every_announced_segment_is_there() {
    let weir = Weir::start("dev", &[]);
    let manifest = wait_for_manifest(&weir, "demo");
    for track in &manifest.tracks {
        let init = weir.get(&format!("/live/demo/{}", track.init));
        assert_eq!(init.status, 200, "{}", track.init);
        assert_eq!(&init.body[4..8], b"ftyp");
        let complete = &track.segments[..track.segments.len() - 1];
        for name in complete {
            let segment = weir.get(&format!("/live/demo/{name}"));
            assert_eq!(segment.status, 200, "{name}");
            let cached = segment.header("cache-control");
            assert_eq!(cached, Some("public, max-age=31536000, immutable"));
            let part = ask(
                &weir,
                "GET",
                &format!("/live/demo/{name}"),
                &[("Range", "bytes=4-7")],
            );
            assert_eq!((part.status, &part.body[..]), (206, &b"styp"[..]), "{name}");
        }
        let wrong = track.segments[0].replace(".m4s", "1.m4s");
        assert_eq!(weir.get(&format!("/live/demo/{wrong}")).status, 404);
    }
}

#[test]
fn e2e_the_open_segment_comes_as_it_is_made() {
    let weir = Weir::start("dev", &[]);
    wait_for_manifest(&weir, "demo");
    let (path, mut growing) = open_segment(&weir, "demo");
    for (name, value) in [
        ("content-type", Some("video/iso.segment")),
        ("cache-control", Some("public, max-age=31536000, immutable")),
        ("transfer-encoding", Some("chunked")),
        ("accept-ranges", Some("none")),
        ("access-control-allow-origin", Some("*")),
    ] {
        assert_eq!(growing.header(name), value, "{name}");
    }
    // What is there already comes at once, and says nothing of the rest.
    let mut first = [0; 8];
    growing.body.read_exact(&mut first).expect("its first part");
    assert_eq!(&first[4..], b"styp");
    let range = [("Range", "bytes=0-3")];
    for (method, headers) in [("HEAD", &[][..]), ("GET", &range[..])] {
        let answer = http::open(weir.http_addr(), method, &path, headers).expect("weir answers");
        // It may have become complete meanwhile.
        let open = answer.header("accept-ranges") == Some("none");
        assert!(!open || (answer.status == 200 && answer.header("content-length").is_none()));
    }
    let mut bytes = first.to_vec();
    growing.body.read_to_end(&mut bytes).expect("its end");
    let complete = weir.get(&path);
    assert!(complete.header("etag").is_some(), "it is complete");
    assert!(complete.body == bytes, "the same bytes either way");
}

#[test]
fn e2e_a_run_ends_with_a_static_manifest() {
    let dir = Dir::new("dash");
    let file = source(&dir, 9);
    let weir = Weir::start("dev", &[("WEIR_LIMITS_PUBLISHER_GRACE", "1")]);
    let publisher = ffmpeg::push_forever(&file, &weir.rtmp_url("source"));
    wait_for_manifest(&weir, "source");
    let (path, mut growing) = open_segment(&weir, "source");
    drop(publisher);
    let mut bytes = Vec::new();
    growing
        .body
        .read_to_end(&mut bytes)
        .expect("what is open when the publisher leaves becomes complete");
    assert!(weir.get(&path).body == bytes);
    let manifest = wait_for("the manifest of an ended run", PATIENCE, || {
        let manifest = Manifest::parse(&weir.get("/live/source/manifest.mpd").text());
        (manifest.attribute("type") == "static").then_some(manifest)
    });
    assert!(manifest.has("mediaPresentationDuration"));
    assert!(!manifest.has("minimumUpdatePeriod"));
    let newest = manifest.tracks[0].segments.last().expect("a segment");
    assert_eq!(path, format!("/live/source/{newest}"));
}

/// Another picture after a pause: the segments of both are there, each in its Period.
#[test]
fn e2e_a_publisher_that_returns_begins_a_period() {
    let dir = Dir::new("dash");
    let [before, after] =
        [("160x90", "before.flv"), ("320x180", "after.flv")].map(|(size, file)| {
            let file = dir.path().join(file);
            let x264 = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 50";
            let tracks = format!("-f lavfi -i testsrc2=size={size}:rate=25 {AUDIO}:s=48000 {x264}");
            ffmpeg::encode(&format!("{tracks} -c:a aac -t 30"), &file);
            file
        });
    let weir = Weir::start("dev", &[]);
    let first = ffmpeg::push(&before, &weir.rtmp_url("source"));
    wait_for_manifest(&weir, "source");
    let path = "/live/source/manifest.mpd";
    let options = Options {
        low_latency: true,
        lasts: WATCH,
    };
    let (report, periods) = thread::scope(|scope| {
        let watching = scope.spawn(|| watch(weir.http_addr(), path, options));
        drop(first);
        let again = ffmpeg::push(&after, &weir.rtmp_url("source"));
        let periods = wait_for("a second Period", PATIENCE, || {
            let text = weir.get(path).text();
            let periods = text.matches("<Period ").count();
            (periods > 1).then_some((periods, text.matches("<AdaptationSet ").count()))
        });
        let report = watching.join().expect("it watches to its end");
        drop(again);
        (report, periods)
    });
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(periods, (2, 4), "Periods, and tracks in both");
}

/// Frames with pictures out of order, whose times the manifest tells in presentation time.
#[test]
fn e2e_ffmpeg_plays_the_manifest() {
    let dir = Dir::new("dash");
    let file = source(&dir, 30);
    let pushed = ffprobe::start(file.to_str().expect("UTF-8")).output(PATIENCE);
    let pushed = ffprobe::packets(&pushed);
    let weir = Weir::start("dev", &[]);
    let publisher = ffmpeg::push(&file, &weir.rtmp_url("source"));
    wait_for_manifest(&weir, "source");
    let url = weir.http_url("/live/source/manifest.mpd");
    // It goes beyond what is there when it begins: faster than the stream, it meets the open segment again and again.
    let played = ffprobe::start_within(&url, "%+14").output(PATIENCE);
    let played = ffprobe::packets(&played);
    for kind in [ffprobe::Kind::Video, ffprobe::Kind::Audio] {
        let of_kind = |packets: &[ffprobe::Packet]| -> Vec<String> {
            let of_kind = packets.iter().filter(|packet| packet.kind == kind);
            of_kind.map(|packet| packet.hash.clone()).collect()
        };
        let (pushed, played) = (of_kind(&pushed), of_kind(&played));
        assert!(played.len() > 200, "{kind:?}: {}", played.len());
        let start = pushed.iter().position(|hash| *hash == played[0]);
        let start = start.expect("it was pushed");
        assert!(
            pushed[start..].starts_with(&played),
            "{kind:?}: every packet once, in order"
        );
    }
    drop(publisher);
}

#[test]
fn e2e_dash_js_plays_with_low_latency() {
    let seen = play("dashjs", &["--low-latency"], "dash-js.png");
    let latency_ms = seen["latencyMs"]["p50"].as_f64().expect("a latency");
    assert!(latency_ms < LOW_LATENCY_MS_MAX, "{seen}");
}

#[test]
fn e2e_shaka_player_plays() {
    play("shaka", &[], "shaka.png");
}

#[test]
fn e2e_shaka_player_plays_with_low_latency() {
    play("shaka", &["--low-latency"], "shaka-low-latency.png");
}

/// Plays `demo` in a browser: no errors, no stalls, nothing that is refused and nothing that is fetched twice.
fn play(player: &str, arguments: &[&str], screenshot: &str) -> Value {
    let weir = Weir::start("dev", &[]);
    wait_for_manifest(&weir, "demo");
    let file = kept_file(screenshot);
    let url = weir.http_url("/live/demo/manifest.mpd");
    let seconds = PLAYED_S.to_string();
    let file = file.to_str().expect("UTF-8");
    let mut all = vec![
        "--player",
        player,
        "--seconds",
        &seconds,
        "--screenshot",
        file,
    ];
    all.extend(arguments);
    let seen = player::play_dash(&url, &all);
    assert_eq!(seen["errors"], Value::Array(Vec::new()), "{seen}");
    assert_eq!(seen["refusals"], Value::Array(Vec::new()), "{seen}");
    assert_eq!(
        (&seen["stalls"], &seen["repeated"]),
        (&0.into(), &0.into()),
        "{seen}"
    );
    let advanced_s = seen["advancedS"].as_f64().expect("seconds");
    assert!(advanced_s > PLAYED_S as f64 * 0.9, "{seen}");
    seen
}

/// B-frames, a key frame every two seconds, sound.
fn source(dir: &Dir, seconds: u32) -> std::path::PathBuf {
    let file = dir.path().join("source.flv");
    let x264 = "-c:v libx264 -preset veryfast -bf 3 -b_strategy 0 -pix_fmt yuv420p -sc_threshold 0";
    let tracks = format!("{VIDEO}:rate=25 {AUDIO}:s=48000 {x264} -g 50 -c:a aac");
    ffmpeg::encode(&format!("{tracks} -t {seconds}"), &file);
    file
}

fn wait_for_manifest(weir: &Weir, name: &str) -> Manifest {
    weir.wait_until_live(name);
    wait_for("a manifest", PATIENCE, || {
        let answer = weir.get(&format!("/live/{name}/manifest.mpd"));
        (answer.status == 200).then(|| Manifest::parse(&answer.text()))
    })
}

/// The path of the open segment of the picture, and the answer to a request for it.
fn open_segment(weir: &Weir, name: &str) -> (String, http::Streaming) {
    wait_for("an open segment", PATIENCE + Duration::from_secs(1), || {
        let manifest = weir.get(&format!("/live/{name}/manifest.mpd")).text();
        let newest = Manifest::parse(&manifest).tracks[0].segments.pop();
        let path = format!("/live/{name}/{}", newest.expect("a segment"));
        let answer = http::open(weir.http_addr(), "GET", &path, &[]).expect("weir answers");
        assert_eq!(answer.status, 200, "what is announced is there: {path}");
        let is_open = answer.header("content-length").is_none();
        is_open.then_some((path, answer))
    })
}

fn ask(weir: &Weir, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    request(weir.http_addr(), method, path, headers).expect("weir answers")
}
