//! R4: clients of HTTP/2 that make work, or fill memory, without asking for anything (RFC 9113, section 10.5).
//!
//! Owns: a client that writes frames by hand. Every attack ends with the connection closed, or with a peer that is
//! held back; nobody else notices.

use std::{
    io::{self, Read as _, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use rustls::{ClientConnection, StreamOwned};

use super::{MIB, finish};
use crate::support::{
    PATIENCE,
    tls::{Server, connect},
    wait_until,
};

/// Types and flags of frames (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The error code `CANCEL`.
const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// Frames of a flood. Whoever takes them all in has no limit.
const FLOOD: u32 = 200_000;
/// What one hostile connection may cost.
const GROWTH_MAX_KIB: u64 = 8 * MIB;

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// CVE-2023-44487: requests that are taken back at once.
#[test]
fn e2e_r4_rapid_reset() {
    let was_stopped = attack(|client| {
        for number in 0..FLOOD {
            let id = 2 * number + 1;
            let mut frames = frame(HEADERS, END_STREAM | END_HEADERS, id, &request("GET"));
            frames.extend(frame(RST_STREAM, 0, id, &CANCEL));
            client.write_all(&frames)?;
        }
        Ok(())
    });
    assert!(was_stopped);
}

/// CVE-2024-2758: a head that goes on in frame after frame, and that nobody ever sees.
#[test]
fn e2e_r4_continuation_flood() {
    let was_stopped = attack(|client| {
        client.write_all(&frame(HEADERS, END_STREAM, 1, &request("GET")))?;
        let field = [&[0, 1, b'x', 100][..], &[b'y'; 100]].concat();
        let fields = field.repeat(100);
        for _ in 0..FLOOD {
            client.write_all(&frame(CONTINUATION, 0, 1, &fields))?;
        }
        Ok(())
    });
    assert!(was_stopped);
}

/// CVE-2019-9518: frames with nothing in them, of a body that does not end.
#[test]
fn e2e_r4_empty_data_flood() {
    attack(|client| {
        client.write_all(&frame(HEADERS, END_HEADERS, 1, &request("POST")))?;
        let frames = frame(DATA, 0, 1, &[]).repeat(100);
        for _ in 0..FLOOD / 100 {
            client.write_all(&frames)?;
        }
        Ok(())
    });
}

/// CVE-2019-9515 and CVE-2019-9512: every frame wants an answer, and no answer is read.
#[test]
fn e2e_r4_settings_and_ping_flood() {
    for (kind, body) in [(SETTINGS, &[][..]), (PING, &[0; 8])] {
        attack(|client| {
            let frames = frame(kind, 0, 0, body).repeat(1_000);
            for _ in 0..FLOOD / 100 {
                client.write_all(&frames)?;
            }
            Ok(())
        });
    }
}

/// A stream with more requests at once than are allowed, none of them read: the rest is refused.
#[test]
fn e2e_r4_more_requests_than_allowed() {
    attack(|client| {
        for number in 0..2_000 {
            let head = frame(
                HEADERS,
                END_STREAM | END_HEADERS,
                2 * number + 1,
                &request("GET"),
            );
            client.write_all(&head)?;
        }
        Ok(())
    });
}

/// Floods a connection until the server has closed it or takes nothing more, or until the flood is over. Whoever is
/// there already goes on, memory stays, the connection ends. Says whether the server stopped the flood before its end.
fn attack(flood: impl FnOnce(&mut Stream) -> io::Result<()>) -> bool {
    let server = Server::start(&[
        ("WEIR_LIMITS_WRITE_STALL_TIMEOUT", "2"),
        ("WEIR_LIMITS_KEEP_ALIVE_TIMEOUT", "2"),
        ("WEIR_LIMITS_HANDSHAKE_TIMEOUT", "4"),
    ]);
    let weir = &server.weir;
    weir.wait_until_live("demo");
    let addr = weir.addr_of("https");
    let mut viewer = connect(addr, "localhost", &server.pair, &[]).expect("weir speaks TLS");
    viewer
        .write_all(b"GET /live/demo.flv HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("sent");
    viewer.read_exact(&mut [0; 1_000]).expect("it plays");
    let (before, files) = (weir.rss_kib(), weir.open_files());

    let mut client = connect(addr, "localhost", &server.pair, &["h2"]).expect("weir speaks TLS");
    assert_eq!(client.conn.alpn_protocol(), Some(&b"h2"[..]));
    client
        .write_all(
            &[
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                &frame(SETTINGS, 0, 0, &[])[..],
            ]
            .concat(),
        )
        .expect("sent");
    let timeout = Some(Duration::from_secs(10));
    client
        .sock
        .set_write_timeout(timeout)
        .expect("a socket option");
    let was_stopped = flood(&mut client).is_err();
    let grown = weir.rss_kib().saturating_sub(before);
    assert!(grown < GROWTH_MAX_KIB, "{grown} KiB");
    finish(weir);
    until_closed(&mut client);
    drop(client);

    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        viewer.read_exact(&mut [0; 1_000]).expect("it goes on");
    }
    wait_until("descriptors are given back", PATIENCE, || {
        weir.open_files() <= files
    });
    was_stopped
}

/// Reads until the connection ends, closed or reset.
fn until_closed(client: &mut Stream) {
    if let Err(error) = client.read_to_end(&mut Vec::new()) {
        assert!(error.kind() != io::ErrorKind::WouldBlock, "it stays open");
    }
}

/// The fields of a request for the stream of `demo` (RFC 7541): indexed, or literal with an indexed name.
fn request(method: &str) -> Vec<u8> {
    let literal = |index: u8, value: &str| {
        let len = u8::try_from(value.len()).expect("it is short");
        [&[index, len], value.as_bytes()].concat()
    };
    let method = if method == "GET" { 0x82 } else { 0x83 };
    [
        &[method, 0x87][..],
        &literal(4, "/live/demo/index.m3u8"),
        &literal(1, "localhost"),
    ]
    .concat()
}

fn frame(kind: u8, flags: u8, stream_id: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len())
        .expect("it is short")
        .to_be_bytes();
    let mut frame = vec![len[1], len[2], len[3], kind, flags];
    frame.extend(stream_id.to_be_bytes());
    frame.extend(body);
    frame
}
