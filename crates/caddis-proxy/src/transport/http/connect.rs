//! New connections: TCP and unix sockets, both address families, PROXY header, TLS.

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use futures_util::future::{Either, select};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream, UnixSocket},
    time::timeout,
};

use super::{proxy_protocol, stream::Carrier};
use crate::{dns::Resolver, transport::Failure, upstream::Address};

/// How connections are made.
#[derive(Debug, Clone)]
pub(crate) struct DialSettings {
    /// Time for the whole attempt.
    pub(crate) timeout: Duration,
    /// When the other address family is tried as well; `None` for never.
    pub(crate) fallback_delay: Option<Duration>,
    /// Source address.
    pub(crate) local: Option<LocalAddress>,
    /// Time between TCP keepalive probes; `None` for none.
    pub(crate) probe_interval: Option<Duration>,
    /// Who is asked for the addresses of names; the system's resolver if `None`.
    pub(crate) resolver: Option<Resolver>,
}

/// Where connections come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LocalAddress {
    /// An address; any port if 0.
    Ip(IpAddr, u16),
    /// A port of any address.
    Any(u16),
    /// An address of a name, looked up for each connection, of one family where that is said.
    Name { host: String, port: u16, six: Option<bool> },
    /// A unix socket. Its file must not exist; so, as in Caddy, there is one connection at a time,
    /// and whoever removes the file makes room for the next.
    Unix(PathBuf),
    /// One of another kind, from which no connection comes.
    UnixDatagram(PathBuf),
}

impl LocalAddress {
    /// The address to connect to `remote` from.
    pub(super) async fn towards(&self, remote: SocketAddr) -> io::Result<SocketAddr> {
        let (ip, port) = match self {
            Self::Ip(ip, port) => (*ip, *port),
            Self::Any(port) if remote.is_ipv4() => (Ipv4Addr::UNSPECIFIED.into(), *port),
            Self::Any(port) => (Ipv6Addr::UNSPECIFIED.into(), *port),
            Self::Name { host, port, six } => {
                let found = resolve(host, *port).await?;
                let suits = |found: &&SocketAddr| {
                    found.is_ipv6() == remote.is_ipv6()
                        && six.is_none_or(|six| found.is_ipv6() == six)
                };
                let found = found.iter().find(suits).ok_or_else(|| {
                    io::Error::other(format!("address {host}: no suitable address found"))
                })?;
                (found.ip(), *port)
            }
            Self::Unix(path) | Self::UnixDatagram(path) => return Err(mismatched(path.display())),
        };
        if ip.is_ipv4() != remote.is_ipv4() {
            return Err(mismatched(ip));
        }
        Ok(SocketAddr::new(ip, port))
    }
}

fn mismatched(address: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("address {address}: mismatched local address type"))
}

/// Connects to an address.
pub(crate) async fn dial(
    address: &Address,
    settings: &DialSettings,
    proxy: Option<&proxy_protocol::Header>,
) -> Result<Carrier, Failure> {
    dial_or(address, settings, proxy, || false).await
}

/// The same; where the process has too many files open, `make_room` may close some (and tell that
/// it did) for one more try.
pub(crate) async fn dial_or(
    address: &Address,
    settings: &DialSettings,
    proxy: Option<&proxy_protocol::Header>,
    make_room: impl FnOnce() -> bool,
) -> Result<Carrier, Failure> {
    let wrong = |error: &io::Error| {
        Failure::dial(&format!("{} {}", address.network, address.host_port), error)
    };
    let attempt = async {
        let mut carrier = match connect(address, settings).await {
            Err(error) if is_out_of_files(&error) && make_room() => {
                connect(address, settings).await?
            }
            connected => connected?,
        };
        if let Some(header) = proxy {
            carrier.write_all(&header.bytes()).await?;
        }
        io::Result::Ok(carrier)
    };
    match timeout(settings.timeout, attempt).await {
        Ok(Ok(carrier)) => Ok(carrier),
        Ok(Err(error)) => Err(wrong(&error)),
        Err(_) => Err(wrong(&io::ErrorKind::TimedOut.into())),
    }
}

/// Whether the process, or the system, has as many files open as it may.
fn is_out_of_files(error: &io::Error) -> bool {
    // EMFILE and ENFILE, which have no kind of their own.
    matches!(error.raw_os_error(), Some(23 | 24))
}

async fn connect(address: &Address, settings: &DialSettings) -> io::Result<Carrier> {
    if address.is_unix() {
        if address.network != "unix" {
            return Err(unsupported(&address.network));
        }
        let socket = UnixSocket::new_stream()?;
        match &settings.local {
            None => {}
            Some(LocalAddress::Unix(path)) => socket.bind(path)?,
            Some(LocalAddress::UnixDatagram(path)) => return Err(mismatched(path.display())),
            Some(LocalAddress::Ip(ip, port)) => {
                return Err(mismatched(SocketAddr::new(*ip, *port)));
            }
            Some(LocalAddress::Any(port)) => return Err(mismatched(format_args!(":{port}"))),
            Some(LocalAddress::Name { host, .. }) => return Err(mismatched(host)),
        }
        return socket.connect(Path::new(&address.host)).await.map(Carrier::Unix);
    }
    let found = addresses(address, settings).await?;
    let stream = connect_any(found, settings.fallback_delay, async |address| {
        connect_to(address, settings).await
    })
    .await?;
    stream.set_nodelay(true)?;
    if let Some(interval) = settings.probe_interval {
        let keepalive = socket2::TcpKeepalive::new().with_time(interval).with_interval(interval);
        // Probes are a help, not a condition.
        let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    }
    Ok(Carrier::Tcp(stream))
}

/// The socket addresses that an address stands for, never none.
pub(super) async fn addresses(
    address: &Address,
    settings: &DialSettings,
) -> io::Result<Vec<SocketAddr>> {
    let family = match address.network.as_str() {
        "tcp" => None,
        "tcp4" => Some(false),
        "tcp6" => Some(true),
        other => return Err(unsupported(other)),
    };
    if let Some(ip) = address.ip {
        return Ok(vec![SocketAddr::new(ip, address.port)]);
    }
    let mut found = match &settings.resolver {
        Some(resolver) => ask(resolver, &address.host, address.port).await?,
        None => resolve(&address.host, address.port).await?,
    };
    if let Some(six) = family {
        found.retain(|address| address.is_ipv6() == six);
    }
    if found.is_empty() {
        return Err(io::Error::other(format!("lookup {}: no suitable address", address.host)));
    }
    Ok(found)
}

fn unsupported(network: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("unknown network {network}"))
}

/// The addresses of a name from DNS servers of the config; this machine's own name needs none.
async fn ask(resolver: &Resolver, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host.is_empty() || host == "localhost" {
        return resolve("", port).await;
    }
    let found = resolver.addresses(host, true, true).await.map_err(io::Error::other)?;
    Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
}

async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host.is_empty() {
        // An empty host is this machine.
        return Ok(vec![
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        ]);
    }
    if is_number(host) {
        return Err(io::Error::other(format!("lookup {host}: no such host")));
    }
    let found: Vec<_> = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("lookup {host}: no such host")))?
        .collect();
    if found.is_empty() {
        return Err(io::Error::other(format!("lookup {host}: no such host")));
    }
    Ok(found)
}

/// Whether the system would take a name for an IPv4 address in one of C's ways to write it (`127.1`,
/// `0x7f000001`). Go takes none of them, so that rules about addresses in requests need not know
/// them either.
pub(crate) fn is_number(host: &str) -> bool {
    host.parse::<Ipv4Addr>().is_err()
        && host.split('.').all(|part| {
            let hexadecimal = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X"));
            match hexadecimal {
                Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
                None => !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()),
            }
        })
}

/// Tries the addresses of the first one's family in turn; after a delay the other family's beside.
pub(super) async fn connect_any<T>(
    found: Vec<SocketAddr>,
    fallback_delay: Option<Duration>,
    attempt: impl AsyncFn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let six = found.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|address| address.is_ipv6() == six);
    let Some(delay) = fallback_delay.filter(|_| !second.is_empty()) else {
        let all: Vec<_> = first.into_iter().chain(second).collect();
        return connect_each(&all, &attempt).await;
    };
    let primary = pin!(connect_each(&first, &attempt));
    let primary = match select(primary, pin!(tokio::time::sleep(delay))).await {
        Either::Left((Ok(made), _)) => return Ok(made),
        Either::Left((Err(_), _)) => return connect_each(&second, &attempt).await,
        Either::Right(((), primary)) => primary,
    };
    either(primary, pin!(connect_each(&second, &attempt))).await
}

/// The first that succeeds, else the last error.
async fn either<T, A, B>(one: A, other: B) -> io::Result<T>
where
    A: Future<Output = io::Result<T>> + Unpin,
    B: Future<Output = io::Result<T>> + Unpin,
{
    match select(one, other).await {
        Either::Left((Ok(made), _)) | Either::Right((Ok(made), _)) => Ok(made),
        Either::Left((Err(_), other)) => other.await,
        Either::Right((Err(_), one)) => one.await,
    }
}

async fn connect_each<T>(
    all: &[SocketAddr],
    attempt: &impl AsyncFn(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut failed = io::Error::other("no addresses");
    for address in all {
        match attempt(*address).await {
            Ok(made) => return Ok(made),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

async fn connect_to(address: SocketAddr, settings: &DialSettings) -> io::Result<TcpStream> {
    let Some(local) = &settings.local else { return TcpStream::connect(address).await };
    let local = local.towards(address).await?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(local)?;
    socket.connect(address).await
}

#[cfg(test)]
mod tests {
    use super::is_number;

    #[test]
    fn numbers_are_no_names() {
        for host in ["127.1", "2130706433", "0x7f.1", "0X7F000001", "0177.0.0.1", "010.8.8.8"] {
            assert!(is_number(host), "{host}");
        }
        for host in ["127.0.0.1", "web.1", "1.web", "localhost", "0xylo.test", "1a", "a", "1.", ""]
        {
            assert!(!is_number(host), "{host}");
        }
    }
}
