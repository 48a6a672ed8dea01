//! `file`: lines appended to a file that is rolled.
//!
//! ```text
//! output file <path> {
//!     mode <octal>                        0600
//!     dir_mode <octal>|inherit|from_file  0700
//!     roll_disabled
//!     roll_size <size>                    100MiB
//!     roll_interval <duration>
//!     roll_minutes <minute>…
//!     roll_at <HH:MM>…
//!     roll_uncompressed
//!     roll_compression gzip|zstd|none
//!     roll_local_time
//!     roll_keep <number>                  10
//!     roll_keep_for <duration>            90d
//!     backup_time_format <layout>
//! }
//! ```
//! JSON: `{"output": "file", "filename": "…", "mode": "0600", "roll_size_mb": 100, …}`.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write},
    os::unix::fs::{
        DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use caddis_config::ConfigError;
use caddis_core::{Template, error::plain};
use serde::Deserialize;
use serde_json::Value as Json;
use time::OffsetDateTime;

use super::{
    Complaints, Sink,
    roll::{Reason, RollPlan, Roller},
};

/// Bits of new files.
const MODE: u32 = 0o600;
/// How often the path is looked at for whether it still names the open file.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Config {
    filename: String,
    mode: Option<Json>,
    dir_mode: Option<String>,
    roll: Option<bool>,
    pub(super) roll_size_mb: i64,
    pub(super) roll_interval: caddis_config::Duration,
    pub(super) roll_minutes: Vec<i64>,
    pub(super) roll_at: Vec<String>,
    pub(super) roll_gzip: Option<bool>,
    pub(super) roll_compression: String,
    pub(super) roll_local_time: bool,
    pub(super) roll_keep: i64,
    pub(super) roll_keep_days: i64,
    pub(super) backup_time_format: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FilePlan {
    pub(crate) path: PathBuf,
    /// The bits that are wished for; without a wish new files get [`MODE`].
    mode: Option<u32>,
    dir_mode: DirMode,
    roll: Option<RollPlan>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum DirMode {
    Bits(u32),
    Inherit,
    FromFile,
}

impl FilePlan {
    pub(crate) fn compile(json: Json) -> Result<Self, ConfigError> {
        let config: Config = caddis_config::decode(json)?;
        let octal = |text: &str, key: &str| {
            u32::from_str_radix(text, 8).map_err(|_| {
                let text = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
                ConfigError::new(key, text)
            })
        };
        let mode = match &config.mode {
            None | Some(Json::Null) => 0,
            Some(Json::String(text)) if text.is_empty() => 0,
            Some(Json::String(text)) => octal(text, "mode")?,
            Some(number) => {
                let bits = number.as_u64().and_then(|bits| u32::try_from(bits).ok());
                bits.ok_or_else(|| ConfigError::new("mode", "expected an octal string"))?
            }
        };
        let dir_mode = config.dir_mode.as_deref().unwrap_or_default().trim().to_lowercase();
        let dir_mode = match dir_mode.as_str() {
            "" | "0" => DirMode::Bits(0o700),
            "inherit" => DirMode::Inherit,
            "from_file" => DirMode::FromFile,
            text => DirMode::Bits(octal(text, "dir_mode")?),
        };
        let roll = match config.roll {
            Some(false) => None,
            _ => Some(RollPlan::compile(&config)?),
        };
        let path = Template::render_global_all(&config.filename).map_err(|error| {
            ConfigError::new("filename", format!("invalid filename for log file: {error}"))
        })?;
        let mode = (mode != 0).then_some(mode & 0o7777);
        Ok(Self { path: path.into(), mode, dir_mode, roll })
    }

    /// Opens the file, or makes it: with the bits that are wished for, else those of the file before
    /// it, and in that one's ownership, so that whoever read the log goes on reading.
    fn open(&self, before: Option<&Metadata>) -> io::Result<File> {
        if let Some(parent) = self.path.parent().filter(|p| !p.as_os_str().is_empty()) {
            self.make_directories(parent)?;
        }
        let found = fs::metadata(&self.path).ok();
        let mut options = OpenOptions::new();
        if found.as_ref().is_some_and(|found| found.file_type().is_fifo()) {
            // For writing alone, this would wait until someone reads; so it waits in the pipe.
            return options.read(true).write(true).open(&self.path);
        }
        let new = before.map_or(MODE, |before| before.mode() & 0o7777);
        let mode = self.mode.unwrap_or(new);
        let file = options.create(true).append(true).mode(mode).open(&self.path)?;
        let metadata = file.metadata()?;
        // The umask may have taken bits that are wished for; an old file may have others.
        let wished = if found.is_none() { Some(mode) } else { self.mode };
        if let Some(mode) = wished.filter(|_| metadata.is_file())
            && metadata.mode() & 0o7777 != mode
        {
            file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        if let Some(before) = before
            && (before.uid(), before.gid()) != (metadata.uid(), metadata.gid())
        {
            // Only root may; for anyone else the log stays their own.
            let _ = fchown(&file, Some(before.uid()), Some(before.gid()));
        }
        Ok(file)
    }

    fn make_directories(&self, directory: &Path) -> io::Result<()> {
        if directory.is_dir() {
            return Ok(());
        }
        // Who may read a directory may look into it.
        let searchable = |bits: u32| bits | ((bits & 0o444) >> 2);
        let mode = match self.dir_mode {
            DirMode::Bits(bits) => bits & 0o7777,
            // Its owner has to make the file.
            DirMode::FromFile => searchable(self.mode.unwrap_or(MODE) & 0o777) | 0o200,
            DirMode::Inherit => {
                let parent = directory.ancestors().find(|parent| parent.is_dir());
                let parent = parent.unwrap_or_else(|| Path::new("."));
                searchable(fs::metadata(parent)?.permissions().mode() & 0o777)
            }
        };
        fs::DirBuilder::new().recursive(true).mode(mode).create(directory)
    }
}

/// The open file.
pub(crate) struct FileSink {
    plan: FilePlan,
    file: File,
    size: u64,
    /// Whether what was written last ends within a line, since the disk was full.
    torn: bool,
    looked: Instant,
    roller: Option<Roller>,
    /// When rolling failed last; it is not tried again with each line.
    failed: Option<Instant>,
    complaints: Complaints,
}

impl FileSink {
    pub(crate) fn open(plan: &FilePlan) -> io::Result<Self> {
        let file = plan.open(None).map_err(|error| {
            io::Error::new(error.kind(), format!("open {}: {}", plan.path.display(), plain(&error)))
        })?;
        let metadata = file.metadata()?;
        // Devices and pipes (`/dev/stdout`) keep their names.
        let roll = plan.roll.clone().filter(|_| metadata.is_file());
        let now = OffsetDateTime::now_utc();
        let roller = roll.map(|roll| Roller::new(roll, plan.path.clone(), now));
        if let Some(roller) = &roller {
            // What became too old, or was left as it was, while nobody ran.
            roller.tidy();
        }
        Ok(Self {
            plan: plan.clone(),
            file,
            size: metadata.len(),
            torn: false,
            looked: Instant::now(),
            roller,
            failed: None,
            complaints: Complaints::default(),
        })
    }

    /// Opens anew if the path no longer names the open file: someone moved or removed it.
    fn look(&mut self) {
        if self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        let open = self.file.metadata().ok();
        let named = fs::metadata(&self.plan.path).ok();
        let place = |metadata: &Metadata| (metadata.ino(), metadata.dev());
        if named.is_some() && named.as_ref().map(place) == open.as_ref().map(place) {
            return;
        }
        match self.plan.open(open.as_ref()) {
            Ok(file) => self.take(file),
            Err(error) => self.complain("opening", &error),
        }
    }

    /// Has the next write look at the path.
    #[cfg(test)]
    pub(super) fn forget_look(&mut self) {
        self.looked = Instant::now().checked_sub(LOOK).unwrap();
    }

    fn take(&mut self, file: File) {
        self.size = file.metadata().map_or(0, |metadata| metadata.len());
        self.file = file;
        self.torn = false;
    }

    fn roll(&mut self, reason: Reason, now: OffsetDateTime) {
        let Some(roller) = &mut self.roller else { return };
        if self.failed.is_some_and(|failed| failed.elapsed() < LOOK) {
            return;
        }
        let (plan, open) = (&self.plan, self.file.metadata().ok());
        match roller.roll(reason, now, || plan.open(open.as_ref())) {
            Ok(file) => {
                self.failed = None;
                self.take(file);
            }
            Err(error) => {
                self.failed = Some(Instant::now());
                self.complain("rolling", &error);
            }
        }
    }

    fn complain(&mut self, doing: &str, error: &io::Error) {
        let path = self.plan.path.display();
        self.complaints.say(|| format!("{doing} log file {path}: {}", plain(error)));
    }

    /// Writes lines that begin at `from` and end at `ends` within `all`. Gives how many of them are
    /// not in the file.
    fn append(&mut self, all: &[u8], from: usize, ends: &[usize]) -> usize {
        let Some(to) = ends.last() else { return 0 };
        let lines = all.get(from..*to).unwrap_or_default();
        let mut written = 0;
        let mut result = if self.torn { self.file.write_all(b"\n") } else { Ok(()) };
        self.torn &= result.is_err();
        while result.is_ok() && written < lines.len() {
            match self.file.write(&lines[written..]) {
                Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => result = Err(error),
            }
        }
        self.size += written as u64;
        let Err(error) = result else { return 0 };
        self.complain("writing", &error);
        let whole = ends.partition_point(|end| *end <= from + written);
        let end = whole.checked_sub(1).map_or(from, |last| ends[last]);
        self.torn |= from + written > end;
        ends.len() - whole
    }

    /// Rolls where the clock says so; an empty file stays.
    fn roll_by_clock(&mut self, now: OffsetDateTime) {
        let Some(roller) = &mut self.roller else { return };
        if !roller.due(now) {
            return;
        }
        if self.size == 0 {
            roller.skip(now);
        } else {
            self.roll(Reason::Time, now);
        }
    }
}

impl Sink for FileSink {
    fn write(&mut self, lines: &[u8], ends: &[usize]) -> usize {
        self.look();
        let now = OffsetDateTime::now_utc();
        self.roll_by_clock(now);
        let limit = self.roller.as_ref().map_or(u64::MAX, Roller::max_size);
        let (mut from, mut first, mut lost) = (0, 0, 0);
        for (at, end) in ends.iter().enumerate() {
            let before = at.checked_sub(1).map_or(0, |at| ends[at]);
            if self.size + (*end - from) as u64 > limit && self.size + (before - from) as u64 > 0 {
                lost += self.append(lines, from, &ends[first..at]);
                (from, first) = (before, at);
                self.roll(Reason::Size, now);
            }
        }
        lost + self.append(lines, from, &ends[first..])
    }

    fn next(&self) -> Option<Duration> {
        let next = self.roller.as_ref()?.next()?;
        let left = Duration::try_from(next - OffsetDateTime::now_utc()).unwrap_or_default();
        Some(if self.failed.is_some() { left.max(LOOK) } else { left })
    }

    fn tick(&mut self) {
        self.roll_by_clock(OffsetDateTime::now_utc());
    }
}
