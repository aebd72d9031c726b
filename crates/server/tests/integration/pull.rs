//! Streams fetched on demand: one Weir as the source, one as the edge, foreign and broken sources (CONTRACT 1.9, 1.10).

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::{Value, json};
use weir_media::container::flv::{self, TagKind};

use crate::support::{
    PATIENCE, Weir, accepts, ffmpeg, free_addr,
    http::{self, Connection},
    nginx::Nginx,
    rtmp, wait_for, wait_until,
};

const CROWD: usize = 200;
/// STREAM_TIMEOUT in these tests, and how often a pull looks whether anybody watches.
const IDLE_S: &str = "2";
const IDLE: Duration = Duration::from_secs(2);
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long a viewer may wait for its 404: the eight seconds promised, and what a busy machine adds.
const ANSWER_MAX: Duration = Duration::from_secs(8 + 3);

fn edge_of(source: SocketAddr, more: &[(&str, &str)]) -> Weir {
    let port = source.port().to_string();
    let own = [
        ("SOURCE_HOST", "127.0.0.1"),
        ("SOURCE_PORT", port.as_str()),
        ("STREAM_TIMEOUT", IDLE_S),
    ];
    Weir::start("serve", &[&own, more].concat())
}

fn live_source() -> Weir {
    let source = Weir::start("dev", &[]);
    source.wait_until_live("demo");
    source
}

fn viewers(weir: &Weir, name: &str) -> Value {
    weir.stream(name)
        .map_or(Value::Null, |row| row["viewers_by_protocol"].clone())
}

#[test]
fn e2e_a_crowd_makes_one_pull_and_the_last_one_to_leave_ends_it() {
    let source = live_source();
    let counter = FakeSource::in_front_of(source.rtmp_addr());
    let edge = edge_of(counter.addr, &[]);
    let barrier = Arc::new(Barrier::new(CROWD));
    let crowd: Vec<_> = (0..CROWD)
        .map(|_| {
            let (addr, barrier) = (edge.http_addr(), Arc::clone(&barrier));
            thread::spawn(move || -> io::Result<http::Streaming> {
                barrier.wait();
                let mut answer = http::open(addr, "GET", "/live/demo.flv", &[])?;
                answer.body.read_exact(&mut [0; 1_000])?;
                Ok(answer)
            })
        })
        .collect();
    let crowd: Vec<_> = crowd
        .into_iter()
        .map(|viewer| viewer.join().expect("no panic").expect("it plays"))
        .collect();
    assert!(crowd.iter().all(|answer| answer.status == 200));
    assert_eq!(viewers(&edge, "demo"), json!({ "http-flv": CROWD }));
    assert_eq!(viewers(&source, "demo"), json!({"rtmp": 1}));
    assert_eq!(counter.accepted(), 1);
    assert_eq!(edge.log().matches("pull started").count(), 1);

    let left = Instant::now();
    drop(crowd);
    wait_until("nobody watches", PATIENCE, || {
        viewers(&edge, "demo") == json!({}) || edge.stream("demo").is_none()
    });
    wait_until("the run ends", PATIENCE, || edge.stream("demo").is_none());
    assert!(
        left.elapsed() >= IDLE - LOOK_INTERVAL,
        "{:?}",
        left.elapsed()
    );
    wait_until("the source is left", PATIENCE, || {
        viewers(&source, "demo") == json!({})
    });
    assert!(edge.log().contains("pull stopped"));
}

#[test]
fn e2e_players_behind_a_cdn_keep_what_was_fetched() {
    let source = live_source();
    let edge = edge_of(source.rtmp_addr(), &[("CDN_ADDR", "127.0.0.1:0")]);
    let cdn = edge.addr_of("cdn");
    let watch = || {
        let answer = http::try_get(cdn, "/demo/video/index.m3u8");
        assert_eq!(answer.expect("weir answers").status, 200);
    };
    watch();
    // They have no sessions: nothing but their requests says that somebody watches.
    let since = Instant::now();
    wait_until("it is watched for long", PATIENCE, || {
        watch();
        since.elapsed() > 2 * IDLE
    });
    assert!(!edge.log().contains("pull stopped"));
    wait_until("the run ends", PATIENCE, || edge.stream("demo").is_none());
    assert_eq!(edge.log().matches("pull started").count(), 1);
}

#[test]
fn e2e_every_protocol_fetches_a_stream() {
    let source = Weir::start("dev", &[("ENABLE_GOP_CACHE", "false")]);
    source.wait_until_live("demo");
    // The first segment takes longer than the time-out: who waits for it is a viewer.
    let short = [("STREAM_TIMEOUT", "1"), ("SEGMENT_DURATION", "4")];
    let edge = edge_of(source.rtmp_addr(), &short);
    let mut hls = Connection::open(edge.http_addr()).expect("weir answers");
    let media = media_playlist(&mut hls);
    assert_eq!(hls.get(&media).expect("weir answers").status, 200);
    assert_eq!(edge.log().matches("pull started").count(), 1);
    assert!(!edge.log().contains("pull stopped"));
    let edge = edge_of(source.rtmp_addr(), &short);
    let socket = TcpStream::connect(edge.rtmp_addr()).expect("weir accepts");
    let mut player = rtmp::Client::play(socket, "demo").expect("weir plays");
    player.next_number().expect("it goes on").expect("a frame");
    assert_eq!(viewers(&edge, "demo"), json!({"rtmp": 1}));
}

/// A viewer of HTTP-FLV that notes every tag.
struct Watching(Arc<Mutex<Vec<(TagKind, u32)>>>);

impl Watching {
    fn start(weir: &Weir, path: &str) -> Self {
        let mut answer = http::open(weir.http_addr(), "GET", path, &[]).expect("weir answers");
        assert_eq!(answer.status, 200, "{path}");
        let tags = Arc::<Mutex<Vec<_>>>::default();
        let noted = Arc::clone(&tags);
        thread::spawn(move || {
            let mut reader = flv::Reader::new();
            let mut buffer = [0; 16 << 10];
            while let Ok(len) = answer.body.read(&mut buffer) {
                if len == 0 {
                    return;
                }
                reader.push(Bytes::copy_from_slice(&buffer[..len]));
                while let Some(tag) = reader.next().expect("it is FLV") {
                    let mut tags = noted.lock().expect("no panic");
                    tags.push((tag.kind, tag.timestamp_ms));
                }
            }
        });
        Self(tags)
    }

    fn times(&self, kind: TagKind) -> Vec<u32> {
        let tags = self.0.lock().expect("no panic");
        let of_kind = tags.iter().filter(|(known, _)| *known == kind);
        of_kind.map(|&(_, ms)| ms).collect()
    }

    fn wait_for_more(&self, frames: usize) {
        let before = self.times(TagKind::Video).len();
        wait_until("frames come", PATIENCE, || {
            self.times(TagKind::Video).len() >= before + frames
        });
    }
}

#[test]
fn e2e_a_source_that_dies_and_returns_continues_the_stream() {
    let source = live_source();
    let addr = source.rtmp_addr();
    let edge = edge_of(addr, &[]);
    let viewer = Watching::start(&edge, "/live/demo.flv");
    viewer.wait_for_more(30);
    let mut hls = Connection::open(edge.http_addr()).expect("weir answers");
    let media = media_playlist(&mut hls);
    let before = hls.get(&media).expect("weir answers").text();
    assert!(!before.contains("#EXT-X-DISCONTINUITY\n"), "{before}");

    source.kill();
    let failed = wait_for("the pull has failed", PATIENCE, || {
        edge.stream("demo").filter(|row| row["state"] == "failed")
    });
    assert!(
        failed["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("source")),
        "{failed}"
    );
    let times = viewer.times(TagKind::Video).len();
    let source = Weir::start("dev", &[("RTMP_ADDR", &addr.to_string())]);
    edge.wait_until_live("demo");
    assert_eq!(source.rtmp_addr(), addr);
    wait_until("the viewer goes on", PATIENCE, || {
        viewer.times(TagKind::Video).len() > times + 60
    });
    for kind in [TagKind::Video, TagKind::Audio] {
        let times = viewer.times(kind);
        assert!(times.is_sorted(), "{kind:?} {times:?}");
    }
    let after = wait_for("the playlist shows it", PATIENCE, || {
        let text = hls.get(&media).expect("the connection stays").text();
        text.contains("#EXT-X-DISCONTINUITY\n").then_some(text)
    });
    assert_eq!(
        after.matches("#EXT-X-DISCONTINUITY\n").count(),
        1,
        "{after}"
    );
    assert_eq!(run_of(&before), run_of(&after), "{before}\n{after}");
    assert_eq!(edge.log().matches("pull continued").count(), 1);
}

#[test]
fn e2e_a_source_that_falls_silent_is_tried_again() {
    let source = live_source();
    let edge = edge_of(source.rtmp_addr(), &[("WEIR_LIMITS_INPUT_TIMEOUT", "1")]);
    let viewer = Watching::start(&edge, "/live/demo.flv");
    viewer.wait_for_more(30);
    source.freeze(true);
    let failed = wait_for("the pull has failed", PATIENCE, || {
        edge.stream("demo").filter(|row| row["state"] == "failed")
    });
    assert_eq!(failed["reason"], "the source sent nothing for 1 s");
    assert_eq!(failed["viewers"], 1);
    source.freeze(false);
    viewer.wait_for_more(30);
    edge.wait_until_live("demo");
}

#[test]
fn e2e_a_stop_ends_what_was_fetched_and_fetches_nothing_more() {
    let source = live_source();
    let edge = edge_of(source.rtmp_addr(), &[("WEIR_SERVER_SHUTDOWN_GRACE", "3")]);
    let mut hls = Connection::open(edge.http_addr()).expect("weir answers");
    let media = media_playlist(&mut hls);
    hls.get(&media).expect("weir answers");
    edge.terminate();
    wait_until("the playlist ends", PATIENCE, || {
        let playlist = hls.get(&media).expect("the connection stays open").text();
        playlist.ends_with("#EXT-X-ENDLIST\n")
    });
    drop(hls);
    assert!(edge.wait(PATIENCE).success());
    assert_eq!(edge.log().matches("pull started").count(), 1);
}

/// The path of the first media playlist of `demo`.
fn media_playlist(hls: &mut Connection) -> String {
    let master = hls.get("/live/demo/index.m3u8").expect("weir answers");
    assert_eq!(master.status, 200);
    let text = master.text();
    let uri = text
        .lines()
        .find(|line| !line.is_empty() && !line.starts_with('#'));
    format!("/live/demo/{}", uri.expect("a playlist has variants"))
}

/// What the names of a playlist's objects have in common: their run.
fn run_of(playlist: &str) -> String {
    let map = playlist.split("#EXT-X-MAP:URI=\"").nth(1);
    let name = map.expect("a playlist names its init object");
    name.split(['-', '_', '.', '"'])
        .nth(1)
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn e2e_an_unknown_name_is_refused_with_the_words_of_the_source() {
    let source = live_source();
    let edge = edge_of(source.rtmp_addr(), &[]);
    let reason = "the source refused: no such stream is live (NetStream.Play.StreamNotFound)";
    check_refused(&edge, "nobody", reason);
    assert_eq!(edge.get("/live/nobody/index.m3u8").status, 404);
    assert_eq!(source.stream("nobody"), None);
}

/// Answers every connection in its own way, and counts them.
struct FakeSource {
    addr: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl FakeSource {
    /// `answer` says whether the connection stays open.
    fn start(answer: impl Fn(&mut TcpStream) -> bool + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let addr = listener.local_addr().expect("it is bound");
        let accepted = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&accepted);
        thread::spawn(move || {
            let mut held = Vec::new();
            while let Ok((mut socket, _)) = listener.accept() {
                counted.fetch_add(1, Ordering::SeqCst);
                if answer(&mut socket) {
                    held.push(socket);
                }
            }
        });
        Self { addr, accepted }
    }

    /// Passes everything on to a real source.
    fn in_front_of(source: SocketAddr) -> Self {
        Self::start(move |socket| {
            let real = TcpStream::connect(source).expect("the source listens");
            let ways = [(&*socket, &real), (&real, &*socket)];
            for (from, to) in ways {
                let clone = |end: &TcpStream| end.try_clone().expect("a socket can be cloned");
                let (mut from, mut to) = (clone(from), clone(to));
                thread::spawn(move || {
                    // Either end may close first; then the other one has to hear of it.
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
            true
        })
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

#[test]
fn e2e_a_source_that_answers_garbage_is_a_failed_pull() {
    let source = FakeSource::start(|socket| socket.write_all(&[b'x'; 4_000]).is_ok());
    check_bad_source(&source, "not RTMP: the first byte is 0x78");
}

#[test]
fn e2e_a_source_that_closes_is_a_failed_pull_and_asked_again_later() {
    let source = FakeSource::start(|socket| {
        // All that the client says first; closing on unread bytes would reset the connection.
        let _ = socket.read_exact(&mut [0; 1_537]);
        false
    });
    let edge = check_bad_source(&source, "the source closed the connection");
    wait_until("the source is asked again", PATIENCE, || {
        assert_eq!(edge.get("/live/room.flv").status, 404);
        source.accepted() > 1
    });
}

#[test]
fn e2e_a_source_that_says_nothing_is_a_failed_pull() {
    let source = FakeSource::start(|_| true);
    check_bad_source(&source, "the source sent no media within 7.5 s");
}

#[test]
fn e2e_a_source_that_is_not_there_is_a_failed_pull() {
    let addr = free_addr();
    assert!(!accepts(addr));
    let edge = edge_of(addr, &[]);
    check_refused(
        &edge,
        "room",
        "cannot connect to the source: Connection refused",
    );
}

/// Viewers of any protocol get an answer in time, and only the first one reaches the source.
fn check_bad_source(source: &FakeSource, reason: &str) -> Weir {
    let edge = edge_of(source.addr, &[]);
    check_refused(&edge, "room", reason);
    assert_eq!(edge.get("/live/room/index.m3u8").status, 404);
    let mut player = rtmp::Client::open(edge.rtmp_addr()).expect("weir accepts");
    player.connect("live").expect("weir answers");
    let stream_id = player.create_stream().expect("weir answers");
    let told = player
        .request_play(stream_id, "room")
        .expect("weir answers");
    assert_eq!(told.code, "NetStream.Play.StreamNotFound");
    assert_eq!(source.accepted(), 1);
    edge
}

fn check_refused(edge: &Weir, name: &str, reason: &str) {
    let asked = Instant::now();
    let path = format!("/live/{name}.flv");
    let answer = edge.get(&path);
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(asked.elapsed() < ANSWER_MAX, "{:?}", asked.elapsed());
    let row = edge.stream(name).expect("the failure is shown for a while");
    assert_eq!(row["state"], "failed", "{row}");
    let shown = row["reason"].as_str().unwrap_or_default();
    assert!(shown.contains(reason), "{shown}");
    assert_eq!(edge.get(&path).status, 404);
    let health: Value = serde_json::from_slice(&edge.get("/health").body).expect("JSON");
    assert_eq!(health["active_streams"], 0);
    assert!(edge.log().contains("pull failed"));
}

#[test]
fn e2e_a_full_server_fetches_no_further_stream() {
    let source = live_source();
    let edge = edge_of(source.rtmp_addr(), &[("MAX_CONCURRENT_STREAMS", "1")]);
    let viewer = Watching::start(&edge, "/live/demo.flv");
    viewer.wait_for_more(1);
    for path in ["/live/other.flv", "/live/other/index.m3u8"] {
        let answer = edge.get(path);
        assert_eq!(answer.status, 503, "{path}");
        assert!(answer.header("retry-after").is_some(), "{path}");
        assert!(answer.text().contains("MAX_CONCURRENT_STREAMS"), "{path}");
    }
    let mut player = rtmp::Client::open(edge.rtmp_addr()).expect("weir accepts");
    player.connect("live").expect("weir answers");
    let stream_id = player.create_stream().expect("weir answers");
    let told = player
        .request_play(stream_id, "other")
        .expect("weir answers");
    assert_eq!(told.code, "NetStream.Play.Failed");
    assert!(
        told.description.contains("MAX_CONCURRENT_STREAMS"),
        "{told:?}"
    );
}

#[test]
fn e2e_a_server_does_not_fetch_from_itself() {
    let addr = free_addr();
    let edge = edge_of(addr, &[("RTMP_ADDR", &addr.to_string())]);
    check_refused(&edge, "room", "the source is this server itself");
}

#[test]
fn e2e_servers_that_fetch_from_each_other_give_up() {
    let (a, b) = (free_addr(), free_addr());
    let first = edge_of(b, &[("RTMP_ADDR", &a.to_string())]);
    let _second = edge_of(a, &[("RTMP_ADDR", &b.to_string())]);
    check_refused(&first, "room", "source");
}

#[test]
fn e2e_a_stream_is_fetched_from_nginx() {
    let nginx = Nginx::start();
    let addr = nginx.addr();
    let sample = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/demo.flv"
    ));
    let _publisher = ffmpeg::push_forever(sample, &format!("rtmp://{addr}/live/room"));
    let edge = edge_of(addr, &[]);
    wait_until("nginx has the stream", PATIENCE, || {
        edge.get("/live/room/index.m3u8").status == 200
    });
    let viewer = Watching::start(&edge, "/live/room.flv");
    viewer.wait_for_more(60);
    let row = edge.stream("room").expect("it runs");
    assert_eq!(row["tracks"].as_array().map(Vec::len), Some(2), "{row}");
}
