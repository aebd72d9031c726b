//! What the operator decides: settings, layered flag > environment > file > default.
//!
//! Owns: the typed [`Config`] that everything else is handed, its defaults, and [`load`], which reports every
//! problem at once, each with its place. Does not own: the arguments themselves ([`crate::cli`]), logging, binding.

use std::{
    collections::BTreeMap,
    fmt, fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    thread::available_parallelism,
    time::Duration,
};

use weir_gateway::{
    deliver::{hls::Identity, relay::Target},
    net::client::Network,
};
use weir_media::StreamName;

mod api_token;
mod listener;
mod publish_key;
mod relay;
mod setting;
mod source;
mod text;
mod value;

pub use api_token::ApiToken;
pub use listener::{Listener, Purpose};
pub use publish_key::{PublishKey, PublishKeyError, PublishKeys, SharedKey};
pub use setting::{SETTINGS, Setting};
pub use source::{Origin, Sources};
pub use text::{env_example, example};

/// How open the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Secure: publishing needs a key.
    Serve,
    /// Everything open, on loopback only.
    Dev,
}

/// All settings. [`Config::default`] holds the defaults as the example file shows them; [`load`] fills in what
/// depends on the machine (workers, node id) and derives the listeners.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// Where streams are pushed to.
    pub relay: Vec<Target>,
    /// The process as a whole.
    pub server: Server,
    /// RTMP in and out.
    pub rtmp: Rtmp,
    /// HLS out.
    pub hls: Hls,
    /// What was read from the disk of late.
    pub cache: Cache,
    /// The same over TLS.
    pub tls: Tls,
    /// What a joining viewer starts with.
    pub gop_cache: GopCache,
    /// Who may publish.
    pub auth: Auth,
    /// How viewers are counted.
    pub viewers: Viewers,
    /// Where streams come from that nobody publishes here.
    pub edge: Edge,
    /// What bounds each resource.
    pub limits: Limits,
    /// What is logged, and how.
    pub log: Log,
    /// Where to listen, the primary HTTP listener first; derived from the addresses above.
    pub listeners: Vec<Listener>,
    /// What the operator should hear once the log is open, one line each.
    pub warnings: Vec<String>,
}

/// `[server]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The address of every listener that has none of its own.
    pub host: IpAddr,
    /// The port of the primary HTTP listener; 0 lets the system choose.
    pub port: u16,
    /// The address of the primary HTTP listener.
    pub httpflv_addr: SocketAddr,
    /// The address of the listener that a CDN fetches from.
    pub cdn_addr: SocketAddr,
    /// Threads of the runtime.
    pub workers: usize,
    /// Connections open at once, of all listeners.
    pub max_connections: usize,
    /// The name of this node.
    pub node_id: String,
    /// The folder for what must outlive a restart.
    pub data_dir: PathBuf,
    /// How long viewers may finish after SIGTERM.
    pub shutdown_grace: Duration,
    /// The proxies that are believed when they say for whom they ask.
    pub trusted_proxies: Vec<Network>,
}

/// `[rtmp]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rtmp {
    /// The address of the RTMP listener.
    pub addr: SocketAddr,
    /// The applications accepted; at least one.
    pub apps: Vec<String>,
}

/// `[hls]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hls {
    /// The address of the second HTTP listener.
    pub addr: SocketAddr,
    /// How long a segment aims to be; whole seconds.
    pub segment_duration: Duration,
    /// Segments in a live playlist.
    pub playlist_size: usize,
    /// Whether playlists tell parts of segments as they come.
    pub low_latency: bool,
    /// The streams that are an exception to `low_latency`.
    pub low_latency_except: Vec<StreamName>,
    /// The folder that live streams are written to as well, if any.
    pub path: Option<PathBuf>,
    /// How far back viewers can go; zero for no further than the live playlist.
    pub dvr_window: Duration,
    /// MiB per stream that memory holds of that.
    pub dvr_memory_mb: usize,
}

/// `[cache]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Objects that are kept after they were read from the disk.
    pub max_entries: usize,
    /// MiB of them.
    pub max_size_mb: usize,
}

/// `[tls]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate and what leads from it to an authority, PEM; without it nothing listens for TLS.
    pub cert: Option<PathBuf>,
    /// Its private key, PEM; without a path of its own it is in the file of the certificate.
    pub key: Option<PathBuf>,
    /// Authorities of other servers, PEM, beside those that the machine trusts.
    pub ca: Option<PathBuf>,
    /// The address of the HTTPS listener.
    pub https_addr: SocketAddr,
    /// The address of the RTMPS listener.
    pub rtmps_addr: SocketAddr,
}

/// `[gop_cache]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GopCache {
    /// Whether a viewer that joins starts with cached pictures.
    pub enabled: bool,
    /// Groups of pictures kept per stream.
    pub max_gops: usize,
    /// MiB kept per stream.
    pub max_size_mb: usize,
}

/// `[auth]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Auth {
    /// The keys that allow publishing.
    pub publish_keys: PublishKeys,
    /// What opens the API.
    pub api_token: ApiToken,
}

/// `[viewers]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewers {
    /// Whether viewers get a session in the URL and are counted by it.
    pub tracking_enabled: bool,
    /// How they are told apart.
    pub identity: Identity,
    /// How long after its last request an HLS viewer counts as watching.
    pub timeout: Duration,
}

/// `[edge]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The RTMP server that streams are fetched from; empty for none.
    pub source_host: String,
    /// Its port.
    pub source_port: u16,
    /// Whether it speaks RTMPS there.
    pub source_tls: bool,
    /// The application that its streams are in.
    pub source_app: String,
    /// How long a stream that was fetched goes on without viewers.
    pub stream_timeout: Duration,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Streams live at once.
    pub max_concurrent_streams: usize,
    /// Connections of one address; 0 for any number.
    pub max_connections_per_ip: usize,
    /// How long a stream waits for a publisher that dropped.
    pub publisher_grace: Duration,
    /// How long a publisher may send nothing.
    pub input_timeout: Duration,
    /// From accept to publish or play, or to the end of an HTTP head.
    pub handshake_timeout: Duration,
    /// How long an HTTP connection may rest between two requests.
    pub keep_alive_timeout: Duration,
    /// How long a write to a viewer may make no progress.
    pub write_stall_timeout: Duration,
    /// Media time that a viewer may fall behind.
    pub viewer_lag: Duration,
    /// MiB that a viewer may fall behind.
    pub viewer_lag_mb: usize,
    /// Requests of one address that may wait for media at once; 0 for any number.
    pub blocked_requests_per_ip: usize,
    /// Milliseconds that media for FLV, RTMP and HTTP-TS may be held back to be written with more.
    pub write_coalesce_ms: usize,
    /// The streams that are written frame by frame all the same.
    pub write_coalesce_except: Vec<StreamName>,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Log {
    /// What is logged.
    pub level: LogFilter,
    /// How it is written.
    pub format: LogFormat,
}

/// A filter of log lines that is known to parse, such as `info` or `info,weir_gateway=debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// One thing that the operator has to correct.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{origin}: {text}")]
pub struct Problem {
    /// Where it stands.
    pub origin: Origin,
    /// What is wrong and what is allowed; never a secret.
    pub text: String,
}

/// A configuration that holds together, and where each setting was given.
#[derive(Debug)]
pub struct Loaded {
    /// The settings in effect.
    pub config: Config,
    origins: Origins,
}

/// Where the settings that are not at their default were given.
type Origins = BTreeMap<&'static str, Origin>;

/// Layers the sources over the defaults. On failure all problems are listed, the file's first, in its order.
pub fn load(mode: Mode, sources: &Sources) -> Result<Loaded, Vec<Problem>> {
    let findings = sources.read();
    let mut problems = findings.problems;
    let mut config = Config {
        warnings: findings.warnings,
        ..Config::default()
    };
    let mut origins = Origins::new();
    for (setting, given) in findings.given {
        match (setting.field)(&mut config).read(&given, &setting.range) {
            Ok(()) => _ = origins.insert(setting.key, given.origin),
            Err(refused) => problems.extend(refused.into_iter().map(|problem| {
                Problem::new(problem.origin, format!("{}: {}", setting.key, problem.text))
            })),
        }
    }
    if config.server.workers == 0 {
        config.server.workers = available_parallelism().map_or(1, Into::into);
    }
    if config.server.node_id.is_empty() {
        config.server.node_id = host_name(sources.environment.get("HOSTNAME").cloned());
    }
    if mode == Mode::Serve && config.auth.publish_keys.is_empty() {
        config.warnings.push(
            "no publish key is configured, so every publisher is refused; to add one: \
             publish_keys = { NAME = \"KEY\" } under [auth] of config.toml, or WEIR_AUTH_PUBLISH_KEYS=NAME=KEY"
                .to_owned(),
        );
    }
    let client_only = Tls {
        ca: config.tls.ca.clone(),
        ..Tls::default()
    };
    if config.tls.cert.is_none() && config.tls != client_only {
        let warning = "[tls] has no effect without a certificate: set tls.cert";
        config.warnings.push(warning.to_owned());
    }
    if !config.hls.dvr_window.is_zero() && config.hls.path.is_none() {
        config.warnings.push(
            "without HLS_PATH, viewers can rewind only as far as hls.dvr_memory_mb reaches, however long \
             hls.dvr_window is"
                .to_owned(),
        );
    }
    if config.edge.source_app.is_empty() {
        let origin = origins.get("edge.source_app").cloned();
        let text =
            "edge.source_app: an RTMP source has its streams in an application, such as live";
        problems.push(Problem::new(origin.unwrap_or(Origin::Default), text));
    }
    problems.extend(config.listen(&origins, mode).err().unwrap_or_default());
    if problems.is_empty() {
        return Ok(Loaded { config, origins });
    }
    problems.sort();
    Err(problems)
}

impl Problem {
    fn new(origin: Origin, text: impl Into<String>) -> Self {
        Self {
            origin,
            text: text.into(),
        }
    }
}

impl LogFilter {
    /// The filter as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            host: Ipv4Addr::UNSPECIFIED.into(),
            port: 8080,
            httpflv_addr: any_interface(8080),
            cdn_addr: any_interface(8084),
            workers: 0,
            max_connections: 50_000,
            node_id: String::new(),
            data_dir: "data".into(),
            shutdown_grace: Duration::from_secs(8),
            trusted_proxies: Vec::new(),
        }
    }
}

impl Default for Rtmp {
    fn default() -> Self {
        Self {
            addr: any_interface(1935),
            apps: vec!["live".to_owned()],
        }
    }
}

impl Default for Hls {
    fn default() -> Self {
        Self {
            addr: any_interface(8081),
            segment_duration: Duration::from_secs(2),
            playlist_size: 10,
            low_latency: true,
            low_latency_except: Vec::new(),
            path: None,
            dvr_window: Duration::ZERO,
            dvr_memory_mb: 64,
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            max_entries: 1000,
            max_size_mb: 256,
        }
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            cert: None,
            key: None,
            ca: None,
            https_addr: any_interface(8443),
            rtmps_addr: any_interface(1936),
        }
    }
}

impl Default for GopCache {
    fn default() -> Self {
        Self {
            enabled: true,
            max_gops: 2,
            max_size_mb: 100,
        }
    }
}

impl Default for Viewers {
    fn default() -> Self {
        Self {
            tracking_enabled: true,
            identity: Identity::Session,
            timeout: Duration::from_secs(30),
        }
    }
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            source_host: String::new(),
            source_port: 1935,
            source_tls: false,
            source_app: "live".to_owned(),
            stream_timeout: Duration::from_secs(30),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 50,
            max_connections_per_ip: 5_000,
            publisher_grace: Duration::from_secs(15),
            input_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(60),
            write_stall_timeout: Duration::from_secs(15),
            viewer_lag: Duration::from_secs(8),
            viewer_lag_mb: 8,
            blocked_requests_per_ip: 64,
            write_coalesce_ms: 20,
            write_coalesce_except: Vec::new(),
        }
    }
}

fn any_interface(port: u16) -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, port).into()
}

/// The name of this machine, if it can serve as a node id.
fn host_name(variable: Option<String>) -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or(variable)
        .unwrap_or_default();
    let name = name.trim();
    if StreamName::parse(name).is_ok() {
        name.to_owned()
    } else {
        "node".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For every setting: something valid that is not its default.
    const OTHER: [(&str, &str); 55] = [
        ("relay", "*=rtmp://127.0.0.1/live/{name}"),
        ("server.host", "127.0.0.1"),
        ("server.port", "9000"),
        ("server.httpflv_addr", "127.0.0.1:9001"),
        ("server.cdn_addr", "127.0.0.1:9006"),
        ("server.workers", "3"),
        ("server.max_connections", "10"),
        ("server.node_id", "node-1"),
        ("server.data_dir", "elsewhere"),
        ("server.shutdown_grace", "1"),
        ("server.trusted_proxies", "10.0.0.0/8,::1/128"),
        ("rtmp.addr", "127.0.0.1:9002"),
        ("rtmp.apps", "live,stream"),
        ("hls.addr", "127.0.0.1:9003"),
        ("hls.segment_duration", "4"),
        ("hls.playlist_size", "5"),
        ("hls.low_latency", "false"),
        ("hls.low_latency_except", "stage,lobby"),
        ("hls.path", "segments"),
        ("hls.dvr_window", "3600"),
        ("hls.dvr_memory_mb", "5"),
        ("cache.max_entries", "5"),
        ("cache.max_size_mb", "5"),
        ("tls.cert", "cert.pem"),
        ("tls.key", "key.pem"),
        ("tls.ca", "ca.pem"),
        ("tls.https_addr", "127.0.0.1:9004"),
        ("tls.rtmps_addr", "127.0.0.1:9005"),
        ("gop_cache.enabled", "false"),
        ("gop_cache.max_gops", "1"),
        ("gop_cache.max_size_mb", "50"),
        ("auth.publish_keys", "demo=demo-key-1,b=b-key-2-long"),
        ("auth.api_token", "operator-4711"),
        ("viewers.tracking_enabled", "false"),
        ("viewers.identity", "hash"),
        ("viewers.timeout", "60"),
        ("edge.source_host", "origin.example"),
        ("edge.source_port", "1936"),
        ("edge.source_tls", "true"),
        ("edge.source_app", "stream"),
        ("edge.stream_timeout", "5"),
        ("limits.max_concurrent_streams", "3"),
        ("limits.max_connections_per_ip", "100"),
        ("limits.publisher_grace", "0"),
        ("limits.input_timeout", "5"),
        ("limits.handshake_timeout", "5"),
        ("limits.keep_alive_timeout", "5"),
        ("limits.write_stall_timeout", "5"),
        ("limits.viewer_lag", "5"),
        ("limits.viewer_lag_mb", "5"),
        ("limits.blocked_requests_per_ip", "5"),
        ("limits.write_coalesce_ms", "50"),
        ("limits.write_coalesce_except", "stage,lobby"),
        ("log.level", "info,weir_gateway=debug"),
        ("log.format", "json"),
    ];

    #[test]
    fn every_setting_is_read_from_its_variables() {
        assert_eq!(
            OTHER.map(|(key, _)| key).to_vec(),
            SETTINGS.iter().map(|s| s.key).collect::<Vec<_>>()
        );
        let default = load(Mode::Serve, &Sources::default())
            .expect("valid")
            .config;
        for ((key, value), setting) in OTHER.iter().zip(SETTINGS) {
            for name in setting
                .known_env()
                .map(str::to_owned)
                .chain([setting.weir_env()])
            {
                let loaded = load(Mode::Serve, &sources("", &[(&name, value)], &[])).expect(key);
                assert_ne!(loaded.config, default, "{name}");
                assert_eq!(loaded.origins, [(*key, Origin::Environment(name))].into());
            }
        }
    }

    #[test]
    fn names_that_users_rely_on() {
        for (variable, flag, key) in [
            ("PORT", "", "server.port"),
            ("RTMP_ADDR", "rtmp-addr", "rtmp.addr"),
            ("HTTPFLV_ADDR", "httpflv-addr", "server.httpflv_addr"),
            ("HLS_ADDR", "hls-addr", "hls.addr"),
            (
                "MAX_CONCURRENT_STREAMS",
                "",
                "limits.max_concurrent_streams",
            ),
            ("VIEWER_TRACKING_ENABLED", "", "viewers.tracking_enabled"),
            ("VIEWER_TIMEOUT_SECONDS", "", "viewers.timeout"),
            ("SOURCE_HOST", "", "edge.source_host"),
            ("SOURCE_PORT", "", "edge.source_port"),
            ("SOURCE_TLS", "", "edge.source_tls"),
            ("STREAM_TIMEOUT", "", "edge.stream_timeout"),
            ("SEGMENT_DURATION", "", "hls.segment_duration"),
            ("PLAYLIST_SIZE", "", "hls.playlist_size"),
            ("LOW_LATENCY_HLS", "", "hls.low_latency"),
            ("CDN_ADDR", "cdn-addr", "server.cdn_addr"),
            ("HLS_PATH", "hls-storage", "hls.path"),
            ("ENABLE_GOP_CACHE", "gop-cache", "gop_cache.enabled"),
            ("MAX_GOPS", "max-gops", "gop_cache.max_gops"),
            (
                "MAX_GOP_CACHE_SIZE_MB",
                "max-gop-cache-size-mb",
                "gop_cache.max_size_mb",
            ),
            ("NODE_ID", "node-id", "server.node_id"),
            ("RUST_LOG", "", "log.level"),
            ("", "data-dir", "server.data_dir"),
        ] {
            let setting = Setting::find(key).expect(key);
            assert_eq!(setting.env.unwrap_or_default(), variable);
            assert_eq!(setting.flag.unwrap_or_default(), flag);
        }
    }

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        let file = "[gop_cache]\nmax_gops = 3\n";
        let own = ("WEIR_GOP_CACHE_MAX_GOPS", "5");
        let alias = ("MAX_GOPS", "4");
        let flag = ("gop_cache.max_gops", "6");
        for (expected, sources) in [
            (2, sources("", &[], &[])),
            (3, sources(file, &[], &[])),
            (4, sources(file, &[alias], &[])),
            (5, sources(file, &[alias, own], &[])),
            (6, sources(file, &[alias, own], &[flag])),
            (6, sources("", &[], &[flag])),
            (3, sources(file, &[("MAX_GOPS", "")], &[])),
        ] {
            let loaded = load(Mode::Serve, &sources).expect("valid");
            assert_eq!(loaded.config.gop_cache.max_gops, expected);
        }
    }

    #[test]
    fn a_list_or_table_replaces_the_one_below() {
        let file = "[rtmp]\napps = [\"a\", \"b\"]\n[auth.publish_keys]\none = \"key-of-one\"\n";
        let variables = [
            ("WEIR_RTMP_APPS", "c, d"),
            ("WEIR_AUTH_PUBLISH_KEYS", "two=key-of-two"),
        ];
        let from_file = load(Mode::Serve, &sources(file, &[], &[]))
            .expect("valid")
            .config;
        let both = load(Mode::Serve, &sources(file, &variables, &[]))
            .expect("valid")
            .config;
        assert_eq!(from_file.rtmp.apps, ["a", "b"]);
        assert!(from_file.auth.publish_keys.names().eq(["one"]));
        assert_eq!(both.rtmp.apps, ["c", "d"]);
        assert!(both.auth.publish_keys.names().eq(["two"]));
        let name = StreamName::parse("two").expect("valid");
        assert!(both.auth.publish_keys.allow(&name, "key-of-two"));
    }

    #[test]
    fn unknown_keys_name_line_and_nearest() {
        check(
            "[server]\n\nprot = 1",
            "c.toml:3: unknown key \"server.prot\"; the nearest is \"server.port\"",
        );
        check(
            "port = 1",
            "c.toml:1: unknown key \"port\"; the nearest is \"server.port\"",
        );
        check(
            "server = 1",
            "c.toml:1: \"server\" is a section: write [server]",
        );
        check(
            "\n[limit]\nx = 1",
            "c.toml:2: unknown section \"limit\"; the nearest is \"limits\"",
        );
        check(
            "[hls]\nSegment_duration=2",
            "c.toml:2: unknown key \"hls.Segment_duration\"; the nearest is \"hls.segment_duration\"",
        );
        check(
            "server.prot = \"marker\"",
            "c.toml:1: unknown key \"server.prot\"; the nearest is \"server.port\"",
        );
    }

    #[test]
    fn bad_values_say_what_is_allowed() {
        let port = "is not a whole number from 0 to 65535";
        for (given, shown) in [
            ("\"80\"", "\"80\""),
            ("65536", "65536"),
            ("-1", "-1"),
            ("1.5", "1.5"),
            ("[1]", "a list"),
        ] {
            check(
                &format!("[server]\nport = {given}"),
                &format!("c.toml:2: server.port: {shown} {port}"),
            );
        }
        for (file, expected) in [
            (
                "server.host = \"localhost\"",
                "server.host: \"localhost\" is not an IP address, such as 0.0.0.0",
            ),
            (
                "rtmp.addr = \":1935\"",
                "rtmp.addr: \":1935\" is not an IP address and a port, such as 0.0.0.0:8080 or [::1]:8080",
            ),
            (
                "gop_cache.enabled = 1",
                "gop_cache.enabled: 1 is not true or false",
            ),
            (
                "hls.segment_duration = 0",
                "hls.segment_duration: 0 is not a whole number from 1 to 60",
            ),
            (
                "hls.playlist_size = 2",
                "hls.playlist_size: 2 is not a whole number from 3 to 1000",
            ),
            (
                "rtmp.apps = []",
                "rtmp.apps: an empty list is not a list of names, such as [\"live\"]",
            ),
            (
                "rtmp.apps = [\"a/b\"]",
                "rtmp.apps: \"a/b\" is not a name of letters, digits, . _ and -, at most 128, the first a letter or digit",
            ),
            (
                "log.format = \"xml\"",
                "log.format: \"xml\" is not text or json",
            ),
            (
                "log.level = \"weir=loud\"",
                "log.level: \"weir=loud\" is not error, warn, info, debug, trace or a list such as info,weir_gateway=debug",
            ),
            (
                "server.data_dir = \"\"",
                "server.data_dir: \"\" is not a path",
            ),
            (
                "edge.source_app = \"\"",
                "edge.source_app: an RTMP source has its streams in an application, such as live",
            ),
            (
                "server.node_id = \"a b\"",
                "server.node_id: \"a b\" is not a name of letters, digits, . _ and -, at most 128, the first a letter or digit",
            ),
            (
                "server.port = 99999999999999999999",
                "server.port: 99999999999999999999 is not a whole number from 0 to 65535",
            ),
        ] {
            check(file, &format!("c.toml:1: {expected}"));
        }
    }

    #[test]
    fn publish_keys_are_judged_one_by_one_and_never_shown() {
        check(
            "[auth.publish_keys]\ngood = \"key-of-good\"\nweak = \"marker\"\n\"a/b\" = \"marker-long\"\nsame = \"key-of-good\"\nplain = \"changeme\"\nnumber = 12345678",
            "c.toml:3: auth.publish_keys: the key *** of \"weak\" has to be 8 to 128 characters long; openssl rand -hex 16 makes one\n\
             c.toml:4: auth.publish_keys: \"a/b\": the stream name may hold only A-Z a-z 0-9 . _ - and starts with a letter or digit; position 1 does not\n\
             c.toml:5: auth.publish_keys: \"good\" and \"same\" have the same key; the key alone has to find its stream\n\
             c.toml:6: auth.publish_keys: the key *** of \"plain\" is a placeholder; openssl rand -hex 16 makes a key that nobody knows\n\
             c.toml:7: auth.publish_keys: the key *** of \"number\" has to be 8 to 128 characters long; openssl rand -hex 16 makes one",
        );
        check(
            "auth.publish_keys = \"marker-long\"",
            "c.toml:1: auth.publish_keys: *** is not a table such as { name = \"key\" }, in a variable name=key,other=key",
        );
    }

    #[test]
    fn toml_that_does_not_parse_is_one_line_each() {
        let problems = load(
            Mode::Serve,
            &sources("[server]\nport = \nhost = \"x\n", &[], &[]),
        )
        .expect_err("broken");
        for problem in &problems {
            let text = problem.to_string();
            assert!(
                text.starts_with("c.toml:") && text.contains(": not valid TOML: "),
                "{text}"
            );
            assert!(!text.contains('\n'), "{text}");
        }
        let lines: Vec<_> = problems
            .iter()
            .map(|problem| problem.origin.to_string())
            .collect();
        assert!(
            lines.contains(&"c.toml:2".to_owned()) && lines.contains(&"c.toml:3".to_owned()),
            "{lines:?}"
        );
    }

    #[test]
    fn all_problems_are_reported_in_order() {
        let file = "[server]\nport = \"x\"\nhots = 1\n[gop_cache]\nmax_gops = 0\n";
        let environment = [("PORT", "y"), ("WEIR_SERVER_PRT", "marker")];
        let problems = load(
            Mode::Serve,
            &sources(file, &environment, &[("gop_cache.max_gops", "z")]),
        );
        let places: Vec<_> = problems
            .expect_err("broken")
            .iter()
            .map(|problem| problem.origin.to_string())
            .collect();
        assert_eq!(
            places,
            [
                "c.toml:2",
                "c.toml:3",
                "c.toml:5",
                "PORT",
                "WEIR_SERVER_PRT",
                "--max-gops"
            ]
        );
    }

    #[test]
    fn unknown_variables_name_the_nearest() {
        for (name, nearest) in [
            ("WEIR_SERVER_PROT", "WEIR_SERVER_PORT"),
            ("WEIR_PORT", "WEIR_SERVER_PORT"),
            ("WEIR_RTMP_ADR", "WEIR_RTMP_ADDR"),
        ] {
            let problems =
                load(Mode::Serve, &sources("", &[(name, "marker")], &[])).expect_err(name);
            let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
            assert_eq!(
                texts,
                [format!(
                    "{name}: unknown variable; the nearest is {nearest}"
                )]
            );
        }
    }

    #[test]
    fn variables_of_kubernetes_services_are_not_settings() {
        let links = [
            ("WEIR_SERVICE_HOST", "10.0.0.1"),
            ("WEIR_SERVICE_PORT_HTTP", "8080"),
            ("WEIR_PORT", "tcp://10.0.0.1:8080"),
            ("WEIR_SERVER_PORT", "tcp://10.0.0.1:8080"),
            ("WEIR_PORT_1935_TCP_ADDR", "10.0.0.1"),
            ("WEIR_PORT_1935_TCP", "tcp://10.0.0.1:1935"),
        ];
        let loaded = load(Mode::Serve, &sources("", &links, &[])).expect("not settings");
        assert_eq!(loaded.config.server.port, 8080);
    }

    #[test]
    fn variables_without_effect_are_warned_of() {
        let environment = [
            ("REDIS_URL", "redis://marker"),
            ("STALE_THRESHOLD", ""),
            ("DATABASE_URL", "x"),
        ];
        let config = load(Mode::Dev, &sources("", &environment, &[]))
            .expect("valid")
            .config;
        let expected = ["DATABASE_URL", "REDIS_URL"]
            .map(|name| format!("{name} is set, but has no effect in this version"));
        assert_eq!(config.warnings, expected);
    }

    #[test]
    fn serving_without_a_key_says_how_to_add_one() {
        let warnings = |mode, environment: &[(&str, &str)]| {
            load(mode, &sources("", environment, &[]))
                .expect("valid")
                .config
                .warnings
        };
        let serve = warnings(Mode::Serve, &[]);
        assert!(
            serve
                .iter()
                .any(|warning| warning.contains("WEIR_AUTH_PUBLISH_KEYS=")),
            "{serve:?}"
        );
        assert!(warnings(Mode::Dev, &[]).is_empty());
        assert!(
            warnings(
                Mode::Serve,
                &[("WEIR_AUTH_PUBLISH_KEYS", "demo=key-of-demo")]
            )
            .is_empty()
        );
    }

    #[test]
    fn what_depends_on_the_machine_is_filled_in() {
        let config = load(Mode::Serve, &Sources::default())
            .expect("valid")
            .config;
        assert!(config.server.workers > 0);
        assert!(StreamName::parse(&config.server.node_id).is_ok());
    }

    fn check(file: &str, expected: &str) {
        let problems = load(Mode::Serve, &sources(file, &[], &[])).expect_err(file);
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(lines.join("\n"), expected, "{file}");
    }

    fn sources(
        file: &str,
        environment: &[(&str, &str)],
        flags: &[(&'static str, &str)],
    ) -> Sources {
        let pair = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        Sources {
            file: Some(("c.toml".to_owned(), file.to_owned())),
            environment: environment.iter().map(pair).collect(),
            flags: flags
                .iter()
                .map(|&(key, value)| (key, value.to_owned()))
                .collect(),
        }
    }
}
