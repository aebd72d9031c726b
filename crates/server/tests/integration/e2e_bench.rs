//! `weir bench` from outside: it publishes to a server and watches it, and says that all is whole.

use std::fs;

use serde_json::Value;

use crate::support::{Dir, PATIENCE, Weir, bench, wait_until};

/// Viewers of each protocol.
const VIEWERS: u64 = 6;
/// Streams that they watch in turn.
const STREAMS: u64 = 2;
/// Bits a second of each.
const BITRATE: f64 = 1e6;

#[test]
fn nothing_is_wrong_over_any_protocol() {
    let weir = Weir::start("dev", &[]);
    let dir = Dir::new("bench");
    let publish = bench(&format!(
        "publish {} --streams {STREAMS} --bitrate {BITRATE}",
        weir.rtmp_url("load{n}")
    ));
    for number in 0..STREAMS {
        weir.wait_until_live(&format!("load{number}"));
    }
    // As many as a player wants to hold before it begins.
    wait_until("HLS has three segments", PATIENCE, || {
        let playlist = weir.get("/live/load1/video/index.m3u8").text();
        playlist.matches("#EXTINF").count() >= 3
    });
    let urls = [
        ("flv", weir.http_url("/live/load{n}.flv")),
        ("ws-flv", weir.http_url("/live/load{n}.flv")),
        ("rtmp", weir.rtmp_url("load{n}")),
        ("hls", weir.http_url("/live/load{n}.m3u8")),
        ("ll-hls", weir.http_url("/live/load{n}/index.m3u8")),
        ("dash", weir.http_url("/live/load{n}.mpd")),
        // Most of them do not read at once.
        ("flv --round-ms 100", weir.http_url("/live/load{n}.flv")),
        ("rtmp --round-ms 100", weir.rtmp_url("load{n}")),
    ];
    let running = urls.map(|(protocol, url)| {
        let file = dir.path().join(protocol.replace(' ', "-"));
        let watching = bench(&format!(
            "{protocol} {url} --streams {STREAMS} --viewers {VIEWERS} --ramp 1 --duration 5 --pid {} --json {}",
            weir.pid(),
            file.display()
        ));
        (protocol, file, watching)
    });
    for (protocol, file, watching) in running {
        let shown = watching.output(PATIENCE);
        assert!(shown.contains("| errors | 0 |"), "{protocol}: {shown}");
        let report = fs::read(&file).expect("there is a report");
        let report: Value = serde_json::from_slice(&report).expect("it is JSON");
        check(protocol, &report);
        let totals = &report["totals"];
        if protocol == "ll-hls" {
            let parts = totals["parts"].as_u64().expect("a number");
            assert!(parts > 5 * 2 * VIEWERS, "{report:#}");
            assert_ne!(totals["compared_segments"], 0, "{report:#}");
        }
    }
    publish.signal("INT");
    let summary = publish.output(PATIENCE);
    let granted = format!("| granted | {STREAMS} of {STREAMS} streams |");
    assert!(
        summary.contains(&granted) && summary.contains("| failed | 0 |"),
        "{summary}"
    );
}

#[test]
fn the_floor_is_measured() {
    let dir = Dir::new("floor");
    let file = dir.path().join("floor");
    let floor = bench(&format!(
        "floor --viewers {VIEWERS} --cadence-ms 100 --ramp 0 --duration 4 --json {}",
        file.display()
    ));
    let shown = floor.output(PATIENCE);
    let report: Value = serde_json::from_slice(&fs::read(&file).expect("a report")).expect("JSON");
    assert_eq!(
        report["errors"],
        Value::Object(serde_json::Map::new()),
        "{shown}"
    );
    assert_eq!(report["totals"]["viewers_served"], VIEWERS, "{shown}");
    assert!(
        report["server"]["cpu_seconds"].as_f64().is_some(),
        "{shown}"
    );
}

#[test]
fn what_is_wrong_is_said() {
    let weir = Weir::start("dev", &[]);
    wait_until("demo has a playlist", PATIENCE, || {
        weir.get("/live/demo/index.m3u8").status == 200
    });
    for (arguments, expected) in [
        (
            format!("flv {}", weir.http_url("/live/nothing.flv")),
            "2 × the server answered with status 404",
        ),
        (
            format!("rtmp {}", weir.rtmp_url("nothing")),
            "2 × the server refused: NetStream.Play.StreamNotFound",
        ),
        (
            "hls http://127.0.0.1:1/a.m3u8".to_owned(),
            "2 × cannot connect: ",
        ),
        (
            format!("ll-hls {}", weir.http_url("/live/demo/manifest.mpd")),
            "2 × this is not a playlist",
        ),
        (
            format!("dash {}", weir.http_url("/live/demo/index.m3u8")),
            "2 × this is not a manifest",
        ),
    ] {
        let judged = bench(&format!("{arguments} --viewers 2 --ramp 0 --duration 8"));
        assert_eq!(judged.wait(PATIENCE).code(), Some(3), "{arguments}");
        let shown = judged.stdout();
        assert!(shown.contains(expected), "{arguments}: {shown}");
    }
    let refused = bench("flv rtmp://127.0.0.1/live/a");
    assert_eq!(refused.wait(PATIENCE).code(), Some(1));
    assert!(
        refused
            .stderr()
            .starts_with("error: the URL must be http://"),
        "{}",
        refused.stderr()
    );
}

/// Whole, in order, without a stall; and every figure is there.
#[track_caller]
fn check(protocol: &str, report: &Value) {
    let none = Value::Object(serde_json::Map::new());
    assert_eq!(report["errors"], none, "{protocol}: {report:#}");
    let totals = &report["totals"];
    for (name, expected) in [
        ("viewers_started", VIEWERS),
        ("viewers_served", VIEWERS),
        ("viewers_played", VIEWERS),
        ("viewers_stalled", 0),
        ("stalls", 0),
        ("skipped_pictures", 0),
        ("skipped_segments", 0),
        ("unknown_bodies", 0),
    ] {
        assert_eq!(totals[name], expected, "{protocol} {name}: {report:#}");
    }
    let has_samples = |name: &str| {
        report[name]["count"]
            .as_u64()
            .is_some_and(|count| count > 0)
    };
    assert!(has_samples("first_key_ms"), "{protocol}: {report:#}");
    assert!(has_samples("latency_ms"), "{protocol}: {report:#}");
    let mbit_per_s = report["mbit_per_s"].as_f64().expect("a number");
    let expected = VIEWERS as f64 * BITRATE / 1e6;
    assert!(
        (0.5..2.0).contains(&(mbit_per_s / expected)),
        "{protocol}: {report:#}"
    );
    assert!(
        report["server"]["rss_mb_max"]
            .as_f64()
            .is_some_and(|mb| mb > 1.0),
        "{protocol}"
    );
    assert!(
        report["own"]["cores"]
            .as_u64()
            .is_some_and(|cores| cores > 0),
        "{protocol}"
    );
}
