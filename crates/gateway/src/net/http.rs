//! HTTP connections, versions 1.1 and 2: hyper under our own accept loop.
//!
//! Owns: the limits of a request's head and the time it may take (FAULTS 1.9, R2), keep-alive, draining, and telling
//! handlers their peer.
//! Does not own: routes; they come as one [`axum::Router`].

mod handover;

use std::{
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt as _;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpStream, sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

pub(crate) use handover::Handover;
use handover::Slot;

use crate::{
    Limits,
    net::{Socket, client::Peer, tasks::Tasks, tls::TlsAcceptor},
};

/// Longest request head in bytes.
const HEAD_LEN_MAX: usize = 16 << 10;
/// Most header fields of a request.
const HEADERS_MAX: usize = 100;
/// Longest request target in bytes.
const URI_LEN_MAX: usize = 4 << 10;
/// Requests of one HTTP/2 connection at once: a player needs a handful.
const STREAMS_MAX: u32 = 128;
/// Requests of one HTTP/2 connection that its client has taken back and that we have not seen yet, and requests that we
/// had to end because they broke the protocol: beyond, the connection is closed (CVE-2023-44487, CVE-2024-2758).
const RESETS_MAX: usize = 20;
/// Bytes of an answer that wait in an HTTP/2 connection beyond what its client has room for.
const SEND_LEN_MAX: usize = 64 << 10;
/// What a connection hears that cannot be served.
pub const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nContent-Length: 0\r\n\
    Cache-Control: no-store\r\nConnection: close\r\n\r\n";
/// How long an idle HTTP/2 connection may take to close in order.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves one connection until it ends, idles too long, or the process closes. With an acceptor, TLS comes first, and
/// client and server agree there on HTTP/1.1 or HTTP/2.
pub async fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
    tasks: Tasks,
) {
    let peer = match stream.peer_addr() {
        Ok(peer) => Peer(peer.ip()),
        Err(error) => return tracing::debug!(%error, "the peer is gone"),
    };
    let socket = match Socket::accept(stream, tls, limits.write_stall_timeout).await {
        Ok(socket) => socket,
        Err(error) => return tracing::debug!(%error, "cannot set up a connection"),
    };
    // Boxed, so that a connection has room for one of them.
    let served = if socket.is_http_2() {
        Box::pin(serve_http_2(socket, peer, router, limits, tasks)).await
    } else {
        Box::pin(serve_http_1(socket, peer, router, limits, tasks)).await
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection ended early");
    }
}

async fn serve_http_1(
    mut socket: Socket,
    peer: Peer,
    router: Router,
    limits: Limits,
    tasks: Tasks,
) -> hyper::Result<()> {
    let outbox = socket.outbox();
    let (slot, asked) = (Slot::default(), CancellationToken::new());
    let routes = TowerToHyperService::new(router);
    let (first_asked, taken) = (asked.clone(), slot.clone());
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        first_asked.cancel();
        if let Some(outbox) = &outbox {
            request.extensions_mut().insert(outbox.clone());
        }
        let (answer, taken) = (answer(&routes, peer, request), taken.clone());
        async move {
            match taken.keep(answer.await?) {
                Some(answer) => Ok::<_, Infallible>(answer),
                // Nothing more is said here: the connection goes to the answer.
                None => std::future::pending().await,
            }
        }
    });
    let deadline = socket.opened() + limits.handshake_timeout;
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.keep_alive_timeout)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_LEN_MAX)
        .serve_connection(TokioIo::new(socket), service);
    let served = tokio::select! {
        served = until_taken(&mut connection, &slot) => served,
        () = tasks.closing().cancelled() => {
            Pin::new(&mut connection).graceful_shutdown();
            until_taken(&mut connection, &slot).await
        }
        () = overdue(&asked, deadline) => {
            tracing::debug!("connection ended: no request in time");
            Some(Ok(()))
        }
    };
    if let Some(served) = served {
        return served;
    }
    let parts = connection.into_parts();
    if let Err(error) = slot.hand_over(parts.io.into_inner(), parts.read_buf).await {
        tracing::debug!(%error, "viewer ended");
    }
    Ok(())
}

/// Serves until the connection ends, or until an answer takes it over: then none.
async fn until_taken<C: Future + Unpin>(connection: &mut C, slot: &Slot) -> Option<C::Output> {
    std::future::poll_fn(|cx| match Pin::new(&mut *connection).poll(cx) {
        Poll::Pending if slot.is_taken() => Poll::Ready(None),
        served => served.map(Some),
    })
    .await
}

async fn serve_http_2(
    socket: Socket,
    peer: Peer,
    router: Router,
    limits: Limits,
    tasks: Tasks,
) -> hyper::Result<()> {
    let requests = watch::Sender::new(0);
    let busy = requests.subscribe();
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |request| {
        let open = OpenRequest::new(&requests);
        let answer = answer(&routes, peer, request);
        async move {
            let answer = answer.await?;
            let keep_open = move |frame| {
                let _open = &open;
                frame
            };
            Ok::<_, Infallible>(answer.map(|body| Body::new(body.map_frame(keep_open))))
        }
    });
    let deadline = socket.opened() + limits.handshake_timeout;
    let connection = http2::Builder::new(tasks.clone())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_LEN_MAX as u32)
        .max_send_buf_size(SEND_LEN_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(RESETS_MAX)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = pin!(connection);
    tokio::select! {
        served = connection.as_mut() => served,
        () = tasks.closing().cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = idle(busy, deadline, limits.keep_alive_timeout) => {
            tracing::debug!("connection ended: no request in time");
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(CLOSE_TIMEOUT, connection).await.unwrap_or(Ok(()))
        }
    }
}

/// A request of an HTTP/2 connection, until the last byte of its answer.
struct OpenRequest(watch::Sender<usize>);

impl OpenRequest {
    fn new(requests: &watch::Sender<usize>) -> Self {
        requests.send_modify(|open| *open += 1);
        Self(requests.clone())
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

/// Ends when no request has come until `first`, or none for `limit` since the last one ended.
async fn idle(mut busy: watch::Receiver<usize>, first: Instant, limit: Duration) {
    let mut deadline = first;
    while tokio::time::timeout_at(deadline, busy.changed())
        .await
        .is_ok()
    {
        // Neither this nor `changed` fails: the service holds the sender as long as its connection lives.
        let _ = busy.wait_for(|open| *open == 0).await;
        deadline = Instant::now() + limit;
    }
}

/// Ends when the first request has not come in time. Between requests hyper's own timer runs, from the end of one to
/// the end of the next head: it cannot tell a rest from a slow head, and the two cost the same.
async fn overdue(asked: &CancellationToken, deadline: Instant) {
    if tokio::time::timeout_at(deadline, asked.cancelled())
        .await
        .is_ok()
    {
        std::future::pending().await
    }
}

/// The answer to a request, with what holds for every route: the limit on the request target, and that bodies are what
/// their type says. Not layers of the router: each of them would cost a request two allocations and a copy of the routes.
fn answer(
    routes: &TowerToHyperService<Router>,
    peer: Peer,
    mut request: hyper::Request<Incoming>,
) -> impl Future<Output = Result<Response, Infallible>> + use<> {
    request.extensions_mut().insert(peer);
    let target = request.uri().path_and_query();
    let is_long = target.is_some_and(|target| target.as_str().len() > URI_LEN_MAX);
    let asked = (!is_long).then(|| routes.call(request));
    async move {
        let mut answer = match asked {
            Some(asked) => asked.await?,
            None => StatusCode::URI_TOO_LONG.into_response(),
        };
        answer.headers_mut().insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        Ok(answer)
    }
}
