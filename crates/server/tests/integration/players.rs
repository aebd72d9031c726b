//! The examples of `docs/players.md`, as printed.
//!
//! The players that pages embed come from npm and play for a minute each, in browser contexts of their own and at the same
//! time: no fatal error, no stall.

use std::process::Command;

use serde_json::Value;

use crate::support::{PATIENCE, Weir, player, process::Process};

/// What the tests run.
const EXAMPLES: &str = include_str!("../../../../docs/players.md");

/// Seconds of media that ffplay plays; a key frame is nearer.
const FFPLAY_S: &str = "5";
/// How long each plays after it has started.
const PLAYED_S: u32 = 60;
/// `currentTime` advances at least so much in that time: players that catch up play faster, none plays much slower.
const ADVANCE_S_MIN: f64 = 0.95 * PLAYED_S as f64;

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

#[test]
fn e2e_ffplay_plays_every_address() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    let lines = EXAMPLES.lines().filter(|line| line.starts_with("ffplay "));
    let players = lines.map(|line| {
        let line = line
            .replace("http://localhost:8080", &weir.http_url(""))
            .replace("rtmp://localhost:1935/live/demo", &weir.rtmp_url("demo"));
        let mut command = Command::new("ffplay");
        command
            .env("SDL_VIDEODRIVER", "dummy")
            .env("SDL_AUDIODRIVER", "dummy")
            .args(["-autoexit", "-t", FFPLAY_S])
            .args(line.split(' ').skip(1));
        (Process::start(command), line)
    });
    let players: Vec<_> = players.collect();
    assert!(!players.is_empty());
    for (player, line) in players {
        player.wait(PATIENCE);
        // It exits with 0 whatever happens. Its status lines tell how far picture and sound are apart: nan for as long as
        // one of them is missing.
        let said = player.stderr();
        let apart = said.split("A-V:").skip(1);
        let mut apart = apart.filter_map(|status| status.split_whitespace().next()?.parse().ok());
        assert!(apart.any(f64::is_finite), "{line}: {said}");
    }
}

fn check(examples: &[&str]) {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    let seen = player::play_examples(&weir.http_url(""), PLAYED_S, examples);
    for name in examples {
        let seen = &seen[name];
        let advance_s = seen["advancedSeconds"].as_f64().expect("a number");
        assert!(advance_s >= ADVANCE_S_MIN, "{name}: {seen}");
        assert_eq!(seen["stalls"], 0, "{name}: {seen}");
        for key in ["errors", "pageErrors"] {
            assert_eq!(seen[key], Value::Array(Vec::new()), "{name}: {seen}");
        }
    }
}
