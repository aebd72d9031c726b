//! HTTP-FLV: one endless response per viewer (CONFORMANCE section 5).
//!
//! Owns: the answer to `/live/{name}.flv` and `/{name}.flv`. The same URLs with an upgrade are [`super::ws_flv`].

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    body::Body,
    http::{HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body::Frame;
use tokio_util::sync::ReusableBoxFuture;
use weir_media::StreamName;
use weir_package::flv;

use super::{
    cors,
    flv::{Options, Viewer},
};
use crate::Gateway;

/// The label of the protocol in sessions, logs and metrics.
pub const PROTOCOL: &str = "http-flv";

/// Answers a request for `{name}.flv`: the stream from its newest key frame on, for as long as it runs.
pub(super) async fn respond(
    gateway: Gateway,
    method: Method,
    name: StreamName,
    options: Options,
) -> Response {
    let viewer = match Viewer::join(&gateway, PROTOCOL, name, &options).await {
        Ok(viewer) => viewer,
        Err(refusal) => return refusal,
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
    (headers, cors(), Body::new(Tags::new(viewer))).into_response()
}

/// The body of a response: shared bytes as they come.
struct Tags {
    /// The read that waits; its allocation is used again for the next one.
    reading: ReusableBoxFuture<'static, Option<Viewer>>,
    /// The viewer while it has bytes to write.
    viewer: Option<Viewer>,
}

impl Tags {
    fn new(viewer: Viewer) -> Self {
        Self {
            reading: ReusableBoxFuture::new(viewer.read()),
            viewer: None,
        }
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
