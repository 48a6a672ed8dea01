//! `caddy.storage.file_system`: one file per key. Files are 0600 in folders of 0700, written beside
//! their place and renamed, so a reader never sees half a file. Locks are files too, in Caddy's
//! format, so both programs can share a folder.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant, SystemTime},
};

use caddis_config::ConfigError;
use caddis_core::{
    error::plain,
    template::{Template, Unknown},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{LockGuard, Storage, keys};

/// How often a held lock is written anew.
const REFRESH: Duration = Duration::from_secs(5);
/// A lock that was not written for so long has no living owner.
const STALE: Duration = Duration::from_secs(10);
/// Lock files are of this size, filled up with spaces: written anew in their place they need no room,
/// and on a full disk no empty file takes the place of a good one.
const LOCK_SIZE: usize = 128;
/// Nobody writes a file for so long.
const LEFT: Duration = Duration::from_secs(60 * 60);
/// How often a waiting process looks.
const POLL: Duration = Duration::from_secs(1);
/// How often an unreadable lock file is looked at again before it counts as stale.
const CORRUPT_TRIES: u32 = 8;
const CORRUPT_PAUSE: Duration = Duration::from_millis(250);

/// Storage in a folder.
#[derive(Debug, Clone)]
pub struct FileSystem {
    root: PathBuf,
    /// Locks from the future.
    ahead: Arc<Mutex<HashMap<PathBuf, Seen>>>,
}

/// What was in a file, and since when.
type Seen = (Vec<u8>, Instant);

#[derive(Serialize, Deserialize, Default)]
struct LockFile {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    created: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    updated: String,
}

impl FileSystem {
    /// A storage below this folder; it need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), ahead: Arc::default() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, key: &str) -> io::Result<PathBuf> {
        let mut path = self.root.clone();
        for part in key.split('/').filter(|part| !part.is_empty()) {
            if part == ".." || part == "." || part.contains(['\\', '\0']) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "bad storage key"));
            }
            path.push(part);
        }
        Ok(path)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default)]
    root: String,
}

/// The storage of a configuration.
pub(super) fn open(json: Value) -> Result<Arc<dyn Storage>, ConfigError> {
    let config: Config = caddis_config::decode(json)?;
    let root = Template::render_global(&config.root, Unknown::Keep);
    let root = if root.is_empty() { super::data_dir() } else { PathBuf::from(root) };
    Ok(Arc::new(FileSystem::new(root)))
}

impl Storage for FileSystem {
    fn load(&self, key: &str) -> io::Result<Vec<u8>> {
        let path = self.path(key)?;
        fs::read(&path).map_err(|error| named(&error, &path))
    }

    fn store(&self, key: &str, content: &[u8]) -> io::Result<()> {
        let path = self.path(key)?;
        let parent = path.parent().unwrap_or(&self.root);
        make_dirs(parent)?;
        let temp = temporary(&path);
        let written = write_new(&temp, content).and_then(|()| fs::rename(&temp, &path));
        if written.is_err() {
            let _ = fs::remove_file(&temp);
        }
        written.map_err(|error| named(&error, &path))
    }

    fn exists(&self, key: &str) -> io::Result<bool> {
        let path = self.path(key)?;
        path.try_exists().map_err(|error| named(&error, &path))
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        let path = self.path(key)?;
        let removed = fs::symlink_metadata(&path).and_then(|kind| match kind.is_dir() {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        });
        removed.map_err(|error| named(&error, &path))
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let path = self.path(prefix)?;
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(Vec::new());
            }
            Err(error) => return Err(named(&error, &path)),
        };
        let prefix = prefix.trim_matches('/');
        let mut keys = Vec::new();
        for entry in entries {
            let Ok(name) = entry.map_err(|error| named(&error, &path))?.file_name().into_string()
            else {
                continue;
            };
            // Being written, or left by somebody who was killed while writing.
            if is_temporary(&name) {
                continue;
            }
            keys.push(if prefix.is_empty() { name } else { format!("{prefix}/{name}") });
        }
        keys.sort();
        Ok(keys)
    }

    fn walk(&self) -> io::Result<Vec<String>> {
        let mut folders = vec![String::new()];
        let mut keys = Vec::new();
        while let Some(folder) = folders.pop() {
            for key in self.list(&folder)? {
                let is_folder = self.path(&key)?.is_dir();
                if is_folder { folders.push(key) } else { keys.push(key) }
            }
        }
        keys.sort();
        Ok(keys)
    }

    fn sweep(&self) -> io::Result<()> {
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).map_err(|error| named(&error, &folder))?;
            for entry in entries {
                let entry = entry.map_err(|error| named(&error, &folder))?;
                // Links lead elsewhere.
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() && entry.file_name().to_str().is_some_and(is_temporary) {
                    let written = entry.metadata().and_then(|metadata| metadata.modified());
                    let age = written.map(|at| SystemTime::now().duration_since(at));
                    if age.is_ok_and(|age| age.is_ok_and(|age| age > LEFT)) {
                        fs::remove_file(entry.path())
                            .map_err(|error| named(&error, &entry.path()))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn modified(&self, key: &str) -> io::Result<SystemTime> {
        let path = self.path(key)?;
        fs::metadata(&path)
            .and_then(|metadata| metadata.modified())
            .map_err(|error| named(&error, &path))
    }

    fn lock(&self, name: &str, wait: Duration) -> io::Result<Box<dyn LockGuard>> {
        let path = self.path(&format!("locks/{}.lock", keys::safe(name)))?;
        make_dirs(path.parent().unwrap_or(&self.root))?;
        let start = Instant::now();
        loop {
            match create_lock(&path) {
                Ok(created) => return Ok(Box::new(FileLock::hold(path, created)?)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(named(&error, &path)),
            }
            if let Some(stale) = self.stale(&path) {
                tracing::warn!(target: "tls", lock = %path.display(), "removing stale lock");
                remove_stale(&path, &stale).map_err(|error| named(&error, &path))?;
                if start.elapsed() < wait {
                    continue;
                }
            }
            if start.elapsed() >= wait {
                let text = format!("lock {name} is held by another process");
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            std::thread::sleep(POLL.min(wait));
        }
    }

    fn describe(&self) -> String {
        format!("file_system:{}", self.root.display())
    }
}

struct FileLock {
    path: PathBuf,
    created: Arc<str>,
    stop: Option<mpsc::Sender<()>>,
    keeper: Option<std::thread::JoinHandle<()>>,
}

impl LockGuard for FileLock {
    fn is_ours(&self) -> io::Result<bool> {
        is_ours(&self.path, &self.created)
    }
}

impl FileLock {
    /// Starts the thread that keeps the lock fresh.
    fn hold(path: PathBuf, created: Arc<str>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let (kept, since) = (path.clone(), created.clone());
        let keeper = std::thread::Builder::new().name("storage-lock".into()).spawn(move || {
            while stopped.recv_timeout(REFRESH) == Err(RecvTimeoutError::Timeout) {
                let error = match is_ours(&kept, &since) {
                    Ok(true) => renew(&kept, &since).err(),
                    // Somebody took it for stale, and it may be theirs now.
                    Ok(false) => {
                        let path = kept.display();
                        tracing::warn!(target: "storage", lock = %path, "the lock was lost");
                        return;
                    }
                    Err(error) => Some(error),
                };
                if let Some(error) = error {
                    let path = kept.display();
                    tracing::warn!(target: "storage", lock = %path, %error, "lock not renewed");
                }
            }
        });
        match keeper {
            Ok(keeper) => Ok(Self { path, created, stop: Some(stop), keeper: Some(keeper) }),
            Err(error) => {
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
        // Another one's stays.
        if self.is_ours().unwrap_or(false) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether a lock file is the one that was made then.
fn is_ours(path: &Path, created: &str) -> io::Result<bool> {
    match fs::read(path) {
        Ok(content) => Ok(serde_json::from_slice::<LockFile>(&content)?.created == created),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes a lock file anew, in its place.
fn renew(path: &Path, created: &str) -> io::Result<()> {
    let file = LockFile { created: created.to_owned(), updated: now_text() };
    fs::OpenOptions::new().write(true).open(path)?.write_all(&file.text()?)
}

impl LockFile {
    fn text(&self) -> io::Result<Vec<u8>> {
        let mut text = serde_json::to_vec(self)?;
        text.resize(text.len().max(LOCK_SIZE), b' ');
        Ok(text)
    }
}

/// Takes away a lock file that has no living owner. Where somebody else was faster and it is theirs
/// now, it goes back.
fn remove_stale(path: &Path, stale: &[u8]) -> io::Result<()> {
    let aside = temporary(path);
    match fs::rename(path, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    if fs::read(&aside).is_ok_and(|content| content != stale) {
        // Never over a third one's.
        let _ = fs::hard_link(&aside, path);
    }
    fs::remove_file(&aside)
}

/// A name for a file beside another one.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(format!(".{:016x}.tmp", fastrand::u64(..)));
    PathBuf::from(name)
}

/// Whether [`FileSystem::store`] made this name.
fn is_temporary(name: &str) -> bool {
    let stem = name.strip_suffix(".tmp").and_then(|stem| stem.rsplit_once('.'));
    stem.is_some_and(|(_, random)| {
        random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn create_lock(path: &Path) -> io::Result<Arc<str>> {
    let now = now_text();
    let file = LockFile { created: now.clone(), updated: now.clone() };
    match write_new(path, &file.text()?) {
        Ok(()) => Ok(now.into()),
        Err(error) => {
            // On a full disk an empty file would be left, and keep everybody out for a while.
            if error.kind() != io::ErrorKind::AlreadyExists {
                let _ = fs::remove_file(path);
            }
            Err(error)
        }
    }
}

impl FileSystem {
    /// What is in a lock file that has no living owner; none where it has one.
    fn stale(&self, path: &Path) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        for _ in 0..CORRUPT_TRIES {
            match fs::read(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
                Ok(read) => {
                    content = read;
                    if let Some(updated) = updated(&content) {
                        return self.is_old(path, &content, updated).then_some(content);
                    }
                }
                Err(_) => {}
            }
            std::thread::sleep(CORRUPT_PAUSE);
        }
        Some(content)
    }

    /// Whether a lock was not written for so long that nobody can hold it. Its time may be ahead:
    /// then this machine's clock was set back since, or the holder's is wrong, and it counts whether
    /// somebody still writes it.
    fn is_old(&self, path: &Path, content: &[u8], updated: SystemTime) -> bool {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        if updated <= now + STALE {
            ahead.remove(path);
            return now.duration_since(updated).is_ok_and(|age| age > STALE);
        }
        match ahead.get(path) {
            Some((seen, since)) if seen == content => {
                let old = since.elapsed() > STALE;
                if old {
                    ahead.remove(path);
                }
                old
            }
            _ => {
                ahead.insert(path.to_owned(), (content.to_owned(), Instant::now()));
                false
            }
        }
    }
}

/// When a lock was written last; none where its file is garbage.
fn updated(content: &[u8]) -> Option<SystemTime> {
    let file = serde_json::from_slice::<LockFile>(content).ok()?;
    let text = if file.updated.is_empty() { file.created } else { file.updated };
    Some(OffsetDateTime::parse(&text, &Rfc3339).ok()?.into())
}

fn now_text() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn make_dirs(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path).map_err(|error| named(&error, path))
}

fn named(error: &io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {}", path.display(), plain(error)))
}

#[cfg(test)]
mod tests {
    use std::{fs, io, time::Duration};

    use super::FileSystem;
    use crate::{storage::Storage, testing::TempDir};

    #[test]
    fn files_are_private_and_whole() {
        let dir = TempDir::new();
        let storage = FileSystem::new(dir.path().join("root"));
        storage.store("a/b/c.key", b"one").unwrap();
        storage.store("a/b/c.key", b"two").unwrap();
        assert_eq!(storage.load("a/b/c.key").unwrap(), b"two");
        assert_eq!(storage.list("a/b").unwrap(), ["a/b/c.key"], "no temporary file is left");
        assert_eq!(storage.list("none").unwrap(), Vec::<String>::new());
        assert_eq!(storage.load("a/x").unwrap_err().kind(), io::ErrorKind::NotFound);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &str| {
                fs::metadata(storage.root().join(path)).unwrap().permissions().mode() & 0o777
            };
            assert_eq!((mode("a/b/c.key"), mode("a/b")), (0o600, 0o700));
        }
        storage.delete("a").unwrap();
        assert!(!storage.exists("a/b/c.key").unwrap());
        assert!(storage.store("../x", b"").is_err());
    }

    #[test]
    fn what_killed_processes_left_is_swept_away() {
        let dir = TempDir::new();
        let storage = FileSystem::new(dir.path());
        storage.store("a/b.key", b"good").unwrap();
        let ends = ["a/b.key.0123456789abcdef.tmp", "a/c.0123456789abcdef.tmp", "a/mine.tmp"];
        let left = ends.map(|name| dir.path().join(name));
        for (path, hours) in left.iter().zip([2, 0, 2]) {
            fs::write(path, b"").unwrap();
            let file = fs::File::options().write(true).open(path).unwrap();
            let age = Duration::from_secs(hours * 3_700);
            file.set_modified(std::time::SystemTime::now() - age).unwrap();
        }
        storage.sweep().unwrap();
        // Somebody may be writing the second one; the third is not ours.
        assert_eq!(left.map(|path| path.exists()), [false, true, true]);
        assert_eq!(storage.load("a/b.key").unwrap(), b"good");
    }

    #[test]
    fn a_lock_has_one_holder() {
        let dir = TempDir::new();
        let storage = FileSystem::new(dir.path());
        let guard = storage.lock("issue_cert_*.a.test", Duration::ZERO).unwrap();
        assert!(storage.exists("locks/issue_cert_wildcard_.a.test.lock").unwrap());
        let error = storage.lock("issue_cert_*.a.test", Duration::ZERO).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(guard);
        assert!(!storage.exists("locks/issue_cert_wildcard_.a.test.lock").unwrap());
        storage.lock("issue_cert_*.a.test", Duration::ZERO).unwrap();
    }

    #[test]
    fn a_stale_lock_is_taken_over() {
        let dir = TempDir::new();
        let storage = FileSystem::new(dir.path());
        let old = br#"{"created":"2020-01-01T00:00:00Z","updated":"2020-01-01T00:00:01.5+01:00"}"#;
        storage.store("locks/x.lock", old).unwrap();
        storage.lock("x", Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn a_lock_that_was_lost_is_left_to_its_new_holder() {
        let dir = TempDir::new();
        let storage = FileSystem::new(dir.path());
        let ours = storage.lock("x", Duration::ZERO).unwrap();
        assert!(ours.is_ours().unwrap());
        // As it is when the process was stopped for a while: another one took the lock over.
        storage.delete("locks/x.lock").unwrap();
        let theirs = storage.lock("x", Duration::ZERO).unwrap();
        assert!(!ours.is_ours().unwrap());
        drop(ours);
        assert!(theirs.is_ours().unwrap(), "it is not freed by who lost it");
        assert!(storage.lock("x", Duration::ZERO).is_err());
        drop(theirs);
        assert!(!storage.exists("locks/x.lock").unwrap());
    }

    #[test]
    fn a_stale_lock_that_is_taken_over_goes_back() {
        let dir = TempDir::new();
        let storage = FileSystem::new(dir.path());
        let held = storage.lock("x", Duration::ZERO).unwrap();
        let path = dir.path().join("locks/x.lock");
        super::remove_stale(&path, b"what was there before").unwrap();
        assert!(held.is_ours().unwrap());
        super::remove_stale(&path, &fs::read(&path).unwrap()).unwrap();
        assert!(!held.is_ours().unwrap());
        assert_eq!(fs::read_dir(dir.path().join("locks")).unwrap().count(), 0);
    }

    #[test]
    fn a_lock_from_the_future_ends_where_nobody_writes_it() {
        let dir = TempDir::new();
        let storage = FileSystem::new(dir.path());
        let ahead = br#"{"created":"2090-01-01T00:00:00Z","updated":"2090-01-01T00:00:01Z"}"#;
        storage.store("locks/x.lock", ahead).unwrap();
        assert!(storage.lock("x", Duration::ZERO).is_err());
        let path = dir.path().join("locks/x.lock");
        let long_ago = std::time::Instant::now().checked_sub(2 * super::STALE).unwrap();
        let age = |storage: &FileSystem| {
            storage.ahead.lock().unwrap().get_mut(&path).unwrap().1 = long_ago;
        };
        // Written since it was looked at: somebody holds it.
        age(&storage);
        let later = br#"{"created":"2090-01-01T00:00:00Z","updated":"2090-01-01T00:00:06Z"}"#;
        storage.store("locks/x.lock", later).unwrap();
        assert!(storage.lock("x", Duration::ZERO).is_err());
        age(&storage);
        storage.lock("x", Duration::from_secs(5)).unwrap();
        assert!(storage.ahead.lock().unwrap().is_empty());
    }

    #[test]
    fn a_lock_is_written_anew_in_its_place() {
        let dir = TempDir::new();
        let path = dir.path().join("x.lock");
        let created = super::create_lock(&path).unwrap();
        let before = fs::read(&path).unwrap();
        super::renew(&path, &created).unwrap();
        let after = fs::read(&path).unwrap();
        assert_eq!((before.len(), after.len()), (super::LOCK_SIZE, super::LOCK_SIZE));
        assert!(super::is_ours(&path, &created).unwrap());
        assert!(super::updated(&after).unwrap() >= super::updated(&before).unwrap());
    }
}
