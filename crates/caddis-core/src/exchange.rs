//! One request in flight and what belongs to it.

use std::{
    cell::OnceCell,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytestring::ByteString;
use caddis_wire::Headers;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use smallvec::SmallVec;
use smol_str::{SmolStr, ToSmolStr};

use crate::{Awaited, Body, HttpError, Response, ResponseFilter, Target, Value, Worker};

/// The request as handlers see and change it.
#[derive(Default)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: Target,
    /// The version the client spoke.
    pub version: Version,
    /// The host as sent, with its port; it is not among the headers (as in Go).
    pub host: ByteString,
    /// The header fields, without `Host` and `Transfer-Encoding`. `Content-Length` is among them.
    pub headers: Headers,
    /// The body.
    pub body: Body,
    /// The protocol of an extended CONNECT (RFC 8441), for example `websocket`.
    pub protocol: Option<ByteString>,
    /// Whether the body was sent with chunked coding (for the access log).
    pub chunked: bool,
}

/// What the client sent, before rewrites.
#[derive(Clone, Default)]
pub struct Original {
    /// The method.
    pub method: Method,
    /// The target.
    pub target: Target,
}

/// Facts of a connection; shared by its requests.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The peer; `None` for a unix socket.
    pub remote: Option<SocketAddr>,
    /// The peer's address as text, without the port; empty for a unix socket.
    pub remote_ip: SmolStr,
    /// The server's own address; `None` for a unix socket.
    pub local: Option<SocketAddr>,
    /// The listener's address text for unix sockets.
    pub local_name: SmolStr,
    /// Present on TLS connections.
    pub tls: Option<TlsInfo>,
}

impl Connection {
    /// Sets the peer's address.
    pub fn set_remote(&mut self, remote: SocketAddr) {
        self.remote = Some(remote);
        self.remote_ip = remote.ip().to_canonical().to_smolstr();
    }

    /// The peer as `address:port`, or `@` for a unix socket.
    pub fn remote_text(&self) -> String {
        self.remote.map_or_else(|| "@".to_owned(), crate::placeholder::address_text)
    }
}

/// A version as Go writes it, for example `HTTP/2.0`.
pub fn proto(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

/// Whether a header field (its name in lower case) holds what logs do not show.
pub fn is_credential(name: &str) -> bool {
    matches!(name, "cookie" | "set-cookie" | "authorization" | "proxy-authorization")
}

/// Facts of a finished TLS handshake.
#[derive(Debug, Clone, Default)]
pub struct TlsInfo {
    /// The protocol version's number, 0x0303 or 0x0304.
    pub version: u16,
    /// The cipher suite's IANA number.
    pub cipher_suite: u16,
    /// The cipher suite's IANA name.
    pub cipher_name: &'static str,
    /// Whether the session was resumed.
    pub resumed: bool,
    /// Whether the client's hello was hidden from the network (RFC 9849).
    pub ech: bool,
    /// The protocol agreed by ALPN, or empty.
    pub alpn: SmolStr,
    /// The server name the client asked for, or empty.
    pub server_name: SmolStr,
    /// The client's certificate chain, DER, leaf first.
    pub client_certificates: Vec<Vec<u8>>,
}

/// Access-log settings that handlers make for one request.
#[derive(Default)]
pub struct LogFields {
    /// `log_skip`.
    pub skip: bool,
    /// `log_name`: loggers to use instead of the host's.
    pub names: Option<Box<[String]>>,
    /// `log_append` and the like.
    pub extra: Vec<(SmolStr, Value<'static>)>,
    /// The authenticated user.
    pub user_id: String,
}

/// The error that the error routes handle.
#[derive(Clone)]
pub struct ErrorInfo {
    /// Status for the answer.
    pub status: StatusCode,
    /// The error's text.
    pub message: String,
    /// Nine random characters to find it in the log.
    pub id: String,
}

/// Answers placeholders that a handler offers for the rest of the request, for example
/// `http.reverse_proxy.*`. Asked only for keys that start with the prefix it was added with.
pub trait PlaceholderSource {
    /// The value of a key (whole key, prefix included); `None` where it is unknown.
    fn value(&self, key: &str, ex: &Exchange) -> Option<Value<'static>>;
}

/// One request, its connection, and everything that handlers leave for each other.
pub struct Exchange {
    /// The request.
    pub request: Request,
    /// The request before rewrites.
    pub original: Original,
    /// The connection.
    pub connection: Rc<Connection>,
    /// The thread this runs on.
    pub worker: Rc<Worker>,
    /// The client's address by the server's rules (trusted proxies); `None` where unknown.
    pub client_ip: Option<IpAddr>,
    /// Whether the peer is a trusted proxy by the server's rules.
    pub trusted_proxy: bool,
    /// When the head was read.
    pub start: Instant,
    /// Response header fields set before an answer exists; `respond` starts with them.
    pub early_headers: HeaderMap,
    /// Whether `Server: caddis` goes on an answer made here; a `Server` in `early_headers` wins.
    pub server_header: bool,
    /// Variables (`vars`, `root`): by name, few.
    pub vars: SmallVec<[(SmolStr, Value<'static>); 2]>,
    /// Placeholders set by handlers and matchers, by whole key (captures, file matches, user).
    pub values: Vec<(SmolStr, Value<'static>)>,
    /// Sources of placeholders, by key prefix.
    pub sources: SmallVec<[(&'static str, Rc<dyn PlaceholderSource>); 1]>,
    /// Filters for the response, run last first.
    pub response_filters: SmallVec<[Arc<dyn ResponseFilter>; 2]>,
    /// Route groups entered.
    pub groups: SmallVec<[u32; 4]>,
    /// What matchers of the route that is matched have waited for.
    pub awaited: Awaited,
    /// The error being handled, in error routes.
    pub error: Option<Box<ErrorInfo>>,
    /// Log settings.
    pub log: LogFields,
    /// The first top-level route that matched, by its place.
    pub top_route: Option<u32>,
    /// Whether no handler answered (`NOP` in the log).
    pub nop: bool,
    /// Whether the connection is to be closed after the answer.
    pub close: bool,
    /// Whether nobody on the way back looks at the answer's fields, so that a proxy may leave them
    /// as they are. The front says so, and each handler that does look takes it back.
    pub may_pass: bool,
    /// The fields of an answer that is passed on as it is, in place of the response's own.
    pub passed: Option<caddis_wire::PassedFields>,
    /// When the server's listeners close, where that is known already (`shutdown_delay`).
    pub shutdown_at: Option<Instant>,
    /// The request's UUID, made on first use.
    pub uuid: OnceCell<Box<str>>,
    /// Gives the client informational responses (1xx) where the front can.
    pub informational: Option<Rc<dyn Fn(StatusCode, HeaderMap)>>,
    /// The server this came to, where its handlers may ask it something themselves.
    pub own_server: Option<Arc<dyn OwnServer>>,
    /// Takes over an upgraded connection: set by the front where the connection can be upgraded.
    pub upgrade: Option<Upgrade>,
}

/// A server as its own handlers see it (`httpInclude`).
pub trait OwnServer: Send + Sync {
    /// Answers a request as if a client had sent it: routes, error routes, filters, access log.
    ///
    /// # Errors
    /// The answer was to be none (`abort`).
    fn ask(
        self: Arc<Self>,
        ex: Box<Exchange>,
    ) -> crate::LocalBoxFuture<'static, crate::Result<Response>>;
}

/// A connection that can leave HTTP: the handler answers 101 (or 200 to an extended CONNECT) and
/// leaves its tunnel in `run`; the front calls it with the raw stream once the head is written.
#[derive(Default)]
pub struct Upgrade {
    /// Set by the handler that answers the upgrade.
    pub run: Option<Tunnel>,
}

/// A duplex byte stream.
pub trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Io for T {}

// One is made for each request; allocators are quick up to this size.
const _: () = assert!(size_of::<Exchange>() <= 1024);

/// What runs on the raw stream of an upgraded connection.
pub type Tunnel = Box<dyn FnOnce(Box<dyn Io>) -> crate::LocalBoxFuture<'static, ()>>;

impl Exchange {
    /// An exchange for a request that was just read.
    pub fn new(request: Request, connection: Rc<Connection>, worker: Rc<Worker>) -> Box<Self> {
        let original = Original { method: request.method.clone(), target: request.target.clone() };
        Box::new(Self {
            client_ip: connection.remote.map(|remote| remote.ip().to_canonical()),
            request,
            original,
            connection,
            worker,
            trusted_proxy: false,
            start: Instant::now(),
            early_headers: HeaderMap::new(),
            server_header: true,
            vars: SmallVec::new(),
            values: Vec::new(),
            sources: SmallVec::new(),
            response_filters: SmallVec::new(),
            groups: SmallVec::new(),
            awaited: Awaited::default(),
            error: None,
            log: LogFields::default(),
            top_route: None,
            nop: false,
            close: false,
            may_pass: false,
            passed: None,
            shutdown_at: None,
            uuid: OnceCell::new(),
            informational: None,
            own_server: None,
            upgrade: None,
        })
    }

    /// An exchange for tests: a GET of this target on a loopback connection without TLS.
    pub fn for_test(target: &str) -> Box<Self> {
        let request = Request {
            target: Target::parse(target.to_owned().into()).unwrap_or_default(),
            version: Version::HTTP_11,
            host: "example.com".into(),
            ..Request::default()
        };
        let address = SocketAddr::from(([127, 0, 0, 1], 4711));
        let connection = Connection {
            remote: Some(address),
            remote_ip: "127.0.0.1".into(),
            local: Some(SocketAddr::from(([127, 0, 0, 1], 80))),
            local_name: SmolStr::default(),
            tls: None,
        };
        Self::new(request, Rc::new(connection), Worker::new(1))
    }

    /// The host without its port and brackets; may be inaccurate where the host is malformed.
    pub fn host(&self) -> &str {
        split_host_port(&self.request.host).0
    }

    /// `https` on TLS connections, else `http`.
    pub fn scheme(&self) -> &'static str {
        if self.connection.tls.is_some() { "https" } else { "http" }
    }

    /// Starts an answer: the status, the early headers, and `Server`. The body is empty; a caller
    /// sets it with its headers. `Content-Length` is set by the front from the body.
    pub fn respond(&mut self, status: StatusCode) -> Response {
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = status;
        *response.headers_mut() = std::mem::take(&mut self.early_headers);
        if self.server_header && !response.headers().contains_key(header::SERVER) {
            response.headers_mut().insert(header::SERVER, SERVER);
        }
        response
    }

    /// The status of the error being handled, else 200.
    pub fn default_status(&self) -> StatusCode {
        self.error.as_ref().map_or(StatusCode::OK, |error| error.status)
    }

    /// The answer where no handler answered.
    pub fn unhandled(&mut self) -> Response {
        self.nop = true;
        let status = self.default_status();
        self.respond(status)
    }

    /// Adds a filter for the response; the last added runs first.
    pub fn on_response(&mut self, filter: Arc<dyn ResponseFilter>) {
        self.response_filters.push(filter);
    }

    /// A variable.
    pub fn var(&self, name: &str) -> Option<&Value<'static>> {
        self.vars.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Sets a variable.
    pub fn set_var(&mut self, name: &str, value: Value<'static>) {
        match self.vars.iter_mut().find(|(key, _)| key == name) {
            Some(slot) => slot.1 = value,
            None => self.vars.push((name.into(), value)),
        }
    }

    /// Sets a placeholder by its whole key.
    pub fn set_value(&mut self, key: impl Into<SmolStr>, value: Value<'static>) {
        let key = key.into();
        match self.values.iter_mut().find(|(name, _)| *name == key) {
            Some(slot) => slot.1 = value,
            None => self.values.push((key, value)),
        }
    }

    /// Offers placeholders; a later source for a prefix replaces the earlier one.
    pub fn add_source(&mut self, prefix: &'static str, source: Rc<dyn PlaceholderSource>) {
        match self.sources.iter_mut().find(|(name, _)| *name == prefix) {
            Some(slot) => slot.1 = source,
            None => self.sources.push((prefix, source)),
        }
    }

    /// Enters error handling: the request's method and target are restored, groups and response
    /// filters of the failed chain forgotten, `{http.error.*}` set (spec D107).
    pub fn enter_error(&mut self, error: &HttpError) {
        self.request.method = self.original.method.clone();
        self.request.target = self.original.target.clone();
        self.groups.clear();
        self.response_filters.clear();
        self.nop = false;
        const ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyz0123456789";
        let id = (0..9).map(|_| char::from(ALPHABET[fastrand::usize(..ALPHABET.len())])).collect();
        let (status, message) = (error.status, error.message.clone());
        self.error = Some(Box::new(ErrorInfo { status, message, id }));
    }
}

/// Put in a response's extensions: its type is unknown on purpose, and is not to be guessed.
#[derive(Debug, Clone, Copy)]
pub struct NoSniff;

/// Put in a response's extensions: limits for writing it, in the place of the server's.
#[derive(Debug, Default, Clone, Copy)]
pub struct WriteLimits {
    /// For one write.
    pub idle: Option<Duration>,
    /// When all must be written.
    pub deadline: Option<Instant>,
}

/// The `Server` header of answers made here.
pub const SERVER: HeaderValue = HeaderValue::from_static("caddis");

/// Splits `host:port`; a missing port gives `""`, brackets of IPv6 are taken off.
pub fn split_host_port(host: &str) -> (&str, &str) {
    if let Some(rest) = host.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((inside, after)) => (inside, after.strip_prefix(':').unwrap_or("")),
            None => (host, ""),
        };
    }
    let mut colons = host.bytes().enumerate().filter(|(_, b)| *b == b':');
    match (colons.next(), colons.next()) {
        (Some((at, _)), None) => (&host[..at], &host[at + 1..]),
        _ => (host, ""),
    }
}
