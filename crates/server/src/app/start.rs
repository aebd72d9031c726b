//! Start-up: from a configuration to a server that listens.
//!
//! Owns: the order of it, and what is said when an address cannot be had.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::Router;
use bytes::Bytes;
use tokio::net::TcpListener;
use weir_gateway::{
    Gateway, Limits,
    deliver::{
        self,
        hls::{Identity, Viewers},
        relay::{Relays, Target},
    },
    derive::{self, Coalescing, Derived, disk::Disk, hls::Outputs},
    ingest::{
        demo::{self, Sample},
        pull::Source,
    },
    net::{
        client::{Network, TrustedProxies},
        dial::Dialer,
        http,
        listener::{self, Connections},
        tasks::Tasks,
        tls::{self, CertificateStore, Trust},
    },
    on_demand::OnDemand,
    read_cache::{self, ReadCache},
    rtmp,
};
use weir_hub::{Hub, Join, LagLimit, Requests, Retention};
use weir_media::StreamName;

use crate::{
    api::{self, Access},
    auth,
    config::{self, Config, Listener, Mode, Purpose},
    metrics,
    status::{self, Status},
    ui,
};

/// The name of the stream that `weir dev` runs.
const DEMO: &str = "demo";
/// The sample it plays, and after how long it repeats.
pub(crate) const DEMO_SAMPLE: &[u8] = include_bytes!("../../../../testdata/demo.flv");
const DEMO_LOOP_MS: u32 = 8_000;
/// Wanted duration of a part: about what a player at one second of latency asks for.
const PART_MS: u32 = 333;
/// Media time that the frame feed keeps however short the groups are, for readers inside the process.
const FEED_FLOOR_MS: i64 = 3_000;
/// Media time that the GOP cache keeps at most (FAULTS 1.9).
const GOP_CACHE_MS_MAX: i64 = 20_000;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// A configured address cannot be had.
    #[error("cannot listen on {addr}: {reason}; choose another address or stop what uses it")]
    Listen { addr: SocketAddr, reason: io::Error },
    /// The configured certificate cannot be used.
    #[error("{0}; HTTPS and RTMPS need a good pair in [tls] cert and key")]
    Certificate(tls::Error),
    /// The configured authorities cannot be used.
    #[error("{0}; see [tls] ca, the authorities of servers that streams come from or go to")]
    Authority(tls::Error),
    /// The folder for live streams cannot be used.
    #[error("cannot write live streams to {}: {reason}; see HLS_PATH, [hls] path", path.display())]
    Storage { path: PathBuf, reason: io::Error },
    /// The sample in the binary is damaged.
    #[error(transparent)]
    Sample(#[from] demo::Error),
}

/// A server that listens.
pub(super) struct Server {
    pub(super) gateway: Gateway,
    pub(super) status: Status,
    pub(super) relays: Relays,
    connections: Connections,
}

impl Server {
    pub(super) async fn start(config: Config, mode: Mode) -> Result<Self, StartError> {
        let warnings = config.warnings.iter();
        warnings.for_each(|warning| tracing::warn!("{warning}"));
        let started = Instant::now();
        let certificates = load_certificates(&config.tls).await?;
        let disk = open_disk(config.hls.path.as_deref())?;
        let listeners = bind(&config.listeners)?;
        let (requests, pending) = Requests::channel();
        let dialer = Dialer::new(rtmp_addrs(&listeners), load_trust(&config).await?);
        let gateway = gateway(&config, requests, dialer.clone());
        let relays = Relays::new(config.relay.clone(), dialer);
        let viewers = viewers(&config);
        let cache = read_cache(&config.cache);
        let tasks = &gateway.tasks;
        let hls = packaging(&config.hls);
        let outputs = Outputs::new(hls, tasks.clone(), disk.clone(), cache.clone());
        let status = Status::new(
            Arc::clone(&gateway.hub),
            gateway.on_demand.clone(),
            relays.clone(),
            viewers.clone(),
            outputs.clone(),
            started,
        );
        let media = deliver::hls::Context::new(
            gateway.clone(),
            outputs.clone(),
            viewers.clone(),
            config.limits.blocked_requests_per_ip,
        );
        let keys = config.auth.publish_keys.clone();
        tasks.spawn(auth::decide(pending, mode, keys));
        tasks.spawn(super::expire(Arc::clone(&gateway.hub), viewers.clone()));
        tasks.spawn(outputs.clone().reconcile(Arc::clone(&gateway.hub)));
        if !config.relay.is_empty() {
            tasks.spawn(relays.clone().reconcile(gateway.clone()));
        }
        let connections = connections(&config);
        let observed = metrics::Observed {
            connections: connections.clone(),
            certificates: certificates.clone(),
            disk,
            cache,
            viewers,
        };
        let access = Access::new(mode, config.auth.api_token.clone());
        let routers = Routers::new(media, &status, access, &gateway, observed);
        accept(
            listeners,
            &config,
            &connections,
            &gateway,
            &routers,
            certificates.as_ref(),
        );
        if let Some(certificates) = certificates {
            gateway.tasks.spawn(certificates.watch());
        }
        if mode == Mode::Dev {
            start_demo(&gateway)?;
        }
        status.set_ready(true);
        announce(&config, mode);
        Ok(Self {
            gateway,
            status,
            relays,
            connections,
        })
    }

    /// Connections of all listeners.
    pub(super) fn open_connections(&self) -> usize {
        self.connections.open()
    }
}

async fn load_certificates(config: &config::Tls) -> Result<Option<CertificateStore>, StartError> {
    let Some(cert) = config.cert.clone() else {
        return Ok(None);
    };
    let key = config.key.clone().unwrap_or_else(|| cert.clone());
    let loaded = CertificateStore::load(cert, key).await;
    loaded.map(Some).map_err(StartError::Certificate)
}

/// Reads the authorities, if there is a server to be reached over TLS: they cost time and memory.
async fn load_trust(config: &Config) -> Result<Option<Trust>, StartError> {
    let relays_over_tls = config.relay.iter().any(Target::is_tls);
    if !(config.edge.source_tls || relays_over_tls) {
        return Ok(None);
    }
    let loaded = Trust::load(config.tls.ca.as_deref()).await;
    loaded.map(Some).map_err(StartError::Authority)
}

fn gateway(config: &Config, requests: Requests, dialer: Dialer) -> Gateway {
    let limits = &config.limits;
    let gop_cache = Retention {
        groups_max: config.gop_cache.max_gops,
        floor_ms: FEED_FLOOR_MS,
        span_ms_max: GOP_CACHE_MS_MAX,
        bytes_max: config.gop_cache.max_size_mb << 20,
    };
    let hub = Hub::new(weir_hub::Limits {
        streams_max: limits.max_concurrent_streams,
        publisher_grace: limits.publisher_grace,
        gop_cache,
    });
    let edge = &config.edge;
    let source = (!edge.source_host.is_empty()).then(|| Source {
        host: edge.source_host.clone(),
        port: edge.source_port,
        is_tls: edge.source_tls,
        app: edge.source_app.clone(),
        dialer,
    });
    Gateway {
        hub,
        requests,
        tasks: Tasks::default(),
        derived: Derived::new(Coalescing {
            interval: Duration::from_millis(limits.write_coalesce_ms as u64),
            except: limits.write_coalesce_except.clone().into(),
        }),
        on_demand: OnDemand::new(source, edge.stream_timeout),
        limits: Limits {
            handshake_timeout: limits.handshake_timeout,
            input_timeout: limits.input_timeout,
            write_stall_timeout: limits.write_stall_timeout,
            keep_alive_timeout: limits.keep_alive_timeout,
            viewer_lag: LagLimit {
                ms_max: i64::try_from(limits.viewer_lag.as_millis()).unwrap_or(i64::MAX),
                bytes_max: (limits.viewer_lag_mb as u64) << 20,
            },
            join: if config.gop_cache.enabled {
                Join::NewestSync
            } else {
                Join::NextSync
            },
        },
    }
}

fn viewers(config: &Config) -> Viewers {
    let known = &config.viewers;
    let identity = if known.tracking_enabled {
        known.identity
    } else {
        Identity::Off
    };
    let proxies = TrustedProxies::new(&config.server.trusted_proxies);
    Viewers::new(identity, known.timeout, proxies)
}

fn packaging(hls: &config::Hls) -> derive::hls::Config {
    derive::hls::Config {
        packaging: derive::hls::Packaging {
            segment_ms: u32::try_from(hls.segment_duration.as_millis()).unwrap_or(u32::MAX),
            part_ms: PART_MS,
            playlist_segments: hls.playlist_size,
            rewind: derive::hls::Rewind {
                window_us: i64::try_from(hls.dvr_window.as_micros()).unwrap_or(i64::MAX),
                memory_bytes: hls.dvr_memory_mb << 20,
            },
        },
        low_latency: hls.low_latency,
        low_latency_except: hls.low_latency_except.clone().into(),
    }
}

fn read_cache(config: &config::Cache) -> ReadCache {
    ReadCache::new(read_cache::Limits {
        entries_max: config.max_entries as u64,
        bytes_max: (config.max_size_mb as u64) << 20,
    })
}

fn connections(config: &Config) -> Connections {
    // Proxies have the connections of many clients, and from this machine come health checks and load tests.
    let proxies = &config.server.trusted_proxies[..];
    let uncounted = TrustedProxies::new(&[proxies, &Network::LOOPBACK].concat());
    let max_per_ip = config.limits.max_connections_per_ip;
    Connections::new(config.server.max_connections, max_per_ip, uncounted)
}

fn open_disk(path: Option<&Path>) -> Result<Option<Disk>, StartError> {
    let Some(path) = path else {
        return Ok(None);
    };
    let disk = Disk::open(path).map_err(|reason| StartError::Storage {
        path: path.to_owned(),
        reason,
    })?;
    Ok(Some(disk))
}

/// Binds every listener. One that nobody configured may be taken; one that the system has no address for (IPv6) is
/// left out.
fn bind(wanted: &[Listener]) -> Result<Vec<(Purpose, TcpListener)>, StartError> {
    let mut bound = Vec::with_capacity(wanted.len());
    for &Listener {
        addr,
        configured,
        purpose,
    } in wanted
    {
        match listener::bind(addr) {
            Ok(listener) => bound.push((purpose, listener)),
            Err(reason) if addr.is_ipv6() && reason.kind() == io::ErrorKind::AddrNotAvailable => {}
            Err(reason) if configured => return Err(StartError::Listen { addr, reason }),
            Err(reason) => {
                tracing::warn!(%addr, %reason, "a default address is not available; going on without it")
            }
        }
    }
    Ok(bound)
}

/// Where this server takes RTMP connections, over TLS too.
fn rtmp_addrs(listeners: &[(Purpose, TcpListener)]) -> Vec<SocketAddr> {
    let rtmp = listeners
        .iter()
        .filter(|(purpose, _)| matches!(purpose, Purpose::Rtmp | Purpose::Rtmps));
    rtmp.filter_map(|(_, listener)| listener.local_addr().ok())
        .collect()
}

/// What HTTP listeners serve.
struct Routers {
    all: Router,
    cdn: Router,
}

impl Routers {
    fn new(
        media: deliver::hls::Context,
        status: &Status,
        access: Access,
        gateway: &Gateway,
        observed: metrics::Observed,
    ) -> Self {
        let all = deliver::router(media.clone())
            .merge(status::router(status.clone()))
            .merge(api::router(Arc::clone(&gateway.hub), access))
            .merge(ui::router());
        Self {
            all: metrics::observe(all, gateway, observed),
            cdn: deliver::cdn_router(media),
        }
    }
}

fn accept(
    listeners: Vec<(Purpose, TcpListener)>,
    config: &Config,
    connections: &Connections,
    gateway: &Gateway,
    routers: &Routers,
    certificates: Option<&CertificateStore>,
) {
    let rtmp_config = Arc::new(rtmp::Config {
        apps: config.rtmp.apps.clone(),
        ..rtmp::Config::default()
    });
    for (purpose, listener) in listeners {
        if let Ok(addr) = listener.local_addr() {
            tracing::info!(%addr, protocol = purpose.as_str(), "listening");
        }
        let (connections, tasks) = (connections.clone(), gateway.tasks.clone());
        let (gateway, rtmp_config) = (gateway.clone(), Arc::clone(&rtmp_config));
        let router = match purpose {
            Purpose::Cdn => routers.cdn.clone(),
            _ => routers.all.clone(),
        };
        let tls = certificates.and_then(|store| match purpose {
            Purpose::Http | Purpose::Cdn | Purpose::Rtmp => None,
            Purpose::Https => Some(store.http_acceptor()),
            Purpose::Rtmps => Some(store.rtmp_acceptor()),
        });
        // Others would have to speak first: a handshake.
        let busy = match purpose {
            Purpose::Http | Purpose::Cdn => http::BUSY,
            Purpose::Https | Purpose::Rtmp | Purpose::Rtmps => &[],
        };
        match purpose {
            Purpose::Rtmp | Purpose::Rtmps => {
                let serve = move |stream| {
                    let config = Arc::clone(&rtmp_config);
                    rtmp::serve(stream, tls.clone(), config, gateway.clone())
                };
                tasks
                    .clone()
                    .spawn(listener::accept(listener, connections, tasks, busy, serve));
            }
            Purpose::Http | Purpose::Cdn | Purpose::Https => {
                let serve = move |stream| {
                    http::serve(
                        stream,
                        tls.clone(),
                        router.clone(),
                        gateway.limits,
                        gateway.tasks.clone(),
                    )
                };
                tasks
                    .clone()
                    .spawn(listener::accept(listener, connections, tasks, busy, serve));
            }
        }
    }
}

fn start_demo(gateway: &Gateway) -> Result<(), StartError> {
    let sample = Sample::read(Bytes::from_static(DEMO_SAMPLE), DEMO_LOOP_MS)?;
    let Ok(name) = StreamName::parse(DEMO) else {
        return Ok(());
    };
    let work = gateway.clone();
    gateway.tasks.spawn(async move {
        match sample.publish(&name, &work).await {
            Ok(reason) => tracing::info!(%reason, "demo stream ended"),
            Err(error) => tracing::warn!(%error, "no demo stream"),
        }
    });
    Ok(())
}

/// Says where to look, as lines that can be copied.
#[expect(
    clippy::print_stdout,
    reason = "these lines are for the person who started the server, not for the log"
)]
fn announce(config: &Config, mode: Mode) {
    let port = |purpose| {
        config
            .listeners
            .iter()
            .find(|known| known.purpose == purpose)
            .map_or(0, |known| known.addr.port())
    };
    let (http, rtmp) = (port(Purpose::Http), port(Purpose::Rtmp));
    let app = config.rtmp.apps.first().map_or("live", String::as_str);
    let shown = match mode {
        Mode::Dev => DEMO,
        Mode::Serve => "{name}",
    };
    println!("\nWeir is running.\n");
    println!("  watch    http://localhost:{http}/player");
    println!("  HLS      http://localhost:{http}/live/{shown}/index.m3u8");
    println!("  FLV      http://localhost:{http}/live/{shown}.flv");
    println!("  RTMP     rtmp://localhost:{rtmp}/{app}/{shown}");
    match mode {
        Mode::Dev => println!(
            "  publish  rtmp://localhost:{rtmp}/{app}/<name>   (no key needed, this machine only)\n"
        ),
        Mode::Serve => println!("  publish  rtmp://localhost:{rtmp}/{app}/<name>?key=<secret>\n"),
    }
}
