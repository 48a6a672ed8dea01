//! Where files and environment variables come from. The parser reads nothing by itself.

mod fs;
mod glob;
mod memory;

use std::io;

pub use fs::FsLoader;
pub use memory::MemoryLoader;

/// Gives the parser files and environment variables.
pub trait Loader {
    /// The content of a file.
    fn load(&self, path: &str) -> io::Result<Vec<u8>>;

    /// The paths that match a pattern (`*`, `?`; a plain path matches itself if it exists), sorted.
    /// A malformed pattern is [`io::ErrorKind::InvalidInput`].
    fn glob(&self, pattern: &str) -> io::Result<Vec<String>>;

    /// Whether the path is a directory.
    fn is_dir(&self, path: &str) -> bool;

    /// The value of an environment variable.
    fn env(&self, name: &str) -> Option<String>;

    /// The absolute and cleaned form of a path.
    fn absolute(&self, path: &str) -> io::Result<String>;
}

/// Cleans a path with `/` in the way of Go's `filepath.Clean`: no `.`, no `..` where it can be
/// helped, no double slashes.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&"..") | None if !rooted => parts.push(part),
                _ => {
                    parts.pop();
                }
            },
            _ => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// `pattern` seen from the directory of `file`; an absolute pattern stays.
pub(crate) fn beside(file: &str, pattern: &str) -> String {
    if pattern.starts_with('/') {
        return pattern.to_owned();
    }
    let dir = file.rsplit_once('/').map_or("", |(dir, _)| dir);
    clean(&format!("{dir}/{pattern}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        let cases = [
            ("/a/./b//../c", "/a/c"),
            ("../x", "../x"),
            ("a/..", "."),
            ("/..", "/"),
            ("a/../../b", "../b"),
        ];
        for (path, want) in cases {
            assert_eq!(clean(path), want, "{path}");
        }
        assert_eq!(beside("/etc/caddy/Caddyfile", "sites/*"), "/etc/caddy/sites/*");
        assert_eq!(beside("/etc/caddy/Caddyfile", "../x"), "/etc/x");
        assert_eq!(beside("/etc/caddy/Caddyfile", "/y"), "/y");
    }
}
