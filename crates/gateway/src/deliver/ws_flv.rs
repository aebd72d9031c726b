//! WS-FLV: HTTP-FLV as binary WebSocket messages, on the same URLs.
//!
//! Owns: the upgrade, and one connection after it. Does not own: frames of the protocol ([`weir_proto::websocket`]) or
//! what they carry: the same shared bytes as HTTP-FLV, each behind a header of a few bytes.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_media::StreamName;
use weir_proto::websocket::{self, CloseCode, Reader, Received};

use super::{
    refuse,
    viewer::{Container, Viewer},
};
use crate::{
    Gateway,
    net::{Burst, http::Held},
};

/// The label of the protocol in sessions, logs and metrics.
pub const PROTOCOL: &str = "ws-flv";

/// What one read asks the socket for; a player says next to nothing.
const READ_LEN: usize = 1 << 10;

/// Whether a request asks for a WebSocket (RFC 6455, section 4.2.1).
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let names = |name, token: &str| {
        let values = headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(token))
    };
    names(header::CONNECTION, "upgrade") && names(header::UPGRADE, "websocket")
}

/// Answers an upgrade on `{name}.flv`.
pub(super) async fn respond(
    gateway: Gateway,
    mut request: Request,
    name: StreamName,
    container: Container,
) -> Response {
    let headers = request.headers();
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        let mut response = refuse(
            StatusCode::UPGRADE_REQUIRED,
            "only version 13 of WebSocket is spoken here",
        );
        response.headers_mut().insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
        return response;
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .and_then(|key| key.to_str().ok());
    let accept = key
        .and_then(websocket::accept_key)
        .and_then(|accept| HeaderValue::try_from(accept).ok());
    let Some(accept) = accept else {
        return refuse(
            StatusCode::BAD_REQUEST,
            "the Sec-WebSocket-Key is missing or malformed",
        );
    };
    let viewer = match Viewer::join(&gateway, PROTOCOL, name, container).await {
        Ok(viewer) => viewer,
        Err(refusal) => return refusal,
    };
    // Keeps the place that this connection takes among all connections.
    let held = request.extensions().get::<Held>().cloned();
    let upgrade = hyper::upgrade::on(&mut request);
    gateway.tasks.spawn(async move {
        let _held = held;
        if let Ok(upgraded) = upgrade.await
            && let Err(error) = run(TokioIo::new(upgraded), viewer).await
        {
            tracing::debug!(%error, "viewer ended");
        }
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// Writes the stream as messages until either side ends it.
async fn run<S>(mut socket: S, mut viewer: Viewer) -> std::io::Result<()>
where
    S: AsyncReadExt + AsyncWriteExt + Unpin,
{
    let (mut reader, mut received) = (Reader::default(), Vec::new());
    let mut input = [0; READ_LEN];
    loop {
        let mut burst = Burst::default();
        let mut close = None;
        tokio::select! {
            more = viewer.fill() => {
                for bytes in viewer.ready.drain(..) {
                    burst.push(websocket::binary_header(bytes.len()));
                    burst.push(bytes);
                }
                close = (!more).then_some(CloseCode::Normal);
            }
            read = socket.read(&mut input) => {
                let len = read?;
                if len == 0 {
                    return Ok(());
                }
                if let Err(error) = reader.read(input.get(..len).unwrap_or_default(), &mut received) {
                    close = Some(error.close_code());
                }
                for received in received.drain(..) {
                    match received {
                        Received::Ping(payload) => burst.push(websocket::pong(&payload)),
                        Received::Close => close = Some(CloseCode::Normal),
                    }
                }
            }
        }
        if let Some(code) = close {
            burst.push(websocket::close(code));
        }
        socket.write_all_buf(&mut burst).await?;
        socket.flush().await?;
        if close.is_some() {
            return socket.shutdown().await;
        }
    }
}
