//! How a request gets to an upstream.

pub(crate) mod fastcgi;
pub(crate) mod http;

use std::io;

use caddis_core::BodyError;

/// Why an exchange with an upstream failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection: nothing was sent, so another try is always safe.
    Dial(String),
    /// The connection broke, or the answer was no valid one.
    Transport(String),
    /// The upstream was too slow.
    Timeout(String),
    /// The client's body could not be read.
    RequestBody(BodyError),
}

impl Failure {
    /// A failed connection attempt, worded as Go does.
    pub(crate) fn dial(address: &str, error: &io::Error) -> Self {
        Self::Dial(format!("dial {address}: {}", io_text(error, "connect")))
    }
}

/// An I/O error in Go's words.
pub(crate) fn io_text(error: &io::Error, operation: &str) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("{operation}: connection refused"),
        io::ErrorKind::ConnectionReset => format!("{operation}: connection reset by peer"),
        io::ErrorKind::BrokenPipe => format!("{operation}: broken pipe"),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        io::ErrorKind::NotFound => format!("{operation}: no such file or directory"),
        io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        io::ErrorKind::HostUnreachable => format!("{operation}: no route to host"),
        io::ErrorKind::NetworkUnreachable => format!("{operation}: network is unreachable"),
        _ => error.to_string(),
    }
}
