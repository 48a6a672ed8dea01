//! Encrypted Client Hello (RFC 9849), with rustls as the client over TCP and QUIC. Browsers have their
//! own test.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    client::{EchConfig, EchMode, EchStatus},
    crypto::aws_lc_rs::{self, hpke},
};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::support::{
    Answer, Server, eventually, free_port,
    quic::{Options, Quic},
    scratch,
};

/// What is sent in clear, and what is not.
const PUBLIC: &str = "public.localhost";
const SECRET: &str = "secret.localhost";

struct Site {
    server: Server,
    tls: u16,
}

impl Site {
    fn start(globals: &str, policy: &str) -> Self {
        Self::start_in(scratch(), free_port(), globals, policy)
    }

    fn start_in(folder: PathBuf, tls: u16, globals: &str, policy: &str) -> Self {
        let server = Server::start_in(folder, &text(tls, globals, policy));
        let site = Self { server, tls };
        eventually("certificates are there", || {
            let made = site.data("certificates/local");
            [PUBLIC, SECRET].iter().all(|name| made.join(name).join(format!("{name}.crt")).exists())
        });
        site
    }

    fn data(&self, path: &str) -> PathBuf {
        self.server.folder.join("data/caddy").join(path)
    }

    /// The configurations in the storage, as a list for clients.
    fn list(&self) -> Vec<u8> {
        let folders = fs::read_dir(self.data("ech/configs")).unwrap();
        let configs: BTreeSet<Vec<u8>> =
            folders.map(|one| fs::read(one.unwrap().path().join("config.bin")).unwrap()).collect();
        list(&configs.into_iter().collect::<Vec<_>>().concat())
    }

    fn client(&self, list: Option<&[u8]>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let root = self.data("pki/authorities/local/root.crt");
        roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = match list {
            Some(list) => {
                let config = EchConfig::new(list.to_vec().into(), hpke::ALL_SUPPORTED_SUITES);
                builder.with_ech(EchMode::Enable(config.unwrap())).unwrap()
            }
            None => builder.with_safe_default_protocol_versions().unwrap(),
        };
        builder.with_root_certificates(roots).with_no_client_auth()
    }

    fn ask(&self, config: &Arc<ClientConfig>, name: &str) -> Result<Asked, String> {
        let name_of = name.to_owned().try_into().unwrap();
        let client = ClientConnection::new(config.clone(), name_of).unwrap();
        let stream = TcpStream::connect(("127.0.0.1", self.tls)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut stream = StreamOwned::new(client, stream);
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let mut raw = Vec::new();
        stream.read_to_end(&mut raw).map_err(|error| error.to_string())?;
        Ok(Asked {
            said: Answer::parse(&raw).body,
            ech: stream.conn.ech_status(),
            kind: stream.conn.handshake_kind().unwrap(),
        })
    }
}

struct Asked {
    said: String,
    ech: EchStatus,
    kind: HandshakeKind,
}

fn list(configs: &[u8]) -> Vec<u8> {
    [&u16::try_from(configs.len()).unwrap().to_be_bytes()[..], configs].concat()
}

fn text(tls: u16, globals: &str, policy: &str) -> String {
    format!(
        "{{\n\tadmin 127.0.0.1:{{admin}}\n\thttp_port {{port}}\n\thttps_port {tls}\n\
         \tskip_install_trust\n\tech {PUBLIC}\n\tlog {{\n\t\tlevel DEBUG\n\t}}\n{globals}}}\n\
         {SECRET} {{\n{policy}\tlog\n\
         \trespond \"{{http.request.tls.ech}} {{http.request.tls.server_name}} \
         {{http.request.proto}}\"\n}}\n"
    )
}

#[test]
fn names_are_hidden_over_tcp() {
    let site = Site::start("", "");
    let config = Arc::new(site.client(Some(&site.list())));
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let asked = site.ask(&config, SECRET).unwrap();
        assert_eq!(asked.said, format!("true {SECRET} HTTP/1.1"));
        assert_eq!((asked.ech, asked.kind), (EchStatus::Accepted, kind));
    }
    // Others go on as ever.
    let asked = site.ask(&Arc::new(site.client(None)), SECRET).unwrap();
    assert_eq!(asked.said, format!("false {SECRET} HTTP/1.1"));
    eventually("both are in the log", || {
        let log = site.server.log();
        log.contains("\"ech\":true") && log.contains("\"ech\":false")
    });
}

#[test]
fn names_are_hidden_over_quic() {
    let site = Site::start("", "");
    let root = site.data("pki/authorities/local/root.crt");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let uri = format!("https://{SECRET}:{}/", site.tls);
        for (ech, want) in [(Some(site.list()), "true"), (None, "false")] {
            let options = Options { ech, ..Options::default() };
            let mut client = Quic::connect_with(site.tls, SECRET, &root, &options).await.unwrap();
            let got = client.get(&uri).await.unwrap();
            assert_eq!(got.text(), format!("{want} {SECRET} HTTP/3.0"));
        }
    });
}

/// A client whose configuration is no more is told the one in use, by the public name's certificate.
#[test]
fn old_keys_are_answered_with_new_ones() {
    let (site, other) = (Site::start("", ""), Site::start("", ""));
    let config = Arc::new(site.client(Some(&other.list())));
    let error = site.ask(&config, SECRET).err().unwrap();
    assert!(error.contains("ServerRejectedEncryptedClientHello(Some("), "{error}");
    let root = site.data("pki/authorities/local/root.crt");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(async {
        let options = Options { ech: Some(other.list()), ..Options::default() };
        Quic::connect_with(site.tls, SECRET, &root, &options).await.err().unwrap()
    });
    assert!(error.contains("ServerRejectedEncryptedClientHello(Some("), "{error}");
    assert!(!site.server.log().contains("panic"));
}

/// Where none of the client's key shares fits, the hello could only be accepted with words that the
/// TLS library does not have: the client is told that nothing is hidden here.
#[test]
fn without_a_key_share_nothing_is_hidden() {
    let site = Site::start("", "\ttls {\n\t\tcurves secp384r1\n\t}\n");
    let config = Arc::new(site.client(Some(&site.list())));
    let error = site.ask(&config, SECRET).err().unwrap();
    assert!(error.contains("ServerRejectedEncryptedClientHello(None)"), "{error}");
    let asked = site.ask(&Arc::new(site.client(None)), SECRET).unwrap();
    assert_eq!(asked.said, format!("false {SECRET} HTTP/1.1"));
}

/// Hellos in pieces, broken ones, and those that hide garbage do no harm.
#[test]
fn broken_hellos_do_no_harm() {
    let mut site = Site::start("", "");
    let config = Arc::new(site.client(Some(&site.list())));
    let hello = || {
        let name = SECRET.try_into().unwrap();
        let mut client = ClientConnection::new(config.clone(), name).unwrap();
        let mut sent = Vec::new();
        client.write_tls(&mut sent).unwrap();
        sent
    };
    let sent = hello();
    let has = |name: &str| sent.windows(name.len()).any(|part| part == name.as_bytes());
    assert!(has(PUBLIC) && !has(SECRET));
    let answer = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", site.tls)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut first = [0];
        stream.read(&mut first).map(|read| (read == 1).then_some(first[0]))
    };
    assert_eq!(answer(&sent).unwrap(), Some(22), "a handshake goes on");
    let pieces: Vec<u8> = sent[5..]
        .chunks(7)
        .flat_map(|piece| [&[22, 3, 1, 0, u8::try_from(piece.len()).unwrap()], piece].concat())
        .collect();
    assert_eq!(answer(&pieces).unwrap(), Some(22));
    for end in (1..sent.len()).step_by(37) {
        let _ = answer(&sent[..end]);
        let mut changed = hello();
        changed[end] ^= 0x55;
        let _ = answer(&changed);
    }
    let asked = site.ask(&config, SECRET).unwrap();
    assert_eq!(asked.ech, EchStatus::Accepted);
    assert!(matches!(site.server.child.try_wait(), Ok(None)));
    assert!(!site.server.log().contains("panic"), "{}", site.server.log());
}
