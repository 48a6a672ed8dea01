//! Response heads.

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, StatusCode, Version};

use super::fields::{Facts, PassedFields, parse_fields, pass_fields};
use super::lines::{Lines, find_head};
use super::request::parse_version;
use super::{BodyFraming, Limits, Parsed};
use crate::HeadError;

/// The head of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The reason phrase where it is not the usual one of the status.
    pub reason: Option<Bytes>,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The fields.
    pub headers: HeaderMap,
    /// How the end of the body is found.
    pub framing: BodyFraming,
    /// Whether the connection can carry another exchange after this one.
    pub keep_alive: bool,
    /// Whether the server names another protocol (`Upgrade` with its connection option).
    pub upgrade: bool,
}

/// Reads a response head from the beginning of `buf`, as the answer to `request_method`.
///
/// A 1xx response other than 101 is followed by another head on the same connection.
pub fn parse_response(
    buf: &[u8],
    request_method: &Method,
    limits: &Limits,
) -> Result<Parsed<ResponseHead>, HeadError> {
    let mut lines = Lines::new();
    let Some(used) = find(buf, limits, &mut lines)? else { return Ok(Parsed::Partial) };
    let bytes = &buf[..used];
    let end = lines[0].range().end;
    let (version, status, reason) = split_line(&bytes[..end])?;
    let head = Bytes::copy_from_slice(bytes);
    let (headers, facts) = parse_fields(&head, &lines[1..])?;
    let usual = crate::encode::phrase(status).map(str::as_bytes);
    let reason =
        (!reason.is_empty() && usual != Some(reason)).then(|| head.slice(end - reason.len()..end));
    let (framing, keep_alive) = framing(status, request_method, version, &facts)?;
    let upgrade = facts.upgrade(version);
    let response = ResponseHead { status, reason, version, headers, framing, keep_alive, upgrade };
    Ok(Parsed::Complete(response, used))
}

/// As [`parse_response`], for a response that is passed on as it is: the head has no fields, they
/// come written. `None` where the fields have to be looked at after all: unusual ones, and answers
/// that have no body by their nature. Not for answers to `HEAD` and `CONNECT`.
pub(super) fn parse_passed_response(
    buf: &[u8],
    limits: &Limits,
) -> Result<Option<Parsed<(ResponseHead, PassedFields)>>, HeadError> {
    let mut lines = Lines::new();
    let Some(used) = find(buf, limits, &mut lines)? else { return Ok(Some(Parsed::Partial)) };
    let (version, status, reason) = split_line(&buf[lines[0].range()])?;
    let usual = crate::encode::phrase(status).map(str::as_bytes);
    if status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || usual != Some(reason)
    {
        return Ok(None);
    }
    let passed = pass_fields(&buf[..used], &lines[1..])?;
    let Some((passed, facts)) = passed.filter(|(passed, _)| passed.typed) else { return Ok(None) };
    let (framing, keep_alive) = framing(status, &Method::GET, version, &facts)?;
    let (headers, reason) = (HeaderMap::new(), None);
    let head =
        ResponseHead { status, reason, version, headers, framing, keep_alive, upgrade: false };
    Ok(Some(Parsed::Complete((head, passed), used)))
}

/// Where the head ends, and its lines. `None`: not all of it is there.
fn find(buf: &[u8], limits: &Limits, lines: &mut Lines) -> Result<Option<usize>, HeadError> {
    match find_head(buf, 0, limits, lines)? {
        Ok(end) if !lines.is_empty() => Ok(Some(end)),
        Ok(_) => Err(HeadError::StartLine),
        Err(unfinished) => {
            let start = &buf[..buf.len().min(7)];
            if unfinished.lines == 0 && !b"HTTP/1.".starts_with(start) {
                return Err(HeadError::StartLine);
            }
            Ok(None)
        }
    }
}

/// RFC 9112 §6.3, in its order.
fn framing(
    status: StatusCode,
    method: &Method,
    version: Version,
    facts: &Facts,
) -> Result<(BodyFraming, bool), HeadError> {
    let declared = facts.framing(version)?;
    let keep_alive = facts.keep_alive(version);
    let bodiless = status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED;
    if method == Method::HEAD {
        return Ok((BodyFraming::None, keep_alive));
    }
    if bodiless || (method == Method::CONNECT && status.is_success()) {
        return Ok((BodyFraming::None, keep_alive && !facts.contradicts_empty(status)));
    }
    Ok(match declared {
        BodyFraming::None => (BodyFraming::UntilClose, false),
        declared => (declared, keep_alive),
    })
}

fn split_line(line: &[u8]) -> Result<(Version, StatusCode, &[u8]), HeadError> {
    let (version, rest) = line.split_at_checked(8).ok_or(HeadError::StartLine)?;
    let version = parse_version(version)?;
    let rest = rest.strip_prefix(b" ").ok_or(HeadError::StartLine)?;
    let (code, rest) = rest.split_at_checked(3).ok_or(HeadError::Status)?;
    if !code.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::Status);
    }
    let status = StatusCode::from_bytes(code).map_err(|_| HeadError::Status)?;
    let reason = match rest {
        [] => rest,
        [b' ', reason @ ..] => reason,
        _ => return Err(HeadError::Status),
    };
    if reason.iter().any(|&b| (b < b' ' && b != b'\t') || b == 0x7f) {
        return Err(HeadError::StartLine);
    }
    Ok((version, status, reason))
}
