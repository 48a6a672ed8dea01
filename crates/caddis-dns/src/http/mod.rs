//! A small HTTPS client for APIs: HTTP/1.1 (HTTP/2 where asked for, as gRPC wants), kept
//! connections, whole bodies, time limits, forward proxies.
//!
//! A request is sent once, save where its kept connection fails and a second one does no harm: not
//! a byte of it was written, or its method is idempotent (RFC 9110 §9.2.2). What creates a record
//! or an order is never sent twice.

mod connect;
mod http2;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use self::connect::Io;
use crate::{
    forward_proxy::{Proxy, Scheme},
    server_check::{Anyone, ServerVerifier},
};

pub use self::{connect::Route, http2::Http2Client};

/// The longest time for one request.
const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Answers of APIs are small.
const MAX_BODY: usize = 4 << 20;
/// Idle connections kept per server.
const MAX_IDLE: usize = 8;
/// A connection that was idle for longer is not used for a request that cannot be repeated: many
/// servers close theirs after five seconds or more, and may do so just when it is sent.
const SURELY_OPEN: Duration = Duration::from_secs(4);

/// Why a request failed, in one sentence.
#[derive(Debug, Clone)]
pub struct HttpError {
    text: String,
    reason: Reason,
}

/// Where a request failed, as far as somebody can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The host's name has no address.
    Name,
    /// The host takes no connection.
    Connect,
    /// The forward proxy takes no connection, or passes none on.
    Proxy,
    /// The server's certificate is of nobody who is trusted.
    UnknownIssuer,
    /// The server's certificate is for other names.
    OtherName,
    /// The server's certificate has expired, or is not valid yet.
    Time,
    /// TLS failed for another reason.
    Tls,
    /// No connection was made in time.
    ConnectTimeout,
    /// No answer came in time.
    Timeout,
    /// Anything else.
    Other,
}

impl HttpError {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), reason: Reason::Other }
    }

    fn timeout() -> Self {
        Self { reason: Reason::Timeout, ..Self::new("timeout awaiting response") }
    }

    /// The same error, told to be of another kind.
    fn because(self, reason: Reason) -> Self {
        Self { reason, ..self }
    }

    /// Whether not a byte of the request can have been read by the server.
    pub fn is_unsent(&self) -> bool {
        !matches!(self.reason, Reason::Timeout | Reason::Other)
    }

    /// Where it failed.
    pub fn reason(&self) -> Reason {
        self.reason
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for HttpError {}

fn fail(what: &str, error: impl fmt::Display) -> HttpError {
    HttpError::new(format!("{what}: {error}"))
}

/// What a client may be told.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// The only roots to trust; the system's if absent.
    pub roots: Option<Vec<CertificateDer<'static>>>,
    /// Certificates are not verified.
    pub insecure: bool,
    /// The certificate to show where a server asks for one.
    pub certificate: Option<ClientCertificate>,
    /// The way to servers.
    pub route: Route,
    /// The longest time for one request; half a minute by default.
    pub timeout: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            roots: None,
            insecure: false,
            route: Route::default(),
            timeout: TIMEOUT,
            certificate: None,
        }
    }
}

/// A client's certificate and its key.
pub type ClientCertificate = Arc<CertifiedKey>;

/// A client's certificate of its chain, leaf first, and the leaf's key.
///
/// # Errors
/// The key is none that can sign, or the leaf's is another one.
pub fn client_certificate(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientCertificate, HttpError> {
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
        .map(Arc::new)
        .map_err(|error| fail("client certificate", error))
}

/// The client; cheap to share by `Arc`.
pub struct HttpClient {
    /// Roots other than the system's.
    roots: Option<Arc<RootCertStore>>,
    insecure: bool,
    certificate: Option<ClientCertificate>,
    route: Route,
    timeout: Duration,
    config: OnceLock<Arc<ClientConfig>>,
    /// The name that servers are to have, where it is not the URL's host.
    name: Option<ServerName<'static>>,
    idle: Mutex<HashMap<String, Vec<Kept>>>,
}

/// An idle connection; of several the one used last is the last.
struct Kept {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpClient")
    }
}

impl Default for HttpClient {
    fn default() -> Self {
        Self::new()
    }
}

impl HttpClient {
    /// A client that trusts the system's roots and uses the environment's proxies.
    pub fn new() -> Self {
        Self::with(HttpOptions::default())
    }

    /// A client with its own TLS settings; `name` is what servers are to be called, where that is
    /// not the host of the URL.
    pub fn with_tls(config: ClientConfig, name: Option<ServerName<'static>>) -> Self {
        Self { config: OnceLock::from(Arc::new(config)), name, ..Self::new() }
    }

    /// A client with other settings.
    pub fn with(options: HttpOptions) -> Self {
        let roots = options.roots.map(|roots| {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(roots);
            Arc::new(store)
        });
        Self {
            roots,
            insecure: options.insecure,
            certificate: options.certificate,
            route: options.route,
            timeout: options.timeout,
            config: OnceLock::new(),
            name: None,
            idle: Mutex::default(),
        }
    }

    /// Sends a request with an absolute URI, `http` or `https`, and reads the whole answer.
    /// Redirects are not followed.
    ///
    /// # Errors
    /// No connection, no trust, no answer in time, an answer that is too large.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.in_time(async {
            let (at, sender, response) = self.attempt(request).await?;
            self.finish(&at, sender, response).await
        })
        .await
    }

    /// The same where only the head of the answer is wanted, however long or slow its body is.
    ///
    /// # Errors
    /// No connection, no trust, no head in time.
    pub async fn send_for_head(&self, request: Request<Bytes>) -> Result<Response<()>, HttpError> {
        self.in_time(async {
            let (at, sender, response) = self.attempt(request).await?;
            let (parts, body) = response.into_parts();
            // What has a body is not waited for; its connection ends.
            if body.is_end_stream() {
                self.keep(&at, sender);
            }
            Ok(Response::from_parts(parts, ()))
        })
        .await
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, HttpError>>,
    ) -> Result<T, HttpError> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(HttpError::timeout()),
        }
    }

    async fn attempt(&self, request: Request<Bytes>) -> Result<Answered, HttpError> {
        let (mut parts, body) = request.into_parts();
        let at = Target::of(&parts.uri)?;
        if !parts.headers.contains_key(header::HOST) {
            let host = HeaderValue::from_str(&at.authority).map_err(|error| fail("host", error))?;
            parts.headers.insert(header::HOST, host);
        }
        if !parts.headers.contains_key(header::USER_AGENT) {
            parts.headers.insert(header::USER_AGENT, HeaderValue::from_static("caddis"));
        }
        let proxy = self.route.proxy(&at);
        let reader = proxy.as_ref().filter(|proxy| connect::absolute_form(&at, proxy));
        if let Some(proxy) = reader {
            if let Some(text) = proxy.authorization() {
                let mut value =
                    HeaderValue::from_str(&text).map_err(|error| fail("proxy", error))?;
                value.set_sensitive(true);
                parts.headers.insert(header::PROXY_AUTHORIZATION, value);
            }
            let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            let absolute = format!("http://{}{path}", at.authority);
            parts.uri = absolute.parse().map_err(|error| fail("URL", error))?;
        } else {
            let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
            parts.uri = path.parse().map_err(|error| fail("path", error))?;
        }
        let mut request = Request::from_parts(parts, Full::new(body));
        let spare = request.method().is_idempotent().then(|| request.clone());
        let within = if spare.is_some() { Duration::MAX } else { SURELY_OPEN };
        // A kept connection may have been closed meanwhile; then a new one is used.
        while let Some(mut kept) = self.take(&at.key, within) {
            if kept.ready().await.is_err() {
                continue;
            }
            let mut error = match kept.try_send_request(request).await {
                Ok(response) => return Ok((at, kept, response)),
                Err(error) => error,
            };
            if let Some(unsent) = error.take_message() {
                request = unsent;
                continue;
            }
            let Some(spare) = spare else {
                let error = error.into_error();
                let why = format!("{error}; it is unknown whether the request arrived");
                return Err(fail(&at.authority, why));
            };
            request = spare;
            break;
        }
        let mut sender = self.connect(&at, proxy.as_deref()).await?;
        let response =
            sender.send_request(request).await.map_err(|error| fail(&at.authority, error))?;
        Ok((at, sender, response))
    }

    async fn finish(
        &self,
        at: &Target,
        sender: SendRequest<Full<Bytes>>,
        response: Response<Incoming>,
    ) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body = body.map_err(|error| fail("reading response", error))?.to_bytes();
        self.keep(at, sender);
        Ok(Response::from_parts(parts, body))
    }

    fn keep(&self, at: &Target, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.entry(at.key.clone()).or_default();
        kept.retain(|kept| !kept.sender.is_closed());
        if kept.len() < MAX_IDLE && !sender.is_closed() {
            kept.push(Kept { sender, since: Instant::now() });
        }
    }

    /// The connection to there that was used last, within this time.
    fn take(&self, key: &str, within: Duration) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(key)?.pop_if(|kept| kept.since.elapsed() <= within);
        kept.map(|kept| kept.sender)
    }

    async fn connect(
        &self,
        at: &Target,
        proxy: Option<&Proxy>,
    ) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let needs_tls = at.tls || proxy.is_some_and(|proxy| proxy.scheme == Scheme::Https);
        // Loading roots takes a moment.
        let config = if needs_tls { Some(self.config().await?) } else { None };
        let to_reader = proxy.is_some_and(|proxy| connect::absolute_form(at, proxy));
        let stream = connect::open(&self.route, at, proxy, to_reader, config.as_ref()).await?;
        handshake(self.secured(at, stream, config.as_ref()).await?).await
    }

    /// Begins TLS where the URL wants it.
    async fn secured(
        &self,
        at: &Target,
        stream: Box<dyn Io>,
        config: Option<&Arc<ClientConfig>>,
    ) -> Result<Box<dyn Io>, HttpError> {
        let Some(config) = config.filter(|_| at.tls) else { return Ok(stream) };
        let name = self.name.as_ref().map(ServerName::to_str);
        let name = name.as_deref().unwrap_or(&at.host);
        connect::secure(config, stream, name, &at.authority).await
    }

    async fn config(&self) -> Result<Arc<ClientConfig>, HttpError> {
        if let Some(config) = self.config.get() {
            return Ok(config.clone());
        }
        let roots = match &self.roots {
            Some(roots) => roots.clone(),
            None if self.insecure => Arc::new(RootCertStore::empty()),
            None => {
                let native = tokio::task::spawn_blocking(|| {
                    let mut store = RootCertStore::empty();
                    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                    Arc::new(store)
                });
                native.await.map_err(|error| fail("loading system roots", error))?
            }
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| fail("tls", error))?;
        let builder = if self.insecure {
            let anyone = Arc::new(ServerVerifier::new(Anyone, provider));
            builder.dangerous().with_custom_certificate_verifier(anyone)
        } else {
            builder.with_root_certificates(roots)
        };
        let config = match &self.certificate {
            Some(certificate) => {
                let one = SingleCertAndKey::from(certificate.clone());
                builder.with_client_cert_resolver(Arc::new(one))
            }
            None => builder.with_no_client_auth(),
        };
        Ok(self.config.get_or_init(|| Arc::new(config)).clone())
    }
}

async fn handshake(stream: Box<dyn Io>) -> Result<SendRequest<Full<Bytes>>, HttpError> {
    let made = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = made.map_err(|error| fail("http", error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(target: "http.client", %error, "connection ended");
        }
    });
    Ok(sender)
}

/// The head of an answer, from where and on which connection it came.
type Answered = (Target, SendRequest<Full<Bytes>>, Response<Incoming>);

struct Target {
    tls: bool,
    host: String,
    port: u16,
    authority: String,
    key: String,
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, HttpError> {
        let bad = || HttpError::new(format!("unsupported URL: {uri}"));
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad()),
        };
        let authority = uri.authority().ok_or_else(bad)?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let key = format!("{tls}:{authority}");
        let text = authority.as_str();
        let text = text.rsplit_once('@').map_or(text, |(_, host)| host).to_owned();
        Ok(Self { tls, host, port, authority: text, key })
    }
}
