//! A plan with its writers open.

use std::{
    cell::RefCell,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use caddis_core::{State, metrics::Metrics};

use crate::{
    Level, LoggingPlan,
    encoders::Encoder,
    field::Entry,
    plan::Rules,
    sampling::Sampler,
    writers::{Leased, Writer},
};

/// The logs of a generation.
pub struct Logging {
    pub(crate) logs: Vec<Log>,
}

pub(crate) struct Log {
    pub(crate) rules: Rules,
    pub(crate) level: Level,
    sampler: Option<Sampler>,
    encoder: Encoder,
    writer: Arc<Leased>,
}

/// Opens the writers of a plan; those that are open already are shared. What they lose is counted
/// in `caddis_log_entries_dropped_total`.
///
/// # Errors
/// A file that cannot be opened, a socket that cannot be dialled.
pub fn open(plan: &LoggingPlan, state: &State, metrics: &Metrics) -> io::Result<Logging> {
    let mut logs = Vec::with_capacity(plan.logs.len());
    for log in &plan.logs {
        let writer = log.writer.open(state, metrics).map_err(|error| {
            io::Error::new(error.kind(), format!("opening writer of log '{}': {error}", log.name))
        })?;
        logs.push(Log {
            rules: log.rules.clone(),
            level: log.level,
            sampler: log.sampling.map(Sampler::new),
            encoder: log.encoder.clone().resolve(&log.writer),
            writer,
        });
    }
    Ok(Logging { logs })
}

thread_local! {
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A line longer than this does not keep its buffer.
const KEEP: usize = 64 << 10;

impl Logging {
    /// Whether some log takes entries of this logger at this level.
    pub fn enabled(&self, level: Level, logger: &str) -> bool {
        self.logs.iter().any(|log| level >= log.level && log.rules.accept(logger))
    }

    /// The least level that some log takes.
    pub(crate) fn least(&self) -> Option<Level> {
        self.logs.iter().map(|log| log.level).min()
    }

    /// Writes an entry to every log that takes it.
    pub(crate) fn emit(&self, entry: &Entry<'_>) {
        for log in &self.logs {
            if entry.level >= log.level && log.rules.accept(entry.logger) {
                log.write(entry);
            }
        }
    }

    /// The numbers of the logs that take entries of this logger, at some level.
    pub(crate) fn takers(&self, logger: &str) -> Vec<usize> {
        let logs = self.logs.iter().enumerate();
        logs.filter(|(_, log)| log.rules.accept(logger)).map(|(at, _)| at).collect()
    }

    /// Waits until all that was logged is written, at most for so long. Whether it was.
    pub fn flush(&self, longest: Duration) -> bool {
        let deadline = Instant::now() + longest.min(Duration::from_secs(3600));
        // Each gets its turn, even after one has failed.
        self.writers().filter(|writer| !writer.flush(deadline)).count() == 0
    }

    /// How many entries were dropped because a writer was too slow.
    pub fn dropped(&self) -> u64 {
        self.writers().map(Writer::dropped).sum()
    }

    fn writers(&self) -> impl Iterator<Item = &Writer> {
        self.logs.iter().filter_map(|log| log.writer.get())
    }
}

impl Log {
    /// Writes an entry without asking the rules.
    pub(crate) fn write(&self, entry: &Entry<'_>) {
        if entry.level < self.level {
            return;
        }
        if let Some(sampler) = &self.sampler
            && !sampler.keeps(entry.level, entry.message)
        {
            return;
        }
        let Some(writer) = self.writer.get() else { return };
        LINE.with(|line| {
            // Whoever logs from within an encoder gets a buffer of its own.
            let mut own = Vec::new();
            let mut shared = line.try_borrow_mut();
            let line = shared.as_deref_mut().unwrap_or(&mut own);
            line.clear();
            self.encoder.encode(entry, line);
            writer.push(line);
            if line.capacity() > KEEP {
                *line = Vec::new();
            }
        });
    }
}
