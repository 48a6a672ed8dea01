//! How a request gets to an upstream.

pub(crate) mod fastcgi;
pub(crate) mod http;

use std::{borrow::Cow, io, sync::Arc};

use caddis_core::{BodyError, Exchange, HttpError, error::plain};

use fastcgi::FastCgi;
use http::{HttpTransport, KeepAlive, ProxyHeader, VaryingProxy, Way};

use crate::upstream::Address;

/// A compiled transport.
#[derive(Debug, Clone)]
pub(crate) enum Transport {
    /// HTTP.
    Http(Arc<HttpTransport>),
    /// FastCGI: a connection for each request.
    FastCgi(Arc<FastCgi>),
}

impl Transport {
    /// What becomes of idle connections.
    pub(crate) fn keep(&self) -> &KeepAlive {
        match self {
            Self::Http(http) => &http.keep,
            Self::FastCgi(_) => &KeepAlive::OFF,
        }
    }

    /// Whether gzip is asked for on behalf of clients that do not.
    pub(crate) fn compression(&self) -> bool {
        matches!(self, Self::Http(http) if http.compression)
    }

    /// Most connections to one address; 0 for no limit.
    pub(crate) fn max_conns(&self) -> usize {
        match self {
            Self::Http(http) => http.max_conns,
            Self::FastCgi(_) => 0,
        }
    }

    /// Equal for equal settings.
    pub(crate) fn fingerprint(&self) -> &str {
        match self {
            Self::Http(http) => &http.fingerprint,
            Self::FastCgi(fastcgi) => &fastcgi.fingerprint,
        }
    }

    /// Whether connections to this port are encrypted.
    pub(crate) fn uses_tls(&self, port: u16) -> bool {
        matches!(self, Self::Http(http) if http.uses_tls(port))
    }

    /// The name for TLS, where one is configured.
    pub(crate) fn server_name<'a>(&'a self, ex: &'a Exchange) -> Option<Cow<'a, str>> {
        match self {
            Self::Http(http) => http.server_name(ex),
            Self::FastCgi(_) => None,
        }
    }

    /// This request's forward proxy, where its URL holds placeholders.
    pub(crate) fn varying_proxy(&self, ex: &Exchange) -> Result<Option<VaryingProxy>, String> {
        match self {
            Self::Http(http) => http.varying_proxy(ex),
            Self::FastCgi(_) => Ok(None),
        }
    }

    /// The way to an upstream that is reached through a forward proxy.
    pub(crate) fn way(
        &self,
        address: &Address,
        varying: Option<&VaryingProxy>,
    ) -> Option<Box<Way>> {
        match self {
            Self::Http(http) => http.way(address, varying),
            Self::FastCgi(_) => None,
        }
    }

    /// The PROXY header for this request's connection.
    pub(crate) fn proxy_header(&self, ex: &Exchange) -> Option<ProxyHeader> {
        match self {
            Self::Http(http) => http.proxy_header(ex),
            Self::FastCgi(_) => None,
        }
    }
}

/// Why an exchange with an upstream failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection: nothing was sent, so another try is always safe.
    Dial(String),
    /// The connection broke, or the answer was no valid one.
    Transport(String),
    /// The upstream was too slow.
    Timeout(String),
    /// The client's body could not be read.
    RequestBody(BodyError),
    /// The request itself cannot be sent.
    Request(HttpError),
}

impl Failure {
    /// What happened, in Go's words.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Dial(text) | Self::Transport(text) | Self::Timeout(text) => text.clone(),
            Self::RequestBody(error) => error.to_string(),
            Self::Request(error) => error.to_string(),
        }
    }

    /// A failed connection attempt, worded as Go does.
    pub(crate) fn dial(address: &str, error: &io::Error) -> Self {
        Self::Dial(format!("dial {address}: {}", io_text(error, "connect")))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dial(text) | Self::Transport(text) | Self::Timeout(text) => f.write_str(text),
            Self::RequestBody(error) => write!(f, "reading the request's body: {error}"),
            Self::Request(error) => error.fmt(f),
        }
    }
}

/// An I/O error in Go's words.
pub(crate) fn io_text(error: &io::Error, operation: &str) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("{operation}: connection refused"),
        io::ErrorKind::ConnectionReset => format!("{operation}: connection reset by peer"),
        io::ErrorKind::BrokenPipe => format!("{operation}: broken pipe"),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        io::ErrorKind::AddrInUse => "bind: address already in use".to_owned(),
        io::ErrorKind::AddrNotAvailable => "bind: cannot assign requested address".to_owned(),
        io::ErrorKind::NotFound => format!("{operation}: no such file or directory"),
        io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        io::ErrorKind::HostUnreachable => format!("{operation}: no route to host"),
        io::ErrorKind::NetworkUnreachable => format!("{operation}: network is unreachable"),
        _ if error.raw_os_error().is_some() => format!("{operation}: {}", plain(error)),
        _ => plain(error),
    }
}
