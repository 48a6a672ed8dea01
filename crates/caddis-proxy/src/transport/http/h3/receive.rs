//! The receiving half of a request stream: an answer's head, and its body.

use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use caddis_core::BodyError;
use caddis_wire::http3::{self, Http3Error, Http3Response, Piece, code};
use http_body::{Frame, SizeHint};
use quinn::{ConnectionError, ReadError, RecvStream};

use super::session::{Active, error_code};
use crate::transport::http::slot::Uploading;

/// As much as is taken off a stream at once.
const MAX_CHUNK: usize = 64 * 1024;

/// Why nothing more comes.
#[derive(Debug)]
pub(super) enum Ended {
    /// What came is not right.
    Http3(Http3Error),
    /// The upstream gave the request up, with this code.
    Reset(u64),
    /// The connection is gone.
    Lost(ConnectionError),
    /// The stream ended too early.
    Early,
}

impl From<Http3Error> for Ended {
    fn from(error: Http3Error) -> Self {
        Self::Http3(error)
    }
}

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(code) => Self::Reset(code.into_inner()),
            ReadError::ConnectionLost(error) => Self::Lost(error),
            ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => Self::Early,
        }
    }
}

/// What comes on a request stream.
pub(super) struct Incoming {
    recv: RecvStream,
    message: http3::Incoming,
    active: Active,
}

impl Incoming {
    pub(super) fn new(recv: RecvStream, active: Active, max_section: usize) -> Self {
        Self { recv, message: http3::Incoming::new(max_section), active }
    }

    /// Reads a head, of which there may be several informational ones.
    pub(super) async fn head(&mut self) -> Result<Http3Response, Ended> {
        let Self { recv, message, .. } = self;
        let head = std::future::poll_fn(|cx| message.poll_head(cx, |cx| poll_chunk(recv, cx)));
        // The frames begin with a head, or do not end well.
        let block = head.await?.ok_or(Ended::Early)?;
        let head = Http3Response::parse(&block, message.max_section())?;
        if head.status.is_informational() {
            message.was_informational();
        }
        Ok(head)
    }

    /// Whether the stream is known to end without a body.
    pub(super) fn has_ended(&mut self) -> bool {
        let Self { recv, message, .. } = self;
        let cx = &mut Context::from_waker(Waker::noop());
        // An error comes again when the body is read.
        matches!(message.poll_ends(cx, |cx| poll_chunk(recv, cx)), Poll::Ready(Ok(true)))
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Piece>, Ended>> {
        let Self { recv, message, .. } = self;
        message.poll_body(cx, |cx| poll_chunk(recv, cx))
    }

    pub(super) fn active(&self) -> &Active {
        &self.active
    }
}

fn poll_chunk(recv: &mut RecvStream, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Ended>> {
    let chunk = ready!(pin!(recv.read_chunk(MAX_CHUNK, true)).poll(cx))?;
    Poll::Ready(Ok(chunk.map(|chunk| chunk.bytes)))
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.message.has_ended() {
            // Nobody wants the rest (RFC 9114 §4.1.1).
            let _ = self.recv.stop(error_code(code::REQUEST_CANCELLED));
        }
    }
}

/// The body of an answer; the request's may still be going out.
pub(super) struct Received {
    incoming: Incoming,
    _upload: Option<Uploading>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Over,
    Failed,
}

impl Received {
    /// A body of this length, where the upstream told it.
    pub(super) fn new(
        mut incoming: Incoming,
        upload: Option<Uploading>,
        length: Option<u64>,
    ) -> Self {
        incoming.message.expect(length);
        Self { incoming, _upload: upload, state: State::Open }
    }

    fn take(&mut self, piece: Option<Piece>) -> Option<Frame<Bytes>> {
        match piece {
            Some(Piece::Data(data)) => {
                // Who knows that no trailers come may tell the length.
                if self.incoming.message.left() == Some(0) && self.incoming.has_ended() {
                    self.state = State::Over;
                }
                Some(Frame::data(data))
            }
            Some(Piece::Trailers(trailers)) => Some(Frame::trailers(trailers)),
            None => {
                self.state = State::Over;
                None
            }
        }
    }

    fn fail(&mut self, ended: &Ended) -> BodyError {
        self.state = State::Failed;
        let session = self.incoming.active().session();
        match ended {
            Ended::Http3(Http3Error::Connection(code, reason)) => {
                session.fail(*code, reason);
                BodyError::Malformed((*reason).to_owned())
            }
            Ended::Http3(error) => BodyError::Malformed(error.to_string()),
            Ended::Reset(_) | Ended::Lost(_) | Ended::Early => BodyError::Incomplete,
        }
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this.state {
            State::Open => {}
            State::Over => return Poll::Ready(None),
            // Whoever asks again must not take it for the end.
            State::Failed => return Poll::Ready(Some(Err(BodyError::Incomplete))),
        }
        let piece = ready!(this.incoming.poll_body(cx));
        let taken = piece.map(|piece| this.take(piece));
        Poll::Ready(taken.map_err(|ended| this.fail(&ended)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Over
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.message.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
