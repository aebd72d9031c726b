//! HTTP-FLV: one endless response per viewer (CONFORMANCE section 5).
//!
//! Owns: `/live/{name}.flv` and `/{name}.flv`.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
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
use tokio_util::sync::ReusableBoxFuture;
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
pub(super) async fn respond(
    gateway: Gateway,
    method: Method,
    name: StreamName,
    options: Options,
) -> Response {
    let decision = gateway.requests.ask(Role::Play, PROTOCOL, name, None).await;
    let stream = match decision.map(|grant| gateway.hub.get(&grant.name)) {
        Ok(Some(stream)) => stream,
        Ok(None) => {
            return super::refuse(
                StatusCode::NOT_FOUND,
                &weir_hub::Refusal::NotFound.to_string(),
            );
        }
        Err(refusal) => return super::refuse(StatusCode::FORBIDDEN, &refusal.to_string()),
    };
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static(flv::MEDIA_TYPE),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    if method == Method::HEAD {
        return (headers, cors()).into_response();
    }
    let limits = gateway.limits;
    let cursor = gateway.derived.join(
        &stream,
        Format::Flv,
        limits.join,
        limits.viewer_lag,
        &gateway.tasks,
    );
    let session =
        gateway
            .hub
            .sessions()
            .open(Role::Play, PROTOCOL, stream.name().clone(), Instant::now());
    let viewer = Viewer {
        cursor,
        session,
        head: Head::default(),
        with_anchor: options.anchor.as_deref() == Some("1"),
        read: Vec::new(),
        ready: VecDeque::new(),
    };
    (headers, cors(), Body::new(Tags::new(viewer))).into_response()
}

/// The body of a response: shared bytes as they come.
struct Tags {
    /// The read that waits; its allocation is used again for the next one.
    reading: ReusableBoxFuture<'static, Option<Viewer>>,
    /// The viewer while it has bytes to write.
    viewer: Option<Viewer>,
}

struct Viewer {
    cursor: Cursor<Shared>,
    session: Session,
    head: Head,
    with_anchor: bool,
    read: Vec<Shared>,
    ready: VecDeque<Bytes>,
}

impl Tags {
    fn new(viewer: Viewer) -> Self {
        Self {
            reading: ReusableBoxFuture::new(viewer.read()),
            viewer: None,
        }
    }
}

impl Viewer {
    /// Waits for the next bytes; `None` at the end of the stream or of the session.
    async fn read(mut self) -> Option<Self> {
        let skipped = tokio::select! {
            skipped = self.cursor.next(&mut self.read) => skipped?,
            _ = self.session.killed() => return None,
        };
        self.session.add_skipped(skipped);
        let with_anchor = self.with_anchor;
        self.head
            .before_each(self.read.drain(..), &mut self.ready, |first, joins| {
                flv::head_tags(&first.epoch, first.at_ms, joins, with_anchor)
            });
        self.session
            .add_bytes(self.ready.iter().map(|bytes| bytes.len() as u64).sum());
        Some(self)
    }
}

impl http_body::Body for Tags {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(mut viewer) = self.viewer.take() {
                if let Some(bytes) = viewer.ready.pop_front() {
                    self.viewer = Some(viewer);
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                self.reading.set(viewer.read());
            }
            match ready!(self.reading.poll(cx)) {
                Some(viewer) => self.viewer = Some(viewer),
                None => return Poll::Ready(None),
            }
        }
    }
}
