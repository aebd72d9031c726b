//! Viewers of HLS and DASH: a session that lives while its playlists or manifests are asked for.
//!
//! Owns: who a viewer is (a session id in playlist URIs, `hls_ctx`, or a hash for players that drop it), and when it
//! counts as gone. Does not own: the table ([`weir_hub::Sessions`]); a viewer here is a row there.
//!
//! A viewer of HLS counts from its first media playlist on. By then it is known whether it carries the id that it was given,
//! so that nobody counts twice, and whoever only looks at the multivariant playlist does not count.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, header};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use weir_hub::{Hub, Role, Session};
use weir_media::StreamName;

use super::cmcd::Audience;
use crate::net::client::TrustedProxies;

/// Viewers that are kept at most: one names itself in a URL, so anybody can make them up.
const VIEWERS_MAX: usize = 100_000;
/// Length of a session id: 64 random bits in hexadecimal.
const ID_LEN: usize = 16;
/// How long a salt is used.
const SALT_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How viewers are told apart (`[viewers] identity`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Identity {
    /// By a random id in the URIs of playlists; by the hash when a player drops it.
    #[default]
    Session,
    /// By a salted hash of address and User-Agent; URIs carry nothing.
    Hash,
    /// Not at all: nobody is counted.
    Off,
}

/// The viewers of all streams.
#[derive(Debug, Clone)]
pub struct Viewers {
    known: Arc<Mutex<Known>>,
    identity: Identity,
    timeout: Duration,
    proxies: TrustedProxies,
    behind_cdn: Audience,
}

/// A request as far as it tells who asks.
#[derive(Clone, Copy)]
pub(super) struct Asks<'a> {
    /// Whose playlist or manifest it is.
    pub(super) protocol: &'static str,
    /// The session id that it carries.
    pub(super) hls_ctx: Option<&'a str>,
    /// The other end of the connection.
    pub(super) peer: IpAddr,
    pub(super) headers: &'a HeaderMap,
}

/// The server has ended this viewer's session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server has ended this session")]
pub(super) struct Kicked;

#[derive(Debug)]
struct Known {
    viewers: HashMap<(StreamName, &'static str, Id), Viewer>,
    salt: Salt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Id {
    /// What `hls_ctx` says.
    Session(u64),
    /// What the salt makes of address and User-Agent.
    Hash([u8; 16]),
}

#[derive(Debug)]
struct Viewer {
    /// None once the server has ended it.
    session: Option<Session>,
    seen: Instant,
}

impl Viewers {
    /// Viewers that count as gone `timeout` after their last playlist.
    #[must_use]
    pub fn new(identity: Identity, timeout: Duration, proxies: TrustedProxies) -> Self {
        Self {
            known: Arc::new(Mutex::new(Known {
                viewers: HashMap::new(),
                salt: Salt::new(Instant::now()),
            })),
            identity,
            timeout,
            proxies,
            behind_cdn: Audience::default(),
        }
    }

    /// Notes that somebody asked for a multivariant playlist. The id that its URIs are to carry, if they carry one: that
    /// of the request or a new one.
    pub(super) fn enter(
        &self,
        name: &StreamName,
        asks: Asks<'_>,
        now: Instant,
    ) -> Result<Option<String>, Kicked> {
        let mut known = self.known.lock();
        if let Some(id) = self.id(&known.salt, asks)
            && let Some(viewer) = known.viewers.get_mut(&(name.clone(), asks.protocol, id))
        {
            viewer.refresh(now)?;
        }
        drop(known);
        if self.identity != Identity::Session {
            return Ok(None);
        }
        let id = asks.hls_ctx.and_then(session_id);
        let id = id.or_else(|| getrandom::u64().ok());
        Ok(id.map(|id| format!("{id:0ID_LEN$x}")))
    }

    /// Notes that somebody asked for a media playlist or a manifest: a viewer.
    pub(super) fn watch(
        &self,
        hub: &Hub,
        name: &StreamName,
        asks: Asks<'_>,
        now: Instant,
    ) -> Result<(), Kicked> {
        let mut known = self.known.lock();
        let Some(id) = self.id(&known.salt, asks) else {
            return Ok(());
        };
        let has_room = known.viewers.len() < VIEWERS_MAX;
        match known.viewers.entry((name.clone(), asks.protocol, id)) {
            Entry::Occupied(viewer) => return viewer.into_mut().refresh(now),
            Entry::Vacant(room) if has_room => {
                let sessions = hub.sessions();
                let session = sessions.open(Role::Play, asks.protocol, name.clone(), now);
                room.insert(Viewer {
                    session: Some(session),
                    seen: now,
                });
            }
            Entry::Vacant(_) => {}
        }
        Ok(())
    }

    /// The address that a request comes from; none when a trusted proxy sends it, which speaks for many.
    pub(super) fn own_client(&self, peer: IpAddr) -> Option<IpAddr> {
        (!self.proxies.trusts(peer)).then_some(peer)
    }

    /// Notes that a CDN passed on a request, if its player says who it is. Nobody is counted where nobody may be.
    pub(super) fn note_behind_cdn(&self, name: &StreamName, sid: Option<&str>, now: Instant) {
        if let Some(sid) = sid.filter(|_| self.identity != Identity::Off) {
            self.behind_cdn.note(name, sid, now);
        }
    }

    /// How many players that say who they are have asked for a stream through a CDN lately. They are no viewers of
    /// ours: the CDN passes on only what it has not kept.
    #[must_use]
    pub fn count_behind_cdn(&self, name: &StreamName) -> u64 {
        self.behind_cdn.count(name)
    }

    /// As [`Self::count_behind_cdn`], of all streams.
    #[must_use]
    pub fn total_behind_cdn(&self) -> usize {
        self.behind_cdn.total()
    }

    /// Forgets the viewers that are gone. To be called about once a second.
    pub fn expire(&self, now: Instant) {
        self.behind_cdn.expire(now, self.timeout);
        let mut known = self.known.lock();
        let is_new_day = now.saturating_duration_since(known.salt.since) >= SALT_LIFETIME;
        if is_new_day {
            known.salt = Salt::new(now);
        }
        known.viewers.retain(|(_, _, id), viewer| {
            viewer.let_go_if_killed();
            let is_hash_of_yesterday = is_new_day && matches!(id, Id::Hash(_));
            !is_hash_of_yesterday && now.saturating_duration_since(viewer.seen) < self.timeout
        });
    }

    /// Who asks; None when viewers are not counted.
    fn id(&self, salt: &Salt, asks: Asks<'_>) -> Option<Id> {
        let carried = asks.hls_ctx.and_then(session_id);
        match (self.identity, carried) {
            (Identity::Off, _) => None,
            (Identity::Session, Some(id)) => Some(Id::Session(id)),
            (Identity::Session, None) | (Identity::Hash, _) => {
                let client = self.proxies.client(asks.peer, asks.headers);
                let agent = asks.headers.get(header::USER_AGENT);
                let agent = agent.map_or(&[][..], |agent| agent.as_bytes());
                salt.hash(client, agent).map(Id::Hash)
            }
        }
    }
}

impl Viewer {
    /// Who was sent away stays away for as long as it keeps asking.
    fn refresh(&mut self, now: Instant) -> Result<(), Kicked> {
        self.seen = now;
        self.let_go_if_killed();
        self.session.as_ref().map(|_| ()).ok_or(Kicked)
    }

    fn let_go_if_killed(&mut self) {
        self.session.take_if(|session| session.is_killed());
    }
}

/// What makes hashes of viewers worthless to anybody but this process, today. SHA-256 rather than the hasher of the
/// standard library: that one promises neither an algorithm nor that two of its keys have nothing in common.
struct Salt {
    /// None when the system has no random bytes: a hash without any would be as good as an address.
    bytes: Option<[u8; 32]>,
    since: Instant,
}

impl Salt {
    fn new(now: Instant) -> Self {
        let mut bytes = [0; 32];
        let filled = getrandom::fill(&mut bytes).is_ok();
        Self {
            bytes: filled.then_some(bytes),
            since: now,
        }
    }

    /// Half of the digest: what it leaves out cannot be appended to.
    fn hash(&self, addr: IpAddr, agent: &[u8]) -> Option<[u8; 16]> {
        let addr = match addr {
            IpAddr::V4(addr) => addr.to_ipv6_mapped(),
            IpAddr::V6(addr) => addr,
        };
        let digest = Sha256::new()
            .chain_update(self.bytes?)
            .chain_update(addr.octets())
            .chain_update(agent)
            .finalize();
        digest.first_chunk().copied()
    }
}

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt(***)")
    }
}

/// The id in `hls_ctx`, as we write it.
fn session_id(text: &str) -> Option<u64> {
    let is_ours = text.len() == ID_LEN
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    is_ours
        .then(|| u64::from_str_radix(text, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use weir_hub::{KillReason, Limits, Retention};

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);
    const HOME: &str = "203.0.113.9";

    #[test]
    fn a_session_counts_once_whatever_it_asks_for() {
        let (hub, viewers, now) = (hub(), viewers(Identity::Session), Instant::now());
        let plain = headers("one");
        let ctx = viewers.enter(&name(), asks(None, HOME, &plain), now);
        let ctx = ctx.expect("nobody is kicked").expect("an id");
        assert_eq!(hub.sessions().total_viewers(), 0, "it only looks so far");
        let carried = asks(Some(&ctx), HOME, &plain);
        for _ in 0..3 {
            assert_eq!(viewers.watch(&hub, &name(), carried, now), Ok(()));
            let again = viewers.enter(&name(), carried, now);
            assert_eq!(again, Ok(Some(ctx.clone())), "it keeps its id");
            assert_eq!(hub.sessions().total_viewers(), 1);
        }
        let other = viewers.enter(&name(), asks(None, HOME, &plain), now);
        let other = other.expect("nobody is kicked").expect("an id");
        let neighbour = asks(Some(&other), HOME, &plain);
        assert_eq!(viewers.watch(&hub, &name(), neighbour, now), Ok(()));
        assert_eq!(hub.sessions().total_viewers(), 2, "same address and agent");
    }

    #[test]
    fn a_player_that_drops_its_query_counts_once_by_its_hash() {
        for identity in [Identity::Session, Identity::Hash] {
            let (hub, viewers, now) = (hub(), viewers(identity), Instant::now());
            for (addr, agent, expected) in [
                (HOME, "one", 1),
                (HOME, "one", 1),
                (HOME, "two", 2),
                ("203.0.113.10", "one", 3),
                (HOME, "one", 3),
            ] {
                let headers = headers(agent);
                let bare = asks(None, addr, &headers);
                let ctx = viewers.enter(&name(), bare, now).expect("nobody is kicked");
                assert_eq!(ctx.is_some(), identity == Identity::Session);
                assert_eq!(viewers.watch(&hub, &name(), bare, now), Ok(()));
                assert_eq!(hub.sessions().total_viewers(), expected, "{addr} {agent}");
            }
        }
    }

    #[test]
    fn in_hash_mode_an_invented_id_makes_no_viewer() {
        let (hub, viewers, now) = (hub(), viewers(Identity::Hash), Instant::now());
        let headers = headers("one");
        for ctx in [None, Some("0123456789abcdef"), Some("fedcba9876543210")] {
            let asks = asks(ctx, HOME, &headers);
            assert_eq!(viewers.watch(&hub, &name(), asks, now), Ok(()));
        }
        assert_eq!(hub.sessions().total_viewers(), 1);
    }

    #[test]
    fn off_counts_nobody() {
        let (hub, viewers, now) = (hub(), viewers(Identity::Off), Instant::now());
        let headers = headers("one");
        let asks = asks(Some("0123456789abcdef"), HOME, &headers);
        assert_eq!(viewers.enter(&name(), asks, now), Ok(None));
        assert_eq!(viewers.watch(&hub, &name(), asks, now), Ok(()));
        assert_eq!(hub.sessions().total_viewers(), 0);
    }

    #[test]
    fn viewers_leave_and_hashes_end_with_their_day() {
        let (hub, viewers, now) = (hub(), viewers(Identity::Session), Instant::now());
        let headers = headers("one");
        let session = asks(Some("0123456789abcdef"), HOME, &headers);
        let bare = asks(None, HOME, &headers);
        let watch = |asks, now| viewers.watch(&hub, &name(), asks, now);
        assert_eq!(watch(bare, now), Ok(()));
        viewers.expire(now + TIMEOUT - Duration::from_millis(1));
        assert_eq!(hub.sessions().total_viewers(), 1);
        viewers.expire(now + TIMEOUT);
        assert_eq!(hub.sessions().total_viewers(), 0);

        let midnight = now + SALT_LIFETIME + TIMEOUT;
        assert_eq!(watch(bare, midnight), Ok(()));
        assert_eq!(watch(session, midnight), Ok(()));
        viewers.expire(midnight);
        assert_eq!(hub.sessions().total_viewers(), 1, "the hash is forgotten");
        assert_eq!(watch(bare, midnight), Ok(()));
        assert_eq!(watch(session, midnight), Ok(()));
        viewers.expire(midnight);
        assert_eq!(
            hub.sessions().total_viewers(),
            2,
            "it counts by its new one"
        );
    }

    #[test]
    fn who_is_kicked_stays_away_until_it_stops_asking() {
        let (hub, viewers, now) = (hub(), viewers(Identity::Session), Instant::now());
        let headers = headers("one");
        let session = asks(Some("0123456789abcdef"), HOME, &headers);
        let watch = |now| viewers.watch(&hub, &name(), session, now);
        assert_eq!(watch(now), Ok(()));
        let id = hub.sessions().snapshot()[0].id;
        assert!(hub.sessions().kill(id, KillReason::Shutdown));
        viewers.expire(now);
        assert_eq!(hub.sessions().total_viewers(), 0, "it counts no more");
        let late = now + TIMEOUT - Duration::from_millis(1);
        assert_eq!(watch(late), Err(Kicked));
        assert_eq!(viewers.enter(&name(), session, late), Err(Kicked));
        viewers.expire(now + TIMEOUT);
        assert_eq!(watch(late), Err(Kicked), "it has asked since");
        viewers.expire(late + TIMEOUT);
        assert_eq!(watch(late + TIMEOUT), Ok(()));
    }

    fn hub() -> Arc<Hub> {
        let gop_cache = Retention {
            groups_max: 1,
            floor_ms: 0,
            span_ms_max: 1_000,
            bytes_max: 1 << 20,
        };
        Hub::new(Limits {
            streams_max: 1,
            publisher_grace: Duration::ZERO,
            gop_cache,
        })
    }

    fn viewers(identity: Identity) -> Viewers {
        Viewers::new(identity, TIMEOUT, TrustedProxies::default())
    }

    fn asks<'a>(hls_ctx: Option<&'a str>, peer: &str, headers: &'a HeaderMap) -> Asks<'a> {
        Asks {
            protocol: "hls",
            hls_ctx,
            peer: peer.parse().expect("an address"),
            headers,
        }
    }

    fn headers(agent: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::USER_AGENT, http::HeaderValue::from_static(agent))])
    }

    fn name() -> StreamName {
        StreamName::parse("demo").expect("a valid name")
    }
}
