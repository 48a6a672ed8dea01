//! Clients that are verified, over reloads: neither an open connection nor a session of earlier gets
//! past what is asked of clients now, whatever the protocol.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::crypto::rustls::QuicClientConfig;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    SupportedProtocolVersion, client::Resumption, crypto::aws_lc_rs, version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

use crate::{
    handshakes::{AnyName, Authority, BOTH, Identity},
    support::{
        Server, eventually, free_port, get,
        quic::{Options, Quic},
        request, scratch,
    },
};

const NAME: &str = "secure.test";

/// One site whose clients are verified as `auth` says; it answers with `body`.
fn text(tls: u16, auth: &str, body: &str) -> String {
    let auth = match auth {
        "" => String::new(),
        auth => format!("\t\tclient_auth {{\n{auth}\t\t}}\n"),
    };
    format!(
        "{{\n\tadmin 127.0.0.1:{{admin}}\n\thttp_port {{port}}\n\thttps_port {tls}\n\tskip_install_trust\n\
         }}\n{NAME} {{\n\ttls internal {{\n{auth}\t}}\n\trespond {body}\n}}\n"
    )
}

const VERIFIED: &str = "\t\t\tmode require_and_verify\n\t\t\ttrust_pool file pool.pem\n";
const MODES: [&str; 4] = ["request", "require", "verify_if_given", "require_and_verify"];

fn config(
    server: &Server,
    versions: &[&'static SupportedProtocolVersion],
    identity: Option<&Identity>,
) -> ClientConfig {
    let root = server.folder.join("data/caddy/pki/authorities/local/root.crt");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::try_from(key.clone()).unwrap();
            builder.with_client_auth_cert(vec![certificate.clone()], key).unwrap()
        }
    }
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn connect(tls: u16, config: &ClientConfig) -> Result<Tls, String> {
    let name = ServerName::try_from(NAME).unwrap();
    let client = ClientConnection::new(Arc::new(config.clone()), name).unwrap();
    let socket = TcpStream::connect(("127.0.0.1", tls)).map_err(|error| error.to_string())?;
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut stream = StreamOwned::new(client, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(|error| error.to_string())?;
    }
    Ok(stream)
}

/// A GET over a connection that stays open; the body is the last word.
fn ask(stream: &mut Tls) -> Result<String, String> {
    let head = format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
    stream.write_all(head.as_bytes()).map_err(|error| error.to_string())?;
    let mut read = Vec::new();
    while !read.windows(4).any(|four| four == b"\r\n\r\n") || read.ends_with(b"\r\n\r\n") {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) => return Err("the connection has ended".to_owned()),
            Ok(count) => read.extend_from_slice(&buffer[..count]),
            Err(error) => return Err(error.to_string()),
        }
    }
    let read = String::from_utf8_lossy(&read).into_owned();
    Ok(read.rsplit("\r\n").next().unwrap_or_default().to_owned())
}

fn open(tls: u16, config: &ClientConfig) -> Result<(Tls, String), String> {
    let mut stream = connect(tls, config)?;
    let body = ask(&mut stream)?;
    Ok((stream, body))
}

type Http2 = h2::client::SendRequest<bytes::Bytes>;

/// An HTTP/2 connection that stays open.
async fn http2(tls: u16, config: &ClientConfig) -> Result<Http2, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut config = config.clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = tokio::net::TcpStream::connect(("127.0.0.1", tls)).await;
    let socket = socket.map_err(|error| text(&error))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from(NAME).unwrap(), socket).await;
    let stream = stream.map_err(|error| text(&error))?;
    let (sender, connection) = h2::client::handshake(stream).await.map_err(|error| text(&error))?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn get_over(http2: &Http2) -> Result<String, h2::Error> {
    let mut ready = http2.clone().ready().await?;
    let request = http::Request::get(format!("https://{NAME}/")).body(()).unwrap();
    let mut body = ready.send_request(request, true)?.0.await?.into_body();
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        let _ = body.flow_control().release_capacity(data.len());
        all.extend_from_slice(&data);
    }
    Ok(String::from_utf8_lossy(&all).into_owned())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn up(server: &Server, tls: u16, auth: &str) {
    let root = server.folder.join("data/caddy/pki/authorities/local/root.crt");
    eventually("the site is up", || {
        root.exists() && TcpStream::connect(("127.0.0.1", tls)).is_ok()
    });
    if auth.is_empty() {
        eventually("it answers", || open(tls, &config(server, BOTH, None)).is_ok());
    }
}

/// Who was verified by authorities that are not asked any more has no say on its open connection,
/// whether it was the config or a file that changed.
#[test]
fn a_pool_that_changes_ends_connections() {
    let (a, b, folder, tls) = (Authority::new(), Authority::new(), scratch(), free_port());
    let pool = folder.join("pool.pem");
    fs::write(&pool, &a.1).unwrap();
    let server = Server::start_in(folder, &text(tls, VERIFIED, "v1"));
    up(&server, tls, VERIFIED);
    let root = server.folder.join("data/caddy/pki/authorities/local/root.crt");
    let (good, next) = (a.client(|_| {}), b.client(|_| {}));
    eventually("it answers", || open(tls, &config(&server, BOTH, Some(&good))).is_ok());
    let runtime = runtime();
    let quic = |identity: &Identity| {
        let options = Options { identity: Some(identity.clone()), ..Options::default() };
        runtime.block_on(Quic::connect_with(tls, NAME, &root, &options))
    };
    let url = format!("https://{NAME}/");
    let mut opened: Vec<Tls> = BOTH
        .iter()
        .map(|version| open(tls, &config(&server, &[version], Some(&good))).unwrap().0)
        .collect();
    let mut h3 = quic(&good).unwrap();
    assert_eq!(runtime.block_on(h3.get(&url)).unwrap().text(), "v1");
    let h2: Vec<Http2> = BOTH
        .iter()
        .map(|version| {
            runtime.block_on(http2(tls, &config(&server, &[version], Some(&good)))).unwrap()
        })
        .collect();
    for http2 in &h2 {
        assert_eq!(runtime.block_on(get_over(http2)).unwrap(), "v1");
    }
    // As long as nothing changes for clients, connections go on.
    let (reloaded, said) = server.reload(&text(tls, VERIFIED, "v2"));
    assert!(reloaded, "{said}");
    for stream in &mut opened {
        assert_eq!(ask(stream).unwrap(), "v2");
    }
    assert_eq!(runtime.block_on(h3.get(&url)).unwrap().text(), "v2");
    for http2 in &h2 {
        assert_eq!(runtime.block_on(get_over(http2)).unwrap(), "v2");
    }
    // The file has another authority; the settings are the same.
    fs::write(&pool, &b.1).unwrap();
    let (reloaded, said) = server.reload(&text(tls, VERIFIED, "v3"));
    assert!(reloaded, "{said}");
    for stream in &mut opened {
        let end = Instant::now() + Duration::from_secs(20);
        // What is under way is finished, so one more answer may come.
        while let Ok(body) = ask(stream) {
            assert!(Instant::now() < end, "the connection goes on: {body}");
        }
    }
    let end = Instant::now() + Duration::from_secs(20);
    while let Ok(got) = runtime.block_on(h3.get(&url)) {
        assert!(Instant::now() < end, "the connection goes on: {}", got.text());
    }
    for http2 in &h2 {
        let end = Instant::now() + Duration::from_secs(20);
        while let Ok(body) = runtime.block_on(get_over(http2)) {
            assert!(Instant::now() < end, "the connection goes on: {body}");
        }
    }
    for version in BOTH {
        assert!(open(tls, &config(&server, &[version], Some(&good))).is_err());
        assert_eq!(open(tls, &config(&server, &[version], Some(&next))).unwrap().1, "v3");
    }
    let refused = quic(&good).and_then(|mut client| runtime.block_on(client.get(&url)));
    assert!(refused.is_err(), "{refused:?}");
    let mut client = quic(&next).unwrap();
    assert_eq!(runtime.block_on(client.get(&url)).unwrap().text(), "v3");
    // A pool without authorities is refused, and nobody else is let in meanwhile.
    fs::write(&pool, "").unwrap();
    let (reloaded, said) = server.reload(&text(tls, VERIFIED, "v4"));
    assert!(!reloaded && said.contains("pool.pem"), "{said}");
    assert_eq!(open(tls, &config(&server, BOTH, Some(&next))).unwrap().1, "v3");
    assert!(open(tls, &config(&server, BOTH, None)).is_err());
}

/// A connection over QUIC that may take up a session.
fn quic_session(
    runtime: &tokio::runtime::Runtime,
    tls: u16,
    config: &ClientConfig,
) -> Result<String, String> {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"h3".to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
    runtime.block_on(async {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
        let connecting = endpoint.connect_with(config, ([127, 0, 0, 1], tls).into(), NAME).unwrap();
        let connection = connecting.await.map_err(|error| text(&error))?;
        let (mut driver, mut sender) = h3::client::new(h3_quinn::Connection::new(connection))
            .await
            .map_err(|error| text(&error))?;
        tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
        let request = http::Request::get(format!("https://{NAME}/")).body(()).unwrap();
        let mut stream = sender.send_request(request).await.map_err(|error| text(&error))?;
        stream.finish().await.map_err(|error| text(&error))?;
        let answer = stream.recv_response().await.map_err(|error| text(&error))?;
        Ok(answer.status().to_string())
    })
}

/// A session of a time when nobody was verified is no way in, also where servers share the keys of
/// tickets: the ticket is not taken, and the whole handshake asks for a certificate.
#[test]
fn sessions_of_an_easier_time_are_no_way_in() {
    let (a, storage) = (Authority::new(), scratch());
    let start = |auth: &str| {
        let (folder, tls) = (scratch(), free_port());
        fs::write(folder.join("pool.pem"), &a.1).unwrap();
        let line = format!("\tskip_install_trust\n\tstorage file_system {}\n", storage.display());
        let text = text(tls, auth, "v1").replace("\tskip_install_trust\n", &line);
        let server = Server::start_in(folder, &text);
        let (path, json) = ("/config/apps/tls", [("Content-Type", "application/json")]);
        let mut app: serde_json::Value =
            serde_json::from_str(&get(server.admin, path).body).unwrap_or_default();
        app["session_tickets"] = serde_json::json!({ "key_source": { "provider": "distributed" } });
        let set = request(server.admin, "POST", path, &json, &app.to_string()).unwrap();
        assert_eq!(set.status, 200, "{}", set.body);
        (server, tls, text)
    };
    let (easy, tls, _) = start("");
    let (strict, strict_tls, _) = start(VERIFIED);
    // One root for both.
    let root = storage.join("pki/authorities/local/root.crt");
    eventually("there is a root", || root.exists());
    for server in [&easy, &strict] {
        let place = server.folder.join("data/caddy/pki/authorities/local");
        fs::create_dir_all(&place).unwrap();
        fs::copy(&root, place.join("root.crt")).unwrap();
    }
    up(&easy, tls, "");
    let runtime = runtime();
    // Sessions for each way in, one set per try: a ticket is used once.
    let sessions = || {
        let with_session = |version: &'static SupportedProtocolVersion| {
            let mut config = config(&easy, &[version], None);
            let store = Arc::new(AnyName::default());
            config.resumption = Resumption::store(store.clone());
            let first = open(tls, &config).unwrap();
            assert_eq!(first.1, "v1");
            let again = open(tls, &config).unwrap();
            assert_eq!(again.0.conn.handshake_kind(), Some(HandshakeKind::Resumed));
            config
        };
        let tcp: Vec<ClientConfig> = BOTH.iter().map(|version| with_session(version)).collect();
        let mut quic = config(&easy, &[&TLS13], None);
        quic.resumption = Resumption::store(Arc::new(AnyName::default()));
        for _ in 0..2 {
            assert_eq!(quic_session(&runtime, tls, &quic).unwrap(), "200 OK");
        }
        (tcp, quic)
    };
    let refused = |tls: u16, (tcp, quic): (Vec<ClientConfig>, ClientConfig), what: &str| {
        for config in tcp {
            let got = open(tls, &config).map(|(_, body)| body);
            assert!(got.is_err(), "{what}: {got:?}");
        }
        let got = quic_session(&runtime, tls, &quic);
        assert!(got.is_err(), "{what}, over QUIC: {got:?}");
    };
    refused(strict_tls, sessions(), "another server");
    let before = sessions();
    let app = get(easy.admin, "/config/apps/http").body;
    let strict_app: serde_json::Value =
        serde_json::from_str(&get(strict.admin, "/config/apps/http").body).unwrap();
    let mut app: serde_json::Value = serde_json::from_str(&app).unwrap();
    let pool = easy.folder.join("pool.pem").display().to_string();
    for (name, server) in app["servers"].as_object_mut().unwrap() {
        if let Some(policies) = strict_app["servers"][name].get("tls_connection_policies") {
            server["tls_connection_policies"] = policies.clone();
        }
    }
    let json = app.to_string().replace("\"pool.pem\"", &format!("\"{pool}\""));
    assert!(json.contains("client_authentication"), "{json}");
    let header = [("Content-Type", "application/json")];
    let set = request(easy.admin, "POST", "/config/apps/http", &header, &json).unwrap();
    assert_eq!(set.status, 200, "{}", set.body);
    refused(tls, before, "after a reload");
    // Who can show a certificate is let in.
    let good = a.client(|_| {});
    for version in BOTH {
        assert_eq!(open(tls, &config(&easy, &[version], Some(&good))).unwrap().1, "v1");
    }
}

/// With any kind of client authentication there is nothing to resume: each connection verifies.
#[test]
fn verified_clients_get_no_sessions() {
    let (a, folder, tls) = (Authority::new(), scratch(), free_port());
    fs::write(folder.join("pool.pem"), &a.1).unwrap();
    let auth = |mode: &str| format!("\t\t\tmode {mode}\n\t\t\ttrust_pool file pool.pem\n");
    let server = Server::start_in(folder, &text(tls, &auth(MODES[0]), MODES[0]));
    up(&server, tls, VERIFIED);
    let (good, bad) = (a.client(|_| {}), Authority::new().client(|_| {}));
    for mode in MODES {
        let (reloaded, said) = server.reload(&text(tls, &auth(mode), mode));
        assert!(reloaded || mode == MODES[0], "{said}");
        for version in BOTH {
            let (none, unknown) = match mode {
                "request" => (true, true),
                "require" => (false, true),
                "verify_if_given" => (true, false),
                _ => (false, false),
            };
            let got = |identity: Option<&Identity>| {
                open(tls, &config(&server, &[version], identity)).is_ok()
            };
            eventually("the reload has reached all", || got(Some(&good)) && got(None) == none);
            assert_eq!(got(Some(&bad)), unknown, "{mode} {version:?}");
            let mut config = config(&server, &[version], Some(&good));
            config.resumption = Resumption::store(Arc::new(AnyName::default()));
            for _ in 0..3 {
                let (stream, _) = open(tls, &config).unwrap();
                assert_ne!(stream.conn.handshake_kind(), Some(HandshakeKind::Resumed), "{mode}");
            }
        }
    }
}

/// Chains that are long, wide or larger than any message cost a moment, and let nobody in.
#[test]
fn huge_chains_are_refused_in_no_time() {
    let (a, folder, tls) = (Authority::new(), scratch(), free_port());
    fs::write(folder.join("pool.pem"), &a.1).unwrap();
    let server = Server::start_in(folder, &text(tls, VERIFIED, "hello"));
    up(&server, tls, VERIFIED);
    let good = a.client(|_| {});
    eventually("it answers", || open(tls, &config(&server, BOTH, Some(&good))).is_ok());
    let stranger = Authority::new().client(|_| {});
    // Authorities that all might have signed each other.
    let parents: Vec<CertificateDer<'static>> = (0..400)
        .map(|_| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::default();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.self_signed(&key).unwrap().der().clone()
        })
        .collect();
    for version in BOTH {
        for count in [20, 100, 400] {
            let mut chain = vec![stranger.0.clone()];
            chain.extend(parents.iter().take(count).cloned());
            let mut config = config(&server, &[version], None);
            let key = PrivateKeyDer::try_from(stranger.1.clone()).unwrap();
            let key = aws_lc_rs::sign::any_supported_type(&key).unwrap();
            let shown = rustls::sign::CertifiedKey::new(chain, key);
            config.client_auth_cert_resolver =
                Arc::new(rustls::sign::SingleCertAndKey::from(shown));
            let begin = Instant::now();
            assert!(open(tls, &config).is_err(), "{version:?} {count}");
            assert!(begin.elapsed() < Duration::from_secs(5), "{count}: {:?}", begin.elapsed());
        }
    }
    assert_eq!(open(tls, &config(&server, BOTH, Some(&good))).unwrap().1, "hello");
}
