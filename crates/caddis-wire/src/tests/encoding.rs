//! What is written: heads, refusals, chunks.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};

use super::request;
use crate::{
    BodyFraming, HeadError, canonical_name, write_chunk, write_error_response, write_header,
    write_last_chunk, write_request_head, write_response_head,
};

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| {
            (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        })
        .collect()
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn names() {
    for (name, wire, go) in [
        ("content-type", "Content-Type", "Content-Type"),
        ("SEC-WEBSOCKET-KEY", "Sec-WebSocket-Key", "Sec-Websocket-Key"),
        ("etag", "Etag", "Etag"),
        ("x--a_b-", "X--A_b-", "X--A_b-"),
        ("te", "Te", "Te"),
    ] {
        let name: HeaderName = name.parse().unwrap();
        let line = written(|out| write_header(out, &name, &HeaderValue::from_static("1")));
        assert_eq!(line, format!("{wire}: 1\r\n"));
        let name = name.as_str();
        assert_eq!(canonical_name(name), go);
    }
}

#[test]
fn request_heads() {
    let headers = map(&[
        ("x-a", "1"),
        ("content-length", "99"),
        ("transfer-encoding", "cow"),
        ("host", "t.test"),
    ]);
    let write = |target: &[u8], framing| {
        written(|out| write_request_head(out, &Method::POST, target, &headers, framing))
    };
    assert_eq!(
        write(b"/a?b", BodyFraming::Length(5)),
        "POST /a?b HTTP/1.1\r\nHost: t.test\r\nX-A: 1\r\nContent-Length: 5\r\n\r\n"
    );
    assert_eq!(
        write(b"/ \r\n#\x7f", BodyFraming::Chunked),
        "POST /%20%0D%0A%23%7F HTTP/1.1\r\nHost: t.test\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    assert!(write(b"", BodyFraming::None).starts_with("POST / HTTP/1.1\r\n"));
    let head = request(write(b"/x", BodyFraming::Length(u64::MAX / 2))).unwrap();
    assert_eq!(head.framing, BodyFraming::Length(u64::MAX / 2));
}

#[test]
fn response_heads() {
    let write = |version, status: u16, reason, fields: &[_], framing, keep| {
        let status = StatusCode::from_u16(status).unwrap();
        let headers = map(fields);
        written(|out| {
            write_response_head(out, version, status, reason, &headers, framing, keep);
        })
    };
    let (new, old) = (Version::HTTP_11, Version::HTTP_10);
    let fields = [("server", "Caddy"), ("content-length", "1")];
    assert_eq!(
        write(new, 200, None, &fields, BodyFraming::Length(0), true),
        "HTTP/1.1 200 OK\r\nServer: Caddy\r\nContent-Length: 0\r\n\r\n"
    );
    assert_eq!(
        write(old, 200, None, &[], BodyFraming::Length(12), true),
        "HTTP/1.0 200 OK\r\nContent-Length: 12\r\nConnection: keep-alive\r\n\r\n"
    );
    assert_eq!(
        write(new, 599, None, &[("connection", "x, Close")], BodyFraming::Chunked, false),
        "HTTP/1.1 599 status code 599\r\nConnection: x, Close\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let text = write(new, 203, None, &[], BodyFraming::Length(0), true);
    assert!(text.starts_with("HTTP/1.1 203 Non-Authoritative Information\r\n"), "{text}");
    let text = write(new, 200, None, &[], BodyFraming::UntilClose, true);
    assert!(text.ends_with(" 200 OK\r\nConnection: close\r\n\r\n"), "{text}");
    // HTTP/1.0 closes by itself.
    let text = write(old, 200, None, &[], BodyFraming::Chunked, true);
    assert!(text.ends_with(" 200 OK\r\n\r\n"), "{text}");
    assert_eq!(
        write(new, 204, Some("a\r\nX: b"), &[], BodyFraming::Length(0), true),
        "HTTP/1.1 204 a  X: b\r\n\r\n"
    );
    let fields = [("connection", "Upgrade"), ("upgrade", "websocket")];
    assert_eq!(
        write(new, 101, None, &fields, BodyFraming::None, false),
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
}

#[test]
fn refusals() {
    let text = |error| written(|out| write_error_response(out, error));
    assert_eq!(
        text(HeadError::ManyHosts),
        "HTTP/1.1 400 Bad Request: too many Host headers\r\n\
         Content-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n\
         400 Bad Request: too many Host headers"
    );
    assert!(text(HeadError::TransferEncoding).starts_with("HTTP/1.1 501 Not Implemented\r\n"));
    assert!(text(HeadError::TransferEncoding).ends_with("\r\n\r\nUnsupported transfer encoding"));
    assert!(
        text(HeadError::TooLarge).starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n")
    );
}

#[test]
fn chunks() {
    let trailers = map(&[("x-t", "1"), ("content-length", "9"), ("host", "evil")]);
    let text = written(|out| {
        write_chunk(out, b"hello");
        write_chunk(out, b"");
        write_chunk(out, &[b'x'; 0x1f]);
        write_last_chunk(out, Some(&trailers));
    });
    let data = "x".repeat(0x1f);
    assert_eq!(text, format!("5\r\nhello\r\n1f\r\n{data}\r\n0\r\nX-T: 1\r\n\r\n"));
    assert_eq!(written(|out| write_last_chunk(out, None)), "0\r\n\r\n");
}
