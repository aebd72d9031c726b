//! The listener that a CDN fetches from: media only, made to be kept (CONTRACT 1.4, 1.6, 1.7; CONFORMANCE 2.2).

use std::{net::SocketAddr, time::Duration};

use crate::{
    hls_watch::{self, Media, Options},
    range_check,
    support::{
        PATIENCE, Weir,
        http::{Connection, Response, try_get},
        wait_for, wait_until,
    },
};

/// Players that wait for the same part.
const CROWD: usize = 500;
/// How long the stream is watched through it: several target durations.
const WATCH: Duration = Duration::from_secs(10);

fn start() -> (Weir, SocketAddr) {
    let weir = Weir::start("dev", &[("CDN_ADDR", "127.0.0.1:0")]);
    let cdn = weir.addr_of("cdn");
    wait_until("there is a playlist", PATIENCE, || {
        get(cdn, "/demo/video/index.m3u8").status == 200
    });
    (weir, cdn)
}

fn get(addr: SocketAddr, path: &str) -> Response {
    try_get(addr, path).expect("weir answers")
}

fn media(addr: SocketAddr, path: &str) -> Media {
    let answer = get(addr, path);
    assert_eq!(answer.status, 200, "{path}");
    Media::parse(&answer.text()).expect("it is good")
}

fn cache_control(answer: &Response) -> &str {
    answer.header("cache-control").unwrap_or_default()
}

#[test]
fn e2e_a_cdn_gets_media_and_nothing_else() {
    let (weir, cdn) = start();
    for path in [
        "/demo/playlist.m3u8",
        "/demo/index.m3u8",
        "/live/demo/index.m3u8",
        "/demo/video/index.m3u8",
    ] {
        let answer = get(cdn, path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(cache_control(&answer), "public, max-age=1", "{path}");
        assert!(!answer.text().contains("hls_ctx"), "{path} is personal");
    }
    for path in [
        "/health",
        "/status",
        "/metrics",
        "/player",
        "/",
        "/demo.flv",
        "/live/demo.flv",
        "/live/demo.m3u8",
        "/api/v1/streams",
        "/nobody/index.m3u8",
        "/demo/video/nothing.m4s",
    ] {
        let answer = get(cdn, path);
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(weir.stream("demo").expect("it runs")["viewers"], 0);
    }
    assert_eq!(
        cache_control(&get(cdn, "/nobody/index.m3u8")),
        "no-store",
        "what is not there may come"
    );
}

#[test]
fn e2e_what_a_cdn_waited_for_may_be_kept() {
    let (_weir, cdn) = start();
    let path = "/demo/video/index.m3u8";
    let now = media(cdn, path);
    let msn = now.media_sequence + now.segments.len() as u64;
    let reloaded = get(cdn, &format!("{path}?_HLS_msn={msn}"));
    assert_eq!(reloaded.status, 200);
    assert_eq!(cache_control(&reloaded), "public, max-age=12");
    let text = reloaded.text();
    let later = Media::parse(&text).expect("it is good");
    assert!(
        later.media_sequence + later.segments.len() as u64 > msn,
        "it waited for the whole segment {msn}: {text}"
    );
    // What is refused is asked for anew.
    for query in ["_HLS_msn=x", "_HLS_part=1", "_HLS_msn=99999999999"] {
        let refused = get(cdn, &format!("{path}?{query}"));
        assert_eq!(refused.status, 400, "{query}");
        assert_eq!(cache_control(&refused), "no-store", "{query}");
    }
}

#[test]
fn e2e_all_who_wait_for_a_part_get_it_at_once() {
    let (_weir, cdn) = start();
    let path = "/demo/video/index.m3u8";
    let open = || {
        let now = media(cdn, path);
        now.media_sequence + now.segments.len() as u64
    };
    let before = open();
    // All have asked before it is there: it is two segments away.
    let msn = 1 + wait_for("a segment begins", PATIENCE, || {
        Some(open()).filter(|open| *open > before)
    });
    let lists = |text: &str| {
        let mut parts = text.lines().filter(|line| line.starts_with("#EXT-X-PART:"));
        parts.any(|line| line.contains(&format!("-{msn}.0.m4s\"")))
    };
    let waited_for = format!("{path}?_HLS_msn={msn}&_HLS_part=0");
    let ask = |_| {
        let mut connection = Connection::open(cdn).expect("weir accepts");
        connection.ask(&waited_for).expect("weir listens");
        connection
    };
    let waiting: Vec<_> = (0..CROWD).map(ask).collect();
    assert!(!lists(&get(cdn, path).text()), "somebody asked too late");
    for mut connection in waiting {
        let answer = connection.answer().expect("weir answers");
        assert_eq!(answer.status, 200);
        assert!(lists(&answer.text()), "{}", answer.text());
    }
}

#[test]
fn e2e_objects_on_a_cdn_have_ranges_and_validators() {
    let (_weir, cdn) = start();
    let listed = media(cdn, "/demo/video/index.m3u8");
    let segment = &listed.segments[listed.segments.len() - 1];
    let part = wait_for("a part is listed", PATIENCE, || {
        let now = media(cdn, "/demo/video/index.m3u8");
        let last = now.segments.last()?.parts.last().cloned();
        last.map(|part| part.uri)
    });
    let map = segment.map.clone().expect("it is fMP4");
    for object in [&segment.uri, &map, &part] {
        let path = format!("/demo/video/{object}");
        assert_eq!(range_check::check(cdn, &path), Vec::<String>::new());
    }
}

#[test]
fn e2e_a_stream_holds_over_time_on_a_cdn() {
    let (_weir, cdn) = start();
    let options = Options {
        low_latency: true,
        lasts: WATCH,
    };
    let report = hls_watch::watch(cdn, "/demo/playlist.m3u8", options);
    assert_eq!(report.problems, Vec::<String>::new());
    assert!(report.parts > 20 && report.hints > 20, "{report:?}");
}

#[test]
fn e2e_players_behind_a_cdn_count_apart() {
    let (weir, cdn) = start();
    for sid in ["one", "two", "one"] {
        let path = format!("/demo/video/index.m3u8?CMCD=br%3D400%2Csid%3D%22{sid}%22");
        assert_eq!(get(cdn, &path).status, 200);
    }
    let row = weir.stream("demo").expect("it runs");
    assert_eq!(
        (&row["cdn_viewers"], &row["viewers"]),
        (&2.into(), &0.into())
    );
    let metrics = weir.get("/metrics").text();
    assert!(metrics.contains("\nstreaming_cdn_viewers 2\n"), "{metrics}");
    assert!(
        metrics.contains("\nstreaming_total_viewers 0\n"),
        "{metrics}"
    );
}
