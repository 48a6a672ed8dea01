//! Tunnels (WebSocket and others): how they begin, pass, end and are told of.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{Scripted, Server, Wire, eventually, get, ok, site_with};

fn proxy(address: &str, block: &str) -> Server {
    Server::start(&site_with(&format!("\treverse_proxy {address} {{\n{block}\n\t}}\n")))
}

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// An upstream that switches and sends back what it gets until the other side ends, then `bye`.
fn echo() -> (Scripted, Arc<AtomicUsize>) {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = ended.clone();
    let upstream = Scripted::start(move |wire| {
        let head = wire.head();
        if !head.to_lowercase().contains("upgrade: websocket") {
            wire.send(ok("plain"));
            return;
        }
        // The first words come together with the head.
        wire.send(format!("{SWITCH}welcome"));
        loop {
            let byte = wire.take(1);
            if byte.is_empty() || !wire.send(&byte) {
                break;
            }
        }
        wire.send("bye");
        count.fetch_add(1, Ordering::SeqCst);
    });
    (upstream, ended)
}

#[test]
fn a_websocket_passes_both_ways() {
    let (upstream, ended) = echo();
    let server = proxy(&upstream.address(), "");
    let mut wire = Wire::connect(server.port);
    // Early words of the client are not lost either.
    wire.send(format!("{UPGRADE}early"));
    let head = wire.head();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let lower = head.to_lowercase();
    assert!(
        lower.contains("upgrade: websocket") && lower.contains("connection: upgrade"),
        "{head}"
    );
    assert!(
        head.contains("Sec-WebSocket-Accept:") || lower.contains("sec-websocket-accept: s3p"),
        "{head}"
    );
    assert_eq!(wire.take(7), b"welcome");
    assert_eq!(wire.take(5), b"early");
    for length in [1, 1000, 20_000] {
        let data = vec![b'd'; length];
        wire.send(&data);
        assert_eq!(wire.take(length), data);
    }
    // One direction may end before the other.
    wire.send("last");
    wire.half_close();
    assert_eq!(wire.rest(), b"lastbye");
    eventually("the upstream is told", || ended.load(Ordering::SeqCst) == 1);
    let gone = tunnel(&server);
    drop(gone);
    eventually("the upstream is told", || ended.load(Ordering::SeqCst) == 2);
}

#[test]
fn an_upstream_that_ends_a_tunnel_ends_it_for_the_client() {
    let upstream = Scripted::start(|wire| {
        wire.head();
        wire.send(format!("{SWITCH}only this"));
    });
    let server = proxy(&upstream.address(), "");
    let mut wire = Wire::connect(server.port);
    wire.send(UPGRADE);
    assert!(wire.head().starts_with("HTTP/1.1 101 "));
    assert_eq!(wire.rest(), b"only this");
}

#[test]
fn a_switch_to_another_protocol_is_refused() {
    let upstream = Scripted::start(|wire| {
        wire.head();
        wire.send(SWITCH.replace("websocket", "other"));
        wire.rest();
    });
    let server = proxy(&upstream.address(), "");
    let mut wire = Wire::connect(server.port);
    wire.send(UPGRADE);
    assert!(!wire.head().starts_with("HTTP/1.1 101 "));
    // Nor may it switch unasked.
    let answer = get(server.port, "/");
    assert_ne!(answer.status, 101);
}

#[test]
fn tunnels_meet_their_limits() {
    let (upstream, _) = echo();
    let server = proxy(&upstream.address(), "\t\tstream_timeout 400ms");
    let mut wire = Wire::connect(server.port);
    let begin = Instant::now();
    wire.send(UPGRADE);
    assert!(wire.head().starts_with("HTTP/1.1 101 "));
    wire.rest();
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(300) && took < Duration::from_secs(6), "{took:?}");
}

/// Opens a tunnel and hears its greeting.
fn tunnel(server: &Server) -> Wire {
    let mut wire = Wire::connect(server.port);
    wire.send(UPGRADE);
    assert!(wire.head().starts_with("HTTP/1.1 101 "));
    assert_eq!(wire.take(7), b"welcome");
    wire
}

#[test]
fn a_reload_ends_tunnels_now_or_after_their_delay() {
    let (upstream, _) = echo();
    let site = |block: &str, word: &str| {
        site_with(&format!(
            "\theader X-Config {word}\n\treverse_proxy {} {{\n{block}\n\t}}\n",
            upstream.address()
        ))
    };
    for (block, stays) in [("", false), ("\t\tstream_close_delay 1h", true)] {
        let server = Server::start(&site(block, "one"));
        let mut wire = tunnel(&server);
        let (reloaded, said) = server.reload(&site(block, "two"));
        assert!(reloaded, "{said}");
        if stays {
            wire.send("still here");
            assert_eq!(wire.take(10), b"still here");
        } else {
            // A close frame that says that the server goes away.
            assert_eq!(wire.rest(), [0x88, 2, 0x03, 0xe9]);
        }
        assert_eq!(tunnel(&server).take(0), b"");
    }
}

/// As Caddy sends it: dated, and with both servers' names.
#[test]
fn a_switch_says_who_made_it_and_when() {
    let upstream = Scripted::start(|wire| {
        wire.head();
        wire.send(SWITCH.replace("\r\n\r\n", "\r\nServer: up\r\n\r\n"));
        wire.rest();
    });
    let server = proxy(&upstream.address(), "");
    let mut wire = Wire::connect(server.port);
    wire.send(UPGRADE);
    let head = wire.head().to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    for line in ["\r\ndate: ", "\r\nserver: caddis\r\n", "\r\nserver: up\r\n"] {
        assert_eq!(head.matches(line).count(), 1, "{line:?} in {head}");
    }
}

/// As `docker exec` does it: the body belongs to the request, and what follows to the tunnel.
#[test]
fn a_request_with_a_body_may_switch() {
    let upstream = Scripted::start(|wire| {
        let head = wire.head().to_lowercase();
        let body = if head.contains("transfer-encoding: chunked") {
            let mut body = Vec::new();
            while let Some(chunk) = wire.chunk().filter(|chunk| !chunk.is_empty()) {
                body.extend(chunk);
            }
            wire.take(2);
            body
        } else {
            assert!(head.contains("content-length: 13\r\n"), "{head}");
            wire.take(13)
        };
        wire.send(SWITCH.replace("websocket", "tcp"));
        wire.send(body);
        let word = wire.take(4);
        wire.send(word);
    });
    let server = proxy(&upstream.address(), "");
    let bodies = [
        "Content-Length: 13\r\n\r\n{\"Tty\":false}",
        "Transfer-Encoding: chunked\r\n\r\nd\r\n{\"Tty\":false}\r\n0\r\n\r\n",
    ];
    for body in bodies {
        let mut wire = Wire::connect(server.port);
        wire.send(format!(
            "POST /exec/1/start HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n{body}"
        ));
        let head = wire.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!(wire.take(13), b"{\"Tty\":false}");
        wire.send("ping");
        assert_eq!(wire.rest(), b"ping");
    }
}

/// A protocol cannot change within a message (RFC 9110 §7.8).
#[test]
fn a_switch_before_the_whole_request_is_refused() {
    let upstream = Scripted::start(|wire| {
        wire.head();
        wire.send(SWITCH);
        wire.rest();
    });
    let server = proxy(&upstream.address(), "");
    let mut wire = Wire::connect(server.port);
    wire.send(UPGRADE.replace("\r\n\r\n", "\r\nContent-Length: 9\r\n\r\nhalf"));
    let head = wire.head();
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
}

#[test]
fn handle_response_sees_switches() {
    let (upstream, _) = echo();
    let server = Server::start(&site_with(&format!(
        "\troute /caught {{
\t\treverse_proxy {0} {{
\t\t\thandle_response {{
\t\t\t\trespond \"caught {{rp.status_code}}\"
\t\t\t}}
\t\t}}
\t}}
\treverse_proxy {0} {{
\t\t@none status 404
\t\thandle_response @none {{
\t\t\trespond none
\t\t}}
\t\t@switch status 101
\t\thandle_response @switch {{
\t\t\tcopy_response
\t\t}}
\t}}
",
        upstream.address()
    )));
    let mut wire = Wire::connect(server.port);
    wire.send(UPGRADE.replace("/chat", "/caught"));
    assert_eq!(wire.answer().body, "caught 101");
    let mut wire = tunnel(&server);
    wire.send("ping");
    assert_eq!(wire.take(4), b"ping");
}

/// A chat may last for hours, and what it moved is in its one entry.
#[test]
fn a_tunnel_is_logged_at_its_end_with_its_bytes() {
    let (upstream, _) = echo();
    let server = Server::start(&format!(
        "{{
\tadmin off
}}
http://localhost:{{port}} {{
\tlog
\treverse_proxy {}
}}
",
        upstream.address()
    ));
    let entry = || {
        let log = server.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
        lines.find(|line: &serde_json::Value| line["msg"] == "handled request")
    };
    let mut wire = Wire::connect(server.port);
    wire.send(UPGRADE.replace("Host: a", "Host: localhost"));
    assert!(wire.head().starts_with("HTTP/1.1 101 "));
    let begin = Instant::now();
    assert_eq!(wire.take(7), b"welcome");
    let data = vec![b'd'; 20_000];
    wire.send(&data);
    assert_eq!(wire.take(data.len()), data);
    let lasted = begin.elapsed();
    assert!(entry().is_none(), "it is open still");
    drop(wire);
    eventually("the tunnel is logged", || entry().is_some());
    let entry = entry().unwrap();
    assert_eq!((&entry["status"], &entry["bytes_read"]), (&101.into(), &20_000.into()));
    assert!(entry["size"].as_u64().unwrap() >= 20_007, "{entry}");
    assert!(entry["duration"].as_f64().unwrap() >= lasted.as_secs_f64(), "{entry}");
}

#[test]
fn an_upstream_that_has_said_all_still_listens() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let keep = heard.clone();
    let upstream = Scripted::start(move |wire| {
        wire.head();
        wire.send(format!("{SWITCH}all"));
        wire.half_close();
        *keep.lock().unwrap() = wire.rest();
    });
    let server = proxy(&upstream.address(), "");
    let mut wire = Wire::connect(server.port);
    wire.send(UPGRADE);
    assert!(wire.head().starts_with("HTTP/1.1 101 "));
    assert_eq!(wire.rest(), b"all");
    for _ in 0..3 {
        assert!(wire.send("more "));
    }
    wire.half_close();
    eventually("all of it came", || *heard.lock().unwrap() == b"more more more ");
}
