//! An S3 server of others: s3s-fs, which keeps objects in a folder
//! (`cargo install s3s-fs --features binary`).

use std::{
    fs,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::{S3, Store, end, s3_option, signal};
use crate::support::{eventually, free_port, scratch};

/// The server, with an empty bucket.
pub struct S3s {
    child: Option<Child>,
    folder: PathBuf,
    port: u16,
}

impl S3s {
    pub fn start() -> Self {
        let folder = scratch();
        fs::create_dir(folder.join("certs")).unwrap();
        let mut this = Self { child: None, folder, port: free_port() };
        this.up();
        this
    }

    /// Whether there is an object.
    pub fn has(&self, key: &str) -> bool {
        self.folder.join("certs").join(key).exists()
    }
}

impl Store for S3s {
    fn option(&self, lines: &str) -> String {
        s3_option(self.port, lines)
    }

    fn down(&mut self) {
        end(&mut self.child, "TERM");
    }

    fn up(&mut self) {
        let port = self.port.to_string();
        let child = Command::new("s3s-fs")
            .args(["--host", "127.0.0.1", "--port", &port])
            .args(["--access-key", S3::ID, "--secret-key", S3::SECRET])
            .arg(&self.folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("s3s-fs is installed (cargo install s3s-fs --features binary)");
        self.child = Some(child);
        eventually("the S3 server listens", || {
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    fn freeze(&self, frozen: bool) {
        if let Some(child) = &self.child {
            signal(child, if frozen { "STOP" } else { "CONT" });
        }
    }
}

impl Drop for S3s {
    fn drop(&mut self) {
        end(&mut self.child, "KILL");
    }
}
