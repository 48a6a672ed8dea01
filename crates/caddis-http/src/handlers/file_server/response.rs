//! From an open file to an answer: headers, conditions, ranges.

use bytes::Bytes;
use caddis_core::{Body, Exchange, Response, target::encode_path};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};

use super::{
    body::{FileBody, Segment},
    conditional::{self, RangeError, Span, Verdict},
    lookup::{Content, Found},
};
use crate::{
    handlers::support::{escape_html, field_value},
    mime,
    path::extension,
};

const ACCEPT_ENCODING: HeaderValue = HeaderValue::from_static("Accept-Encoding");
const TEXT_PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Adds `Vary: Accept-Encoding` to the answer to come, whatever it is.
pub(super) fn vary(ex: &mut Exchange) {
    ex.early_headers.append(header::VARY, ACCEPT_ENCODING);
}

/// Answers with the file, or with what its conditions come to.
pub(super) fn file(ex: &mut Exchange, found: Found, status: Option<StatusCode>) -> Response {
    let head = ex.request.method == Method::HEAD;
    let read = head || ex.request.method == Method::GET;
    let mut response = ex.respond(StatusCode::OK);
    describe(&mut response, &found);
    let verdict = conditional::check(&ex.request.headers, &found.etag, found.modified, read);
    match verdict {
        Verdict::Proceed { ranges } => {
            let range = ranges
                .then(|| ex.request.headers.get(header::RANGE))
                .flatten()
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            let spans = if range.is_empty() {
                Ok(Vec::new())
            } else {
                conditional::ranges(range, found.size)
            };
            match spans {
                Ok(spans) => content(&mut response, found, &spans, head),
                Err(error) => unsatisfiable(&mut response, error, found.size),
            }
        }
        Verdict::NotModified => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING] {
                response.headers_mut().remove(name);
            }
            if !found.etag.is_empty() {
                response.headers_mut().remove(header::LAST_MODIFIED);
            }
        }
        Verdict::PreconditionFailed => *response.status_mut() = StatusCode::PRECONDITION_FAILED,
    }
    if let Some(status) = status {
        *response.status_mut() = status;
    }
    response
}

/// The headers that tell about the file.
fn describe(response: &mut Response, found: &Found) {
    let headers = response.headers_mut();
    if let Some(coding) = found.coding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    if !found.etag.is_empty() {
        headers.insert(header::ETAG, field_value(&found.etag));
    }
    if !headers.contains_key(header::CONTENT_TYPE)
        && let Some(kind) = mime::by_extension(extension(&found.filename))
    {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    // A file of unknown kind has no type (spec D071).
    response.extensions_mut().insert(caddis_core::NoSniff);
    let headers = response.headers_mut();
    if let Some(modified) = found.modified {
        headers.insert(header::LAST_MODIFIED, field_value(&httpdate::fmt_http_date(modified)));
    }
}

fn content(response: &mut Response, found: Found, spans: &[Span], head: bool) {
    const BYTES: HeaderValue = HeaderValue::from_static("bytes");
    response.headers_mut().insert(header::ACCEPT_RANGES, BYTES);
    let everything = Span { start: 0, length: found.size };
    let segments = match spans {
        [] => vec![Segment::File(everything)],
        [span] => {
            let text = content_range(*span, found.size);
            response.headers_mut().insert(header::CONTENT_RANGE, field_value(&text));
            vec![Segment::File(*span)]
        }
        spans => multipart(response, spans, found.size),
    };
    if !spans.is_empty() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    if head {
        let length = length(&segments);
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        return;
    }
    *response.body_mut() = match found.content {
        Content::Open(_) if length(&segments) == 0 => Body::Empty,
        Content::Open(file) => Body::Stream(Box::pin(FileBody::new(file, segments))),
        Content::Read(bytes) => assemble(&bytes, segments).into(),
    };
}

fn length(segments: &[Segment]) -> u64 {
    let lengths = segments.iter().map(|segment| match segment {
        Segment::Text(text) => text.len() as u64,
        Segment::File(span) => span.length,
    });
    lengths.fold(0, u64::saturating_add)
}

/// The segments of a file that was read already.
fn assemble(bytes: &Bytes, segments: Vec<Segment>) -> Bytes {
    let part = |span: Span| {
        let start = usize::try_from(span.start).unwrap_or(usize::MAX).min(bytes.len());
        let length = usize::try_from(span.length).unwrap_or(usize::MAX);
        bytes.slice(start..start.saturating_add(length).min(bytes.len()))
    };
    let mut pieces = segments.into_iter().map(|segment| match segment {
        Segment::Text(text) => text,
        Segment::File(span) => part(span),
    });
    match (pieces.next(), pieces.next()) {
        (Some(only), None) => only,
        (first, second) => {
            let all: Vec<Bytes> = first.into_iter().chain(second).chain(pieces).collect();
            all.concat().into()
        }
    }
}

fn content_range(span: Span, size: u64) -> String {
    format!("bytes {}-{}/{size}", span.start, span.start + span.length.saturating_sub(1))
}

fn multipart(response: &mut Response, spans: &[Span], size: u64) -> Vec<Segment> {
    let boundary: String = (0..4).map(|_| format!("{:016x}", fastrand::u64(..))).collect();
    let boundary = &boundary[..60];
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let kind = String::from_utf8_lossy(kind.unwrap_or_default()).into_owned();
    let mut segments = Vec::with_capacity(spans.len() * 2 + 1);
    for (at, span) in spans.iter().enumerate() {
        let start = if at == 0 { "" } else { "\r\n" };
        let range = content_range(*span, size);
        segments.push(Segment::Text(
            format!(
                "{start}--{boundary}\r\nContent-Range: {range}\r\nContent-Type: {kind}\r\n\r\n"
            )
            .into(),
        ));
        segments.push(Segment::File(*span));
    }
    segments.push(Segment::Text(format!("\r\n--{boundary}--\r\n").into()));
    let kind = field_value(&format!("multipart/byteranges; boundary={boundary}"));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    segments
}

fn unsatisfiable(response: &mut Response, error: RangeError, size: u64) {
    *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
    let headers = response.headers_mut();
    for name in
        [header::ETAG, header::LAST_MODIFIED, header::CACHE_CONTROL, header::CONTENT_ENCODING]
    {
        headers.remove(name);
    }
    headers.insert(header::CONTENT_TYPE, TEXT_PLAIN);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let text = match error {
        RangeError::NoOverlap => {
            headers.insert(header::CONTENT_RANGE, field_value(&format!("bytes */{size}")));
            "invalid range: failed to overlap\n"
        }
        RangeError::Malformed => "invalid range\n",
    };
    *response.body_mut() = text.into();
}

/// Redirects to a path with the query kept, as Go's `http.Redirect` words it.
pub(super) fn redirect(ex: &mut Exchange, to: &str) -> Response {
    const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
    // Two slashes would name another host.
    let mut location = format!("/{}", to.trim_start_matches('/'));
    let cleaned = crate::path::clean(&location).into_owned();
    location = if location.ends_with('/') && cleaned != "/" { cleaned + "/" } else { cleaned };
    location = escape(&location);
    if let Some(query) = ex.request.target.query().filter(|query| !query.is_empty()) {
        location.push('?');
        location.push_str(query);
    }
    let method = ex.request.method.clone();
    let mut response = ex.respond(StatusCode::PERMANENT_REDIRECT);
    let headers = response.headers_mut();
    headers.insert(header::LOCATION, field_value(&location));
    let plain = !headers.contains_key(header::CONTENT_TYPE);
    if plain && (method == Method::GET || method == Method::HEAD) {
        headers.insert(header::CONTENT_TYPE, HTML);
    }
    if plain && method == Method::GET {
        let text = escape_html(&location);
        *response.body_mut() = format!("<a href=\"{text}\">Permanent Redirect</a>.\n\n").into();
    }
    response
}

/// Escapes what would end the path or cannot travel; spaces stay, as in Go.
fn escape(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for char in path.chars() {
        if char.is_ascii_control() || !char.is_ascii() || matches!(char, '%' | '?' | '#' | '\\') {
            out.push_str(&encode_path(char.encode_utf8(&mut [0; 4])));
        } else {
            out.push(char);
        }
    }
    out
}

/// `Allow` of answers to other methods.
pub(super) const ALLOW: (HeaderName, HeaderValue) =
    (header::ALLOW, HeaderValue::from_static("GET, HEAD"));
