//! Ranges of files on their way into a socket, through HTTP code that only knows bytes.
//!
//! Owns: sending a file without copying it (`sendfile`). A body hands hyper bytes that stand in for a range, and puts the
//! range into the outbox of its connection; where the socket is to write such bytes, it sends what is in the outbox
//! instead. So hyper keeps the rest of HTTP: lengths, chunks, keep-alive, pipelining, closing. Only their address tells
//! stand-ins from other bytes; if HTTP code ever copied them, the connection would fail rather than send them.
//! Does not own: which answers come from files ([`crate::derive::Pieces`]), or waiting for the socket.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, IoSlice},
    os::fd::AsFd,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::{buffer::spare_capacity, fs::sendfile, io::pread};

/// The most that one stand-in stands for.
pub(crate) const STAND_IN_LEN_MAX: usize = 1 << 20;
/// Bytes that one call sends at most: a task gets some hundred calls in a turn, so that others wait a few milliseconds.
const SEND_LEN_MAX: usize = 256 << 10;

/// Nobody reads or writes it, so that the system never gives it memory.
static STAND_IN: LazyLock<Box<[u8]>> = LazyLock::new(|| vec![0; STAND_IN_LEN_MAX].into());

/// What a range lies in; it does not change as long as somebody holds it.
pub(crate) trait Backing: AsFd + fmt::Debug + Send + Sync {}
impl<T: AsFd + fmt::Debug + Send + Sync> Backing for T {}

/// A range of a file in memory: reading it never waits for a disk.
#[derive(Debug, Clone)]
pub(crate) struct FileRange {
    file: Arc<dyn Backing>,
    at: u64,
    len: u64,
}

impl FileRange {
    pub(crate) fn new(file: Arc<dyn Backing>, at: u64, len: u64) -> Self {
        Self { file, at, len }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Takes off the first `len` bytes; all if it has fewer.
    pub(crate) fn split_to(&mut self, len: u64) -> Self {
        let len = len.min(self.len);
        let first = Self::new(Arc::clone(&self.file), self.at, len);
        self.at += len;
        self.len -= len;
        first
    }

    /// Appends what comes right behind it; false if something else does.
    pub(crate) fn join(&mut self, next: &Self) -> bool {
        let follows = Arc::ptr_eq(&self.file, &next.file) && self.at + self.len == next.at;
        if follows {
            self.len += next.len;
        }
        follows
    }

    /// A copy of its bytes.
    pub(crate) fn read(&self) -> io::Result<Bytes> {
        let len = usize::try_from(self.len).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = self.at + bytes.len() as u64;
            match pread(&self.file, spare_capacity(&mut bytes), at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // There may have been room for more than was asked for.
        bytes.truncate(len);
        Ok(bytes.into())
    }

    /// Sends some of it, which it loses.
    fn send(&mut self, socket: impl AsFd) -> io::Result<usize> {
        let len = usize::try_from(self.len).map_or(SEND_LEN_MAX, |len| len.min(SEND_LEN_MAX));
        let mut from = self.at;
        match sendfile(socket, &self.file, Some(&mut from), len)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            sent => {
                self.split_to(sent as u64);
                Ok(sent)
            }
        }
    }
}

/// The ranges that are to be sent next on a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outbox(Arc<Mutex<VecDeque<FileRange>>>);

impl Outbox {
    /// Puts in a range of at most [`STAND_IN_LEN_MAX`], and returns what stands for it: to be written to the connection
    /// behind everything that stands for what was put in before.
    pub(crate) fn put(&self, mut range: FileRange) -> Bytes {
        let range = range.split_to(STAND_IN_LEN_MAX as u64);
        let len = usize::try_from(range.len).unwrap_or(STAND_IN_LEN_MAX);
        self.0.lock().push_back(range);
        Bytes::from_static(&STAND_IN[..len])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Sends some of the first range; says how much, which is at most its length.
    pub(super) fn send(&self, socket: impl AsFd) -> io::Result<usize> {
        let mut ranges = self.0.lock();
        let first = ranges.front_mut().ok_or(io::ErrorKind::NotFound)?;
        let sent = first.send(socket)?;
        if first.len == 0 {
            ranges.pop_front();
        }
        Ok(sent)
    }
}

/// How many of these come before the first that stands for a range of a file; none where none does.
pub(super) fn before_stand_in(bufs: &[IoSlice<'_>]) -> Option<usize> {
    let stand_in = STAND_IN.as_ptr_range();
    bufs.iter()
        .position(|buf| !buf.is_empty() && stand_in.contains(&buf.as_ptr()))
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::fd::OwnedFd,
        time::Duration,
    };

    use rustix::{
        fs::{MemfdFlags, memfd_create},
        io::write,
    };
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::net::{Burst, Socket};

    /// Long beside what a loopback takes.
    const PATIENT: Duration = Duration::from_secs(60);

    fn file(bytes: &[u8]) -> Arc<OwnedFd> {
        let file = memfd_create("test", MemfdFlags::CLOEXEC).expect("the system has memory files");
        assert_eq!(write(&file, bytes), Ok(bytes.len()));
        Arc::new(file)
    }

    fn noise(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 31 / 7) as u8).collect()
    }

    /// A socket, what sends files on it, and its peer.
    fn connection(stall_limit: Duration) -> (Socket, Outbox, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let peer = TcpStream::connect(listener.local_addr().expect("an address"));
        let (stream, _) = listener.accept().expect("the peer is there");
        stream.set_nonblocking(true).expect("a socket");
        let stream = tokio::net::TcpStream::from_std(stream).expect("a runtime");
        let mut socket = Socket::plain(stream, stall_limit).expect("options");
        let outbox = socket.outbox().expect("no TLS");
        (socket, outbox, peer.expect("it listens"))
    }

    #[test]
    fn ranges_are_split_joined_and_read() {
        let bytes = noise(1_000);
        let file = file(&bytes);
        let mut rest = FileRange::new(file.clone(), 100, 800);
        let mut first = rest.split_to(300);
        let last = rest.clone().split_to(1_000);
        assert_eq!((first.len(), rest.len(), last.len()), (300, 500, 500));
        assert!(!last.clone().join(&first), "it comes before");
        assert!(first.join(&last) && first.len() == 800);
        assert_eq!(first.read().expect("it is there"), bytes[100..900]);
        assert!(FileRange::new(file, 900, 101).read().is_err(), "the end");
    }

    #[tokio::test]
    async fn files_go_where_something_stands_for_them() {
        let bytes = noise(3 << 20);
        let file = file(&bytes);
        let (mut socket, outbox, peer) = connection(PATIENT);
        let read = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            io::Read::read_to_end(&mut &peer, &mut all).map(|_| all)
        });
        let mut expected = Vec::new();
        for range in [0..1, 5..1 << 20, 7..(1 << 20) + 7, 2 << 20..3 << 20] {
            let (at, len) = (range.start as u64, range.len() as u64);
            let mut burst = Burst::default();
            burst.push(Bytes::from_static(b"head"));
            burst.push(outbox.put(FileRange::new(file.clone(), at, len)));
            burst.push(Bytes::from_static(b"tail"));
            socket
                .write_all_buf(&mut burst)
                .await
                .expect("the peer reads");
            expected.extend_from_slice(b"head");
            expected.extend_from_slice(&bytes[range]);
            expected.extend_from_slice(b"tail");
        }
        assert!(outbox.is_empty());
        drop(socket);
        let read = read
            .await
            .expect("no panic")
            .expect("it is closed in order");
        assert!(read == expected, "{} of {}", read.len(), expected.len());
    }

    #[tokio::test]
    async fn a_copy_of_what_stands_for_a_file_is_not_sent() {
        let (mut socket, outbox, peer) = connection(PATIENT);
        let stand_in = outbox.put(FileRange::new(file(b"abc"), 0, 3));
        let copy = stand_in.to_vec();
        assert!(socket.write_all(&copy).await.is_err());
        drop(socket);
        let mut read = Vec::new();
        io::Read::read_to_end(&mut &peer, &mut read).expect("it is closed in order");
        assert!(read.is_empty(), "{read:?}");
    }

    #[tokio::test]
    async fn who_takes_nothing_of_a_file_is_closed() {
        let bytes = noise(1 << 20);
        let (mut socket, outbox, peer) = connection(Duration::from_millis(100));
        let file = file(&bytes);
        let error = loop {
            let stand_in = outbox.put(FileRange::new(file.clone(), 0, bytes.len() as u64));
            if let Err(error) = socket.write_all(&stand_in).await {
                break error;
            }
        };
        // TCP itself says something else, and later.
        assert_eq!(error.to_string(), "the peer has stopped reading");
        drop(peer);
        assert!(socket.read_u8().await.is_err());
    }
}
