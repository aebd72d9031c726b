//! The bytes of segments in files that exist in memory only (`memfd_create`).
//!
//! Owns: one file for each rendition of a run, appended to part by part, and giving back what nobody refers to. The kernel
//! sends such a file without copying it, and this process maps none of it. A segment has a room of its own, from the
//! beginning of a page on: pages are given back for a whole room at once, when the last part, snapshot and reader of it are
//! gone, because the parts in it share pages. Where there is no file, or it takes no more, parts stay in memory as they are.
//! Does not own: which segments there are ([`weir_package::window`]), or how they are read ([`super::pieces`]).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::{
    fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create},
    io::{Errno, pwrite},
    process::{Resource, getrlimit},
};
use weir_media::StreamName;
use weir_package::keep::{Content, Keep, Kept};

use crate::net::FileRange;

/// Where rooms begin: pages are given back whole. No machine that this runs on has larger ones.
const PAGE_LEN: u64 = 64 << 10;

/// Bytes in all rooms.
static HELD: AtomicU64 = AtomicU64::new(0);

/// Bytes of segments that memory files of this process hold. They are memory, but not of its resident set.
#[must_use]
pub fn held_bytes() -> u64 {
    HELD.load(Ordering::Relaxed)
}

/// Keeps the parts of a run.
#[derive(Debug)]
pub(crate) struct MemoryFiles {
    stream: StreamName,
    create: fn() -> io::Result<OwnedFd>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// None where one could not be made. It is not tried again: without descriptors, the next that is free is for telling
    /// newcomers so (FAULTS rule 16).
    files: Vec<(&'static str, Option<Appender>)>,
    /// Whether it was said that parts stay in memory: once for a run.
    has_warned: bool,
}

impl MemoryFiles {
    pub(crate) fn new(stream: StreamName) -> Self {
        Self {
            stream,
            create,
            state: Mutex::default(),
        }
    }
}

impl Keep for MemoryFiles {
    fn keep(&self, rendition: &'static str, msn: u64, bytes: Bytes) -> Content {
        let mut state = self.state.lock();
        match state.append(self.create, rendition, msn, &bytes) {
            Ok(kept) => Content::Kept(kept),
            Err(error) => {
                if !std::mem::replace(&mut state.has_warned, true) {
                    tracing::warn!(stream = %self.stream, %error, "segments cannot be put into a file in memory");
                }
                Content::Memory(bytes)
            }
        }
    }
}

impl State {
    fn append(
        &mut self,
        create: fn() -> io::Result<OwnedFd>,
        rendition: &'static str,
        msn: u64,
        bytes: &[u8],
    ) -> io::Result<Kept> {
        let known = self.files.iter().position(|(name, _)| *name == rendition);
        let at = known.unwrap_or(self.files.len());
        if known.is_none() {
            self.files.push((rendition, None));
            self.files[at].1 = Some(Appender::new(create()?));
        }
        let file = self.files[at].1.as_mut();
        file.ok_or(io::ErrorKind::Unsupported)?.append(msn, bytes)
    }
}

fn create() -> io::Result<OwnedFd> {
    // Whoever writes beyond this limit is killed, and a file that is appended to gets there.
    if getrlimit(Resource::Fsize).current.is_some() {
        return Err(io::Error::other("the size of files is limited"));
    }
    Ok(memfd_create("weir-segments", MemfdFlags::CLOEXEC)?)
}

/// A file that grows.
#[derive(Debug)]
struct Appender {
    file: Arc<OwnedFd>,
    end: u64,
    /// The room of the newest segment, and its number.
    newest: Option<(u64, Arc<Room>)>,
}

impl Appender {
    fn new(file: OwnedFd) -> Self {
        Self {
            file: Arc::new(file),
            end: 0,
            newest: None,
        }
    }

    fn append(&mut self, msn: u64, bytes: &[u8]) -> io::Result<Kept> {
        let room = match &self.newest {
            Some((newest, room)) if *newest == msn => Arc::clone(room),
            _ => self.next_room(msn),
        };
        let (begin, end) = (self.end, self.end + bytes.len() as u64);
        // First, so that what a write that fails leaves behind goes with the room.
        room.reach(end);
        let mut rest = bytes;
        while !rest.is_empty() {
            match pwrite(&self.file, rest, end - rest.len() as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.end = end;
        Ok(Kept {
            at: begin - room.begin,
            room,
            len: bytes.len(),
        })
    }

    fn next_room(&mut self, msn: u64) -> Arc<Room> {
        self.end = self.end.next_multiple_of(PAGE_LEN);
        let room = Arc::new(Room {
            file: Arc::clone(&self.file),
            begin: self.end,
            end: AtomicU64::new(self.end),
        });
        self.newest = Some((msn, Arc::clone(&room)));
        room
    }
}

/// The place of a segment in its file.
#[derive(Debug)]
struct Room {
    file: Arc<OwnedFd>,
    begin: u64,
    end: AtomicU64,
}

impl Room {
    fn reach(&self, end: u64) {
        let before = self.end.fetch_max(end, Ordering::Relaxed);
        HELD.fetch_add(end.saturating_sub(before), Ordering::Relaxed);
    }
}

impl AsFd for Room {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let end = self.end.load(Ordering::Relaxed);
        HELD.fetch_sub(end - self.begin, Ordering::Relaxed);
        let len = end.next_multiple_of(PAGE_LEN) - self.begin;
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if len > 0
            && let Err(error) = fallocate(&self.file, flags, self.begin, len)
        {
            tracing::debug!(%error, "a segment keeps its memory until its run is over");
        }
    }
}

/// Where the bytes of a part are.
pub(super) fn range_of(kept: &Kept) -> FileRange {
    let room = Arc::clone(&kept.room).downcast::<Room>();
    let room = room.expect("nobody but memory files keeps parts");
    let at = room.begin + kept.at;
    FileRange::new(room, at, kept.len as u64)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::fs::fstat;

    use super::*;

    const LEN: usize = 10_000;

    fn files() -> MemoryFiles {
        MemoryFiles::new(StreamName::parse("room").expect("valid"))
    }

    /// The part of that number in a segment; no two are alike.
    fn part(msn: u64, number: u64) -> Bytes {
        let bytes = (0..LEN as u64).map(|at| (at * 7 + msn * 31 + number * 101) as u8);
        bytes.collect()
    }

    fn keep(files: &MemoryFiles, msn: u64, number: u64) -> Content {
        files.keep("video", msn, part(msn, number))
    }

    fn read(content: &Content) -> Bytes {
        match content {
            Content::Kept(kept) => range_of(kept).read().expect("it is there"),
            Content::Memory(bytes) => bytes.clone(),
        }
    }

    fn is_kept(content: &Content) -> bool {
        matches!(content, Content::Kept(_))
    }

    /// Bytes of memory that the file of a rendition takes.
    fn taken(files: &MemoryFiles) -> u64 {
        let state = files.state.lock();
        let file = state.files[0].1.as_ref().expect("it was made");
        let known = fstat(&file.file).expect("it is open");
        u64::try_from(known.st_blocks).expect("not negative") * 512
    }

    #[test]
    fn segments_that_leave_give_their_memory_back_and_no_others() {
        let files = files();
        let mut window = std::collections::VecDeque::new();
        for msn in 0..100 {
            let parts: Vec<_> = (0..5).map(|number| keep(&files, msn, number)).collect();
            assert!(parts.iter().all(is_kept));
            window.push_back((msn, parts));
            if window.len() > 3 {
                window.pop_front();
            }
            let held = window.len() as u64;
            assert!(taken(&files) <= held * (5 * LEN as u64).next_multiple_of(PAGE_LEN));
            // Other tests have segments as well, but few.
            assert!((held * 5 * LEN as u64..50 * 5 * LEN as u64).contains(&held_bytes()));
            for (msn, parts) in &window {
                for (number, content) in (0..).zip(parts) {
                    assert!(read(content) == part(*msn, number), "{msn}.{number}");
                }
            }
        }
    }

    #[test]
    fn who_reads_a_segment_keeps_it() {
        let files = files();
        let content = keep(&files, 1, 0);
        let Content::Kept(kept) = &content else {
            panic!("in memory")
        };
        let range = range_of(kept);
        drop(content);
        let _next = keep(&files, 2, 0);
        assert!(range.read().expect("it is there") == part(1, 0));
        let held = taken(&files);
        drop(range);
        assert!(taken(&files) < held);
    }

    #[test]
    fn without_a_file_parts_stay_in_memory() {
        static TRIED: AtomicU64 = AtomicU64::new(0);
        let files = MemoryFiles {
            create: || {
                TRIED.fetch_add(1, Ordering::Relaxed);
                Err(Errno::MFILE.into())
            },
            ..files()
        };
        for number in 0..3 {
            let content = keep(&files, 1, number);
            assert!(!is_kept(&content) && read(&content) == part(1, number));
        }
        assert_eq!(TRIED.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_file_that_takes_no_more_is_tried_again_with_each_part() {
        let files = files();
        let first = keep(&files, 1, 0);
        let swap = |with: Arc<OwnedFd>| {
            let mut state = files.state.lock();
            let file = state.files[0].1.as_mut().expect("it was made");
            std::mem::replace(&mut file.file, with)
        };
        let full = File::open("/dev/null").expect("it is there, for reading");
        let file = swap(Arc::new(full.into()));
        let second = keep(&files, 1, 1);
        swap(file);
        let third = keep(&files, 1, 2);
        let parts = [&first, &second, &third];
        assert_eq!(parts.map(is_kept), [true, false, true]);
        for (number, content) in (0..).zip(parts) {
            assert!(read(content) == part(1, number), "{number}");
        }
    }
}
