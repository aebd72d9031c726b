//! What players that ask again notice when the server dies under them and another takes its place: a pause.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::support::{Dir, PATIENCE, Weir, bench, process::Process, wait_until};

/// Players of each protocol.
const PLAYERS: u64 = 10;
/// Seconds that they watch, before and after the crash.
const WATCH_S: u64 = 30;
/// The last seconds, in which media must have come again.
const LAST_S: usize = 5;

#[test]
fn e2e_players_that_ask_again_go_on_after_a_crash() {
    let weir = Weir::start("dev", &[]);
    let _publisher = publish(&weir);
    let dir = Dir::new("crash");
    let players = [
        ("ll-hls", "/live/load/index.m3u8"),
        ("hls", "/live/load.m3u8"),
        ("dash", "/live/load.mpd"),
    ]
    .map(|(protocol, path)| {
        let file = dir.path().join(protocol);
        let url = weir.http_url(path);
        let watching = bench(&format!(
            "{protocol} {url} --viewers {PLAYERS} --ramp 1 --duration {WATCH_S} --json {}",
            file.display()
        ));
        (protocol, file, watching)
    });
    // This test asks for a playlist too, and counts as a viewer.
    wait_until("all watch", PATIENCE, || {
        let row = weir.stream("load").expect("it runs");
        row["viewers"].as_u64() > Some(3 * PLAYERS)
    });
    wait_for_segments(&weir, segments(&weir) + 1);

    weir.kill();
    let (http, rtmp) = (weir.http_addr().to_string(), weir.rtmp_addr().to_string());
    drop(weir);
    let weir = Weir::start("dev", &[("HTTPFLV_ADDR", &http), ("RTMP_ADDR", &rtmp)]);
    let _publisher = publish(&weir);
    for (protocol, file, watching) in players {
        check(protocol, &file, &watching);
    }
}

/// Publishes, and waits until there are as many segments as players want to hold.
fn publish(weir: &Weir) -> Process {
    let publisher = bench(&format!("publish {} --bitrate 1M", weir.rtmp_url("load")));
    weir.wait_until_live("load");
    wait_for_segments(weir, 3);
    publisher
}

fn wait_for_segments(weir: &Weir, count: usize) {
    wait_until("there are segments", PATIENCE, || segments(weir) >= count);
}

fn segments(weir: &Weir) -> usize {
    let playlist = weir.get("/live/load/video/index.m3u8").text();
    playlist.matches("#EXTINF").count()
}

/// Nobody gave up, nothing came with other bytes, and media comes again.
fn check(protocol: &str, file: &PathBuf, watching: &Process) {
    watching.wait(2 * PATIENCE);
    let report = fs::read(file).expect("there is a report");
    let report: Value = serde_json::from_slice(&report).expect("it is JSON");
    let none = Value::Object(serde_json::Map::new());
    assert_eq!(report["errors"], none, "{protocol}: {report:#}");
    let totals = &report["totals"];
    assert_eq!(totals["viewers_served"], PLAYERS, "{protocol}");
    // Requests that wait all break off; who asks every other second may not even notice.
    let retries = totals["retries"].as_u64().expect("a number");
    assert!(protocol != "ll-hls" || retries >= PLAYERS, "{report:#}");
    let seconds = report["mbit_of_each_second"].as_array().expect("a list");
    let last = seconds.iter().rev().take(LAST_S);
    let mbit: f64 = last.filter_map(Value::as_f64).sum();
    assert!(mbit > 1.0, "{protocol} plays again: {report:#}");
}
