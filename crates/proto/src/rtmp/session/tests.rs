//! Conversations with a [`Session`], byte for byte as clients hold them.

use proptest::prelude::*;
use weir_media::container::amf0::{self, Value};

use super::*;
use crate::rtmp::{
    Cause,
    chunk::CSID_COMMAND,
    message::*,
    transcript::{Transcript, amf, handshake, line, message},
};

mod hostile;

/// A client: speaks, grants its own requests, and reads the answers.
struct Client {
    session: Session,
    heard: Transcript,
    grants: bool,
    events: Vec<Event>,
}

impl Client {
    fn new(config: Config) -> Self {
        Self {
            session: Session::new(Arc::new(config), 7, 0),
            heard: Transcript::default(),
            grants: true,
            events: Vec::new(),
        }
    }

    /// After the handshake and a successful `connect` to `live`.
    fn connected() -> Self {
        Self::connected_with(Config::default())
    }

    fn connected_with(config: Config) -> Self {
        let mut client = Self::new(config);
        client
            .send(&[handshake(), connect("live")].concat())
            .unwrap();
        client.answers();
        client
    }

    /// After `createStream` and a granted `publish` on stream 1.
    fn publishing() -> Self {
        Self::publishing_with(Config::default())
    }

    fn publishing_with(config: Config) -> Self {
        let mut client = Self::connected_with(config);
        client.send(&call(0, "createStream", 2.0, &[])).unwrap();
        client
            .send(&call(1, "publish", 3.0, &["demo", "live"]))
            .unwrap();
        client.answers();
        assert!(client.session.has_role());
        client.events.clear();
        client
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.session.handle_input(Bytes::copy_from_slice(bytes));
        self.poll()
    }

    fn poll(&mut self) -> Result<(), Error> {
        while let Some(event) = self.session.poll_event()? {
            if self.grants {
                match &event {
                    Event::Publish(request) => self.session.accept_publish(request.stream_id),
                    Event::Play(request) => self.session.accept_play(request.stream_id),
                    _ => {}
                }
            }
            self.events.push(event);
        }
        Ok(())
    }

    /// What the server said, one line a message: commands as `stream name transaction code`, others as type and bytes.
    fn answers(&mut self) -> Vec<String> {
        let out = self.session.poll_output().unwrap_or_default();
        self.heard.lines(out)
    }

    fn event_names(&mut self) -> Vec<String> {
        let name = |event: Event| match event {
            Event::Publish(request) => format!("publish {} {}", request.stream_id, request.name),
            Event::Play(request) => format!("play {} {}", request.stream_id, request.name),
            Event::Media {
                stream_id,
                kind,
                timestamp_ms,
                payload,
            } => {
                format!("{kind:?} {stream_id} {timestamp_ms} {}", payload.len())
            }
            Event::Metadata { stream_id, values } => {
                format!(
                    "metadata {stream_id} {} {}",
                    values[0].as_str().unwrap(),
                    values.len()
                )
            }
            Event::BadMetadata { stream_id, .. } => format!("bad metadata {stream_id}"),
            Event::PublishEnded { stream_id } => format!("publish ended {stream_id}"),
            Event::PlayEnded { stream_id } => format!("play ended {stream_id}"),
            Event::Refused { code, .. } => format!("refused {code}"),
        };
        std::mem::take(&mut self.events)
            .into_iter()
            .map(name)
            .collect()
    }
}

fn connect(app: &str) -> Vec<u8> {
    let object = Value::object([("app", app.into()), ("tcUrl", "rtmp://h/live".into())]);
    message(
        TYPE_COMMAND,
        0,
        0,
        &amf(&["connect".into(), 1.0.into(), object]),
    )
}

fn call(stream_id: u32, name: &str, transaction: f64, arguments: &[&str]) -> Vec<u8> {
    let mut values = vec![name.into(), transaction.into(), Value::Null];
    values.extend(arguments.iter().map(|&text| Value::from(text)));
    message(TYPE_COMMAND, stream_id, 0, &amf(&values))
}

fn delete_stream(transaction: f64, stream_id: f64) -> Vec<u8> {
    let values = [
        "deleteStream".into(),
        transaction.into(),
        Value::Null,
        stream_id.into(),
    ];
    message(TYPE_COMMAND, 0, 0, &amf(&values))
}

#[test]
fn connect_is_answered_as_clients_expect() {
    let mut client = Client::new(Config::default());
    client
        .send(&[handshake(), connect("live")].concat())
        .unwrap();
    let out = client.session.poll_output().unwrap();
    let messages = client.heard.messages(out);
    let lines: Vec<_> = messages.iter().map(line).collect();
    assert_eq!(
        lines,
        [
            "type 5 002625a0",
            "type 6 002625a002",
            "type 1 0000ea60",
            "0 _result 1 NetConnection.Connect.Success",
        ]
    );
    let values = amf0::decode_all(&messages[3].payload).unwrap();
    assert!(values[2].get("fmsVer").is_some() && values[2].get("capabilities").is_some());
    assert_eq!(values[3].get("level"), Some(&"status".into()));
    assert_eq!(values[3].get("objectEncoding"), Some(&0.0.into()));
}

/// The order of commands of each publisher, and what it is told.
#[test]
fn publishers_in_their_own_order() {
    let set_data_frame = |stream_id| {
        let metadata = Value::EcmaArray(vec![("width".into(), 640.0.into())]);
        let values = ["@setDataFrame".into(), "onMetaData".into(), metadata];
        message(TYPE_DATA, stream_id, 0, &amf(&values))
    };
    let ffmpeg = [
        call(0, "releaseStream", 2.0, &["demo"]),
        call(0, "FCPublish", 3.0, &["demo"]),
        call(0, "createStream", 4.0, &[]),
        call(0, "_checkbw", 5.0, &[]),
        call(1, "publish", 6.0, &["demo", "live"]),
        set_data_frame(1),
        message(TYPE_VIDEO, 1, 40, &[0x17; 300]),
        message(TYPE_AUDIO, 1, 41, &[0xAF; 3]),
        call(0, "FCUnpublish", 7.0, &["demo"]),
        delete_stream(8.0, 1.0),
    ];
    let media = [
        "publish 1 demo",
        "metadata 1 onMetaData 2",
        "Video 1 40 300",
        "Audio 1 41 3",
    ];
    let ended = [&media[..], &["publish ended 1"]].concat();
    check_conversation(
        &ffmpeg,
        &[
            "0 _result 2",
            "0 _result 3",
            "0 onFCPublish 0 NetStream.Publish.Start",
            "0 _result 4 1",
            "0 _result 5",
            "1 onStatus 0 NetStream.Publish.Start",
            "0 _result 7",
            "0 onFCUnpublish 0 NetStream.Unpublish.Success",
            "1 onStatus 0 NetStream.Unpublish.Success",
        ],
        &ended,
    );

    let haivision = [
        call(0, "createStream", 2.0, &[]),
        call(0, "FCPublish", 3.0, &["demo"]),
        call(1, "publish", 0.0, &["demo", "live"]),
        call(1, "closeStream", 0.0, &[]),
    ];
    check_conversation(
        &haivision,
        &[
            "0 _result 2 1",
            "0 _result 3",
            "0 onFCPublish 0 NetStream.Publish.Start",
            "1 onStatus 0 NetStream.Publish.Start",
            "1 onStatus 0 NetStream.Unpublish.Success",
        ],
        &["publish 1 demo", "publish ended 1"],
    );

    let flash = [
        call(0, "createStream", 2.0, &[]),
        call(1, "publish", 3.0, &["demo"]),
        delete_stream(0.0, 1.0),
    ];
    check_conversation(
        &flash,
        &[
            "0 _result 2 1",
            "1 onStatus 0 NetStream.Publish.Start",
            "1 onStatus 0 NetStream.Unpublish.Success",
        ],
        &["publish 1 demo", "publish ended 1"],
    );
}

/// What real clients send after the handshake; recorded on loopback, cut after the first media.
#[test]
fn recorded_clients() {
    let publish = [
        (
            &include_bytes!("../../../testdata/ffmpeg-5.1-publish.bin")[..],
            "demo",
        ),
        (
            include_bytes!("../../../testdata/gstreamer-1.22-publish.bin"),
            "gst",
        ),
    ];
    for (bytes, name) in publish {
        let mut client = Client::new(Config::default());
        client.send(&[&handshake(), bytes].concat()).unwrap();
        let events = client.event_names();
        assert_eq!(
            events[..2],
            [
                format!("publish 1 {name}"),
                "metadata 1 onMetaData 2".into()
            ]
        );
        assert!(
            events.iter().any(|event| event.starts_with("Video 1 0 ")),
            "{events:?}"
        );
        assert!(
            client
                .answers()
                .contains(&"1 onStatus 0 NetStream.Publish.Start".to_owned())
        );
    }
    let play = [
        &include_bytes!("../../../testdata/ffmpeg-5.1-play.bin")[..],
        include_bytes!("../../../testdata/gstreamer-1.22-play.bin"),
    ];
    for bytes in play {
        let mut client = Client::new(Config::default());
        client.send(&[&handshake(), bytes].concat()).unwrap();
        assert_eq!(client.event_names()[0], "play 1 demo");
        assert!(
            client
                .answers()
                .contains(&"1 onStatus 0 NetStream.Play.Start".to_owned())
        );
    }
}

#[test]
fn players_are_told_where_the_stream_begins_and_ends() {
    let mut client = Client::connected();
    let script = [
        call(0, "createStream", 2.0, &[]),
        call(0, "FCSubscribe", 3.0, &["demo"]),
        call(0, "getStreamLength", 4.0, &["demo"]),
        call(1, "play", 5.0, &["demo"]),
        message(
            TYPE_USER_CONTROL,
            0,
            0,
            &[0, 3, 0, 0, 0, 1, 0, 0, 0x0B, 0xB8],
        ),
    ];
    client.send(&script.concat()).unwrap();
    assert_eq!(
        client.answers(),
        [
            "0 _result 2 1",
            "0 _result 3",
            "0 onFCSubscribe 0 NetStream.Play.Start",
            "0 _result 4 0",
            "type 4 000000000001",
            "1 onStatus 0 NetStream.Play.Reset",
            "1 onStatus 0 NetStream.Play.Start",
            "1 |RtmpSampleAccess",
        ]
    );
    assert!(client.session.has_role());
    client.session.end_play(1);
    client.session.end_play(1);
    assert_eq!(
        client.answers(),
        [
            "1 onStatus 0 NetStream.Play.UnpublishNotify",
            "type 4 000100000001"
        ]
    );
    assert!(!client.session.has_role() && !client.session.should_close());
    // The same message stream plays again, and the player leaves.
    client
        .send(&[call(1, "play", 5.0, &["demo"]), delete_stream(0.0, 1.0)].concat())
        .unwrap();
    assert_eq!(
        client.event_names(),
        ["play 1 demo", "play 1 demo", "play ended 1"]
    );
}

#[test]
fn unknown_commands_are_answered_and_never_close() {
    check_conversation(
        &[
            call(0, "setPeerInfo", 2.0, &[]),
            call(0, "receiveVideo", 0.0, &[]),
            call(0, "_result", 3.0, &[]),
            call(0, "_checkbw", 4.0, &[]),
        ],
        &["0 _error 2 NetConnection.Call.Failed", "0 _result 4"],
        &[],
    );
}

#[test]
fn refusals_carry_code_and_reason_and_close() {
    use Refusal::{BadName, Denied, Failed, Rejected, StreamNotFound};
    for (refusal, publish, play) in [
        (Denied, "NetStream.Publish.Denied", "NetStream.Play.Failed"),
        (
            BadName,
            "NetStream.Publish.BadName",
            "NetStream.Play.Failed",
        ),
        (
            Rejected,
            "NetStream.Publish.Rejected",
            "NetStream.Play.Failed",
        ),
        (
            StreamNotFound,
            "NetStream.Failed",
            "NetStream.Play.StreamNotFound",
        ),
        (Failed, "NetStream.Failed", "NetStream.Play.Failed"),
    ] {
        for (command, code) in [("publish", publish), ("play", play)] {
            let mut client = Client::connected();
            client.grants = false;
            client.send(&call(0, "createStream", 2.0, &[])).unwrap();
            client.send(&call(1, command, 3.0, &["demo"])).unwrap();
            client.answers();
            if command == "publish" {
                client.session.reject_publish(1, refusal, "the reason");
            } else {
                client.session.reject_play(1, refusal, "the reason");
            }
            assert_eq!(client.answers(), [format!("1 onStatus 0 {code}")]);
            assert!(client.session.should_close() && !client.session.has_role());
        }
    }
    let mut client = Client::publishing();
    client
        .session
        .end_publish(1, Rejected, "another publisher took over");
    assert_eq!(
        client.answers(),
        ["1 onStatus 0 NetStream.Publish.Rejected"]
    );
    assert!(client.session.should_close());
}

#[test]
fn the_session_refuses_what_nobody_could_grant() {
    let create = || call(0, "createStream", 2.0, &[]);
    for (script, answer) in [
        (
            vec![create(), call(1, "publish", 3.0, &["a/b"])],
            "1 onStatus 0 NetStream.Publish.BadName",
        ),
        (
            vec![create(), call(1, "play", 3.0, &[".a"])],
            "1 onStatus 0 NetStream.Play.StreamNotFound",
        ),
        (
            vec![call(1, "publish", 3.0, &["a"])],
            "1 onStatus 0 NetStream.Failed",
        ),
        (
            vec![call(0, "publish", 3.0, &["a"])],
            "0 onStatus 0 NetStream.Failed",
        ),
        (
            vec![call(9, "play", 3.0, &["a"])],
            "9 onStatus 0 NetStream.Play.Failed",
        ),
        (
            vec![create(), create(), call(2, "play", 3.0, &["a"])],
            "2 onStatus 0 NetStream.Play.Failed",
        ),
    ] {
        let mut client = Client::connected();
        client.send(&script.concat()).unwrap();
        assert_eq!(client.answers().last().unwrap(), answer);
        let names = client.event_names();
        assert_eq!(
            names,
            [format!("refused {}", answer.rsplit_once(' ').unwrap().1)]
        );
        assert!(client.session.should_close());
    }
    let mut client = Client::connected();
    client.send(&create().repeat(STREAMS_MAX + 1)).unwrap();
    assert_eq!(
        client.answers().last().unwrap(),
        "0 _error 2 NetConnection.Call.Failed"
    );
    assert!(!client.session.should_close());
}

#[test]
fn no_media_before_the_answer_and_none_lost() {
    let mut client = Client::connected();
    client.grants = false;
    let script = [
        call(0, "createStream", 2.0, &[]),
        call(1, "publish", 3.0, &["demo"]),
        message(TYPE_VIDEO, 1, 0, &[1; 10]),
        message(TYPE_AUDIO, 2, 0, &[1; 10]),
        message(TYPE_AUDIO, 1, 0, &[]),
    ];
    client.send(&script.concat()).unwrap();
    assert!(!client.session.wants_input());
    assert_eq!(client.event_names(), ["publish 1 demo"]);
    // An answer to something that was not asked changes nothing.
    client.session.accept_play(1);
    client.session.accept_publish(2);
    client.poll().unwrap();
    assert_eq!(client.event_names(), [""; 0]);
    client.session.accept_publish(1);
    client.poll().unwrap();
    assert_eq!(client.event_names(), ["Video 1 0 10"]);
}

#[test]
fn two_publishers_on_one_connection_a_thousand_times() {
    let mut client = Client::connected();
    let round = [
        call(0, "createStream", 2.0, &[]),
        call(0, "createStream", 3.0, &[]),
        call(1, "publish", 4.0, &["a?key=k"]),
        call(2, "publish", 5.0, &["b"]),
        call(0, "FCUnpublish", 6.0, &["b"]),
        call(2, "publish", 5.0, &["b"]),
        call(2, "closeStream", 0.0, &[]),
        delete_stream(0.0, 1.0),
        delete_stream(0.0, 2.0),
    ]
    .concat();
    let mut held = 0;
    for _ in 0..1000 {
        client.send(&round).unwrap();
        assert_eq!(
            client.event_names(),
            [
                "publish 1 a",
                "publish 2 b",
                "publish ended 2",
                "publish 2 b",
                "publish ended 2",
                "publish ended 1"
            ]
        );
        assert_eq!(client.answers().len(), 10);
        assert!(!client.session.has_role());
        held = held.max(client.session.buffered_bytes());
    }
    assert!(held < 8 * 1024, "{held}");
}

#[test]
fn control_messages_are_answered() {
    let mut client = Client::publishing();
    let mut check = |bytes: Vec<u8>, expected: &[&str]| {
        client.send(&bytes).unwrap();
        assert_eq!(client.answers(), expected);
    };
    let ping = message(TYPE_USER_CONTROL, 0, 0, &[0, 6, 1, 2, 3, 4]);
    check(ping, &["type 4 000701020304"]);
    check(message(TYPE_USER_CONTROL, 0, 0, &[0, 6, 1]), &[]);
    check(message(TYPE_ACKNOWLEDGEMENT, 0, 0, &[0; 4]), &[]);
    check(
        message(TYPE_SET_PEER_BANDWIDTH, 0, 0, &[0, 0, 1, 0, 2]),
        &["type 5 002625a0"],
    );
    check(
        message(TYPE_SET_PEER_BANDWIDTH, 0, 0, &[0, 0x26, 0x25, 0xA0, 2]),
        &[],
    );
    for type_id in [1, 2, 5, 6] {
        let mut client = Client::connected();
        let error = client.send(&message(type_id, 0, 0, &[0; 3])).unwrap_err();
        assert_eq!(error.cause, Cause::Control(type_id));
        assert!(client.session.should_close());
    }
}

#[test]
fn acknowledges_each_window() {
    let mut client = Client::publishing();
    let before = client.session.received_bytes();
    client
        .send(&message(TYPE_WINDOW_ACK_SIZE, 0, 0, &[0, 0, 16, 0]))
        .unwrap();
    client.send(&message(TYPE_VIDEO, 1, 0, &[0; 2000])).unwrap();
    let received = client.session.received_bytes();
    assert!(
        received - before < 4096,
        "the window counts from the start of the connection"
    );
    assert_eq!(client.answers(), [format!("type 3 {received:08x}")]);
    client.send(&message(TYPE_VIDEO, 1, 0, &[0; 4000])).unwrap();
    client.send(&message(TYPE_VIDEO, 1, 0, &[0; 50])).unwrap();
    assert_eq!(client.answers().len(), 1);

    // The sequence number wraps.
    client.session.link.received = (1 << 32) - 10;
    client.session.link.acknowledged = client.session.link.received - 4096;
    client.session.handle_input(Bytes::from_static(&[0x04; 12]));
    assert_eq!(client.answers(), ["type 3 00000002"]);

    // A window of zero asks for none.
    let mut client = Client::publishing();
    client
        .send(&message(TYPE_WINDOW_ACK_SIZE, 0, 0, &[0; 4]))
        .unwrap();
    client.send(&message(TYPE_VIDEO, 1, 0, &[0; 2000])).unwrap();
    assert_eq!(client.answers(), [""; 0]);
}

#[test]
fn pings_and_gives_up_on_silence() {
    let mut client = Client::publishing();
    assert_eq!(client.session.next_timeout_ms(), 30_000);
    client.session.handle_timeout(29_999).unwrap();
    assert_eq!(client.answers(), [""; 0]);
    client.session.handle_timeout(30_000).unwrap();
    assert_eq!(client.answers(), ["type 4 000600007530"]);
    assert_eq!(client.session.next_timeout_ms(), 45_000);
    client
        .send(&message(TYPE_USER_CONTROL, 0, 0, &[0, 7, 0, 0, 0x75, 0x30]))
        .unwrap();
    assert_eq!(client.session.next_timeout_ms(), 60_000);
    client.session.handle_timeout(60_000).unwrap();
    let error = client.session.handle_timeout(75_000).unwrap_err();
    assert_eq!(error.cause, Cause::PingTimeout);
    assert!(client.session.should_close());
    // Before connect there is nobody to ping.
    let mut client = Client::new(Config::default());
    client.session.handle_timeout(30_000).unwrap();
    assert_eq!(client.session.next_timeout_ms(), 60_000);
    assert!(client.session.poll_output().is_none());
}

#[test]
fn abort_aggregate_and_amf3() {
    let mut client = Client::publishing();
    // The first chunk of a video message, dropped by Abort on its chunk stream.
    let unfinished = &message(TYPE_VIDEO, 1, 0, &[7; 300])[..12 + 128];
    let abort = message(TYPE_ABORT, 0, 0, &CSID_COMMAND.to_be_bytes());
    let audio = message(TYPE_AUDIO, 1, 5, &[1; 4]);
    client.send(&[unfinished, &abort, &audio].concat()).unwrap();
    assert_eq!(client.event_names(), ["Audio 1 5 4"]);

    let part = |type_id: u8, time: u8| [type_id, 0, 0, 1, 0, 0, time, 0, 0, 0, 0, 9, 0, 0, 0, 12];
    let aggregate = [part(8, 50), part(9, 60), part(22, 60)].concat();
    client
        .send(&message(TYPE_AGGREGATE, 1, 1000, &aggregate))
        .unwrap();
    assert_eq!(client.event_names(), ["Audio 1 1000 1", "Video 1 1010 1"]);

    let metadata = amf(&["onMetaData".into(), Value::object([])]);
    client
        .send(&message(
            TYPE_DATA_AMF3,
            1,
            0,
            &[&[0], &metadata[..]].concat(),
        ))
        .unwrap();
    client
        .send(&message(TYPE_DATA, 1, 0, &[0x11, 0x0A]))
        .unwrap();
    let create = amf(&["createStream".into(), 9.0.into(), Value::Null]);
    client
        .send(&message(
            TYPE_COMMAND_AMF3,
            0,
            0,
            &[&[0], &create[..]].concat(),
        ))
        .unwrap();
    assert_eq!(
        client.event_names(),
        ["metadata 1 onMetaData 2", "bad metadata 1"]
    );
    assert_eq!(client.answers(), ["0 _result 9 2"]);
}

#[test]
fn every_split_of_a_publish_conversation() {
    let whole = publish_conversation();
    let expected = run_in_pieces(&whole, &[whole.len()]);
    assert_eq!(expected.0.len(), 7, "{expected:?}");
    for split in 1..whole.len() {
        assert_eq!(
            run_in_pieces(&whole, &[split, whole.len() - split]),
            expected,
            "{split}"
        );
    }
}

/// Extended timestamps, a message of several chunks, a new chunk size: everything that a split could break.
fn publish_conversation() -> Vec<u8> {
    [
        handshake(),
        connect("live"),
        call(0, "createStream", 4.0, &[]),
        call(1, "publish", 6.0, &["demo", "live"]),
        message(
            TYPE_DATA,
            1,
            0,
            &amf(&["@setDataFrame".into(), "onMetaData".into(), 1.0.into()]),
        ),
        message(TYPE_VIDEO, 1, 0xFFFF_FFF0, &[0x17; 300]),
        message(TYPE_AUDIO, 1, 0x0100_0000, &[0xAF; 129]),
        message(TYPE_SET_CHUNK_SIZE, 0, 0, &[0, 0, 1, 0]),
        // Type 1 on chunk stream 3 with an extended delta, then type 3 with the same delta again.
        vec![0x43, 0xFF, 0xFF, 0xFF, 0, 0, 1, 8, 1, 0, 0, 0, 5],
        vec![0xC3, 1, 0, 0, 0, 6],
        call(0, "FCUnpublish", 7.0, &["demo"]),
    ]
    .concat()
}

fn run_in_pieces(whole: &[u8], pieces: &[usize]) -> (Vec<String>, Vec<String>) {
    let mut client = Client::new(Config::default());
    let mut rest = whole;
    for &len in pieces {
        let (head, tail) = rest.split_at(len.min(rest.len()));
        client.send(head).unwrap();
        rest = tail;
    }
    client.send(rest).unwrap();
    (client.event_names(), client.answers())
}

proptest! {
    #[test]
    fn any_splits_give_the_same(pieces in prop::collection::vec(1usize..400, 0..60)) {
        let whole = publish_conversation();
        prop_assert_eq!(run_in_pieces(&whole, &pieces), run_in_pieces(&whole, &[]));
    }
}

#[track_caller]
fn check_conversation(script: &[Vec<u8>], answers: &[&str], events: &[&str]) {
    let mut client = Client::connected();
    client.send(&script.concat()).unwrap();
    assert_eq!(client.answers(), answers);
    assert_eq!(client.event_names(), events);
    assert!(!client.session.should_close());
}
