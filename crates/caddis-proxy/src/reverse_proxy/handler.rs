//! The handler at run time: prepare, try, try again.

use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use caddis_config::IpRanges;
use caddis_core::{
    Body, ByteString, Exchange, HttpError, LocalBoxFuture, MatcherSet, Middleware, Next, Result,
};
use caddis_http::handlers::{headers::HeaderOps, rewrite::Rewrite};
use caddis_wire::BodyFraming;
use http::{HeaderMap, HeaderValue, Method, header};

use super::{
    answer::{Down, ResponseHandler},
    attempt::Problem,
    buffer::buffered,
    forwarded::{self, Seen},
    info::{Info, PREFIX},
};
use crate::{
    generation::Generation,
    selection::{Cookies, Policy, Tried},
    transport::{
        Transport,
        http::{Local, RequestBody},
    },
    upstream::Upstream,
    upstreams::Dynamic,
};

/// The compiled handler.
pub(crate) struct ReverseProxy {
    pub(super) upstreams: Arc<[Upstream]>,
    pub(super) dynamic: Option<Dynamic>,
    pub(super) lb: Balancing,
    pub(super) passive: Option<Passive>,
    pub(super) transport: Transport,
    pub(super) trusted: IpRanges,
    pub(super) request_ops: Option<HeaderOps>,
    pub(super) down: Arc<Down>,
    pub(super) rewrite: Option<Rewrite>,
    pub(super) handlers: Vec<ResponseHandler>,
    pub(super) request_buffers: i64,
    pub(super) response_buffers: i64,
    pub(super) streams: Streams,
    pub(super) generation: Arc<Generation>,
    /// Each read from an upstream is told where debug logs are on.
    pub(super) verbose_logs: bool,
    /// Something looks at the prepared fields.
    pub(super) needs_map: bool,
    /// Something may ask for the answer's fields by placeholder.
    pub(super) keeps_headers: bool,
    /// Nothing here looks at the answer's fields.
    pub(super) passes_fields: bool,
}

/// Choice of upstreams, and retries.
pub(crate) struct Balancing {
    pub(super) policy: Policy,
    pub(super) retries: u32,
    pub(super) try_duration: Option<Duration>,
    pub(super) try_interval: Duration,
    /// Matcher sets, and whether each has an expression (which may look at the answer).
    pub(super) retry_match: Vec<(MatcherSet, bool)>,
    pub(super) has_expression: bool,
}

/// Passive checks.
pub(crate) struct Passive {
    /// How long a failure is remembered; `None`: not at all.
    pub(super) memory: Option<Duration>,
    pub(super) statuses: Vec<i64>,
    pub(super) latency: Option<Duration>,
}

/// Tunnels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streams {
    pub(super) timeout: Option<Duration>,
    pub(super) close_delay: Duration,
}

/// One request on its way through the handler.
pub(super) struct Run {
    pub(super) local: Rc<Local>,
    pub(super) info: Rc<Info>,
    pub(super) start: Instant,
    pub(super) prepared: Prepared,
    pub(super) tried: Tried,
    /// Their addresses, where each try may have another list of upstreams.
    pub(super) tried_dials: Vec<String>,
    pub(super) cookies: Cookies,
    /// It is not the first try.
    pub(super) again: bool,
}

/// Request line and body, before the body's framing is chosen.
struct Line {
    method: Method,
    uri: ByteString,
    body: Body,
    chunked: bool,
}

/// The request as it goes to the upstream.
pub(super) struct Prepared {
    pub(super) method: Method,
    pub(super) uri: ByteString,
    /// The fields, where something looks at them or changes them.
    pub(super) headers: Option<HeaderMap>,
    pub(super) body: RequestBody,
    pub(super) framing: BodyFraming,
    /// The protocol to switch to.
    pub(super) upgrade: Option<HeaderValue>,
    /// The client asked with an extended CONNECT.
    pub(super) extended: bool,
    pub(super) ask_gzip: bool,
    pub(super) trailer: Option<HeaderValue>,
    pub(super) trusted: bool,
}

impl Middleware for ReverseProxy {
    fn handle<'a>(&'a self, ex: &'a mut Exchange, next: Next<'a>) -> LocalBoxFuture<'a, Result> {
        Box::pin(self.serve(ex, next))
    }

    fn passes_answers(&self) -> bool {
        self.handlers.is_empty()
    }
}

impl ReverseProxy {
    async fn serve(&self, ex: &mut Exchange, next: Next<'_>) -> Result {
        let start = Instant::now();
        let info = Info::new(start, self.verbose_logs);
        ex.add_source(PREFIX, info.clone());
        let mut line = self.take_line(ex);
        if self.request_buffers != 0 {
            line.body = Box::pin(buffered(line.body, self.request_buffers)).await;
        }
        let mut run = Run {
            local: ex.worker.local::<Local>(),
            info,
            start,
            prepared: self.prepare(ex, line),
            tried: Tried::new(),
            tried_dials: Vec::new(),
            cookies: None,
            again: false,
        };
        let mut retries = 0;
        let mut earlier = None;
        let result = loop {
            let problem = match self.attempt(ex, &mut run, next).await {
                Ok(response) => break Ok(response),
                Err(Problem::Final(error)) => break Err(error),
                // An earlier failure says more than that nobody is left.
                Err(Problem::NoUpstream) => earlier.take().unwrap_or(Problem::NoUpstream),
                Err(problem) => problem,
            };
            if !Box::pin(self.may_try_again(ex, &mut run, &problem, retries)).await {
                break Err(problem.into_error());
            }
            if self.verbose_logs {
                tracing::debug!(
                    target: "http.handlers.reverse_proxy",
                    error = problem.text(),
                    after = self.lb.try_interval.as_secs_f64(),
                    "retrying"
                );
            }
            earlier = Some(problem);
            run.again = true;
            retries += 1;
        };
        run.info.ended(retries);
        result
    }

    /// Request line and body for the upstream; the client's own stays as it is, its body taken.
    fn take_line(&self, ex: &mut Exchange) -> Line {
        let (method, uri, body) = match &self.rewrite {
            None => {
                let uri = ex.request.target.forwarded();
                (ex.request.method.clone(), uri, ex.request.body.take())
            }
            Some(rewrite) => {
                let (mut method, mut target) =
                    (ex.request.method.clone(), ex.request.target.clone());
                rewrite.apply(&mut method, &mut target, ex);
                let changed = method != ex.request.method;
                let drop_body = changed && matches!(method, Method::GET | Method::HEAD);
                // A body that the upstream does not get stays for the handlers after this one.
                let body = if drop_body { Body::Empty } else { ex.request.body.take() };
                (method, target.forwarded(), body)
            }
        };
        let chunked =
            ex.request.chunked && (body.exact_len().is_none() || ex.request.method == method);
        Line { method, uri, body, chunked }
    }

    /// Makes the request for the upstream.
    fn prepare(&self, ex: &Exchange, line: Line) -> Prepared {
        let Line { mut method, uri, body, chunked } = line;
        let extended = ex.request.method == Method::CONNECT && ex.request.protocol.is_some();
        let trusted =
            ex.trusted_proxy || forwarded::peer(ex).is_some_and(|peer| self.trusted.contains(peer));
        let seen = Seen::of(&ex.request.headers);
        let can_upgrade = ex.upgrade.is_some();
        let upgrade = if extended {
            method = Method::GET;
            ex.request.protocol.as_ref().and_then(|p| HeaderValue::try_from(&**p).ok())
        } else {
            seen.upgrade(&ex.request.headers)
        };
        let upgrade = upgrade.filter(|_| can_upgrade);
        let (body, framing) = frame(body, &method, chunked && self.request_buffers == 0);
        let trailer = matches!(framing, BodyFraming::Chunked)
            .then(|| ex.request.headers.get(header::TRAILER).cloned())
            .flatten();
        let plain = !self.needs_map
            && upgrade.is_none()
            && ex.connection.remote.is_some()
            && seen.is_plain(trusted);
        let headers = (!plain).then(|| {
            let mut headers = forwarded::prepare(ex, trusted, upgrade.as_ref(), trailer.as_ref());
            if extended {
                forwarded::websocket_upgrade(&mut headers);
            }
            headers
        });
        Prepared {
            ask_gzip: self.transport.compression() && !seen.encoding && method != Method::HEAD,
            method,
            uri,
            headers,
            body,
            framing,
            upgrade,
            extended,
            trailer,
            trusted,
        }
    }
}

/// How a body goes out, and how its end is told.
fn frame(body: Body, method: &Method, chunked: bool) -> (RequestBody, BodyFraming) {
    if chunked {
        let body = match body {
            Body::Full(bytes) => RequestBody::Full(bytes),
            Body::Empty => RequestBody::None,
            stream @ Body::Stream(_) => RequestBody::Stream(stream),
        };
        return (body, BodyFraming::Chunked);
    }
    match (body.exact_len(), body) {
        (Some(0), _) | (_, Body::Empty) => {
            let usual = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
            (RequestBody::None, if usual { BodyFraming::Length(0) } else { BodyFraming::None })
        }
        (_, Body::Full(bytes)) => {
            let length = bytes.len() as u64;
            (RequestBody::Full(bytes), BodyFraming::Length(length))
        }
        (Some(length), stream) => (RequestBody::Stream(stream), BodyFraming::Length(length)),
        (None, stream) => (RequestBody::Stream(stream), BodyFraming::Chunked),
    }
}

impl From<Problem> for HttpError {
    fn from(problem: Problem) -> Self {
        problem.into_error()
    }
}
