//! One request through its server: checks, routes, error routes, response filters, access log.

use std::{rc::Rc, sync::Arc};

use caddis_core::{
    Body, ErrorKind, Exchange, HttpError, LocalBoxFuture, Next, Response, Result, WriteLimits,
    exchange::{OwnServer, Tunnel},
};
use caddis_logging::{FailedRequest, Handled};
use caddis_wire::PassedFields;
use http::{HeaderValue, Method, StatusCode, header};

use crate::{
    log_body::{Open, Pending},
    server::ServerRuntime,
    sniff,
    streams::Received,
};

/// Longest method that is routed (spec D186).
const MAX_METHOD: usize = 32;

/// What a front is to send.
pub(crate) struct Served {
    pub(crate) response: Response,
    /// The response's fields, where they are passed on as they came.
    pub(crate) passed: Option<PassedFields>,
    /// No answer: close the connection or reset the stream.
    pub(crate) abort: bool,
    /// Close the connection after the answer.
    pub(crate) close: bool,
    /// Hand the raw stream to this after the head.
    pub(crate) tunnel: Option<Tunnel>,
}

impl Served {
    /// An empty 200.
    pub(crate) fn empty() -> Self {
        let response = Response::new(Body::Empty);
        Self { response, passed: None, abort: false, close: false, tunnel: None }
    }

    /// Whether there is nothing to it but a head and a body that is all here.
    pub(crate) fn is_plain(&self) -> bool {
        !self.abort
            && self.tunnel.is_none()
            && matches!(self.response.body(), Body::Empty | Body::Full(_))
            && self.response.extensions().get::<WriteLimits>().is_none()
    }
}

/// Knows how much of a request's body was read so far.
pub(crate) trait BytesRead {
    /// Bytes.
    fn bytes_read(&self) -> u64;
}

/// Answers a request.
pub(crate) async fn serve(
    server: &Arc<ServerRuntime>,
    mut ex: Box<Exchange>,
    bytes_read: Rc<dyn BytesRead>,
) -> Served {
    let plan = &server.plan;
    plan.trust.apply(&mut ex);
    if plan.asks_itself {
        ex.own_server = Some(server.clone());
    }
    let pending = Pending::begin(server, &ex, bytes_read);
    ex.may_pass &= !pending.is_logged();
    let mut open = Open::new(server, ex, pending);
    let Some((ex, pending)) = open.parts() else { return Served::empty() };
    let mut result = match check(server, ex) {
        Err(error) => Err(error),
        Ok(()) if is_challenge(ex) => Box::pin(challenge(server, ex)).await,
        Ok(()) => plan.routes.run(ex).await,
    };
    let mut abort = false;
    if let Err(error) = result {
        abort = error.kind == ErrorKind::Abort;
        result = handle_error(server, ex, error, pending).await;
    }
    if let Err(error) = &result {
        // Only an abort is left over.
        abort = error.kind == ErrorKind::Abort;
    }
    let mut response = result.unwrap_or_else(|_| Response::new(Body::Empty));
    while let Some(filter) = ex.response_filters.pop() {
        filter.apply(ex, &mut response);
    }
    let tunnel = ex.upgrade.take().and_then(|upgrade| upgrade.run);
    let close = ex.close;
    let passed = ex.passed.take();
    let mut response = if passed.is_none() && sniff::is_needed(&response) {
        Box::pin(sniff::content_type(response)).await
    } else {
        response
    };
    if response.status() == StatusCode::NOT_MODIFIED {
        response.headers_mut().remove(header::CONTENT_TYPE);
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    let Some((ex, pending)) = open.close() else { return Served::empty() };
    let (response, tunnel) = pending.attach(server, ex, response, abort, tunnel);
    Served { response, passed, abort, close, tunnel }
}

impl OwnServer for ServerRuntime {
    fn ask(self: Arc<Self>, ex: Box<Exchange>) -> LocalBoxFuture<'static, Result<Response>> {
        Box::pin(async move {
            let served = serve(&self, ex, Rc::new(Received(Rc::default()))).await;
            if served.abort { Err(HttpError::abort()) } else { Ok(served.response) }
        })
    }
}

/// Whether a request asks for the options of the server as a whole (RFC 9110 §9.3.7), which no route
/// answers in HTTP/1 and HTTP/2, as in Go's server.
pub(crate) fn asks_for_options(ex: &Exchange) -> bool {
    ex.original.method == Method::OPTIONS && ex.original.target.as_str() == "*"
}

/// Whether a request looks like an authority's (T073).
fn is_challenge(ex: &Exchange) -> bool {
    caddis_tls::Challenges::is_answer_path(ex.request.target.path())
        && ex.request.method == Method::GET
}

/// The answer to an authority, before any route; what is no challenge of ours is routed as usual.
async fn challenge(server: &Arc<ServerRuntime>, ex: &mut Exchange) -> Result {
    let Some(answer) = server.challenge_answer(ex).await else {
        return server.plan.routes.run(ex).await;
    };
    let mut response = ex.respond(StatusCode::OK);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    *response.body_mut() = Body::from(answer);
    Ok(response)
}

/// What is refused before any route.
fn check(server: &ServerRuntime, ex: &Exchange) -> Result<()> {
    if ex.request.method.as_str().len() > MAX_METHOD {
        return Err(HttpError::status(StatusCode::METHOD_NOT_ALLOWED));
    }
    if server.plan.strict_sni_host
        && let Some(tls) = &ex.connection.tls
        && !tls.server_name.eq_ignore_ascii_case(ex.host())
    {
        return Err(HttpError::new(
            StatusCode::MISDIRECTED_REQUEST,
            format!(
                "strict host matching: TLS ServerName ({}) and HTTP Host ({}) values do not match",
                tls.server_name,
                ex.host()
            ),
        ));
    }
    Ok(())
}

/// The error routes, or an empty answer with the error's status. `Err` is an abort.
async fn handle_error(
    server: &ServerRuntime,
    ex: &mut Exchange,
    error: HttpError,
    pending: &mut Pending,
) -> Result {
    if error.kind == ErrorKind::Abort {
        return Ok(bare(ex, error.status));
    }
    let routes = server.plan.errors.as_ref().filter(|_| error.kind == ErrorKind::Handler);
    ex.enter_error(&error);
    let after = pending.failed(&error);
    let outcome = |handled| FailedRequest { error: &error, after, handled };
    let Some(routes) = routes else {
        server.access_log.log_error(ex, &outcome(Handled::No));
        return Ok(bare(ex, error.status));
    };
    match Next::new(routes, None).run(ex).await {
        Ok(response) => {
            server.access_log.log_error(ex, &outcome(Handled::Yes));
            Ok(response)
        }
        Err(again) if again.kind == ErrorKind::Abort => Err(again),
        Err(again) => {
            server.access_log.log_error(ex, &outcome(Handled::Failed(&again)));
            ex.response_filters.clear();
            Ok(bare(ex, error.status))
        }
    }
}

fn bare(ex: &mut Exchange, status: StatusCode) -> Response {
    ex.response_filters.clear();
    let mut response = ex.respond(status);
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
