//! HLS over HTTP, and what DASH has in common with it.
//!
//! Owns: the routes below `/live/{name}/`, their headers (CONFORMANCE H19–H24), waiting for a stream that has just
//! started, and the sessions of viewers. Does not own: playlists and objects ([`crate::derive::hls`]).

mod asker;
mod blocked;
mod cmcd;
mod grants;
mod object;
mod rewind;
mod viewers;

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
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

use super::{conditions, cors, dash, insert_cors, preflight, refuse, refuse_missing};
use crate::{
    Gateway,
    derive::hls::{Outputs, Playlist, Published, TS_VARIANT, Updates},
};
pub(super) use asker::{Asker, Terms};
use blocked::Blocked;
use grants::Grants;
pub(super) use object::{CACHE as CACHE_OBJECT, Object};
use viewers::Kicked;
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

/// Header fields of an answer that holds a playlist or a manifest, with the one that every answer has: room for all of them
/// is made at once.
const TEXT_HEADERS_MAX: usize = 9;

/// What the handlers need. They share one: a router copies its state for each request, and each part of this one has a
/// counter or a lock to take for that.
#[derive(Debug, Clone)]
pub struct Context {
    pub(super) gateway: Gateway,
    outputs: Outputs,
    viewers: Viewers,
    blocked: Blocked,
    grants: Grants,
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

/// The routes for a CDN: the same subtree below the name alone, and below `/live`.
pub(super) fn cdn_router(context: Context) -> Router {
    let below = |prefix| below(prefix, get(multivariant));
    below("/{name}")
        .merge(below("/live/{name}"))
        .with_state(Arc::new(context))
}

/// The routes of HLS. Every prefix that users know holds the same subtree, in which all URIs are relative.
pub(super) fn router(context: Context) -> Router {
    let classic = |prefix| below(prefix, get(ts_multivariant));
    classic("/live/{name}")
        .merge(classic("/api/v1/hls/{name}"))
        // Here `playlist.m3u8` is what `index.m3u8` is elsewhere.
        .merge(below("/streams/{name}", get(multivariant)))
        .with_state(Arc::new(context))
}

/// The subtree below a prefix. Its routes are written out in full: a nested router would make a URI without the prefix
/// for each request.
fn below(prefix: &str, playlist: MethodRouter<Arc<Context>>) -> Router<Arc<Context>> {
    let routes = [
        ("playlist.m3u8", playlist),
        ("index.m3u8", get(multivariant)),
        ("ts.m3u8", get(ts_media)),
        ("manifest.mpd", get(dash::manifest)),
        ("{object}", get(ts_object)),
        ("{rendition}/index.m3u8", get(media)),
        ("{rendition}/rewind.m3u8", get(rewind::media)),
        ("{rendition}/{object}", get(object)),
    ];
    let add = |router: Router<Arc<Context>>, (path, answer): (_, MethodRouter<Arc<Context>>)| {
        router.route(&format!("{prefix}/{path}"), answer.options(preflight))
    };
    routes.into_iter().fold(Router::new(), add)
}

/// Answers `/live/{name}.m3u8` and `/live/{name}.mpd`: a session for the viewer, and where its playlist or manifest is,
/// which `file` names. Nothing else redirects (CONFORMANCE H20).
pub(super) async fn redirect(
    context: &Context,
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
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    asker: Asker,
) -> Answer {
    let start = asker.start()?;
    let (name, published) = context.published(PROTOCOL, &name).await?;
    let query = context.session_query(PROTOCOL, &name, &asker)?;
    let text = rewind::multivariant(&published.snapshot, start, &query);
    Ok(context.playlist(&Playlist::new(text), Freshness::Present, &asker.terms()))
}

async fn media(
    State(context): State<Arc<Context>>,
    Path((name, rendition)): Path<(String, String)>,
    asker: Asker,
) -> Answer {
    let (name, mut published) = context.published(PROTOCOL, &name).await?;
    context.watch(PROTOCOL, &name, &asker)?;
    let reload = reload(&published, &asker)?;
    let (peer, terms) = (asker.peer, asker.terms());
    drop(asker);
    let mut freshness = Freshness::Present;
    if let Some(at) = reload.at
        && published.low_latency
    {
        (published, freshness) = context
            .reloaded(&name, published, &rendition, at, peer)
            .await?;
    }
    let rendition = published.snapshot.rendition(&rendition);
    let found = rendition.and_then(|rendition| published.playlist(rendition, reload.skip));
    Ok(context.playlist(found.ok_or_else(not_found)?, freshness, &terms))
}

/// What a request for a media playlist asks for.
fn reload(published: &Published, asker: &Asker) -> Result<Reload, Refused> {
    // Directives of a playlist that has ended are not even wrong (section 6.2.5.2).
    if published.snapshot.ended {
        return Ok(Reload::default());
    }
    let reload = Reload::parse(asker.query());
    Ok(reload.map_err(|error| refuse(StatusCode::BAD_REQUEST, &error.to_string()))?)
}

async fn object(
    State(context): State<Arc<Context>>,
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
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    asker: Asker,
) -> Answer {
    let (name, published) = context.published_ts(&name).await?;
    let query = context.session_query(PROTOCOL, &name, &asker)?;
    let text = hls::ts_multivariant(&published.snapshot, TS_VARIANT, &query);
    let text = Playlist::new(text.ok_or_else(not_found)?);
    Ok(context.playlist(&text, Freshness::Present, &asker.terms()))
}

async fn ts_media(
    State(context): State<Arc<Context>>,
    Path(name): Path<String>,
    asker: Asker,
) -> Answer {
    let (name, published) = context.published_ts(&name).await?;
    context.watch(PROTOCOL, &name, &asker)?;
    let found = published.ts_playlist().ok_or_else(not_found)?;
    Ok(context.playlist(found, Freshness::Present, &asker.terms()))
}

async fn ts_object(
    State(context): State<Arc<Context>>,
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
            grants: Grants::default(),
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
            let sid = cmcd::session_id(asker.query(), &asker.headers);
            self.viewers
                .note_behind_cdn(name, sid.as_deref(), Instant::now());
            return Ok(());
        }
        let (hub, asks) = (&self.gateway.hub, asker.asks(protocol));
        let watched = self.viewers.watch(hub, name, asks, Instant::now());
        Ok(watched.map_err(refuse_kicked)?)
    }

    fn playlist(&self, playlist: &Playlist, freshness: Freshness, terms: &Terms) -> Response {
        self.text(playlist, hls::MEDIA_TYPE, freshness, terms)
    }

    /// The answer that holds a playlist or a manifest.
    pub(super) fn text(
        &self,
        playlist: &Playlist,
        media_type: &'static str,
        freshness: Freshness,
        terms: &Terms,
    ) -> Response {
        let mut headers = HeaderMap::with_capacity(TEXT_HEADERS_MAX);
        headers.insert(header::CACHE_CONTROL, self.face.cache_control(freshness));
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        headers.insert(header::ETAG, playlist.etag.clone());
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("none"));
        insert_cors(&mut headers);
        let etag = playlist.etag.to_str();
        let mut answer = Response::default();
        if etag.is_ok_and(|etag| conditions::is_known(&terms.if_none_match, etag)) {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
            let is_compressed = terms.gzip && !playlist.gzip.is_empty();
            if is_compressed {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            let body = if is_compressed {
                &playlist.gzip
            } else {
                &playlist.plain
            };
            *answer.body_mut() = body.clone().into();
        }
        *answer.headers_mut() = headers;
        answer
    }

    /// What a stream has published; waits for the first segment of one that has just started.
    pub(super) async fn published(
        &self,
        protocol: &'static str,
        name: &str,
    ) -> Result<(StreamName, Arc<Published>), Refused> {
        let name = StreamName::parse(name).map_err(|_| not_found())?;
        match self.at_hand(protocol, &name) {
            Some(found) => Ok(found),
            // Boxed: nearly no reload comes here, and each would have room for it.
            None => Box::pin(self.asked_for(protocol, name)).await,
        }
    }

    /// What a stream that runs has published, if it was granted a moment ago.
    fn at_hand(
        &self,
        protocol: &'static str,
        name: &StreamName,
    ) -> Option<(StreamName, Arc<Published>)> {
        let granted = self.grants.get(&(protocol, name.clone()), Instant::now())?;
        let stream = self.gateway.running(&granted)?;
        let published = self.outputs.of(&stream).borrow().clone()?;
        Some((granted, published))
    }

    async fn asked_for(
        &self,
        protocol: &'static str,
        name: StreamName,
    ) -> Result<(StreamName, Arc<Published>), Refused> {
        let asked = self
            .gateway
            .requests
            .ask(Role::Play, protocol, name.clone(), None)
            .await;
        let granted =
            asked.map_err(|refusal| refuse(StatusCode::FORBIDDEN, &refusal.to_string()))?;
        let decided = Instant::now();
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
        // Only of streams that there are: anybody can ask for any name.
        let public = granted.name.clone();
        self.grants.keep((protocol, name), public, decided);
        Ok((granted.name, published))
    }

    /// The published playlist that a player wants to reload, when it holds what the player wants.
    async fn reloaded(
        &self,
        name: &StreamName,
        published: Arc<Published>,
        rendition: &str,
        at: At,
        peer: IpAddr,
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
        let _waiting = self.wait_for(name, known, peer)?;
        let mut updates = self.updates(name, known).ok_or_else(not_found)?;
        let is_there = |published: &Published| answer(published) != Reloaded::Later;
        if let Some(published) = blocked::wait(&mut updates, target_s, is_there).await {
            return Ok((published, reloaded));
        }
        // hls.js asks for whole segments in this way, and they may last longer than anybody waits.
        let now = self.outputs.get(name).ok_or_else(not_found)?;
        let now = now.borrow().clone();
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
        let _waiting = self.wait_for(name, rendition, asker.peer)?;
        let mut updates = self.updates(name, rendition).ok_or_else(not_found)?;
        let target_s = updates.borrow().as_ref().map(|now| now.snapshot.target_s);
        let came = blocked::wait(&mut updates, target_s.unwrap_or(0), wanted).await;
        Ok(came.ok_or_else(not_yet)?)
    }

    /// What the newest run of a stream publishes, whenever there is more of a rendition.
    pub(super) fn updates(&self, name: &StreamName, rendition: &Rendition) -> Option<Updates> {
        self.outputs.rendition(name, rendition.kind)
    }

    fn wait_for(
        &self,
        name: &StreamName,
        rendition: &Rendition,
        peer: IpAddr,
    ) -> Result<blocked::Waiting, Refused> {
        let client = match self.face {
            Face::Viewers => self.viewers.own_client(peer),
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
