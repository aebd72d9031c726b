//! Requests that wait for media that does not exist yet: a playlist to reload, a part that was announced
//! (CONFORMANCE 2.2, L9).
//!
//! Owns: how long they wait, and how many may (FAULTS R5). Does not own: what they wait for
//! ([`weir_package::hls::reload`]) or the answer.

use std::{collections::HashMap, hash::Hash, net::IpAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use weir_media::StreamName;

use crate::derive::hls::{Published, Updates};

/// Requests that wait for one rendition: twice the players that one machine is expected to serve it to.
const PER_RENDITION_MAX: usize = 20_000;
/// How long a request waits, in target durations (section 6.2.5.2).
const WAIT_TARGETS: u64 = 3;
/// hls.js gives up on a playlist after 10 s, so it is answered before.
const WAIT_MAX: Duration = Duration::from_secs(8);

/// Too many requests wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooMany {
    /// Of this client.
    #[error("too many requests of this address wait already; see [limits] blocked_requests_per_ip")]
    OfClient,
    /// For this rendition.
    #[error("too many requests wait for this rendition")]
    ForRendition,
}

/// The requests that wait now.
#[derive(Debug, Clone)]
pub(super) struct Blocked {
    counts: Arc<Mutex<Counts>>,
    per_client_max: usize,
}

#[derive(Debug, Default)]
struct Counts {
    renditions: HashMap<Rendition, usize>,
    /// Addresses of requests that are open at this moment, and of no others.
    clients: HashMap<IpAddr, usize>,
}

type Rendition = (StreamName, &'static str);

/// A request that waits; it counts until it is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    counts: Arc<Mutex<Counts>>,
    rendition: Rendition,
    client: Option<IpAddr>,
}

impl Blocked {
    /// Nobody waits; of one address, that many may, or any number if 0.
    pub(super) fn new(per_client_max: usize) -> Self {
        Self {
            counts: Arc::default(),
            per_client_max,
        }
    }

    /// Lets a request wait for a rendition. Without a `client` it counts for nobody.
    pub(super) fn enter(
        &self,
        rendition: Rendition,
        client: Option<IpAddr>,
    ) -> Result<Waiting, TooMany> {
        let client = client.filter(|_| self.per_client_max > 0);
        let mut counts = self.counts.lock();
        let full = |count: Option<&usize>, max| count.is_some_and(|&count| count >= max);
        if client.is_some_and(|client| full(counts.clients.get(&client), self.per_client_max)) {
            return Err(TooMany::OfClient);
        }
        if full(counts.renditions.get(&rendition), PER_RENDITION_MAX) {
            return Err(TooMany::ForRendition);
        }
        *counts.renditions.entry(rendition.clone()).or_default() += 1;
        if let Some(client) = client {
            *counts.clients.entry(client).or_default() += 1;
        }
        drop(counts);
        Ok(Waiting {
            counts: Arc::clone(&self.counts),
            rendition,
            client,
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        release(&mut counts.renditions, &self.rendition);
        if let Some(client) = &self.client {
            release(&mut counts.clients, client);
        }
    }
}

fn release<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// Waits for something published that is `wanted`, as long as players have patience. None when it did not come.
pub(super) async fn wait(
    updates: &mut Updates,
    target_s: i64,
    wanted: impl Fn(&Published) -> bool,
) -> Option<Arc<Published>> {
    let target_s = u64::try_from(target_s).unwrap_or(0);
    let patience = Duration::from_secs(WAIT_TARGETS * target_s).min(WAIT_MAX);
    let is_there = |published: &Option<Arc<Published>>| published.as_deref().is_some_and(&wanted);
    let waited = tokio::time::timeout(patience, updates.wait_for(is_there)).await;
    // A run that has ended publishes no more.
    waited.ok()?.ok()?.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendition() -> Rendition {
        (StreamName::parse("demo").expect("a valid name"), "video")
    }

    #[test]
    fn r05_requests_of_one_address_are_limited_and_forgotten() {
        let (blocked, home) = (Blocked::new(2), Some([192, 0, 2, 1].into()));
        let enter = |client| blocked.enter(rendition(), client);
        let held = [enter(home), enter(home)].map(|waiting| waiting.expect("there is room"));
        assert_eq!(enter(home).err(), Some(TooMany::OfClient));
        assert!(enter(Some([192, 0, 2, 2].into())).is_ok(), "another one");
        assert!(enter(None).is_ok(), "nobody's");
        drop(held);
        assert!(enter(home).is_ok());
        let counts = blocked.counts.lock();
        assert!(counts.clients.is_empty() && counts.renditions.is_empty());
    }

    #[test]
    fn r05_requests_for_one_rendition_are_limited() {
        let blocked = Blocked::new(0);
        let enter = || blocked.enter(rendition(), Some([192, 0, 2, 1].into()));
        let held: Vec<_> = (0..PER_RENDITION_MAX).map(|_| enter()).collect();
        assert!(held.iter().all(Result::is_ok));
        assert_eq!(enter().err(), Some(TooMany::ForRendition));
        let (name, _) = rendition();
        assert!(blocked.enter((name, "audio"), None).is_ok());
    }
}
