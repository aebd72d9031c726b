//! The pages built from `web/`, inside the binary.
//!
//! Owns: `/`, `/player` and `/assets/`. A build without them still serves; the page then says how to make them.

use std::borrow::Cow;

use axum::{
    Router,
    extract::Path,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use rust_embed::RustEmbed;

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
        .route(
            "/player",
            get(|| async { page("player.html", content("player.html")) }),
        )
        .route("/assets/{*path}", get(asset))
}

/// A file of the build.
fn content(name: &str) -> Option<Cow<'static, [u8]>> {
    // A debug build reads the folder itself, where `..` leads elsewhere.
    let plain = !name.contains("..") && !name.contains('\\');
    plain
        .then(|| Files::get(name).map(|file| file.data))
        .flatten()
}

fn page(name: &str, content: Option<Cow<'static, [u8]>>) -> Response {
    match content {
        Some(content) => {
            let headers = [
                (header::CACHE_CONTROL, CACHE_PAGE),
                (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
            ];
            (headers, respond(name, content)).into_response()
        }
        None => (StatusCode::NOT_FOUND, NOT_BUILT).into_response(),
    }
}

async fn asset(Path(path): Path<String>) -> Response {
    // Asset names are flat. A debug build reads them from the folder, where a path could lead out of it.
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if !path.bytes().all(is_name) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let name = format!("assets/{path}");
    match content(&name) {
        Some(content) => (
            [(header::CACHE_CONTROL, CACHE_ASSET)],
            respond(&name, content),
        )
            .into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn respond(name: &str, content: Cow<'static, [u8]>) -> impl IntoResponse + use<> {
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
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
    ];
    (headers, content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::get;

    #[tokio::test]
    async fn the_root_leads_to_the_player() {
        let answer = get(&router(), "/").await;
        assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
        assert_eq!(answer.header(header::LOCATION), "/player");
    }

    #[test]
    fn a_page_runs_only_its_own_scripts() {
        let answer = page("player.html", Some(Cow::Borrowed(b"<p>")));
        assert_eq!(answer.status(), StatusCode::OK);
        for (name, expected) in [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::CACHE_CONTROL, "no-cache"),
        ] {
            assert_eq!(answer.headers()[&name], expected, "{name}");
        }
        let policy = answer.headers()[header::CONTENT_SECURITY_POLICY]
            .to_str()
            .expect("ASCII");
        let directives: Vec<_> = policy.split("; ").collect();
        for directive in [
            "default-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
        ] {
            assert!(directives.contains(&directive), "{policy}");
        }
        let scripts = |directive: &&str| directive.starts_with("script-src");
        assert!(
            !directives.iter().any(scripts),
            "scripts fall back to default-src: {policy}"
        );
        assert!(!policy.contains("unsafe-eval"), "{policy}");
    }

    #[test]
    fn a_build_without_pages_says_how_to_make_them() {
        let answer = page("player.html", None);
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        assert_eq!(
            answer.headers()[header::CONTENT_TYPE],
            "text/plain; charset=utf-8"
        );
    }

    #[tokio::test]
    async fn assets_are_files_of_the_build_and_nothing_else() {
        for path in [
            "/assets/missing.js",
            "/assets/",
            "/assets/.",
            "/assets/../player.html",
            "/assets/%2e%2e/player.html",
            "/assets/..%2fplayer.html",
            "/assets/..%5cplayer.html",
            "/assets/../../../Cargo.toml",
            "/assets/%2e%2e%2f%2e%2e%2f%2e%2e%2fCargo.toml",
            "/assets//etc/passwd",
            "/assets/%2fetc%2fpasswd",
            "/assets/player.html%00.js",
        ] {
            assert_eq!(
                get(&router(), path).await.status,
                StatusCode::NOT_FOUND,
                "{path}"
            );
        }
    }
}
