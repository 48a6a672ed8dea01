//! The HTTP/2 front: hyper's server over the same service.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use bytestring::ByteString;
use caddis_core::{
    Body, BodyError, Request, Target,
    exchange::{Io, Upgrade},
};
use caddis_plan::HeaderNameRule;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use crate::{
    connection::ConnCx,
    gather::Gathered,
    service::serve,
    streams::{Activity, ActivityGuard, GOODBYE, Received, tell_length},
};

/// What a client may have open at once on a connection (Go's default).
const MAX_STREAMS: u32 = 250;
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Serves an HTTP/2 connection until it closes or is told to drain.
pub(crate) async fn serve_connection<S: Io + 'static>(io: S, cx: ConnCx) {
    let server = cx.listener.server();
    let idle = server.plan.timeouts.idle;
    let max_head = u32::try_from(server.plan.max_header_bytes + 4096).unwrap_or(u32::MAX);
    drop(server);
    let drain = cx.drain.clone();
    let active = Rc::new(Activity::default());
    let counted = active.clone();
    let service = service_fn(move |request| {
        let cx = cx.clone();
        let guard = counted.enter();
        // Boxed, since hyper's stream and the runtime move it a dozen times before it runs.
        Box::pin(answer(request, cx, guard))
    });
    let mut builder = hyper::server::conn::http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(max_head)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(idle)
        .keep_alive_timeout(Duration::from_secs(20))
        .enable_connect_protocol();
    let io = Gathered::new(io);
    let served = builder.serve_connection(TokioIo::new(io.clone()), service);
    let mut connection = std::pin::pin!(served);
    let mut drained = std::pin::pin!(drain.wait());
    let mut timer = std::pin::pin!(tokio::time::sleep(idle.unwrap_or(FOREVER)));
    let mut finishing = false;
    let mut step = |task: &mut Context<'_>| {
        if connection.as_mut().poll(task).is_ready() {
            return Poll::Ready(());
        }
        if !finishing {
            let mut finish = drained.as_mut().poll(task).is_ready();
            if let Some(idle) = idle
                && timer.as_mut().poll(task).is_ready()
            {
                finish |= active.idle_for(idle);
                timer.as_mut().reset(Instant::now() + idle);
            }
            if finish {
                finishing = true;
                connection.as_mut().graceful_shutdown();
                timer.as_mut().reset(Instant::now() + GOODBYE);
                if connection.as_mut().poll(task).is_ready() {
                    return Poll::Ready(());
                }
            }
        }
        while timer.as_mut().poll(task).is_ready() {
            // A client that does not answer the goodbye is not waited for.
            if finishing && active.open() == 0 {
                return Poll::Ready(());
            }
            timer.as_mut().reset(Instant::now() + GOODBYE);
        }
        Poll::Pending
    };
    std::future::poll_fn(|task| {
        let ended = step(task);
        // What was written meanwhile goes out together.
        match io.poll_send(task) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(())) | Poll::Pending => ended,
        }
    })
    .await;
}

const FOREVER: Duration = Duration::from_secs(86400 * 365);

/// Spawns streams on the worker they came to.
#[derive(Clone)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// Why a stream is reset.
#[derive(Debug)]
struct Reset;

impl std::fmt::Display for Reset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stream aborted")
    }
}

impl std::error::Error for Reset {}

async fn answer(
    request: http::Request<Incoming>,
    cx: ConnCx,
    guard: ActivityGuard,
) -> Result<http::Response<GuardedBody>, Reset> {
    let server = cx.listener.server();
    let (mut parts, incoming) = request.into_parts();
    let on_upgrade = (parts.method == Method::CONNECT).then(|| {
        let mut request = http::Request::new(());
        std::mem::swap(request.extensions_mut(), &mut parts.extensions);
        let protocol = request.extensions().get::<hyper::ext::Protocol>().cloned();
        (hyper::upgrade::on(&mut request), protocol)
    });
    let bytes = Rc::new(Cell::new(0));
    let incoming = Http2Body { incoming, bytes: bytes.clone() };
    let Some(mut request) = to_request(parts, incoming, &server.plan.header_names) else {
        let mut response = http::Response::new(GuardedBody { body: Body::Empty, _guard: guard });
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    };
    if let Some((_, Some(protocol))) = &on_upgrade {
        request.protocol = Some(ByteString::from(protocol.as_str()));
    }
    let head_method = request.method == Method::HEAD;
    let mut ex = cx.exchange(request, &server);
    if on_upgrade.is_some() {
        ex.upgrade = Some(Upgrade::default());
    }
    let served = Box::pin(serve(&server, ex, Rc::new(Received(bytes)))).await;
    if served.abort {
        return Err(Reset);
    }
    if let (Some(tunnel), Some((on_upgrade, _))) = (served.tunnel, on_upgrade) {
        tokio::task::spawn_local(async move {
            if let Ok(upgraded) = on_upgrade.await {
                tunnel(Box::new(TokioIo::new(upgraded))).await;
            }
        });
    }
    let (mut parts, body) = served.response.into_parts();
    caddis_wire::remove_connection_fields(&mut parts.headers);
    tell_length(&mut parts, &body, head_method);
    let body = if head_method { Body::Empty } else { body };
    Ok(http::Response::from_parts(parts, GuardedBody { body, _guard: guard }))
}

/// What fields want something done, seen in one pass.
#[derive(Default)]
struct Seen {
    host: bool,
    cookies: usize,
    odd: bool,
}

impl Seen {
    fn of(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for (name, _) in headers {
            seen.host |= name == header::HOST;
            seen.cookies += usize::from(name == header::COOKIE);
            seen.odd |= name.as_str().bytes().any(|byte| byte == b'_' || byte == b'.');
        }
        seen
    }
}

fn to_request(
    parts: http::request::Parts,
    body: Http2Body,
    names: &HeaderNameRule,
) -> Option<Request> {
    let http::request::Parts { method, uri, mut headers, .. } = parts;
    let seen = Seen::of(&headers);
    let field = if seen.host { headers.remove(header::HOST) } else { None };
    let host = match uri.authority() {
        // User information has no place in a request (RFC 9113 §8.3.1).
        Some(authority) if authority.as_str().contains('@') => return None,
        Some(authority) => {
            // A Host field that disagrees with :authority hides one of two sites (RFC 9113 §8.3.1).
            if field.is_some_and(|host| {
                !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())
            }) {
                return None;
            }
            ByteString::from(authority.as_str())
        }
        None => ByteString::try_from(field?.as_bytes()).ok()?,
    };
    let target = match uri.path_and_query() {
        Some(path) if path.as_str() == "*" && method != Method::OPTIONS => return None,
        Some(path) => Target::parse(ByteString::from(path.as_str()))?,
        None => Target::parse(host.clone())?,
    };
    if seen.cookies > 1 {
        join_cookies(&mut headers);
    }
    if seen.odd {
        names.apply(&mut headers);
    }
    let body = if http_body::Body::is_end_stream(&body.incoming) {
        Body::Empty
    } else {
        Body::stream(body)
    };
    let version = Version::HTTP_2;
    let headers = headers.into();
    Some(Request { method, target, version, host, headers, body, protocol: None, chunked: false })
}

/// Cookie crumbs become one field again (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> =
        headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// A request body off a stream.
struct Http2Body {
    incoming: Incoming,
    bytes: Rc<Cell<u64>>,
}

impl http_body::Body for Http2Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|error| {
                if error.is_canceled() || error.is_closed() {
                    BodyError::Canceled
                } else {
                    BodyError::Io(std::io::Error::other(error))
                }
            })?;
            if let Some(data) = frame.data_ref() {
                self.bytes.set(self.bytes.get() + data.len() as u64);
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A response body that keeps its connection counted as active.
struct GuardedBody {
    body: Body,
    _guard: ActivityGuard,
}

impl http_body::Body for GuardedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
