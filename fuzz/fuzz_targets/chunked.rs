//! The chunk coding: the same data whether it comes at once or byte by byte.
#![no_main]

use caddis_wire::{ChunkStep, ChunkedDecoder};
use libfuzzer_sys::fuzz_target;

/// The data, and how it ended: done, failed, or more was wanted.
fn decode(data: &[u8], step: usize) -> (Vec<u8>, &'static str) {
    let mut decoder = ChunkedDecoder::new();
    let (mut out, mut held, mut rest) = (Vec::new(), Vec::new(), data.chunks(step.max(1)));
    loop {
        match decoder.decode(&held) {
            Err(_) => return (out, "failed"),
            Ok(ChunkStep::Trailers(..)) => return (out, "done"),
            Ok(ChunkStep::Data { start, end, consumed }) => {
                assert!(start <= end && end <= consumed && consumed <= held.len());
                out.extend_from_slice(&held[start..end]);
                held.drain(..consumed);
            }
            Ok(ChunkStep::NeedMore { consumed }) => {
                held.drain(..consumed);
                let Some(more) = rest.next() else { return (out, "more") };
                held.extend_from_slice(more);
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let whole = decode(data, data.len());
    assert_eq!(whole, decode(data, 1));
    assert_eq!(whole, decode(data, 3));
});
