//! Sockets that were opened by whoever started the program (`fd/3`), as systemd does for socket
//! units (`sd_listen_fds(3)`): `LISTEN_FDS` says how many there are, from descriptor 3 on, and
//! `LISTEN_PID` for whom.
//!
//! A socket is kept for the life of the process: a reload that takes its listener away closes no
//! socket that one to come could not open again.

use std::{
    collections::HashMap,
    io,
    net::TcpListener,
    os::unix::net::UnixListener,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use caddis_config::NetworkAddress;
use listenfd::ListenFd;
use socket2::{SockRef, TcpKeepalive};

use crate::listen::BoundSocket;

/// The first descriptor that is passed.
const FIRST: usize = 3;

static SOCKETS: Mutex<Option<Sockets>> = Mutex::new(None);

struct Sockets {
    given: ListenFd,
    taken: HashMap<usize, Socket>,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Duplicates of the socket at a descriptor, one for each worker.
///
/// # Errors
/// The address names no descriptor that was passed to this process, or one that does not listen.
pub(crate) fn listener(
    address: &NetworkAddress,
    workers: usize,
    keepalive: Option<(Duration, Duration)>,
) -> io::Result<BoundSocket> {
    let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidInput, message);
    if address.is_datagram() {
        return Err(invalid(format!("descriptors of datagrams ({address}) are not supported yet")));
    }
    let number: usize = address
        .host
        .parse()
        .map_err(|_| invalid(format!("'{}' is no number of a descriptor", address.host)))?;
    let mut sockets = SOCKETS.lock().unwrap_or_else(PoisonError::into_inner);
    let sockets = sockets
        .get_or_insert_with(|| Sockets { given: ListenFd::from_env(), taken: HashMap::new() });
    if !sockets.taken.contains_key(&number) {
        let found = take(&mut sockets.given, number)?.ok_or_else(|| {
            let message = format!(
                "descriptor {number} was not passed to this process; LISTEN_PID and LISTEN_FDS say which were"
            );
            io::Error::new(io::ErrorKind::NotFound, message)
        })?;
        sockets.taken.insert(number, found);
    }
    match sockets.taken.get(&number) {
        Some(Socket::Tcp(socket)) => {
            socket.set_nonblocking(true)?;
            let settings = SockRef::from(socket);
            settings.set_tcp_nodelay(true)?;
            if let Some((idle, interval)) = keepalive {
                let keepalive = TcpKeepalive::new().with_time(idle).with_interval(interval);
                settings.set_tcp_keepalive(&keepalive)?;
            }
            let each = (0..workers).map(|_| socket.try_clone()).collect::<io::Result<_>>()?;
            Ok(BoundSocket::Tcp(each, socket.local_addr()?.port()))
        }
        Some(Socket::Unix(socket)) => {
            socket.set_nonblocking(true)?;
            Ok(BoundSocket::Unix(socket.try_clone()?))
        }
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

/// The socket at a descriptor, whichever of the two kinds it is.
fn take(given: &mut ListenFd, number: usize) -> io::Result<Option<Socket>> {
    let Some(at) = number.checked_sub(FIRST) else { return Ok(None) };
    match given.take_tcp_listener(at) {
        Ok(socket) => Ok(socket.map(Socket::Tcp)),
        Err(tcp) => match given.take_unix_listener(at) {
            Ok(socket) => Ok(socket.map(Socket::Unix)),
            Err(_) => Err(tcp),
        },
    }
}
