//! The remote admin endpoint, this server's identity, and what it is shown for.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};

use crate::support::{Answer, Server, eventually, free_port, get, request};

const JSON: [(&str, &str); 1] = [("Content-Type", "application/json")];

/// What a client shows: its certificate and others, and its key.
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Shown {
    fn new(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Self {
        Self { chain, key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }

    fn config(&self, ca: &Path) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .unwrap()
    }
}

fn params(name: &str, ca: bool) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    match ca {
        true => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        false => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
    }
    params
}

fn alone(name: &str) -> Shown {
    let key = KeyPair::generate().unwrap();
    let der = params(name, true).self_signed(&key).unwrap().der().clone();
    Shown::new(vec![der], &key)
}

fn base64(der: &CertificateDer<'_>) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in der.chunks(3) {
        let all = chunk.iter().fold(0_usize, |all, byte| all << 8 | usize::from(*byte));
        let all = all << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = char::from(DIGITS[all >> (18 - 6 * at) & 63]);
            out.push(if at <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

/// A connection to the remote endpoint; none where the handshake fails.
fn connect(port: u16, config: &ClientConfig) -> Option<StreamOwned<ClientConnection, TcpStream>> {
    let socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let name = "localhost".try_into().unwrap();
    let connection = ClientConnection::new(Arc::new(config.clone()), name).unwrap();
    Some(StreamOwned::new(connection, socket))
}

fn ask(port: u16, config: &ClientConfig, method: &str, path: &str) -> Option<Answer> {
    let mut stream = connect(port, config)?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: any.host\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(Answer::parse(&answer))
}

fn status(port: u16, config: &ClientConfig, method: &str, path: &str) -> u16 {
    ask(port, config, method, path).map_or(0, |answer| answer.status)
}

fn site(body: &str) -> String {
    format!("http://localhost:{{port}} {{\n\trespond {body}\n}}\n")
}

/// The config of a running server with other settings of its admin endpoint.
fn with_admin(server: &Server, change: impl FnOnce(&mut Value)) -> String {
    let mut config: Value = serde_json::from_str(&get(server.admin, "/config/").body).unwrap();
    change(&mut config["admin"]);
    config.to_string()
}

fn identity() -> Value {
    json!({ "identifiers": ["localhost"], "issuers": [{ "module": "internal" }] })
}

#[test]
fn clients_show_certificates() {
    let server = Server::start(&site("one"));
    let port = free_port();
    let (pinned, stranger) = (alone("pinned"), alone("stranger"));
    let ca = CertifiedIssuer::self_signed(params("ca", true), KeyPair::generate().unwrap());
    let ca = ca.unwrap();
    let key = KeyPair::generate().unwrap();
    let signed = params("signed", false).signed_by(&key, &ca).unwrap().der().clone();
    let load = |config: &str| request(server.admin, "POST", "/load", &JSON, config).unwrap();
    let remote = |others: Value| {
        let mut access = vec![json!({ "public_keys": [base64(&pinned.chain[0])] })];
        access.extend(others.as_array().unwrap().clone());
        json!({ "listen": format!("127.0.0.1:{port}"), "access_control": access })
    };
    let reader = json!([{
        "public_keys": [base64(ca.der())],
        "permissions": [{ "paths": ["/config/apps"], "methods": ["GET"] }],
    }]);
    // Without an identity nothing listens.
    let answer = load(&with_admin(&server, |admin| admin["remote"] = remote(reader.clone())));
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("admin.remote: remote administration needs"), "{}", answer.body);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    let answer = load(&with_admin(&server, |admin| {
        admin["identity"] = identity();
        admin["remote"] = json!({ "access_control": [{ "public_keys": ["AAAA"] }] });
    }));
    assert!(answer.body.contains("admin.remote.access_control.0.public_keys.0"), "{}", answer.body);
    let answer = load(&with_admin(&server, |admin| {
        admin["identity"] = identity();
        admin["remote"] = remote(reader.clone());
    }));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let root = server.folder.join("data/caddy/pki/authorities/local/root.crt");
    let nobody = {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&root).unwrap()).unwrap();
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    };
    let all = pinned.config(&root);
    let some = Shown::new(vec![signed.clone()], &key).config(&root);
    assert_eq!(status(port, &nobody, "GET", "/config/"), 0);
    assert_eq!(status(port, &stranger.config(&root), "GET", "/config/"), 0);
    assert_eq!(status(port, &all, "GET", "/config/admin"), 200);
    assert_eq!(status(port, &all, "GET", "/stop"), 405);
    assert_eq!(status(port, &some, "GET", "/config/apps/http"), 200);
    let denied = ask(port, &some, "POST", "/config/apps").unwrap();
    assert_eq!(
        (denied.status, denied.body.as_str()),
        (403, "{\"error\":\"not authorized to use this method\"}\n")
    );
    for path in ["/config/", "/config/application", "/stop", "/metrics", "/id/x"] {
        assert_eq!(status(port, &some, "GET", path), 403, "{path}");
    }
    // A path that says otherwise is sent elsewhere, or leads nowhere.
    assert_eq!(status(port, &some, "GET", "/config/apps/../admin"), 301);
    assert_eq!(status(port, &some, "GET", "/config/apps/%2e%2e/admin"), 400);
    // Somebody else's certificate that is sent along gives no right.
    let along = Shown::new(vec![signed, ca.der().clone(), pinned.chain[0].clone()], &key);
    assert_eq!(status(port, &along.config(&root), "GET", "/stop"), 403);
    // A right that is taken away is gone on connections that are open.
    let mut open = connect(port, &some).unwrap();
    let get = b"GET /config/apps HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut first = [0; 4096];
    open.write_all(get).unwrap();
    let read = open.read(&mut first).unwrap();
    assert!(first[..read].starts_with(b"HTTP/1.1 200"), "{}", server.log());
    let change = request(server.admin, "DELETE", "/config/admin/remote/access_control/1", &[], "");
    assert_eq!(change.unwrap().status, 200);
    open.write_all(get).unwrap();
    let read = open.read(&mut first).unwrap();
    assert!(first[..read].starts_with(b"HTTP/1.1 401"), "{}", server.log());
    assert_eq!(status(port, &some, "GET", "/config/apps"), 0);
    assert_eq!(status(port, &all, "GET", "/config/admin"), 200);
    // It moves, and goes.
    let other = free_port();
    let listen = format!("\"127.0.0.1:{other}\"");
    let path = "/config/admin/remote/listen";
    assert_eq!(request(server.admin, "PATCH", path, &JSON, &listen).unwrap().status, 200);
    assert_eq!(status(other, &all, "GET", "/config/admin"), 200);
    eventually("the old place is closed", || TcpStream::connect(("127.0.0.1", port)).is_err());
    let gone = request(server.admin, "DELETE", "/config/admin/remote", &[], "").unwrap();
    assert_eq!(gone.status, 200);
    eventually("the endpoint is closed", || TcpStream::connect(("127.0.0.1", other)).is_err());
}

#[test]
fn configs_are_pulled_with_certificates() {
    let server = Server::start(&site("one"));
    let load = |config: &str| request(server.admin, "POST", "/load", &JSON, config).unwrap();
    // Its authority is there with its identity.
    let named = with_admin(&server, |admin| admin["identity"] = identity());
    assert_eq!(load(&named).status, 200);
    let root = server.folder.join("data/caddy/pki/authorities/local/root.crt");
    let pinned = alone("pinned");
    let pem = |folder: &Path, name: &str, tag: &str, der: &[u8]| {
        let body = base64(&CertificateDer::from(der.to_vec()));
        let file = folder.join(name);
        let text = format!("-----BEGIN {tag}-----\n{body}\n-----END {tag}-----\n");
        fs::write(&file, text).unwrap();
        file
    };
    let folder = &server.folder;
    let chain = pem(folder, "client.pem", "CERTIFICATE", &pinned.chain[0]);
    let key = pem(folder, "client.key", "PRIVATE KEY", pinned.key.secret_der());
    // Who gives configs asks for one of the two.
    let text = |body: &str| Server::fill(&site(body), server.port, server.admin);
    fs::write(folder.join("two"), text("two")).unwrap();
    fs::write(folder.join("three"), text("three")).unwrap();
    let source_port = free_port();
    let source = Server::start(&format!(
        "http://localhost:{{port}} {{\n\trespond ok\n}}\nhttps://localhost:{source_port} {{\n\ttls internal {{\n\t\tclient_auth {{\n\t\t\tmode require_and_verify\n\t\t\ttrust_pool file {} {}\n\t\t}}\n\t}}\n\theader Content-Type text/caddyfile\n\troot {}\n\tfile_server\n}}\n",
        root.display(),
        chain.display(),
        folder.display(),
    ));
    let source_root = source.folder.join("data/caddy/pki/authorities/local/root.crt");
    eventually("the source has its authority", || {
        TcpStream::connect(("127.0.0.1", source_port)).is_ok() && source_root.exists()
    });
    let pull = |what: &str, tls: Value| {
        let mut tls = tls;
        tls["root_ca_pem_files"] = json!([source_root]);
        let load = json!({
            "module": "http", "url": format!("https://localhost:{source_port}/{what}"),
            "adapter": "caddyfile", "tls": tls,
        });
        with_admin(&server, |admin| {
            admin["identity"] = identity();
            admin["config"] = json!({ "load": load });
        })
    };
    assert_eq!(load(&pull("two", json!({}))).status, 400);
    let half = load(&pull("two", json!({ "client_certificate_file": chain })));
    assert!(half.body.contains("admin.config.load.tls: a certificate needs"), "{}", half.body);
    let answer = load(&pull("two", json!({ "use_server_identity": true })));
    assert_eq!(answer.status, 200, "{}", answer.body);
    eventually("the first one serves", || get(server.port, "/").body == "two");
    let files = json!({ "client_certificate_file": chain, "client_certificate_key_file": key });
    let answer = load(&pull("three", files));
    assert_eq!(answer.status, 200, "{}", answer.body);
    eventually("the second one serves", || get(server.port, "/").body == "three");
    let nobody = with_admin(&server, |admin| {
        admin["config"] = json!({ "load": {
            "module": "http", "url": "https://localhost/x", "tls": { "use_server_identity": true },
        } });
    });
    let answer = load(&nobody);
    assert!(answer.body.contains("no server identity configured"), "{}", answer.body);
}
