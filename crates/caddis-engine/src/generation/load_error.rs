//! Why a config was not taken.

use std::fmt;

use caddis_config::ConfigError;

/// Why a config was not taken.
#[derive(Debug)]
pub enum LoadError {
    /// It is no valid config; every mistake that was found.
    Config(Vec<ConfigError>),
    /// It is valid, but something outside refused: a port in use, a file that cannot be read.
    Activate(String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(errors) => {
                let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join("; "))
            }
            Self::Activate(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<ConfigError> for LoadError {
    fn from(error: ConfigError) -> Self {
        Self::Config(vec![error])
    }
}
