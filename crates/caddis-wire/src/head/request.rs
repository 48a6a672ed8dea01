//! Request heads.

use std::{ops::Range, rc::Rc};

use bytes::Bytes;
use http::{Method, Version};
use memchr::memchr;

use super::fields::check_fields;
use super::headers::{Headers, Section};
use super::known::sight;
use super::lines::{Lines, find_head};
use super::target::{Target, parse_target};
use super::{BodyFraming, Limits, Parsed, TargetForm, is_token};
use crate::HeadError;

/// Empty lines before a request line that are passed over (RFC 9112 §2.2).
const MAX_EMPTY_LINES: usize = 4;

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// The method, case as received.
    pub method: Method,
    /// Which form the target has.
    pub form: TargetForm,
    /// Path and query of the target; `*` and `host:port` stay as they are.
    pub origin: Bytes,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// `Host`, or the authority of an absolute target or of `CONNECT` without `Host`; empty where
    /// there is neither.
    pub host: Bytes,
    /// The fields but `Host`.
    pub headers: Headers,
    /// How the end of the body is found.
    pub framing: BodyFraming,
    /// Whether another request may follow on the connection.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// Whether the client offers another protocol (`Upgrade` with its connection option).
    pub upgrade: bool,
    /// Whether a field name has an underscore or a dot in it, which some programs read as a hyphen.
    pub odd_names: bool,
}

/// Reads a request head from the beginning of `buf`.
///
/// The head is copied once; target and values are slices of that copy. Where its field lines are
/// those of an earlier head, they are not read again. The bytes used count the empty lines that were
/// passed over before it.
pub fn parse_request(buf: &[u8], limits: &Limits) -> Result<Parsed<RequestHead>, HeadError> {
    let Some(sight) = sight(buf, limits) else { return Ok(read(buf, limits)?.0) };
    if let Some(section) = sight.find(buf, limits) {
        return known(buf, sight.fields, section, limits);
    }
    let (parsed, section) = read(buf, limits)?;
    if let (Parsed::Complete(_, used), Some(section)) = (&parsed, section)
        && *used == buf.len()
    {
        sight.note(&section);
    }
    Ok(parsed)
}

/// A head whose field lines, from `fields` on, were read before.
fn known(
    buf: &[u8],
    fields: usize,
    section: Rc<Section>,
    limits: &Limits,
) -> Result<Parsed<RequestHead>, HeadError> {
    let line = split_line(&buf[..fields - 2], limits)?;
    let target = parse_target(&buf[line.target.clone()], &line.method)?;
    let first = if section.head()[..] == *buf {
        section.head().clone()
    } else {
        Bytes::copy_from_slice(&buf[..fields])
    };
    Ok(Parsed::Complete(assemble(line, target, &first, section)?, buf.len()))
}

/// Reads all of a head; its field lines come apart, too.
fn read(
    buf: &[u8],
    limits: &Limits,
) -> Result<(Parsed<RequestHead>, Option<Rc<Section>>), HeadError> {
    let start = skip_empty_lines(buf)?;
    let mut lines = Lines::new();
    let end = match find_head(buf, start, limits, &mut lines)? {
        Ok(end) if !lines.is_empty() => end,
        Ok(_) => return Err(HeadError::StartLine),
        Err(unfinished) => {
            if unfinished.lines == 0 {
                check_method_start(&buf[unfinished.at..], limits)?;
            } else {
                // A TLS hello may hold a line feed, and would be waited for in vain.
                check_method_start(buf.get(start..=start).unwrap_or_default(), limits)?;
            }
            return Ok((Parsed::Partial, None));
        }
    };
    let bytes = &buf[start..end];
    let line = split_line(&bytes[lines[0].range()], limits)?;
    let target = parse_target(&bytes[line.target.clone()], &line.method)?;
    let head = Bytes::copy_from_slice(bytes);
    let section = Rc::new(check_fields(head.clone(), &lines[1..])?);
    let request = assemble(line, target, &head, section.clone())?;
    Ok((Parsed::Complete(request, end), Some(section)))
}

struct RequestLine {
    method: Method,
    target: Range<usize>,
    version: Version,
}

/// The head, its first line out of `first`.
fn assemble(
    line: RequestLine,
    target: Target,
    first: &Bytes,
    section: Rc<Section>,
) -> Result<RequestHead, HeadError> {
    let (version, facts) = (line.version, &section.facts);
    let framing = facts.framing(version)?;
    facts.check_host(version)?;
    let start = line.target.start;
    let in_head = |range: Range<usize>| start + range.start..start + range.end;
    let host = match target.authority {
        Some(authority) if target.form == TargetForm::Absolute || facts.hosts == 0 => {
            first.slice(in_head(authority))
        }
        _ => section.head().slice(facts.host.clone()),
    };
    Ok(RequestHead {
        method: line.method,
        origin: origin_form(first, in_head(target.origin)),
        form: target.form,
        version,
        host,
        framing,
        keep_alive: facts.keep_alive(version),
        expect_continue: facts.expect_continue(version, framing)?,
        upgrade: facts.upgrade(version),
        odd_names: facts.odd_names,
        headers: Headers::of(section),
    })
}

/// An absolute target may leave the path out; the origin form has one.
fn origin_form(head: &Bytes, range: Range<usize>) -> Bytes {
    match head[range.clone()].first() {
        None => Bytes::from_static(b"/"),
        Some(b'?') => [b"/", &head[range]].concat().into(),
        Some(_) => head.slice(range),
    }
}

fn skip_empty_lines(buf: &[u8]) -> Result<usize, HeadError> {
    let mut start = 0;
    while buf[start..].starts_with(b"\r\n") {
        start += 2;
        if start > 2 * MAX_EMPTY_LINES {
            return Err(HeadError::StartLine);
        }
    }
    Ok(start)
}

/// Refuses bytes that no request line begins with as soon as they are seen.
fn check_method_start(bytes: &[u8], limits: &Limits) -> Result<(), HeadError> {
    let method = match memchr(b' ', bytes) {
        Some(space) => &bytes[..space],
        None if bytes.is_empty() || bytes == b"\r" => return Ok(()),
        None => bytes.strip_suffix(b"\r").unwrap_or(bytes),
    };
    if !is_token(&method[..method.len().min(limits.max_method)]) {
        return Err(HeadError::Method);
    }
    if method.len() > limits.max_method {
        return Err(HeadError::MethodTooLong);
    }
    Ok(())
}

fn split_line(line: &[u8], limits: &Limits) -> Result<RequestLine, HeadError> {
    let first = memchr(b' ', line).ok_or(HeadError::StartLine)?;
    check_method_start(&line[..=first], limits)?;
    let rest = &line[first + 1..];
    let second = memchr(b' ', rest).filter(|&at| at > 0).ok_or(HeadError::StartLine)?;
    let (target, version) = (&rest[..second], &rest[second + 1..]);
    let method = &line[..first];
    if method == b"PRI" && target == b"*" && version == b"HTTP/2.0" {
        return Err(HeadError::Http2Preface);
    }
    Ok(RequestLine {
        method: Method::from_bytes(method).map_err(|_| HeadError::Method)?,
        target: first + 1..first + 1 + second,
        version: parse_version(version)?,
    })
}

/// `HTTP/1.1` or `HTTP/1.0`; the name is case-sensitive (RFC 9112 §2.3).
pub(crate) fn parse_version(text: &[u8]) -> Result<Version, HeadError> {
    match text {
        b"HTTP/1.1" => Ok(Version::HTTP_11),
        b"HTTP/1.0" => Ok(Version::HTTP_10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(HeadError::UnsupportedVersion)
        }
        _ => Err(HeadError::Version),
    }
}
