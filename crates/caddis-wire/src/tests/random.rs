//! Random and mutated input: nothing panics, nothing depends on the cut.

use http::Method;

use super::Rng;
use crate::{
    BodyDecoder, BodyFraming, ChunkStep, Limits, Parsed, RequestHead, parse_request,
    parse_response, write_chunk, write_last_chunk, write_request_head,
};

/// Decodes `text`, cut where `cut` says, and checks that nothing is lost.
fn decode(text: &[u8], mut cut: impl FnMut(usize) -> usize) -> (Vec<u8>, usize) {
    let mut body = BodyDecoder::new(BodyFraming::Chunked);
    let (mut data, mut at, mut end) = (Vec::new(), 0, 0);
    loop {
        match body.decode(&text[at..end]).unwrap() {
            ChunkStep::Data { start, end, consumed } => {
                data.extend_from_slice(&text[at + start..at + end]);
                at += consumed;
            }
            ChunkStep::Trailers(_, consumed) => return (data, at + consumed),
            ChunkStep::NeedMore { consumed } => {
                at += consumed;
                end = (end + cut(text.len() - end)).min(text.len());
            }
        }
    }
}

#[test]
fn chunks_come_back_from_any_cut() {
    let mut rng = Rng(0x1234_5678_9abc_def1);
    for _ in 0..300 {
        let mut plain = Vec::new();
        let mut text = Vec::new();
        for _ in 0..rng.below(6) {
            let data: Vec<u8> = (0..rng.below(80)).map(|_| rng.next() as u8).collect();
            write_chunk(&mut text, &data);
            plain.extend_from_slice(&data);
        }
        write_last_chunk(&mut text, None);
        let length = text.len();
        text.extend_from_slice(b"5\r\nnext");
        for split in 0..=length {
            let mut first = true;
            let cut = |rest| if std::mem::take(&mut first) { split } else { rest };
            assert_eq!(decode(&text, cut), (plain.clone(), length));
        }
        let cut = |rest: usize| 1 + rng.below(rest.clamp(1, 9));
        assert_eq!(decode(&text, cut), (plain, length));
    }
}

#[test]
fn random_bytes_never_panic() {
    let words: [&[u8]; 24] = [
        b"GET ",
        b"/",
        b" HTTP/1.1",
        b"\r\n",
        b"\n",
        b"\r",
        b":",
        b"Host: a",
        b" ",
        b"\t",
        b"HTTP/1.1 200 OK",
        b"Content-Length: ",
        b"Transfer-Encoding: chunked",
        b"0",
        b"5",
        b"ffff",
        b";",
        b"[",
        b"]",
        b"%",
        b"http://",
        b"CONNECT ",
        b"\0",
        b"\xff",
    ];
    let mut rng = Rng(0xfeed_beef_cafe_0001);
    let limits = Limits { max_head: 200, max_headers: 8, max_method: 8, ..Limits::default() };
    for round in 0..40_000 {
        let mut text = Vec::new();
        for _ in 0..rng.below(14) {
            if round % 3 == 0 {
                text.push(rng.next() as u8);
            } else {
                text.extend_from_slice(words[rng.below(words.len())]);
            }
        }
        if let Ok(Parsed::Complete(head, used)) = parse_request(&text, &limits) {
            assert!(used <= text.len());
            reparse(&head);
        }
        let _ = parse_response(&text, &Method::GET, &limits);
        let mut body = BodyDecoder::new(BodyFraming::Chunked);
        let mut rest = &text[..];
        while let Ok(ChunkStep::Data { consumed, .. }) = body.decode(rest) {
            assert!(consumed > 0 && consumed <= rest.len());
            rest = &rest[consumed..];
        }
    }
}

/// What was accepted and is written again means the same to the next reader.
fn reparse(head: &RequestHead) {
    let mut out = Vec::new();
    let mut headers = head.headers.clone();
    headers.insert("host", head.host.to_vec().try_into().unwrap());
    write_request_head(&mut out, &head.method, &head.origin, &headers, head.framing);
    if !head.host.is_empty() {
        let Ok(Parsed::Complete(again, used)) = parse_request(&out, &Limits::default()) else {
            panic!("{:?}", String::from_utf8_lossy(&out))
        };
        assert_eq!((used, &again.method), (out.len(), &head.method));
        assert_eq!((again.framing, again.origin), (head.framing, head.origin.clone()));
    }
}

#[test]
fn mutated_heads_are_the_same_again_and_cut_stable() {
    let seed = b"POST /p?q HTTP/1.1\r\nHost: t.test\r\nContent-Length: 5\r\nX-A: b\r\n\r\n";
    let mut rng = Rng(0x0dd0_1234_4321_7777);
    let limits = Limits::default();
    for _ in 0..3_000 {
        let mut text = seed.to_vec();
        for _ in 0..=rng.below(2) {
            let at = rng.below(text.len());
            match rng.below(3) {
                0 => text[at] = rng.next() as u8,
                1 => text.insert(at, b"\r\n :\0,"[rng.below(6)]),
                _ => drop(text.remove(at)),
            }
        }
        let whole = parse_request(&text, &limits);
        // What is known by now is found to be what it is when it is read.
        for _ in 0..2 {
            assert_eq!(parse_request(&text, &limits), whole);
        }
        let Ok(Parsed::Complete(_, used)) = &whole else { continue };
        for cut in 0..*used {
            assert_eq!(parse_request(&text[..cut], &limits), Ok(Parsed::Partial));
        }
    }
}
