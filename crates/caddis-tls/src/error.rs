//! What goes wrong with certificates, as one sentence.

use std::fmt;

use caddis_core::error::plain_text;

/// A failure with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with this text; numbers of the system's errors are left out.
    pub fn new(message: impl fmt::Display) -> Self {
        Self(plain_text(message.to_string()))
    }

    /// The same error, with what was being done before it.
    #[must_use]
    pub fn while_doing(self, what: impl fmt::Display) -> Self {
        Self(format!("{what}: {}", self.0))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}

impl From<rcgen::Error> for Error {
    fn from(error: rcgen::Error) -> Self {
        Self::new(error)
    }
}

impl From<rustls::Error> for Error {
    fn from(error: rustls::Error) -> Self {
        Self::new(error)
    }
}

/// Adds a description to an error of any kind.
pub(crate) trait Context<T> {
    /// Puts `what` before the error's text.
    fn context(self, what: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::new(format_args!("{what}: {error}")))
    }
}
