//! The HLS output of every stream as files, for a web server beside this one.
//!
//! Owns: the one queue to the one thread that writes, and what it counts. The queue holds the newest state of each
//! stream, nothing older: a disk that is slow, full or hung costs files, never memory and never the live stream
//! (FAULTS F32, F33). Does not own: which files there are ([`writer`], [`files`]), how they are written ([`folder`]) or
//! read back ([`reader`]).

mod files;
mod folder;
mod reader;
mod writer;

use std::{
    collections::VecDeque,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use weir_media::StreamName;
use weir_package::window::Segment;

use super::hls::Published;
use files::{Files, Place};
use folder::Folder;
pub use reader::ReadError;
use reader::Reader;
use writer::Writer;

/// Streams that may wait for the disk: as many as may run are far fewer, and each holds one window at most.
const WAITING_MAX: usize = 1_024;

/// What is to be on the disk of one stream.
#[derive(Debug)]
enum State {
    /// These objects and playlists, and no others.
    Published(Arc<Published>),
    /// Nothing any more.
    Gone,
}

/// The way to the thread that writes, and back to what it wrote. Only [`Self::read`] ever waits for the disk.
#[derive(Debug, Clone)]
pub struct Disk {
    queue: Arc<Queue>,
    counts: Arc<Counts>,
    files: Arc<Files>,
    reader: Reader,
}

/// What has happened since the start.
#[derive(Debug, Default)]
pub struct Counts {
    written_bytes: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    /// Bytes of objects and playlists that were written.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// States of a stream that could not be written whole.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// States of a stream that a newer one overtook, or that nothing had room for.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Disk {
    /// Makes the folder if it is not there, and starts the thread, which first removes what an earlier process left.
    ///
    /// # Errors
    /// The folder cannot be made or opened, or another server writes there.
    pub fn open(path: &Path) -> io::Result<Self> {
        let counts = Arc::<Counts>::default();
        let root = Arc::new(Folder::root(path)?);
        let files = Arc::<Files>::default();
        let mut writer = Writer::new(Arc::clone(&root), Arc::clone(&files), Arc::clone(&counts));
        let queue = Arc::<Queue>::default();
        let jobs = Arc::clone(&queue);
        thread::Builder::new()
            .name("hls-disk".to_owned())
            .spawn(move || {
                writer.remove_leftovers();
                loop {
                    let (name, state) = jobs.next();
                    writer.apply(&name, &state);
                }
            })?;
        Ok(Self {
            queue,
            counts,
            files,
            reader: Reader::new(root),
        })
    }

    /// What it counts.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Brings the files of a stream to this state, soon.
    pub(super) fn publish(&self, name: &StreamName, published: Arc<Published>) {
        self.put(name, State::Published(published));
    }

    /// Removes the files of a stream, soon.
    pub(super) fn remove(&self, name: &StreamName) {
        self.put(name, State::Gone);
    }

    /// Whether a segment of a run is in its file.
    pub(super) fn holds(
        &self,
        name: &StreamName,
        run: &str,
        rendition: &'static str,
        msn: u64,
    ) -> bool {
        self.files.holds(name, run, Place::segment(rendition, msn))
    }

    /// Reads a segment of a run back.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub(super) async fn read(
        &self,
        name: &StreamName,
        run: &str,
        rendition: &'static str,
        segment: &Segment,
    ) -> Result<Bytes, ReadError> {
        let place = Place::segment(rendition, segment.msn);
        self.reader.read(name, run, place, segment.len()).await
    }

    fn put(&self, name: &StreamName, state: State) {
        if !self.queue.put(name, state) {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The newest state of each stream that waits, in the order in which they came.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<VecDeque<(StreamName, State)>>,
    filled: Condvar,
}

impl Queue {
    /// Puts a state in, in place of an older one of its stream; false if one was lost by that.
    fn put(&self, name: &StreamName, state: State) -> bool {
        let mut waiting = self.waiting.lock();
        if let Some((_, older)) = waiting.iter_mut().find(|(known, _)| known == name) {
            *older = state;
            return false;
        }
        if waiting.len() >= WAITING_MAX {
            return false;
        }
        waiting.push_back((name.clone(), state));
        self.filled.notify_one();
        true
    }

    /// Waits for a state.
    fn next(&self) -> (StreamName, State) {
        let mut waiting = self.waiting.lock();
        loop {
            if let Some(next) = waiting.pop_front() {
                return next;
            }
            self.filled.wait(&mut waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Disk {
        let dir = folder::TestDir::new();
        let root = Folder::root(&dir.0).expect("a new folder");
        Disk {
            queue: Arc::default(),
            counts: Arc::default(),
            files: Arc::default(),
            reader: Reader::new(Arc::new(root)),
        }
    }

    fn name(text: &str) -> StreamName {
        StreamName::parse(text).expect("valid")
    }

    /// Nobody takes anything out of the queue: so it is with a disk that hangs.
    #[test]
    fn f33_a_hung_disk_holds_one_state_a_stream() {
        let disk = disk();
        for _ in 0..1_000 {
            disk.remove(&name("a"));
            disk.remove(&name("b"));
        }
        assert_eq!(disk.queue.waiting.lock().len(), 2);
        assert_eq!(disk.counts().dropped(), 2 * 999);
        let order = [disk.queue.next().0, disk.queue.next().0];
        assert_eq!(order, [name("a"), name("b")]);
    }

    #[test]
    fn the_queue_is_bounded() {
        let disk = disk();
        for at in 0..WAITING_MAX + 5 {
            disk.remove(&name(&format!("s{at}")));
        }
        assert_eq!(disk.queue.waiting.lock().len(), WAITING_MAX);
        assert_eq!(disk.counts().dropped(), 5);
    }
}
