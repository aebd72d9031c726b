//! What hostile or broken clients send: a fault with a cause, no panic, no memory, no secret in a log.

use super::*;

#[test]
fn faults_name_the_byte_and_the_cause() {
    check_fault(b"G", 1, Cause::Version(b'G'));
    check_fault(
        &[handshake(), call(0, "createStream", 2.0, &[])].concat(),
        3110,
        Cause::NotConnected,
    );
    let connects = [handshake(), connect("live"), connect("live")].concat();
    check_fault(
        &connects,
        u64::try_from(connects.len()).unwrap(),
        Cause::ConnectedTwice,
    );
    let nameless = [
        handshake(),
        message(TYPE_COMMAND, 0, 0, &amf(&[1.0.into()])),
    ]
    .concat();
    check_fault(&nameless, 3094, Cause::CommandName);
    let error = Error {
        offset: 1,
        cause: Cause::Version(b'G'),
    };
    assert_eq!(
        error.to_string(),
        "not RTMP: the first byte is 0x47, not 0x03, at byte 1 of the connection"
    );
}

#[test]
fn nginx1042_chunk_2g() {
    for (size, accepted) in [
        (1, false),
        (127, false),
        (128, true),
        (65_536, true),
        (0x7FFF_FFFF, true),
        (0, false),
        (0x8000_0000, false),
        (u32::MAX, false),
    ] {
        let mut client = Client::publishing();
        let result = client.send(&message(TYPE_SET_CHUNK_SIZE, 0, 0, &u32::to_be_bytes(size)));
        assert_eq!(result.is_ok(), accepted, "{size}");
        // Neither the size nor the declared length costs memory.
        let big = [0x06, 0, 0, 0, 0x7F, 0xFF, 0xFF, 9, 1, 0, 0, 0, 0xAA];
        let _ = client.send(&big);
        assert!(client.session.buffered_bytes() < 4096, "{size}");
    }
}

#[test]
fn red5_475_one_byte_chunks() {
    let one = message(TYPE_SET_CHUNK_SIZE, 0, 0, &[0, 0, 0, 1]);
    let mut client = Client::publishing();
    let error = client.send(&one).unwrap_err();
    assert_eq!(
        error.cause,
        Cause::Chunk(chunk::ReadError::ChunkSizeSmall(1))
    );

    let limits = chunk::Limits {
        allow_small_chunks: true,
        ..Default::default()
    };
    let mut client = Client::publishing_with(Config {
        limits,
        ..Config::default()
    });
    client
        .send(
            &[
                &one[..],
                &[0x06, 0, 0, 0, 0, 0, 2, 9, 1, 0, 0, 0, 5, 0xC6, 5],
            ]
            .concat(),
        )
        .unwrap();
    assert_eq!(client.event_names(), ["Video 1 0 2"]);
}

#[test]
fn p3_unfinished_messages_on_64_chunk_streams() {
    let mut client = Client::publishing();
    // Chunk stream 3 is in use already; 62 more, each declaring 8 MiB and sending a byte.
    for csid in 4..66u8 {
        let head = if csid < 64 {
            vec![csid]
        } else {
            vec![0, csid - 64]
        };
        let rest = [0, 0, 0, 0x80, 0, 0, 9, 1, 0, 0, 0];
        client
            .send(&[&head[..], &rest, &[0xAA; 1]].concat())
            .unwrap();
        // The rest of the first chunk, less a byte, so that the next header follows.
        client.send(&[0xAA; 127]).unwrap();
    }
    assert!(client.session.buffered_bytes() < 62 * 256 + 4096);
    let one_more = [0, 10, 0, 0, 0, 0, 0, 1, 9, 1, 0, 0, 0, 0xAA];
    client.send(&one_more).unwrap();
    let too_many = [0, 11, 0, 0, 0, 0, 0, 1, 9, 1, 0, 0, 0, 0xAA];
    let error = client.send(&too_many).unwrap_err();
    assert_eq!(error.cause, Cause::Chunk(chunk::ReadError::ChunkStreams));

    let mut client = Client::publishing();
    let too_long = [0x06, 0, 0, 0, 0x80, 0, 1, 9, 1, 0, 0, 0];
    let error = client.send(&too_long).unwrap_err();
    let max = chunk::MESSAGE_LEN_MAX;
    assert_eq!(
        error.cause,
        Cause::Chunk(chunk::ReadError::MessageLength { len: max + 1, max })
    );
}

#[test]
fn flvmeta29_amf_70000() {
    for opening in [
        &b"\x03\0\x01a"[..],
        b"\x08\0\0\0\x01\0\x01a",
        b"\x0a\0\0\0\x01",
    ] {
        let mut body = amf(&["connect".into(), 1.0.into()]);
        body.extend(opening.repeat(70_000));
        body.truncate(amf0::TOTAL_LEN_MAX);
        let mut client = Client::new(Config::default());
        client.send(&handshake()).unwrap();
        let error = client
            .send(&message(TYPE_COMMAND, 0, 0, &body))
            .unwrap_err();
        assert!(
            matches!(error.cause, Cause::Command(amf0::Error::Depth { .. })),
            "{error}"
        );
        // As metadata it costs the metadata only.
        let mut client = Client::publishing();
        client.send(&message(TYPE_DATA, 1, 0, &body)).unwrap();
        assert_eq!(client.event_names(), ["bad metadata 1"]);
    }
}

#[test]
fn nms689_app_traversal() {
    for text in traversals() {
        for app in [text.clone(), format!("live/{text}")] {
            // This one is what users type after the server address.
            if app == "live/" {
                continue;
            }
            let mut client = Client::new(Config::default());
            client.send(&[handshake(), connect(&app)].concat()).unwrap();
            let answers = client.answers();
            let refused = "0 _error 1 NetConnection.Connect.InvalidApp";
            assert_eq!(answers, [refused], "{app:?}");
            assert_eq!(
                client.event_names(),
                ["refused NetConnection.Connect.InvalidApp"]
            );
            assert!(client.session.should_close());
        }
        for (command, code) in [
            ("publish", "NetStream.Publish.BadName"),
            ("play", "NetStream.Play.StreamNotFound"),
        ] {
            let mut client = Client::connected();
            client.send(&call(0, "createStream", 2.0, &[])).unwrap();
            client.send(&call(1, command, 3.0, &[&text])).unwrap();
            assert_eq!(
                client.event_names(),
                [format!("refused {code}")],
                "{text:?}"
            );
            assert!(client.session.should_close());
        }
    }
}

/// Generated from the shapes of path traversal rather than listed.
fn traversals() -> Vec<String> {
    let mut list = Vec::new();
    for dots in ["..", "%2e%2e", "%252e%252e", ".", "..;", "..%00"] {
        for slash in ["/", "%2f", "%5c", "%252f", "\\"] {
            list.push(format!("{dots}{slash}"));
            list.push(format!("{dots}{slash}x"));
            list.push(format!("{dots}{slash}{dots}{slash}tmp"));
            list.push(format!("a{slash}{dots}{slash}{dots}{slash}x"));
            list.push(format!("a{slash}{dots}"));
        }
        list.push(dots.to_owned());
    }
    for prefix in [
        "/", "//", "./", ".", "-", "~", "_", "a//", "a:", "a/", "%2f",
    ] {
        list.push(format!("{prefix}abs"));
    }
    for odd in [
        "\0",
        "\n",
        "\t",
        " ",
        "\u{1b}[2J",
        "\u{2024}",
        "\u{FF0E}",
        "\u{FFFD}",
        "<",
        "#",
        "%",
    ] {
        list.push(format!("a{odd}"));
        list.push(format!("{odd}a"));
    }
    for encoded in [
        "%00",
        "%0a",
        "%C0%AE",
        "%c0%ae%c0%ae%2f",
        "%",
        "%4",
        "%zz",
        "%+1",
    ] {
        list.push(format!("a{encoded}"));
    }
    list.extend([129, 256, 4096, 5000].map(|len| "a".repeat(len)));
    list
}

#[test]
fn secrets_are_not_printed() {
    let mut client = Client::connected();
    client.grants = false;
    client.send(&call(0, "createStream", 2.0, &[])).unwrap();
    let publish = call(1, "publish", 3.0, &["bare5ecret?token=5ecret"]);
    client.send(&publish[..50]).unwrap();
    let mut shown = format!("{:?}", client.session);
    client.send(&[&publish[50..], &publish].concat()).unwrap();
    shown += &format!("{:?} {:?}", client.session, client.events);
    assert_eq!(client.event_names(), ["publish 1 bare5ecret"]);
    assert!(
        !shown.contains("5ecret") && !shown.contains("53, 101"),
        "{shown}"
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_cost_no_memory(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..12),
        publishing in any::<bool>(),
    ) {
        let mut client = if publishing { Client::publishing() } else { Client::connected() };
        let mut sent = 0;
        for piece in pieces {
            sent += piece.len();
            if client.send(&piece).is_err() {
                break;
            }
            let out = client.session.poll_output().map_or(0, |out| out.len());
            prop_assert!(out <= 64 * 1024);
            prop_assert!(client.session.buffered_bytes() <= 2 * sent + 16 * 1024);
        }
    }

    #[test]
    fn arbitrary_messages_never_panic(
        messages in prop::collection::vec(
            (0u8..24, 0u32..3, any::<u32>(), prop::collection::vec(0u8..20, 0..60)), 0..12,
        ),
    ) {
        let mut client = Client::publishing();
        for (type_id, stream_id, timestamp_ms, body) in messages {
            if client.send(&message(type_id, stream_id, timestamp_ms, &body)).is_err() {
                prop_assert!(client.session.should_close());
                prop_assert!(matches!(client.session.poll_event(), Ok(None)));
                break;
            }
        }
    }
}

#[track_caller]
fn check_fault(input: &[u8], offset: u64, cause: Cause) {
    let mut client = Client::new(Config::default());
    assert_eq!(client.send(input), Err(Error { offset, cause }));
    assert!(client.session.should_close());
}
