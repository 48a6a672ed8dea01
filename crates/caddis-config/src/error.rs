//! What is wrong in a configuration, and where.

use std::fmt;

/// A refused configuration: the JSON path and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Dotted JSON path, such as `apps.http.servers.srv0.routes.0`; empty for the document.
    pub path: String,
    /// The reason, without the path.
    pub message: String,
}

impl ConfigError {
    /// An error at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }

    /// The same error, seen from one level (or several, dotted) further out.
    #[must_use]
    pub fn under(mut self, prefix: impl AsRef<str>) -> Self {
        let prefix = prefix.as_ref();
        if !prefix.is_empty() {
            if self.path.is_empty() {
                self.path = prefix.to_owned();
            } else {
                self.path = format!("{prefix}.{}", self.path);
            }
        }
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::ConfigError;

    #[test]
    fn paths_grow_from_the_inside() {
        let error = ConfigError::new("", "bad").under("0").under("routes").under("");
        assert_eq!(error.to_string(), "routes.0: bad");
        assert_eq!(ConfigError::new("", "bad").to_string(), "bad");
    }
}
