//! Storages that a fleet shares, each a real one of its own on a free port: Redis, PostgreSQL
//! (`apt-get install redis-server postgresql`), and a small S3 service that checks signatures.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};

use super::{eventually, free_port, scratch};

/// A storage that can go away and come back.
pub trait Store {
    /// The `storage` option of a server, more lines in its block.
    fn option(&self, lines: &str) -> String;
    /// Ends it; what it holds is kept.
    fn down(&mut self);
    /// Starts it again.
    fn up(&mut self);
    /// Makes it deaf, or hear again.
    fn freeze(&self, frozen: bool);
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
    assert!(status.unwrap().success());
}

fn end(child: &mut Option<Child>, with: &str) {
    if let Some(mut child) = child.take() {
        // A frozen process ends when it goes on.
        signal(&child, "CONT");
        signal(&child, with);
        child.wait().unwrap();
    }
}

/// A Redis server with a password.
pub struct Redis {
    child: Option<Child>,
    pub folder: PathBuf,
    pub port: u16,
    pub tls_port: u16,
    /// More flags.
    flags: Vec<String>,
    sentinel: Option<Child>,
}

impl Redis {
    pub const PASSWORD: &'static str = "s3cret of tests";

    pub fn start() -> Self {
        Self::start_with(Vec::new())
    }

    fn start_with(flags: Vec<String>) -> Self {
        let folder = scratch();
        certificates(&folder);
        let (port, tls_port) = (free_port(), free_port());
        let mut this = Self { child: None, folder, port, tls_port, flags, sentinel: None };
        this.up();
        this
    }

    /// The only node of a cluster.
    pub fn start_cluster() -> Self {
        let bus = free_port().to_string();
        let flags = ["--cluster-enabled", "yes", "--cluster-port", &bus];
        let this = Self::start_with(flags.map(str::to_owned).to_vec());
        assert_eq!(this.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), "+OK");
        eventually("the cluster is ready", || {
            this.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
        });
        this
    }

    /// Starts a Sentinel that knows the server as `primary`; its port.
    pub fn watch(&mut self) -> u16 {
        let port = free_port();
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir .\nsentinel monitor primary 127.0.0.1 {} 1\nsentinel auth-pass primary \"{}\"\n",
            self.port,
            Self::PASSWORD
        );
        fs::write(self.folder.join("sentinel.conf"), text).unwrap();
        let child = Command::new("redis-server")
            .args(["sentinel.conf", "--sentinel"])
            .current_dir(&self.folder)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.sentinel = Some(child);
        eventually("the Sentinel listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        port
    }

    /// Sends a command in the clear, and gives the first line of the answer; for bulk strings the
    /// string itself.
    pub fn command(&self, parts: &[&str]) -> String {
        Self::ask(self.port, parts)
    }

    /// The same to a port, where a Sentinel may be.
    fn ask(port: u16, parts: &[&str]) -> String {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap());
        stream.get_ref().set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut answer = String::new();
        for parts in [&["AUTH", Self::PASSWORD][..], parts] {
            let mut text = format!("*{}\r\n", parts.len());
            for part in parts {
                text.push_str(&format!("${}\r\n{part}\r\n", part.len()));
            }
            stream.get_mut().write_all(text.as_bytes()).unwrap();
            answer.clear();
            stream.read_line(&mut answer).unwrap();
            if let Some(length) = answer.trim_end().strip_prefix('$')
                && let Ok(length) = length.parse::<usize>()
            {
                let mut bulk = vec![0; length + 2];
                stream.read_exact(&mut bulk).unwrap();
                answer = String::from_utf8_lossy(&bulk).into_owned();
            }
        }
        answer.trim_end().to_owned()
    }
}

/// Several Redis servers, of which each master has a replica that takes over.
pub struct Redises {
    nodes: Vec<Redis>,
    sentinels: Vec<(Child, PathBuf)>,
    option: String,
}

impl Redises {
    /// A master and a replica, and three Sentinels that know it as `primary`.
    pub fn failover() -> Self {
        let auth = ["--masterauth", Redis::PASSWORD].map(str::to_owned);
        let master = Redis::start_with(auth.to_vec());
        let of = format!("127.0.0.1 {}", master.port);
        let replica = ["--replicaof", &of].map(str::to_owned);
        let replica = Redis::start_with(auth.into_iter().chain(replica).collect());
        let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let sentinels = ports.iter().map(|port| Self::sentinel(master.port, *port)).collect();
        let addresses: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let option = format!(
            "\tstorage redis failover {{\n\t\taddress {}\n\t\tmaster_name primary\n\t\tpassword \"{}\"\n\t\ttimeout 2\n\t}}\n",
            addresses.join(" "),
            Redis::PASSWORD
        );
        eventually("the replica follows", || {
            master.command(&["INFO", "replication"]).contains("state=online")
        });
        eventually("the Sentinels agree", || {
            ports.iter().all(|port| {
                Redis::ask(*port, &["SENTINEL", "CKQUORUM", "primary"]).contains("OK 3 usable")
                    && Redis::ask(*port, &["INFO", "sentinel"]).contains("slaves=1,sentinels=3")
            })
        });
        Self { nodes: vec![master, replica], sentinels, option }
    }

    fn sentinel(master: u16, port: u16) -> (Child, PathBuf) {
        let folder = scratch();
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir .\nsentinel monitor primary 127.0.0.1 {master} 2\n\
             sentinel auth-pass primary \"{}\"\nsentinel down-after-milliseconds primary 1000\n\
             sentinel failover-timeout primary 5000\n",
            Redis::PASSWORD
        );
        fs::write(folder.join("sentinel.conf"), text).unwrap();
        let child = Command::new("redis-server")
            .args(["sentinel.conf", "--sentinel"])
            .current_dir(&folder)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the Sentinel listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        (child, folder)
    }

    /// A cluster of three masters, each with a replica.
    pub fn cluster() -> Self {
        let buses: Vec<u16> = (0..6).map(|_| free_port()).collect();
        let nodes: Vec<Redis> = buses
            .iter()
            .map(|bus| {
                let bus = bus.to_string();
                let flags = ["--cluster-enabled", "yes", "--cluster-port", &bus];
                let more = ["--cluster-node-timeout", "1500", "--masterauth", Redis::PASSWORD];
                Redis::start_with(flags.into_iter().chain(more).map(str::to_owned).collect())
            })
            .collect();
        for (at, (first, last)) in
            [("0", "5460"), ("5461", "10922"), ("10923", "16383")].into_iter().enumerate()
        {
            let answer = nodes[at].command(&["CLUSTER", "ADDSLOTSRANGE", first, last]);
            assert_eq!(answer, "+OK");
            let epoch = (at + 1).to_string();
            nodes[at].command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
        }
        for (node, bus) in nodes.iter().zip(&buses).skip(1) {
            let (port, bus) = (node.port.to_string(), bus.to_string());
            let answer = nodes[0].command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
            assert_eq!(answer, "+OK");
        }
        eventually("all have met", || {
            nodes
                .iter()
                .all(|node| node.command(&["CLUSTER", "INFO"]).contains("cluster_known_nodes:6"))
        });
        for at in 0..3 {
            let master = nodes[at].command(&["CLUSTER", "MYID"]);
            eventually("a replica knows its master", || {
                nodes[at + 3].command(&["CLUSTER", "REPLICATE", &master]) == "+OK"
            });
        }
        eventually("the cluster is ready", || {
            nodes.iter().all(|node| node.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
                && nodes[..3]
                    .iter()
                    .all(|node| node.command(&["INFO", "replication"]).contains("state=online"))
        });
        let addresses: Vec<_> =
            nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        let option = format!(
            "\tstorage redis cluster {{\n\t\taddress {}\n\t\tpassword \"{}\"\n\t\ttimeout 2\n\t}}\n",
            addresses.join(" "),
            Redis::PASSWORD
        );
        Self { nodes, sentinels: Vec::new(), option }
    }

    /// The `storage` option of a server.
    pub fn option(&self) -> &str {
        &self.option
    }

    /// The master that has a key.
    pub fn holder(&self, key: &str) -> Option<usize> {
        self.nodes.iter().position(|node| {
            node.child.is_some()
                && node.command(&["INFO", "replication"]).contains("role:master")
                && node.command(&["EXISTS", key]) == ":1"
        })
    }

    /// Removes a key.
    pub fn forget(&self, key: &str) {
        let holder = self.holder(key).expect("a master has the key");
        assert_eq!(self.nodes[holder].command(&["DEL", key]), ":1");
    }

    /// Waits until all that was written is with the replica of a master.
    pub fn settle(&self, master: usize) {
        let in_step = |text: String| {
            let number = |name: &str, end: &[char]| {
                text.split_once(name)?.1.split(end).next()?.parse::<u64>().ok()
            };
            Some(number("master_repl_offset:", &['\r'])? <= number(",offset=", &[','])?)
        };
        eventually("the replica has all", || {
            in_step(self.nodes[master].command(&["INFO", "replication"])) == Some(true)
        });
    }

    /// Kills a node.
    pub fn kill(&mut self, node: usize) {
        end(&mut self.nodes[node].child, "KILL");
    }

    /// Starts a node again, which then follows the one that took over.
    pub fn up(&mut self, node: usize) {
        self.nodes[node].up();
        eventually("it is a replica now", || {
            self.nodes[node].command(&["INFO", "replication"]).contains("role:slave")
        });
    }
}

impl Drop for Redises {
    fn drop(&mut self) {
        for (child, folder) in self.sentinels.drain(..) {
            end(&mut Some(child), "KILL");
            if !std::thread::panicking() {
                let _ = fs::remove_dir_all(folder);
            }
        }
    }
}

impl Store for Redis {
    fn option(&self, lines: &str) -> String {
        format!(
            "\tstorage redis {{\n\t\tport {}\n\t\tpassword \"{}\"\n\t\ttimeout 2\n{lines}\t}}\n",
            self.port,
            Self::PASSWORD
        )
    }

    fn down(&mut self) {
        // It saves what it has.
        end(&mut self.child, "TERM");
    }

    fn up(&mut self) {
        let log = fs::File::create(self.folder.join("redis.log")).unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--tls-port", &self.tls_port.to_string(), "--tls-auth-clients", "no"])
            .args(["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"])
            .args(["--tls-ca-cert-file", "ca.pem"])
            .args(["--requirepass", Self::PASSWORD, "--save", "1 1", "--dir", "."])
            .args(&self.flags)
            .current_dir(&self.folder)
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .expect("redis is installed (apt-get install redis-server)");
        self.child = Some(child);
        eventually("Redis listens", || {
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
                && self.command(&["PING"]) == "+PONG"
        });
    }

    fn freeze(&self, frozen: bool) {
        signal(self.child.as_ref().unwrap(), if frozen { "STOP" } else { "CONT" });
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        end(&mut self.child, "KILL");
        end(&mut self.sentinel, "KILL");
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

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

/// An S3 service in this process: objects in memory, SigV4 checked, conditional writes.
pub struct S3 {
    shared: Arc<Shared>,
    pub port: u16,
}

struct Shared {
    objects: Mutex<BTreeMap<String, Object>>,
    tags: AtomicU64,
    down: AtomicBool,
    frozen: AtomicBool,
    full: AtomicBool,
    /// Conditions are not kept, as by older services.
    careless: AtomicBool,
}

struct Object {
    content: Vec<u8>,
    tag: String,
    modified: SystemTime,
}

impl S3 {
    pub const ID: &'static str = "AKIDTESTS";
    pub const SECRET: &'static str = "wJalr/XUtn+FEMI";
    /// The region that it is in; others are told so.
    pub const REGION: &'static str = "eu-tests-1";

    pub fn start() -> Self {
        let shared = Arc::new(Shared {
            objects: Mutex::default(),
            tags: AtomicU64::new(1),
            down: AtomicBool::new(false),
            frozen: AtomicBool::new(false),
            full: AtomicBool::new(false),
            careless: AtomicBool::new(false),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = serving.clone();
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { shared, port }
    }

    pub fn keys(&self) -> Vec<String> {
        self.shared.objects.lock().unwrap().keys().cloned().collect()
    }

    pub fn content(&self, key: &str) -> Option<Vec<u8>> {
        Some(self.shared.objects.lock().unwrap().get(key)?.content.clone())
    }

    pub fn fill(&self, full: bool) {
        self.shared.full.store(full, Ordering::Relaxed);
    }

    pub fn careless(&self) {
        self.shared.careless.store(true, Ordering::Relaxed);
    }
}

impl Store for S3 {
    fn option(&self, lines: &str) -> String {
        format!(
            "\tstorage s3 {{\n\t\thost 127.0.0.1:{}\n\t\tinsecure true\n\t\tbucket certs\n\t\tprefix fleet\n\t\taccess_id {}\n\t\tsecret_key {}\n{lines}\t}}\n",
            self.port,
            Self::ID,
            Self::SECRET
        )
    }

    fn down(&mut self) {
        self.shared.down.store(true, Ordering::Relaxed);
    }

    fn up(&mut self) {
        self.shared.down.store(false, Ordering::Relaxed);
    }

    fn freeze(&self, frozen: bool) {
        self.shared.frozen.store(frozen, Ordering::Relaxed);
    }
}

struct Asked {
    method: String,
    path: String,
    query: String,
    /// Names in lower case.
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        while let Some(asked) = read_request(&mut stream) {
            if self.down.load(Ordering::Relaxed) {
                return;
            }
            while self.frozen.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let (status, headers, body) = self.answer(&asked);
            let mut text = format!(
                "HTTP/1.1 {status} X\r\nDate: {}\r\nContent-Length: {}\r\n",
                http_date(SystemTime::now()),
                body.len()
            );
            for (name, value) in headers {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            text.push_str("\r\n");
            let mut out = text.into_bytes();
            if asked.method != "HEAD" {
                out.extend(body);
            }
            if stream.get_mut().write_all(&out).is_err() {
                return;
            }
        }
    }

    fn answer(&self, asked: &Asked) -> (u16, Vec<(&'static str, String)>, Vec<u8>) {
        if let Err((status, code)) = verify(asked) {
            let region = S3::REGION;
            let body = format!(
                "<Error><Code>{code}</Code><Message>no</Message><Region>{region}</Region></Error>"
            );
            let fields = vec![("x-amz-bucket-region", region.to_owned())];
            return (status, fields, body.into_bytes());
        }
        let error = |status: u16, code: &str| {
            let body = format!("<Error><Code>{code}</Code></Error>");
            (status, Vec::new(), body.into_bytes())
        };
        let path = decoded(&asked.path);
        let Some(key) = path.strip_prefix("/certs/") else { return error(404, "NoSuchBucket") };
        let mut objects = self.objects.lock().unwrap();
        let found = objects.get(key);
        let fields = |object: &Object| {
            vec![("ETag", object.tag.clone()), ("Last-Modified", http_date(object.modified))]
        };
        match asked.method.as_str() {
            "GET" if key.is_empty() => {
                let parameter = |name: &str| {
                    let mut pairs = asked.query.split('&').filter_map(|pair| pair.split_once('='));
                    pairs.find(|(known, _)| *known == name).map(|(_, value)| decoded(value))
                };
                assert_eq!(parameter("list-type").as_deref(), Some("2"));
                let prefix = parameter("prefix").unwrap_or_default();
                let delimiter = parameter("delimiter");
                let after = parameter("continuation-token").unwrap_or_default();
                let mut items = std::collections::BTreeSet::new();
                for key in objects.keys().filter(|key| key.starts_with(&prefix)) {
                    let rest = &key[prefix.len()..];
                    match delimiter.as_ref().and_then(|delimiter| rest.find(delimiter.as_str())) {
                        Some(at) => items.insert(key[..prefix.len() + at + 1].to_owned()),
                        None => items.insert(key.clone()),
                    };
                }
                // Short pages, so that going on is tested.
                let left: Vec<&String> = items.iter().filter(|item| **item > after).collect();
                let mut body = "<ListBucketResult><EncodingType>url</EncodingType>".to_owned();
                for item in left.iter().take(3) {
                    let shown = encoded(item, true);
                    body.push_str(&if item.ends_with('/') {
                        format!("<CommonPrefixes><Prefix>{shown}</Prefix></CommonPrefixes>")
                    } else {
                        format!("<Contents><Key>{shown}</Key><Size>1</Size></Contents>")
                    });
                }
                if left.len() > 3 {
                    body.push_str(&format!(
                        "<NextContinuationToken>{}</NextContinuationToken>",
                        left[2]
                    ));
                }
                body.push_str("</ListBucketResult>");
                (200, Vec::new(), body.into_bytes())
            }
            "GET" | "HEAD" => match found {
                Some(object) => (200, fields(object), object.content.clone()),
                None => error(404, "NoSuchKey"),
            },
            "PUT" => {
                if !self.careless.load(Ordering::Relaxed) {
                    let absent = asked.headers.get("if-none-match").is_some_and(|tag| tag == "*");
                    let wanted = asked.headers.get("if-match");
                    match (found, wanted) {
                        (Some(_), _) if absent => return error(412, "PreconditionFailed"),
                        (None, Some(_)) => return error(404, "NoSuchKey"),
                        (Some(object), Some(tag)) if object.tag != *tag => {
                            return error(412, "PreconditionFailed");
                        }
                        _ => {}
                    }
                }
                if self.full.load(Ordering::Relaxed) {
                    return error(507, "QuotaExceeded");
                }
                let tag = format!("\"{:x}\"", self.tags.fetch_add(1, Ordering::Relaxed));
                let modified = SystemTime::now();
                let object = Object { content: asked.body.clone(), tag: tag.clone(), modified };
                objects.insert(key.to_owned(), object);
                (200, vec![("ETag", tag)], Vec::new())
            }
            "DELETE" => {
                objects.remove(key);
                (204, Vec::new(), Vec::new())
            }
            _ => error(405, "MethodNotAllowed"),
        }
    }
}

fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Asked { method, path, query, headers, body })
}

/// Checks the signature as Amazon's documentation says ("Signature Version 4").
fn verify(asked: &Asked) -> Result<(), (u16, &'static str)> {
    let denied = (403, "SignatureDoesNotMatch");
    let header = |name: &str| asked.headers.get(name).cloned().ok_or((403, "AccessDenied"));
    let authorization = header("authorization")?;
    let rest = authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or(denied)?;
    let field = |name: &str| {
        let mut fields = rest.split(", ").filter_map(|field| field.split_once('='));
        fields.find(|(known, _)| *known == name).map(|(_, value)| value).ok_or(denied)
    };
    let (credential, signed, signature) =
        (field("Credential")?, field("SignedHeaders")?, field("Signature")?);
    let scope: Vec<&str> = credential.split('/').collect();
    let [id, day, region, "s3", "aws4_request"] = scope[..] else { return Err(denied) };
    if id != S3::ID {
        return Err((403, "InvalidAccessKeyId"));
    }
    if region != S3::REGION {
        return Err((400, "AuthorizationHeaderMalformed"));
    }
    let hash = header("x-amz-content-sha256")?;
    if hash != hex(&Sha256::digest(&asked.body)) {
        return Err((400, "XAmzContentSHA256Mismatch"));
    }
    let date = header("x-amz-date")?;
    assert!(date.starts_with(day) && signed.split(';').any(|name| name == "host"));
    let mut query: Vec<String> = asked
        .query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            format!("{}={}", encoded(&decoded(name), false), encoded(&decoded(value), false))
        })
        .collect();
    query.sort();
    let mut canonical = format!(
        "{}\n{}\n{}\n",
        asked.method,
        encoded(&decoded(&asked.path), true),
        query.join("&")
    );
    for name in signed.split(';') {
        canonical.push_str(&format!("{name}:{}\n", header(name)?));
    }
    canonical.push_str(&format!("\n{signed}\n{hash}"));
    let text = format!(
        "AWS4-HMAC-SHA256\n{date}\n{day}/{region}/s3/aws4_request\n{}",
        hex(&Sha256::digest(&canonical))
    );
    let mut key = hmac(format!("AWS4{}", S3::SECRET).as_bytes(), day.as_bytes());
    for part in [region, "s3", "aws4_request"] {
        key = hmac(&key, part.as_bytes());
    }
    if hex(&hmac(&key, text.as_bytes())) == signature { Ok(()) } else { Err(denied) }
}

/// RFC 2104.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    if key.len() > 64 {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(text);
    let outer = Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c));
    outer.chain_update(inner.finalize()).finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encoded(text: &str, slashes: bool) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            b'/' if slashes => "/".to_owned(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn decoded(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        if bytes[at] == b'%' {
            out.push(u8::from_str_radix(&text[at + 1..at + 3], 16).unwrap());
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).unwrap()
}

fn http_date(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's civil_from_days.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let weekdays = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    let months =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    format!(
        "{}, {day:02} {} {year} {:02}:{:02}:{:02} GMT",
        weekdays[(days % 7) as usize],
        months[month as usize - 1],
        rest / 3_600,
        rest / 60 % 60,
        rest % 60
    )
}

/// A root, and a certificate for the storage's own TLS.
fn certificates(folder: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut root = rcgen::CertificateParams::default();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    fs::write(folder.join("ca.pem"), root.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = rcgen::Issuer::new(root, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    fs::write(folder.join("cert.pem"), leaf.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}
