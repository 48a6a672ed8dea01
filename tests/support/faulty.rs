//! An authority with faults: stands before pebble, under its certificate, and answers some requests
//! itself. The `Host` of a request is passed on, since pebble makes its URLs from it.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::{
    ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned, crypto::aws_lc_rs,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

use super::Pebble;

/// What happens to a request, by its path.
pub enum Fault {
    /// It passes.
    None,
    /// This answer is given instead: the head without its end, and the body.
    Answer(String, String),
    /// It passes, but late.
    Late(Duration),
    /// It passes, and the connection ends without an answer.
    Lost,
    /// It passes when no other such one is under way. Pebble's orders need that where there are many
    /// at a time: two of them may wait for each other for ever, and all else with them (lock order in
    /// `FindValidAuthorization` of 2.4).
    Alone,
}

/// Says what happens to a request.
pub type Faults = Arc<dyn Fn(&str) -> Fault + Send + Sync>;

/// A running front; it lives as long as the process.
pub struct Faulty {
    pub port: u16,
    sent: Sent,
}

/// Paths and bodies of requests.
type Sent = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

impl Faulty {
    /// Starts it before an authority.
    pub fn start(pebble: &Pebble, faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Arc::new(server_config(&pebble.folder));
        let client = Arc::new(client_config(&pebble.folder));
        let behind = pebble.directory();
        let behind = behind.trim_start_matches("https://").trim_end_matches("/dir").to_owned();
        let turn = Arc::new(Mutex::new(()));
        let sent = Sent::default();
        let seen = sent.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (server, client) = (server.clone(), client.clone());
                let (behind, faults, turn) = (behind.clone(), faults.clone(), turn.clone());
                let seen = seen.clone();
                // A peer that goes away ends its connection and nothing else.
                std::thread::spawn(move || {
                    serve(stream, server, client, &behind, &faults, (&turn, &seen))
                });
            }
        });
        Self { port, sent }
    }

    /// Starts one that only keeps orders apart.
    pub fn orders_in_turn(pebble: &Pebble) -> Self {
        let alone = |path: &str| if path == "/order-plz" { Fault::Alone } else { Fault::None };
        Self::start(pebble, Arc::new(alone))
    }

    /// The signing requests that it was sent, DER (RFC 8555 §7.4).
    pub fn requests(&self) -> Vec<Vec<u8>> {
        let sent = self.sent.lock().unwrap();
        let orders = sent.iter().filter(|(path, _)| path.starts_with("/finalize-order/"));
        orders
            .map(|(_, body)| {
                let field = |json: &[u8], name: &str| {
                    let json: serde_json::Value = serde_json::from_slice(json).unwrap();
                    URL_SAFE_NO_PAD.decode(json[name].as_str().unwrap()).unwrap()
                };
                field(&field(body, "payload"), "csr")
            })
            .collect()
    }

    pub fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }
}

/// One request per connection.
fn serve(
    stream: TcpStream,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    behind: &str,
    faults: &Faults,
    (turn, seen): (&Mutex<()>, &Sent),
) -> Option<()> {
    let mut stream = StreamOwned::new(ServerConnection::new(server).ok()?, stream);
    let (head, body) = message(&mut stream)?;
    let path = head.split(' ').nth(1)?.to_owned();
    seen.lock().ok()?.push((path.clone(), body.clone()));
    let answer = match faults(&path) {
        Fault::Answer(head, body) => {
            let length = body.len();
            format!(
                "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
            .into_bytes()
        }
        fault => {
            if let Fault::Late(time) = fault {
                std::thread::sleep(time);
            }
            let alone = matches!(fault, Fault::Alone);
            let turn = alone.then(|| turn.lock().unwrap_or_else(PoisonError::into_inner));
            let name = ServerName::try_from("127.0.0.1").ok()?;
            let tcp = TcpStream::connect(behind).ok()?;
            let mut up = StreamOwned::new(ClientConnection::new(client, name).ok()?, tcp);
            let (line, fields) = head.split_once("\r\n")?;
            let request = format!("{line}\r\nConnection: close\r\n{fields}\r\n\r\n");
            up.write_all(request.as_bytes()).ok()?;
            up.write_all(&body).ok()?;
            let mut answer = Vec::new();
            // The end may come without a goodbye.
            let _ = up.read_to_end(&mut answer);
            drop(turn);
            if matches!(fault, Fault::Lost) {
                return None;
            }
            answer
        }
    };
    stream.write_all(&answer).ok()?;
    stream.conn.send_close_notify();
    stream.flush().ok()
}

/// A head and as much of a body as it tells of.
fn message(stream: &mut impl Read) -> Option<(String, Vec<u8>)> {
    let mut read = Vec::new();
    let end = loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        read.extend_from_slice(&buffer[..count]);
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = read.split_off(end + 4);
    while body.len() < length.unwrap_or(0) {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        body.extend_from_slice(&buffer[..count]);
    }
    Some((head, body))
}

fn server_config(folder: &Path) -> ServerConfig {
    let chain = CertificateDer::from_pem_file(folder.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem")).unwrap();
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .unwrap()
}

fn client_config(folder: &Path) -> ClientConfig {
    let pem = fs::read(folder.join("ca.pem")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}
