//! What becomes of an upstream's answer: tried again, given to routes, or passed on.

use std::rc::Rc;

use caddis_core::{
    Body, Exchange, HttpError, LocalBoxFuture, Next, NoSniff, Response, ResponseMatcher, Result,
    RouteList, Template,
};
use caddis_http::handlers::headers::HeaderOps;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};

use super::{
    attempt::Problem,
    buffer::buffered,
    copy_response::{self, Pending},
    forwarded::remove_hop_by_hop,
    handler::{ReverseProxy, Run},
    passed_on::{InFlight, PassedOn, pass_on},
    upgrade::Switch,
};
use crate::transport::http::{Answer, AnswerBody};

/// `header_down`.
#[derive(Debug, Default)]
pub(crate) struct Down {
    /// The operations.
    pub(crate) ops: Option<HeaderOps>,
    /// Which responses they are for.
    pub(crate) require: Option<ResponseMatcher>,
}

/// One entry of `handle_response`.
pub(crate) struct ResponseHandler {
    /// Which responses it is for.
    pub(crate) matcher: Option<ResponseMatcher>,
    /// Another status.
    pub(crate) status: Option<Template>,
    /// Routes to run instead.
    pub(crate) routes: RouteList,
}

/// The head of an answer that is to be passed on.
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    /// The answer is to a HEAD request.
    pub(crate) to_head: bool,
}

/// A response, or what has to be waited for to have one; boxed, so that the requests that need
/// nothing of it do not carry its state.
pub(super) enum Responded<'a> {
    Now(std::result::Result<Response, Problem>),
    Later(LocalBoxFuture<'a, Result>),
}

impl ReverseProxy {
    /// Makes the response out of an answer.
    pub(super) fn respond<'a>(
        &'a self,
        ex: &'a mut Exchange,
        run: &'a mut Run,
        mut answer: Answer,
        in_flight: InFlight,
        next: Next<'a>,
    ) -> Responded<'a> {
        let gunzip = run.prepared.ask_gzip && is_gzip(&answer.headers) && has_body(&answer.body);
        if gunzip {
            answer.headers.remove(header::CONTENT_ENCODING);
            answer.headers.remove(header::CONTENT_LENGTH);
        }
        if self.keeps_headers {
            run.info.set_headers(answer.headers.clone());
        }
        if self.is_unwanted(ex, run) {
            return Responded::Now(Err(Problem::Unwanted(answer.status)));
        }
        let Answer { status, version, headers, passed, body, at, .. } = answer;
        let body = match pass_on(body, gunzip, in_flight, &run.info, at) {
            PassedOn::Body(body) => body,
            PassedOn::Switched(conn, in_flight) => {
                let switch = self.switched(run, conn, in_flight);
                if self.handlers.is_empty() {
                    return Responded::Now(switch.answer(ex, headers).map_err(Problem::Final));
                }
                let head = Head { status, version, headers, to_head: false };
                let content = Content::Switch(Box::new(switch));
                return Responded::Later(Box::pin(self.handle(ex, run, head, content, next)));
            }
        };
        if let Some(mut passed) = passed {
            let mut early = std::mem::take(&mut ex.early_headers);
            passed.alt_svc = early.remove(header::ALT_SVC);
            passed.via = Some(super::forwarded::via(version));
            caddis_wire::recycle(early);
            ex.passed = Some(passed);
            let mut response = Response::new(body);
            *response.status_mut() = status;
            return Responded::Now(Ok(response));
        }
        let to_head = run.prepared.method == Method::HEAD;
        let head = Head { status, version, headers, to_head };
        if self.handlers.is_empty() && self.response_buffers == 0 {
            return Responded::Now(Ok(pass(ex, head, body, &self.down, run.cookies.take())));
        }
        Responded::Later(Box::pin(async move {
            let body = buffered(body, self.response_buffers).await;
            let mut head = head;
            if self.response_buffers != 0 {
                // Enough is here to guess a type by; see `pass`.
                head.headers.remove(header::TRANSFER_ENCODING);
            }
            self.handle(ex, run, head, Content::Body(body), next).await
        }))
    }

    async fn handle(
        &self,
        ex: &mut Exchange,
        run: &mut Run,
        mut head: Head,
        content: Content,
        next: Next<'_>,
    ) -> Result {
        for entry in &self.handlers {
            let fits = entry.matcher.as_ref();
            if !fits.is_none_or(|matcher| matcher.matches(head.status, &head.headers)) {
                continue;
            }
            let Some(status) = &entry.status else {
                let down = self.down.clone();
                let pending = Pending { head, content, down, cookie: run.cookies.take() };
                let _guard = copy_response::offer(ex, &run.info, pending);
                return Next::new(&entry.routes, Some(&next)).run(ex).await;
            };
            let text = status.render(ex);
            let code: u16 = text.parse().map_err(|_| {
                HttpError::internal(format_args!("strconv.Atoi: parsing {text:?}: invalid syntax"))
            })?;
            if code != 0 {
                head.status = StatusCode::from_u16(code).map_err(HttpError::internal)?;
            }
            break;
        }
        pass_content(ex, head, content, &self.down, run.cookies.take())
    }
}

/// What follows the head of an answer that is to be passed on.
pub(crate) enum Content {
    /// Its body.
    Body(Body),
    /// Another protocol.
    Switch(Box<Switch>),
}

/// The response for the client, or the tunnel where the status still says so.
pub(crate) fn pass_content(
    ex: &mut Exchange,
    head: Head,
    content: Content,
    down: &Down,
    cookie: Option<HeaderValue>,
) -> Result {
    match content {
        Content::Body(body) => Ok(pass(ex, head, body, down, cookie)),
        Content::Switch(switch) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
            switch.answer(ex, head.headers)
        }
        // Under another status it is no switch, and there is no body either.
        Content::Switch(_) => Ok(pass(ex, head, Body::Empty, down, cookie)),
    }
}

/// The response for the client, with what the upstream said.
pub(crate) fn pass(
    ex: &mut Exchange,
    head: Head,
    body: Body,
    down: &Down,
    cookie: Option<HeaderValue>,
) -> Response {
    let Head { status, version, mut headers, to_head } = head;
    let trailer = headers.get(header::TRAILER).cloned();
    // What comes in chunks goes on before there is enough of it to guess a type by, as in Caddy.
    let no_sniff = !headers.contains_key(header::CONTENT_TYPE)
        && headers.contains_key(header::TRANSFER_ENCODING);
    remove_hop_by_hop(&mut headers);
    if let Some(ops) = &down.ops
        && down.require.as_ref().is_none_or(|require| require.matches(status, &headers))
    {
        ops.apply(&mut headers, ex);
    }
    if !to_head && status != StatusCode::NOT_MODIFIED && !tells_length(&headers, &body) {
        headers.remove(header::CONTENT_LENGTH);
    }
    if let (Some(trailer), Body::Stream(_)) = (trailer, &body) {
        headers.append(header::TRAILER, trailer);
    }
    let mut early = std::mem::take(&mut ex.early_headers);
    early.remove(header::SERVER);
    if let Some(cookie) = cookie {
        early.append(header::SET_COOKIE, cookie);
    }
    let via = via(version);
    if early.len() == 1
        && !headers.contains_key(header::ALT_SVC)
        && let Some(value) = early.remove(header::ALT_SVC)
    {
        // The front's, on every answer over TLS: nothing to merge.
        headers.append(header::ALT_SVC, value);
    }
    if early.is_empty() {
        caddis_wire::recycle(early);
        headers.append(header::VIA, via);
    } else {
        early.append(header::VIA, via);
        merge(&mut early, headers);
        headers = early;
    }
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if no_sniff {
        response.extensions_mut().insert(NoSniff);
    }
    response
}

/// Whether `Content-Length` is right for the body; the front does not need it, the log shows it.
fn tells_length(headers: &HeaderMap, body: &Body) -> bool {
    caddis_wire::declared_length(headers) == body.exact_len()
}

fn via(version: Version) -> HeaderValue {
    super::forwarded::via(version).clone()
}

/// Adds all fields of one map to another.
pub(super) fn merge(into: &mut HeaderMap, from: HeaderMap) {
    let mut last = None;
    for (name, value) in from {
        if name.is_some() {
            last = name;
        }
        if let Some(name) = &last {
            // More fields than a map holds are dropped.
            let _ = into.try_append(name.clone(), value);
        }
    }
}

fn is_gzip(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"gzip"))
}

fn has_body(body: &AnswerBody) -> bool {
    match body {
        AnswerBody::Whole(body) => !body.is_empty(),
        AnswerBody::Http1(_) | AnswerBody::Multiplexed(_) => true,
        AnswerBody::Switched(_) => false,
    }
}

/// Keeps the compiler from forgetting that these are shared within one worker only.
pub(super) type SharedInfo = Rc<super::info::Info>;
