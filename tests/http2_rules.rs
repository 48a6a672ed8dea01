//! HTTP/2 rule by rule: what each broken one is answered with, what comes through to the upstream,
//! and what a client gets beside whole answers.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;

use crate::support::{
    Scripted, Server, Upstream, Wire, eventually,
    frames::{
        DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
        WINDOW_UPDATE, frame, request_fields,
    },
    get, ok, site_with,
};

pub type Seen = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

pub const OPEN: u8 = END_HEADERS;
pub const WHOLE: u8 = END_HEADERS | END_STREAM;

/// A site with these lines that speaks HTTP/2 in clear text too.
fn clear_text(more: &str, lines: &str) -> Server {
    let servers = format!("\tservers {{\n\t\tprotocols h1 h2 h2c\n{more}\t}}\n");
    Server::start(&format!("{{\n\tadmin 127.0.0.1:{{admin}}\n{servers}}}\n{}", site_with(lines)))
}

/// A site that hands all but `/fine` and `/admin` to an upstream that keeps requests.
pub fn serve() -> (Server, Seen, Scripted) {
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
    let lines = format!(
        "\trespond /fine ok\n\trespond /admin* no 403\n\treverse_proxy {}\n",
        upstream.address()
    );
    (clear_text("", &lines), seen, upstream)
}

pub fn alive(server: &mut Server) {
    let mut frames = Frames::connect(server.port, &[]);
    frames.get(1, "/fine");
    assert_eq!(frames.answer(1).unwrap(), (200, b"ok".to_vec()));
    assert!(matches!(server.child.try_wait(), Ok(None)));
    assert!(!server.log().contains("panic"), "{}", server.log());
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), future).await.unwrap() })
}

async fn connect(port: u16) -> h2::client::SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender.ready().await.unwrap()
}

/// Fields as literals, of any bytes.
fn literals(all: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in all {
        block.push(0);
        for text in [name, value] {
            block.push(text.len() as u8);
            block.extend(*text);
        }
    }
    block
}

/// What is allowed comes through, once and whole.
#[test]
fn proper_requests_come_through() {
    let (server, seen, _upstream) = serve();
    let mut frames = Frames::connect(server.port, &[]);
    frames.send(HEADERS, WHOLE, 1, &request_fields("GET", "/one", &[("te", "trailers")]));
    assert_eq!(frames.answer(1).unwrap().0, 200);
    for (stream, more) in [(3, &[][..]), (5, &[("content-length", "5")][..])] {
        frames.send(HEADERS, OPEN, stream, &request_fields("POST", "/two", more));
        frames.send(DATA, 0, stream, b"he");
        frames.send(DATA, END_STREAM, stream, b"llo");
        assert_eq!(frames.answer(stream).unwrap().0, 200);
    }
    let seen = seen.lock().unwrap();
    let bodies: Vec<_> = seen.iter().map(|(_, body)| body.as_slice()).collect();
    assert_eq!(bodies, [&b""[..], b"hello", b"hello"]);
    assert!(seen[2].0.to_lowercase().contains("\r\ncontent-length: 5\r\n"), "{}", seen[2].0);
}

/// What two readers could see differently is refused, or comes through in one way.
#[test]
fn odd_requests_are_refused_or_become_clear() {
    let (mut server, seen, _upstream) = serve();
    let authority = (&b":authority"[..], &b"localhost"[..]);
    let scheme = (&b":scheme"[..], &b"http"[..]);
    let target = |path: &'static [u8]| {
        literals(&[(b":method", b"GET"), scheme, authority, (b":path", path)])
    };
    let with = |name: &'static [u8], value: &'static [u8]| {
        literals(&[(b":method", b"GET"), scheme, authority, (b":path", b"/"), (name, value)])
    };
    let refused = [
        ("CR in a value", with(b"x", b"a\rb")),
        ("a name beyond ASCII", with("n\u{e4}me".as_bytes(), b"a")),
        ("a second :authority", with(b":authority", b"evil.test")),
        ("a query without a path", target(b"?q")),
        // The codec ends the connection for it, where RFC 9113 §8.1.1 wants the stream alone ended.
        ("a path beyond UTF-8", target(b"/caf\xe9")),
        (
            "another scheme",
            literals(&[(b":method", b"GET"), (b":scheme", b"ftp"), authority, (b":path", b"/")]),
        ),
    ];
    let clear = [
        ("a space in the path", target(b"/a b")),
        ("an absolute target", target(b"http://evil.test/admin")),
        ("a fragment", target(b"/a#admin")),
        ("a path that begins with two slashes", target(b"//evil.test/x")),
        ("an ACL met in upper case", target(b"/ADMIN/x")),
        (
            "extended CONNECT to a protocol nobody knows",
            literals(&[
                (b":method", b"CONNECT"),
                (b":protocol", b"unknown"),
                scheme,
                authority,
                (b":path", b"/"),
            ]),
        ),
        ("CONNECT", literals(&[(b":method", b"CONNECT"), (b":authority", b"evil.test:80")])),
    ];
    for (refused, (what, block)) in
        refused.iter().map(|one| (true, one)).chain(clear.iter().map(|one| (false, one)))
    {
        let mut frames = Frames::connect(server.port, &[]);
        frames.send(HEADERS, WHOLE, 1, block);
        let answer = frames.answer(1);
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        if refused {
            assert!(answer.as_ref().is_none_or(|(status, _)| status / 100 == 4), "{what}");
            assert!(seen.is_empty(), "{what}: {seen:?}");
        }
        assert!(seen.len() <= 1, "{what}: {seen:?}");
        for (head, body) in seen {
            let line = head.lines().next().unwrap();
            assert_eq!(line.split(' ').count(), 3, "{what}: {head}");
            assert!(!line.contains('#') && !line.contains("evil.test/admin"), "{what}: {head}");
            assert_eq!(head.to_lowercase().matches("\r\nhost:").count(), 1, "{what}: {head}");
            assert!(!line.to_lowercase().contains(" /admin"), "{what}: {head}");
            assert!(body.is_empty(), "{what}: {body:?}");
        }
    }
    alive(&mut server);
}

pub const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;

/// The codes of RFC 9113; where it ends the stream alone, ending the connection is right, too.
#[test]
fn each_broken_rule_has_its_code() {
    let (mut server, seen, _upstream) = serve();
    let open = frame(HEADERS, OPEN, 1, &request_fields("POST", "/", &[]));
    let after = |piece: Vec<u8>| [open.clone(), piece].concat();
    let second = frame(HEADERS, WHOLE, 5, &request_fields("GET", "/fine", &[]));
    let lower = frame(HEADERS, WHOLE, 3, &request_fields("GET", "/", &[]));
    let cases: Vec<(&str, Vec<u8>, &[u32])> = vec![
        (
            "a window above 2^31-1",
            frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]),
            &[FLOW_CONTROL_ERROR],
        ),
        (
            "the connection's window overflows",
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            &[FLOW_CONTROL_ERROR],
        ),
        (
            "a stream's window overflows",
            after(frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])),
            &[FLOW_CONTROL_ERROR],
        ),
        (
            "a stream's window grows by nothing",
            after(frame(WINDOW_UPDATE, 0, 1, &[0; 4])),
            &[PROTOCOL_ERROR],
        ),
        ("a stream below one before", [second, lower].concat(), &[PROTOCOL_ERROR, STREAM_CLOSED]),
        ("padding longer than the frame", after(frame(DATA, 8, 1, &[200, 1])), &[PROTOCOL_ERROR]),
        ("SETTINGS of a wrong size", frame(SETTINGS, 0, 0, &[0, 1, 0]), &[FRAME_SIZE_ERROR]),
        (
            "SETTINGS that acknowledge with a payload",
            frame(SETTINGS, 1, 0, &[0, 1, 0, 0, 0, 0]),
            &[FRAME_SIZE_ERROR],
        ),
        ("PING of a wrong size", frame(PING, 0, 0, &[0; 7]), &[FRAME_SIZE_ERROR]),
        ("WINDOW_UPDATE of a wrong size", frame(WINDOW_UPDATE, 0, 0, &[1; 3]), &[FRAME_SIZE_ERROR]),
        (
            "RST_STREAM of a wrong size",
            after(frame(RST_STREAM, 0, 1, &[0; 3])),
            &[FRAME_SIZE_ERROR],
        ),
        ("PRIORITY of a wrong size", after(frame(2, 0, 1, &[0; 4])), &[FRAME_SIZE_ERROR]),
        ("a frame too large", after(frame(DATA, 0, 1, &vec![0; 20_000])), &[FRAME_SIZE_ERROR]),
        (
            "an index of no table",
            frame(HEADERS, WHOLE, 1, &[0xff, 0xff, 0x7f]),
            &[COMPRESSION_ERROR],
        ),
        (
            "a table above its limit",
            frame(HEADERS, WHOLE, 1, &[0x3f, 0xff, 0xff, 0x7f, 0x82]),
            &[COMPRESSION_ERROR],
        ),
        (
            "DATA behind the end",
            [
                frame(HEADERS, WHOLE, 1, &request_fields("POST", "/admin", &[])),
                frame(DATA, 0, 1, b"x"),
            ]
            .concat(),
            &[STREAM_CLOSED, PROTOCOL_ERROR],
        ),
    ];
    for (what, bytes, codes) in cases {
        let mut frames = Frames::connect(server.port, &[]);
        frames.0.send(bytes);
        let end = frames.wait(|frame| matches!(frame.kind, GOAWAY | RST_STREAM));
        let code = end.and_then(|frame| frame.code());
        assert!(code.is_some_and(|code| codes.contains(&code)), "{what}: {code:?}");
    }
    assert!(seen.lock().unwrap().is_empty(), "{:?}", seen.lock().unwrap());
    alive(&mut server);
}

/// What cannot be decoded is told from what can, but is no request.
#[test]
fn undecodable_blocks_are_told_from_malformed_ones() {
    let (mut server, seen, _upstream) = serve();
    let fine = request_fields("GET", "/fine", &[]);
    let with = |more: &[u8]| [&fine, more].concat();
    let one = |block: &[u8]| frame(HEADERS, WHOLE, 3, block);
    let whole = one(&fine);
    let bad = with(b"\x00\x01x\x84\xff\xff\xff\xff");
    let padded = [&[2, 0, 0, 0, 0, 16][..], &bad, &[0, 0]].concat();
    let trailers = [frame(HEADERS, OPEN, 3, &fine), frame(HEADERS, WHOLE, 3, &[0x80])].concat();
    let cases: Vec<(&str, Vec<u8>, u32)> = vec![
        ("the index 0", one(&with(&[0x80])), COMPRESSION_ERROR),
        ("an index beyond any table", one(&with(&[0xff, 0x3f])), COMPRESSION_ERROR),
        ("an entry that is not there", one(&with(&[0xbe])), COMPRESSION_ERROR),
        ("a string that is cut off", one(&with(b"\x00\x05x")), COMPRESSION_ERROR),
        ("an integer that is cut off", one(&with(&[0xff, 0x80])), COMPRESSION_ERROR),
        ("the end symbol in a string", one(&bad), COMPRESSION_ERROR),
        ("another table behind a field", one(&with(&[0x20])), COMPRESSION_ERROR),
        (
            "padding and a priority around",
            frame(HEADERS, WHOLE | 8 | 32, 3, &padded),
            COMPRESSION_ERROR,
        ),
        (
            "a block in pieces",
            [frame(HEADERS, END_STREAM, 3, &fine), frame(9, END_HEADERS, 3, &[0x80])].concat(),
            COMPRESSION_ERROR,
        ),
        (
            "the second of two blocks",
            [whole.clone(), frame(HEADERS, WHOLE, 5, &bad)].concat(),
            COMPRESSION_ERROR,
        ),
        ("trailers", trailers, COMPRESSION_ERROR),
        ("a field name in upper case", one(&with(b"\x00\x01X\x01y")), PROTOCOL_ERROR),
        ("a path beyond UTF-8", one(&with(b"\x04\x02/\xe9")), PROTOCOL_ERROR),
        (
            "a malformed block before one that cannot be decoded",
            [one(&with(b"\x00\x01X\x01y")), frame(HEADERS, WHOLE, 5, &bad)].concat(),
            PROTOCOL_ERROR,
        ),
        (
            "something else behind a block",
            [whole, frame(WINDOW_UPDATE, 0, 0, &[0; 4])].concat(),
            PROTOCOL_ERROR,
        ),
    ];
    for (what, bytes, expected) in cases {
        let mut frames = Frames::connect(server.port, &[]);
        frames.get(1, "/fine");
        assert_eq!(frames.answer(1).unwrap().0, 200, "{what}");
        // Nothing of another kind comes together with these.
        frames.send(PING, 0, 0, &[0; 8]);
        frames.wait(|frame| frame.kind == PING).unwrap();
        frames.0.send(bytes);
        let code = frames.wait(|frame| frame.kind == GOAWAY).and_then(|frame| frame.code());
        assert_eq!(code, Some(expected), "{what}");
    }
    assert!(seen.lock().unwrap().is_empty(), "{:?}", seen.lock().unwrap());
    alive(&mut server);
}

/// Streams that the server is made to reset count like those that the client resets.
#[test]
fn resets_of_the_servers_are_bounded() {
    let (mut server, _seen, _upstream) = serve();
    let headers = request_fields("POST", "/fine", &[]);
    let kinds: [&dyn Fn(u32) -> Vec<u8>; 3] = [
        &|stream| frame(WINDOW_UPDATE, 0, stream, &[0; 4]),
        &|stream| frame(DATA, END_STREAM, stream, b"").repeat(2),
        &|stream| frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff]),
    ];
    for (number, kind) in kinds.iter().enumerate() {
        let begin = Instant::now();
        let mut frames = Frames::connect(server.port, &[]);
        frames.0.write_limit(Duration::from_secs(5));
        for number in 0..4000u32 {
            let stream = number * 2 + 1;
            let piece = [frame(HEADERS, OPEN, stream, &headers), kind(stream)].concat();
            if !frames.0.send(piece) {
                break;
            }
        }
        alive(&mut server);
        assert!(begin.elapsed() < Duration::from_secs(10), "{number}: {:?}", begin.elapsed());
    }
    // Frames that mean nothing cost nothing that lasts.
    let mut frames = Frames::connect(server.port, &[]);
    frames.0.write_limit(Duration::from_secs(5));
    for _ in 0..200 {
        if !frames.0.send(frame(0xfa, 0, 0, b"nothing").repeat(500)) {
            break;
        }
    }
    alive(&mut server);
}

#[test]
fn silent_connections_hold_nobody_up() {
    let (mut server, _seen, _upstream) = serve();
    alive(&mut server);
    let before = server.descriptors();
    let silent: Vec<_> = (0..30).map(|_| Wire::connect(server.port)).collect();
    let half: Vec<_> = (0..30)
        .map(|_| {
            let mut wire = Wire::connect(server.port);
            wire.send("PRI * HTTP/2.0\r\n\r\n");
            wire
        })
        .collect();
    let begin = Instant::now();
    alive(&mut server);
    assert!(begin.elapsed() < Duration::from_secs(3));
    drop((silent, half));
    eventually("the descriptors come back", || server.descriptors() <= before + 2);
}

/// The limits of time count in HTTP/2 as they do in HTTP/1.
#[test]
fn slow_clients_are_cut_off() {
    let (upstream, got) = {
        let got = Arc::new(AtomicUsize::new(0));
        let count = got.clone();
        let upstream = Scripted::start(move |wire| {
            while wire.request().is_some() {
                count.fetch_add(1, Ordering::SeqCst);
                wire.send(ok("up"));
            }
        });
        (upstream, got)
    };
    let limits = "\t\ttimeouts {\n\t\t\tread_header 1s\n\t\t\tread_body 1s\n\t\t\tidle 1s\n\t\t}\n";
    let server = clear_text(limits, &format!("\treverse_proxy {}\n", upstream.address()));
    let begin = Instant::now();
    // A preface without settings; nothing but a preface; a head without an end; a body that stops.
    let mut preface = Wire::connect(server.port);
    preface.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let mut idle = Frames::connect(server.port, &[]);
    let mut head = Frames::connect(server.port, &[]);
    head.send(HEADERS, 0, 1, &request_fields("GET", "/", &[]));
    let mut body = Frames::connect(server.port, &[]);
    body.send(HEADERS, OPEN, 1, &request_fields("POST", "/", &[]));
    body.send(DATA, 0, 1, b"some");
    let answer = body.answer(1);
    assert!(answer.as_ref().is_none_or(|(status, _)| *status >= 400), "{answer:?}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    preface.rest();
    assert!(idle.wait(|_| false).is_none());
    assert!(head.wait(|_| false).is_none());
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    assert_eq!(got.load(Ordering::SeqCst), 0, "a body without its end came through whole");
}

/// Whatever the code of a reset is, what came before it is no whole body.
#[test]
fn a_body_that_was_reset_is_not_whole() {
    let whole = Arc::new(AtomicUsize::new(0));
    let (count, begun) = (whole.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = begun.clone();
    let upstream = Scripted::start(move |wire| {
        wire.head();
        counted.fetch_add(1, Ordering::SeqCst);
        let rest = wire.rest();
        if String::from_utf8_lossy(&rest).ends_with("0\r\n\r\n") {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let server = clear_text("", &format!("\treverse_proxy {}\n", upstream.address()));
    for (number, code) in [0u32, 8, 2].into_iter().enumerate() {
        let mut frames = Frames::connect(server.port, &[]);
        frames.send(HEADERS, OPEN, 1, &request_fields("POST", "/", &[]));
        frames.send(DATA, 0, 1, b"part");
        eventually("it is under way", || begun.load(Ordering::SeqCst) == number + 1);
        frames.send(RST_STREAM, 0, 1, &code.to_be_bytes());
        eventually("nothing is under way", || {
            get(server.admin, "/reverse_proxy/upstreams").body.contains("\"num_requests\":0")
        });
    }
    assert_eq!(whole.load(Ordering::SeqCst), 0);
}

#[test]
fn body_limits_count_without_a_length() {
    let (upstream, seen) = {
        let seen = Seen::default();
        let keep = seen.clone();
        let upstream = Scripted::start(move |wire| {
            while let Some(request) = wire.request() {
                keep.lock().unwrap().push(request);
                wire.send(ok("up"));
            }
        });
        (upstream, seen)
    };
    let lines = format!(
        "\trequest_body {{\n\t\tmax_size 1KB\n\t}}\n\treverse_proxy {}\n",
        upstream.address()
    );
    let server = clear_text("", &lines);
    let mut frames = Frames::connect(server.port, &[]);
    frames.send(HEADERS, OPEN, 1, &request_fields("POST", "/", &[]));
    frames.send(DATA, END_STREAM, 1, &[b'x'; 1500]);
    let answer = frames.answer(1);
    assert!(answer.as_ref().is_none_or(|(status, _)| *status == 413), "{answer:?}");
    frames.send(HEADERS, OPEN, 3, &request_fields("POST", "/", &[]));
    frames.send(DATA, END_STREAM, 3, &[b'x'; 1000]);
    assert_eq!(frames.answer(3).unwrap().0, 200);
    assert!(seen.lock().unwrap().iter().all(|(_, body)| body.len() == 1000));
    // And over HTTP/1: told by a length, in chunks, and at the limit.
    for (head, status) in [
        ("Content-Length: 1500\r\n\r\n".to_owned() + &"x".repeat(1500), 413),
        (
            "Transfer-Encoding: chunked\r\n\r\n5dc\r\n".to_owned()
                + &"x".repeat(1500)
                + "\r\n0\r\n\r\n",
            413,
        ),
        ("Content-Length: 1000\r\n\r\n".to_owned() + &"x".repeat(1000), 200),
    ] {
        let mut wire = Wire::connect(server.port);
        wire.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}"));
        assert_eq!(wire.answer().status, status, "{head:.60}");
    }
}

/// A client that uploads faster than the upstream takes it is held back.
#[test]
fn uploads_wait_for_a_slow_upstream() {
    let stuck = Scripted::start(|wire| {
        wire.head();
        std::thread::sleep(Duration::from_secs(12));
    });
    let server = clear_text("", &format!("\treverse_proxy {}\n", stuck.address()));
    let taken = block_on(async {
        let mut sender = connect(server.port).await;
        let request = Request::post("http://localhost/").body(()).unwrap();
        let (_response, mut body) = sender.send_request(request, false).unwrap();
        let mut taken = 0;
        while taken < 64 << 20 {
            body.reserve_capacity(1 << 16);
            let room = std::future::poll_fn(|cx| body.poll_capacity(cx));
            match tokio::time::timeout(Duration::from_secs(1), room).await {
                Ok(Some(Ok(room))) => {
                    body.send_data(vec![0; room].into(), false).unwrap();
                    taken += room;
                }
                _ => break,
            }
        }
        taken
    });
    assert!(taken < 32 << 20, "{taken} bytes were taken");
}

#[test]
fn informational_answers_come_before_the_last_one() {
    let upstream = Scripted::fixed(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x\r\nX: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    );
    let server = clear_text(
        "",
        &format!(
            "\troute {{\n\t\trespond /own 103\n\t\trespond /own own\n\t\treverse_proxy {}\n\t}}\n",
            upstream.address()
        ),
    );
    block_on(async {
        let mut sender = connect(server.port).await;
        for (path, link) in [("/", Some("</a.css>; rel=preload")), ("/own", None)] {
            let request = Request::get(format!("http://localhost{path}")).body(()).unwrap();
            let (mut response, _) = sender.send_request(request, true).unwrap();
            let early = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
            let early = early.unwrap().unwrap();
            assert_eq!(early.status(), 103);
            assert_eq!(early.headers().get("link").map(|link| link.to_str().unwrap()), link);
            assert!(!early.headers().contains_key("connection"));
            assert_eq!(response.await.unwrap().status(), 200);
        }
    });
}

#[test]
fn a_client_that_expects_to_be_asked_is_asked() {
    let (server, seen, _upstream) = serve();
    block_on(async {
        let mut sender = connect(server.port).await;
        let post = |path: &str| {
            let uri = format!("http://localhost{path}");
            Request::post(uri).header("expect", "100-continue").body(()).unwrap()
        };
        let (mut response, mut body) = sender.send_request(post("/"), false).unwrap();
        let asked = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
        assert_eq!(asked.unwrap().unwrap().status(), 100);
        body.send_data(Bytes::from_static(b"hello"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        // Whoever does not want the body does not ask for it.
        let (response, _body) = sender.send_request(post("/admin"), false).unwrap();
        assert_eq!(response.await.unwrap().status(), 403);
    });
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].1, b"hello");
    assert!(!seen[0].0.to_lowercase().contains("expect:"), "{}", seen[0].0);
}

/// What the client expects is this server's to fulfil, whether there is a body or not.
#[test]
fn expectations_go_no_further() {
    let (server, seen, _upstream) = serve();
    let mut frames = Frames::connect(server.port, &[]);
    for (stream, method) in [(1, "GET"), (3, "POST")] {
        let block = request_fields(method, "/", &[("expect", "100-continue")]);
        frames.send(HEADERS, WHOLE, stream, &block);
        assert_eq!(frames.answer(stream).unwrap().0, 200);
        let (head, _) = seen.lock().unwrap().pop().unwrap();
        assert!(!head.to_lowercase().contains("expect:"), "{head}");
    }
}

/// Some clients tell the end of a request without a body in a frame of its own; others do have a
/// body, or take their time.
#[test]
fn requests_that_have_no_body_get_none() {
    let (server, seen, _upstream) = serve();
    let mut frames = Frames::connect(server.port, &[]);
    frames.send(HEADERS, OPEN, 1, &request_fields("GET", "/", &[]));
    frames.send(DATA, END_STREAM, 1, b"");
    assert_eq!(frames.answer(1).unwrap().0, 200);
    frames.send(HEADERS, OPEN, 3, &request_fields("GET", "/", &[]));
    frames.send(DATA, 0, 3, b"he");
    frames.send(DATA, END_STREAM, 3, b"llo");
    assert_eq!(frames.answer(3).unwrap().0, 200);
    frames.send(HEADERS, OPEN, 5, &request_fields("DELETE", "/", &[]));
    frames.send(DATA, END_STREAM, 5, b"hello");
    assert_eq!(frames.answer(5).unwrap().0, 200);
    let seen = seen.lock().unwrap();
    assert!(!seen[0].0.to_lowercase().contains("transfer-encoding"), "{}", seen[0].0);
    let bodies: Vec<_> = seen.iter().map(|(_, body)| body.as_slice()).collect();
    assert_eq!(bodies, [&b""[..], b"hello", b"hello"]);
}

/// A question about the server as a whole is answered by it (RFC 9110 §9.3.7).
#[test]
fn the_server_as_a_whole_answers_for_itself() {
    let (server, seen, _upstream) = serve();
    let mut frames = Frames::connect(server.port, &[]);
    frames.send(HEADERS, WHOLE, 1, &request_fields("OPTIONS", "*", &[]));
    assert_eq!(frames.answer(1).unwrap(), (200, Vec::new()));
    assert!(seen.lock().unwrap().is_empty());
}

/// An answer that is to be the last one says goodbye.
#[test]
fn an_answer_may_close_the_connection() {
    let server = clear_text("", "\trespond /last bye 403 {\n\t\tclose\n\t}\n\trespond ok\n");
    let mut frames = Frames::connect(server.port, &[]);
    frames.get(1, "/");
    assert_eq!(frames.answer(1).unwrap(), (200, b"ok".to_vec()));
    frames.get(3, "/last");
    assert_eq!(frames.answer(3).unwrap(), (403, b"bye".to_vec()));
    let bye = frames.wait(|frame| frame.kind == GOAWAY).unwrap();
    assert_eq!(bye.code(), Some(0), "{bye:?}");
    let ended = frames.wait(|frame| {
        assert!(frame.kind == PING || frame.kind == GOAWAY, "{frame:?}");
        false
    });
    assert!(ended.is_none());
}

/// WebSocket over a stream (RFC 8441), and one side of it may end before the other.
#[test]
fn tunnels_go_through() {
    let upstream = Scripted::start(|wire| {
        let head = wire.head().to_lowercase();
        assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
        assert!(head.contains("\r\nsec-websocket-key: "), "{head}");
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n");
        let all = wire.rest();
        wire.send(format!("{} bytes", all.len()));
    });
    let server = clear_text("", &format!("\treverse_proxy {}\n", upstream.address()));
    block_on(async {
        let mut sender = connect(server.port).await;
        // The server says that it takes such requests with its settings.
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for length in [0usize, 5, 300_000] {
            let mut request = Request::builder()
                .method("CONNECT")
                .uri("http://localhost/chat")
                .header("sec-websocket-version", "13")
                .body(())
                .unwrap();
            request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
            let (response, mut up) = sender.send_request(request, false).unwrap();
            let (parts, mut down) = response.await.unwrap().into_parts();
            assert_eq!(parts.status, 200);
            assert!(!parts.headers.contains_key("sec-websocket-accept"));
            up.send_data(vec![b'x'; length].into(), true).unwrap();
            let mut got = Vec::new();
            while let Some(data) = down.data().await {
                let data = data.unwrap();
                down.flow_control().release_capacity(data.len()).unwrap();
                got.extend(&data);
            }
            assert_eq!(String::from_utf8(got).unwrap(), format!("{length} bytes"));
        }
    });
}

/// A tunnel that the server ends has an end, and what was said before it is not lost to a reset.
#[test]
fn tunnels_end_well() {
    let upstream = Scripted::start(|wire| {
        wire.head();
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi");
        wire.rest();
    });
    let config = |word: &str| {
        let servers = "\tservers {\n\t\tprotocols h1 h2c\n\t}\n";
        let site = site_with(&format!(
            "\theader X-Config {word}
\treverse_proxy /short {0} {{
\t\tstream_timeout 300ms
\t}}
\treverse_proxy {0}
",
            upstream.address()
        ));
        format!("{{\n\tadmin 127.0.0.1:{{admin}}\n{servers}}}\n{site}")
    };
    let server = Server::start(&config("one"));
    block_on(async {
        let mut sender = connect(server.port).await;
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for (path, rest) in [("/short", &b""[..]), ("/long", &[0x88, 2, 0x03, 0xe9])] {
            let uri = format!("http://localhost{path}");
            let mut request = Request::builder().method("CONNECT").uri(uri).body(()).unwrap();
            request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
            let (response, _up) = sender.send_request(request, false).unwrap();
            let mut down = response.await.unwrap().into_body();
            let mut got = Vec::new();
            while got.len() < 2 {
                got.extend(down.data().await.unwrap().unwrap());
            }
            if path == "/long" {
                let (reloaded, said) = server.reload(&config("two"));
                assert!(reloaded, "{said}");
            }
            while let Some(data) = down.data().await {
                got.extend(data.unwrap());
            }
            assert_eq!(got, [b"hi", rest].concat(), "{path}");
        }
    });
}

/// An answer without a body has none, whatever the upstream says of its length.
#[test]
fn answers_without_a_body_have_none() {
    let up = Upstream::start("up");
    let upstream = Scripted::start(|wire| {
        while let Some((head, _)) = wire.request() {
            wire.send(match head.split(' ').nth(1) {
                Some("/204") => "HTTP/1.1 204 No Content\r\n\r\n",
                Some("/304") => {
                    "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: \"a\"\r\n\r\n"
                }
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            });
        }
    });
    let server = clear_text(
        "",
        &format!("\treverse_proxy /up {}\n\treverse_proxy {}\n", up.address(), upstream.address()),
    );
    let mut frames = Frames::connect(server.port, &[]);
    for (stream, method, path) in [(1, "GET", "/204"), (3, "GET", "/304"), (5, "HEAD", "/")] {
        frames.send(HEADERS, WHOLE, stream, &request_fields(method, path, &[]));
        let head = frames.wait(|frame| frame.stream == stream).unwrap();
        assert_eq!((head.kind, head.flags & END_STREAM), (HEADERS, END_STREAM), "{path}");
    }
    frames.get(7, "/up");
    assert_eq!(frames.answer(7).unwrap(), (200, b"up".to_vec()));
}
