//! Sessions that the operator lists and ends, of every protocol and both roles.

use std::{
    io::Read as _,
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{PATIENCE, Weir, http, rtmp, tls::Server, wait_for, wait_until};

const TOKEN: &str = "marker-token-4711";
const SESSIONS: &str = "/api/v1/sessions";
/// How long the end of an ended session may take: what the protocol says first, and a busy machine. Far below the
/// time-outs that would end it by themselves.
const END_MAX: Duration = Duration::from_secs(5);

fn ask(weir: &Weir, method: &str, path: &str, headers: &[(&str, &str)]) -> http::Response {
    // The client says `Host: weir`, which `weir dev` takes from no browser.
    http::request(weir.http_addr(), method, path, headers).expect("weir answers")
}

fn bearer(weir: &Weir, method: &str, path: &str) -> http::Response {
    let authorization = format!("Bearer {TOKEN}");
    ask(weir, method, path, &[("Authorization", &authorization)])
}

/// The row of the only session of a protocol and role.
fn session(weir: &Weir, protocol: &str, role: &str) -> Value {
    wait_for(&format!("a {role} over {protocol}"), PATIENCE, || {
        let answer = bearer(weir, "GET", SESSIONS);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let list: Value = serde_json::from_slice(&answer.body).expect("JSON");
        let mut rows = list["sessions"].as_array().expect("a list").iter();
        let row = rows.find(|row| row["protocol"] == protocol && row["role"] == role);
        row.cloned()
    })
}

/// Ends the only session of a protocol and role, which must be gone from the list.
fn kick(weir: &Weir, protocol: &str, role: &str) {
    let id = session(weir, protocol, role)["id"].as_u64().expect("an id");
    let path = format!("{SESSIONS}/{id}");
    assert_eq!(bearer(weir, "DELETE", &path).status, 204, "{protocol}");
    wait_until("its row is gone", PATIENCE, || {
        bearer(weir, "DELETE", &path).status == 404
    });
}

/// A server that needs a token, and somebody who publishes `room`.
fn start() -> (Weir, rtmp::Client) {
    let weir = Weir::start(
        "serve",
        &[
            ("WEIR_AUTH_API_TOKEN", TOKEN),
            ("WEIR_AUTH_PUBLISH_KEYS", "room=marker-key-4711"),
            ("RUST_LOG", "debug"),
        ],
    );
    let mut publisher =
        rtmp::Client::publish(weir.rtmp_addr(), "room?key=marker-key-4711").expect("it gets in");
    publisher.video_config(1).expect("sent");
    for number in 0..100 {
        let sent = publisher.video_frame(1, number * 40, number % 25 == 0, number, 1_000);
        sent.expect("sent");
    }
    weir.wait_until_live("room");
    (weir, publisher)
}

fn http_viewer_ends(path: &str, protocol: &str, headers: &[(&str, &str)]) {
    let (weir, _publisher) = start();
    let mut viewer = http::open(weir.http_addr(), "GET", path, headers).expect("weir answers");
    assert!(matches!(viewer.status, 200 | 101), "{protocol}");
    viewer.body.read_exact(&mut [0; 1_000]).expect("media");
    let row = session(&weir, protocol, "viewer");
    assert_eq!(row["stream"], "room");
    assert!(
        row["bytes"].as_u64() >= Some(1_000) && row["seconds"].is_u64(),
        "{row}"
    );
    kick(&weir, protocol, "viewer");
    let start = Instant::now();
    let mut rest = Vec::new();
    viewer
        .body
        .read_to_end(&mut rest)
        .expect("it ends in good order");
    assert!(start.elapsed() < END_MAX, "{:?}", start.elapsed());
    if protocol == "ws-flv" {
        assert_eq!(rest[rest.len() - 4..], [0x88, 2, 0x03, 0xE8], "close, 1000");
    }
    assert_eq!(weir.stream("room").expect("it runs")["viewers"], 0);
}

#[test]
fn e2e_kick_http_flv() {
    http_viewer_ends("/live/room.flv", "http-flv", &[]);
}

#[test]
fn e2e_kick_http_ts() {
    http_viewer_ends("/live/room.ts", "http-ts", &[]);
}

#[test]
fn e2e_kick_ws_flv() {
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    http_viewer_ends("/live/room.flv", "ws-flv", &upgrade);
}

#[test]
fn e2e_kick_rtmp_player_and_publisher() {
    let (weir, mut publisher) = start();
    let socket = TcpStream::connect(weir.rtmp_addr()).expect("weir accepts");
    let mut player = rtmp::Client::play(socket, "room").expect("it plays");
    kick(&weir, "rtmp", "viewer");
    let start = Instant::now();
    player.until_closed().expect("it is closed");
    assert!(start.elapsed() < END_MAX, "{:?}", start.elapsed());
    assert_eq!(session(&weir, "rtmp", "publisher")["stream"], "room");

    kick(&weir, "rtmp", "publisher");
    let start = Instant::now();
    let told = publisher.until_closed().expect("it is closed");
    assert!(start.elapsed() < END_MAX, "{:?}", start.elapsed());
    let told = told.expect("a status");
    assert!(told.description.contains("operator"), "{told:?}");
    assert_eq!(
        weir.stream("room").map(|row| row["state"] == "waiting"),
        Some(true)
    );
}

#[test]
fn e2e_kick_hls() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    let local = [("Host", "localhost")];
    let multivariant = weir.get("/live/demo/index.m3u8").text();
    let media = multivariant.lines().last().expect("a variant");
    let media = format!("/live/demo/{media}");
    assert_eq!(weir.get(&media).status, 200);
    let list = || {
        let answer = ask_local(&weir, "GET", SESSIONS);
        serde_json::from_slice::<Value>(&answer.body).expect("JSON")["sessions"].clone()
    };
    let id = list().as_array().and_then(|rows| {
        rows.iter()
            .find(|row| row["protocol"] == "hls")
            .and_then(|row| row["id"].as_u64())
    });
    let path = format!("{SESSIONS}/{}", id.expect("it is listed"));
    let foreign = [local[0], ("Origin", "http://evil.example")];
    assert_eq!(ask(&weir, "DELETE", &path, &foreign).status, 403);
    assert_eq!(ask_local(&weir, "DELETE", &path).status, 204);
    assert_eq!(weir.get(&media).status, 403, "who was sent away stays away");
    wait_until("its row is gone", PATIENCE, || {
        ask_local(&weir, "DELETE", &path).status == 404
    });
    assert_eq!(weir.stream("demo").expect("it runs")["viewers"], 0);
}

/// As somebody on this machine.
fn ask_local(weir: &Weir, method: &str, path: &str) -> http::Response {
    ask(weir, method, path, &[("Host", "localhost")])
}

#[test]
fn e2e_kick_over_http_2() {
    let server = Server::start(&[]);
    server.weir.wait_until_live("demo");
    let url = format!(
        "https://localhost:{}{SESSIONS}",
        server.weir.addr_of("https").port()
    );
    let mut curl = std::process::Command::new("curl");
    curl.args([
        "-sS",
        "--http2",
        "-w",
        "%{http_version} %{http_code}",
        "-o",
        "/dev/null",
        "--cacert",
    ]);
    curl.arg(&server.file).arg(url);
    let curl = crate::support::process::Process::start(curl);
    assert_eq!(curl.output(PATIENCE), "2 200");
}

#[test]
fn e2e_the_token_is_needed_and_never_shown() {
    let (weir, _publisher) = start();
    for headers in [&[][..], &[("Authorization", "Bearer wrong-token-4711")]] {
        let answer = ask(&weir, "GET", SESSIONS, headers);
        assert_eq!(answer.status, 401);
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json")
        );
    }
    session(&weir, "rtmp", "publisher");
    let shown = [weir.get("/metrics").text(), weir.get("/status").text()].concat();
    weir.terminate();
    weir.wait(PATIENCE);
    for text in [weir.log(), weir.stdout(), shown] {
        assert!(!text.contains("token-4711"), "{text}");
    }
    let closed = Weir::start("serve", &[]);
    let answer = ask(&closed, "GET", SESSIONS, &[]);
    assert_eq!(answer.status, 403);
    assert!(
        answer.text().contains("WEIR_AUTH_API_TOKEN"),
        "{}",
        answer.text()
    );
}
