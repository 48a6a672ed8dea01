//! Files and variables held in memory, for tests and editors.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::{Loader, clean, glob};

/// Files and variables by name. Relative paths are below `/`.
#[derive(Clone, Debug, Default)]
pub struct MemoryLoader {
    files: BTreeMap<String, Vec<u8>>,
    env: BTreeMap<String, String>,
}

impl MemoryLoader {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(clean(&format!("/{path}")), content.into());
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn var(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl Loader for MemoryLoader {
    fn load(&self, path: &str) -> io::Result<Vec<u8>> {
        let path = clean(&format!("/{path}"));
        self.files.get(&path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn glob(&self, pattern: &str) -> io::Result<Vec<String>> {
        if !glob::is_valid(pattern) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "syntax error in pattern"));
        }
        let list = |dir: &str| -> Vec<String> {
            let prefix = format!("{}/", dir.trim_end_matches('/'));
            let inside = self.files.keys().filter_map(|path| path.strip_prefix(&prefix));
            let names = inside.filter_map(|rest| rest.split('/').next().map(str::to_owned));
            names.collect::<BTreeSet<_>>().into_iter().collect()
        };
        let exists = |path: &str| self.files.contains_key(path) || self.is_dir(path);
        Ok(glob::expand(pattern, &list, &exists))
    }

    fn is_dir(&self, path: &str) -> bool {
        let prefix = format!("{}/", path.trim_end_matches('/'));
        self.files.range(prefix.clone()..).next().is_some_and(|(p, _)| p.starts_with(&prefix))
    }

    fn env(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    fn absolute(&self, path: &str) -> io::Result<String> {
        Ok(clean(&format!("/{path}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_like_a_disk() {
        let disk = MemoryLoader::new().file("/s/a.conf", "A").file("s/b.conf", "B").file("x", "X");
        assert_eq!(disk.glob("/s/*.conf").expect("valid"), ["/s/a.conf", "/s/b.conf"]);
        assert_eq!(disk.glob("/*").expect("valid"), ["/s", "/x"]);
        assert_eq!(disk.glob("/*/a.conf").expect("valid"), ["/s/a.conf"]);
        assert!(disk.is_dir("/s") && !disk.is_dir("/x"));
        assert_eq!(disk.load("x").expect("there"), b"X");
        assert!(disk.load("y").is_err());
    }
}
