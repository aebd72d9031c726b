//! Shared bytes: what viewers of one stream and format have in common is made once (DESIGN 3).
//!
//! Owns: one task per stream and format, which lives while it has readers, and the feeds they fill. Each wake of a task
//! makes one contiguous buffer of everything that is new.
//! Does not own: what a viewer alone needs (its head, its pace).

pub mod disk;
mod fanout;
mod head;
pub mod hls;
pub mod memory_file;
mod pieces;

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::time::Instant;
use weir_hub::{Cursor, Feed, Item, Join, LagLimit, MediaItem, Read, Retention, RunId, Stream};
use weir_media::{Epoch, StreamName, Track, container::flv::TagKind};
use weir_package::{flv, ts};
use weir_proto::rtmp::chunk;

use crate::net::tasks::Tasks;
use fanout::{Fanout, Served};
pub(crate) use fanout::{Framing, Link};
pub(crate) use head::Head;
#[cfg(test)]
pub(crate) use memory_file::MemoryFiles;
pub(crate) use pieces::Pieces;

/// What a derived feed keeps: a viewer may lag 10 s or 8 MiB (FAULTS R3); the newest group stays up to 20 s, so that
/// joining starts at its key frame.
const RETENTION: Retention = Retention {
    groups_max: 1,
    floor_ms: 10_000,
    span_ms_max: 20_000,
    bytes_max: 8 << 20,
};

/// The formats that are derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// FLV tags.
    Flv,
    /// RTMP messages in chunks of [`chunk::CHUNK_SIZE_OUT`], on message stream [`chunk::PLAY_STREAM_ID`].
    Rtmp,
    /// MPEG-TS packets.
    Ts,
}

impl Reader {
    /// Lets the viewer behind `link` be served from `place` on, up to which it has read; it knows `epoch`.
    pub(crate) fn enter(&self, link: &Arc<Link>, place: u64, epoch: Arc<Epoch>) -> Served {
        self.fanout
            .enter(link, &self.cursor, place, epoch, self.lag)
    }
}

/// Everything that became ready in one wake: bytes that every viewer of the format gets.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The bytes of one or more frames.
    pub bytes: Bytes,
    /// The collapsed time of its first frame, milliseconds.
    pub at_ms: i64,
    /// Whether a viewer can start here.
    pub sync: bool,
    /// What the viewer must know before these bytes: its head depends on it.
    pub epoch: Arc<Epoch>,
}

impl Item for Shared {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn time_ms(&self) -> i64 {
        self.at_ms
    }

    fn is_sync(&self) -> bool {
        self.sync
    }
}

/// How long what is new may be held back, so that more of it is written at once.
#[derive(Debug, Clone, Default)]
pub struct Coalescing {
    /// Between two wakes of a stream at least.
    pub interval: Duration,
    /// The streams whose every frame is written when it comes.
    pub except: Arc<[StreamName]>,
}

impl Coalescing {
    fn interval(&self, name: &StreamName) -> Duration {
        if self.except.contains(name) {
            Duration::ZERO
        } else {
            self.interval
        }
    }
}

/// The derived feeds of all streams.
#[derive(Debug, Clone, Default)]
pub struct Derived {
    feeds: Arc<Mutex<Feeds>>,
    coalescing: Coalescing,
}

type Feeds = HashMap<(StreamName, Format), Output>;

/// A derived feed.
#[derive(Debug)]
struct Output {
    run: RunId,
    feed: Arc<Feed<Shared>>,
    fanout: Arc<Fanout>,
}

impl Output {
    fn join(&self, join: Join, lag: LagLimit) -> Reader {
        Reader {
            cursor: self.feed.cursor(join, lag),
            fanout: Arc::clone(&self.fanout),
            lag,
        }
    }
}

/// A reader of a derived feed.
#[derive(Debug)]
pub struct Reader {
    /// Its place.
    pub(crate) cursor: Cursor<Shared>,
    /// Who writes for it once it is up to date.
    pub(crate) fanout: Arc<Fanout>,
    /// How far it may lag.
    pub(crate) lag: LagLimit,
}

impl Derived {
    /// No feeds yet.
    #[must_use]
    pub fn new(coalescing: Coalescing) -> Self {
        Self {
            feeds: Arc::default(),
            coalescing,
        }
    }

    /// A reader of `stream` in `format`; starts the deriving when nobody reads it yet.
    #[must_use]
    pub fn join(
        &self,
        stream: &Arc<Stream>,
        format: Format,
        join: Join,
        lag: LagLimit,
        tasks: &Tasks,
    ) -> Reader {
        let key = (stream.name().clone(), format);
        let mut feeds = self.feeds.lock();
        if let Some(output) = feeds.get(&key)
            && output.run == stream.run()
        {
            return output.join(join, lag);
        }
        let feed = Feed::new(RETENTION);
        let output = Output {
            run: stream.run(),
            feed: Arc::clone(&feed),
            fanout: Fanout::new(tasks.clone()),
        };
        let reader = output.join(join, lag);
        feeds.insert(key.clone(), output);
        let source = stream.feed().cursor(join, LagLimit::RING);
        let (derived, run) = (self.clone(), stream.run());
        let interval = self.coalescing.interval(stream.name());
        tasks.spawn(async move {
            let retire = || derived.retire(&key, run);
            derive(Encoder::new(&key), source, &feed, interval, retire).await;
            feed.close();
        });
        reader
    }

    /// Takes a feed out that nobody reads; false when somebody joined in this moment.
    fn retire(&self, key: &(StreamName, Format), run: RunId) -> bool {
        let mut feeds = self.feeds.lock();
        match feeds.get(key) {
            Some(output) if output.run == run => {
                let unread = output.feed.readers() == 0;
                if unread {
                    feeds.remove(key);
                }
                unread
            }
            _ => true,
        }
    }
}

/// Fills `out`, at most once each `interval`, until the stream ends or `retire` agrees that nobody reads it any more.
async fn derive(
    mut encoder: Encoder,
    mut source: Cursor<MediaItem>,
    out: &Feed<Shared>,
    interval: Duration,
    retire: impl Fn() -> bool,
) {
    let (mut items, mut newest) = (Vec::new(), None);
    let mut due = Instant::now();
    loop {
        tokio::select! {
            more = source.next(&mut items) => if more.is_none() { break },
            () = out.unread() => if retire() { return },
        }
        if Instant::now() < due {
            tokio::time::sleep_until(due).await;
            while let Read::Items { .. } = source.read(&mut items) {}
        }
        due = Instant::now() + interval;
        newest = items.last().cloned().or(newest);
        out.push(encoder.bursts(items.drain(..)));
    }
    out.push(newest.and_then(|newest| encoder.finish(&newest)));
    // Nobody joins a feed that has ended.
    while !retire() {
        out.close();
        out.unread().await;
    }
}

/// Turns frames into the bytes of a format.
enum Encoder {
    Flv,
    Rtmp,
    Ts(Box<ts::Muxer>),
}

impl Encoder {
    fn new((name, format): &(StreamName, Format)) -> Self {
        match format {
            Format::Flv => Self::Flv,
            Format::Rtmp => Self::Rtmp,
            Format::Ts => Self::Ts(Box::new(ts::Muxer::new(name.as_str()))),
        }
    }

    /// Joins frames into as few buffers as can be: a new one begins where a viewer may join, and with each epoch.
    fn bursts(&mut self, items: impl Iterator<Item = MediaItem>) -> Vec<Shared> {
        let mut made: Vec<Shared> = Vec::new();
        let mut bytes = BytesMut::new();
        for item in items {
            let Some(track) = item.track() else { continue };
            let goes_on = made
                .last()
                .is_some_and(|last| !item.is_sync() && Epoch::same(&last.epoch, &item.epoch));
            if !goes_on {
                if let Some(last) = made.last_mut() {
                    last.bytes = bytes.split().freeze();
                }
                made.push(Shared {
                    bytes: Bytes::new(),
                    at_ms: flv::collapsed_ms(&item.epoch, track, &item.frame),
                    sync: item.is_sync(),
                    epoch: Arc::clone(&item.epoch),
                });
            }
            self.put(&mut bytes, &item, track);
        }
        if let Some(last) = made.last_mut() {
            last.bytes = bytes.freeze();
        }
        // Sound that waits for more of its kind makes nothing yet.
        made.retain(|shared| !shared.bytes.is_empty());
        made
    }

    /// What is still held back at the end of a stream, whose last frame was `newest`.
    fn finish(&mut self, newest: &MediaItem) -> Option<Shared> {
        let Self::Ts(muxer) = self else { return None };
        let mut bytes = BytesMut::new();
        muxer.flush(&mut bytes);
        let at_ms = flv::collapsed_ms(&newest.epoch, newest.track()?, &newest.frame);
        let shared = Shared {
            bytes: bytes.freeze(),
            at_ms,
            sync: false,
            epoch: Arc::clone(&newest.epoch),
        };
        (!shared.bytes.is_empty()).then_some(shared)
    }

    fn put(&mut self, out: &mut BytesMut, item: &MediaItem, track: &Track) {
        match self {
            Self::Flv => flv::put_frame(out, &item.epoch, track, &item.frame),
            Self::Rtmp => {
                let at_ms = flv::collapsed_ms(&item.epoch, track, &item.frame);
                let body = flv::Body::of(track, &item.frame);
                put_message(out, body.kind, at_ms, &body.pieces());
            }
            Self::Ts(muxer) => muxer.push(&item.epoch, &item.frame, out),
        }
    }
}

/// Appends one message as every RTMP player gets it.
pub(crate) fn put_message(out: &mut BytesMut, kind: TagKind, at_ms: i64, pieces: &[&[u8]]) {
    let csid = match kind {
        TagKind::Audio => chunk::CSID_AUDIO,
        TagKind::Video => chunk::CSID_VIDEO,
        TagKind::Script => chunk::CSID_DATA,
    };
    let timestamp = flv::timestamp(at_ms);
    chunk::write_message(
        out,
        csid,
        timestamp,
        kind.number(),
        chunk::PLAY_STREAM_ID,
        pieces,
        chunk::CHUNK_SIZE_OUT,
    );
}

#[cfg(test)]
mod tests;
