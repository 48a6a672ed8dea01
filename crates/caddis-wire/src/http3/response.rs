//! The head of a response out of its field section (RFC 9114 §4.2, §4.3.2).

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{
    Http3Error, qpack,
    request::{content_length, field, malformed},
};

/// A response's head, checked.
#[derive(Debug, Default)]
pub struct Http3Response {
    /// The status; never 101, which HTTP/3 does not know (RFC 9114 §4.5).
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    /// How long the body is declared to be.
    pub content_length: Option<u64>,
}

impl Http3Response {
    /// Reads the head of a response.
    ///
    /// # Errors
    /// It is malformed, or larger than `max_size` (counted as in RFC 9114 §4.2.2).
    pub fn parse(block: &Bytes, max_size: usize) -> Result<Self, Http3Error> {
        let mut status = None;
        let mut headers = HeaderMap::new();
        let mut fields_begun = false;
        qpack::decode(block, max_size, |name, value| {
            if name.as_bytes().first() == Some(&b':') {
                if fields_begun {
                    return Err(malformed("pseudo-header field after other fields"));
                }
                if name.as_bytes() != b":status" || status.is_some() {
                    return Err(malformed("unknown or repeated pseudo-header field"));
                }
                status = StatusCode::from_bytes(&value).ok();
                return match status {
                    Some(StatusCode::SWITCHING_PROTOCOLS) | None => Err(malformed("bad status")),
                    Some(_) => Ok(()),
                };
            }
            fields_begun = true;
            let (name, value) = field(&name, value)?;
            headers.try_append(name, value).map_err(|_| Http3Error::TooLarge)?;
            Ok(())
        })?;
        let status = status.ok_or(malformed("no status"))?;
        let content_length = content_length(&headers)?;
        Ok(Self { status, headers, content_length })
    }
}
