//! Streams going out: one session, one cursor, one socket a viewer.
//!
//! Owns: what each protocol adds for a single viewer (its head, its session, its end). Does not own: the bytes that
//! viewers share ([`crate::derive`]) or anything that comes in.

mod flv;
pub mod hls;
pub mod http_flv;
pub mod rtmp;
pub mod ws_flv;

use axum::{
    Router,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use weir_media::StreamName;

use crate::{Gateway, derive, on_demand::Missing};

/// When to try again on a server that runs as many streams as it may.
const RETRY_AFTER_FULL_S: HeaderValue = HeaderValue::from_static("10");

/// What browsers of other origins may do with media: everything (CONFORMANCE H24, V1).
pub(crate) fn cors() -> HeaderMap {
    const EXPOSED: HeaderValue =
        HeaderValue::from_static("Date, Age, ETag, Content-Length, Content-Range, Accept-Ranges");
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers
}

/// The answer to a CORS preflight: 204, to be remembered for a day.
pub(crate) async fn preflight() -> (StatusCode, HeaderMap, [(HeaderName, HeaderValue); 3]) {
    let allowed = [
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, HEAD, OPTIONS"),
        ),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("Range, If-None-Match"),
        ),
        (
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static("86400"),
        ),
    ];
    (StatusCode::NO_CONTENT, cors(), allowed)
}

/// A refusal in words, never cached.
pub(crate) fn refuse(status: StatusCode, reason: &str) -> Response {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ];
    (status, headers, cors(), format!("{reason}\n")).into_response()
}

/// The answer when there is nothing to play.
pub(crate) fn refuse_missing(missing: Missing) -> Response {
    let status = match missing {
        Missing::NotFound => StatusCode::NOT_FOUND,
        Missing::Full(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = refuse(status, &missing.to_string());
    if matches!(missing, Missing::Full(_)) {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, RETRY_AFTER_FULL_S);
    }
    response
}

/// The media routes, each below every prefix that users know.
pub fn router(gateway: Gateway, outputs: derive::hls::Outputs, viewers: hls::Viewers) -> Router {
    let media = Router::new()
        .route("/live/{name}", get(live).options(preflight))
        .route("/{name}", get(live).options(preflight))
        .with_state(gateway.clone());
    media.merge(hls::router(gateway, outputs, viewers))
}

/// `/live/{name}.flv` and `/{name}.flv`: what the extension says, over HTTP or, when asked for, over a WebSocket.
async fn live(
    State(gateway): State<Gateway>,
    Path(file): Path<String>,
    Query(options): Query<flv::Options>,
    request: Request,
) -> Response {
    match file.strip_suffix(".flv").map(StreamName::parse) {
        Some(Ok(name)) if ws_flv::is_wanted(request.headers()) => {
            ws_flv::respond(gateway, request, name, options).await
        }
        Some(Ok(name)) => http_flv::respond(gateway, request.method().clone(), name, options).await,
        _ => refuse(
            StatusCode::NOT_FOUND,
            "there is nothing here; a stream is at /live/{name}.flv or /live/{name}/index.m3u8",
        ),
    }
}
