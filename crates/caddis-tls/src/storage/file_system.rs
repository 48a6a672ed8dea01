//! `caddy.storage.file_system`: one file per key. Files are 0600 in folders of 0700, written beside
//! their place and renamed, so a reader never sees half a file. Locks are files too, in Caddy's
//! format, so both programs can share a folder.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
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
/// How often a waiting process looks.
const POLL: Duration = Duration::from_secs(1);
/// How often an unreadable lock file is looked at again before it counts as stale.
const CORRUPT_TRIES: u32 = 8;
const CORRUPT_PAUSE: Duration = Duration::from_millis(250);

/// Storage in a folder.
#[derive(Debug, Clone)]
pub struct FileSystem {
    root: PathBuf,
}

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
        Self { root: root.into() }
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
        let mut temp = path.clone().into_os_string();
        temp.push(format!(".{:016x}.tmp", fastrand::u64(..)));
        let temp = PathBuf::from(temp);
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
            if is_stale(&path) {
                tracing::warn!(target: "tls", lock = %path.display(), "removing stale lock");
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
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
    stop: Option<mpsc::Sender<()>>,
    keeper: Option<std::thread::JoinHandle<()>>,
}

impl LockGuard for FileLock {}

impl FileLock {
    /// Starts the thread that keeps the lock fresh.
    fn hold(path: PathBuf, created: Arc<str>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let kept = path.clone();
        let keeper = std::thread::Builder::new().name("storage-lock".into()).spawn(move || {
            while stopped.recv_timeout(REFRESH) == Err(RecvTimeoutError::Timeout) {
                let file = LockFile { created: created.to_string(), updated: now_text() };
                let Ok(text) = serde_json::to_vec(&file) else { return };
                // Someone removed it: it is not ours any more, so it is not made again.
                if kept.try_exists().is_ok_and(|exists| !exists) {
                    return;
                }
                if let Err(error) = fs::write(&kept, text) {
                    let path = kept.display();
                    tracing::warn!(target: "storage", lock = %path, %error, "lock not renewed");
                }
            }
        });
        match keeper {
            Ok(keeper) => Ok(Self { path, stop: Some(stop), keeper: Some(keeper) }),
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
        let _ = fs::remove_file(&self.path);
    }
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
    match write_new(path, &serde_json::to_vec(&file)?) {
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

fn is_stale(path: &Path) -> bool {
    for _ in 0..CORRUPT_TRIES {
        match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
            Ok(content) => {
                let updated = serde_json::from_slice::<LockFile>(&content).ok().and_then(|file| {
                    let text = if file.updated.is_empty() { file.created } else { file.updated };
                    OffsetDateTime::parse(&text, &Rfc3339).ok()
                });
                if let Some(updated) = updated {
                    return SystemTime::now()
                        .duration_since(updated.into())
                        .is_ok_and(|age| age > STALE);
                }
            }
            Err(_) => {}
        }
        std::thread::sleep(CORRUPT_PAUSE);
    }
    true
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
}
