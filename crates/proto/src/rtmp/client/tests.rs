//! Conversations with a [`Client`]: scripted servers as they are found, and our own.

use weir_media::container::amf0;

use super::*;
use crate::rtmp::{
    Cause,
    message::*,
    transcript::{Transcript, amf, handshake, message},
};

mod hostile;
mod pair;

/// A server that says what a test tells it to.
struct Server {
    client: Client,
    heard: Transcript,
    events: Vec<Event>,
}

impl Server {
    fn new(role: Role) -> Self {
        let url = Url::parse("rtmp://h/live/5ecret?key=hidden").unwrap();
        Self::with(Config::new(url, role))
    }

    fn with(config: Config) -> Self {
        Self {
            client: Client::new(Arc::new(config), 7, 0),
            heard: Transcript::default(),
            events: Vec::new(),
        }
    }

    /// After the handshake and `connect`, which is answered.
    fn connected(role: Role) -> Self {
        let mut server = Self::new(role);
        server.send(&handshake()).unwrap();
        server.send(&result(1.0, &[connect_info()])).unwrap();
        server.heard();
        server
    }

    /// After `createStream` made stream 1 and `play` or `publish` was granted.
    fn active(role: Role) -> Self {
        let mut server = Self::connected(role);
        server.send(&result(4.0, &[1.0.into()])).unwrap();
        let code = match role {
            Role::Play => "NetStream.Play.Start",
            Role::Publish => "NetStream.Publish.Start",
        };
        server.send(&status(1, "status", code)).unwrap();
        assert!(server.client.has_role());
        server.heard();
        server.events.clear();
        server
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.client.handle_input(Bytes::copy_from_slice(bytes));
        while let Some(event) = self.client.poll_event()? {
            self.events.push(event);
        }
        Ok(())
    }

    fn heard(&mut self) -> Vec<String> {
        let out = self.client.poll_output().unwrap_or_default();
        self.heard.lines(out)
    }

    fn event_names(&mut self) -> Vec<String> {
        self.events.drain(..).map(|event| name(&event)).collect()
    }
}

fn name(event: &Event) -> String {
    match event {
        Event::Playing => "playing".to_owned(),
        Event::Publishing => "publishing".to_owned(),
        Event::Media {
            kind,
            timestamp_ms,
            payload,
        } => format!("{kind:?} {timestamp_ms:#x} {}", payload.len()),
        Event::Metadata { values } => format!("metadata {}", values.len()),
        Event::BadMetadata { .. } => "bad metadata".to_owned(),
        Event::Ended { reason } => format!("ended {reason:?}"),
        Event::Refused { code, description } => format!("refused {code}: {description}"),
    }
}

fn command(stream_id: u32, name: &str, transaction: f64, rest: &[Value]) -> Vec<u8> {
    let head = [name.into(), transaction.into(), Value::Null];
    message(TYPE_COMMAND, stream_id, 0, &amf(&[&head, rest].concat()))
}

fn result(transaction: f64, rest: &[Value]) -> Vec<u8> {
    command(0, "_result", transaction, rest)
}

fn info(level: &str, code: &str) -> Value {
    Value::object([
        ("level", level.into()),
        ("code", code.into()),
        ("description", "because.".into()),
    ])
}

fn connect_info() -> Value {
    info("status", "NetConnection.Connect.Success")
}

fn status(stream_id: u32, level: &str, code: &str) -> Vec<u8> {
    command(stream_id, "onStatus", 0.0, &[info(level, code)])
}

#[test]
fn publishes_in_the_order_of_fmle() {
    let mut server = Server::new(Role::Publish);
    // The connection begins with C0 and C1, and goes on once S2 is complete.
    assert_eq!(server.client.poll_output().unwrap().len(), 1537);
    server.heard = Transcript::after(1537);
    let answer = handshake();
    let (answer, last) = answer.split_at(answer.len() - 1);
    server.send(answer).unwrap();
    assert_eq!(server.heard(), [""; 0]);
    server.send(last).unwrap();
    assert_eq!(server.heard(), ["0 connect 1"]);
    assert_eq!(server.client.stream_id(), None);
    server.send(&result(1.0, &[connect_info()])).unwrap();
    assert_eq!(
        server.heard(),
        [
            "type 1 0000ea60",
            "0 releaseStream 2 5ecret?key=hidden",
            "0 FCPublish 3 5ecret?key=hidden",
            "0 createStream 4",
        ]
    );
    // A stream id that is not 1 is used everywhere.
    server.send(&result(4.0, &[3.0.into()])).unwrap();
    assert_eq!(server.heard(), ["3 publish 5 live"]);
    assert!(!server.client.has_role());
    server.client.write_audio(0, &[b"too early"]);
    assert_eq!(server.heard(), [""; 0]);
    server
        .send(&status(3, "status", "NetStream.Publish.Start"))
        .unwrap();
    assert_eq!(server.event_names(), ["publishing"]);
    assert_eq!(server.client.stream_id(), Some(3));
    server
        .client
        .write_audio(0xFFFF_FF00, &[&[0xAF], &[0; 200]]);
    let metadata = amf(&["onMetaData".into(), Value::object([])]);
    server.client.write_metadata(7, &[&metadata]);
    let out = server.client.poll_output().unwrap();
    let sent: Vec<_> = server.heard.messages(out);
    assert_eq!((sent[0].stream_id, sent[0].timestamp_ms), (3, 0xFFFF_FF00));
    assert_eq!((sent[0].type_id, sent[0].payload.len()), (TYPE_AUDIO, 201));
    let values = amf0::decode_all(&sent[1].payload).unwrap();
    assert_eq!(values[..2], ["@setDataFrame".into(), "onMetaData".into()]);
    server.client.finish();
    server.client.finish();
    assert_eq!(
        server.heard(),
        ["0 FCUnpublish 6 5ecret?key=hidden", "0 deleteStream 0 3"]
    );
    assert!(server.client.should_close());
    server.client.write_audio(0, &[b"too late"]);
    assert_eq!(server.heard(), [""; 0]);
}

#[test]
fn plays_and_ends() {
    for (end, expected) in [
        (
            status(1, "status", "NetStream.Play.UnpublishNotify"),
            "ended Unpublished",
        ),
        (
            status(1, "status", "NetStream.Play.Complete"),
            "ended Complete",
        ),
        (status(0, "status", "NetStream.Play.Stop"), "ended Stopped"),
        (
            message(TYPE_USER_CONTROL, 0, 0, &[0, 1, 0, 0, 0, 1]),
            "ended StreamEof",
        ),
        (command(0, "close", 0.0, &[]), "ended Closed"),
        (
            status(1, "error", "NetStream.Odd"),
            "refused NetStream.Odd: because.",
        ),
    ] {
        let mut server = Server::connected(Role::Play);
        server.send(&result(4.0, &[1.0.into()])).unwrap();
        let buffer = "type 4 00030000000100000bb8";
        assert_eq!(server.heard(), ["1 play 5 -2000", buffer]);
        let data = |values: &[Value]| message(TYPE_DATA, 1, 0, &amf(values));
        server
            .send(
                &[
                    message(TYPE_USER_CONTROL, 0, 0, &[0, 0, 0, 0, 0, 1]),
                    status(1, "status", "NetStream.Play.Reset"),
                    data(&["|RtmpSampleAccess".into(), true.into(), true.into()]),
                    status(1, "status", "NetStream.Play.Start"),
                    data(&["onStatus".into(), info("status", "NetStream.Data.Start")]),
                    data(&["@setDataFrame".into(), "onMetaData".into(), 1.0.into()]),
                    message(TYPE_DATA, 1, 0, &[0x11]),
                    message(TYPE_VIDEO, 1, 40, &[0x17; 300]),
                    message(TYPE_AUDIO, 1, 41, &[]),
                    end,
                    message(TYPE_VIDEO, 1, 80, &[0x17; 300]),
                ]
                .concat(),
            )
            .unwrap();
        let heard = ["playing", "metadata 2", "bad metadata", "Video 0x28 300"];
        assert_eq!(server.event_names(), [&heard[..], &[expected]].concat());
        assert!(server.client.should_close());
    }
}

#[test]
fn refusals_carry_code_and_description() {
    let error = |transaction, code| command(0, "_error", transaction, &[info("error", code)]);
    let check = |role, script: &[Vec<u8>], expected: &str| {
        let mut server = Server::new(role);
        server.send(&handshake()).unwrap();
        server.send(&script.concat()).unwrap();
        assert_eq!(
            server.event_names(),
            [format!("refused {expected}: because.")]
        );
        assert!(server.client.should_close());
        assert!(!server.client.has_role());
    };
    let connected = || result(1.0, &[connect_info()]);
    let created = || result(4.0, &[1.0.into()]);
    for role in [Role::Play, Role::Publish] {
        let code = "NetConnection.Connect.InvalidApp";
        check(role, &[error(1.0, code)], code);
        check(role, &[error(1.0, "")], "");
        let code = "NetConnection.Connect.Rejected";
        // As a status, and as a result that is none.
        check(role, &[status(0, "error", code)], code);
        check(role, &[result(1.0, &[info("error", code)])], code);
        check(role, &[connected(), error(4.0, code)], code);
        check(role, &[connected(), created(), error(5.0, code)], code);
    }
    // By level alone, and by code alone.
    check(
        Role::Play,
        &[connected(), created(), status(1, "error", "x")],
        "x",
    );
    let code = "NetStream.Play.StreamNotFound";
    check(
        Role::Play,
        &[connected(), created(), status(1, "status", code)],
        code,
    );
    for code in ["NetStream.Publish.BadName", "NetStream.Publish.Denied"] {
        check(
            Role::Publish,
            &[connected(), created(), status(1, "", code)],
            code,
        );
        let early = command(0, "onFCPublish", 0.0, &[info("error", code)]);
        check(Role::Publish, &[connected(), early], code);
    }
}

#[test]
fn servers_with_habits_of_their_own() {
    let bare = |code: &str| Value::object([("code", code.into())]);
    let start = "NetStream.Publish.Start";
    let published = ["publishing"];
    // FMLE calls refused, no level, status on stream 0 and as AMF3, the information in place of the command object.
    check_habit(
        Role::Publish,
        &[
            result(1.0, &[]),
            command(0, "onBWDone", 0.0, &[]),
            command(
                0,
                "_error",
                2.0,
                &[info("error", "NetConnection.Call.Failed")],
            ),
            command(
                0,
                "_error",
                3.0,
                &[info("error", "NetConnection.Call.Failed")],
            ),
            result(4.0, &[1.0.into()]),
            command(0, "onStatus", 0.0, &[bare(start)]),
        ],
        &published,
    );
    let body = amf(&["onStatus".into(), 0.0.into(), Value::Null, bare(start)]);
    check_habit(
        Role::Publish,
        &[
            result(1.0, &[bare("NetConnection.Connect.Success")]),
            command(0, "onFCPublish", 0.0, &[info("status", start)]),
            result(4.0, &[1.0.into()]),
            message(TYPE_COMMAND_AMF3, 1, 0, &[&[0], &body[..]].concat()),
        ],
        &published,
    );
    let in_place = amf(&["onStatus".into(), 0.0.into(), bare(start)]);
    check_habit(
        Role::Publish,
        &[
            result(1.0, &[]),
            result(4.0, &[1.0.into()]),
            message(TYPE_COMMAND, 1, 0, &in_place),
        ],
        &published,
    );
    // Media without a status, on a stream id that nobody made.
    check_habit(
        Role::Play,
        &[
            result(1.0, &[]),
            result(4.0, &[2.0.into()]),
            message(TYPE_VIDEO, 0, 0, &[0x17; 9]),
        ],
        &["Video 0x0 9"],
    );
}

#[track_caller]
fn check_habit(role: Role, script: &[Vec<u8>], events: &[&str]) {
    let mut server = Server::new(role);
    server.send(&handshake()).unwrap();
    server.send(&script.concat()).unwrap();
    assert_eq!(server.event_names(), events);
    assert!(server.client.has_role());
    assert!(!server.client.should_close());
}

/// Bytes of real servers behind the handshake, recorded with this client on the other side.
#[test]
fn recorded_servers() {
    let serves_play: [(&[u8], &str, &str); 2] = [
        (
            include_bytes!("../../../testdata/nginx-rtmp-1.2.2-serves-play.bin"),
            // The stream began shortly before 24 bits were full.
            "0xffff00 0x100029b",
            "ended StreamEof",
        ),
        (
            include_bytes!("../../../testdata/ffmpeg-5.1-serves-play.bin"),
            "0x0 0x39b",
            "",
        ),
    ];
    for (bytes, expected_times, expected_end) in serves_play {
        let mut server = Server::new(Role::Play);
        server.send(&[&handshake(), bytes].concat()).unwrap();
        let mut events = server.event_names();
        let ends = events.pop_if(|last| last.starts_with("ended"));
        assert_eq!(ends.unwrap_or_default(), expected_end);
        assert_eq!(events[..2], ["playing", "metadata 2"]);
        let times: Vec<_> = events[2..]
            .iter()
            .map(|event| event.split(' ').nth(1).unwrap())
            .collect();
        assert_eq!(times.len(), 58);
        assert_eq!([times[0], times[57]].join(" "), expected_times);
    }
    let serves_publish: [&[u8]; 2] = [
        include_bytes!("../../../testdata/nginx-rtmp-1.2.2-serves-publish.bin"),
        include_bytes!("../../../testdata/ffmpeg-5.1-serves-publish.bin"),
    ];
    for bytes in serves_publish {
        let mut server = Server::new(Role::Publish);
        server.send(&[&handshake(), bytes].concat()).unwrap();
        assert_eq!(server.event_names()[0], "publishing");
    }
    let refused = include_bytes!("../../../testdata/nginx-rtmp-1.2.2-serves-play-refused.bin");
    let mut server = Server::new(Role::Play);
    server.send(&[&handshake(), &refused[..]].concat()).unwrap();
    let expected = "refused NetStream.Play.StreamNotFound: No such stream";
    assert_eq!(server.event_names(), [expected]);
}

#[test]
fn calls_of_the_server_are_answered() {
    let mut server = Server::active(Role::Play);
    let mut check = |bytes: Vec<u8>, expected: &[&str]| {
        server.send(&bytes).unwrap();
        assert_eq!(server.heard(), expected);
    };
    check(command(0, "_onbwcheck", 11.0, &[]), &["0 _result 11"]);
    check(
        command(0, "unheardOf", 12.0, &[]),
        &["0 _error 12 NetConnection.Call.Failed"],
    );
    check(command(0, "unheardOf", 0.0, &[]), &[]);
    check(
        message(TYPE_USER_CONTROL, 0, 0, &[0, 6, 1, 2, 3, 4]),
        &["type 4 000701020304"],
    );
    // Another stream's end is not ours.
    check(message(TYPE_USER_CONTROL, 0, 0, &[0, 1, 0, 0, 0, 9]), &[]);
    check(
        message(TYPE_SET_PEER_BANDWIDTH, 0, 0, &[0, 0, 1, 0, 2]),
        &["type 5 002625a0"],
    );
    check(message(TYPE_WINDOW_ACK_SIZE, 0, 0, &[0, 0, 4, 0]), &[]);
    // Any input now, as more than a window has come since the start.
    server.send(&[]).unwrap();
    let received = server.client.received_bytes();
    assert_eq!(server.heard(), [format!("type 3 {received:08x}")]);
    assert_eq!(server.event_names(), [""; 0]);
}

#[test]
fn players_ping_and_publishers_do_not() {
    let mut server = Server::active(Role::Play);
    assert_eq!(server.client.next_timeout_ms(), Some(30_000));
    server.client.handle_timeout(30_000).unwrap();
    assert_eq!(server.heard(), ["type 4 000600007530"]);
    assert_eq!(server.client.next_timeout_ms(), Some(45_000));
    server.send(&message(TYPE_AUDIO, 1, 0, &[1])).unwrap();
    assert_eq!(server.client.next_timeout_ms(), Some(60_000));
    server.client.handle_timeout(60_000).unwrap();
    let error = server.client.handle_timeout(75_000).unwrap_err();
    assert_eq!(error.cause, Cause::PingTimeout);
    assert!(server.client.should_close());

    let mut server = Server::active(Role::Publish);
    assert_eq!(server.client.next_timeout_ms(), None);
    server.client.handle_timeout(1_000_000).unwrap();
    server.client.handle_timeout(2_000_000).unwrap();
    assert_eq!(server.heard(), [""; 0]);
}

#[test]
fn finishing_early_sends_what_there_is_to_end() {
    for role in [Role::Play, Role::Publish] {
        let mut server = Server::connected(role);
        server.client.finish();
        assert_eq!(server.heard(), [""; 0]);
        assert!(server.client.should_close());
    }
    let mut server = Server::active(Role::Play);
    server.client.finish();
    assert_eq!(server.heard(), ["0 deleteStream 0 1"]);
    // Whatever still comes is not looked at.
    server.send(&status(1, "error", "late")).unwrap();
    assert_eq!(server.event_names(), [""; 0]);
}
