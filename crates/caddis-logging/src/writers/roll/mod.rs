//! Rolling of log files: when, under which name, and what becomes of old ones.
//!
//! A rolled file is `<base>-<time>-<reason><ext>`; compressing and removing runs on a thread of
//! its own.

use std::{
    fmt::Display,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};

use caddis_config::ConfigError;
use time::{OffsetDateTime, Time};

use super::file::Config;
use caddis_core::Layout;

use crate::encoders::local_offset;

const MIB: u64 = 1 << 20;
const DAY: Duration = Duration::from_secs(86_400);

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RollPlan {
    max_size: u64,
    interval: Option<Duration>,
    minutes: Vec<u8>,
    at: Vec<(u8, u8)>,
    compression: Compression,
    local_time: bool,
    keep: usize,
    keep_for: Duration,
    name: Layout,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Why a file is rolled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Reason {
    Size,
    Time,
}

impl RollPlan {
    pub(super) fn compile(config: &Config) -> Result<Self, ConfigError> {
        let or = |number: i64, default: u64| match u64::try_from(number) {
            Ok(0) | Err(_) => default,
            Ok(number) => number,
        };
        // Times that are none are ignored, as in Caddy: the log matters more than when it is rolled.
        let ignored = |what: &str, value: &dyn Display| {
            tracing::warn!(target: "caddy.logging.writers.file", %value, "{what}: ignored");
        };
        let mut minutes = Vec::with_capacity(config.roll_minutes.len());
        for minute in &config.roll_minutes {
            match u8::try_from(*minute).ok().filter(|minute| *minute < 60) {
                Some(minute) => minutes.push(minute),
                None => ignored("roll_minutes must be between 0 and 59", minute),
            }
        }
        let mut at = Vec::with_capacity(config.roll_at.len());
        for text in &config.roll_at {
            match time_of_day(text) {
                Some(time) => at.push(time),
                None => ignored("roll_at must be a time of day (15:04)", text),
            }
        }
        let named = config.roll_compression.trim().to_lowercase();
        let compression = match (named.as_str(), config.roll_gzip) {
            ("none", _) | ("", Some(false)) => Compression::None,
            ("" | "gzip", _) => Compression::Gzip,
            ("zstd", _) => Compression::Zstd,
            _ => {
                let message = format!("invalid roll_compression: {}", config.roll_compression);
                return Err(ConfigError::new("roll_compression", message));
            }
        };
        // A backup's time is read from its name, to tell it from files of other logs.
        let default = "2006-01-02T15-04-05.000";
        let wished = config.backup_time_format.replace('/', "-");
        let mut name = Layout::parse(if wished.is_empty() { default } else { &wished });
        let mut sample = String::new();
        name.format(SAMPLE, &mut sample);
        let seconds = |time: OffsetDateTime| time.unix_timestamp();
        if name.read(&sample).map(seconds) != Ok(seconds(SAMPLE)) {
            ignored("backup_time_format writes times that cannot be read", &wished);
            name = Layout::parse(default);
        }
        Ok(Self {
            max_size: or(config.roll_size_mb, 100).saturating_mul(MIB),
            interval: config.roll_interval.positive(),
            minutes,
            at,
            compression,
            local_time: config.roll_local_time,
            keep: usize::try_from(or(config.roll_keep, 10)).unwrap_or(usize::MAX),
            keep_for: DAY
                .saturating_mul(u32::try_from(or(config.roll_keep_days, 90)).unwrap_or(u32::MAX)),
            name,
        })
    }

    fn here(&self, time: OffsetDateTime) -> OffsetDateTime {
        if self.local_time { time.to_offset(local_offset()) } else { time }
    }

    /// When to roll after this time, by the clock.
    fn next(&self, after: OffsetDateTime) -> Option<OffsetDateTime> {
        let local = self.here(after);
        let hourly = self.minutes.iter().flat_map(|minute| {
            let this = Time::from_hms(local.hour(), *minute, 0).ok();
            this.into_iter().flat_map(move |time| {
                let this = local.replace_time(time);
                [Some(this), this.checked_add(time::Duration::HOUR)]
            })
        });
        let daily = self.at.iter().flat_map(|(hour, minute)| {
            let today = Time::from_hms(*hour, *minute, 0).ok();
            today.into_iter().flat_map(move |time| {
                let today = local.replace_time(time);
                [Some(today), today.checked_add(time::Duration::DAY)]
            })
        });
        let interval = self.interval.and_then(|interval| {
            after.checked_add(time::Duration::try_from(interval).unwrap_or(time::Duration::MAX))
        });
        let clock = hourly.chain(daily).flatten().filter(|time| *time > local);
        clock.chain(interval).min()
    }
}

fn time_of_day(text: &str) -> Option<(u8, u8)> {
    let (hour, minute) = text.split_once(':')?;
    let (hour, minute) = (hour.parse().ok()?, minute.parse().ok()?);
    (hour < 24 && minute < 60).then_some((hour, minute))
}

/// Rolls one file.
pub(crate) struct Roller {
    plan: RollPlan,
    path: PathBuf,
    next: Option<OffsetDateTime>,
    tidying: Arc<Tidying>,
}

/// One thread at a time tidies up, and at most one waits for it.
#[derive(Default)]
struct Tidying {
    held: Mutex<()>,
    waits: AtomicBool,
}

impl Roller {
    pub(crate) fn new(plan: RollPlan, path: PathBuf, now: OffsetDateTime) -> Self {
        let next = plan.next(now);
        Self { plan, path, next, tidying: Arc::default() }
    }

    pub(crate) fn max_size(&self) -> u64 {
        self.plan.max_size
    }

    /// When the clock says to roll.
    pub(crate) fn next(&self) -> Option<OffsetDateTime> {
        self.next
    }

    /// Whether the clock says so.
    pub(crate) fn due(&self, now: OffsetDateTime) -> bool {
        self.next.is_some_and(|next| now >= next)
    }

    /// Leaves this time out.
    pub(crate) fn skip(&mut self, now: OffsetDateTime) {
        self.next = self.plan.next(now);
    }

    /// Gives the file its backup name and opens a new one. Where that fails the file has its name
    /// again, and goes on being written to.
    pub(crate) fn roll(
        &mut self,
        reason: Reason,
        now: OffsetDateTime,
        open: impl FnOnce() -> io::Result<File>,
    ) -> io::Result<File> {
        let backup = self.backup_name(reason, now);
        let renamed = match fs::rename(&self.path, &backup) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            result => result.map(|()| true)?,
        };
        let file = open().inspect_err(|_| {
            if renamed {
                // Nobody made the file meanwhile, and if so the backup keeps its name.
                let _ = fs::hard_link(&backup, &self.path).and_then(|()| fs::remove_file(&backup));
            }
        })?;
        self.next = self.plan.next(now);
        self.tidy();
        Ok(file)
    }

    /// Compresses and removes backups, on a thread of its own.
    pub(crate) fn tidy(&self) {
        if self.tidying.waits.swap(true, Ordering::SeqCst) {
            return;
        }
        let (plan, path, tidying) = (self.plan.clone(), self.path.clone(), self.tidying.clone());
        let work = move || {
            let _held = tidying.held.lock().unwrap_or_else(PoisonError::into_inner);
            tidying.waits.store(false, Ordering::SeqCst);
            if let Err(error) = tidy(&plan, &path, SystemTime::now())
                && error.kind() != io::ErrorKind::NotFound
            {
                super::complain(&format!("tidying rolled logs of {}: {error}", path.display()));
            }
        };
        if let Err(error) = thread::Builder::new().name("log roll".into()).spawn(work) {
            self.tidying.waits.store(false, Ordering::SeqCst);
            super::complain(&format!("tidying rolled logs: {error}"));
        }
    }

    fn backup_name(&self, reason: Reason, now: OffsetDateTime) -> PathBuf {
        let (base, extension) = parts(&self.path);
        let mut time = String::new();
        self.plan.name.format(self.plan.here(now), &mut time);
        let reason = match reason {
            Reason::Size => "size",
            Reason::Time => "time",
        };
        let named = |count: u32| {
            let again = if count == 0 { String::new() } else { format!("{AGAIN}{count}") };
            self.path.with_file_name(format!("{base}-{time}{again}-{reason}{extension}"))
        };
        let taken = |path: &PathBuf| {
            let packed = |suffix: &str| {
                let mut name = path.as_os_str().to_owned();
                name.push(suffix);
                Path::new(&name).exists()
            };
            path.exists() || packed(".gz") || packed(".zst")
        };
        // Two rolls within a millisecond must not overwrite each other.
        (0..1000).map(named).find(|path| !taken(path)).unwrap_or_else(|| named(1000))
    }
}

/// Between the time of a backup and the number of one more at that time.
const AGAIN: char = '+';
/// A time to try a layout with.
const SAMPLE: OffsetDateTime = time::macros::datetime!(2025-05-22 23:41:59.987 UTC);

/// The file's name before its extension, and the extension with its dot.
fn parts(path: &Path) -> (String, String) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match name.rfind('.') {
        Some(at) => (name[..at].to_owned(), name[at..].to_owned()),
        None => (name, String::new()),
    }
}

/// Compresses and removes backups.
fn tidy(plan: &RollPlan, path: &Path, now: SystemTime) -> io::Result<()> {
    let mut backups = backups(plan, path)?;
    // Newest first.
    backups.sort_by_key(|backup| std::cmp::Reverse(backup.1));
    for (at, (backup, made)) in backups.iter().enumerate() {
        let old = now.duration_since(*made).is_ok_and(|age| age > plan.keep_for);
        if at >= plan.keep || old {
            fs::remove_file(backup)?;
        } else if !is_compressed(backup) {
            compress(plan.compression, backup)?;
        }
    }
    Ok(())
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz" || extension == "zst")
}

/// The backups of a log, with the times they were last written.
fn backups(plan: &RollPlan, path: &Path) -> io::Result<Vec<(PathBuf, SystemTime)>> {
    let (base, extension) = parts(path);
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty());
    let directory = directory.unwrap_or_else(|| Path::new("."));
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(&base).and_then(|rest| rest.strip_prefix('-')) else {
            continue;
        };
        let rest = rest.strip_suffix(".gz").or(rest.strip_suffix(".zst")).unwrap_or(rest);
        let Some(stem) = rest.strip_suffix(&extension) else { continue };
        // Another log may be called `<base>-….<extension>`: what has no time in its name is not ours.
        let Some((time, _reason)) = stem.rsplit_once('-') else { continue };
        let time = time.split_once(AGAIN).map_or(time, |(time, _)| time);
        if plan.name.read(time).is_ok() {
            found.push((entry.path(), entry.metadata()?.modified()?));
        }
    }
    Ok(found)
}

fn compress(compression: Compression, path: &Path) -> io::Result<()> {
    let suffix = match compression {
        Compression::None => return Ok(()),
        Compression::Gzip => ".gz",
        Compression::Zstd => ".zst",
    };
    let mut target = path.as_os_str().to_owned();
    target.push(suffix);
    let target = PathBuf::from(target);
    let mut source = File::open(path)?;
    let metadata = source.metadata()?;
    let out = fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(metadata.permissions().mode() & 0o7777)
        .open(&target)?;
    let written = match compression {
        Compression::Zstd => zstd::stream::copy_encode(&mut source, &out, 0),
        _ => {
            let mut encoder = flate2::write::GzEncoder::new(&out, flate2::Compression::default());
            io::copy(&mut source, &mut encoder).and_then(|_| encoder.finish()?.flush())
        }
    };
    // Whoever owned the log owns its backups; only root can see to that.
    let _ = fchown(&out, Some(metadata.uid()), Some(metadata.gid()));
    // The age of a backup is that of its last line.
    let done = written.and_then(|()| out.set_modified(metadata.modified()?));
    match done {
        Ok(()) => fs::remove_file(path),
        Err(error) => fs::remove_file(&target).and(Err(error)),
    }
}

#[cfg(test)]
mod tests;
