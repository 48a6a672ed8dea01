//! `Content-Type` for answers that have none, from their first bytes, as Go's server does.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use caddis_core::{Body, BodyError, NoSniff, Response};
use http::{HeaderValue, header};
use http_body::{Frame, SizeHint};

/// Whether there is a body, and no word on its type.
pub(crate) fn is_needed(response: &Response) -> bool {
    let headers = response.headers();
    !(headers.contains_key(header::CONTENT_TYPE)
        || headers.contains_key(header::CONTENT_ENCODING)
        || response.status().is_informational()
        || response.body().is_empty()
        || response.extensions().get::<NoSniff>().is_some())
}

/// Sets the type; waits for the body's first bytes.
pub(crate) async fn content_type(mut response: Response) -> Response {
    let mut body = response.body_mut().take();
    let found = match &mut body {
        Body::Full(bytes) => Some(detect(bytes)),
        _ => {
            let first =
                std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut body), cx))
                    .await;
            let found = match &first {
                Some(Ok(frame)) => frame.data_ref().map(|data| detect(data)),
                _ => None,
            };
            body = Body::stream(Prefixed { first: Some(first), rest: body });
            found
        }
    };
    if let Some(found) = found {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(found));
    }
    *response.body_mut() = body;
    response
}

/// A body whose first frame was looked at.
struct Prefixed {
    first: Option<Option<Result<Frame<Bytes>, BodyError>>>,
    rest: Body,
}

impl http_body::Body for Prefixed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(first),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.first, None | Some(None)) && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let waiting = match &self.first {
            Some(Some(Ok(frame))) => frame.data_ref().map_or(0, |data| data.len() as u64),
            _ => 0,
        };
        self.rest
            .size_hint()
            .exact()
            // Trailers are still to come where nothing is left and it has not ended.
            .filter(|rest| *rest > 0 || self.rest.is_end_stream())
            .map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + waiting))
    }
}

/// The WHATWG MIME sniffing rules for what servers send most; other bytes are text or binary.
fn detect(data: &[u8]) -> &'static str {
    const MAGIC: &[(&[u8], &str)] = &[
        (b"\xEF\xBB\xBF", "text/plain; charset=utf-8"),
        (b"\xFE\xFF", "text/plain; charset=utf-16be"),
        (b"\xFF\xFE", "text/plain; charset=utf-16le"),
        (b"%PDF-", "application/pdf"),
        (b"%!PS-Adobe-", "application/postscript"),
        (b"\x89PNG\r\n\x1A\n", "image/png"),
        (b"\xFF\xD8\xFF", "image/jpeg"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a", "image/gif"),
        (b"BM", "image/bmp"),
        (b"\0\0\x01\0", "image/x-icon"),
        (b"\x1F\x8B\x08", "application/x-gzip"),
        (b"PK\x03\x04", "application/zip"),
        (b"OggS\0", "application/ogg"),
        (b"ID3", "audio/mpeg"),
        (b"wOFF", "font/woff"),
        (b"wOF2", "font/woff2"),
        (b"\0asm", "application/wasm"),
    ];
    const TAGS: &[&str] = &[
        "<!doctype html",
        "<html",
        "<head",
        "<script",
        "<iframe",
        "<h1",
        "<div",
        "<font",
        "<table",
        "<a",
        "<style",
        "<title",
        "<b",
        "<body",
        "<br",
        "<p",
        "<!--",
    ];
    let data = &data[..data.len().min(512)];
    let text = data.trim_ascii_start();
    let tag = |name: &&str| {
        text.len() > name.len()
            && text[..name.len()].eq_ignore_ascii_case(name.as_bytes())
            && (*name == "<!--" || matches!(text[name.len()], b' ' | b'>'))
    };
    if TAGS.iter().any(tag) {
        return "text/html; charset=utf-8";
    }
    if text.starts_with(b"<?xml") {
        return "text/xml; charset=utf-8";
    }
    if let Some((_, found)) = MAGIC.iter().find(|(magic, _)| data.starts_with(magic)) {
        return found;
    }
    let binary = |byte: &u8| matches!(byte, 0..=8 | 11 | 14..=26 | 28..=31);
    if data.iter().any(binary) { "application/octet-stream" } else { "text/plain; charset=utf-8" }
}

#[cfg(test)]
mod tests {
    use super::detect;

    #[test]
    fn detects() {
        for (data, want) in [
            (&b"plain"[..], "text/plain; charset=utf-8"),
            (b" \n<!DOCTYPE HTML>", "text/html; charset=utf-8"),
            (b"<?xml version", "text/xml; charset=utf-8"),
            (b"\x89PNG\r\n\x1A\n..", "image/png"),
            (b"\x00\x01\x02", "application/octet-stream"),
        ] {
            assert_eq!(detect(data), want);
        }
    }
}
