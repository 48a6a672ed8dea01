//! HTTP/2 in clear text and over TLS: what must work, what must be refused, what must be bounded.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Request};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

use crate::support::{
    Scripted, Server, Wire, eventually,
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PING,
        PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, fields, frame, request_fields,
    },
    free_port, get, ok, site_with,
};

type Seen = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A site with these lines that speaks HTTP/2 in clear text too.
fn clear_text(lines: &str) -> Server {
    let protocols = "\tservers {\n\t\tprotocols h1 h2 h2c\n\t}\n";
    Server::start(&format!("{{\n\tadmin 127.0.0.1:{{admin}}\n{protocols}}}\n{}", site_with(lines)))
}

/// A site that answers `/fine` itself and hands all else to an upstream that keeps requests.
fn serve() -> (Server, Seen, Scripted) {
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
    let server =
        clear_text(&format!("\trespond /fine ok\n\treverse_proxy {}\n", upstream.address()));
    (server, seen, upstream)
}

fn alive(server: &mut Server) {
    let begin = Instant::now();
    assert_eq!(get(server.port, "/fine").body, "ok", "it answers afterwards");
    let mut frames = Frames::connect(server.port, &[]);
    frames.get(1, "/fine");
    assert_eq!(frames.answer(1).unwrap(), (200, b"ok".to_vec()));
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert!(matches!(server.child.try_wait(), Ok(None)));
    assert!(!server.log().contains("panic"), "{}", server.log());
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), future).await.unwrap() })
}

type Sender = h2::client::SendRequest<Bytes>;

async fn clear(port: u16) -> Sender {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

struct Got {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

async fn finish(response: h2::client::ResponseFuture) -> Result<Got, h2::Error> {
    let (parts, mut stream) = response.await?.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend(&data);
    }
    let trailers = stream.trailers().await?;
    Ok(Got { status: parts.status.as_u16(), headers: parts.headers, body, trailers })
}

async fn ask(sender: &Sender, uri: &str) -> Got {
    let mut sender = sender.clone().ready().await.unwrap();
    let request = Request::get(uri).body(()).unwrap();
    finish(sender.send_request(request, true).unwrap().0).await.unwrap()
}

#[test]
fn many_requests_share_a_connection() {
    let (server, seen, _upstream) = serve();
    block_on(async {
        let sender = clear(server.port).await;
        let requests = (0..200).map(|number| {
            let sender = sender.clone();
            async move { ask(&sender, &format!("http://localhost/{number}?q=1")).await }
        });
        let local: Vec<_> = requests.map(tokio::spawn).collect();
        for one in local {
            let got = one.await.unwrap();
            assert_eq!((got.status, &got.body[..]), (200, &b"up"[..]));
            assert!(!got.headers.contains_key("connection"));
        }
    });
    assert_eq!(seen.lock().unwrap().len(), 200);
    let (head, _) = seen.lock().unwrap()[0].clone();
    assert!(head.ends_with("\r\n\r\n") && head.contains("?q=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("\r\nvia: 2.0 "), "{head}");
}

#[test]
fn it_is_negotiated_over_tls() {
    let tls = free_port();
    let server = Server::start(&format!(
        "{{\n\tadmin off\n\thttp_port {{port}}\n\thttps_port {tls}\n\tskip_install_trust\n}}\nlocalhost {{\n\trespond {{http.request.proto}}\n}}\n"
    ));
    let root = server.folder.join("data/caddy/pki/authorities/local/root.crt");
    let talk = |protocols: Vec<Vec<u8>>| {
        let root = CertificateDer::from_pem_file(&root).ok()?;
        let mut roots = RootCertStore::empty();
        roots.add(root).ok()?;
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .ok()?
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = protocols;
        block_on(async move {
            let stream = tokio::net::TcpStream::connect(("127.0.0.1", tls)).await.ok()?;
            let name = ServerName::try_from("localhost").ok()?;
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            let stream = connector.connect(name, stream).await.ok()?;
            let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
            if agreed.as_deref() != Some(b"h2") {
                return Some((agreed, Vec::new()));
            }
            let (sender, connection) = h2::client::handshake(stream).await.ok()?;
            tokio::spawn(connection);
            Some((agreed, ask(&sender, "https://localhost/").await.body))
        })
    };
    let both = || vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    eventually("the site is up", || talk(both()).is_some());
    assert_eq!(talk(both()).unwrap(), (Some(b"h2".to_vec()), b"HTTP/2.0".to_vec()));
    assert_eq!(talk(vec![b"http/1.1".to_vec()]).unwrap().0, Some(b"http/1.1".to_vec()));
    assert_eq!(talk(vec![]).unwrap().0, None);
}

#[test]
fn trailers_and_bodies_pass_both_ways() {
    trailers_pass("");
}

#[test]
fn trailers_stay_behind_bodies_that_are_read_first() {
    let log =
        "log\n\tlog_append answer {http.response.body}\n\tlog_append <asked {http.request.body}\n";
    trailers_pass(&format!("\t{log}"));
}

fn trailers_pass(directives: &str) {
    let seen = Seen::default();
    let keep = seen.clone();
    let upstream = Scripted::start(move |wire| {
        while let Some(request) = wire.request() {
            keep.lock().unwrap().push(request);
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n");
        }
    });
    let server = clear_text(&format!("{directives}\treverse_proxy {}\n", upstream.address()));
    block_on(async {
        let sender = clear(server.port).await;
        let mut sender = sender.ready().await.unwrap();
        let request =
            Request::post("http://localhost/").header("trailer", "x-mine").body(()).unwrap();
        let (response, mut body) = sender.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(b"hello "), false).unwrap();
        body.send_data(Bytes::new(), false).unwrap();
        body.send_data(Bytes::from_static(b"world"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-mine", "yes".parse().unwrap());
        body.send_trailers(trailers).unwrap();
        let got = finish(response).await.unwrap();
        assert_eq!((got.status, &got.body[..]), (200, &b"abc"[..]));
        assert_eq!(got.trailers.unwrap()["x-sum"], "6");
    });
    let (head, body) = seen.lock().unwrap()[0].clone();
    assert_eq!(body, b"hello world");
    assert!(head.to_lowercase().contains("\r\n\r\nx-mine: yes\r\n"), "{head}");
}

#[test]
fn cookies_are_joined_and_hosts_agree() {
    let (server, seen, _upstream) = serve();
    let mut frames = Frames::connect(server.port, &[]);
    let crumbs = request_fields(
        "GET",
        "/crumbs",
        &[("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers")],
    );
    frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &crumbs);
    assert_eq!(frames.answer(1).unwrap().0, 200);
    let head = seen.lock().unwrap().pop().unwrap().0.to_lowercase();
    assert!(head.contains("\r\ncookie: a=1; b=2\r\n"), "{head}");
    assert_eq!(head.matches("\r\nhost:").count(), 1, "{head}");
    let other = request_fields("GET", "/other", &[("host", "evil.test")]);
    frames.send(HEADERS, END_STREAM | END_HEADERS, 3, &other);
    assert!(frames.answer(3).is_none_or(|(status, _)| status == 400));
    assert!(seen.lock().unwrap().is_empty());
}

#[test]
fn malformed_requests_are_refused() {
    let (mut server, seen, _upstream) = serve();
    let get = |more: &[(&str, &str)]| request_fields("GET", "/", more);
    let whole = |all: &[(&str, &str)]| fields(all);
    let (method, scheme, authority, path) =
        ((":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/"));
    let mut blocks = vec![
        get(&[("connection", "close")]),
        get(&[("keep-alive", "timeout=5")]),
        get(&[("proxy-connection", "close")]),
        get(&[("transfer-encoding", "chunked")]),
        get(&[("upgrade", "websocket")]),
        get(&[("te", "gzip")]),
        get(&[("x", "a\r\nx-injected: 1")]),
        get(&[("x", "a\nb")]),
        get(&[("x", "a\0b")]),
        get(&[("x\r\ny", "a")]),
        get(&[("x:y", "a")]),
        get(&[("x y", "a")]),
        get(&[("X-Upper", "a")]),
        get(&[("", "a")]),
        get(&[("content-length", "5")]),
        get(&[("content-length", "x")]),
        get(&[("content-length", "0"), ("content-length", "1")]),
        get(&[(":path", "/twice")]),
        get(&[(":status", "200")]),
        get(&[(":unknown", "1")]),
        whole(&[scheme, authority, path]),
        whole(&[method, scheme, (":authority", "u@localhost"), path]),
        whole(&[method, scheme, authority, (":path", "*")]),
        whole(&[method, authority, path]),
        whole(&[method, scheme, authority]),
        whole(&[method, scheme, ("x", "before"), authority, path]),
        whole(&[method, scheme, (":authority", "local/host"), path]),
        whole(&[method, scheme, (":authority", "local host"), path]),
        whole(&[method, scheme, (":authority", "a\r\nx: 1"), path]),
        whole(&[method, (":scheme", "http://x/?"), authority, path]),
    ];
    for path in ["", "no-slash", "@evil.test/", "/a\r\nx: 1"] {
        blocks.push(request_fields("GET", path, &[]));
    }
    for method in ["G T", "GE\r\nT", "GE?T", ""] {
        blocks.push(request_fields(method, "/", &[]));
    }
    // An index that no table has.
    blocks.push(vec![0xff, 0xff, 0x7f]);
    for block in &blocks {
        let mut frames = Frames::connect(server.port, &[]);
        frames.send(HEADERS, END_STREAM | END_HEADERS, 1, block);
        let answer = frames.answer(1);
        let text = String::from_utf8_lossy(block);
        assert!(
            answer.as_ref().is_none_or(|(status, _)| *status / 100 == 4),
            "{text:?} {answer:?}"
        );
        assert!(seen.lock().unwrap().is_empty(), "{text:?} became {:?}", seen.lock().unwrap());
    }
    alive(&mut server);
}

#[test]
fn lengths_must_fit() {
    let (mut server, seen, _upstream) = serve();
    for (length, data) in [("3", "hello"), ("9", "hello"), ("0", "hello")] {
        let mut frames = Frames::connect(server.port, &[]);
        let block = request_fields("POST", "/", &[("content-length", length)]);
        frames.send(HEADERS, END_HEADERS, 1, &block);
        frames.send(DATA, END_STREAM, 1, data.as_bytes());
        let answer = frames.answer(1);
        assert!(answer.as_ref().is_none_or(|(status, _)| *status >= 400), "{length}: {answer:?}");
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        assert!(seen.iter().all(|(_, body)| body.is_empty()), "{length}: {seen:?}");
    }
    alive(&mut server);
}

#[test]
fn frames_out_of_place_end_the_connection() {
    let (mut server, seen, _upstream) = serve();
    let headers = request_fields("GET", "/", &[]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("DATA on stream 0", frame(DATA, 0, 0, b"x")),
        ("DATA on an idle stream", frame(DATA, 0, 5, b"x")),
        ("HEADERS on stream 0", frame(HEADERS, END_STREAM | END_HEADERS, 0, &headers)),
        ("HEADERS on an even stream", frame(HEADERS, END_STREAM | END_HEADERS, 2, &headers)),
        ("RST_STREAM of an idle stream", frame(RST_STREAM, 0, 7, &[0, 0, 0, 8])),
        ("CONTINUATION alone", frame(CONTINUATION, END_HEADERS, 1, &headers)),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, &[])),
        ("SETTINGS of a wrong size", frame(SETTINGS, 0, 0, &[0, 1, 0])),
        ("a window too large", frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])),
        ("a frame size too small", frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1])),
        ("PING of a wrong size", frame(PING, 0, 0, &[0; 7])),
        ("WINDOW_UPDATE of nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("PUSH_PROMISE", frame(5, END_HEADERS, 1, &headers)),
        ("a frame too large", frame(DATA, 0, 1, &vec![0; 20_000])),
        (
            "another frame inside a header block",
            [frame(HEADERS, END_STREAM, 1, &headers), frame(PING, 0, 0, &[0; 8])].concat(),
        ),
        (
            "window overflow",
            [frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])].concat().repeat(2),
        ),
    ];
    for (what, bytes) in cases {
        let mut frames = Frames::connect(server.port, &[]);
        frames.0.send(bytes);
        let end = frames.wait(|frame| frame.kind == GOAWAY);
        assert!(end.as_ref().is_none_or(|frame| frame.code() != Some(0)), "{what}: {end:?}");
        assert!(frames.wait(|_| false).is_none());
    }
    let mut wrong = Wire::connect(server.port);
    wrong.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    wrong.rest();
    assert!(seen.lock().unwrap().is_empty(), "{:?}", seen.lock().unwrap());
    // A kind nobody knows is passed over.
    let mut frames = Frames::connect(server.port, &[]);
    frames.send(0xfa, 0xff, 0, b"whatever");
    frames.get(1, "/fine");
    assert_eq!(frames.answer(1).unwrap().0, 200);
    alive(&mut server);
}

/// Sends one piece until the connection ends or the limit is reached; what the server sends is
/// left unread. How many pieces went out.
fn flood(frames: &mut Frames, piece: &[u8], count: usize) -> usize {
    let batch = 50;
    let pieces = piece.repeat(batch);
    let mut sent = 0;
    while sent < count && frames.0.send(&pieces) {
        sent += batch;
    }
    sent
}

fn flooding(server: &Server) -> Frames {
    let frames = Frames::connect(server.port, &[]);
    frames.0.write_limit(Duration::from_secs(5));
    frames
}

#[test]
fn floods_are_bounded() {
    let (mut server, _seen, _upstream) = serve();
    let headers = request_fields("GET", "/fine", &[]);

    let mut frames = flooding(&server);
    let sent = flood(&mut frames, &frame(PING, 0, 0, &[0; 8]), 200_000);
    assert!(sent < 200_000 || frames.wait(|frame| frame.kind == PING).is_some(), "{sent} pings");
    alive(&mut server);

    let mut frames = flooding(&server);
    flood(&mut frames, &frame(SETTINGS, 0, 0, &[]), 100_000);
    alive(&mut server);

    let mut frames = flooding(&server);
    flood(&mut frames, &frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 16]), 100_000);
    alive(&mut server);

    // A header block that never ends, in empty pieces and in full ones.
    for piece in [
        frame(CONTINUATION, 0, 1, &[]),
        frame(CONTINUATION, 0, 1, &fields(&[("x", &"y".repeat(8000))])),
    ] {
        let mut frames = flooding(&server);
        frames.send(HEADERS, END_STREAM, 1, &headers);
        let sent = flood(&mut frames, &piece, 20_000);
        let end = frames.wait(|frame| frame.kind == GOAWAY);
        assert!(sent < 20_000 || end.is_some(), "{sent} of {} bytes were taken", piece.len());
        alive(&mut server);
    }
    // Empty DATA.
    let mut frames = flooding(&server);
    frames.send(HEADERS, END_HEADERS, 1, &request_fields("POST", "/", &[]));
    flood(&mut frames, &frame(DATA, 0, 1, &[]), 100_000);
    alive(&mut server);
}

#[test]
fn rapid_resets_are_bounded() {
    let started = Arc::new(AtomicUsize::new(0));
    let count = started.clone();
    let stuck = Scripted::start(move |wire| {
        while wire.request().is_some() {
            count.fetch_add(1, Ordering::SeqCst);
            wire.rest();
        }
    });
    let mut server =
        clear_text(&format!("\trespond /fine ok\n\treverse_proxy {}\n", stuck.address()));
    let headers = request_fields("GET", "/slow", &[]);
    let mut frames = flooding(&server);
    for number in 0..4000u32 {
        let stream = number * 2 + 1;
        let mut pair = frame(HEADERS, END_STREAM | END_HEADERS, stream, &headers);
        pair.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
        if !frames.0.send(pair) {
            break;
        }
    }
    alive(&mut server);
    assert!(started.load(Ordering::SeqCst) < 4000);
    // Nothing stays under way for streams that are gone.
    eventually("all are cancelled", || {
        get(server.admin, "/reverse_proxy/upstreams").body.contains("\"num_requests\":0")
    });
    // Resets that the server is made to send count as well.
    let mut frames = flooding(&server);
    for number in 0..4000u32 {
        let stream = number * 2 + 1;
        let mut pair = frame(HEADERS, END_STREAM | END_HEADERS, stream, &headers);
        pair.extend(frame(WINDOW_UPDATE, 0, stream, &[0; 4]));
        if !frames.0.send(pair) {
            break;
        }
    }
    alive(&mut server);
}

#[test]
fn header_lists_are_limited() {
    let (mut server, seen, _upstream) = serve();
    let mut frames = Frames::connect(server.port, &[]);
    frames.0.write_limit(Duration::from_secs(5));
    frames.send(HEADERS, END_STREAM, 1, &request_fields("GET", "/", &[]));
    let piece = fields(&[("x", &"y".repeat(16_000))]);
    let mut sent = true;
    for number in 0..200 {
        let flags = if number == 199 { END_HEADERS } else { 0 };
        sent = sent && frames.send(CONTINUATION, flags, 1, &piece);
    }
    let answer = frames.answer(1);
    assert!(answer.as_ref().is_none_or(|(status, _)| *status == 431), "{answer:?}");
    // One field in the table, named again and again: small on the wire, large in memory.
    let mut block = request_fields("GET", "/", &[]);
    block.extend([0x40, 1, b'x', 127, 0x80 | (3000 - 127) as u8 & 0x7f, ((3000 - 127) >> 7) as u8]);
    block.extend(vec![b'y'; 3000]);
    block.extend(vec![0x80 | 62; 10_000]);
    let mut frames = Frames::connect(server.port, &[]);
    frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &block);
    let answer = frames.answer(1);
    assert!(answer.as_ref().is_none_or(|(status, _)| *status == 431), "{answer:?}");
    assert!(seen.lock().unwrap().is_empty());
    alive(&mut server);
}

#[test]
fn streams_are_limited() {
    let release = Arc::new(AtomicBool::new(false));
    let released = release.clone();
    let upstream = Scripted::start(move |wire| {
        wire.request();
        eventually("it may go on", || released.load(Ordering::SeqCst));
        wire.send(ok("late"));
    });
    let mut server =
        clear_text(&format!("\trespond /fine ok\n\treverse_proxy {}\n", upstream.address()));
    let mut frames = Frames::connect(server.port, &[]);
    let settings = frames.wait(|frame| frame.kind == SETTINGS).unwrap();
    let limit = settings
        .payload
        .chunks(6)
        .find(|setting| setting[..2] == [0, 3])
        .map(|setting| u32::from_be_bytes(setting[2..].try_into().unwrap()));
    let limit = limit.expect("a limit is announced");
    assert!((100..=1000).contains(&limit), "{limit}");
    for number in 0..limit + 20 {
        frames.get(number * 2 + 1, "/slow");
    }
    let refused = frames.wait(|frame| frame.code().is_some()).unwrap();
    assert!(refused.kind == GOAWAY || refused.code() == Some(7), "{refused:?}");
    release.store(true, Ordering::SeqCst);
    if refused.kind == RST_STREAM {
        assert_eq!(frames.answer(1).unwrap(), (200, b"late".to_vec()));
    }
    alive(&mut server);
}

#[test]
fn windows_are_kept_to_the_byte_and_hold_the_upstream_back() {
    let offered = Arc::new(AtomicUsize::new(0));
    let count = offered.clone();
    let upstream = Scripted::start(move |wire| {
        wire.request();
        wire.send("HTTP/1.1 200 OK\r\n\r\n");
        while wire.send([b'x'; 65536]) {
            count.fetch_add(65536, Ordering::SeqCst);
        }
    });
    let mut server =
        clear_text(&format!("\trespond /fine ok\n\treverse_proxy {}\n", upstream.address()));
    // A window of nothing, then of ten bytes.
    let mut frames = Frames::connect(server.port, &[(4, 0)]);
    frames.get(1, "/endless");
    assert_eq!(frames.wait(|frame| frame.kind == HEADERS).unwrap().status(), Some(200));
    frames.send(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 10]);
    let mut got = 0;
    while got < 10 {
        got += frames.wait(|frame| frame.kind == DATA).unwrap().payload.len();
    }
    assert_eq!(got, 10);
    frames.send(PING, 0, 0, b"anything");
    let next = frames.wait(|frame| frame.kind == DATA || frame.kind == PING).unwrap();
    assert_eq!(next.kind, PING, "data beyond the window");
    let mut before = usize::MAX;
    eventually("the upstream is held back", || {
        let now = offered.load(Ordering::SeqCst);
        let still = now == before;
        before = now;
        std::thread::sleep(Duration::from_millis(200));
        still
    });
    assert!(before < 24 << 20, "{before} bytes were taken");
    // Others on the same connection are not held up.
    frames.send(WINDOW_UPDATE, 0, 3, &[0, 0, 0, 100]);
    frames.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 100]);
    frames.get(5, "/fine");
    assert_eq!(frames.answer(5).map_or(0, |answer| answer.0), 0, "an idle stream got a window");
    alive(&mut server);
}

#[test]
fn a_reset_cancels_and_a_broken_upstream_resets() {
    let gone = Arc::new(AtomicUsize::new(0));
    let count = gone.clone();
    let upstream = Scripted::start(move |wire| {
        let Some((head, _)) = wire.request() else { return };
        if head.starts_with("GET /broken") {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart of it");
            return;
        }
        if wire.ended() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut server =
        clear_text(&format!("\trespond /fine ok\n\treverse_proxy {}\n", upstream.address()));
    let mut frames = Frames::connect(server.port, &[]);
    frames.get(1, "/wait");
    eventually("it arrived", || upstream.connections() == 1);
    frames.send(RST_STREAM, 0, 1, &[0, 0, 0, 8]);
    eventually("the upstream is told", || gone.load(Ordering::SeqCst) == 1);
    frames.get(3, "/broken");
    let mut end = None;
    frames.wait(|frame: &Frame| {
        let ends = frame.stream == 3 && (frame.kind == RST_STREAM || frame.flags & END_STREAM != 0);
        if ends {
            end = Some(frame.kind);
        }
        ends
    });
    assert_eq!(end, Some(RST_STREAM), "a part must not look whole");
    alive(&mut server);
}

#[test]
fn a_stopping_server_says_goodbye_and_finishes() {
    let release = Arc::new(AtomicBool::new(false));
    let released = release.clone();
    let upstream = Scripted::start(move |wire| {
        wire.request();
        eventually("it may go on", || released.load(Ordering::SeqCst));
        wire.send(ok("late"));
    });
    let mut server = Server::start(&format!(
        "{{\n\tadmin off\n\tgrace_period 10s\n\tservers {{\n\t\tprotocols h1 h2c\n\t}}\n}}\n{}",
        site_with(&format!("\treverse_proxy {}\n", upstream.address()))
    ));
    let mut frames = Frames::connect(server.port, &[]);
    frames.get(1, "/slow");
    eventually("it arrived", || upstream.connections() == 1);
    server.signal("TERM");
    let bye = frames.wait(|frame| frame.kind == GOAWAY).unwrap();
    assert_eq!(bye.code(), Some(0), "{bye:?}");
    release.store(true, Ordering::SeqCst);
    assert_eq!(frames.answer(1).unwrap(), (200, b"late".to_vec()));
    eventually("the process ends", || matches!(server.child.try_wait(), Ok(Some(_))));
}

/// Whoever knows that HTTP/2 is spoken may say so at once, as long as HTTP/1 is spoken beside it.
#[test]
fn prior_knowledge_is_enough_in_clear_text() {
    let hello = |protocols: &str| {
        let servers = match protocols {
            "" => String::new(),
            names => format!("\tservers {{\n\t\tprotocols {names}\n\t}}\n"),
        };
        let site = site_with("\trespond \"{http.request.proto}\"\n");
        let server = Server::start(&format!("{{\n\tadmin off\n{servers}}}\n{site}"));
        let mut frames = Frames::connect(server.port, &[]);
        frames.get(1, "/");
        let answer = frames.answer(1).map(|(_, body)| String::from_utf8(body).unwrap());
        (answer, get(server.port, "/").body)
    };
    let both = (Some("HTTP/2.0".to_owned()), "HTTP/1.1".to_owned());
    assert_eq!(hello(""), both);
    assert_eq!(hello("h1 h2c"), both);
    assert_eq!(hello("h1"), (None, "HTTP/1.1".to_owned()));
}
