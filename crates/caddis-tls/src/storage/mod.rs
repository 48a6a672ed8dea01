//! `caddy.storage.*`: where certificates, keys and authorities are kept.
//!
//! JSON: `{"module": "file_system", "root": "/path"}`; no storage at all means `file_system` in the
//! data folder. All calls block; they are made on the control side or in blocking tasks only.

pub(crate) mod clean;
mod file_system;
pub mod keys;

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use caddis_config::ConfigError;
use caddis_core::template::{Template, Unknown};
use serde::Deserialize;
use serde_json::Value;

pub use file_system::FileSystem;

/// A held lock; letting go of it frees the name.
pub trait LockGuard: Send {}

/// A place for small files by key; keys are relative, parts divided by `/`.
pub trait Storage: Send + Sync + fmt::Debug {
    /// The content; `NotFound` where there is none.
    fn load(&self, key: &str) -> io::Result<Vec<u8>>;
    /// Writes the whole content, or nothing.
    fn store(&self, key: &str, content: &[u8]) -> io::Result<()>;
    /// Whether there is content.
    fn exists(&self, key: &str) -> bool;
    /// Removes a key and all below it.
    fn delete(&self, key: &str) -> io::Result<()>;
    /// The keys directly below a prefix, sorted; none where the prefix is unknown.
    fn list(&self, prefix: &str) -> io::Result<Vec<String>>;
    /// Waits at most `wait` for a name that only one process may hold.
    fn lock(&self, name: &str, wait: Duration) -> io::Result<Box<dyn LockGuard>>;
    /// What the storage is, for logs and comparison.
    fn describe(&self) -> String;
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSystemConfig {
    #[serde(default)]
    root: String,
}

/// The storage of a configuration.
///
/// # Errors
/// A module other than `file_system`, or unknown fields.
pub fn from_config(config: &Option<Value>) -> Result<Arc<dyn Storage>, ConfigError> {
    let Some(json) = config else {
        return Ok(Arc::new(FileSystem::new(data_dir())));
    };
    let name = json.get("module").and_then(Value::as_str).unwrap_or_default();
    if name != "file_system" {
        let message = format!("unknown module: caddy.storage.{name} (not supported yet)");
        return Err(ConfigError::new("storage", message));
    }
    let mut json = json.clone();
    if let Some(object) = json.as_object_mut() {
        object.remove("module");
    }
    let config: FileSystemConfig =
        caddis_config::decode(json).map_err(|error: ConfigError| error.under("storage"))?;
    let root = Template::render_global(&config.root, Unknown::Keep);
    let root = if root.is_empty() { data_dir() } else { PathBuf::from(root) };
    Ok(Arc::new(FileSystem::new(root)))
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

    use super::from_config;

    #[test]
    fn only_the_file_system_is_known() {
        let storage = from_config(&Some(json!({"module": "file_system", "root": "/x"}))).unwrap();
        assert_eq!(storage.describe(), "file_system:/x");
        let error = from_config(&Some(json!({"module": "redis"}))).unwrap_err();
        assert!(error.to_string().contains("caddy.storage.redis"), "{error}");
        assert!(from_config(&Some(json!({"module": "file_system", "path": "/x"}))).is_err());
    }
}
