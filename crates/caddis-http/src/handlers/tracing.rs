//! Distributed tracing: `tracing`. A request continues the trace that its fields name, or begins
//! one; upstreams, the access log (`traceID`, `spanID`), `{http.vars.trace_id}` and
//! `{http.vars.span_id}` learn of it. The span lasts until the answer's last byte (or the end of a
//! tunnel) and goes to the collector that the environment names (`OTEL_*`, see `caddis-otel`).
//!
//! The span's attributes are those of the semantic conventions for HTTP servers. Where a handler
//! ended with an error, the span has the error's status; Caddy's has 200, since the error is
//! answered outside of its span.
//!
//! ```text
//! tracing [<matcher>] {
//!     span <name>
//!     span_attributes {
//!         <key> <value>
//!     }
//! }
//! ```
//!
//! JSON: `{"handler": "tracing", "span": "name", "span_attributes": {"key": "value"}}`.

use std::{
    collections::BTreeMap,
    os::fd::BorrowedFd,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context as Poller, Poll},
};

use bytes::Bytes;
use caddis_caddyfile::Result as ParseResult;
use caddis_config::ConfigError;
use caddis_core::{
    Body, BodyError, CompileCx, Directive, DirectiveKind, Exchange, Handler, HandlerModule, Helper,
    HttpError, LocalBoxFuture, Middleware, Next, Response, ResponseFilter, Result as HttpResult,
    StreamBody, Task, Template, Value, finish::Finishers,
};
use caddis_otel::{Context, Env, Propagators, Span, Tracer, TracerSettings};
use http::{Method, StatusCode, Version, header};
use http_body::{Frame, SizeHint};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::support::run_next;

/// `http.handlers.tracing`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.tracing", compile };
/// `tracing`.
pub static DIRECTIVE: Directive =
    Directive { name: "tracing", kind: DirectiveKind::Handler(parse), ordered: true };

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The span's name.
    #[serde(deserialize_with = "caddis_config::nullable")]
    pub span: String,
    /// Attributes of the span.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub span_attributes: BTreeMap<String, String>,
}

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    let d = &mut h.d;
    d.next();
    if d.next_arg() {
        return Err(d.arg_err());
    }
    let mut config = Config::default();
    while d.next_block(0) {
        match d.val() {
            "span" => {
                let Some([name]) = d.all_args() else { return Err(d.arg_err()) };
                config.span = name;
            }
            "span_attributes" => {
                let nesting = d.nesting();
                while d.next_block(nesting) {
                    let key = d.val().to_owned();
                    let Some([value]) = d.all_args() else { return Err(d.arg_err()) };
                    config.span_attributes.insert(key, value);
                }
            }
            _ => return Err(d.arg_err()),
        }
    }
    h.handler("tracing", &config)
}

/// The name of a span that is given none.
const DEFAULT_NAME: &str = "handler";

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let config: Config = cx.decode(json, "handler")?;
    let env = Env::of_process();
    let mut warnings = Vec::new();
    let propagators = Propagators::from_env(&env, &mut warnings);
    let settings = TracerSettings::from_env(&env)
        .map_err(|error| ConfigError::new("", format!("creating trace exporter error: {error}")))?;
    warnings.extend_from_slice(&settings.warnings);
    for warning in warnings.into_iter().map(|warning| format!("tracing: {warning}")) {
        // Each handler reads the same environment.
        if !cx.warnings.contains(&warning) {
            cx.warnings.push(warning);
        }
    }
    let tracer = cx.state.table::<(), Tracer>().lease((), || Tracer::new(settings));
    cx.state.single::<Finishers>().add(&tracer);
    let started = tracer.clone();
    cx.tasks.push(Task::new("tracing", move |_| async move { started.start() }));
    let name = if config.span.is_empty() { DEFAULT_NAME } else { &config.span };
    let attributes = config.span_attributes;
    let attributes = attributes.into_iter().map(|(key, value)| (key, Template::parse(&value)));
    Ok(Handler::middleware(Tracing {
        tracer,
        propagators,
        name: Template::parse(name),
        attributes: attributes.collect(),
    }))
}

struct Tracing {
    tracer: Arc<Tracer>,
    propagators: Propagators,
    name: Template,
    attributes: Vec<(String, Template)>,
}

impl Tracing {
    /// Begins the span, or only its context where the trace is not recorded, and tells everybody.
    fn begin(&self, ex: &mut Exchange) -> Option<Span> {
        let parent = self.propagators.extract(&ex.request.headers);
        let context = self.tracer.decide(parent.as_ref());
        let name = || self.name.render(ex).into_owned();
        let mut span = self.tracer.begin(&context, parent.as_ref(), name);
        if let Some(span) = &mut span {
            describe(span, ex);
        }
        self.propagators.inject(&context, &mut ex.request.headers);
        tell(&context, ex);
        span
    }
}

impl Middleware for Tracing {
    fn handle<'a>(
        &'a self,
        ex: &'a mut Exchange,
        next: Next<'a>,
    ) -> LocalBoxFuture<'a, HttpResult<Response>> {
        Box::pin(async move {
            let Some(span) = self.begin(ex) else { return next.run(ex).await };
            let open = Arc::new(Open { span: Mutex::new(Some(span)), read: count_request(ex) });
            // Before those of the handlers inside, so that it runs after them.
            ex.on_response(open.clone());
            let result = run_next(next, ex).await;
            if let Some(span) = &mut *open.lock() {
                for (key, value) in &self.attributes {
                    span.set(key.clone(), value.render(ex).into_owned());
                }
            }
            if let Err(error) = &result {
                open.failed(error);
            }
            if let Some(tunnel) = ex.upgrade.as_mut().and_then(|upgrade| upgrade.run.take()) {
                let status = result.as_ref().map(http::Response::status);
                let span = open.end(status.ok(), 0);
                if let Some(upgrade) = &mut ex.upgrade {
                    upgrade.run = Some(Box::new(move |io| {
                        Box::pin(async move {
                            tunnel(io).await;
                            drop(span);
                        })
                    }));
                }
            }
            result
        })
    }

    fn passes_answers(&self) -> bool {
        true
    }
}

/// Ids for the access log and for placeholders.
fn tell(context: &Context, ex: &mut Exchange) {
    let ids =
        [("trace_id", "traceID", context.trace_hex()), ("span_id", "spanID", context.span_hex())];
    for (var, field, text) in ids {
        let value = Value::string(text);
        ex.set_var(var, value.clone());
        ex.log.extra.push((field.into(), value));
    }
}

/// What is known before the answer, in the order of the conventions' own implementation in Go.
fn describe(span: &mut Span, ex: &Exchange) {
    let tls = ex.connection.tls.is_some();
    let (host, port) = split_port(&ex.request.host);
    span.set("server.address", host);
    let method = &ex.request.method;
    let known = known_method(method.as_str());
    span.set("http.request.method", known.unwrap_or("_OTHER"));
    span.set("url.scheme", if tls { "https" } else { "http" });
    if let Some(port) = port.filter(|port| *port != 0 && *port != if tls { 443 } else { 80 }) {
        span.set("server.port", i64::from(port));
    }
    if known != Some(method.as_str()) {
        span.set("http.request.method_original", method.as_str());
    }
    let remote = ex.connection.remote;
    if let Some(remote) = remote {
        span.set("network.peer.address", ex.connection.remote_ip.as_str());
        span.set("network.peer.port", i64::from(remote.port()));
    }
    let text = |name| ex.request.headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(agent) = text(header::USER_AGENT).filter(|agent| !agent.is_empty()) {
        span.set("user_agent.original", agent);
    }
    // By the conventions whoever the client says it is; `{http.vars.client_ip}` is checked.
    let forwarded = text(header::HeaderName::from_static("x-forwarded-for"));
    let forwarded = forwarded.and_then(|all| all.split(',').next()).unwrap_or_default();
    let peer = remote.map(|_| ex.connection.remote_ip.as_str()).unwrap_or_default();
    let client = if forwarded.is_empty() { peer } else { forwarded };
    if !client.is_empty() {
        span.set("client.address", client);
    }
    let path = ex.request.target.path();
    if !path.is_empty() {
        span.set("url.path", path);
    }
    let version = match ex.request.version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2.0",
        Version::HTTP_3 => "3.0",
        _ => "1.1",
    };
    span.set("network.protocol.version", version);
}

/// Host and port; brackets of IPv6 are taken off.
fn split_port(host: &str) -> (&str, Option<u16>) {
    let (host, port) = caddis_core::exchange::split_host_port(host);
    (host, port.parse().ok())
}

/// The method's name by RFC 9110, in whatever case it came.
fn known_method(method: &str) -> Option<&'static str> {
    const KNOWN: [&str; 9] =
        ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
    KNOWN.into_iter().find(|known| known.eq_ignore_ascii_case(method))
}

/// Counts the bytes of a request's body as they are read.
fn count_request(ex: &mut Exchange) -> Arc<AtomicU64> {
    let read = Arc::<AtomicU64>::default();
    match ex.request.body.take() {
        Body::Empty => {}
        Body::Full(bytes) => {
            read.store(bytes.len() as u64, Ordering::Relaxed);
            ex.request.body = Body::Full(bytes);
        }
        body @ Body::Stream(_) => {
            let counted = CountedBody { body, count: read.clone(), ended: None };
            ex.request.body = Body::Stream(Box::pin(counted));
        }
    }
    read
}

/// A span that waits for its answer. Whoever drops it ends the span.
struct Open {
    span: Mutex<Option<Span>>,
    read: Arc<AtomicU64>,
}

impl Open {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Span>> {
        self.span.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the span and notes sizes and status; it ends when it is dropped.
    fn end(&self, status: Option<StatusCode>, written: u64) -> Option<Span> {
        let mut span = self.lock().take()?;
        note_sizes(&mut span, self.read.load(Ordering::Relaxed), written);
        if let Some(status) = status {
            span.answered(status);
        }
        Some(span)
    }

    /// The error is answered outside.
    fn failed(&self, error: &HttpError) {
        drop(self.end(Some(error.status), 0));
    }
}

fn note_sizes(span: &mut Span, read: u64, written: u64) {
    for (key, size) in [("http.request.body.size", read), ("http.response.body.size", written)] {
        if size > 0 {
            span.set(key, i64::try_from(size).unwrap_or(i64::MAX));
        }
    }
}

impl ResponseFilter for Open {
    fn apply(&self, ex: &mut Exchange, response: &mut Response) {
        let status = Some(response.status());
        if ex.original.method == Method::HEAD {
            drop(self.end(status, response.body().exact_len().unwrap_or(0)));
            return;
        }
        match response.body_mut().take() {
            Body::Empty => drop(self.end(status, 0)),
            Body::Full(bytes) => {
                drop(self.end(status, bytes.len() as u64));
                *response.body_mut() = Body::Full(bytes);
            }
            body @ Body::Stream(_) => {
                let read = self.read.clone();
                let ended = self.end(status, 0).map(|span| Ending { span, read });
                let body = CountedBody { body, count: Arc::default(), ended };
                *response.body_mut() = Body::Stream(Box::pin(body));
            }
        }
    }
}

/// A span that ends with a body.
struct Ending {
    span: Span,
    read: Arc<AtomicU64>,
}

/// Counts what passes, and ends a span at its end or where it broke off.
struct CountedBody {
    body: Body,
    count: Arc<AtomicU64>,
    ended: Option<Ending>,
}

impl CountedBody {
    fn passed(&mut self, bytes: usize) {
        self.count.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn end(&mut self) {
        if let Some(Ending { mut span, read }) = self.ended.take() {
            let written = self.count.load(Ordering::Relaxed);
            note_sizes(&mut span, read.load(Ordering::Relaxed), written);
        }
    }
}

impl StreamBody for CountedBody {
    fn spliceable(&self) -> u64 {
        self.body.spliceable()
    }

    fn poll_splice(
        mut self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<Result<usize, BodyError>> {
        let moved = std::task::ready!(self.body.poll_splice(cx, pipe, most));
        if let Ok(count) = &moved {
            self.passed(*count);
        }
        Poll::Ready(moved)
    }
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.passed(data.len());
        }
        if frame.is_none() {
            self.end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}

impl Drop for CountedBody {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::tests::{adapt, run_in};
    use serde_json::json;

    #[test]
    fn adapts() {
        let want = json!({"handler": "tracing", "span": "a", "span_attributes": {"k": "v"}});
        let text = "tracing {\n span a\n span_attributes {\n k v\n }\n}";
        assert_eq!(adapt(text), Ok(want));
        assert_eq!(adapt("tracing"), Ok(json!({"handler": "tracing", "span": ""})));
        assert!(adapt("tracing {\n x y\n}").is_err());
    }

    #[test]
    fn continues_and_begins_traces() {
        let mut ex = Exchange::for_test("/");
        run_in(&["tracing", "respond ok"], &mut ex).expect("answers");
        let traceparent = |ex: &Exchange| {
            let value = ex.request.headers["traceparent"].to_str().expect("text");
            value.split('-').map(str::to_owned).collect::<Vec<_>>()
        };
        let first = traceparent(&ex);
        assert_eq!((first[0].as_str(), first[3].as_str()), ("00", "01"));
        let names: Vec<_> = ex.log.extra.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["traceID", "spanID"]);
        assert_eq!(ex.var("trace_id").map(|id| id.text().into_owned()), Some(first[1].clone()));
        run_in(&["tracing", "respond ok"], &mut ex).expect("answers");
        let second = traceparent(&ex);
        assert_eq!(first[1], second[1]);
        assert_ne!(first[2], second[2]);
    }

    #[test]
    fn methods_and_ports() {
        assert_eq!(known_method("get"), Some("GET"));
        assert_eq!(known_method("PROPFIND"), None);
        assert_eq!(split_port("[::1]:8080"), ("::1", Some(8080)));
        assert_eq!(split_port("a:x"), ("a", None));
    }
}
