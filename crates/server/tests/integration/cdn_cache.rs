//! Caching proxies in front of the listener for CDNs, configured with the very words of docs/cdn.md.

use std::{fs, net::SocketAddr, path::Path};

use serde_json::Value;

use crate::support::{
    Dir, PATIENCE, Weir, bench, free_addr, nginx::Nginx, process::Process, varnish::Varnish,
    wait_until,
};

/// Players of LL-HLS behind the proxy.
const PLAYERS: u64 = 50;
/// How long they set out, and watch, in seconds.
const RAMP_S: u64 = 2;
const WATCH_S: u64 = 20;
/// The status that nginx logs when a client has gone before its answer.
const CLIENT_GONE: &str = "499";
/// How often they try on a machine that is too busy.
const ATTEMPTS_MAX: u32 = 3;
/// What the proxy answers by itself, at least.
const HIT_RATIO_MIN: f64 = 0.95;
/// The addresses in the examples: that of Weir, and where nginx listens.
const EXAMPLE_ORIGIN: &str = "127.0.0.1:8084";
const EXAMPLE_LISTEN: &str = "listen 8090;";
const EXAMPLE_PORT: &str = "\"8084\"";
/// Requests that players make at least: playlists and parts of two renditions, three a second. Half of that will do.
const REQUESTS_MIN: u64 = PLAYERS * WATCH_S * 2 * 2 * 3 / 2;

/// A server with a stream that players of LL-HLS can begin to watch, and its listener for CDNs.
fn start() -> (Weir, SocketAddr, Process) {
    let weir = Weir::start("dev", &[("CDN_ADDR", "127.0.0.1:0")]);
    let publisher = bench(&format!("publish {} --bitrate 1M", weir.rtmp_url("load")));
    weir.wait_until_live("load");
    let cdn = weir.addr_of("cdn");
    wait_until("there are three segments", PATIENCE, || {
        let playlist = weir.get("/live/load/video/index.m3u8").text();
        playlist.matches("#EXTINF").count() >= 3
    });
    (weir, cdn, publisher)
}

/// The block of docs/cdn.md in that language.
fn example(language: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/cdn.md");
    let text = fs::read_to_string(path).expect("it is in the repository");
    let (_, block) = text
        .split_once(&format!("```{language}\n"))
        .expect("there is such a block");
    block.split("```").next().unwrap_or_default().to_owned()
}

#[test]
fn e2e_nginx_answers_for_weir() {
    let (_weir, cdn, _publisher) = start();
    let addr = free_addr();
    let conf = example("nginx");
    for address in [EXAMPLE_ORIGIN, EXAMPLE_LISTEN] {
        assert!(conf.contains(address), "{conf}");
    }
    let conf = conf
        .replace(EXAMPLE_ORIGIN, &cdn.to_string())
        .replace(EXAMPLE_LISTEN, &format!("listen {addr};"));
    let nginx = Nginx::proxy(addr, &conf);
    watch(nginx.addr());
    check(&nginx.requests(), "HIT ");
}

#[test]
fn e2e_varnish_answers_for_weir() {
    let (_weir, cdn, _publisher) = start();
    let vcl = example("vcl");
    let port = format!("\"{}\"", cdn.port());
    assert!(vcl.contains(EXAMPLE_PORT), "{vcl}");
    let varnish = Varnish::start(&vcl.replace(EXAMPLE_PORT, &port));
    watch(varnish.addr());
    wait_until("all is logged", PATIENCE, || {
        varnish.requests().lines().count() as u64 > REQUESTS_MIN
    });
    check(&varnish.requests(), "hit ");
}

/// Nothing was refused, and the proxy got nearly nothing from Weir.
fn check(requests: &str, hit: &str) {
    let status = |line: &str| line.split(' ').nth(1).map(str::to_owned);
    // Whoever still waits when the watching is over just goes.
    let answered = requests
        .lines()
        .filter(|line| status(line).as_deref() != Some(CLIENT_GONE));
    let answered: Vec<&str> = answered.collect();
    let refused = answered
        .iter()
        .find(|line| status(line).as_deref() != Some("200"));
    assert_eq!(refused, None);
    assert!(answered.len() as u64 > REQUESTS_MIN);
    for (kind, playlists) in [("playlists", true), ("objects", false)] {
        let of_kind = answered
            .iter()
            .filter(|line| is_playlist(line) == playlists);
        let (mut hits, mut all) = (0, 0);
        for line in of_kind {
            hits += u32::from(line.starts_with(hit));
            all += 1;
        }
        let ratio = f64::from(hits) / f64::from(all);
        assert!(ratio >= HIT_RATIO_MIN, "{kind}: {hits} of {all}");
    }
}

fn is_playlist(line: &str) -> bool {
    line.contains(".m3u8")
}

/// Players watch through a proxy, and nobody notices it. Where the machine has been too busy to be players, they try again.
fn watch(proxy: SocketAddr) {
    for attempt in 1.. {
        let (is_good, report) = play(proxy);
        assert_eq!(
            report["errors"],
            Value::Object(serde_json::Map::new()),
            "{report:#}"
        );
        assert_eq!(report["totals"]["retries"], 0, "{report:#}");
        if is_good {
            return;
        }
        let was_busy = !report["own"]["bottleneck"].is_null();
        assert!(was_busy && attempt < ATTEMPTS_MAX, "{report:#}");
    }
}

/// Whether players were served whole and without a stop, and their report.
fn play(proxy: SocketAddr) -> (bool, Value) {
    let dir = Dir::new("cdn");
    let file = dir.path().join("report");
    let players = bench(&format!(
        "ll-hls http://{proxy}/load/index.m3u8 --viewers {PLAYERS} --ramp {RAMP_S} --duration {WATCH_S} --json {}",
        file.display()
    ));
    let status = players.wait(2 * PATIENCE);
    let report = fs::read(&file).expect("there is a report");
    let report = serde_json::from_slice(&report).expect("it is JSON");
    (status.success(), report)
}
