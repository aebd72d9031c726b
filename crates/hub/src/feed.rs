//! Fan-out: one bounded ring, any number of cursors.
//!
//! Owns: what is kept, for whom, and what happens to a reader that is too slow (FAULTS R3, F23,
//! F24): it jumps to the newest sync point and is counted. Memory is per feed, never per reader; the
//! writer never waits.
//! Does not own: what an item is. A feed knows its length, its time and whether reading can start
//! there.
//!
//! What a reader gets is made of contiguous runs, each of which begins at a sync item. A read costs
//! one short lock and a reference count per item, whatever the number of readers.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

/// Items that one read hands out at most: what a reader holds outside the ring stays small.
const READ_ITEMS_MAX: usize = 64;
/// Bytes that one read hands out at most, beyond its first item; about one socket send buffer.
const READ_BYTES_MAX: usize = 256 << 10;

/// What a feed must know of its items.
pub trait Item: Clone + Send + Sync + 'static {
    /// Bytes it keeps alive.
    fn len(&self) -> usize;
    /// Whether it holds nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Its media time in milliseconds; non-decreasing along the feed but for small interleaving.
    fn time_ms(&self) -> i64;
    /// Whether reading can start here.
    fn is_sync(&self) -> bool;
}

/// What a feed keeps. A *group* is a sync item with all that follow it up to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Groups kept beyond `floor_ms`, the unfinished one included; at least 1.
    pub groups_max: usize,
    /// Media time kept however many groups it is, for readers that lag a little.
    pub floor_ms: i64,
    /// Media time kept at the most, even if that cuts into the newest group.
    pub span_ms_max: i64,
    /// Bytes kept at the most, the ring's own included, even if that cuts into the newest group. An
    /// item that is larger alone is kept alone.
    pub bytes_max: usize,
}

/// How far a reader may lag before it jumps to the newest sync point. A reader within the newest
/// group has nothing to jump to: it reads on, as one that joins in a long group does, until a sync
/// item comes or the ring drops its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LagLimit {
    /// Media time in milliseconds.
    pub ms_max: i64,
    /// Bytes.
    pub bytes_max: u64,
}

impl LagLimit {
    /// Only the ring itself is the limit.
    pub const RING: Self = Self {
        ms_max: i64::MAX,
        bytes_max: u64::MAX,
    };
}

/// Where a new reader starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// At the newest sync item the feed holds; at the next one when it holds none.
    NewestSync,
    /// At the next sync item that comes.
    NextSync,
}

/// A bounded ring of items that many cursors read.
#[derive(Debug)]
pub struct Feed<T> {
    ring: Mutex<Ring<T>>,
    /// Changes after the ring has; readers wait on it, and are counted by it.
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct Ring<T> {
    retention: Retention,
    slots: VecDeque<Slot<T>>,
    /// Sequence number of the front slot.
    first: u64,
    /// Sequence numbers of the sync items in the ring, oldest first.
    syncs: VecDeque<u64>,
    /// What the slots weigh ([`Slot::weight`]).
    bytes: usize,
    /// Bytes of all items ever pushed.
    end_offset: u64,
    /// The latest time that an item had.
    time_ms: i64,
    closed: bool,
}

#[derive(Debug)]
struct Slot<T> {
    item: T,
    /// [`Ring::end_offset`] behind this item.
    end_offset: u64,
}

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Items were handed out.
    Items {
        /// How many are missing right before them, because the reader was too slow. What passes before
        /// a reader's first sync item is not missing.
        skipped: u64,
    },
    /// Nothing new.
    Empty,
    /// The feed has ended and everything in it was read.
    Closed,
}

impl<T: Item> Feed<T> {
    /// An empty feed.
    #[must_use]
    pub fn new(retention: Retention) -> Arc<Self> {
        let ring = Ring {
            retention,
            slots: VecDeque::new(),
            first: 0,
            syncs: VecDeque::new(),
            bytes: 0,
            end_offset: 0,
            time_ms: i64::MIN,
            closed: false,
        };
        Arc::new(Self {
            ring: Mutex::new(ring),
            changed: watch::Sender::new(()),
        })
    }

    /// Appends items and wakes the readers once. A feed that is closed takes nothing more.
    pub fn push(&self, items: impl IntoIterator<Item = T>) {
        let mut ring = self.ring.lock();
        if ring.closed {
            return;
        }
        let before = ring.end();
        for item in items {
            ring.push(item);
        }
        let grew = ring.end() != before;
        drop(ring);
        if grew {
            self.changed.send_replace(());
        }
    }

    /// Ends the feed: readers take what is left and then see [`Read::Closed`].
    pub fn close(&self) {
        self.ring.lock().closed = true;
        self.changed.send_replace(());
    }

    /// A new reader.
    #[must_use]
    pub fn cursor(self: &Arc<Self>, join: Join, lag: LagLimit) -> Cursor<T> {
        let ring = self.ring.lock();
        let sync = ring
            .syncs
            .back()
            .copied()
            .filter(|_| join == Join::NewestSync);
        let place = Place {
            next: sync.unwrap_or_else(|| ring.end()),
            awaits_sync: sync.is_none(),
            started: sync.is_some(),
            skipped: 0,
            lag,
        };
        drop(ring);
        Cursor {
            feed: Arc::clone(self),
            changes: self.changed.subscribe(),
            place,
        }
    }

    /// A new reader that goes on where another one is: at `place`.
    #[must_use]
    pub fn cursor_at(self: &Arc<Self>, place: u64, lag: LagLimit) -> Cursor<T> {
        Cursor {
            feed: Arc::clone(self),
            changes: self.changed.subscribe(),
            place: Place {
                next: place,
                awaits_sync: false,
                started: true,
                skipped: 0,
                lag,
            },
        }
    }

    /// How many cursors read this feed.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.changed.receiver_count()
    }

    /// Waits until nobody reads this feed.
    pub async fn unread(&self) {
        self.changed.closed().await;
    }

    /// Bytes the feed keeps alive now, those of its own slots included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.ring.lock().bytes
    }
}

/// One reader's place in a [`Feed`].
#[derive(Debug)]
pub struct Cursor<T> {
    feed: Arc<Feed<T>>,
    changes: watch::Receiver<()>,
    place: Place,
}

#[derive(Debug)]
struct Place {
    /// Sequence number of the item to read next, or of the first that may be it.
    next: u64,
    /// Whether reading goes on only at a sync item.
    awaits_sync: bool,
    /// Whether there was a first sync item to read from.
    started: bool,
    /// Items missed since the last that were handed out.
    skipped: u64,
    lag: LagLimit,
}

impl<T: Item> Cursor<T> {
    /// The feed that it reads.
    #[must_use]
    pub fn feed(&self) -> &Arc<Feed<T>> {
        &self.feed
    }

    /// The sequence number of the item to read next; none while a first item to begin with is awaited.
    #[must_use]
    pub fn place(&self) -> Option<u64> {
        (!self.place.awaits_sync).then_some(self.place.next)
    }

    /// Goes on at another place: somebody else has handed out what comes before it.
    pub fn go_on_at(&mut self, place: u64) {
        self.place.next = place;
        self.place.awaits_sync = false;
    }

    /// Appends what is ready to `out`, without waiting.
    pub fn read(&mut self, out: &mut Vec<T>) -> Read {
        // No wake-up is lost, because the two sides go opposite ways: a writer changes the ring and then
        // the version of `changed`; a reader takes the version as seen and then looks at the ring. What
        // this read does not find is pushed after its lock, so its version is later than the one taken
        // here and `next` does not sleep. Marking after the look would swallow a push in between. The
        // price is a wake-up for items that are already read, which ends in `Empty`.
        self.changes.mark_unchanged();
        let ring = self.feed.ring.lock();
        self.place.settle(&ring);
        let mut bytes = 0;
        let mut taken = 0;
        for slot in ring
            .slots
            .iter()
            .skip(ring.index(self.place.next))
            .take(READ_ITEMS_MAX)
        {
            if taken > 0 && bytes + slot.item.len() > READ_BYTES_MAX {
                break;
            }
            bytes += slot.item.len();
            taken += 1;
            out.push(slot.item.clone());
        }
        self.place.next += taken;
        match (taken, ring.closed) {
            (0, true) => Read::Closed,
            (0, false) => Read::Empty,
            _ => Read::Items {
                skipped: std::mem::take(&mut self.place.skipped),
            },
        }
    }

    /// Waits until the feed has changed since the last read. Cancel-safe.
    pub async fn changed(&mut self) {
        // The sender lives in the feed that this cursor holds, so waiting cannot fail.
        let _ = self.changes.changed().await;
    }

    /// Appends what is ready to `out`, waiting until there is something; `None` when the feed has
    /// ended. Otherwise as [`Read::Items::skipped`]. Cancel-safe: what is not waited for is not taken.
    pub async fn next(&mut self, out: &mut Vec<T>) -> Option<u64> {
        loop {
            match self.read(out) {
                Read::Items { skipped } => return Some(skipped),
                Read::Closed => return None,
                // The sender lives in the feed that this cursor holds, so waiting cannot fail.
                Read::Empty => self.changes.changed().await.ok()?,
            }
        }
    }
}

impl Place {
    /// Finds where reading goes on: at a sync item if one is awaited or the reader is too slow.
    fn settle<T: Item>(&mut self, ring: &Ring<T>) {
        if self.awaits_sync {
            let Some(sync) = ring.sync_from(self.next) else {
                return self.pass_to(ring.end());
            };
            self.pass_to(sync);
            self.awaits_sync = false;
            self.started = true;
        }
        let fell_off = self.next < ring.first;
        if !fell_off && !self.lags(ring) {
            return;
        }
        match ring.syncs.back() {
            Some(&sync) if sync > self.next => self.pass_to(sync),
            _ if fell_off => {
                self.pass_to(ring.end());
                self.awaits_sync = true;
            }
            _ => {}
        }
    }

    fn pass_to(&mut self, next: u64) {
        if self.started {
            self.skipped += next - self.next;
        }
        self.next = next;
    }

    fn lags<T: Item>(&self, ring: &Ring<T>) -> bool {
        let Some(slot) = ring.slots.get(ring.index(self.next)) else {
            return false;
        };
        let behind_bytes = ring.end_offset - slot.end_offset;
        behind_bytes > self.lag.bytes_max || ring.ms_since(slot) > self.lag.ms_max
    }
}

impl<T: Item> Slot<T> {
    /// What the slot keeps alive. The slot itself counts, or a source of tiny items would fill memory
    /// with slots long before their bytes reach a limit.
    fn weight(&self) -> usize {
        self.item.len() + size_of::<Self>()
    }
}

impl<T: Item> Ring<T> {
    fn push(&mut self, item: T) {
        if item.is_sync() {
            self.syncs.push_back(self.end());
        }
        self.end_offset += item.len() as u64;
        self.time_ms = self.time_ms.max(item.time_ms());
        let slot = Slot {
            item,
            end_offset: self.end_offset,
        };
        self.bytes += slot.weight();
        self.slots.push_back(slot);
        while let Some(second) = self.spare_group_end() {
            while self.first < second {
                self.pop();
            }
        }
        while self.slots.len() > 1 && self.is_over() {
            self.pop();
        }
    }

    fn pop(&mut self) {
        let Some(slot) = self.slots.pop_front() else {
            return;
        };
        if self.syncs.front() == Some(&self.first) {
            self.syncs.pop_front();
        }
        self.bytes -= slot.weight();
        self.first += 1;
    }

    /// Where the oldest group ends, if enough groups and enough time stay without it.
    fn spare_group_end(&self) -> Option<u64> {
        let second = *self.syncs.get(1)?;
        let stays_ms = self.ms_since(self.slots.get(self.index(second))?);
        let spare = self.syncs.len() > self.retention.groups_max.max(1)
            && stays_ms >= self.retention.floor_ms;
        spare.then_some(second)
    }

    fn is_over(&self) -> bool {
        let span_ms = self.slots.front().map_or(0, |slot| self.ms_since(slot));
        self.bytes > self.retention.bytes_max || span_ms > self.retention.span_ms_max
    }

    /// The sequence number behind the newest item.
    fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// Where the item with that number is among the slots; behind them all when it is still to come.
    fn index(&self, number: u64) -> usize {
        usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX)
    }

    /// The first sync item from `number` on. Where every item is one there are thousands, hence the
    /// binary search.
    fn sync_from(&self, number: u64) -> Option<u64> {
        self.syncs
            .get(self.syncs.partition_point(|&sync| sync < number))
            .copied()
    }

    /// Media time from `slot` to the newest item.
    fn ms_since(&self, slot: &Slot<T>) -> i64 {
        self.time_ms.saturating_sub(slot.item.time_ms())
    }
}

#[cfg(test)]
mod tests;
