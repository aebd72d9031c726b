//! RTMP over TLS to other servers: streams fetched from one and pushed to one, and certificates that are not taken.

use std::net::{SocketAddr, TcpListener};

use serde_json::{Value, json};

use crate::support::{
    PATIENCE, Weir,
    flv::{Kind, Viewer},
    http,
    tls::{Pair, Server},
    wait_for, wait_until,
};

fn edge_of(host: &str, source: SocketAddr, more: &[(&str, &str)]) -> Weir {
    let port = source.port().to_string();
    let own = [
        ("SOURCE_HOST", host),
        ("SOURCE_PORT", port.as_str()),
        ("SOURCE_TLS", "true"),
    ];
    Weir::start("serve", &[&own, more].concat())
}

fn wait_for_pictures(viewer: &Viewer) {
    wait_until("pictures come", PATIENCE, || {
        let tags = viewer.tags().into_iter();
        tags.filter(|tag| matches!(tag.kind, Kind::KeyFrame | Kind::InterFrame))
            .count()
            > 60
    });
}

#[test]
fn e2e_a_stream_is_fetched_over_rtmps() {
    let source = Server::start(&[]);
    source.weir.wait_until_live("demo");
    let ca = ("WEIR_TLS_CA", source.file.to_str().expect("UTF-8"));
    // By name, which is told to the server (SNI), and by address.
    for host in ["localhost", "127.0.0.1"] {
        let edge = edge_of(host, source.weir.addr_of("rtmps"), &[ca]);
        wait_for_pictures(&Viewer::open(edge.http_addr(), "/live/demo.flv"));
        let said = format!("\"source\":\"rtmps://{host}:");
        wait_until("it is logged", PATIENCE, || edge.log().contains(&said));
    }
}

#[test]
fn e2e_a_stream_is_pushed_over_rtmps() {
    let to = Server::start(&[]);
    let port = to.weir.addr_of("rtmps").port();
    let target = format!("demo=rtmps://localhost:{port}/live/copy");
    let ca = to.file.to_str().expect("UTF-8");
    let from = Weir::start("dev", &[("WEIR_RELAY", &target), ("WEIR_TLS_CA", ca)]);
    to.weir.wait_until_live("copy");
    wait_for_pictures(&Viewer::open(to.weir.http_addr(), "/live/copy.flv"));
    let row = &from.status()["relays"][0];
    assert_eq!(row["state"], "publishing", "{row}");
    assert_eq!(row["target"], format!("rtmps://localhost:{port}/live/…"));
    assert_eq!(row["reason"], Value::Null);
}

#[test]
fn e2e_a_source_without_a_good_certificate_is_refused_with_a_reason() {
    let server = Server::start(&[("WEIR_TLS_RTMPS_ADDR", "127.0.0.2:0")]);
    let rtmps = server.weir.addr_of("rtmps");
    let ca = server.file.to_str().expect("UTF-8");
    let other = Pair::new();
    let other_file = server.file.with_extension("other");
    std::fs::write(&other_file, other.pem()).expect("the disk takes it");
    let silent = TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let silent_addr = silent.local_addr().expect("it is bound");
    let not_tls = "it does not speak TLS on this port";
    for (host, addr, ca, reason) in [
        (
            "127.0.0.2",
            rtmps,
            "",
            "its certificate is from no authority known here; name the file of that authority in [tls] ca",
        ),
        (
            "127.0.0.2",
            rtmps,
            other_file.to_str().expect("UTF-8"),
            "its certificate is from no authority known here",
        ),
        (
            "127.0.0.2",
            rtmps,
            ca,
            "its certificate is for another name than \"127.0.0.2\"",
        ),
        ("127.0.0.1", server.weir.rtmp_addr(), ca, not_tls),
        ("127.0.0.1", silent_addr, ca, not_tls),
    ] {
        let edge = edge_of(host, addr, &[("WEIR_TLS_CA", ca)]);
        let answer = http::try_get(edge.http_addr(), "/live/demo.flv").expect("weir answers");
        assert_eq!(answer.status, 404, "{reason}");
        let row = edge.stream("demo").expect("the failure is shown");
        let shown = row["reason"].as_str().unwrap_or_default();
        let said = format!("no TLS with the source: {reason}");
        assert!(shown.starts_with(&said), "{shown}");
        wait_until("it is logged", PATIENCE, || {
            edge.log().contains("pull failed")
        });
    }
}

#[test]
fn e2e_a_target_without_a_good_certificate_is_refused_with_a_reason() {
    let to = Server::start(&[]);
    let target = format!("demo=rtmps://{}/live/copy", to.weir.addr_of("rtmps"));
    let from = Weir::start("dev", &[("WEIR_RELAY", &target)]);
    let row = wait_for("the relay fails", PATIENCE, || {
        let row = from.status()["relays"][0].clone();
        (row["state"] == "failed").then_some(row)
    });
    let shown = row["reason"].as_str().unwrap_or_default();
    assert!(
        shown.starts_with("no TLS with the target: its certificate is from no authority"),
        "{shown}"
    );
    assert_eq!(row["bytes_out"], json!(0));
}
