//! One RTMP port for both directions: a connection becomes a publisher or a player with its first request.
//!
//! Owns: that hand-over, and the one log line a connection ends with.

use std::{sync::Arc, time::Instant};

use tokio::net::TcpStream;
use tracing::Instrument;
pub use weir_proto::rtmp::Config;
use weir_proto::rtmp::Event;

use crate::{
    Gateway, deliver, ingest,
    net::{
        STRANGERS,
        rtmp::{Connection, Error},
        tls::TlsAcceptor,
    },
};

/// The label of the protocol in sessions, logs and metrics.
pub const PROTOCOL: &str = "rtmp";

/// Serves one accepted connection to its end, within TLS if there is an acceptor.
pub async fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    config: Arc<Config>,
    gateway: Gateway,
) {
    let connection = match Connection::accept(stream, tls, config, gateway.limits).await {
        Ok(connection) => connection,
        Err(error) => return tracing::debug!(%error, "cannot set up a connection"),
    };
    let span = tracing::info_span!("conn", id = connection.id(), proto = PROTOCOL);
    async {
        match run(connection, gateway).await {
            Ok(()) => {}
            // Players come and go; a publisher that is lost is logged with its stream.
            Err(Error::Socket(error)) => tracing::debug!(reason = %error, "connection lost"),
            Err(error) => {
                if let Some(times) = STRANGERS.lock().count(Instant::now()) {
                    tracing::info!(reason = %error, times, "connection ended");
                }
            }
        }
    }
    .instrument(span)
    .await;
}

async fn run(mut connection: Connection, gateway: Gateway) -> Result<(), Error> {
    let outcome = loop {
        match connection
            .first_event(gateway.limits.handshake_timeout)
            .await
        {
            Ok(Some(Event::Publish(request))) => {
                break ingest::rtmp::run(&mut connection, request, &gateway).await;
            }
            Ok(Some(Event::Play(request))) => {
                break deliver::rtmp::run(&mut connection, request, &gateway).await;
            }
            Ok(Some(Event::Refused { code, reason })) => {
                if let Some(times) = STRANGERS.lock().count(Instant::now()) {
                    tracing::info!(code, reason, times, "refused");
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    connection.close().await;
    outcome
}
