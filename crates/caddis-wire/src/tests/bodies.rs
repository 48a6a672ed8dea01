//! Bodies: the chunk coding at every cut, and the other framings.

use bytes::BytesMut;
use http::HeaderMap;

use crate::{BodyDecoder, BodyFraming, BodyPart, ChunkError, ChunkStep, ChunkedDecoder};

/// Feeds `text` in pieces of `size` bytes; data, trailers and the bytes not taken.
fn decode(text: &[u8], size: usize) -> Result<(Vec<u8>, HeaderMap, usize), ChunkError> {
    let mut decoder = ChunkedDecoder::new();
    let mut data = Vec::new();
    for (index, piece) in text.chunks(size).enumerate() {
        let mut at = 0;
        loop {
            match decoder.decode(&piece[at..])? {
                ChunkStep::Data { start, end, consumed } => {
                    assert!(start < end && end == consumed);
                    data.extend_from_slice(&piece[at + start..at + end]);
                    at += consumed;
                }
                ChunkStep::Trailers(trailers, consumed) => {
                    assert!(decoder.is_done());
                    let used = index * size + at + consumed;
                    return Ok((data, trailers, text.len() - used));
                }
                ChunkStep::NeedMore { consumed } => {
                    assert_eq!(consumed, piece.len() - at);
                    break;
                }
            }
        }
    }
    Err(ChunkError::UnexpectedEof)
}

#[test]
fn data_at_every_cut() {
    for (text, data, left) in [
        (&b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"[..], &b"hello world"[..], 0),
        (b"5;a=b\r\nhello\r\n0\r\n\r\nGET /", b"hello", 5),
        (b"5 ;a=\"b\t\"\r\nhello\r\n0;x\r\n\r\n", b"hello", 0),
        (b"00000A\r\n0123456789\r\n000\r\n\r\n", b"0123456789", 0),
        (b"3\r\n\r\n0\r\n0\r\n\r\n", b"\r\n0", 0),
        (b"0\r\n\r\n", b"", 0),
        (b"5\r\nhello\r\n0\r\n\r\n\0\0\0garbage\r\n\r\n", b"hello", 14),
    ] {
        for size in 1..=text.len() {
            let (got, trailers, rest) = decode(text, size).unwrap();
            assert_eq!((&got[..], rest), (data, left), "pieces of {size}");
            assert!(trailers.is_empty());
        }
    }
}

#[test]
fn refused_at_every_cut() {
    use ChunkError::{Extension, LineEnd, Size, TooLarge, Trailer};
    for (text, error) in [
        (&b"0x5\r\nhello\r\n0\r\n\r\n"[..], Size),
        (b"+5\r\nhello\r\n0\r\n\r\n", Size),
        (b"-5\r\nhello\r\n0\r\n\r\n", Size),
        (b"5_0\r\nhello\r\n0\r\n\r\n", Size),
        (b"g\r\nhello\r\n0\r\n\r\n", Size),
        (b"5these-bytes\r\nhello\r\n0\r\n\r\n", Size),
        (b"\r\nhello\r\n0\r\n\r\n", Size),
        (b";a\r\nhello\r\n0\r\n\r\n", Size),
        (b" 5\r\nhello\r\n0\r\n\r\n", Size),
        (b"5 \r\nhello\r\n0\r\n\r\n", Size),
        (b"5 0\r\nhello\r\n0\r\n\r\n", Size),
        (b"10000000000000005\r\nhello\r\n0\r\n\r\n", TooLarge),
        (b"00000000000000005\r\nhello\r\n0\r\n\r\n", TooLarge),
        (b"ffffffffffffffffff\r\nabc\r\n0\r\n\r\n", TooLarge),
        (b"8000000000000005\r\nhello\r\n0\r\n\r\n", TooLarge),
        (b"\xef\xbc\x95\r\nhello\r\n0\r\n\r\n", Size),
        (b"5\0\r\nhello\r\n0\r\n\r\n", Size),
        (b"5\r\r\nhello\r\n0\r\n\r\n", LineEnd),
        (b"5\nhello\r\n0\r\n\r\n", LineEnd),
        (b"5;\nxx\r\nhello\r\n0\r\n\r\n", Extension),
        (b"5;a\0\r\nhello\r\n0\r\n\r\n", Extension),
        (b"5;a\rb\r\nhello\r\n0\r\n\r\n", LineEnd),
        (b"5\r\r;ABC\r\nhello\r\n0\r\n\r\n", LineEnd),
        (b"5\r\nhelloXX0\r\n\r\n", LineEnd),
        (b"5\r\nhello\n0\r\n\r\n", LineEnd),
        (b"3\r\nhello\r\n0\r\n\r\n", LineEnd),
        (b"5\r\nhello\r\n\r\n0\r\n\r\n", Size),
        (b"INVALID!!!\r\nGET / HTTP/1.1\r\n\r\n", Size),
        (b"0\r\nX: a\nY: b\r\n\r\n", Trailer),
        (b"0\r\nX: a\0b\r\n\r\n", Trailer),
        (b"0\r\nX : a\r\n\r\n", Trailer),
        (b"0\r\nno colon\r\n\r\n", Trailer),
        (b"0\r\nX: a\r\n b\r\n\r\n", Trailer),
        (b"0\r\nX: a\rb\r\n\r\n", LineEnd),
        (b"0\r\nX: a\r\n\rX", LineEnd),
        (b"0\r\nContent-Length: 99\r\n\r\n", Trailer),
        (b"0\r\nhost: evil.test\r\n\r\n", Trailer),
        (b"0\r\nTransfer-Encoding: cow\r\n\r\n", Trailer),
        (b"0\r\nX:GET /admin HTTP/1.1\r\nHost: t.test\r\n\r\n", Trailer),
    ] {
        for size in 1..=text.len() {
            let name = String::from_utf8_lossy(text);
            assert_eq!(decode(text, size).unwrap_err(), error, "{name:?} in {size}");
        }
    }
    // The largest size is taken as it is, not wrapped around.
    let huge = decode(b"7fffffffffffffff\r\nhello\r\n0\r\n\r\n", 64);
    assert_eq!(huge.unwrap_err(), ChunkError::UnexpectedEof);
}

#[test]
fn errors_stay() {
    let mut decoder = ChunkedDecoder::new();
    assert_eq!(decoder.decode(b"zz\r\n"), Err(ChunkError::Size));
    assert_eq!(decoder.decode(b"0\r\n\r\n"), Err(ChunkError::Size));
    assert_eq!(decoder.decode(b""), Err(ChunkError::Size));
    assert!(!decoder.is_done());
}

#[test]
fn trailers() {
    let text =
        b"1\r\nx\r\n0\r\nGrpc-Status: 0\r\nX-T:\t1 \r\nx-t: 2\r\nConnection: close\r\n\r\nnext";
    for size in 1..=text.len() {
        let (data, trailers, left) = decode(text, size).unwrap();
        assert_eq!((&data[..], left), (&b"x"[..], 4));
        assert_eq!(trailers["grpc-status"], "0");
        assert_eq!(trailers.get_all("x-t").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(trailers.len(), 3, "the connection field has no place there");
    }
}

#[test]
fn framing_is_bounded() {
    let one = |text: Vec<u8>| decode(&text, 1000).map(|(data, ..)| data.len());
    let huge = [b"5;", &[b'a'; 300_000][..], b"\r\nhello\r\n0\r\n\r\n"].concat();
    assert_eq!(one(huge), Err(ChunkError::Overhead));
    let blank = [b"5", &[b' '; 5000][..], b";\r\nhello\r\n0\r\n\r\n"].concat();
    assert_eq!(one(blank), Err(ChunkError::Overhead));
    let chunk = [b"1;", &[b'e'; 4000][..], b"\r\nx\r\n"].concat();
    assert_eq!(one([chunk.repeat(60), b"0\r\n\r\n".to_vec()].concat()), Err(ChunkError::Overhead));
    assert_eq!(one([chunk.repeat(3), b"0\r\n\r\n".to_vec()].concat()), Ok(3));
    let small = b"1\r\nx\r\n".repeat(50_000);
    assert_eq!(one([small, b"0\r\n\r\n".to_vec()].concat()), Ok(50_000));
    let fields =
        |count: usize| [b"0\r\n".to_vec(), b"A: b\r\n".repeat(count), b"\r\n".to_vec()].concat();
    assert_eq!(one(fields(64)), Ok(0));
    assert_eq!(one(fields(65)), Err(ChunkError::TrailerTooLarge));
    let long = [b"0\r\nA: ", &[b'x'; 9000][..], b"\r\n\r\n"].concat();
    assert_eq!(one(long), Err(ChunkError::TrailerTooLarge));
}

#[test]
fn every_framing_behind_one_decoder() {
    let mut body = BodyDecoder::new(BodyFraming::None);
    assert!(body.is_done() && body.end_of_input().is_ok());
    assert_eq!(body.decode(b"next"), Ok(ChunkStep::Trailers(HeaderMap::new(), 0)));

    let mut body = BodyDecoder::new(BodyFraming::Length(5));
    assert_eq!(body.decode(b""), Ok(ChunkStep::NeedMore { consumed: 0 }));
    assert_eq!(body.decode(b"hel"), Ok(ChunkStep::Data { start: 0, end: 3, consumed: 3 }));
    assert_eq!((body.remaining(), body.is_done()), (Some(2), false));
    assert_eq!(body.end_of_input(), Err(ChunkError::UnexpectedEof));
    assert_eq!(body.decode(b"loGET"), Ok(ChunkStep::Data { start: 0, end: 2, consumed: 2 }));
    assert!(body.is_done());

    let mut body = BodyDecoder::new(BodyFraming::UntilClose);
    assert_eq!(body.decode(b"abc"), Ok(ChunkStep::Data { start: 0, end: 3, consumed: 3 }));
    assert!(!body.is_done() && body.end_of_input().is_ok());

    let mut body = BodyDecoder::new(BodyFraming::Chunked);
    assert_eq!(body.decode(b"5\r\nhel"), Ok(ChunkStep::Data { start: 3, end: 6, consumed: 6 }));
    assert_eq!(body.end_of_input(), Err(ChunkError::UnexpectedEof));
}

#[test]
fn pieces_share_the_buffer() {
    let mut buf = BytesMut::from(&b"5\r\nhello\r\n0\r\n\r\nnext"[..]);
    let data = buf[3..8].as_ptr();
    let mut body = BodyDecoder::new(BodyFraming::Chunked);
    let Ok(BodyPart::Data(piece)) = body.take(&mut buf) else { panic!() };
    assert_eq!((&piece[..], piece.as_ptr()), (&b"hello"[..], data));
    assert_eq!(body.take(&mut buf), Ok(BodyPart::End(HeaderMap::new())));
    assert_eq!(&buf[..], b"next");
    assert!(body.is_done());
    let mut body = BodyDecoder::new(BodyFraming::Chunked);
    let mut part = BytesMut::from(&b"5"[..]);
    assert_eq!(body.take(&mut part), Ok(BodyPart::NeedMore));
    assert!(part.is_empty());
}
