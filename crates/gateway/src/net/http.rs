//! HTTP connections: hyper under our own accept loop.
//!
//! Owns: the limits of a request's head and the time it may take (FAULTS 1.9, R2), keep-alive, draining, and telling
//! handlers their peer.
//! Does not own: routes; they come as one [`axum::Router`].

use std::{convert::Infallible, pin::pin, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    Limits,
    net::{Socket, client::Peer, tasks::Tasks},
};

/// Longest request head in bytes.
const HEAD_LEN_MAX: usize = 16 << 10;
/// Most header fields of a request.
const HEADERS_MAX: usize = 100;
/// Longest request target in bytes.
const URI_LEN_MAX: usize = 4 << 10;

/// Adds what holds for every route: the limit on the request target, and that bodies are what their type says.
pub fn with_limits(router: Router) -> Router {
    router
        .layer(middleware::from_fn(refuse_long_targets))
        .layer(middleware::map_response(forbid_sniffing))
}

/// Serves one connection until it ends, idles too long, or the process closes.
pub async fn serve(stream: TcpStream, router: Router, limits: Limits, tasks: Tasks) {
    let peer = match stream.peer_addr() {
        Ok(peer) => Peer(peer.ip()),
        Err(error) => return tracing::debug!(%error, "the peer is gone"),
    };
    let socket = match Socket::new(stream, limits.write_stall_timeout) {
        Ok(socket) => socket,
        Err(error) => return tracing::debug!(%error, "cannot set up a connection"),
    };
    let (open, mut released) = mpsc::channel(1);
    let (held, asked) = (Held { _open: open }, CancellationToken::new());
    let (routes, first_asked) = (TowerToHyperService::new(router), asked.clone());
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        first_asked.cancel();
        request.extensions_mut().insert(held.clone());
        request.extensions_mut().insert(peer);
        routes.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.keep_alive_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_LEN_MAX)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let served = async {
        let mut connection = pin!(connection);
        tokio::select! {
            served = connection.as_mut() => served,
            () = tasks.closing().cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = overdue(&asked, limits.handshake_timeout) => {
                tracing::debug!("connection ended: no request in time");
                Ok(())
            }
        }
    };
    if let Err(error) = served.await {
        tracing::debug!(%error, "connection ended early");
    }
    // Ends when an upgraded connection has let go as well.
    let _ = released.recv().await;
}

/// Held by whoever uses a connection after an upgrade: the connection counts until it is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    _open: mpsc::Sender<Infallible>,
}

/// Ends when the first request has not come in time. Between requests hyper's own timer runs, from the end of one to
/// the end of the next head: it cannot tell a rest from a slow head, and the two cost the same.
async fn overdue(asked: &CancellationToken, limit: Duration) {
    if tokio::time::timeout(limit, asked.cancelled()).await.is_ok() {
        std::future::pending().await
    }
}

async fn refuse_long_targets(request: Request, next: Next) -> Response {
    let target_len = request
        .uri()
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    if target_len > URI_LEN_MAX {
        return StatusCode::URI_TOO_LONG.into_response();
    }
    next.run(request).await
}

async fn forbid_sniffing(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}
