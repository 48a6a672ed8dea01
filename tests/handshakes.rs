//! TLS: what is offered and refused, who is asked for a certificate and cannot get around it, and
//! bytes that are no handshake.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
    client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue},
    crypto::aws_lc_rs,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

use crate::support::{Answer, Server, Wire, caddis, eventually, free_port, scratch};

/// One TLS port with names of several kinds.
struct Site {
    server: Server,
    tls: u16,
    /// Authorities A and B, and certificates of theirs.
    a: Authority,
    b: Authority,
}

/// An authority for clients, and its certificate.
pub struct Authority(rcgen::Issuer<'static, rcgen::KeyPair>, pub String);

pub type Identity = (CertificateDer<'static>, Vec<u8>);

impl Authority {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut root = rcgen::CertificateParams::default();
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = root.self_signed(&key).unwrap().pem();
        Self(rcgen::Issuer::new(root, key), pem)
    }

    pub fn client(&self, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Identity {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["client".to_owned()]).unwrap();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.der().clone(), key.serialize_der())
    }
}

impl Site {
    fn start() -> Self {
        let (a, b, folder, tls) = (Authority::new(), Authority::new(), scratch(), free_port());
        fs::write(folder.join("a.pem"), &a.1).unwrap();
        fs::write(folder.join("b.pem"), &b.1).unwrap();
        let auth = |file: &str| {
            format!(
                "\t\tclient_auth {{\n\t\t\tmode require_and_verify\n\t\t\ttrust_pool file {file}\n\t\t}}\n"
            )
        };
        let site = |name: &str, auth: &str| {
            format!(
                "https://{name} {{\n\ttls internal {{\n{auth}\t}}\n\
                 \trespond \"{name} {{http.request.tls.client.san.dns_names.0}}\"\n}}\n"
            )
        };
        let text = format!(
            "{{\n\tadmin 127.0.0.1:{{admin}}\n\thttp_port {{port}}\n\thttps_port {tls}\n\
             \tskip_install_trust\n\tservers {{\n\t\ttimeouts {{\n\t\t\tread_header 2s\n\t\t}}\n\
             \t}}\n}}\n{}{}{}{}{}http://plain.test {{\n\trespond ok\n}}\n",
            site("plain.test", ""),
            site("other.test", ""),
            site("secure.test", &auth("a.pem")),
            site("secure2.test", &auth("b.pem")),
            site("*.wild.test", ""),
        );
        let server = Server::start_in(folder, &text);
        let site = Self { server, tls, a, b };
        eventually("the site is up", || site.get("plain.test", "plain.test").is_ok());
        site
    }

    fn connect(&self, config: ClientConfig, name: &str) -> Result<Tls, String> {
        let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(("127.0.0.1", self.tls)).map_err(|e| e.to_string())?;
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut stream = StreamOwned::new(client, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|error| error.to_string())?;
        }
        Ok(stream)
    }

    fn config(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        identity: Option<&Identity>,
    ) -> ClientConfig {
        let root = self.server.folder.join("data/caddy/pki/authorities/local/root.crt");
        let mut roots = RootCertStore::empty();
        if let Ok(root) = CertificateDer::from_pem_file(root) {
            roots.add(root).unwrap();
        }
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

    /// A GET for a host over a connection to a name.
    fn get(&self, name: &str, host: &str) -> Result<Answer, String> {
        self.get_as(name, host, None)
    }

    fn get_as(
        &self,
        name: &str,
        host: &str,
        identity: Option<&Identity>,
    ) -> Result<Answer, String> {
        ask(self.connect(self.config(BOTH, identity), name)?, "/", host)
    }
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

pub const BOTH: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

fn ask(mut stream: Tls, target: &str, host: &str) -> Result<Answer, String> {
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
        .map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    // An end without close_notify is an error, and a cut.
    stream.read_to_end(&mut answer).map_err(|error| error.to_string())?;
    Ok(Answer::parse(&answer))
}

/// A record with a ClientHello: version of the record and of the hello, suites, extensions.
fn hello(version: [u8; 2], suites: &[u16], name: &str, more: &[u8]) -> Vec<u8> {
    fn with_length(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
    }
    let entry = [&[0][..], &with_length(name.as_bytes())].concat();
    let mut extensions = [&[0, 0][..], &with_length(&with_length(&entry))].concat();
    // Groups x25519 and secp256r1; points; signature schemes.
    extensions.extend([0, 10, 0, 6, 0, 4, 0, 29, 0, 23]);
    extensions.extend([0, 11, 0, 2, 1, 0]);
    extensions.extend([0, 13, 0, 10, 0, 8, 4, 3, 8, 4, 4, 1, 5, 3]);
    extensions.extend(more);
    let suites: Vec<u8> = suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend(with_length(&suites));
    body.extend([1, 0]);
    body.extend(with_length(&extensions));
    let length = (body.len() as u32).to_be_bytes();
    let message = [&[1, length[1], length[2], length[3]][..], &body].concat();
    [&[22, 3, 1][..], &with_length(&message)].concat()
}

/// Whether the server goes on with a handshake.
fn goes_on(port: u16, bytes: &[u8]) -> bool {
    let mut wire = Wire::connect(port);
    wire.send(bytes);
    let begin = wire.take(6);
    begin.first() == Some(&22) && begin.get(5) == Some(&2)
}

const AEAD: &[u16] = &[0xc02b, 0xc02f, 0xc02c];

#[test]
fn versions_and_suites() {
    let site = Site::start();
    for version in BOTH {
        let config = site.config(&[version], None);
        let stream = site.connect(config, "plain.test").unwrap();
        assert_eq!(stream.conn.protocol_version(), Some(version.version));
        assert!(ask(stream, "/", "plain.test").unwrap().body.starts_with("plain.test"));
    }
    assert!(goes_on(site.tls, &hello([3, 3], AEAD, "plain.test", &[])));
    for (what, version, suites) in [
        ("TLS 1.0", [3, 1], AEAD),
        ("TLS 1.1", [3, 2], AEAD),
        ("SSL 3", [3, 0], AEAD),
        ("AES128-SHA", [3, 3], &[0x002f][..]),
        ("AES256-GCM-SHA384", [3, 3], &[0x009d]),
        ("ECDHE-ECDSA-AES128-SHA", [3, 3], &[0xc009]),
        ("NULL-SHA256", [3, 3], &[0x003b]),
        ("ADH-AES128-SHA", [3, 3], &[0x0034]),
        ("DHE-RSA-AES128-GCM-SHA256", [3, 3], &[0x009e]),
    ] {
        assert!(!goes_on(site.tls, &hello(version, suites, "plain.test", &[])), "{what}");
    }
    // A hello of SSL 2.
    assert!(!goes_on(
        site.tls,
        b"\x80\x2e\x01\0\x02\0\x15\0\0\0\x10\x01\0\x80\x02\0\x80\x03\0\x80"
    ));
    assert!(site.get("plain.test", "plain.test").is_ok());
}

#[test]
fn names_and_protocols() {
    let site = Site::start();
    // In any case.
    assert!(goes_on(site.tls, &hello([3, 3], AEAD, "PLAIN.Test", &[])));
    for name in ["stranger.test", "test", "wild.test", "a.b.wild.test", "xplain.test"] {
        assert!(!goes_on(site.tls, &hello([3, 3], AEAD, name, &[])), "{name}");
    }
    assert!(site.get("x.wild.test", "x.wild.test").is_ok());
    let offering = |protocols: &[&[u8]]| {
        let mut config = site.config(BOTH, None);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let stream = site.connect(config, "plain.test")?;
        Ok::<_, String>(stream.conn.alpn_protocol().map(<[u8]>::to_vec))
    };
    assert_eq!(offering(&[b"http/1.1", b"h2"]).unwrap(), Some(b"h2".to_vec()));
    assert_eq!(offering(&[]).unwrap(), None);
    for refused in [&b"foo"[..], b"acme-tls/1", b"ftp"] {
        assert_ne!(offering(&[refused]), Ok(Some(refused.to_vec())));
        assert!(offering(&[refused]).is_err());
    }
    // A site that has no such name does not answer for it.
    let answer = site.get("plain.test", "unknown.test").unwrap();
    assert!(!answer.body.contains("plain.test") && !answer.body.contains("secure"), "{answer:?}");
}

#[test]
fn clients_are_verified() {
    let site = Site::start();
    let good = site.a.client(|_| {});
    let answer = site.get_as("secure.test", "secure.test", Some(&good)).unwrap();
    assert_eq!(answer.body, "secure.test client");
    assert!(site.get("secure.test", "secure.test").is_err(), "without a certificate");
    let year = |year| rcgen::date_time_ymd(year, 1, 1);
    for (what, identity) in [
        ("another authority", site.b.client(|_| {})),
        ("expired", site.a.client(|c| (c.not_before, c.not_after) = (year(2019), year(2020)))),
        ("to come", site.a.client(|c| (c.not_before, c.not_after) = (year(2090), year(2091)))),
        (
            "for servers",
            site.a.client(|c| {
                c.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
            }),
        ),
    ] {
        assert!(site.get_as("secure.test", "secure.test", Some(&identity)).is_err(), "{what}");
    }
}

/// A host whose clients are verified is reached over a connection to its name alone.
#[test]
fn verification_has_no_way_round() {
    let site = Site::start();
    let good = site.a.client(|_| {});
    for (name, host, identity) in [
        ("plain.test", "secure.test", None),
        ("plain.test", "SECURE.test", None),
        ("plain.test", "secure.test.", None),
        ("plain.test", "secure.test:443", None),
        ("x.wild.test", "secure.test", None),
        ("secure.test", "secure2.test", Some(&good)),
    ] {
        let answer = site.get_as(name, host, identity).unwrap();
        assert_ne!(answer.status, 200, "{name} {host}: {answer:?}");
        assert!(!answer.body.contains("secure"), "{name} {host}: {answer:?}");
    }
    // The target's authority is what counts (RFC 9112 §3.2.2).
    let stream = site.connect(site.config(BOTH, None), "plain.test").unwrap();
    let answer = ask(stream, "https://secure.test/", "plain.test").unwrap();
    assert!(answer.status != 200 && !answer.body.contains("secure"), "{answer:?}");
    // HTTP/2.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (name, host, identity) in
        [("plain.test", "secure.test", None), ("secure.test", "secure2.test", Some(&good))]
    {
        let mut config = site.config(BOTH, identity);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let status = runtime.block_on(async {
            let socket = tokio::net::TcpStream::connect(("127.0.0.1", site.tls)).await.unwrap();
            let server = ServerName::try_from(name).unwrap();
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            let stream = connector.connect(server, socket).await.unwrap();
            let (sender, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            let mut sender = sender.ready().await.unwrap();
            let request = http::Request::get(format!("https://{host}/")).body(()).unwrap();
            sender.send_request(request, true).unwrap().0.await.unwrap().status()
        });
        assert_eq!(status, 421, "{name} {host}");
    }
}

/// Sessions of any server, whatever its name.
#[derive(Debug, Default)]
pub struct AnyName {
    group: Mutex<Option<NamedGroup>>,
    old: Mutex<Option<Tls12ClientSessionValue>>,
    new: Mutex<Vec<Tls13ClientSessionValue>>,
}

impl ClientSessionStore for AnyName {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        *self.group.lock().unwrap() = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        *self.group.lock().unwrap()
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        *self.old.lock().unwrap() = Some(value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.old.lock().unwrap().clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.new.lock().unwrap().push(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.new.lock().unwrap().pop()
    }
}

/// A session says nothing about who a client is to another policy (CVE-2025-23419).
#[test]
fn sessions_belong_to_their_policy() {
    let site = Site::start();
    let good = site.a.client(|_| {});
    for version in BOTH {
        for (from, identity, to) in
            [("plain.test", None, "secure.test"), ("secure.test", Some(&good), "secure2.test")]
        {
            let store = Arc::new(AnyName::default());
            // One for all, since rustls offers no session to whom it would verify otherwise.
            let mut config = site.config(&[version], identity);
            config.resumption = Resumption::store(store);
            config.enable_early_data = true;
            let first = site.connect(config.clone(), from).unwrap();
            assert!(ask(first, "/", from).unwrap().body.starts_with(from));
            // The same name takes it up again, where nobody has to be verified.
            let again = site.connect(config.clone(), from).unwrap();
            if identity.is_none() {
                assert_eq!(again.conn.handshake_kind(), Some(HandshakeKind::Resumed), "{from}");
            }
            // Nothing is taken before the handshake is done.
            assert!(!again.conn.is_early_data_accepted());
            assert!(ask(again, "/", from).unwrap().body.starts_with(from));
            let other = site.connect(config, to).and_then(|stream| ask(stream, "/", to));
            let opened = other.as_ref().is_ok_and(|answer| answer.body.contains(to));
            assert!(!opened, "{from} {to} {version:?}: {other:?}");
        }
    }
}

/// The first record of a proper handshake.
fn proper(site: &Site) -> Vec<u8> {
    let name = ServerName::try_from("plain.test").unwrap();
    let mut client = ClientConnection::new(Arc::new(site.config(BOTH, None)), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn bytes_that_are_no_handshake_do_no_harm() {
    let mut site = Site::start();
    let whole = proper(&site);
    let message = &whole[5..];
    // In many records, and in many packets.
    let mut records = Vec::new();
    for part in message.chunks(16) {
        records.extend([22, 3, 1, 0, part.len() as u8]);
        records.extend(part);
    }
    assert!(goes_on(site.tls, &records));
    let mut wire = Wire::connect(site.tls);
    for byte in &whole {
        wire.send([*byte]);
    }
    assert_eq!(wire.take(1), [22]);
    let mut truncated = whole.clone();
    truncated.truncate(whole.len() / 2);
    let length = (truncated.len() as u16 - 5).to_be_bytes();
    truncated[3..5].copy_from_slice(&length);
    let message_length = (truncated.len() as u32 - 9).to_be_bytes();
    truncated[6..9].copy_from_slice(&message_length[1..]);
    for (what, bytes) in [
        ("noise", (0..2000u32).map(|number| ((number * 7919) >> 3) as u8).collect::<Vec<_>>()),
        ("a record too long", [&[22, 3, 1, 0xff, 0xff][..], &[1; 20_000]].concat()),
        ("empty records", [22, 3, 1, 0, 0].repeat(2000)),
        (
            "a hello of 16 MB",
            [&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff][..], &[0; 16_380]].concat(),
        ),
        ("extensions cut short", truncated),
        ("a goodbye", vec![21, 3, 3, 0, 2, 1, 0]),
        ("a goodbye behind the hello", [&whole[..], &[21, 3, 3, 0, 2, 1, 0]].concat()),
        ("data before the handshake", [&[23, 3, 3, 0, 5][..], b"hello"].concat()),
        ("changes of the cipher", [20, 3, 3, 0, 1, 1].repeat(5000)),
        ("changes behind the hello", [&whole[..], &[20, 3, 3, 0, 1, 1].repeat(5000)].concat()),
    ] {
        let begin = Instant::now();
        let mut wire = Wire::connect(site.tls);
        wire.write_limit(Duration::from_secs(5));
        wire.send(bytes);
        wire.rest();
        assert!(begin.elapsed() < Duration::from_secs(8), "{what}: {:?}", begin.elapsed());
    }
    assert!(site.get("plain.test", "plain.test").is_ok());
    assert!(matches!(site.server.child.try_wait(), Ok(None)));
    assert!(!site.server.log().contains("panic"), "{}", site.server.log());
}

/// Whoever begins with something else than a hello is told by an alert (RFC 8446 §6.2), also where
/// there is more to come: a connection that is closed with unread bytes is reset.
#[test]
fn what_is_no_hello_is_told() {
    const ALERT: [u8; 6] = [21, 3, 3, 0, 2, 2];
    let site = Site::start();
    let too_long = [&[22, 3, 1, 0x40, 0, 1, 1, 0x20, 0][..], &[0; 16_380]].concat();
    for (what, bytes, code) in [
        ("another message", vec![22, 3, 1, 0, 4, 20, 0, 0, 0], 10),
        ("a message of no known type", vec![22, 3, 1, 0, 4, 99, 0, 0, 0], 10),
        ("data", [&[23, 3, 3, 0, 5][..], b"hello"].concat(), 10),
        (
            "data within a hello",
            [&[22, 3, 1, 0, 5, 1, 0, 1, 0, 3], &[23, 3, 3, 0, 1, 0][..]].concat(),
            10,
        ),
        ("empty records", [22, 3, 1, 0, 0].repeat(2000), 50),
        ("a hello that is too long", [too_long, vec![0; 150_000]].concat(), 50),
    ] {
        let mut wire = Wire::connect(site.tls);
        wire.write_limit(Duration::from_secs(5));
        assert!(wire.send(bytes), "{what}");
        let told = wire.take(7);
        assert_eq!(told, [&ALERT[..], &[code]].concat(), "{what}");
        assert_eq!(wire.rest(), b"", "{what}");
    }
}

/// TLS 1.2 lets a client ask for another handshake on a connection; it gets none (CVE-2009-3555,
/// CVE-2011-1473).
#[test]
#[ignore = "needs openssl"]
fn nobody_negotiates_again() {
    let mut site = Site::start();
    let said = site.server.folder.join("said");
    let file = fs::File::create(&said).unwrap();
    let mut client = Command::new("openssl")
        .args(["s_client", "-tls1_2", "-msg", "-servername", "plain.test", "-connect"])
        .arg(format!("127.0.0.1:{}", site.tls))
        .stdin(Stdio::piped())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .expect("openssl is installed (apt-get install openssl)");
    let count = |what: &str| {
        let said = fs::read(&said).unwrap();
        String::from_utf8_lossy(&said).matches(what).count()
    };
    let mut keys = client.stdin.take().unwrap();
    keys.write_all(b"GET / HTTP/1.1\r\nHost: plain.test\r\n\r\n").unwrap();
    eventually("it is answered", || count("HTTP/1.1 200 OK") == 1);
    assert_eq!((count(", ClientHello\n"), count(", ServerHello\n")), (1, 1));
    keys.write_all(b"R\n").unwrap();
    eventually("the client asks for another handshake", || count(", ClientHello\n") == 2);
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end && matches!(client.try_wait(), Ok(None)) {
        assert_eq!(count(", ServerHello\n"), 1, "there is a second handshake");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(count(", ServerHello\n"), 1, "there is a second handshake");
    assert!(site.get("plain.test", "plain.test").is_ok());
    assert!(matches!(site.server.child.try_wait(), Ok(None)));
    let _ = client.kill();
    client.wait().unwrap();
}

#[test]
fn slow_handshakes_are_cut_off() {
    let site = Site::start();
    let whole = proper(&site);
    let begin = Instant::now();
    let idle: Vec<_> = (0..60).map(|_| Wire::connect(site.tls)).collect();
    let mut stopped = Wire::connect(site.tls);
    stopped.send(&whole[..whole.len() / 2]);
    let mut slow = TcpStream::connect(("127.0.0.1", site.tls)).unwrap();
    // Nobody else waits for them.
    assert!(site.get("plain.test", "plain.test").is_ok());
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    slow.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    // The limit is for all of it, not for each byte.
    for byte in &whole {
        let mut one = [0];
        let open = slow.write_all(&[*byte]).is_ok();
        let gone = match slow.read(&mut one) {
            Ok(read) => read == 0 || one == [21],
            Err(error) => !matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ),
        };
        if !open || gone {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    }
    stopped.rest();
    assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", begin.elapsed());
    // Slow heads behind a quick handshake.
    let begin = Instant::now();
    let mut stream = site.connect(site.config(BOTH, None), "plain.test").unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: plain.test\r\nX: ").unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    drop(idle);
}

/// Without its authorities, a site does not start: better than one that lets everybody in.
#[test]
fn verification_without_authorities_is_refused() {
    let folder = scratch();
    fs::write(folder.join("garbage.pem"), "-----BEGIN CERTIFICATE-----\nnot base64\n").unwrap();
    fs::write(folder.join("empty.pem"), "").unwrap();
    let refused = |folder: &Path, pool: &str| {
        let text = format!(
            "{{\n\tadmin off\n\thttp_port {}\n\thttps_port {}\n\tskip_install_trust\n}}\n\
             a.test {{\n\ttls internal {{\n\t\tclient_auth {{\n\t\t\tmode require_and_verify\n\
             \t\t\ttrust_pool {pool}\n\t\t}}\n\t}}\n\trespond secret\n}}\n",
            free_port(),
            free_port()
        );
        fs::write(folder.join("Caddyfile"), text).unwrap();
        let mut child = caddis(folder)
            .args(["run", "--config", "Caddyfile"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return !status.success();
            }
            if Instant::now() > end {
                child.kill().unwrap();
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    for pool in [
        "file missing.pem",
        "file garbage.pem",
        "file empty.pem",
        "inline {\n\t\t\t\ttrust_der \"\"\n\t\t\t}",
    ] {
        assert!(refused(&folder, pool), "{pool}");
    }
    fs::remove_dir_all(folder).unwrap();
}
