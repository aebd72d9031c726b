//! Reading objects back from the disk.
//!
//! Owns: how many reads there may be at once and how long one may take: a disk that hangs costs a few threads and an
//! error, never a task of the runtime (FAULTS F33). Does not own: system calls ([`super::folder`]), or who needs to read
//! at all ([`crate::read_cache`]).

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};
use weir_media::StreamName;

use super::{
    files::Place,
    folder::{Folder, is_gone},
};

/// Reads at once: more do not make a disk faster, and as many threads hang with one that does.
const READS_MAX: usize = 16;
/// How long a read may take with its wait for a turn: players give a segment up after ten seconds at least.
const READ_WAIT: Duration = Duration::from_secs(5);

/// Why an object was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such file, or it is another one than was written.
    #[error("the file is gone")]
    Gone,
    /// Too slow a disk, or too many who want something of it.
    #[error("the disk does not answer in time")]
    TooSlow,
    /// The disk fails.
    #[error(transparent)]
    Disk(io::Error),
}

/// Reads what the writer has written.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    root: Arc<Folder>,
    turns: Arc<Semaphore>,
    wait: Duration,
}

impl Reader {
    pub(super) fn new(root: Arc<Folder>) -> Self {
        Self {
            root,
            turns: Arc::new(Semaphore::new(READS_MAX)),
            wait: READ_WAIT,
        }
    }

    /// Reads an object of a run, which is `len` bytes long.
    pub(super) async fn read(
        &self,
        stream: &StreamName,
        run: &str,
        place: Place,
        len: usize,
    ) -> Result<Bytes, ReadError> {
        let (root, stream, file) = (Arc::clone(&self.root), stream.clone(), place.file(run));
        let read = move || {
            let mut folder = root.open(stream.as_str())?;
            if let Some(rendition) = place.rendition {
                folder = folder.open(rendition)?;
            }
            folder.read(&file, len)
        };
        match self.in_turn(read).await {
            Err(ReadError::Disk(error)) if is_gone(&error) => Err(ReadError::Gone),
            read => read,
        }
    }

    /// Runs `work` on a thread that may block. Its turn lasts until it returns, also when nobody waits for it any more.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let turns = Arc::clone(&self.turns);
        let done = async move {
            // Nobody closes the semaphore.
            let turn = turns.acquire_owned().await.ok();
            spawn_blocking(move || {
                let _turn = turn;
                work()
            })
            .await
        };
        match timeout(self.wait, done).await {
            Ok(Ok(done)) => done.map_err(ReadError::Disk),
            Ok(Err(panicked)) => Err(ReadError::Disk(io::Error::other(panicked))),
            Err(_) => Err(ReadError::TooSlow),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::{super::folder::TestDir, *};

    fn reader(wait: Duration) -> Reader {
        let dir = TestDir::new();
        let root = Folder::root(&dir.0).expect("a new folder");
        Reader {
            wait,
            ..Reader::new(Arc::new(root))
        }
    }

    /// A read that hangs until its channel closes.
    fn hang(until: Receiver<()>) -> impl FnOnce() -> io::Result<()> + Send {
        move || {
            let _ = until.recv();
            Ok(())
        }
    }

    #[tokio::test]
    async fn f33_a_hung_disk_costs_so_many_threads_and_no_more() {
        let reader = reader(Duration::from_millis(10));
        let mut disks = Vec::new();
        for _ in 0..READS_MAX {
            let (disk, until) = sync_channel(0);
            disks.push(disk);
            let read = reader.in_turn(hang(until)).await;
            assert!(matches!(read, Err(ReadError::TooSlow)), "{read:?}");
        }
        assert_eq!(reader.turns.available_permits(), 0);
        let read = reader.in_turn(|| -> io::Result<()> { panic!("there is no turn") });
        assert!(matches!(read.await, Err(ReadError::TooSlow)));
        // The disk answers again.
        drop(disks);
        let patient = Reader {
            wait: Duration::from_secs(60),
            ..reader
        };
        assert_eq!(patient.in_turn(|| Ok(7)).await.expect("it answers"), 7);
    }

    #[tokio::test]
    async fn a_panic_costs_one_read() {
        let reader = reader(READ_WAIT);
        let read = reader.in_turn(|| -> io::Result<()> { panic!("as it happens") });
        assert!(matches!(read.await, Err(ReadError::Disk(_))));
        assert_eq!(reader.turns.available_permits(), READS_MAX);
    }
}
