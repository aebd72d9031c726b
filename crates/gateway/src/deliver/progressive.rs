//! Endless HTTP responses: HTTP-FLV (CONFORMANCE section 5) and HTTP-TS.
//!
//! Owns: the answers to `/live/{name}.flv`, `/{name}.flv`, `/live/{name}.ts` and `/{name}.ts`. An upgrade on the FLV
//! URLs is [`super::ws_flv`].

use axum::{
    body::Body,
    http::{HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use weir_media::StreamName;
use weir_package::{flv, ts};

use super::{
    cors,
    viewer::{Container, Endless, Viewer},
};
use crate::Gateway;

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
    (headers, cors(), Body::new(Endless::new(viewer))).into_response()
}
