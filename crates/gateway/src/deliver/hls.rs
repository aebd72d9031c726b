//! HLS over HTTP, and what DASH has in common with it.
//!
//! Owns: the routes below `/live/{name}/`, their headers (CONFORMANCE H19–H24), waiting for a stream that has just
//! started, and the sessions of viewers. Does not own: playlists and objects ([`crate::derive::hls`]).

mod blocked;
mod cmcd;
mod object;
mod rewind;
mod viewers;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{FromRequestParts, Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use weir_hub::Role;
use weir_media::{Kind, StreamName};
use weir_package::{
    hls::{
        self,
        reload::{Answer as Reloaded, At, Reload},
    },
    name::ObjectName,
    ts,
    window::{Part, Rendition, Snapshot},
};

use super::{conditions, cors, dash, preflight, refuse, refuse_missing};
use crate::{
    Gateway,
    derive::hls::{Outputs, Playlist, Published, TS_VARIANT, Updates},
    net::{Outbox, client::Peer},
};
use blocked::Blocked;
pub(super) use object::{CACHE as CACHE_OBJECT, Object};
use viewers::{Asks, Kicked};
pub use viewers::{Identity, Viewers};

/// The label of the protocol in sessions, logs and metrics.
pub const PROTOCOL: &str = "hls";

/// How long a request waits for the first segment of a stream that has just started. FFmpeg's default of 250 frames
/// between key frames makes it 8.3 s long at 30 fps; hls.js gives up at 10 s.
const FIRST_SEGMENT_WAIT: Duration = Duration::from_secs(9);
/// When a viewer may try again.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("2");

/// How long the answer to a request that waited may be kept, in target durations (CONFORMANCE 2.2): nobody asks for it
/// any more when the playlist has moved on by that much.
const CACHE_RELOADED_TARGETS: i64 = 6;

/// What the handlers need.
#[derive(Debug, Clone)]
pub struct Context {
    pub(super) gateway: Gateway,
    outputs: Outputs,
    viewers: Viewers,
    blocked: Blocked,
    face: Face,
}

/// Whom the answers are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Face {
    /// Viewers: each has a session, and is sent to its playlist.
    Viewers,
    /// A CDN, which keeps the answers and hands them to many.
    Cdn,
}

/// How long a playlist may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freshness {
    /// It is what there is now.
    Present,
    /// It is the answer to a request that no player repeats, so it stays as good as it is.
    Reloaded { target_s: i64 },
}

impl Face {
    fn cache_control(self, freshness: Freshness) -> HeaderValue {
        match (self, freshness) {
            (Self::Viewers, _) => HeaderValue::from_static("no-cache"),
            (Self::Cdn, Freshness::Present) => HeaderValue::from_static("public, max-age=1"),
            (Self::Cdn, Freshness::Reloaded { target_s }) => {
                let max_age = CACHE_RELOADED_TARGETS * target_s;
                HeaderValue::try_from(format!("public, max-age={max_age}"))
                    .unwrap_or(HeaderValue::from_static("public, max-age=1"))
            }
        }
    }
}

/// Who asks for a playlist.
pub(super) struct Asker {
    hls_ctx: Option<String>,
    start: Option<String>,
    query: Option<String>,
    peer: IpAddr,
    pub(super) headers: HeaderMap,
    /// Of its connection, where that sends files.
    pub(super) outbox: Option<Outbox>,
}

impl<S: Send + Sync> FromRequestParts<S> for Asker {
    type Rejection = QueryRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, QueryRejection> {
        let Query(known) = Query::<KnownQuery>::from_request_parts(parts, state).await?;
        // Every connection says who its peer is.
        let peer = parts.extensions.get();
        Ok(Self {
            hls_ctx: known.hls_ctx,
            start: known.start,
            query: parts.uri.query().map(str::to_owned),
            peer: peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |Peer(addr)| *addr),
            headers: parts.headers.clone(),
            outbox: parts.extensions.get().cloned(),
        })
    }
}

impl Asker {
    fn asks(&self, protocol: &'static str) -> Asks<'_> {
        Asks {
            protocol,
            hls_ctx: self.hls_ctx.as_deref(),
            peer: self.peer,
            headers: &self.headers,
        }
    }
}

#[derive(Debug, Deserialize)]
struct KnownQuery {
    hls_ctx: Option<String>,
    start: Option<String>,
}

/// The routes for a CDN: the same subtree below the name alone, and below `/live`.
pub(super) fn cdn_router(context: Context) -> Router {
    let subtree = Router::new()
        .route("/playlist.m3u8", get(multivariant).options(preflight))
        .merge(subtree());
    Router::new()
        .nest("/{name}", subtree.clone())
        .nest("/live/{name}", subtree)
        .with_state(context)
}

/// The routes of HLS. Every prefix that users know holds the same subtree, in which all URIs are relative.
pub(super) fn router(context: Context) -> Router {
    let classic = Router::new()
        .route("/playlist.m3u8", get(ts_multivariant).options(preflight))
        .merge(subtree());
    // Here `playlist.m3u8` is what `index.m3u8` is elsewhere.
    let packager = Router::new()
        .route("/playlist.m3u8", get(multivariant).options(preflight))
        .merge(subtree());
    Router::new()
        .nest("/live/{name}", classic.clone())
        .nest("/api/v1/hls/{name}", classic)
        .nest("/streams/{name}", packager)
        .with_state(context)
}

fn subtree() -> Router<Context> {
    Router::new()
        .route("/index.m3u8", get(multivariant).options(preflight))
        .route("/ts.m3u8", get(ts_media).options(preflight))
        .route("/manifest.mpd", get(dash::manifest).options(preflight))
        .route("/{object}", get(ts_object).options(preflight))
        .route("/{rendition}/index.m3u8", get(media).options(preflight))
        .route(
            "/{rendition}/rewind.m3u8",
            get(rewind::media).options(preflight),
        )
        .route("/{rendition}/{object}", get(object).options(preflight))
}

/// Answers `/live/{name}.m3u8` and `/live/{name}.mpd`: a session for the viewer, and where its playlist or manifest is,
/// which `file` names. Nothing else redirects (CONFORMANCE H20).
pub(super) async fn redirect(
    context: Context,
    protocol: &'static str,
    name: &str,
    file: &str,
    asker: Asker,
) -> Answer {
    let start = asker.start()?;
    let (name, _) = context.published(protocol, name).await?;
    let mut query = context.session_query(protocol, &name, &asker)?;
    if let Some(start) = start {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(&format!("start={start}"));
    }
    let location = format!("/live/{name}/{file}{query}");
    let headers = [
        (
            header::LOCATION,
            HeaderValue::try_from(location).map_err(|_| not_found())?,
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((StatusCode::FOUND, headers, cors()).into_response())
}

async fn multivariant(
    State(context): State<Context>,
    Path(name): Path<String>,
    asker: Asker,
) -> Answer {
    let start = asker.start()?;
    let (name, published) = context.published(PROTOCOL, &name).await?;
    let query = context.session_query(PROTOCOL, &name, &asker)?;
    let text = rewind::multivariant(&published.snapshot, start, &query);
    Ok(context.playlist(&Playlist::new(text), Freshness::Present, &asker))
}

async fn media(
    State(context): State<Context>,
    Path((name, rendition)): Path<(String, String)>,
    asker: Asker,
) -> Answer {
    let (name, mut published) = context.published(PROTOCOL, &name).await?;
    context.watch(PROTOCOL, &name, &asker)?;
    let reload = reload(&published, &asker)?;
    let mut freshness = Freshness::Present;
    if let Some(at) = reload.at
        && published.low_latency
    {
        (published, freshness) = context
            .reloaded(&name, published, &rendition, at, &asker)
            .await?;
    }
    let rendition = published.snapshot.rendition(&rendition);
    let found = rendition.and_then(|rendition| published.playlist(rendition, reload.skip));
    Ok(context.playlist(found.ok_or_else(not_found)?, freshness, &asker))
}

/// What a request for a media playlist asks for.
fn reload(published: &Published, asker: &Asker) -> Result<Reload, Refused> {
    // Directives of a playlist that has ended are not even wrong (section 6.2.5.2).
    if published.snapshot.ended {
        return Ok(Reload::default());
    }
    let reload = Reload::parse(asker.query.as_deref().unwrap_or(""));
    Ok(reload.map_err(|error| refuse(StatusCode::BAD_REQUEST, &error.to_string()))?)
}

async fn object(
    State(context): State<Context>,
    Path((name, rendition, object)): Path<(String, String, String)>,
    asker: Asker,
    method: Method,
) -> Answer {
    let (name, published) = context.published_now(&name, &asker)?;
    let rendition = published
        .snapshot
        .rendition(&rendition)
        .ok_or_else(not_found)?;
    let object = match ObjectName::parse(&object) {
        Some(ObjectName::TimedSegment {
            run,
            discontinuity,
            time,
        }) => {
            let asked = dash::Asked {
                run,
                discontinuity,
                time,
            };
            return dash::segment(
                &context, &name, &published, rendition, asked, asker, &method,
            )
            .await;
        }
        Some(ObjectName::Part { run, msn, part }) if published.low_latency => {
            let at = At {
                msn,
                part: Some(part),
            };
            context
                .part(&name, &published, rendition, run, at, &asker)
                .await?
        }
        Some(ObjectName::Segment { run, msn }) if run == published.snapshot.run => {
            let segment = rendition.segment(msn).filter(|segment| !segment.is_gap());
            let segment = segment.ok_or_else(not_found)?;
            Some(context.segment(&name, run, rendition, segment).await?)
        }
        Some(ObjectName::Init { run, discontinuity }) if run == published.snapshot.run => {
            find_init(run, rendition, discontinuity)
        }
        _ => None,
    };
    Ok(object.ok_or_else(not_found)?.respond(&method, asker))
}

/// Classic HLS: every track in MPEG-TS segments, made only when asked for.
async fn ts_multivariant(
    State(context): State<Context>,
    Path(name): Path<String>,
    asker: Asker,
) -> Answer {
    let (name, published) = context.published_ts(&name).await?;
    let query = context.session_query(PROTOCOL, &name, &asker)?;
    let text = hls::ts_multivariant(&published.snapshot, TS_VARIANT, &query);
    let text = Playlist::new(text.ok_or_else(not_found)?);
    Ok(context.playlist(&text, Freshness::Present, &asker))
}

async fn ts_media(
    State(context): State<Context>,
    Path(name): Path<String>,
    asker: Asker,
) -> Answer {
    let (name, published) = context.published_ts(&name).await?;
    context.watch(PROTOCOL, &name, &asker)?;
    let found = published.ts_playlist().ok_or_else(not_found)?;
    Ok(context.playlist(found, Freshness::Present, &asker))
}

async fn ts_object(
    State(context): State<Context>,
    Path((name, object)): Path<(String, String)>,
    asker: Asker,
    method: Method,
) -> Answer {
    let (_, published) = context.published_now(&name, &asker)?;
    let object = find_ts_object(&published.snapshot, &object).ok_or_else(not_found)?;
    Ok(object.respond(&method, asker))
}

/// What a handler answers; a refusal is an error, so that `?` ends it.
pub(super) type Answer = Result<Response, Refused>;

/// A refusal on its way to the client.
pub(super) struct Refused(Box<Response>);

impl From<Response> for Refused {
    fn from(response: Response) -> Self {
        Self(Box::new(response))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        *self.0
    }
}

impl Context {
    /// What the handlers need; of one address, `blocked_per_client_max` requests may wait at once, any number if 0.
    #[must_use]
    pub fn new(
        gateway: Gateway,
        outputs: Outputs,
        viewers: Viewers,
        blocked_per_client_max: usize,
    ) -> Self {
        Self {
            gateway,
            outputs,
            viewers,
            blocked: Blocked::new(blocked_per_client_max),
            face: Face::Viewers,
        }
    }

    /// The same for a CDN.
    pub(super) fn for_cdn(self) -> Self {
        Self {
            face: Face::Cdn,
            ..self
        }
    }

    /// The query that carries the viewer's session in URIs; a new one if there is none.
    fn session_query(
        &self,
        protocol: &'static str,
        name: &StreamName,
        asker: &Asker,
    ) -> Result<String, Refused> {
        if self.face == Face::Cdn {
            return Ok(String::new());
        }
        let session = self
            .viewers
            .enter(name, asker.asks(protocol), Instant::now())
            .map_err(refuse_kicked)?;
        Ok(session.map_or_else(String::new, |session| format!("?hls_ctx={session}")))
    }

    /// Counts who asks for a media playlist or a manifest.
    pub(super) fn watch(
        &self,
        protocol: &'static str,
        name: &StreamName,
        asker: &Asker,
    ) -> Result<(), Refused> {
        if self.face == Face::Cdn {
            let sid = cmcd::session_id(asker.query.as_deref(), &asker.headers);
            self.viewers
                .note_behind_cdn(name, sid.as_deref(), Instant::now());
            return Ok(());
        }
        let (hub, asks) = (&self.gateway.hub, asker.asks(protocol));
        let watched = self.viewers.watch(hub, name, asks, Instant::now());
        Ok(watched.map_err(refuse_kicked)?)
    }

    fn playlist(&self, playlist: &Playlist, freshness: Freshness, asker: &Asker) -> Response {
        self.text(playlist, hls::MEDIA_TYPE, freshness, asker)
    }

    /// The answer that holds a playlist or a manifest.
    pub(super) fn text(
        &self,
        playlist: &Playlist,
        media_type: &'static str,
        freshness: Freshness,
        asker: &Asker,
    ) -> Response {
        let request = &asker.headers;
        let accepted = request
            .get(header::ACCEPT_ENCODING)
            .and_then(|value| value.to_str().ok());
        let compressed = accepted.is_some_and(accepts_gzip) && !playlist.gzip.is_empty();
        let validators = [
            (header::CACHE_CONTROL, self.face.cache_control(freshness)),
            (header::VARY, HeaderValue::from_static("Accept-Encoding")),
            (header::ETAG, playlist.etag.clone()),
            (header::ACCEPT_RANGES, HeaderValue::from_static("none")),
        ];
        if playlist
            .etag
            .to_str()
            .is_ok_and(|etag| conditions::is_known(request, etag))
        {
            return (StatusCode::NOT_MODIFIED, validators, cors()).into_response();
        }
        let media_type = [(header::CONTENT_TYPE, HeaderValue::from_static(media_type))];
        if compressed {
            let encoding = [(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
            let body = playlist.gzip.clone();
            (validators, media_type, encoding, cors(), body).into_response()
        } else {
            (validators, media_type, cors(), playlist.plain.clone()).into_response()
        }
    }

    /// What a stream has published; waits for the first segment of one that has just started.
    pub(super) async fn published(
        &self,
        protocol: &'static str,
        name: &str,
    ) -> Result<(StreamName, Arc<Published>), Refused> {
        let name = StreamName::parse(name).map_err(|_| not_found())?;
        let asked = self
            .gateway
            .requests
            .ask(Role::Play, protocol, name, None)
            .await;
        let granted =
            asked.map_err(|refusal| refuse(StatusCode::FORBIDDEN, &refusal.to_string()))?;
        let updates = match self.gateway.stream(&granted.name).await {
            Ok(stream) => self.outputs.of(&stream),
            // The playlist of a run that has ended stays for a while, with its end.
            Err(missing) => {
                let ended = self.outputs.get(&granted.name);
                ended.ok_or_else(|| refuse_missing(missing))?
            }
        };
        // Who waits is a viewer already: a stream that was fetched for it must not be dropped meanwhile.
        let _waiting = updates.borrow().is_none().then(|| {
            let sessions = self.gateway.hub.sessions();
            sessions.open(Role::Play, protocol, granted.name.clone(), Instant::now())
        });
        let published = first(updates, |_| true).await?;
        Ok((granted.name, published))
    }

    /// The published playlist that a player wants to reload, when it holds what the player wants.
    async fn reloaded(
        &self,
        name: &StreamName,
        published: Arc<Published>,
        rendition: &str,
        at: At,
        asker: &Asker,
    ) -> Result<(Arc<Published>, Freshness), Refused> {
        let target_s = published.snapshot.target_s;
        let reloaded = Freshness::Reloaded { target_s };
        let answer = |published: &Published| {
            let rendition = published.snapshot.rendition(rendition);
            rendition.map_or(Reloaded::Now, |known| at.answer(&published.snapshot, known))
        };
        match answer(&published) {
            Reloaded::Now => return Ok((published, reloaded)),
            Reloaded::TooFar => {
                let reason = "_HLS_msn and _HLS_part are too far ahead of the stream";
                return Err(refuse(StatusCode::BAD_REQUEST, reason).into());
            }
            Reloaded::Later => {}
        }
        let known = published
            .snapshot
            .rendition(rendition)
            .ok_or_else(not_found)?;
        let _waiting = self.wait_for(name, known, asker)?;
        let mut updates = self.outputs.get(name).ok_or_else(not_found)?;
        let is_there = |published: &Published| answer(published) != Reloaded::Later;
        if let Some(published) = blocked::wait(&mut updates, target_s, is_there).await {
            return Ok((published, reloaded));
        }
        // hls.js asks for whole segments in this way, and they may last longer than anybody waits.
        let now = updates.borrow().clone();
        let has_advanced = |now: &Arc<Published>| !Arc::ptr_eq(now, &published);
        let now = now.filter(has_advanced).ok_or_else(not_yet)?;
        Ok((now, Freshness::Present))
    }

    /// A part, as soon as it is complete if it was announced; none when there will be no such part.
    async fn part(
        &self,
        name: &StreamName,
        published: &Published,
        rendition: &Rendition,
        run: &str,
        at: At,
        asker: &Asker,
    ) -> Result<Option<Object>, Refused> {
        if run != published.snapshot.run {
            return Ok(None);
        }
        let found = |known: &Rendition| find_part(run, known, at);
        if let Some(part) = found(rendition) {
            return Ok(Some(part));
        }
        if !at.is_announced(rendition) {
            return Ok(None);
        }
        let known = |published: &Published| {
            let snapshot = &published.snapshot;
            let known = snapshot.rendition(rendition.name());
            known.filter(|_| snapshot.run == run).cloned()
        };
        let is_decided = |published: &Published| {
            let known = known(published).filter(|known| at.is_announced(known));
            known.is_none()
        };
        let decided = self.wait_until(name, rendition, asker, is_decided).await?;
        Ok(known(&decided).as_ref().and_then(found))
    }

    /// What the stream of a rendition has published, as soon as that is `wanted`.
    pub(super) async fn wait_until(
        &self,
        name: &StreamName,
        rendition: &Rendition,
        asker: &Asker,
        wanted: impl Fn(&Published) -> bool,
    ) -> Result<Arc<Published>, Refused> {
        let _waiting = self.wait_for(name, rendition, asker)?;
        let mut updates = self.updates(name).ok_or_else(not_found)?;
        let target_s = updates.borrow().as_ref().map(|now| now.snapshot.target_s);
        let came = blocked::wait(&mut updates, target_s.unwrap_or(0), wanted).await;
        Ok(came.ok_or_else(not_yet)?)
    }

    /// What the newest run of a stream publishes.
    pub(super) fn updates(&self, name: &StreamName) -> Option<Updates> {
        self.outputs.get(name)
    }

    fn wait_for(
        &self,
        name: &StreamName,
        rendition: &Rendition,
        asker: &Asker,
    ) -> Result<blocked::Waiting, Refused> {
        let client = match self.face {
            Face::Viewers => self.viewers.own_client(asker.asks(PROTOCOL)),
            Face::Cdn => None,
        };
        let entered = self.blocked.enter((name.clone(), rendition.name()), client);
        Ok(entered.map_err(|too_many| refuse_for_now(&too_many.to_string()))?)
    }

    /// As [`Self::published`], MPEG-TS with it; waits for the first such segment of a run that goes on.
    async fn published_ts(&self, name: &str) -> Result<(StreamName, Arc<Published>), Refused> {
        let (name, _) = self.published(PROTOCOL, name).await?;
        self.outputs.ask_for_ts(&name);
        let updates = self.outputs.get(&name).ok_or_else(not_found)?;
        let published = first(updates, |published| {
            published.snapshot.ts.is_some() || published.snapshot.ended
        });
        Ok((name, published.await?))
    }

    /// What a stream has published, without waiting: for objects, whose names come from a playlist.
    fn published_now(
        &self,
        name: &str,
        asker: &Asker,
    ) -> Result<(StreamName, Arc<Published>), Refused> {
        let name = StreamName::parse(name).map_err(|_| not_found())?;
        let updates = self.outputs.get(&name).ok_or_else(not_found)?;
        let published = updates.borrow().clone().ok_or_else(not_found)?;
        if self.face == Face::Cdn {
            self.watch(PROTOCOL, &name, asker)?;
        }
        Ok((name, published))
    }
}

/// The first that is published and `wanted`, if it comes while players wait.
async fn first(
    mut updates: Updates,
    wanted: impl Fn(&Published) -> bool,
) -> Result<Arc<Published>, Refused> {
    let is_there = |published: &Option<Arc<Published>>| published.as_deref().is_some_and(&wanted);
    match tokio::time::timeout(FIRST_SEGMENT_WAIT, updates.wait_for(is_there)).await {
        Ok(Ok(published)) => Ok(published.clone().ok_or_else(not_found)?),
        Ok(Err(_)) => Err(not_found().into()),
        Err(_) => Err(not_yet().into()),
    }
}

fn find_init(run: &str, rendition: &Rendition, discontinuity: u64) -> Option<Object> {
    let init = rendition.init(discontinuity)?;
    let media_type = match rendition.kind {
        Kind::Video => "video/mp4",
        Kind::Audio => "audio/mp4",
    };
    Some(Object::init(run, rendition.name(), init, media_type))
}

fn find_part(run: &str, rendition: &Rendition, at: At) -> Option<Object> {
    let number = at.part?;
    let open = rendition.open.as_ref().filter(|open| open.msn == at.msn);
    let parts: &[Part] = match (open, rendition.segment(at.msn)) {
        (Some(open), _) => &open.parts,
        (None, Some(segment)) => &segment.parts,
        (None, None) => return None,
    };
    let part = parts.get(usize::try_from(number).ok()?)?;
    let name = format!("{}.{number}", at.msn);
    Some(Object::part(
        run,
        rendition.name(),
        &name,
        part,
        media_type(rendition),
    ))
}

/// The media type of segments and parts (H21).
pub(super) fn media_type(rendition: &Rendition) -> &'static str {
    match rendition.kind {
        Kind::Video => "video/iso.segment",
        Kind::Audio => "audio/mp4",
    }
}

fn find_ts_object(snapshot: &Snapshot, object: &str) -> Option<Object> {
    let run = snapshot.run.as_str();
    match ObjectName::parse(object)? {
        ObjectName::TsSegment { run: asked, msn } if asked == run => {
            let rendition = snapshot.ts.as_ref()?;
            let segment = rendition.segment(msn).filter(|segment| !segment.is_gap())?;
            let name = rendition.name();
            Some(Object::segment(run, name, segment, ts::MEDIA_TYPE))
        }
        _ => None,
    }
}

/// Whether `Accept-Encoding` names gzip without forbidding it (RFC 9110, section 12.5.3).
fn accepts_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|coding| {
        let mut pieces = coding.split(';').map(str::trim);
        let named = pieces
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = pieces.any(|piece| matches!(piece, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        named && !refused
    })
}

fn refuse_kicked(kicked: Kicked) -> Response {
    refuse(StatusCode::FORBIDDEN, &kicked.to_string())
}

fn not_yet() -> Response {
    refuse_for_now("the stream has not sent that much yet")
}

fn refuse_for_now(reason: &str) -> Response {
    let mut response = refuse(StatusCode::SERVICE_UNAVAILABLE, reason);
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, RETRY_AFTER_S);
    response
}

pub(super) fn not_found() -> Response {
    refuse(StatusCode::NOT_FOUND, "there is no such stream or object")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_only_where_it_is_accepted() {
        for (accepted, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000", false),
            ("br, identity", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(accepted), expected, "{accepted:?}");
        }
    }
}
