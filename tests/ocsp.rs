//! OCSP staples from a real responder: `openssl ocsp` (`apt-get install openssl`).

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use caddis_dns::server_check::{ServerCheck, ServerVerifier, Shown};
use rustls::{ClientConfig, ClientConnection, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

use crate::{
    acme::{adapted, load, shown, wait_for},
    support::{Faulty, Pebble, PebbleOptions, Server, eventually, free_port, scratch},
};

/// Takes any certificate and keeps the staple.
#[derive(Debug, Default)]
struct Keeps(Mutex<Vec<u8>>);

impl ServerCheck for Keeps {
    fn check(&self, shown: &Shown<'_>) -> Result<(), rustls::Error> {
        *self.0.lock().unwrap() = shown.staple.to_vec();
        Ok(())
    }
}

/// The staple of a handshake; empty where there is none. Panics where the handshake fails.
fn staple(port: u16) -> Vec<u8> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let keeps = Arc::new(ServerVerifier::new(Keeps::default(), provider.clone()));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(keeps.clone())
        .with_no_client_auth();
    let name = ServerName::try_from("a.test").unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    while client.is_handshaking() {
        client.complete_io(&mut socket).unwrap();
    }
    std::mem::take(&mut *keeps.check.0.lock().unwrap())
}

/// An authority with one certificate, which has to be stapled (RFC 7633), and its responder.
struct Responder {
    child: Option<Child>,
    folder: PathBuf,
    port: u16,
}

impl Responder {
    fn new() -> Self {
        Self::naming(None)
    }

    /// The certificate may name where its issuer's is found.
    fn naming(issuer_at: Option<&str>) -> Self {
        let (folder, port) = (scratch(), free_port());
        let key = rcgen::KeyPair::generate().unwrap();
        let mut root = rcgen::CertificateParams::default();
        root.distinguished_name.push(rcgen::DnType::CommonName, "Stapling Root");
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root_pem = root.self_signed(&key).unwrap().pem();
        fs::write(folder.join("ca.pem"), &root_pem).unwrap();
        fs::write(folder.join("ca.key"), key.serialize_pem()).unwrap();
        let issuer = rcgen::Issuer::new(root, key);
        let mut leaf = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        leaf.distinguished_name.push(rcgen::DnType::CommonName, "a.test");
        leaf.serial_number = Some(rcgen::SerialNumber::from_slice(&[0x10, 0x01]));
        // AuthorityInfoAccess: id-ad-ocsp and id-ad-caIssuers with URIs (RFC 5280 §4.2.2.1).
        let url = format!("http://127.0.0.1:{port}");
        let mut access = Vec::new();
        for (method, url) in [(1, Some(url.as_str())), (2, issuer_at)] {
            let Some(url) = url else { continue };
            let location = [&[0x86, url.len() as u8], url.as_bytes()].concat();
            let oid = [&b"\x06\x08\x2b\x06\x01\x05\x05\x07\x30"[..], &[method]].concat();
            let one = [&oid[..], &location].concat();
            access.extend([0x30, one.len() as u8]);
            access.extend(one);
        }
        let access = [&[0x30, access.len() as u8], &access[..]].concat();
        for (oid, content) in [
            (&[1, 3, 6, 1, 5, 5, 7, 1, 1], access),
            (&[1, 3, 6, 1, 5, 5, 7, 1, 24], vec![0x30, 3, 2, 1, 5]),
        ] {
            let extension = rcgen::CustomExtension::from_oid_content(oid, content);
            leaf.custom_extensions.push(extension);
        }
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap().pem();
        fs::write(folder.join("leaf.pem"), &leaf).unwrap();
        fs::write(folder.join("chain.pem"), leaf + &root_pem).unwrap();
        fs::write(folder.join("leaf.key"), key.serialize_pem()).unwrap();
        fs::write(folder.join("index"), "V\t400101000000Z\t\t1001\tunknown\t/CN=a.test\n").unwrap();
        Self { child: None, folder, port }
    }

    fn up(&mut self) {
        let path = self.folder.join("log");
        let log = fs::File::create(&path).unwrap();
        let child = Command::new("openssl")
            .args(["ocsp", "-index", "index", "-CA", "ca.pem", "-rsigner", "ca.pem"])
            .args(["-rkey", "ca.key", "-nmin", "2", "-port", &self.port.to_string()])
            .current_dir(&self.folder)
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(Stdio::from(log))
            .spawn()
            .expect("openssl is installed (apt-get install openssl)");
        self.child = Some(child);
        // A connection without a request would hold it up.
        eventually("the responder listens", || {
            fs::read_to_string(&path).unwrap().contains("ACCEPT")
        });
    }

    fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Whether a response is good in the eyes of another program.
    fn is_good(&self, response: &[u8]) -> bool {
        fs::write(self.folder.join("response"), response).unwrap();
        let output = Command::new("openssl")
            .args(["ocsp", "-respin", "response", "-issuer", "ca.pem", "-cert", "leaf.pem"])
            .args(["-CAfile", "ca.pem", "-no_nonce"])
            .current_dir(&self.folder)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let verified = String::from_utf8_lossy(&output.stderr).contains("Response verify OK");
        verified && text.contains("leaf.pem: good")
    }

    fn serve(&self, storage: &Path, tls: u16) -> Server {
        let folder = self.folder.display();
        Server::start(&format!(
            "{{\n\tadmin off\n\thttp_port {{port}}\n\thttps_port {tls}\n\tskip_install_trust\n\
             \tstorage file_system {}\n}}\na.test {{\n\ttls {folder}/chain.pem {folder}/leaf.key\n\
             \trespond hi\n}}\n",
            storage.display()
        ))
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.down();
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

#[test]
#[ignore = "needs openssl"]
fn staples_come_stay_and_are_renewed() {
    let mut responder = Responder::new();
    let (storage, tls) = (scratch(), free_port());
    // A responder that is down does no harm.
    let server = responder.serve(&storage, tls);
    eventually("the failure is told", || server.log().contains("stapling OCSP"));
    assert!(staple(tls).is_empty());
    assert!(!server.log().contains("obtaining certificate"), "a given certificate is enough");
    drop(server);
    responder.up();
    let server = responder.serve(&storage, tls);
    // The certificate demands it, so the first client gets it.
    let first = staple(tls);
    assert!(!first.is_empty(), "{}", server.log());
    assert!(responder.is_good(&first));
    let files: Vec<_> = fs::read_dir(storage.join("ocsp")).unwrap().flatten().collect();
    assert_eq!(files.len(), 1);
    assert_eq!(fs::read(files[0].path()).unwrap(), first);
    drop(server);
    // The next server has it from the storage.
    responder.down();
    let server = responder.serve(&storage, tls);
    assert_eq!(staple(tls), first);
    assert!(!server.log().contains("stapling OCSP"), "{}", server.log());
    // Half of its two minutes later it is renewed.
    responder.up();
    let end = Instant::now() + Duration::from_secs(150);
    while staple(tls) == first {
        assert!(Instant::now() < end, "no other staple: {}", server.log());
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(responder.is_good(&staple(tls)));
    fs::remove_dir_all(storage).unwrap();
}

/// A certificate of an authority outside is in the storage, and its responder is away: it is served
/// without a staple, as in Caddy, which is told, and the responder is asked every minute. When the
/// authority revokes it, it is replaced by itself, and the extension is asked for.
#[test]
#[ignore = "needs openssl and pebble"]
fn a_managed_certificate_that_demands_a_staple() {
    // RFC 7633: TLS feature, status_request.
    const MUST_STAPLE: &[u8] =
        b"\x06\x08\x2b\x06\x01\x05\x05\x07\x01\x18\x04\x05\x30\x03\x02\x01\x05";
    let mut responder = Responder::new();
    let pebble = Pebble::start(&PebbleOptions::default());
    let front = Faulty::orders_in_turn(&pebble);
    let storage = scratch();
    let place = front.directory().replace("https://", "").replace([':', '/'], "-");
    let files = storage.join("certificates").join(place).join("a.test");
    fs::create_dir_all(&files).unwrap();
    for (from, to) in [("chain.pem", "a.test.crt"), ("leaf.key", "a.test.key")] {
        fs::copy(responder.folder.join(from), files.join(to)).unwrap();
    }
    let server = Server::start("{\n\tadmin 127.0.0.1:{admin}\n}\n:{port} {\n\trespond up\n}\n");
    let heard = server.folder.join("heard");
    let event = format!(
        "\tevents {{\n\t\ton cert_ocsp_revoked exec sh -c \"echo {{event.data.subjects}} {{event.data.reason}} >>{}\"\n\t}}\n",
        heard.display()
    );
    let options = pebble.options(&storage, pebble.http, pebble.tls, &event);
    let options = options.replace(&pebble.directory(), &front.directory());
    let json = adapted(&server, &format!("{options}a.test {{\n\trespond hello\n}}\n"));
    // The field is one of JSON alone.
    let wanted = json.replace(
        r#""policies":[{"#,
        r#""policies":[{"must_staple":true,"reuse_private_keys":true,"#,
    );
    assert_ne!(wanted, json);
    load(&server, &wanted);
    let old = wait_for(pebble.tls, "a.test", 30);
    assert!(staple(pebble.tls).is_empty());
    for told in ["stapling OCSP", "the certificate demands an OCSP staple, and there is none"] {
        assert!(server.log().contains(told), "{told}: {}", server.log());
    }
    // The responder comes back.
    responder.up();
    let end = Instant::now() + Duration::from_secs(110);
    while staple(pebble.tls).is_empty() {
        assert!(Instant::now() < end, "no staple: {}", server.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(responder.is_good(&staple(pebble.tls)));
    assert_eq!(pebble.orders(), 0, "a responder that is away is no reason for another one");
    // The authority revokes it, since others have the key.
    responder.down();
    let revoked = "R\t400101000000Z\t260101000000Z,keyCompromise\t1001\tunknown\t/CN=a.test\n";
    fs::write(responder.folder.join("index"), revoked).unwrap();
    responder.up();
    let end = Instant::now() + Duration::from_secs(150);
    while shown(pebble.tls, "a.test").is_none_or(|now| now == old) {
        assert!(Instant::now() < end, "not replaced: {}", server.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(pebble.issued(), 1);
    let requests = front.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].windows(MUST_STAPLE.len()).any(|part| part == MUST_STAPLE));
    assert!(server.log().contains("certificate was revoked by its authority"));
    eventually("the event is told", || {
        fs::read_to_string(&heard).is_ok_and(|text| text.contains("a.test") && text.contains('1'))
    });
    // That key is in no other certificate, and is kept for who wants to look at it (T054).
    let key = |name: &str| fs::read(files.join(name)).unwrap();
    assert_eq!(key("a.test.key.compromised"), fs::read(responder.folder.join("leaf.key")).unwrap());
    assert_ne!(key("a.test.key"), key("a.test.key.compromised"));
}

/// Answers all requests with the certificate, DER.
fn show(certificate: Vec<u8>, listener: TcpListener) {
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let length = certificate.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.read(&mut [0; 4_096]);
            let _ = stream.write_all(&[head.as_bytes(), &certificate].concat());
        }
    });
}

/// Each policy is about its own names (T059), and a certificate that comes without its issuer says
/// where that is (T054).
#[test]
#[ignore = "needs openssl"]
fn what_policies_say_of_staples() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let issuer = format!("http://{}/ca", listener.local_addr().unwrap());
    let mut responder = Responder::naming(Some(&issuer));
    let root = CertificateDer::from_pem_file(responder.folder.join("ca.pem")).unwrap();
    show(root.to_vec(), listener);
    responder.up();
    let (tls, folder) = (free_port(), responder.folder.display());
    let server = Server::start("{\n\tadmin 127.0.0.1:{admin}\n}\n:{port} {\n\trespond up\n}\n");
    let options = format!(
        "{{\n\tadmin 127.0.0.1:{}\n\thttp_port {}\n\thttps_port {tls}\n\tskip_install_trust\n}}\n\
         a.test {{\n\ttls {folder}/leaf.pem {folder}/leaf.key\n}}\n",
        server.admin, server.port
    );
    let json = adapted(&server, &options);
    let with = |policies: serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_str(&json).unwrap();
        json["apps"]["tls"]["automation"]["policies"] = policies;
        load(&server, &json.to_string());
        json
    };
    let named = format!("http://127.0.0.1:{}", responder.port);
    let elsewhere = format!("{named}/elsewhere");
    for (policies, stapled) in [
        (serde_json::json!([]), true),
        (serde_json::json!([{ "subjects": ["*.test"], "disable_ocsp_stapling": true }, {}]), false),
        (serde_json::json!([{ "subjects": ["b.test"], "disable_ocsp_stapling": true }, {}]), true),
        (serde_json::json!([{ "ocsp_overrides": { &named: "" } }]), false),
        (serde_json::json!([{ "ocsp_overrides": { &named: elsewhere } }]), true),
    ] {
        let json = with(policies);
        eventually("the policy counts", || staple(tls).is_empty() != stapled);
        if stapled {
            assert!(responder.is_good(&staple(tls)), "{json}");
        }
    }
}
