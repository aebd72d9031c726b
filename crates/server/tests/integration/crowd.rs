//! Who counts as a viewer: a crowd over every protocol that joins, leaves, crashes and refreshes, and what is kept of it.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};
use socket2::SockRef;

use crate::support::{
    PATIENCE, Weir,
    http::{self, Connection},
    rtmp, wait_until,
};

/// Viewers of each protocol, a third of which leaves and a third of which crashes.
const EACH: usize = 60;
const THIRD: usize = EACH / 3;
const PROTOCOLS: [&str; 5] = ["hls", "http-flv", "http-ts", "rtmp", "ws-flv"];
/// What viewers call themselves in the test of what is kept, and the addresses they say they have.
const AGENT: &str = "marker-agent-4711";
const HOMES: [&str; 2] = ["203.0.113.77", "2001:db8::4711"];

/// The viewers that are there.
struct Crowd<'a> {
    weir: &'a Weir,
    /// One per viewer of an endless stream, by protocol.
    sockets: BTreeMap<&'static str, Vec<TcpStream>>,
    /// Who has said that it goes, and reads on until the server lets it.
    leaving: Vec<TcpStream>,
    hls: Vec<Player>,
    /// HLS counts by session: its players share a connection and a User-Agent here.
    playlists: Connection,
}

/// A player of HLS: the paths that it asks for.
struct Player {
    multivariant: String,
    media: Vec<String>,
}

#[test]
fn e2e_crowd() {
    let weir = Weir::start("dev", &[("VIEWER_TIMEOUT_SECONDS", "3")]);
    weir.wait_until_live("demo");
    let mut crowd = Crowd::of(&weir);
    crowd.settle([0; 5], "nobody is there");
    for _ in 0..EACH {
        crowd.join_endless();
    }
    for entry in ["demo.m3u8", "demo/index.m3u8", "demo/playlist.m3u8"] {
        for _ in 0..THIRD {
            crowd.join_hls(entry);
        }
    }
    crowd.settle([EACH; 5], "all have joined");
    crowd.refresh();
    crowd.settle([EACH; 5], "who refreshes counts once");
    crowd.leave();
    crowd.settle([EACH - THIRD; 5], "a third has left");
    crowd.crash();
    crowd.settle([THIRD; 5], "a third has crashed");
    crowd.join_endless();
    crowd.join_hls("demo.m3u8");
    crowd.settle([THIRD + 1; 5], "one of each has joined");
    crowd.sockets.clear();
    crowd.hls.clear();
    crowd.settle([0; 5], "all are gone");
}

#[test]
fn e2e_a_playlist_redirects_to_a_session() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    let answer = weir.get("/live/demo.m3u8");
    assert_eq!(answer.status, 302);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let location = answer.header("location").expect("it says where to go");
    let session = location.strip_prefix("/live/demo/index.m3u8?hls_ctx=");
    let session = session.expect(location);
    let multivariant = weir.get(location).text();
    assert!(
        multivariant.contains(&format!("video/index.m3u8?hls_ctx={session}")),
        "{multivariant}"
    );
    let again = weir.get(&format!("/live/demo.m3u8?hls_ctx={session}"));
    assert_eq!(again.header("location"), Some(location), "it keeps its id");
    let unknown = weir.get("/live/nothing.m3u8");
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.header("cache-control"), Some("no-store"));
    assert_eq!(weir.get("/demo.m3u8").status, 404);
}

#[test]
fn e2e_nothing_is_kept_of_who_watches() {
    for identity in ["session", "hash"] {
        let environment = [
            ("WEIR_SERVER_TRUSTED_PROXIES", "127.0.0.0/8"),
            ("WEIR_VIEWERS_IDENTITY", identity),
            ("RUST_LOG", "debug"),
        ];
        let weir = Weir::start("dev", &environment);
        weir.wait_until_live("demo");
        for home in HOMES {
            let headers = [("X-Forwarded-For", home), ("User-Agent", AGENT)];
            for path in ["index.m3u8", "video/index.m3u8", "audio/index.m3u8"] {
                let path = format!("/live/demo/{path}");
                let answer = http::request(weir.http_addr(), "GET", &path, &headers);
                let answer = answer.expect("weir answers");
                assert_eq!(answer.status, 200);
                let carries = path.ends_with("demo/index.m3u8") && identity == "session";
                assert_eq!(answer.text().contains("hls_ctx"), carries, "{path}");
            }
            for path in ["/live/demo.flv", "/live/demo.ts", "/live/nothing.flv"] {
                let answer = http::open(weir.http_addr(), "GET", path, &headers);
                assert!(answer.is_ok_and(|answer| matches!(answer.status, 200 | 404)));
            }
        }
        let counted = weir.stream("demo").expect("it runs")["viewers_by_protocol"]["hls"].clone();
        assert_eq!(counted, HOMES.len(), "by the address that the proxy names");
        let mut kept = ["/metrics", "/status", "/health"]
            .map(|path| weir.get(path).text())
            .to_vec();
        weir.terminate();
        weir.wait(PATIENCE);
        assert!(weir.log().contains("\"DEBUG\""), "the log tells a lot");
        kept.extend([weir.log(), weir.stdout()]);
        kept.extend(files(weir.dir()));
        for text in &kept {
            for marker in HOMES.into_iter().chain([AGENT]) {
                assert!(!text.contains(marker), "{marker} in\n{text}");
            }
        }
    }
}

impl<'a> Crowd<'a> {
    fn of(weir: &'a Weir) -> Self {
        Self {
            weir,
            sockets: BTreeMap::new(),
            leaving: Vec::new(),
            hls: Vec::new(),
            playlists: Connection::open(weir.http_addr()).expect("weir accepts"),
        }
    }

    /// One more viewer of every endless stream.
    fn join_endless(&mut self) {
        let socket = TcpStream::connect(self.weir.rtmp_addr()).expect("weir accepts");
        let client = rtmp::Client::play(socket, "demo").expect("it plays");
        let socket = client.socket().try_clone().expect("a descriptor");
        self.add("rtmp", socket);
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        for (protocol, path, headers, status) in [
            ("http-flv", "/live/demo.flv", "", "200"),
            ("http-ts", "/live/demo.ts", "", "200"),
            ("ws-flv", "/live/demo.flv", upgrade, "101"),
        ] {
            let mut socket = TcpStream::connect(self.weir.http_addr()).expect("weir accepts");
            let head = format!("GET {path} HTTP/1.1\r\nHost: weir\r\n{headers}\r\n");
            socket.write_all(head.as_bytes()).expect("sent");
            let mut line = [0; 12];
            socket.read_exact(&mut line).expect("weir answers");
            assert_eq!(line, format!("HTTP/1.1 {status}").as_bytes(), "{protocol}");
            self.add(protocol, socket);
        }
    }

    fn add(&mut self, protocol: &'static str, socket: TcpStream) {
        socket.set_nonblocking(true).expect("a socket option");
        self.sockets.entry(protocol).or_default().push(socket);
    }

    /// Every player takes what has come for it.
    fn play(&mut self) {
        let mut buffer = [0; 64 << 10];
        for mut socket in self.sockets.values().flatten().chain(&self.leaving) {
            while socket.read(&mut buffer).is_ok_and(|len| len > 0) {}
        }
        for path in self.hls.iter().flat_map(|player| &player.media) {
            let answer = self.playlists.get(path).expect("weir answers");
            assert_eq!(answer.status, 200, "{path}");
        }
    }

    /// One more player of HLS, which enters at a path below `/live/`.
    fn join_hls(&mut self, entry: &str) {
        let mut multivariant = format!("/live/{entry}");
        let mut answer = self.playlists.get(&multivariant).expect("weir answers");
        if let Some(location) = answer.header("location") {
            multivariant = location.to_owned();
            answer = self.playlists.get(&multivariant).expect("weir answers");
        }
        assert_eq!(answer.status, 200, "{multivariant}");
        let text = answer.text();
        let pieces = text.split(['\n', '"']);
        let uris = pieces.filter(|piece| piece.contains(".m3u8?hls_ctx="));
        let media: Vec<_> = uris.map(|uri| format!("/live/demo/{uri}")).collect();
        assert!(!media.is_empty(), "{text}");
        self.hls.push(Player {
            multivariant,
            media,
        });
    }

    /// A third of the viewers of endless streams connect anew before their last connection is closed. Every player of
    /// HLS loads its page again, where the URL of its page has its session.
    fn refresh(&mut self) {
        for _ in 0..THIRD {
            self.join_endless();
        }
        for sockets in self.sockets.values_mut() {
            sockets.drain(..THIRD);
        }
        for player in &self.hls {
            let (path, session) = player.media[0].split_once('?').expect("it has a session");
            let has_session = player.multivariant.contains('?');
            let multivariant = if has_session {
                player.multivariant.clone()
            } else {
                format!("{}?{session}", player.multivariant)
            };
            let answer = self.playlists.get(&multivariant).expect("weir answers");
            assert!(answer.text().contains(session), "{path} {session}");
        }
    }

    /// A third of a full crowd says that it goes.
    fn leave(&mut self) {
        self.hls.truncate(EACH - THIRD);
        for socket in self
            .sockets
            .values_mut()
            .flat_map(|sockets| sockets.split_off(EACH - THIRD))
        {
            socket.shutdown(Shutdown::Write).expect("it is connected");
            self.leaving.push(socket);
        }
    }

    /// The next third is gone from one moment to the next.
    fn crash(&mut self) {
        self.hls.truncate(THIRD);
        for socket in self
            .sockets
            .values_mut()
            .flat_map(|sockets| sockets.split_off(THIRD))
        {
            SockRef::from(&socket)
                .set_linger(Some(Duration::ZERO))
                .expect("a socket option");
        }
    }

    /// Waits until the server counts these viewers, in order of [`PROTOCOLS`]; all its pages must say the same.
    #[track_caller]
    fn settle(&mut self, expected: [usize; 5], what: &str) {
        let expected: BTreeMap<_, _> = PROTOCOLS
            .into_iter()
            .zip(expected)
            .filter(|(_, count)| *count > 0)
            .collect();
        let wanted = json!(expected);
        let mut counted = Value::Null;
        wait_until(&format!("{what}: {wanted}"), PATIENCE, || {
            self.play();
            counted = self.weir.stream("demo").expect("it runs")["viewers_by_protocol"].clone();
            counted == wanted
        });
        let total: usize = expected.values().sum();
        let health = self.weir.get("/health").text();
        let said = format!("\"total_viewers\":{total},");
        assert!(health.contains(&said), "{what}: {said} {health}");
        let metrics = self.weir.get("/metrics").text();
        for line in [
            format!("streaming_total_viewers {total}\n"),
            format!("streaming_stream_viewers{{stream=\"demo\"}} {total}\n"),
        ] {
            assert!(metrics.contains(&line), "{what}: {line}{metrics}");
        }
        for (protocol, count) in expected {
            let line = format!("streaming_viewers{{protocol=\"{protocol}\"}} {count}\n");
            assert!(metrics.contains(&line), "{what}: {line}{metrics}");
        }
    }
}

/// What all files below a folder hold.
fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("it can be read");
    let paths = entries.map(|entry| entry.expect("it can be read").path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else {
                let bytes = fs::read(&path).expect("it can be read");
                vec![String::from_utf8_lossy(&bytes).into_owned()]
            }
        })
        .collect()
}
