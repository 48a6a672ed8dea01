//! Run-time logs: a `tracing` subscriber that writes events to the logs of the running generation.
//!
//! The event's target is the logger's name (`http.handlers.reverse_proxy`), its message `msg`, its
//! other fields JSON fields by their type. Events of foreign crates count from `warn` on. Until a
//! configuration is there, events wait, to be written where it says.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use caddis_core::{State, error::plain_text, metrics::Metrics};
use smallvec::SmallVec;
use time::OffsetDateTime;
use tracing::{
    Event, Metadata,
    field::{Field as Key, Visit},
    level_filters::LevelFilter,
    span,
    subscriber::{Interest, Subscriber},
};

use crate::{
    Level, Logging,
    field::{Caller, Entry, Field, FieldSink, Object},
};

/// Events that may wait for the first configuration.
const PENDING: usize = 1000;

/// Swaps where run-time logs go.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

#[derive(Default)]
struct Shared {
    current: ArcSwapOption<Logging>,
    pending: Mutex<Vec<Waiting>>,
}

struct Waiting {
    level: Level,
    time: OffsetDateTime,
    logger: String,
    caller: Option<Caller<'static>>,
    fields: Collected,
}

/// Installs the subscriber, once a process; later calls give the same handle.
pub fn init() -> Handle {
    static HANDLE: OnceLock<Handle> = OnceLock::new();
    let handle = HANDLE.get_or_init(|| {
        crate::encoders::local_offset();
        let handle = Handle(Arc::default());
        // Where somebody else's subscriber is installed, that one gets the events.
        let _ = tracing::subscriber::set_global_default(Bridge(handle.0.clone()));
        handle
    });
    handle.clone()
}

/// Tells that a request's handler is invoked, at level debug (spec O089); its settings are JSON text.
pub fn trace_handler(name: &str, settings: &str) {
    tracing::debug!(target: "http.log.trace", { json.module = settings }, "{name}");
}

impl Handle {
    /// Sends run-time logs to these logs from now on, first those that waited.
    pub fn set(&self, logging: Arc<Logging>) {
        let waiting = {
            // Under the lock, so that no event starts to wait when nobody comes any more.
            let mut pending = self.0.lock();
            self.0.current.store(Some(logging.clone()));
            std::mem::take(&mut *pending)
        };
        for event in waiting {
            event.emit(&logging);
        }
        tracing_core::callsite::rebuild_interest_cache();
    }

    /// The logs in use; none before the first `set`.
    pub fn current(&self) -> Option<Arc<Logging>> {
        self.0.current.load_full()
    }

    /// Waits until all is written, at most for so long; call it before the process ends. Events
    /// that still wait for a configuration go to stderr.
    pub fn flush(&self, longest: Duration) -> bool {
        let Some(logging) = self.current() else {
            let waiting = std::mem::take(&mut *self.0.lock());
            let plan = crate::compile(&None);
            let opened = plan
                .ok()
                .and_then(|plan| crate::open(&plan, &State::default(), &Metrics::default()).ok());
            let Some(logging) = opened else { return false };
            for event in waiting {
                event.emit(&logging);
            }
            return logging.flush(longest);
        };
        logging.flush(longest)
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_enabled(&self, metadata: &Metadata<'_>) -> bool {
        if metadata.is_span() {
            return false;
        }
        if !is_own(metadata) && *metadata.level() > tracing::Level::WARN {
            return false;
        }
        match &*self.current.load() {
            Some(logging) => {
                let level = Level::from_tracing(*metadata.level());
                logging.enabled(level, &logger(metadata))
            }
            // What a configuration may turn on later is not worth keeping yet.
            None => *metadata.level() <= tracing::Level::INFO,
        }
    }
}

/// Whether an event comes from this program's crates.
fn is_own(metadata: &Metadata<'_>) -> bool {
    metadata.module_path().is_some_and(|path| path.starts_with("caddis"))
}

/// A target that nobody chose is a module path.
fn logger(metadata: &Metadata<'_>) -> Cow<'static, str> {
    let target = metadata.target();
    if metadata.module_path() == Some(target) && is_own(metadata) {
        // No target was given: the process itself speaks, and it has no logger name.
        return "".into();
    }
    if target.contains("::") {
        return target.replace("::", ".").into();
    }
    target.to_owned().into()
}

fn caller(metadata: &'static Metadata<'static>) -> Option<Caller<'static>> {
    Some(Caller { file: metadata.file()?, line: metadata.line()? })
}

impl Waiting {
    fn emit(&self, logging: &Logging) {
        logging.emit(&Entry {
            level: self.level,
            time: self.time,
            logger: &self.logger,
            caller: self.caller,
            message: &self.fields.message,
            fields: &self.fields,
        });
    }
}

struct Bridge(Arc<Shared>);

impl Subscriber for Bridge {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.0.is_enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.is_enabled(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let current = self.0.current.load();
        Some(match current.as_ref().map(|logging| logging.least()) {
            None => LevelFilter::INFO,
            Some(None) => LevelFilter::OFF,
            Some(Some(Level::Debug)) => LevelFilter::TRACE,
            Some(Some(Level::Info)) => LevelFilter::INFO,
            Some(Some(Level::Warn)) => LevelFilter::WARN,
            Some(Some(_)) => LevelFilter::ERROR,
        })
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut fields = Collected::default();
        event.record(&mut fields);
        let waiting = Waiting {
            level: Level::from_tracing(*metadata.level()),
            time: OffsetDateTime::now_utc(),
            logger: logger(metadata).into_owned(),
            caller: caller(metadata),
            fields,
        };
        if let Some(logging) = &*self.0.current.load() {
            return waiting.emit(logging);
        }
        let mut pending = self.0.lock();
        if let Some(logging) = &*self.0.current.load() {
            drop(pending);
            return waiting.emit(logging);
        }
        if pending.len() < PENDING {
            pending.push(waiting);
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// An event's fields.
#[derive(Default)]
struct Collected {
    message: String,
    fields: SmallVec<[(&'static str, Owned); 6]>,
}

/// A field's value that can wait.
enum Owned {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(String),
    Json(serde_json::Value),
}

/// Fields whose name begins so hold JSON as text: events of `tracing` cannot nest.
const JSON: &str = "json.";

impl Collected {
    fn add(&mut self, key: &Key, field: Owned) {
        let name = key.name();
        let name = name.strip_prefix("r#").unwrap_or(name);
        let (name, field) = match (name.strip_prefix(JSON), field) {
            (Some(name), Owned::Text(text)) => {
                let json = serde_json::from_str(&text);
                (name, json.map_or(Owned::Text(text), Owned::Json))
            }
            (_, field) => (name, field),
        };
        self.fields.push((name, field));
    }
}

impl Object for Collected {
    fn fields(&self, out: &mut FieldSink<'_>) {
        for (key, field) in &self.fields {
            let field = match field {
                Owned::Bool(value) => Field::Bool(*value),
                Owned::Int(value) => Field::Int(*value),
                Owned::Uint(value) => Field::Uint(*value),
                Owned::Float(value) => Field::Float(*value),
                Owned::Text(text) => Field::str(text),
                Owned::Json(serde_json::Value::Object(map)) => {
                    out(key, Field::Object(&JsonObject(map)));
                    continue;
                }
                Owned::Json(value) => Field::Json(value),
            };
            out(key, field);
        }
    }
}

/// An object of JSON, so that filters find what is in it.
struct JsonObject<'a>(&'a serde_json::Map<String, serde_json::Value>);

impl Object for JsonObject<'_> {
    fn fields(&self, out: &mut FieldSink<'_>) {
        for (key, value) in self.0 {
            match value {
                serde_json::Value::Object(map) => out(key, Field::Object(&JsonObject(map))),
                serde_json::Value::String(text) => out(key, Field::str(text)),
                serde_json::Value::Array(items) if items.iter().all(|item| item.is_string()) => {
                    let texts: Vec<Cow<'_, str>> =
                        items.iter().filter_map(|item| item.as_str()).map(Cow::Borrowed).collect();
                    out(key, Field::Strings(&texts));
                }
                other => out(key, Field::Json(other)),
            }
        }
    }
}

impl Visit for Collected {
    fn record_debug(&mut self, key: &Key, value: &dyn fmt::Debug) {
        // Whoever made the error, numbers of the system's errors are not for people.
        let text = plain_text(format!("{value:?}"));
        if key.name() == "message" {
            self.message = text;
        } else {
            self.add(key, Owned::Text(text));
        }
    }

    fn record_str(&mut self, key: &Key, value: &str) {
        if key.name() == "message" {
            self.message = plain_text(value.to_owned());
        } else {
            self.add(key, Owned::Text(plain_text(value.to_owned())));
        }
    }

    fn record_error(&mut self, key: &Key, value: &(dyn std::error::Error + 'static)) {
        self.add(key, Owned::Text(plain_text(value.to_string())));
    }

    fn record_f64(&mut self, key: &Key, value: f64) {
        self.add(key, Owned::Float(value));
    }

    fn record_i64(&mut self, key: &Key, value: i64) {
        self.add(key, Owned::Int(value));
    }

    fn record_u64(&mut self, key: &Key, value: u64) {
        self.add(key, Owned::Uint(value));
    }

    fn record_bool(&mut self, key: &Key, value: bool) {
        self.add(key, Owned::Bool(value));
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use caddis_core::{State, metrics::Metrics};
    use serde_json::json;

    use super::{Bridge, Handle};

    #[test]
    fn entries_name_their_caller() {
        let directory = crate::writers::scratch("caller");
        let log = |name: &str, caller: bool, encoder: serde_json::Value| {
            let writer = json!({"output": "file", "filename": directory.join(name)});
            json!({"writer": writer, "encoder": encoder, "with_caller": caller})
        };
        let format = json!({"format": "json", "time_key": "", "name_key": "", "level_key": ""});
        let mut renamed = format.clone();
        renamed["caller_key"] = "at".into();
        let console = json!({"format": "console", "time_key": "", "level_format": "upper"});
        let logs = json!({"logs": {
            "default": log("default", true, format.clone()),
            "without": log("without", false, format),
            "renamed": log("renamed", true, renamed),
            "console": log("console", true, console),
        }});
        let plan = crate::compile(&serde_json::from_value(logs).unwrap()).unwrap();
        let logging = Arc::new(crate::open(&plan, &State::default(), &Metrics::default()).unwrap());
        let handle = Handle(Arc::default());
        handle.set(logging);
        tracing::subscriber::with_default(Bridge(handle.0.clone()), || {
            tracing::info!(target: "http", "hello");
        });
        let line = line!() - 2;
        assert!(handle.flush(Duration::from_secs(30)));
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
        let place = format!("src/subscriber.rs:{line}");
        assert_eq!(read("default"), format!("{{\"caller\":\"{place}\",\"msg\":\"hello\"}}\n"));
        assert_eq!(read("without"), "{\"msg\":\"hello\"}\n");
        assert_eq!(read("renamed"), format!("{{\"at\":\"{place}\",\"msg\":\"hello\"}}\n"));
        assert_eq!(read("console"), format!("INFO\thttp\t{place}\thello\n"));
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn events_become_entries() {
        let directory = crate::writers::scratch("subscriber");
        let path = directory.join("all.log");
        let config = json!({"logs": {"default": {
            "writer": {"output": "file", "filename": path},
            "encoder": {"format": "json", "time_key": ""},
            "exclude": ["admin"],
        }}});
        let plan = crate::compile(&serde_json::from_value(config).unwrap()).unwrap();
        let logging = Arc::new(crate::open(&plan, &State::default(), &Metrics::default()).unwrap());

        let handle = Handle(Arc::default());
        tracing::subscriber::with_default(Bridge(handle.0.clone()), || {
            tracing::info!(target: "http", early = true, "before");
            handle.set(logging);
            tracing::warn!(target: "tls.obtain", n = 3, f = 1.5, name = "x\"y", d = ?Some(1), "after {}", 1);
            tracing::debug!(target: "http", "too low");
            tracing::error!(target: "admin.api", "excluded");
            let json = json!({"a": {"b": ["c"], "n": 1}, "t": "x"});
            tracing::info!(target: "http", n = 1, json.request = %json, "nested");
        });
        assert!(handle.flush(Duration::from_secs(30)));
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"level\":\"info\",\"logger\":\"http\",\"msg\":\"before\",\"early\":true}\n\
             {\"level\":\"warn\",\"logger\":\"tls.obtain\",\"msg\":\"after 1\",\"n\":3,\"f\":1.5,\
             \"name\":\"x\\\"y\",\"d\":\"Some(1)\"}\n\
             {\"level\":\"info\",\"logger\":\"http\",\"msg\":\"nested\",\"n\":1,\
             \"request\":{\"a\":{\"b\":[\"c\"],\"n\":1},\"t\":\"x\"}}\n"
        );
        std::fs::remove_dir_all(directory).unwrap();
    }
}
