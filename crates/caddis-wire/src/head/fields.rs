//! Field lines, and what the few fields that rule a connection say.

use std::ops::Range;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version};
use memchr::memchr;

use super::lines::line_at;
use super::{BodyFraming, is_token};
use crate::HeadError;

/// What the fields that rule framing and connection say, gathered while they are read.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Where the value of `Host` is.
    pub(crate) host: Range<usize>,
    /// How many `Host` fields there are.
    pub(crate) hosts: usize,
    length: Result<Option<u64>, HeadError>,
    length_text: Range<usize>,
    encodings: usize,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    upgrade: bool,
    expects: usize,
    continues: bool,
}

impl Facts {
    fn new() -> Self {
        Self {
            host: 0..0,
            hosts: 0,
            length: Ok(None),
            length_text: 0..0,
            encodings: 0,
            chunked: false,
            close: false,
            keep_alive: false,
            upgrade_option: false,
            upgrade: false,
            expects: 0,
            continues: false,
        }
    }

    /// Takes note of one field; `false` when the field repeats what is known and is dropped.
    fn note(&mut self, name: &HeaderName, head: &[u8], value: Range<usize>) -> bool {
        let text = &head[value.clone()];
        // The length alone excludes nearly every other field.
        match name.as_str().len() {
            4 if name == header::HOST => {
                self.hosts += 1;
                self.host = value;
            }
            14 if name == header::CONTENT_LENGTH => return self.note_length(head, value),
            17 if name == header::TRANSFER_ENCODING => {
                self.encodings += 1;
                self.chunked = text.eq_ignore_ascii_case(b"chunked");
            }
            10 if name == header::CONNECTION => self.note_connection(text),
            7 if name == header::UPGRADE => self.upgrade |= !text.is_empty(),
            6 if name == header::EXPECT => {
                self.expects += 1;
                self.continues = text.eq_ignore_ascii_case(b"100-continue");
            }
            _ => {}
        }
        true
    }

    fn note_length(&mut self, head: &[u8], value: Range<usize>) -> bool {
        match self.length {
            Ok(None) => {
                self.length = parse_length(&head[value.clone()]).map(Some);
                self.length_text = value;
                true
            }
            Ok(Some(_)) if head[self.length_text.clone()] == head[value] => false,
            _ => {
                self.length = Err(HeadError::ContentLength);
                true
            }
        }
    }

    fn note_connection(&mut self, text: &[u8]) {
        for option in text.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade_option = true;
            }
        }
    }

    /// The framing the fields declare, before method and status have their say.
    pub(crate) fn framing(&self, version: Version) -> Result<BodyFraming, HeadError> {
        if self.encodings > 0 {
            if self.encodings > 1 || !self.chunked {
                return Err(HeadError::TransferEncoding);
            }
            if version < Version::HTTP_11 {
                return Err(HeadError::TransferEncodingVersion);
            }
            return match self.length {
                Ok(None) => Ok(BodyFraming::Chunked),
                _ => Err(HeadError::BothFramings),
            };
        }
        Ok(self.length?.map_or(BodyFraming::None, BodyFraming::Length))
    }

    /// Whether another message may follow on the connection.
    pub(crate) fn keep_alive(&self, version: Version) -> bool {
        !self.close && (version >= Version::HTTP_11 || self.keep_alive)
    }

    /// Whether the client waits for `100 Continue`.
    pub(crate) fn expect_continue(
        &self,
        version: Version,
        framing: BodyFraming,
    ) -> Result<bool, HeadError> {
        if self.expects > 1 || (self.expects == 1 && !self.continues) {
            return Err(HeadError::Expectation);
        }
        let body = !matches!(framing, BodyFraming::None | BodyFraming::Length(0));
        Ok(self.expects == 1 && body && version >= Version::HTTP_11)
    }

    /// Whether the message offers or accepts another protocol.
    pub(crate) fn upgrade(&self, version: Version) -> bool {
        self.upgrade && self.upgrade_option && version >= Version::HTTP_11
    }

    /// Whether a message that cannot have a body declares one: the bytes after it are not to be trusted.
    pub(crate) fn contradicts_empty(&self, status: StatusCode) -> bool {
        status != StatusCode::NOT_MODIFIED
            && (self.encodings > 0 || !matches!(self.length, Ok(None | Some(0))))
    }
}

/// Only digits, and no more than a signed 64-bit number holds: others on the path may read it as one.
fn parse_length(text: &[u8]) -> Result<u64, HeadError> {
    if text.is_empty() {
        return Err(HeadError::ContentLength);
    }
    let mut length: u64 = 0;
    for &b in text {
        if !b.is_ascii_digit() {
            return Err(HeadError::ContentLength);
        }
        length = length
            .checked_mul(10)
            .and_then(|n| n.checked_add(u64::from(b - b'0')))
            .filter(|&n| n <= i64::MAX as u64)
            .ok_or(HeadError::ContentLength)?;
    }
    Ok(length)
}

/// Reads `count` field lines of `head` from `at`; values are slices of `head`.
pub(crate) fn parse_fields(
    head: &Bytes,
    mut at: usize,
    count: usize,
) -> Result<(HeaderMap, Facts), HeadError> {
    let mut headers = HeaderMap::with_capacity(count.min(64));
    let mut facts = Facts::new();
    for _ in 0..count {
        let (end, next) = line_at(head, at);
        let (name, value) = split_field(head, at..end)?;
        if facts.note(&name, head, value.clone()) {
            append(&mut headers, name, head.slice(value))?;
        }
        at = next;
    }
    Ok((headers, facts))
}

/// Reads trailer field lines; `section` ends with its last CR LF.
pub(crate) fn parse_trailer_fields(section: &Bytes) -> Result<HeaderMap, HeadError> {
    let mut headers = HeaderMap::new();
    let mut at = 0;
    while at < section.len() {
        let (end, next) = line_at(section, at);
        if end + 2 != next {
            return Err(HeadError::LineEnd);
        }
        let (name, value) = split_field(section, at..end)?;
        append(&mut headers, name, section.slice(value))?;
        at = next;
    }
    Ok(headers)
}

fn append(headers: &mut HeaderMap, name: HeaderName, value: Bytes) -> Result<(), HeadError> {
    let value = HeaderValue::from_maybe_shared(value).map_err(|_| HeadError::HeaderValue)?;
    headers.try_append(name, value).map_err(|_| HeadError::TooManyHeaders)?;
    Ok(())
}

/// The name and the range of the trimmed value of one field line.
fn split_field(head: &[u8], line: Range<usize>) -> Result<(HeaderName, Range<usize>), HeadError> {
    let bytes = &head[line.clone()];
    if matches!(bytes.first(), Some(b' ' | b'\t')) {
        return Err(HeadError::FieldLine);
    }
    let colon = memchr(b':', bytes).ok_or(HeadError::FieldLine)?;
    let name = &bytes[..colon];
    if !is_token(name) {
        return Err(HeadError::HeaderName);
    }
    let name = HeaderName::from_bytes(name).map_err(|_| HeadError::HeaderName)?;
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let mut start = line.start + colon + 1;
    let mut end = line.end;
    while start < end && blank(&head[start]) {
        start += 1;
    }
    while end > start && blank(&head[end - 1]) {
        end -= 1;
    }
    Ok((name, start..end))
}
