//! How the server stops: viewers see the end of their stream instead of a broken connection (DESIGN 7).

use std::{
    io::{self, Read as _},
    net::TcpStream,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    PATIENCE, Weir, accepts, ffmpeg, ffprobe,
    http::{self, Connection},
    rtmp, wait_for, wait_until,
};

/// How much longer than its grace a stop may take on a busy machine.
const SLACK: Duration = Duration::from_secs(5);

fn start_with_grace(seconds: &str) -> Weir {
    let weir = Weir::start("dev", &[("WEIR_SERVER_SHUTDOWN_GRACE", seconds)]);
    weir.wait_until_live("demo");
    weir
}

#[test]
fn e2e_a_stop_shows_every_viewer_the_end() {
    let weir = start_with_grace("10");
    let sample = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/demo.flv"
    ));
    let publisher = ffmpeg::push_forever(sample, &weir.rtmp_url("room"));
    weir.wait_until_live("room");
    let ffplay = ffprobe::start(&weir.rtmp_url("demo"));
    let flv = http::open(weir.http_addr(), "GET", "/live/demo.flv", &[]).expect("weir answers");
    let flv = thread::spawn(move || -> io::Result<usize> {
        let mut bytes = Vec::new();
        let mut body = flv.body;
        body.read_to_end(&mut bytes)
    });
    let socket = TcpStream::connect(weir.rtmp_addr()).expect("weir accepts");
    let mut player = rtmp::Client::play(socket, "demo").expect("weir plays");
    let player = thread::spawn(move || player.until_closed());
    let mut hls = Connection::open(weir.http_addr()).expect("weir answers");
    let media = media_playlist(&mut hls);
    hls.get(&media).expect("weir answers");
    let watching = || weir.stream("demo").is_some_and(|row| row["viewers"] == 4);
    wait_until("all four watch", PATIENCE, watching);

    let asked = Instant::now();
    weir.terminate();
    wait_until("no connection is accepted", PATIENCE, || {
        !accepts(weir.http_addr()) && !accepts(weir.rtmp_addr())
    });
    wait_until("the playlist ends", Duration::from_secs(8), || {
        let playlist = hls.get(&media).expect("the connection stays open").text();
        playlist.ends_with("#EXT-X-ENDLIST\n")
    });
    let flv = flv.join().expect("no panic");
    assert!(flv.expect("the response ends, and the connection is not reset") > 0);
    assert!(!ffprobe::packets(&ffplay.output(PATIENCE)).is_empty());
    let told = player
        .join()
        .expect("no panic")
        .expect("the connection is not reset");
    let told = told.expect("a player is told").code;
    assert_eq!(told, "NetStream.Play.UnpublishNotify");
    publisher.wait(PATIENCE);
    let told = publisher.stderr();
    assert!(
        told.contains("Server error: the server is shutting down\n"),
        "{told}"
    );
    assert!(weir.wait(PATIENCE).success());
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(10) + SLACK, "{took:?}");
}

#[test]
fn e2e_a_stop_waits_for_nobody_when_nobody_watches() {
    let weir = start_with_grace("3600");
    weir.terminate();
    assert!(weir.wait(PATIENCE).success());
    assert!(weir.log().contains("\"stopped\""), "{}", weir.log());
}

#[test]
fn e2e_a_second_signal_stops_at_once() {
    let weir = start_with_grace("3600");
    // Who asked for a playlist counts as a viewer for a while.
    let mut hls = Connection::open(weir.http_addr()).expect("weir answers");
    let media = media_playlist(&mut hls);
    hls.get(&media).expect("weir answers");
    weir.terminate();
    wait_until("weir stops", PATIENCE, || {
        weir.log().contains("a second signal stops at once")
    });
    weir.terminate();
    assert!(weir.wait(PATIENCE).success());
    assert!(
        weir.log().contains("stopped without waiting"),
        "{}",
        weir.log()
    );
}

/// The path of the media playlist of the demo's pictures, with a session of its own.
fn media_playlist(hls: &mut Connection) -> String {
    let playlist = wait_for("the demo has a playlist", PATIENCE, || {
        let answer = hls.get("/live/demo/index.m3u8").expect("weir answers");
        (answer.status == 200).then(|| answer.text())
    });
    let uri = playlist.lines().find(|line| line.starts_with("video/"));
    format!("/live/demo/{}", uri.expect("it lists the pictures"))
}
