//! HTTP/3 to upstreams: against the program's own front, and against upstreams that go wrong.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use quinn::VarInt;

use crate::support::{
    Scripted, Server, Wire, eventually, free_port, get,
    quic_upstream::{Asked, QuicUpstream, data, head, reply, whole},
    request, site_with,
};

/// A server that speaks HTTP/3 on its TLS port, and one that proxies to it.
struct Pair {
    upstream: Server,
    tls: u16,
    root: PathBuf,
    front: Server,
}

fn upstream_text(tls: u16, lines: &str) -> String {
    format!(
        "{{\n\tadmin 127.0.0.1:{{admin}}\n\thttp_port {{port}}\n\thttps_port {tls}\n\
         \tskip_install_trust\n}}\nlocalhost {{\n{lines}}}\n"
    )
}

impl Pair {
    fn start(upstream: &str, block: &str) -> Self {
        let tls = free_port();
        let upstream = Server::start(&upstream_text(tls, upstream));
        let root = upstream.folder.join("data/caddy/pki/authorities/local/root.crt");
        eventually("the authority is there", || root.exists());
        let front = Server::start(&Self::front_text(tls, &root, block));
        Self { upstream, tls, root, front }
    }

    fn front_text(tls: u16, root: &std::path::Path, block: &str) -> String {
        let root = root.display();
        site_with(&format!(
            "\treverse_proxy https://localhost:{tls} {{\n\t\ttransport http {{\n\t\t\tversions 3\n\
             \t\t\ttls_trust_pool file {root}\n{block}\n\t\t}}\n\t}}\n"
        ))
    }
}

fn front(upstream: &QuicUpstream, block: &str, transport: &str) -> Server {
    let address = upstream.address();
    Server::start(&site_with(&format!(
        "\treverse_proxy {address} {{\n\t\ttransport http {{\n\t\t\tversions 3\n\
         \t\t\ttls_insecure_skip_verify\n{transport}\n\t\t}}\n{block}\n\t}}\n"
    )))
}

#[test]
fn many_requests_on_few_connections() {
    let pair = Pair::start(
        "\tlog\n\trespond /facts \"{http.request.proto} {http.request.tls.server_name} {host} \
         {http.request.header.X-Forwarded-Proto} {remote_port}\"\n\trespond /none 204\n",
        "",
    );
    let answer = get(pair.front.port, "/facts");
    assert_eq!(answer.status, 200);
    assert!(answer.body.starts_with("HTTP/3.0 localhost localhost http "), "{}", answer.body);
    assert_eq!(answer.header("via"), Some("3.0 caddis"));
    assert_eq!(get(pair.front.port, "/none").status, 204);
    let head = request(pair.front.port, "HEAD", "/facts", &[], "").unwrap();
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), answer.header("content-length"));
    let clients = (0..8).map(|_| {
        let port = pair.front.port;
        std::thread::spawn(move || {
            let mut wire = Wire::connect(port);
            let mut ports = Vec::new();
            for _ in 0..20 {
                wire.send("GET /facts HTTP/1.1\r\nHost: a\r\n\r\n");
                let answer = wire.answer();
                assert_eq!(answer.status, 200);
                ports.push(answer.body.rsplit(' ').next().unwrap().to_owned());
            }
            ports
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut ports: Vec<String> = clients.into_iter().flat_map(|c| c.join().unwrap()).collect();
    ports.sort();
    ports.dedup();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    assert!(ports.len() <= workers, "a connection for each worker: {ports:?}");
}

#[test]
fn bodies_and_trailers_pass_both_ways() {
    let back = Scripted::start(|wire| {
        while let Some((head, body)) = wire.request() {
            let trailer = head.to_lowercase().contains("x-end: yes");
            let answer = format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Back\r\n\r\n\
                 {:x}\r\n{}\r\n0\r\nX-Back: {trailer}\r\n\r\n",
                body.len(),
                String::from_utf8(body).unwrap(),
            );
            if !wire.send(answer) {
                return;
            }
        }
    });
    let pair = Pair::start(&format!("\treverse_proxy {}\n", back.address()), "");
    let long = "x".repeat(3_000_000);
    let known = request(pair.front.port, "POST", "/", &[], &long).unwrap();
    assert_eq!((known.status, known.body.matches('x').count()), (200, long.len()));
    let mut wire = Wire::connect(pair.front.port);
    wire.send(
        "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-End\r\n\r\n3\r\nabc\r\n0\r\nX-End: yes\r\n\r\n",
    );
    let head = wire.head().to_lowercase();
    assert!(head.contains("trailer: x-back"), "{head}");
    assert_eq!(wire.chunk().unwrap(), b"abc");
    assert_eq!(wire.chunk().unwrap(), b"");
    assert_eq!(wire.until("\r\n\r\n"), "X-Back: true\r\n\r\n");
}

#[test]
fn the_body_goes_on_while_the_answer_comes() {
    let upstream = QuicUpstream::start(100, |asked| {
        let Asked { mut send, mut recv, .. } = asked;
        Box::pin(async move {
            // An answer without a length, which echoes piece by piece.
            send.write_all(&[1, 3, 0, 0, 0xd9]).await.ok()?;
            let mut seen = Vec::new();
            for piece in ["one", "two"] {
                while !String::from_utf8_lossy(&seen).contains(piece) {
                    seen.extend_from_slice(&recv.read_chunk(1024, true).await.ok()??.bytes);
                }
                send.write_all(&data(piece)).await.ok()?;
            }
            whole(&mut recv).await;
            send.finish().ok()
        })
    });
    let server = front(&upstream, "\t\tflush_interval -1", "");
    let mut wire = Wire::connect(server.port);
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
    assert!(wire.head().starts_with("HTTP/1.1 200"));
    assert_eq!(wire.chunk().unwrap(), b"one");
    wire.send("3\r\ntwo\r\n");
    assert_eq!(wire.chunk().unwrap(), b"two");
    wire.send("0\r\n\r\n");
    assert_eq!(wire.chunk().unwrap(), b"");
}

#[test]
fn what_was_not_taken_is_sent_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let upstream = QuicUpstream::start(100, move |asked| {
        count.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let Asked { connection, stream, control, mut send, mut recv, .. } = asked;
            match (connection, stream) {
                (_, 0) => {
                    whole(&mut recv).await;
                    reply(&mut send, "taken").await
                }
                // GOAWAY: from this stream on nothing is answered.
                (0, _) => {
                    control.lock().await.write_all(&[7, 1, 4]).await.ok()?;
                    std::future::pending().await
                }
                _ => send.reset(VarInt::from_u32(0x10b)).ok(),
            }
        })
    });
    let server = Server::start(&format!(
        "{{\n\tadmin off\n\tlog {{\n\t\tlevel DEBUG\n\t}}\n}}\n{}",
        site_with(&format!(
            "\treverse_proxy {} {{\n\t\ttransport http {{\n\t\t\tversions 3\n\
             \t\t\ttls_insecure_skip_verify\n\t\t}}\n\t}}\n",
            upstream.address()
        ))
    ));
    let mut wire = Wire::connect(server.port);
    for at in 0..3 {
        // Not idempotent: only what was surely not taken may be sent again.
        wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        let answer = wire.answer();
        assert_eq!((answer.status, answer.body.as_str()), (200, "taken"), "{at}");
    }
    assert_eq!((upstream.connections(), asked.load(Ordering::SeqCst)), (3, 5));
}

#[test]
fn a_new_connection_may_refuse_once() {
    let upstream = QuicUpstream::start(100, |asked| {
        let Asked { connection, mut send, mut recv, .. } = asked;
        Box::pin(async move {
            if connection == 1 {
                whole(&mut recv).await;
                return reply(&mut send, "taken").await;
            }
            send.reset(VarInt::from_u32(0x10b)).ok()
        })
    });
    let server = front(&upstream, "", "");
    let mut wire = Wire::connect(server.port);
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(wire.answer().body, "taken");
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn another_connection_where_one_is_full() {
    let upstream = QuicUpstream::start(1, |asked| {
        let Asked { mut send, mut recv, .. } = asked;
        Box::pin(async move {
            let target = String::from_utf8_lossy(&whole(&mut recv).await).into_owned();
            if target.contains("/slow") {
                tokio::time::sleep(Duration::from_secs(600)).await;
            }
            reply(&mut send, "ok").await
        })
    });
    let server = front(&upstream, "", "");
    let mut slow: Vec<_> = (0..3).map(|_| Wire::connect(server.port)).collect();
    for (at, wire) in slow.iter_mut().enumerate() {
        wire.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually("it has a connection of its own", || upstream.connections() > at);
    }
    assert_eq!(get(server.port, "/quick").status, 200);
}

#[test]
fn wrong_answers_are_none() {
    let upstream = QuicUpstream::start(100, |asked| {
        let Asked { mut send, mut recv, quic, .. } = asked;
        Box::pin(async move {
            let request = whole(&mut recv).await;
            let asks = |path: &str| request.windows(path.len()).any(|w| w == path.as_bytes());
            if asks("/no-status") {
                send.write_all(&[1, 2, 0, 0]).await.ok()?;
                return send.finish().ok();
            } else if asks("/dynamic") {
                send.write_all(&[1, 3, 2, 0, 0x80]).await.ok()?;
            } else if asks("/data-first") {
                send.write_all(&data("x")).await.ok()?;
            } else if asks("/short") {
                send.write_all(&head(9)).await.ok()?;
                send.write_all(&data("short")).await.ok()?;
                return send.finish().ok();
            } else if asks("/reset") {
                return send.reset(VarInt::from_u32(0x102)).ok();
            } else if asks("/close") {
                quic.close(VarInt::from_u32(0x102), b"enough");
                return None;
            } else if asks("/half") {
                send.write_all(&head(9)).await.ok()?;
                send.write_all(&data("half")).await.ok()?;
                quic.close(VarInt::from_u32(0x102), b"enough");
                return None;
            } else if asks("/never") {
                tokio::time::sleep(Duration::from_secs(600)).await;
            } else if asks("/early") {
                // 103 with a field, and then the answer.
                send.write_all(b"\x01\x0d\0\0\xd8\x24link\x04hint").await.ok()?;
                return reply(&mut send, "late").await;
            } else {
                return reply(&mut send, "fine").await;
            }
            tokio::time::sleep(Duration::from_secs(600)).await;
            None
        })
    });
    let mut server = front(&upstream, "", "\t\t\tresponse_header_timeout 300ms");
    for target in ["/no-status", "/dynamic", "/data-first", "/reset", "/close"] {
        assert_eq!(get(server.port, target).status, 502, "{target}");
        assert_eq!(get(server.port, "/fine").body, "fine", "after {target}");
    }
    let began = Instant::now();
    assert_eq!(get(server.port, "/never").status, 504);
    assert!(began.elapsed() >= Duration::from_millis(300));
    for target in ["/short", "/half"] {
        let mut wire = Wire::connect(server.port);
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let head = wire.head();
        let whole = wire.rest().len() >= 9;
        assert!(head.contains("502") || head.contains("200") && !whole, "{target}: {head}");
    }
    let mut wire = Wire::connect(server.port);
    wire.send("GET /early HTTP/1.1\r\nHost: a\r\n\r\n");
    let hint = wire.head().to_lowercase();
    assert!(hint.contains(" 103 ") && hint.contains("link: hint"), "{hint}");
    assert_eq!(wire.answer().body, "late");
    assert!(matches!(server.child.try_wait(), Ok(None)), "{}", server.log());
    assert!(!server.log().contains("panic"), "{}", server.log());
}

#[test]
fn who_is_not_there_is_known_at_once() {
    let pair = Pair::start("\trespond there\n", "");
    let (tls, nobody) = (pair.tls, free_port());
    let server = Server::start(&site_with(&format!(
        "\treverse_proxy https://localhost:{nobody} https://localhost:{tls} {{\n\
         \t\tlb_policy first\n\t\tlb_retries 1\n\t\ttransport http {{\n\t\t\tversions 3\n\
         \t\t\ttls_insecure_skip_verify\n\t\t\tdial_timeout 1m\n\t\t}}\n\t}}\n",
    )));
    assert_eq!(get(server.port, "/").body, "there");
    let untrusting = Server::start(&Pair::front_text(tls, &pair.root, "\t\t\ttls_server_name x.y"));
    assert_eq!(get(untrusting.port, "/").status, 502);
    eventually("it says why", || untrusting.log().contains("certificate"));
}

#[test]
fn an_upstream_that_came_back_is_found() {
    // So long it takes to find that it is gone, and so long the next handshake may take.
    let mut pair = Pair::start("\trespond first\n", "\t\t\tdial_timeout 4s");
    assert_eq!(get(pair.front.port, "/").body, "first");
    // Gone without a word, and back with no memory of the connection.
    pair.upstream.child.kill().unwrap();
    pair.upstream.child.wait().unwrap();
    let text = upstream_text(pair.tls, "\trespond second\n");
    let folder = pair.upstream.folder.clone();
    let again = Server::start_in(folder, &text);
    assert_eq!(get(pair.front.port, "/").body, "second");
    drop(again);
}

#[test]
fn a_reload_of_the_upstream_loses_nothing() {
    let pair = Pair::start("\trespond first\n", "");
    let port = pair.front.port;
    let stop = Arc::new(AtomicUsize::new(0));
    let stopped = stop.clone();
    let client = std::thread::spawn(move || {
        let mut wire = Wire::connect(port);
        let mut last = String::new();
        while stopped.load(Ordering::SeqCst) == 0 || last != "second" {
            wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
            let answer = wire.answer();
            assert_eq!(answer.status, 200, "{answer:?}");
            last = answer.body;
        }
    });
    // Another TLS setting ends the connections of the one before.
    let lines = "\ttls internal {\n\t\tcurves x25519\n\t}\n\trespond second\n";
    let (ok, said) = pair.upstream.reload(&upstream_text(pair.tls, lines));
    assert!(ok, "{said}");
    stop.store(1, Ordering::SeqCst);
    client.join().unwrap();
    // A reload of the front keeps the connection.
    let ports = |at: &str| get(port, at).body;
    assert_eq!(ports("/"), "second");
}

#[test]
fn connections_survive_a_reload_and_belong_to_one_handler() {
    let upstream = QuicUpstream::start(100, |asked| {
        let Asked { mut send, mut recv, connection, .. } = asked;
        Box::pin(async move {
            whole(&mut recv).await;
            reply(&mut send, &connection.to_string()).await
        })
    });
    let text = |body: &str| {
        let proxy = format!(
            "reverse_proxy {} {{\n\t\t\ttransport http {{\n\t\t\t\tversions 3\n\
             \t\t\t\ttls_insecure_skip_verify\n\t\t\t}}\n\t\t}}\n",
            upstream.address()
        );
        site_with(&format!(
            "\thandle /a* {{\n\t\t{proxy}\t}}\n\thandle /b* {{\n\t\t{proxy}\t}}\n\trespond {body}\n"
        ))
    };
    let server = Server::start(&text("one"));
    let mut wire = Wire::connect(server.port);
    let mut ask = |path: &str| {
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        wire.answer().body
    };
    let (a, b) = (ask("/a"), ask("/b"));
    assert_ne!(a, b, "each handler has its own");
    let (ok, said) = server.reload(&text("two"));
    assert!(ok, "{said}");
    eventually("the new config serves", || ask("/x") == "two");
    assert_eq!((ask("/a"), ask("/b")), (a, b));
}

#[test]
fn without_tls_there_is_no_http3() {
    let server = Server::start(&site_with(
        "\treverse_proxy 127.0.0.1:1 {\n\t\ttransport http {\n\t\t\tversions 3\n\t\t}\n\t}\n",
    ));
    assert_eq!(get(server.port, "/").status, 502);
    eventually("it says why", || server.log().contains("unsupported protocol scheme"));
}

#[test]
fn the_client_may_leave() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = ended.clone();
    let upstream = QuicUpstream::start(100, move |asked| {
        let count = count.clone();
        let Asked { mut send, .. } = asked;
        Box::pin(async move {
            send.write_all(&[1, 3, 0, 0, 0xd9]).await.ok()?;
            loop {
                if send.write_all(&data("more")).await.is_err() {
                    count.fetch_add(1, Ordering::SeqCst);
                    return None;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    });
    let server = front(&upstream, "", "");
    let mut wire = Wire::connect(server.port);
    wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(wire.head().contains("200"));
    assert!(wire.chunk().unwrap().starts_with(b"more"));
    drop(wire);
    eventually("the upstream is told", || ended.load(Ordering::SeqCst) == 1);
}
