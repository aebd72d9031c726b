//! The one table of sessions: every publisher and every viewer of any protocol is a row.
//!
//! Owns: who is connected, what flows, and the handle that ends a session. Counts, limits and `/status` read it.
//! Does not own: addresses or User-Agents; none is ever kept here.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use tokio::sync::watch;
use weir_media::StreamName;

use crate::Role;

/// Identifies a session for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// Why the server ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KillReason {
    /// The same key published again, from elsewhere.
    #[error("another connection with the same key took over this stream")]
    TakenOver,
    /// The operator wants it to end.
    #[error("the operator of the server ended this session")]
    Kicked,
    /// The server is going down.
    #[error("the server is shutting down")]
    Shutdown,
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    rows: Mutex<HashMap<SessionId, Arc<Row>>>,
    /// What the sessions that are gone have carried. Taken inside `rows`, so that no byte is in both or in neither.
    ended: Mutex<HashMap<(Role, &'static str), Traffic>>,
    next: AtomicU64,
}

/// What sessions have carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes taken in or handed out.
    pub bytes: u64,
    /// Items that viewers were too slow for.
    pub skipped: u64,
}

#[derive(Debug)]
struct Row {
    id: SessionId,
    role: Role,
    protocol: &'static str,
    stream: StreamName,
    since: Instant,
    bytes: AtomicU64,
    skipped: AtomicU64,
    killed: watch::Sender<Option<KillReason>>,
}

/// One row as it was when it was read.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Which session.
    pub id: SessionId,
    /// Publisher or viewer.
    pub role: Role,
    /// The protocol's label.
    pub protocol: &'static str,
    /// The stream.
    pub stream: StreamName,
    /// Since when.
    pub since: Instant,
    /// Bytes taken in or handed out.
    pub bytes: u64,
    /// Items that a viewer was too slow for.
    pub skipped: u64,
}

impl Sessions {
    /// Adds a row; it goes away with the returned guard.
    #[must_use]
    pub fn open(
        self: &Arc<Self>,
        role: Role,
        protocol: &'static str,
        stream: StreamName,
        since: Instant,
    ) -> Session {
        let id = SessionId(self.next.fetch_add(1, Ordering::Relaxed));
        let row = Arc::new(Row {
            id,
            role,
            protocol,
            stream,
            since,
            bytes: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            killed: watch::Sender::new(None),
        });
        self.rows.lock().insert(id, Arc::clone(&row));
        Session {
            table: Arc::clone(self),
            row,
        }
    }

    /// Every row.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Snapshot> {
        self.rows
            .lock()
            .values()
            .map(|row| row.snapshot())
            .collect()
    }

    /// Viewers of a stream by protocol.
    #[must_use]
    pub fn viewers(&self, stream: &StreamName) -> BTreeMap<&'static str, u64> {
        let mut viewers = BTreeMap::new();
        for row in self.rows.lock().values() {
            if row.role == Role::Play && row.stream == *stream {
                *viewers.entry(row.protocol).or_default() += 1;
            }
        }
        viewers
    }

    /// Whether anybody watches a stream.
    #[must_use]
    pub fn is_watched(&self, stream: &StreamName) -> bool {
        let rows = self.rows.lock();
        rows.values()
            .any(|row| row.role == Role::Play && row.stream == *stream)
    }

    /// Viewers of all streams, those of a run that has ended too.
    #[must_use]
    pub fn total_viewers(&self) -> usize {
        self.rows
            .lock()
            .values()
            .filter(|row| row.role == Role::Play)
            .count()
    }

    /// What all sessions since the start of the process have carried, by role and protocol. It only ever grows.
    #[must_use]
    pub fn traffic(&self) -> HashMap<(Role, &'static str), Traffic> {
        let rows = self.rows.lock();
        let mut traffic = self.ended.lock().clone();
        for row in rows.values() {
            row.add_to(&mut traffic);
        }
        traffic
    }

    /// Ends a session; false when there is none of that id.
    pub fn kill(&self, id: SessionId, reason: KillReason) -> bool {
        let row = self.rows.lock().get(&id).cloned();
        row.inspect(|row| row.kill(reason)).is_some()
    }

    /// Ends every session of a role.
    pub fn kill_all(&self, role: Role, reason: KillReason) {
        for row in self.rows.lock().values().filter(|row| row.role == role) {
            row.kill(reason);
        }
    }
}

impl Row {
    fn kill(&self, reason: KillReason) {
        // The first reason stays: it is the one that the peer is told.
        self.killed.send_if_modified(|killed| {
            let first = killed.is_none();
            killed.get_or_insert(reason);
            first
        });
    }

    fn add_to(&self, traffic: &mut HashMap<(Role, &'static str), Traffic>) {
        let sum = traffic.entry((self.role, self.protocol)).or_default();
        sum.bytes += self.bytes.load(Ordering::Relaxed);
        sum.skipped += self.skipped.load(Ordering::Relaxed);
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            id: self.id,
            role: self.role,
            protocol: self.protocol,
            stream: self.stream.clone(),
            since: self.since,
            bytes: self.bytes.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
        }
    }
}

/// A row of the table, held by the connection that it describes.
#[derive(Debug)]
pub struct Session {
    table: Arc<Sessions>,
    row: Arc<Row>,
}

/// Counts for a session, wherever its bytes are written.
#[derive(Debug, Clone)]
pub struct Meter(Arc<Row>);

impl Meter {
    /// As [`Session::add_bytes`].
    pub fn add_bytes(&self, bytes: u64) {
        self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// As [`Session::add_skipped`].
    pub fn add_skipped(&self, items: u64) {
        self.0.skipped.fetch_add(items, Ordering::Relaxed);
    }
}

impl Session {
    /// What counts for this session elsewhere. What it counts after the session has ended is lost.
    #[must_use]
    pub fn meter(&self) -> Meter {
        Meter(Arc::clone(&self.row))
    }

    /// Which session this is.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.row.id
    }

    /// Counts bytes taken in or handed out.
    pub fn add_bytes(&self, bytes: u64) {
        self.row.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts items that the viewer was too slow for.
    pub fn add_skipped(&self, items: u64) {
        self.row.skipped.fetch_add(items, Ordering::Relaxed);
    }

    /// Whether the server has ended this session: for one that no task stands for.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.row.killed.borrow().is_some()
    }

    /// Waits until the server ends this session. Cancel-safe.
    pub fn killed(&self) -> impl Future<Output = KillReason> + Send + use<> {
        let mut killed = self.row.killed.subscribe();
        async move {
            // The row holds the sender, so waiting cannot fail while this guard lives.
            let killed = killed.wait_for(Option::is_some).await;
            killed
                .ok()
                .and_then(|reason| *reason)
                .unwrap_or(KillReason::Shutdown)
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut rows = self.table.rows.lock();
        rows.remove(&self.row.id);
        self.row.add_to(&mut self.table.ended.lock());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 3] = ["a", "b", "c"];
    const PROTOCOLS: [&str; 2] = ["rtmp", "http-flv"];

    #[test]
    fn a_kill_reaches_a_session_that_waits_and_one_that_waits_later() {
        let sessions = Arc::<Sessions>::default();
        let session = open(&sessions, Role::Play);
        let mut waits = pin!(session.killed());
        let mut context = Context::from_waker(Waker::noop());
        assert!(waits.as_mut().poll(&mut context).is_pending());
        assert!(!session.is_killed());
        assert!(sessions.kill(session.id(), KillReason::TakenOver));
        assert!(session.is_killed());
        assert_eq!(waits.poll(&mut context), Poll::Ready(KillReason::TakenOver));
        assert_eq!(killed(&session), Some(KillReason::TakenOver));
        assert_eq!(
            killed(&session),
            Some(KillReason::TakenOver),
            "it stays killed"
        );
    }

    #[test]
    fn the_first_reason_to_kill_stays() {
        let sessions = Arc::<Sessions>::default();
        let session = open(&sessions, Role::Publish);
        sessions.kill(session.id(), KillReason::TakenOver);
        sessions.kill_all(Role::Publish, KillReason::Shutdown);
        assert_eq!(killed(&session), Some(KillReason::TakenOver));
    }

    #[test]
    fn kills_only_what_is_meant() {
        let sessions = Arc::<Sessions>::default();
        let [first, second] = [(); 2].map(|()| open(&sessions, Role::Play));
        let publisher = open(&sessions, Role::Publish);
        assert!(sessions.kill(first.id(), KillReason::Shutdown));
        assert_eq!((killed(&second), killed(&publisher)), (None, None));
        sessions.kill_all(Role::Play, KillReason::Shutdown);
        assert_eq!(
            (killed(&second), killed(&publisher)),
            (Some(KillReason::Shutdown), None)
        );
        let id = first.id();
        drop(first);
        assert!(!sessions.kill(id, KillReason::Shutdown), "it is gone");
    }

    #[test]
    fn a_row_shows_what_flowed() {
        let sessions = Arc::<Sessions>::default();
        let session = open(&sessions, Role::Play);
        session.add_bytes(40);
        session.add_bytes(2);
        session.add_skipped(7);
        let rows = sessions.snapshot();
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (rows[0].id, rows[0].bytes, rows[0].skipped),
            (session.id(), 42, 7)
        );
    }

    #[test]
    fn traffic_outlives_its_session() {
        let sessions = Arc::<Sessions>::default();
        let [first, second] = [(); 2].map(|()| open(&sessions, Role::Play));
        let publisher = open(&sessions, Role::Publish);
        first.add_bytes(40);
        first.add_skipped(3);
        second.add_bytes(2);
        publisher.add_bytes(1_000);
        let viewers = Traffic {
            bytes: 42,
            skipped: 3,
        };
        let publishers = Traffic {
            bytes: 1_000,
            skipped: 0,
        };
        let expected = HashMap::from([
            ((Role::Play, "rtmp"), viewers),
            ((Role::Publish, "rtmp"), publishers),
        ]);
        assert_eq!(sessions.traffic(), expected);
        drop((first, publisher));
        assert_eq!(sessions.traffic(), expected);
        drop(second);
        assert_eq!(sessions.traffic(), expected);
    }

    #[test]
    fn traffic_counts_sessions_that_are_open_and_that_are_gone() {
        let sessions = Arc::<Sessions>::default();
        let [first, second] = [(); 2].map(|()| open(&sessions, Role::Play));
        let publisher = open(&sessions, Role::Publish);
        first.add_bytes(40);
        second.add_bytes(2);
        second.add_skipped(7);
        publisher.add_bytes(100);
        let play = Traffic {
            bytes: 42,
            skipped: 7,
        };
        let publish = Traffic {
            bytes: 100,
            skipped: 0,
        };
        let expected = HashMap::from([
            ((Role::Play, "rtmp"), play),
            ((Role::Publish, "rtmp"), publish),
        ]);
        assert_eq!(sessions.traffic(), expected);
        drop(first);
        assert_eq!(
            sessions.traffic(),
            expected,
            "what is gone is counted, once"
        );
        drop((second, publisher));
        assert_eq!(sessions.traffic(), expected);
    }

    proptest! {
        /// Each step opens a session (role, protocol, stream) or ends one of those that are open.
        #[test]
        fn counts_are_exact(
            steps in prop::collection::vec((0..3_u8, 0..2_usize, 0..3_usize, 0..1_000_usize), 0..100),
        ) {
            let sessions = Arc::<Sessions>::default();
            let mut opened: Vec<(Role, usize, usize, Session)> = Vec::new();
            for (kind, protocol, stream, at) in steps {
                if kind == 2 && !opened.is_empty() {
                    opened.swap_remove(at % opened.len());
                } else {
                    let role = if kind == 0 { Role::Publish } else { Role::Play };
                    let session = sessions.open(role, PROTOCOLS[protocol], name(NAMES[stream]), Instant::now());
                    opened.push((role, protocol, stream, session));
                }
                let viewers = opened.iter().filter(|(role, ..)| *role == Role::Play);
                prop_assert_eq!(sessions.snapshot().len(), opened.len());
                prop_assert_eq!(sessions.total_viewers(), viewers.clone().count());
                for (of, text) in NAMES.iter().enumerate() {
                    let mut expected = BTreeMap::new();
                    for (_, protocol, ..) in viewers.clone().filter(|(_, _, stream, _)| *stream == of) {
                        *expected.entry(PROTOCOLS[*protocol]).or_default() += 1;
                    }
                    prop_assert_eq!(sessions.is_watched(&name(text)), !expected.is_empty());
                    prop_assert_eq!(sessions.viewers(&name(text)), expected);
                }
            }
            let mut ids: Vec<_> = opened.iter().map(|(.., session)| session.id()).collect();
            ids.sort();
            ids.dedup();
            prop_assert_eq!(ids.len(), opened.len(), "no two sessions share an id");
            drop(opened);
            prop_assert!(sessions.snapshot().is_empty());
        }
    }

    fn open(sessions: &Arc<Sessions>, role: Role) -> Session {
        sessions.open(role, "rtmp", name("demo"), Instant::now())
    }

    fn name(text: &str) -> StreamName {
        StreamName::parse(text).expect("a valid name")
    }

    fn killed(session: &Session) -> Option<KillReason> {
        match pin!(session.killed()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(reason) => Some(reason),
            Poll::Pending => None,
        }
    }
}
