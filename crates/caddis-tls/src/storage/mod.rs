//! `caddy.storage.*`: where certificates, keys and authorities are kept.
//!
//! JSON: `{"module": "file_system", "root": "/path"}`; no storage at all means `file_system` in the
//! data folder. All calls block; they are made on the control side or in blocking tasks only.
//!
//! To open a storage is not to ask it: one that is gone when the server starts is asked when it is
//! needed, and again until it is back.

pub mod archive;
pub(crate) mod clean;
mod file_system;
pub mod keys;
mod options;
mod postgres;
mod redis;
mod remote;
mod s3;

use std::{
    fmt, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use caddis_config::ConfigError;
use serde_json::Value;

pub use file_system::FileSystem;

/// A held lock; letting go of it frees the name.
pub trait LockGuard: Send + Sync {
    /// Whether it is still held: it ends where its holder did nothing for some seconds (was stopped,
    /// slept with its machine, did not reach the storage), and another process may have it since.
    /// Blocks.
    ///
    /// # Errors
    /// The storage does not tell.
    fn is_ours(&self) -> io::Result<bool>;
}

/// A place for small files by key; keys are relative, parts divided by `/`.
///
/// No call takes for ever: storages elsewhere have a limit of some seconds. Their errors name the
/// storage, and are of the kind `NotConnected` where it does not answer.
pub trait Storage: Send + Sync + fmt::Debug {
    /// The content; `NotFound` where there is none, `InvalidData` where it is garbage.
    fn load(&self, key: &str) -> io::Result<Vec<u8>>;
    /// Writes the whole content, or nothing.
    fn store(&self, key: &str, content: &[u8]) -> io::Result<()>;
    /// Whether there is content, or something below the key.
    fn exists(&self, key: &str) -> io::Result<bool>;
    /// Removes a key and all below it.
    fn delete(&self, key: &str) -> io::Result<()>;
    /// The keys directly below a prefix, sorted; none where the prefix is unknown. The empty prefix
    /// is above all keys.
    fn list(&self, prefix: &str) -> io::Result<Vec<String>>;
    /// All keys that have content, sorted.
    fn walk(&self) -> io::Result<Vec<String>> {
        let mut folders = self.list("")?;
        let mut keys = Vec::new();
        while let Some(key) = folders.pop() {
            let inside = self.list(&key)?;
            if inside.is_empty() { keys.push(key) } else { folders.extend(inside) }
        }
        keys.sort();
        Ok(keys)
    }
    /// Removes what processes left behind that were killed while they wrote: no key, and in the way
    /// of nobody, but private keys may be in it.
    fn sweep(&self) -> io::Result<()> {
        Ok(())
    }
    /// When the content was written last.
    fn modified(&self, key: &str) -> io::Result<SystemTime>;
    /// Waits at most `wait` for a name that only one process may hold; `TimedOut` where another one
    /// holds it still. The lock ends some seconds after its holder died.
    fn lock(&self, name: &str, wait: Duration) -> io::Result<Box<dyn LockGuard>>;
    /// What the storage is, for logs and comparison.
    fn describe(&self) -> String;
}

/// Makes a storage from its JSON, `module` taken out.
type Open = fn(Value) -> Result<Arc<dyn Storage>, ConfigError>;

/// The storages, by name.
const MODULES: &[(&str, Open)] = &[
    ("file_system", file_system::open),
    ("postgres", postgres::open),
    ("redis", redis::open),
    ("s3", s3::open),
];

/// The storage of a configuration.
///
/// # Errors
/// An unknown module, unknown fields, values that cannot be.
pub fn from_config(config: &Option<Value>) -> Result<Arc<dyn Storage>, ConfigError> {
    let Some(json) = config else {
        return Ok(Arc::new(FileSystem::new(data_dir())));
    };
    let mut json = json.clone();
    let name = json.as_object_mut().and_then(|object| object.remove("module"));
    let name = name.as_ref().and_then(Value::as_str).unwrap_or_default();
    let Some((_, open)) = MODULES.iter().find(|(known, _)| *known == name) else {
        let message = format!("unknown module: caddy.storage.{name}");
        return Err(ConfigError::new("storage", message));
    };
    open(json).map_err(|error| error.under("storage"))
}

/// A storage other than the configuration's own, as of an automation policy. Two are equal where
/// they are configured alike.
#[derive(Debug, Clone)]
pub struct OtherStorage {
    config: Value,
    storage: Arc<dyn Storage>,
}

impl OtherStorage {
    /// The storage of this configuration.
    ///
    /// # Errors
    /// As [`from_config`].
    pub fn open(config: &Value) -> Result<Self, ConfigError> {
        let storage = from_config(&Some(config.clone()))?;
        Ok(Self { config: config.clone(), storage })
    }

    /// Whether it is the one of this configuration.
    pub fn is_of(&self, config: &Value) -> bool {
        self.config == *config
    }

    /// The storage.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }
}

impl PartialEq for OtherStorage {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config
    }
}

/// What may be done about a storage that does not work.
pub fn remedy(kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind as Kind;
    match kind {
        Kind::ReadOnlyFilesystem => {
            "mount the storage writable, or name another folder: `storage file_system PATH`"
        }
        Kind::PermissionDenied => "give the user that runs caddis access to the storage",
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => "make room in the storage",
        Kind::NotFound | Kind::NotADirectory | Kind::AlreadyExists => {
            "see whether the storage's disk is mounted and its path is a folder"
        }
        _ => "see whether the storage is there and answers",
    }
}

/// Writes two values that are of use only together. Where the second one has no place the first is put
/// back as it was, so that what was there stays of use.
///
/// # Errors
/// They could not be written.
pub(crate) fn store_pair(
    storage: &dyn Storage,
    first: (&str, &[u8]),
    second: (&str, &[u8]),
) -> io::Result<()> {
    let old = match storage.load(first.0) {
        Ok(old) => Some(old),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) =>
        {
            None
        }
        Err(error) => return Err(error),
    };
    storage.store(first.0, first.1)?;
    let Err(error) = storage.store(second.0, second.1) else { return Ok(()) };
    let undone = match old {
        Some(old) => storage.store(first.0, &old),
        None => storage.delete(first.0),
    };
    if let Err(undoing) = undone {
        tracing::debug!(target: "storage", key = first.0, %undoing, "not put back");
    }
    Err(error)
}

/// Sees that a storage works: writes, reads and removes a key (T085).
///
/// # Errors
/// It does not.
pub fn probe(storage: &dyn Storage) -> io::Result<()> {
    let key = format!("rw_test_{:016x}", fastrand::u64(..));
    let content: Vec<u8> = (0..64).map(|_| fastrand::u8(..)).collect();
    storage.store(&key, &content)?;
    let read = storage.load(&key);
    let removed = storage.delete(&key);
    if read? != content {
        let text = "the storage does not give back what was written";
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    removed
}

/// The data folder (A091).
pub fn data_dir() -> PathBuf {
    app_dir("XDG_DATA_HOME", ".local/share")
}

/// The folder for the autosaved config (A092).
pub fn config_dir() -> PathBuf {
    app_dir("XDG_CONFIG_HOME", ".config")
}

fn app_dir(variable: &str, below_home: &str) -> PathBuf {
    if let Some(base) = std::env::var_os(variable).filter(|base| !base.is_empty()) {
        return PathBuf::from(base).join("caddy");
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    match (home, cfg!(target_os = "macos")) {
        (Some(home), true) => PathBuf::from(home).join("Library/Application Support/Caddy"),
        (Some(home), false) => PathBuf::from(home).join(below_home).join("caddy"),
        (None, _) => PathBuf::from("./caddy"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{FileSystem, Storage, from_config, store_pair};
    use crate::testing::TempDir;

    #[test]
    fn modules_are_known_by_name() {
        let storage = from_config(&Some(json!({"module": "file_system", "root": "/x"}))).unwrap();
        assert_eq!(storage.describe(), "file_system:/x");
        let redis = from_config(&Some(json!({"module": "redis"}))).unwrap();
        assert_eq!(redis.describe(), "redis:127.0.0.1:6379/0/caddy");
        let error = from_config(&Some(json!({"module": "consul"}))).unwrap_err();
        assert_eq!(error.to_string(), "storage: unknown module: caddy.storage.consul");
        assert!(from_config(&Some(json!({"module": "file_system", "path": "/x"}))).is_err());
        assert!(from_config(&Some(json!("redis"))).is_err());
    }

    #[test]
    fn of_two_values_none_is_written_alone() {
        let dir = TempDir::new();
        let storage = FileSystem::new(dir.path());
        storage.store("a", b"old").unwrap();
        storage.store("folder/x", b"").unwrap();
        for key in ["a", "new"] {
            store_pair(&storage, (key, b"1"), ("folder", b"2")).unwrap_err();
        }
        assert_eq!(storage.load("a").unwrap(), b"old");
        assert!(!storage.exists("new").unwrap());
        store_pair(&storage, ("a", b"1"), ("b", b"2")).unwrap();
        assert_eq!(["a", "b"].map(|key| storage.load(key).unwrap()), [b"1", b"2"]);
    }
}
