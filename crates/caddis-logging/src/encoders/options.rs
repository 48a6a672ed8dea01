//! Options that the json and console encoders share.
//!
//! ```text
//! message_key|level_key|time_key|name_key|caller_key|stacktrace_key|line_ending <text>
//! time_format unix_seconds_float|unix_milli_float|unix_nano|iso8601|rfc3339|rfc3339_nano
//!             |wall|wall_milli|wall_nano|common_log|<Go layout>
//! time_local
//! duration_format seconds|s|second|ms|milli|millis|ns|nano|nanos|string
//! level_format lower|upper|color
//! ```

use std::sync::OnceLock;

use caddis_core::Layout;
use serde::Deserialize;
use time::{OffsetDateTime, UtcOffset};

use crate::Level;

/// The options as configured.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    message_key: Option<String>,
    level_key: Option<String>,
    time_key: Option<String>,
    name_key: Option<String>,
    caller_key: Option<String>,
    #[serde(rename = "stacktrace_key")]
    _stacktrace_key: Option<String>,
    line_ending: Option<String>,
    #[serde(deserialize_with = "caddis_config::nullable")]
    time_format: String,
    #[serde(deserialize_with = "caddis_config::nullable")]
    time_local: bool,
    #[serde(deserialize_with = "caddis_config::nullable")]
    duration_format: String,
    #[serde(deserialize_with = "caddis_config::nullable")]
    level_format: String,
}

/// The options as used. An empty key leaves the field out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    pub(crate) message_key: String,
    pub(crate) level_key: String,
    pub(crate) time_key: String,
    pub(crate) name_key: String,
    pub(crate) caller_key: String,
    pub(crate) line_ending: String,
    pub(crate) time_format: TimeFormat,
    pub(crate) time_local: bool,
    pub(crate) duration_format: DurationFormat,
    pub(crate) level_format: LevelFormat,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TimeFormat {
    Seconds,
    Millis,
    Nanos,
    Layout(Layout),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum DurationFormat {
    Seconds,
    Millis,
    Nanos,
    Text,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum LevelFormat {
    Lower,
    Upper,
    Colour,
}

impl Config {
    /// The options with the console encoder's own defaults.
    pub(crate) fn compile_console(mut self) -> Options {
        if self.level_format.is_empty() {
            "color".clone_into(&mut self.level_format);
        }
        if self.time_format.is_empty() {
            "wall_milli".clone_into(&mut self.time_format);
        }
        self.compile()
    }

    pub(crate) fn compile(self) -> Options {
        let key = |key: Option<String>, default: &str| key.unwrap_or_else(|| default.to_owned());
        Options {
            message_key: key(self.message_key, "msg"),
            level_key: key(self.level_key, "level"),
            time_key: key(self.time_key, "ts"),
            name_key: key(self.name_key, "logger"),
            caller_key: key(self.caller_key, "caller"),
            line_ending: self.line_ending.filter(|e| !e.is_empty()).unwrap_or("\n".into()),
            time_format: time_format(&self.time_format),
            // This one follows the local clock in any case.
            time_local: self.time_local || self.time_format == "iso8601",
            duration_format: match self.duration_format.as_str() {
                "ms" | "milli" | "millis" => DurationFormat::Millis,
                "ns" | "nano" | "nanos" => DurationFormat::Nanos,
                "string" => DurationFormat::Text,
                _ => DurationFormat::Seconds,
            },
            level_format: match self.level_format.as_str() {
                "upper" => LevelFormat::Upper,
                "color" => LevelFormat::Colour,
                _ => LevelFormat::Lower,
            },
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Config::default().compile()
    }
}

fn time_format(name: &str) -> TimeFormat {
    TimeFormat::Layout(Layout::parse(match name {
        "" | "unix_seconds_float" => return TimeFormat::Seconds,
        "unix_milli_float" => return TimeFormat::Millis,
        "unix_nano" => return TimeFormat::Nanos,
        "iso8601" => "2006-01-02T15:04:05.000Z0700",
        "rfc3339" => "2006-01-02T15:04:05Z07:00",
        "rfc3339_nano" => "2006-01-02T15:04:05.999999999Z07:00",
        "wall" => "2006/01/02 15:04:05",
        "wall_milli" => "2006/01/02 15:04:05.000",
        "wall_nano" => "2006/01/02 15:04:05.000000000",
        "common_log" => "02/Jan/2006:15:04:05 -0700",
        layout => layout,
    }))
}

impl Options {
    pub(crate) fn level(&self, level: Level) -> &'static str {
        match self.level_format {
            LevelFormat::Lower => level.lower(),
            LevelFormat::Upper => level.upper(),
            LevelFormat::Colour => level.coloured(),
        }
    }

    /// The time by a layout; `None` where it is a number.
    pub(crate) fn time_text(&self, time: OffsetDateTime) -> Option<String> {
        let TimeFormat::Layout(layout) = &self.time_format else { return None };
        let time = if self.time_local { time.to_offset(local_offset()) } else { time };
        let mut out = String::with_capacity(32);
        layout.format(time, &mut out);
        Some(out)
    }
}

/// The local clock's distance from UTC. It can only be asked for safely while there is one thread,
/// so the first question, at program start, decides.
pub(crate) fn local_offset() -> UtcOffset {
    static OFFSET: OnceLock<UtcOffset> = OnceLock::new();
    *OFFSET.get_or_init(|| UtcOffset::current_local_offset().unwrap_or(UtcOffset::UTC))
}
