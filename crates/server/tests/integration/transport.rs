//! MPEG-TS from outside: classic HLS and the endless HTTP-TS (CONFORMANCE section 9).

#[path = "../../../package/src/ts/check.rs"]
mod check;

use std::{
    fs,
    io::{self, Read as _},
    process::Command,
    thread,
};

use crate::support::{
    Dir, PATIENCE, Weir,
    ffmpeg::{self, AUDIO, VIDEO},
    http,
    process::Process,
    wait_for, wait_until,
};

#[test]
fn e2e_ts_without_end_obeys_every_rule() {
    let dir = Dir::new("ts-without-end");
    let source = dir.path().join("source.flv");
    let x264 = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 25 -c:a aac";
    ffmpeg::encode(
        &format!("{VIDEO}:rate=25 {AUDIO}:s=48000 {x264} -t 8"),
        &source,
    );
    let weir = Weir::start("dev", &[("WEIR_LIMITS_PUBLISHER_GRACE", "1")]);
    let _push = ffmpeg::push(&source, &weir.rtmp_url("room"));
    weir.wait_until_live("room");
    for path in ["/live/room.ts", "/room.ts"].map(|path| {
        let answer = http::open(weir.http_addr(), "GET", path, &[]).expect("weir answers");
        (path, answer)
    }) {
        let (path, mut answer) = path;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), Some("video/mp2t"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let mut bytes = Vec::new();
        answer
            .body
            .read_to_end(&mut bytes)
            .expect("the stream ends in order");
        let report = check::check(&bytes, false).expect(path);
        assert!(report.video.len() > 100, "{} pictures", report.video.len());
        assert!(
            report
                .video
                .first()
                .is_some_and(|first| first.random_access),
            "it starts at a key frame"
        );
        assert!(!report.audio.is_empty());
        assert_eq!(report.service.as_deref(), Some("room"));
    }
}

#[test]
fn e2e_ts_segments_are_made_when_asked_for_and_fit_together() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    let multivariant = weir.get("/live/demo/playlist.m3u8");
    assert_eq!(multivariant.status, 200);
    let multivariant = multivariant.text();
    let variant = multivariant.lines().last().expect("a variant");
    assert!(variant.starts_with("ts.m3u8?hls_ctx="), "{multivariant}");
    let media = wait_for("three segments", PATIENCE, || {
        let media = weir.get(&format!("/live/demo/{variant}")).text();
        (media.matches(".ts\n").count() >= 3).then_some(media)
    });
    assert!(
        !media.contains("EXT-X-MAP") && media.contains("#EXT-X-VERSION:3\n"),
        "{media}"
    );
    let mut whole = Vec::new();
    for name in media.lines().filter(|line| line.ends_with(".ts")) {
        let segment = weir.get(&format!("/live/demo/{name}"));
        assert_eq!(segment.status, 200, "{name}");
        assert_eq!(segment.header("content-type"), Some("video/mp2t"));
        assert_eq!(
            segment.header("cache-control"),
            Some("public, max-age=31536000, immutable")
        );
        check::check_segment(&segment.body).expect(name);
        whole.extend(segment.body);
    }
    check::check(&whole, false).expect("segments one after the other are one stream");
    decode_with_gstreamer(&whole);
    for name in ["0-1.ts", "1.ts", "x-1.ts"] {
        assert_eq!(
            weir.get(&format!("/live/demo/{name}")).status,
            404,
            "{name}"
        );
    }
}

#[test]
fn e2e_every_prefix_leads_to_media() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    for (playlist, extension) in [
        ("/live/demo/index.m3u8", ".m4s"),
        ("/live/demo/playlist.m3u8", ".ts"),
        ("/api/v1/hls/demo/playlist.m3u8", ".ts"),
        ("/api/v1/hls/demo/index.m3u8", ".m4s"),
        ("/streams/demo/playlist.m3u8", ".m4s"),
    ] {
        let base = playlist.rsplit_once('/').expect("a folder").0;
        let multivariant = weir.get(playlist).text();
        let variant = multivariant.lines().last().expect("a variant");
        let media_path = format!("{base}/{variant}");
        let media = weir.get(&media_path).text();
        let mut lines = media.lines();
        let name = lines.rfind(|line| !line.starts_with('#'));
        let name = name.expect("a segment");
        assert!(name.ends_with(extension), "{playlist}: {media}");
        let folder = media_path.rsplit_once('/').expect("a folder").0;
        assert_eq!(
            weir.get(&format!("{folder}/{name}")).status,
            200,
            "{folder}/{name}"
        );
    }
}

#[test]
fn e2e_ts_is_decoded_without_complaint() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    for path in ["/live/demo/playlist.m3u8", "/live/demo.ts"] {
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-xerror", "-err_detect", "explode", "-i"]);
        ffmpeg
            .arg(weir.http_url(path))
            .args(["-t", "5", "-f", "null", "-"]);
        let ffmpeg = Process::start(ffmpeg);
        assert!(
            ffmpeg.wait(PATIENCE).success(),
            "{path}: {}",
            ffmpeg.stderr()
        );
        assert_eq!(ffmpeg.stderr(), "", "{path}");
    }
}

#[test]
fn e2e_gstreamer_plays_http_ts() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    // Ends after two seconds of pictures.
    let pipeline = format!(
        "souphttpsrc location={} ! tsdemux ! h264parse ! avdec_h264 ! identity eos-after=60 ! fakesink sync=false",
        weir.http_url("/live/demo.ts")
    );
    let mut gstreamer = Command::new("gst-launch-1.0");
    gstreamer.arg("-q").args(pipeline.split_whitespace());
    let gstreamer = Process::start(gstreamer);
    assert!(gstreamer.wait(PATIENCE).success(), "{}", gstreamer.stderr());
    assert_eq!(gstreamer.stderr(), "");
}

/// tstools know nothing of us. What they say of a jump that is flagged is their interpolation across it.
#[test]
fn e2e_tsreport_has_nothing_to_say_of_a_minute_with_a_reconnect() {
    const FPS: u64 = 25;
    const SECONDS: u64 = 32;
    let dir = Dir::new("tsreport");
    let (source, record) = (dir.path().join("source.flv"), dir.path().join("record.ts"));
    let x264 = "-c:v libx264 -preset ultrafast -bf 2 -pix_fmt yuv420p -g 50 -c:a aac";
    ffmpeg::encode(
        &format!("{VIDEO}:rate={FPS} {AUDIO}:s=48000 {x264} -t {SECONDS}"),
        &source,
    );
    let weir = Weir::start("dev", &[("WEIR_LIMITS_PUBLISHER_GRACE", "3")]);
    let first = ffmpeg::push(&source, &weir.rtmp_url("room"));
    weir.wait_until_live("room");
    let mut answer = http::open(weir.http_addr(), "GET", "/live/room.ts", &[]).expect("an answer");
    let recording = thread::spawn({
        let record = record.clone();
        move || {
            let mut file = fs::File::create(record).expect("the disk takes it");
            io::copy(&mut answer.body, &mut file).expect("the stream ends in order")
        }
    });
    let frames = || weir.stream("room").and_then(|row| row["frames"].as_u64());
    // Pictures and about twice as many packets of sound.
    wait_until("half a minute", PATIENCE * 2, || {
        frames() > Some(3 * FPS * (SECONDS - 2))
    });
    drop(first);
    let second = ffmpeg::push(&source, &weir.rtmp_url("room"));
    second.output(PATIENCE * 2);
    recording.join().expect("it is recorded");

    let mut tsreport = Command::new("tsreport");
    tsreport.arg("-buffering").arg(&record);
    let report = Process::start(tsreport).output(PATIENCE);
    let lines = |of: &str| report.lines().filter(|line| line.contains(of)).count();
    // None when the publisher was back at once.
    let flagged = lines("Discontinuity flags: *1");
    let jump = lines("!!! PCR gap") + lines("): DTS (");
    assert_eq!(lines("Discontinuity flags"), flagged, "{report}");
    let summary = usize::from(report.contains("### DTS < PCR *"));
    assert!(jump <= 2 * flagged, "{report}");
    assert_eq!(lines("!!!") + lines("###"), jump + summary, "{report}");
    let pictures = report.lines().find_map(|line| {
        let count = line.trim().strip_prefix("Mean difference (of ")?;
        count.split(')').next()?.parse::<u64>().ok()
    });
    assert!(pictures > Some(58 * FPS), "{report}");
}

/// GStreamer decodes pictures and sound to the end.
fn decode_with_gstreamer(stream: &[u8]) {
    let dir = Dir::new("ts-gstreamer");
    let file = dir.path().join("stream.ts");
    fs::write(&file, stream).expect("the disk takes it");
    let pipeline = format!(
        "filesrc location={} ! tsdemux name=d d. ! queue ! h264parse ! avdec_h264 ! fakesink sync=false \
         d. ! queue ! aacparse ! avdec_aac ! fakesink sync=false",
        file.display()
    );
    let mut gstreamer = Command::new("gst-launch-1.0");
    gstreamer.arg("-q").args(pipeline.split_whitespace());
    let gstreamer = Process::start(gstreamer);
    assert!(
        gstreamer.wait(PATIENCE).success(),
        "GStreamer: {}",
        gstreamer.stderr()
    );
}
