//! The file system, asked in one of two ways: with patience, where blocking is allowed; or on a
//! worker's own thread for what the kernel has in memory, where asking costs less than handing the
//! question over.

use std::{
    cell::Cell,
    fs::{self, File, Metadata},
    io::{self, Read},
};

use crate::{handlers::support::open_at_once, names};

/// A way to ask.
pub(super) struct Disk {
    memory_only: bool,
    missed: Cell<bool>,
}

/// Something that is there.
pub(super) struct Seen {
    pub(super) metadata: Metadata,
    /// Where it had to be opened to be seen.
    pub(super) file: Option<File>,
}

impl Disk {
    /// Waits for the disk.
    pub(super) fn patient() -> Self {
        Self { memory_only: false, missed: Cell::new(false) }
    }

    /// Waits for nothing; what it says counts only where it has not [`missed`](Self::missed).
    pub(super) fn memory() -> Self {
        Self { memory_only: true, missed: Cell::new(!memory::is_known()) }
    }

    /// Whether something was not in memory, so that the answers since then are no answers.
    pub(super) fn missed(&self) -> bool {
        self.missed.get()
    }

    /// What is at a path, links followed.
    pub(super) fn look(&self, path: &str) -> io::Result<Seen> {
        if !self.memory_only {
            return fs::metadata(names::path(path)).map(|metadata| Seen { metadata, file: None });
        }
        let file = self.in_memory(|| memory::open(&names::path(path)))?;
        Ok(Seen { metadata: file.metadata()?, file: Some(file) })
    }

    /// A file, open for reading.
    pub(super) fn open(&self, path: &str) -> io::Result<File> {
        if self.memory_only {
            self.in_memory(|| memory::open(&names::path(path)))
        } else {
            open_at_once(&names::path(path))
        }
    }

    /// What was seen at a path, open for reading, and what is known of the open file.
    pub(super) fn open_seen(&self, seen: Seen, path: &str) -> io::Result<(File, Metadata)> {
        if let Some(file) = seen.file {
            return Ok((file, seen.metadata));
        }
        let file = self.open(path)?;
        let metadata = file.metadata()?;
        // It may be another one than was seen.
        if metadata.is_file() { Ok((file, metadata)) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// The first bytes of a file that was just opened, at most `size`.
    pub(super) fn read(&self, file: &File, size: u64) -> io::Result<Vec<u8>> {
        let room = usize::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if self.memory_only {
            return self.in_memory(|| match memory::read(file, 0, room)? {
                bytes if bytes.len() == room => Ok(bytes),
                // The rest is on the disk, or the file became shorter.
                _ => Err(io::ErrorKind::WouldBlock.into()),
            });
        }
        let mut bytes = Vec::with_capacity(room);
        file.take(size).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Asks what only "not there" is a sure answer to besides success: others may mean that the
    /// kernel cannot be asked so.
    fn in_memory<T>(&self, ask: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.missed.get() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        ask().inspect_err(|error| self.missed.set(error.kind() != io::ErrorKind::NotFound))
    }
}

/// What the kernel does without waiting.
#[cfg(target_os = "linux")]
pub(super) mod memory {
    use std::{
        fs::File,
        io::{self, IoSliceMut},
        os::fd::BorrowedFd,
        path::Path,
        sync::atomic::{AtomicBool, Ordering},
    };

    use rustix::{
        fs::{CWD, Mode, OFlags, ResolveFlags, openat2},
        io::{Errno, ReadWriteFlags, preadv2},
        pipe::{SpliceFlags, splice},
    };

    /// Set where the kernel does not know how to open without waiting (before Linux 5.12).
    static UNKNOWN: AtomicBool = AtomicBool::new(false);

    pub(super) fn is_known() -> bool {
        !UNKNOWN.load(Ordering::Relaxed)
    }

    /// Opens what the kernel finds without the disk. A pipe would not be waited for.
    pub(super) fn open(path: &Path) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED) {
            Ok(file) => Ok(file.into()),
            Err(error) => {
                if matches!(error, Errno::NOSYS | Errno::INVAL) {
                    UNKNOWN.store(true, Ordering::Relaxed);
                }
                Err(error.into())
            }
        }
    }

    /// Reads what is in memory of `count` bytes; at least one.
    pub(in super::super) fn read(file: &File, start: u64, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        let read = match count {
            0 => 0,
            _ => preadv2(file, &mut [IoSliceMut::new(&mut bytes)], start, ReadWriteFlags::NOWAIT)?,
        };
        if read == 0 && count > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    /// Moves up to `count` bytes into a pipe; what is not in memory is waited for.
    pub(in super::super) fn splice_into(
        pipe: BorrowedFd<'_>,
        file: &File,
        mut start: u64,
        count: usize,
    ) -> io::Result<usize> {
        Ok(splice(file, Some(&mut start), pipe, None, count, SpliceFlags::NONBLOCK)?)
    }

    /// Whether the first and the last of `count` bytes are in memory, and so most likely all.
    pub(in super::super) fn has(file: &File, start: u64, count: usize) -> bool {
        let there = |at: u64| read(file, at, 1).is_ok();
        there(start) && there(start.saturating_add(count as u64).saturating_sub(1))
    }
}

/// Elsewhere all answers are waited for.
#[cfg(not(target_os = "linux"))]
pub(super) mod memory {
    use std::{fs::File, io, path::Path};

    pub(super) fn is_known() -> bool {
        false
    }

    pub(super) fn open(_: &Path) -> io::Result<File> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    pub(in super::super) fn read(_: &File, _: u64, _: usize) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::test_dir::TestDir, *};

    #[test]
    fn both_ways_tell_the_same() {
        let dir = TestDir::new(&[("f", "content"), ("d/g", "")]);
        let path = |name: &str| format!("{}/{name}", dir.path());
        let patient = Disk::patient();
        for (name, size) in [("f", Some(7)), ("d", None), ("d/g", Some(0)), ("none", None)] {
            let memory = Disk::memory();
            let (slow, fast) = (patient.look(&path(name)), memory.look(&path(name)));
            if memory.missed() {
                continue;
            }
            assert_eq!(slow.as_ref().is_ok(), fast.is_ok(), "{name}");
            let (Ok(slow), Ok(fast)) = (slow, fast) else { continue };
            assert_eq!(slow.metadata.is_dir(), fast.metadata.is_dir(), "{name}");
            if let (Some(size), Some(file)) = (size, fast.file) {
                let slow = patient.open(&path(name)).expect("opens");
                let slow = patient.read(&slow, size).expect("reads");
                let fast = memory.read(&file, size);
                assert!(memory.missed() || fast.is_ok_and(|fast| fast == slow), "{name}");
            }
        }
        assert!(!patient.missed());
    }

    #[test]
    fn after_a_miss_nothing_counts() {
        let dir = TestDir::new(&[("f", "content")]);
        let memory = Disk::memory();
        let file = memory.open(&format!("{}/f", dir.path()));
        if let Ok(file) = file {
            // More than there is.
            assert!(memory.read(&file, 8).is_err());
        }
        assert!(memory.missed());
        assert!(memory.look(dir.path()).is_err());
    }
}
