//! One viewer of an endless stream, whether its bytes go out as an HTTP response or as WebSocket messages.
//!
//! Owns: joining a stream, what the viewer gets (its head where one is due, and shared bytes), and the response body that
//! hands it out over HTTP/2. Does not own: a viewer's connection of its own ([`connection`]).

mod connection;

pub(super) use connection::{Heard, Peer};

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::{http::StatusCode, response::Response};
use bytes::Bytes;
use http_body::Frame;
use parking_lot::Mutex;
use tokio_util::sync::ReusableBoxFuture;
use weir_hub::{Meter, Read, Role, Session};
use weir_media::StreamName;
use weir_package::flv;

use crate::{
    Gateway,
    derive::{Format, Framing, Head, Reader, Shared},
    net::Burst,
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
    source: Source,
    session: Session,
}

/// What a viewer reads.
struct Source {
    reader: Reader,
    container: Container,
    head: Head,
    meter: Meter,
    read: Vec<Shared>,
    /// What is to be written next.
    ready: VecDeque<Bytes>,
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
        let reader = gateway.derived.join(
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
        let source = Source {
            reader,
            container,
            head: Head::default(),
            meter: session.meter(),
            read: Vec::new(),
            ready: VecDeque::new(),
        };
        Ok(Self { source, session })
    }

    /// Waits until there is something to write; `None` at the end of the stream or of the session.
    async fn read(mut self) -> Option<Self> {
        let more = tokio::select! {
            more = self.source.next() => more,
            _ = self.session.killed() => false,
        };
        more.then_some(self)
    }
}

impl Source {
    /// Waits until `ready` holds the next bytes; false at the end. Cancel-safe.
    async fn next(&mut self) -> bool {
        let Some(skipped) = self.reader.cursor.next(&mut self.read).await else {
            return false;
        };
        self.take(skipped);
        true
    }

    /// As [`Self::next`] without waiting.
    fn read(&mut self) -> Read {
        let read = self.reader.cursor.read(&mut self.read);
        if let Read::Items { skipped } = read {
            self.take(skipped);
        }
        read
    }

    fn take(&mut self, skipped: u64) {
        self.meter.add_skipped(skipped);
        let container = self.container;
        self.head.before_each(
            self.read.drain(..),
            &mut self.ready,
            |first, joins| match container {
                Container::Flv { with_anchor } => {
                    flv::head_tags(&first.epoch, first.at_ms, joins, with_anchor)
                }
                Container::Ts => Bytes::new(),
            },
        );
        self.meter
            .add_bytes(self.ready.iter().map(|bytes| bytes.len() as u64).sum());
    }

    /// What is ready, as `framing` wraps it.
    fn burst(&mut self, framing: Framing) -> Burst {
        let mut burst = Burst::default();
        for bytes in self.ready.drain(..) {
            framing.put(bytes, &mut burst);
        }
        burst
    }
}

/// The body of a response: shared bytes as they come.
pub(super) struct Endless {
    /// Taken with the first poll, unless somebody else writes for the viewer.
    joined: Option<Arc<Mutex<Option<Viewer>>>>,
    /// The read that waits; its allocation is used again for the next one.
    reading: ReusableBoxFuture<'static, Option<Viewer>>,
    /// The viewer while it has bytes to write.
    viewer: Option<Viewer>,
}

impl Endless {
    pub(super) fn new(joined: Arc<Mutex<Option<Viewer>>>) -> Self {
        Self {
            joined: Some(joined),
            reading: ReusableBoxFuture::new(std::future::ready(None)),
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
        if let Some(joined) = self.joined.take() {
            self.viewer = joined.lock().take();
        }
        loop {
            if let Some(mut viewer) = self.viewer.take() {
                if let Some(bytes) = viewer.source.ready.pop_front() {
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
