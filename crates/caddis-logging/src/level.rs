//! Levels of entries.

/// How grave an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// For those who look for a fault.
    Debug,
    /// The ordinary course.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
    /// Something that must not happen happened.
    Panic,
    /// The process ends.
    Fatal,
}

impl Level {
    /// Reads a level in any case; nothing is `info`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "debug" => Self::Debug,
            "" | "info" => Self::Info,
            "warn" => Self::Warn,
            "error" => Self::Error,
            "panic" => Self::Panic,
            "fatal" => Self::Fatal,
            _ => return None,
        })
    }

    pub(crate) fn lower(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Panic => "panic",
            Self::Fatal => "fatal",
        }
    }

    pub(crate) fn upper(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Panic => "PANIC",
            Self::Fatal => "FATAL",
        }
    }

    /// In capitals, in a terminal's colours.
    pub(crate) fn coloured(self) -> &'static str {
        match self {
            Self::Debug => "\u{1b}[35mDEBUG\u{1b}[0m",
            Self::Info => "\u{1b}[34mINFO\u{1b}[0m",
            Self::Warn => "\u{1b}[33mWARN\u{1b}[0m",
            Self::Error => "\u{1b}[31mERROR\u{1b}[0m",
            Self::Panic => "\u{1b}[31mPANIC\u{1b}[0m",
            Self::Fatal => "\u{1b}[31mFATAL\u{1b}[0m",
        }
    }

    /// The priority of syslog and journald.
    pub(crate) fn priority(self) -> u8 {
        match self {
            Self::Debug => 7,
            Self::Info => 6,
            Self::Warn => 4,
            Self::Error => 3,
            Self::Panic | Self::Fatal => 2,
        }
    }

    pub(crate) fn from_tracing(level: tracing::Level) -> Self {
        match level {
            tracing::Level::ERROR => Self::Error,
            tracing::Level::WARN => Self::Warn,
            tracing::Level::INFO => Self::Info,
            _ => Self::Debug,
        }
    }
}
