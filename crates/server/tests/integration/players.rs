//! The examples of `docs/players.md` for pages, as printed: a minute each without a fatal error and without a stall.
//!
//! The players come from npm, run in browser contexts of their own, and play at the same time.

use serde_json::Value;

use crate::support::{PATIENCE, Weir, player, wait_until};

/// So many segments there are before anybody plays. Players of whole segments want to be three behind live; in a stream that is
/// shorter they wait for each new one.
const SEGMENTS_MIN: usize = 5;
/// How long each plays after it has started.
const PLAYED_S: u32 = 60;
/// `currentTime` advances at least so much in that time: players that are closer to live than they want play slower, and
/// where four browsers share a core or two, waits too short for a stall add up.
const ADVANCE_S_MIN: f64 = 0.75 * PLAYED_S as f64;

#[test]
fn e2e_hls_plays_for_a_minute() {
    check(&[
        "hls.js, low latency",
        "hls.js, low latency, catching up",
        "hls.js, classic",
        "shaka-player, HLS",
    ]);
}

#[test]
fn e2e_dash_and_flv_play_for_a_minute() {
    check(&[
        "dash.js",
        "dash.js, with settings of its own",
        "shaka-player, DASH",
        "mpegts.js",
    ]);
}

/// Among the first segments is one that grows and has no URI yet.
#[test]
fn e2e_shaka_player_starts_in_a_stream_that_has_just_begun() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    let name = "shaka-player, HLS";
    let seen = &player::play_examples(&weir.http_url(""), 1, &[name])[name];
    assert_eq!(seen["started"], true, "{seen}");
    for key in ["errors", "pageErrors"] {
        assert_eq!(seen[key], Value::Array(Vec::new()), "{seen}");
    }
}

fn check(examples: &[&str]) {
    let weir = Weir::start("dev", &[]);
    wait_until(
        "players can be as far behind as they want",
        PATIENCE,
        || {
            let playlist = weir.get("/live/demo/video/index.m3u8");
            playlist.text().matches("#EXTINF").count() >= SEGMENTS_MIN
        },
    );
    let seen = player::play_examples(&weir.http_url(""), PLAYED_S, examples);
    for name in examples {
        let seen = &seen[name];
        assert_eq!(seen["started"], true, "{name}: {seen}");
        let advance_s = seen["advancedSeconds"].as_f64().expect("a number");
        assert!(advance_s >= ADVANCE_S_MIN, "{name}: {seen}");
        assert_eq!(seen["stalls"], 0, "{name}: {seen}");
        for key in ["errors", "pageErrors"] {
            assert_eq!(seen[key], Value::Array(Vec::new()), "{name}: {seen}");
        }
    }
}
