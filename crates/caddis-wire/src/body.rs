//! One decoder for a body, whatever its framing.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use crate::{BodyFraming, ChunkError, ChunkStep, ChunkedDecoder};

/// Reads a body of any framing from slices cut anywhere.
#[derive(Debug, Clone)]
pub struct BodyDecoder {
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Length(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
}

/// A piece of a body taken out of a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyPart {
    /// Data, sharing the memory of the buffer.
    Data(Bytes),
    /// The body is over; its trailer fields.
    End(HeaderMap),
    /// The buffer holds nothing more of the body.
    NeedMore,
}

impl BodyDecoder {
    /// A decoder at the beginning of a body.
    pub fn new(framing: BodyFraming) -> Self {
        let kind = match framing {
            BodyFraming::None => Kind::Length(0),
            BodyFraming::Length(length) => Kind::Length(length),
            BodyFraming::Chunked => Kind::Chunked(ChunkedDecoder::new()),
            BodyFraming::UntilClose => Kind::UntilClose,
        };
        Self { kind }
    }

    /// Whether the whole body was read: what follows is the next message.
    pub fn is_done(&self) -> bool {
        match &self.kind {
            Kind::Length(left) => *left == 0,
            Kind::Chunked(decoder) => decoder.is_done(),
            Kind::UntilClose => false,
        }
    }

    /// How many bytes are left, where the framing tells.
    pub fn remaining(&self) -> Option<u64> {
        match &self.kind {
            Kind::Length(left) => Some(*left),
            Kind::Chunked(decoder) => decoder.is_done().then_some(0),
            Kind::UntilClose => None,
        }
    }

    /// Takes note of bytes of a body with a length that were read without this decoder.
    pub fn skip(&mut self, count: u64) {
        if let Kind::Length(left) = &mut self.kind {
            *left = left.saturating_sub(count);
        }
    }

    /// Reads on. A body that is done answers `Trailers` without taking anything.
    pub fn decode(&mut self, input: &[u8]) -> Result<ChunkStep, ChunkError> {
        let end = match &mut self.kind {
            Kind::Chunked(decoder) => return decoder.decode(input),
            Kind::Length(0) => return Ok(ChunkStep::Trailers(HeaderMap::new(), 0)),
            Kind::Length(left) => {
                let take = (*left).min(input.len() as u64);
                *left -= take;
                // `take` is at most the length of a slice.
                take as usize
            }
            Kind::UntilClose => input.len(),
        };
        Ok(if end == 0 {
            ChunkStep::NeedMore { consumed: 0 }
        } else {
            ChunkStep::Data { start: 0, end, consumed: end }
        })
    }

    /// Takes the next piece of the body off the front of `buf`, without copying.
    pub fn take(&mut self, buf: &mut BytesMut) -> Result<BodyPart, ChunkError> {
        Ok(match self.decode(buf)? {
            ChunkStep::Data { start, end, .. } => {
                buf.advance(start);
                BodyPart::Data(buf.split_to(end - start).freeze())
            }
            ChunkStep::Trailers(trailers, consumed) => {
                buf.advance(consumed);
                BodyPart::End(trailers)
            }
            ChunkStep::NeedMore { consumed } => {
                buf.advance(consumed);
                BodyPart::NeedMore
            }
        })
    }

    /// Judges the end of the connection: fine after the body, and for one that lasts until then.
    pub fn end_of_input(&self) -> Result<(), ChunkError> {
        if self.is_done() || matches!(self.kind, Kind::UntilClose) {
            Ok(())
        } else {
            Err(ChunkError::UnexpectedEof)
        }
    }
}
