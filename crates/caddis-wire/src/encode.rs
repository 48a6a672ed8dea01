//! Heads and chunks on their way out.
//!
//! Framing fields are written from the framing alone, never from the map, so a message has one
//! framing by construction. Nothing a caller passes can begin a new line.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};

use crate::chunked::may_trail;
use crate::{BodyFraming, HeadError, PassedFields};

const SEC_WEBSOCKET: &[u8] = b"sec-websocket-";

/// The name in Go's canonical form, as Caddy's logs show it: `Content-Type`, `Sec-Websocket-Key`.
pub fn canonical_name(name: &str) -> String {
    let mut upper = true;
    name.chars()
        .map(|c| {
            let cased = if upper { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            upper = c == '-';
            cased
        })
        .collect()
}

/// The length that `Content-Length` declares; `None` without one, and for one that is no number.
pub fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Takes off the fields of a connection, which have no place in HTTP/2 and HTTP/3 (RFC 9113 §8.2.2,
/// RFC 9114 §4.2). They are looked for in one pass, since there rarely is one.
pub fn remove_connection_fields(headers: &mut HeaderMap) {
    while let Some(name) = headers.keys().find(|name| is_of_connection(name)).cloned() {
        headers.remove(name);
    }
}

/// Whether a field belongs to a connection, whatever its value is.
pub(crate) fn is_of_connection(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "transfer-encoding" | "upgrade" | "keep-alive" | "proxy-connection"
    )
}

/// Writes one field line.
pub fn write_header(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    let value = value.as_bytes();
    out.reserve(name.as_str().len() + value.len() + 4);
    write_name(out, name);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes a name in the case it has on the wire (`Content-Type`, `Sec-WebSocket-Key`), and the
/// colon.
pub(crate) fn write_name(out: &mut Vec<u8>, name: &HeaderName) {
    let name = name.as_str().as_bytes();
    let start = out.len();
    out.extend_from_slice(name);
    // A `HeaderName` is lower case throughout.
    let mut upper = true;
    for byte in &mut out[start..] {
        if upper {
            byte.make_ascii_uppercase();
        }
        upper = *byte == b'-';
    }
    if name.len() > SEC_WEBSOCKET.len() && name.starts_with(SEC_WEBSOCKET) {
        out[start + 7] = b'S';
    }
    out.extend_from_slice(b": ");
}

/// Writes a request head in HTTP/1.1, `Host` first.
///
/// `Content-Length` and `Transfer-Encoding` of the map are passed over; `framing` decides
/// (`Length(0)` writes `Content-Length: 0`, `None` nothing). Bytes that cannot stand in a target
/// are percent-encoded.
pub fn write_request_head(
    out: &mut Vec<u8>,
    method: &Method,
    target: &[u8],
    headers: &HeaderMap,
    framing: BodyFraming,
) {
    out.reserve(target.len() + 64 + headers.len() * 40);
    write_request_line(out, method, target);
    if let Some(host) = headers.get(header::HOST) {
        out.extend_from_slice(b"Host: ");
        out.extend_from_slice(host.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    for (name, value) in headers {
        if name != header::HOST && !rules_framing(name) {
            write_header(out, name, value);
        }
    }
    write_framing(out, framing);
    out.extend_from_slice(b"\r\n");
}

/// Writes the first line of a request in HTTP/1.1. Bytes that cannot stand in a target are
/// percent-encoded.
pub fn write_request_line(out: &mut Vec<u8>, method: &Method, target: &[u8]) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    write_target(out, target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// Writes a response head whose fields are written already.
pub fn write_passed_head(
    out: &mut Vec<u8>,
    version: Version,
    status: StatusCode,
    fields: &PassedFields,
    framing: BodyFraming,
    keep_alive: bool,
) {
    out.reserve(128 + fields.lines.len());
    write_status_line(out, version, status, None);
    out.extend_from_slice(&fields.lines);
    for (begin, value) in [("Alt-Svc: ", fields.alt_svc.as_ref()), ("Via: ", fields.via)] {
        if let Some(value) = value {
            out.extend_from_slice(begin.as_bytes());
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    write_end(out, version, status, None, framing, keep_alive);
}

/// Writes a response head.
///
/// `Content-Length` and `Transfer-Encoding` of the map are passed over; `framing` decides: for an
/// answer to `HEAD` or a 304 pass `Length` to declare the length of the body that is not sent.
/// `Chunked` falls back to the end of the connection for HTTP/1.0, which does not know it.
/// A `reason` of `None` is the usual phrase of the status.
pub fn write_response_head(
    out: &mut Vec<u8>,
    version: Version,
    status: StatusCode,
    reason: Option<&str>,
    headers: &HeaderMap,
    framing: BodyFraming,
    keep_alive: bool,
) {
    out.reserve(128 + headers.len() * 40);
    write_status_line(out, version, status, reason);
    for (name, value) in headers {
        if !rules_framing(name) {
            write_header(out, name, value);
        }
    }
    write_end(out, version, status, Some(headers), framing, keep_alive);
}

/// Framing, what becomes of the connection, and the empty line.
fn write_end(
    out: &mut Vec<u8>,
    version: Version,
    status: StatusCode,
    headers: Option<&HeaderMap>,
    framing: BodyFraming,
    keep_alive: bool,
) {
    let has_option = |option| headers.is_some_and(|headers| has_option(headers, option));
    let old = version < Version::HTTP_11;
    let framing = match framing {
        BodyFraming::Chunked if old => BodyFraming::UntilClose,
        framing => framing,
    };
    if !status.is_informational() && status != StatusCode::NO_CONTENT {
        write_framing(out, framing);
    }
    if !status.is_informational() {
        let keep_alive = keep_alive && framing != BodyFraming::UntilClose;
        // HTTP/1.0 closes by itself, so it is not told.
        if !keep_alive && !old && !has_option("close") {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if keep_alive && old && !has_option("keep-alive") {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the whole response to a head that was refused; the connection closes after it.
pub fn write_error_response(out: &mut Vec<u8>, error: HeadError) {
    let body = error.body();
    out.extend_from_slice(b"HTTP/1.1 ");
    if body.starts_with(|c: char| c.is_ascii_digit()) {
        out.extend_from_slice(body.as_bytes());
    } else {
        let status = error.status();
        out.extend_from_slice(status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(phrase(status).unwrap_or_default().as_bytes());
    }
    out.extend_from_slice(
        b"\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n",
    );
    out.extend_from_slice(body.as_bytes());
}

/// The usual phrase of a status (RFC 9110 §15), where there is one.
pub fn phrase(status: StatusCode) -> Option<&'static str> {
    match status {
        // The `http` crate has it without the hyphen.
        StatusCode::NON_AUTHORITATIVE_INFORMATION => Some("Non-Authoritative Information"),
        _ => status.canonical_reason(),
    }
}

fn write_status_line(
    out: &mut Vec<u8>,
    version: Version,
    status: StatusCode,
    reason: Option<&str>,
) {
    let old = version < Version::HTTP_11;
    out.extend_from_slice(if old { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    match reason.or_else(|| phrase(status)) {
        Some(reason) => {
            out.extend(reason.bytes().map(|b| if b < b' ' || b == 0x7f { b' ' } else { b }));
        }
        None => {
            out.extend_from_slice(b"status code ");
            out.extend_from_slice(status.as_str().as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn write_target(out: &mut Vec<u8>, target: &[u8]) {
    let bad = |b: u8| b <= b' ' || b == 0x7f || b == b'#';
    if target.is_empty() {
        out.push(b'/');
    } else if !target.iter().any(|&b| bad(b)) {
        out.extend_from_slice(target);
    } else {
        for &byte in target {
            if bad(byte) {
                let hex = |n: u8| b"0123456789ABCDEF"[usize::from(n & 15)];
                out.extend_from_slice(&[b'%', hex(byte >> 4), hex(byte)]);
            } else {
                out.push(byte);
            }
        }
    }
}

fn rules_framing(name: &HeaderName) -> bool {
    name == header::CONTENT_LENGTH || name == header::TRANSFER_ENCODING
}

fn write_framing(out: &mut Vec<u8>, framing: BodyFraming) {
    match framing {
        BodyFraming::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            write_decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        BodyFraming::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyFraming::None | BodyFraming::UntilClose => {}
    }
}

fn has_option(headers: &HeaderMap, option: &str) -> bool {
    headers.get_all(header::CONNECTION).iter().any(|value| {
        value
            .as_bytes()
            .split(|&b| b == b',')
            .any(|text| text.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
    })
}

fn write_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes the size line of a chunk; its data and [`write_chunk_end`] follow.
///
/// A chunk of no bytes would end the body: for `len` 0 nothing is written, and nothing may follow.
pub fn write_chunk_head(out: &mut Vec<u8>, len: usize) {
    if len == 0 {
        return;
    }
    let mut number = len;
    let mut digits = [0; 16];
    let mut at = digits.len();
    while number > 0 {
        at -= 1;
        digits[at] = b"0123456789abcdef"[number & 15];
        number >>= 4;
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Writes what stands between the data of a chunk and the next one.
pub fn write_chunk_end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Writes a whole chunk; nothing for empty data, which would end the body.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        write_chunk_head(out, data.len());
        out.extend_from_slice(data);
        write_chunk_end(out);
    }
}

/// Writes the last chunk and the trailer section.
///
/// Fields that have no place there (framing, routing, connection) are left out.
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if may_trail(name) {
            write_header(out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}
