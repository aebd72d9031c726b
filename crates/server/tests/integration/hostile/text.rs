//! N4, N8, N9 and N12: text of strangers that wants to be markup, a log line, a header or a metric.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::Command,
};

use super::finish;
use crate::support::{
    Dir, PATIENCE, Weir, accepts, free_addr, process::Process, rtmp::Client, wait_until,
};

/// What every text says somewhere.
const MARK: &str = "pwned4711";

/// What is said in every place that a client fills: names, headers, queries, and what encoders say of themselves.
const TEXTS: [&str; 8] = [
    "<script>pwned4711</script>",
    "\"><img src=x onerror=pwned4711>",
    "a\r\nx-pwned4711: 1",
    "a\n{\"level\":\"ERROR\",\"pwned4711\":1}",
    "\x1b[2J\x1b[31mpwned4711",
    "a\"} 1\nstreaming_pwned4711{x=\"",
    "a\\pwned4711\\",
    "\u{202E}pwned4711\0",
];

/// N4: headers and queries come back in no answer, whatever it is.
#[test]
fn n4_headers_and_queries_are_not_reflected() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    for text in TEXTS.map(|text| text.replace(char::is_control, "")) {
        for path in [
            "/live/demo.m3u8",
            "/live/demo/index.m3u8",
            "/nothing",
            "/player",
            "/metrics",
            "/api/v1/sessions",
        ] {
            let query = escaped(&text);
            let mut head = format!(
                "GET {path}?x={query}&hls_ctx={query}&anchor={query}&{query}=1 HTTP/1.0\r\n"
            );
            for name in [
                "Host",
                "User-Agent",
                "Referer",
                "Origin",
                "X-Forwarded-For",
                "Range",
                "If-None-Match",
                "Cookie",
                "Authorization",
            ] {
                head.push_str(&format!("{name}: {text}\r\n"));
            }
            let answer = send(&weir, &(head + "\r\n"));
            assert!(!answer.contains(MARK), "{path}: {text}: {answer}");
        }
    }
    assert!(!weir.log().contains(MARK), "{}", weir.log());
    finish(&weir);
}

/// N9: no name gets a line of its own into the head of an answer. Redirects repeat names.
#[test]
fn n9_no_name_splits_a_head() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    for text in TEXTS {
        let encoded = escaped(text);
        for path in [
            format!("/live/{encoded}.m3u8"),
            format!("/live/demo.m3u8?hls_ctx={encoded}"),
            format!("/live/{encoded}/index.m3u8"),
        ] {
            let answer = send(&weir, &format!("GET {path} HTTP/1.0\r\n\r\n"));
            let (head, _) = answer.split_once("\r\n\r\n").expect("a head");
            let lines: Vec<_> = head.lines().collect();
            assert!(lines[0].starts_with("http/1."), "{head}");
            assert!(!head.contains(MARK), "{path}: {head}");
        }
    }
    finish(&weir);
}

/// N8: every line of the log is one of ours, and holds no control character, in both formats.
#[test]
fn n8_no_text_makes_a_log_line() {
    let weir = Weir::start("dev", &[("RUST_LOG", "debug")]);
    tell(weir.rtmp_addr());
    wait_until("it tells a lot", PATIENCE, || tells_a_lot(&weir.log()));
    check_log(&weir.log(), "{\"timestamp\":");
    finish(&weir);

    let (dir, addr) = (Dir::new("text-log"), free_addr());
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    let any = "127.0.0.1:0";
    command
        .arg("dev")
        .current_dir(dir.path())
        .env_clear()
        .envs([
            ("RTMP_ADDR", addr.to_string().as_str()),
            ("HTTPFLV_ADDR", any),
            ("HLS_ADDR", any),
            ("RUST_LOG", "debug"),
        ]);
    let text = Process::start(command);
    wait_until("it listens", PATIENCE, || accepts(addr));
    tell(addr);
    wait_until("it tells a lot", PATIENCE, || tells_a_lot(&text.stderr()));
    check_log(&text.stderr(), "20");
}

/// N12: no name makes a series or a label, and every sample stays a sample.
#[test]
fn n12_no_text_makes_a_metric() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    tell(weir.rtmp_addr());
    for text in TEXTS {
        let path = escaped(text);
        for target in [
            format!("/live/{path}.flv"),
            format!("/live/{path}/index.m3u8"),
            format!("/{path}"),
        ] {
            send(&weir, &format!("GET {target} HTTP/1.0\r\n\r\n"));
        }
        send(&weir, &format!("{MARK} / HTTP/1.0\r\n\r\n"));
    }
    let metrics = weir.get("/metrics").text();
    assert!(!metrics.contains(MARK), "{metrics}");
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').expect(line);
        let is_name = series.starts_with("streaming_") || series.starts_with("process_");
        assert!(is_name && value.parse::<f64>().is_ok(), "{line}");
    }
    finish(&weir);
}

/// Says every text to the RTMP server at `addr`, as application, as name and as key.
fn tell(addr: SocketAddr) {
    for text in TEXTS {
        let mut client = Client::open(addr).expect("handshake");
        let told = client.connect(text).expect("an answer");
        assert!(!told.description.contains(MARK), "{told:?}");
        for name in [text, &format!("room?key={text}")] {
            // A refusal closes the connection.
            let mut client = Client::open(addr).expect("handshake");
            client.connect("live").expect("an answer");
            let stream_id = client.create_stream().expect("a message stream");
            let told = client.request_publish(stream_id, name).expect("an answer");
            assert!(!told.description.contains(MARK), "{told:?}");
        }
    }
}

/// Whether a refusal of every text is there.
fn tells_a_lot(log: &str) -> bool {
    log.matches("refused").count() > TEXTS.len()
}

fn check_log(log: &str, start: &str) {
    assert!(!log.contains(MARK), "{log}");
    let is_ours = |line: &str| line.starts_with(start) && !line.chars().any(char::is_control);
    let foreign: Vec<_> = log.lines().filter(|line| !is_ours(line)).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
}

/// Every byte percent-encoded.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// The answer to a request, as it is, in lower case; a client error where a request cannot be read.
fn send(weir: &Weir, request: &str) -> String {
    let mut socket = TcpStream::connect_timeout(&weir.http_addr(), PATIENCE).expect("connects");
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket option");
    let mut answer = Vec::new();
    // A server that refuses a request before its end may reset the connection behind its answer.
    let _ = socket.write_all(request.as_bytes());
    let _ = socket.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).to_ascii_lowercase()
}
