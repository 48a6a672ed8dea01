//! A message as it comes off a request stream, which somebody else reads: the head, then the body,
//! checked against the length that the head told.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;

use super::{Http3Error, Part, RequestFrames, code, trailers};

/// The receiving half of a request stream, without the stream. Each method that may need more bytes
/// is given `more`, which reads some of them; `None` is the end of the stream.
#[derive(Debug)]
pub struct Incoming {
    frames: RequestFrames,
    /// What came and was not looked at yet.
    input: Bytes,
    /// A piece that was read ahead.
    ahead: Option<Part>,
    ended: bool,
    max_section: usize,
    left: Option<u64>,
}

/// A piece of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Some of it, never empty.
    Data(Bytes),
    /// What follows it.
    Trailers(HeaderMap),
}

impl Incoming {
    /// For a stream whose field sections may have so many bytes, as they are encoded and decoded.
    pub fn new(max_section: usize) -> Self {
        Self {
            frames: RequestFrames::new(max_section),
            input: Bytes::new(),
            ahead: None,
            ended: false,
            max_section,
            left: None,
        }
    }

    /// The field section of a head; `None` where data came instead.
    ///
    /// # Errors
    /// What is wrong with the frames, what `more` fails with.
    pub fn poll_head<E: From<Http3Error>>(
        &mut self,
        cx: &mut Context<'_>,
        more: impl FnMut(&mut Context<'_>) -> Poll<Result<Option<Bytes>, E>>,
    ) -> Poll<Result<Option<Bytes>, E>> {
        let part = ready!(self.poll_part(cx, more))?;
        Poll::Ready(Ok(match part {
            Some(Part::Headers(block)) => Some(block),
            Some(Part::Data(_)) | None => None,
        }))
    }

    /// Says that the head was that of an informational answer: another one follows it.
    pub fn was_informational(&mut self) {
        self.frames.was_informational();
    }

    /// Says how long the body is to be.
    pub fn expect(&mut self, length: Option<u64>) {
        self.left = length;
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// As for the head; another length than was said (RFC 9114 §4.1.2), malformed trailers.
    pub fn poll_body<E: From<Http3Error>>(
        &mut self,
        cx: &mut Context<'_>,
        more: impl FnMut(&mut Context<'_>) -> Poll<Result<Option<Bytes>, E>>,
    ) -> Poll<Result<Option<Piece>, E>> {
        const WRONG: Http3Error =
            Http3Error::Stream(code::MESSAGE_ERROR, "body and Content-Length differ");
        Poll::Ready(match ready!(self.poll_part(cx, more))? {
            Some(Part::Data(data)) => {
                if let Some(left) = &mut self.left {
                    *left = left.checked_sub(data.len() as u64).ok_or(WRONG)?;
                }
                Ok(Some(Piece::Data(data)))
            }
            _ if self.left.is_some_and(|left| left > 0) => Err(WRONG.into()),
            Some(Part::Headers(block)) => {
                Ok(Some(Piece::Trailers(trailers(&block, self.max_section)?)))
            }
            None => Ok(None),
        })
    }

    /// Whether nothing more comes, not even trailers. What does come is kept.
    ///
    /// # Errors
    /// As for the head.
    pub fn poll_ends<E: From<Http3Error>>(
        &mut self,
        cx: &mut Context<'_>,
        more: impl FnMut(&mut Context<'_>) -> Poll<Result<Option<Bytes>, E>>,
    ) -> Poll<Result<bool, E>> {
        if self.ahead.is_none() {
            self.ahead = ready!(self.poll_part(cx, more))?;
        }
        Poll::Ready(Ok(self.ahead.is_none()))
    }

    /// Whether the peer has ended the stream.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Bytes of the body to come, where the length was said.
    pub fn left(&self) -> Option<u64> {
        self.left
    }

    /// As many bytes as a field section may have.
    pub fn max_section(&self) -> usize {
        self.max_section
    }

    fn poll_part<E: From<Http3Error>>(
        &mut self,
        cx: &mut Context<'_>,
        mut more: impl FnMut(&mut Context<'_>) -> Poll<Result<Option<Bytes>, E>>,
    ) -> Poll<Result<Option<Part>, E>> {
        if let Some(part) = self.ahead.take() {
            return Poll::Ready(Ok(Some(part)));
        }
        loop {
            if let Some(part) = self.frames.next(&mut self.input)? {
                return Poll::Ready(Ok(Some(part)));
            }
            if self.ended {
                self.frames.end()?;
                return Poll::Ready(Ok(None));
            }
            match ready!(more(cx))? {
                Some(bytes) => self.input = bytes,
                None => self.ended = true,
            }
        }
    }
}
