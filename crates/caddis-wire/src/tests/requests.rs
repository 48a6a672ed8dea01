//! Request heads: every rule of lines, fields, hosts, targets and framing.

use http::{Method, Version, header};

use super::request;
use crate::{
    BodyFraming, HeadError, Limits, LineEnds, Parsed, Preface, TargetForm, http2_preface,
    parse_request,
};

fn line(line: &str) -> Result<crate::RequestHead, HeadError> {
    request(format!("{line}\r\nHost: t.test\r\n\r\n"))
}

fn fields(fields: impl AsRef<[u8]>) -> Result<crate::RequestHead, HeadError> {
    request([b"POST /p HTTP/1.1\r\nHost: t.test\r\n", fields.as_ref(), b"\r\n"].concat())
}

fn host(host: &str) -> Result<crate::RequestHead, HeadError> {
    request(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
}

#[test]
fn plain_request() {
    let head =
        request("GET /a?b HTTP/1.1\r\nHost: T.test:80\r\nX-A: \t one two \t\r\nx-a:3\r\n\r\n");
    let head = head.unwrap();
    assert_eq!(head.method, Method::GET);
    assert_eq!(&head.origin[..], b"/a?b");
    assert_eq!(head.form, TargetForm::Origin);
    assert_eq!(head.version, Version::HTTP_11);
    assert_eq!(head.framing, BodyFraming::None);
    assert!(head.keep_alive && !head.expect_continue && !head.upgrade);
    assert_eq!(head.host, "T.test:80");
    assert!(!head.headers.contains_key(header::HOST));
    let values: Vec<_> = head.headers.get_all("x-a").iter().collect();
    assert_eq!(values, ["one two", "3"]);
}

#[test]
fn bytes_used_end_at_the_head() {
    let text = b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET /next";
    let Ok(Parsed::Complete(_, used)) = parse_request(text, &Limits::default()) else { panic!() };
    assert_eq!(&text[used..], b"GET /next");
    let many = b"\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n";
    assert_eq!(parse_request(many, &Limits::default()), Err(HeadError::StartLine));
}

#[test]
fn cut_anywhere_it_is_partial_until_complete() {
    for text in [
        &b"\r\nPOST /p?q=1 HTTP/1.1\r\nHost: t.test\r\nContent-Length: 5\r\nX: y\r\n\r\n"[..],
        b"GET / HTTP/1.1\nHost: localhost\nX-A: b\n\n",
        b"OPTIONS * HTTP/1.0\r\n\r\n",
    ] {
        let limits = Limits::default();
        for cut in 0..text.len() {
            assert_eq!(parse_request(&text[..cut], &limits), Ok(Parsed::Partial), "cut at {cut}");
        }
        let Ok(Parsed::Complete(head, used)) = parse_request(text, &limits) else { panic!() };
        assert_eq!(used, text.len());
        let more = [text, b"trailing"].concat();
        assert_eq!(parse_request(&more, &limits), Ok(Parsed::Complete(head, used)));
    }
}

#[test]
fn request_lines() {
    use HeadError::{Method, StartLine, Target, UnsupportedVersion, Version};
    for (text, error) in [
        ("GET /", StartLine),
        ("GET", StartLine),
        ("GET  / HTTP/1.1", StartLine),
        (" GET / HTTP/1.1", Method),
        ("GET\t/\tHTTP/1.1", StartLine),
        ("GET / http/1.1", Version),
        ("GET / HTTX/1.1", Version),
        ("GET / HTTP/1", Version),
        ("GET / HTTP/1.32", Version),
        ("GET / HTTP/11.1", Version),
        ("GET / HTTP/4294967295.255", Version),
        ("GET / HTTP/1.1 ", Version),
        ("GET / HTTP/1.1 extra", Version),
        ("GET /a b HTTP/1.1", Version),
        ("GET / HTTP/2.0", UnsupportedVersion),
        ("GET / HTTP/3.0", UnsupportedVersion),
        ("GET / HTTP/1.2", UnsupportedVersion),
        ("GET /a\0b HTTP/1.1", Target),
        ("GET /a\x0bb HTTP/1.1", Target),
        ("GET /a\x7fb HTTP/1.1", Target),
        ("GET /a#b HTTP/1.1", Target),
        ("GET admin HTTP/1.1", Target),
        ("GET @evil.test/x HTTP/1.1", Target),
        ("GET /bad%zzescape HTTP/1.1", Target),
        ("GET /bad% HTTP/1.1", Target),
        ("G\"(),/:;<=>?@[]{} / HTTP/1.1", Method),
        ("G@T / HTTP/1.1", Method),
        ("GE\0T / HTTP/1.1", Method),
    ] {
        assert_eq!(line(text).unwrap_err(), error, "{text:?}");
    }
    assert_eq!(line("X-CUSTOM! / HTTP/1.1").unwrap().method.as_str(), "X-CUSTOM!");
    assert_eq!(line("get / HTTP/1.1").unwrap().method.as_str(), "get");
    assert_eq!(&line("GET //evil.test/x?%zz HTTP/1.1").unwrap().origin[..], b"//evil.test/x?%zz");
    assert!(line(&format!("{} / HTTP/1.1", "M".repeat(64))).is_ok());
    let long = line(&format!("{} / HTTP/1.1", "M".repeat(65))).unwrap_err();
    assert_eq!((long, long.status().as_u16()), (HeadError::MethodTooLong, 405));
}

#[test]
fn nonsense_is_refused_before_the_head_is_whole() {
    let early = |text: &[u8]| parse_request(text, &Limits::default()).unwrap_err();
    assert_eq!(early(b"\x16\x03\x01\x02"), HeadError::Method);
    assert_eq!(early(&[b'A'; 65]), HeadError::MethodTooLong);
    assert_eq!(early(b"\x16\x03\x01"), HeadError::Method);
    assert_eq!(early(b"\x16\x03\x01\n\x01 \n"), HeadError::Method);
    assert_eq!(early(b"GET / HTTP/1.1\rHost: t.test\r\r"), HeadError::LineEnd);
}

#[test]
fn target_forms() {
    let head = line("GET HTTP://one.test:8080/p?q HTTP/1.1").unwrap();
    assert_eq!((head.form, &head.origin[..]), (TargetForm::Absolute, &b"/p?q"[..]));
    assert_eq!(head.host, "one.test:8080");
    assert_eq!(&line("GET https://one.test HTTP/1.1").unwrap().origin[..], b"/");
    assert_eq!(&line("GET http://one.test?a HTTP/1.1").unwrap().origin[..], b"/?a");
    for bad in ["http://", "http:///x", "http://u@h/", "ftp://h/", "http://h:x/", "http://a,b/"] {
        assert_eq!(line(&format!("GET {bad} HTTP/1.1")).unwrap_err(), HeadError::Target, "{bad}");
    }
    assert_eq!(line("OPTIONS * HTTP/1.1").unwrap().form, TargetForm::Asterisk);
    assert_eq!(line("GET * HTTP/1.1").unwrap_err(), HeadError::Target);
    let head = line("CONNECT a.test:443 HTTP/1.1").unwrap();
    assert_eq!(head.form, TargetForm::Authority);
    assert_eq!(&head.origin[..], b"a.test:443");
    assert!(line("CONNECT [::1]:443 HTTP/1.1").is_ok());
    for bad in ["/", "a.test", "a.test:", "*", "http://a.test:1/", "[::1]"] {
        let error = line(&format!("CONNECT {bad} HTTP/1.1")).unwrap_err();
        assert_eq!(error, HeadError::Target, "{bad}");
    }
    assert_eq!(line("GET a.test:80 HTTP/1.1").unwrap_err(), HeadError::Target);
}

#[test]
fn http2_is_recognised() {
    assert_eq!(request("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Err(HeadError::Http2Preface));
    assert_eq!(http2_preface(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrest"), Preface::Yes);
    assert_eq!(http2_preface(b"PRI"), Preface::Partial);
    assert_eq!(http2_preface(b""), Preface::Partial);
    assert_eq!(http2_preface(b"PUT / HTTP/1.1\r\n\r\nSM\r\n\r\n"), Preface::No);
}

#[test]
fn hosts() {
    for good in ["", "a", "MiXeD.example:99", "127.0.0.1", "[::1]:80", "a:", "_x.test", "a%20b"] {
        assert!(host(good).is_ok(), "{good}");
    }
    for bad in [
        "t.test evil",
        "t.test/admin",
        "evil@t.test",
        "t.test, evil.test",
        "a,b",
        "t.test?x",
        "t.test:80:90",
        "t.test:x",
        "t.test:65536",
        ":80",
        "[::1",
        "[::1]x",
        "[zz]",
        "::1",
        "a%2",
        "t.t\u{e9}st",
        "a\"b",
        "a\\b",
        "a#b",
        "<a>",
    ] {
        assert_eq!(host(bad).unwrap_err(), HeadError::MalformedHost, "{bad}");
    }
    assert_eq!(host("t.test\0.evil").unwrap_err(), HeadError::HeaderValue);
    let missing = request("GET / HTTP/1.1\r\n\r\n").unwrap_err();
    assert_eq!(missing.to_string(), "400 Bad Request: missing required Host header");
    for second in ["t.test", "evil.test"] {
        let two = format!("GET / HTTP/1.1\r\nHost: t.test\r\nhost: {second}\r\n\r\n");
        assert_eq!(request(two).unwrap_err().body(), "400 Bad Request: too many Host headers");
    }
    assert!(request("GET / HTTP/1.0\r\n\r\n").is_ok());
}

#[test]
fn field_lines() {
    use HeadError::{FieldLine, HeaderName, HeaderValue, LineEnd};
    for (text, error) in [
        (&b"Content-Length : 5\r\n"[..], HeaderName),
        (b"Transfer-Encoding : chunked\r\n", HeaderName),
        (b"X-A\t: 5\r\n", HeaderName),
        (b"X A: 5\r\n", HeaderName),
        (b"X-A: one\r\n two\r\n", FieldLine),
        (b"Transfer-Encoding:\r\n\tchunked\r\n", FieldLine),
        (b"NoColonHere\r\n", FieldLine),
        (b"Content-Length 5\r\n", FieldLine),
        (b": ignored\r\n", HeaderName),
        (b":\r\n", HeaderName),
        (b"X-A: a\0b\r\n", HeaderValue),
        (b"X-A: bell\x07\r\n", HeaderValue),
        (b"X-A: del\x7f\r\n", HeaderValue),
        (b"X-A: a\rb\r\n", HeaderValue),
        (b"X-A: a\r\r\n", HeaderValue),
        (b"X-A: a\rTransfer-Encoding: chunked\r\n", HeaderValue),
        (b"X-A: a\nContent-Length: 5\r\n", LineEnd),
        (b"Te\nst: x\r\n", LineEnd),
        (b"\rZGET /admin/x: HTTP/1.1\r\n", HeaderName),
        (b"X\x01A: b\r\n", HeaderName),
        (b"X(),/<=>?@[]{}A: b\r\n", HeaderName),
        (b"X\"A: b\r\n", HeaderName),
        (b"X\xefA: b\r\n", HeaderName),
        (b"Content-Length\x85: 5\r\n", HeaderName),
        (b"Content-Length\0: 5\r\n", HeaderName),
        (b"Transfer-\r\nEncoding: chunked\r\n", FieldLine),
    ] {
        let name = String::from_utf8_lossy(text);
        assert_eq!(fields(text).unwrap_err(), error, "{name:?}");
        assert_eq!(error.status(), 400);
    }
    let first = "GET / HTTP/1.1\r\n X-A: b\r\nHost: t.test\r\n\r\n";
    assert_eq!(request(first).unwrap_err(), FieldLine);
    let opaque = fields(b"X-A: \xff\xe9\r\nX_b!: \r\n").unwrap();
    assert_eq!(opaque.headers["x-a"].as_bytes(), b"\xff\xe9");
    assert_eq!(opaque.headers["x_b!"], "");
}

#[test]
fn line_ends() {
    let bare = b"GET / HTTP/1.1\nHost: localhost\nX-A: bare line feeds\n\nrest";
    let mixed = b"GET / HTTP/1.1\r\nHost: localhost\nX-A: b\r\n\r\n";
    let with =
        |text: &[u8], line_ends| parse_request(text, &Limits { line_ends, ..Limits::default() });
    let Ok(Parsed::Complete(head, used)) = with(bare, LineEnds::Uniform) else { panic!() };
    assert_eq!(
        (&head.headers["x-a"], &bare[used..]),
        (&"bare line feeds".parse().unwrap(), &b"rest"[..])
    );
    assert_eq!(with(bare, LineEnds::Crlf), Err(HeadError::LineEnd));
    assert_eq!(with(mixed, LineEnds::Uniform), Err(HeadError::LineEnd));
    assert!(matches!(with(mixed, LineEnds::Any), Ok(Parsed::Complete(..))));
    // With one kind of line end the other cannot end the head either.
    let crossed = b"GET / HTTP/1.1\nHost: a\n\r\nX: y\n\n";
    assert_eq!(with(crossed, LineEnds::Uniform), Err(HeadError::LineEnd));
}

#[test]
fn content_length() {
    for (text, length) in [
        ("Content-Length: 5\r\n", 5),
        ("Content-Length: \t 5 \t\r\n", 5),
        ("Content-Length: 0\r\n", 0),
        ("Content-Length: 010\r\n", 10),
        ("Content-Length: 9223372036854775807\r\n", i64::MAX as u64),
        ("Content-Length: 4\r\nContent-Length: 4\r\n", 4),
    ] {
        let head = fields(text).unwrap();
        assert_eq!(head.framing, BodyFraming::Length(length), "{text:?}");
        assert_eq!(head.headers.get_all(header::CONTENT_LENGTH).iter().count(), 1);
    }
    for value in [
        "+5",
        "-5",
        "0x5",
        "5_0",
        "5 0",
        "5a",
        "",
        ",5",
        "5,",
        "1e1",
        "5;",
        "\"5\"",
        "\u{665}",
        "5.0",
        "99999999999999999999",
        "18446744073709551621",
        "9223372036854775808",
        "9223372036854775813",
        "5, 5",
        "5, 6",
        "abc",
    ] {
        let error = fields(format!("Content-Length: {value}\r\n")).unwrap_err();
        assert_eq!(error, HeadError::ContentLength, "{value:?}");
    }
    assert_eq!(fields("Content-Length: 5\x0b\r\n").unwrap_err(), HeadError::HeaderValue);
    for pair in [("5", "0"), ("5", "05"), ("", "49"), ("49", ""), ("x", "x")] {
        let text = format!("Content-Length: {}\r\nContent-Length: {}\r\n", pair.0, pair.1);
        assert_eq!(fields(text).unwrap_err(), HeadError::ContentLength, "{pair:?}");
    }
}

#[test]
fn transfer_encoding() {
    let head = fields("tRANSFER-eNCODING: Chunked\r\n").unwrap();
    assert_eq!(head.framing, BodyFraming::Chunked);
    for value in [
        "gzip",
        "identity",
        "chunked, identity",
        "identity, chunked",
        "gzip, chunked",
        "chunked, chunked",
        "xchunked",
        "cow",
        "\"chunked\"",
        "chunked;q=1",
        ",chunked",
        "chunked,",
        "\u{a0}chunked",
        "chun ked",
        "",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: cow",
        "cow\r\nTransfer-Encoding: chunked",
    ] {
        for length in ["", "Content-Length: 5\r\n"] {
            let error = fields(format!("{length}Transfer-Encoding: {value}\r\n")).unwrap_err();
            assert_eq!(error, HeadError::TransferEncoding, "{value:?}");
            assert_eq!(error.status(), 501);
        }
    }
    for value in ["\x0bchunked", "chunked\0"] {
        let error = fields(format!("Transfer-Encoding: {value}\r\n")).unwrap_err();
        assert_eq!(error, HeadError::HeaderValue);
    }
    for length in ["4", "5", "x"] {
        let both =
            [format!("Content-Length: {length}\r\n"), "Transfer-Encoding: chunked\r\n".into()];
        let error = |text: String| fields(text).unwrap_err();
        assert_eq!(error(both.concat()), HeadError::BothFramings);
        assert_eq!(error(format!("{}{}", both[1], both[0])), HeadError::BothFramings);
    }
    let old = request("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap_err();
    assert_eq!((old, old.status().as_u16()), (HeadError::TransferEncodingVersion, 400));
}

#[test]
fn persistence() {
    let keeps = |version: &str, text: &str| {
        request(format!("GET / HTTP/{version}\r\nHost: a\r\n{text}\r\n")).unwrap().keep_alive
    };
    assert!(keeps("1.1", ""));
    assert!(!keeps("1.1", "Connection: Close\r\n"));
    assert!(!keeps("1.1", "Connection: x , close\r\n"));
    assert!(!keeps("1.1", "Connection: x\r\nConnection: close\r\n"));
    assert!(!keeps("1.0", ""));
    assert!(keeps("1.0", "Connection: keep-alive\r\n"));
    assert!(!keeps("1.0", "Connection: keep-alive, close\r\n"));
}

#[test]
fn expectation_and_upgrade() {
    let expects = |text: &str| fields(text).map(|head| head.expect_continue);
    assert_eq!(expects("Content-Length: 5\r\nExpect: 100-Continue\r\n"), Ok(true));
    assert_eq!(expects("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n"), Ok(true));
    assert_eq!(expects("Content-Length: 0\r\nExpect: 100-continue\r\n"), Ok(false));
    assert_eq!(expects("Expect: 100-continue\r\n"), Ok(false));
    for bad in ["y", "", "100-continue, x", "100-continue\r\nExpect: 100-continue"] {
        let error = expects(&format!("Content-Length: 5\r\nExpect: {bad}\r\n")).unwrap_err();
        assert_eq!((error, error.status().as_u16()), (HeadError::Expectation, 417));
    }
    let upgrade = |text: &str| fields(text).unwrap().upgrade;
    assert!(upgrade("Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"));
    assert!(!upgrade("Upgrade: websocket\r\n"));
    assert!(!upgrade("Connection: upgrade\r\n"));
    let old = "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    assert!(!request(old).unwrap().upgrade);
}

#[test]
fn limits() {
    let limits = Limits { max_head: 100, max_headers: 3, ..Limits::default() };
    let sized = |size: usize| {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(size - 32));
        assert_eq!(text.len(), size);
        text
    };
    assert!(matches!(parse_request(sized(100).as_bytes(), &limits), Ok(Parsed::Complete(_, 100))));
    let error = parse_request(sized(101).as_bytes(), &limits).unwrap_err();
    assert_eq!(error.to_string(), "431 Request Header Fields Too Large");
    assert_eq!(error.status(), 431);
    assert_eq!(parse_request(&sized(200).as_bytes()[..100], &limits), Err(HeadError::TooLarge));
    assert_eq!(parse_request(&sized(200).as_bytes()[..99], &limits), Ok(Parsed::Partial));
    let counted = |count: usize| format!("GET / HTTP/1.0\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert!(matches!(parse_request(counted(3).as_bytes(), &limits), Ok(Parsed::Complete(..))));
    assert_eq!(parse_request(counted(4).as_bytes(), &limits), Err(HeadError::TooManyHeaders));
    let zero = Limits { max_head: 0, max_headers: 0, max_method: 0, ..Limits::default() };
    assert!(parse_request(b"GET / HTTP/1.1\r\n\r\n", &zero).is_err());
}
