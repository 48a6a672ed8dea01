//! What the kernel knows of files without asking the disk, for threads on which nothing may wait.
//!
//! Where it would have to ask, the answer is [`WouldBlock`](std::io::ErrorKind::WouldBlock), and
//! the question is for a thread that may wait. File systems that are served over the network or by
//! another process are never asked here: opening a file there waits for the peer, however well its
//! path is known.

use std::{fs::File, io, os::unix::fs::OpenOptionsExt, path::Path};

use rustix::fs::OFlags;

pub use self::memory::{has, is_known, look, open, read, splice_into};

/// A file, open for reading, with patience for the disk. A pipe or device would not be waited for.
///
/// # Errors
/// Those of the system.
pub fn open_patiently(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

#[cfg(target_os = "linux")]
mod memory {
    use std::{
        fs::{File, Metadata},
        io::{self, IoSliceMut},
        os::fd::BorrowedFd,
        path::Path,
        sync::atomic::{AtomicBool, Ordering},
    };

    use rustix::{
        fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx},
        io::{Errno, ReadWriteFlags, preadv2},
        pipe::{SpliceFlags, splice},
    };

    use super::mounts;

    /// Set where the kernel does not know how to open without waiting (before Linux 5.12).
    static UNKNOWN: AtomicBool = AtomicBool::new(false);

    /// Whether the kernel can be asked at all.
    pub fn is_known() -> bool {
        !UNKNOWN.load(Ordering::Relaxed)
    }

    /// What is at a path, links followed. Nothing is opened.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory` and `InvalidFilename` are sure; all others may mean that the
    /// kernel cannot be asked so.
    pub fn look(path: &Path) -> io::Result<Metadata> {
        let place = find(path, OFlags::PATH)?;
        refuse_slow(&place)?;
        place.metadata()
    }

    /// Opens a file for reading. A pipe would not be waited for.
    ///
    /// # Errors
    /// As [`look`].
    pub fn open(path: &Path) -> io::Result<File> {
        if mounts::has_slow() {
            refuse_slow(&find(path, OFlags::PATH)?)?;
        }
        find(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
    }

    fn find(path: &Path, flags: OFlags) -> io::Result<File> {
        if path.as_os_str().as_encoded_bytes().contains(&0) {
            // It must not be taken for a kernel that cannot be asked.
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match openat2(CWD, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::CACHED) {
            Ok(file) => Ok(file.into()),
            Err(error) => {
                if matches!(error, Errno::NOSYS | Errno::INVAL) {
                    UNKNOWN.store(true, Ordering::Relaxed);
                }
                Err(error.into())
            }
        }
    }

    fn refuse_slow(place: &File) -> io::Result<()> {
        if !mounts::has_slow() {
            return Ok(());
        }
        // The device is known without the peer, which a plain call might ask for the rest.
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let known = statx(place, "", flags, StatxFlags::empty())?;
        let is_slow = mounts::is_slow((known.stx_dev_major, known.stx_dev_minor));
        if is_slow { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }

    /// Reads what is in memory of `count` bytes; at least one.
    ///
    /// # Errors
    /// `WouldBlock` where the first one is not there, or is behind the end.
    pub fn read(file: &File, start: u64, count: usize) -> io::Result<Vec<u8>> {
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
    ///
    /// # Errors
    /// Those of the system.
    pub fn splice_into(
        pipe: BorrowedFd<'_>,
        file: &File,
        mut start: u64,
        count: usize,
    ) -> io::Result<usize> {
        Ok(splice(file, Some(&mut start), pipe, None, count, SpliceFlags::NONBLOCK)?)
    }

    /// Whether the first and the last of `count` bytes are in memory, and so most likely all.
    pub fn has(file: &File, start: u64, count: usize) -> bool {
        let there = |at: u64| read(file, at, 1).is_ok();
        there(start) && there(start.saturating_add(count as u64).saturating_sub(1))
    }
}

/// Elsewhere all answers are waited for.
#[cfg(not(target_os = "linux"))]
mod memory {
    use std::{
        fs::{File, Metadata},
        io,
        os::fd::BorrowedFd,
        path::Path,
    };

    fn unknown<T>() -> io::Result<T> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Whether the kernel can be asked at all.
    pub fn is_known() -> bool {
        false
    }

    /// What is at a path.
    ///
    /// # Errors
    /// Always `WouldBlock`.
    pub fn look(_: &Path) -> io::Result<Metadata> {
        unknown()
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// Always `WouldBlock`.
    pub fn open(_: &Path) -> io::Result<File> {
        unknown()
    }

    /// Reads what is in memory.
    ///
    /// # Errors
    /// Always `WouldBlock`.
    pub fn read(_: &File, _: u64, _: usize) -> io::Result<Vec<u8>> {
        unknown()
    }

    /// Moves bytes into a pipe.
    ///
    /// # Errors
    /// Always `WouldBlock`.
    pub fn splice_into(_: BorrowedFd<'_>, _: &File, _: u64, _: usize) -> io::Result<usize> {
        unknown()
    }

    /// Whether bytes are in memory.
    pub fn has(_: &File, _: u64, _: usize) -> bool {
        false
    }
}

/// Which file systems wait for a peer.
#[cfg(target_os = "linux")]
mod mounts {
    use std::{
        sync::{
            OnceLock, PoisonError, RwLock,
            atomic::{AtomicBool, AtomicU64, Ordering},
        },
        time::{Duration, Instant},
    };

    /// How long a list of mounts is good for.
    const FRESH: Duration = Duration::from_secs(5);
    /// Types of file systems, besides those that begin with `fuse`.
    const SLOW: [&str; 16] = [
        "9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "gpfs", "lustre", "nfs", "nfs4",
        "ocfs2", "orangefs", "smb3", "smbfs", "virtiofs",
    ];

    static ANY: AtomicBool = AtomicBool::new(false);
    static DEVICES: RwLock<Vec<(u32, u32)>> = RwLock::new(Vec::new());

    /// Whether there is any; by a list that is some seconds old at most.
    pub(super) fn has_slow() -> bool {
        refresh();
        ANY.load(Ordering::Relaxed)
    }

    pub(super) fn is_slow(device: (u32, u32)) -> bool {
        DEVICES.read().unwrap_or_else(PoisonError::into_inner).contains(&device)
    }

    /// Reads the list anew where it is old. The kernel writes it from memory.
    fn refresh() {
        static START: OnceLock<Instant> = OnceLock::new();
        /// Milliseconds since the start at which the list is old.
        static OLD_AT: AtomicU64 = AtomicU64::new(0);
        let now = START.get_or_init(Instant::now).elapsed().as_millis() as u64;
        let old_at = OLD_AT.load(Ordering::Relaxed);
        let next = now + FRESH.as_millis() as u64;
        let is_mine = now >= old_at
            && OLD_AT.compare_exchange(old_at, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_mine && let Ok(text) = std::fs::read_to_string("/proc/self/mountinfo") {
            let found: Vec<_> = text.lines().filter_map(slow_device).collect();
            ANY.store(!found.is_empty(), Ordering::Relaxed);
            *DEVICES.write().unwrap_or_else(PoisonError::into_inner) = found;
        }
    }

    /// The device of a line of `mountinfo`, where its file system waits for a peer
    /// (proc_pid_mountinfo(5)).
    fn slow_device(line: &str) -> Option<(u32, u32)> {
        let (mount, system) = line.split_once(" - ")?;
        let kind = system.split(' ').next()?;
        let is_fuse = kind.starts_with("fuse") && kind != "fusectl";
        if !is_fuse && !SLOW.contains(&kind) {
            return None;
        }
        let (major, minor) = mount.split(' ').nth(2)?.split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    }

    #[cfg(test)]
    mod tests {
        use super::slow_device;

        #[test]
        fn lines_of_mounts() {
            for (line, want) in [
                ("36 35 98:0 /m1 /m2 rw,noatime master:1 - ext3 /dev/root rw", None),
                ("40 35 0:51 / /mnt rw shared:7 - fuse.sshfs a:/b rw", Some((0, 51))),
                ("41 35 0:52 / /n\\040m rw - nfs4 a:/b rw,vers=4.2", Some((0, 52))),
                ("42 35 0:53 / /sys/fs/fuse/connections rw - fusectl none rw", None),
                ("", None),
            ] {
                assert_eq!(slow_device(line), want, "{line}");
            }
        }
    }
}
