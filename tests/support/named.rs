//! BIND, a name server that takes dynamic updates: `example.test`, all names on loopback.

use std::{
    fs,
    net::{TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{eventually, free_port, scratch};

/// A running name server; ended when dropped.
pub struct Named {
    child: Child,
    folder: PathBuf,
    /// Where it listens, on UDP and TCP.
    pub port: u16,
}

impl Named {
    pub fn start() -> Self {
        let folder = scratch();
        fs::create_dir_all(&folder).unwrap();
        let port = std::iter::repeat_with(free_port)
            .find(|port| UdpSocket::bind(("127.0.0.1", *port)).is_ok())
            .unwrap();
        let shown = folder.display();
        let zone = "$TTL 1\n@ SOA ns h 1 60 60 60 1\n@ NS ns\n@ A 127.0.0.1\n* A 127.0.0.1\n";
        fs::write(folder.join("zone"), zone).unwrap();
        let config = format!(
            "key \"caddis\" {{ algorithm hmac-sha256; secret \"c2VjcmV0\"; }};\n\
             options {{ directory \"{shown}\"; pid-file none; session-keyfile none; recursion no; \
             listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; notify no; \
             dnssec-validation no; }};\n\
             controls {{ }};\n\
             zone \"example.test\" {{ type primary; file \"{shown}/zone\"; \
             allow-update {{ key caddis; }}; }};\n"
        );
        fs::write(folder.join("named.conf"), config).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        // Where Debian has it, which is not on everybody's path.
        let named = Path::new("/usr/sbin/named");
        let named = if named.exists() { named } else { Path::new("named") };
        let child = Command::new(named)
            .args(["-g", "-n", "1", "-c"])
            .arg(folder.join("named.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("named is installed (apt-get install bind9)");
        let mut this = Self { child, folder, port };
        eventually("the name server listens", || {
            assert!(this.child.try_wait().unwrap().is_none(), "named has ended: {}", this.log());
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        this
    }

    /// What follows `dns`.
    pub fn provider(&self) -> String {
        format!(
            "rfc2136 {{\n\t\t\tkey_name caddis\n\t\t\tkey_alg hmac-sha256\n\t\t\tkey c2VjcmV0\n\
             \t\t\tserver 127.0.0.1:{}\n\t\t}}",
            self.port
        )
    }

    /// What it has told so far, updates among it.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
