//! A client and our own server's session, tied together in memory.

use proptest::prelude::*;
use weir_media::Kind;

use super::*;
use crate::rtmp::{self, Refusal, Session, chunk::PLAY_STREAM_ID};

/// Where timestamps begin: before 24 bits are full, before the sign bit, before 32 bits are full.
const STARTS_MS: [u32; 4] = [0, 0xFF_FFF0, 0x7FFF_FF00, 0xFFFF_FF00];

/// Client, server, and the bytes between them, which are handed over in pieces.
struct Pair {
    client: Client,
    session: Session,
    to_client: Vec<u8>,
    to_server: Vec<u8>,
    /// Lengths of the pieces, used in turn; empty for "all at once".
    pieces: Vec<usize>,
    turn: usize,
    /// How requests are answered.
    refusal: Option<Refusal>,
    client_events: Vec<String>,
    server_events: Vec<String>,
    /// Everything the server sent.
    recorded: Vec<u8>,
}

impl Pair {
    fn new(role: Role, pieces: &[usize]) -> Self {
        Self::with_url(role, "rtmp://h/live/demo?key=s3cret", pieces)
    }

    fn with_url(role: Role, url: &str, pieces: &[usize]) -> Self {
        let config = Config::new(Url::parse(url).unwrap(), role);
        Self {
            client: Client::new(Arc::new(config), 1, 0),
            session: Session::new(Arc::new(rtmp::Config::default()), 2, 0),
            to_client: Vec::new(),
            to_server: Vec::new(),
            pieces: pieces.to_vec(),
            turn: 0,
            refusal: None,
            client_events: Vec::new(),
            server_events: Vec::new(),
            recorded: Vec::new(),
        }
    }

    /// Hands bytes over until nobody has any left.
    fn run(&mut self) {
        loop {
            if let Some(bytes) = self.client.poll_output() {
                self.to_server.extend_from_slice(&bytes);
            }
            if let Some(bytes) = self.session.poll_output() {
                self.to_client.extend_from_slice(&bytes);
                self.recorded.extend_from_slice(&bytes);
            }
            if self.to_server.is_empty() && self.to_client.is_empty() {
                return;
            }
            self.turn += 1;
            let len = self.pieces.get(self.turn % self.pieces.len().max(1));
            let len = len.copied().unwrap_or(usize::MAX);
            let piece: Vec<u8> = self
                .to_server
                .drain(..len.min(self.to_server.len()))
                .collect();
            self.session.handle_input(piece.into());
            self.poll_session();
            let piece: Vec<u8> = self
                .to_client
                .drain(..len.min(self.to_client.len()))
                .collect();
            self.client.handle_input(piece.into());
            while let Some(event) = self.client.poll_event().unwrap() {
                self.client_events.push(name(&event));
            }
        }
    }

    fn poll_session(&mut self) {
        while let Some(event) = self.session.poll_event().unwrap() {
            let event = match event {
                rtmp::Event::Publish(request) => {
                    match self.refusal {
                        None => self.session.accept_publish(request.stream_id),
                        Some(why) => self.session.reject_publish(request.stream_id, why, "no."),
                    }
                    let key = request.key.unwrap();
                    format!("publish {} {}", request.name, key.expose())
                }
                rtmp::Event::Play(request) => {
                    match self.refusal {
                        None => self.session.accept_play(request.stream_id),
                        Some(why) => self.session.reject_play(request.stream_id, why, "no."),
                    }
                    let key = request.params.get("key").unwrap();
                    format!("play {} {}", request.name, key.expose())
                }
                rtmp::Event::Media {
                    kind,
                    timestamp_ms,
                    payload,
                    ..
                } => name(&Event::Media {
                    kind,
                    timestamp_ms,
                    payload,
                }),
                rtmp::Event::Metadata { values, .. } => name(&Event::Metadata { values }),
                rtmp::Event::PublishEnded { .. } => "publish ended".to_owned(),
                rtmp::Event::PlayEnded { .. } => "play ended".to_owned(),
                rtmp::Event::Refused { code, .. } => format!("refused {code}"),
                other => panic!("{other:?}"),
            };
            self.server_events.push(event);
        }
    }

    /// What the server's fan-out would send to the player.
    fn send_media(&mut self, type_id: u8, timestamp_ms: u32, body: &[u8]) {
        let csid = if type_id == TYPE_AUDIO {
            CSID_AUDIO
        } else {
            CSID_VIDEO
        };
        let mut out = bytes::BytesMut::new();
        let size = CHUNK_SIZE_OUT;
        chunk::write_message(
            &mut out,
            csid,
            timestamp_ms,
            type_id,
            PLAY_STREAM_ID,
            &[body],
            size,
        );
        self.to_client.extend_from_slice(&out);
        self.recorded.extend_from_slice(&out);
    }
}

/// Frames from `start_ms` on, across the wrap; the second is longer than a chunk.
fn frames(start_ms: u32) -> impl Iterator<Item = (Kind, u32, Vec<u8>)> {
    let frame = move |(at, len): (u32, usize)| {
        let kind = if at % 2 == 0 {
            Kind::Video
        } else {
            Kind::Audio
        };
        // The payload looks like the extended timestamp that may stand before it.
        let time = start_ms.wrapping_add(at * 24);
        (kind, time, time.to_be_bytes().repeat(len))
    };
    (0u32..)
        .zip([40, 16_000, 1, 50])
        .cycle()
        .take(16)
        .enumerate()
        .map(move |(at, (_, len))| frame((u32::try_from(at).unwrap(), len)))
}

fn frame_names(start_ms: u32) -> Vec<String> {
    frames(start_ms)
        .map(|(kind, time, body)| format!("{kind:?} {time:#x} {}", body.len()))
        .collect()
}

fn publish_conversation(start_ms: u32, pieces: &[usize]) -> Pair {
    let mut pair = Pair::new(Role::Publish, pieces);
    pair.run();
    assert_eq!(pair.client.stream_id(), Some(1));
    pair.client
        .write_metadata(0, &[&amf(&["onMetaData".into(), Value::object([])])]);
    for (kind, timestamp_ms, body) in frames(start_ms) {
        let (head, tail) = body.split_at(1);
        match kind {
            Kind::Audio => pair.client.write_audio(timestamp_ms, &[head, tail]),
            _ => pair.client.write_video(timestamp_ms, &[head, tail]),
        }
    }
    pair.client.finish();
    pair.run();
    pair
}

fn play_conversation(start_ms: u32, pieces: &[usize]) -> Pair {
    let mut pair = Pair::new(Role::Play, pieces);
    pair.run();
    for (kind, timestamp_ms, body) in frames(start_ms) {
        let type_id = if kind == Kind::Audio {
            TYPE_AUDIO
        } else {
            TYPE_VIDEO
        };
        pair.send_media(type_id, timestamp_ms, &body);
    }
    pair.run();
    pair.session.end_play(PLAY_STREAM_ID);
    pair.run();
    pair
}

fn expected_publish(start_ms: u32) -> Vec<String> {
    let mut expected = vec!["publish demo s3cret".to_owned(), "metadata 2".to_owned()];
    expected.extend(frame_names(start_ms));
    expected.push("publish ended".to_owned());
    expected
}

fn expected_play(start_ms: u32) -> Vec<String> {
    let mut expected = vec!["playing".to_owned()];
    expected.extend(frame_names(start_ms));
    expected.push("ended Unpublished".to_owned());
    expected
}

#[test]
fn f6_f7_any_start_survives_both_ways() {
    for start_ms in STARTS_MS {
        let pair = publish_conversation(start_ms, &[]);
        assert_eq!(pair.server_events, expected_publish(start_ms));
        assert_eq!(pair.client_events, ["publishing"]);
        assert!(pair.client.should_close());
        let pair = play_conversation(start_ms, &[]);
        assert_eq!(pair.client_events, expected_play(start_ms));
        assert_eq!(pair.server_events, ["play demo s3cret"]);
        assert!(pair.client.should_close());
    }
}

#[test]
fn f6_f8_foreign_chunk_headers() {
    for start_ms in [0xFF_FFF0u32, 0x7FFF_FF00, 0xFFFF_FF00] {
        for repeats in [true, false] {
            let mut server = Server::active(Role::Play);
            let extended = start_ms.max(0xFF_FFFF).to_be_bytes();
            let first = start_ms.max(0xFF_FFFF);
            // Type 0 in two chunks, the second with the timestamp again or without.
            let mut bytes = vec![6, 0xFF, 0xFF, 0xFF, 0, 0, 129, 9, 1, 0, 0, 0];
            bytes.extend(extended);
            bytes.extend([7; 128]);
            bytes.push(0xC6);
            bytes.extend(extended.iter().filter(|_| repeats));
            bytes.push(7);
            // Type 1 with an extended delta of 2^24, type 2 with one of 40 ms.
            bytes.extend([0x46, 0xFF, 0xFF, 0xFF, 0, 0, 1, 9, 1, 0, 0, 0, 7]);
            bytes.extend([0x86, 0, 0, 40, 7]);
            server.send(&bytes).unwrap();
            let second = first.wrapping_add(0x0100_0000);
            let third = second.wrapping_add(40);
            assert_eq!(
                server.event_names(),
                [
                    format!("Video {first:#x} 129"),
                    format!("Video {second:#x} 1"),
                    format!("Video {third:#x} 1"),
                ]
            );
        }
    }
}

#[test]
fn refusals_arrive() {
    for (role, refusal, code) in [
        (Role::Publish, Refusal::Denied, "NetStream.Publish.Denied"),
        (Role::Publish, Refusal::BadName, "NetStream.Publish.BadName"),
        (
            Role::Publish,
            Refusal::Rejected,
            "NetStream.Publish.Rejected",
        ),
        (Role::Publish, Refusal::Failed, "NetStream.Failed"),
        (
            Role::Play,
            Refusal::StreamNotFound,
            "NetStream.Play.StreamNotFound",
        ),
        (Role::Play, Refusal::Denied, "NetStream.Play.Failed"),
    ] {
        let mut pair = Pair::new(role, &[]);
        pair.refusal = Some(refusal);
        pair.run();
        assert_eq!(pair.client_events, [format!("refused {code}: no.")]);
        assert!(pair.client.should_close());
    }
    let mut pair = Pair::with_url(Role::Play, "rtmp://h/other/demo", &[]);
    pair.run();
    assert_eq!(
        pair.client_events,
        [
            "refused NetConnection.Connect.InvalidApp: unknown application; \
            this server accepts rtmp://host/live/<name>"
        ]
    );
    let mut pair = Pair::with_url(Role::Publish, "rtmp://h/live/-", &[]);
    pair.run();
    assert!(
        pair.client_events[0].starts_with("refused NetStream.Publish.BadName: the stream name")
    );
}

#[test]
fn every_split_of_what_a_server_says() {
    for role in [Role::Play, Role::Publish] {
        let recorded = match role {
            Role::Play => short_play().recorded,
            Role::Publish => publish_conversation(0, &[]).recorded,
        };
        let expected = replay(role, &recorded, recorded.len()).unwrap();
        assert!(
            expected.0.len() >= 2 - usize::from(role == Role::Publish),
            "{expected:?}"
        );
        for split in 1..recorded.len() {
            assert_eq!(
                replay(role, &recorded, split),
                Ok(expected.clone()),
                "{split}"
            );
        }
    }
}

fn short_play() -> Pair {
    let mut pair = Pair::new(Role::Play, &[]);
    pair.run();
    pair.send_media(TYPE_VIDEO, 0xFFFF_FFF0, &[0xFF; 200]);
    pair.send_media(TYPE_AUDIO, 4, &[0xAF; 9]);
    pair.session.end_play(PLAY_STREAM_ID);
    pair.run();
    pair
}

/// Events and bytes of a client that hears `recorded` in two pieces.
fn replay(role: Role, recorded: &[u8], split: usize) -> Result<(Vec<String>, Bytes), Error> {
    let url = Url::parse("rtmp://h/live/demo?key=s3cret").unwrap();
    let mut client = Client::new(Arc::new(Config::new(url, role)), 1, 0);
    let mut events = Vec::new();
    let (head, tail) = recorded.split_at(split);
    for piece in [head, tail] {
        client.handle_input(Bytes::copy_from_slice(piece));
        while let Some(event) = client.poll_event()? {
            events.push(name(&event));
        }
        assert!(client.buffered_bytes() <= 4 * recorded.len() + 16 * 1024);
    }
    Ok((events, client.poll_output().unwrap_or_default()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_pieces_give_the_same(
        pieces in prop::collection::vec(1usize..5000, 1..20),
        start in prop::sample::select(&STARTS_MS),
    ) {
        prop_assert_eq!(publish_conversation(start, &pieces).server_events, expected_publish(start));
        prop_assert_eq!(play_conversation(start, &pieces).client_events, expected_play(start));
    }
}

proptest! {
    #[test]
    fn corrupted_servers_never_panic(
        faults in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        is_player in any::<bool>(),
    ) {
        let role = if is_player { Role::Play } else { Role::Publish };
        let mut recorded = match role {
            Role::Play => short_play().recorded,
            Role::Publish => publish_conversation(0, &[]).recorded,
        };
        // Behind the handshake, where it matters.
        for (at, byte) in faults {
            let at = 3073 + at.index(recorded.len() - 3073);
            recorded[at] = byte;
        }
        // Whether it is a fault or just another stream, it ends without a panic.
        let _ = replay(role, &recorded, recorded.len() / 2);
    }
}
