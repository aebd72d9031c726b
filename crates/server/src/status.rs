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
use weir_gateway::{
    deliver::{
        hls::Viewers,
        relay::{self, Relays},
    },
    derive::hls::Outputs,
    on_demand::{Absent, OnDemand},
};
use weir_hub::{Hub, State as StreamState, Stream};
use weir_media::{Kind, Track, codec::Codec};

/// What the answers are made from.
#[derive(Debug, Clone)]
pub struct Status {
    hub: Arc<Hub>,
    on_demand: OnDemand,
    relays: Relays,
    viewers: Viewers,
    outputs: Outputs,
    started: Instant,
    ready: Arc<AtomicBool>,
}

impl Status {
    /// The status of a server that started at `started` and is not ready yet.
    #[must_use]
    pub fn new(
        hub: Arc<Hub>,
        on_demand: OnDemand,
        relays: Relays,
        viewers: Viewers,
        outputs: Outputs,
        started: Instant,
    ) -> Self {
        Self {
            hub,
            on_demand,
            relays,
            viewers,
            outputs,
            started,
            ready: Arc::default(),
        }
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
    relays: Vec<RelayRow>,
}

/// A stream on its way to another server.
#[derive(Debug, Serialize)]
struct RelayRow {
    stream: String,
    target: String,
    state: &'static str,
    reason: Option<String>,
    bytes_out: u64,
    skipped: u64,
    failures: u64,
}

#[derive(Debug, Default, Serialize)]
struct StreamRow {
    name: String,
    state: &'static str,
    reason: Option<String>,
    uptime_seconds: u64,
    bitrate_bps: u64,
    viewers: u64,
    viewers_by_protocol: BTreeMap<&'static str, u64>,
    /// Players behind a CDN that say who they are; no part of `viewers`.
    cdn_viewers: u64,
    bytes_in: u64,
    frames: u64,
    tracks: Vec<TrackRow>,
    repairs: Repairs,
    clock_drift_ms: i64,
    gop_cache_bytes: usize,
    /// How far back HLS goes.
    rewind_seconds: u64,
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
#[derive(Debug, Default, Serialize)]
struct Repairs {
    dropped_without_config: u64,
    dropped_before_key: u64,
    clamped: u64,
    jumps: u64,
}

async fn health(State(status): State<Status>) -> Json<Health> {
    Json(Health {
        status: if status.ready.load(Ordering::Relaxed) {
            "ok"
        } else {
            "draining"
        },
        active_streams: status.hub.stream_count(),
        max_streams: status.hub.limits().streams_max,
        total_viewers: status.hub.total_viewers(),
        uptime_seconds: status.started.elapsed().as_secs(),
        version: env!("CARGO_PKG_VERSION"),
    })
}

async fn ready(State(status): State<Status>) -> StatusCode {
    if status.ready.load(Ordering::Relaxed) {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

async fn streams(State(status): State<Status>) -> Response {
    let now = Instant::now();
    let running = status.hub.streams();
    // One that began since is in the list already.
    let absent = status.on_demand.absent();
    let absent = absent
        .iter()
        .filter(|absent| !running.iter().any(|stream| *stream.name() == absent.name));
    let absent = absent.map(absent_row);
    let streams = running
        .iter()
        .map(|stream| row(&status, stream, now))
        .chain(absent)
        .collect();
    let relays = status.relays.statuses();
    let relays = relays.into_iter().map(relay_row).collect();
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            HeaderValue::from_static("*"),
        ),
    ];
    (headers, Json(Streams { streams, relays })).into_response()
}

fn row(status: &Status, stream: &Stream, now: Instant) -> StreamRow {
    let known = stream.status(now);
    let viewers_by_protocol = status.hub.sessions().viewers(stream.name());
    StreamRow {
        name: stream.name().to_string(),
        state: known.state.as_str(),
        reason: known.reason,
        uptime_seconds: known.uptime.as_secs(),
        bitrate_bps: known.bitrate_bps,
        viewers: viewers_by_protocol.values().sum(),
        viewers_by_protocol,
        cdn_viewers: status.viewers.count_behind_cdn(stream.name()),
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
        rewind_seconds: status.outputs.rewindable(stream.name()).as_secs(),
    }
}

/// A stream that somebody asked for and that does not run. Viewers count while a stream runs.
fn absent_row(absent: &Absent) -> StreamRow {
    let state = match absent.failure {
        Some(_) => StreamState::Failed,
        None => StreamState::Starting,
    };
    StreamRow {
        name: absent.name.to_string(),
        state: state.as_str(),
        reason: absent.failure.clone(),
        ..StreamRow::default()
    }
}

fn relay_row(relay: relay::Status) -> RelayRow {
    RelayRow {
        stream: relay.stream.to_string(),
        target: relay.target,
        state: relay.state.as_str(),
        reason: relay.reason,
        bytes_out: relay.bytes_out,
        skipped: relay.skipped,
        failures: relay.failures,
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
                row.frame_rate = picture
                    .frame_rate
                    .map(|(rate, scale)| f64::from(rate) / f64::from(scale));
            }
        }
        Codec::Aac(config) => {
            (row.sample_rate, row.channels) =
                (Some(config.output_sample_rate), Some(config.channels));
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use serde_json::{Value, json};
    use weir_gateway::{
        deliver::hls::Identity,
        derive::hls,
        net::{client::TrustedProxies, dial::Dialer, tasks::Tasks},
        read_cache::{self, ReadCache},
    };
    use weir_hub::{Limits, Moment, Retention, Role};
    use weir_media::{SessionClock, StreamName, TrackId};

    use super::*;
    use crate::ask::{Answer, get};

    #[tokio::test]
    async fn health_says_exactly_what_is_promised() {
        let (status, _) = served();
        status.set_ready(true);
        let health = json_of(&get(&router(status), "/health").await);
        let expected = json!({
            "status": "ok",
            "active_streams": 0,
            "max_streams": 7,
            "total_viewers": 0,
            "uptime_seconds": 90,
            "version": env!("CARGO_PKG_VERSION"),
        });
        assert_eq!(health, expected);
    }

    #[tokio::test]
    async fn health_and_status_count_the_same_streams_and_viewers() {
        let (status, hub) = served();
        let _publishers = ["b", "a"].map(|text| publish(&hub, text));
        let viewers = [
            ("http-flv", "a"),
            ("http-flv", "a"),
            ("rtmp", "a"),
            ("hls", "b"),
        ]
        .map(|(protocol, text)| {
            hub.sessions()
                .open(Role::Play, protocol, name(text), Instant::now())
        });
        let router = router(status);
        let health = json_of(&get(&router, "/health").await);
        assert_eq!(
            (&health["active_streams"], &health["total_viewers"]),
            (&json!(2), &json!(4))
        );
        let shown = json_of(&get(&router, "/status").await);
        assert_eq!(shown["streams"][0]["name"], "a");
        assert_eq!(shown["streams"][0]["viewers"], 3);
        assert_eq!(
            shown["streams"][0]["viewers_by_protocol"],
            json!({"http-flv": 2, "rtmp": 1})
        );
        assert_eq!(shown["streams"][1]["viewers"], 1);
        hub.end(&hub.get(&name("b")).expect("it runs"));
        let health = json_of(&get(&router, "/health").await);
        assert_eq!(
            (&health["active_streams"], &health["total_viewers"]),
            (&json!(1), &json!(3)),
            "the viewers of a run that has ended count no more"
        );
        drop(viewers);
        let health = json_of(&get(&router, "/health").await);
        assert_eq!(health["total_viewers"], 0);
        let shown = json_of(&get(&router, "/status").await);
        assert_eq!(shown["streams"][0]["viewers_by_protocol"], json!({}));
    }

    #[tokio::test]
    async fn status_shows_what_is_known_of_a_stream() {
        let (status, hub) = served();
        let publisher = publish(&hub, "demo");
        let answer = get(&router(status.clone()), "/status").await;
        assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
        assert_eq!(answer.header(header::ACCESS_CONTROL_ALLOW_ORIGIN), "*");
        let mut shown = json_of(&answer);
        // The test may be slow.
        shown["streams"][0]["uptime_seconds"] = json!(0);
        let expected = json!({"relays": [], "streams": [{
            "name": "demo",
            "state": "starting",
            "reason": null,
            "uptime_seconds": 0,
            "bitrate_bps": 0,
            "viewers": 0,
            "viewers_by_protocol": {},
            "cdn_viewers": 0,
            "bytes_in": 0,
            "frames": 0,
            "tracks": [],
            "repairs": {
                "dropped_without_config": 0,
                "dropped_before_key": 0,
                "clamped": 0,
                "jumps": 0,
            },
            "clock_drift_ms": 0,
            "gop_cache_bytes": 0,
            "rewind_seconds": 0,
        }]});
        assert_eq!(shown, expected);
        drop(publisher);
        let waiting = hub.get(&name("demo")).expect("it is in its grace");
        let row = row(&status, &waiting, Instant::now());
        assert_eq!((row.state, row.reason.is_some()), ("waiting", true));
    }

    #[test]
    fn a_track_shows_what_its_codec_has() {
        let config = [0x12, 0x10];
        let aac = weir_media::codec::aac::Config::parse(Bytes::copy_from_slice(&config));
        let codec = Codec::Aac(aac.expect("AAC-LC, 44.1 kHz, stereo"));
        let shown =
            serde_json::to_value(track(&Track::new(TrackId::AUDIO, codec))).expect("plain data");
        let expected = json!({
            "kind": "audio",
            "codec": "AAC",
            "codecs": "mp4a.40.2",
            "sample_rate": 44_100,
            "channels": 2,
        });
        assert_eq!(shown, expected);
    }

    #[tokio::test]
    async fn a_server_is_alive_before_it_is_ready_and_while_it_drains() {
        let (status, _) = served();
        let router = router(status.clone());
        for (ready, code, word) in [
            (false, StatusCode::SERVICE_UNAVAILABLE, "draining"),
            (true, StatusCode::OK, "ok"),
            (false, StatusCode::SERVICE_UNAVAILABLE, "draining"),
        ] {
            status.set_ready(ready);
            assert_eq!(get(&router, "/health/ready").await.status, code);
            assert_eq!(get(&router, "/health/live").await.status, StatusCode::OK);
            let health = get(&router, "/health").await;
            assert_eq!(
                (health.status, &json_of(&health)["status"]),
                (StatusCode::OK, &json!(word))
            );
        }
    }

    /// The status of an empty server that has run for 90 seconds.
    fn served() -> (Status, Arc<Hub>) {
        let gop_cache = Retention {
            groups_max: 1,
            floor_ms: 0,
            span_ms_max: 1_000,
            bytes_max: 1 << 20,
        };
        let limits = Limits {
            streams_max: 7,
            publisher_grace: Duration::from_secs(60),
            gop_cache,
        };
        let hub = Hub::new(limits);
        let started = Instant::now().checked_sub(Duration::from_secs(90));
        (
            Status::new(
                Arc::clone(&hub),
                OnDemand::new(None, Duration::from_secs(1)),
                Relays::new(Vec::new(), Dialer::new(Vec::new(), None)),
                Viewers::new(
                    Identity::Off,
                    Duration::from_secs(1),
                    TrustedProxies::default(),
                ),
                outputs(),
                started.expect("the machine runs longer"),
            ),
            hub,
        )
    }

    fn publish(hub: &Hub, text: &str) -> weir_hub::Publisher {
        let published = hub.publish(
            &name(text),
            None,
            "rtmp",
            SessionClock::MS_32_BIT,
            Moment::now(),
        );
        published.expect("there is room")
    }

    fn name(text: &str) -> StreamName {
        StreamName::parse(text).expect("a valid name")
    }

    fn json_of(answer: &Answer) -> Value {
        assert_eq!(answer.header(header::CONTENT_TYPE), "application/json");
        serde_json::from_str(&answer.text).expect("JSON")
    }

    /// The HLS outputs of no streams.
    fn outputs() -> Outputs {
        let config = hls::Config {
            packaging: hls::Packaging {
                segment_ms: 2_000,
                part_ms: 333,
                playlist_segments: 6,
                rewind: hls::Rewind::default(),
            },
            low_latency: true,
            low_latency_except: Arc::new([]),
        };
        let cache = ReadCache::new(read_cache::Limits {
            entries_max: 1,
            bytes_max: 1,
        });
        Outputs::new(config, Tasks::default(), None, cache)
    }
}
