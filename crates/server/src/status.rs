//! What the server says of itself: `/health`, `/health/live`, `/health/ready`, `/status`.
//!
//! Owns: their JSON (CONTRACT 2). Numbers come from the hub at the moment of asking. Metrics are in
//! [`crate::metrics`].

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use weir_hub::{Hub, Stream};
use weir_media::{Kind, Track, codec::Codec};

/// What the answers are made from.
#[derive(Debug, Clone)]
pub struct Status {
    hub: Arc<Hub>,
    started: Instant,
    ready: Arc<AtomicBool>,
}

impl Status {
    /// The status of a server that started at `started` and is not ready yet.
    #[must_use]
    pub fn new(hub: Arc<Hub>, started: Instant) -> Self {
        Self { hub, started, ready: Arc::default() }
    }

    /// Says whether new connections are welcome.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }
}

/// The routes.
pub fn router(status: Status) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/health/live", get(|| async { StatusCode::OK }))
        .route("/health/ready", get(ready))
        .route("/status", get(streams))
        .with_state(status)
}

#[derive(Debug, Serialize)]
struct Health {
    status: &'static str,
    active_streams: usize,
    max_streams: usize,
    total_viewers: usize,
    uptime_seconds: u64,
    version: &'static str,
}

#[derive(Debug, Serialize)]
struct Streams {
    streams: Vec<StreamRow>,
}

#[derive(Debug, Serialize)]
struct StreamRow {
    name: String,
    state: &'static str,
    reason: Option<String>,
    uptime_seconds: u64,
    bitrate_bps: u64,
    viewers: u64,
    viewers_by_protocol: BTreeMap<&'static str, u64>,
    bytes_in: u64,
    frames: u64,
    tracks: Vec<TrackRow>,
    repairs: Repairs,
    clock_drift_ms: i64,
    gop_cache_bytes: usize,
}

#[derive(Debug, Serialize)]
struct TrackRow {
    kind: &'static str,
    codec: &'static str,
    codecs: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample_rate: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<u8>,
}

/// What the server had to repair in the timestamps of the source.
#[derive(Debug, Serialize)]
struct Repairs {
    dropped_without_config: u64,
    dropped_before_key: u64,
    clamped: u64,
    jumps: u64,
}

async fn health(State(status): State<Status>) -> Json<Health> {
    Json(Health {
        status: if status.ready.load(Ordering::Relaxed) { "ok" } else { "draining" },
        active_streams: status.hub.stream_count(),
        max_streams: status.hub.limits().streams_max,
        total_viewers: status.hub.sessions().total_viewers(),
        uptime_seconds: status.started.elapsed().as_secs(),
        version: env!("CARGO_PKG_VERSION"),
    })
}

async fn ready(State(status): State<Status>) -> StatusCode {
    if status.ready.load(Ordering::Relaxed) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn streams(State(status): State<Status>) -> Response {
    let now = Instant::now();
    let streams = status.hub.streams().iter().map(|stream| row(&status.hub, stream, now)).collect();
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
    ];
    (headers, Json(Streams { streams })).into_response()
}

fn row(hub: &Hub, stream: &Stream, now: Instant) -> StreamRow {
    let known = stream.status(now);
    let viewers_by_protocol = hub.sessions().viewers(stream.name());
    StreamRow {
        name: stream.name().to_string(),
        state: known.state.as_str(),
        reason: known.reason,
        uptime_seconds: known.uptime.as_secs(),
        bitrate_bps: known.bitrate_bps,
        viewers: viewers_by_protocol.values().sum(),
        viewers_by_protocol,
        bytes_in: known.bytes_in,
        frames: known.frames,
        tracks: known.tracks.iter().map(track).collect(),
        repairs: Repairs {
            dropped_without_config: known.timeline.dropped_without_config,
            dropped_before_key: known.timeline.dropped_before_key,
            clamped: known.timeline.clamped,
            jumps: known.timeline.jumps,
        },
        clock_drift_ms: known.drift_us / 1_000,
        gop_cache_bytes: known.cache_bytes,
    }
}

fn track(track: &Track) -> TrackRow {
    let mut row = TrackRow {
        kind: match track.kind() {
            Kind::Video => "video",
            Kind::Audio => "audio",
        },
        codec: track.codec.name(),
        codecs: track.codec.rfc6381(),
        width: None,
        height: None,
        frame_rate: None,
        sample_rate: None,
        channels: None,
    };
    match &track.codec {
        Codec::H264(config) => {
            if let Some(picture) = &config.picture {
                (row.width, row.height) = (Some(picture.width), Some(picture.height));
                row.frame_rate = picture.frame_rate.map(|(rate, scale)| f64::from(rate) / f64::from(scale));
            }
        }
        Codec::Aac(config) => {
            (row.sample_rate, row.channels) = (Some(config.output_sample_rate), Some(config.channels));
        }
    }
    row
}
