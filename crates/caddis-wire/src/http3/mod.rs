//! HTTP/3 without sockets (RFC 9114): frames of a stream, field sections, the head of a request.
//!
//! - [`RequestFrames`]: what comes on a request stream, piece by piece, without copying.
//! - [`Incoming`]: the same as a head and a body, which has the length that the head told.
//! - [`PeerStream`]: what comes on the peer's unidirectional streams; [`ControlFrames`] on one of
//!   them.
//! - [`Http3Request`], [`Http3Response`]: a head out of a field section, checked as RFC 9114 §4.3
//!   wants.
//! - [`write_request_section`], [`write_response_section`], [`write_frame_head`]...: the way out.
//!
//! There is no dynamic table of QPACK: who announces none may neither be sent nor need
//! any reference into it (RFC 9204 §3.2.3), so no request can hold up another one, and a
//! connection holds no state for its fields.

mod frames;
pub(crate) mod huffman;
mod incoming;
mod peer_streams;
mod qpack;
mod request;
mod response;
mod static_table;
mod varint;

pub use frames::{ControlFrames, Part, RequestFrames, stream_type, write_frame_head, write_goaway};
pub use frames::{FRAME_DATA, FRAME_HEADERS, write_client_settings, write_settings};
pub use incoming::{Incoming, Piece};
pub use peer_streams::{PeerStream, PeerStreams, Rest};
pub use qpack::{
    RequestLine, write_request_section, write_response_section, write_trailer_section,
};
pub use request::{Http3Request, trailers};
pub use response::Http3Response;

/// Why a stream or a connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http3Error {
    /// A field section is larger than the server takes: 431 for a request.
    TooLarge,
    /// The stream is to be reset with this code.
    Stream(u64, &'static str),
    /// The connection is to be closed with this code.
    Connection(u64, &'static str),
}

impl std::fmt::Display for Http3Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge => f.write_str("field section is too large"),
            Self::Stream(code, reason) | Self::Connection(code, reason) => {
                write!(f, "{reason} (HTTP/3 error {code:#x})")
            }
        }
    }
}

impl std::error::Error for Http3Error {}

/// Error codes (RFC 9114 §8.1, RFC 9204 §6).
#[expect(missing_docs, reason = "the names are those of the RFCs")]
pub mod code {
    pub const NO_ERROR: u64 = 0x100;
    pub const INTERNAL_ERROR: u64 = 0x102;
    pub const STREAM_CREATION_ERROR: u64 = 0x103;
    pub const CLOSED_CRITICAL_STREAM: u64 = 0x104;
    pub const FRAME_UNEXPECTED: u64 = 0x105;
    pub const FRAME_ERROR: u64 = 0x106;
    pub const EXCESSIVE_LOAD: u64 = 0x107;
    pub const ID_ERROR: u64 = 0x108;
    pub const SETTINGS_ERROR: u64 = 0x109;
    pub const MISSING_SETTINGS: u64 = 0x10a;
    pub const REQUEST_REJECTED: u64 = 0x10b;
    pub const REQUEST_CANCELLED: u64 = 0x10c;
    pub const REQUEST_INCOMPLETE: u64 = 0x10d;
    pub const MESSAGE_ERROR: u64 = 0x10e;
    pub const QPACK_DECOMPRESSION_FAILED: u64 = 0x200;
    pub const QPACK_ENCODER_STREAM_ERROR: u64 = 0x201;
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests;
