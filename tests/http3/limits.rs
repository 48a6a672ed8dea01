//! What greedy, slow and leaving clients of HTTP/3 may take, and what is left behind: nothing.

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use quinn::VarInt;

use super::{
    Site, block_on,
    raw::{GET, closed_with, exchange, frame, headers},
};
use crate::support::{
    Scripted, eventually, ok,
    quic::{Options, dial},
};

const METRICS: &str = "\tmetrics\n";
const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "https"), (":authority", "localhost"), (":path", "/")];

fn to(method: &'static str, path: &'static str) -> Vec<u8> {
    headers(&[(":method", method), GET[1], GET[2], (":path", path)])
}

fn proxy(upstream: &Scripted) -> Site {
    Site::start_with(
        METRICS,
        &format!("\trespond /fine ok\n\treverse_proxy {}\n", upstream.address()),
    )
}

async fn connect(site: &Site) -> (quinn::Endpoint, quinn::Connection) {
    dial(site.tls, "localhost", &site.root, &Options::default()).await.unwrap()
}

impl Site {
    /// Others are served at once.
    async fn serves(&mut self) {
        let begin = Instant::now();
        let mut client = self.connect().await;
        assert_eq!(client.get(&self.uri("/fine")).await.unwrap().text(), "ok");
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
        self.no_panic();
    }
}

/// Short on the wire, long in memory: the limit of a head is for what it means.
#[test]
fn field_sections_are_limited() {
    let upstream = Scripted::fixed(ok("up"));
    let mut site = proxy(&upstream);
    block_on(async {
        let (_endpoint, connection) = connect(&site).await;
        // `content-security-policy` with a long value, in two bytes.
        let mut section = headers(&GET)[5..].to_vec();
        section.extend([0xff, 85 - 63].repeat(4000));
        let answer = exchange(&connection, &frame(1, &section), true).await;
        assert!(
            answer.as_ref().map_or(true, |answer| answer.windows(3).any(|part| part == b"431")),
            "{answer:?}"
        );
        // And for trailers.
        let long = "x".repeat(30_000);
        let all = [headers(&POST), frame(0, b"body"), headers(&[("a", &long)])].concat();
        let answer = exchange(&connection, &all, true).await;
        assert!(
            answer.as_ref().map_or(true, |answer| !answer.windows(2).any(|part| part == b"up")),
            "{answer:?}"
        );
        assert!(connection.close_reason().is_none());
        site.serves().await;
    });
    site.server.nothing_in_flight();
}

/// Heads that never end take a place on their connection, for as long as a head may take.
#[test]
fn unfinished_heads_are_cut_off() {
    let upstream = Scripted::fixed(ok("up"));
    let globals = "\tmetrics\n\tservers {\n\t\ttimeouts {\n\t\t\tread_header 1s\n\t\t}\n\t}\n";
    let lines = format!("\trespond /fine ok\n\treverse_proxy {}\n", upstream.address());
    let mut site = Site::start_with(globals, &lines);
    block_on(async {
        let (_endpoint, connection) = connect(&site).await;
        let head = headers(&GET);
        let mut open = Vec::new();
        loop {
            let stream = tokio::time::timeout(Duration::from_millis(500), connection.open_bi());
            let Ok(stream) = stream.await else { break };
            let (mut send, recv) = stream.unwrap();
            send.write_all(&head[..head.len() - open.len() % 30 - 1]).await.unwrap();
            open.push((send, recv));
            assert!(open.len() <= 1000, "there is no limit of streams");
            if open.len() == 90 {
                break;
            }
        }
        site.serves().await;
        for (_, recv) in &mut open {
            let reset = recv.received_reset().await.unwrap();
            assert_eq!(reset.map(VarInt::into_inner), Some(0x10c));
        }
        drop(open);
        // There is room again.
        let answer = exchange(&connection, &to("GET", "/fine"), true).await.unwrap();
        assert!(answer.ends_with(b"ok"), "{answer:?}");
    });
}

/// Streams of kinds that nobody knows are turned away, however many come.
#[test]
fn unknown_streams_are_turned_away() {
    let upstream = Scripted::fixed(ok("up"));
    let mut site = proxy(&upstream);
    block_on(async {
        site.serves().await;
        let before = site.server.memory();
        for _ in 0..3 {
            let (_endpoint, connection) = connect(&site).await;
            let mut sent = 0;
            for _ in 0..1000 {
                let open = tokio::time::timeout(Duration::from_secs(2), connection.open_uni());
                let Ok(Ok(mut stream)) = open.await else { break };
                let _ = stream.write_all(&[&[0x21][..], &[7; 500]].concat()).await;
                let _ = stream.finish();
                sent += 1;
            }
            assert!(sent >= 8, "{sent}");
            site.serves().await;
        }
        let grown = site.server.memory().saturating_sub(before);
        assert!(grown < 48, "{grown} MiB");
    });
}

/// A control stream may say much that means nothing, and nothing that is too long.
#[test]
fn control_streams_are_bounded() {
    let upstream = Scripted::fixed(ok("up"));
    let mut site = proxy(&upstream);
    let settings = frame(4, &[]);
    let start = [&[0][..], &settings].concat();
    block_on(async {
        site.serves().await;
        let before = site.server.memory();
        // Settings without end.
        let (_endpoint, connection) = connect(&site).await;
        let mut control = connection.open_uni().await.unwrap();
        let long = [&[0][..], &frame(4, &[0x21; 10_000])].concat();
        control.write_all(&long).await.unwrap();
        assert_eq!(closed_with(&connection).await, 0x107);
        for piece in [frame(0x21, &[1; 10]), frame(0x21, &[]), frame(3, &[0x3f])] {
            let (_endpoint, connection) = connect(&site).await;
            let mut control = connection.open_uni().await.unwrap();
            control.write_all(&start).await.unwrap();
            let pieces = piece.repeat(1000);
            for _ in 0..50 {
                let write =
                    tokio::time::timeout(Duration::from_secs(3), control.write_all(&pieces));
                if !matches!(write.await, Ok(Ok(()))) {
                    break;
                }
            }
            site.serves().await;
        }
        let grown = site.server.memory().saturating_sub(before);
        assert!(grown < 48, "{grown} MiB");
    });
}

/// Requests that are given up at once leave nothing under way.
#[test]
fn resets_are_bounded() {
    let stuck = Scripted::start(|wire| {
        while wire.request().is_some() {
            wire.rest();
        }
    });
    let mut site = proxy(&stuck);
    block_on(async {
        site.serves().await;
        let before = site.server.memory();
        let (_endpoint, connection) = connect(&site).await;
        let mut sent = 0;
        for number in 0..3000 {
            let open = tokio::time::timeout(Duration::from_secs(3), connection.open_bi());
            let Ok(Ok((mut send, mut recv))) = open.await else { break };
            let _ = send.write_all(&headers(if number % 2 == 0 { &GET } else { &POST })).await;
            let _ = send.reset(VarInt::from_u32(0x10c));
            let _ = recv.stop(VarInt::from_u32(0x10c));
            sent += 1;
        }
        assert!(sent > 100, "{sent}");
        site.serves().await;
        let grown = site.server.memory().saturating_sub(before);
        assert!(grown < 64, "{grown} MiB after {sent} requests");
    });
    site.server.nothing_in_flight();
}

/// A client that leaves in whatever phase ends the work for it.
#[test]
fn leaving_ends_the_work_in_every_phase() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 1000000\r\n\r\n";
    let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let whole = Arc::new(AtomicUsize::new(0));
    let (begin, end, full) = (begun.clone(), ended.clone(), whole.clone());
    let upstream = Scripted::start(move |wire| {
        let head = wire.head();
        begin.fetch_add(1, Ordering::SeqCst);
        if head.contains(" /head") {
            wire.send(HEAD);
        } else if head.contains(" /body") {
            wire.send(HEAD);
            wire.send(vec![b'x'; 100_000]);
        } else if head.contains(" /hints") {
            wire.send("HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n");
        }
        let rest = wire.rest();
        if rest.ends_with(b"0\r\n\r\n") {
            full.fetch_add(1, Ordering::SeqCst);
        }
        end.fetch_add(1, Ordering::SeqCst);
    });
    let mut site = proxy(&upstream);
    block_on(async {
        let until = |what: String, counter: Arc<AtomicUsize>, count: usize| async move {
            let end = Instant::now() + Duration::from_secs(10);
            while counter.load(Ordering::SeqCst) != count {
                assert!(Instant::now() < end, "{what}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let mut count = 0;
        for round in 0..3 {
            for (method, path) in [
                ("GET", "/wait"),
                ("GET", "/head"),
                ("GET", "/body"),
                ("GET", "/hints"),
                ("POST", "/upload"),
                ("POST", "/head"),
            ] {
                count += 1;
                let (_endpoint, connection) = connect(&site).await;
                let (mut send, mut recv) = connection.open_bi().await.unwrap();
                send.write_all(&to(method, path)).await.unwrap();
                if method == "POST" {
                    send.write_all(&frame(0, b"part")).await.unwrap();
                } else {
                    send.finish().unwrap();
                }
                until(format!("{path} is under way"), begun.clone(), count).await;
                if path != "/wait" && path != "/upload" {
                    recv.read_exact(&mut [0; 2]).await.unwrap();
                }
                match round {
                    0 => {
                        let _ = send.reset(VarInt::from_u32(0x10c));
                        let _ = recv.stop(VarInt::from_u32(0x10c));
                    }
                    1 => connection.close(VarInt::from_u32(0x100), b""),
                    // Whatever the code says.
                    _ => {
                        let _ = send.reset(VarInt::from_u32(0x100));
                        let _ = recv.stop(VarInt::from_u32(0x100));
                    }
                }
                until(format!("{method} {path}, round {round}"), ended.clone(), count).await;
            }
        }
        assert_eq!(whole.load(Ordering::SeqCst), 0);
        site.serves().await;
    });
    site.server.nothing_in_flight();
}

/// Bytes in frames of their own, and frames of nothing, are one body.
#[test]
fn small_frames_are_one_body() {
    let go = Arc::new(AtomicBool::new(false));
    let going = go.clone();
    let upstream = Scripted::start(move |wire| {
        let head = wire.head();
        if head.contains(" /stuck") {
            eventually("it may go on", || going.load(Ordering::SeqCst));
        }
        let mut count = 0;
        while let Some(chunk) = wire.chunk() {
            count += chunk.len();
            if chunk.is_empty() {
                break;
            }
        }
        wire.send(ok(&count.to_string()));
    });
    let mut site = proxy(&upstream);
    let small = [frame(0, b"x"), frame(0, b"")].concat();
    block_on(async {
        let (_endpoint, connection) = connect(&site).await;
        for path in ["/prompt", "/stuck"] {
            let (mut send, mut recv) = connection.open_bi().await.unwrap();
            send.write_all(&to("POST", path)).await.unwrap();
            for _ in 0..100 {
                send.write_all(&small.repeat(100)).await.unwrap();
            }
            go.store(true, Ordering::SeqCst);
            send.finish().unwrap();
            let answer = recv.read_to_end(1 << 20).await.unwrap();
            assert!(answer.ends_with(b"10000"), "{answer:?}");
        }
        site.serves().await;
    });
    site.server.nothing_in_flight();
}

/// Informational answers reach the client, up to a number; then the upstream is at fault.
#[test]
fn informational_answers_are_limited() {
    let upstream = Scripted::start(|wire| {
        while let Some((head, _)) = wire.request() {
            let count = if head.contains(" /few") { 50 } else { 5000 };
            let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n";
            wire.send(hint.repeat(count) + &ok("up"));
        }
    });
    let mut site = proxy(&upstream);
    block_on(async {
        let (_endpoint, connection) = connect(&site).await;
        let few = exchange(&connection, &to("GET", "/few"), true).await.unwrap();
        assert_eq!(few.windows(5).filter(|part| part == b"a.css").count(), 50);
        assert!(few.ends_with(b"up"));
        let many = exchange(&connection, &to("GET", "/many"), true).await.unwrap();
        assert!(many.windows(5).filter(|part| part == b"a.css").count() <= 200);
        assert!(many.windows(3).any(|part| part == b"502") && !many.ends_with(b"up"));
        site.serves().await;
    });
    site.server.nothing_in_flight();
}

/// An answer whose upstream broke ends with a reset.
#[test]
fn a_broken_answer_does_not_look_whole() {
    let upstream = Scripted::start(|wire| {
        let head = wire.head();
        wire.send(if head.contains(" /chunked") {
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"
        } else {
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"
        });
    });
    let mut site = proxy(&upstream);
    block_on(async {
        let (_endpoint, connection) = connect(&site).await;
        for path in ["/chunked", "/length"] {
            let answer = exchange(&connection, &to("GET", path), true).await;
            assert_eq!(answer, Err(Some(0x102)), "{path}");
        }
        site.serves().await;
    });
    site.server.nothing_in_flight();
}

/// A version that nobody speaks is answered with the one that is spoken, where the datagram is long
/// enough to be answered (RFC 9000 §6).
#[test]
fn versions_are_negotiated() {
    let site = Site::start("\trespond hi\n");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    socket.connect(("127.0.0.1", site.tls)).unwrap();
    let mut buffer = [0; 2000];
    let mut ask = |length: usize, version: [u8; 4]| {
        let mut datagram = vec![0xc0];
        datagram.extend(version);
        datagram.extend([8, 1, 2, 3, 4, 5, 6, 7, 8, 4, 9, 9, 9, 9]);
        datagram.resize(length, 0);
        socket.send(&datagram).unwrap();
        socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())
    };
    for version in [[0x0a, 0x1a, 0x2a, 0x3a], [0xff, 0, 0, 29], [0x6b, 0x33, 0x43, 0xcf]] {
        let answer = ask(1200, version).expect("an answer");
        assert_eq!((answer[0] & 0x80, &answer[1..5]), (0x80, &[0; 4][..]), "{answer:?}");
        // Their connection ids the other way round.
        assert_eq!(&answer[5..10], &[4, 9, 9, 9, 9]);
        assert_eq!(&answer[10..19], &[8, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(answer[19..].chunks(4).any(|version| version == [0, 0, 0, 1]), "{answer:?}");
        assert!(answer.len() < 100, "{}", answer.len());
    }
    assert_eq!(ask(200, [0x0a, 0x1a, 0x2a, 0x3a]), None, "a short one is not worth an answer");
}

/// An address that has proved nothing gets no more than three times what came from there (RFC 9000
/// §8.1), however long it stays silent.
#[test]
fn unproved_addresses_get_little() {
    let site = Site::start("\trespond hi\n");
    let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
    relay.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let port = relay.local_addr().unwrap().port();
    let root = site.root.clone();
    // Its first datagrams are all that the server gets to see.
    let client = std::thread::spawn(move || {
        block_on(async {
            let options = Options::default();
            let dialled = dial(port, "localhost", &root, &options);
            let _ = tokio::time::timeout(Duration::from_secs(2), dialled).await;
        });
    });
    let mut buffer = [0; 2000];
    let first = relay.recv(&mut buffer).unwrap();
    let spoofed = UdpSocket::bind("127.0.0.1:0").unwrap();
    spoofed.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
    spoofed.connect(("127.0.0.1", site.tls)).unwrap();
    spoofed.send(&buffer[..first]).unwrap();
    let mut got = 0;
    while let Ok(length) = spoofed.recv(&mut buffer) {
        got += length;
    }
    client.join().unwrap();
    assert!(got > 0, "there was an answer");
    assert!(got <= 3 * first, "{got} bytes for {first}");
}
