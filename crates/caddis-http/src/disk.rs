//! The file system, asked in one of two ways: with patience, where blocking is allowed; or on a
//! worker's own thread for what the kernel has in memory, where asking costs less than handing the
//! question over.

use std::{
    cell::Cell,
    fs::{self, File, Metadata},
    io::{self, Read},
};

use caddis_core::disk as memory;

use crate::names;

/// A way to ask.
pub(crate) struct Disk {
    memory_only: bool,
    missed: Cell<bool>,
}

/// Something that is there.
pub(crate) struct Seen {
    pub(crate) metadata: Metadata,
    /// Where it had to be opened to be seen.
    pub(crate) file: Option<File>,
}

impl Disk {
    /// Waits for the disk.
    pub(crate) fn patient() -> Self {
        Self { memory_only: false, missed: Cell::new(false) }
    }

    /// Waits for nothing; what it says counts only where it has not [`missed`](Self::missed).
    pub(crate) fn memory() -> Self {
        Self { memory_only: true, missed: Cell::new(!memory::is_known()) }
    }

    /// Whether something was not in memory, so that the answers since then are no answers.
    pub(crate) fn missed(&self) -> bool {
        self.missed.get()
    }

    /// What is at a path, links followed.
    pub(crate) fn look(&self, path: &str) -> io::Result<Seen> {
        if !self.memory_only {
            return fs::metadata(names::path(path)).map(|metadata| Seen { metadata, file: None });
        }
        let file = self.in_memory(|| memory::open(&names::path(path)))?;
        Ok(Seen { metadata: file.metadata()?, file: Some(file) })
    }

    /// What is at a path, links followed; nothing is opened.
    pub(crate) fn metadata(&self, path: &str) -> io::Result<Metadata> {
        let path = names::path(path);
        if self.memory_only { self.in_memory(|| memory::look(&path)) } else { fs::metadata(path) }
    }

    /// Whether questions are answered from memory alone, after one that cannot be.
    pub(crate) fn must_wait(&self) -> bool {
        if self.memory_only {
            self.missed.set(true);
        }
        self.memory_only
    }

    /// A file, open for reading.
    pub(crate) fn open(&self, path: &str) -> io::Result<File> {
        if self.memory_only {
            self.in_memory(|| memory::open(&names::path(path)))
        } else {
            memory::open_patiently(&names::path(path))
        }
    }

    /// What was seen at a path, open for reading, and what is known of the open file.
    pub(crate) fn open_seen(&self, seen: Seen, path: &str) -> io::Result<(File, Metadata)> {
        if let Some(file) = seen.file {
            return Ok((file, seen.metadata));
        }
        let file = self.open(path)?;
        let metadata = file.metadata()?;
        // It may be another one than was seen.
        if metadata.is_file() { Ok((file, metadata)) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// The first bytes of a file that was just opened, at most `size`.
    pub(crate) fn read(&self, file: &File, size: u64) -> io::Result<Vec<u8>> {
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

    /// Asks.
    fn in_memory<T>(&self, ask: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.missed.get() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        ask().inspect_err(|error| self.missed.set(!is_sure(error.kind())))
    }
}

/// Whether a failure says that nothing is there; others may mean that the kernel cannot be asked so.
fn is_sure(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    matches!(kind, NotFound | NotADirectory | InvalidFilename)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::file_server::test_dir::TestDir;

    #[test]
    fn both_ways_tell_the_same() {
        let dir = TestDir::new(&[("f", "content"), ("d/g", "")]);
        let path = |name: &str| format!("{}/{name}", dir.path());
        let patient = Disk::patient();
        for (name, size) in [("f", Some(7)), ("d", None), ("d/g", Some(0)), ("none", None)] {
            let memory = Disk::memory();
            let (slow, fast) = (patient.look(&path(name)), memory.look(&path(name)));
            let found = memory.metadata(&path(name));
            if memory.missed() {
                continue;
            }
            assert_eq!(slow.as_ref().is_ok(), fast.is_ok(), "{name}");
            assert_eq!(
                found.ok().map(|found| found.is_dir()),
                slow.as_ref().ok().map(|slow| slow.metadata.is_dir())
            );
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
