//! Directories that live as long as a test.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

/// A directory with files; removed when dropped.
pub(crate) struct TestDir(PathBuf);

impl TestDir {
    /// Makes the directory with these files (path, content).
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("caddis-http-test-{}-{number}", std::process::id());
        let dir = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&dir.0).expect("a temporary directory");
        for (path, content) in files {
            let path = dir.0.join(path);
            fs::create_dir_all(path.parent().expect("below the directory")).expect("created");
            fs::write(path, content).expect("written");
        }
        dir
    }

    /// Its path.
    pub(crate) fn path(&self) -> &str {
        self.0.to_str().expect("the name is ASCII")
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
