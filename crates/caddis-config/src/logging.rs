//! The `logging` object.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::value::Duration;

envelope! {
    /// `logging`: where logs go.
    pub struct Logging {
        /// Destination of the standard library's log.
        pub sink: Option<BaseLog>,
        /// Logs by name; `default` is the one that always exists.
        pub logs: BTreeMap<String, CustomLog>,
    }

    /// What every log has.
    pub struct BaseLog {
        /// Writer module, key `output`.
        pub writer: Option<Value>,
        /// Encoder module, key `format`.
        pub encoder: Option<Value>,
        /// Core module, key `module`.
        pub core: Option<Value>,
        /// Least level that is written.
        pub level: String,
        /// Drop entries that repeat.
        pub sampling: Option<LogSampling>,
        /// Name the caller.
        pub with_caller: bool,
        /// Frames to skip for the caller.
        pub with_caller_skip: i64,
        /// Level from which a stack trace is written.
        pub with_stacktrace: String,
    }

    /// A named log.
    pub struct CustomLog {
        /// Writer module, key `output`.
        pub writer: Option<Value>,
        /// Encoder module, key `format`.
        pub encoder: Option<Value>,
        /// Core module, key `module`.
        pub core: Option<Value>,
        /// Least level that is written.
        pub level: String,
        /// Drop entries that repeat.
        pub sampling: Option<LogSampling>,
        /// Name the caller.
        pub with_caller: bool,
        /// Frames to skip for the caller.
        pub with_caller_skip: i64,
        /// Level from which a stack trace is written.
        pub with_stacktrace: String,
        /// Loggers that write here; all if empty.
        pub include: Vec<String>,
        /// Loggers that do not.
        pub exclude: Vec<String>,
    }

    /// `sampling`.
    pub struct LogSampling {
        /// Length of one window.
        pub interval: Duration,
        /// Entries kept at the start of a window.
        pub first: i64,
        /// Then one in this many.
        pub thereafter: i64,
    }
}
