//! Folders and files by descriptor: no path is ever joined, no link ever followed (FAULTS rule 6, N7).
//!
//! Owns: the system calls. Every name is one component that we made or checked. Does not own: what the names mean.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
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
    pub(super) fn write(
        &self,
        name: &str,
        mut parts: impl Iterator<Item = io::Result<Bytes>>,
    ) -> io::Result<()> {
        self.remove(UNFINISHED)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(openat(&self.0, UNFINISHED, flags, FILE_MODE)?);
        if let Err(error) = parts.try_for_each(|part| file.write_all(&part?)) {
            // On a full disk, what there is of it is in the way.
            self.remove(UNFINISHED)?;
            return Err(error);
        }
        Ok(renameat(&self.0, UNFINISHED, &self.0, name)?)
    }

    /// Reads a file that has `len` bytes. One that has not, or is none, is not what was written.
    pub(super) fn read(&self, name: &str, len: usize) -> io::Result<Bytes> {
        // A pipe of this name must not hold us up.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&self.0, name, flags, Mode::empty())?);
        let known = file.metadata()?;
        if !known.is_file() || known.len() != len as u64 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = Vec::with_capacity(len);
        file.take(len as u64).read_to_end(&mut bytes)?;
        if bytes.len() < len {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(bytes.into())
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

    /// Whether the file system has room for so many bytes more.
    pub(super) fn has_room(&self, len: u64) -> io::Result<bool> {
        let disk = fstatvfs(&self.0)?;
        let floor = (disk.f_blocks / FREE_SHARE_MIN).saturating_mul(disk.f_frsize);
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        Ok(free >= floor.min(FREE_BYTES_MIN).saturating_add(len))
    }
}

/// Whether reading failed because there is no such file, or not the one that was written.
pub(super) fn is_gone(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    error.kind() == io::ErrorKind::InvalidData
        || matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

fn gone(removed: rustix::io::Result<()>) -> io::Result<()> {
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A new folder for a test, which is removed with it.
#[cfg(test)]
pub(super) struct TestDir(pub(super) std::path::PathBuf);

#[cfg(test)]
impl TestDir {
    pub(super) fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};

        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let unique = format!("weir-disk-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(unique))
    }
}

#[cfg(test)]
impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn only_the_file_that_was_written_is_read() {
        let dir = TestDir::new();
        let folder = Folder::root(&dir.0).expect("a new folder");
        folder
            .write("a", ["ab", "c"].map(|part| Ok(part.into())).into_iter())
            .expect("the disk takes it");
        assert_eq!(folder.read("a", 3).expect("it is there"), "abc");
        symlink("a", dir.0.join("link")).expect("the disk takes it");
        fs::create_dir(dir.0.join("folder")).expect("the disk takes it");
        rustix::fs::mkfifoat(&folder.0, "pipe", Mode::RWXU).expect("the disk takes it");
        for (name, len) in [
            ("a", 2),
            ("a", 4),
            ("b", 3),
            ("link", 3),
            ("folder", 0),
            ("pipe", 0),
        ] {
            let error = folder.read(name, len).expect_err(name);
            assert!(is_gone(&error), "{name}: {error}");
        }
    }
}
