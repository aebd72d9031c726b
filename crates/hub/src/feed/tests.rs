//! What a feed keeps, what its readers get, and what readers cost each other.

use std::{
    pin::pin,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::*;

/// What one slot of these tests weighs beyond its item.
const SLOT: usize = size_of::<Slot<Unit>>();
const STEP_MS: i64 = 40;
const LEN: usize = 100;
const ROOMY: Retention = Retention {
    groups_max: 1_000,
    floor_ms: 0,
    span_ms_max: i64::MAX,
    bytes_max: usize::MAX,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unit {
    number: u64,
    len: usize,
    time_ms: i64,
    sync: bool,
}

impl Item for Unit {
    fn len(&self) -> usize {
        self.len
    }

    fn time_ms(&self) -> i64 {
        self.time_ms
    }

    fn is_sync(&self) -> bool {
        self.sync
    }
}

#[test]
fn keeps_what_its_retention_says() {
    const MS: i64 = i64::MAX;
    const BYTES: usize = usize::MAX;
    // Groups, floor and span in milliseconds, bytes; the first item kept.
    check_kept((1_000, 0, MS, BYTES), 0);
    check_kept((2, 0, MS, BYTES), 10);
    check_kept((1, 0, MS, BYTES), 20);
    check_kept((0, 0, MS, BYTES), 20);
    check_kept((1, 9 * STEP_MS, MS, BYTES), 20);
    check_kept((1, 9 * STEP_MS + 1, MS, BYTES), 10);
    check_kept((1_000, 0, 5 * STEP_MS, BYTES), 24);
    check_kept((1_000, MS, 5 * STEP_MS, BYTES), 24);
    check_kept((1_000, 0, MS, 15 * (LEN + SLOT)), 15);
    check_kept((1_000, 0, MS, 15 * (LEN + SLOT) - 1), 16);
    check_kept((1_000, 0, MS, 0), 29);
}

/// Pushes three groups of ten; the ring then begins with item `first`.
#[track_caller]
fn check_kept(
    (groups_max, floor_ms, span_ms_max, bytes_max): (usize, i64, i64, usize),
    first: u64,
) {
    let retention = Retention {
        groups_max,
        floor_ms,
        span_ms_max,
        bytes_max,
    };
    let feed = Feed::new(retention);
    push(&feed, 0..30, 10);
    let ring = feed.ring.lock();
    let kept: Vec<u64> = ring.slots.iter().map(|slot| slot.item.number).collect();
    assert_eq!(kept, (first..30).collect::<Vec<_>>(), "{retention:?}");
    let syncs: Vec<u64> = [0, 10, 20]
        .into_iter()
        .filter(|&sync| sync >= first)
        .collect();
    assert_eq!(ring.syncs, syncs, "{retention:?}");
    assert_eq!(ring.bytes, kept.len() * (LEN + SLOT), "{retention:?}");
}

#[test]
fn items_without_bytes_are_bounded_too() {
    let feed = Feed::new(Retention {
        bytes_max: 100 * SLOT,
        ..ROOMY
    });
    feed.push((0..10_000).map(|number| Unit {
        number,
        len: 0,
        time_ms: 0,
        sync: false,
    }));
    assert_eq!(feed.ring.lock().slots.len(), 100);
}

#[test]
fn one_item_above_the_limit_is_kept_alone() {
    let feed = Feed::new(Retention {
        bytes_max: 10 * (LEN + SLOT),
        ..ROOMY
    });
    push(&feed, 0..5, 5);
    feed.push([Unit {
        number: 5,
        len: 1 << 30,
        time_ms: 200,
        sync: true,
    }]);
    assert_eq!(feed.bytes(), (1 << 30) + SLOT);
    push(&feed, 6..8, 6);
    assert_eq!(feed.bytes(), 2 * (LEN + SLOT));
}

#[test]
fn a_reader_starts_at_a_sync_item() {
    use Join::{NewestSync, NextSync};
    let cut = Retention {
        span_ms_max: 2 * STEP_MS,
        ..ROOMY
    };
    // Retention, items before the join, items after it, expected.
    check_join(NewestSync, ROOMY, 15, 15, &[10, 11, 12, 13, 14]);
    check_join(NewestSync, ROOMY, 11, 12, &[10, 11]);
    check_join(NewestSync, ROOMY, 0, 2, &[0, 1]);
    check_join(NewestSync, ROOMY, 0, 0, &[]);
    check_join(NewestSync, cut, 15, 19, &[]);
    check_join(NewestSync, cut, 15, 22, &[20, 21]);
    check_join(NextSync, ROOMY, 15, 15, &[]);
    check_join(NextSync, ROOMY, 15, 19, &[]);
    check_join(NextSync, ROOMY, 15, 22, &[20, 21]);
    check_join(NextSync, ROOMY, 10, 12, &[10, 11]);
    // All that came since, even if it is several groups.
    check_join(NextSync, ROOMY, 15, 32, &(20..32).collect::<Vec<_>>());
}

/// Joins after `before` items of groups of ten and reads when there are `after`. Nothing counts as skipped.
#[track_caller]
fn check_join(join: Join, retention: Retention, before: u64, after: u64, expected: &[u64]) {
    let feed = Feed::new(retention);
    push(&feed, 0..before, 10);
    let mut cursor = feed.cursor(join, LagLimit::RING);
    push(&feed, before..after, 10);
    let (read, got) = read(&mut cursor);
    assert_eq!(got, expected, "{join:?} at {before}, read at {after}");
    let found = if expected.is_empty() {
        Read::Empty
    } else {
        Read::Items { skipped: 0 }
    };
    assert_eq!(read, found);
}

#[test]
fn a_read_is_bounded() {
    let feed = Feed::new(ROOMY);
    push(&feed, 0..100, 100);
    let mut cursor = feed.cursor(Join::NewestSync, LagLimit::RING);
    assert_eq!(read(&mut cursor).1.len(), READ_ITEMS_MAX);
    assert_eq!(read(&mut cursor).1.len(), 100 - READ_ITEMS_MAX);

    let large = |number| Unit {
        number,
        len: READ_BYTES_MAX / 2,
        time_ms: 0,
        sync: false,
    };
    feed.push((100..105).map(large));
    assert_eq!(read(&mut cursor).1, [100, 101]);
    feed.push([Unit {
        number: 105,
        len: 10 * READ_BYTES_MAX,
        time_ms: 0,
        sync: false,
    }]);
    assert_eq!(read(&mut cursor).1, [102, 103]);
    assert_eq!(read(&mut cursor).1, [104]);
    assert_eq!(read(&mut cursor).1, [105]);
}

#[test]
fn a_reader_that_lags_jumps_to_the_newest_sync_item() {
    let ms = |ms_max| LagLimit {
        ms_max,
        ..LagLimit::RING
    };
    let bytes = |bytes_max| LagLimit {
        bytes_max,
        ..LagLimit::RING
    };
    // The reader has read items 0 to 4, and now the newest is 24: it is 19 items behind.
    check_lag(ms(19 * STEP_MS), 0, 5);
    check_lag(ms(19 * STEP_MS - 1), 15, 20);
    check_lag(bytes(19 * LEN as u64), 0, 5);
    check_lag(bytes(19 * LEN as u64 - 1), 15, 20);
    check_lag(LagLimit::RING, 0, 5);
}

#[track_caller]
fn check_lag(lag: LagLimit, skipped: u64, first: u64) {
    let feed = Feed::new(ROOMY);
    push(&feed, 0..5, 10);
    let mut cursor = feed.cursor(Join::NewestSync, lag);
    assert_eq!(read(&mut cursor).1, [0, 1, 2, 3, 4]);
    push(&feed, 5..25, 10);
    let expected = (Read::Items { skipped }, (first..25).collect());
    assert_eq!(read(&mut cursor), expected, "{lag:?}");
    assert_eq!(
        read(&mut cursor),
        (Read::Empty, vec![]),
        "it is counted once"
    );
}

#[test]
fn a_reader_in_the_newest_group_reads_on_however_long_the_group_is() {
    let feed = Feed::new(ROOMY);
    push(&feed, 0..50, 100);
    let lag = LagLimit {
        ms_max: STEP_MS,
        bytes_max: LEN as u64,
    };
    let mut cursor = feed.cursor(Join::NewestSync, lag);
    assert_eq!(
        read(&mut cursor),
        (Read::Items { skipped: 0 }, (0..50).collect())
    );
    push(&feed, 50..60, 100);
    assert_eq!(
        read(&mut cursor),
        (Read::Items { skipped: 0 }, (50..60).collect())
    );
}

#[test]
fn a_reader_that_fell_off_jumps_to_the_newest_sync_item() {
    let feed = Feed::new(Retention {
        span_ms_max: 11 * STEP_MS,
        ..ROOMY
    });
    push(&feed, 0..1, 10);
    let mut cursor = feed.cursor(Join::NewestSync, LagLimit::RING);
    assert_eq!(read(&mut cursor).1, [0]);
    push(&feed, 1..32, 10);
    assert_eq!(
        read(&mut cursor),
        (Read::Items { skipped: 29 }, vec![30, 31])
    );
}

#[test]
fn a_reader_that_fell_off_waits_when_there_is_no_sync_item() {
    let feed = Feed::new(Retention {
        span_ms_max: 3 * STEP_MS,
        ..ROOMY
    });
    push(&feed, 0..1, 10);
    let mut cursor = feed.cursor(Join::NewestSync, LagLimit::RING);
    assert_eq!(read(&mut cursor).1, [0]);
    push(&feed, 1..18, 10);
    assert_eq!(read(&mut cursor), (Read::Empty, vec![]));
    push(&feed, 18..19, 10);
    assert_eq!(read(&mut cursor), (Read::Empty, vec![]));
    push(&feed, 19..22, 10);
    assert_eq!(
        read(&mut cursor),
        (Read::Items { skipped: 19 }, vec![20, 21]),
        "1 to 19 are lost"
    );
}

#[test]
fn a_reader_that_never_began_misses_nothing_but_from_its_place_on() {
    let feed = Feed::new(Retention {
        span_ms_max: 3 * STEP_MS,
        ..ROOMY
    });
    let mut awaits = feed.cursor(Join::NextSync, LagLimit::RING);
    push(&feed, 0..1, 10);
    let mut placed = feed.cursor(Join::NewestSync, LagLimit::RING);
    push(&feed, 1..22, 10);
    assert_eq!(
        read(&mut awaits),
        (Read::Items { skipped: 0 }, vec![20, 21])
    );
    assert_eq!(
        read(&mut placed),
        (Read::Items { skipped: 20 }, vec![20, 21])
    );
}

#[test]
fn f24_a_reader_that_never_reads_costs_the_others_nothing() {
    let retention = Retention {
        groups_max: 2,
        bytes_max: 64 * (LEN + SLOT),
        ..ROOMY
    };
    let feed = Feed::new(retention);
    push(&feed, 0..1, 25);
    let mut good = feed.cursor(Join::NewestSync, LagLimit::RING);
    let mut stuck: Vec<_> = (0..500)
        .map(|_| feed.cursor(Join::NewestSync, LagLimit::RING))
        .collect();
    let mut got = read(&mut good).1;
    for number in 1..1_000 {
        push(&feed, number..number + 1, 25);
        let (read, items) = read(&mut good);
        assert_eq!(read, Read::Items { skipped: 0 });
        got.extend(items);
        assert!(feed.bytes() <= retention.bytes_max);
    }
    assert_eq!(got, (0..1_000).collect::<Vec<_>>());
    for cursor in &mut stuck {
        assert_eq!(
            read(cursor),
            (Read::Items { skipped: 975 }, (975..1_000).collect())
        );
    }
}

#[test]
fn f23_a_reader_at_half_speed_skips_to_sync_items_and_costs_the_others_nothing() {
    let feed = Feed::new(Retention {
        groups_max: 1,
        floor_ms: 10_000,
        ..ROOMY
    });
    let lag = LagLimit {
        ms_max: 2_000,
        ..LagLimit::RING
    };
    // As large as a read may be, so that one read takes one item.
    let unit = |number| Unit {
        len: READ_BYTES_MAX,
        ..unit(number, 25)
    };
    feed.push([unit(0)]);
    let mut slow = feed.cursor(Join::NewestSync, lag);
    let mut good = feed.cursor(Join::NewestSync, lag);
    assert_eq!(read(&mut good).1, [0]);
    let (mut last, mut total_skipped, mut total_read) = (None, 0, 0);
    for number in (1..2_001).step_by(2) {
        feed.push([unit(number), unit(number + 1)]);
        assert_eq!(read(&mut good), (Read::Items { skipped: 0 }, vec![number]));
        assert_eq!(
            read(&mut good),
            (Read::Items { skipped: 0 }, vec![number + 1])
        );

        let mut out = Vec::new();
        let Read::Items { skipped } = slow.read(&mut out) else {
            panic!("there is always more")
        };
        let [item] = out[..] else {
            panic!("one item a read")
        };
        assert_eq!(item.number, last.map_or(0, |last| last + 1 + skipped));
        assert!(skipped == 0 || item.sync, "a gap ends at a sync item");
        assert!(
            (number + 1) as i64 * STEP_MS - item.time_ms <= lag.ms_max,
            "latency is bounded"
        );
        last = Some(item.number);
        total_skipped += skipped;
        total_read += 1;
    }
    assert_eq!(
        last,
        Some(total_read + total_skipped - 1),
        "every item was read or counted"
    );
    assert!(total_skipped > 900, "it reads half: {total_skipped}");
}

#[test]
fn a_closed_feed_hands_out_what_is_left_and_takes_nothing_more() {
    let feed = Feed::new(ROOMY);
    push(&feed, 0..3, 10);
    let mut cursor = feed.cursor(Join::NewestSync, LagLimit::RING);
    let mut awaits = feed.cursor(Join::NextSync, LagLimit::RING);
    feed.close();
    push(&feed, 10..12, 10);
    assert_eq!(
        read(&mut cursor),
        (Read::Items { skipped: 0 }, vec![0, 1, 2])
    );
    assert_eq!(read(&mut cursor), (Read::Closed, vec![]));
    assert_eq!(read(&mut cursor), (Read::Closed, vec![]));
    assert_eq!(read(&mut awaits), (Read::Closed, vec![]));
    let mut late = feed.cursor(Join::NewestSync, LagLimit::RING);
    assert_eq!(read(&mut late).1, [0, 1, 2]);
    assert_eq!(read(&mut late), (Read::Closed, vec![]));
}

#[test]
fn a_push_wakes_each_waiting_reader_once() {
    let feed = Feed::new(ROOMY);
    let mut readers: Vec<_> = (0..20)
        .map(|_| {
            let mut cursor = feed.cursor(Join::NewestSync, LagLimit::RING);
            let next = Box::pin(async move { cursor.next(&mut Vec::new()).await });
            (next, counting_waker())
        })
        .collect();
    for (next, (_, waker)) in &mut readers {
        assert!(
            next.as_mut()
                .poll(&mut Context::from_waker(waker))
                .is_pending()
        );
    }
    feed.push([]);
    assert!(
        readers.iter().all(|(_, (wakes, _))| wakes.count() == 0),
        "nothing is no news"
    );
    push(&feed, 0..3, 10);
    for (next, (wakes, waker)) in &mut readers {
        assert_eq!(wakes.count(), 1);
        let polled = next.as_mut().poll(&mut Context::from_waker(waker));
        assert_eq!(polled, Poll::Ready(Some(0)));
    }
}

#[test]
fn closing_wakes_a_waiting_reader() {
    let feed = Feed::<Unit>::new(ROOMY);
    let mut cursor = feed.cursor(Join::NewestSync, LagLimit::RING);
    let (wakes, waker) = counting_waker();
    let mut out = Vec::new();
    let mut next = pin!(cursor.next(&mut out));
    assert!(
        next.as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_pending()
    );
    feed.close();
    assert_eq!(wakes.count(), 1);
    assert_eq!(
        next.as_mut().poll(&mut Context::from_waker(&waker)),
        Poll::Ready(None)
    );
}

#[test]
fn a_wait_that_is_dropped_loses_nothing() {
    let feed = Feed::new(ROOMY);
    push(&feed, 0..2, 10);
    let mut cursor = feed.cursor(Join::NewestSync, LagLimit::RING);
    let mut out = Vec::new();
    assert_eq!(poll_once(cursor.next(&mut out)), Poll::Ready(Some(0)));
    for number in 2..10 {
        assert_eq!(poll_once(cursor.next(&mut out)), Poll::Pending);
        push(&feed, number..number + 1, 10);
        assert_eq!(poll_once(cursor.next(&mut out)), Poll::Ready(Some(0)));
    }
    let got: Vec<u64> = out.iter().map(|unit| unit.number).collect();
    assert_eq!(got, (0..10).collect::<Vec<_>>());
}

/// A writer that pushes at about the moment in which the reader goes to sleep, again and again. Every item is read
/// before the next is pushed, so a wake-up that is lost stays lost.
#[test]
fn no_wake_up_is_lost_between_threads() {
    const TIME: Duration = Duration::from_millis(300);
    const PATIENCE: Duration = Duration::from_secs(30);
    let feed = Feed::new(Retention {
        groups_max: 1,
        ..ROOMY
    });
    let mut cursor = feed.cursor(Join::NextSync, LagLimit::RING);
    let taken = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for number in 0.. {
                while taken.load(Ordering::Acquire) < number && !over.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                if over.load(Ordering::Acquire) {
                    return;
                }
                // The length of the detour sweeps over what the reader does meanwhile.
                (0..number % 97).for_each(|_| std::hint::spin_loop());
                push(&feed, number as u64..number as u64 + 1, 1);
            }
        });
        let (begun, mut lost) = (Instant::now(), false);
        let mut out = Vec::new();
        while begun.elapsed() < TIME && !lost {
            let (wakes, waker) = counting_waker();
            let mut next = pin!(cursor.next(&mut out));
            if next
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
            {
                let asleep = Instant::now();
                while wakes.count() == 0 && !lost {
                    std::thread::yield_now();
                    lost = asleep.elapsed() > PATIENCE;
                }
                continue;
            }
            taken.fetch_add(1, Ordering::Release);
        }
        over.store(true, Ordering::Release);
        assert!(!lost, "asleep for {PATIENCE:?} with an item in the ring");
    });
}

#[tokio::test]
async fn readers_are_counted_and_their_end_is_seen() {
    let feed = Feed::<Unit>::new(ROOMY);
    assert_eq!(feed.readers(), 0);
    feed.unread().await;
    let first = feed.cursor(Join::NewestSync, LagLimit::RING);
    let second = feed.cursor(Join::NextSync, LagLimit::RING);
    assert_eq!(feed.readers(), 2);
    let mut unread = pin!(feed.unread());
    assert!(poll_once(unread.as_mut()).is_pending());
    drop(first);
    assert_eq!(feed.readers(), 1);
    assert!(poll_once(unread.as_mut()).is_pending());
    drop(second);
    unread.await;
    assert_eq!(feed.readers(), 0);
}

#[derive(Debug, Clone)]
enum Op {
    /// Length, time since the last item, sync.
    Push(Vec<(usize, i64, bool)>),
    Join(Join, LagLimit),
    /// Which reader, of those that are.
    Read(usize),
    Leave(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let item = (0..2_000_usize, 0..100_i64, prop::bool::weighted(0.2));
    let lag = prop_oneof![
        Just(LagLimit::RING),
        (0..2_000_i64, 0..20_000_u64)
            .prop_map(|(ms_max, bytes_max)| LagLimit { ms_max, bytes_max }),
    ];
    prop_oneof![
        4 => prop::collection::vec(item, 0..12).prop_map(Op::Push),
        2 => (prop_oneof![Just(Join::NewestSync), Just(Join::NextSync)], lag)
            .prop_map(|(join, lag)| Op::Join(join, lag)),
        4 => any::<prop::sample::Index>().prop_map(|at| Op::Read(at.index(1_000))),
        1 => any::<prop::sample::Index>().prop_map(|at| Op::Leave(at.index(1_000))),
    ]
}

fn retention() -> impl Strategy<Value = Retention> {
    (0..5_usize, 0..2_000_i64, 0..5_000_i64, 0..30_000_usize).prop_map(
        |(groups_max, floor_ms, span_ms_max, bytes_max)| Retention {
            groups_max,
            floor_ms,
            span_ms_max,
            bytes_max,
        },
    )
}

/// What a reader may expect: all it knows are the items ever pushed and its own place among them.
struct Model {
    cursor: Cursor<Unit>,
    lag: LagLimit,
    /// The item that follows the last one read, or the sync item that the reader joined at.
    place: Option<usize>,
    /// How many items there were when it joined.
    joined_at: usize,
    /// Whether its place was out of the ring at a read, and nothing was read since.
    fell_off: bool,
}

impl Model {
    fn new(feed: &Arc<Feed<Unit>>, join: Join, lag: LagLimit, pushed: &[Unit]) -> Self {
        let first = feed.ring.lock().first as usize;
        let newest = (first..pushed.len()).rev().find(|&at| pushed[at].sync);
        let place = newest.filter(|_| join == Join::NewestSync);
        let cursor = feed.cursor(join, lag);
        Self {
            cursor,
            lag,
            place,
            joined_at: pushed.len(),
            fell_off: false,
        }
    }

    fn read(&mut self, feed: &Feed<Unit>, pushed: &[Unit]) -> Result<(), TestCaseError> {
        let first = feed.ring.lock().first as usize;
        let newest = (first..pushed.len()).rev().find(|&at| pushed[at].sync);
        let mut out = Vec::new();
        let read = self.cursor.read(&mut out);
        self.fell_off |= self.place.is_some_and(|place| place < first);
        let Read::Items { skipped } = read else {
            prop_assert!(out.is_empty());
            let caught_up = self.place == Some(pushed.len());
            let may_wait = self.place.is_none() || self.fell_off;
            prop_assert!(
                caught_up || may_wait,
                "there was something to read at {:?}",
                self.place
            );
            if !caught_up && self.place.is_none() {
                let missed = (first.max(self.joined_at)..pushed.len()).any(|at| pushed[at].sync);
                prop_assert!(!missed, "a sync item was there to start at");
            }
            return Ok(());
        };
        let begin = out[0].number as usize;
        prop_assert_eq!(
            &out[..],
            &pushed[begin..begin + out.len()],
            "contiguous and in order"
        );
        match self.place {
            Some(place) => prop_assert_eq!(begin, place + skipped as usize, "every gap is counted"),
            None => prop_assert!(pushed[begin - skipped as usize].sync && begin >= self.joined_at),
        }
        let moved = self.place != Some(begin) || skipped > 0;
        prop_assert!(!moved || pushed[begin].sync, "a run begins at a sync item");
        if skipped > 0 {
            let place = begin - skipped as usize;
            let time_ms = pushed.iter().map(|unit| unit.time_ms).max().unwrap_or(0);
            let behind: usize = pushed[place + 1..].iter().map(|unit| unit.len).sum();
            let lagged = time_ms - pushed[place].time_ms > self.lag.ms_max
                || behind as u64 > self.lag.bytes_max;
            prop_assert!(
                lagged || self.fell_off || place < first,
                "no item is skipped needlessly"
            );
            prop_assert!(
                self.fell_off || newest == Some(begin),
                "the jump is as far as can be"
            );
        }
        self.place = Some(begin + out.len());
        self.fell_off = false;
        Ok(())
    }
}

fn check_bounds(feed: &Feed<Unit>, retention: Retention) -> Result<(), TestCaseError> {
    let ring = feed.ring.lock();
    let weight = ring.slots.iter().map(Slot::weight).sum::<usize>();
    prop_assert_eq!(ring.bytes, weight);
    let newest = ring.slots.back().map_or(0, Slot::weight);
    prop_assert!(ring.bytes <= retention.bytes_max.max(newest));
    let times = ring.slots.iter().map(|slot| slot.item.time_ms);
    let span_ms = times.clone().max().unwrap_or(0) - times.min().unwrap_or(0);
    prop_assert!(span_ms <= retention.span_ms_max);
    let syncs: Vec<i64> = ring
        .slots
        .iter()
        .map(|slot| slot.item)
        .filter(Unit::is_sync)
        .map(|u| u.time_ms)
        .collect();
    prop_assert_eq!(ring.syncs.len(), syncs.len());
    if syncs.len() > retention.groups_max.max(1) {
        prop_assert!(
            ring.time_ms - syncs[1] < retention.floor_ms,
            "a group is spare"
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn readers_get_contiguous_runs_from_sync_items(
        retention in retention(),
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let feed = Feed::new(retention);
        let mut pushed: Vec<Unit> = Vec::new();
        let mut readers: Vec<Model> = Vec::new();
        for op in ops {
            match op {
                Op::Push(items) => {
                    let before = pushed.len();
                    for (len, step_ms, sync) in items {
                        let time_ms = pushed.last().map_or(0, |last| last.time_ms) + step_ms;
                        pushed.push(Unit { number: pushed.len() as u64, len, time_ms, sync });
                    }
                    feed.push(pushed[before..].iter().copied());
                    check_bounds(&feed, retention)?;
                }
                Op::Join(join, lag) => readers.push(Model::new(&feed, join, lag, &pushed)),
                Op::Read(at) if !readers.is_empty() => {
                    let at = at % readers.len();
                    readers[at].read(&feed, &pushed)?;
                }
                Op::Leave(at) if !readers.is_empty() => {
                    readers.swap_remove(at % readers.len());
                }
                Op::Read(_) | Op::Leave(_) => {}
            }
            prop_assert_eq!(feed.readers(), readers.len());
        }
    }
}

/// Item `number` of a feed with a sync item every `group` items.
fn unit(number: u64, group: u64) -> Unit {
    let sync = number.is_multiple_of(group);
    Unit {
        number,
        len: LEN,
        time_ms: number as i64 * STEP_MS,
        sync,
    }
}

fn push(feed: &Feed<Unit>, numbers: std::ops::Range<u64>, group: u64) {
    feed.push(numbers.map(|number| unit(number, group)));
}

fn read(cursor: &mut Cursor<Unit>) -> (Read, Vec<u64>) {
    let mut out = Vec::new();
    let read = cursor.read(&mut out);
    (read, out.into_iter().map(|unit| unit.number).collect())
}

fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn counting_waker() -> (Arc<Wakes>, Waker) {
    let wakes = Arc::new(Wakes::default());
    (Arc::clone(&wakes), Waker::from(wakes))
}
