//! The admin API: a small HTTP/1 server on the control thread.

mod access;
pub(crate) mod certificates;
mod clock;
mod config;
mod counted;
mod debug;
mod load;
mod media_type;
mod paths;
pub(crate) mod pki;

pub(crate) use self::load::adapt_by_type;

use std::{convert::Infallible, net::SocketAddr, rc::Rc};

use bytes::Bytes;
use caddis_config::NetworkAddress;
use caddis_core::{
    State,
    error::plain_text,
    metrics::{Exposition, Metrics},
};
use caddis_tls::RemoteVerdict;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls_pki_types::CertificateDer;
use serde_json::{Value as Json, json};
use tokio_util::sync::CancellationToken;

use self::clock::{Clock, Limits, Timed};
use crate::{
    Engine,
    generation::LoadError,
    listen::{self, BoundSocket},
    signals::Signal,
};

/// Functions of crates that the engine does not know.
pub struct AdminHooks {
    /// Adapts a config text: adapter name (`caddyfile`), text → JSON and warnings
    /// (`{file, line, directive, message}`).
    pub adapt: AdaptHook,
    /// Says why a config that came from such a text was refused, with its places there.
    pub explain: ExplainHook,
    /// What `GET /reverse_proxy/upstreams` answers: JSON text with its newline.
    pub upstreams: fn(&State) -> String,
    /// All metrics and those of the process, as Prometheus' text. Reads files.
    pub metrics: fn(&Metrics) -> String,
    /// Such a text as a client's header fields ask for it.
    pub present_metrics: fn(String, &HeaderMap) -> Exposition,
}

/// Adapter name, text, why the config was refused → a sentence.
pub type ExplainHook = fn(&str, &[u8], &LoadError) -> Refusal;

/// Adapter name, text → JSON and warnings.
pub type AdaptHook = fn(&str, &[u8]) -> Result<(Json, Vec<Json>), Refusal>;

/// Why a config text is refused.
#[derive(Debug, Clone, Default)]
pub struct Refusal {
    /// The sentence for the member `error` of the answer.
    pub message: String,
    /// Every mistake with its place, as `caddis check --format json` names them, for the member
    /// `findings`; that is left away when there are none.
    pub findings: Vec<Json>,
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self { message, findings: Vec::new() }
    }
}

/// Largest body the API reads.
const MAX_BODY: usize = 100 << 20;
/// Largest head (spec A002).
const MAX_HEAD: usize = 64 << 10;
/// The time for a handshake. The limits for heads and idle connections are the clock's.
const HANDSHAKE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
/// The time for a whole body (spec A002).
const READ_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// How long requests may go on after their endpoint was closed (spec A003).
const CLOSE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// A running endpoint; it stops listening when dropped, and answers what is under way.
pub(crate) struct AdminServer {
    pub(crate) address: NetworkAddress,
    /// Whether the system took the socket; the log says why not.
    pub(crate) listens: bool,
    closed: CancellationToken,
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        self.closed.cancel();
        tracing::info!(target: "admin", address = %self.address, "stopped previous server");
        listen::remove(&self.address);
    }
}

/// An answer of the API.
pub(crate) type Answer = Result<ApiResponse, ApiError>;

/// An answer with its body.
pub(crate) type ApiResponse = Response<Full<Bytes>>;

/// A refusal: status and sentence, sent as `{"error": …}`.
#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    /// Mistakes with their places, beside the sentence.
    pub(crate) findings: Vec<Json>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: plain_text(message.into()), findings: Vec::new() }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }
}

impl From<LoadError> for ApiError {
    fn from(error: LoadError) -> Self {
        let message = in_full(&error.to_string());
        // Which names are taken is seen before anything is loaded.
        let status = match message.starts_with(INDEXING) {
            true => StatusCode::BAD_REQUEST,
            false => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, message)
    }
}

impl From<caddis_config::json::path::PathError> for ApiError {
    fn from(error: caddis_config::json::path::PathError) -> Self {
        let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST);
        Self::new(status, error.message)
    }
}

const LOADING: &str = "loading new config: ";
const INDEXING: &str = "indexing config: ";

/// Why a config is not in force, in the words that people search for.
pub(crate) fn in_full(reason: &str) -> String {
    match reason.starts_with(LOADING) || reason.starts_with(INDEXING) {
        true => reason.to_owned(),
        false => format!("{LOADING}{reason}"),
    }
}

/// A body as JSON; an empty one is `null`, as in Caddy.
pub(crate) fn json_body(body: &[u8]) -> Result<Json, String> {
    if body.is_empty() {
        return Ok(Json::Null);
    }
    serde_json::from_slice(body).map_err(|error| match caddis_config::json::syntax::check(body) {
        Some(wrong) => {
            format!("decoding request body: {wrong}, at offset {}", wrong.offset)
        }
        None => format!("decoding request body: {error}"),
    })
}

impl AdminServer {
    /// Starts the endpoint of this machine.
    pub(crate) fn start(engine: &Rc<Engine>, address: NetworkAddress, socket: BoundSocket) -> Self {
        Self::serve(engine, address, socket, Kind::Local)
    }

    /// Starts the endpoint for others, which asks for certificates.
    pub(crate) fn start_remote(
        engine: &Rc<Engine>,
        address: NetworkAddress,
        socket: BoundSocket,
    ) -> Self {
        Self::serve(engine, address, socket, Kind::Remote)
    }

    fn serve(
        engine: &Rc<Engine>,
        address: NetworkAddress,
        socket: BoundSocket,
        kind: Kind,
    ) -> Self {
        let closed = CancellationToken::new();
        let started = match socket {
            BoundSocket::Tcp(sockets, _) => sockets.into_iter().try_for_each(|socket| {
                let socket = tokio::net::TcpListener::from_std(socket)?;
                accept(engine, &closed, kind, async move || {
                    let (stream, remote) = socket.accept().await?;
                    let local = stream.local_addr().ok();
                    Ok((stream, Some(remote), local))
                });
                Ok(())
            }),
            BoundSocket::Unix(socket) => tokio::net::UnixListener::from_std(socket).map(|socket| {
                accept(engine, &closed, kind, async move || {
                    Ok((socket.accept().await?.0, None, None))
                });
            }),
            BoundSocket::Datagrams => Err(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                format!("{address} is for datagrams; name a stream socket (fd/…)"),
            )),
        };
        let listens = started.is_ok();
        match (started, kind) {
            // What may be done there is told by whoever knows the settings.
            (Ok(()), Kind::Local) => {}
            (Ok(()), Kind::Remote) => tracing::info!(
                target: "admin.remote",
                address = %address,
                "secure admin remote control endpoint started"
            ),
            (Err(error), _) => {
                let error: std::io::Error = error;
                tracing::error!(target: "admin", %error, "the endpoint did not start");
            }
        }
        Self { address, listens, closed }
    }
}

/// The two endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Local,
    Remote,
}

/// A connection, the client's address and the one that it came to.
type Accepted<S> = (S, Option<SocketAddr>, Option<SocketAddr>);

/// Accepts connections until the endpoint closes.
fn accept<S: caddis_core::exchange::Io + 'static>(
    engine: &Rc<Engine>,
    closed: &CancellationToken,
    kind: Kind,
    next: impl AsyncFn() -> std::io::Result<Accepted<S>> + 'static,
) {
    let (engine, closed) = (engine.clone(), closed.clone());
    tokio::task::spawn_local(async move {
        while let Some(accepted) = closed.run_until_cancelled(next()).await {
            match (accepted, kind) {
                (Ok((stream, address, _)), Kind::Local) => {
                    let peer = Peer { address, certificates: None };
                    tokio::task::spawn_local(serve(engine.clone(), stream, peer, closed.clone()));
                }
                (Ok((stream, address, local)), Kind::Remote) => {
                    let accepted = (stream, address, local);
                    tokio::task::spawn_local(serve_remote(
                        engine.clone(),
                        accepted,
                        closed.clone(),
                    ));
                }
                // Out of descriptors, most likely; time helps.
                (Err(_), _) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
    });
}

/// TLS with certificates on both sides, by the config in force; then as usual.
async fn serve_remote(
    engine: Rc<Engine>,
    (stream, address, local): Accepted<impl caddis_core::exchange::Io + 'static>,
    closed: CancellationToken,
) {
    let local = local.map(|local| local.ip().to_canonical());
    let tls = engine.remote_plan().and_then(|remote| engine.shared.remote_tls(&remote, local));
    let Some(tls) = tls else { return };
    let handshake = tokio_rustls::TlsAcceptor::from(tls).accept(stream);
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(target: "admin.remote", remote = ?address, %error, "TLS handshake error");
            return;
        }
        Err(_) => return,
    };
    // Without a certificate there is no handshake; if there were, none is no one's.
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificates = certificates.iter().map(|one| one.clone().into_owned()).collect();
    let peer = Peer { address, certificates: Some(certificates) };
    serve(engine, stream, peer, closed).await;
}

/// Answers the requests of a connection until the endpoint closes; what is under way then is
/// finished.
async fn serve(
    engine: Rc<Engine>,
    stream: impl caddis_core::exchange::Io + 'static,
    peer: Peer,
    closed: CancellationToken,
) {
    let _open = engine.api_connections.clone();
    let peer = Rc::new(peer);
    let clock = Rc::new(Clock::default());
    let stream = Timed::new(stream, clock.clone(), Limits::default());
    let service = service_fn(move |request| {
        let (engine, peer, clock) = (engine.clone(), peer.clone(), clock.clone());
        clock.answering();
        async move {
            let response = answer(engine, request, &peer).await;
            clock.idle();
            Ok::<_, Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        // The connection has a clock of its own: hyper has one limit for a head and for the time
        // before it, and a client may well wait longer with its next request than with its end.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A client that breaks the protocol or goes away is no event here.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = closed.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection).await;
}

/// Who asks.
pub(crate) struct Peer {
    /// Nobody's over a unix socket.
    address: Option<SocketAddr>,
    /// The certificates that a client of the remote endpoint showed, its own first; none where it is
    /// the local endpoint that was asked.
    certificates: Option<Vec<CertificateDer<'static>>>,
}

impl Peer {
    /// Whether the request came by the remote endpoint.
    fn is_remote(&self) -> bool {
        self.certificates.is_some()
    }

    /// Checks what the config in force lets a client of the remote endpoint do: of each request, so
    /// that a right that was taken away is gone on open connections too.
    fn authorize(&self, engine: &Engine, method: &Method, path: &str) -> Result<(), ApiError> {
        let Some(certificates) = &self.certificates else { return Ok(()) };
        let refused = |status, message| Err(ApiError::new(status, message));
        let verdict = match engine.remote_plan() {
            Some(remote) => remote.access.allows(certificates, method, path),
            None => RemoteVerdict::Unknown,
        };
        match verdict {
            RemoteVerdict::Allowed => Ok(()),
            RemoteVerdict::Unknown => {
                refused(StatusCode::UNAUTHORIZED, "client identity not authorized")
            }
            RemoteVerdict::WrongMethod => {
                refused(StatusCode::FORBIDDEN, "not authorized to use this method")
            }
            RemoteVerdict::WrongPath => {
                refused(StatusCode::FORBIDDEN, "not authorized to access this path")
            }
        }
    }
}

/// A request with its body read.
pub(crate) struct ApiRequest {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

async fn answer(engine: Rc<Engine>, request: Request<Incoming>, peer: &Peer) -> ApiResponse {
    let (parts, body) = request.into_parts();
    note(&parts, peer);
    // Asked for, since Caddy's clients may know no other field than `error`.
    let wants_findings = parts.uri.query().is_some_and(|query| {
        query.split('&').any(|one| one == "findings" || one.starts_with("findings="))
    });
    let mut cors = HeaderMap::new();
    let result = handle(&engine, &parts, body, peer, &mut cors).await;
    let failed = result.is_err();
    let mut response = result.unwrap_or_else(|error| error_response(&error, wants_findings));
    response.headers_mut().extend(cors);
    counted::count(&engine, parts.uri.path(), &parts.method, response.status(), failed);
    response
}

async fn handle(
    engine: &Rc<Engine>,
    parts: &Parts,
    body: Incoming,
    peer: &Peer,
    cors: &mut HeaderMap,
) -> Answer {
    check_head(parts)?;
    let path = paths::decoded(parts.uri.path())?;
    // Before anything is looked at.
    peer.authorize(engine, &parts.method, &path)?;
    access::check(engine, parts, peer, cors)?;
    let (method, headers) = (parts.method.clone(), parts.headers.clone());
    let request = ApiRequest { method, path, headers, body: read(body).await? };
    route(engine, parts, &request, peer).await
}

/// Refuses what a head may not be: one that is too large (hyper's limit is that of what it buffers
/// while the head is incomplete), one with several hosts, or with none in HTTP/1.1 (RFC 9112 §3.2).
fn check_head(parts: &Parts) -> Result<(), ApiError> {
    let size: usize =
        parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size > MAX_HEAD {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return Err(ApiError::new(status, "request header fields too large"));
    }
    match parts.headers.get_all(header::HOST).iter().count() {
        0 if parts.version == http::Version::HTTP_11 => {
            Err(ApiError::bad_request("missing required Host header"))
        }
        0 | 1 => Ok(()),
        _ => Err(ApiError::bad_request("too many Host headers")),
    }
}

/// Reads a body, within limits of size and time.
async fn read(body: Incoming) -> Result<Bytes, ApiError> {
    let failed =
        |why: &dyn std::fmt::Display| ApiError::bad_request(format!("reading request body: {why}"));
    match tokio::time::timeout(READ_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
        Err(_) => Err(failed(&"i/o timeout")),
        Ok(Err(error)) => Err(failed(&error)),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
    }
}

/// Header fields as logs show them: by their usual names, without credentials, and without the host,
/// which has a field of its own.
fn logged(headers: &HeaderMap) -> Json {
    let one = |name: &header::HeaderName| {
        let values: Vec<_> = if caddis_core::exchange::is_credential(name.as_str()) {
            vec!["REDACTED".into()]
        } else {
            let values = headers.get_all(name).iter();
            values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect()
        };
        (caddis_wire::canonical_name(name.as_str()), json!(values))
    };
    Json::Object(headers.keys().filter(|name| *name != header::HOST).map(one).collect())
}

/// Tells the log who asks for what (spec A010).
fn note(parts: &Parts, peer: &Peer) {
    let remote = peer.address;
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.unwrap_or_default();
    let remote_ip =
        remote.map_or_else(String::new, |remote| remote.ip().to_canonical().to_string());
    let remote_port = remote.map_or_else(String::new, |remote| remote.port().to_string());
    let headers = logged(&parts.headers);
    macro_rules! note {
        ($level:ident) => {
            tracing::$level!(
                target: "admin.api",
                method = %parts.method,
                host,
                uri = %parts.uri,
                remote_ip,
                remote_port,
                json.headers = %headers,
                "received request"
            )
        };
    }
    // Scraped again and again, which nobody needs to read.
    if parts.uri.path() == "/metrics" {
        note!(debug);
    } else {
        note!(info);
    }
}

fn error_response(error: &ApiError, wants_findings: bool) -> Response<Full<Bytes>> {
    tracing::error!(
        target: "admin.api",
        error = error.message,
        status_code = error.status.as_u16(),
        "request error"
    );
    let mut answer = json!({ "error": error.message });
    if wants_findings && !error.findings.is_empty() {
        answer["findings"] = Json::from(error.findings.clone());
    }
    let mut response = json_response(&answer);
    *response.status_mut() = error.status;
    response
}

/// A JSON answer, ended with a newline as Go's encoder does.
pub(crate) fn json_response(value: &Json) -> Response<Full<Bytes>> {
    json_text(caddis_config::json::write::to_line(value).unwrap_or_else(|_| "null\n".into()))
}

fn json_text(text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(crate) fn method_not_allowed() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
}

async fn route(engine: &Rc<Engine>, parts: &Parts, request: &ApiRequest, peer: &Peer) -> Answer {
    let path = parts.uri.path();
    if !path.starts_with('/') {
        return Err(ApiError::bad_request(format!("invalid path: {path}")));
    }
    if let Some(clean) = paths::cleaned(path) {
        return Ok(paths::redirect(parts, &clean));
    }
    let segments = paths::segments(path);
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["load"] => load::load(engine, request).await,
        ["adapt"] => load::adapt(engine, request),
        ["stop"] => stop(engine, request).await,
        ["metrics"] => metrics(engine, &parts.headers).await,
        ["reverse_proxy", "upstreams"] => {
            if request.method != Method::GET {
                return Err(method_not_allowed());
            }
            Ok(json_text((engine.options.hooks.upstreams)(&engine.state)))
        }
        ["config" | "id" | "pki"] => Ok(paths::redirect(parts, &format!("{path}/"))),
        ["config", ..] => config::config(engine, request, &request.path).await,
        ["id", ..] => {
            let expanded = caddis_config::json::id::expand(&engine.ids(), &request.path)?;
            // What may be reached is said by the paths of the config.
            peer.authorize(engine, &request.method, &expanded)?;
            config::config(engine, request, &expanded).await
        }
        ["pki", ..] => engine.shared.pki_endpoint(&request.path, &request.method),
        ["tls", "certificates"] => engine.shared.certificates_endpoint(&request.method),
        ["debug", "vars"] => Ok(debug::vars()),
        ["debug", "pprof"] => Ok(paths::redirect(parts, &format!("{path}/"))),
        ["debug", "pprof", name @ ..] => debug::profile(&name.join("/")),
        _ => {
            let mut response = Response::new(Full::from("404 page not found\n"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            let headers = response.headers_mut();
            let plain = HeaderValue::from_static("text/plain; charset=utf-8");
            headers.insert(header::CONTENT_TYPE, plain);
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            Ok(response)
        }
    }
}

/// Ends the program; answered when all requests have ended, as in Caddy.
async fn stop(engine: &Engine, request: &ApiRequest) -> Answer {
    if request.method != Method::POST {
        return Err(method_not_allowed());
    }
    tracing::warn!(target: "admin.api", "exiting; byeee!!");
    // The receiver lives as long as the program runs.
    let _ = engine.options.signals.send(Signal::Stop);
    engine.stopped.cancelled().await;
    let mut response = Response::new(Full::default());
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

async fn metrics(engine: &Engine, headers: &HeaderMap) -> Answer {
    let (hooks, metrics) = (&engine.options.hooks, engine.metrics.clone());
    let (expose, present) = (hooks.metrics, hooks.present_metrics);
    let (of_certificates, headers) = (engine.shared.certificate_metrics(), headers.clone());
    let _scrape = metrics.scrape();
    let read = move || present(expose(&metrics) + &of_certificates, &headers);
    let exposition = tokio::task::spawn_blocking(read).await.map_err(|error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("reading metrics: {error}"))
    })?;
    let mut response = Response::new(Full::from(exposition.body));
    response.headers_mut().insert(header::CONTENT_TYPE, exposition.content_type);
    if let Some(encoding) = exposition.encoding {
        response.headers_mut().insert(header::CONTENT_ENCODING, encoding);
    }
    Ok(response)
}
