//! HTTP/1 without sockets: heads, framing and the chunk coding as state machines over byte slices;
//! the same for HTTP/3 ([`http3`]); and of HTTP/2 what is wrong with a header block
//! ([`HeaderBlock`]).
//!
//! Strict by default: a message has exactly one framing or it is refused (RFC 9112 §6.3), so that
//! no two programs on the path of a request can disagree about where it ends.
//!
//! - [`parse_request`], [`parse_response`]: a whole head out of a buffer, or [`Parsed::Partial`].
//! - [`BodyDecoder`]: the body after it, whatever its framing, as ranges of the caller's buffer.
//! - [`write_request_head`], [`write_response_head`], [`write_chunk`]...: the way out.

mod body;
mod chunked;
mod encode;
mod error;
mod head;
mod hpack;
pub mod http3;
mod recycle;

pub use body::{BodyDecoder, BodyPart};
pub use chunked::{ChunkError, ChunkStep, ChunkedDecoder};
pub use encode::{
    canonical_name, declared_length, phrase, remove_connection_fields, write_chunk,
    write_chunk_end, write_chunk_head, write_error_response, write_header, write_last_chunk,
    write_passed_head, write_request_head, write_request_line, write_response_head,
};
pub use error::HeadError;
pub use head::{
    BodyFraming, FieldKind, Headers, LastHead, Limits, LineEnds, PREFACE, Parsed, PassedFields,
    Preface, RequestHead, ResponseHead, TargetForm, Written, http2_preface, is_hop_by_hop,
    parse_request, parse_response,
};
pub use hpack::HeaderBlock;
pub use recycle::{header_map, recycle};

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests;
