//! The request body on its way to the upstream, driven beside the reading of the response.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use caddis_core::{Body, BodyError};
use caddis_wire::{write_chunk, write_chunk_head, write_last_chunk};
use tokio::io::AsyncWrite;

use super::stream::Stream;

/// Chunks up to this size are written in one piece with their framing.
const SMALL: usize = 4 * 1024;

/// The body of a request, as far as it was not sent.
#[derive(Debug, Default)]
pub(crate) enum RequestBody {
    /// There is none.
    #[default]
    None,
    /// All of it is here, so it can be sent more than once.
    Full(Bytes),
    /// It comes from the client piece by piece.
    Stream(Body),
    /// It was sent, at least in part, and cannot be sent again.
    Gone,
}

impl RequestBody {
    /// Whether it can still be sent from its beginning.
    pub(crate) fn is_whole(&self) -> bool {
        !matches!(self, Self::Gone)
    }

    /// Takes it for one try; what cannot be sent twice is gone then.
    pub(crate) fn take(&mut self) -> Body {
        match self {
            Self::None | Self::Gone => Body::Empty,
            Self::Full(bytes) => Body::Full(bytes.clone()),
            Self::Stream(body) => {
                let body = body.take();
                *self = Self::Gone;
                body
            }
        }
    }
}

/// Why an upload ended early.
#[derive(Debug)]
pub(crate) enum UploadError {
    /// The upstream takes no more.
    Io(io::Error),
    /// The client sent no more, or nonsense.
    Body(BodyError),
}

impl UploadError {
    /// Whether the upstream took nothing for too long.
    pub(crate) fn is_timeout(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::TimedOut)
    }
}

/// An upload under way.
#[derive(Debug)]
pub(crate) struct Upload {
    body: Body,
    chunked: bool,
    left: u64,
    queue: VecDeque<Bytes>,
    finished: bool,
}

impl Upload {
    /// `rest`: bytes that go before the body. `length`: `None` for chunked coding.
    pub(crate) fn new(rest: Bytes, body: Body, length: Option<u64>) -> Self {
        let mut queue = VecDeque::new();
        if !rest.is_empty() {
            queue.push_back(rest);
        }
        Self { body, chunked: length.is_none(), left: length.unwrap_or(0), queue, finished: false }
    }

    /// Goes on as far as possible; ready when all is written.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
    ) -> Poll<Result<(), UploadError>> {
        loop {
            ready!(self.poll_queue(cx, stream)).map_err(UploadError::Io)?;
            if self.finished || (!self.chunked && self.left == 0) {
                return Pin::new(stream).poll_flush(cx).map_err(UploadError::Io);
            }
            match http_body::Body::poll_frame(Pin::new(&mut self.body), cx) {
                Poll::Pending => {
                    ready!(Pin::new(&mut *stream).poll_flush(cx)).map_err(UploadError::Io)?;
                    return Poll::Pending;
                }
                Poll::Ready(None) => self.end(None)?,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(UploadError::Body(error))),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.push(data)?,
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            self.end(Some(&trailers))?;
                        }
                    }
                },
            }
        }
    }

    fn push(&mut self, data: Bytes) -> Result<(), UploadError> {
        if data.is_empty() {
            return Ok(());
        }
        if !self.chunked {
            self.left = self.left.checked_sub(data.len() as u64).ok_or_else(|| {
                UploadError::Body(BodyError::Malformed("body longer than announced".to_owned()))
            })?;
            self.queue.push_back(data);
            return Ok(());
        }
        let mut line = Vec::with_capacity(if data.len() <= SMALL { data.len() + 16 } else { 24 });
        if data.len() <= SMALL {
            write_chunk(&mut line, &data);
            self.queue.push_back(line.into());
        } else {
            write_chunk_head(&mut line, data.len());
            self.queue.push_back(line.into());
            self.queue.push_back(data);
            self.queue.push_back(Bytes::from_static(b"\r\n"));
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<&http::HeaderMap>) -> Result<(), UploadError> {
        self.finished = true;
        if self.chunked {
            let mut line = Vec::new();
            write_last_chunk(&mut line, trailers);
            self.queue.push_back(line.into());
        } else if self.left > 0 {
            return Err(UploadError::Body(BodyError::Incomplete));
        }
        Ok(())
    }

    fn poll_queue(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> Poll<io::Result<()>> {
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); 4];
            let count = self.queue.len().min(slices.len());
            for (slice, bytes) in slices.iter_mut().zip(&self.queue) {
                *slice = IoSlice::new(bytes);
            }
            let mut written =
                ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            while let Some(first) = self.queue.front_mut() {
                if written < first.len() {
                    first.advance(written);
                    break;
                }
                written -= first.len();
                self.queue.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}
