//! Heads: request and status lines, header fields, framing, limits.

mod fields;
mod headers;
mod host;
mod known;
mod lines;
mod names;
mod request;
mod response;
mod scan;
mod target;

pub use fields::PassedFields;
pub(crate) use fields::parse_trailer_fields;
pub use headers::{Headers, Written};
pub use known::LastHead;
pub use names::{FieldKind, is_hop_by_hop};
pub use request::{RequestHead, parse_request};
pub use response::{ResponseHead, parse_response};
pub use target::TargetForm;

/// Which line ends a head may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LineEnds {
    /// CR LF only.
    Crlf,
    /// CR LF everywhere or LF everywhere; a mixture hides lines from other programs.
    #[default]
    Uniform,
    /// Any mixture of CR LF and LF.
    Any,
}

/// How much of a head is read before it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole head, its empty line included.
    pub max_head: usize,
    /// Field lines.
    pub max_headers: usize,
    /// Bytes of a method.
    pub max_method: usize,
    /// Which line ends count.
    pub line_ends: LineEnds,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_head: 16 * 1024, max_headers: 512, max_method: 64, line_ends: LineEnds::Uniform }
    }
}

impl Limits {
    /// The defaults with another limit for the bytes of a head.
    pub fn with_max_head(max_head: usize) -> Self {
        Self { max_head, ..Self::default() }
    }
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BodyFraming {
    /// There is no body.
    None,
    /// This many bytes.
    Length(u64),
    /// The chunk coding.
    Chunked,
    /// Until the connection closes; responses only.
    UntilClose,
}

/// What a buffer held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed<T> {
    /// A whole head, and how many bytes of the buffer it took.
    Complete(T, usize),
    /// The beginning of a head.
    Partial,
}

/// What a client sends first when it knows that the server speaks HTTP/2.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether a connection begins with the HTTP/2 preface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preface {
    /// All of it is there.
    Yes,
    /// The bytes cannot become one.
    No,
    /// So far it could be one.
    Partial,
}

/// Tells whether the first bytes of a connection are the HTTP/2 preface.
pub fn http2_preface(buf: &[u8]) -> Preface {
    if buf.starts_with(PREFACE) {
        Preface::Yes
    } else if PREFACE.starts_with(buf) {
        Preface::Partial
    } else {
        Preface::No
    }
}

/// Whether every byte may stand in a token (RFC 9110 §5.6.2), and there is one.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&b| TOKEN[b as usize])
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let marks = b"!#$%&'*+-.^_`|~";
    let mut i = 0;
    while i < 256 {
        table[i] = (i as u8).is_ascii_alphanumeric();
        i += 1;
    }
    i = 0;
    while i < marks.len() {
        table[marks[i] as usize] = true;
        i += 1;
    }
    table
};
