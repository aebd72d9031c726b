//! Asking a router without a socket, for tests.

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, HeaderName, Request, StatusCode},
};
use tower::ServiceExt as _;

/// Longest answer that a test reads, in bytes.
const ANSWER_LEN_MAX: usize = 4 << 20;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// A header, or nothing.
    pub(crate) fn header(&self, name: HeaderName) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("ASCII"))
    }
}

/// `GET` of a path.
pub(crate) async fn get(router: &Router, path: &str) -> Answer {
    ask(router, Request::get(path)).await
}

/// Any request without a body.
pub(crate) async fn ask(router: &Router, request: axum::http::request::Builder) -> Answer {
    let request = request.body(Body::empty()).expect("a valid request");
    let response = router
        .clone()
        .oneshot(request)
        .await
        .expect("a router answers");
    let (head, body) = response.into_parts();
    let body = to_bytes(body, ANSWER_LEN_MAX).await.expect("the body ends");
    let text = String::from_utf8(body.to_vec()).expect("UTF-8");
    Answer {
        status: head.status,
        headers: head.headers,
        text,
    }
}
