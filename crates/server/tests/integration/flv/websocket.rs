//! WS-FLV from outside: the upgrade, the messages, and a client that breaks the protocol.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use super::checker::{self, Tracks};
use crate::support::{PATIENCE, Weir, wait_until};

/// Some seconds of the demo stream.
const DEMO_LEN: usize = 100_000;

#[test]
fn e2e_ws_flv_carries_the_bytes_of_http_flv() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    for path in ["/live/demo.flv", "/demo.flv"] {
        let mut client = Client::open(&weir, path);
        let viewers = |count: u64| {
            wait_until("the viewer counts", PATIENCE, || {
                weir.stream("demo")
                    .is_some_and(|stream| stream["viewers_by_protocol"]["ws-flv"] == count)
            });
        };
        viewers(1);
        let mut bytes = Vec::new();
        while bytes.len() < DEMO_LEN {
            let (opcode, payload) = client.frame().expect("the stream goes on");
            assert_eq!(opcode, 0x82, "a whole binary message");
            bytes.extend(payload);
        }
        assert_eq!(
            checker::check_start(&bytes),
            Ok(Tracks {
                video: true,
                audio: true
            })
        );
        client.send(0x89, b"are you there");
        assert_eq!(
            client.next_control(),
            (0x8A, b"are you there".to_vec()),
            "a pong of the same payload"
        );
        client.send(0x88, &[0x03, 0xE8]);
        assert_eq!(
            client.next_control(),
            (0x88, vec![0x03, 0xE8]),
            "a close answers a close"
        );
        assert!(client.frame().is_none(), "the connection ends");
        wait_until("the viewer has left", PATIENCE, || {
            weir.stream("demo")
                .is_some_and(|stream| stream["viewers"] == 0)
        });
    }
}

#[test]
fn e2e_ws_flv_refuses_what_is_not_the_protocol() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    for (path, headers, expected) in [
        ("/live/demo.flv", "Sec-WebSocket-Version: 13\r\n", 400),
        (
            "/live/demo.flv",
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2hvcnQ=\r\n",
            400,
        ),
        (
            "/live/demo.flv",
            "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            426,
        ),
        (
            "/live/nothing.flv",
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            404,
        ),
    ] {
        let (status, _) = upgrade(&weir, path, headers);
        assert_eq!(status, expected, "{path} {headers:?}");
    }
    let mut client = Client::open(&weir, "/live/demo.flv");
    client
        .socket
        .write_all(&[0x82, 0x01, 0x00])
        .expect("the socket takes it");
    assert_eq!(
        client.next_control(),
        (0x88, vec![0x03, 0xEA]),
        "an unmasked frame is a protocol error"
    );
    assert!(client.frame().is_none());
    assert!(!weir.log().contains("panicked"), "{}", weir.log());
}

/// Asks for an upgrade; the status of the answer, and the connection behind its head.
fn upgrade(weir: &Weir, path: &str, headers: &str) -> (u16, TcpStream) {
    let mut socket = TcpStream::connect(weir.http_addr()).expect("weir listens");
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a time-out is allowed");
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: weir\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n{headers}\r\n"
    );
    socket.write_all(head.as_bytes()).expect("weir reads");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("a whole head");
        answer.push(byte[0]);
    }
    let answer = String::from_utf8(answer).expect("a head is text");
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    if status == Some(101) {
        let accepted = answer
            .to_ascii_lowercase()
            .contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=");
        assert!(accepted, "{answer}");
    }
    (status.expect("a status line"), socket)
}

struct Client {
    socket: TcpStream,
}

impl Client {
    fn open(weir: &Weir, path: &str) -> Self {
        let headers =
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let (status, socket) = upgrade(weir, path, headers);
        assert_eq!(status, 101);
        Self { socket }
    }

    /// The next frame of the server; none at the end.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.socket.read_exact(&mut head).ok()?;
        let len = match head[1] {
            126 => u64::from(u16::from_be_bytes(self.take())),
            127 => u64::from_be_bytes(self.take()),
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(len).expect("a length in memory")];
        self.socket.read_exact(&mut payload).ok()?;
        Some((head[0], payload))
    }

    /// The next frame that is not media.
    fn next_control(&mut self) -> (u8, Vec<u8>) {
        loop {
            let frame = self.frame().expect("a control frame");
            if frame.0 != 0x82 {
                return frame;
            }
        }
    }

    fn send(&mut self, first: u8, payload: &[u8]) {
        let len = u8::try_from(payload.len()).expect("a short payload");
        let mask = [0xA5, 0x5A, 0x00, 0xFF];
        let mut bytes = vec![first, 0x80 | len];
        bytes.extend(mask);
        bytes.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        self.socket.write_all(&bytes).expect("the socket takes it");
    }

    fn take<const LEN: usize>(&mut self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        self.socket.read_exact(&mut bytes).expect("a whole header");
        bytes
    }
}
