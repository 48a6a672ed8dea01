//! Logs: where entries go, what they look like, and who writes them.
//!
//! Reading order: `plan` (the `logging` object, compiled), `logging` (a plan with open writers),
//! `subscriber` (run-time logs, through `tracing`), `access` (access logs, past `tracing`).
//! An entry is a [`field::Entry`]; `encoders` turn it into a line, `filters` change its fields on
//! the way, `writers` carry lines away on threads of their own.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may"))]

mod access;
mod encoders;
mod field;
mod filters;
mod level;
mod logging;
mod plan;
mod request;
mod sampling;
mod subscriber;
mod writers;

pub use access::{AccessLogger, AccessRecord, FailedRequest, Handled};
pub use level::Level;
pub use logging::{Logging, open};
pub use plan::{LoggingPlan, compile};
pub use subscriber::{Handle, init, trace_handler};

/// The ids of this crate's modules, for `list-modules`.
pub static OTHER_IDS: &[&str] = &[
    "caddy.logging.encoders.append",
    "caddy.logging.encoders.console",
    "caddy.logging.encoders.filter",
    "caddy.logging.encoders.filter.cookie",
    "caddy.logging.encoders.filter.delete",
    "caddy.logging.encoders.filter.hash",
    "caddy.logging.encoders.filter.ip_mask",
    "caddy.logging.encoders.filter.multi_regexp",
    "caddy.logging.encoders.filter.query",
    "caddy.logging.encoders.filter.regexp",
    "caddy.logging.encoders.filter.rename",
    "caddy.logging.encoders.filter.replace",
    "caddy.logging.encoders.filter.set_cookie",
    "caddy.logging.encoders.journald",
    "caddy.logging.encoders.json",
    "caddy.logging.writers.discard",
    "caddy.logging.writers.file",
    "caddy.logging.writers.net",
    "caddy.logging.writers.stderr",
    "caddy.logging.writers.stdout",
];
