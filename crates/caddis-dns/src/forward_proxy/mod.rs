//! Forward proxies on the way to a server: which one there is for a target, and how it is asked to
//! connect to it (`CONNECT`, SOCKS 5). Who dials is left to the caller.

mod environment;
mod socks;
mod tunnel;
mod url;

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

pub use environment::Environment;
pub use url::{Proxy, Scheme};

/// Time for a proxy to reach its target, as long as Go's client waits for the answer to CONNECT.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// Has a proxy, to which `stream` leads, connect to a target; `why` writes out what was wrong.
///
/// # Errors
/// What was tried and why it failed, in Go's words; whether it was for lack of an answer in a
/// minute.
pub async fn open(
    proxy: &Proxy,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    (host, port): (&str, u16),
    why: impl FnOnce(&io::Error) -> String,
) -> Result<(), Refused> {
    let target = caddis_config::value::join_host_port(host, &port.to_string());
    let handshake = async {
        match proxy.scheme {
            Scheme::Socks5 => socks::connect(stream, host, port, proxy.user.as_ref()).await,
            Scheme::Http | Scheme::Https => {
                tunnel::connect(stream, &target, proxy.authorization().as_deref()).await
            }
        }
    };
    let what = match proxy.scheme {
        Scheme::Socks5 => format!("socks connect tcp {}->{target}", proxy.host_port),
        _ => format!("proxyconnect tcp: proxy {}: CONNECT {target}", proxy.host_port),
    };
    match timeout(HANDSHAKE, handshake).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            let why = why(&error);
            Err(Refused { message: format!("{what}: {why}"), is_timeout: false })
        }
        Err(_) => Err(Refused { message: format!("{what}: i/o timeout"), is_timeout: true }),
    }
}

/// A proxy that did not connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What was tried and why it failed.
    pub message: String,
    /// There was no answer in time.
    pub is_timeout: bool,
}

/// An answer of a proxy that is none.
fn broken(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}
