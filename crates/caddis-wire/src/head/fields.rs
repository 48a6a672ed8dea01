//! Field lines, and what the few fields that rule a connection say.

use std::ops::Range;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version};
use memchr::memchr;

use super::BodyFraming;
use super::headers::Section;
use super::host::is_host;
use super::lines::{Line, line_at};
use super::names::{self, Field, FieldKind, Names, Place};
use crate::HeadError;

/// What the fields that rule framing and connection say, gathered while they are read.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Where the value of `Host` is.
    pub(crate) host: Range<usize>,
    /// How many `Host` fields there are.
    pub(crate) hosts: usize,
    /// Whether a name has an underscore or a dot in it.
    pub(crate) odd_names: bool,
    length: Result<Option<u64>, HeadError>,
    length_text: Range<usize>,
    encodings: usize,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    other_option: bool,
    upgrade: bool,
    expects: usize,
    continues: bool,
    /// The value of `Host` is not one.
    bad_host: bool,
}

impl Facts {
    pub(super) fn new() -> Self {
        Self {
            host: 0..0,
            hosts: 0,
            odd_names: false,
            length: Ok(None),
            length_text: 0..0,
            encodings: 0,
            chunked: false,
            close: false,
            keep_alive: false,
            upgrade_option: false,
            other_option: false,
            upgrade: false,
            expects: 0,
            continues: false,
            bad_host: false,
        }
    }

    /// Takes note of one field; `false` when the field repeats what is known and is dropped.
    fn note(&mut self, field: &Field, head: &[u8], value: Range<usize>) -> bool {
        self.odd_names |= field.odd;
        let text = &head[value.clone()];
        match field.kind {
            FieldKind::Other
            | FieldKind::Trailer
            | FieldKind::Te
            | FieldKind::ContentType
            | FieldKind::Date
            | FieldKind::Hop
            | FieldKind::Forwarded
            | FieldKind::Encoding => {}
            FieldKind::Host => {
                self.hosts += 1;
                self.bad_host |= !text.is_empty() && !is_host(text);
                self.host = value;
            }
            FieldKind::ContentLength => return self.note_length(head, value),
            FieldKind::TransferEncoding => {
                self.encodings += 1;
                self.chunked = text.eq_ignore_ascii_case(b"chunked");
            }
            FieldKind::Connection => self.note_connection(text),
            FieldKind::Upgrade => self.upgrade |= !text.is_empty(),
            FieldKind::Expect => {
                self.expects += 1;
                self.continues = text.eq_ignore_ascii_case(b"100-continue");
            }
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
            } else {
                self.other_option = true;
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

    /// One host, and one that can be, where the version wants it.
    pub(crate) fn check_host(&self, version: Version) -> Result<(), HeadError> {
        match self.hosts {
            0 if version >= Version::HTTP_11 => Err(HeadError::MissingHost),
            0 => Ok(()),
            1 if self.bad_host => Err(HeadError::MalformedHost),
            1 => Ok(()),
            _ => Err(HeadError::ManyHosts),
        }
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

/// Reads and checks the field lines of a request. `Host` is noted, and not among the fields.
pub(crate) fn check_fields(head: Bytes, lines: &[Line]) -> Result<Section, HeadError> {
    let mut facts = Facts::new();
    let mut section = Section::new(head.clone(), lines);
    names::with(|names| {
        let before = names.changes();
        for line in lines {
            let (place, field, value) = split_field(names, &head, line.range(), line.colon())?;
            if !line.is_clean() {
                check_value(&head[value.clone()])?;
            }
            if facts.note(field, &head, value.clone())
                && field.kind != FieldKind::Host
                && !section.push(*line, value, field, place)
            {
                return Err(HeadError::TooLarge);
            }
        }
        // A name that was learnt on the way may stand where an earlier one of this head stood.
        if names.changes() == before {
            section.seal(names);
        }
        Ok(())
    })?;
    section.facts = facts;
    Ok(section)
}

/// Reads field lines of a response's `head`; values are slices of it.
pub(crate) fn parse_fields(head: &Bytes, lines: &[Line]) -> Result<(HeaderMap, Facts), HeadError> {
    let mut headers = crate::recycle::take(lines.len());
    let mut facts = Facts::new();
    names::with(|names| {
        for line in lines {
            let (_, field, value) = split_field(names, head, line.range(), line.colon())?;
            if facts.note(field, head, value.clone()) {
                append(&mut headers, field.name.clone(), head.slice(value))?;
            }
        }
        Ok(())
    })?;
    Ok((headers, facts))
}

/// The fields of a response that is passed on as it is, written for the next hop: without those of
/// one connection, and without what declares the framing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassedFields {
    /// Field lines, each with its line end.
    pub lines: Bytes,
    /// `Alt-Svc`, written after them.
    pub alt_svc: Option<HeaderValue>,
    /// `Via`, written after them.
    pub via: Option<&'static HeaderValue>,
    /// There is a `Date`.
    pub dated: bool,
    /// There is a `Content-Type`.
    pub typed: bool,
}

/// Reads field lines and writes those that are passed on. `None` where one wants a closer look:
/// `Trailer`, or fields that `Connection` names.
pub(crate) fn pass_fields(
    head: &[u8],
    lines: &[Line],
) -> Result<Option<(PassedFields, Facts)>, HeadError> {
    let mut passed = PassedFields::default();
    let mut out = Vec::with_capacity(head.len());
    let mut facts = Facts::new();
    let mut run = Run::default();
    let simple = names::with(|names| {
        for line in lines {
            let (_, field, value) = split_field(names, head, line.range(), line.colon())?;
            let text = &head[value.clone()];
            if !line.is_clean() {
                check_value(text)?;
            }
            match field.kind {
                FieldKind::Trailer => return Ok(false),
                FieldKind::Hop | FieldKind::Te => continue,
                FieldKind::ContentLength
                | FieldKind::TransferEncoding
                | FieldKind::Connection
                | FieldKind::Upgrade => {
                    facts.note(field, head, value);
                    continue;
                }
                FieldKind::ContentType => passed.typed = true,
                FieldKind::Date => passed.dated = true,
                FieldKind::Host
                | FieldKind::Expect
                | FieldKind::Forwarded
                | FieldKind::Encoding
                | FieldKind::Other => {}
            }
            match stands(head, *line, &value, field) {
                Some(whole) => run.add(head, whole, &mut out),
                None => {
                    run.write(head, &mut out);
                    field.write(text, &mut out);
                }
            }
        }
        run.write(head, &mut out);
        Ok(!facts.other_option && !facts.upgrade)
    })?;
    passed.lines = out.into();
    Ok(simple.then_some((passed, facts)))
}

/// The whole line with its line end, where that is how it is written for the next hop, too.
#[inline]
pub(super) fn stands(
    head: &[u8],
    line: Line,
    value: &Range<usize>,
    field: &Field,
) -> Option<Range<usize>> {
    let Range { start, end } = line.range();
    let blank = line.colon().is_some_and(|colon| colon + 2 == value.start)
        && head.get(value.start - 1) == Some(&b' ');
    let stands = field.canonical && blank && value.end == end && head.get(end) == Some(&b'\r');
    stands.then_some(start..end + 2)
}

/// Lines which stand one after the other and are written at once.
#[derive(Debug, Default)]
pub(super) struct Run(Range<usize>);

impl Run {
    /// Adds a whole line; writes those before it, unless they end where it begins.
    #[inline]
    pub(super) fn add(&mut self, head: &[u8], line: Range<usize>, out: &mut Vec<u8>) {
        if self.0.end == line.start {
            self.0.end = line.end;
        } else {
            self.write(head, out);
            self.0 = line;
        }
    }

    /// Writes what is not yet written.
    #[inline]
    pub(super) fn write(&mut self, head: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&head[std::mem::take(&mut self.0)]);
    }
}

/// What a value may hold (RFC 9110 §5.5).
fn check_value(value: &[u8]) -> Result<(), HeadError> {
    let bad = |&b: &u8| (b < b' ' && b != b'\t') || b == 0x7f;
    if value.iter().any(bad) { Err(HeadError::HeaderValue) } else { Ok(()) }
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
        names::with(|names| {
            let colon = memchr(b':', &section[at..end]).map(|colon| at + colon);
            let (_, field, value) = split_field(names, section, at..end, colon)?;
            append(&mut headers, field.name.clone(), section.slice(value))
        })?;
        at = next;
    }
    Ok(headers)
}

fn append(headers: &mut HeaderMap, name: HeaderName, value: Bytes) -> Result<(), HeadError> {
    let value = HeaderValue::from_maybe_shared(value).map_err(|_| HeadError::HeaderValue)?;
    headers.try_append(name, value).map_err(|_| HeadError::TooManyHeaders)?;
    Ok(())
}

fn trimmed(head: &[u8], range: Range<usize>) -> Range<usize> {
    let mut value = &head[range.clone()];
    let mut start = range.start;
    while let [b' ' | b'\t', rest @ ..] = value {
        (value, start) = (rest, start + 1);
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    start..start + value.len()
}

/// The name and its place, and the range of the trimmed value of one field line whose first colon
/// is at `colon`.
#[inline]
fn split_field<'a>(
    names: &'a mut Names,
    head: &[u8],
    line: Range<usize>,
    colon: Option<usize>,
) -> Result<(Place, &'a Field, Range<usize>), HeadError> {
    let length = colon.map(|colon| colon - line.start);
    let (place, field) = names.field(&head[line.clone()], length)?;
    let from = colon.map_or(line.end, |colon| colon + 1);
    let value = match &head[from..line.end] {
        // As nearly all are: one blank before, none after.
        [b' ', first, .., last] if *first > b' ' && *last > b' ' => from + 1..line.end,
        _ => trimmed(head, from..line.end),
    };
    Ok((place, field, value))
}
