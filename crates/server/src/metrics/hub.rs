//! Streams, sessions, connections and tasks as metrics.
//!
//! Owns: reading the counters of the hub and the gateway when somebody asks, so that nothing is counted twice and the
//! hot path knows nothing of labels. `/health` and `/status` read the same ones.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::Instant,
};

use prometheus_client::encoding::DescriptorEncoder;
use weir_gateway::{
    Gateway,
    deliver::hls::Viewers,
    derive::{disk::Disk, memory_file},
    net::{listener::Connections, tasks::Tasks, tls::CertificateStore},
    read_cache::ReadCache,
};
use weir_hub::{Hub, Role, RunId, SessionSnapshot, StreamStatus, Traffic};
use weir_media::StreamName;

use super::{OTHER, family::Families};

/// Series a family may have at most (CONTRACT 6): every one costs the server that scrapes us memory for weeks.
const SERIES_MAX: usize = 1_000;
/// What the timeline repairs, as the label `kind` says it.
const REPAIRS: [&str; 4] = [
    "dropped_without_config",
    "dropped_before_key",
    "clamped",
    "jumps",
];

/// What is read beside streams, sessions and tasks.
#[derive(Debug)]
pub struct Observed {
    /// The connections of all listeners.
    pub connections: Connections,
    /// The certificate, if there is one.
    pub certificates: Option<CertificateStore>,
    /// The disk that HLS is written to, if it is.
    pub disk: Option<Disk>,
    /// What was read from there of late.
    pub cache: ReadCache,
    /// The viewers of HLS.
    pub viewers: Viewers,
}

/// Reads the hub when it is asked.
#[derive(Debug)]
pub(super) struct Collector {
    hub: Arc<Hub>,
    tasks: Tasks,
    observed: Observed,
}

impl Collector {
    pub(super) fn new(gateway: &Gateway, observed: Observed) -> Self {
        Self {
            hub: Arc::clone(&gateway.hub),
            tasks: gateway.tasks.clone(),
            observed,
        }
    }
}

impl prometheus_client::collector::Collector for Collector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let sessions = self.hub.counted_sessions();
        let mut streams = self.streams(&sessions);
        // The oldest keep their series when there are too many.
        streams.sort_by_key(|stream| stream.run);
        self.encode_server(&mut families, streams.len(), &sessions)?;
        self.encode_connections(&mut families)?;
        self.encode_traffic(&mut families)?;
        self.encode_disk(&mut families)?;
        self.encode_cache(&mut families)?;
        encode_streams(&mut families, &by_label(&streams, SERIES_MAX))?;
        encode_repairs(
            &mut families,
            &by_label(&streams, SERIES_MAX / REPAIRS.len()),
        )
    }
}

impl Collector {
    fn streams(&self, sessions: &[SessionSnapshot]) -> Vec<StreamRow> {
        let mut viewers: HashMap<&StreamName, u64> = HashMap::new();
        for session in sessions.iter().filter(|session| session.role == Role::Play) {
            *viewers.entry(&session.stream).or_default() += 1;
        }
        let now = Instant::now();
        let row = |stream: Arc<weir_hub::Stream>| StreamRow {
            name: stream.name().clone(),
            run: stream.run(),
            counts: Counts::new(
                &stream.status(now),
                viewers.get(stream.name()).copied().unwrap_or_default(),
            ),
        };
        self.hub.streams().into_iter().map(row).collect()
    }

    fn encode_server(
        &self,
        families: &mut Families<'_>,
        streams: usize,
        sessions: &[SessionSnapshot],
    ) -> fmt::Result {
        let of = |role| sessions.iter().filter(move |session| session.role == role);
        let by_protocol = |role| {
            let mut counts = BTreeMap::<&str, usize>::new();
            for session in of(role) {
                *counts.entry(session.protocol).or_default() += 1;
            }
            counts
                .into_iter()
                .map(|(protocol, count)| ([("protocol", protocol)], count))
        };
        families.gauge("streaming_active_streams", "Streams that run.", streams)?;
        let streams_max = self.hub.limits().streams_max;
        families.gauge(
            "streaming_streams_limit",
            "Streams that may run at once.",
            streams_max,
        )?;
        families.gauge(
            "streaming_total_viewers",
            "Viewers of all streams.",
            of(Role::Play).count(),
        )?;
        families.gauges(
            "streaming_viewers",
            "Viewers by protocol.",
            by_protocol(Role::Play),
        )?;
        families.gauge(
            "streaming_cdn_viewers",
            "Players behind a CDN that say who they are (CMCD); no viewers of ours.",
            self.observed.viewers.total_behind_cdn(),
        )?;
        families.gauges(
            "streaming_publishers",
            "Publishers by protocol.",
            by_protocol(Role::Publish),
        )?;
        families.gauge(
            "streaming_tasks",
            "Tasks that run inside the server.",
            self.tasks.running(),
        )?;
        families.counter(
            "streaming_panics",
            "Tasks that ended in a panic.",
            self.tasks.panics(),
        )?;
        match &self.observed.certificates {
            Some(certificates) => families.counter(
                "streaming_tls_certificate_errors",
                "New certificates that could not be used.",
                certificates.errors(),
            ),
            None => Ok(()),
        }
    }

    fn encode_connections(&self, families: &mut Families<'_>) -> fmt::Result {
        let connections = &self.observed.connections;
        let (open, max) = (connections.open(), connections.max());
        families.gauge(
            "streaming_open_connections",
            "Connections that are open.",
            open,
        )?;
        families.gauge(
            "streaming_connections_limit",
            "Connections that may be open at once.",
            max,
        )?;
        let refused = connections.refused();
        families.counters(
            "streaming_connections_refused",
            "Connections that were closed at once: their address had too many, or there was no descriptor.",
            [
                ([("reason", "per_ip")], refused.per_ip),
                ([("reason", "no_descriptor")], refused.no_descriptor),
            ],
        )?;
        families.counter(
            "streaming_accept_errors",
            "Times that the system could not hand over a connection.",
            connections.accept_errors(),
        )
    }

    /// Nothing when nothing is written.
    fn encode_disk(&self, families: &mut Families<'_>) -> fmt::Result {
        let Some(counts) = self.observed.disk.as_ref().map(Disk::counts) else {
            return Ok(());
        };
        families.counter(
            "streaming_hls_disk_written_bytes",
            "Bytes of HLS written to the disk.",
            counts.written_bytes(),
        )?;
        families.counter(
            "streaming_hls_disk_failures",
            "Times that the files of a stream could not be brought up to date.",
            counts.failed(),
        )?;
        families.counter(
            "streaming_hls_disk_dropped_updates",
            "Times that the disk was too slow, and an update of a stream's files was left out.",
            counts.dropped(),
        )
    }

    fn encode_cache(&self, families: &mut Families<'_>) -> fmt::Result {
        let cache = &self.observed.cache;
        families.counter(
            "streaming_cache_hits",
            "Segments that were read from the disk for somebody else already.",
            cache.hits(),
        )?;
        families.counter(
            "streaming_cache_misses",
            "Segments that had to be read from the disk.",
            cache.misses(),
        )?;
        families.gauge(
            "streaming_cache_bytes",
            "Segments that are kept after they were read from the disk.",
            cache.bytes(),
        )?;
        families.gauge(
            "streaming_segment_memory_bytes",
            "Segments in memory files: memory that streaming_memory_bytes does not count.",
            memory_file::held_bytes(),
        )
    }

    fn encode_traffic(&self, families: &mut Families<'_>) -> fmt::Result {
        let traffic = self.hub.sessions().traffic();
        // No series where nothing is counted: who fetches segments has a session, but no bytes.
        let by_protocol = |role, value: fn(&Traffic) -> u64| {
            let sums = traffic
                .iter()
                .filter(|((of, _), sum)| *of == role && sum.bytes > 0);
            let sums: BTreeMap<_, _> = sums.map(|((_, name), sum)| (*name, value(sum))).collect();
            sums.into_iter()
                .map(|(protocol, sum)| ([("protocol", protocol)], sum))
        };
        families.counters(
            "streaming_received_bytes",
            "Media taken in from publishers.",
            by_protocol(Role::Publish, |sum| sum.bytes),
        )?;
        families.counters(
            "streaming_sent_bytes",
            "Media handed out to viewers that hold a connection.",
            by_protocol(Role::Play, |sum| sum.bytes),
        )?;
        families.counters(
            "streaming_skipped_items",
            "Items, each one wake of a stream, that viewers were too slow for.",
            by_protocol(Role::Play, |sum| sum.skipped),
        )
    }
}

/// A stream as it is when it is asked for.
struct StreamRow {
    name: StreamName,
    run: RunId,
    counts: Counts,
}

/// What is exported of a stream, or of several together.
#[derive(Debug, Default)]
struct Counts {
    viewers: u64,
    bytes_in: u64,
    frames: u64,
    bitrate_bps: u64,
    cache_bytes: u64,
    /// Of several, the one furthest from zero: drifts do not add up.
    drift_us: i64,
    /// In the order of [`REPAIRS`].
    repairs: [u64; REPAIRS.len()],
}

impl Counts {
    fn new(known: &StreamStatus, viewers: u64) -> Self {
        let repaired = &known.timeline;
        Self {
            viewers,
            bytes_in: known.bytes_in,
            frames: known.frames,
            bitrate_bps: known.bitrate_bps,
            cache_bytes: known.cache_bytes as u64,
            drift_us: known.drift_us,
            repairs: [
                repaired.dropped_without_config,
                repaired.dropped_before_key,
                repaired.clamped,
                repaired.jumps,
            ],
        }
    }

    fn add(&mut self, other: &Self) {
        self.viewers += other.viewers;
        self.bytes_in += other.bytes_in;
        self.frames += other.frames;
        self.bitrate_bps += other.bitrate_bps;
        self.cache_bytes += other.cache_bytes;
        if other.drift_us.unsigned_abs() > self.drift_us.unsigned_abs() {
            self.drift_us = other.drift_us;
        }
        for (sum, repairs) in self.repairs.iter_mut().zip(other.repairs) {
            *sum += repairs;
        }
    }
}

/// The streams by label, `labels_max` at most: the last ones share the label `other`, also with a stream that has this
/// name.
fn by_label(streams: &[StreamRow], labels_max: usize) -> BTreeMap<&str, Counts> {
    let named = if streams.len() > labels_max {
        labels_max.saturating_sub(1)
    } else {
        labels_max
    };
    let mut labels = BTreeMap::<&str, Counts>::new();
    for (at, stream) in streams.iter().enumerate() {
        let label = if at < named {
            stream.name.as_str()
        } else {
            OTHER
        };
        labels.entry(label).or_default().add(&stream.counts);
    }
    labels
}

fn encode_streams(families: &mut Families<'_>, streams: &BTreeMap<&str, Counts>) -> fmt::Result {
    fn series<'a, V>(
        streams: &'a BTreeMap<&str, Counts>,
        value: fn(&Counts) -> V,
    ) -> impl Iterator<Item = ([(&'static str, &'a str); 1], V)> {
        streams
            .iter()
            .map(move |(name, counts)| ([("stream", *name)], value(counts)))
    }
    families.gauges(
        "streaming_stream_viewers",
        "Viewers of a stream.",
        series(streams, |stream| stream.viewers),
    )?;
    families.counters(
        "streaming_stream_received_bytes",
        "Media taken in from the publisher.",
        series(streams, |stream| stream.bytes_in),
    )?;
    families.counters(
        "streaming_stream_frames",
        "Frames taken in and handed on.",
        series(streams, |stream| stream.frames),
    )?;
    families.gauges(
        "streaming_stream_received_bytes_per_second",
        "What the publisher sends, measured about once a second.",
        series(streams, |stream| stream.bitrate_bps as f64 / 8.0),
    )?;
    families.gauges(
        "streaming_stream_gop_cache_bytes",
        "Media that is kept for viewers who join.",
        series(streams, |stream| stream.cache_bytes),
    )?;
    families.gauges(
        "streaming_stream_clock_drift_seconds",
        "How far the clock of the publisher runs ahead of ours.",
        series(streams, |stream| stream.drift_us as f64 / 1e6),
    )
}

fn encode_repairs(families: &mut Families<'_>, streams: &BTreeMap<&str, Counts>) -> fmt::Result {
    let series = streams.iter().flat_map(|(name, counts)| {
        let kinds = REPAIRS.into_iter().zip(counts.repairs);
        kinds.map(|(kind, repairs)| ([("stream", *name), ("kind", kind)], repairs))
    });
    let help = "Frames and timestamps of the publisher that the timeline dropped or moved.";
    families.counters("streaming_stream_repairs", help, series)
}
