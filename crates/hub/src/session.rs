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
    /// The server is going down.
    #[error("the server is shutting down")]
    Shutdown,
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    rows: Mutex<HashMap<SessionId, Arc<Row>>>,
    next: AtomicU64,
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
    pub fn open(self: &Arc<Self>, role: Role, protocol: &'static str, stream: StreamName, since: Instant) -> Session {
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
        Session { table: Arc::clone(self), row }
    }

    /// Every row.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Snapshot> {
        self.rows.lock().values().map(|row| row.snapshot()).collect()
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

    /// Viewers of all streams.
    #[must_use]
    pub fn total_viewers(&self) -> usize {
        self.rows.lock().values().filter(|row| row.role == Role::Play).count()
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
        self.killed.send_if_modified(|killed| killed.replace(reason).is_none());
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

impl Session {
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

    /// Waits until the server ends this session. Cancel-safe.
    pub async fn killed(&self) -> KillReason {
        let mut killed = self.row.killed.subscribe();
        loop {
            if let Some(reason) = *killed.borrow_and_update() {
                return reason;
            }
            // The row holds the sender, so waiting cannot fail while this guard lives.
            if killed.changed().await.is_err() {
                return KillReason::Shutdown;
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.table.rows.lock().remove(&self.row.id);
    }
}
