//! What the server says of itself while viewers come and go: `/health`, `/status` and `/metrics` agree.

use std::{collections::BTreeMap, io::Read as _};

use serde_json::Value;

use crate::support::{PATIENCE, Weir, http, wait_until};

/// What all three say.
#[derive(Debug, PartialEq, Eq)]
struct Counts {
    streams: u64,
    viewers: u64,
    viewers_of_demo: u64,
}

#[test]
fn health_status_and_metrics_agree_while_viewers_come_and_go() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    assert_counts(&weir, 0);
    let viewers = [(); 2].map(|()| {
        let viewer = http::open(weir.http_addr(), "GET", "/live/demo.flv", &[]);
        let mut viewer = viewer.expect("weir answers");
        let mut signature = [0; 3];
        viewer
            .body
            .read_exact(&mut signature)
            .expect("the stream flows");
        assert_eq!((viewer.status, &signature), (200, b"FLV"));
        viewer
    });
    assert_counts(&weir, 2);
    let sent = |weir: &Weir| value(weir, "streaming_sent_bytes_total{protocol=\"http-flv\"}");
    assert!(sent(&weir) > 0.0);
    // The two, and the one that asks.
    assert!(value(&weir, "streaming_open_connections") >= 3.0);
    drop(viewers);
    wait_until("the viewers are gone", PATIENCE, || {
        from_health(&weir).1 == 0
    });
    assert_counts(&weir, 0);
    assert!(sent(&weir) > 0.0, "what they took stays counted");
    wait_until("their connections are closed", PATIENCE, || {
        value(&weir, "streaming_open_connections") < 3.0
    });
}

#[test]
fn metrics_tell_prometheus_and_people_the_same() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    let accept = [(
        "Accept",
        "application/openmetrics-text;version=1.0.0,*/*;q=0.1",
    )];
    let open_metrics = http::request(weir.http_addr(), "GET", "/metrics", &accept);
    let open_metrics = open_metrics.expect("weir answers");
    let plain = weir.get("/metrics");
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(open_metrics.header("content-type"), Some(media_type));
    let media_type = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(plain.header("content-type"), Some(media_type));
    let (open_metrics, plain) = (open_metrics.text(), plain.text());
    assert!(open_metrics.ends_with("\n# EOF\n"), "{open_metrics}");
    let names = |text: &str| {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let labelled = samples.filter_map(|line| line.rsplit_once(' '));
        labelled
            .map(|(labelled, _)| labelled.to_owned())
            .collect::<Vec<_>>()
    };
    let request = |name: &String| name.starts_with("streaming_http_requests_total");
    let without_requests = |text| {
        let mut names = names(text);
        names.retain(|name| !request(name));
        names
    };
    assert_eq!(without_requests(&open_metrics), without_requests(&plain));
    assert!(names(&plain).iter().any(request), "{plain}");
}

/// Asserts that all three say that `demo` runs and has that many viewers.
#[test]
fn e2e_memory_of_segments_is_told() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    let playlist = weir.get("/live/demo/video/index.m3u8").text();
    let name = playlist.lines().find(|line| !line.starts_with('#'));
    let name = name.expect("a segment is listed");
    let segment = weir.get(&format!("/live/demo/video/{name}")).body.len();
    let told = value(&weir, "streaming_segment_memory_bytes");
    assert!(told >= segment as f64, "{told} with a segment of {segment}");
}

fn assert_counts(weir: &Weir, viewers: u64) {
    let expected = Counts {
        streams: 1,
        viewers,
        viewers_of_demo: viewers,
    };
    let (streams, all_viewers) = from_health(weir);
    assert_eq!((streams, all_viewers), (1, viewers), "/health");
    assert_eq!(from_status(weir), expected, "/status");
    let metric = |name: &str| value(weir, name) as u64;
    let from_metrics = Counts {
        streams: metric("streaming_active_streams"),
        viewers: metric("streaming_total_viewers"),
        viewers_of_demo: metric("streaming_stream_viewers{stream=\"demo\"}"),
    };
    assert_eq!(from_metrics, expected, "/metrics");
}

/// Streams and viewers.
fn from_health(weir: &Weir) -> (u64, u64) {
    let health: Value = serde_json::from_slice(&weir.get("/health").body).expect("JSON");
    let number = |key: &str| health[key].as_u64().expect("a number");
    (number("active_streams"), number("total_viewers"))
}

fn from_status(weir: &Weir) -> Counts {
    let status = weir.status();
    let streams = status["streams"].as_array().expect("a list");
    let viewers = |row: &Value| row["viewers"].as_u64().expect("a number");
    let demo = streams.iter().find(|row| row["name"] == "demo");
    Counts {
        streams: streams.len() as u64,
        viewers: streams.iter().map(viewers).sum(),
        viewers_of_demo: demo.map(viewers).expect("demo runs"),
    }
}

/// The value of a series.
fn value(weir: &Weir, series: &str) -> f64 {
    let text = weir.get("/metrics").text();
    let samples: BTreeMap<_, _> = text
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .collect();
    let value = samples
        .get(series)
        .unwrap_or_else(|| panic!("no {series} in\n{text}"));
    value.parse().expect("a number")
}
