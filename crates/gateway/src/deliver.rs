//! Streams going out: one session, one cursor, one socket a viewer.
//!
//! Owns: what each protocol adds for a single viewer (its head, its session, its end). Does not own: the bytes that
//! viewers share ([`crate::derive`]) or anything that comes in.

mod conditions;
pub mod dash;
pub mod hls;
pub mod progressive;
pub mod relay;
pub mod rtmp;
mod viewer;
pub mod ws_flv;

use std::sync::Arc;

use axum::{
    Router,
    extract::{FromRequest as _, Path, Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use weir_media::StreamName;

use crate::{Gateway, on_demand::Missing};
use hls::Asker;
use viewer::Container;

/// When to try again on a server that runs as many streams as it may.
const RETRY_AFTER_FULL_S: HeaderValue = HeaderValue::from_static("10");

/// What browsers of other origins may do with media: everything (CONFORMANCE H24, V1).
pub(crate) fn cors() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(2);
    insert_cors(&mut headers);
    headers
}

/// As [`cors`], into the headers of an answer.
fn insert_cors(headers: &mut HeaderMap) {
    const EXPOSED: HeaderValue =
        HeaderValue::from_static("Date, Age, ETag, Content-Length, Content-Range, Accept-Ranges");
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
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
            HeaderValue::from_static("Range, If-Range, If-Match, If-None-Match"),
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
pub fn router(context: hls::Context) -> Router {
    let bare = Router::new()
        .route("/{name}", get(live).options(preflight))
        .with_state(context.gateway.clone());
    let below_live = Router::new()
        .route("/live/{name}", get(live_or_playlist).options(preflight))
        .with_state(Arc::new(context.clone()));
    bare.merge(below_live)
        .merge(dash::clock())
        .merge(hls::router(context))
}

/// The media routes for a CDN: only what may be cached and shared, without sessions and redirects (CONTRACT 1.6, 1.7).
pub fn cdn_router(context: hls::Context) -> Router {
    hls::cdn_router(context.for_cdn()).merge(dash::clock())
}

/// What a viewer of FLV may ask for.
#[derive(Debug, Default, Deserialize)]
struct LiveOptions {
    /// `?anchor=1`: see [`Container::Flv`].
    anchor: Option<String>,
}

/// `/live/{name}.m3u8`, `/live/{name}.mpd`, and what [`live`] answers.
async fn live_or_playlist(
    State(context): State<Arc<hls::Context>>,
    Path(file): Path<String>,
    options: Query<LiveOptions>,
    request: Request,
) -> Response {
    let (name, protocol, target) = match file.rsplit_once('.') {
        Some((name, "m3u8")) => (name, hls::PROTOCOL, "index.m3u8"),
        Some((name, "mpd")) => (name, dash::PROTOCOL, "manifest.mpd"),
        _ => return live(State(context.gateway.clone()), Path(file), options, request).await,
    };
    match Asker::from_request(request, &()).await {
        Ok(asker) => {
            let redirected = hls::redirect(&context, protocol, name, target, asker);
            redirected.await.into_response()
        }
        Err(refused) => refused.into_response(),
    }
}

/// `/live/{name}.flv`, `/live/{name}.ts` and both without `/live`: what the extension says. FLV goes over a WebSocket
/// when one is asked for.
async fn live(
    State(gateway): State<Gateway>,
    Path(file): Path<String>,
    Query(options): Query<LiveOptions>,
    request: Request,
) -> Response {
    let flv = Container::Flv {
        with_anchor: options.anchor.as_deref() == Some("1"),
    };
    let (name, container) = match file.rsplit_once('.') {
        Some((name, "flv")) => (StreamName::parse(name), flv),
        Some((name, "ts")) => (StreamName::parse(name), Container::Ts),
        _ => return nothing_here(),
    };
    let Ok(name) = name else {
        return nothing_here();
    };
    if container == flv && ws_flv::is_wanted(request.headers()) {
        return ws_flv::respond(gateway, request, name, container).await;
    }
    progressive::respond(gateway, request.method().clone(), name, container).await
}

fn nothing_here() -> Response {
    refuse(
        StatusCode::NOT_FOUND,
        "there is nothing here; a stream is at /live/{name}.flv, /live/{name}.ts or /live/{name}/index.m3u8",
    )
}
