//! A request as it comes off its stream.

use std::{
    cell::Cell,
    future::Future,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use caddis_core::BodyError;
use caddis_wire::http3::{self, Http3Error, Http3Request, Piece, code};
use http_body::{Frame, SizeHint};
use quinn::{ReadError, RecvStream};

use super::error_code;
use crate::body_limits::BodyLimits;

/// As much as is taken off a stream at once.
const MAX_CHUNK: usize = 64 * 1024;

/// Why there is no request, or no more of it.
#[derive(Debug)]
pub(super) enum Failure {
    Http3(Http3Error),
    /// The head cannot be taken apart.
    Bad,
    Timeout,
    /// The client went away.
    Gone,
}

impl From<Http3Error> for Failure {
    fn from(error: Http3Error) -> Self {
        Self::Http3(error)
    }
}

impl From<ReadError> for Failure {
    fn from(_: ReadError) -> Self {
        Self::Gone
    }
}

/// The receiving half of a request stream.
pub(super) struct Incoming {
    recv: RecvStream,
    message: http3::Incoming,
}

impl Incoming {
    pub(super) fn new(recv: RecvStream, max_section: usize) -> Self {
        Self { recv, message: http3::Incoming::new(max_section) }
    }

    /// Reads the head.
    pub(super) async fn head(&mut self) -> Result<Http3Request, Failure> {
        let Self { recv, message } = self;
        let head = std::future::poll_fn(|cx| message.poll_head(cx, |cx| poll_chunk(recv, cx)));
        match head.await? {
            Some(block) => Ok(Http3Request::parse(&block, message.max_section())?),
            // The frames begin with a head, or do not end well.
            None => Err(Failure::Bad),
        }
    }

    /// Whether the stream ends without a body; waits until that is known. What came of a body
    /// meanwhile is kept.
    pub(super) async fn ends(&mut self) -> Result<bool, Failure> {
        std::future::poll_fn(|cx| self.poll_ends(cx)).await
    }

    /// Whether the stream is known to end without a body.
    pub(super) fn has_ended(&mut self) -> Result<bool, Failure> {
        match self.poll_ends(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ends) => ends,
            Poll::Pending => Ok(false),
        }
    }

    fn poll_ends(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Failure>> {
        let Self { recv, message } = self;
        message.poll_ends(cx, |cx| poll_chunk(recv, cx))
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Piece>, Failure>> {
        let Self { recv, message } = self;
        message.poll_body(cx, |cx| poll_chunk(recv, cx))
    }
}

fn poll_chunk(recv: &mut RecvStream, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Failure>> {
    let chunk = ready!(pin!(recv.read_chunk(MAX_CHUNK, true)).poll(cx))?;
    Poll::Ready(Ok(chunk.map(|chunk| chunk.bytes)))
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.message.has_ended() {
            // Nobody wants the rest (RFC 9114 §4.1.1).
            let _ = self.recv.stop(error_code(code::NO_ERROR));
        }
    }
}

/// A request body off a stream.
pub(super) struct StreamBody {
    incoming: Incoming,
    quic: quinn::Connection,
    bytes: Rc<Cell<u64>>,
    limits: BodyLimits,
    over: bool,
}

impl StreamBody {
    /// A body of this length, where the client told it; `bytes` counts what came.
    pub(super) fn new(
        mut incoming: Incoming,
        quic: quinn::Connection,
        bytes: Rc<Cell<u64>>,
        length: Option<u64>,
    ) -> Self {
        incoming.message.expect(length);
        Self { incoming, quic, bytes, limits: BodyLimits::default(), over: false }
    }

    /// Sets limits for a pause and for the whole.
    pub(super) fn with_limits(self, limits: BodyLimits) -> Self {
        Self { limits, ..self }
    }

    fn fail(&mut self, failure: Failure) -> BodyError {
        self.over = true;
        match failure {
            Failure::Timeout => BodyError::Timeout,
            Failure::Gone => BodyError::Canceled,
            Failure::Bad => BodyError::Incomplete,
            Failure::Http3(Http3Error::TooLarge) => BodyError::TooLarge,
            Failure::Http3(error @ Http3Error::Stream(..)) => {
                BodyError::Malformed(error.to_string())
            }
            Failure::Http3(error @ Http3Error::Connection(code, reason)) => {
                super::close(&self.quic, code, reason);
                BodyError::Malformed(error.to_string())
            }
        }
    }

    fn take(&mut self, piece: Option<Piece>) -> Option<Frame<Bytes>> {
        match piece {
            Some(Piece::Data(data)) => {
                self.bytes.set(self.bytes.get() + data.len() as u64);
                Some(Frame::data(data))
            }
            Some(Piece::Trailers(trailers)) => Some(Frame::trailers(trailers)),
            None => {
                self.over = true;
                None
            }
        }
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        let taken = match this.incoming.poll_body(cx) {
            Poll::Ready(piece) => piece.map(|piece| this.take(piece)),
            Poll::Pending => {
                ready!(this.limits.poll_over(cx));
                Err(Failure::Timeout)
            }
        };
        this.limits.came();
        Poll::Ready(taken.map_err(|failure| this.fail(failure)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.message.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
