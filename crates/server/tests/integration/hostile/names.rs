//! Names that want to be paths, markup or commands (FAULTS 1.3): as application, as stream, in every HTTP path.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
};

use super::finish;
use crate::support::{PATIENCE, Weir, http, rtmp::Client};

/// What every hostile name says somewhere, so that a file of it can be found and a reflection be seen.
const MARK: &str = "pwned4711";

/// Every way out of a folder that has worked somewhere, each around `MARK`. None is a valid name.
fn traversals() -> Vec<String> {
    let mut names = Vec::new();
    let up = [
        "..",
        "../",
        "../../../../tmp/",
        "a/../../",
        "..%2f",
        "..%2F..%2f",
        "%2e%2e/",
        "%2e%2e%2f",
        "..%5c",
        "..\\",
        "%252e%252e%252f",
        "..;/",
        "/",
        "//",
        "/etc/",
        "a//",
        "./",
        "a/./",
        ".",
        "-",
        "~",
        "~root/",
        "file:///",
        "C:\\",
        "a:",
        "\0",
        "%00",
        "a\0/../",
        "\n",
        "\r\n",
        "\t",
        " ",
        "\x1b[2J",
        "\u{C0}\u{AE}/",
        "%c0%ae%c0%ae%2f",
        "\u{2024}\u{2024}/",
        "\u{FF0E}\u{FF0E}\u{FF0F}",
        "<script>",
        "\"><img src=x>",
        "'; DROP TABLE x; --",
        "$(id)",
        "`id`",
        ";id;",
        "|id",
        "{x}",
        "*",
        "%",
        "%zz",
        "%f",
        "&&",
    ];
    names.extend(up.iter().map(|prefix| format!("{prefix}{MARK}")));
    names.extend(
        [
            "/..", "/.", "/../../x", "\0.flv", "%00.flv", "\n", " ", "%20", "%", "<b>",
        ]
        .map(|tail| format!("{MARK}{tail}")),
    );
    names.extend([256, 4_096, 60_000].map(|len| MARK.repeat(len / MARK.len() + 1)));
    names
}

/// N1: refused with a reason, wherever a client puts them, and nothing is written anywhere.
#[test]
fn n1_nms689_app_traversal() {
    let weir = Weir::start("dev", &[]);
    let before = files(weir.dir());
    for name in traversals() {
        let app = connect(weir.rtmp_addr(), &name);
        assert!(
            app.is_err_and(|code| code == "NetConnection.Connect.InvalidApp"),
            "as application: {name:?}"
        );
        let below = connect(weir.rtmp_addr(), &format!("live/{name}"));
        // Some clients put the name there, so it may be refused only when it is used.
        if let Ok(mut client) = below {
            let stream_id = client.create_stream().expect("a message stream");
            let status = client.request_publish(stream_id, "").expect("an answer");
            assert_ne!(
                status.code, "NetStream.Publish.Start",
                "below the application: {name:?}"
            );
        }
        for publish in [true, false] {
            let mut client = connect(weir.rtmp_addr(), "live").expect("the application exists");
            let stream_id = client.create_stream().expect("a message stream");
            let status = if publish {
                client.request_publish(stream_id, &name)
            } else {
                client.request_play(stream_id, &name)
            };
            let status = status.unwrap_or_else(|error| panic!("no reason for {name:?}: {error}"));
            let expected = if publish {
                "NetStream.Publish.BadName"
            } else {
                "NetStream.Play.StreamNotFound"
            };
            assert_eq!(status.code, expected, "{name:?}");
            assert!(
                !status.description.is_empty() && !status.description.contains(MARK),
                "{status:?}"
            );
        }
    }
    assert_eq!(files(weir.dir()), before);
    for elsewhere in weir
        .dir()
        .ancestors()
        .chain([Path::new("/tmp"), Path::new("/etc")])
    {
        let marked = files(elsewhere)
            .into_iter()
            .find(|file| file.contains(MARK));
        assert_eq!(marked, None, "in {elsewhere:?}");
    }
    let log = weir.log();
    assert!(!log.contains(MARK), "a name that was refused is in the log");
    assert!(
        log.lines()
            .all(|line| line.starts_with('{') && line.ends_with('}')),
        "one object a line"
    );
    finish(&weir);
}

/// N2 and N4: a client error on every route, at once, and without the name in the answer.
#[test]
fn n2_n4_names_in_http_paths() {
    let weir = Weir::start("dev", &[]);
    weir.wait_until_live("demo");
    let routes: [fn(&str) -> String; 7] = [
        |x| format!("/live/{x}.flv"),
        |x| format!("/{x}.flv"),
        |x| format!("/live/{x}/index.m3u8"),
        |x| format!("/live/demo/{x}/index.m3u8"),
        |x| format!("/live/demo/video/{x}"),
        |x| format!("/assets/{x}"),
        |x| format!("/live/demo.flv{x}"),
    ];
    for name in traversals() {
        let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for route in routes {
            for target in [route(&name), route(&encoded)] {
                check(weir.http_addr(), target.as_bytes());
            }
        }
    }
    for target in [
        &b"/live/\xff\xfe.flv"[..],
        b"/live/%ff%fe.flv",
        b"/live/%.flv",
        b"/live/%e2%80.flv",
        b"//",
        b"/..",
        b"/live/",
        b"/live",
        b"/live//index.m3u8",
        b"*",
        b"",
        b"live/demo.flv",
        b"/assets/",
        b"/assets/..%2f..%2f..%2fCargo.toml",
        b"/assets/../../../Cargo.toml",
        b"/assets/..%2fplayer.html",
        b"/live/demo/%2e%2e/demo/index.m3u8x",
    ] {
        check(weir.http_addr(), target);
    }
    for query in [
        "anchor=1&anchor=<script>pwned4711",
        "anchor[]=pwned4711&anchor=%ff",
        "hls_ctx=<script>pwned4711",
    ] {
        for path in ["/live/nobody.flv", "/live/nobody/index.m3u8"] {
            check(weir.http_addr(), format!("{path}?{query}").as_bytes());
        }
    }
    let response = http::request(
        weir.http_addr(),
        "POST",
        "/live/demo.flv",
        &[("Content-Length", "0")],
    )
    .expect("an answer");
    assert_eq!(
        (response.status, response.header("x-content-type-options")),
        (405, Some("nosniff"))
    );
    assert!(
        !weir.log().contains(MARK),
        "a name that was refused is in the log"
    );
    finish(&weir);
}

/// Connects to an application; the status code when it is refused.
fn connect(addr: SocketAddr, app: &str) -> Result<Client, String> {
    let mut client = Client::open(addr).expect("handshake");
    let status = client
        .connect(app)
        .unwrap_or_else(|error| panic!("no reason for {app:?}: {error}"));
    if status.code == "NetConnection.Connect.Success" {
        return Ok(client);
    }
    assert!(
        !status.description.is_empty() && !status.description.contains(MARK),
        "{status:?}"
    );
    Err(status.code)
}

/// A request for `target`, as it is, is answered with a client error that says nothing of it.
fn check(addr: SocketAddr, target: &[u8]) {
    let shown = String::from_utf8_lossy(&target[..target.len().min(200)]).into_owned();
    let mut socket = TcpStream::connect_timeout(&addr, PATIENCE).expect("connects");
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket option");
    let request = [
        b"GET ",
        target,
        b" HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n",
    ]
    .concat();
    let mut answer = Vec::new();
    // A server that refuses a request before its end may reset the connection behind its answer.
    let _ = socket.write_all(&request);
    if let Err(error) = socket.read_to_end(&mut answer) {
        assert_eq!(
            error.kind(),
            io::ErrorKind::ConnectionReset,
            "{shown:?}: {error}"
        );
    }
    let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    let status = answer.get(9..12).and_then(|code| code.parse::<u16>().ok());
    assert!(
        status.is_some_and(|code| (400..500).contains(&code)),
        "{shown:?}: {answer:.200}"
    );
    assert!(!answer.contains(MARK), "{shown:?} is reflected: {answer}");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(
        body.is_empty() || head.contains("x-content-type-options: nosniff"),
        "{shown:?}: {head}"
    );
}

/// The names of what is in a folder.
fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
