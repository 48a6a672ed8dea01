//! PostgreSQL.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
};

use super::{Store, certificates, end, signal};
use crate::support::{eventually, free_port};

/// A PostgreSQL server with TLS; it refuses root, so it runs as the user `postgres` then.
pub struct Postgres {
    child: Option<Child>,
    pub folder: PathBuf,
    pub port: u16,
    user: Option<(u32, u32)>,
}

impl Postgres {
    pub const PASSWORD: &'static str = "it's secret";

    pub fn start() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // Where another user may go.
        let folder = std::env::temp_dir().join(format!(
            "caddis-postgres-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        fs::create_dir_all(&folder).unwrap();
        certificates(&folder);
        let id = |text: &str| Command::new("id").args([text, "postgres"]).output().unwrap().stdout;
        let number = |text: &str| String::from_utf8(id(text)).unwrap().trim().parse().unwrap();
        let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        let user = root.then(|| (number("-u"), number("-g")));
        fs::write(folder.join("password"), Self::PASSWORD).unwrap();
        let mut this = Self { child: None, folder, port: free_port(), user };
        for file in ["", "password", "cert.pem", "key.pem"] {
            this.give(&this.folder.join(file));
        }
        let mode = Command::new("chmod").arg("600").arg(this.folder.join("key.pem")).status();
        assert!(mode.unwrap().success());
        let made = this
            .program("initdb")
            .args(["-D", "data", "-U", "tests", "-A", "scram-sha-256", "--pwfile", "password"])
            .args(["-E", "UTF8", "--locale", "C", "--no-sync"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        this.up();
        this
    }

    fn give(&self, path: &Path) {
        if let Some((user, group)) = self.user {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }

    fn program(&self, name: &str) -> Command {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> =
            versions.map(|version| version.path().join("bin").join(name)).collect();
        found.retain(|path| path.exists());
        found.sort();
        let path = found.pop().expect("PostgreSQL is installed (apt-get install postgresql)");
        let mut command = Command::new(path);
        command.current_dir(&self.folder).stdin(Stdio::null());
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// Runs SQL, and gives what it prints.
    pub fn sql(&self, text: &str) -> String {
        let output = self
            .program("psql")
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-U",
                "tests",
                "-d",
                "postgres",
            ])
            .args(["-A", "-t", "-c", text])
            .env("PGPASSWORD", Self::PASSWORD)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}: {error}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Store for Postgres {
    fn option(&self, lines: &str) -> String {
        format!(
            "\tstorage postgres {{\n\t\thost 127.0.0.1\n\t\tport {}\n\t\tuser tests\n\t\tpassword \"{}\"\n\t\tdbname postgres\n\t\tsslmode disable\n\t\tlock_timeout 6s\n\t\tquery_timeout 2s\n{lines}\t}}\n",
            self.port,
            Self::PASSWORD
        )
    }

    fn down(&mut self) {
        end(&mut self.child, "QUIT");
    }

    fn up(&mut self) {
        let log = fs::File::create(self.folder.join("log")).unwrap();
        let child = self
            .program("postgres")
            .args(["-D", "data", "-p", &self.port.to_string(), "-k", "", "-h", "127.0.0.1"])
            .args(["-c", "fsync=off", "-c", "ssl=on"])
            .args(["-c", "ssl_cert_file=../cert.pem", "-c", "ssl_key_file=../key.pem"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let ready = || {
            self.program("pg_isready")
                .args(["-h", "127.0.0.1", "-p", &self.port.to_string()])
                .stdout(Stdio::null())
                .status()
                .unwrap()
                .success()
        };
        eventually("PostgreSQL listens", ready);
    }

    fn freeze(&self, frozen: bool) {
        // The connections are processes of their own.
        let parent = self.child.as_ref().unwrap();
        let name = if frozen { "STOP" } else { "CONT" };
        let children = Command::new("pgrep").arg("-P").arg(parent.id().to_string()).output();
        let children = String::from_utf8(children.unwrap().stdout).unwrap();
        for child in children.split_whitespace() {
            // It may have ended meanwhile.
            let _ = Command::new("kill").arg(format!("-{name}")).arg(child).status();
        }
        signal(parent, name);
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.freeze(false);
        }
        end(&mut self.child, "QUIT");
        let _ = fs::remove_dir_all(&self.folder);
    }
}
