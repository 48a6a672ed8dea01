//! Bodies and tunnels as they pass: nothing waits that could go on, nothing broken looks whole.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{
    Scripted, Server, Upstream, Wire, eventually, free_port, get, ok, request, scratch, site_with,
};

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

#[test]
fn events_pass_at_once() {
    let gate = Arc::new(Mutex::new(0));
    let allowed = gate.clone();
    let upstream = Scripted::start(move |wire| {
        let Some((head, _)) = wire.request() else { return };
        let kind = if head.starts_with("GET /events") {
            "Content-Type: text/event-stream\r\nContent-Length: 1000"
        } else {
            "Transfer-Encoding: chunked"
        };
        wire.send(format!("HTTP/1.1 200 OK\r\n{kind}\r\n\r\n"));
        for number in 0..3 {
            eventually("the client has read", || *allowed.lock().unwrap() >= number);
            let event = format!("data: {number}\n\n");
            if head.starts_with("GET /events") {
                wire.send(event);
            } else {
                wire.send(format!("{:x}\r\n{event}\r\n", event.len()));
            }
        }
        wire.rest();
    });
    let server = proxy(&upstream.address(), "");
    for target in ["/events", "/chunks"] {
        *gate.lock().unwrap() = 0;
        let mut wire = Wire::connect(server.port);
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(wire.head().starts_with("HTTP/1.1 200 "));
        for number in 0..3 {
            let event = wire.until("\n\n");
            assert!(event.ends_with(&format!("data: {number}\n\n")), "{target}: {event:?}");
            *gate.lock().unwrap() = number + 1;
        }
    }
}

#[test]
fn a_flush_interval_lets_a_known_length_trickle() {
    for interval in ["-1", "50ms"] {
        let gate = Arc::new(Mutex::new(false));
        let open = gate.clone();
        let upstream = Scripted::start(move |wire| {
            wire.request();
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
            eventually("the client has read", || *open.lock().unwrap());
            wire.send("other");
        });
        let server = proxy(&upstream.address(), &format!("\t\tflush_interval {interval}"));
        let mut wire = Wire::connect(server.port);
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        wire.head();
        assert_eq!(wire.take(5), b"first", "{interval}");
        *gate.lock().unwrap() = true;
        assert_eq!(wire.take(5), b"other", "{interval}");
    }
}

#[test]
fn an_early_answer_passes_before_the_upload_ends() {
    let upstream = Scripted::start(|wire| {
        wire.head();
        wire.send("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
        wire.rest();
    });
    let server = proxy(&upstream.address(), "");
    let mut wire = Wire::connect(server.port);
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nthe beginning");
    let answer = wire.answer();
    assert_eq!((answer.status, answer.body.as_str()), (403, "no"));
    // Nor is a short rest waited for where the connection is to end.
    let begin = Instant::now();
    let mut wire = Wire::connect(server.port);
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nConnection: close\r\n\r\nthe");
    let answer = wire.answer();
    assert_eq!((answer.status, answer.body.as_str()), (403, "no"));
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[test]
fn large_bodies_pass_whole() {
    let seen = Arc::new(Mutex::new((0, 0)));
    let keep = seen.clone();
    let upstream = Scripted::start(move |wire| {
        while let Some((head, body)) = wire.request() {
            let sum = body.iter().map(|byte| u64::from(*byte)).sum::<u64>();
            *keep.lock().unwrap() = (body.len(), sum);
            if head.starts_with("GET") {
                let body = "0123456789".repeat(500_000);
                wire.send(ok(&body));
            } else {
                wire.send(ok("thanks"));
            }
        }
    });
    let server = proxy(&upstream.address(), "");
    let body: Vec<u8> = (0..5_000_000u32).map(|number| number as u8).collect();
    let sum = body.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    let mut wire = Wire::connect(server.port);
    wire.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    wire.send(&body);
    assert_eq!(wire.answer().body, "thanks");
    assert_eq!(*seen.lock().unwrap(), (body.len(), sum));
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for part in body.chunks(77_777) {
        wire.send(format!("{:x}\r\n", part.len()));
        wire.send(part);
        wire.send("\r\n");
    }
    wire.send("0\r\n\r\n");
    assert_eq!(wire.answer().body, "thanks");
    assert_eq!(*seen.lock().unwrap(), (body.len(), sum));
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(wire.answer().body.len(), 5_000_000);
}

#[test]
fn a_client_that_expects_to_be_asked_is_asked() {
    let up = Upstream::start("up");
    let server = Server::start(&site_with(&format!(
        "\trespond /refused no 403\n\treverse_proxy {}\n",
        up.address()
    )));
    let mut wire = Wire::connect(server.port);
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    assert!(wire.head().starts_with("HTTP/1.1 100 "));
    wire.send("body");
    assert_eq!(wire.answer().body, "up");
    let mut wire = Wire::connect(server.port);
    wire.send(
        "POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(wire.answer().status, 403);
}

#[test]
fn early_hints_and_trailers_pass() {
    let upstream = Scripted::fixed(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    let server = proxy(&upstream.address(), "");
    let mut wire = Wire::connect(server.port);
    wire.send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n");
    let early = wire.head();
    assert!(early.starts_with("HTTP/1.1 103 ") && early.contains("a.css"), "{early}");
    let head = wire.head();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let body = wire.head();
    assert!(body.contains("hi") && body.to_lowercase().contains("x-sum: 7"), "{body:?}");
}

#[test]
fn a_broken_body_does_not_look_whole() {
    let upstream = Scripted::start(|wire| {
        let Some((head, _)) = wire.request() else { return };
        wire.send(if head.starts_with("GET /length") {
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"
        } else {
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"
        });
    });
    let server = proxy(&upstream.address(), "");
    for target in ["/length", "/chunks"] {
        let mut wire = Wire::connect(server.port);
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let all = String::from_utf8_lossy(&wire.rest()).into_owned();
        assert!(!all.ends_with("0\r\n\r\n"), "{target}: {all:?}");
        assert!(all.is_empty() || all.starts_with("HTTP/1.1 200 "), "{target}: {all:?}");
    }
}

#[test]
fn buffers_wait_for_the_body() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = seen.clone();
    let upstream = Scripted::start(move |wire| {
        while let Some((head, body)) = wire.request() {
            keep.lock().unwrap().push((head.to_lowercase(), body));
            wire.send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            );
        }
    });
    let server = proxy(&upstream.address(), "\t\trequest_buffers 1MB\n\t\tresponse_buffers 1MB");
    let mut wire = Wire::connect(server.port);
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    assert_eq!(upstream.connections(), 0);
    wire.send("3\r\ndef\r\n0\r\n\r\n");
    assert_eq!(wire.answer().body, "hello");
    let (head, body) = seen.lock().unwrap()[0].clone();
    assert!(head.contains("content-length: 6\r\n"), "{head}");
    assert_eq!(body, b"abcdef");
}

#[test]
fn upstreams_have_many_kinds_of_address() {
    let folder = scratch();
    let socket = folder.join("up.sock");
    Scripted::unix(&socket, |wire| while wire.request().is_some() && wire.send(ok("unix")) {});
    let up = Upstream::start("up");
    let port = up.port;
    let server = Server::start_in(
        folder,
        &site_with(&format!(
            "	handle /unix {{
		reverse_proxy unix/{}
	}}
	handle /scheme {{
		reverse_proxy http://127.0.0.1:{port}
	}}
	handle /range {{
		reverse_proxy 127.0.0.1:{port}-{port}
	}}
	handle /header {{
		reverse_proxy {{header.X-To}}
	}}
	handle /port {{
		reverse_proxy 127.0.0.1:{{query.port}}
	}}
",
            socket.display()
        )),
    );
    for (target, body) in [("/unix", "unix"), ("/scheme", "up"), ("/range", "up")] {
        assert_eq!(get(server.port, target).body, body, "{target}");
    }
    assert_eq!(get(server.port, &format!("/port?port={port}")).body, "up");
    let to = up.address();
    assert_eq!(request(server.port, "GET", "/header", &[("X-To", &to)], "").unwrap().body, "up");
    for target in ["/header", "/port?port=1-9", "/port?port=x", "/port"] {
        let status = get(server.port, target).status;
        assert!((500..=504).contains(&status), "{target}: {status}");
    }
}

#[test]
fn upstreams_speak_http2_and_tls() {
    let (clear, tls) = (free_port(), free_port());
    let server = Server::start(&format!(
        "{{
	admin 127.0.0.1:{{admin}}
	skip_install_trust
	http_port {}
	https_port {tls}
	servers :{clear} {{
		protocols h2c
	}}
}}
http://127.0.0.1:{clear} {{
	respond \"{{http.request.proto}} {{http.request.host}}\"
}}
https://localhost:{tls} {{
	respond \"{{http.request.proto}} {{http.request.tls.server_name}}\"
}}
http://:{{port}} {{
	handle /h2c {{
		reverse_proxy h2c://127.0.0.1:{clear}
	}}
	handle /tls {{
		reverse_proxy https://localhost:{tls} {{
			transport http {{
				tls_insecure_skip_verify
			}}
		}}
	}}
	handle /tls1 {{
		reverse_proxy https://localhost:{tls} {{
			transport http {{
				tls_insecure_skip_verify
				versions 1.1
			}}
		}}
	}}
	handle /unknown {{
		reverse_proxy https://localhost:{tls}
	}}
}}
",
        free_port()
    ));
    eventually("the upstreams are up", || get(server.port, "/tls").status == 200);
    for (target, body) in [
        ("/h2c", "HTTP/2.0 127.0.0.1"),
        ("/tls", "HTTP/2.0 localhost"),
        ("/tls1", "HTTP/1.1 localhost"),
    ] {
        let answer = get(server.port, target);
        assert!(answer.body.starts_with(body) || target == "/h2c", "{target}: {answer:?}");
        assert_eq!(answer.status, 200, "{target}");
    }
    // A certificate that nobody vouches for.
    assert_eq!(get(server.port, "/unknown").status, 502);
}

#[test]
fn an_upstream_that_takes_no_more_of_a_body_is_given_up() {
    let upstream = Scripted::start(|wire| {
        wire.head();
        // Neither reads nor ends.
        std::thread::sleep(Duration::from_secs(60));
    });
    let server =
        proxy(&upstream.address(), "\t\ttransport http {\n\t\t\twrite_timeout 300ms\n\t\t}");
    let mut wire = Wire::connect(server.port);
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    wire.write_limit(Duration::from_millis(100));
    let piece = vec![0; 1 << 20];
    while wire.send(&piece) {}
    let head = wire.head();
    assert!(head.starts_with("HTTP/1.1 504 "), "{head}");
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

/// What comes in chunks has no type before its first bytes are here; buffered, they are.
#[test]
fn buffered_answers_get_a_type() {
    let upstream = Scripted::fixed(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n<html>hello\r\n0\r\n\r\n",
    );
    let server = Server::start(&site_with(&format!(
        "\treverse_proxy /buffered {up} {{\n\t\tresponse_buffers 4KiB\n\t}}\n\treverse_proxy {up}\n",
        up = upstream.address()
    )));
    let answer = get(server.port, "/buffered");
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.body, "<html>hello");
    assert_eq!(get(server.port, "/").header("content-type"), None);
}

/// A dial address that is no single socket is an error of its requests alone, as in Caddy.
#[test]
fn a_range_of_ports_is_no_upstream() {
    let up = Upstream::start("up");
    let server = Server::start(&site_with("\trespond ok\n"));
    let config = serde_json::json!([{
        "match": [{ "path": ["/range"] }],
        "handle": [{ "handler": "reverse_proxy", "upstreams": [{ "dial": "127.0.0.1:1000-1002" }] }],
        "terminal": true
    }, {
        "handle": [{ "handler": "reverse_proxy", "upstreams": [{ "dial": up.address() }] }]
    }]);
    let json = [("Content-Type", "application/json")];
    let path = "/config/apps/http/servers/srv0/routes";
    let set = request(server.admin, "PATCH", path, &json, &config.to_string()).unwrap();
    assert_eq!(set.status, 200, "{}", set.body);
    assert_eq!(get(server.port, "/").body, "up");
    assert_eq!(get(server.port, "/range").status, 502);
    let why = "making dial info: upstream 127.0.0.1:1000-1002: dial address must represent \
               precisely one socket: 127.0.0.1:1000-1002 represents 3";
    eventually("it is told", || server.log().contains(why));
}
