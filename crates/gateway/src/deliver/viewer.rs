//! One viewer of an endless stream, whether its bytes go out as an HTTP response or as WebSocket messages.
//!
//! Owns: joining a stream, what the viewer gets with each wake (its head where one is due, and shared bytes), and the
//! response body that hands them out.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::{http::StatusCode, response::Response};
use bytes::Bytes;
use http_body::Frame;
use tokio_util::sync::ReusableBoxFuture;
use weir_hub::{Cursor, Role, Session};
use weir_media::StreamName;
use weir_package::flv;

use crate::{
    Gateway,
    derive::{Format, Head, Shared},
};

/// What a viewer wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    /// FLV tags. `with_anchor`: say which wall time timestamps had, so that the player can measure its latency.
    Flv { with_anchor: bool },
    /// MPEG-TS packets, which need no head: tables stand before every key frame.
    Ts,
}

/// A viewer that has joined.
pub(super) struct Viewer {
    cursor: Cursor<Shared>,
    session: Session,
    container: Container,
    head: Head,
    read: Vec<Shared>,
    /// What is to be written next.
    pub(super) ready: VecDeque<Bytes>,
}

impl Viewer {
    /// Joins a stream; the response says why it cannot be.
    pub(super) async fn join(
        gateway: &Gateway,
        protocol: &'static str,
        name: StreamName,
        container: Container,
    ) -> Result<Self, Response> {
        let decision = gateway.requests.ask(Role::Play, protocol, name, None).await;
        let grant = decision
            .map_err(|refusal| super::refuse(StatusCode::FORBIDDEN, &refusal.to_string()))?;
        let stream = gateway.stream(&grant.name).await;
        let stream = stream.map_err(super::refuse_missing)?;
        let format = match container {
            Container::Flv { .. } => Format::Flv,
            Container::Ts => Format::Ts,
        };
        let limits = gateway.limits;
        let cursor = gateway.derived.join(
            &stream,
            format,
            limits.join,
            limits.viewer_lag,
            &gateway.tasks,
        );
        let session = gateway
            .hub
            .sessions()
            .open(Role::Play, protocol, grant.name, Instant::now());
        Ok(Self {
            cursor,
            session,
            container,
            head: Head::default(),
            read: Vec::new(),
            ready: VecDeque::new(),
        })
    }

    /// Waits until `ready` holds the next bytes; `None` at the end of the stream or of the session.
    pub(super) async fn read(mut self) -> Option<Self> {
        self.fill().await.then_some(self)
    }

    /// As [`Self::read`]; false at the end. Cancel-safe.
    pub(super) async fn fill(&mut self) -> bool {
        let skipped = tokio::select! {
            skipped = self.cursor.next(&mut self.read) => skipped,
            _ = self.session.killed() => None,
        };
        let Some(skipped) = skipped else { return false };
        self.session.add_skipped(skipped);
        match self.container {
            Container::Flv { with_anchor } => {
                self.head
                    .before_each(self.read.drain(..), &mut self.ready, |first, joins| {
                        flv::head_tags(&first.epoch, first.at_ms, joins, with_anchor)
                    });
            }
            Container::Ts => self
                .ready
                .extend(self.read.drain(..).map(|shared| shared.bytes)),
        }
        self.session
            .add_bytes(self.ready.iter().map(|bytes| bytes.len() as u64).sum());
        true
    }
}

/// The body of a response: shared bytes as they come.
pub(super) struct Endless {
    /// The read that waits; its allocation is used again for the next one.
    reading: ReusableBoxFuture<'static, Option<Viewer>>,
    /// The viewer while it has bytes to write.
    viewer: Option<Viewer>,
}

impl Endless {
    pub(super) fn new(viewer: Viewer) -> Self {
        Self {
            reading: ReusableBoxFuture::new(viewer.read()),
            viewer: None,
        }
    }
}

impl http_body::Body for Endless {
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
