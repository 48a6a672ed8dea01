//! Pebble, the ACME authority for tests, with a name server of our own: all names are on loopback,
//! TXT records are files of a folder.

use std::{
    fs,
    net::{TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{eventually, free_port, scratch};

/// How an authority behaves.
#[derive(Default)]
pub struct Options {
    /// Per cent of nonces that are refused.
    pub bad_nonces: u32,
    /// Seconds of validity.
    pub validity: Option<u32>,
    /// Names that are refused.
    pub blocked: Vec<String>,
    /// Key id and key of an external account, which is required then.
    pub external: Option<(String, String)>,
    /// Validation takes up to so many seconds.
    pub slow: Option<u32>,
    /// The port of another name server than our own.
    pub name_server: Option<u16>,
}

/// A running authority; ended when dropped.
pub struct Pebble {
    child: Option<Child>,
    /// Where its files are.
    pub folder: PathBuf,
    /// The ports on which it looks for challenges.
    pub http: u16,
    pub tls: u16,
    port: u16,
    environment: Vec<(&'static str, String)>,
    dns: u16,
    stop: Arc<AtomicBool>,
}

impl Pebble {
    /// Starts it, and the name server.
    pub fn start(options: &Options) -> Self {
        let folder = scratch();
        fs::create_dir_all(folder.join("txt")).unwrap();
        let (port, management) = (free_port(), free_port());
        let (http, tls) = (free_port(), free_port());
        certificates(&folder);
        let mut config = serde_json::json!({
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": "cert.pem", "privateKey": "key.pem",
            "httpPort": http, "tlsPort": tls, "ocspResponderURL": "",
            "externalAccountBindingRequired": options.external.is_some(),
            "domainBlocklist": options.blocked,
        });
        if let Some(seconds) = options.validity {
            config["certificateValidityPeriod"] = seconds.into();
        }
        if let Some((id, key)) = &options.external {
            config["externalAccountMACKeys"] = serde_json::json!({ id.as_str(): key });
        }
        let config = serde_json::json!({ "pebble": config }).to_string();
        fs::write(folder.join("pebble.json"), config).unwrap();
        let mut environment = vec![
            ("PEBBLE_WFE_NONCEREJECT", options.bad_nonces.to_string()),
            ("PEBBLE_AUTHZREUSE", "0".to_owned()),
        ];
        environment.push(match options.slow {
            Some(seconds) => ("PEBBLE_VA_SLEEPTIME", seconds.to_string()),
            None => ("PEBBLE_VA_NOSLEEP", "1".to_owned()),
        });
        let stop = Arc::new(AtomicBool::new(false));
        let own = || name_server(folder.join("txt"), stop.clone());
        let dns = options.name_server.unwrap_or_else(own);
        let mut this = Self { child: None, folder, http, tls, port, environment, dns, stop };
        this.up();
        this
    }

    /// Starts the authority (again): it has forgotten everything.
    pub fn up(&mut self) {
        let mut log = fs::OpenOptions::new();
        let log = log.create(true).append(true).open(self.folder.join("log")).unwrap();
        let child = Command::new("pebble")
            .args(["-config", "pebble.json", "-strict", "-dnsserver"])
            .arg(format!("127.0.0.1:{}", self.dns))
            .current_dir(&self.folder)
            .envs(self.environment.iter().cloned())
            .stdout(log.try_clone().unwrap())
            .stderr(Stdio::from(log))
            .spawn()
            .expect("pebble is installed (apt-get install pebble)");
        self.child = Some(child);
        eventually("the authority listens", || {
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    /// Refuses no names any more, from the next [`Self::up`] on.
    pub fn unblock(&self) {
        let path = self.folder.join("pebble.json");
        let text = fs::read_to_string(&path).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        config["pebble"]["domainBlocklist"] = serde_json::json!([]);
        fs::write(path, config.to_string()).unwrap();
    }

    /// Ends the authority.
    pub fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The global options of a server that uses it, `lines` among them; braces included.
    pub fn options(&self, storage: &Path, http: u16, tls: u16, lines: &str) -> String {
        let lines = format!("\tstorage file_system {}\n{lines}", storage.display());
        self.options_without_storage(http, tls, &lines)
    }

    /// The same where `lines` say what the storage is.
    pub fn options_without_storage(&self, http: u16, tls: u16, lines: &str) -> String {
        let (directory, folder) = (self.directory(), self.folder.display());
        format!(
            "{{\n\tadmin 127.0.0.1:{{admin}}\n\thttp_port {http}\n\thttps_port {tls}\n\tacme_ca {directory}\n\
             \tacme_ca_root {folder}/ca.pem\n\
             \tskip_install_trust\n\temail tests@example.test\n{lines}}}\n"
        )
    }

    pub fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    /// How often its log has a text.
    pub fn count(&self, text: &str) -> usize {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default().matches(text).count()
    }

    pub fn orders(&self) -> usize {
        self.count("POST /order-plz -> calling handler")
    }

    pub fn issued(&self) -> usize {
        self.count("Issued certificate serial")
    }

    /// A program for `dns exec` that sets the records which the name server knows.
    pub fn dns_hook(&self) -> String {
        let script = self.folder.join("hook.sh");
        let folder = self.folder.join("txt");
        let text = format!(
            "cd {} || exit 1\ncase $1 in\npresent) printf %s \"$3\" >\"$2\"; echo \"$2\" >>../history ;;\ncleanup) rm -f \"$2\" ;;\nesac\n",
            folder.display()
        );
        fs::write(&script, text).unwrap();
        format!("exec sh {}", script.display())
    }

    pub fn name_server(&self) -> String {
        format!("127.0.0.1:{}", self.dns)
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.down();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// A root and a certificate for the authority's own HTTPS.
fn certificates(folder: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut root = rcgen::CertificateParams::default();
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = root.self_signed(&key).unwrap().pem();
    fs::write(folder.join("ca.pem"), pem).unwrap();
    let issuer = rcgen::Issuer::new(root, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let leaf = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    fs::write(folder.join("cert.pem"), leaf.pem()).unwrap();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

/// Answers A with loopback, SOA for `example.test`, TXT from files; gives its port.
pub fn name_server(folder: PathBuf, stop: Arc<AtomicBool>) -> u16 {
    const SOA: &[u8] =
        b"\x02ns\xc0\x0c\x02me\xc0\x0c\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01";
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    socket.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while !stop.load(Ordering::Relaxed) {
            let Ok((read, from)) = socket.recv_from(&mut buffer) else { continue };
            let asked = &buffer[..read];
            let mut at = 12;
            let mut name = String::new();
            while asked[at] != 0 {
                let length = usize::from(asked[at]);
                name.push_str(
                    &String::from_utf8_lossy(&asked[at + 1..=at + length]).to_lowercase(),
                );
                name.push('.');
                at += length + 1;
            }
            let kind = u16::from_be_bytes([asked[at + 1], asked[at + 2]]);
            let data: Option<Vec<u8>> = match kind {
                1 => Some(vec![127, 0, 0, 1]),
                6 if name == "example.test." => Some(SOA.to_vec()),
                16 => fs::read(folder.join(&name)).ok().map(|text| {
                    let mut data = vec![text.len() as u8];
                    data.extend(text);
                    data
                }),
                _ => None,
            };
            let mut out = asked[..2].to_vec();
            out.extend([0x85, 0x80, 0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]);
            out.extend(&asked[12..at + 5]);
            if let Some(data) = data {
                out.extend([0xc0, 12]);
                out.extend(kind.to_be_bytes());
                out.extend([0, 1, 0, 0, 0, 0, 0, data.len() as u8]);
                out.extend(data);
            }
            let _ = socket.send_to(&out, from);
        }
    });
    port
}
