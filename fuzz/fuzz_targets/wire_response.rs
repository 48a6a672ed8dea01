//! Response heads of upstreams: no panic, whatever the request was, and one that comes again is what
//! it was.
#![no_main]

use caddis_wire::{LastHead, Limits, Parsed, parse_response};
use http::Method;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = Limits::default();
    let mut last = LastHead::default();
    for method in [Method::GET, Method::HEAD, Method::CONNECT] {
        let read = parse_response(data, &method, &limits);
        if let Ok(Parsed::Complete(_, used)) = &read {
            assert!(*used <= data.len());
        }
        for may_pass in [true, true, false, false, true] {
            let again = last.parse(data, &method, &limits, may_pass);
            let new = LastHead::default().parse(data, &method, &limits, may_pass);
            match (again, new) {
                // Whoever may pass fields on may also get them read.
                (
                    Ok(Parsed::Complete((again, None), end)),
                    Ok(Parsed::Complete((_, Some(_)), _)),
                ) => {
                    assert_eq!(Ok(Parsed::Complete(again, end)), read);
                }
                (again, new) => assert_eq!(again, new),
            }
        }
    }
});
