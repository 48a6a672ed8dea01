//! A small HTTPS client for APIs: HTTP/1.1, kept connections, whole bodies, time limits.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;

/// The longest time for one request.
const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Answers of APIs are small.
const MAX_BODY: usize = 4 << 20;
/// Idle connections kept per server.
const MAX_IDLE: usize = 8;

/// Why a request failed, in one sentence.
#[derive(Debug, Clone)]
pub struct HttpError(String);

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HttpError {}

fn fail(what: &str, error: impl fmt::Display) -> HttpError {
    HttpError(format!("{what}: {error}"))
}

/// The client; cheap to share by `Arc`.
pub struct HttpClient {
    /// Roots other than the system's.
    roots: Option<Arc<RootCertStore>>,
    config: OnceLock<Arc<ClientConfig>>,
    /// The name that servers are to have, where it is not the URL's host.
    name: Option<ServerName<'static>>,
    idle: Mutex<HashMap<String, Vec<SendRequest<Full<Bytes>>>>>,
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
    /// A client that trusts the system's roots.
    pub fn new() -> Self {
        Self { roots: None, config: OnceLock::new(), name: None, idle: Mutex::default() }
    }

    /// A client with its own TLS settings; `name` is what servers are to be called, where that is
    /// not the host of the URL.
    pub fn with_tls(config: ClientConfig, name: Option<ServerName<'static>>) -> Self {
        Self { config: OnceLock::from(Arc::new(config)), name, ..Self::new() }
    }

    /// A client that trusts these roots only.
    pub fn with_roots(roots: Vec<CertificateDer<'static>>) -> Self {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots);
        Self { roots: Some(Arc::new(store)), ..Self::new() }
    }

    /// Sends a request with an absolute URI, `http` or `https`, and reads the whole answer.
    /// Redirects are not followed.
    ///
    /// # Errors
    /// No connection, no trust, no answer in time, an answer that is too large.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        match tokio::time::timeout(TIMEOUT, self.attempt(request)).await {
            Ok(result) => result,
            Err(_) => Err(HttpError("timeout awaiting response".into())),
        }
    }

    async fn attempt(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut parts, body) = request.into_parts();
        let at = Target::of(&parts.uri)?;
        if !parts.headers.contains_key(header::HOST) {
            let host = HeaderValue::from_str(&at.authority).map_err(|error| fail("host", error))?;
            parts.headers.insert(header::HOST, host);
        }
        if !parts.headers.contains_key(header::USER_AGENT) {
            parts.headers.insert(header::USER_AGENT, HeaderValue::from_static("caddis"));
        }
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = path.parse().map_err(|error| fail("path", error))?;
        let request = Request::from_parts(parts, Full::new(body));
        // A kept connection may have been closed meanwhile; then a new one is used.
        while let Some(mut kept) = self.take(&at.key) {
            if kept.ready().await.is_err() {
                continue;
            }
            match kept.send_request(request.clone()).await {
                Ok(response) => return self.finish(&at, kept, response).await,
                Err(_) => break,
            }
        }
        let mut sender = self.connect(&at).await?;
        let response =
            sender.send_request(request).await.map_err(|error| fail(&at.authority, error))?;
        self.finish(&at, sender, response).await
    }

    async fn finish(
        &self,
        at: &Target,
        sender: SendRequest<Full<Bytes>>,
        response: Response<hyper::body::Incoming>,
    ) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body = body.map_err(|error| fail("reading response", error))?.to_bytes();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.entry(at.key.clone()).or_default();
        if kept.len() < MAX_IDLE && !sender.is_closed() {
            kept.push(sender);
        }
        Ok(Response::from_parts(parts, body))
    }

    fn take(&self, key: &str) -> Option<SendRequest<Full<Bytes>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).get_mut(key)?.pop()
    }

    async fn connect(&self, at: &Target) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let dial = TcpStream::connect((at.host.as_str(), at.port));
        let tcp = tokio::time::timeout(CONNECT_TIMEOUT, dial)
            .await
            .map_err(|_| fail("dial tcp", format!("{}: i/o timeout", at.authority)))?
            .map_err(|error| fail("dial tcp", format!("{}: {error}", at.authority)))?;
        // It only saves a moment.
        let _ = tcp.set_nodelay(true);
        if !at.tls {
            return handshake(TokioIo::new(tcp)).await;
        }
        let config = self.config().await?;
        let name = match &self.name {
            Some(name) => name.clone(),
            None => ServerName::try_from(at.host.clone()).map_err(|error| fail(&at.host, error))?,
        };
        let stream = tokio_rustls::TlsConnector::from(config)
            .connect(name, tcp)
            .await
            .map_err(|error| fail("tls", format!("{}: {error}", at.authority)))?;
        handshake(TokioIo::new(stream)).await
    }

    async fn config(&self) -> Result<Arc<ClientConfig>, HttpError> {
        if let Some(config) = self.config.get() {
            return Ok(config.clone());
        }
        let roots = match &self.roots {
            Some(roots) => roots.clone(),
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
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| fail("tls", error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(self.config.get_or_init(|| Arc::new(config)).clone())
    }
}

async fn handshake<S>(io: TokioIo<S>) -> Result<SendRequest<Full<Bytes>>, HttpError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(io).await.map_err(|error| fail("http", error))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(target: "http.client", %error, "connection ended");
        }
    });
    Ok(sender)
}

struct Target {
    tls: bool,
    host: String,
    port: u16,
    authority: String,
    key: String,
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, HttpError> {
        let bad = || HttpError(format!("unsupported URL: {uri}"));
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Request;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::HttpClient;

    #[tokio::test]
    async fn connections_are_kept_and_replaced() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/x?y", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let mut served = Vec::new();
            for requests in [2, 1] {
                let (mut stream, _) = listener.accept().await.unwrap();
                for _ in 0..requests {
                    let mut buffer = [0; 1024];
                    let read = stream.read(&mut buffer).await.unwrap();
                    served.push(String::from_utf8_lossy(&buffer[..read]).into_owned());
                    let answer = b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok";
                    stream.write_all(answer).await.unwrap();
                }
            }
            served
        });
        let client = HttpClient::new();
        for _ in 0..3 {
            let request = Request::post(&url).body(Bytes::from_static(b"hi")).unwrap();
            let response = client.send(request).await.unwrap();
            assert_eq!((response.status().as_u16(), &response.body()[..]), (201, &b"ok"[..]));
        }
        let served = server.await.unwrap();
        assert!(served.iter().all(|text| text.starts_with("POST /x?y HTTP/1.1\r\n")));
        let request = Request::get("ftp://x/").body(Bytes::new()).unwrap();
        assert!(client.send(request).await.is_err());
    }
}
