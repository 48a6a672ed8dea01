//! HTTP/3: what must work, what must be bounded; in `endings`, what a reload or stop may not lose; in
//! `limits`, what clients may take; in `raw`, what must be refused.

mod endings;
mod limits;
mod raw;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use http::{Method, Request};

use self::raw::{GET, frame, headers};
use crate::support::{
    Scripted, Server, Upstream, eventually, free_port,
    quic::{Got, Options, Quic, answer, dial},
};

/// A server whose site `localhost` has these lines, its TLS port, its root.
struct Site {
    server: Server,
    tls: u16,
    root: PathBuf,
}

impl Site {
    fn start(lines: &str) -> Self {
        Self::start_with("", lines)
    }

    /// With more global options.
    fn start_with(globals: &str, lines: &str) -> Self {
        let tls = free_port();
        let server = Server::start(&text(tls, globals, lines));
        let root = server.folder.join("data/caddy/pki/authorities/local/root.crt");
        eventually("the authority is there", || root.exists());
        Self { server, tls, root }
    }

    fn reload(&self, globals: &str, lines: &str) {
        let (ok, said) = self.server.reload(&text(self.tls, globals, lines));
        assert!(ok, "{said}");
    }

    async fn connect(&self) -> Quic {
        Quic::connect(self.tls, "localhost", &self.root).await.unwrap()
    }

    fn uri(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.tls)
    }

    fn no_panic(&mut self) {
        assert!(matches!(self.server.child.try_wait(), Ok(None)), "it runs");
        assert!(!self.server.log().contains("panic"), "{}", self.server.log());
    }
}

fn text(tls: u16, globals: &str, lines: &str) -> String {
    format!(
        "{{\n\tadmin 127.0.0.1:{{admin}}\n\thttp_port {{port}}\n\thttps_port {tls}\n\
         \tskip_install_trust\n{globals}}}\nlocalhost {{\n{lines}}}\n"
    )
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), future).await.unwrap() })
}

#[test]
fn answers_requests() {
    let site = Site::start(
        "\trespond /facts \"{http.request.proto} {http.request.tls.proto} \
         {http.request.tls.version} {http.request.tls.cipher_suite} {http.request.tls.server_name} \
         {scheme} {host} {remote_host} {http.request.local.host} {query}\"\n\
         \t@three protocol http/3\n\trespond @three matched 201\n\trespond missed\n",
    );
    block_on(async {
        let mut client = site.connect().await;
        let got = client.get(&site.uri("/facts?a=b")).await.unwrap();
        assert_eq!(got.status, 200);
        assert_eq!(
            got.text(),
            "HTTP/3.0 h3 tls1.3 TLS_AES_128_GCM_SHA256 localhost https localhost 127.0.0.1 \
             127.0.0.1 a=b"
        );
        assert!(got.headers.contains_key("date"));
        assert_eq!(got.headers["content-length"], got.body.len().to_string());
        assert!(!got.headers.contains_key("alt-svc"), "it is there already");
        assert_eq!(client.get(&site.uri("/")).await.unwrap().status, 201);
        let head = Request::head(site.uri("/")).body(()).unwrap();
        let got = client.ask(head, b"").await.unwrap();
        assert_eq!((got.headers["content-length"].as_bytes(), got.body.len()), (&b"7"[..], 0));
        let many = (0..100).map(|number| {
            let (mut sender, uri) = (client.sender.clone(), site.uri(&format!("/facts?{number}")));
            tokio::spawn(async move {
                let request = Request::get(uri).body(()).unwrap();
                let mut stream = sender.send_request(request).await.unwrap();
                stream.finish().await.unwrap();
                (number, answer(&mut stream).await.unwrap())
            })
        });
        for one in many.collect::<Vec<_>>() {
            let (number, got) = one.await.unwrap();
            assert!(got.text().ends_with(&format!(" {number}")), "{}", got.text());
        }
    });
}

/// Heads and bodies.
type Seen = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

#[test]
fn proxies_bodies_and_trailers() {
    let seen = Seen::default();
    let keep = seen.clone();
    let upstream = Scripted::start(move |wire| {
        while let Some(request) = wire.request() {
            let bodiless = request.1.is_empty();
            keep.lock().unwrap().push(request);
            let answer = if bodiless {
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nAlt-Svc: h3=\":1\"\r\n\r\nup"
            } else {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n\
                 3\r\nabc\r\n3\r\ndef\r\n0\r\nX-End: yes\r\n\r\n"
            };
            if !wire.send(answer) {
                return;
            }
        }
    });
    let site = Site::start(&format!("\treverse_proxy {}\n", upstream.address()));
    block_on(async {
        let mut client = site.connect().await;
        let request = Request::get(site.uri("/a?b"));
        let request = request.header("cookie", "a=1").header("cookie", "b=2").body(()).unwrap();
        let got = client.ask(request, b"").await.unwrap();
        assert_eq!((got.status, got.text().as_str()), (200, "up"));
        assert!(!got.headers.contains_key("alt-svc"), "{:?}", got.headers);
        let known = Request::post(site.uri("/")).header("content-length", "4").body(()).unwrap();
        let got = client.ask(known, b"four").await.unwrap();
        assert_eq!(got.text(), "abcdef");
        assert_eq!(got.trailers.unwrap()["x-end"], "yes");
        let unknown = Request::post(site.uri("/")).body(()).unwrap();
        client.ask(unknown, &[b'x'; 100_000]).await.unwrap();
    });
    let seen = seen.lock().unwrap();
    let (head, _) = &seen[0];
    let lower = head.to_lowercase();
    assert!(head.starts_with("GET /a?b HTTP/1.1\r\n"), "{head}");
    assert!(lower.contains("\r\ncookie: a=1; b=2\r\n"), "{head}");
    assert!(lower.contains("\r\nvia: 3.0 caddis\r\n") || lower.contains("\r\nvia: 3"), "{head}");
    assert!(lower.contains("\r\nx-forwarded-proto: https\r\n"), "{head}");
    assert!(!lower.contains("transfer-encoding"), "a GET without a body has none: {head}");
    assert!(seen[1].0.to_lowercase().contains("\r\ncontent-length: 4\r\n"), "{}", seen[1].0);
    assert_eq!(seen[1].1, b"four");
    assert!(seen[2].0.to_lowercase().contains("transfer-encoding: chunked"), "{}", seen[2].0);
    assert_eq!(seen[2].1.len(), 100_000);
}

const BIG: usize = 64 << 20;

#[test]
fn big_answers_wait_for_a_slow_client() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = sent.clone();
    let upstream = Scripted::start(move |wire| {
        while wire.request().is_some() {
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n"));
            let piece = vec![b'x'; 64 * 1024];
            for _ in 0..BIG / piece.len() {
                if !wire.send(&piece) {
                    return;
                }
                count.fetch_add(piece.len(), Ordering::SeqCst);
            }
        }
    });
    let site = Site::start(&format!("\treverse_proxy {}\n", upstream.address()));
    block_on(async {
        let mut client = site.connect().await;
        let request = Request::get(site.uri("/")).body(()).unwrap();
        let mut stream = client.open(request).await.unwrap();
        stream.finish().await.unwrap();
        stream.recv_response().await.unwrap();
        // Nothing is read: what goes on is bounded by the buffers on the way.
        let still = settled(&sent).await;
        assert!(still < BIG / 2, "{still} bytes were taken from the upstream");
        let mut body = 0;
        while let Some(data) = stream.recv_data().await.unwrap() {
            body += data.remaining();
        }
        assert_eq!(body, BIG);
    });
}

#[test]
fn big_requests_wait_for_a_slow_upstream() {
    let (go, read) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (going, count) = (go.clone(), read.clone());
    let upstream = Scripted::start(move |wire| {
        wire.head();
        while !going.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        while count.load(Ordering::SeqCst) < BIG {
            let taken = wire.take(64 * 1024).len();
            if taken == 0 {
                return;
            }
            count.fetch_add(taken, Ordering::SeqCst);
        }
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
    });
    let site = Site::start(&format!("\treverse_proxy {}\n", upstream.address()));
    block_on(async {
        let mut client = site.connect().await;
        let request = Request::post(site.uri("/")).header("content-length", BIG).body(()).unwrap();
        let stream = client.open(request).await.unwrap();
        let (mut send, mut recv) = stream.split();
        let written = Arc::new(AtomicUsize::new(0));
        let wrote = written.clone();
        let sending = tokio::spawn(async move {
            for _ in 0..BIG / (64 * 1024) {
                send.send_data(Bytes::from(vec![b'y'; 64 * 1024])).await.unwrap();
                wrote.fetch_add(64 * 1024, Ordering::SeqCst);
            }
            send.finish().await.unwrap();
        });
        let still = settled(&written).await;
        assert!(still < BIG / 2, "{still} bytes were taken from the client");
        go.store(true, Ordering::SeqCst);
        sending.await.unwrap();
        assert_eq!(recv.recv_response().await.unwrap().status(), 200);
    });
    assert_eq!(read.load(Ordering::SeqCst), BIG);
}

/// The value of a counter once it has not moved for a while.
async fn settled(counter: &AtomicUsize) -> usize {
    let mut last = usize::MAX;
    loop {
        let now = counter.load(Ordering::SeqCst);
        if now == last && now > 0 {
            return now;
        }
        last = now;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[test]
fn a_cancelled_request_lets_go_of_its_upstream() {
    let gone = Arc::new(AtomicBool::new(false));
    let told = gone.clone();
    let upstream = Scripted::start(move |wire| {
        if wire.request().is_some() {
            told.store(wire.ended(), Ordering::SeqCst);
        }
    });
    let site = Site::start(&format!("\treverse_proxy {}\n", upstream.address()));
    block_on(async {
        let mut client = site.connect().await;
        let request = Request::get(site.uri("/")).body(()).unwrap();
        let mut stream = client.open(request).await.unwrap();
        stream.finish().await.unwrap();
        while upstream.connections() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stream.stop_sending(h3::error::Code::H3_REQUEST_CANCELLED);
        while !gone.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The connection is none the worse for it.
        assert!(client.connection.close_reason().is_none());
    });
}

/// A GET over TLS by HTTP/1.1, or by HTTP/2 where `h2`.
fn alt_svc(site: &Site, h2: bool) -> Option<String> {
    use crate::support::tls_stream;
    let protocol: &[u8] = if h2 { b"h2" } else { b"http/1.1" };
    block_on(async {
        let stream = tls_stream(site.tls, "localhost", &site.root, protocol).await;
        if h2 {
            let (sender, connection) = h2::client::handshake(stream).await.unwrap();
            tokio::spawn(connection);
            let mut sender = sender.ready().await.unwrap();
            let request = Request::get(site.uri("/")).body(()).unwrap();
            let response = sender.send_request(request, true).unwrap().0.await.unwrap();
            response.headers().get("alt-svc").map(|value| value.to_str().unwrap().to_owned())
        } else {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut stream = stream;
            let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            let answer = crate::support::Answer::parse(&answer);
            answer.header("alt-svc").map(str::to_owned)
        }
    })
}

#[test]
fn answers_over_tls_tell_of_it() {
    let upstream = Scripted::fixed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nup");
    for lines in [
        "\trespond hi\n".to_owned(),
        "\terror 404\n".to_owned(),
        format!("\treverse_proxy {}\n", upstream.address()),
        format!("\theader X-A b\n\treverse_proxy {}\n", upstream.address()),
    ] {
        let site = Site::start(&lines);
        let expected = format!("h3=\":{}\"; ma=2592000", site.tls);
        assert_eq!(alt_svc(&site, false).as_ref(), Some(&expected), "{lines}");
        assert_eq!(alt_svc(&site, true).as_ref(), Some(&expected), "{lines}");
        let plain = crate::support::get(site.server.port, "/");
        assert_eq!((plain.status, plain.header("alt-svc")), (308, None));
    }
    let site = Site::start("\theader -Alt-Svc\n\trespond hi\n");
    assert_eq!(alt_svc(&site, false), None);
    site.reload("", "\theader Alt-Svc clear\n\trespond hi\n");
    assert_eq!(alt_svc(&site, true).as_deref(), Some("clear"));
}

#[test]
fn connections_survive_a_change_of_address() {
    let site = Site::start("\trespond {remote_port}\n");
    block_on(async {
        let mut client = site.connect().await;
        for _ in 0..12 {
            client.move_away();
            assert_eq!(client.get(&site.uri("/")).await.unwrap().status, 200);
        }
    });
}

#[test]
fn handshakes_follow_their_policies() {
    let tls = free_port();
    let folder = crate::support::scratch();
    let ca = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = params.self_signed(&ca).unwrap();
    std::fs::write(folder.join("ca.pem"), ca_certificate.pem()).unwrap();
    let issuer = rcgen::Issuer::from_params(&params, &ca);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["client.test".to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "Client");
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let server = Server::start_in(
        folder,
        &format!(
            "{{\n\tadmin off\n\thttp_port {{port}}\n\thttps_port {tls}\n\tskip_install_trust\n}}
localhost {{
	respond open
}}
closed.localhost {{
	tls internal {{
		client_auth {{
			mode require_and_verify
			trust_pool file {{
				pem_file ca.pem
			}}
		}}
	}}
	respond {{tls_client_subject}}
}}
old.localhost {{
	tls internal {{
		protocols tls1.2 tls1.2
	}}
	respond old
}}
"
        ),
    );
    let root = server.folder.join("data/caddy/pki/authorities/local/root.crt");
    eventually("the authority is there", || root.exists());
    block_on(async {
        let uri = |name: &str| format!("https://{name}:{tls}/");
        let mut open = Quic::connect(tls, "localhost", &root).await.unwrap();
        assert_eq!(open.get(&uri("localhost")).await.unwrap().text(), "open");
        // One site's connection is not the way into another one.
        let got = open.get(&uri("closed.localhost")).await.unwrap();
        assert_eq!(got.status, 421);
        for name in ["stranger.test", "old.localhost"] {
            assert!(Quic::connect(tls, name, &root).await.is_err(), "{name}");
        }
        let refused = async {
            let mut client = Quic::connect(tls, "closed.localhost", &root).await?;
            client.get(&uri("closed.localhost")).await
        };
        assert!(refused.await.is_err(), "no certificate");
        let identity = Some((certificate.der().clone(), key.serialize_der()));
        let options = Options { identity, ..Options::default() };
        let client = Quic::connect_with(tls, "closed.localhost", &root, &options).await;
        let got = client.unwrap().get(&uri("closed.localhost")).await.unwrap();
        assert_eq!((got.status, got.text().as_str()), (200, "CN=Client"));
    });
}

#[test]
fn a_handshake_waits_for_its_certificate() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let ask = Scripted::start(move |wire| {
        while let Some((head, _)) = wire.request() {
            count.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(300));
            let status = if head.contains("good") { 200 } else { 403 };
            wire.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    let tls = free_port();
    let server = Server::start(&format!(
        "{{\n\tadmin off\n\thttp_port {{port}}\n\thttps_port {tls}\n\tskip_install_trust\n\
         \ton_demand_tls {{\n\t\task http://127.0.0.1:{}/\n\t}}\n}}\n\
         https:// {{\n\ttls internal {{\n\t\ton_demand\n\t}}\n\trespond {{host}}\n}}\nlocalhost {{\n}}\n",
        ask.port
    ));
    let root = server.folder.join("data/caddy/pki/authorities/local/root.crt");
    eventually("the authority is there", || root.exists());
    block_on(async {
        let mut client = Quic::connect(tls, "good.test", &root).await.unwrap();
        let got = client.get(&format!("https://good.test:{tls}/")).await.unwrap();
        assert_eq!(got.text(), "good.test");
        let begin = Instant::now();
        assert!(Quic::connect(tls, "bad.test", &root).await.is_err());
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    });
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn many_clients_come_at_once() {
    let site = Site::start("\trespond hi\n");
    block_on(async {
        let clients = (0..400).map(|_| {
            let (tls, root, uri) = (site.tls, site.root.clone(), site.uri("/"));
            tokio::spawn(async move {
                let mut client = Quic::connect(tls, "localhost", &root).await.unwrap();
                client.get(&uri).await.unwrap().status
            })
        });
        for client in clients.collect::<Vec<_>>() {
            assert_eq!(client.await.unwrap(), 200);
        }
    });
}

#[test]
fn it_may_be_the_only_protocol() {
    let site = Site::start_with("\tservers {\n\t\tprotocols h3\n\t}\n", "\trespond hi\n");
    block_on(async {
        let mut client = site.connect().await;
        assert_eq!(client.get(&site.uri("/")).await.unwrap().text(), "hi");
    });
    let told = crate::support::get(site.tls, "/");
    assert_eq!(told.status, 0, "{told:?}");
}

#[test]
fn websockets_go_through() {
    let upstream = Scripted::start(|wire| {
        let head = wire.head();
        assert!(head.to_lowercase().contains("upgrade: websocket"), "{head}");
        let key = head.lines().find(|line| line.to_lowercase().starts_with("sec-websocket-key:"));
        assert!(key.is_some(), "{head}");
        wire.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        let data = wire.take(5);
        wire.send(&data);
    });
    let site = Site::start(&format!("\treverse_proxy {}\n", upstream.address()));
    block_on(async {
        let options = Options::default();
        let (_endpoint, connection) =
            dial(site.tls, "localhost", &site.root, &options).await.unwrap();
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        let mut fields = vec![(":method", "CONNECT"), (":protocol", "websocket")];
        fields.extend(&GET[1..]);
        fields.push(("sec-websocket-version", "13"));
        send.write_all(&headers(&fields)).await.unwrap();
        send.write_all(&frame(0, b"hello")).await.unwrap();
        let answer = recv.read_to_end(1 << 20).await.unwrap();
        assert!(answer.ends_with(b"\x00\x05hello"), "{answer:?}");
    });
}

#[test]
fn informational_answers_come_before_the_last_one() {
    let upstream = Scripted::fixed(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    );
    let site = Site::start(&format!(
        "\troute {{\n\t\trespond /own 103\n\t\trespond /own own\n\t\treverse_proxy {}\n\t}}\n",
        upstream.address()
    ));
    block_on(async {
        for (path, body, hinted) in [("/", &b"hi"[..], true), ("/own", b"own", false)] {
            let (_endpoint, connection) =
                dial(site.tls, "localhost", &site.root, &Options::default()).await.unwrap();
            let (mut send, mut recv) = connection.open_bi().await.unwrap();
            let fields = [GET[0], GET[1], GET[2], (":path", path)];
            send.write_all(&headers(&fields)).await.unwrap();
            send.finish().unwrap();
            let answer = recv.read_to_end(1 << 20).await.unwrap();
            // Two heads (RFC 9114 §7.2.2), the first one short, then the body.
            let first = usize::from(answer[1] & 0x3f);
            assert_eq!(answer[0], 1, "{answer:?}");
            // `:status: 103` is the static table's entry 24.
            assert_eq!(answer[4], 0xc0 | 24, "{answer:?}");
            let hints = String::from_utf8_lossy(&answer[2..2 + first]).into_owned();
            assert_eq!(hints.contains("a.css"), hinted, "{hints:?}");
            assert_eq!(answer[2 + first], 1, "{answer:?}");
            assert!(answer.ends_with(body), "{answer:?}");
        }
    });
}

#[test]
fn a_client_that_expects_to_be_asked_is_asked() {
    let up = Upstream::start("up");
    let site = Site::start(&format!("\treverse_proxy {}\n", up.address()));
    block_on(async {
        let (_endpoint, connection) =
            dial(site.tls, "localhost", &site.root, &Options::default()).await.unwrap();
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        let mut fields = vec![(":method", "POST")];
        fields.extend(&GET[1..]);
        fields.extend([("content-length", "5"), ("expect", "100-continue")]);
        send.write_all(&headers(&fields)).await.unwrap();
        let mut asked = [0; 2];
        recv.read_exact(&mut asked).await.unwrap();
        assert_eq!(asked[0], 1);
        let mut section = vec![0; usize::from(asked[1])];
        recv.read_exact(&mut section).await.unwrap();
        assert!(section.ends_with(b"100"), "{section:?}");
        send.write_all(&frame(0, b"hello")).await.unwrap();
        send.finish().unwrap();
        assert!(recv.read_to_end(1 << 20).await.unwrap().ends_with(b"up"));
    });
}

#[test]
fn idle_connections_end() {
    let site = Site::start_with(
        "\tservers {\n\t\ttimeouts {\n\t\t\tidle 500ms\n\t\t}\n\t}\n",
        "\trespond hi\n",
    );
    block_on(async {
        let mut client = site.connect().await;
        assert_eq!(client.get(&site.uri("/")).await.unwrap().text(), "hi");
        let ended = client.driver.await.unwrap();
        assert!(ended.is_h3_no_error(), "{ended}");
    });
}

#[test]
fn the_access_log_says_so() {
    let site = Site::start("\tlog {\n\t\toutput file access.log\n\t}\n\trespond hi\n");
    block_on(async {
        let mut client = site.connect().await;
        let request = Request::builder().method(Method::POST).uri(site.uri("/x")).body(()).unwrap();
        let got: Got = client.ask(request, b"12345").await.unwrap();
        assert_eq!(got.status, 200);
    });
    let log = site.server.folder.join("access.log");
    let mut entry = String::new();
    eventually("an entry", || {
        entry = std::fs::read_to_string(&log).unwrap_or_default();
        entry.ends_with('\n')
    });
    assert!(entry.contains("\"proto\":\"HTTP/3.0\""), "{entry}");
    assert!(entry.contains("\"proto\":\"h3\""), "{entry}");
    assert!(entry.contains("\"cipher_suite\":4865"), "{entry}");
}
