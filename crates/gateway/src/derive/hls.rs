//! The HLS and DASH output of every stream.
//!
//! Owns: one packaging task per run, and what it publishes: the window of objects, with every part, and each playlist and
//! manifest, rendered when somebody first asks for it, once per change, together with its gzip form. Does not own: what is in them
//! (crate `package`) or requests ([`crate::deliver::hls`]).

use std::{
    collections::HashMap,
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
use weir_media::StreamName;
pub use weir_package::Config as Packaging;
use weir_package::{
    Numbers, Segmenter, dash,
    hls::{self, Form},
    window::{Rendition, Snapshot},
};

use super::disk::Disk;
use crate::net::tasks::Tasks;

/// The multivariant playlist of CMAF, and the media playlist of each of its renditions.
pub const INDEX: &str = "index.m3u8";
/// The multivariant playlist of MPEG-TS.
pub const TS_INDEX: &str = "playlist.m3u8";
/// The media playlist of MPEG-TS segments, beside the playlist that names it.
pub const TS_VARIANT: &str = "ts.m3u8";

/// How long the playlist of an ended run stays, with its ENDLIST (CONFORMANCE H25): players poll once a target
/// duration, and the longest is ten seconds.
const LINGER: Duration = Duration::from_secs(30);

/// How long MPEG-TS is made after the last time its playlist was asked for: players ask once a target duration.
const TS_LINGER: Duration = Duration::from_secs(30);

/// A playlist or manifest as it is sent.
#[derive(Debug)]
pub struct Playlist {
    /// The text.
    pub plain: Bytes,
    /// The text, compressed.
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
            etag: weak_etag(&text),
            plain: text.into(),
            gzip: gzip.into(),
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
    ts_playlist: OnceLock<Playlist>,
    manifest: OnceLock<Playlist>,
}

#[derive(Debug, Default)]
struct Rendered {
    whole: OnceLock<Playlist>,
    delta: OnceLock<Playlist>,
}

impl Published {
    /// Publishes a snapshot.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, low_latency: bool) -> Arc<Self> {
        let playlists = snapshot.renditions.iter().map(|_| Rendered::default());
        Arc::new(Self {
            playlists: playlists.collect(),
            ts_playlist: OnceLock::new(),
            manifest: OnceLock::new(),
            snapshot,
            low_latency,
        })
    }

    /// The media playlist of a rendition; as a delta update if `skip`, where there are such.
    #[must_use]
    pub fn playlist(&self, rendition: &Rendition, skip: bool) -> Option<&Playlist> {
        let names = self.snapshot.renditions.iter().map(Rendition::name);
        let (_, rendered) = names
            .zip(&self.playlists)
            .find(|(name, _)| *name == rendition.name())?;
        let (place, form) = match (self.low_latency, skip) {
            (false, _) => (&rendered.whole, Form::Classic),
            (true, false) => (&rendered.whole, Form::LowLatency),
            (true, true) => (&rendered.delta, Form::Delta),
        };
        Some(place.get_or_init(|| Playlist::new(hls::media(&self.snapshot, rendition, form))))
    }

    /// The DASH manifest.
    #[must_use]
    pub fn manifest(&self) -> &Playlist {
        let render = || Playlist::new(dash::manifest(&self.snapshot, self.low_latency));
        self.manifest.get_or_init(render)
    }

    /// The media playlist of the MPEG-TS rendition, while somebody asks for it.
    #[must_use]
    pub fn ts_playlist(&self) -> Option<&Playlist> {
        let ts = self.snapshot.ts.as_ref()?;
        let render = || Playlist::new(hls::media(&self.snapshot, ts, Form::Classic));
        Some(self.ts_playlist.get_or_init(render))
    }
}

/// What one run has published; none before its first segment.
pub type Updates = watch::Receiver<Option<Arc<Published>>>;

/// The output of one run.
#[derive(Debug)]
struct Output {
    run: RunId,
    updates: Updates,
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
    runs: Arc<Mutex<HashMap<StreamName, Output>>>,
    /// Where the next run of a name counts from, if its last one went ahead of the clock.
    numbers: Arc<Mutex<HashMap<StreamName, Numbers>>>,
}

impl Outputs {
    /// No outputs yet; how segments are to be cut, where tasks are spawned, and what else is to be written to, if
    /// anything.
    #[must_use]
    pub fn new(config: Config, tasks: Tasks, disk: Option<Disk>) -> Self {
        Self {
            config,
            tasks,
            disk,
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

    /// Notes that somebody wants MPEG-TS of a stream: it is made from the next segment on, until nobody has asked for a
    /// while.
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
        let (publish, updates) = watch::channel(None);
        let ts = Arc::<TsDemand>::default();
        let output = Output {
            run: stream.run(),
            updates: updates.clone(),
            ts: Arc::clone(&ts),
        };
        runs.insert(stream.name().clone(), output);
        let (outputs, stream) = (self.clone(), Arc::clone(stream));
        self.tasks.spawn(async move {
            let (name, run) = (stream.name().clone(), stream.run());
            let numbers = outputs.first_numbers(&name, run);
            let packaging = outputs.config.packaging;
            let segmenter = Segmenter::new(packaging, run.to_string(), numbers);
            let low_latency = outputs.config.is_low_latency(&name);
            let publish = |snapshot: Option<Arc<Snapshot>>, change: Change| {
                let published = snapshot.map(|snapshot| Published::new(snapshot, low_latency));
                if let (Some(disk), Some(published), Change::Segment) =
                    (&outputs.disk, &published, change)
                {
                    disk.publish(&name, Arc::clone(published));
                }
                publish.send_replace(published);
            };
            let next = package(stream, segmenter, &ts, publish).await;
            outputs.numbers.lock().insert(name.clone(), next);
            tokio::time::sleep(LINGER).await;
            outputs.remove(&name, run);
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

    fn remove(&self, name: &StreamName, run: RunId) {
        let mut runs = self.runs.lock();
        if runs.get(name).is_some_and(|output| output.run == run) {
            runs.remove(name);
            // Under the lock, so that a later run's first files come after it.
            if let Some(disk) = &self.disk {
                disk.remove(name);
            }
        }
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
                Change::Segment
            };
            published = made;
            publish(segmenter.snapshot(), change);
        }
    }
    segmenter.finish();
    publish(segmenter.snapshot(), Change::Segment);
    segmenter.next_numbers()
}
