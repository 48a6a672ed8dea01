//! Redis: one server, a cluster, or several behind Sentinels.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{Store, certificates, end, signal};
use crate::support::{eventually, free_port, scratch};

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
