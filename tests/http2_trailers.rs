//! Trailers of HTTP/2: what has no place in them.

use crate::{
    http2_rules::{OPEN, PROTOCOL_ERROR, WHOLE, alive, serve},
    support::frames::{DATA, Frames, GOAWAY, HEADERS, RST_STREAM, fields, request_fields},
};

/// A pseudo-field in trailers makes the request malformed (RFC 9113 §8.1), however it is coded.
#[test]
fn pseudo_fields_have_no_place_in_trailers() {
    let (mut server, seen, _upstream) = serve();
    let mut frames = Frames::connect(server.port, &[]);
    // A first request puts a pseudo-field and another one into the table, at 63 and 62.
    let mut block = request_fields("GET", "/fine", &[])[..].to_vec();
    let path = fields(&[(":path", "/fine")]).len();
    block.truncate(block.len() - path);
    for (name, value) in [(":path", "/fine"), ("x-sum", "1")] {
        let mut literal = fields(&[(name, value)]);
        literal[0] = 0x40;
        block.extend(literal);
    }
    frames.send(HEADERS, WHOLE, 1, &block);
    assert_eq!(frames.answer(1).unwrap().0, 200);
    let cases: [(&str, Vec<u8>, bool); 8] = [
        ("one of the static table", vec![0x84], false),
        ("one that is written out", fields(&[(":path", "/admin")]), false),
        ("a status", vec![0x88], false),
        ("one of the dynamic table", vec![0x80 | 63], false),
        ("one behind a field", [fields(&[("x-sum", "1")]), vec![0x84]].concat(), false),
        ("one behind a change of the table's size", vec![0x3f, 0xe1, 0x1f, 0x84], false),
        ("a field of the dynamic table", vec![0x80 | 62], true),
        ("a field behind a change of the table's size", vec![0x3f, 0xe1, 0x1f, 0xbe], true),
    ];
    for (number, (what, trailers, proper)) in cases.into_iter().enumerate() {
        let stream = number as u32 * 2 + 3;
        let block = request_fields("POST", "/", &[("trailer", "x-sum")]);
        frames.send(HEADERS, OPEN, stream, &block);
        frames.send(DATA, 0, stream, b"body");
        frames.send(HEADERS, WHOLE, stream, &trailers);
        let end = frames.wait(|frame| frame.stream == stream || frame.kind == GOAWAY).unwrap();
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        if proper {
            assert_eq!(end.status(), Some(200), "{what}");
            let head = seen[0].0.to_lowercase();
            assert!(head.ends_with("\r\n\r\nx-sum: 1\r\n"), "{what}: {head}");
        } else {
            assert_eq!((end.kind, end.code()), (RST_STREAM, Some(PROTOCOL_ERROR)), "{what}");
            assert!(seen.is_empty(), "{what}: {seen:?}");
        }
    }
    alive(&mut server);
}

/// Trailers bring no framing.
#[test]
fn trailers_change_nothing() {
    let (mut server, seen, _upstream) = serve();
    for (what, trailers, forbidden) in [
        ("a length", fields(&[("content-length", "0"), ("x-sum", "1")]), "content-length"),
        ("a coding", fields(&[("transfer-encoding", "chunked")]), "never"),
        ("a host", fields(&[("host", "evil.test")]), "evil.test"),
    ] {
        let mut frames = Frames::connect(server.port, &[]);
        let block = request_fields("POST", "/", &[("trailer", "x-sum")]);
        frames.send(HEADERS, OPEN, 1, &block);
        frames.send(DATA, 0, 1, b"body");
        frames.send(HEADERS, WHOLE, 1, &trailers);
        let answer = frames.answer(1);
        for (head, body) in std::mem::take(&mut *seen.lock().unwrap()) {
            assert!(answer.is_some(), "{what}");
            assert_eq!(body, b"body", "{what}");
            assert!(!head.to_lowercase().contains(forbidden), "{what}: {head}");
            assert!(what != "a coding", "{what}: {head}");
        }
    }
    alive(&mut server);
}
