//! The player page as viewers see it: in a headless Chromium, on a screen and on a phone.

use serde_json::Value;

use crate::support::{
    Weir,
    player::{self, kept_file},
};

/// `currentTime` advances at least so much in ten seconds.
const ADVANCE_S_MIN: f64 = 8.0;
/// How far the viewer goes back, and how much longer ago that may be once the picture is there: the playlist ends with the
/// last whole segment, and players take their time to start.
const REWOUND_S: f64 = 40.0;
/// See [`REWOUND_S`].
const REWOUND_S_MORE: f64 = 10.0;
/// Waits until a player is closer to live than one of whole segments could be.
const LOW_LATENCY: [&str; 2] = ["--latency-max", "4000"];
/// The same, milliseconds.
const LOW_LATENCY_MS_MAX: f64 = 4_000.0;

#[test]
fn e2e_hls_js_plays_the_demo_in_parts() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    let seen = watch(&weir, "ll-hls", "player-ll-hls.png", &LOW_LATENCY);
    check_playing(&seen);
    check_low_latency(&seen);
}

#[test]
fn e2e_dash_js_plays_the_demo() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    let seen = watch(&weir, "dash", "player-dash.png", &LOW_LATENCY);
    check_playing(&seen);
    check_low_latency(&seen);
}

#[test]
fn e2e_hls_js_plays_the_demo_in_segments() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    check_playing(&watch(&weir, "hls", "player-hls.png", &[]));
}

#[test]
fn e2e_mpegts_js_plays_the_demo() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    check_playing(&watch(&weir, "http-flv", "player-http-flv.png", &[]));
}

#[test]
fn e2e_mpegts_js_plays_the_demo_over_a_websocket() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    check_playing(&watch(&weir, "ws-flv", "player-ws-flv.png", &[]));
}

#[test]
fn e2e_the_player_fits_a_phone() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    let phone = ["--width", "390", "--height", "844"];
    let seen = watch(&weir, "http-flv", "player-phone.png", &phone);
    check_playing(&seen);
    assert_eq!(
        seen["pageWidth"], 390,
        "the page is wider than the phone: {seen}"
    );
}

#[test]
fn e2e_a_viewer_goes_back_in_time_and_returns() {
    let weir = Weir::start("dev", &[("WEIR_HLS_DVR_WINDOW", "600")]);
    weir.wait_until_live("demo");
    let url = weir.http_url("/player?stream=demo&protocol=ll-hls");
    let file = kept_file("player-rewound.png");
    let file = file.to_str().expect("UTF-8");
    let rewound = REWOUND_S.to_string();
    let arguments = ["--rewind", &rewound, "--screenshot", file];
    let seen = player::measure(&url, &[&arguments[..], &LOW_LATENCY].concat());
    let past_ms = seen["past"]["latencyMs"].as_f64().expect("a number");
    let past = REWOUND_S * 1_000.0..=(REWOUND_S + REWOUND_S_MORE) * 1_000.0;
    assert!(past.contains(&past_ms), "{seen}");
    let words = seen["ariaValueText"].as_str().expect("text");
    assert!(
        words.starts_with("0:4") && words.ends_with(" behind live"),
        "{seen}"
    );
    check_low_latency(&seen["live"]);
    assert_eq!(seen["live"]["fatalErrors"], 0, "{seen}");
    assert_eq!(seen["pageErrors"], Value::Array(Vec::new()), "{seen}");
}

#[test]
fn e2e_without_a_stream_the_page_says_how_to_make_one() {
    let weir = Weir::start("serve", &[]);
    let file = kept_file("player-empty.png");
    let file = file.to_str().expect("UTF-8");
    let url = weir.http_url("/player");
    let seen = player::measure(&url, &["--look", "--screenshot", file]);
    let text = seen["text"].as_str().expect("the page has text");
    assert!(text.contains("Nothing is live yet"), "{text}");
    assert!(text.contains("ffmpeg -re "), "{text}");
    assert_eq!(seen["pageErrors"], Value::Array(Vec::new()));
}

/// What a viewer sees of `demo` in ten seconds. A screenshot is kept.
fn watch(weir: &Weir, protocol: &str, screenshot: &str, arguments: &[&str]) -> Value {
    let url = weir.http_url(&format!("/player?stream=demo&protocol={protocol}"));
    let file = kept_file(screenshot);
    let mut all = vec![
        "--seconds",
        "10",
        "--screenshot",
        file.to_str().expect("UTF-8"),
    ];
    all.extend(arguments);
    player::measure(&url, &all)
}

fn check_low_latency(seen: &Value) {
    assert_eq!(seen["latencyKind"], "measured", "{seen}");
    let latency_ms = seen["latencyMs"].as_f64().expect("a number");
    assert!(latency_ms <= LOW_LATENCY_MS_MAX, "{seen}");
}

fn check_playing(seen: &Value) {
    let number = |key: &str| {
        seen[key]
            .as_f64()
            .unwrap_or_else(|| panic!("no {key} in {seen}"))
    };
    let advance_s = number("currentTimeEnd") - number("currentTimeStart");
    assert!(
        advance_s >= ADVANCE_S_MIN,
        "{advance_s} s in {} s: {seen}",
        number("seconds")
    );
    assert!(number("framesMoved") > 0.0, "the picture stands: {seen}");
    assert_eq!(seen["fatalErrors"], 0, "{seen}");
    assert_eq!(seen["pageErrors"], Value::Array(Vec::new()), "{seen}");
}
