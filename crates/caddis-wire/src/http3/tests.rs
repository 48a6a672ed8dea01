//! Frames in pieces, heads that are to be refused, random bytes.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::{
    ControlFrames, FRAME_DATA, FRAME_HEADERS, Http3Error, Http3Request, Incoming, Part, PeerStream,
    PeerStreams, Piece, RequestFrames, Rest, code, trailers, write_frame_head, write_goaway,
    write_response_section, write_settings, write_trailer_section,
};

/// A section of literal fields.
fn section(fields: &[(&str, &str)]) -> Bytes {
    let mut out = vec![0, 0];
    for (name, value) in fields {
        assert!(name.len() < 7 + 128 && value.len() < 127);
        match u8::try_from(name.len()).unwrap() {
            short @ ..7 => out.push(0x20 | short),
            long => out.extend([0x27, long - 7]),
        }
        out.extend_from_slice(name.as_bytes());
        out.push(u8::try_from(value.len()).unwrap());
        out.extend_from_slice(value.as_bytes());
    }
    out.into()
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "a.test:1"), (":path", "/x?y=1")];

fn request(fields: &[(&str, &str)]) -> Result<Http3Request, Http3Error> {
    Http3Request::parse(&section(fields), 4096)
}

fn get_with(fields: &[(&str, &str)]) -> Result<Http3Request, Http3Error> {
    request(&[&GET[..], fields].concat())
}

fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_frame_head(&mut out, kind, payload.len() as u64);
    out.extend_from_slice(payload);
    out
}

#[test]
fn reads_a_request() {
    let head = get_with(&[("cookie", "a=1"), ("x", "1"), ("cookie", "b=2"), ("te", "trailers")]);
    let head = head.unwrap();
    assert_eq!((head.method, &*head.host), (Method::GET, &b"a.test:1"[..]));
    assert_eq!(head.path.as_deref(), Some(&b"/x?y=1"[..]));
    assert_eq!(head.headers["cookie"], "a=1; b=2");
    assert_eq!(head.content_length, None);
    let head = get_with(&[("host", "A.test:1"), ("content-length", "7")]).unwrap();
    assert_eq!((head.headers.get("host"), head.content_length), (None, Some(7)));
    // Huffman-coded value with the name of a static entry (RFC 9204 §B.1 is of that kind).
    let mut block = vec![0, 0, 0xd1, 0xd7, 0xc1, 0x50, 0x8c];
    block.extend([0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff]);
    let head = Http3Request::parse(&block.into(), 4096).unwrap();
    assert_eq!((head.method, &*head.host), (Method::GET, &b"www.example.com"[..]));
    assert_eq!(head.path.as_deref(), Some(&b"/"[..]));
}

#[test]
fn paths_may_have_what_request_lines_may() {
    let path = "/<x>`^{\u{e9}|?y=`<>";
    let head = request(&[GET[0], GET[1], GET[2], (":path", path)]).unwrap();
    assert_eq!(head.path.as_deref(), Some(path.as_bytes()));
}

#[test]
fn connects() {
    let plain = request(&[(":method", "CONNECT"), (":authority", "a.test:1")]).unwrap();
    assert_eq!((plain.path, plain.protocol), (None, None));
    let mut fields = vec![(":method", "CONNECT"), (":protocol", "websocket")];
    fields.extend(&GET[1..]);
    let extended = request(&fields).unwrap();
    assert_eq!(extended.protocol.as_deref(), Some(&b"websocket"[..]));
}

#[test]
fn refuses_malformed_requests() {
    let malformed: &[&[(&str, &str)]] = &[
        &GET[1..],
        &GET[..3],
        &[GET[0], GET[1], GET[3]],
        &[GET[0], GET[2], GET[3]],
        &[(":method", "CONNECT"), GET[1], GET[2], GET[3]],
        &[("x", "1"), GET[0], GET[1], GET[2], GET[3]],
        &[GET[0], GET[1], GET[2], (":path", "x")],
        &[GET[0], GET[1], GET[2], (":path", "*")],
        &[GET[0], GET[1], GET[2], (":path", "")],
        &[GET[0], GET[1], GET[2], (":path", "/a b")],
        &[GET[0], GET[1], GET[2], (":path", "/a\x7fb")],
        &[GET[0], GET[1], GET[2], (":path", "/a\tb")],
        &[GET[0], GET[1], GET[2], (":path", "?y=1")],
        &[GET[0], GET[1], (":authority", "u@a.test"), GET[3]],
        &[GET[0], GET[1], (":authority", ""), GET[3]],
        &[GET[0], GET[1], (":authority", "a/b"), GET[3]],
        &[GET[0], (":scheme", "ftp"), GET[2], GET[3]],
        &[(":method", "G ET"), GET[1], GET[2], GET[3]],
    ];
    for fields in malformed {
        let error = request(fields).unwrap_err();
        assert!(matches!(error, Http3Error::Stream(code::MESSAGE_ERROR, _)), "{fields:?}");
    }
    for fields in [
        &[GET[0]][..],
        &[(":status", "200")],
        &[(":protocol", "x")],
        &[("host", "b.test")],
        &[("host", "a.test:1"), ("host", "a.test:1")],
        &[("Upper", "1")],
        &[("", "1")],
        &[("x", "a\nb")],
        &[("connection", "close")],
        &[("transfer-encoding", "chunked")],
        &[("te", "gzip")],
        &[("content-length", "+1")],
        &[("content-length", "1"), ("content-length", "2")],
    ] {
        let error = get_with(fields).unwrap_err();
        assert!(matches!(error, Http3Error::Stream(code::MESSAGE_ERROR, _)), "{fields:?}");
    }
    let long = "a".repeat(100);
    assert!(get_with(&[("a", &*long); 20]).is_ok());
    assert_eq!(get_with(&[("a", &*long); 40]).unwrap_err(), Http3Error::TooLarge);
}

#[test]
fn refuses_references_to_a_dynamic_table() {
    let blocks: &[&[u8]] = &[
        &[],
        &[0],
        &[1, 0],
        &[0, 0, 0x80],
        &[0, 0, 0x40, 0],
        &[0, 0, 0x10],
        &[0, 0, 0x00, 0],
        &[0, 0, 0xff, 0xff],
        &[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0, 0, 0xff, 0x24],
        &[0, 0, 0x51, 0x05, b'a'],
        &[0, 0, 0x51, 0x81, 0x00],
    ];
    for block in blocks {
        let error = Http3Request::parse(&Bytes::from_static(block), 4096).unwrap_err();
        let failed = matches!(error, Http3Error::Connection(code::QPACK_DECOMPRESSION_FAILED, _));
        assert!(failed, "{block:?}: {error}");
    }
}

#[test]
fn writes_what_it_reads() {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert("vary", HeaderValue::from_static("accept-encoding"));
    headers.append("x-long-name-of-a-field", HeaderValue::from_static("v"));
    headers.append("x-long-name-of-a-field", HeaderValue::from_static(""));
    let mut secret = HeaderValue::from_static("deny");
    secret.set_sensitive(true);
    headers.insert("x-frame-options", secret);
    headers.insert("etag", HeaderValue::from_str(&"e".repeat(300)).unwrap());
    let mut out = Vec::new();
    write_trailer_section(&mut out, &headers);
    assert_eq!(trailers(&out.into(), 4096).unwrap(), headers);
    let mut out = Vec::new();
    write_response_section(&mut out, StatusCode::OK, &HeaderMap::new());
    assert_eq!(out, [0, 0, 0xd9]);
}

#[test]
fn frames_in_pieces() {
    let mut stream = frame(0x21, b"grease");
    stream.extend(frame(FRAME_HEADERS, b"head"));
    stream.extend(frame(FRAME_DATA, b""));
    stream.extend(frame(FRAME_DATA, b"body"));
    stream.extend(frame(FRAME_DATA, &[b'x'; 100]));
    stream.extend(frame(FRAME_HEADERS, b"trailers"));
    stream.extend(frame(0x40, b""));
    let whole = Bytes::from(stream);
    for size in [1, 2, 3, 7, 50, whole.len()] {
        let mut frames = RequestFrames::new(100);
        let (mut sections, mut data) = (Vec::new(), Vec::new());
        for piece in whole.chunks(size) {
            let mut input = Bytes::copy_from_slice(piece);
            while let Some(part) = frames.next(&mut input).unwrap() {
                match part {
                    Part::Headers(block) => sections.push(block),
                    Part::Data(piece) => data.extend_from_slice(&piece),
                }
            }
            assert!(input.is_empty());
        }
        frames.end().unwrap();
        assert_eq!(sections, [&b"head"[..], b"trailers"]);
        assert_eq!(data.len(), 104, "{size}");
    }
}

#[test]
fn frames_out_of_place() {
    let read = |stream: &[Vec<u8>]| {
        let mut frames = RequestFrames::new(100);
        let mut input = Bytes::from(stream.concat());
        while frames.next(&mut input)?.is_some() {}
        frames.end()
    };
    let head = frame(FRAME_HEADERS, b"");
    let data = frame(FRAME_DATA, b"1");
    let unexpected =
        |result| matches!(result, Err(Http3Error::Connection(code::FRAME_UNEXPECTED, _)));
    assert!(unexpected(read(std::slice::from_ref(&data))));
    assert!(unexpected(read(&[head.clone(), head.clone(), data.clone()])));
    assert!(unexpected(read(&[head.clone(), head.clone(), head.clone()])));
    for kind in [2, 3, 4, 5, 6, 7, 8, 9, 13] {
        assert!(unexpected(read(&[head.clone(), frame(kind, b"")])), "{kind}");
    }
    assert_eq!(read(&[frame(FRAME_HEADERS, &[0; 101])]), Err(Http3Error::TooLarge));
    assert_eq!(
        read(&[vec![1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]]),
        Err(Http3Error::TooLarge)
    );
    let broken = |result| matches!(result, Err(Http3Error::Connection(code::FRAME_ERROR, _)));
    assert!(broken(read(&[head.clone(), data[..2].to_vec()])));
    assert!(broken(read(&[head.clone(), vec![0x40]])));
    assert!(matches!(read(&[]), Err(Http3Error::Stream(code::REQUEST_INCOMPLETE, _))));
    assert_eq!(read(&[head, data]), Ok(()));
}

#[test]
fn control_frames() {
    let mut ours = Vec::new();
    write_settings(&mut ours, 20_000);
    write_goaway(&mut ours, u64::MAX);
    let mut good = ours[1..].to_vec();
    good.extend(frame(13, &[9]));
    good.extend(frame(0x4f, &[7; 9000]));
    good.extend(frame(13, &[9]));
    for size in [1, 5, 10_000] {
        let mut frames = ControlFrames::default();
        for piece in good.chunks(size) {
            frames.read(Bytes::copy_from_slice(piece)).unwrap();
        }
    }
    let read = |stream: &[Vec<u8>]| match ControlFrames::default().read(stream.concat().into()) {
        Err(Http3Error::Connection(code, _)) => code,
        other => panic!("{other:?}"),
    };
    let settings = frame(4, &[]);
    assert_eq!(read(&[frame(13, &[1])]), code::MISSING_SETTINGS);
    assert_eq!(read(&[settings.clone(), settings.clone()]), code::FRAME_UNEXPECTED);
    assert_eq!(read(&[settings.clone(), frame(0, &[])]), code::FRAME_UNEXPECTED);
    assert_eq!(read(&[frame(4, &[2, 0])]), code::SETTINGS_ERROR);
    assert_eq!(read(&[frame(4, &[6, 0, 6, 0])]), code::SETTINGS_ERROR);
    assert_eq!(read(&[frame(4, &[6])]), code::FRAME_ERROR);
    assert_eq!(read(&[frame(4, &[0; 5000])]), code::EXCESSIVE_LOAD);
    assert_eq!(read(&[settings.clone(), frame(7, &[])]), code::FRAME_ERROR);
    assert_eq!(read(&[settings, frame(13, &[2]), frame(13, &[1])]), code::ID_ERROR);
}

#[test]
fn random_bytes_never_panic() {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..random() % 64).map(|_| random()).collect();
        let mut block = vec![0, 0];
        block.extend_from_slice(&bytes);
        let _ = Http3Request::parse(&block.into(), 200);
        let mut input = Bytes::from(bytes);
        let _ = ControlFrames::default().read(input.clone());
        let mut frames = RequestFrames::new(32);
        while let Ok(Some(_)) = frames.next(&mut input) {}
        let _ = frames.end();
    }
}

#[test]
fn bodies_have_the_length_that_was_told() {
    use std::task::{Context, Poll, Waker};

    let head = || frame(FRAME_HEADERS, &section(&GET));
    let data = |text: &[u8]| frame(FRAME_DATA, text);
    let trailers = || frame(FRAME_HEADERS, &section(&[("x", "1")]));
    // Sections, bytes of the body, and how it ended.
    let read = |length: Option<u64>, frames: &[Vec<u8>]| {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut chunks = frames.iter().cloned().map(Bytes::from);
        let mut more = |_: &mut Context<'_>| Poll::Ready(Ok::<_, Http3Error>(chunks.next()));
        let mut incoming = Incoming::new(1000);
        let Poll::Ready(Ok(Some(_))) = incoming.poll_head(cx, &mut more) else { panic!("no head") };
        incoming.expect(length);
        let Poll::Ready(ends) = incoming.poll_ends(cx, &mut more) else { panic!("waits") };
        let (mut size, mut fields) = (0, 0);
        loop {
            match incoming.poll_body(cx, &mut more) {
                Poll::Ready(Ok(Some(Piece::Data(data)))) => size += data.len(),
                Poll::Ready(Ok(Some(Piece::Trailers(trailers)))) => fields += trailers.len(),
                Poll::Ready(Ok(None)) => {
                    assert!(incoming.has_ended() && incoming.left().unwrap_or(0) == 0);
                    return (ends, size, fields, Ok(()));
                }
                Poll::Ready(Err(error)) => return (ends, size, fields, Err(error)),
                Poll::Pending => panic!("waits"),
            }
        }
    };
    let wrong = Err(Http3Error::Stream(code::MESSAGE_ERROR, "body and Content-Length differ"));
    assert_eq!(read(None, &[head()]), (Ok(true), 0, 0, Ok(())));
    assert_eq!(read(Some(0), &[head()]), (Ok(true), 0, 0, Ok(())));
    assert_eq!(read(None, &[head(), data(b"12")]), (Ok(false), 2, 0, Ok(())));
    assert_eq!(
        read(Some(3), &[head(), data(b"12"), data(b"3"), trailers()]),
        (Ok(false), 3, 1, Ok(()))
    );
    assert_eq!(read(Some(1), &[head(), data(b"12")]), (Ok(false), 0, 0, wrong));
    assert_eq!(read(Some(3), &[head(), data(b"12")]), (Ok(false), 2, 0, wrong));
    assert_eq!(read(Some(3), &[head(), data(b"12"), trailers()]), (Ok(false), 2, 0, wrong));
    assert_eq!(read(Some(1), &[head()]), (Ok(true), 0, 0, wrong));
}

#[test]
fn streams_of_the_peer() {
    // How far it is read, or what is wrong with the connection.
    let read = |all: &mut PeerStreams, bytes: &[u8], step: usize| {
        let mut stream = PeerStream::default();
        for piece in bytes.chunks(step) {
            match stream.read(all, Bytes::copy_from_slice(piece)) {
                Ok(Rest::Wanted) => {}
                Ok(Rest::Unwanted) => return Ok((Rest::Unwanted, None)),
                Err(Http3Error::Connection(code, _)) => return Err(code),
                Err(error) => panic!("{error}"),
            }
        }
        match stream.end() {
            Err(Http3Error::Connection(code::CLOSED_CRITICAL_STREAM, _)) | Ok(()) => {}
            Err(error) => panic!("{error}"),
        }
        Ok((Rest::Wanted, stream.goaway()))
    };
    let mut control = vec![0];
    control.extend(frame(4, b""));
    control.extend(frame(7, &[8]));
    for step in [1, 2, 100] {
        let all = &mut PeerStreams::of_server();
        assert_eq!(read(all, &control, step), Ok((Rest::Wanted, Some(8))));
        assert_eq!(read(all, &control, step), Err(code::STREAM_CREATION_ERROR));
        assert_eq!(read(all, &[2, 0x20], step), Ok((Rest::Wanted, None)));
        assert_eq!(read(all, &[3, 1, 2, 3], step), Ok((Rest::Wanted, None)));
        assert_eq!(read(all, &[1], step), Err(code::ID_ERROR));
        // A type of two bytes that nobody knows, any number of times.
        assert_eq!(read(all, &[0x40, 0x21, 9], step), Ok((Rest::Unwanted, None)));
        assert_eq!(read(all, &[0x40, 0x21, 9], step), Ok((Rest::Unwanted, None)));
        let all = &mut PeerStreams::of_client();
        assert_eq!(read(all, &[1], step), Err(code::STREAM_CREATION_ERROR));
        assert_eq!(read(all, &[2, 0x21], step), Err(code::QPACK_ENCODER_STREAM_ERROR));
        assert_eq!(read(all, &[0x40], step), Ok((Rest::Wanted, None)));
    }
    let mut stream = PeerStream::default();
    assert_eq!(stream.end(), Ok(()), "it did not say what it is");
    stream.read(&mut PeerStreams::of_client(), Bytes::from_static(&[2])).unwrap();
    assert!(matches!(stream.end(), Err(Http3Error::Connection(code::CLOSED_CRITICAL_STREAM, _))));
}
