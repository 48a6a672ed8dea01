//! Helpers for the unit tests of this crate.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Mutex, Once, PoisonError},
};

use serde_json::{Map, Value as Json};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// A folder that goes away with the value.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        let name = format!("caddis-tls-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What was logged since the start of the tests; a test looks for names of its own.
static LOGGED: Mutex<Vec<Json>> = Mutex::new(Vec::new());

/// All entries since the first call: `level`, `target`, `message` and the fields.
pub(crate) fn all_logged() -> Vec<Json> {
    static START: Once = Once::new();
    START.call_once(|| tracing::subscriber::set_global_default(Memory).unwrap());
    LOGGED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Those about a name (`identifier`).
pub(crate) fn logged(identifier: &str) -> Vec<Json> {
    let mut all = all_logged();
    all.retain(|entry| entry["identifier"] == identifier);
    all
}

/// Keeps entries in memory, from all threads: storages are asked on others.
struct Memory;

impl Subscriber for Memory {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut entry = Entry(Map::new());
        entry.0.insert("level".into(), metadata.level().to_string().to_lowercase().into());
        entry.0.insert("target".into(), metadata.target().into());
        event.record(&mut entry);
        LOGGED.lock().unwrap_or_else(PoisonError::into_inner).push(entry.0.into());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Entry(Map<String, Json>);

impl Visit for Entry {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}").into());
    }
}
