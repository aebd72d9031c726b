//! R2: clients of HTTP that send or read as slowly as they are let.

use std::{
    io::Write as _,
    net::TcpStream,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::finish;
use crate::support::{PATIENCE, Weir, wait_until};

const EACH: usize = 50;
/// Connections of our own that were still closing when descriptors were counted.
const CLOSING: usize = 5;

/// The head of a second request that never ends is no reason to keep a connection.
#[test]
fn e2e_r2_a_slow_head_after_a_good_one() {
    let weir = Weir::start("dev", &[("WEIR_LIMITS_KEEP_ALIVE_TIMEOUT", "2")]);
    let files = weir.open_files();
    let mut slow: Vec<_> = (0..EACH)
        .map(|_| {
            let mut socket =
                TcpStream::connect_timeout(&weir.http_addr(), PATIENCE).expect("connects");
            socket
                .write_all(b"GET /health/live HTTP/1.1\r\nHost: weir\r\n\r\nGET /")
                .expect("sent");
            socket.set_nonblocking(true).expect("a socket option");
            Some(socket)
        })
        .collect();
    dribble_until_closed(&mut slow, b'a');
    wait_until("descriptors are given back", PATIENCE, || {
        weir.open_files() <= files + 2
    });
    finish(&weir);
}

/// A body is never waited for, so sending it slowly gains nothing.
#[test]
fn e2e_r2_slow_bodies() {
    let weir = Weir::start("dev", &[("WEIR_LIMITS_KEEP_ALIVE_TIMEOUT", "2")]);
    let files = weir.open_files();
    let mut slow: Vec<_> = (0..EACH)
        .map(|at| {
            let path = ["/health", "/live/nobody.flv", "/api/v1/sessions"][at % 3];
            let framing = ["Content-Length: 100000", "Transfer-Encoding: chunked"][at % 2];
            let mut socket =
                TcpStream::connect_timeout(&weir.http_addr(), PATIENCE).expect("connects");
            let head = format!("POST {path} HTTP/1.1\r\nHost: weir\r\n{framing}\r\n\r\n");
            socket.write_all(head.as_bytes()).expect("sent");
            socket.set_nonblocking(true).expect("a socket option");
            Some(socket)
        })
        .collect();
    dribble_until_closed(&mut slow, b'1');
    wait_until("descriptors are given back", PATIENCE, || {
        weir.open_files() <= files + 2
    });
    finish(&weir);
}

/// Whoever asks for much and reads nothing is closed by the write stall; it has cost what its socket holds.
#[test]
fn e2e_r2_slow_readers() {
    let weir = Weir::start("dev", &[("WEIR_LIMITS_WRITE_STALL_TIMEOUT", "5")]);
    weir.wait_until_live("demo");
    let segment = hls_segment(&weir);
    let (files, before) = (weir.open_files(), weir.rss_kib());
    let requests = format!("GET {segment} HTTP/1.1\r\nHost: weir\r\n\r\n").repeat(400);
    let readers: Vec<TcpStream> = (0..EACH)
        .map(|_| {
            let socket =
                Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).expect("a socket");
            socket
                .set_recv_buffer_size(4 << 10)
                .expect("a socket option");
            socket.connect(&weir.http_addr().into()).expect("connects");
            let mut socket = TcpStream::from(socket);
            socket.set_nonblocking(true).expect("a socket option");
            // As much as the server takes.
            let _ = socket.write(requests.as_bytes());
            socket
        })
        .collect();
    wait_until("they are there", PATIENCE, || {
        weir.open_files() + CLOSING >= files + EACH
    });
    finish(&weir);
    wait_until("they are closed", PATIENCE, || {
        weir.open_files() <= files + 2
    });
    let grown = weir.rss_kib().saturating_sub(before);
    assert!(grown < 64 * EACH as u64 + 8 * super::MIB, "{grown} KiB");
    drop(readers);
}

/// The path of a segment: far more than a socket holds, four hundred times.
pub(super) fn hls_segment(weir: &Weir) -> String {
    let multivariant = weir.get("/live/demo/index.m3u8").text();
    let media = multivariant.lines().last().expect("a variant");
    let folder = media.split_once('/').expect("a folder").0;
    let playlist = weir.get(&format!("/live/demo/{media}")).text();
    let segment = playlist
        .lines()
        .rfind(|line| line.ends_with(".m4s"))
        .expect("a segment");
    format!("/live/demo/{folder}/{segment}")
}

/// Sends one byte at a time for as long as the server takes them.
fn dribble_until_closed(sockets: &mut [Option<TcpStream>], byte: u8) {
    let start = Instant::now();
    while sockets.iter().any(Option::is_some) {
        assert!(
            start.elapsed() < PATIENCE,
            "slow connections are not closed"
        );
        for socket in sockets.iter_mut() {
            super::dribble(socket, byte);
        }
        std::thread::park_timeout(Duration::from_millis(200));
    }
}
