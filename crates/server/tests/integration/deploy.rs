//! The files that Weir is deployed with hold what its defaults need.

use std::{fs, path::Path};

use weir_server::config::Config;

fn file(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::read_to_string(root.join(name)).expect("it is in the repository")
}

/// The number behind `key` in one of the lines.
fn number(name: &str, key: &str) -> u64 {
    let text = file(name);
    let value = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(key))
        .unwrap_or_else(|| panic!("{name} has no {key}"));
    let digits = value.trim().trim_end_matches('s');
    digits.parse().expect("it is a number")
}

#[test]
fn a_stop_leaves_time_for_viewers() {
    let grace_s = Config::default().server.shutdown_grace.as_secs();
    for (name, key) in [
        ("deploy/systemd/weir.service", "TimeoutStopSec="),
        ("docker-compose.yml", "stop_grace_period:"),
    ] {
        assert!(number(name, key) > grace_s, "{name}");
    }
}

#[test]
fn there_are_descriptors_for_every_connection() {
    let connections = Config::default().server.max_connections as u64;
    for (name, key) in [
        ("deploy/systemd/weir.service", "LimitNOFILE="),
        ("docker-compose.yml", "nofile:"),
    ] {
        assert!(number(name, key) > connections, "{name}");
    }
}

#[test]
fn every_default_port_is_reachable_in_a_container() {
    let config = Config::default();
    let (image, compose) = (file("Dockerfile"), file("docker-compose.yml"));
    let exposed = image.lines().find_map(|line| line.strip_prefix("EXPOSE "));
    let exposed: Vec<_> = exposed.unwrap_or_default().split(' ').collect();
    for port in [
        config.rtmp.addr.port(),
        config.server.port,
        config.hls.addr.port(),
    ] {
        let port = port.to_string();
        assert!(exposed.contains(&port.as_str()), "{port}");
        let published = [format!("\"{port}:{port}\""), format!("${{PORT:-{port}}}\"")];
        assert!(
            published.iter().any(|line| compose.contains(line)),
            "{port}"
        );
    }
    let health = format!(
        "http://127.0.0.1:${{PORT:-{}}}/health/live",
        config.server.port
    );
    assert!(image.contains(&health), "{health}");
}
