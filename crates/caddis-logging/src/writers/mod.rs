//! `caddy.logging.writers.*`: where lines go.
//!
//! ```text
//! output stderr|stdout|discard
//! output file <path> { … }
//! output net <address> { dial_timeout <d>; soft_start }
//! ```
//! JSON: `{"output": "file", …}`. Writers are shared by key, between logs and across reloads.

mod file;
mod net;
mod queue;
mod roll;

use std::{
    io::{self, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use caddis_config::ConfigError;
use caddis_core::{State, metrics::Metrics};
use serde::Deserialize;
use serde_json::Value as Json;

pub(crate) use self::queue::Writer;
use self::{file::FilePlan, net::NetPlan};

/// The counter of entries that did not get where they should.
const DROPPED: &str = "caddis_log_entries_dropped_total";
const DROPPED_HELP: &str =
    "Log entries that are not where they should be, since the writer was too slow or failed.";

/// A compiled writer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum WriterPlan {
    Stderr,
    Stdout,
    Discard,
    File(Box<FilePlan>),
    Net(NetPlan),
}

/// What a writer's thread gives lines to.
pub(crate) trait Sink: Send {
    /// Writes whole lines; `ends` are the ends of each within `lines`. Gives how many got lost.
    fn write(&mut self, lines: &[u8], ends: &[usize]) -> usize;

    /// How long until [`Self::tick`] is wanted, lines or not.
    fn next(&self) -> Option<Duration> {
        None
    }

    /// Does what the clock says.
    fn tick(&mut self) {}
}

/// A writer as leased: open, or the reason why not.
pub(crate) struct Leased(Result<Writer, (io::ErrorKind, String)>);

impl Leased {
    /// The writer; only open ones are handed out.
    pub(crate) fn get(&self) -> Option<&Writer> {
        self.0.as_ref().ok()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoConfig {}

impl WriterPlan {
    /// Compiles a writer's JSON; none means stderr.
    pub(crate) fn compile(json: Option<&Json>) -> Result<Self, ConfigError> {
        let Some(json) = json else { return Ok(Self::Stderr) };
        let (name, json) = crate::plan::take_name(json.clone(), "output")?;
        let plain = |plan: Self, json: Json| {
            caddis_config::decode::<NoConfig>(json)?;
            Ok(plan)
        };
        match name.as_str() {
            "stderr" => plain(Self::Stderr, json),
            "stdout" => plain(Self::Stdout, json),
            "discard" => plain(Self::Discard, json),
            "file" => Ok(Self::File(Box::new(FilePlan::compile(json)?))),
            "net" => Ok(Self::Net(NetPlan::compile(json)?)),
            name => Err(ConfigError::new(
                "output",
                format!("unknown module: caddy.logging.writers.{name}"),
            )),
        }
    }

    /// What tells writers apart.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Stderr => "std:err".to_owned(),
            Self::Stdout => "std:out".to_owned(),
            Self::Discard => "discard".to_owned(),
            Self::File(file) => format!("file:{}", file.path.display()),
            Self::Net(net) => format!("net:{}", net.address),
        }
    }

    /// Opens the writer, or shares the one that is open already.
    pub(crate) fn open(&self, state: &State, metrics: &Metrics) -> io::Result<Arc<Leased>> {
        let leased = state.table::<String, Leased>().lease(self.key(), || {
            let key = self.key();
            let opened = self.sink().and_then(|sink| {
                let dropped = metrics.counter(DROPPED, DROPPED_HELP, &[("writer", &key)]);
                Writer::spawn(&key, sink, dropped)
            });
            Leased(opened.map_err(|error| (error.kind(), error.to_string())))
        });
        match &leased.0 {
            Ok(_) => Ok(leased),
            Err((kind, message)) => Err(io::Error::new(*kind, message.clone())),
        }
    }

    fn sink(&self) -> io::Result<Box<dyn Sink>> {
        Ok(match self {
            Self::Stderr => Box::new(Stream(io::stderr())),
            Self::Stdout => Box::new(Stream(io::stdout())),
            Self::Discard => Box::new(Stream(io::sink())),
            Self::File(plan) => Box::new(file::FileSink::open(plan)?),
            Self::Net(plan) => Box::new(net::NetSink::open(plan)?),
        })
    }
}

struct Stream<W>(W);

impl<W: Write + Send> Sink for Stream<W> {
    fn write(&mut self, lines: &[u8], ends: &[usize]) -> usize {
        // A closed terminal or pipe leaves nobody to tell.
        match self.0.write_all(lines).and_then(|()| self.0.flush()) {
            Ok(()) => 0,
            Err(_) => ends.len(),
        }
    }
}

/// Says on stderr what went wrong with a writer: the log itself may be what is broken.
pub(crate) fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}

/// How often a writer says something about itself at most.
const PAUSE: Duration = Duration::from_secs(10);

/// What a writer says on stderr about itself, at most once in so long: something that is broken is
/// so for each line.
#[derive(Default)]
pub(crate) struct Complaints {
    last: Option<Instant>,
    unsaid: u64,
}

impl Complaints {
    pub(crate) fn say(&mut self, message: impl FnOnce() -> String) {
        if self.last.is_some_and(|last| last.elapsed() < PAUSE) {
            self.unsaid += 1;
            return;
        }
        self.last = Some(Instant::now());
        let more = match std::mem::take(&mut self.unsaid) {
            0 => String::new(),
            unsaid => format!(" (and {unsaid} more like this)"),
        };
        complain(&format!("{}{more}", message()));
    }
}

/// A fresh directory for a test.
#[cfg(test)]
pub(crate) fn scratch(name: &str) -> std::path::PathBuf {
    let directory =
        std::env::temp_dir().join(format!("caddis-logging-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}
