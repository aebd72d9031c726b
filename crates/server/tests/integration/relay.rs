//! Streams pushed on to other servers: another Weir, nginx, and targets that refuse, hang or die.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    Dir, PATIENCE, Weir,
    ffmpeg::{self, AUDIO, VIDEO},
    flv::{Kind, Viewer},
    free_addr,
    nginx::Nginx,
    rtmp, wait_for, wait_until,
};

const SECRET: &str = "2fd4e1c67a2d28fc";
/// Nothing between two pictures of the demo stream, at 30 pictures a second, is longer.
const PICTURE_GAP_MS_MAX: u32 = 100;

/// The relay of a stream to a target, once it is in this state.
fn wait_for_relay(weir: &Weir, target: &str, state: &str) -> Value {
    let what = format!("the relay to {target} is {state}");
    wait_for(&what, PATIENCE, || {
        let status = weir.status();
        let mut rows = status["relays"].as_array()?.iter();
        let row = rows.find(|row| row["target"] == target && row["state"] == state);
        row.cloned()
    })
}

fn videos(viewer: &Viewer) -> Vec<u32> {
    let tags = viewer.tags().into_iter();
    let pictures = tags.filter(|tag| matches!(tag.kind, Kind::KeyFrame | Kind::InterFrame));
    pictures.map(|tag| tag.timestamp_ms).collect()
}

fn wait_for_more(viewer: &Viewer, frames: usize) {
    let before = videos(viewer).len();
    wait_until("frames come", PATIENCE, || {
        videos(viewer).len() >= before + frames
    });
}

#[test]
fn e2e_a_relayed_stream_is_the_same_packet_by_packet() {
    let no_grace = ("WEIR_LIMITS_PUBLISHER_GRACE", "0");
    let keys = format!("room={SECRET}");
    let to = Weir::start("serve", &[("WEIR_AUTH_PUBLISH_KEYS", &keys), no_grace]);
    let target = format!("room=rtmp://{}/live/{{name}}?key={SECRET}", to.rtmp_addr());
    let from = Weir::start("dev", &[("WEIR_RELAY", &target), no_grace]);
    let dir = Dir::new("relay");
    let file = dir.path().join("source.flv");
    let encoder = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -c:a aac";
    ffmpeg::encode(
        &format!("{VIDEO}:rate=25 {AUDIO}:s=48000 {encoder} -t 4"),
        &file,
    );
    let publisher = ffmpeg::push(&file, &from.rtmp_url("room"));
    from.wait_until_live("room");
    let here = Viewer::open(from.http_addr(), "/live/room.flv");
    to.wait_until_live("room");
    let there = Viewer::open(to.http_addr(), "/live/room.flv");

    let shown = format!("rtmp://{}/live/…", to.rtmp_addr());
    let row = wait_for_relay(&from, &shown, "publishing");
    assert_eq!(
        (&row["stream"], &row["reason"]),
        (&json!("room"), &Value::Null)
    );
    let viewers = from
        .stream("room")
        .map(|row| row["viewers_by_protocol"].clone());
    assert_eq!(
        viewers,
        Some(json!({"http-flv": 1})),
        "a relay is no viewer"
    );
    assert!(!from.status().to_string().contains(SECRET));

    publisher.output(PATIENCE);
    let packets = |viewer: &Viewer| {
        wait_until("the stream ends", PATIENCE, || viewer.end().is_some());
        let tags = viewer.tags().into_iter();
        let media = tags.filter(|tag| tag.kind != Kind::Script);
        media.map(|tag| (tag.kind, tag.hash)).collect::<Vec<_>>()
    };
    let packets = (packets(&here), packets(&there));
    assert!(packets.0.len() > 4 * 25, "{}", packets.0.len());
    assert_eq!(packets.0, packets.1);
    wait_until("the relay is over", PATIENCE, || {
        from.status()["relays"] == json!([])
    });
    for message in ["relay started", "relay stopped"] {
        assert_eq!(from.log().matches(message).count(), 1, "{}", from.log());
    }
    assert!(!from.log().contains(SECRET), "{}", from.log());
}

#[test]
fn e2e_a_target_that_dies_is_found_again_and_no_viewer_notices() {
    let addr = free_addr();
    let addr_text = addr.to_string();
    let to = || Weir::start("dev", &[("RTMP_ADDR", addr_text.as_str())]);
    let first = to();
    let target = format!("demo=rtmp://{addr}/live/copy");
    let from = Weir::start("dev", &[("WEIR_RELAY", &target)]);
    let viewer = Viewer::open(from.http_addr(), "/live/demo.flv");
    first.wait_until_live("copy");
    first.kill();
    let shown = format!("rtmp://{addr}/live/…");
    let failed = wait_for_relay(&from, &shown, "failed");
    assert!(failed["reason"].is_string(), "{failed}");
    wait_for_more(&viewer, 30);
    let second = to();
    second.wait_until_live("copy");
    assert_eq!(
        wait_for_relay(&from, &shown, "publishing")["reason"],
        Value::Null
    );
    wait_for_more(&viewer, 30);
    let times = videos(&viewer);
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(gaps.max() <= Some(PICTURE_GAP_MS_MAX), "{times:?}");
    from.terminate();
    assert!(from.wait(PATIENCE).success());
    assert_eq!(
        from.log().matches("relay stopped").count(),
        1,
        "{}",
        from.log()
    );
}

#[test]
fn e2e_targets_that_refuse_or_hang_say_so_and_stop_nobody() {
    let refuses = Weir::start("serve", &[]);
    let hangs = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let hangs_addr = hangs.local_addr().expect("it is bound");
    let own = free_addr();
    let away = free_addr();
    let targets = [refuses.rtmp_addr(), hangs_addr, own, away]
        .map(|addr| format!("*=rtmp://{addr}/live/{{name}}-copy?key={SECRET}"));
    let own_text = own.to_string();
    let from = Weir::start(
        "dev",
        &[
            ("WEIR_RELAY", &targets.join(",")),
            ("WEIR_LIMITS_HANDSHAKE_TIMEOUT", "1"),
            ("RTMP_ADDR", &own_text),
        ],
    );
    let viewer = Viewer::open(from.http_addr(), "/live/demo.flv");
    for (addr, reason) in [
        (
            refuses.rtmp_addr(),
            "the target refused: publishing to this stream needs its key",
        ),
        (hangs_addr, "the target did not answer within 1 s"),
        (own, "the target is this server itself"),
        (away, "cannot connect to the target: Connection refused"),
    ] {
        let row = wait_for_relay(&from, &format!("rtmp://{addr}/live/…"), "failed");
        let shown = row["reason"].as_str().unwrap_or_default();
        assert!(shown.contains(reason), "{shown}");
        assert!(from.log().contains(reason), "{}", from.log());
    }
    wait_for_more(&viewer, 30);
    let printed = [from.log(), from.status().to_string()].concat();
    assert!(!printed.contains(SECRET), "{printed}");
    let stopping = Instant::now();
    from.terminate();
    assert!(from.wait(PATIENCE).success());
    assert!(
        stopping.elapsed() < Duration::from_secs(8),
        "relays that wait end at once"
    );
}

#[test]
fn e2e_a_target_that_stops_reading_slows_nobody() {
    let to = Weir::start("dev", &[]);
    let target = format!("room=rtmp://{}/live/room", to.rtmp_addr());
    let stall = ("WEIR_LIMITS_WRITE_STALL_TIMEOUT", "1");
    let from = Weir::start("dev", &[("WEIR_RELAY", &target), stall]);
    let mut publisher = rtmp::Client::publish(from.rtmp_addr(), "room").expect("weir accepts");
    publisher.video_config(1).expect("weir reads");
    publisher
        .video_frame(1, 0, true, 0, 1_000)
        .expect("weir reads");
    to.wait_until_live("room");
    to.freeze(true);
    // Far more than the system holds for a socket.
    for number in 1..=60 {
        let sync = number % 10 == 0;
        let sent = publisher.video_frame(1, number * 40, sync, number, 1_000_000);
        sent.expect("weir reads on");
    }
    let shown = format!("rtmp://{}/live/…", to.rtmp_addr());
    wait_for_relay(&from, &shown, "failed");
    assert_eq!(
        from.stream("room").map(|row| row["state"].clone()),
        Some(json!("live"))
    );
    to.freeze(false);
}

#[test]
fn e2e_a_stream_is_relayed_to_nginx() {
    let nginx = Nginx::start();
    let target = format!("demo=rtmp://{}/live/copy", nginx.addr());
    let _from = Weir::start("dev", &[("WEIR_RELAY", &target)]);
    let port = nginx.addr().port().to_string();
    let source = [("SOURCE_HOST", "127.0.0.1"), ("SOURCE_PORT", port.as_str())];
    let edge = Weir::start("serve", &source);
    wait_until("nginx has the stream", PATIENCE, || {
        edge.get("/live/copy/index.m3u8").status == 200
    });
    let row = edge.stream("copy").expect("it runs");
    assert_eq!(row["tracks"].as_array().map(Vec::len), Some(2), "{row}");
}
