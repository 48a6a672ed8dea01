//! What a command prints. A reader that went away (`caddis environ | head -1`) is no failure and
//! no reason to panic, which the macros of the standard library take it for.

use std::{fmt, io::Write};

/// A line on standard output.
macro_rules! say {
    ($($argument:tt)*) => { $crate::say::out(format_args!("{}\n", format_args!($($argument)*))) };
}

/// A line on standard error.
macro_rules! complain {
    ($($argument:tt)*) => { $crate::say::err(format_args!("{}\n", format_args!($($argument)*))) };
}

pub(crate) use {complain, say};

/// Text on standard output.
pub(crate) fn out(text: impl fmt::Display) {
    // Nowhere is left to say that printing failed.
    let _ = std::io::stdout().lock().write_fmt(format_args!("{text}"));
}

/// Text on standard error, where numbers of the system's errors say nothing to people.
pub(crate) fn err(text: impl fmt::Display) {
    let text = caddis_core::error::plain_text(text.to_string());
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
