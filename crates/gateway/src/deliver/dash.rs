//! DASH over HTTP.
//!
//! Owns: the manifest and its viewers, the clock that players set theirs by (CONFORMANCE D5, D14), and the answer to a
//! request for a segment that is still being made (D11). Does not own: routes and objects, which are those of HLS
//! ([`super::hls`]), or what a manifest says ([`weir_package::dash`]).

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{self, Poll, ready},
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderValue, Method, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use http_body::Frame;
use tokio_util::sync::ReusableBoxFuture;
use weir_media::StreamName;
use weir_package::{
    dash::{self, Named},
    wall::iso8601,
    window::Rendition,
};

use super::{
    cors,
    hls::{Answer, Asker, CACHE_OBJECT, Context, Freshness, media_type, not_found},
    preflight,
};
use crate::derive::{
    Pieces,
    hls::{Playlist, Published, Updates},
};

/// The label of the protocol in sessions, logs and metrics.
pub const PROTOCOL: &str = "dash";

/// How long the answer to a request for the open segment stays open without a new part. A publisher that is gone ends
/// its segment within its grace; who pauses for longer has players ask again.
const STALL_MAX: Duration = Duration::from_secs(30);

/// Answers `manifest.mpd`, and counts who asks as a viewer. With `?start=-120` it is that of the rewind window.
pub(super) async fn manifest(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    asker: Asker,
) -> Answer {
    let start = asker.start()?;
    let (name, published) = context.published(PROTOCOL, &name).await?;
    context.watch(PROTOCOL, &name, &asker)?;
    let terms = asker.terms();
    let respond =
        |manifest: &Playlist| context.text(manifest, dash::MEDIA_TYPE, Freshness::Present, &terms);
    Ok(match start {
        Some(start) => respond(&published.rewind_manifest(start)),
        None => respond(published.manifest()),
    })
}

/// The clock (CONFORMANCE D5).
pub(super) fn clock() -> Router {
    Router::new().route(dash::TIME_PATH, get(time).options(preflight))
}

/// Answers `/time`: the server's clock, in milliseconds. `Date` tells it in seconds, to `HEAD` as well.
async fn time() -> Response {
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, cors(), iso8601(SystemTime::now())).into_response()
}

/// A segment as the manifest's template names it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) run: &'a str,
    pub(super) discontinuity: u64,
    pub(super) time: u64,
}

/// Answers a request for a segment. One that is being made is sent as far as it is there, and the rest as it comes.
pub(super) async fn segment(
    context: &Context,
    name: &StreamName,
    published: &Arc<Published>,
    rendition: &Rendition,
    asked: Asked<'_>,
    asker: Asker,
    method: &Method,
) -> Answer {
    let is_next = |published: &Published| {
        let found = asked.find(published, rendition.name());
        matches!(found, Some(Named::Next))
    };
    let published = if is_next(published) {
        let decided = |published: &Published| !is_next(published);
        context.wait_until(name, rendition, &asker, decided).await?
    } else {
        Arc::clone(published)
    };
    match asked.find(&published, rendition.name()) {
        Some(Named::Complete(segment)) => {
            let object = context.segment(name, asked.run, rendition, segment);
            let object = object.await?;
            Ok(object.respond(method, asker))
        }
        Some(Named::Open(msn)) => {
            let updates = context.updates(name, rendition).ok_or_else(not_found)?;
            let growing = Growing {
                updates,
                run: asked.run.to_owned(),
                rendition: rendition.name(),
                msn,
                sent: 0,
                ready: Pieces::new(asker.outbox),
            };
            Ok(growing.respond(rendition))
        }
        Some(Named::Next) | None => Err(not_found().into()),
    }
}

impl Asked<'_> {
    /// What it stands for. The open segment is nobody's business unless the manifest announces it.
    fn find<'a>(self, published: &'a Published, rendition: &str) -> Option<Named<'a>> {
        let snapshot = &published.snapshot;
        let rendition = snapshot.rendition(rendition)?;
        let found = dash::find(rendition, self.discontinuity, self.time)?;
        let is_served = matches!(found, Named::Complete(_)) || published.low_latency;
        (snapshot.run == self.run && is_served).then_some(found)
    }
}

/// A segment that is still being made, on its way to one player.
struct Growing {
    updates: Updates,
    run: String,
    rendition: &'static str,
    msn: u64,
    /// Parts that were sent.
    sent: usize,
    ready: Pieces,
}

/// Why a segment ends early. The connection is closed then, so that nobody takes what came for the whole.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("the segment has not grown for {} s", STALL_MAX.as_secs())]
    Stalled,
    #[error("the segment is gone")]
    Gone,
    #[error("a part cannot be read: {0}")]
    Unreadable(io::Error),
}

impl Growing {
    /// It has the headers of the complete segment but those that tell its length: ranges of it are not served, and its
    /// name stands for the same bytes for ever.
    fn respond(self, rendition: &Rendition) -> Response {
        let headers = [
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static(media_type(rendition)),
            ),
            (header::CACHE_CONTROL, CACHE_OBJECT),
            (header::ACCEPT_RANGES, HeaderValue::from_static("none")),
        ];
        (headers, cors(), Body::new(GrowingBody::new(self))).into_response()
    }

    /// Waits until `ready` holds the next parts; `None` when all were sent.
    async fn grow(mut self) -> Result<Option<Self>, Cut> {
        loop {
            let published = self.updates.borrow_and_update().clone();
            let is_complete = self.take(published.as_deref()).ok_or(Cut::Gone)?;
            if !self.ready.is_empty() {
                return Ok(Some(self));
            }
            if is_complete {
                return Ok(None);
            }
            tokio::time::timeout(STALL_MAX, self.updates.changed())
                .await
                .map_err(|_| Cut::Stalled)?
                .map_err(|_| Cut::Gone)?;
        }
    }

    /// Takes what is new, and says whether the segment is complete; none when there is no such segment any more.
    fn take(&mut self, published: Option<&Published>) -> Option<bool> {
        let snapshot = published.map(|published| &published.snapshot)?;
        let rendition = snapshot
            .rendition(self.rendition)
            .filter(|_| snapshot.run == self.run)?;
        let open = rendition.open.as_ref().filter(|open| open.msn == self.msn);
        let (parts, is_complete) = match (rendition.segment(self.msn), open) {
            (Some(segment), _) => (&segment.parts, true),
            (None, Some(open)) => (&open.parts, false),
            (None, None) => return None,
        };
        let new = parts.get(self.sent..)?;
        self.sent = parts.len();
        for part in new {
            self.ready.push(&part.content);
        }
        Some(is_complete)
    }
}

/// The body of a response: parts as they come.
struct GrowingBody {
    /// The wait for the next parts; its allocation is used again.
    growing: ReusableBoxFuture<'static, Result<Option<Growing>, Cut>>,
    /// The segment while it has parts to send.
    segment: Option<Growing>,
}

impl GrowingBody {
    fn new(segment: Growing) -> Self {
        Self {
            growing: ReusableBoxFuture::new(segment.grow()),
            segment: None,
        }
    }
}

impl http_body::Body for GrowingBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if let Some(mut segment) = self.segment.take() {
                if let Some(bytes) = segment.ready.next() {
                    self.segment = Some(segment);
                    return Poll::Ready(Some(bytes.map(Frame::data).map_err(Cut::Unreadable)));
                }
                self.growing.set(segment.grow());
            }
            match ready!(self.growing.poll(cx)) {
                Ok(Some(segment)) => self.segment = Some(segment),
                Ok(None) => return Poll::Ready(None),
                Err(cut) => {
                    tracing::debug!(%cut, "a segment is not sent to its end");
                    return Poll::Ready(Some(Err(cut)));
                }
            }
        }
    }
}
