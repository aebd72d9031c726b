//! All wiring: what is started in which order, and stopped in which.
//!
//! Owns: the runtime, logging, listeners, the tasks that tick, and shutdown (DESIGN 7): not ready, stop accepting, tell
//! publishers, end the runs, let viewers finish, exit.

mod log;
mod start;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    time::Instant,
};
use weir_gateway::deliver::hls::Viewers;
use weir_hub::{Hub, KillReason, Role};

use crate::{
    cli::EXIT_USAGE,
    config::{Config, Mode},
};
pub(crate) use start::DEMO_SAMPLE;
use start::{Server, StartError};

/// How often streams whose publisher is gone and viewers that are gone are looked for.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);
/// How often shutdown looks whether the last viewer has finished.
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// Runs the server until it is told to stop; the exit code says how that went.
///
/// # Errors
/// The runtime or the signal handlers cannot be set up.
pub fn run(config: Config, mode: Mode) -> anyhow::Result<ExitCode> {
    log::init(&config.log);
    raise_descriptor_limit(config.server.max_connections);
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(config.server.workers)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(serve(config, mode));
    // All tasks have ended; only a read on a disk that hangs could hold the exit up.
    runtime.shutdown_background();
    ended
}

/// Asks the system for as many descriptors as it grants without more rights: shells start us with 1024, and every
/// connection is one.
fn raise_descriptor_limit(max_connections: usize) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit on descriptors stays as it is");
    }
    let granted = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if granted < max_connections as u64 {
        tracing::info!(
            granted,
            max_connections,
            "the system grants fewer descriptors than connections are allowed"
        );
    }
}

async fn serve(config: Config, mode: Mode) -> anyhow::Result<ExitCode> {
    // Before anything listens, so that no early signal kills the process halfway.
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let grace = config.server.shutdown_grace;
    let server = match Server::start(config, mode).await {
        Ok(server) => server,
        Err(error) => {
            tracing::error!("{error}");
            return Ok(match error {
                StartError::Listen { .. }
                | StartError::Certificate(_)
                | StartError::Authority(_)
                | StartError::Storage { .. } => EXIT_USAGE.into(),
                StartError::Sample(_) => ExitCode::FAILURE,
            });
        }
    };
    signals.next().await;
    tracing::info!("stopping; a second signal stops at once");
    tokio::select! {
        () = stop(&server, grace) => tracing::info!("stopped"),
        () = signals.next() => tracing::warn!("stopped without waiting"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Stops in order, within `grace`.
async fn stop(server: &Server, grace: Duration) {
    let deadline = Instant::now() + grace;
    server.status.set_ready(false);
    server.gateway.tasks.draining().cancel();
    let sessions = server.gateway.hub.sessions();
    sessions.kill_all(Role::Publish, KillReason::Shutdown);
    server.gateway.hub.end_all();
    // Viewers of an ended run take what is left: a connection closes by itself, HLS asks until its playlist ends.
    while sessions.total_viewers() > 0 && Instant::now() < deadline {
        tokio::time::sleep(DRAIN_POLL).await;
    }
    server.gateway.tasks.closing().cancel();
    let is_busy = || server.open_connections() > 0 || !server.relays.statuses().is_empty();
    while is_busy() && Instant::now() < deadline {
        tokio::time::sleep(DRAIN_POLL).await;
    }
    server.gateway.tasks.stop().await;
}

/// Ends runs and viewers that are gone, until the process stops.
async fn expire(hub: Arc<Hub>, viewers: Viewers) {
    let mut ticks = tokio::time::interval(EXPIRE_INTERVAL);
    loop {
        ticks.tick().await;
        let now = std::time::Instant::now();
        hub.expire(now);
        viewers.expire(now);
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
