//! HTTP/3: the same pieces whether a stream comes at once or byte by byte, and no head that has
//! what a request may not have.
#![no_main]

use bytes::Bytes;
use caddis_wire::http3::{ControlFrames, Http3Error, Http3Request, Part, RequestFrames};
use libfuzzer_sys::fuzz_target;

/// Sections, data, and how it ended.
fn read(data: &[u8], step: usize) -> (Vec<Bytes>, Vec<u8>, Result<(), Http3Error>) {
    let mut frames = RequestFrames::new(1000);
    let (mut sections, mut body) = (Vec::new(), Vec::new());
    for piece in data.chunks(step.max(1)) {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            match frames.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Part::Headers(block))) => sections.push(block),
                Ok(Some(Part::Data(data))) => body.extend_from_slice(&data),
                Err(error) => return (sections, body, Err(error)),
            }
        }
        assert!(input.is_empty());
    }
    (sections, body, frames.end())
}

fuzz_target!(|data: &[u8]| {
    let whole = read(data, data.len());
    assert_eq!(whole, read(data, 1));
    assert_eq!(whole, read(data, 3));
    let mut control = ControlFrames::default();
    let pieces = data.chunks(1).map(Bytes::copy_from_slice);
    let pieces = pieces.map(|piece| control.read(piece)).find(Result::is_err).unwrap_or(Ok(()));
    assert_eq!(pieces, ControlFrames::default().read(Bytes::copy_from_slice(data)));
    for block in whole.0.iter().chain([&Bytes::copy_from_slice(data)]) {
        if let Ok(request) = Http3Request::parse(block, 1000) {
            assert!(!request.host.is_empty() && request.host.is_ascii());
            assert!(!request.headers.contains_key("host"));
            assert!(!request.headers.contains_key("connection"));
        }
    }
});
