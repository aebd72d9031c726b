//! The registry: which streams run, under which names.
//!
//! Owns: names to runs, the limit on streams, and the end of a run when its grace is over.

use std::{collections::HashMap, sync::Arc, time::Duration, time::Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use weir_media::{SessionClock, StreamName};

use crate::{
    Feed, KeyId, Moment, Publisher, Retention, Role, RunId, SessionSnapshot, Sessions,
    stream::Stream,
};

/// What the hub allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Streams that may run at once (`MAX_CONCURRENT_STREAMS`).
    pub streams_max: usize,
    /// How long a stream waits for its publisher to return.
    pub publisher_grace: Duration,
    /// What the frame feed of a stream keeps: the GOP cache.
    pub gop_cache: Retention,
}

/// Why a publisher cannot have the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Somebody else is publishing it.
    #[error(
        "this stream is already being published by somebody else; stop that publisher or use another name"
    )]
    NameTaken,
    /// The same key took over too often.
    #[error("two publishers with the same key are fighting over this stream; stop one of them")]
    TakeOversTooFast,
    /// The limit on streams is reached.
    #[error("the server already runs {0} streams, its limit (MAX_CONCURRENT_STREAMS)")]
    StreamLimit(usize),
    /// The run ended in this very moment.
    #[error("the stream has just ended; try again")]
    Ended,
}

/// All streams and all sessions of this process.
#[derive(Debug)]
pub struct Hub {
    limits: Limits,
    streams: RwLock<HashMap<StreamName, Arc<Stream>>>,
    /// The newest run and when it began. Taken inside `streams`, never the other way round.
    last_run: Mutex<Option<(RunId, Instant)>>,
    sessions: Arc<Sessions>,
    changes: watch::Sender<u64>,
}

impl Hub {
    /// An empty hub.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            streams: RwLock::default(),
            last_run: Mutex::default(),
            sessions: Arc::default(),
            changes: watch::Sender::new(0),
        })
    }

    /// The table of sessions.
    #[must_use]
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The running stream of that name.
    #[must_use]
    pub fn get(&self, name: &StreamName) -> Option<Arc<Stream>> {
        self.streams.read().get(name).cloned()
    }

    /// Every running stream, in order of names.
    #[must_use]
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        let mut streams: Vec<_> = self.streams.read().values().cloned().collect();
        streams.sort_by(|a, b| a.name().cmp(b.name()));
        streams
    }

    /// How many streams run.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.streams.read().len()
    }

    /// The sessions that count: every publisher, and the viewers of streams that run. Who still takes what is left of a
    /// run that has ended keeps its row and counts no more.
    #[must_use]
    pub fn counted_sessions(&self) -> Vec<SessionSnapshot> {
        let streams = self.streams.read();
        let mut sessions = self.sessions.snapshot();
        sessions
            .retain(|session| session.role != Role::Play || streams.contains_key(&session.stream));
        sessions
    }

    /// Viewers of all streams that run.
    #[must_use]
    pub fn total_viewers(&self) -> usize {
        let sessions = self.counted_sessions();
        sessions
            .iter()
            .filter(|session| session.role == Role::Play)
            .count()
    }

    /// Changes whenever a run begins or ends.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Makes the caller the publisher of `name`: of a new run, of one that waits for its publisher, or, with the same
    /// key, of one that somebody publishes now.
    ///
    /// # Errors
    /// [`PublishError`], in words for the encoder.
    pub fn publish(
        &self,
        name: &StreamName,
        key: Option<KeyId>,
        protocol: &'static str,
        clock: SessionClock,
        now: Moment,
    ) -> Result<Publisher, PublishError> {
        let stream = self.get_or_start(name, now)?;
        let session = self
            .sessions
            .open(Role::Publish, protocol, name.clone(), now.at);
        let publisher = stream.attach(session, key, clock, &self.sessions, now.at)?;
        Ok(publisher.with_grace(self.limits.publisher_grace))
    }

    /// Ends the runs whose grace is over and samples bit rates. To be called about once a second.
    pub fn expire(&self, now: Instant) {
        let ended: Vec<_> = self
            .streams()
            .into_iter()
            .filter(|stream| stream.expire(now))
            .collect();
        for stream in &ended {
            self.remove(stream);
        }
    }

    /// Ends a run now, without a grace for its publisher: readers take what is left and see the end.
    pub fn end(&self, stream: &Arc<Stream>) {
        stream.end();
        self.remove(stream);
    }

    /// Ends every run: readers take what is left and see the end.
    pub fn end_all(&self) {
        for stream in self.streams() {
            self.end(&stream);
        }
    }

    fn get_or_start(&self, name: &StreamName, now: Moment) -> Result<Arc<Stream>, PublishError> {
        let mut streams = self.streams.write();
        if let Some(stream) = streams.get(name) {
            return Ok(Arc::clone(stream));
        }
        if streams.len() >= self.limits.streams_max {
            return Err(PublishError::StreamLimit(self.limits.streams_max));
        }
        let run = self.next_run(now);
        let stream = Stream::new(name.clone(), run, now, Feed::new(self.limits.gop_cache));
        streams.insert(name.clone(), Arc::clone(&stream));
        drop(streams);
        self.changes.send_modify(|changes| *changes += 1);
        Ok(stream)
    }

    /// A run above everything that the runs before it can have numbered, also when the wall clock was
    /// set back since.
    fn next_run(&self, now: Moment) -> RunId {
        let mut last = self.last_run.lock();
        let above = last.map(|(run, at)| run.plus(now.at.saturating_duration_since(at)));
        let run = RunId::starting(now.wall, above);
        *last = Some((run, now.at));
        run
    }

    fn remove(&self, stream: &Arc<Stream>) {
        let mut streams = self.streams.write();
        if streams
            .get(stream.name())
            .is_some_and(|current| Arc::ptr_eq(current, stream))
        {
            streams.remove(stream.name());
            drop(streams);
            self.changes.send_modify(|changes| *changes += 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
        time::UNIX_EPOCH,
    };

    use bytes::Bytes;
    use weir_media::{
        Input, Kind, TrackId,
        codec::{Codec, aac},
    };

    use super::*;
    use crate::{
        Cursor, Item, Join, KillReason, LagLimit, MediaItem, Read, State, stream::TAKEOVERS_MAX,
    };

    const GRACE: Duration = Duration::from_secs(15);
    const KEY: Option<KeyId> = Some(KeyId([1; 32]));
    const OTHER_KEY: Option<KeyId> = Some(KeyId([2; 32]));
    const STREAMS_MAX: usize = 2;
    const STARTED_UNIX_S: u64 = 1_800_000_000;

    #[test]
    fn frames_go_from_the_publisher_to_the_readers() {
        let hub = hub();
        let start = start();
        let publisher = publish(&hub, KEY, start).expect("nobody publishes it");
        let stream = Arc::clone(publisher.stream());
        let mut cursor = stream.feed().cursor(Join::NewestSync, LagLimit::RING);
        assert_eq!(stream.status(start.at).state, State::Starting);
        send(&publisher, start, 0..10);
        let items = read(&mut cursor);
        assert_eq!(items.len(), 10);
        assert!(
            items
                .iter()
                .all(|item| item.frame.track == TrackId::AUDIO && item.is_sync())
        );
        hub.expire(start.at + Duration::from_secs(1));
        let status = stream.status(start.at + Duration::from_secs(1));
        assert_eq!(
            (status.state, status.frames, status.bytes_in),
            (State::Live, 10, 40)
        );
        assert_eq!(
            (status.bitrate_bps, status.uptime),
            (320, Duration::from_secs(1))
        );
        assert_eq!(status.tracks.len(), 1);
        assert_eq!(hub.sessions().snapshot()[0].bytes, 40);
    }

    #[test]
    fn f01_a_publisher_that_returns_within_the_grace_continues_the_run() {
        let hub = hub();
        let start = start();
        let first = publish(&hub, KEY, start).expect("nobody publishes it");
        let stream = Arc::clone(first.stream());
        let mut cursor = stream.feed().cursor(Join::NewestSync, LagLimit::RING);
        send(&first, start, 0..10);
        drop(first);
        assert_eq!(stream.status(start.at).state, State::Waiting);
        assert_eq!(hub.sessions().snapshot().len(), 0);
        hub.expire(Instant::now() + GRACE - Duration::from_secs(1));

        let back = after(start, Duration::from_secs(5));
        let second = publish(&hub, KEY, back).expect("the stream waits");
        assert!(Arc::ptr_eq(second.stream(), &stream), "the same run");
        assert_eq!(stream.status(back.at).state, State::Starting);
        send(&second, back, 0..10);
        assert_eq!(stream.status(back.at).state, State::Live);
        hub.expire(Instant::now() + 2 * GRACE);
        assert!(hub.get(stream.name()).is_some(), "the grace is forgotten");

        let items = read(&mut cursor);
        assert_eq!(items.len(), 20, "the viewer stays and gets everything");
        assert!(
            items.is_sorted_by(|a, b| a.frame.dts < b.frame.dts),
            "time never goes back"
        );
        let indices: Vec<u32> = items.iter().map(|item| item.epoch.index).collect();
        assert_eq!(indices, [[0; 10], [1; 10]].concat(), "one discontinuity");
    }

    #[test]
    fn a_publisher_that_fails_and_restarts_continues_the_run() {
        let hub = hub();
        let start = start();
        let publisher = publish(&hub, None, start).expect("nobody publishes it");
        let stream = Arc::clone(publisher.stream());
        let mut cursor = stream.feed().cursor(Join::NewestSync, LagLimit::RING);
        assert!(!publisher.flows());
        send(&publisher, start, 0..10);
        assert!(publisher.flows());

        publisher.fail("the source is away".to_owned());
        let failed = stream.status(start.at);
        assert_eq!(failed.state, State::Failed);
        assert_eq!(failed.reason.as_deref(), Some("the source is away"));
        send(&publisher, start, 10..20);
        assert_eq!(stream.status(start.at).frames, 10, "nothing passes");
        hub.expire(Instant::now() + 2 * GRACE);
        assert!(hub.get(stream.name()).is_some(), "no grace runs");

        let back = after(start, Duration::from_secs(5));
        publisher.restart(SessionClock::MS_32_BIT);
        assert_eq!(stream.status(back.at).state, State::Starting);
        assert!(!publisher.flows());
        send(&publisher, back, 0..10);
        let live = stream.status(back.at);
        assert_eq!((live.state, live.reason), (State::Live, None));
        let items = read(&mut cursor);
        assert!(items.is_sorted_by(|a, b| a.frame.dts < b.frame.dts));
        let indices: Vec<u32> = items.iter().map(|item| item.epoch.index).collect();
        assert_eq!(indices, [[0; 10], [1; 10]].concat(), "one discontinuity");
    }

    #[test]
    fn viewers_count_while_their_stream_runs() {
        let hub = hub();
        let viewer = |text| {
            let name = StreamName::parse(text).expect("a valid name");
            hub.sessions()
                .open(Role::Play, "rtmp", name, Instant::now())
        };
        let publisher = publish(&hub, None, start()).expect("nobody publishes it");
        let _viewers = [
            viewer(publisher.stream().name().as_str()),
            viewer("elsewhere"),
        ];
        assert_eq!((hub.total_viewers(), hub.counted_sessions().len()), (1, 2));
        hub.end(publisher.stream());
        assert_eq!((hub.total_viewers(), hub.counted_sessions().len()), (0, 1));
        assert_eq!(
            hub.sessions().total_viewers(),
            2,
            "they take what is left, and shutdown waits for them"
        );
    }

    #[test]
    fn a_run_that_is_ended_has_no_grace() {
        let hub = hub();
        let publisher = publish(&hub, None, start()).expect("nobody publishes it");
        let stream = Arc::clone(publisher.stream());
        let mut cursor = stream.feed().cursor(Join::NewestSync, LagLimit::RING);
        hub.end(&stream);
        assert!(hub.get(stream.name()).is_none());
        assert_eq!(cursor.read(&mut Vec::new()), Read::Closed);
        let next = publish(&hub, None, start()).expect("the name is free at once");
        drop(publisher);
        assert_eq!(next.stream().status(start().at).state, State::Starting);
    }

    #[test]
    fn f01_the_run_ends_after_the_grace() {
        let hub = hub();
        let start = start();
        let publisher = publish(&hub, KEY, start).expect("nobody publishes it");
        let stream = Arc::clone(publisher.stream());
        let mut cursor = stream.feed().cursor(Join::NewestSync, LagLimit::RING);
        let mut changes = hub.changes();
        send(&publisher, start, 0..10);
        let dropping = Instant::now();
        drop(publisher);
        hub.expire(dropping + GRACE - Duration::from_millis(1));
        assert!(hub.get(stream.name()).is_some());
        assert!(!changes.has_changed().expect("the hub lives"));
        hub.expire(Instant::now() + GRACE);
        assert!(hub.get(stream.name()).is_none());
        assert!(changes.has_changed().expect("the hub lives"));
        changes.mark_unchanged();
        assert_eq!(stream.status(start.at).state, State::Ended);
        assert_eq!(read(&mut cursor).len(), 10, "what is left is still read");
        assert_eq!(cursor.read(&mut Vec::new()), Read::Closed);

        let next = publish(&hub, KEY, after(start, 2 * GRACE)).expect("the name is free");
        assert!(next.stream().run() > stream.run());
        assert!(changes.has_changed().expect("the hub lives"));
    }

    #[test]
    fn f05_a_silent_publisher_that_is_dropped_is_no_ghost() {
        let hub = hub();
        let start = start();
        let silent = publish(&hub, KEY, start).expect("nobody publishes it");
        let stream = Arc::clone(silent.stream());
        send(&silent, start, 0..10);
        hub.expire(start.at + 10 * GRACE);
        assert!(
            hub.get(stream.name()).is_some(),
            "silence alone ends nothing here"
        );
        drop(silent);
        assert_eq!(stream.status(start.at).state, State::Waiting);
        assert_eq!(hub.sessions().snapshot().len(), 0);
        // Whoever is allowed to publish the name may continue it, with another key too.
        let next = publish(&hub, OTHER_KEY, start).expect("nobody publishes it now");
        assert!(Arc::ptr_eq(next.stream(), &stream));
    }

    #[test]
    fn f03_the_same_key_takes_over_at_once() {
        let hub = hub();
        let start = start();
        let old = publish(&hub, KEY, start).expect("nobody publishes it");
        let stream = Arc::clone(old.stream());
        let mut cursor = stream.feed().cursor(Join::NewestSync, LagLimit::RING);
        send(&old, start, 0..10);
        assert_eq!(killed(&old), None);

        let back = after(start, Duration::from_secs(5));
        let new = publish(&hub, KEY, back).expect("the key is the same");
        assert!(Arc::ptr_eq(new.stream(), &stream), "the same run");
        assert_eq!(killed(&old), Some(KillReason::TakenOver));
        assert_eq!(killed(&new), None);
        let before = stream.status(back.at);
        send(&old, back, 10..20);
        let status = stream.status(back.at);
        assert_eq!(
            (status.frames, status.bytes_in),
            (before.frames, before.bytes_in)
        );
        send(&new, back, 0..5);
        drop(old);
        assert_eq!(
            stream.status(back.at).state,
            State::Live,
            "the old one ends nothing"
        );
        send(&new, back, 5..10);
        hub.expire(Instant::now() + 2 * GRACE);
        assert!(hub.get(stream.name()).is_some());
        let items = read(&mut cursor);
        assert_eq!(items.len(), 20);
        assert!(items.is_sorted_by(|a, b| a.frame.dts < b.frame.dts));
    }

    #[test]
    fn f03_nobody_else_takes_over() {
        for (holder, comer) in [(KEY, OTHER_KEY), (KEY, None), (None, KEY), (None, None)] {
            let hub = hub();
            let publisher = publish(&hub, holder, start()).expect("nobody publishes it");
            let refused = publish(&hub, comer, start()).map(drop);
            assert_eq!(
                refused,
                Err(PublishError::NameTaken),
                "{holder:?} {comer:?}"
            );
            assert_eq!(killed(&publisher), None);
            assert_eq!(
                hub.sessions().snapshot().len(),
                1,
                "the refused one leaves no row"
            );
        }
    }

    #[test]
    fn f04_two_publishers_that_fight_are_slowed_down() {
        let hub = hub();
        let start = start();
        let mut current = publish(&hub, KEY, start).expect("nobody publishes it");
        for second in 0..TAKEOVERS_MAX as u64 {
            let now = after(start, Duration::from_secs(second));
            current = publish(&hub, KEY, now).expect("not too fast yet");
        }
        for ms in [5_000, 59_999] {
            let refused = publish(&hub, KEY, after(start, Duration::from_millis(ms))).map(drop);
            assert_eq!(refused, Err(PublishError::TakeOversTooFast));
        }
        assert_eq!(killed(&current), None, "the one that has it keeps it");
        let later =
            publish(&hub, KEY, after(start, Duration::from_secs(60))).expect("one is forgotten");
        assert_eq!(killed(&current), Some(KillReason::TakenOver));
        let again = publish(&hub, KEY, after(start, Duration::from_secs(60))).map(drop);
        assert_eq!(again, Err(PublishError::TakeOversTooFast), "only one");
        drop(later);
        publish(&hub, KEY, after(start, Duration::from_secs(60)))
            .expect("to return is no take-over");
    }

    #[test]
    fn f22_publishing_leaves_nothing_behind() {
        let hub = hub();
        let start = start();
        let mut ended = Vec::new();
        for cycle in 0..1_000 {
            let now = after(start, Duration::from_millis(cycle));
            let publisher = publish(&hub, KEY, now).expect("the name is free");
            send(&publisher, now, 0..3);
            let stream = Arc::downgrade(publisher.stream());
            let feed = Arc::downgrade(publisher.stream().feed());
            drop(publisher);
            hub.expire(Instant::now() + GRACE);
            ended.push((stream, feed));
        }
        assert_eq!(
            (hub.stream_count(), hub.sessions().snapshot().len()),
            (0, 0)
        );
        assert!(
            ended
                .iter()
                .all(|(stream, feed)| stream.strong_count() + feed.strong_count() == 0)
        );
        assert!(
            hub.streams.read().capacity() < 16,
            "the registry does not grow"
        );
    }

    #[test]
    fn streams_are_limited() {
        let hub = hub();
        let held: Vec<_> = (0..STREAMS_MAX)
            .map(|at| {
                hub.publish(
                    &name(&format!("s{at}")),
                    KEY,
                    "rtmp",
                    SessionClock::MS_32_BIT,
                    start(),
                )
            })
            .collect::<Result<_, _>>()
            .expect("within the limit");
        let refused = publish(&hub, KEY, start()).map(drop);
        assert_eq!(refused, Err(PublishError::StreamLimit(STREAMS_MAX)));
        let taken_over = hub.publish(&name("s0"), KEY, "rtmp", SessionClock::MS_32_BIT, start());
        assert!(taken_over.is_ok(), "no new stream is needed");
        let names: Vec<String> = hub
            .streams()
            .iter()
            .map(|stream| stream.name().to_string())
            .collect();
        assert_eq!(names, ["s0", "s1"]);
        drop((held, taken_over));
        hub.expire(Instant::now() + GRACE);
        assert!(publish(&hub, KEY, start()).is_ok(), "there is room again");
    }

    #[test]
    fn ending_all_ends_readers_and_publishers() {
        let hub = hub();
        let start = start();
        let publisher = publish(&hub, KEY, start).expect("nobody publishes it");
        let mut cursor = publisher
            .stream()
            .feed()
            .cursor(Join::NewestSync, LagLimit::RING);
        send(&publisher, start, 0..3);
        hub.end_all();
        send(&publisher, start, 3..6);
        assert_eq!(hub.stream_count(), 0);
        let status = publisher.stream().status(start.at);
        assert_eq!((status.state, status.frames), (State::Ended, 3));
        assert_eq!(read(&mut cursor).len(), 3);
        assert_eq!(cursor.read(&mut Vec::new()), Read::Closed);
    }

    #[test]
    fn runs_only_go_up_whatever_the_wall_clock_does() {
        // When each run starts: seconds of monotonic time, seconds of the wall clock against the start.
        let starts = [
            (0, 0),
            (100, 100),
            (101, -5_000),
            (102, 102),
            (700, 90),
            (700, 90),
            (701, 9_000),
            (702, 702),
        ];
        let hub = hub();
        let start = start();
        let mut before = None;
        for (at_s, wall_s) in starts {
            let wall =
                UNIX_EPOCH + Duration::from_secs(STARTED_UNIX_S.saturating_add_signed(wall_s));
            let now = Moment {
                at: start.at + Duration::from_secs(at_s),
                wall,
            };
            let publisher = publish(&hub, KEY, now).expect("the name is free");
            let run = publisher.stream().run();
            if let Some((before_s, before)) = before {
                assert!(run > before, "{run} is not above {before}");
                // Segments last at least a second, so the run before cannot have numbered more than this.
                assert!(run.first_segment() - before.first_segment() >= at_s - before_s);
            }
            before = Some((at_s, run));
            drop(publisher);
            hub.expire(Instant::now() + GRACE);
        }
    }

    #[test]
    fn a_run_is_named_by_its_start() {
        let at = |ms| UNIX_EPOCH + Duration::from_millis(ms);
        assert_eq!(RunId::starting(at(1_500), None), RunId(1_500));
        assert_eq!(RunId::starting(at(1_500), Some(RunId(1_499))), RunId(1_500));
        assert_eq!(RunId::starting(at(1_500), Some(RunId(1_500))), RunId(1_501));
        assert_eq!(
            RunId::starting(UNIX_EPOCH - GRACE, Some(RunId(7))),
            RunId(8)
        );
        assert_eq!(RunId::starting(UNIX_EPOCH - GRACE, None), RunId(0));
        assert_eq!(RunId(1_999).first_segment(), 1);
        assert_eq!(RunId(1_999).first_discontinuity(), 0);
        assert_eq!(RunId(1_793_491_200_000 + 29_999).first_discontinuity(), 2);
        assert_eq!(RunId(255).to_string(), "ff");
    }

    fn hub() -> Arc<Hub> {
        let gop_cache = Retention {
            groups_max: 2,
            floor_ms: 10_000,
            span_ms_max: 30_000,
            bytes_max: 1 << 20,
        };
        Hub::new(Limits {
            streams_max: STREAMS_MAX,
            publisher_grace: GRACE,
            gop_cache,
        })
    }

    fn start() -> Moment {
        Moment {
            at: Instant::now(),
            wall: UNIX_EPOCH + Duration::from_secs(STARTED_UNIX_S),
        }
    }

    fn after(moment: Moment, time: Duration) -> Moment {
        Moment {
            at: moment.at + time,
            wall: moment.wall + time,
        }
    }

    fn publish(hub: &Hub, key: Option<KeyId>, now: Moment) -> Result<Publisher, PublishError> {
        hub.publish(&name("demo"), key, "rtmp", SessionClock::MS_32_BIT, now)
    }

    /// Sends AAC frames of four bytes, 20 ms each; the configuration before the first.
    fn send(publisher: &Publisher, now: Moment, numbers: std::ops::Range<u64>) {
        let config =
            aac::Config::parse(Bytes::from_static(&[0x12, 0x10])).expect("AAC-LC, 44.1 kHz");
        if numbers.start == 0 {
            publisher.push(
                now,
                Input::Declared {
                    video: false,
                    audio: true,
                },
            );
            publisher.push(now, Input::Config(Codec::Aac(config)));
        }
        for number in numbers {
            let payload = Bytes::from_static(&[0x21, 0, 0, 0]);
            let dts = number * 20;
            let frame = Input::Frame {
                kind: Kind::Audio,
                dts,
                composition: 0,
                sync: true,
                payload,
            };
            publisher.push(after(now, Duration::from_millis(dts)), frame);
        }
    }

    fn read(cursor: &mut Cursor<MediaItem>) -> Vec<MediaItem> {
        let mut items = Vec::new();
        assert_eq!(cursor.read(&mut items), Read::Items { skipped: 0 });
        items
    }

    fn killed(publisher: &Publisher) -> Option<KillReason> {
        match pin!(publisher.session().killed()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(reason) => Some(reason),
            Poll::Pending => None,
        }
    }

    fn name(text: &str) -> StreamName {
        StreamName::parse(text).expect("a valid name")
    }
}
