//! Viewers of HLS: a session that lives while its playlists are asked for.
//!
//! Owns: session ids in playlist URIs (`hls_ctx`), and when a viewer counts as gone. Does not own: the table
//! ([`weir_hub::Sessions`]); a viewer here is a row there.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use weir_hub::{Hub, Role, Session};
use weir_media::StreamName;

/// Sessions that are kept at most: one names itself in a URL, so anybody can make them up.
const SESSIONS_MAX: usize = 100_000;
/// Length of a session id: 64 random bits in hexadecimal.
const ID_LEN: usize = 16;

/// The HLS viewers of all streams.
#[derive(Debug, Clone)]
pub struct Viewers {
    known: Arc<Mutex<Known>>,
    timeout: Option<Duration>,
}

/// Viewers by stream and session id.
type Known = HashMap<(StreamName, Box<str>), Viewer>;

#[derive(Debug)]
struct Viewer {
    _session: Session,
    seen: Instant,
}

impl Viewers {
    /// Viewers that count as gone `timeout` after their last playlist; `None` counts nobody.
    #[must_use]
    pub fn new(timeout: Option<Duration>) -> Self {
        Self {
            known: Arc::default(),
            timeout,
        }
    }

    /// Notes that a viewer asked for a playlist, with the session id it carries. A new one gets an id. None when viewers
    /// are not counted, or when the id is not one of ours.
    pub(super) fn enter(&self, hub: &Hub, name: &StreamName, id: Option<&str>) -> Option<Box<str>> {
        self.timeout?;
        let now = Instant::now();
        let id: Box<str> = match id {
            Some(id) if is_id(id) => id.into(),
            Some(_) => return None,
            None => format!("{:016x}", getrandom::u64().ok()?).into(),
        };
        let mut known = self.known.lock();
        let key = (name.clone(), id.clone());
        if let Some(viewer) = known.get_mut(&key) {
            viewer.seen = now;
        } else if known.len() < SESSIONS_MAX {
            let session = hub
                .sessions()
                .open(Role::Play, super::PROTOCOL, name.clone(), now);
            known.insert(
                key,
                Viewer {
                    _session: session,
                    seen: now,
                },
            );
        }
        Some(id)
    }

    /// Forgets the viewers that are gone. To be called about once a second.
    pub fn expire(&self, now: Instant) {
        let timeout = self.timeout.unwrap_or_default();
        self.known
            .lock()
            .retain(|_, viewer| now.saturating_duration_since(viewer.seen) < timeout);
    }
}

fn is_id(id: &str) -> bool {
    id.len() == ID_LEN
        && id
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}
