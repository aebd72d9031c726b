//! Peers that attack: what they cost the server, and what they cost others (FAULTS 1.1 to 1.3).
//!
//! Every test ends with a look at the log: nothing has panicked, and a real publisher still gets in.

mod http_2;
mod idle;
mod names;
mod slow_http;
mod text;

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use bytes::{BufMut as _, BytesMut};
use socket2::SockRef;
use weir_media::container::amf0::{self, Value};
use weir_proto::rtmp::{
    chunk::{CSID_COMMAND, CSID_CONTROL, CSID_VIDEO},
    message::{TYPE_AUDIO, TYPE_COMMAND, TYPE_DATA, TYPE_SET_CHUNK_SIZE, TYPE_VIDEO},
};

use crate::support::{
    PATIENCE, Weir, http,
    rtmp::{Client, FlvNumbers},
    wait_until,
};

/// One MiB in KiB, the unit of [`Weir::rss_kib`].
const MIB: u64 = 1_024;
/// How fast a publisher gets in while others attack (FAULTS R1).
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// P1: a chunk size is a number, never the size of a buffer.
#[test]
fn nginx1042_chunk_2g() {
    let weir = Weir::start("dev", &[]);
    let before = weir.rss_kib();
    let mut clients = Vec::new();
    for (size, accepted) in [
        (0_u32, false),
        (1, false),
        (127, false),
        (0x8000_0000, false),
        (0xFFFF_FFFF, false),
        (128, true),
        (65_536, true),
        (0x00FF_FFFF, true),
        (0x7FFF_FFFF, true),
    ] {
        let mut client = Client::open(weir.rtmp_addr()).expect("handshake");
        client.connect("live").expect("connect");
        let body = size.to_be_bytes();
        client
            .message(CSID_CONTROL, 0, TYPE_SET_CHUNK_SIZE, 0, &body)
            .expect("sent");
        if accepted {
            // One byte of a message that claims to be as long as may be.
            let len = 8 << 20;
            client
                .raw(&head(0, CSID_VIDEO, len, TYPE_VIDEO, 1))
                .expect("sent");
            client.raw(&[0]).expect("sent");
            clients.push(client);
        } else {
            client
                .until_closed()
                .expect("the server closes in good order");
            wait_until("the reason is logged", PATIENCE, || {
                weir.log().contains(&format!("chunk size {size} is "))
            });
        }
    }
    finish(&weir);
    let grown = weir.rss_kib().saturating_sub(before);
    assert!(grown < 9 * MIB, "nine connections: {grown} KiB");
}

/// P2: tiny chunks, each with its header, are work for nothing; they are refused before the first.
#[test]
fn red5_475_one_byte_chunks() {
    let weir = Weir::start("dev", &[]);
    let mut client = Client::open(weir.rtmp_addr()).expect("handshake");
    client.connect("live").expect("connect");
    client
        .message(
            CSID_CONTROL,
            0,
            TYPE_SET_CHUNK_SIZE,
            0,
            &1_u32.to_be_bytes(),
        )
        .expect("sent");
    let chunks = [0xC0 | CSID_VIDEO as u8, 0].repeat(10_000);
    send_until_closed(&mut client, |_| chunks.clone());
    wait_until("the reason is logged", PATIENCE, || {
        weir.log().contains("chunk size 1 is below 128")
    });
    finish(&weir);
}

/// P3: what is declared costs nothing; only what is sent does.
#[test]
fn declared_lengths_reserve_nothing() {
    const CONNECTIONS: u64 = 50;
    let weir = Weir::start("dev", &[]);
    let before = weir.rss_kib();
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = Client::open(weir.rtmp_addr()).expect("handshake");
        client.connect("live").expect("connect");
        for csid in 4..64 {
            // 8 MiB declared, the first chunk of it sent.
            let chunk = [&head(0, csid, 8 << 20, TYPE_VIDEO, 1)[..], &[0; 128]].concat();
            client.raw(&chunk).expect("sent");
        }
        client.create_stream().expect("all of it is read");
        clients.push(client);
    }
    let grown = weir.rss_kib().saturating_sub(before);
    assert!(
        grown < 2 * MIB * CONNECTIONS,
        "{CONNECTIONS} connections: {grown} KiB"
    );

    // Sixteen megabytes that are really sent, in messages that never end, are too much.
    let mut greedy = clients.pop().expect("there are some");
    greedy.set_chunk_size().expect("sent");
    let csid = |at: usize| 4 + u8::try_from(at % 60).expect("below 60");
    send_until_closed(&mut greedy, |at| {
        [&[0xC0 | csid(at)][..], &[0; 60_000]].concat()
    });
    wait_until("the reason is logged", PATIENCE, || {
        weir.log().contains("of unfinished messages")
    });
    finish(&weir);
}

/// P3, the other end of it: more than 64 chunk streams, or a message over the limit.
#[test]
fn chunk_streams_and_messages_are_limited() {
    let weir = Weir::start("dev", &[]);
    let mut client = Client::open(weir.rtmp_addr()).expect("handshake");
    client.connect("live").expect("connect");
    for csid in 64..128 {
        let basic = [0, u8::try_from(csid - 64).expect("below 320")];
        let chunk = [
            &basic[..],
            &head(0, 4, 16 << 20, TYPE_VIDEO, 1)[1..4],
            &[0, 0, 1, TYPE_VIDEO, 1, 0, 0, 0, 0],
        ]
        .concat();
        if client.raw(&chunk).is_err() {
            break;
        }
    }
    client.until_closed().expect("the server closes");
    wait_until("the reason is logged", PATIENCE, || {
        weir.log().contains("more than 64 chunk streams")
    });

    let mut client = Client::open(weir.rtmp_addr()).expect("handshake");
    client
        .raw(&head(0, CSID_VIDEO, 0x00FF_FFFF, TYPE_VIDEO, 1))
        .expect("sent");
    client.until_closed().expect("the server closes");
    wait_until("the reason is logged", PATIENCE, || {
        weir.log().contains("is longer than the limit of")
    });
    finish(&weir);
}

/// P4: a header in the middle of a message, and headers that refer to nothing.
#[test]
fn chunk_headers_out_of_order() {
    let weir = Weir::start("dev", &[]);
    let start = [&head(0, CSID_VIDEO, 1_000, TYPE_VIDEO, 1)[..], &[0; 128]].concat();
    let fmt1 = [0x40 | 9, 0, 0, 0, 0, 0, 1, TYPE_VIDEO, 7];
    let cases: [(&str, Vec<u8>, Option<&str>); 5] = [
        (
            "another type 0",
            [&start[..], &head(0, CSID_VIDEO, 1_000, TYPE_VIDEO, 1)].concat(),
            Some("a type 0 chunk interrupts"),
        ),
        (
            "another length",
            [&start[..], &head(1, CSID_VIDEO, 500, TYPE_VIDEO, 1)].concat(),
            Some("a type 1 chunk interrupts"),
        ),
        (
            "type 2 first",
            vec![0x80 | 9, 0, 0, 1],
            Some("a type 2 chunk on chunk stream 9 has no"),
        ),
        (
            "type 3 first",
            vec![0xC0 | 9],
            Some("a type 3 chunk on chunk stream 9 has no"),
        ),
        // librtmp begins its ping answers so.
        ("type 1 first", fmt1.to_vec(), None),
    ];
    for (what, bytes, refusal) in cases {
        let mut client = Client::open(weir.rtmp_addr()).expect("handshake");
        client.connect("live").expect("connect");
        client.raw(&bytes).expect("sent");
        match refusal {
            Some(reason) => {
                client
                    .until_closed()
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
                wait_until(what, PATIENCE, || weir.log().contains(reason));
            }
            None => {
                _ = client
                    .create_stream()
                    .unwrap_or_else(|error| panic!("{what}: {error}"))
            }
        }
    }
    finish(&weir);
}

/// P5: nesting is counted, not recursed into; a count is checked against the bytes that are there.
#[test]
fn flvmeta29_amf_70000() {
    let weir = Weir::start("dev", &[]);
    let objects = |depth: usize| [3, 0, 0].repeat(depth);
    let strict = |depth: usize| [0x0A, 0, 0, 0, 1].repeat(depth);
    let cases = [
        ("17 objects", objects(17), "nested deeper than 16"),
        ("70000 objects", objects(70_000), "nested deeper than 16"),
        ("40000 arrays", strict(40_000), "nested deeper than 16"),
        (
            "4 billion elements",
            vec![0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 5],
            "declares 4294967295 elements",
        ),
        ("a megabyte", vec![5; 1 << 20], "is longer than 262144"),
    ];
    for (what, argument, reason) in cases {
        let mut client = Client::open(weir.rtmp_addr()).expect("handshake");
        client.set_chunk_size().expect("sent");
        let mut body = BytesMut::new();
        amf0::encode(&"connect".into(), &mut body);
        amf0::encode(&1.0.into(), &mut body);
        body.put_slice(&argument);
        client
            .message(CSID_COMMAND, 0, TYPE_COMMAND, 0, &body)
            .expect("sent");
        client
            .until_closed()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        wait_until(what, PATIENCE, || weir.log().contains(reason));
    }
    let nested = (0..10).fold(Value::Null, |inner, _| Value::object([("a", inner)]));
    let mut client = Client::open(weir.rtmp_addr()).expect("handshake");
    client
        .command(
            0,
            "connect",
            &[Value::object([("app", "live".into()), ("nested", nested)])],
        )
        .expect("sent");
    client.create_stream().expect("ten levels are fine");
    finish(&weir);
}

/// F20: rubbish from a publisher that was accepted costs its stream nothing but the rubbish.
#[test]
fn e2e_f20_garbage_after_publish() {
    let weir = Weir::start("dev", &[("WEIR_LIMITS_PUBLISHER_GRACE", "0")]);
    let mut publisher = Client::publish(weir.rtmp_addr(), "rubbish").expect("publish");
    publisher.video_config(1).expect("sent");
    publisher.video_frame(1, 0, true, 0, 100).expect("sent");
    weir.wait_until_live("rubbish");
    let mut viewer = http::open(weir.http_addr(), "GET", "/live/rubbish.flv", &[]).expect("answer");
    let mut random = Random(4711);
    let mut number = 0;
    for at_ms in (40..20_000).step_by(40) {
        number += 1;
        publisher
            .video_frame(1, at_ms, number % 25 == 0, number, 100)
            .expect("sent");
        for type_id in [TYPE_VIDEO, TYPE_AUDIO, TYPE_DATA, 99] {
            let mut body = random.bytes(40);
            // Not a codec that is not carried, which has an answer of its own.
            body[0] = if type_id == TYPE_AUDIO {
                0xAF
            } else {
                0x17 + 0x10 * (body[0] & 1)
            };
            // Not a whole frame either, which would be one more than the numbered ones.
            body[1] = if body[1] == 1 { 2 } else { body[1] };
            publisher
                .message(CSID_VIDEO, at_ms, type_id, 1, &body)
                .expect("sent");
        }
    }
    drop(publisher);
    let mut flv = Vec::new();
    viewer
        .body
        .read_to_end(&mut flv)
        .expect("the stream ends in good order");
    let numbers = FlvNumbers::default().read(&flv);
    assert_eq!(numbers.last(), Some(&number), "the last frame arrives");
    assert_eq!(
        numbers.iter().filter(|&&seen| seen <= number).count(),
        numbers.len()
    );
    let log = weir.log();
    let lines = log.lines().count();
    assert!(
        lines < 40,
        "2000 damaged messages are {lines} log lines:\n{log}"
    );
    finish(&weir);
}

/// R1: thousands that dribble keep nobody out, and are gone after ten seconds.
#[test]
fn e2e_r1_slowloris() {
    const EACH: usize = 1_000;
    let weir = Weir::start("dev", &[]);
    let files = weir.open_files();
    let start = Instant::now();
    let connect = |addr: SocketAddr| {
        let socket = TcpStream::connect_timeout(&addr, PATIENCE).expect("connects");
        socket.set_nonblocking(true).expect("a socket option");
        Some(socket)
    };
    let mut rtmp: Vec<_> = (0..EACH).map(|_| connect(weir.rtmp_addr())).collect();
    let mut heads: Vec<_> = (0..EACH).map(|_| connect(weir.http_addr())).collect();
    let hello = [3_u8; 64];
    let head =
        b"GET /live/demo.flv HTTP/1.1\r\nHost: weir\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let mut round = 0;
    while rtmp.iter().chain(&heads).any(Option::is_some) {
        rtmp.iter_mut()
            .for_each(|socket| dribble(socket, hello[round % hello.len()]));
        heads
            .iter_mut()
            .for_each(|socket| dribble(socket, head[round % head.len()]));
        round += 1;
        if round == 2 {
            finish(&weir);
            assert!(weir.get("/live/demo/index.m3u8").status == 200);
        }
        assert!(
            start.elapsed() < Duration::from_secs(40),
            "dribbling connections are not closed"
        );
        std::thread::park_timeout(Duration::from_secs(1));
    }
    assert!(
        start.elapsed() > Duration::from_secs(9),
        "the deadline is ten seconds"
    );
    wait_until("descriptors are given back", PATIENCE, || {
        weir.open_files() <= files + 2
    });
    let lines = weir.log().lines().count();
    assert!(lines < 200, "2000 attackers are {lines} log lines");
    finish(&weir);
}

/// Sends one byte; forgets a connection that is closed.
fn dribble(socket: &mut Option<TcpStream>, byte: u8) {
    let Some(open) = socket else { return };
    let closed = match open.read(&mut [0; 64]) {
        Ok(len) => len == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    };
    if closed
        || open
            .write(&[byte])
            .is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock)
    {
        *socket = None;
    }
}

/// R2: a body that nobody asked for is not waited for, and a viewer that talks without end is not listened to.
#[test]
fn e2e_r2_bodies_and_chatter() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    for (method, path) in [
        ("POST", "/health"),
        ("GET", "/live/demo/index.m3u8"),
        ("PUT", "/live/demo.flv"),
    ] {
        let mut socket = TcpStream::connect_timeout(&weir.http_addr(), PATIENCE).expect("connects");
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket option");
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: weir\r\nContent-Length: 1000000000\r\n\r\n");
        socket.write_all(head.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        // Not one byte of the body is sent, so this ends only if the server closes.
        match socket.read_to_end(&mut answer) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => {
                panic!("{method} {path}: {error}")
            }
            _ => assert!(
                answer.starts_with(b"HTTP/1.1 "),
                "{method} {path} is answered"
            ),
        }
    }

    let before = weir.rss_kib();
    let mut chatty: Vec<_> = ["HTTP/1.0\r\n\r\n", "HTTP/1.1\r\nHost: weir\r\n\r\n"]
        .into_iter()
        .map(|rest| {
            let mut socket =
                TcpStream::connect_timeout(&weir.http_addr(), PATIENCE).expect("connects");
            socket
                .write_all(format!("GET /live/demo.flv {rest}").as_bytes())
                .expect("sent");
            socket
                .read_exact(&mut [0; 1_000])
                .expect("the stream begins");
            socket.set_nonblocking(true).expect("a socket option");
            socket
        })
        .collect();
    let mut player = Client::play(
        TcpStream::connect_timeout(&weir.rtmp_addr(), PATIENCE).expect("connects"),
        "demo",
    )
    .expect("plays");
    let start = Instant::now();
    let mut watched = 0;
    while start.elapsed() < Duration::from_secs(2) {
        for socket in &mut chatty {
            // Both directions, so that it is the chatter that is at stake and not the reading.
            let _ = socket.write(&[b'x'; 64 << 10]);
            let _ = socket.read(&mut [0; 64 << 10]);
        }
        let message = player
            .next_message()
            .expect("the stream goes on")
            .expect("it does not end");
        watched += usize::from(message.type_id == TYPE_VIDEO);
    }
    assert!(watched > 30, "{watched} pictures in two seconds");
    let grown = weir.rss_kib().saturating_sub(before);
    assert!(grown < 16 * MIB, "two that talk: {grown} KiB");
    finish(&weir);
}

/// The limit on connections holds new ones back; those that are there go on.
#[test]
fn e2e_connection_limit() {
    let weir = Weir::start(
        "dev",
        &[
            ("WEIR_SERVER_MAX_CONNECTIONS", "8"),
            ("WEIR_LIMITS_HANDSHAKE_TIMEOUT", "3"),
        ],
    );
    let mut viewer = http::open(weir.http_addr(), "GET", "/live/demo.flv", &[]).expect("answer");
    let idle: Vec<_> = (0..30)
        .map(|_| {
            TcpStream::connect_timeout(&weir.rtmp_addr(), PATIENCE).expect("the kernel takes it")
        })
        .collect();
    let start = Instant::now();
    let mut watched = 0;
    while start.elapsed() < Duration::from_secs(2) {
        watched += viewer
            .body
            .read(&mut [0; 16 << 10])
            .expect("the stream goes on");
    }
    assert!(watched > 50_000, "{watched} bytes in two seconds");
    drop(idle);
    finish(&weir);
}

/// F34: without a descriptor left, newcomers are told so, those inside are served, nothing spins, and it passes.
#[test]
fn e2e_f34_no_descriptor_left() {
    const DESCRIPTORS: usize = 100;
    const LISTENERS: u32 = 5;
    let weir = Weir::start_with_descriptors(
        DESCRIPTORS,
        "dev",
        &[("WEIR_LIMITS_HANDSHAKE_TIMEOUT", "300")],
    );
    weir.wait_until_live("demo");
    let mut viewer = http::open(weir.http_addr(), "GET", "/live/demo.flv", &[]).expect("answer");
    let mut metrics = http::Connection::open(weir.http_addr()).expect("weir accepts");
    let mut metric = |name: &str| {
        let text = metrics
            .get("/metrics")
            .expect("the connection stays")
            .text();
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        let value = value.and_then(|value| value.trim().parse::<u64>().ok());
        value.unwrap_or_else(|| panic!("no {name} in\n{text}"))
    };
    let refused = "streaming_connections_refused_total{reason=\"no_descriptor\"}";
    let errors = "streaming_accept_errors_total";
    assert_eq!((metric(refused), metric(errors)), (0, 0));

    let connect = || TcpStream::connect_timeout(&weir.rtmp_addr(), PATIENCE).expect("connects");
    let mut idle: Vec<_> = (0..DESCRIPTORS * 2).map(|_| connect()).collect();
    let is_closed = |socket: &mut TcpStream| {
        socket.set_nonblocking(true).expect("a socket option");
        let read = socket.read(&mut [0]);
        !read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    };
    wait_until("those beyond are turned away", PATIENCE, || {
        idle.retain_mut(|socket| !is_closed(socket));
        idle.len() < DESCRIPTORS
    });
    assert!(idle.len() > DESCRIPTORS / 2, "{} got in", idle.len());
    assert!(metric(refused) >= DESCRIPTORS as u64);
    for _ in 0..3 {
        let answer = http::try_get(weir.http_addr(), "/health").expect("it is told");
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("retry-after"), Some("10"));
    }

    let (start, before) = (Instant::now(), metric(errors));
    let mut watched = 0;
    while start.elapsed() < Duration::from_secs(2) {
        let read = viewer.body.read(&mut [0; 16 << 10]);
        watched += read.expect("the stream goes on");
    }
    assert!(watched > 50_000, "{watched} bytes in two seconds");
    // One try in a tenth of a second for each listener, however long this took.
    let tries = metric(errors) - before;
    let most = u64::from(LISTENERS) * (start.elapsed().as_millis() as u64 / 100 + 2);
    assert!(tries <= most, "{tries} tries");

    drop(idle);
    wait_until("it passes", PATIENCE, || {
        http::try_get(weir.http_addr(), "/health").is_ok_and(|answer| answer.status == 200)
    });
    finish(&weir);
}

/// F27: a storm of viewers that vanish with a reset leaves no task, no descriptor and no flood of lines.
#[test]
fn e2e_f27_reset_storm() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    let (files, lines) = (weir.open_files(), weir.log().lines().count());
    for round in 0..300 {
        let socket = if round % 2 == 0 {
            let socket = TcpStream::connect_timeout(&weir.rtmp_addr(), PATIENCE).expect("connects");
            let mut player = Client::play(socket, "demo").expect("plays");
            player.next_message().expect("something comes");
            player.socket().try_clone().expect("a descriptor")
        } else {
            let mut socket =
                TcpStream::connect_timeout(&weir.http_addr(), PATIENCE).expect("connects");
            socket
                .write_all(b"GET /live/demo.flv HTTP/1.1\r\nHost: weir\r\n\r\n")
                .expect("sent");
            socket
                .set_read_timeout(Some(PATIENCE))
                .expect("a socket option");
            socket.read_exact(&mut [0; 1_000]).expect("something comes");
            socket
        };
        SockRef::from(&socket)
            .set_linger(Some(Duration::ZERO))
            .expect("a socket option");
    }
    wait_until("nobody watches", PATIENCE, || {
        weir.stream("demo").is_some_and(|row| row["viewers"] == 0)
    });
    wait_until("descriptors are given back", PATIENCE, || {
        weir.open_files() <= files + 2
    });
    let added = weir.log().lines().count() - lines;
    assert!(added < 30, "300 resets are {added} log lines");
    finish(&weir);
}

/// F27: who leaves in the middle of a segment or of a message, or only half, costs nothing afterwards.
#[test]
fn e2e_f27_viewers_that_leave_in_the_middle() {
    let weir = Weir::start("dev", &[("VIEWER_TIMEOUT_SECONDS", "1")]);
    weir.wait_until_live("demo");
    let segment = slow_http::hls_segment(&weir);
    let (files, lines) = (weir.open_files(), weir.log().lines().count());
    let mut halves = Vec::new();
    for round in 0..300 {
        let path = ["/live/demo.flv", "/live/demo.ts", &segment][round % 3];
        let mut socket = TcpStream::connect_timeout(&weir.http_addr(), PATIENCE).expect("connects");
        let head = format!("GET {path} HTTP/1.1\r\nHost: weir\r\n\r\n");
        socket.write_all(head.as_bytes()).expect("sent");
        // Less than any head and any message.
        socket.read_exact(&mut [0; 17]).expect("something comes");
        match round / 100 {
            // Closed on unread bytes, which is a reset; closed in one direction only; cut off in a request.
            0 => drop(socket),
            1 => {
                socket.shutdown(Shutdown::Write).expect("it is connected");
                halves.push(socket);
            }
            _ => socket.write_all(b"GET /live/de").expect("sent"),
        }
    }
    for mut half in halves {
        half.set_read_timeout(Some(PATIENCE))
            .expect("a socket option");
        half.read_to_end(&mut Vec::new())
            .expect("the other half is closed as well");
    }
    wait_until("nobody watches", PATIENCE, || {
        weir.stream("demo").is_some_and(|row| row["viewers"] == 0)
    });
    wait_until("descriptors are given back", PATIENCE, || {
        weir.open_files() <= files + 2
    });
    let added = weir.log().lines().count() - lines;
    assert!(added < 30, "300 viewers are {added} log lines");
    finish(&weir);
}

/// F22: however a publisher ends, nothing of it stays.
#[test]
fn e2e_f22_publish_cycles_leave_nothing() {
    const CYCLES: usize = 1_000;
    let weir = Weir::start(
        "dev",
        &[
            ("WEIR_LIMITS_PUBLISHER_GRACE", "0"),
            ("WEIR_HLS_PLAYLIST_SIZE", "3"),
        ],
    );
    let cycle = |round: usize| {
        let mut client = Client::publish(weir.rtmp_addr(), "cycle").expect("publish");
        client.video_config(1).expect("sent");
        client.video_frame(1, 0, true, 0, 1_000).expect("sent");
        match round % 5 {
            0 => client.command(0, "FCUnpublish", &[Value::Null, "cycle".into()]),
            1 => client.command(0, "deleteStream", &[Value::Null, 1.0.into()]),
            2 => client.command(1, "closeStream", &[Value::Null]),
            3 => client.half_close(),
            _ => SockRef::from(client.socket()).set_linger(Some(Duration::ZERO)),
        }
        .expect("sent");
        // The next one must find the name free, or it is told that somebody has it.
        if round % 5 < 4 {
            _ = client.half_close();
            client.until_closed().expect("the server closes");
        }
        drop(client);
        wait_until("the name is free", PATIENCE, || {
            weir.stream("cycle")
                .is_none_or(|row| row["state"] != "live" && row["state"] != "starting")
        });
    };
    (0..200).for_each(cycle);
    let (files, memory) = (weir.open_files(), weir.rss_kib());
    (0..CYCLES).for_each(cycle);
    wait_until("the stream ends", PATIENCE, || {
        weir.stream("cycle").is_none()
    });
    wait_until("descriptors are given back", PATIENCE, || {
        weir.open_files() <= files
    });
    let grown = weir.rss_kib().saturating_sub(memory);
    assert!(grown < 8 * MIB, "{CYCLES} cycles: {grown} KiB");
    finish(&weir);
}

/// F22: two streams on one connection, ended one after the other.
#[test]
fn f22_two_streams_on_one_connection() {
    let weir = Weir::start("dev", &[("WEIR_LIMITS_PUBLISHER_GRACE", "0")]);
    let mut client = Client::publish(weir.rtmp_addr(), "first").expect("publish");
    let second = client.create_stream().expect("a second message stream");
    let status = client.request_publish(second, "second").expect("answer");
    assert_eq!(status.code, "NetStream.Publish.Start");
    for stream_id in [1, second] {
        client.video_config(stream_id).expect("sent");
        client
            .video_frame(stream_id, 0, true, 0, 1_000)
            .expect("sent");
    }
    weir.wait_until_live("first");
    weir.wait_until_live("second");
    client
        .command(0, "deleteStream", &[Value::Null, 1.0.into()])
        .expect("sent");
    wait_until("the first ends", PATIENCE, || {
        weir.stream("first").is_none()
    });
    assert!(
        weir.stream("second")
            .is_some_and(|row| row["state"] == "live")
    );
    drop(client);
    wait_until("the second ends", PATIENCE, || {
        weir.stream("second").is_none()
    });
    finish(&weir);
}

/// Sends what `next` makes, until the server has closed the connection.
fn send_until_closed(client: &mut Client, next: impl Fn(usize) -> Vec<u8>) {
    let deadline = Instant::now() + PATIENCE;
    for at in 0.. {
        if client.raw(&next(at)).is_err() {
            return;
        }
        assert!(Instant::now() < deadline, "the server takes it all");
    }
}

/// A chunk header of type 0 or 1 with a message header.
fn head(format: u8, csid: u32, len: u32, type_id: u8, stream_id: u32) -> Vec<u8> {
    let mut out = vec![format << 6 | u8::try_from(csid).expect("one byte"), 0, 0, 0];
    out.extend(&len.to_be_bytes()[1..]);
    out.push(type_id);
    if format == 0 {
        out.extend(stream_id.to_le_bytes());
    }
    out
}

/// Nothing has panicked, nobody watches any more, and a real publisher gets in at once.
fn finish(weir: &Weir) {
    let start = Instant::now();
    let mut publisher = Client::publish(weir.rtmp_addr(), "honest").expect("an honest publisher");
    let took = start.elapsed();
    assert!(took < CONNECT_LIMIT, "an honest publisher waits {took:?}");
    publisher.video_config(1).expect("sent");
    publisher.video_frame(1, 0, true, 0, 1_000).expect("sent");
    weir.wait_until_live("honest");
    drop(publisher);
    wait_until("it is gone", PATIENCE, || {
        weir.stream("honest")
            .is_none_or(|row| row["state"] == "waiting")
    });
    assert!(!weir.log().contains("panicked"), "{}", weir.log());
}

/// Numbers that look random and are the same each time (splitmix64).
struct Random(u64);

impl Random {
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut next = || {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed.to_be_bytes()[0]
        };
        (0..len).map(|_| next()).collect()
    }
}
