//! `caddis certs check` against a scripted name server and scripted authorities.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, UdpSocket},
    path::PathBuf,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::support::{Pebble, PebbleOptions, Server, caddis, eventually, free_port, scratch};

const LETS_ENCRYPT: &str = "acme-v02.api.letsencrypt.org";

/// An authority that answers every request alike, over TLS, be it reached directly or as a forward
/// proxy that leads to nobody but itself. Its root is in a file.
struct Authority {
    port: u16,
    folder: PathBuf,
    asked: Arc<AtomicUsize>,
}

impl Authority {
    /// With a certificate for this name, and an answer of this status and body.
    fn start(name: &str, status: &str, body: &str) -> Self {
        let folder = scratch();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut root = rcgen::CertificateParams::default();
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        fs::write(folder.join("ca.pem"), root.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = rcgen::Issuer::new(root, key);
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let chain = vec![CertificateDer::from(leaf.der().to_vec())];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (config, answer, count) = (config.clone(), answer.clone(), count.clone());
                // A client that goes away ends its connection and nothing else.
                std::thread::spawn(move || -> std::io::Result<()> {
                    let mut first = [0];
                    stream.peek(&mut first)?;
                    if first == *b"C" {
                        head(&mut stream)?;
                        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                    }
                    let connection =
                        ServerConnection::new(config).map_err(std::io::Error::other)?;
                    let mut stream = StreamOwned::new(connection, stream);
                    head(&mut stream)?;
                    count.fetch_add(1, Ordering::SeqCst);
                    stream.write_all(answer.as_bytes())?;
                    stream.conn.send_close_notify();
                    stream.flush()
                });
            }
        });
        Self { port, folder, asked }
    }

    /// One whose directory has this `meta`.
    fn with_meta(name: &str, meta: &str) -> Self {
        let body = format!(
            r#"{{"newNonce": "https://a/", "newAccount": "https://a/", "newOrder": "https://a/", "meta": {meta}}}"#
        );
        Self::start(name, "200 OK", &body)
    }

    fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    /// The global options that lead to it.
    fn options(&self) -> String {
        format!("\tacme_ca {}\n{}", self.directory(), self.root())
    }

    fn root(&self) -> String {
        format!("\tacme_ca_root {}\n", self.folder.join("ca.pem").display())
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Reads to the end of a request's head.
fn head(stream: &mut impl Read) -> std::io::Result<()> {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        read.push(byte[0]);
    }
    Ok(())
}

/// Answers by name and type; everything else has no records.
fn name_server(records: &'static [(&'static str, u16, &'static [u8])]) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((read, from)) = socket.recv_from(&mut buffer) {
            let asked = &buffer[..read];
            let (mut at, mut name) = (12, String::new());
            while asked[at] != 0 {
                let length = usize::from(asked[at]);
                name.push_str(std::str::from_utf8(&asked[at + 1..=at + length]).unwrap());
                name.push('.');
                at += length + 1;
            }
            let kind = u16::from_be_bytes([asked[at + 1], asked[at + 2]]);
            let found = records.iter().find(|one| format!("{}.", one.0) == name && one.1 == kind);
            let mut out = asked[..2].to_vec();
            out.extend([0x81, 0x80, 0, 1, 0, u8::from(found.is_some()), 0, 0, 0, 0]);
            out.extend(&asked[12..at + 5]);
            if let Some((_, _, data)) = found {
                out.extend([0xc0, 12]);
                out.extend(kind.to_be_bytes());
                out.extend([0, 1, 0, 0, 0, 9, 0, data.len() as u8]);
                out.extend(*data);
            }
            let _ = socket.send_to(&out, from);
        }
    });
    port
}

const HERE: &[u8] = &[127, 0, 0, 1];

/// Runs the check with these global options; what it asks outside goes to `proxy`.
fn check(
    option: &str,
    sites: &str,
    ports: (u16, u16),
    resolver: u16,
    proxy: Option<u16>,
    arguments: &[&str],
) -> Output {
    let folder = scratch();
    let (http, https) = ports;
    let text = format!(
        "{{\n\tadmin 127.0.0.1:{}\n\thttp_port {http}\n\thttps_port {https}\n\tdefault_bind 127.0.0.1\n{option}}}\n{sites}",
        free_port()
    );
    fs::write(folder.join("Caddyfile"), text).unwrap();
    let mut command = caddis(&folder);
    command.args(["certs", "check", "--config", "Caddyfile", "--resolver"]);
    command.arg(format!("127.0.0.1:{resolver}")).args(arguments);
    match proxy {
        Some(port) => command.env("HTTPS_PROXY", format!("http://127.0.0.1:{port}")),
        None => command.env_remove("HTTPS_PROXY"),
    };
    let output = command.output().unwrap();
    fs::remove_dir_all(folder).unwrap();
    output
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn all_is_well() {
    let resolver = name_server(&[
        ("a.example.com", 1, HERE),
        ("b.example.com", 1, HERE),
        ("example.com", 257, b"\x00\x05issueletsencrypt.org"),
    ]);
    let sites = "a.example.com, b.example.com {\n\trespond hi\n}\nlocalhost {\n\trespond hi\n}\n";
    let ports = (free_port(), free_port());
    let authority = Authority::with_meta(LETS_ENCRYPT, "{}");
    let option = format!(
        "\tcert_issuer acme {{\n\t\ttrusted_roots {}\n\t}}\n",
        authority.folder.join("ca.pem").display()
    );
    let proxy = Some(authority.port);
    let output = check(&option, sites, ports, resolver, proxy, &[]);
    let told = text(&output);
    assert!(output.status.success(), "{told}");
    for line in [
        "✓ a.example.com",
        "p256 key from https://acme-v02.api.letsencrypt.org/directory, by http-01 or tls-alpn-01",
        "✓ dns: points here (127.0.0.1)",
        "✓ authority: https://acme-v02.api.letsencrypt.org/directory answers",
        "✓ caa: records at example.com allow letsencrypt.org",
        "is free",
        "? storage: file_system:",
        "p256 key from local authority local",
    ] {
        assert!(told.contains(line), "{line:?} is not in {told}");
    }
    assert_eq!(authority.asked.load(Ordering::SeqCst), 1, "a directory is read once for all names");
}

/// The points of a report that failed.
fn failed(report: &serde_json::Value) -> String {
    let checks = report["checks"].as_array().unwrap().iter();
    let failed = checks.filter(|point| point["status"] == "fail");
    let failed = failed.map(|point| format!("{}: {}", point["check"], point["detail"]));
    failed.collect::<Vec<_>>().join("\n")
}

#[test]
fn what_is_wrong_is_told() {
    let resolver = name_server(&[
        ("a.example.com", 1, HERE),
        ("a.example.com", 257, b"\x00\x05issueother.test"),
        ("example.com", 257, b"\x00\x05issueca.test"),
    ]);
    let sites = "a.example.com, b.example.com, *.example.net {\n\trespond hi\n}\n";
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = (taken.local_addr().unwrap().port(), free_port());
    let authority = Authority::with_meta("127.0.0.1", r#"{"caaIdentities": ["ca.test"]}"#);
    let names = ["a.example.com", "b.example.com", "x.example.net", "c.example.org", "--json"];
    let output = check(&authority.options(), sites, ports, resolver, None, &names);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let reports: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for (at, texts) in [
        (0, &["only others may issue", "in use by another program"][..]),
        (1, &["no A or AAAA record", "in use by another program"]),
        (2, &["a wildcard needs a DNS provider"]),
        (3, &["no site of the config"]),
    ] {
        let failed = failed(&reports[at]);
        for text in texts {
            assert!(failed.contains(text), "{at}: {text:?} is not in {failed}");
        }
        assert_eq!(reports[at]["ok"], false);
    }
    // What the directory says of itself is what CAA records are compared with.
    let caa = reports[1]["checks"].as_array().unwrap().iter();
    let caa = caa.clone().find(|point| point["check"] == "caa").unwrap();
    assert_eq!(caa["status"], "ok", "{caa}");
    assert_eq!(caa["detail"], "records at example.com allow ca.test");
}

/// Checks a name whose DNS and ports are well; gives the code and what is told.
fn check_authority(option: &str, issuer: &str) -> (Option<i32>, String) {
    check_authority_through(None, option, issuer)
}

fn check_authority_through(
    proxy: Option<u16>,
    option: &str,
    issuer: &str,
) -> (Option<i32>, String) {
    let resolver = name_server(&[("a.example.com", 1, HERE)]);
    let site = format!(
        "a.example.com {{\n\ttls {{\n\t\tissuer acme {{\n{issuer}\t\t}}\n\t}}\n\trespond hi\n}}\n"
    );
    let ports = (free_port(), free_port());
    let output = check(option, &site, ports, resolver, proxy, &[]);
    (output.status.code(), text(&output))
}

#[test]
fn an_authority_that_cannot_be_used_is_told_with_the_remedy() {
    let refusing = free_port();
    let page = Authority::start("127.0.0.1", "200 OK", "<html>");
    let moved = Authority::start("127.0.0.1", "404 Not Found", "{}");
    let trouble = Authority::start("127.0.0.1", "503 Service Unavailable", "");
    let other = Authority::with_meta("other.test", "{}");
    let sound = Authority::with_meta("127.0.0.1", "{}");
    let url = |url: &str| format!("\tacme_ca {url}\n");
    for (option, proxy, texts) in [
        (
            url(&format!("https://127.0.0.1:{refusing}/dir")),
            None,
            ["connection refused;", "firewall"],
        ),
        (
            url("https://nobody.invalid/dir"),
            None,
            ["dial tcp: nobody.invalid", "can look up names"],
        ),
        (url(&sound.directory()), None, ["invalid peer certificate: ", "`acme_ca_root`"]),
        (
            format!("{}{}", url(&sound.directory()), other.root()),
            None,
            ["invalid peer certificate: ", "the files that it names now are of others"],
        ),
        (other.options(), None, ["not valid for", "by a host that its certificate is for"]),
        (page.options(), None, ["no ACME directory", "`acme_ca`"]),
        (moved.options(), None, ["HTTP 404 Not Found;", "`acme_ca`"]),
        (trouble.options(), None, ["HTTP 503 Service Unavailable;", "try again later"]),
        (
            format!("{}\tacme_ca_root /nowhere/ca.pem\n", url(&sound.directory())),
            None,
            ["/nowhere/ca.pem: no such file or directory;", "PEM files that can be read"],
        ),
        (
            format!("{}{}", url("https://ca.example.net/dir"), sound.root()),
            Some(refusing),
            ["proxyconnect tcp", "see whether the proxy is up"],
        ),
    ] {
        let (code, told) = check_authority_through(proxy, &option, "");
        assert_eq!(code, Some(1), "{told}");
        let line = told.lines().find(|line| line.contains("✗ authority: ")).unwrap_or(&told);
        for text in texts {
            assert!(line.contains(text), "{text:?} is not in {line}");
        }
        assert!(!line.contains("os error"), "{line}");
    }
}

#[test]
fn what_an_authority_wants_and_offers_is_compared_with_the_settings() {
    let strict = Authority::with_meta("127.0.0.1", r#"{"externalAccountRequired": true}"#);
    let (code, told) = check_authority(&strict.options(), "");
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("✗ account: the authority requires an external account"), "{told}");
    assert!(told.contains("`acme_eab`"), "{told}");
    let (code, told) = check_authority(&strict.options(), "\t\t\teab id c2VjcmV0\n");
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("✓ account: is bound to an external one"), "{told}");

    // An account that is known already is asked for no other one.
    let storage = scratch();
    let place = format!("acme/127.0.0.1-{}-dir/users/a@b.test", strict.port);
    fs::create_dir_all(storage.join(&place)).unwrap();
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    fs::write(storage.join(&place).join("a.key"), key).unwrap();
    let account = r#"{"status": "valid", "location": "https://127.0.0.1/me"}"#;
    fs::write(storage.join(&place).join("a.json"), account).unwrap();
    let option = format!(
        "{}\tstorage file_system {}\n\temail a@b.test\n",
        strict.options(),
        storage.display()
    );
    let (code, told) = check_authority(&option, "");
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("✓ account: is known already"), "{told}");
    fs::remove_dir_all(storage).unwrap();

    let offering = r#"{"profiles": {"short": "six days", "classic": "as ever"}}"#;
    let offering = Authority::with_meta("127.0.0.1", offering);
    let (code, told) = check_authority(&offering.options(), "\t\t\tprofile shrot\n");
    assert_eq!(code, Some(1), "{told}");
    let line = r#"✗ profile: "shrot" is not offered; let `profile` be one of: classic short"#;
    assert!(told.contains(line), "{told}");
    let (code, told) = check_authority(&offering.options(), "\t\t\tprofile short\n");
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("✓ profile: short is offered"), "{told}");
    let (_, told) = check_authority(&strict.options(), "\t\t\tprofile short\n");
    assert!(told.contains("the authority offers none: take `profile` out"), "{told}");
}

#[test]
fn a_storage_that_does_not_work_is_told() {
    let resolver = name_server(&[]);
    let sites = "localhost {\n\ttls internal\n}\n";
    let folder = scratch();
    let good = format!("\tstorage file_system {}\n", folder.display());
    // Nobody may make a file there, not even root.
    for (option, code, line) in [
        (good.as_str(), 0, "✓ storage: file_system:"),
        ("\tstorage file_system /proc\n", 1, "✗ storage: file_system:/proc does not work: "),
    ] {
        let ports = (free_port(), free_port());
        let output = check(option, sites, ports, resolver, None, &[]);
        let told = text(&output);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(line), "{told}");
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing is left there");
}

/// Pebble that wants external accounts: what it says is told before a start, and a server whose
/// check was well gets its certificate.
#[test]
#[ignore = "needs pebble"]
fn a_real_authority_is_asked() {
    let mac = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let options = PebbleOptions {
        external: Some(("kid-1".to_owned(), mac.to_owned())),
        ..PebbleOptions::default()
    };
    let pebble = Pebble::start(&options);
    let ca = format!(
        "\tacme_ca {}\n\tacme_ca_root {}\n",
        pebble.directory(),
        pebble.folder.join("ca.pem").display()
    );
    let (code, told) = check_authority(&ca, "");
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains(&format!("✓ authority: {} answers", pebble.directory())), "{told}");
    assert!(told.contains("✗ account: the authority requires an external account"), "{told}");
    let bound = format!("\tacme_eab {{\n\t\tkey_id kid-1\n\t\tmac_key {mac}\n\t}}\n");
    let (code, told) = check_authority(&format!("{ca}{bound}"), "");
    assert_eq!(code, Some(0), "{told}");
    let storage = scratch();
    let options = pebble.options(&storage, pebble.http, pebble.tls, &bound);
    let server = Server::start(&format!(
        "{options}a.example.test {{\n\trespond hi\n}}\n:{{port}} {{\n\trespond up\n}}\n"
    ));
    eventually("the certificate is there", || pebble.issued() == 1);
    drop(server);
    fs::remove_dir_all(storage).unwrap();
}
