//! Endless HTTP responses: HTTP-FLV (CONFORMANCE section 5) and HTTP-TS.
//!
//! Owns: the answers to `/live/{name}.flv`, `/{name}.flv`, `/live/{name}.ts` and `/{name}.ts`. An upgrade on the FLV
//! URLs is [`super::ws_flv`].

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    http::{HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt as _;
use weir_media::StreamName;
use weir_package::{flv, ts};

use super::{
    cors,
    viewer::{Container, Endless, Heard, Peer, Viewer},
};
use crate::{
    Gateway,
    derive::Framing,
    net::{Socket, http::Handover},
};

/// The label of HTTP-FLV in sessions, logs and metrics.
pub const FLV: &str = "http-flv";
/// The label of HTTP-TS in sessions, logs and metrics.
pub const TS: &str = "http-ts";

/// Answers with the stream from its newest key frame on, for as long as it runs.
pub(super) async fn respond(
    gateway: Gateway,
    method: Method,
    name: StreamName,
    container: Container,
) -> Response {
    let (protocol, media_type) = match container {
        Container::Flv { .. } => (FLV, flv::MEDIA_TYPE),
        Container::Ts => (TS, ts::MEDIA_TYPE),
    };
    let viewer = match Viewer::join(&gateway, protocol, name, container).await {
        Ok(viewer) => viewer,
        Err(refusal) => return refusal,
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    if method == Method::HEAD {
        return (headers, cors()).into_response();
    }
    let viewer = Arc::new(Mutex::new(Some(viewer)));
    let (taken, body) = (Arc::clone(&viewer), Endless::new(viewer));
    let handover = Handover::new(move |socket, _| async move {
        let viewer = taken.lock().take();
        match viewer {
            Some(viewer) => viewer.watch(socket, Silent).await,
            None => Ok(()),
        }
    });
    (headers, cors(), Extension(handover), Body::new(body)).into_response()
}

/// A client of HTTP that has sent its request. What it sends behind it is nobody's.
struct Silent;

impl Peer for Silent {
    const FRAMING: Framing = Framing::Bare;

    async fn listen(&mut self, socket: &mut Socket) -> Heard {
        let mut unheard = [0; 64];
        while !matches!(socket.read(&mut unheard).await, Ok(0) | Err(_)) {}
        Heard::Gone
    }

    fn farewell(&self) -> Bytes {
        Bytes::new()
    }
}
