//! Why a head was refused, with the status and the sentence the client gets.

use std::fmt;

use http::StatusCode;

/// Why a head was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeadError {
    /// The request line or status line has not its three parts.
    StartLine,
    /// The method is not a token.
    Method,
    /// The method is longer than any in use.
    MethodTooLong,
    /// The target has none of the four forms, or not the one its method needs.
    Target,
    /// The protocol version is not `HTTP/` digit `.` digit.
    Version,
    /// A well-formed version that is neither 1.0 nor 1.1.
    UnsupportedVersion,
    /// The connection speaks HTTP/2 from its first byte.
    Http2Preface,
    /// The status code is not three digits from 100 on.
    Status,
    /// A carriage return or line feed that is not a line end, or line ends of two kinds.
    LineEnd,
    /// A field line without a colon, with white space before it, or a folded one.
    FieldLine,
    /// A field name that is not a token.
    HeaderName,
    /// A control byte in a field value.
    HeaderValue,
    /// Bytes of the head beyond the limit.
    TooLarge,
    /// More field lines than the limit.
    TooManyHeaders,
    /// HTTP/1.1 without `Host`.
    MissingHost,
    /// More than one `Host`.
    ManyHosts,
    /// A `Host` that is no host with an optional port.
    MalformedHost,
    /// A `Content-Length` that is no single decimal number.
    ContentLength,
    /// A `Transfer-Encoding` that is not exactly `chunked`.
    TransferEncoding,
    /// `Transfer-Encoding` in an HTTP/1.0 message.
    TransferEncodingVersion,
    /// `Content-Length` and `Transfer-Encoding` in one message.
    BothFramings,
    /// An `Expect` other than `100-continue`.
    Expectation,
}

impl HeadError {
    /// The status a server answers with; the connection closes after it.
    pub fn status(self) -> StatusCode {
        match self {
            Self::MethodTooLong => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge | Self::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UnsupportedVersion | Self::Http2Preface => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::TransferEncoding => StatusCode::NOT_IMPLEMENTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The response body, as Caddy words it.
    pub fn body(self) -> &'static str {
        match self {
            Self::MissingHost => "400 Bad Request: missing required Host header",
            Self::ManyHosts => "400 Bad Request: too many Host headers",
            Self::MalformedHost => "400 Bad Request: malformed Host header",
            Self::HeaderValue => "400 Bad Request: invalid header value",
            Self::UnsupportedVersion | Self::Http2Preface => {
                "505 HTTP Version Not Supported: unsupported protocol version"
            }
            Self::TooLarge | Self::TooManyHeaders => "431 Request Header Fields Too Large",
            Self::TransferEncoding => "Unsupported transfer encoding",
            Self::MethodTooLong => "405 Method Not Allowed",
            Self::Expectation => "417 Expectation Failed",
            _ => "400 Bad Request",
        }
    }

    /// The cause for a log line or an upstream error.
    pub fn detail(self) -> &'static str {
        match self {
            Self::StartLine => "malformed start line",
            Self::Method => "invalid method",
            Self::MethodTooLong => "method too long",
            Self::Target => "invalid request target",
            Self::Version => "malformed HTTP version",
            Self::UnsupportedVersion => "unsupported protocol version",
            Self::Http2Preface => "HTTP/2 connection preface",
            Self::Status => "malformed HTTP status code",
            Self::LineEnd => "invalid line end",
            Self::FieldLine => "malformed header line",
            Self::HeaderName => "invalid header name",
            Self::HeaderValue => "invalid header value",
            Self::TooLarge => "header too large",
            Self::TooManyHeaders => "too many header fields",
            Self::MissingHost => "missing required Host header",
            Self::ManyHosts => "too many Host headers",
            Self::MalformedHost => "malformed Host header",
            Self::ContentLength => "bad Content-Length",
            Self::TransferEncoding => "unsupported transfer encoding",
            Self::TransferEncodingVersion => "Transfer-Encoding in HTTP/1.0",
            Self::BothFramings => "both Content-Length and Transfer-Encoding",
            Self::Expectation => "unknown expectation",
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.body())
    }
}

impl std::error::Error for HeadError {}
