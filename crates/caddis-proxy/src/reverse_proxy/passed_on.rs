//! A response body on its way to the client: keeps the upstream's count until it is over.

use std::{
    os::fd::BorrowedFd,
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use caddis_core::{Body, BodyError, StreamBody};
use http_body::{Frame, SizeHint};

use super::info::Info;
use crate::{
    transport::http::{AnswerBody, Conn, Gunzip, HostPool},
    upstream::UpstreamState,
};

/// Counts a request as in flight for as long as it lives.
pub(crate) struct InFlight(Rc<HostPool>);

impl InFlight {
    /// Starts to count.
    pub(crate) fn new(pool: Rc<HostPool>, state: &Arc<UpstreamState>) -> Self {
        debug_assert!(Arc::ptr_eq(&pool.state, state));
        pool.state.requests.fetch_add(1, Ordering::Relaxed);
        Self(pool)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.state.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body, or the connection that switched protocols.
pub(super) enum PassedOn {
    Body(Body),
    Switched(Box<Conn>, InFlight),
}

/// Makes a body of what the transport gave; `at` is when the answer arrived.
pub(super) fn pass_on(
    body: AnswerBody,
    gunzip: bool,
    in_flight: InFlight,
    info: &Rc<Info>,
    at: Instant,
) -> PassedOn {
    let inner = match body {
        AnswerBody::Switched(conn) => return PassedOn::Switched(conn, in_flight),
        AnswerBody::Whole(body) if !gunzip => {
            info.finished(at);
            return PassedOn::Body(body);
        }
        AnswerBody::Whole(body) | AnswerBody::Multiplexed(body) => body,
        AnswerBody::Http1(body) => Body::Stream(Box::into_pin(body)),
    };
    let inner = if gunzip { Body::stream(Gunzip::new(inner)) } else { inner };
    let counted = Counted { inner, in_flight: Some(in_flight), info: info.clone() };
    PassedOn::Body(Body::Stream(Box::pin(counted)))
}

struct Counted {
    inner: Body,
    in_flight: Option<InFlight>,
    info: Rc<Info>,
}

impl Counted {
    fn went_on(&mut self, ended: bool) {
        if (ended || self.inner.is_empty()) && self.in_flight.take().is_some() {
            self.info.finished(Instant::now());
        }
    }

    fn broke(&mut self, error: &BodyError) {
        self.in_flight = None;
        let (upstream, duration) = self.info.shown();
        tracing::warn!(
            target: "http.handlers.reverse_proxy",
            upstream,
            duration,
            error = format!("reading: {error}"),
            "aborting with incomplete response"
        );
    }

    /// Tells of one read.
    fn tell(&self, frame: Option<&Result<Frame<Bytes>, BodyError>>) {
        let (upstream, duration) = self.info.shown();
        match frame {
            Some(Ok(frame)) => tracing::debug!(
                target: "http.handlers.reverse_proxy",
                upstream,
                duration,
                read = frame.data_ref().map_or(0, Bytes::len),
                trailers = frame.is_trailers(),
                "read from upstream"
            ),
            Some(Err(error)) => tracing::debug!(
                target: "http.handlers.reverse_proxy",
                upstream,
                duration,
                %error,
                "read from upstream"
            ),
            None => tracing::debug!(
                target: "http.handlers.reverse_proxy",
                upstream,
                duration,
                "closed response body from upstream"
            ),
        }
    }
}

impl StreamBody for Counted {
    fn spliceable(&self) -> u64 {
        // Each read is told of where that was asked for.
        if self.info.verbose { 0 } else { self.inner.spliceable() }
    }

    fn poll_splice(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<Result<usize, BodyError>> {
        let moved = ready!(self.inner.poll_splice(cx, pipe, most));
        match &moved {
            Ok(_) => self.went_on(false),
            Err(error) => self.broke(error),
        }
        Poll::Ready(moved)
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if self.info.verbose {
            self.tell(frame.as_ref());
        }
        match &frame {
            Some(Err(error)) => self.broke(error),
            Some(Ok(_)) => self.went_on(false),
            None => self.went_on(true),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
