//! The file system and the environment of the process, for programs.

use std::io::{self, Read};
use std::path::Path;

use super::{Loader, clean, glob};

/// Reads from disk and from the environment of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct FsLoader;

impl Loader for FsLoader {
    fn load(&self, path: &str) -> io::Result<Vec<u8>> {
        // Devices have no end.
        let longest = crate::limits::TEXT_BYTES as u64 + 1;
        let mut text = Vec::new();
        std::fs::File::open(path)?.take(longest).read_to_end(&mut text)?;
        Ok(text)
    }

    fn glob(&self, pattern: &str) -> io::Result<Vec<String>> {
        if !glob::is_valid(pattern) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "syntax error in pattern"));
        }
        let list = |dir: &str| -> Vec<String> {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
        };
        let exists = |path: &str| Path::new(path).symlink_metadata().is_ok();
        Ok(glob::expand(pattern, &list, &exists))
    }

    fn is_dir(&self, path: &str) -> bool {
        Path::new(path).is_dir()
    }

    fn env(&self, name: &str) -> Option<String> {
        // No variable can have such a name, and asking for one panics on some platforms.
        if name.is_empty() || name.contains(['=', '\0']) {
            return None;
        }
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    }

    fn absolute(&self, path: &str) -> io::Result<String> {
        if path.starts_with('/') {
            return Ok(clean(path));
        }
        let here = std::env::current_dir()?;
        Ok(clean(&format!("{}/{path}", here.to_string_lossy())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_its_own_sources() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/src/loader");
        let found = FsLoader.glob(&format!("{dir}/m*.rs")).expect("valid");
        let names: Vec<_> = found.iter().filter_map(|path| path.rsplit('/').next()).collect();
        assert_eq!(names, ["memory.rs", "mod.rs"]);
        assert!(FsLoader.is_dir(dir) && !FsLoader.is_dir(&found[0]));
        assert!(FsLoader.load(&found[0]).is_ok());
        assert!(FsLoader.glob(&format!("{dir}/nothing")).expect("valid").is_empty());
        assert!(FsLoader.glob("a[").is_err());
        assert!(FsLoader.absolute("x").expect("has a place").starts_with('/'));
        assert_eq!(FsLoader.env("A=B"), None);
    }
}
