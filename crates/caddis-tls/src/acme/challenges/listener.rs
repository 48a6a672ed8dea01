//! A listener of the challenge's own, open while nothing else of ours listens on its port (T073).

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::server::Acceptor;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tokio_rustls::LazyConfigAcceptor;

use super::{Challenges, is_challenge_hello};

const CONNECTION_LIMIT: Duration = Duration::from_secs(10);
const MAX_HEAD: usize = 8 * 1024;

/// Address and kind of a listener.
type Place = (SocketAddr, bool);

/// The open listeners with the number of challenges that use them.
#[derive(Default)]
pub(super) struct Listeners(Mutex<HashMap<Place, (usize, AbortHandle)>>);

/// A challenge's use of a listener.
pub(super) struct InUse {
    challenges: Arc<Challenges>,
    place: Place,
}

impl Challenges {
    /// Opens a listener, or joins the one that is open. None where the port is taken: then whoever
    /// has it is expected to answer.
    pub(super) fn listen(self: &Arc<Self>, host: &str, port: u16, tls: bool) -> Option<InUse> {
        let address = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, port),
            Err(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port),
        };
        let place = (address, tls);
        let mut open = self.listeners.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((users, _)) = open.get_mut(&place) {
            *users += 1;
            return Some(InUse { challenges: self.clone(), place });
        }
        match bind(address) {
            Ok(listener) => {
                let this = Arc::downgrade(self);
                let task = tokio::spawn(async move {
                    loop {
                        let Ok((stream, _)) = listener.accept().await else {
                            tokio::time::sleep(Duration::from_millis(50)).await;
                            continue;
                        };
                        let Some(this) = this.upgrade() else { return };
                        tokio::spawn(async move {
                            let answered = tokio::time::timeout(CONNECTION_LIMIT, async {
                                if tls {
                                    answer_tls(&this, stream).await
                                } else {
                                    answer_http(&this, stream).await
                                }
                            });
                            // A client that breaks off has nothing to be told.
                            let _ = answered.await;
                        });
                    }
                });
                open.insert(place, (1, task.abort_handle()));
                Some(InUse { challenges: self.clone(), place })
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
            Err(error) => {
                tracing::warn!(
                    target: "tls.issuance.acme",
                    %address,
                    %error,
                    "could not start listener for challenge server"
                );
                None
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = std::net::TcpListener::bind(address).or_else(|error| {
        let any = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        if error.kind() == io::ErrorKind::AddrInUse || !any {
            return Err(error);
        }
        // A machine without IPv6.
        std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port()))
    })?;
    bound.set_nonblocking(true)?;
    TcpListener::from_std(bound)
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut open = self.challenges.listeners.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((users, task)) = open.get_mut(&self.place) {
            *users -= 1;
            if *users == 0 {
                task.abort();
                open.remove(&self.place);
            }
        }
    }
}

async fn answer_http(challenges: &Challenges, mut stream: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if head.len() > MAX_HEAD || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let text = String::from_utf8_lossy(&head);
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let host = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("host"))
        .map(|(_, value)| value.trim())
        .unwrap_or_default();
    let (host, _) = caddis_core::exchange::split_host_port(host);
    let answer = match method {
        "GET" => challenges.http_answer(host, path).await,
        _ => None,
    };
    let (status, body) = match answer {
        Some(answer) => ("200 OK", answer),
        None => ("404 Not Found", String::new()),
    };
    let length = body.len();
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

async fn answer_tls(challenges: &Challenges, stream: TcpStream) -> io::Result<()> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let Some(name) = is_challenge_hello(&start.client_hello()) else { return Ok(()) };
    let Some(config) = challenges.tls_answer(&name).await else { return Ok(()) };
    let mut stream = start.into_stream(config).await?;
    stream.shutdown().await
}
