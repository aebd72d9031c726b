//! The pages built from `web/`, inside the binary.
//!
//! Owns: `/`, `/player` and `/assets/`. A build without them still serves; the page then says how to make them.

use axum::{
    Router,
    extract::Path,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use rust_embed::{EmbeddedFile, RustEmbed};

/// The page may run its own scripts only, and fetch media from anywhere on this server.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; media-src 'self' blob:; worker-src 'self' blob:; img-src 'self' data:; \
     style-src 'self' 'unsafe-inline'; connect-src 'self'; frame-ancestors *; base-uri 'none'; form-action 'none'",
);
/// The names of assets carry a hash of their content.
const CACHE_ASSET: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const CACHE_PAGE: HeaderValue = HeaderValue::from_static("no-cache");

const NOT_BUILT: &str = "This build of Weir has no web pages. Build them with `make ui` and start it again.\n\
                         Streams play without them, for example at /live/{name}.flv and /live/{name}/index.m3u8.\n";

#[derive(RustEmbed)]
#[folder = "../../web/dist"]
#[allow_missing = true]
struct Files;

/// The routes of the pages.
pub fn router() -> Router {
    Router::new()
        .route("/", get(|| async { Redirect::temporary("/player") }))
        .route("/player", get(|| async { page("player.html") }))
        .route("/assets/{*path}", get(asset))
}

fn page(name: &str) -> Response {
    match Files::get(name) {
        Some(file) => {
            let headers =
                [(header::CACHE_CONTROL, CACHE_PAGE), (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY)];
            (headers, respond(name, file)).into_response()
        }
        None => (StatusCode::NOT_FOUND, NOT_BUILT).into_response(),
    }
}

async fn asset(Path(path): Path<String>) -> Response {
    let name = format!("assets/{path}");
    match Files::get(&name) {
        Some(file) => ([(header::CACHE_CONTROL, CACHE_ASSET)], respond(&name, file)).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn respond(name: &str, file: EmbeddedFile) -> impl IntoResponse + use<> {
    let media_type = match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("json" | "map") => "application/json",
        _ => "application/octet-stream",
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(media_type)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (headers, file.data.into_owned())
}
