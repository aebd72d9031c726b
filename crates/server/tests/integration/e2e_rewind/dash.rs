//! Rewinding with DASH: `manifest.mpd?start=-120`.

use std::time::Duration;

use serde_json::Value;

use super::{MISSES, metric, start, start_in, wait_for_seconds};
use crate::{
    mpd_watch::{Options, watch},
    support::{
        Dir, Weir, free_addr,
        http::{self, Response},
        player,
    },
};

const MANIFEST: &str = "/live/demo/manifest.mpd";

/// A duration in the first tag, seconds.
fn seconds(manifest: &str, name: &str) -> f64 {
    let (_, rest) = manifest
        .split_once(&format!(" {name}=\"PT"))
        .unwrap_or_else(|| panic!("no {name} in {manifest}"));
    let (number, _) = rest.split_once("S\"").expect("seconds");
    number.parse().expect("a number")
}

fn ok(answer: Response) -> String {
    assert_eq!(answer.status, 200);
    answer.text()
}

#[test]
fn manifests_reach_back() {
    let cdn_addr = free_addr().to_string();
    let weir = start(&[("CDN_ADDR", &cdn_addr)]);
    let cdn = weir.addr_of("cdn");
    let get_cdn = |path: &str| http::try_get(cdn, path).expect("weir answers");
    for bad in ["120", "-0", "-", "", "-1e3", "now", "-5&start=-6"] {
        for path in [MANIFEST, "/live/demo.mpd"] {
            let answer = weir.get(&format!("{path}?start={bad}"));
            assert_eq!(answer.status, 400, "{path} {bad:?}");
        }
        let answer = get_cdn(&format!("/demo/manifest.mpd?start={bad}"));
        assert_eq!(answer.status, 400, "{bad:?}");
    }
    wait_for_seconds(&weir, 16);
    let redirect = weir.get("/live/demo.mpd?start=-14.50");
    let location = redirect.header("location").expect("a redirect");
    assert!(location.starts_with("/live/demo/manifest.mpd?hls_ctx="));
    assert!(location.ends_with("&start=-14.5"), "{location}");
    let back = ok(weir.get(location));
    let plain = ok(weir.get(MANIFEST));
    assert!((seconds(&back, "suggestedPresentationDelay") - 14.5).abs() < f64::EPSILON);
    assert!(seconds(&back, "timeShiftBufferDepth") >= 16.0, "{back}");
    assert!(seconds(&plain, "suggestedPresentationDelay") < 14.0);
    assert!(seconds(&plain, "timeShiftBufferDepth") < 16.0, "{plain}");
    // No earlier than there is something.
    let answer = get_cdn("/demo/manifest.mpd?start=-100000");
    assert_eq!(answer.header("cache-control"), Some("public, max-age=1"));
    let all = ok(answer);
    let depth_s = seconds(&all, "timeShiftBufferDepth");
    assert!((16.0..60.0).contains(&depth_s), "{all}");
    let delay_s = seconds(&all, "suggestedPresentationDelay");
    assert!((depth_s - delay_s).abs() < f64::EPSILON, "{all}");
}

#[test]
fn the_manifest_holds_over_time() {
    let dir = Dir::new("rewind-dash");
    let weir = start_in(&dir);
    wait_for_seconds(&weir, 24);
    let options = Options {
        low_latency: false,
        lasts: Duration::from_secs(10),
    };
    let report = watch(weir.http_addr(), &format!("{MANIFEST}?start=-20"), options);
    assert_eq!(report.problems, Vec::<String>::new());
    assert!(
        report.segments >= 2 * 12 && report.versions > 2,
        "{report:?}"
    );
    assert!(metric(&weir, MISSES) > 0, "some were read from the disk");
}

#[test]
fn players_begin_where_they_are_told() {
    let dir = Dir::new("rewind-dash-players");
    let weir = start_in(&dir);
    wait_for_seconds(&weir, 24);
    for (player, arguments) in [("dashjs", &["--low-latency"][..]), ("shaka", &[])] {
        let seen = play(&weir, player, arguments);
        let latency_ms = seen["latencyMs"]["p50"].as_f64().expect("a latency");
        assert!(
            (18_000.0..24_000.0).contains(&latency_ms),
            "{player}: {seen}"
        );
    }
}

/// Plays from 20 s ago: no errors, no stalls, nothing that is refused.
fn play(weir: &Weir, player: &str, arguments: &[&str]) -> Value {
    let url = weir.http_url(&format!("{MANIFEST}?start=-20"));
    let all = [&["--player", player, "--seconds", "12"], arguments].concat();
    let seen = player::play_dash(&url, &all);
    assert_eq!(seen["errors"], Value::Array(Vec::new()), "{seen}");
    assert_eq!(seen["refusals"], Value::Array(Vec::new()), "{seen}");
    assert_eq!(seen["stalls"], 0, "{seen}");
    assert!(
        seen["advancedS"].as_f64().expect("seconds") > 10.0,
        "{seen}"
    );
    seen
}
