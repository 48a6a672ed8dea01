//! Sockets, by address, and what serves their connections now.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{OwnedFd, RawFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use caddis_config::NetworkAddress;
use caddis_core::error::plain;
use caddis_plan::Protocols;
use filedescriptor::FileDescriptor;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::server::ServerRuntime;

/// A listening address; it outlives the generations that serve it.
pub(crate) struct Listener {
    pub(crate) address: NetworkAddress,
    /// The TCP port in use, where there is one.
    pub(crate) port: Option<u16>,
    binding: ArcSwap<Binding>,
    /// Cancelled when the socket is to close.
    pub(crate) closed: CancellationToken,
}

/// What serves a listener's connections in the current generation.
pub(crate) struct Binding {
    pub(crate) server: Arc<ServerRuntime>,
    pub(crate) tls: bool,
    pub(crate) protocols: Protocols,
    /// Begun when connections accepted under this binding are to finish.
    pub(crate) drain: Arc<Drain>,
}

/// The order to finish: a flag that is cheap to look at, and a token to wait for.
#[derive(Default)]
pub(crate) struct Drain {
    begun: AtomicBool,
    token: CancellationToken,
}

impl Drain {
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
        self.token.cancel();
    }

    pub(crate) fn is_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Ready when it begins.
    pub(crate) fn wait(&self) -> WaitForCancellationFutureOwned {
        self.token.clone().cancelled_owned()
    }
}

impl Listener {
    pub(crate) fn new(address: NetworkAddress, port: Option<u16>, binding: Binding) -> Self {
        let binding = ArcSwap::from_pointee(binding);
        Self { address, port, binding, closed: CancellationToken::new() }
    }

    pub(crate) fn binding(&self) -> Arc<Binding> {
        self.binding.load_full()
    }

    /// The server that answers the next request.
    pub(crate) fn server(&self) -> Arc<ServerRuntime> {
        self.binding.load().server.clone()
    }

    /// Puts a new generation's binding in place. Connections whose own facts changed (TLS,
    /// protocols) are told to finish; the others go on and meet the new server.
    pub(crate) fn rebind(&self, mut binding: Binding) {
        let old = self.binding();
        let same = old.tls == binding.tls
            && old.protocols == binding.protocols
            && old.server.connection_fingerprint == binding.server.connection_fingerprint;
        if same {
            binding.drain = old.drain.clone();
        }
        self.binding.store(Arc::new(binding));
        if !same {
            old.drain.begin();
        }
    }
}

/// A bound socket.
pub(crate) enum BoundSocket {
    /// TCP: one socket per worker, on one address; and its port.
    Tcp(Vec<std::net::TcpListener>, u16),
    /// Unix: one socket, shared by duplicates of its descriptor.
    Unix(std::os::unix::net::UnixListener),
    /// None: connections come by QUIC alone.
    Datagrams,
}

impl BoundSocket {
    /// The TCP port, where there is one.
    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(_, port) => Some(*port),
            Self::Unix(_) | Self::Datagrams => None,
        }
    }
}

/// Which socket an address means. The permissions of a unix socket are a property of its file: they
/// change while it stays.
pub(crate) fn place(address: &NetworkAddress) -> String {
    match address.unix_path_and_mode() {
        Ok((path, _)) if address.is_unix() => format!("{}/{path}", address.network),
        _ => address.to_string(),
    }
}

/// Gives the file of a unix socket that stays the permissions of this address.
pub(crate) fn set_mode(address: &NetworkAddress) {
    use std::os::unix::fs::PermissionsExt;
    let Ok((path, mode)) = address.unix_path_and_mode() else { return };
    if !address.is_unix() || path.starts_with('@') {
        return;
    }
    if let Err(error) = std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)) {
        tracing::error!(target: "http", %error, path, "the socket keeps its permissions");
    }
}

/// Removes the file of a unix socket that is closed.
pub(crate) fn remove(address: &NetworkAddress) {
    if address.is_unix()
        && let Ok((path, _)) = address.unix_path_and_mode()
        && !path.starts_with('@')
    {
        // It may be gone already.
        let _ = std::fs::remove_file(path);
    }
}

/// Binds an address for so many workers.
pub(crate) fn bind(
    address: &NetworkAddress,
    workers: usize,
    keepalive: Option<(Duration, Duration)>,
) -> io::Result<BoundSocket> {
    if address.is_unix() {
        return bind_unix(address);
    }
    if address.is_fd() {
        return bind_fd(address, workers);
    }
    if address.is_datagram() {
        return Ok(BoundSocket::Datagrams);
    }
    if !matches!(address.network.as_str(), "tcp" | "tcp4" | "tcp6") {
        let text = format!("unknown network {}", address.network);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let (sockets, port) = bind_each(address, address.start_port, workers, |at, address| {
        bind_tcp(at, address, keepalive)
    })?;
    Ok(BoundSocket::Tcp(sockets, port))
}

/// Binds one socket for each worker, all on one address; also gives the port.
pub(crate) fn bind_each<S: From<Socket>>(
    address: &NetworkAddress,
    port: u16,
    workers: usize,
    bind: impl Fn(SocketAddr, &NetworkAddress) -> io::Result<Socket>,
) -> io::Result<(Vec<S>, u16)> {
    let mut at = resolve(address)?;
    at.set_port(port);
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = match bind(at, address) {
            // A machine without IPv6 listens on IPv4 alone.
            Err(error) if at.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && no_ipv6(&error) => {
                at = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), at.port());
                bind(at, address)?
            }
            other => other?,
        };
        // Port 0 means any free port; all workers share the one the first got.
        at = socket.local_addr()?.as_socket().unwrap_or(at);
        sockets.push(socket.into());
    }
    Ok((sockets, at.port()))
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn resolve(address: &NetworkAddress) -> io::Result<SocketAddr> {
    let port = address.start_port;
    if address.host.is_empty() {
        let ip: IpAddr = match address.network.as_str() {
            "tcp4" | "udp4" => Ipv4Addr::UNSPECIFIED.into(),
            _ => Ipv6Addr::UNSPECIFIED.into(),
        };
        return Ok(SocketAddr::new(ip, port));
    }
    if let Some(ip) = address.ip() {
        return Ok(SocketAddr::new(ip, port));
    }
    use std::net::ToSocketAddrs;
    let all: Vec<SocketAddr> = (address.host.as_str(), port).to_socket_addrs()?.collect();
    // As Go does for a listener's host name: IPv4 first.
    all.iter().find(|at| at.is_ipv4()).or(all.first()).copied().ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("lookup {}: no such host", address.host))
    })
}

fn bind_tcp(
    at: SocketAddr,
    address: &NetworkAddress,
    keepalive: Option<(Duration, Duration)>,
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
    set_families(&socket, at, address)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some((idle, interval)) = keepalive {
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval))?;
    }
    socket.bind(&at.into())?;
    socket.listen(4096)?;
    Ok(socket)
}

/// Whether another process has a socket on this TCP address and shares it (`SO_REUSEPORT`, as all
/// servers of one user do): two servers then run side by side, which is rarely meant. To be asked
/// before [`bind`]; what is wrong with the address is told there.
pub(crate) fn is_shared(address: &NetworkAddress) -> bool {
    // A name that has to be asked for may take its time, and is asked for once.
    let is_here = address.host.is_empty() || address.host == "localhost" || address.ip().is_some();
    if !address.network.starts_with("tcp") || address.start_port == 0 || !is_here {
        return false;
    }
    let try_bind = |share: bool| -> io::Result<()> {
        let at = resolve(address)?;
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
        set_families(&socket, at, address)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(share)?;
        socket.bind(&at.into())
    };
    let in_use = |error: io::Error| error.kind() == io::ErrorKind::AddrInUse;
    try_bind(false).is_err_and(in_use) && try_bind(true).is_ok()
}

/// Why an address could not be bound, and what to do about it.
pub(crate) fn why_not(address: &NetworkAddress, error: &io::Error) -> String {
    let why = plain(error);
    if !address.network.starts_with("tcp") {
        return why;
    }
    let port = address.start_port;
    match error.kind() {
        io::ErrorKind::PermissionDenied if port < 1024 => format!(
            "{why} (low ports take root or the capability CAP_NET_BIND_SERVICE; `http_port` and \
             `https_port` choose others)"
        ),
        io::ErrorKind::AddrInUse => {
            format!("{why} (`ss -ltnp 'sport = :{port}'` tells which program listens there)")
        }
        io::ErrorKind::AddrNotAvailable => format!("{why} (no interface has this address)"),
        _ => why,
    }
}

/// Bytes of datagrams that may wait in the kernel; it gives less where its own limit is lower.
const UDP_BUFFER: usize = 4 << 20;

pub(crate) fn bind_udp(at: SocketAddr, address: &NetworkAddress) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
    set_families(&socket, at, address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Bursts are lost where it is small, which costs speed and nothing else.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER);
    let _ = socket.set_send_buffer_size(UDP_BUFFER);
    socket.bind(&at.into())?;
    Ok(socket)
}

/// `[::]` takes both families, unless the network says `tcp6` or `udp6`.
fn set_families(socket: &Socket, at: SocketAddr, address: &NetworkAddress) -> io::Result<()> {
    if at.is_ipv6() {
        socket.set_only_v6(address.network.ends_with('6') || !at.ip().is_unspecified())?;
    }
    Ok(())
}

/// Takes a listening socket that was inherited (`fd/3`), for example from systemd. It is a
/// duplicate, so the descriptor itself stays for a config that names it again.
fn bind_fd(address: &NetworkAddress, workers: usize) -> io::Result<BoundSocket> {
    let socket = inherited(address)?;
    if address.is_datagram() {
        return Ok(BoundSocket::Datagrams);
    }
    if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
        return Err(wrong_descriptor(address, "is not a listening stream socket"));
    }
    socket.set_nonblocking(true)?;
    if socket.domain()? == Domain::UNIX {
        return Ok(BoundSocket::Unix(socket.into()));
    }
    socket.set_tcp_nodelay(true)?;
    let port = socket.local_addr()?.as_socket().map_or(0, |at| at.port());
    let mut sockets = Vec::with_capacity(workers);
    for _ in 1..workers {
        sockets.push(socket.try_clone()?.into());
    }
    sockets.push(socket.into());
    Ok(BoundSocket::Tcp(sockets, port))
}

/// Takes a UDP socket that was inherited (`fdgram/4`); also gives its port.
pub(crate) fn inherited_udp(address: &NetworkAddress) -> io::Result<(std::net::UdpSocket, u16)> {
    let socket = inherited(address)?;
    let port = socket.local_addr()?.as_socket().map(|at| at.port());
    match (socket.r#type()?, port) {
        (Type::DGRAM, Some(port)) => {
            socket.set_nonblocking(true)?;
            Ok((socket.into(), port))
        }
        _ => Err(wrong_descriptor(address, "is not a bound UDP socket")),
    }
}

/// A duplicate of the descriptor that `fd/…` or `fdgram/…` names.
fn inherited(address: &NetworkAddress) -> io::Result<Socket> {
    let number = descriptor(&address.host).map_err(|message| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("invalid file descriptor: {message}"))
    })?;
    let file = FileDescriptor::dup(&number)
        .and_then(|own| own.as_file())
        .map_err(|_| wrong_descriptor(address, "is not open"))?;
    let socket = Socket::from(OwnedFd::from(file));
    match socket.r#type() {
        Ok(_) => Ok(socket),
        Err(_) => Err(wrong_descriptor(address, "is not a socket")),
    }
}

fn wrong_descriptor(address: &NetworkAddress, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("invalid socket file descriptor: {}: it {what}", address.host),
    )
}

/// The number, in any of the bases that Go's `strconv.ParseUint` knows by their prefix.
fn descriptor(text: &str) -> Result<RawFd, String> {
    let wrong = |why| format!("strconv.ParseUint: parsing {text:?}: {why}");
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (&*lower, 10),
    };
    if digits.is_empty() || !digits.chars().all(|char| char.is_digit(radix)) {
        return Err(wrong("invalid syntax"));
    }
    RawFd::from_str_radix(digits, radix).map_err(|_| wrong("value out of range"))
}

fn bind_unix(address: &NetworkAddress) -> io::Result<BoundSocket> {
    use std::os::{
        linux::net::SocketAddrExt,
        unix::fs::{FileTypeExt, PermissionsExt},
    };
    let (path, mode) = address
        .unix_path_and_mode()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    if let Some(name) = path.strip_prefix('@') {
        // Without a file, so without permissions and nothing to remove.
        let at = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
        let listener = std::os::unix::net::UnixListener::bind_addr(&at)?;
        listener.set_nonblocking(true)?;
        return Ok(BoundSocket::Unix(listener));
    }
    if let Ok(found) = std::fs::metadata(path) {
        // A path with a mistake in it must not cost a file.
        if !found.file_type().is_socket() {
            let text = format!("{path} exists and is no socket");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        // A socket that somebody listens on is not ours to take; a left-over one is.
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    Ok(BoundSocket::Unix(listener))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn fd(network: &str, host: impl ToString) -> NetworkAddress {
        let (network, host) = (network.into(), host.to_string());
        NetworkAddress { network, host, ..NetworkAddress::default() }
    }

    #[test]
    fn numbers_of_descriptors() {
        for (text, want) in [("3", 3), ("0x1F", 31), ("010", 8), ("0o11", 9), ("0b11", 3)] {
            assert_eq!(descriptor(text), Ok(want), "{text}");
        }
        for text in ["", "x", "-1", "0x", "99999999999", "3 "] {
            assert!(descriptor(text).is_err(), "{text}");
        }
    }

    #[test]
    fn takes_inherited_sockets() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = tcp.local_addr().expect("bound").port();
        match bind(&fd("fd", tcp.as_raw_fd()), 2, None) {
            Ok(BoundSocket::Tcp(sockets, at)) => assert_eq!((sockets.len(), at), (2, port)),
            _ => panic!("not taken"),
        }
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("bind");
        assert!(inherited_udp(&fd("fdgram", udp.as_raw_fd())).is_ok());
        assert!(inherited_udp(&fd("fdgram", tcp.as_raw_fd())).is_err());
        let file = std::fs::File::open("/dev/null").expect("open");
        for (address, part) in [
            (fd("fd", udp.as_raw_fd()), "is not a listening stream socket"),
            (fd("fd", file.as_raw_fd()), "is not a socket"),
            (fd("fd", 100_000), "is not open"),
            (fd("fd", "x"), "invalid file descriptor: strconv.ParseUint"),
            (fd("foo", "127.0.0.1"), "unknown network foo"),
        ] {
            let error = bind(&address, 1, None).err().map(|error| error.to_string());
            assert!(error.as_ref().is_some_and(|error| error.contains(part)), "{error:?}");
        }
    }
}
