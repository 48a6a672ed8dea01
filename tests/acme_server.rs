//! `acme_server`: others get certificates from us. With certbot, which has to be installed
//! (`apt-get install certbot`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::support::{Server, eventually, free_port, get, name_server, request, scratch};

/// An authority on `https`, and the ports where it looks for challenges.
struct Authority {
    server: Server,
    https: u16,
    storage: PathBuf,
    ports: (u16, u16),
    stop: Arc<AtomicBool>,
}

impl Authority {
    /// Names are on loopback, by a name server whose TXT records are files of a folder.
    fn start(lines: &str) -> Self {
        let (https, storage, stop) = (free_port(), scratch(), Arc::new(AtomicBool::new(false)));
        let texts = storage.join("txt");
        fs::create_dir_all(&texts).unwrap();
        let resolver = name_server(texts, stop.clone());
        let ports = (free_port(), free_port());
        let server = Server::start(&format!(
            "{{\n\tadmin 127.0.0.1:{{admin}}\n\thttps_port {https}\n\tauto_https disable_redirects\n\
             \tskip_install_trust\n\tstorage file_system {}\n}}\n\
             https://localhost {{\n\tbind 127.0.0.1\n\ttls internal\n\tacme_server {{\n\
             \t\tresolvers 127.0.0.1:{resolver}\n{lines}\t}}\n}}\n\
             http://:{{port}} {{\n\trespond up\n}}\n",
            storage.display()
        ));
        // The ports are no business of a Caddyfile.
        let config = get(server.admin, "/config/").body;
        let with = format!(
            r#""handler":"acme_server","validation_ports":{{"http":{},"https":{}}}"#,
            ports.0, ports.1
        );
        let changed = config.replace(r#""handler":"acme_server""#, &with);
        assert_ne!(config, changed);
        let json = [("Content-Type", "application/json")];
        let loaded = request(server.admin, "POST", "/load", &json, &changed).unwrap();
        assert_eq!(loaded.status, 200, "{}", loaded.body);
        Self { server, https, storage, ports, stop }
    }

    fn directory(&self) -> String {
        format!("https://localhost:{}/acme/local/directory", self.https)
    }

    fn root(&self) -> PathBuf {
        self.storage.join("pki/authorities/local/root.crt")
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.storage);
        }
    }
}

fn stored(storage: &Path, name: &str) -> bool {
    let issuers = fs::read_dir(storage.join("certificates")).into_iter().flatten().flatten();
    issuers.into_iter().any(|issuer| issuer.path().join(name).join(format!("{name}.crt")).exists())
}

/// The client here is the program itself, whose ACME is of `instant-acme`.
#[test]
fn another_server_gets_its_certificates() {
    let authority = Authority::start("\t\tallow {\n\t\t\tdomains *.example.test\n\t\t}\n");
    let (http, tls) = authority.ports;
    let storage = scratch();
    let issuer = |off: &str| {
        format!(
            "\ttls {{\n\t\tissuer acme {} {{\n\t\t\ttrusted_roots {}\n\t\t\t{off}\n\t\t}}\n\t}}\n",
            authority.directory(),
            authority.root().display()
        )
    };
    let client = Server::start(&format!(
        "{{\n\tadmin 127.0.0.1:{{admin}}\n\thttp_port {http}\n\thttps_port {tls}\n\
         \tskip_install_trust\n\tstorage file_system {}\n}}\n\
         a.example.test {{\n{}}}\nb.example.test {{\n{}}}\nhttp://:{{port}} {{\n\trespond up\n}}\n",
        storage.display(),
        issuer("disable_tlsalpn_challenge"),
        issuer("disable_http_challenge"),
    ));
    for name in ["a.example.test", "b.example.test"] {
        eventually("the certificate is there", || {
            assert!(!client.log().contains("will retry"), "{}", authority.server.log());
            stored(&storage, name)
        });
    }
    let log = authority.server.log();
    assert!(log.contains("http-01") && log.contains("tls-alpn-01"), "{log}");
    let accounts = fs::read_dir(authority.storage.join("acme_server/local/accounts")).unwrap();
    assert!(accounts.count() > 0, "accounts outlive the server");
    // It may still be taking a challenge away.
    drop(client);
    fs::remove_dir_all(storage).unwrap();
}

#[test]
#[ignore = "needs certbot"]
fn certbot_gets_a_certificate() {
    let authority = Authority::start("");
    let folder = scratch();
    let run = |arguments: &[&str]| {
        let output = Command::new("certbot")
            .args(arguments)
            .args(["--server", &authority.directory(), "--no-verify-ssl", "--non-interactive"])
            .args(["--config-dir", "config", "--work-dir", "work", "--logs-dir", "logs"])
            .current_dir(&folder)
            .output()
            .expect("certbot is installed (apt-get install certbot)");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}\n{}", authority.server.log());
    };
    let port = authority.ports.0.to_string();
    let names = ["-d", "c.example.test", "-d", "d.example.test"];
    let common = ["certonly", "--standalone", "--agree-tos", "-m", "me@example.test"];
    let at = ["--http-01-address", "127.0.0.1", "--http-01-port", &port];
    run(&[&common[..], &at, &names].concat());
    let live = folder.join("config/live/c.example.test/fullchain.pem");
    let chain = fs::read_to_string(&live).unwrap();
    assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
    // Renewed with the same account, then given up.
    run(&["renew", "--force-renewal", "--no-random-sleep-on-renew"]);
    assert_ne!(fs::read_to_string(&live).unwrap(), chain);
    run(&["revoke", "--cert-path", live.to_str().unwrap(), "--no-delete-after-revoke"]);
    assert!(authority.server.log().contains("revoked certificate"));
    run(&["unregister"]);
    fs::remove_dir_all(folder).unwrap();
}
