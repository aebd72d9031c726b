//! Objects that memory no longer holds, kept for a moment once somebody has read them (CONTRACT 1.8).
//!
//! Owns: one load per object however many ask at once, how long and how much is kept, and the counts. Live segments are
//! in the window of their stream and never here. Does not own: where objects are loaded from.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use moka::{future::Cache, policy::EvictionPolicy};
use weir_media::StreamName;

/// How long an object is kept: viewers who rewind to the same place are rarely further apart.
const TTL: Duration = Duration::from_secs(30);
/// The largest object that is kept; a larger one is loaded for each who asks.
const OBJECT_BYTES_MAX: usize = 100_000_000;

/// How much is kept; both hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Objects; at least 1.
    pub entries_max: u64,
    /// Their bytes.
    pub bytes_max: u64,
}

/// The objects that were read of late, of all streams.
#[derive(Debug, Clone)]
pub struct ReadCache {
    objects: Cache<(StreamName, String), Bytes>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl ReadCache {
    /// A cache with nothing in it.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        // An object weighs at least its share, so that there are never more of them than are allowed.
        let share = limits.bytes_max / limits.entries_max.max(1);
        let weigh = move |_: &_, object: &Bytes| {
            u32::try_from(share.max(object.len() as u64)).unwrap_or(u32::MAX)
        };
        let objects = Cache::builder()
            .max_capacity(limits.bytes_max)
            .weigher(weigh)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(TTL)
            .support_invalidation_closures()
            .build();
        Self {
            objects,
            counts: Arc::default(),
        }
    }

    /// An object of a stream, which is `len` bytes long; `load` is run when it is not here and nobody loads it already.
    ///
    /// # Errors
    /// Those of `load`, for all who waited for it. Failures are not kept.
    pub async fn get<E: Send + Sync + 'static>(
        &self,
        stream: &StreamName,
        object: String,
        len: usize,
        load: impl Future<Output = Result<Bytes, E>> + Send,
    ) -> Result<Bytes, Arc<E>> {
        let counts = &self.counts;
        let load = async {
            counts.misses.fetch_add(1, Ordering::Relaxed);
            load.await
        };
        if len > OBJECT_BYTES_MAX {
            return load.await.map_err(Arc::new);
        }
        let entry = self.objects.entry((stream.clone(), object));
        let found = entry.or_try_insert_with(load).await?;
        if !found.is_fresh() {
            counts.hits.fetch_add(1, Ordering::Relaxed);
        }
        Ok(found.into_value())
    }

    /// Drops what is kept of a stream.
    pub async fn forget(&self, stream: &StreamName) {
        let forgotten = stream.clone();
        let of_stream = move |(name, _): &(StreamName, String), _: &Bytes| *name == forgotten;
        // It fails only without support for such closures, which the cache was built with.
        if self.objects.invalidate_entries_if(of_stream).is_ok() {
            self.objects.run_pending_tasks().await;
        }
    }

    /// Times that an object was here, or on its way already.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.counts.hits.load(Ordering::Relaxed)
    }

    /// Times that an object had to be loaded.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.counts.misses.load(Ordering::Relaxed)
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let objects = self.objects.iter();
        objects.map(|(_, object)| object.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::{pending, poll_fn},
        pin::Pin,
        task::Poll,
    };

    use tokio::{
        sync::{Notify, watch},
        task::JoinSet,
    };

    use super::*;

    const LIMITS: Limits = Limits {
        entries_max: 10,
        bytes_max: 1_000,
    };

    fn room() -> StreamName {
        StreamName::parse("room").expect("valid")
    }

    async fn bytes(len: usize) -> Result<Bytes, Infallible> {
        Ok(vec![7; len].into())
    }

    /// Runs `count` requests for one object at once; the load ends when all of them wait for it.
    async fn crowd(
        cache: &ReadCache,
        count: usize,
        outcome: Result<Bytes, &'static str>,
    ) -> Vec<Result<Bytes, Arc<&'static str>>> {
        let (asked, mut asking) = watch::channel(0);
        let asked = Arc::new(asked);
        let release = Arc::new(Notify::new());
        let mut requests = JoinSet::new();
        for _ in 0..count {
            let (cache, asked, release, outcome) = (
                cache.clone(),
                Arc::clone(&asked),
                Arc::clone(&release),
                outcome.clone(),
            );
            let load = async move {
                release.notified().await;
                outcome
            };
            requests.spawn(async move {
                asked.send_modify(|asked| *asked += 1);
                cache
                    .get(&room(), "video/1-1.m4s".to_owned(), 3, load)
                    .await
            });
        }
        asking
            .wait_for(|&asked| asked == count)
            .await
            .expect("the sender is here");
        release.notify_one();
        requests.join_all().await
    }

    #[tokio::test]
    async fn a_hundred_misses_at_once_are_one_load() {
        let cache = ReadCache::new(LIMITS);
        let answers = crowd(&cache, 100, Ok(Bytes::from_static(b"abc"))).await;
        assert!(
            answers
                .iter()
                .all(|answer| answer.as_ref().is_ok_and(|bytes| bytes == "abc"))
        );
        assert_eq!((cache.misses(), cache.hits(), cache.bytes()), (1, 99, 3));
        let again = crowd(&cache, 5, Err("nobody loads it again")).await;
        assert!(again.iter().all(Result::is_ok));
        assert_eq!((cache.misses(), cache.hits()), (1, 104));
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all_who_wait_and_is_not_kept() {
        let cache = ReadCache::new(LIMITS);
        let answers = crowd(&cache, 100, Err("the disk hangs")).await;
        assert!(answers.iter().all(|answer| {
            answer
                .as_ref()
                .is_err_and(|error| **error == "the disk hangs")
        }));
        assert_eq!((cache.misses(), cache.hits(), cache.bytes()), (1, 0, 0));
        let later = crowd(&cache, 1, Ok(Bytes::from_static(b"abc"))).await;
        assert!(later[0].is_ok());
    }

    /// Whoever loads may leave; those who wait for it do not wait for ever.
    #[tokio::test]
    async fn a_load_that_is_given_up_is_taken_over() {
        let (cache, room) = (ReadCache::new(LIMITS), room());
        let never = pending::<Result<Bytes, Infallible>>();
        let mut first = Box::pin(cache.get(&room, "a".to_owned(), 3, never));
        let mut second = Box::pin(cache.get(&room, "a".to_owned(), 3, bytes(3)));
        assert!(is_pending(&mut first).await && is_pending(&mut second).await);
        drop(first);
        assert_eq!(second.await.expect("loaded").len(), 3);
        assert_eq!((cache.misses(), cache.hits()), (2, 0));
    }

    /// Polls a future once; whether it still waits.
    async fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
        poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context).is_pending())).await
    }

    #[tokio::test]
    async fn a_stream_is_forgotten_whole_and_alone() {
        let cache = ReadCache::new(LIMITS);
        let hall = StreamName::parse("hall").expect("valid");
        for object in ["a", "b"] {
            for stream in [&room(), &hall] {
                let got = cache.get(stream, object.to_owned(), 10, bytes(10)).await;
                assert!(got.is_ok());
            }
        }
        assert_eq!(cache.bytes(), 40);
        cache.forget(&room()).await;
        assert_eq!(cache.bytes(), 20);
        let misses = cache.misses();
        for (stream, loaded) in [(&hall, 0), (&room(), 1)] {
            let got = cache.get(stream, "a".to_owned(), 10, bytes(10)).await;
            assert!(got.is_ok());
            assert_eq!(cache.misses() - misses, loaded, "{stream}");
        }
    }

    #[tokio::test]
    async fn objects_and_bytes_are_bounded() {
        for (len, expected) in [(1, 10), (400, 800), (1_001, 0)] {
            let cache = ReadCache::new(LIMITS);
            for number in 0..50 {
                let got = cache
                    .get(&room(), number.to_string(), len, bytes(len))
                    .await;
                assert_eq!(got.expect("loaded").len(), len);
                cache.objects.run_pending_tasks().await;
            }
            assert_eq!(cache.bytes(), expected, "objects of {len}");
        }
    }

    #[tokio::test]
    async fn what_is_too_large_is_loaded_each_time_and_not_kept() {
        let cache = ReadCache::new(Limits {
            bytes_max: 1 << 40,
            ..LIMITS
        });
        for _ in 0..3 {
            let len = OBJECT_BYTES_MAX + 1;
            let got = cache.get(&room(), "a".to_owned(), len, bytes(1)).await;
            assert!(got.is_ok());
        }
        assert_eq!((cache.misses(), cache.hits(), cache.bytes()), (3, 0, 0));
    }
}
