//! New connections of the client: directly, through a forward proxy or over a unix socket, with
//! TLS where the URL wants it.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use caddis_config::ConfigError;
use caddis_core::{
    error::plain,
    template::{Template, Unknown},
};
use rustls::{CertificateError, ClientConfig};
use rustls_pki_types::ServerName;
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream, lookup_host},
};

use super::{CONNECT_TIMEOUT, HttpError, Reason, Target, fail};
use crate::forward_proxy::{self, Environment, Proxy, Scheme};

/// The way to servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Route {
    /// As `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say.
    #[default]
    Environment,
    /// Always directly.
    Direct,
    /// Always through this proxy.
    Proxy(Arc<Proxy>),
    /// To whoever listens on this unix socket, whatever the URL's host is.
    Socket(PathBuf),
}

impl Route {
    /// From the JSON of `network_proxy` (spec J158, J211): `{"from": "none"}` or
    /// `{"from": "url", "url": "…"}` with global placeholders; nothing is the environment.
    ///
    /// # Errors
    /// An unknown module or field, a URL that is none.
    pub fn compile(json: Option<&Value>) -> Result<Self, ConfigError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Url {
            #[serde(default)]
            url: String,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        let Some(json) = json.filter(|json| !json.is_null()) else { return Ok(Self::default()) };
        let mut bare = json.clone();
        let from = bare.as_object_mut().and_then(|object| object.remove("from"));
        match from.as_ref().and_then(Value::as_str).unwrap_or_default() {
            "none" => caddis_config::decode::<Nothing>(bare).map(|_| Self::Direct),
            "url" => {
                let config: Url = caddis_config::decode(bare)?;
                let url = Template::render_global(&config.url, Unknown::Empty);
                let proxy = Proxy::parse(&url).map_err(|error| ConfigError::new("url", error))?;
                Ok(Self::Proxy(Arc::new(proxy)))
            }
            name => {
                let message = format!("unknown module: caddy.network_proxy.{name}");
                Err(ConfigError::new("from", message))
            }
        }
    }

    /// The proxy for a target, if there is one.
    pub(super) fn proxy(&self, at: &Target) -> Option<Arc<Proxy>> {
        match self {
            Self::Proxy(proxy) => Some(proxy.clone()),
            Self::Environment => {
                Environment::of_process()?.proxy_for(&at.host, at.port, at.tls).cloned()
            }
            Self::Direct | Self::Socket(_) => None,
        }
    }
}

/// A connection of any kind.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}

/// Connects to a target, over its proxy where there is one: through a tunnel, unless it is
/// `to_reader` and the proxy reads requests itself. TLS with the target is not begun.
pub(super) async fn open(
    route: &Route,
    at: &Target,
    proxy: Option<&Proxy>,
    to_reader: bool,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<Box<dyn Io>, HttpError> {
    let Some(proxy) = proxy else {
        return match route {
            Route::Socket(path) => {
                let stream = within(UnixStream::connect(path)).await;
                let stream = stream.map_err(|error| {
                    let text = format!("{}: {}", path.display(), plain(&error));
                    fail("dial unix", text).because(reason(&error))
                })?;
                Ok(Box::new(stream))
            }
            _ => dial(&at.host, at.port, &at.authority).await,
        };
    };
    let through = |error: HttpError| fail("proxyconnect tcp", error).because(Reason::Proxy);
    let mut stream = dial(&proxy.host, proxy.port, &proxy.host_port).await.map_err(through)?;
    if proxy.scheme == Scheme::Https
        && let Some(tls) = tls
    {
        stream = secure(tls, stream, &proxy.host, &proxy.host_port).await.map_err(through)?;
    }
    if to_reader {
        return Ok(stream);
    }
    let target = (at.host.as_str(), at.port);
    forward_proxy::open(proxy, &mut stream, target, plain)
        .await
        .map_err(|refused| HttpError::new(refused.message).because(Reason::Proxy))?;
    Ok(stream)
}

/// Whether the proxy reads the request itself (RFC 9112 §3.2.2).
pub(super) fn absolute_form(at: &Target, proxy: &Proxy) -> bool {
    !at.tls && proxy.scheme != Scheme::Socks5
}

/// Begins TLS with a host.
pub(super) async fn secure(
    config: &Arc<ClientConfig>,
    stream: Box<dyn Io>,
    host: &str,
    shown: &str,
) -> Result<Box<dyn Io>, HttpError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|error| fail(host, error))?;
    let handshake = tokio_rustls::TlsConnector::from(config.clone()).connect(name, stream);
    let stream = handshake.await.map_err(|error| {
        fail("tls", format!("{shown}: {}", plain(&error))).because(tls_reason(&error))
    })?;
    Ok(Box::new(stream))
}

async fn dial(host: &str, port: u16, shown: &str) -> Result<Box<dyn Io>, HttpError> {
    let failed = |error: io::Error, reason: Reason| {
        fail("dial tcp", format!("{shown}: {}", plain(&error))).because(reason)
    };
    let found = within(lookup_host((host, port))).await;
    let found = found.map_err(|error| failed(error, Reason::Name))?;
    let found: Vec<SocketAddr> = found.collect();
    let tcp = within(TcpStream::connect(&found[..])).await;
    let tcp = tcp.map_err(|error| {
        let reason = reason(&error);
        failed(error, reason)
    })?;
    // It only saves a moment.
    let _ = tcp.set_nodelay(true);
    Ok(Box::new(tcp))
}

/// Why no connection was made.
fn reason(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::TimedOut => Reason::ConnectTimeout,
        _ => Reason::Connect,
    }
}

/// Why TLS failed, by what the library says of the server's certificate.
fn tls_reason(error: &io::Error) -> Reason {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(fault)) = inner else { return Reason::Tls };
    match fault {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Reason::UnknownIssuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Reason::OtherName
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Reason::Time,
        _ => Reason::Tls,
    }
}

async fn within<T>(connect: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "i/o timeout")),
    }
}
