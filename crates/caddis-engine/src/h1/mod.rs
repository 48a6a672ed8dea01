//! The HTTP/1 front: reads heads with `caddis-wire`, runs the service, writes answers.

mod body;
mod conn;
mod respond;

use std::{cell::RefCell, future::Future, pin::pin, rc::Rc, sync::Arc, task::Poll, time::Duration};

use bytes::BytesMut;
use bytestring::ByteString;
use caddis_core::{
    Body, Request, Target,
    exchange::{Io, Upgrade},
};
use caddis_plan::Timeouts;
use caddis_wire::{BodyDecoder, BodyFraming, BodyPart, HeadError, Limits, Parsed, RequestHead};
use http::{HeaderMap, Method, StatusCode, Version, header};
use tokio::time::Instant;

pub(crate) use self::conn::Rewind;
use self::{
    body::RequestBody,
    conn::{BodyProgress, Conn, SharedConn, fill, into_io, write_all},
    respond::{Sent, send},
};
use crate::{
    connection::ConnCx,
    server::ServerRuntime,
    service::{Served, serve},
};

/// Go reads this much over the configured limit before it refuses a head.
const HEAD_SLACK: usize = 4096;
/// An unread request body up to this size is drained so that the connection can go on.
const DRAIN_LIMIT: u64 = 256 * 1024;
/// How long the rest of an unread body may take.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// How long a refused client may take to read the refusal.
const LINGER: Duration = Duration::from_millis(500);

/// Serves a connection until it closes, is upgraded, or is told to drain.
pub(crate) async fn serve_connection<S: Io + 'static>(io: S, before: BytesMut, cx: ConnCx) {
    let mut conn = Conn::new(io, before);
    let mut first = true;
    loop {
        let head = match next_head(&conn, &cx, first).await {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(error) => return refuse(&conn, error).await,
        };
        first = false;
        // Asked only now: a request that comes after a reload meets the new config.
        let server = cx.listener.server();
        // Boxed, so that an idle connection does not carry the state of a request.
        match Box::pin(exchange(conn, head, &server, &cx)).await {
            Some(back) => conn = back,
            None => return,
        }
    }
}

/// Waits for the next request. `None`: the connection ended or is to end.
async fn next_head<S: Io>(
    conn: &SharedConn<S>,
    cx: &ConnCx,
    first: bool,
) -> Result<Option<RequestHead>, HeadError> {
    let (timeouts, limits) = {
        let server = cx.listener.server();
        let max_head = server.plan.max_header_bytes + HEAD_SLACK;
        (server.plan.timeouts, Limits::with_max_head(max_head))
    };
    let mut deadline = None;
    if conn.borrow().buffer.is_empty() {
        let wait = if first { timeouts.header } else { timeouts.idle };
        let mut drained = pin!(cx.drain.cancelled());
        let read = std::future::poll_fn(|task| {
            // Bytes win over the end: a request that is here already is answered.
            match conn.borrow_mut().poll_fill(task) {
                Poll::Pending if drained.as_mut().poll(task).is_ready() => Poll::Ready(Ok(0)),
                other => other,
            }
        });
        match within(wait, read).await {
            Some(Ok(read)) if read > 0 => {}
            _ => return Ok(None),
        }
    }
    loop {
        {
            let mut conn = conn.borrow_mut();
            if let Parsed::Complete(head, used) = caddis_wire::parse_request(&conn.buffer, &limits)?
            {
                let _ = conn.buffer.split_to(used);
                if conn.buffer.is_empty() {
                    conn.buffer = BytesMut::new();
                }
                return Ok(Some(head));
            }
        }
        let until = *deadline.get_or_insert_with(|| timeouts.header.map(|t| Instant::now() + t));
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        match within(left, fill(conn)).await {
            Some(Ok(read)) if read > 0 => {}
            _ => return Ok(None),
        }
    }
}

/// One request and its answer. Gives the connection back where another request may follow.
async fn exchange<S: Io + 'static>(
    conn: SharedConn<S>,
    head: RequestHead,
    server: &Arc<ServerRuntime>,
    cx: &ConnCx,
) -> Option<SharedConn<S>> {
    let expect = head.expect_continue && head.version == Version::HTTP_11;
    let progress = Rc::new(BodyProgress::new(BodyDecoder::new(head.framing), expect));
    let facts = Facts {
        version: head.version,
        keep_alive: head.keep_alive && server.plan.protocols.h1,
        head_method: head.method == Method::HEAD,
    };
    let timeouts = &server.plan.timeouts;
    let body = if progress.done.get() {
        Body::Empty
    } else {
        let deadline = timeouts.read.map(|limit| Instant::now() + limit);
        Body::stream(RequestBody::new(conn.clone(), progress.clone(), timeouts.read_idle, deadline))
    };
    if head.method == Method::OPTIONS && head.origin == "*" {
        // A question about the server as a whole, which no route is about.
        let response = caddis_core::Response::new(Body::Empty);
        let served = Served { response, abort: false, close: false, tunnel: None };
        return finish(conn, served, &facts, &progress, timeouts, cx).await;
    }
    let mut head = head;
    let upgrade = (head.upgrade && !drop_h2c(&mut head.headers)) || head.method == Method::CONNECT;
    let Some(request) = request(head, body) else {
        refuse(&conn, HeadError::Target).await;
        return None;
    };
    let mut ex = cx.exchange(request);
    let interim = Interim::default();
    if facts.version == Version::HTTP_11 {
        ex.informational = Some(interim.sink());
    }
    if upgrade {
        ex.upgrade = Some(Upgrade::default());
    }
    let counted = progress.clone();
    let bytes_read = Rc::new(move || counted.bytes.get());
    let served = drive(&conn, &progress, &interim, serve(server, ex, bytes_read)).await?;
    finish(conn, served, &facts, &progress, timeouts, cx).await
}

/// Takes off an offer to go on with HTTP/2 in clear text: passed on, it would open a tunnel past
/// every route (RFC 9113 deprecated it). Whether there was one.
fn drop_h2c(headers: &mut HeaderMap) -> bool {
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

/// What of a request decides how its answer is framed.
pub(crate) struct Facts {
    pub(crate) version: Version,
    pub(crate) keep_alive: bool,
    pub(crate) head_method: bool,
}

/// Polls the service; meanwhile writes informational answers and watches for the client's end.
/// `None`: the client is gone.
async fn drive<S: Io>(
    conn: &SharedConn<S>,
    progress: &BodyProgress,
    interim: &Interim,
    service: impl Future<Output = Served>,
) -> Option<Served> {
    let mut service = pin!(service);
    std::future::poll_fn(|cx| {
        let served = service.as_mut().poll(cx);
        let mut shared = conn.borrow_mut();
        let mut pending = interim.0.borrow_mut();
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
        if progress.done.get() && shared.buffer.is_empty() {
            match shared.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Ready(Ok(_)) | Poll::Pending => {}
            }
        }
        Poll::Pending
    })
    .await
}

/// Writes the answer; runs a tunnel; decides whether the connection goes on.
async fn finish<S: Io + 'static>(
    conn: SharedConn<S>,
    served: Served,
    facts: &Facts,
    progress: &BodyProgress,
    limits: &Timeouts,
    cx: &ConnCx,
) -> Option<SharedConn<S>> {
    let Served { response, abort, close, tunnel } = served;
    if abort {
        return None;
    }
    if let Some(tunnel) = tunnel {
        let (parts, _) = response.into_parts();
        let mut out = Vec::new();
        respond::write_head(&mut out, &parts, BodyFraming::None, true, facts.version);
        write_all(&conn, &out).await.ok()?;
        tunnel(into_io(conn)?).await;
        return None;
    }
    let mut keep_alive = facts.keep_alive && !close && !cx.drain.is_cancelled();
    if !progress.done.get() {
        keep_alive &= drain(&conn, progress, limits.read).await;
    }
    let sent = send(&conn, response, facts, keep_alive, limits.write_idle, progress).await;
    match sent {
        Sent::KeepAlive if progress.done.get() => Some(conn),
        Sent::KeepAlive | Sent::Close => {
            linger(&conn).await;
            None
        }
        Sent::Failed => None,
    }
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
        std::pin::Pin::new(&mut conn.io).poll_shutdown(cx)
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
    let RequestHead { method, origin, authority, headers, framing, version, .. } = head;
    let mut headers = headers;
    let host = match headers.remove(header::HOST) {
        Some(host) => ByteString::try_from(host.as_bytes()).ok()?,
        None => match authority {
            Some(authority) => ByteString::try_from(authority).ok()?,
            None => ByteString::new(),
        },
    };
    headers.remove(header::TRANSFER_ENCODING);
    let target = Target::parse(ByteString::try_from(origin).ok()?)?;
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
