//! Slow, greedy and lying HTTP/1 clients: each is refused or bounded, and nobody else notices.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{
    Answer, Scripted, Server, Upstream, Wire, eventually, free_port, get, ok, scratch, send_raw,
    site_with,
};

const LIMITS: &str = "{
	admin 127.0.0.1:{admin}
	servers {
		timeouts {
			read_header 1s
			read_body 1s
			idle 1s
		}
		max_header_size 16KB
	}
}
";

/// Sends one piece again and again until the server closes; how long that took.
fn dribble(port: u16, start: &[u8], piece: &[u8], pause: Duration) -> Duration {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(pause)).unwrap();
    let begin = Instant::now();
    let mut buffer = [0; 4096];
    let mut next = start;
    while begin.elapsed() < Duration::from_secs(10) {
        if stream.write_all(next).is_err() {
            break;
        }
        next = piece;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    begin.elapsed()
}

fn alive(server: &mut Server) {
    assert_eq!(get(server.port, "/fine").status, 200, "it answers afterwards");
    assert!(matches!(server.child.try_wait(), Ok(None)));
    assert!(!server.log().contains("panic"), "{}", server.log());
}

/// Whole requests: head and body.
type Seen = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// An upstream that keeps every whole request.
fn recorder() -> (Scripted, Seen) {
    let seen = Seen::default();
    let keep = seen.clone();
    let upstream = Scripted::start(move |wire| {
        while let Some(request) = wire.request() {
            keep.lock().unwrap().push(request);
            if !wire.send(ok("up")) {
                return;
            }
        }
    });
    (upstream, seen)
}

/// `/fine` is answered here, all else goes to the upstream.
fn proxy(upstream: &Scripted) -> Server {
    Server::start(&format!(
        "{LIMITS}{}",
        site_with(&format!("\trespond /fine ok\n\treverse_proxy {}\n", upstream.address()))
    ))
}

#[test]
fn slow_clients_are_cut_off() {
    let (upstream, seen) = recorder();
    let mut server = proxy(&upstream);
    let port = server.port;
    let pause = Duration::from_millis(100);
    let cases: [(&str, &[u8], &[u8]); 4] = [
        ("a request line", b"G", b"E"),
        ("a header", b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"a"),
        ("headers", b"GET / HTTP/1.1\r\nHost: a\r\n", b"X: a\r\n"),
        ("a body", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", b"a"),
    ];
    let slow = cases.map(|(what, start, piece)| {
        std::thread::spawn(move || (what, dribble(port, start, piece, pause)))
    });
    // Meanwhile others are served at once.
    for _ in 0..20 {
        let begin = Instant::now();
        assert_eq!(get(port, "/").body, "up");
        assert!(begin.elapsed() < Duration::from_secs(2));
    }
    for one in slow {
        let (what, took) = one.join().unwrap();
        assert!(took > Duration::from_millis(700), "{what} was cut after {took:?}");
        assert!(took < Duration::from_secs(6), "{what} was cut after {took:?}");
    }
    let bodies = seen.lock().unwrap().iter().filter(|one| one.0.starts_with("POST")).count();
    assert_eq!(bodies, 0, "the unfinished body became a whole request");
    alive(&mut server);
}

#[test]
fn silent_connections_are_closed() {
    let tls = free_port();
    let limits = LIMITS.replacen(
        "{\n",
        &format!("{{\n\tskip_install_trust\n\thttps_port {tls}\n\thttp_port {{port}}\n"),
        1,
    );
    let server = Server::start(&format!(
        "{limits}http://localhost {{\n\trespond ok\n}}\nhttps://localhost {{\n\trespond ok\n}}\n"
    ));
    eventually("the TLS port is open", || TcpStream::connect(("127.0.0.1", tls)).is_ok());
    let begin = Instant::now();
    let mut never = Wire::connect(server.port);
    let mut unencrypted = Wire::connect(tls);
    let mut half = Wire::connect(tls);
    // The begin of a handshake that never goes on.
    half.send([0x16, 3, 1, 2, 0, 1, 0]);
    let mut idle = Wire::connect(server.port);
    idle.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(idle.answer().body, "ok");
    assert!(never.ended(), "a silent one");
    assert!(idle.ended(), "an idle one");
    unencrypted.rest();
    half.rest();
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}

/// There are limits without a word in the config.
#[test]
#[ignore = "needs a minute"]
fn silent_connections_are_closed_by_default() {
    let tls = free_port();
    let server = Server::start(&format!(
        "{{\n\tadmin off\n\tskip_install_trust\n\thttps_port {tls}\n\thttp_port {{port}}\n\tservers {{\n\t\tprotocols h1 h2 h2c\n\t}}\n}}\nhttp://localhost {{\n\trespond ok\n}}\nhttps://localhost {{\n\trespond ok\n}}\n"
    ));
    eventually("the TLS port is open", || TcpStream::connect(("127.0.0.1", tls)).is_ok());
    let begin = Instant::now();
    let cases: [(&str, u16, &[u8]); 7] = [
        ("nothing", server.port, b""),
        ("half a line", server.port, b"GET / HT"),
        ("half a head", server.port, b"GET / HTTP/1.1\r\nHost: localhost\r\n"),
        ("half a preface", server.port, b"PRI * HTTP/2.0\r\n\r\nSM"),
        ("a preface without settings", server.port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("nothing of TLS", tls, b""),
        ("half a hello", tls, &[0x16, 3, 1, 2, 0, 1, 0]),
    ];
    let silent = cases.map(|(what, port, bytes)| {
        std::thread::spawn(move || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(bytes).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(80))).unwrap();
            let ended = stream.read_to_end(&mut Vec::new());
            let open = ended.is_err_and(|error| {
                matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
            });
            (what, open, begin.elapsed())
        })
    });
    for one in silent {
        let (what, open, took) = one.join().unwrap();
        assert!(!open && took < Duration::from_secs(75), "{what}: open {open}, {took:?}");
    }
}

fn status(port: u16, bytes: &[u8]) -> u16 {
    let mut wire = Wire::connect(port);
    // The server may refuse before it has read all.
    wire.send(bytes);
    Answer::parse(wire.head().as_bytes()).status
}

#[test]
fn sizes_are_limited() {
    let (upstream, seen) = recorder();
    let mut server = proxy(&upstream);
    let port = server.port;
    let get_with = |more: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{more}\r\n");
    let long = "x".repeat(40_000);
    let many: String = (0..4000).map(|number| format!("X-{number}: 1\r\n")).collect();
    assert_eq!(status(port, get_with(&format!("X: {long}\r\n")).as_bytes()), 431);
    assert_eq!(status(port, get_with(&many).as_bytes()), 431);
    assert_eq!(status(port, get_with(&format!("{long}: x\r\n")).as_bytes()), 431);
    let line = format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(matches!(status(port, line.as_bytes()), 414 | 431));
    let method = format!("{long} / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(matches!(status(port, method.as_bytes()), 400 | 431));
    assert!(seen.lock().unwrap().is_empty());
    let cookie = format!("Cookie: {}\r\nConnection: close\r\n", "x".repeat(8_000));
    assert_eq!(status(port, get_with(&cookie).as_bytes()), 200);
    alive(&mut server);
}

/// Offers one piece without end; how many bytes the server took before it closed.
fn offer(port: u16, start: &str, piece: &[u8], limit: usize) -> usize {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(start.as_bytes()).unwrap();
    let mut sent = 0;
    while sent < limit && stream.write_all(piece).is_ok() {
        sent += piece.len();
    }
    sent
}

#[test]
fn endless_things_end() {
    let (upstream, seen) = recorder();
    let mut server = proxy(&upstream);
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let limit = 64 << 20;
    for (what, start, piece) in [
        ("header", "GET / HTTP/1.1\r\nHost: a\r\nX: ".to_owned(), vec![b'x'; 65536]),
        ("headers", "GET / HTTP/1.1\r\nHost: a\r\n".to_owned(), b"X: y\r\n".repeat(10_000)),
        ("empty lines", String::new(), b"\r\n".repeat(30_000)),
        ("chunk extension", format!("{chunked}5;a="), vec![b'x'; 65536]),
        ("chunk size", format!("{chunked}5"), vec![b'0'; 65536]),
        ("trailer", format!("{chunked}0\r\nX: "), vec![b'x'; 65536]),
        ("trailers", format!("{chunked}0\r\n"), b"X: y\r\n".repeat(10_000)),
        (
            "extensions",
            chunked.to_owned(),
            [b"1;", &[b'x'; 2000][..], b"\r\na\r\n"].concat().repeat(30),
        ),
    ] {
        let sent = offer(server.port, &start, &piece, limit);
        assert!(sent < limit, "{what}: {sent} bytes were taken");
    }
    assert!(seen.lock().unwrap().is_empty(), "{:?}", seen.lock().unwrap());
    alive(&mut server);
}

#[test]
fn malformed_requests_are_refused() {
    let (upstream, seen) = recorder();
    let mut server = proxy(&upstream);
    let post = |more: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{more}\r\n{body}");
    let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
    let get_with = |more: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{more}\r\n");
    let mut cases = vec![
        // Framing that two readers may see differently.
        post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"),
        post("Content-Length: 3, 4\r\n", "abcd"),
        post("Content-Length: +3\r\n", "abc"),
        post("Content-Length: -1\r\n", "abc"),
        post("Content-Length: 0x3\r\n", "abc"),
        post("Content-Length: 3 3\r\n", "abc"),
        post("Content-Length: \r\n", "abc"),
        post("Content-Length: 99999999999999999999\r\n", "abc"),
        post("Content-Length : 3\r\n", "abc"),
        post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"),
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        // Chunks.
        chunked("xyz\r\n"),
        chunked("-1\r\n"),
        chunked("+5\r\nhello\r\n0\r\n\r\n"),
        chunked("0x5\r\nhello\r\n0\r\n\r\n"),
        chunked("5 \r\n\rhello\r\n0\r\n\r\n"),
        chunked("\r\nhello\r\n0\r\n\r\n"),
        chunked("3\r\nabcd\r\n0\r\n\r\n"),
        chunked("3\nabc\r\n0\r\n\r\n"),
        chunked("3\r\nabc0\r\n\r\n"),
        chunked("ffffffffffffffffff\r\nabc\r\n"),
        chunked("7fffffffffffffff\r\nabc\r\n"),
        chunked("3;a\nb\r\nabc\r\n0\r\n\r\n"),
        // Names and values.
        get_with("Bad Name: x\r\n"),
        get_with("Bad\tName: x\r\n"),
        get_with("X\0: x\r\n"),
        get_with("X(): x\r\n"),
        get_with("X\u{e9}: x\r\n"),
        get_with("X: a\0b\r\n"),
        get_with("X: a\x01b\r\n"),
        get_with("no colon\r\n"),
        get_with(": no name\r\n"),
        "GET / HTTP/1.1\r\n X: first\r\nHost: a\r\n\r\n".to_owned(),
        // The request line.
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET no-slash HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET @evil.test/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET / http/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET / HTTP/1.32\r\nHost: a\r\n\r\n".to_owned(),
        "GET / HTTP/4294967297.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(),
        "G{}T / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /\r\n\r\n".to_owned(),
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\rHost: a\r\r".to_owned(),
    ];
    // Host.
    for host in ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nHost: b\r\n"] {
        cases.push(format!("GET / HTTP/1.1\r\n{host}\r\n"));
    }
    for host in ["a b", "a/b", "u@a", "a\0b", "a, b", "a?b", "a:80:90", "a#b"] {
        cases.push(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
    for case in &cases {
        // What follows must not be taken for a request of its own.
        let smuggled = format!("{case}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        for bytes in [case, &smuggled] {
            let status = status(server.port, bytes.as_bytes());
            assert!(matches!(status, 0 | 400..=599), "{status} for {bytes:?}");
            let seen = seen.lock().unwrap();
            assert!(seen.is_empty(), "{bytes:?} became {seen:?}");
        }
    }
    alive(&mut server);
}

#[test]
fn doubtful_requests_become_clear_ones() {
    let (upstream, seen) = recorder();
    let mut server = proxy(&upstream);
    for (raw, body) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nX: one\r\n two\r\n\r\n", ""),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            "hi",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", "hi"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 002\r\n\r\nhi", "hi"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\ntRANSFER-eNCODING: Chunked\r\n\r\n00002;x=y\r\nhi\r\n0\r\nT: x\r\n\r\n",
            "hi",
        ),
        ("GET / HTTP/1.1\nHost: a\n\n", ""),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", ""),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", ""),
        ("GET /#fragment HTTP/1.1\r\nHost: a\r\n\r\n", ""),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \u{e9}\r\n\r\n", ""),
    ] {
        seen.lock().unwrap().clear();
        let status = status(server.port, raw.as_bytes());
        let seen = seen.lock().unwrap();
        match status {
            400 | 501 => assert!(seen.is_empty(), "{raw:?}"),
            200 => {
                assert_eq!(seen.len(), 1, "{raw:?}");
                let (head, sent) = &seen[0];
                assert_eq!(String::from_utf8_lossy(sent), body, "{raw:?}");
                let lines: Vec<_> = head.split("\r\n").collect();
                assert!(!lines[0].contains('#'), "{head:?}");
                for line in &lines {
                    assert!(!line.contains(['\r', '\n']) && !line.starts_with(' '), "{head:?}");
                }
                let framing = |name| head.to_lowercase().matches(name).count();
                let count = framing("\r\ncontent-length:") + framing("\r\ntransfer-encoding:");
                assert!(count <= 1, "{head:?}");
            }
            other => panic!("{other} for {raw:?}"),
        }
    }
    alive(&mut server);
}

#[test]
fn the_host_of_an_absolute_target_counts() {
    let (upstream, seen) = recorder();
    let up = upstream.address();
    let server = Server::start(&format!(
        "http://a.test:{{port}} {{\n\treverse_proxy {up} {{\n\t\theader_up X-Site a\n\t}}\n}}\nhttp://b.test:{{port}} {{\n\treverse_proxy {up} {{\n\t\theader_up X-Site b\n\t}}\n}}\n"
    ));
    let raw = "GET http://a.test/x HTTP/1.1\r\nHost: b.test\r\n\r\n";
    let status = status(server.port, raw.as_bytes());
    let seen = seen.lock().unwrap();
    if status == 200 {
        let head = seen[0].0.to_lowercase();
        assert!(head.starts_with("get /x http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nhost: a.test\r\n") && head.contains("x-site: a\r\n"), "{head}");
        assert!(!head.contains("b.test"), "{head}");
    } else {
        assert_eq!((status, seen.len()), (400, 0));
    }
}

#[test]
fn random_bytes_do_no_harm() {
    let (upstream, _) = recorder();
    let mut server = proxy(&upstream);
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words: &[&[u8]] = &[
        b"GET ",
        b"POST ",
        b"/",
        b" HTTP/1.1",
        b"\r\n",
        b"\n",
        b"\r",
        b"Host: a",
        b"\r\n\r\n",
        b":",
        b"Content-Length: ",
        b"Transfer-Encoding: chunked",
        b"0",
        b"5",
        b"ffff",
        b";",
        b"\0",
        b" ",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c",
        b"Expect: 100-continue",
        b"\xff\xfe",
        b"%2e%2e",
        b"\t",
    ];
    for round in 0..300 {
        let mut bytes = Vec::new();
        for _ in 0..next() % 40 {
            if round % 3 == 0 {
                bytes.extend(next().to_le_bytes());
            } else {
                bytes.extend_from_slice(words[next() as usize % words.len()]);
            }
        }
        let mut wire = Wire::connect(server.port);
        wire.send(&bytes);
        if round % 2 == 0 {
            wire.reset();
        }
    }
    alive(&mut server);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let slow = Upstream::start("slow");
    slow.set_delay(Duration::from_millis(100));
    let server = Server::start(&site_with(&format!(
        "\troute {{\n\t\treverse_proxy /slow {}\n\t\trespond /closed* 403\n\t\trespond {{path}}\n\t}}\n",
        slow.address()
    )));
    let mut raw = String::new();
    for number in 0..300 {
        let path = if number % 100 == 50 { "/slow".to_owned() } else { format!("/{number}") };
        raw.push_str(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
    raw.push_str("GET /closed HTTP/1.1\r\nHost: a\r\n\r\nGARBAGE\r\n\r\nGET /after HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut wire = Wire::connect(server.port);
    wire.send(&raw);
    for number in 0..300 {
        let expected = if number % 100 == 50 { "slow".to_owned() } else { format!("/{number}") };
        assert_eq!(wire.answer().body, expected);
    }
    assert_eq!(wire.answer().status, 403);
    assert_eq!(wire.answer().status, 400);
    assert!(wire.ended(), "nothing is read behind garbage");
}

#[test]
fn a_slow_upstream_or_reader_holds_no_one_up() {
    let (upstream, offered) = endless();
    let stuck = Scripted::start(|wire| {
        wire.request();
        wire.rest();
    });
    let mut server = Server::start(&site_with(&format!(
        "\trespond /fine ok\n\treverse_proxy /endless {}\n\treverse_proxy /stuck {}\n",
        upstream.address(),
        stuck.address()
    )));
    let mut open = Vec::new();
    for _ in 0..40 {
        let mut wire = Wire::connect(server.port);
        wire.send("GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n");
        open.push(wire);
        open.push(Wire::connect(server.port));
    }
    for _ in 0..4 {
        let mut wire = Wire::connect(server.port);
        wire.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n");
        open.push(wire);
    }
    eventually("all are under way", || stuck.connections() == 40 && upstream.connections() == 4);
    for _ in 0..50 {
        let begin = Instant::now();
        assert_eq!(get(server.port, "/fine").body, "ok");
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    }
    // What nobody reads is not taken from the upstream.
    let mut before = usize::MAX;
    eventually("the upstreams are held back", || {
        let now = offered.load(Ordering::SeqCst);
        let still = now == before;
        before = now;
        std::thread::sleep(Duration::from_millis(200));
        still
    });
    assert!(before < 4 * (24 << 20), "{before} bytes were taken");
    drop(open);
    alive(&mut server);
}

/// An upstream whose answers never end, and how many bytes of them it got rid of.
fn endless() -> (Scripted, Arc<AtomicUsize>) {
    let offered = Arc::new(AtomicUsize::new(0));
    let count = offered.clone();
    let upstream = Scripted::start(move |wire| {
        wire.request();
        wire.send("HTTP/1.1 200 OK\r\n\r\n");
        let piece = vec![b'x'; 65536];
        while wire.send(&piece) {
            count.fetch_add(piece.len(), Ordering::SeqCst);
        }
    });
    (upstream, offered)
}

#[test]
fn an_upstream_without_end_is_cut_off() {
    const LIMIT: usize = 64 << 20;
    let ok = "HTTP/1.1 200 OK\r\n";
    let chunked = format!("{ok}Transfer-Encoding: chunked\r\n\r\n");
    let cases = [
        ("status line", "HTTP/1.1 200 ".to_owned(), vec![b'x'; 65536]),
        ("header", format!("{ok}X: "), vec![b'x'; 65536]),
        ("headers", ok.to_owned(), b"X: y\r\n".repeat(10_000)),
        (
            "early hints",
            String::new(),
            b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n".repeat(1000),
        ),
        ("chunk size", format!("{chunked}0"), vec![b'0'; 65536]),
        ("chunk extension", format!("{chunked}1;a="), vec![b'x'; 65536]),
        (
            "extensions",
            chunked.clone(),
            [b"1;", &[b'x'; 2000][..], b"\r\na\r\n"].concat().repeat(30),
        ),
        ("trailer", format!("{chunked}0\r\nX: "), vec![b'x'; 65536]),
        ("trailers", format!("{chunked}0\r\n"), b"X: y\r\n".repeat(10_000)),
    ];
    for (what, start, piece) in cases {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = taken.clone();
        let upstream = Scripted::start(move |wire| {
            wire.request();
            let mut open = wire.send(&start);
            while open && count.fetch_add(piece.len(), Ordering::SeqCst) < LIMIT {
                open = wire.send(&piece);
            }
        });
        let mut server = proxy_without_limits(&upstream);
        let answer =
            send_raw(server.port, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        // Whatever the client saw, it saw no whole answer.
        let answer = String::from_utf8_lossy(&answer.unwrap()).into_owned();
        let status = Answer::parse(answer.rsplit("HTTP/1.1 103").next().unwrap().as_bytes()).status;
        assert!(status == 502 || !answer.ends_with("\r\n0\r\n\r\n"), "{what}: {answer:.300}");
        assert!(taken.load(Ordering::SeqCst) < LIMIT, "{what}: all was taken");
        alive(&mut server);
    }
}

#[test]
fn an_upload_nobody_reads_is_held_back() {
    let release = Arc::new(AtomicBool::new(false));
    let released = release.clone();
    let upstream = Scripted::start(move |wire| {
        wire.head();
        eventually("it may go on", || released.load(Ordering::SeqCst));
        wire.send("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    let mut server = proxy_without_limits(&upstream);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 1u64 << 40);
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let piece = vec![b'x'; 1 << 20];
    let mut sent = 0;
    while sent < 256 && stream.write_all(&piece).is_ok() {
        sent += 1;
    }
    assert!(sent < 64, "{sent} MiB were taken");
    release.store(true, Ordering::SeqCst);
    drop(stream);
    alive(&mut server);
}

fn proxy_without_limits(upstream: &Scripted) -> Server {
    Server::start(&site_with(&format!(
        "\trespond /fine ok\n\treverse_proxy {}\n",
        upstream.address()
    )))
}

#[test]
fn aborted_uploads_leave_nothing_behind() {
    let (upstream, seen) = recorder();
    let mut server = proxy(&upstream);
    for number in 0..60 {
        let mut wire = Wire::connect(server.port);
        wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\npart of it");
        if number % 2 == 0 {
            wire.reset();
        }
    }
    eventually("none is under way", || {
        get(server.admin, "/reverse_proxy/upstreams").body.contains("\"num_requests\":0")
    });
    assert!(seen.lock().unwrap().is_empty());
    alive(&mut server);
}

#[test]
fn absurd_ranges_are_bounded() {
    let folder = scratch();
    std::fs::create_dir(folder.join("site")).unwrap();
    std::fs::write(folder.join("site/file"), "0123456789".repeat(1000)).unwrap();
    std::fs::write(folder.join("site/fine"), "").unwrap();
    let mut server = Server::start_in(folder, &site_with("\troot site\n\tfile_server\n"));
    let many = |one: &str, count: usize| format!("bytes={}", vec![one; count].join(","));
    for range in [
        many("0-", 1000),
        many("0-9999", 500),
        many("1-2", 1500),
        "bytes=18446744073709551615-18446744073709551616".to_owned(),
        "bytes=-99999999999999999999".to_owned(),
        "bytes=9-1".to_owned(),
        "bytes=abc".to_owned(),
        "bytes=,".to_owned(),
        "lines=1-2".to_owned(),
    ] {
        let raw =
            format!("GET /file HTTP/1.1\r\nHost: a\r\nRange: {range}\r\nConnection: close\r\n\r\n");
        let answer = send_raw(server.port, raw.as_bytes()).unwrap();
        // Each small part has a head of its own; their number is bounded by the header's size.
        let bound = if range.starts_with("bytes=1-2,") { 250_000 } else { 40_000 };
        assert!(answer.len() < bound, "{} bytes for {:.40}", answer.len(), range);
        let status = Answer::parse(&answer).status;
        assert!(matches!(status, 200 | 206 | 416), "{status} for {range:.40}");
    }
    alive(&mut server);
}
