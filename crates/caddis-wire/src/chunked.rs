//! The chunk coding (RFC 9112 §7.1), read in place.
//!
//! The decoder keeps only its state; data is named by ranges of the caller's buffer. Trailer fields
//! are the one thing that is copied.

use std::fmt;

use bytes::Bytes;
use http::header::{self, HeaderMap};

use crate::head::parse_trailer_fields;

/// Hex digits of a chunk size, leading zeros included.
const MAX_DIGITS: u8 = 16;
/// Bytes of one chunk extension.
const MAX_EXTENSION: u16 = 4096;
/// How far framing may run ahead of data: each chunk brings 16 free bytes and twice its data.
const MAX_EXCESS: u64 = 16 * 1024;
/// Bytes of the trailer section.
const MAX_TRAILER: usize = 8 * 1024;
/// Fields of the trailer section.
const MAX_TRAILER_FIELDS: usize = 64;

/// Why a body was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChunkError {
    /// A chunk size that is not plain hexadecimal.
    Size,
    /// A chunk size beyond 63 bits.
    TooLarge,
    /// A control byte in a chunk extension.
    Extension,
    /// Far more framing than data.
    Overhead,
    /// A line end or chunk end that is not CR LF.
    LineEnd,
    /// A trailer field that is malformed or has no place there.
    Trailer,
    /// Too many or too large trailer fields.
    TrailerTooLarge,
    /// The connection ended inside the body.
    UnexpectedEof,
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size => "invalid byte in chunk length",
            Self::TooLarge => "http chunk length too large",
            Self::Extension => "invalid byte in chunk extension",
            Self::Overhead => "chunked encoding contains too much non-data",
            Self::LineEnd => "malformed chunked encoding",
            Self::Trailer => "malformed trailer",
            Self::TrailerTooLarge => "trailer too large",
            Self::UnexpectedEof => "unexpected EOF",
        })
    }
}

impl std::error::Error for ChunkError {}

/// What a decoder found at the beginning of its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChunkStep {
    /// `input[start..end]` is data; `consumed` bytes (equal to `end`) are done with.
    Data {
        /// Where the data begins.
        start: usize,
        /// Where the data ends.
        end: usize,
        /// How many bytes to take off the front.
        consumed: usize,
    },
    /// The body is over; its trailer fields, and how many bytes to take off the front.
    Trailers(HeaderMap, usize),
    /// No data yet; take `consumed` bytes off the front and call again with more.
    NeedMore {
        /// How many bytes to take off the front.
        consumed: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    BeforeExtension,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerLine,
    TrailerLf,
    EndLf,
    Done,
    Failed(ChunkError),
}

/// Reads the chunk coding from slices cut anywhere.
#[derive(Debug, Clone)]
pub struct ChunkedDecoder {
    state: State,
    /// Of the chunk: its size while that is read, then what is left of it.
    remaining: u64,
    digits: u8,
    extension: u16,
    excess: u64,
    trailer: Vec<u8>,
    fields: usize,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkedDecoder {
    /// A decoder at the beginning of a body.
    pub fn new() -> Self {
        Self {
            state: State::Size,
            remaining: 0,
            digits: 0,
            extension: 0,
            excess: 0,
            trailer: Vec::new(),
            fields: 0,
        }
    }

    /// Whether the last chunk and the trailer section were read.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads on; after an error every call returns it again.
    pub fn decode(&mut self, input: &[u8]) -> Result<ChunkStep, ChunkError> {
        let result = self.run(input);
        if let Err(error) = &result {
            self.state = State::Failed(*error);
        }
        result
    }

    fn run(&mut self, input: &[u8]) -> Result<ChunkStep, ChunkError> {
        let mut at = 0;
        loop {
            match self.state {
                State::Data => {
                    let left = (input.len() - at) as u64;
                    if left == 0 {
                        break;
                    }
                    let take = left.min(self.remaining);
                    self.remaining -= take;
                    if self.remaining == 0 {
                        self.state = State::DataCr;
                    }
                    // `take` is at most the length of a slice.
                    let end = at + take as usize;
                    return Ok(ChunkStep::Data { start: at, end, consumed: end });
                }
                State::Done => return Ok(ChunkStep::Trailers(HeaderMap::new(), at)),
                State::Failed(error) => return Err(error),
                _ => {}
            }
            let Some(&byte) = input.get(at) else { break };
            at += 1;
            self.framing_byte(byte)?;
            if self.state == State::Done {
                return Ok(ChunkStep::Trailers(self.take_trailers()?, at));
            }
        }
        Ok(ChunkStep::NeedMore { consumed: at })
    }

    fn framing_byte(&mut self, byte: u8) -> Result<(), ChunkError> {
        match self.state {
            State::Size => return self.size_byte(byte),
            State::BeforeExtension => match byte {
                b' ' | b'\t' => self.count_extension()?,
                b';' => self.state = State::Extension,
                _ => return Err(ChunkError::Size),
            },
            State::Extension => match byte {
                b'\r' => self.state = State::SizeLf,
                b'\t' | b' '..=b'~' | 0x80.. => self.count_extension()?,
                _ => return Err(ChunkError::Extension),
            },
            State::SizeLf => {
                expect(byte, b'\n')?;
                return self.begin_chunk();
            }
            State::DataCr => self.expect_then(byte, b'\r', State::DataLf)?,
            State::DataLf => self.expect_then(byte, b'\n', State::Size)?,
            State::TrailerStart if byte == b'\r' => self.state = State::EndLf,
            State::TrailerStart | State::TrailerLine => return self.trailer_byte(byte),
            State::TrailerLf => {
                self.expect_then(byte, b'\n', State::TrailerStart)?;
                self.trailer.extend_from_slice(b"\r\n");
            }
            State::EndLf => self.expect_then(byte, b'\n', State::Done)?,
            State::Data | State::Done | State::Failed(_) => {}
        }
        Ok(())
    }

    fn expect_then(&mut self, byte: u8, wanted: u8, next: State) -> Result<(), ChunkError> {
        expect(byte, wanted)?;
        self.state = next;
        Ok(())
    }

    fn size_byte(&mut self, byte: u8) -> Result<(), ChunkError> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ if self.digits == 0 => return Err(ChunkError::Size),
            b'\r' => {
                self.state = State::SizeLf;
                return Ok(());
            }
            b';' => {
                self.state = State::Extension;
                return Ok(());
            }
            b' ' | b'\t' => {
                self.state = State::BeforeExtension;
                return self.count_extension();
            }
            b'\n' => return Err(ChunkError::LineEnd),
            _ => return Err(ChunkError::Size),
        };
        if self.digits == MAX_DIGITS || self.remaining > (i64::MAX as u64) >> 4 {
            return Err(ChunkError::TooLarge);
        }
        self.digits += 1;
        self.remaining = self.remaining << 4 | u64::from(digit);
        Ok(())
    }

    fn count_extension(&mut self) -> Result<(), ChunkError> {
        self.extension += 1;
        if self.extension > MAX_EXTENSION { Err(ChunkError::Overhead) } else { Ok(()) }
    }

    fn begin_chunk(&mut self) -> Result<(), ChunkError> {
        let line = u64::from(self.digits) + u64::from(self.extension) + 4;
        let free = self.remaining.saturating_mul(2).saturating_add(16);
        self.excess = (self.excess + line).saturating_sub(free);
        if self.excess > MAX_EXCESS {
            return Err(ChunkError::Overhead);
        }
        self.state = if self.remaining == 0 { State::TrailerStart } else { State::Data };
        self.digits = 0;
        self.extension = 0;
        Ok(())
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<(), ChunkError> {
        if self.state == State::TrailerStart {
            self.fields += 1;
            self.state = State::TrailerLine;
        }
        if self.fields > MAX_TRAILER_FIELDS || self.trailer.len() >= MAX_TRAILER {
            return Err(ChunkError::TrailerTooLarge);
        }
        match byte {
            b'\r' => self.state = State::TrailerLf,
            b'\t' | b' '..=b'~' | 0x80.. => self.trailer.push(byte),
            _ => return Err(ChunkError::Trailer),
        }
        Ok(())
    }

    fn take_trailers(&mut self) -> Result<HeaderMap, ChunkError> {
        if self.trailer.is_empty() {
            return Ok(HeaderMap::new());
        }
        let section = Bytes::from(std::mem::take(&mut self.trailer));
        let mut trailers = parse_trailer_fields(&section).map_err(|_| ChunkError::Trailer)?;
        for name in REFUSED_TRAILERS {
            if trailers.contains_key(name) {
                return Err(ChunkError::Trailer);
            }
        }
        for name in DROPPED_TRAILERS {
            trailers.remove(name);
        }
        Ok(trailers)
    }
}

fn expect(byte: u8, wanted: u8) -> Result<(), ChunkError> {
    if byte == wanted { Ok(()) } else { Err(ChunkError::LineEnd) }
}

/// Fields that rule framing and routing: after the body they can only be an attack.
const REFUSED_TRAILERS: [header::HeaderName; 4] =
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::HOST, header::TRAILER];

/// Fields that mean nothing after the body (RFC 9110 §6.5.1).
const DROPPED_TRAILERS: [header::HeaderName; 11] = [
    header::CONNECTION,
    header::TE,
    header::UPGRADE,
    header::EXPECT,
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
    header::SET_COOKIE,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::CONTENT_RANGE,
];

/// Whether a field may be written after a body.
pub(crate) fn may_trail(name: &header::HeaderName) -> bool {
    !REFUSED_TRAILERS.contains(name) && !DROPPED_TRAILERS.contains(name)
}
