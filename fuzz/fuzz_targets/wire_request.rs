//! Request heads: no panic, a prefix of a whole head is never refused as too short, one that comes
//! again is what it was, and a head that is written out again is read as the same one.
#![no_main]

use caddis_wire::{Limits, Parsed, parse_request, write_request_head};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let limits = Limits::default();
    let Ok(Parsed::Complete(head, used)) = parse_request(data, &limits) else { return };
    assert!(used <= data.len());
    assert!(!matches!(parse_request(&data[..used - 1], &limits), Ok(Parsed::Complete(..))));
    if !data.starts_with(b"\r") {
        // A head behind an empty line is read, the others may be known by now.
        let apart = [b"\r\n", &data[..used]].concat();
        for _ in 0..2 {
            let Ok(Parsed::Complete(read, _)) = parse_request(&apart, &limits) else { panic!() };
            let Ok(Parsed::Complete(again, end)) = parse_request(&data[..used], &limits) else {
                panic!("refused when it came again")
            };
            assert_eq!((&again, end), (&read, used));
            let (mut known, mut new) = (Vec::new(), Vec::new());
            let written = (again.headers.written(), read.headers.written());
            let (Some(again), Some(read)) = written else { panic!("not as written") };
            again.write_for_next_hop(&mut known);
            read.write_for_next_hop(&mut new);
            assert_eq!(known, new);
        }
    }
    // HTTP/1.0 may lack a host, without which no head of HTTP/1.1 is right.
    if head.version != http::Version::HTTP_11 {
        return;
    }
    // The host is kept apart; where it is no value of a field, nothing can be written.
    let Ok(host) = http::HeaderValue::from_bytes(&head.host) else { return };
    let mut headers = head.headers.clone();
    headers.insert(http::header::HOST, host);
    let mut out = Vec::new();
    write_request_head(&mut out, &head.method, &head.origin, &headers, head.framing);
    let Ok(Parsed::Complete(again, _)) = parse_request(&out, &limits) else {
        panic!("not read back: {:?}", String::from_utf8_lossy(&out));
    };
    assert_eq!(again.method, head.method);
    assert_eq!(again.origin, head.origin);
    assert_eq!(again.framing, head.framing);
});
