//! Segments that lie in memory files, over real connections of HTTP/1.1.

use std::time::{Duration, UNIX_EPOCH};

use axum::{Router, extract::State, routing::get};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
};
use weir_hub::{Join, LagLimit};
use weir_media::StreamName;
use weir_package::keep::Keep as _;

use super::*;
use crate::{
    Limits,
    derive::MemoryFiles,
    net::{http, tasks::Tasks},
};

const TEXT: &str = "#EXTM3U\n";
/// Long beside what anything here takes.
const PATIENT: Duration = Duration::from_secs(60);

/// A segment of eight parts, which no buffer holds whole.
fn segment() -> (Segment, Bytes) {
    let whole: Bytes = (0..9_000_000_u32).map(|at| (at / 5 * 3) as u8).collect();
    let files = MemoryFiles::new(StreamName::parse("room").expect("valid"));
    let part = |bytes: &[u8]| Part {
        duration_us: 1,
        independent: true,
        samples: 1,
        content: files.keep("video", 7, Bytes::copy_from_slice(bytes)),
    };
    let segment = Segment {
        msn: 7,
        discontinuity: 1,
        after_discontinuity: false,
        init: None,
        duration_us: 1,
        span: None,
        program_date_time: UNIX_EPOCH,
        captions: false,
        parts: whole.chunks(1_200_000).map(part).collect(),
        archived: None,
    };
    assert!(matches!(segment.parts[0].content, Content::Kept(_)));
    (segment, whole)
}

/// A connection to a server of one segment and one text.
struct Case {
    client: BufReader<TcpStream>,
    server: JoinSet<()>,
    tasks: Tasks,
    whole: Bytes,
}

/// An answer: status, length that it tells, body.
type Answer = (u16, usize, Vec<u8>);

impl Case {
    async fn new(stall_limit: Duration) -> Self {
        let (segment, whole) = segment();
        let answer = |State(segment): State<Segment>, method: Method, asker: Asker| async move {
            Object::segment("1", "video", &segment, "video/iso.segment").respond(&method, asker)
        };
        let router = Router::new()
            .route("/segment", get(answer))
            .route("/text", get(|| async { TEXT }))
            .with_state(segment);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let socket = TcpSocket::new_v4().expect("a socket");
        // So that a client that does not read holds the server up soon.
        socket.set_recv_buffer_size(64 << 10).expect("an option");
        let client = socket.connect(listener.local_addr().expect("an address"));
        let client = BufReader::new(client.await.expect("it listens"));
        let (stream, _) = listener.accept().await.expect("the client is there");
        let limits = Limits {
            handshake_timeout: PATIENT,
            input_timeout: PATIENT,
            write_stall_timeout: stall_limit,
            keep_alive_timeout: PATIENT,
            viewer_lag: LagLimit::RING,
            join: Join::NewestSync,
        };
        let tasks = Tasks::default();
        let served = http::serve(stream, None, router, limits, tasks.clone());
        Self {
            client,
            server: JoinSet::from_iter([served]),
            tasks,
            whole,
        }
    }

    async fn say(&mut self, text: &str) {
        let written = self.client.write_all(text.as_bytes()).await;
        written.expect("the server is there");
    }

    async fn answer(&mut self, method: &str) -> Answer {
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            self.client.read_line(&mut line).await.expect("a line");
            let line = line.trim_end();
            if let Some(rest) = line.strip_prefix("HTTP/1.") {
                status = rest[2..5].parse().expect("a number");
            } else if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().expect("a number");
            } else if line.is_empty() {
                break;
            }
        }
        let sent = if method == "HEAD" || status == 304 {
            0
        } else {
            length
        };
        let mut body = vec![0; sent];
        let read = self.client.read_exact(&mut body).await;
        read.expect("as long as it says");
        (status, length, body)
    }

    /// Whether the server has closed in order, after everything that was read.
    async fn is_closed(&mut self) -> bool {
        matches!(self.client.read(&mut [0]).await, Ok(0))
    }
}

#[tokio::test]
async fn many_requests_of_one_connection() {
    let mut case = Case::new(PATIENT).await;
    let whole = case.whole.clone();
    let len = whole.len();
    let range = |from: usize, to: usize| {
        let text = format!(
            "GET /segment HTTP/1.1\r\nHost: a\r\nRange: bytes={from}-{}\r\n\r\n",
            to - 1
        );
        (text, "GET", 206, to - from, whole[from..to].to_vec())
    };
    let plain =
        |method: &'static str, path: &str| format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let known = "GET /segment HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"1-video-7\"\r\n\r\n";
    let requests = [
        (plain("GET", "/segment"), "GET", 200, len, whole.to_vec()),
        (plain("GET", "/text"), "GET", 200, TEXT.len(), TEXT.into()),
        (plain("HEAD", "/segment"), "HEAD", 200, len, Vec::new()),
        range(0, 1),
        range(1_199_999, 1_200_001),
        (known.to_owned(), "GET", 304, 0, Vec::new()),
        range(17, 5_000_000),
        (plain("GET", "/text"), "GET", 200, TEXT.len(), TEXT.into()),
        range(len - 16_384, len),
        range(len - 100, len),
        (plain("GET", "/segment"), "GET", 200, len, whole.to_vec()),
        (plain("GET", "/text"), "GET", 200, TEXT.len(), TEXT.into()),
    ];
    // One after the other, then all at once.
    for (text, method, status, length, body) in &requests {
        case.say(text).await;
        let answer = case.answer(method).await;
        assert_eq!((answer.0, answer.1), (*status, *length), "{text}");
        assert!(answer.2 == *body, "{text}");
    }
    let all: String = requests.iter().map(|request| &request.0[..]).collect();
    case.say(&all).await;
    for (text, method, status, length, body) in &requests {
        let answer = case.answer(method).await;
        assert_eq!((answer.0, answer.1), (*status, *length), "{text}");
        assert!(answer.2 == *body, "{text}");
    }
    drop(case.client);
    case.server.join_all().await;
}

#[tokio::test]
async fn a_connection_ends_behind_its_last_answer() {
    for request in [
        "GET /segment HTTP/1.0\r\n\r\n",
        "GET /segment HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ] {
        let mut case = Case::new(PATIENT).await;
        case.say(request).await;
        let (status, length, body) = case.answer("GET").await;
        assert_eq!((status, length), (200, case.whole.len()), "{request}");
        assert!(body == case.whole, "{request}");
        assert!(case.is_closed().await, "{request}");
        case.server.join_all().await;
    }
}

#[tokio::test]
async fn an_answer_is_finished_when_the_server_closes() {
    let mut case = Case::new(PATIENT).await;
    case.say("GET /segment HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let begun = case.client.fill_buf().await.expect("it has begun");
    assert!(!begun.is_empty());
    case.tasks.closing().cancel();
    assert!(case.answer("GET").await.2 == case.whole);
    assert!(case.is_closed().await);
    case.server.join_all().await;
}

#[tokio::test]
async fn who_does_not_read_a_segment_is_closed() {
    let mut case = Case::new(Duration::from_millis(200)).await;
    case.say("GET /segment HTTP/1.1\r\nHost: a\r\n\r\n").await;
    // TCP itself gives up after 15 s.
    let closed = tokio::time::timeout(Duration::from_secs(10), case.server.join_all());
    closed.await.expect("the write stall ends it");
    let mut read = Vec::new();
    // It may be cut off by a reset.
    let _ = case.client.read_to_end(&mut read).await;
    assert!(read.len() < case.whole.len(), "{}", read.len());
}
