//! The arrows of ARCHITECTURE.md: which crate may use which, what the pure crates must not touch,
//! what the hub must not know, and that `ingest` and `deliver` never name each other.

use crate::{
    Finding, Rule,
    rust_code::{CodePath, paths},
};

pub(crate) const RULES: [Rule; 5] = [
    crates_depend_downwards,
    code_names_only_lower_crates,
    pure_crates_stay_pure,
    hub_knows_no_protocol,
    ingest_and_deliver_are_strangers,
];

/// Each crate, by its folder, with the crates of ours it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("media", &[]),
    ("proto", &["media"]),
    ("package", &["media"]),
    ("hub", &["media"]),
    ("gateway", &["proto", "package", "hub", "media"]),
    ("control", &["hub"]),
    ("bench", &["proto", "media"]),
    ("server", &["gateway", "control", "bench", "hub", "media"]),
    // Tests that play a hostile peer speak its protocol.
    (
        SERVER_TESTS,
        &[
            "gateway", "control", "bench", "hub", "media", "proto", "server",
        ],
    ),
];

/// The end-to-end tests and what only they depend on.
const SERVER_TESTS: &str = "server/tests";

/// Crates without sockets, clocks, tasks or logs.
const PURE: &[&str] = &["media", "proto", "package"];

/// Third-party crates that bring one of those.
const EFFECTS: &[&str] = &[
    "tokio",
    "tokio_util",
    "mio",
    "socket2",
    "tracing",
    "tracing_subscriber",
    "log",
    "hyper",
    "axum",
];

/// What protocols and containers are called in identifiers.
const PROTOCOLS: &[&str] = &[
    "rtmp", "flv", "hls", "fmp4", "cmaf", "mpegts", "webrtc", "whip", "whep", "rtsp",
];

fn crates_depend_downwards(path: &str, text: &str) -> Vec<Finding> {
    let Some(layer) = path
        .strip_prefix("crates/")
        .and_then(|p| p.strip_suffix("/Cargo.toml"))
    else {
        return Vec::new();
    };
    if arrows_of(layer).is_none() {
        return vec![Finding::new(
            path,
            1,
            format!("crate `{layer}` has no row in ARROWS"),
        )];
    }
    dependencies(text)
        .into_iter()
        .filter_map(|(line, dependency, for_tests)| {
            let layer = if for_tests && layer == "server" {
                SERVER_TESTS
            } else {
                layer
            };
            let what = forbidden_dependency(layer, &dependency)?;
            Some(Finding::new(path, line, what))
        })
        .collect()
}

/// The same arrows in the code, where a renamed or re-exported crate would slip past the manifest.
fn code_names_only_lower_crates(path: &str, text: &str) -> Vec<Finding> {
    let Some(layer) = layer_of(path) else {
        return Vec::new();
    };
    complain(path, text, |code_path| {
        forbidden_dependency(layer, code_path.segments.first()?)
    })
}

fn pure_crates_stay_pure(path: &str, text: &str) -> Vec<Finding> {
    if !layer_of(path).is_some_and(|layer| PURE.contains(&layer)) {
        return Vec::new();
    }
    complain(path, text, |code_path| {
        let sockets =
            code_path.starts_with(&["std", "net"]) || code_path.starts_with(&["core", "net"]);
        let clock =
            code_path.ends_with(&["Instant", "now"]) || code_path.ends_with(&["SystemTime", "now"]);
        let what = match (sockets, clock) {
            (true, _) => "a pure crate knows no network",
            (_, true) => "a pure crate reads no clock: `now` is an argument",
            _ => return None,
        };
        Some(what.to_owned())
    })
}

fn hub_knows_no_protocol(path: &str, text: &str) -> Vec<Finding> {
    if layer_of(path) != Some("hub") {
        return Vec::new();
    }
    complain(path, text, |code_path| {
        if code_path.starts_with(&["weir_media", "container"]) {
            return Some("the hub knows no container".to_owned());
        }
        let name = code_path.segments.iter().find(|segment| {
            PROTOCOLS
                .iter()
                .any(|protocol| segment.to_lowercase().contains(protocol))
        })?;
        Some(format!("the hub knows no protocol: `{name}`"))
    })
}

fn ingest_and_deliver_are_strangers(path: &str, text: &str) -> Vec<Finding> {
    let stranger = match path.strip_prefix("crates/gateway/src/") {
        Some(inside) if inside.starts_with("ingest") => "deliver",
        Some(inside) if inside.starts_with("deliver") => "ingest",
        _ => return Vec::new(),
    };
    complain(path, text, |code_path| {
        let mut segments = code_path.segments.iter();
        let rooted = ["crate", "super", "self", "weir_gateway"];
        let first = segments.find(|segment| !rooted.contains(&segment.as_str()))?;
        let is_path = code_path.segments.len() > 1;
        (is_path && first == stranger)
            .then(|| format!("names `{stranger}`: what both need belongs to neither"))
    })
}

/// The crate that a Rust file belongs to, by its folder.
fn layer_of(path: &str) -> Option<&str> {
    let (layer, rest) = path.strip_prefix("crates/")?.split_once('/')?;
    let layer = if layer == "server" && rest.starts_with("tests/") {
        SERVER_TESTS
    } else {
        layer
    };
    path.ends_with(".rs").then_some(layer)
}

fn arrows_of(layer: &str) -> Option<&'static [&'static str]> {
    ARROWS
        .iter()
        .find(|(name, _)| *name == layer)
        .map(|(_, below)| *below)
}

/// Why `layer` may not use the crate `name` (spelled with `-` or `_`), if it may not.
fn forbidden_dependency(layer: &str, name: &str) -> Option<String> {
    let name = name.replace('-', "_");
    if PURE.contains(&layer) && EFFECTS.contains(&name.as_str()) {
        return Some(format!("`{layer}` is pure: no `{name}`"));
    }
    let ours = name.strip_prefix("weir_")?;
    // `weir_…` names only count if they are crates: a function may be called so too.
    arrows_of(ours)?;
    let allowed = ours == layer || arrows_of(layer).is_some_and(|below| below.contains(&ours));
    (!allowed).then(|| format!("`{layer}` must not use `{ours}`"))
}

fn complain(
    path: &str,
    text: &str,
    complaint: impl Fn(&CodePath) -> Option<String>,
) -> Vec<Finding> {
    paths(text)
        .iter()
        .filter_map(|code_path| Some(Finding::new(path, code_path.line, complaint(code_path)?)))
        .collect()
}

/// Every dependency that a manifest names, for builds, tests and targets alike, with its line.
/// A renamed one (`x = { package = "y" }`) is listed under both names.
fn dependencies(manifest: &str) -> Vec<(usize, String, bool)> {
    let mut found = Vec::new();
    let mut in_dependencies = false;
    let mut for_tests = false;
    for (number, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            in_dependencies = section.contains("dependencies");
            for_tests = section.contains("dev-dependencies");
            if let Some((_, name)) = section.split_once("dependencies.") {
                found.push((number + 1, name.to_owned(), for_tests));
            }
        } else if in_dependencies && !line.starts_with('#') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            if !name.is_empty() {
                found.push((number + 1, name.trim_matches('"').to_owned(), for_tests));
            }
            if let Some((_, package)) = line.split_once("package = \"") {
                let name = package.split('"').next().unwrap_or_default();
                found.push((number + 1, name.to_owned(), for_tests));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    #[test]
    fn only_tests_of_the_server_may_speak_a_protocol() {
        let rule = crates_depend_downwards;
        for (layer, section, findings) in [
            ("server", "dependencies", &[2][..]),
            ("server", "dev-dependencies", &[]),
            ("hub", "dev-dependencies", &[2]),
        ] {
            let manifest = format!("[{section}]\nweir-proto.workspace = true\n");
            check(
                rule,
                &format!("crates/{layer}/Cargo.toml"),
                &manifest,
                findings,
            );
        }
    }

    #[test]
    fn a_manifest_with_a_wrong_arrow_is_found() {
        let rule = crates_depend_downwards;
        let of = |layer: &str| format!("crates/{layer}/Cargo.toml");
        let one = |line: &str| format!("[package]\nname = \"x\"\n[dependencies]\n{line}\n");
        check(
            rule,
            &of("media"),
            &one("weir-proto.workspace = true"),
            &[4],
        );
        check(
            rule,
            &of("proto"),
            &one("weir-package = { workspace = true }"),
            &[4],
        );
        check(
            rule,
            &of("package"),
            &one("weir-hub = { path = \"../hub\" }"),
            &[4],
        );
        check(
            rule,
            &of("hub"),
            &one("x = { package = \"weir-proto\", path = \"\" }"),
            &[4],
        );
        check(
            rule,
            &of("gateway"),
            &one("weir-control.workspace = true"),
            &[4],
        );
        check(
            rule,
            &of("control"),
            &one("weir-gateway.workspace = true"),
            &[4],
        );
        check(
            rule,
            &of("server"),
            &one("weir-proto.workspace = true"),
            &[4],
        );
        check(
            rule,
            &of("media"),
            "[dependencies.weir-hub]\npath = \"../hub\"\n",
            &[1],
        );
        check(
            rule,
            &of("proto"),
            "[dev-dependencies]\ntokio = \"1\"\n",
            &[2],
        );
        check(
            rule,
            &of("package"),
            "[target.'cfg(unix)'.dependencies]\nsocket2 = \"0.6\"\n",
            &[2],
        );
        check(rule, &of("media"), &one("tracing.workspace = true"), &[4]);
        check(rule, &of("extra"), "", &[1]);
    }

    #[test]
    fn the_drawn_arrows_are_allowed() {
        for (layer, below) in ARROWS {
            let lines: Vec<String> = below
                .iter()
                .map(|name| format!("weir-{name}.workspace = true"))
                .collect();
            let manifest = format!("[dependencies]\nbytes = \"1\"\n{}\n", lines.join("\n"));
            check(
                crates_depend_downwards,
                &format!("crates/{layer}/Cargo.toml"),
                &manifest,
                &[],
            );
        }
        check(
            crates_depend_downwards,
            "crates/hub/Cargo.toml",
            "[dependencies]\ntokio = \"1\"",
            &[],
        );
        check(
            crates_depend_downwards,
            "Cargo.toml",
            "[workspace.dependencies]\ntokio = \"1\"",
            &[],
        );
    }

    #[test]
    fn code_with_a_wrong_arrow_is_found() {
        let rule = code_names_only_lower_crates;
        check(
            rule,
            "crates/hub/src/feed.rs",
            "// weir_proto::x\nuse weir_proto::rtmp;\n",
            &[2],
        );
        check(
            rule,
            "crates/media/src/lib.rs",
            "fn f() { tokio::task::yield_now(); }",
            &[1],
        );
        check(
            rule,
            "crates/gateway/src/net.rs",
            "use {weir_hub::A, weir_control::B};",
            &[1],
        );
        check(
            rule,
            "crates/gateway/src/net.rs",
            "use weir_media::Frame;\nuse tokio::net;",
            &[],
        );
        check(
            rule,
            "crates/server/tests/it/main.rs",
            "fn weir_binary() {}",
            &[],
        );
    }

    #[test]
    fn a_pure_crate_with_a_clock_or_a_socket_is_found() {
        let rule = pure_crates_stay_pure;
        check(
            rule,
            "crates/proto/src/rtmp.rs",
            "let now = std::time::Instant::now();",
            &[1],
        );
        check(
            rule,
            "crates/media/src/lib.rs",
            "use std::{\n  io,\n  net::IpAddr,\n};",
            &[3],
        );
        check(rule, "crates/package/src/lib.rs", "SystemTime::now()", &[1]);
        check(
            rule,
            "crates/proto/src/rtmp.rs",
            "/// `Instant::now`\nfn f(now: Instant) {}",
            &[],
        );
        check(
            rule,
            "crates/gateway/src/net.rs",
            "Instant::now(); use std::net::IpAddr;",
            &[],
        );
    }

    #[test]
    fn a_hub_that_knows_a_protocol_is_found() {
        let rule = hub_knows_no_protocol;
        check(
            rule,
            "crates/hub/src/feed.rs",
            "struct RtmpFeed;\nfn to_flv() {}",
            &[1, 2],
        );
        check(
            rule,
            "crates/hub/src/feed.rs",
            "use weir_media::container::x;",
            &[1],
        );
        check(
            rule,
            "crates/hub/src/feed.rs",
            "// as HLS does\nlet a = \"rtmp\";",
            &[],
        );
        check(rule, "crates/package/src/hls.rs", "struct HlsWindow;", &[]);
    }

    #[test]
    fn ingest_and_deliver_that_name_each_other_are_found() {
        let rule = ingest_and_deliver_are_strangers;
        let (ingest, deliver) = (
            "crates/gateway/src/ingest/rtmp.rs",
            "crates/gateway/src/deliver.rs",
        );
        check(rule, ingest, "use crate::deliver::http_flv;", &[1]);
        check(rule, ingest, "\nuse crate::{net, deliver};", &[2]);
        check(rule, ingest, "super::super::deliver::f();", &[1]);
        check(rule, deliver, "use super::ingest;", &[1]);
        check(rule, ingest, "queue.deliver(frame); // crate::deliver", &[]);
        check(
            rule,
            "crates/gateway/src/lib.rs",
            "use crate::deliver;",
            &[],
        );
    }
}
