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
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use caddis_config::ConfigError;
use caddis_core::{Template, template::Unknown};
use serde::Deserialize;
use serde_json::Value as Json;
use time::OffsetDateTime;

use super::{
    Sink,
    roll::{Reason, RollPlan, Roller},
};

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
    mode: u32,
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
        let dir_mode = match config.dir_mode.as_deref() {
            None | Some("") => DirMode::Bits(0o700),
            Some("inherit") => DirMode::Inherit,
            Some("from_file") => DirMode::FromFile,
            Some(text) => DirMode::Bits(octal(text, "dir_mode")?),
        };
        let roll = match config.roll {
            Some(false) => None,
            _ => Some(RollPlan::compile(&config)?),
        };
        let path = Template::render_global(&config.filename, Unknown::Keep).into();
        let mode = if mode == 0 { 0o600 } else { mode & 0o7777 };
        Ok(Self { path, mode, dir_mode, roll })
    }

    fn open(&self) -> io::Result<File> {
        if let Some(parent) = self.path.parent().filter(|p| !p.as_os_str().is_empty()) {
            self.make_directories(parent)?;
        }
        let made = !self.path.exists();
        let file = OpenOptions::new().create(true).append(true).mode(self.mode).open(&self.path)?;
        if made {
            // The umask may have taken bits that are wished for.
            file.set_permissions(fs::Permissions::from_mode(self.mode))?;
        }
        Ok(file)
    }

    fn make_directories(&self, directory: &Path) -> io::Result<()> {
        if directory.is_dir() {
            return Ok(());
        }
        let mode = match self.dir_mode {
            DirMode::Bits(bits) => bits & 0o7777,
            // Who may read the file may look into its directory.
            DirMode::FromFile => (self.mode & 0o777) | ((self.mode & 0o444) >> 2),
            DirMode::Inherit => {
                let parent = directory.ancestors().find(|parent| parent.is_dir());
                let parent = parent.unwrap_or_else(|| Path::new("."));
                fs::metadata(parent)?.permissions().mode() & 0o777
            }
        };
        fs::DirBuilder::new().recursive(true).mode(mode).create(directory)
    }
}

/// The open file.
pub(crate) struct FileSink {
    plan: FilePlan,
    file: Option<File>,
    size: u64,
    looked: Instant,
    roller: Option<Roller>,
}

impl FileSink {
    pub(crate) fn open(plan: &FilePlan) -> io::Result<Self> {
        let file = plan.open().map_err(|error| {
            io::Error::new(error.kind(), format!("open {}: {error}", plan.path.display()))
        })?;
        let metadata = file.metadata()?;
        let size = metadata.len();
        let now = OffsetDateTime::now_utc();
        // Devices and pipes (`/dev/stdout`) keep their names.
        let roll = plan.roll.clone().filter(|_| metadata.is_file());
        let roller = roll.map(|roll| Roller::new(roll, plan.path.clone(), now));
        Ok(Self { plan: plan.clone(), file: Some(file), size, looked: Instant::now(), roller })
    }

    /// Opens anew if the path no longer names the open file: someone moved or removed it.
    fn look(&mut self) {
        if self.file.is_some() && self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        let same = match (&self.file, fs::metadata(&self.plan.path)) {
            (Some(file), Ok(named)) => file
                .metadata()
                .is_ok_and(|open| open.ino() == named.ino() && open.dev() == named.dev()),
            _ => false,
        };
        if !same {
            self.reopen();
        }
    }

    /// Has the next write look at the path.
    #[cfg(test)]
    pub(super) fn forget_look(&mut self) {
        self.looked = Instant::now().checked_sub(LOOK).unwrap();
    }

    fn reopen(&mut self) {
        match self.plan.open() {
            Ok(file) => {
                self.size = file.metadata().map_or(0, |metadata| metadata.len());
                self.file = Some(file);
            }
            Err(error) => {
                let path = self.plan.path.display();
                super::complain(&format!("opening log file {path}: {error}"));
            }
        }
    }

    fn roll(&mut self, reason: Reason, now: OffsetDateTime) {
        let Some(roller) = &mut self.roller else { return };
        match roller.roll(reason, now) {
            Ok(()) => self.reopen(),
            Err(error) => {
                let path = self.plan.path.display();
                super::complain(&format!("rolling log file {path}: {error}"));
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        let Some(file) = &mut self.file else { return };
        match file.write_all(bytes) {
            Ok(()) => self.size += bytes.len() as u64,
            Err(error) => {
                let path = self.plan.path.display();
                super::complain(&format!("writing log file {path}: {error}"));
            }
        }
    }
}

impl Sink for FileSink {
    fn write(&mut self, lines: &[u8], ends: &[usize]) {
        self.look();
        let now = OffsetDateTime::now_utc();
        if self.size > 0 && self.roller.as_ref().is_some_and(|roller| roller.due(now)) {
            self.roll(Reason::Time, now);
        }
        let limit = self.roller.as_ref().map_or(u64::MAX, Roller::max_size);
        let (mut from, mut to) = (0, 0);
        for end in ends {
            let size = self.size + (*end - from) as u64;
            if size > limit && self.size + (to - from) as u64 > 0 {
                self.append(&lines[from..to]);
                from = to;
                self.roll(Reason::Size, now);
            }
            to = *end;
        }
        self.append(&lines[from..to]);
    }
}
