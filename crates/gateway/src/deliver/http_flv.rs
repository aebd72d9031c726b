//! HTTP-FLV: one endless response per viewer (CONFORMANCE section 5).
//!
//! Owns: `/live/{name}.flv` and `/{name}.flv`.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use axum::{
    body::Body,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body::Frame;
use serde::Deserialize;
use weir_hub::{Cursor, Role, Session};
use weir_media::StreamName;
use weir_package::flv;

use super::cors;
use crate::{
    Gateway,
    derive::{Format, Head, Shared},
};

/// The label of the protocol in sessions, logs and metrics.
pub const PROTOCOL: &str = "http-flv";

/// What a viewer may ask for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Options {
    /// `?anchor=1`: say which wall time timestamps had, so that the player can measure its latency.
    anchor: Option<String>,
}

/// Answers a request for `{name}.flv`: the stream from its newest key frame on, for as long as it runs.
pub(super) async fn respond(gateway: Gateway, method: Method, name: StreamName, options: Options) -> Response {
    let decision = gateway.requests.ask(Role::Play, PROTOCOL, name, None).await;
    let stream = match decision.map(|grant| gateway.hub.get(&grant.name)) {
        Ok(Some(stream)) => stream,
        Ok(None) => return super::refuse(StatusCode::NOT_FOUND, &weir_hub::Refusal::NotFound.to_string()),
        Err(refusal) => return super::refuse(StatusCode::FORBIDDEN, &refusal.to_string()),
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(flv::MEDIA_TYPE)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    if method == Method::HEAD {
        return (headers, cors()).into_response();
    }
    let limits = gateway.limits;
    let cursor = gateway.derived.join(&stream, Format::Flv, limits.join, limits.viewer_lag, &gateway.tasks);
    let session = gateway.hub.sessions().open(Role::Play, PROTOCOL, stream.name().clone(), Instant::now());
    let viewer = Viewer { cursor, session, head: Head::default(), with_anchor: options.anchor.as_deref() == Some("1") };
    (headers, cors(), Body::new(Tags::new(viewer))).into_response()
}

/// The body of a response: shared bytes as they come.
struct Tags {
    reading: Reading,
    ready: VecDeque<Bytes>,
}

/// A read that waits, together with everything it needs.
type Reading = Pin<Box<dyn Future<Output = Option<(Viewer, Vec<Bytes>)>> + Send>>;

struct Viewer {
    cursor: Cursor<Shared>,
    session: Session,
    head: Head,
    with_anchor: bool,
}

impl Tags {
    fn new(viewer: Viewer) -> Self {
        Self { reading: Box::pin(viewer.read()), ready: VecDeque::new() }
    }
}

impl Viewer {
    /// Waits for the next bytes; `None` at the end of the stream or of the session.
    async fn read(mut self) -> Option<(Self, Vec<Bytes>)> {
        let mut ready = Vec::new();
        let skipped = tokio::select! {
            skipped = self.cursor.next(&mut ready) => skipped?,
            _ = self.session.killed() => return None,
        };
        self.session.add_skipped(skipped);
        let with_anchor = self.with_anchor;
        let burst = self.head.before_each(ready.into_iter(), |first, joins| {
            flv::head_tags(&first.epoch, first.at_ms, joins, with_anchor)
        });
        self.session.add_bytes(burst.iter().map(|bytes| bytes.len() as u64).sum());
        Some((self, burst))
    }
}

impl http_body::Body for Tags {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ready.is_empty() {
            let Some((viewer, burst)) = std::task::ready!(self.reading.as_mut().poll(cx)) else {
                return Poll::Ready(None);
            };
            self.ready = burst.into();
            self.reading = Box::pin(viewer.read());
        }
        Poll::Ready(self.ready.pop_front().map(|bytes| Ok(Frame::data(bytes))))
    }
}
