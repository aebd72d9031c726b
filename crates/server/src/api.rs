//! The API below `/api/v1`: who is connected, and ending a session.
//!
//! Owns: its routes, who may use them, and how it says no (problem details, RFC 9457).
//! Does not own: the table of sessions ([`weir_hub::Sessions`]), or what each protocol does at the end of one.

use std::{sync::Arc, time::Instant};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, uri::Authority},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get},
};
use serde::Serialize;
use weir_hub::{Hub, KillReason, Role, SessionId, SessionSnapshot};

use crate::config::{ApiToken, Mode};

const PROBLEM_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");
/// Nothing of the API is the same a moment later.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// Names of this machine, where `weir dev` is open.
const LOOPBACK_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Who may use the API.
#[derive(Debug, Clone)]
pub enum Access {
    /// Whoever is on this machine and no web page of elsewhere (FAULTS 1.5).
    Loopback,
    /// Who shows the token.
    Token(ApiToken),
}

impl Access {
    /// What a mode allows.
    #[must_use]
    pub fn new(mode: Mode, token: ApiToken) -> Self {
        match mode {
            Mode::Dev => Self::Loopback,
            Mode::Serve => Self::Token(token),
        }
    }
}

/// The routes.
pub fn router(hub: Arc<Hub>, access: Access) -> Router {
    Router::new()
        .route("/api/v1/sessions", get(sessions))
        .route("/api/v1/sessions/{id}", delete(end))
        .route_layer(middleware::from_fn_with_state(access, guard))
        .with_state(hub)
}

#[derive(Debug, Serialize)]
struct Sessions {
    sessions: Vec<SessionRow>,
}

/// A publisher or viewer. It has no address: none is kept.
#[derive(Debug, Serialize)]
struct SessionRow {
    id: u64,
    role: &'static str,
    protocol: &'static str,
    stream: String,
    seconds: u64,
    bytes: u64,
    skipped: u64,
}

impl SessionRow {
    fn new(session: SessionSnapshot, now: Instant) -> Self {
        Self {
            id: session.id.0,
            role: match session.role {
                Role::Publish => "publisher",
                Role::Play => "viewer",
            },
            protocol: session.protocol,
            stream: session.stream.to_string(),
            seconds: now.saturating_duration_since(session.since).as_secs(),
            bytes: session.bytes,
            skipped: session.skipped,
        }
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error(
        "the API is closed; to open it, set WEIR_AUTH_API_TOKEN, api_token under [auth] of config.toml"
    )]
    Closed,
    #[error(
        "the API needs the header Authorization: Bearer TOKEN with the api_token of this server"
    )]
    Unauthorized,
    #[error("weir dev answers the API at localhost, 127.0.0.1 and [::1] only")]
    ForeignHost,
    #[error("a page of another origin may not use the API")]
    ForeignOrigin,
    #[error("there is no such session; it may have ended")]
    NoSession,
}

#[derive(Debug, Serialize)]
struct Details {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Closed | Self::ForeignHost | Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::NoSession => StatusCode::NOT_FOUND,
        };
        let details = Details {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: self.to_string(),
        };
        let mut response = (status, Json(details)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_TYPE);
        headers.insert(header::CACHE_CONTROL, NO_STORE);
        if self == Self::Unauthorized {
            let scheme = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

async fn sessions(State(hub): State<Arc<Hub>>) -> Response {
    let now = Instant::now();
    let rows = hub.counted_sessions().into_iter();
    let mut sessions: Vec<_> = rows.map(|session| SessionRow::new(session, now)).collect();
    sessions.sort_by_key(|session| session.id);
    let headers = [(header::CACHE_CONTROL, NO_STORE)];
    (headers, Json(Sessions { sessions })).into_response()
}

async fn end(State(hub): State<Arc<Hub>>, Path(id): Path<String>) -> Response {
    let ended = id
        .parse()
        .is_ok_and(|id| hub.sessions().kill(SessionId(id), KillReason::Kicked));
    if ended {
        StatusCode::NO_CONTENT.into_response()
    } else {
        Problem::NoSession.into_response()
    }
}

async fn guard(State(access): State<Access>, request: Request, next: Next) -> Response {
    let allowed = match &access {
        Access::Loopback => check_page(request.method(), request.uri(), request.headers()),
        Access::Token(token) => check_token(token, request.headers()),
    };
    match allowed {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn check_token(token: &ApiToken, headers: &HeaderMap) -> Result<(), Problem> {
    if !token.is_set() {
        return Err(Problem::Closed);
    }
    let shown = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer"));
    match shown {
        Some((_, shown)) if token.allows(shown.trim()) => Ok(()),
        _ => Err(Problem::Unauthorized),
    }
}

/// A page of elsewhere in a browser on this machine can ask us as well. It is known by the host that it had resolved to
/// loopback (DNS rebinding), and, when it would change something, by its origin.
fn check_page(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    // HTTP/2 says the host in the URI.
    let host = uri.authority().cloned();
    let host = host.or_else(|| text(header::HOST)?.parse::<Authority>().ok());
    let Some(host) = host.filter(|host| LOOPBACK_HOSTS.contains(&host.host())) else {
        return Err(Problem::ForeignHost);
    };
    let is_foreign = headers.contains_key(header::ORIGIN)
        && text(header::ORIGIN)
            .and_then(|origin| origin.split_once("://"))
            .is_none_or(|(_, origin)| origin != host.as_str());
    if is_foreign && !method.is_safe() {
        return Err(Problem::ForeignOrigin);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use weir_hub::{Limits, Retention, Session};
    use weir_media::StreamName;

    use super::*;
    use crate::{
        ask::{Answer, ask},
        config::{Sources, load},
    };

    const TOKEN: &str = "marker-token-4711";
    type Given<'a> = &'a [(&'a str, &'a str)];

    #[tokio::test]
    async fn in_dev_only_this_machine_and_its_pages_may_ask() {
        let hub = hub();
        let _viewer = viewer(&hub);
        for (method, given, expected) in [
            ("GET", &[("host", "localhost:8080")][..], 200),
            ("GET", &[("host", "127.0.0.1")], 200),
            ("GET", &[("host", "[::1]:8080")], 200),
            ("GET", &[("host", "evil.example:8080")], 403),
            ("GET", &[("host", "localhost.evil.example")], 403),
            ("GET", &[], 403),
            (
                "GET",
                &[("host", "localhost"), ("origin", "http://evil.example")],
                200,
            ),
            ("DELETE", &[("host", "evil.example")], 403),
            (
                "DELETE",
                &[("host", "localhost"), ("origin", "http://evil.example")],
                403,
            ),
            ("DELETE", &[("host", "localhost"), ("origin", "null")], 403),
            (
                "DELETE",
                &[("host", "localhost:1"), ("origin", "http://localhost:2")],
                403,
            ),
            (
                "DELETE",
                &[("host", "localhost:1"), ("origin", "http://localhost:1")],
                204,
            ),
        ] {
            let answer = request(&hub, Access::Loopback, method, given).await;
            assert_eq!(answer.status, expected, "{method} {given:?}");
            assert_eq!(answer.header(header::ACCESS_CONTROL_ALLOW_ORIGIN), "");
        }
    }

    #[tokio::test]
    async fn elsewhere_the_token_opens() {
        let hub = hub();
        let _viewer = viewer(&hub);
        let bearer = format!("Bearer {TOKEN}");
        for (token, authorization, expected) in [
            ("", None, 403),
            ("", Some("Bearer "), 403),
            ("", Some(bearer.as_str()), 403),
            (TOKEN, None, 401),
            (TOKEN, Some("Bearer "), 401),
            (TOKEN, Some("Bearer marker-token-4712"), 401),
            (TOKEN, Some("Basic marker-token-4711"), 401),
            (TOKEN, Some(TOKEN), 401),
            (TOKEN, Some(bearer.as_str()), 204),
            (TOKEN, Some("bearer marker-token-4711"), 204),
        ] {
            let given: Vec<_> = authorization
                .map(|value| ("authorization", value))
                .into_iter()
                .collect();
            let access = Access::new(Mode::Serve, api_token(token));
            let answer = request(&hub, access, "DELETE", &given).await;
            assert_eq!(answer.status, expected, "{token} {authorization:?}");
            if expected != 204 {
                assert_eq!(
                    answer.header(header::CONTENT_TYPE),
                    "application/problem+json"
                );
                assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
                let details: serde_json::Value = serde_json::from_str(&answer.text).expect("JSON");
                assert_eq!(details["status"], expected);
                assert!(
                    details["detail"]
                        .as_str()
                        .is_some_and(|detail| detail.contains("api_token"))
                );
                assert!(!answer.text.contains("marker"), "{}", answer.text);
            }
            let asks = answer.header(header::WWW_AUTHENTICATE);
            assert_eq!(asks == "Bearer", expected == 401);
        }
    }

    #[tokio::test]
    async fn a_session_is_listed_and_ended_once_it_is_there() {
        let hub = hub();
        let viewer = viewer(&hub);
        let host = [("host", "localhost")];
        let answer = request(&hub, Access::Loopback, "DELETE", &host).await;
        assert_eq!(answer.status, 204);
        assert!(viewer.is_killed());
        drop(viewer);
        let answer = request(&hub, Access::Loopback, "DELETE", &host).await;
        assert_eq!(answer.status, 404);
        let routes = router(Arc::clone(&hub), Access::Loopback);
        for id in ["x", "-1", "99999999999999999999999", "%00", "1.0"] {
            let builder = axum::http::Request::delete(format!("/api/v1/sessions/{id}"));
            let answer = ask(&routes, builder.header("host", "localhost")).await;
            assert_eq!(answer.status, 404, "{id}");
        }
    }

    /// `GET` of all sessions, or `DELETE` of the first.
    async fn request(hub: &Arc<Hub>, access: Access, method: &str, given: Given<'_>) -> Answer {
        let routes = router(Arc::clone(hub), access);
        let path = if method == "GET" {
            "/api/v1/sessions"
        } else {
            "/api/v1/sessions/0"
        };
        let mut builder = axum::http::Request::builder().method(method).uri(path);
        for (name, value) in given {
            builder = builder.header(*name, *value);
        }
        ask(&routes, builder).await
    }

    fn viewer(hub: &Hub) -> Session {
        let name = StreamName::parse("room").expect("a valid name");
        hub.sessions()
            .open(Role::Play, "rtmp", name, Instant::now())
    }

    fn hub() -> Arc<Hub> {
        Hub::new(Limits {
            streams_max: 1,
            publisher_grace: std::time::Duration::ZERO,
            gop_cache: Retention {
                groups_max: 1,
                floor_ms: 1_000,
                span_ms_max: 1_000,
                bytes_max: 1 << 20,
            },
        })
    }

    fn api_token(text: &str) -> ApiToken {
        let sources = Sources {
            environment: [("WEIR_AUTH_API_TOKEN".to_owned(), text.to_owned())].into(),
            ..Sources::default()
        };
        load(Mode::Serve, &sources)
            .expect("valid")
            .config
            .auth
            .api_token
    }
}
