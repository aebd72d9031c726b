//! HTTPS and RTMPS: one certificate for both, replaced while connections live.

use std::{
    fs,
    io::{Read, Write as _},
    net::SocketAddr,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    hls_watch::Media,
    support::{
        Dir, PATIENCE,
        ffmpeg::{self, AUDIO, VIDEO},
        process::Process,
        tls::{NAMES, Pair, Server, connect, open},
        wait_for, wait_until,
    },
};

#[test]
fn e2e_ffmpeg_publishes_and_plays_over_rtmps() {
    let dir = Dir::new("rtmps");
    let sample = dir.path().join("sample.flv");
    ffmpeg::encode(
        &format!(
            "{VIDEO}:rate=30 {AUDIO} -t 4 -c:v libx264 -preset ultrafast -g 30 -c:a aac -shortest"
        ),
        &sample,
    );
    let server = Server::start(&[]);
    let url = format!("rtmps://{}/live/room", server.weir.addr_of("rtmps"));
    let publisher = ffmpeg::push_forever(&sample, &url);
    server.weir.wait_until_live("room");
    let mut player = ffmpeg::quiet("ffmpeg");
    player.args([
        "-xerror", "-i", &url, "-t", "3", "-c", "copy", "-f", "null", "-",
    ]);
    let player = Process::start(player);
    assert!(player.wait(PATIENCE).success(), "{}", player.stderr());
    assert!(publisher.is_running(), "{}", publisher.stderr());
}

#[test]
fn e2e_https_is_http_2_for_those_that_know_it() {
    let server = Server::start(&[("WEIR_LIMITS_KEEP_ALIVE_TIMEOUT", "1")]);
    server.weir.wait_until_live("demo");
    let variant = server.weir.get("/live/demo/playlist.m3u8").text();
    let variant = variant.lines().last().expect("a variant").to_owned();
    let mut media = String::new();
    wait_until("a segment", PATIENCE, || {
        media = server.weir.get(&format!("/live/demo/{variant}")).text();
        media.ends_with(".ts\n")
    });
    let segment = media.lines().last().expect("a segment");
    let plain = server.weir.get(&format!("/live/demo/{segment}")).body;
    for (version, shown) in [("--http2", "2"), ("--http1.1", "1.1")] {
        // A client names the host that it wants (SNI), unless all it has is an address.
        for host in NAMES {
            let answer = curl(&server, host, &[version], &format!("/live/demo/{variant}"));
            assert_eq!(answer.said, format!("{shown} 200"), "{host}");
            assert!(answer.body.starts_with(b"#EXTM3U\n"));
            let answer = curl(&server, host, &[version], &format!("/live/demo/{segment}"));
            assert_eq!(answer.said, format!("{shown} 200"), "{host}");
            assert!(answer.body == plain, "the same bytes as without TLS");
        }
        // An answer without end is no idle connection: the client ends it, with status 28.
        let began = Instant::now();
        let answer = curl(
            &server,
            "localhost",
            &[version, "-m", "3"],
            "/live/demo.flv",
        );
        assert_eq!(answer.code, Some(28));
        assert!(began.elapsed() >= Duration::from_secs(3));
        assert!(answer.body.starts_with(b"FLV") && answer.body.len() > 1000);
    }
}

/// Apple's players want low-latency HLS over HTTP/2: what is waited for shares a connection with all else.
#[test]
fn e2e_l11_low_latency_hls_over_http_2() {
    let server = Server::start(&[]);
    let folder = "/live/demo/video";
    let playlist = format!("{folder}/index.m3u8");
    let media = wait_for("a playlist with parts", PATIENCE, || {
        let answer = server.weir.get(&playlist);
        let media = (answer.status == 200).then(|| Media::parse(&answer.text()));
        media?.ok().filter(|media| !media.hints.is_empty())
    });
    let mut position = media.position();
    let mut hint = media.hints[0].clone();
    for _ in 0..6 {
        let (msn, part) = position;
        let reload = format!("{playlist}?_HLS_msn={msn}&_HLS_part={part}");
        let [reloaded, waited] = curl_both(&server, [&reload, &format!("{folder}/{hint}")]);
        let media = Media::parse(&String::from_utf8(reloaded).expect("UTF-8")).expect("it is good");
        assert!(media.position() > position, "{media:?}");
        let all = media.segments.iter().chain(&media.open);
        let mut parts = all.flat_map(|segment| &segment.parts);
        assert!(parts.any(|part| part.uri == hint), "{hint} in {media:?}");
        let plain = server.weir.get(&format!("{folder}/{hint}"));
        assert!(waited == plain.body, "the same bytes as without TLS");
        (position, hint) = (media.position(), media.hints[0].clone());
    }
}

/// Two answers that curl got at once, over one connection of HTTP/2.
fn curl_both(server: &Server, paths: [&str; 2]) -> [Vec<u8>; 2] {
    let port = server.weir.addr_of("https").port();
    let bodies = ["first", "second"].map(|name| server.file.with_extension(name));
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--http2", "--parallel", "--compressed", "--cacert"]);
    curl.arg(&server.file);
    curl.args(["-w", "%{http_version} %{http_code} %{num_connects}\n"]);
    for (path, body) in paths.iter().zip(&bodies) {
        curl.arg(format!("https://localhost:{port}{path}"));
        curl.arg("-o").arg(body);
    }
    let said = Process::start(curl).output(PATIENCE);
    let mut said: Vec<_> = said.lines().collect();
    said.sort_unstable();
    assert_eq!(said, ["2 200 0", "2 200 1"]);
    bodies.map(|body| fs::read(body).expect("curl wrote it"))
}

#[test]
fn e2e_f39_a_new_certificate_comes_without_dropping_anybody() {
    let server = Server::start(&[]);
    server.weir.wait_until_live("demo");
    let addr = server.weir.addr_of("https");
    let viewers: Vec<_> = (0..50)
        .map(|index| Viewer::watch(addr, &server.pair, index % 2 == 0))
        .collect();
    wait_until("all watch", PATIENCE, || {
        viewers.iter().all(|viewer| viewer.received() > 1000)
    });

    let new = Pair::new();
    server.install(&new.pem());
    wait_until("new connections get the new one", PATIENCE, || {
        let both = ["https", "rtmps"].map(|protocol| server.weir.addr_of(protocol));
        both.into_iter()
            .all(|addr| connect(addr, "localhost", &new, &[]).is_ok())
    });
    connect(addr, "localhost", &server.pair, &[]).expect_err("the old one is gone");

    let before: Vec<_> = viewers.iter().map(Viewer::received).collect();
    wait_until("all go on", PATIENCE, || {
        let mut pairs = viewers.iter().zip(&before);
        pairs.all(|(viewer, before)| viewer.received() > before + 1000)
    });
    assert!(viewers.iter().all(Viewer::is_connected));
}

#[test]
fn e2e_f39_a_bad_new_certificate_is_not_taken() {
    let server = Server::start(&[]);
    let addr = server.weir.addr_of("https");
    let (other, expired) = (Pair::new(), Pair::expired());
    for (pem, complaint) in [
        ("-----BEGIN".to_owned(), "holds no certificate in PEM form"),
        (other.cert.clone(), "holds no private key in PEM form"),
        (
            other.cert.clone() + &server.pair.key,
            "is not that of the certificate in",
        ),
        (expired.pem(), "has expired"),
    ] {
        server.install(&pem);
        wait_until(complaint, PATIENCE, || {
            server.weir.log().contains(complaint)
        });
        connect(addr, "localhost", &server.pair, &[]).expect("the old one is still there");
    }
    server.install(&other.pem());
    wait_until("the good one is taken", PATIENCE, || {
        connect(addr, "localhost", &other, &[]).is_ok()
    });
    let complaints = server.weir.log().matches("the last one stays").count();
    assert_eq!(complaints, 4, "each is logged once");
    let metrics = server.weir.get("/metrics").text();
    let counted = "\nstreaming_tls_certificate_errors_total 4\n";
    assert!(metrics.contains(counted), "{metrics}");
}

#[test]
fn e2e_f39_a_bad_certificate_at_the_start_is_one_line_and_exit_2() {
    let dir = Dir::new("tls-start");
    fs::write(dir.path().join("expired.pem"), Pair::expired().pem()).expect("the disk takes it");
    for (file, complaint) in [
        ("nowhere.pem", "cannot read nowhere.pem"),
        ("expired.pem", "the certificate in expired.pem has expired"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg("dev").current_dir(dir.path()).env_clear();
        command.env("WEIR_TLS_CERT", file);
        let weir = Process::start(command);
        assert_eq!(weir.wait(PATIENCE).code(), Some(2), "{file}");
        let said = weir.stderr();
        assert!(said.contains(complaint), "{said}");
        let errors = said.lines().filter(|line| line.contains("ERROR"));
        assert_eq!(errors.count(), 1, "{said}");
    }
}

#[test]
fn e2e_who_speaks_no_tls_is_closed_in_time() {
    let server = Server::start(&[("WEIR_LIMITS_HANDSHAKE_TIMEOUT", "2")]);
    let seconds = Duration::from_secs;
    let after = |began: Instant, stream: &mut dyn Read| {
        // Reset or closed, both will do.
        let _ = stream.read_to_end(&mut Vec::new());
        began.elapsed()
    };
    thread::scope(|scope| {
        for protocol in ["https", "rtmps"] {
            let (addr, pair) = (server.weir.addr_of(protocol), &server.pair);
            scope.spawn(move || {
                let mut plain = open(addr).expect("weir accepts");
                plain
                    .write_all(b"GET / HTTP/1.1\r\nHost: weir\r\n\r\n")
                    .expect("weir reads");
                let closed = after(Instant::now(), &mut plain);
                assert!(closed < seconds(4), "plain bytes at {protocol}: {closed:?}");
            });
            scope.spawn(move || {
                let closed = after(Instant::now(), &mut open(addr).expect("weir accepts"));
                assert!(
                    closed > seconds(4) && closed < seconds(8),
                    "silence at {protocol}: {closed:?}"
                );
            });
            for alpn in [&[][..], &["h2"]] {
                scope.spawn(move || {
                    let began = Instant::now();
                    let mut stream =
                        connect(addr, "localhost", pair, alpn).expect("weir speaks TLS");
                    let closed = after(began, &mut stream);
                    assert!(
                        closed > seconds(1) && closed < seconds(5),
                        "silence within TLS at {protocol}: {closed:?}"
                    );
                });
            }
        }
    });
}

fn curl(server: &Server, host: &str, options: &[&str], path: &str) -> Answer {
    let port = server.weir.addr_of("https").port();
    let body = server.file.with_extension("body");
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-w", "%{http_version} %{http_code}", "--cacert"]);
    curl.arg(&server.file).arg("-o").arg(&body).args(options);
    curl.arg(format!("https://{host}:{port}{path}"));
    let curl = Process::start(curl);
    let code = curl.wait(PATIENCE).code();
    Answer {
        code,
        said: curl.stdout(),
        body: fs::read(&body).unwrap_or_default(),
    }
}

/// What curl ended with.
struct Answer {
    code: Option<i32>,
    said: String,
    body: Vec<u8>,
}

/// Somebody who watches FLV over HTTPS, as it is or over a WebSocket, and reads all the time.
struct Viewer {
    received: Arc<AtomicU64>,
    connected: Arc<AtomicBool>,
}

impl Viewer {
    fn watch(addr: SocketAddr, pair: &Pair, web_socket: bool) -> Self {
        let mut stream = connect(addr, "localhost", pair, &[]).expect("weir speaks TLS");
        let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let (headers, status) = if web_socket {
            (upgrade, "HTTP/1.1 101 ")
        } else {
            ("", "HTTP/1.1 200 ")
        };
        let head = format!("GET /live/demo.flv HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).expect("weir reads");
        let mut start = [0; 13];
        stream.read_exact(&mut start).expect("weir answers");
        assert_eq!(String::from_utf8_lossy(&start), status);

        let (received, connected) = (Arc::<AtomicU64>::default(), Arc::new(AtomicBool::new(true)));
        let viewer = Self {
            received: Arc::clone(&received),
            connected: Arc::clone(&connected),
        };
        thread::spawn(move || {
            let mut buffer = [0; 16 << 10];
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                received.fetch_add(len as u64, Ordering::Relaxed);
            }
            connected.store(false, Ordering::Relaxed);
        });
        viewer
    }

    fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }
}
