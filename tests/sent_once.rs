//! What may have arrived at an upstream is not sent again, unless that does no harm or the
//! configuration wants it: an upstream ends kept connections just when a request comes.

use std::sync::{Arc, Mutex};

use crate::support::{Scripted, Server, Wire, ok, site_with};

/// An upstream that answers the first request of each connection, and reads another one to its end
/// without an answer. Keeps the methods of all that it read.
fn forgetful() -> (Scripted, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let upstream = Scripted::start(move |wire| {
        let read = |wire: &mut Wire| {
            let (head, _) = wire.request()?;
            log.lock().unwrap().push(head.split(' ').next().unwrap_or_default().to_owned());
            Some(())
        };
        if read(wire).is_some() && wire.send(ok("up")) {
            read(wire);
        }
    });
    (upstream, seen)
}

/// The status of a request on a connection that the upstream ends, and how often it got there.
fn on_a_kept_connection(lines: &str, method: &str, fields: &str, body: &str) -> (u16, usize) {
    let (upstream, seen) = forgetful();
    let proxy = format!("\treverse_proxy {} {{\n{lines}\t}}\n", upstream.address());
    let server = Server::start(&site_with(&proxy));
    // One connection, and so one worker with its connections.
    let mut wire = Wire::connect(server.port);
    let mut ask = |method: &str, fields: &str, body: &str| {
        let length = match body {
            "" => String::new(),
            body => format!("Content-Length: {}\r\n", body.len()),
        };
        wire.send(format!("{method} / HTTP/1.1\r\nHost: localhost\r\n{fields}{length}\r\n{body}"));
        if method == "HEAD" { wire.head()[9..12].parse().unwrap() } else { wire.answer().status }
    };
    assert_eq!(ask("WARM", "", ""), 200);
    let status = ask(method, fields, body);
    let count = seen.lock().unwrap().iter().filter(|seen| *seen == method).count();
    (status, count)
}

#[test]
fn requests_that_may_have_arrived() {
    let retries = "\t\tlb_retries 3\n";
    let wanted = "\t\tlb_retries 3\n\t\tlb_retry_match method POST\n\t\trequest_buffers 1KiB\n";
    let key = "Idempotency-Key: 1\r\n";
    for (lines, method, fields, body, want) in [
        ("", "POST", "", "create", (502, 1)),
        ("", "POST", "", "", (502, 1)),
        ("", "PATCH", "", "change", (502, 1)),
        // As in Go's transport these are not repeated, though they might be.
        ("", "PUT", "", "store", (502, 1)),
        ("", "DELETE", "", "", (502, 1)),
        ("\t\trequest_buffers 1KiB\n", "POST", "", "create", (502, 1)),
        (retries, "POST", "", "create", (502, 1)),
        (retries, "DELETE", "", "", (502, 1)),
        // These do no harm.
        ("", "GET", "", "", (200, 2)),
        ("", "HEAD", "", "", (200, 2)),
        ("", "POST", key, "", (200, 2)),
        // This is wanted.
        (wanted, "POST", "", "create", (200, 2)),
        ("\t\tlb_retries 3\n\t\tlb_retry_match method DELETE\n", "DELETE", "", "", (200, 2)),
    ] {
        let got = on_a_kept_connection(lines, method, fields, body);
        assert_eq!(got, want, "{method} {fields:?} {body:?} with {lines:?}");
    }
}
