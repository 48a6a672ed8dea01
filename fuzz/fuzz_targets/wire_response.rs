//! Response heads of upstreams: no panic, whatever the request was.
#![no_main]

use caddis_wire::{Limits, Parsed, parse_response};
use http::Method;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for method in [Method::GET, Method::HEAD, Method::CONNECT] {
        if let Ok(Parsed::Complete(_, used)) = parse_response(data, &method, &Limits::default()) {
            assert!(used <= data.len());
        }
    }
});
