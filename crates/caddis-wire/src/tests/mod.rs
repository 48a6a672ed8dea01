//! Every rule, one by one, then cut and random input.

mod bodies;
mod encoding;
mod random;
mod requests;
mod responses;

use crate::{HeadError, Limits, Parsed, RequestHead, parse_request};

/// A whole request, or why not.
fn request(text: impl AsRef<[u8]>) -> Result<RequestHead, HeadError> {
    match parse_request(text.as_ref(), &Limits::default())? {
        Parsed::Complete(head, _) => Ok(head),
        Parsed::Partial => panic!("partial: {:?}", String::from_utf8_lossy(text.as_ref())),
    }
}

/// A deterministic source of test input (xorshift).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
