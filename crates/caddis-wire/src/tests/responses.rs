//! Response heads: status lines, and which framing an answer has.

use http::Method;

use crate::{BodyFraming, HeadError, Limits, Parsed, ResponseHead, parse_response};

fn answer(method: Method, text: &str) -> Result<ResponseHead, HeadError> {
    match parse_response(text.as_bytes(), &method, &Limits::default())? {
        Parsed::Complete(head, used) => {
            assert_eq!(used, text.len());
            Ok(head)
        }
        Parsed::Partial => panic!("partial: {text:?}"),
    }
}

fn get(line: &str, fields: &str) -> Result<ResponseHead, HeadError> {
    answer(Method::GET, &format!("{line}\r\n{fields}\r\n"))
}

#[test]
fn status_lines() {
    let reason = |line: &str| get(line, "").map(|head| (head.status.as_u16(), head.reason));
    assert_eq!(reason("HTTP/1.1 200 OK"), Ok((200, None)));
    assert_eq!(reason("HTTP/1.1 200"), Ok((200, None)));
    assert_eq!(reason("HTTP/1.1 200 "), Ok((200, None)));
    assert_eq!(reason("HTTP/1.0 299 Fine, really"), Ok((299, Some("Fine, really".into()))));
    for (line, error) in [
        ("HTTP/2.0 200 OK", HeadError::UnsupportedVersion),
        ("http/1.1 200 OK", HeadError::Version),
        ("HTTP/1.1", HeadError::StartLine),
        ("HTTP/1.1  200 OK", HeadError::Status),
        ("HTTP/1.1 20", HeadError::Status),
        ("HTTP/1.1 2000", HeadError::Status),
        ("HTTP/1.1 +20 OK", HeadError::Status),
        ("HTTP/1.1 099 OK", HeadError::Status),
        ("HTTP/1.1 200OK", HeadError::Status),
        ("HTTP/1.1 200 O\0K", HeadError::StartLine),
        ("HTTP/1.1 200 O\rK", HeadError::StartLine),
    ] {
        assert_eq!(reason(line).unwrap_err(), error, "{line:?}");
    }
    let early = parse_response(b"SSH-2.0", &Method::GET, &Limits::default());
    assert_eq!(early, Err(HeadError::StartLine));
}

#[test]
fn framing() {
    use BodyFraming::{Chunked, Length, None, UntilClose};
    let ok = "HTTP/1.1 200 OK";
    let of = |method: Method, line: &str, fields: &str| {
        let head = answer(method, &format!("{line}\r\n{fields}\r\n")).unwrap();
        (head.framing, head.keep_alive)
    };
    let length = "Content-Length: 7\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    assert_eq!(of(Method::GET, ok, length), (Length(7), true));
    assert_eq!(of(Method::GET, ok, chunked), (Chunked, true));
    assert_eq!(of(Method::GET, ok, ""), (UntilClose, false));
    assert_eq!(
        of(Method::GET, ok, "Content-Length: 7\r\nConnection: close\r\n"),
        (Length(7), false)
    );
    assert_eq!(of(Method::GET, "HTTP/1.0 200 OK", length), (Length(7), false));
    let kept = "Content-Length: 7\r\nConnection: keep-alive\r\n";
    assert_eq!(of(Method::GET, "HTTP/1.0 200 OK", kept), (Length(7), true));
    for fields in [length, chunked, ""] {
        assert_eq!(of(Method::HEAD, ok, fields), (None, true));
    }
    assert_eq!(of(Method::GET, "HTTP/1.1 304 Not Modified", length), (None, true));
    assert_eq!(of(Method::GET, "HTTP/1.1 204 No Content", ""), (None, true));
    assert_eq!(of(Method::GET, "HTTP/1.1 204 No Content", chunked), (None, false));
    assert_eq!(of(Method::GET, "HTTP/1.1 204 No Content", length), (None, false));
    assert_eq!(of(Method::GET, "HTTP/1.1 100 Continue", ""), (None, true));
    assert_eq!(of(Method::CONNECT, ok, ""), (None, true));
    assert_eq!(of(Method::CONNECT, "HTTP/1.1 403 Forbidden", length), (Length(7), true));
    let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let head = get("HTTP/1.1 101 Switching Protocols", fields).unwrap();
    assert!(head.upgrade && head.framing == None);
}

#[test]
fn ambiguous_framing_is_refused() {
    let ok = "HTTP/1.1 200 OK";
    let error = |line: &str, fields: &str| get(line, fields).unwrap_err();
    assert_eq!(error(ok, "Content-Length: x\r\n"), HeadError::ContentLength);
    assert_eq!(error(ok, "Content-Length: 1\r\nContent-Length: 2\r\n"), HeadError::ContentLength);
    assert_eq!(error(ok, "Transfer-Encoding: gzip, chunked\r\n"), HeadError::TransferEncoding);
    let both = "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(error(ok, both), HeadError::BothFramings);
    let old = "Transfer-Encoding: chunked\r\n";
    assert_eq!(error("HTTP/1.0 200 OK", old), HeadError::TransferEncodingVersion);
    assert_eq!(error(ok, "X: a\r\n b\r\n"), HeadError::FieldLine);
    let head = answer(Method::HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n");
    assert_eq!(head.unwrap_err(), HeadError::ContentLength);
}

#[test]
fn cut_anywhere() {
    let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n";
    for cut in 0..text.len() {
        let cut = parse_response(&text[..cut], &Method::GET, &Limits::default());
        assert_eq!(cut, Ok(Parsed::Partial));
    }
    let Ok(Parsed::Complete(head, _)) = parse_response(text, &Method::GET, &Limits::default())
    else {
        panic!()
    };
    assert_eq!(head.headers.get_all("set-cookie").iter().count(), 2);
}

/// Whatever is passed on says the same as the fields that would have been read.
#[test]
fn passed_fields_say_the_same() {
    let pass = |text: &str| {
        let limits = Limits::default();
        match crate::LastHead::default().parse(text.as_bytes(), &Method::GET, &limits, true) {
            Ok(Parsed::Complete((head, passed), used)) => passed.map(|passed| (head, passed, used)),
            other => panic!("{other:?}"),
        }
    };
    let text = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nX-ONE:  a \r\nx-one: b\r\n\
                Keep-Alive: timeout=5\r\nConnection: keep-alive\r\nAlt-Svc: x\r\nDate: now\r\n\
                Content-Length: 3\r\n\r\nabc";
    let Some((head, passed, used)) = pass(text) else { panic!("passed on") };
    assert_eq!(
        std::str::from_utf8(&passed.lines).unwrap(),
        "Content-Type: text/plain\r\nX-One: a\r\nX-One: b\r\nDate: now\r\n"
    );
    assert!(passed.typed && passed.dated && head.keep_alive && head.headers.is_empty());
    assert_eq!((head.framing, &text[used..]), (BodyFraming::Length(3), "abc"));
    for looked_at in [
        "HTTP/1.1 200 OK\r\nX: 1\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Type: a\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nContent-Type: a\r\n\r\n",
        "HTTP/1.1 200 Fine\r\nContent-Type: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: a\r\nTrailer: X\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: a\r\nConnection: X-Secret\r\nX-Secret: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    ] {
        assert_eq!(pass(looked_at), None, "{looked_at}");
    }
    for refused in ["X: a\u{1}b\r\n", "X: a\r\n b\r\n", "X : a\r\n", "Content-Length: 1, 1\r\n"] {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Type: a\r\n{refused}\r\n");
        let limits = Limits::default();
        let refused =
            crate::LastHead::default().parse(text.as_bytes(), &Method::GET, &limits, true);
        let read = parse_response(text.as_bytes(), &Method::GET, &limits);
        assert_eq!(refused.unwrap_err(), read.unwrap_err(), "{text}");
    }
}
