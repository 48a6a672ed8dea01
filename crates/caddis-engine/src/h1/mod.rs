//! The HTTP/1 front: reads heads with `caddis-wire`, runs the service, writes answers.

mod body;
mod conn;
mod patience;
mod respond;
#[cfg(target_os = "linux")]
mod splice;

use std::{
    cell::RefCell,
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use bytes::BytesMut;
use bytestring::ByteString;
use caddis_core::{
    Body, Exchange, Request, Target, WriteLimits,
    exchange::{Io, Upgrade},
};
use caddis_plan::Timeouts;
use caddis_wire::{
    BodyDecoder, BodyFraming, BodyPart, HeadError, Headers, Limits, Parsed, RequestHead,
};
use http::{HeaderMap, Method, StatusCode, Version, header};
use tokio::time::Instant;

use self::{
    body::RequestBody,
    conn::{BodyProgress, SharedConn, fill, into_io, write_all},
    patience::Patience,
    respond::{Sent, send},
};
pub(crate) use self::{
    conn::{Conn, Rewind},
    respond::{date, give_buffer, take_buffer},
};
use crate::{
    body_limits::BodyLimits,
    connection::ConnCx,
    server::ServerRuntime,
    service::{Served, asks_for_options, serve},
};

/// Go reads this much over the configured limit before it refuses a head.
const HEAD_SLACK: usize = 4096;
/// An unread request body up to this size is drained so that the connection can go on.
pub(crate) const DRAIN_LIMIT: u64 = 256 * 1024;
/// How long the rest of an unread body may take.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// How long a refused client may take to read the refusal.
pub(crate) const LINGER: Duration = Duration::from_millis(500);

/// How long a new connection may take to its first request when the server goes; closing it at once
/// would lose a request that is on its way.
pub(crate) const FIRST_REQUEST: Duration = Duration::from_secs(3);

/// Serves a connection until it closes, is upgraded, or is told to drain.
pub(crate) async fn serve_connection<S: Io + 'static>(conn: SharedConn<S>, cx: ConnCx) {
    let mut front = Front::default();
    loop {
        let head = match front.next_head(&conn, &cx).await {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(error) => return Box::pin(refuse(&conn, error)).await,
        };
        // Asked only now: a request that comes after a reload meets the new config.
        let server = cx.listener.server();
        let facts = Facts::of(&head, &server);
        let Some(ex) = front.exchange(&conn, head, &server, &cx) else {
            return Box::pin(refuse(&conn, HeadError::Target)).await;
        };
        let served = if asks_for_options(&ex) {
            Served::empty()
        } else {
            // Boxed, so that an idle connection does not carry the state of a request.
            let mut service = Box::pin(serve(&server, ex, front.progress.clone()));
            match drive(&conn, &front, service.as_mut()).await {
                Some(served) => served,
                None => return,
            }
        };
        let (progress, limits) = (&front.progress, &server.plan.timeouts);
        let sent = if served.is_plain() && progress.done.get() {
            let keep_alive = facts.keep_alive && !served.close && !cx.drain.is_begun();
            let answer = (served.response, served.passed);
            respond::send_whole(&conn, answer, &facts, keep_alive, limits.write_idle).await
        } else {
            Box::pin(finish(&conn, served, &facts, progress, limits, &cx)).await
        };
        match sent {
            Sent::KeepAlive if progress.done.get() => {}
            Sent::KeepAlive | Sent::Close => return Box::pin(linger(&conn)).await,
            Sent::Failed => return,
            Sent::Tunnel(tunnel) => {
                drop(front);
                if let Some(io) = into_io(conn) {
                    tunnel(io).await;
                }
                return;
            }
        }
    }
}

/// What a connection keeps from request to request.
struct Front {
    progress: Rc<BodyProgress>,
    interim: Interim,
    informational: Option<Rc<dyn Fn(StatusCode, HeaderMap)>>,
    patience: Patience,
    first: bool,
    opened: Instant,
}

impl Default for Front {
    fn default() -> Self {
        Self {
            progress: Rc::new(BodyProgress::new(BodyDecoder::new(BodyFraming::None), false)),
            interim: Interim::default(),
            informational: None,
            patience: Patience::default(),
            first: true,
            opened: Instant::now(),
        }
    }
}

impl Front {
    /// Waits for the next request. `None`: the connection ended or is to end.
    async fn next_head<S: Io>(
        &mut self,
        conn: &SharedConn<S>,
        cx: &ConnCx,
    ) -> Result<Option<RequestHead>, HeadError> {
        let (header, limits) = {
            let server = cx.listener.binding();
            let plan = &server.server.plan;
            let wait = if self.first { plan.timeouts.header } else { plan.timeouts.idle };
            self.patience.wait(wait);
            (plan.timeouts.header, Limits::with_max_head(plan.max_header_bytes + HEAD_SLACK))
        };
        let fresh = std::mem::take(&mut self.first);
        let mut begun = !conn.borrow().buffer.is_empty();
        if begun {
            self.patience.wait(header);
            if let Parsed::Complete(head, _) = conn.borrow_mut().take_head(&limits)? {
                return Ok(Some(head));
            }
        }
        loop {
            let step = std::future::poll_fn(|task| {
                // Bytes win over the end: a request that is here already is answered.
                match conn.borrow_mut().poll_head(task, &limits) {
                    Poll::Pending => {}
                    Poll::Ready(step) => return Poll::Ready(step.ok()),
                }
                if !begun && self.patience.poll_drain(task, &cx.drain) {
                    if !fresh {
                        return Poll::Ready(None);
                    }
                    // Whoever connected a moment ago is about to send a request.
                    self.patience.at_most(self.opened + FIRST_REQUEST);
                }
                if self.patience.poll(task).is_ready() {
                    return Poll::Ready(None);
                }
                Poll::Pending
            });
            match step.await {
                None => return Ok(None),
                Some(Err(error)) => return Err(error),
                Some(Ok(Parsed::Complete(head, _))) => return Ok(Some(head)),
                Some(Ok(Parsed::Partial)) if begun => {}
                Some(Ok(Parsed::Partial)) => {
                    begun = true;
                    self.patience.wait(header);
                }
            }
        }
    }

    /// The request as handlers see it. `None` for a target that cannot be taken apart.
    fn exchange<S: Io + 'static>(
        &mut self,
        conn: &SharedConn<S>,
        mut head: RequestHead,
        server: &ServerRuntime,
        cx: &ConnCx,
    ) -> Option<Box<Exchange>> {
        if head.odd_names {
            server.plan.header_names.apply(&mut head.headers);
        }
        let expect = head.expect_continue && head.version == Version::HTTP_11;
        let fresh = BodyProgress::new(BodyDecoder::new(head.framing), expect);
        match Rc::get_mut(&mut self.progress) {
            Some(progress) => *progress = fresh,
            None => self.progress = Rc::new(fresh),
        }
        let body = if self.progress.done.get() {
            Body::Empty
        } else {
            let timeouts = &server.plan.timeouts;
            let (conn, progress) = (conn.clone(), self.progress.clone());
            Body::stream(RequestBody::new(conn, progress, BodyLimits::begin(timeouts)))
        };
        let upgrade =
            (head.upgrade && !drop_h2c(&mut head.headers)) || head.method == Method::CONNECT;
        let informational = (head.version == Version::HTTP_11).then(|| {
            let sink = || self.interim.sink();
            self.informational.get_or_insert_with(sink).clone()
        });
        let mut ex = cx.exchange(request(head, body)?, server);
        ex.informational = informational;
        ex.may_pass = true;
        if upgrade {
            ex.upgrade = Some(Upgrade::default());
        }
        Some(ex)
    }
}

/// What of a request decides how its answer is framed.
pub(crate) struct Facts {
    pub(crate) version: Version,
    pub(crate) keep_alive: bool,
    pub(crate) head_method: bool,
}

impl Facts {
    fn of(head: &RequestHead, server: &ServerRuntime) -> Self {
        Self {
            version: head.version,
            keep_alive: head.keep_alive && server.plan.protocols.h1,
            head_method: head.method == Method::HEAD,
        }
    }
}

/// Polls the service; meanwhile writes informational answers and watches for the client's end.
/// `None`: the client is gone.
async fn drive<S: Io>(
    conn: &SharedConn<S>,
    front: &Front,
    mut service: Pin<&mut impl Future<Output = Served>>,
) -> Option<Served> {
    std::future::poll_fn(|cx| {
        let served = service.as_mut().poll(cx);
        let mut shared = conn.borrow_mut();
        let mut pending = front.interim.0.borrow_mut();
        if !pending.is_empty() {
            match shared.poll_write_all(cx, &mut *pending) {
                Poll::Ready(Ok(())) => *pending = BytesMut::new(),
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            let _ = shared.poll_flush(cx);
        }
        if let Poll::Ready(served) = served {
            return Poll::Ready(Some(served));
        }
        if front.progress.done.get() && shared.buffer.is_empty() {
            match shared.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Ready(Ok(_)) | Poll::Pending => {}
            }
        }
        Poll::Pending
    })
    .await
}

/// Sends an answer that is not plain: a stream, a tunnel, one before the request was all read.
async fn finish<S: Io + 'static>(
    conn: &SharedConn<S>,
    served: Served,
    facts: &Facts,
    progress: &BodyProgress,
    limits: &Timeouts,
    cx: &ConnCx,
) -> Sent {
    let Served { response, passed, abort, close, tunnel } = served;
    if abort {
        return Sent::Failed;
    }
    if let Some(tunnel) = tunnel {
        if !progress.done.get() {
            // A protocol cannot change within a message (RFC 9110 §7.8).
            return Sent::Failed;
        }
        let (parts, _) = response.into_parts();
        let mut out = Vec::new();
        respond::write_head(&mut out, (&parts, None), BodyFraming::None, true, facts.version);
        return match write_all(conn, &out).await {
            Ok(()) => Sent::Tunnel(tunnel),
            Err(_) => Sent::Failed,
        };
    }
    let mut keep_alive = facts.keep_alive && !close && !cx.drain.is_begun();
    // Where the connection ends anyway, the answer does not wait.
    if keep_alive && !progress.done.get() {
        keep_alive = drain(conn, progress, limits.read).await;
    }
    let own = response.extensions().get::<WriteLimits>().copied().unwrap_or_default();
    let write_idle = own.idle.or(limits.write_idle);
    let left = own.deadline.map(|at| at.saturating_duration_since(std::time::Instant::now()));
    let sending = send(conn, (response, passed), facts, keep_alive, write_idle, progress);
    within(left, sending).await.unwrap_or(Sent::Failed)
}

/// Takes off an offer to go on with HTTP/2 in clear text: passed on, it would open a tunnel past
/// every route (RFC 9113 deprecated it). Whether there was one.
fn drop_h2c(headers: &mut Headers) -> bool {
    let offers = headers
        .get_all(header::UPGRADE)
        .iter()
        .any(|value| value.as_bytes().to_ascii_lowercase().windows(3).any(|part| part == b"h2c"));
    if offers {
        headers.remove(header::UPGRADE);
        headers.remove("http2-settings");
    }
    offers
}

/// Reads what is left of a body that nobody wants, within limits. Whether it ended.
async fn drain<S: Io>(
    conn: &SharedConn<S>,
    progress: &BodyProgress,
    read: Option<Duration>,
) -> bool {
    // A client that waits for 100 Continue sends nothing; a body that a handler still holds is
    // the handler's. Both end the connection.
    if progress.held.get() || progress.expect.get() || progress.failed.get() {
        return false;
    }
    // Nor is a long rest worth waiting for: the answer goes out at once.
    if progress.decoder.borrow().remaining().is_some_and(|left| left > DRAIN_LIMIT) {
        return false;
    }
    let limit = read.map_or(DRAIN_TIME, |limit| limit.min(DRAIN_TIME));
    let read = async {
        let mut total = 0;
        loop {
            let part = progress.decoder.borrow_mut().take(&mut conn.borrow_mut().buffer);
            match part {
                Ok(BodyPart::Data(data)) => total += data.len() as u64,
                Ok(BodyPart::End(_)) => return true,
                Ok(BodyPart::NeedMore) => {
                    if !matches!(fill(conn).await, Ok(read) if read > 0) {
                        return false;
                    }
                }
                Err(_) => return false,
            }
            if progress.decoder.borrow().is_done() {
                return true;
            }
            if total > DRAIN_LIMIT {
                return false;
            }
        }
    };
    let ended = within(Some(limit), read).await.unwrap_or(false);
    progress.done.set(ended);
    ended
}

/// Answers a head that was refused, and gives the client time to read it.
async fn refuse<S: Io>(conn: &SharedConn<S>, error: HeadError) {
    let mut out = Vec::new();
    caddis_wire::write_error_response(&mut out, error);
    if write_all(conn, &out).await.is_ok() {
        linger(conn).await;
    }
}

/// Ends the sending side and reads on for a moment, so that the answer is not lost to a reset.
async fn linger<S: Io>(conn: &SharedConn<S>) {
    let shutdown = std::future::poll_fn(|cx| {
        let mut conn = conn.borrow_mut();
        Pin::new(&mut conn.io).poll_shutdown(cx)
    });
    let drained = async {
        let _ = shutdown.await;
        let mut total = 0;
        while let Ok(read) = fill(conn).await {
            conn.borrow_mut().buffer.clear();
            total += read as u64;
            if read == 0 || total > 4 * DRAIN_LIMIT {
                return;
            }
        }
    };
    within(Some(LINGER), drained).await;
}

/// Runs a future with a limit; `None` when the limit passed. The timer is armed only if the
/// future has to wait.
pub(crate) async fn within<F: Future>(limit: Option<Duration>, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut timer = None;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        let Some(limit) = limit else { return Poll::Pending };
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
}

/// The head as handlers see it. `None` for a target that cannot be taken apart.
fn request(head: RequestHead, body: Body) -> Option<Request> {
    let RequestHead { method, origin, host, mut headers, framing, version, .. } = head;
    let host = ByteString::try_from(host).ok()?;
    if framing == BodyFraming::Chunked {
        headers.remove(header::TRANSFER_ENCODING);
    }
    let target = Target::parse_bytes(origin)?;
    let chunked = framing == BodyFraming::Chunked;
    Some(Request { method, target, version, host, headers, body, protocol: None, chunked })
}

/// Informational answers on their way out.
#[derive(Default)]
struct Interim(Rc<RefCell<BytesMut>>);

impl Interim {
    fn sink(&self) -> Rc<dyn Fn(StatusCode, HeaderMap)> {
        let buffer = self.0.clone();
        Rc::new(move |status, headers| {
            let mut out = Vec::new();
            caddis_wire::write_response_head(
                &mut out,
                Version::HTTP_11,
                status,
                None,
                &headers,
                BodyFraming::None,
                true,
            );
            buffer.borrow_mut().extend_from_slice(&out);
        })
    }
}
