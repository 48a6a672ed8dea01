//! The real binary with a config of its own, in a folder of its own.

use std::{
    io::Read,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use super::eventually;

/// A port nobody listens on. Below the range that the system gives to clients and to port 0, so
/// that nobody takes it before the program does; each is given once.
///
/// Two servers may listen on one port (`SO_REUSEPORT`), and each would get some of the requests of the
/// other's test. So the ports of a block are given by one process of tests at a time, whichever work
/// tree it is of.
pub fn free_port() -> u16 {
    static PORTS: Mutex<Ports> = Mutex::new(Ports { blocks: Vec::new(), given: Ports::BLOCK });
    let mut ports = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let port = ports.next();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

struct Ports {
    /// The blocks of this process and the files that are locked for them, the last one in use.
    blocks: Vec<(u16, std::fs::File)>,
    /// How many ports of the last block were given.
    given: u16,
}

impl Ports {
    const FIRST: u16 = 10_000;
    const BLOCK: u16 = 100;
    const BLOCKS: u16 = 220;

    fn next(&mut self) -> u16 {
        if self.given == Self::BLOCK {
            let block = self.lock_block();
            self.blocks.push(block);
            self.given = 0;
        }
        self.given += 1;
        let (block, _) = self.blocks.last().expect("one was locked");
        Self::FIRST + block * Self::BLOCK + self.given - 1
    }

    /// Waits for a block of which no process gives ports.
    fn lock_block(&self) -> (u16, std::fs::File) {
        let folder = std::env::temp_dir().join("caddis-test-ports");
        std::fs::create_dir_all(&folder).unwrap();
        let start = std::process::id() as u16 % Self::BLOCKS;
        let mut locked = None;
        eventually("some ports are free", || {
            let others = (0..Self::BLOCKS).map(|number| (start + number) % Self::BLOCKS);
            locked = others
                .filter(|block| self.blocks.iter().all(|(own, _)| own != block))
                .find_map(|block| {
                    let file = std::fs::File::create(folder.join(block.to_string())).ok()?;
                    file.try_lock().ok().map(|()| (block, file))
                });
            locked.is_some()
        });
        locked.expect("one was found")
    }
}

/// A fresh folder below the target folder.
pub fn scratch() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A command of the program, run in a folder, with its storage there.
pub fn caddis(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_caddis"));
    command
        .current_dir(folder)
        .env("HOME", folder)
        .env("XDG_DATA_HOME", folder.join("data"))
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .env("CADDIS_TRUST_ROOT", folder.join("trust"))
        .env_remove("CADDY_ADMIN");
    command
}

/// A site on `{port}` of any host with these lines.
pub fn site_with(lines: &str) -> String {
    format!("http://:{{port}} {{\n{lines}}}\n")
}

/// A running server; killed when dropped.
pub struct Server {
    pub child: Child,
    pub folder: PathBuf,
    /// The port that `{port}` stood for.
    pub port: u16,
    /// The port of the admin endpoint, `{admin}`.
    pub admin: u16,
}

impl Server {
    /// Starts with a Caddyfile: `{port}` is a free port that must answer, a global block with
    /// `{admin}` is put before unless the text begins with one.
    pub fn start(caddyfile: &str) -> Self {
        Self::start_in(scratch(), caddyfile)
    }

    /// The same in a folder that was prepared.
    pub fn start_in(folder: PathBuf, caddyfile: &str) -> Self {
        let mut command = caddis(&folder);
        command.args(["run", "--config", "Caddyfile"]);
        Self::start_by(command, folder, caddyfile)
    }

    /// The same, with a word on the command before it runs.
    pub fn start_with(caddyfile: &str, change: impl FnOnce(&mut Command, &Path)) -> Self {
        let folder = scratch();
        let mut command = caddis(&folder);
        command.args(["run", "--config", "Caddyfile"]);
        change(&mut command, &folder);
        Self::start_by(command, folder, caddyfile)
    }

    /// The same, so that a limit on the size of files is an error for it and not its end.
    /// [`Self::limit`] sets one; the log is written by another process.
    pub fn start_limitable(caddyfile: &str) -> Self {
        let folder = scratch();
        let mut command = Command::new("bash");
        let script = "trap '' XFSZ; exec \"$0\" run --config Caddyfile > >(exec cat >>log) 2>&1";
        command.args(["-c", script, env!("CARGO_BIN_EXE_caddis")]);
        let like = caddis(&folder);
        command.current_dir(&folder);
        command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self::start_by(command, folder, caddyfile)
    }

    /// Sets the most bytes of a file, or `unlimited`.
    pub fn limit(&self, bytes: &str) {
        let mut command = Command::new("prlimit");
        command.arg("--pid").arg(self.child.id().to_string()).arg(format!("--fsize={bytes}:"));
        assert!(command.status().unwrap().success());
    }

    /// Sets the most descriptors that may be open.
    pub fn limit_descriptors(&self, most: usize) {
        let mut command = Command::new("prlimit");
        command.arg("--pid").arg(self.child.id().to_string()).arg(format!("--nofile={most}:"));
        assert!(command.status().unwrap().success());
    }

    /// Descriptors that are open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    fn start_by(mut command: Command, folder: PathBuf, caddyfile: &str) -> Self {
        let (port, admin) = (free_port(), free_port());
        let text = Self::fill(caddyfile, port, admin);
        let administered = text.contains(&format!("127.0.0.1:{admin}"));
        std::fs::write(folder.join("Caddyfile"), text).unwrap();
        let log = std::fs::File::create(folder.join("log")).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        let mut server = Self { child, folder, port, admin };
        eventually("the server listens", || {
            if let Ok(Some(status)) = server.child.try_wait() {
                panic!("the server ended with {status}:\n{}", server.log());
            }
            let open = |port: u16| TcpStream::connect(("127.0.0.1", port)).is_ok();
            open(port) && (!administered || open(admin))
        });
        server
    }

    /// A config text with its ports.
    pub fn fill(caddyfile: &str, port: u16, admin: u16) -> String {
        let text = caddyfile.replace("{port}", &port.to_string());
        if text.trim_start().starts_with("{\n") {
            return text.replace("{admin}", &admin.to_string());
        }
        format!("{{\n\tadmin 127.0.0.1:{admin}\n\tskip_install_trust\n}}\n{text}")
    }

    /// Writes another Caddyfile, ports filled in.
    pub fn rewrite(&self, caddyfile: &str) {
        let text = Self::fill(caddyfile, self.port, self.admin);
        std::fs::write(self.folder.join("Caddyfile"), text).unwrap();
    }

    /// Runs `caddis reload` and tells whether it succeeded, with what it said.
    pub fn reload(&self, caddyfile: &str) -> (bool, String) {
        self.rewrite(caddyfile);
        let output = caddis(&self.folder)
            .args(["reload", "--config", "Caddyfile", "--address"])
            .arg(format!("127.0.0.1:{}", self.admin))
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(status.unwrap().success());
    }

    /// Waits until no request is counted any more, here or at the upstreams. For `metrics`.
    pub fn nothing_in_flight(&self) {
        eventually("nothing is in flight", || {
            let upstreams = super::get(self.admin, "/reverse_proxy/upstreams").body;
            let metrics = super::get(self.admin, "/metrics").body;
            let gauge = |line: &str| line.starts_with("caddy_http_requests_in_flight{");
            upstreams.contains("\"num_requests\":0")
                && metrics.lines().any(gauge)
                && metrics.lines().filter(|line| gauge(line)).all(|line| line.ends_with(" 0"))
        });
    }

    /// What it wrote to standard output and error.
    pub fn log(&self) -> String {
        let mut text = String::new();
        let read = std::fs::File::open(self.folder.join("log"))
            .and_then(|mut file| file.read_to_string(&mut text));
        read.map_or_else(|_| String::new(), |_| text)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(30)..].join("\n");
            println!("--- end of the server's log ---\n{last}");
        } else {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}
