//! The table of settings: every one, once.
//!
//! Owns: names (key, variables, flag), ranges and reasons. Parsing, `weir check`, `config.toml.example`, the flags
//! and the suggestions for unknown names all read this table; a new setting is a field of [`Config`], its default
//! there, and one row here. Does not own: types and their syntax ([`super::value`]).

use std::ops::RangeInclusive;

use super::{Config, value::Value};

/// What the variable of a setting without a name of its own begins with.
pub(super) const ENV_PREFIX: &str = "WEIR_";

/// One setting: how it is named everywhere and where its value lives.
#[derive(Debug)]
pub struct Setting {
    /// Section and key in the file, such as `server.port`; or a key alone.
    pub key: &'static str,
    /// Variable that users of earlier servers know it by, beside `WEIR_<SECTION>_<KEY>`.
    pub env: Option<&'static str>,
    /// Another one, where earlier servers differ; it beats `env`.
    pub other_env: Option<&'static str>,
    /// Long flag without its dashes.
    pub flag: Option<&'static str>,
    /// Whether the flag may stand without a value, which means `true`.
    pub switch: bool,
    /// The numbers allowed, both ends included; of no account for settings that are not numbers.
    pub range: RangeInclusive<u64>,
    /// One line for people: what it is, in which unit, and why the default is what it is.
    pub why: &'static str,
    /// The field of the configuration that it sets.
    pub(super) field: fn(&mut Config) -> &mut dyn Value,
}

/// All settings, in the order of the example file; those of one section stand together. Those of none come first, as
/// TOML wants.
pub static SETTINGS: &[Setting] = &[
    row("relay", |c| &mut c.relay)
        .why("Targets to push streams to: [[relay]] tables of stream (a name or \"*\") and url."),
    row("server.host", |c| &mut c.server.host)
        .why("Address of every listener that has none of its own; 0.0.0.0 is all IPv4 interfaces."),
    row("server.port", |c| &mut c.server.port)
        .env("PORT")
        .range(0..=65_535)
        .why("Port of the primary HTTP listener, which serves everything; 0 lets the system choose."),
    row("server.httpflv_addr", |c| &mut c.server.httpflv_addr)
        .env("HTTPFLV_ADDR")
        .flag("httpflv-addr")
        .why("Address of the primary HTTP listener; once set, it beats host and port."),
    row("server.cdn_addr", |c| &mut c.server.cdn_addr)
        .env("CDN_ADDR")
        .flag("cdn-addr")
        .why("Address of the listener that a CDN fetches from: media only, made to be cached, no sessions."),
    row("server.workers", |c| &mut c.server.workers)
        .range(0..=1024)
        .why("Threads that serve; 0 is one per core, because more only take turns."),
    row("server.max_connections", |c| &mut c.server.max_connections)
        .range(1..=1_000_000)
        .why("Connections open at once; one more is refused, so that those inside are served well."),
    row("server.node_id", |c| &mut c.server.node_id)
        .env("NODE_ID")
        .flag("node-id")
        .why("Name of this node in logs and in a cluster; empty is the host name."),
    row("server.data_dir", |c| &mut c.server.data_dir)
        .flag("data-dir")
        .why("Folder for what must outlive a restart."),
    row("server.shutdown_grace", |c| &mut c.server.shutdown_grace)
        .range(0..=3600)
        .why("Seconds that viewers get to finish after SIGTERM; Docker kills after 10."),
    row("server.trusted_proxies", |c| &mut c.server.trusted_proxies)
        .why("Proxies whose X-Forwarded-For or Forwarded is believed: addresses or networks, 10.0.0.0/8."),
    row("rtmp.addr", |c| &mut c.rtmp.addr)
        .env("RTMP_ADDR")
        .flag("rtmp-addr")
        .why("Address of the RTMP listener, the port that every encoder tries by itself."),
    row("rtmp.apps", |c| &mut c.rtmp.apps)
        .why("RTMP applications accepted; another one is refused with a reason."),
    row("hls.addr", |c| &mut c.hls.addr)
        .env("HLS_ADDR")
        .flag("hls-addr")
        .why("Address of a second HTTP listener with the same routes, where HLS players expect it."),
    row("hls.segment_duration", |c| &mut c.hls.segment_duration)
        .env("SEGMENT_DURATION")
        .range(1..=60)
        .why("Seconds a segment aims at; shorter joins faster, longer makes fewer requests."),
    row("hls.playlist_size", |c| &mut c.hls.playlist_size)
        .env("PLAYLIST_SIZE")
        .range(3..=1000)
        .why("Segments in a live playlist; RFC 8216 wants three at least, each costs memory."),
    row("hls.low_latency", |c| &mut c.hls.low_latency)
        .env("LOW_LATENCY_HLS")
        .why("Tell players of segments as they are made: LL-HLS and LL-DASH, about two seconds behind live."),
    row("hls.low_latency_except", |c| &mut c.hls.low_latency_except)
        .why("Streams for which the opposite of low_latency holds: [\"name\"]."),
    row("hls.path", |c| &mut c.hls.path)
        .env("HLS_PATH")
        .other_env("HLS_STORAGE")
        .flag("hls-storage")
        .why("Folder to write live HLS to as well, for a web server; empty keeps it in memory only."),
    row("hls.dvr_window", |c| &mut c.hls.dvr_window)
        .range(0..=604_800)
        .why("Seconds that viewers can rewind, with ?start=-120 at index.m3u8 or manifest.mpd; 0 for the live playlist."),
    row("hls.dvr_memory_mb", |c| &mut c.hls.dvr_memory_mb)
        .range(0..=1_048_576)
        .why("MiB per stream of the rewind window in memory; older segments are read from HLS_PATH, if set."),
    row("cache.max_entries", |c| &mut c.cache.max_entries)
        .range(1..=100_000)
        .why("Segments kept for 30 s after they were read from the disk, so that others need not."),
    row("cache.max_size_mb", |c| &mut c.cache.max_size_mb)
        .range(1..=1_048_576)
        .why("MiB of such segments; whichever bound comes first."),
    row("tls.cert", |c| &mut c.tls.cert)
        .why("PEM file of the certificate and its chain; turns HTTPS and RTMPS on; changes take effect."),
    row("tls.key", |c| &mut c.tls.key)
        .why("PEM file of its private key; empty when the file of the certificate holds both."),
    row("tls.ca", |c| &mut c.tls.ca)
        .why("PEM file of authorities to trust at rtmps:// sources and targets, beside the machine's."),
    row("tls.https_addr", |c| &mut c.tls.https_addr)
        .why("Address of the HTTPS listener: what HTTP serves, also over HTTP/2."),
    row("tls.rtmps_addr", |c| &mut c.tls.rtmps_addr)
        .why("Address of the RTMPS listener, on the port that encoders know."),
    row("gop_cache.enabled", |c| &mut c.gop_cache.enabled)
        .env("ENABLE_GOP_CACHE")
        .switch("gop-cache")
        .why("Keep the newest pictures, so that a joining viewer starts at once."),
    row("gop_cache.max_gops", |c| &mut c.gop_cache.max_gops)
        .env("MAX_GOPS")
        .flag("max-gops")
        .range(1..=100)
        .why("Groups of pictures kept per stream; the newest may be unfinished, so two always help."),
    row("gop_cache.max_size_mb", |c| &mut c.gop_cache.max_size_mb)
        .env("MAX_GOP_CACHE_SIZE_MB")
        .flag("max-gop-cache-size-mb")
        .range(1..=65_536)
        .why("MiB kept per stream for joining viewers; beyond, the oldest group goes first."),
    row("auth.publish_keys", |c| &mut c.auth.publish_keys)
        .why("Who may publish: { name = \"key\" }, keys of 8 or more characters; without any, nobody may."),
    row("auth.api_token", |c| &mut c.auth.api_token)
        .why("Token of the API, shown as Authorization: Bearer; empty keeps it closed but in weir dev."),
    row("viewers.tracking_enabled", |c| &mut c.viewers.tracking_enabled)
        .env("VIEWER_TRACKING_ENABLED")
        .why("Count the viewers of HLS and DASH; false is the same as identity = \"off\"."),
    row("viewers.identity", |c| &mut c.viewers.identity)
        .why("session: a random id in the URL; hash: salted, of address and agent, in memory only; off."),
    row("viewers.timeout", |c| &mut c.viewers.timeout)
        .env("VIEWER_TIMEOUT_SECONDS")
        .range(1..=3600)
        .why("Seconds without a request after which a viewer of HLS or DASH has left."),
    row("edge.source_host", |c| &mut c.edge.source_host)
        .env("SOURCE_HOST")
        .why("RTMP server that streams nobody publishes here are fetched from; empty for none."),
    row("edge.source_port", |c| &mut c.edge.source_port)
        .env("SOURCE_PORT")
        .range(1..=65_535)
        .why("Port of that server; RTMPS is often at 1936 or 443."),
    row("edge.source_tls", |c| &mut c.edge.source_tls)
        .env("SOURCE_TLS")
        .why("Whether that server speaks RTMPS on its port: RTMP over TLS."),
    row("edge.source_app", |c| &mut c.edge.source_app)
        .why("Application that the streams of that server are in."),
    row("edge.stream_timeout", |c| &mut c.edge.stream_timeout)
        .env("STREAM_TIMEOUT")
        .range(1..=86_400)
        .why("Seconds that a fetched stream goes on after its last viewer left, in case one returns."),
    row("limits.max_concurrent_streams", |c| &mut c.limits.max_concurrent_streams)
        .env("MAX_CONCURRENT_STREAMS")
        .range(1..=100_000)
        .why("Streams live at once; one more publisher is refused, so that memory stays bounded."),
    row("limits.max_connections_per_ip", |c| &mut c.limits.max_connections_per_ip)
        .range(0..=1_000_000)
        .why("Connections of one address, or IPv6 /64; 0 for any. Loopback and trusted_proxies are exempt."),
    row("limits.publisher_grace", |c| &mut c.limits.publisher_grace)
        .range(0..=3600)
        .why("Seconds a stream waits for a publisher that dropped, its viewers still connected."),
    row("limits.input_timeout", |c| &mut c.limits.input_timeout)
        .range(1..=3600)
        .why("Seconds without media after which a publisher that is still connected counts as gone."),
    row("limits.handshake_timeout", |c| &mut c.limits.handshake_timeout)
        .range(1..=300)
        .why("Seconds from accept to publish, play or a whole HTTP head; slow clients hold a place."),
    row("limits.keep_alive_timeout", |c| &mut c.limits.keep_alive_timeout)
        .range(1..=3600)
        .why("Seconds an HTTP connection may rest between two requests."),
    row("limits.write_stall_timeout", |c| &mut c.limits.write_stall_timeout)
        .range(1..=300)
        .why("Seconds without progress after which a viewer that does not read is closed."),
    row("limits.viewer_lag", |c| &mut c.limits.viewer_lag)
        .range(1..=60)
        .why("Seconds of media a viewer may fall behind before it skips to the newest key frame."),
    row("limits.viewer_lag_mb", |c| &mut c.limits.viewer_lag_mb)
        .range(1..=1024)
        .why("MiB of media a viewer may fall behind; whichever bound comes first."),
    row("limits.blocked_requests_per_ip", |c| &mut c.limits.blocked_requests_per_ip)
        .range(0..=100_000)
        .why("LL-HLS requests of one address that may wait at once; 0 for any number, as for trusted proxies."),
    row("limits.write_coalesce_ms", |c| &mut c.limits.write_coalesce_ms)
        .range(0..=1_000)
        .why("Milliseconds FLV, RTMP and HTTP-TS may wait to be written with more; 0 for every frame at once."),
    row("limits.write_coalesce_except", |c| &mut c.limits.write_coalesce_except)
        .why("Streams whose every frame is written when it comes, at the price of processor time."),
    row("log.level", |c| &mut c.log.level)
        .env("RUST_LOG")
        .why("error, warn, info, debug or trace, also per module: info,weir_gateway=debug."),
    row("log.format", |c| &mut c.log.format)
        .why("text for people, json for machines."),
];

impl Setting {
    /// The row of `key`.
    pub(super) fn find(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// Whether `name` is a section of the file.
    pub(super) fn is_section(name: &str) -> bool {
        !name.is_empty() && SETTINGS.iter().any(|setting| setting.section() == name)
    }

    /// The valid setting nearest to an unknown one, named as `section.key`, `key` or `section_key`.
    pub(super) fn nearest(name: &str) -> &'static Self {
        let full = name.to_ascii_lowercase().replace('.', "_");
        let key = name.rsplit('.').next().unwrap_or(name).to_ascii_lowercase();
        let steps = |setting: &&Self| {
            // The right key in the wrong section, or in none, is one step away.
            let misplaced = distance(&key, setting.name()).saturating_add(1);
            distance(&full, &setting.key.replace('.', "_")).min(misplaced)
        };
        SETTINGS
            .iter()
            .min_by_key(steps)
            .expect("the table has rows")
    }

    /// The section nearest to an unknown one.
    pub(super) fn nearest_section(name: &str) -> &'static str {
        let sections = SETTINGS.iter().map(Self::section);
        nearest(name, sections.filter(|section| !section.is_empty()))
    }

    /// The part of the key before the dot; empty if there is none.
    pub(super) fn section(&self) -> &'static str {
        self.key.split_once('.').map_or("", |(section, _)| section)
    }

    /// The part of the key after the dot.
    pub(super) fn name(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, name)| name)
    }

    /// The variables that users of earlier servers know it by, weakest first.
    pub(super) fn known_env(&self) -> impl Iterator<Item = &'static str> {
        self.env.into_iter().chain(self.other_env)
    }

    /// `WEIR_<SECTION>_<KEY>`.
    pub(super) fn weir_env(&self) -> String {
        format!(
            "{ENV_PREFIX}{}",
            self.key.replace('.', "_").to_ascii_uppercase()
        )
    }

    const fn env(mut self, name: &'static str) -> Self {
        self.env = Some(name);
        self
    }

    const fn other_env(mut self, name: &'static str) -> Self {
        self.other_env = Some(name);
        self
    }

    const fn flag(mut self, name: &'static str) -> Self {
        self.flag = Some(name);
        self
    }

    const fn switch(mut self, name: &'static str) -> Self {
        self.switch = true;
        self.flag(name)
    }

    const fn range(mut self, range: RangeInclusive<u64>) -> Self {
        self.range = range;
        self
    }

    const fn why(mut self, why: &'static str) -> Self {
        self.why = why;
        self
    }
}

const fn row(key: &'static str, field: fn(&mut Config) -> &mut dyn Value) -> Setting {
    Setting {
        key,
        env: None,
        other_env: None,
        flag: None,
        switch: false,
        range: 0..=u64::MAX,
        why: "",
        field,
    }
}

/// The one of `names` nearest to an unknown one; empty if there are none.
pub(super) fn nearest<'a>(unknown: &str, names: impl IntoIterator<Item = &'a str>) -> &'a str {
    let names = names.into_iter();
    names
        .min_by_key(|name| distance(unknown, name))
        .unwrap_or_default()
}

/// How many bytes to insert, remove or replace to make `a` into `b` (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (above, byte_a) in a.bytes().enumerate() {
        let mut diagonal = above;
        let mut left = above + 1;
        for (cell, byte_b) in row.iter_mut().skip(1).zip(b.bytes()) {
            let replaced = diagonal + usize::from(byte_a != byte_b);
            diagonal = *cell;
            left = replaced.min(left + 1).min(diagonal + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = above + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("port", "port", 0),
            ("prot", "port", 2),
            ("kitten", "sitting", 3),
            ("saturday", "sunday", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn suggests_the_nearest() {
        for (unknown, expected) in [
            ("server.prot", "server.port"),
            ("sever.port", "server.port"),
            ("port", "server.port"),
            ("server.apps", "rtmp.apps"),
            ("hls.PLAYLIST_SIZE", "hls.playlist_size"),
            ("hls_segment_durration", "hls.segment_duration"),
            ("gop_cache_max_gop", "gop_cache.max_gops"),
            ("PORT", "server.port"),
        ] {
            assert_eq!(Setting::nearest(unknown).key, expected, "{unknown}");
        }
        assert_eq!(Setting::nearest_section("limit"), "limits");
    }

    #[test]
    fn names_are_unique_and_every_row_says_why() {
        let mut names: Vec<String> = SETTINGS.iter().map(Setting::weir_env).collect();
        names.extend(
            SETTINGS
                .iter()
                .flat_map(Setting::known_env)
                .map(str::to_owned),
        );
        names.extend(
            SETTINGS
                .iter()
                .filter_map(|setting| setting.flag)
                .map(str::to_owned),
        );
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
        for setting in SETTINGS {
            assert!(
                setting.why.ends_with('.') && setting.why.len() <= 100,
                "{}",
                setting.key
            );
        }
        let mut sections: Vec<_> = SETTINGS.iter().map(Setting::section).collect();
        sections.dedup();
        let count = sections.len();
        sections.sort_unstable();
        sections.dedup();
        assert_eq!(
            sections.len(),
            count,
            "the rows of a section stand together"
        );
    }
}
