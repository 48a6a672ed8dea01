//! What is kept of a request until its answer is through: the access log entry and the metrics.
//!
//! The entry is written when the response body or the tunnel is dropped, at its end or where it
//! broke off, so that size and duration are true for every front.

use std::{
    cell::Cell,
    io,
    os::fd::BorrowedFd,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use caddis_core::{
    Body, BodyError, Exchange, HttpError, Response, StreamBody,
    exchange::{Io, Tunnel},
};
use caddis_wire::Headers;
use http::{HeaderMap, Method, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    request_metrics::{Counted, InFlight},
    server::ServerRuntime,
    service::BytesRead,
    streams::Received,
};

/// The bookkeeping of one request.
pub(crate) struct Pending {
    start: Instant,
    bytes_read: Rc<dyn BytesRead>,
    /// The request's headers as they came; only where an entry will be written.
    headers: Option<Headers>,
    counted: Option<InFlight>,
    error: Option<StatusCode>,
}

impl Pending {
    pub(crate) fn begin(
        server: &ServerRuntime,
        ex: &Exchange,
        bytes_read: Rc<dyn BytesRead>,
    ) -> Self {
        let wants = server.access_log.wants(ex.host());
        let counted = server.metrics.as_ref().map(|metrics| metrics.begin(&server.plan.routes, ex));
        Self {
            start: ex.start,
            bytes_read,
            headers: wants.then(|| ex.request.headers.clone()),
            counted,
            error: None,
        }
    }

    /// Whether an entry will be written.
    pub(crate) fn is_logged(&self) -> bool {
        self.headers.is_some()
    }

    /// Remembers the error for the metrics; how long it took until then.
    pub(crate) fn failed(&mut self, error: &HttpError) -> Duration {
        self.error = Some(error.status);
        self.start.elapsed()
    }

    /// The client left before there was an answer (status 499, spec R241).
    fn canceled(self, server: &Arc<ServerRuntime>, ex: Box<Exchange>) {
        let logged = self.headers.is_some() && !ex.log.skip;
        let record = Record {
            server: server.clone(),
            status: HttpError::canceled().status,
            aborted: false,
            headers: HeaderMap::new(),
            pending: self,
            logged,
            handled: ex.start.elapsed(),
            ex,
        };
        record.finish(0);
    }

    /// Joins the bookkeeping to the tunnel, where there is one, else to the response's body.
    pub(crate) fn attach(
        self,
        server: &Arc<ServerRuntime>,
        mut ex: Box<Exchange>,
        response: Response,
        abort: bool,
        tunnel: Option<Tunnel>,
    ) -> (Response, Option<Tunnel>) {
        let logged = self.headers.is_some() && !ex.log.skip;
        if !logged && self.counted.is_none() {
            // The exchange ends here, but what the response needs of it lives in its body.
            std::mem::take(&mut ex.request.headers).recycle();
            return (response, tunnel);
        }
        let (parts, body) = response.into_parts();
        let record = Record {
            server: server.clone(),
            status: if abort { StatusCode::OK } else { parts.status },
            aborted: abort,
            headers: if logged { parts.headers.clone() } else { HeaderMap::new() },
            pending: self,
            logged,
            handled: ex.start.elapsed(),
            ex,
        };
        if let Some(tunnel) = tunnel {
            return (Response::from_parts(parts, body), Some(record.until_end_of(tunnel)));
        }
        let length = body.exact_len();
        let head_method = record.ex.original.method == Method::HEAD;
        if body.is_empty() || head_method {
            // What the handler wrote counts, though an answer to HEAD does not carry it.
            record.finish(if head_method { length.unwrap_or(0) } else { 0 });
            return (Response::from_parts(parts, body), None);
        }
        let body = LoggedBody { body, length, size: 0, record: Some(Box::new(record)) };
        (Response::from_parts(parts, Body::Stream(Box::pin(body))), None)
    }
}

/// A request that is being answered. Who drops it before its end has lost the client, which then is
/// told to the log and the metrics.
pub(crate) struct Open<'a> {
    server: &'a Arc<ServerRuntime>,
    parts: Option<(Box<Exchange>, Pending)>,
}

impl<'a> Open<'a> {
    pub(crate) fn new(server: &'a Arc<ServerRuntime>, ex: Box<Exchange>, pending: Pending) -> Self {
        Self { server, parts: Some((ex, pending)) }
    }

    /// The request and its bookkeeping; there until [`Self::close`].
    pub(crate) fn parts(&mut self) -> Option<(&mut Exchange, &mut Pending)> {
        self.parts.as_mut().map(|(ex, pending)| (&mut **ex, pending))
    }

    /// The request is answered.
    pub(crate) fn close(mut self) -> Option<(Box<Exchange>, Pending)> {
        self.parts.take()
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some((ex, pending)) = self.parts.take() {
            pending.canceled(self.server, ex);
        }
    }
}

/// Everything an entry needs.
pub(crate) struct Record {
    pub(crate) server: Arc<ServerRuntime>,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) ex: Box<Exchange>,
    pending: Pending,
    logged: bool,
    /// The connection is closed without an answer.
    aborted: bool,
    handled: Duration,
}

impl Record {
    /// A tunnel is part of its request: the entry is written at its end, and its bytes count as
    /// those of the bodies, as in Caddy.
    fn until_end_of(mut self, tunnel: Tunnel) -> Tunnel {
        let (received, sent) = <(Rc<Cell<u64>>, Rc<Cell<u64>>)>::default();
        let before = std::mem::replace(&mut self.pending.bytes_read, Rc::new(Received::default()));
        self.pending.bytes_read = Rc::new(BothRead(before, received.clone()));
        let ending = Ending { record: Some(Box::new(self)), sent: sent.clone() };
        Box::new(move |io| {
            Box::pin(async move {
                tunnel(Box::new(CountedIo { io, received, sent })).await;
                drop(ending);
            })
        })
    }

    fn finish(self, size: u64) {
        let duration = self.ex.start.elapsed();
        // An aborted request has no answer whose status could be counted (as in Caddy).
        if !self.aborted
            && let (Some(metrics), Some(_)) = (&self.server.metrics, &self.pending.counted)
        {
            metrics.end(&Counted {
                ex: &self.ex,
                routes: &self.server.plan.routes,
                status: self.status,
                failed: self.pending.error.is_some(),
                first_byte: self.handled,
                duration,
                size,
            });
        }
        if let (true, Some(request_headers)) = (self.logged, &self.pending.headers) {
            // Where nobody answered, the entry says so by status 0.
            let status = if self.ex.nop || self.aborted { 0 } else { self.status.as_u16() };
            crate::server::access_entry(
                &self.server,
                &self.ex,
                (request_headers, &self.headers),
                status,
                (size, self.pending.bytes_read.bytes_read()),
                duration,
            );
        }
    }
}

/// Writes the entry of a tunnel when it ends, or when it did not come to it.
struct Ending {
    record: Option<Box<Record>>,
    sent: Rc<Cell<u64>>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            record.finish(self.sent.get());
        }
    }
}

/// What came before a tunnel and in it.
struct BothRead(Rc<dyn BytesRead>, Rc<Cell<u64>>);

impl BytesRead for BothRead {
    fn bytes_read(&self) -> u64 {
        self.0.bytes_read() + self.1.get()
    }
}

/// The raw stream of a tunnel, with its bytes counted.
struct CountedIo {
    io: Box<dyn Io>,
    received: Rc<Cell<u64>>,
    sent: Rc<Cell<u64>>,
}

impl AsyncRead for CountedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, out);
        let more = out.filled().len().saturating_sub(before);
        self.received.set(self.received.get() + more as u64);
        read
    }
}

impl AsyncWrite for CountedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, data);
        if let Poll::Ready(Ok(count)) = &written {
            self.sent.set(self.sent.get() + *count as u64);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Counts a body and writes the entry at its end.
struct LoggedBody {
    body: Body,
    length: Option<u64>,
    size: u64,
    record: Option<Box<Record>>,
}

impl LoggedBody {
    /// The entry is written before the last bytes leave, so that entries of one client stand in the
    /// order of its requests.
    fn went_on(&mut self, ended: bool) {
        if (ended || self.body.is_empty())
            && let Some(record) = self.record.take()
        {
            record.finish(self.size);
        }
    }
}

impl StreamBody for LoggedBody {
    fn spliceable(&self) -> u64 {
        self.body.spliceable()
    }

    fn poll_splice(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<Result<usize, BodyError>> {
        let moved = std::task::ready!(self.body.poll_splice(cx, pipe, most));
        if let Ok(count) = &moved {
            self.size += *count as u64;
        }
        self.went_on(false);
        Poll::Ready(moved)
    }
}

impl http_body::Body for LoggedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.size += data.len() as u64;
        }
        self.went_on(frame.is_none());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) => SizeHint::with_exact(length.saturating_sub(self.size)),
            None => self.body.size_hint(),
        }
    }
}

impl Drop for LoggedBody {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            record.finish(self.size);
        }
    }
}
