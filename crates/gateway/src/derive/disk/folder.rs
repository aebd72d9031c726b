//! Folders and files by descriptor: no path is ever joined, no link ever followed (FAULTS rule 6, N7).
//!
//! Owns: the system calls. Every name is one component that we made or checked. Does not own: what the names mean.

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::OwnedFd,
    path::Path,
};

use bytes::Bytes;
use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, flock, fstatvfs, mkdirat,
        openat, renameat, unlinkat,
    },
    io::Errno,
};

/// Files are for us and our group, which may be the web server's.
const FILE_MODE: Mode = Mode::from_raw_mode(0o640);
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o750);
/// What a file is called until it is whole.
pub(super) const UNFINISHED: &str = ".unfinished";

/// The least space that is left free: one GiB, or a twentieth of a small disk.
const FREE_BYTES_MIN: u64 = 1 << 30;
const FREE_SHARE_MIN: u64 = 20;

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder(OwnedFd);

impl Folder {
    /// Opens the folder that the operator named.
    pub(super) fn root(path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(path)?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let folder = openat(CWD, path, flags, Mode::empty())?;
        // A file system that knows no locks is no reason not to write.
        if flock(&folder, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(io::Error::other("another server writes there"));
        }
        Ok(Self(folder))
    }

    /// Makes a folder in this one; whether it was not there before.
    pub(super) fn make(&self, name: &str) -> io::Result<bool> {
        match mkdirat(&self.0, name, FOLDER_MODE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a folder in this one.
    pub(super) fn open(&self, name: &str) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(openat(&self.0, name, flags, Mode::empty())?))
    }

    /// Writes a file and puts it in its place whole.
    pub(super) fn write(&self, name: &str, parts: &[Bytes]) -> io::Result<()> {
        self.remove(UNFINISHED)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.0, UNFINISHED, flags, FILE_MODE)?);
        for part in parts {
            file.write_all(part)?;
        }
        Ok(renameat(&self.0, UNFINISHED, &self.0, name)?)
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        gone(unlinkat(&self.0, name, AtFlags::empty()))
    }

    /// Removes a folder that is empty; one that is not stays.
    pub(super) fn remove_folder(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.0, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY) => Ok(()),
            removed => gone(removed),
        }
    }

    /// What is in it: names, and whether each is a folder. Names that are no UTF-8 are not ours.
    pub(super) fn entries(&self) -> io::Result<Vec<(String, bool)>> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                entries.push((name.to_owned(), entry.file_type() == FileType::Directory));
            }
        }
        Ok(entries)
    }

    /// Whether the file system has room for more.
    pub(super) fn has_room(&self) -> io::Result<bool> {
        let disk = fstatvfs(&self.0)?;
        let floor = (disk.f_blocks / FREE_SHARE_MIN).saturating_mul(disk.f_frsize);
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        Ok(free >= floor.min(FREE_BYTES_MIN))
    }
}

fn gone(removed: rustix::io::Result<()>) -> io::Result<()> {
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
