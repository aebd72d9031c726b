//! The HLS and DASH output of every stream.
//!
//! Owns: one packaging task per run, and what it publishes: the window of objects, with every part, and each playlist and
//! manifest, rendered when somebody first asks for it, once per change, together with its gzip form. Does not own: what is in them
//! (crate `package`) or requests ([`crate::deliver::hls`]).

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::Write as _,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::sync::watch;
use weir_hub::{Hub, Join, LagLimit, RunId, Stream};
use weir_media::{Kind, StreamName};
pub use weir_package::{Config as Packaging, window::rewind::Rewind};
use weir_package::{
    Numbers, Segmenter, dash,
    hls::{self, Form, Start},
    name::segment_name,
    window::{Rendition, Segment, Snapshot},
};

use super::{
    disk::{Disk, ReadError},
    memory_file::MemoryFiles,
};
use crate::{net::tasks::Tasks, read_cache::ReadCache};

/// The multivariant playlist of CMAF, and the live media playlist of each of its renditions.
pub const INDEX: &str = hls::LIVE;
/// The multivariant playlist of MPEG-TS.
pub const TS_INDEX: &str = "playlist.m3u8";
/// The media playlist of MPEG-TS segments, beside the playlist that names it.
pub const TS_VARIANT: &str = "ts.m3u8";

/// How long the playlist of an ended run stays, with its ENDLIST (CONFORMANCE H25): players poll once a target
/// duration, and the longest is ten seconds.
const LINGER: Duration = Duration::from_secs(30);

/// How long MPEG-TS is made after the last time its playlist was asked for: players ask once a target duration.
const TS_LINGER: Duration = Duration::from_secs(30);

/// From how many moments viewers may begin and still share a manifest of the rewind window with those who begin at the
/// same one: pages offer a few. Each holds as much as the window is long.
const REWIND_MANIFESTS_MAX: usize = 8;

/// A playlist or manifest as it is sent.
#[derive(Debug)]
pub struct Playlist {
    /// The text.
    pub plain: Bytes,
    /// The text, compressed; empty where that is not worth it.
    pub gzip: Bytes,
    /// Its entity tag: weak, because it is the same for both forms. Ranges, which need a strong one, are never served.
    pub etag: HeaderValue,
}

impl Playlist {
    /// Compresses a text once, for everybody.
    #[must_use]
    pub fn new(text: String) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        // Writing to memory cannot fail; were it to, the text goes out uncompressed.
        let gzip = encoder
            .write_all(text.as_bytes())
            .and_then(|()| encoder.finish())
            .unwrap_or_default();
        Self {
            gzip: gzip.into(),
            ..Self::uncompressed(text)
        }
    }

    /// A text for one viewer.
    fn uncompressed(text: String) -> Self {
        Self {
            etag: weak_etag(&text),
            plain: text.into(),
            gzip: Bytes::new(),
        }
    }
}

fn weak_etag(text: &str) -> HeaderValue {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    HeaderValue::from_str(&format!("W/\"{:016x}\"", hasher.finish()))
        .expect("hexadecimal digits are a header value")
}

/// What can be asked for at one moment.
#[derive(Debug)]
pub struct Published {
    /// The objects.
    pub snapshot: Arc<Snapshot>,
    /// Whether parts are listed and served as well, and playlists are waited for.
    pub low_latency: bool,
    /// What has been asked for of each rendition, in the order of the snapshot's.
    playlists: Vec<Rendered>,
    /// The same of the rewind playlists: one that stays as it was is not rendered again, because that takes as long as it
    /// is.
    rewinds: Vec<Arc<Rendered>>,
    ts_playlist: OnceLock<Playlist>,
    manifest: OnceLock<Playlist>,
    /// As with `rewinds`.
    rewind_manifests: Arc<RewindManifests>,
}

#[derive(Debug, Default)]
struct Rendered {
    whole: OnceLock<Playlist>,
    delta: OnceLock<Playlist>,
}

/// Manifests of the rewind window that have been asked for, by where their viewers begin.
#[derive(Debug, Default)]
struct RewindManifests(Mutex<BTreeMap<Start, Arc<OnceLock<Arc<Playlist>>>>>);

impl RewindManifests {
    /// The place of one; none when there are too many.
    fn place(&self, start: Start) -> Option<Arc<OnceLock<Arc<Playlist>>>> {
        let mut places = self.0.lock();
        let is_known = places.contains_key(&start) || places.len() < REWIND_MANIFESTS_MAX;
        is_known.then(|| Arc::clone(places.entry(start).or_default()))
    }
}

impl Published {
    /// Publishes a snapshot.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, low_latency: bool) -> Arc<Self> {
        Self::after(None, snapshot, low_latency)
    }

    /// Publishes a snapshot that comes after another one of its run.
    fn after(before: Option<&Self>, snapshot: Arc<Snapshot>, low_latency: bool) -> Arc<Self> {
        let before = before.filter(|before| before.snapshot.ended == snapshot.ended);
        let renditions = snapshot.renditions.iter();
        let playlists = renditions.clone().map(|_| Rendered::default());
        let known = |rendition: &Rendition| {
            let before = before?;
            let at = before.place_of(rendition)?;
            let is_same =
                rewind_ends(before.snapshot.renditions.get(at)?) == rewind_ends(rendition);
            before.rewinds.get(at).filter(|_| is_same).cloned()
        };
        let is_same = |before: &&Self| {
            let known = before.snapshot.renditions.iter().map(rewind_ends);
            known.eq(renditions.clone().map(rewind_ends))
        };
        let same = before.filter(is_same);
        Arc::new(Self {
            rewind_manifests: same
                .map_or_else(Arc::default, |before| Arc::clone(&before.rewind_manifests)),
            playlists: playlists.collect(),
            rewinds: renditions
                .clone()
                .map(|rendition| known(rendition).unwrap_or_default())
                .collect(),
            ts_playlist: OnceLock::new(),
            manifest: OnceLock::new(),
            snapshot,
            low_latency,
        })
    }

    /// The media playlist of a rendition; as a delta update if `skip`, where there are such.
    #[must_use]
    pub fn playlist(&self, rendition: &Rendition, skip: bool) -> Option<&Playlist> {
        let rendered = self.playlists.get(self.place_of(rendition)?)?;
        let (place, form) = match (self.low_latency, skip) {
            (false, _) => (&rendered.whole, Form::Classic),
            (true, false) => (&rendered.whole, Form::LowLatency),
            (true, true) => (&rendered.delta, Form::Delta),
        };
        Some(place.get_or_init(|| Playlist::new(hls::media(&self.snapshot, rendition, form))))
    }

    /// The rewind playlist of a rendition; as a delta update if `skip`.
    #[must_use]
    pub fn rewind_playlist(&self, rendition: &Rendition, skip: bool) -> Option<&Playlist> {
        let rendered = self.rewinds.get(self.place_of(rendition)?)?;
        let (place, form) = match skip {
            false => (&rendered.whole, Form::Rewind),
            true => (&rendered.delta, Form::RewindDelta),
        };
        Some(place.get_or_init(|| Playlist::new(hls::media(&self.snapshot, rendition, form))))
    }

    /// How far the rendition of that kind has come; none when there is none.
    fn newest(&self, kind: Kind) -> Option<Newest> {
        let mut renditions = self.snapshot.renditions.iter();
        let rendition = renditions.find(|rendition| rendition.kind == kind)?;
        let open = rendition.open.as_ref();
        Some(Newest {
            segment: rendition.segments.back().map(|segment| segment.msn),
            open: open.map(|open| (open.msn, open.discontinuity, open.parts.len())),
            ended: self.snapshot.ended,
        })
    }

    fn place_of(&self, rendition: &Rendition) -> Option<usize> {
        let mut names = self.snapshot.renditions.iter().map(Rendition::name);
        names.position(|name| name == rendition.name())
    }

    /// The DASH manifest.
    #[must_use]
    pub fn manifest(&self) -> &Playlist {
        let render = || Playlist::new(dash::manifest(&self.snapshot, self.low_latency));
        self.manifest.get_or_init(render)
    }

    /// The DASH manifest of the rewind window for a viewer who begins there.
    #[must_use]
    pub fn rewind_manifest(&self, start: Start) -> Arc<Playlist> {
        let text = || dash::rewind_manifest(&self.snapshot, start);
        match self.rewind_manifests.place(start) {
            Some(place) => Arc::clone(place.get_or_init(|| Arc::new(Playlist::new(text())))),
            None => Arc::new(Playlist::uncompressed(text())),
        }
    }

    /// The media playlist of the MPEG-TS rendition, while somebody asks for it.
    #[must_use]
    pub fn ts_playlist(&self) -> Option<&Playlist> {
        let ts = self.snapshot.ts.as_ref()?;
        let render = || Playlist::new(hls::media(&self.snapshot, ts, Form::Classic));
        Some(self.ts_playlist.get_or_init(render))
    }
}

/// The first and the last segment of a rewind playlist, which tell all of it.
fn rewind_ends(rendition: &Rendition) -> (Option<u64>, Option<u64>) {
    let mut listed = rendition.rewindable().map(|segment| segment.msn);
    (listed.next(), listed.next_back())
}

/// What one run has published; none before its first segment.
pub type Updates = watch::Receiver<Option<Arc<Published>>>;

/// Where one run publishes: everything to those who want to know everything, and to those who wait for one rendition only
/// what is new of it. Many wait, so that nobody is woken for nothing.
#[derive(Debug)]
struct Board {
    all: watch::Sender<Option<Arc<Published>>>,
    renditions: [(Kind, watch::Sender<Option<Arc<Published>>>); 2],
}

impl Board {
    fn new() -> Self {
        let sender = || watch::Sender::new(None);
        Self {
            all: sender(),
            renditions: [(Kind::Video, sender()), (Kind::Audio, sender())],
        }
    }

    fn publish(&self, published: Option<Arc<Published>>) {
        let before = self.all.send_replace(published.clone());
        for (kind, rendition) in &self.renditions {
            let newest = |published: &Option<Arc<Published>>| {
                let published = published.as_deref();
                published.and_then(|published| published.newest(*kind))
            };
            if newest(&before) != newest(&published) {
                rendition.send_replace(published.clone());
            }
        }
    }
}

/// How far a rendition has come: whatever somebody may wait for changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Newest {
    segment: Option<u64>,
    /// The number and the discontinuity of the open segment, and how many parts it has.
    open: Option<(u64, u64, usize)>,
    ended: bool,
}

/// The output of one run.
#[derive(Debug)]
struct Output {
    run: RunId,
    updates: Updates,
    renditions: [(Kind, Updates); 2],
    ts: Arc<TsDemand>,
}

/// When somebody last asked for MPEG-TS; never, at first.
#[derive(Debug, Default)]
struct TsDemand(Mutex<Option<Instant>>);

impl TsDemand {
    fn is_alive(&self, now: Instant) -> bool {
        self.0
            .lock()
            .is_some_and(|asked| now.saturating_duration_since(asked) < TS_LINGER)
    }
}

/// How streams are packaged.
#[derive(Debug, Clone)]
pub struct Config {
    /// Segments, parts and playlists.
    pub packaging: Packaging,
    /// Whether playlists tell parts (LL-HLS).
    pub low_latency: bool,
    /// The streams that are an exception to that.
    pub low_latency_except: Arc<[StreamName]>,
}

impl Config {
    fn is_low_latency(&self, name: &StreamName) -> bool {
        self.low_latency != self.low_latency_except.contains(name)
    }
}

/// The HLS outputs of all streams.
#[derive(Debug, Clone)]
pub struct Outputs {
    config: Config,
    tasks: Tasks,
    /// Where everything is written as well.
    disk: Option<Disk>,
    /// What was read back from there of late.
    cache: ReadCache,
    runs: Arc<Mutex<HashMap<StreamName, Output>>>,
    /// Where the next run of a name counts from, if its last one went ahead of the clock.
    numbers: Arc<Mutex<HashMap<StreamName, Numbers>>>,
}

impl Outputs {
    /// No outputs yet; how segments are to be cut, where tasks are spawned, what else is to be written to, if anything,
    /// and what keeps what is read back from there.
    #[must_use]
    pub fn new(config: Config, tasks: Tasks, disk: Option<Disk>, cache: ReadCache) -> Self {
        Self {
            config,
            tasks,
            disk,
            cache,
            runs: Arc::default(),
            numbers: Arc::default(),
        }
    }

    /// What the newest run of a stream publishes, or has published if it ended a moment ago.
    #[must_use]
    pub fn get(&self, name: &StreamName) -> Option<Updates> {
        self.runs
            .lock()
            .get(name)
            .map(|output| output.updates.clone())
    }

    /// As [`Self::get`], with updates only when there is more of the rendition of that kind: for those who wait for it.
    #[must_use]
    pub fn rendition(&self, name: &StreamName, kind: Kind) -> Option<Updates> {
        let runs = self.runs.lock();
        let mut renditions = runs.get(name)?.renditions.iter();
        let (_, updates) = renditions.find(|(known, _)| *known == kind)?;
        Some(updates.clone())
    }

    /// How far back viewers of a stream can go now.
    #[must_use]
    pub fn rewindable(&self, name: &StreamName) -> Duration {
        let published = self.get(name).and_then(|updates| updates.borrow().clone());
        let shortest_us = published.map_or(0, |published| published.snapshot.rewindable_us());
        Duration::from_micros(shortest_us.unsigned_abs())
    }

    /// The bytes of a segment of a run that has left memory.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn archived(
        &self,
        name: &StreamName,
        run: &str,
        rendition: &Rendition,
        segment: &Segment,
    ) -> Result<Bytes, Arc<ReadError>> {
        let disk = self.disk.as_ref().ok_or(ReadError::Gone)?;
        let (folder, len) = (rendition.name(), segment.len());
        let object = format!("{folder}/{}", segment_name(run, segment.msn));
        let load = disk.read(name, run, folder, segment);
        self.cache.get(name, object, len, load).await
    }

    /// Notes that somebody wants MPEG-TS of a stream: it is made from the newest few segments on, until nobody has asked
    /// for a while.
    pub fn ask_for_ts(&self, name: &StreamName) {
        if let Some(output) = self.runs.lock().get(name) {
            *output.ts.0.lock() = Some(Instant::now());
        }
    }

    /// What this run publishes, or a later one of its name; starts the packaging of a run that has none yet.
    #[must_use]
    pub fn of(&self, stream: &Arc<Stream>) -> Updates {
        let mut runs = self.runs.lock();
        if let Some(output) = runs.get(stream.name())
            && output.run >= stream.run()
        {
            return output.updates.clone();
        }
        let board = Board::new();
        let updates = board.all.subscribe();
        let ts = Arc::<TsDemand>::default();
        let renditions = board.renditions.each_ref();
        let output = Output {
            run: stream.run(),
            updates: updates.clone(),
            renditions: renditions.map(|(kind, rendition)| (*kind, rendition.subscribe())),
            ts: Arc::clone(&ts),
        };
        runs.insert(stream.name().clone(), output);
        let (outputs, stream) = (self.clone(), Arc::clone(stream));
        self.tasks.spawn(async move {
            let (name, run) = (stream.name().clone(), stream.run());
            let numbers = outputs.first_numbers(&name, run);
            let packaging = outputs.config.packaging;
            let files = Arc::new(MemoryFiles::new(name.clone()));
            let segmenter = Segmenter::new(packaging, run.to_string(), numbers).kept_by(files);
            let low_latency = outputs.config.is_low_latency(&name);
            let is_stored = |rendition: &'static str, msn| {
                let disk = outputs.disk.as_ref();
                disk.is_some_and(|disk| disk.holds(&name, &run.to_string(), rendition, msn))
            };
            let publish = |snapshot: Option<Arc<Snapshot>>, change: Change| {
                let before = board.all.borrow().clone();
                let published = snapshot
                    .map(|snapshot| Published::after(before.as_deref(), snapshot, low_latency));
                if let (Some(disk), Some(published), Change::Segment) =
                    (&outputs.disk, &published, change)
                {
                    disk.publish(&name, Arc::clone(published));
                }
                board.publish(published);
            };
            let next = package(stream, segmenter, &ts, is_stored, publish).await;
            outputs.numbers.lock().insert(name.clone(), next);
            tokio::time::sleep(LINGER).await;
            if outputs.remove(&name, run) {
                outputs.cache.forget(&name).await;
            }
        });
        updates
    }

    /// Keeps one packaging task for every run in the hub, until the process stops.
    pub async fn reconcile(self, hub: Arc<Hub>) {
        let mut changes = hub.changes();
        loop {
            for stream in hub.streams() {
                let _ = self.of(&stream);
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// The clock's numbers, or those after the last run of the name where they are higher. What the clock has overtaken
    /// is forgotten.
    fn first_numbers(&self, name: &StreamName, run: RunId) -> Numbers {
        let (msn, discontinuity) = (run.first_segment(), run.first_discontinuity());
        let mut numbers = self.numbers.lock();
        numbers.retain(|_, next| next.msn > msn || next.discontinuity > discontinuity);
        numbers
            .get(name)
            .map_or(Numbers { msn, discontinuity }, |next| Numbers {
                msn: msn.max(next.msn),
                discontinuity: discontinuity.max(next.discontinuity),
            })
    }

    /// Removes a run, unless a later one of its name has taken its place already.
    fn remove(&self, name: &StreamName, run: RunId) -> bool {
        let mut runs = self.runs.lock();
        let is_newest = runs.get(name).is_some_and(|output| output.run == run);
        if is_newest {
            runs.remove(name);
            // Under the lock, so that a later run's first files come after it.
            if let Some(disk) = &self.disk {
                disk.remove(name);
            }
        }
        is_newest
    }
}

/// What became complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Parts only.
    Part,
    /// A segment of some rendition.
    Segment,
}

/// Packages a run from its first frame to its end; says where the next one counts from.
async fn package(
    stream: Arc<Stream>,
    mut segmenter: Segmenter,
    ts: &TsDemand,
    is_stored: impl Fn(&'static str, u64) -> bool,
    publish: impl Fn(Option<Arc<Snapshot>>, Change),
) -> Numbers {
    let mut cursor = stream.feed().cursor(Join::NewestSync, LagLimit::RING);
    // Only the feed is needed from here on.
    drop(stream);
    let mut items = Vec::new();
    let mut published = (0, 0);
    while let Some(skipped) = cursor.next(&mut items).await {
        if skipped > 0 {
            tracing::warn!(skipped, "the packager is too slow for this stream");
        }
        segmenter.want_ts(ts.is_alive(Instant::now()));
        for item in items.drain(..) {
            segmenter.push(&item.epoch, &item.frame);
        }
        let made = (segmenter.segments_made(), segmenter.parts_made());
        if made != published {
            let change = if made.0 == published.0 {
                Change::Part
            } else {
                segmenter.settle_rewind(&is_stored);
                Change::Segment
            };
            published = made;
            publish(segmenter.snapshot(), change);
        }
    }
    segmenter.finish();
    segmenter.settle_rewind(&is_stored);
    publish(segmenter.snapshot(), Change::Segment);
    segmenter.next_numbers()
}
