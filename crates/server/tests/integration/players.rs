//! The examples of `docs/players.md` for pages, as printed: a minute each without a fatal error and without a stall.
//!
//! The players come from npm, run in browser contexts of their own, and play at the same time.

use serde_json::Value;

use crate::support::{Weir, player};

/// How long each plays after it has started.
const PLAYED_S: u32 = 60;
/// `currentTime` advances at least so much in that time: players that are closer to live than they want play a little slower.
const ADVANCE_S_MIN: f64 = 0.9 * PLAYED_S as f64;

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

fn check(examples: &[&str]) {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
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
