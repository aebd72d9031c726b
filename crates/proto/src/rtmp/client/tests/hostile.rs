//! What hostile or broken servers send: a fault with a cause or a refusal, no panic, no memory, no secret shown.

use proptest::prelude::*;
use weir_media::container::amf0::TOTAL_LEN_MAX;

use super::*;

#[test]
fn faults_name_the_byte_and_the_cause() {
    check_fault(b"H", 1, Cause::Version(b'H'));
    let connected = [handshake(), result(1.0, &[])].concat();
    let offset = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap();
    for id in [
        Value::Null,
        0.0.into(),
        (-1.0).into(),
        1.5.into(),
        f64::NAN.into(),
        f64::INFINITY.into(),
        "1".into(),
    ] {
        let script = [&connected[..], &result(4.0, &[id])].concat();
        check_fault(&script, offset(&script), Cause::StreamId);
    }
    let nameless = [
        handshake(),
        message(TYPE_COMMAND, 0, 0, &amf(&[1.0.into()])),
    ]
    .concat();
    check_fault(&nameless, offset(&nameless), Cause::CommandName);
    for type_id in [1, 2, 5, 6] {
        let short = [handshake(), message(type_id, 0, 0, &[0; 3])].concat();
        check_fault(&short, offset(&short), Cause::Control(type_id));
    }
    let mut server = Server::new(Role::Play);
    let error = server.send(b"HTTP/1.1 400 Bad Request\r\n").unwrap_err();
    assert_eq!(
        error.to_string(),
        "not RTMP: the first byte is 0x48, not 0x03, at byte 1 of the connection"
    );
}

#[track_caller]
fn check_fault(input: &[u8], offset: u64, cause: Cause) {
    for role in [Role::Play, Role::Publish] {
        let mut server = Server::new(role);
        assert_eq!(server.send(input), Err(Error { offset, cause }));
        assert!(server.client.should_close());
        assert_eq!(server.client.poll_event(), Ok(None));
    }
}

#[test]
fn p1_p2_chunk_sizes() {
    for (size, accepted) in [
        (0, false),
        (1, false),
        (127, false),
        (128, true),
        (65_536, true),
        (0x7FFF_FFFF, true),
        (0x8000_0000, false),
        (u32::MAX, false),
    ] {
        let mut server = Server::active(Role::Play);
        let sent = server.send(&message(TYPE_SET_CHUNK_SIZE, 0, 0, &u32::to_be_bytes(size)));
        assert_eq!(sent.is_ok(), accepted, "{size}");
        let big = [0x06, 0, 0, 0, 0x7F, 0xFF, 0xFF, 9, 1, 0, 0, 0, 0xAA];
        let _ = server.send(&big);
        assert!(server.client.buffered_bytes() < 4096, "{size}");
    }
}

#[test]
fn p3_p4_unfinished_messages() {
    let mut server = Server::active(Role::Play);
    // Chunk stream 3 is in use already.
    for csid in 4..64u8 {
        server
            .send(
                &[
                    &[csid, 0, 0, 0, 0x80, 0, 0, 9, 1, 0, 0, 0][..],
                    &[0xAA; 128],
                ]
                .concat(),
            )
            .unwrap();
    }
    assert!(server.client.buffered_bytes() < 60 * 256 + 4096);
    let restarted = [4, 0, 0, 0, 0x80, 0, 0, 9, 1, 0, 0, 0];
    let error = server.send(&restarted).unwrap_err();
    let cause = chunk::ReadError::Interrupted { format: 0, csid: 4 };
    assert_eq!(error.cause, Cause::Chunk(cause));

    let mut server = Server::active(Role::Play);
    let mut sent = Ok(());
    for csid in 0..64u8 {
        sent = server.send(&[0, csid, 0, 0, 0, 0, 0, 1, 9, 1, 0, 0, 0, 0xAA]);
    }
    let cause = Cause::Chunk(chunk::ReadError::ChunkStreams);
    assert_eq!(sent.unwrap_err().cause, cause);

    let mut server = Server::active(Role::Play);
    let too_long = [0x06, 0, 0, 0, 0x80, 0, 1, 9, 1, 0, 0, 0];
    let max = chunk::MESSAGE_LEN_MAX;
    let cause = chunk::ReadError::MessageLength { len: max + 1, max };
    let error = server.send(&too_long).unwrap_err();
    assert_eq!(error.cause, Cause::Chunk(cause));
}

#[test]
fn p5_nesting() {
    for opening in [
        &b"\x03\0\x01a"[..],
        b"\x08\0\0\0\x01\0\x01a",
        b"\x0a\0\0\0\x01",
    ] {
        let mut body = amf(&["_result".into(), 1.0.into()]);
        body.extend(opening.repeat(70_000));
        body.truncate(TOTAL_LEN_MAX);
        let mut server = Server::new(Role::Play);
        server.send(&handshake()).unwrap();
        let error = server
            .send(&message(TYPE_COMMAND, 0, 0, &body))
            .unwrap_err();
        let is_depth = matches!(error.cause, Cause::Command(amf0::Error::Depth { .. }));
        assert!(is_depth, "{error}");
        // As metadata it costs the metadata only.
        let mut server = Server::active(Role::Play);
        server.send(&message(TYPE_DATA, 1, 0, &body)).unwrap();
        assert_eq!(server.event_names(), ["bad metadata"]);
    }
}

#[test]
fn words_of_the_server_are_shortened_and_redacted() {
    let mut server = Server::connected(Role::Publish);
    let info = Value::object([
        ("level", "error".into()),
        ("code", "x".repeat(60_000).as_str().into()),
        (
            "description",
            format!(
                "no\r\n\u{1b}[31m 5ecret?key=hidden, hidden {}",
                "y".repeat(60_000)
            )
            .as_str()
            .into(),
        ),
    ]);
    let mut shown = format!("{:?} {:?}", server.client, server.client.config);
    server.send(&command(0, "onStatus", 0.0, &[info])).unwrap();
    shown += &format!("{:?} {:?}", server.client, server.events);
    let Some(Event::Refused { code, description }) = server.events.pop() else {
        panic!("not refused");
    };
    assert_eq!(code.len(), 64);
    assert_eq!(description.len(), 200);
    assert!(
        description.starts_with("no[31m ***, *** yyy"),
        "{description}"
    );
    assert!(
        !shown.contains("5ecret") && !shown.contains("hidden"),
        "{shown}"
    );
}

#[test]
fn answers_nobody_asked_for_change_nothing() {
    let mut server = Server::active(Role::Publish);
    let script = [
        result(1.0, &[connect_info()]),
        result(4.0, &[9.0.into()]),
        status(1, "status", "NetStream.Publish.Start"),
        status(1, "status", "NetStream.Play.Start"),
        status(1, "status", "NetStream.Play.UnpublishNotify"),
        message(TYPE_VIDEO, 1, 0, &[0x17; 9]),
        message(TYPE_DATA, 1, 0, &amf(&["onMetaData".into()])),
    ];
    server.send(&script.concat()).unwrap();
    assert_eq!(server.event_names(), [""; 0]);
    assert_eq!(server.heard(), [""; 0]);
    assert_eq!(server.client.stream_id(), Some(1));
    // Media and statuses before there is a stream.
    let mut server = Server::connected(Role::Play);
    server.send(&script[2..].concat()).unwrap();
    assert_eq!(server.event_names(), [""; 0]);
    assert!(!server.client.has_role());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_cost_no_memory(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..12),
        is_active in any::<bool>(),
        is_player in any::<bool>(),
    ) {
        let role = if is_player { Role::Play } else { Role::Publish };
        let mut server = if is_active { Server::active(role) } else { Server::connected(role) };
        let mut sent = 0;
        for piece in pieces {
            sent += piece.len();
            if server.send(&piece).is_err() {
                prop_assert!(server.client.should_close());
                break;
            }
            prop_assert!(server.client.buffered_bytes() <= 4 * sent + 16 * 1024);
        }
    }

    #[test]
    fn arbitrary_messages_never_panic(
        messages in prop::collection::vec(
            (0u8..24, 0u32..3, any::<u32>(), prop::collection::vec(0u8..20, 0..60)), 0..12,
        ),
    ) {
        let mut server = Server::active(Role::Play);
        for (type_id, stream_id, timestamp_ms, body) in messages {
            if server.send(&message(type_id, stream_id, timestamp_ms, &body)).is_err() {
                prop_assert!(server.client.should_close());
                prop_assert!(matches!(server.client.poll_event(), Ok(None)));
                break;
            }
        }
    }
}
