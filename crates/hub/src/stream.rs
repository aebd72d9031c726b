//! One run of one stream: its timeline, its frame feed, its publisher.
//!
//! Owns: who feeds the stream now, the grace in which a publisher may return, take-over by the same key, and what
//! `/status` shows. Does not own: connections (a [`Publisher`] is held by one) or the registry of names.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use weir_media::{
    Epoch, Frame, Input, Now, SessionClock, StreamName, Timeline, TimelineStats, Track, rescale,
};

use crate::{Feed, Item, KeyId, KillReason, PublishError, Session, SessionId, Sessions};

/// Take-overs allowed within [`TAKEOVER_WINDOW`]; two publishers that fight are slowed down (FAULTS F4).
pub(crate) const TAKEOVERS_MAX: usize = 5;
/// See [`TAKEOVERS_MAX`].
const TAKEOVER_WINDOW: Duration = Duration::from_secs(60);

/// 2026-11-01T00:00:00Z in unix seconds, where discontinuity sequence numbers count from.
const DISCONTINUITY_ORIGIN_S: u64 = 1_793_491_200;
/// The step in which they follow the clock: a run may have one discontinuity in each without running ahead of it.
const DISCONTINUITY_STEP_S: u64 = 10;

/// A point in time on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Monotonic; decides.
    pub at: Instant,
    /// Wall clock; labels.
    pub wall: SystemTime,
}

impl Moment {
    /// The present.
    #[must_use]
    pub fn now() -> Self {
        Self {
            at: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}

/// One life of a stream: its start in unix milliseconds, so that runs of a name only ever go up, across restarts too.
/// It is part of every object name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub u64);

impl RunId {
    /// The run that starts at `wall`, after `previous`.
    #[must_use]
    pub fn starting(wall: SystemTime, previous: Option<Self>) -> Self {
        let ms = wall
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        let ms = u64::try_from(ms).unwrap_or(u64::MAX);
        Self(previous.map_or(ms, |previous| ms.max(previous.0.saturating_add(1))))
    }

    /// What the id of a run that starts `elapsed` after this one is at least, whatever the wall clock
    /// says then: sequence numbers grow with the time that passes, and the next run begins above them.
    pub(crate) fn plus(self, elapsed: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)),
        )
    }

    /// The start in unix seconds: the first media sequence number. Segments last a second at least, so the numbers of a
    /// name only go up, across restarts too.
    #[must_use]
    pub fn first_segment(self) -> u64 {
        self.0 / 1_000
    }

    /// The start in steps of 10 s since November 2026: the first discontinuity sequence number. It goes up like
    /// [`Self::first_segment`], but stays small: with each playlist hls.js walks an array up to this index, which takes
    /// most of a minute for one of unix seconds.
    #[must_use]
    pub fn first_discontinuity(self) -> u64 {
        (self.0 / 1_000).saturating_sub(DISCONTINUITY_ORIGIN_S) / DISCONTINUITY_STEP_S
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A frame in the hub, with the epoch it belongs to.
#[derive(Debug, Clone)]
pub struct MediaItem {
    /// What holds for this frame: tracks, anchor.
    pub epoch: Arc<Epoch>,
    /// The frame.
    pub frame: Frame,
}

impl MediaItem {
    /// The track of the frame.
    #[must_use]
    pub fn track(&self) -> Option<&Track> {
        self.epoch.track(self.frame.track)
    }
}

impl Item for MediaItem {
    fn len(&self) -> usize {
        self.frame.payload.len()
    }

    fn time_ms(&self) -> i64 {
        self.track()
            .map_or(0, |track| rescale(self.frame.dts, track.timescale, 1_000))
    }

    fn is_sync(&self) -> bool {
        self.frame.sync
            && self
                .epoch
                .lead()
                .is_some_and(|lead| lead.id == self.frame.track)
    }
}

/// Where a stream is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A publisher is connected, for the first time or again; none of its frames is out yet.
    Starting,
    /// Frames flow.
    Live,
    /// The publisher is gone and may return.
    Waiting,
    /// The stream is fetched from a source that has failed, and that is tried again.
    Failed,
    /// The run is over.
    Ended,
}

impl State {
    /// The word `/status` shows.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Live => "live",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Ended => "ended",
        }
    }
}

/// What is known of a stream at one moment.
#[derive(Debug, Clone)]
pub struct StreamStatus {
    /// Where it is in its life.
    pub state: State,
    /// Why it is not live, in words.
    pub reason: Option<String>,
    /// Since the run began.
    pub uptime: Duration,
    /// What the publisher sends, measured over the last sampling interval, bits per second.
    pub bitrate_bps: u64,
    /// Bytes ever taken in.
    pub bytes_in: u64,
    /// Frames ever put out.
    pub frames: u64,
    /// The tracks now.
    pub tracks: Vec<Track>,
    /// What the timeline had to repair.
    pub timeline: TimelineStats,
    /// How far the publisher's clock runs ahead of ours, microseconds.
    pub drift_us: i64,
    /// Bytes that the GOP cache keeps alive.
    pub cache_bytes: usize,
}

/// One run of a stream.
///
/// Locks are taken in this order, none is held over an `await`: `inner`, then the table of sessions or the feed's ring.
#[derive(Debug)]
pub struct Stream {
    name: StreamName,
    run: RunId,
    started: Moment,
    feed: Arc<Feed<MediaItem>>,
    inner: Mutex<Inner>,
    bytes_in: AtomicU64,
    frames: AtomicU64,
    bitrate_bps: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    timeline: Timeline,
    publisher: Option<Feeder>,
    /// Whether the publisher of now has put out a frame.
    flows: bool,
    /// Why the publisher of now has nothing to send.
    failure: Option<String>,
    grace_until: Option<Instant>,
    takeovers: VecDeque<Instant>,
    epoch: Option<Arc<Epoch>>,
    sampled: (Instant, u64),
    ended: bool,
}

#[derive(Debug, Clone, Copy)]
struct Feeder {
    session: SessionId,
    key: Option<KeyId>,
}

impl Stream {
    pub(crate) fn new(
        name: StreamName,
        run: RunId,
        started: Moment,
        feed: Arc<Feed<MediaItem>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            run,
            started,
            feed,
            inner: Mutex::new(Inner {
                timeline: Timeline::new(),
                publisher: None,
                flows: false,
                failure: None,
                grace_until: None,
                takeovers: VecDeque::new(),
                epoch: None,
                sampled: (started.at, 0),
                ended: false,
            }),
            bytes_in: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            bitrate_bps: AtomicU64::new(0),
        })
    }

    /// The public name.
    #[must_use]
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// Which life of the name this is.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.run
    }

    /// The frames.
    #[must_use]
    pub fn feed(&self) -> &Arc<Feed<MediaItem>> {
        &self.feed
    }

    /// What is known now.
    #[must_use]
    pub fn status(&self, now: Instant) -> StreamStatus {
        let inner = self.inner.lock();
        let state = inner.state();
        StreamStatus {
            state,
            reason: match state {
                State::Waiting => Some("the publisher is gone and may return".to_owned()),
                State::Failed => inner.failure.clone(),
                State::Starting | State::Live | State::Ended => None,
            },
            uptime: now.saturating_duration_since(self.started.at),
            bitrate_bps: self.bitrate_bps.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            frames: self.frames.load(Ordering::Relaxed),
            tracks: inner
                .epoch
                .as_ref()
                .map(|epoch| epoch.tracks.clone())
                .unwrap_or_default(),
            timeline: inner.timeline.stats(),
            drift_us: inner.timeline.drift_us(),
            cache_bytes: self.feed.bytes(),
        }
    }

    /// Lets `session` feed this stream: at once when nobody does, by take-over when it shows the same key.
    pub(crate) fn attach(
        self: &Arc<Self>,
        session: Session,
        key: Option<KeyId>,
        clock: SessionClock,
        sessions: &Sessions,
        now: Instant,
    ) -> Result<Publisher, PublishError> {
        let mut inner = self.inner.lock();
        if inner.ended {
            return Err(PublishError::Ended);
        }
        if let Some(current) = inner.publisher {
            if key.is_none() || current.key != key {
                return Err(PublishError::NameTaken);
            }
            inner.count_takeover(now)?;
            sessions.kill(current.session, KillReason::TakenOver);
        }
        inner.publisher = Some(Feeder {
            session: session.id(),
            key,
        });
        inner.flows = false;
        inner.failure = None;
        inner.grace_until = None;
        inner.timeline.begin_session(clock);
        drop(inner);
        Ok(Publisher {
            stream: Arc::clone(self),
            session,
            grace: None,
        })
    }

    /// Ends the run when its grace is over; says whether it has ended.
    pub(crate) fn expire(&self, now: Instant) -> bool {
        let mut inner = self.inner.lock();
        self.sample(&mut inner, now);
        if inner.grace_until.is_some_and(|until| now >= until) {
            inner.ended = true;
            drop(inner);
            self.feed.close();
            return true;
        }
        inner.ended
    }

    /// Ends the run now.
    pub(crate) fn end(&self) {
        self.inner.lock().ended = true;
        self.feed.close();
    }

    fn sample(&self, inner: &mut Inner, now: Instant) {
        let (at, before) = inner.sampled;
        let bytes = self.bytes_in.load(Ordering::Relaxed);
        let elapsed = now.saturating_duration_since(at);
        let bits = bytes
            .saturating_sub(before)
            .saturating_mul(8)
            .saturating_mul(1_000);
        if let Some(bps) = bits.checked_div(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
        {
            self.bitrate_bps.store(bps, Ordering::Relaxed);
            inner.sampled = (now, bytes);
        }
    }
}

impl Inner {
    fn state(&self) -> State {
        match self.publisher {
            _ if self.ended => State::Ended,
            None => State::Waiting,
            Some(_) if self.failure.is_some() => State::Failed,
            Some(_) if self.flows => State::Live,
            Some(_) => State::Starting,
        }
    }

    fn is_fed_by(&self, session: &Session) -> bool {
        !self.ended
            && self
                .publisher
                .is_some_and(|feeder| feeder.session == session.id())
    }

    fn count_takeover(&mut self, now: Instant) -> Result<(), PublishError> {
        while self
            .takeovers
            .front()
            .is_some_and(|&at| now.saturating_duration_since(at) >= TAKEOVER_WINDOW)
        {
            self.takeovers.pop_front();
        }
        if self.takeovers.len() >= TAKEOVERS_MAX {
            return Err(PublishError::TakeOversTooFast);
        }
        self.takeovers.push_back(now);
        Ok(())
    }
}

/// The right to feed a stream. When it is dropped, the stream waits `grace` for a publisher to return.
#[derive(Debug)]
pub struct Publisher {
    stream: Arc<Stream>,
    session: Session,
    grace: Option<Duration>,
}

impl Publisher {
    pub(crate) fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// The stream being fed.
    #[must_use]
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// The row of this publisher.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Whether a frame of this publisher is out, since it began or was last restarted.
    #[must_use]
    pub fn flows(&self) -> bool {
        let inner = self.stream.inner.lock();
        inner.is_fed_by(&self.session) && inner.flows
    }

    /// Says that there is nothing to send, and why, in words for `/status`. The run waits without a limit, until the
    /// publisher restarts or is dropped.
    pub fn fail(&self, reason: String) {
        let mut inner = self.stream.inner.lock();
        if inner.is_fed_by(&self.session) {
            inner.timeline.end_session();
            inner.failure = Some(reason);
        }
    }

    /// Begins anew, with timestamps on `clock`: what is pushed from now on continues the output clock behind one
    /// discontinuity, as from a publisher that returns.
    pub fn restart(&self, clock: SessionClock) {
        let mut inner = self.stream.inner.lock();
        if inner.is_fed_by(&self.session) {
            inner.timeline.begin_session(clock);
            inner.flows = false;
            inner.failure = None;
        }
    }

    /// Hands in what arrived at `now`. After a take-over, or when the run has ended, nothing passes or
    /// is counted.
    pub fn push(&self, now: Moment, input: Input) {
        let run = now.at.saturating_duration_since(self.stream.started.at);
        let mut timed = Vec::new();
        let mut inner = self.stream.inner.lock();
        if !inner.is_fed_by(&self.session) {
            return;
        }
        if let Input::Frame { payload, .. } = &input {
            let bytes = payload.len() as u64;
            self.stream.bytes_in.fetch_add(bytes, Ordering::Relaxed);
            self.session.add_bytes(bytes);
        }
        inner.timeline.push(
            Now {
                run,
                wall: now.wall,
            },
            input,
            &mut timed,
        );
        if let Some((epoch, _)) = timed.last() {
            inner.epoch = Some(Arc::clone(epoch));
            inner.flows = true;
        }
        self.stream
            .frames
            .fetch_add(timed.len() as u64, Ordering::Relaxed);
        // Under the lock, so that a take-over cannot slip its first frame in before our last.
        self.stream.feed.push(
            timed
                .into_iter()
                .map(|(epoch, frame)| MediaItem { epoch, frame }),
        );
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let mut inner = self.stream.inner.lock();
        if inner.is_fed_by(&self.session) {
            inner.publisher = None;
            inner.timeline.end_session();
            let grace = self.grace.unwrap_or_default();
            inner.grace_until = Instant::now().checked_add(grace);
        }
    }
}
