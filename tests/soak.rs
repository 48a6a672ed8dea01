//! Everything changes under load: configs, ports, timeouts, backends; and no request is lost that
//! could be answered, over any protocol. What a client may try again by the rules of its protocol
//! (RFC 9112 §9.3.1, RFC 9113 §8.7) it tries again here, nothing else.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;

use crate::support::{
    Answer, Scripted, Server, Upstream, Wire, eventually, free_port, get, ok,
    quic::{Quic, answer},
    request, tls_stream,
};

/// What the load is put on.
struct Field {
    server: Server,
    tls: u16,
    root: PathBuf,
    /// The upstream that never goes.
    steady: Upstream,
    /// Tunnels end here.
    echo: Scripted,
    /// Ports of the two upstreams that come and go.
    flapping: [u16; 2],
    /// A site moves between these.
    moving: [u16; 2],
}

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const UPGRADE: &str = "GET /tunnel HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

impl Field {
    fn start() -> Self {
        let echo = Scripted::start(|wire| {
            if !wire.head().contains("/tunnel") {
                wire.send(ok("no tunnel"));
                return;
            }
            wire.send(SWITCH);
            loop {
                let byte = wire.take(1);
                if byte.is_empty() || !wire.send(&byte) {
                    return;
                }
            }
        });
        let steady = Upstream::start("up");
        let (tls, flapping, moving) =
            (free_port(), [free_port(), free_port()], [free_port(), free_port()]);
        let text = text(0, tls, &steady.address(), flapping, moving, &echo.address());
        let server = Server::start(&text);
        let root = server.folder.join("data/caddy/pki/authorities/local/root.crt");
        eventually("the authority is there", || root.exists());
        Self { server, tls, root, steady, echo, flapping, moving }
    }

    fn text(&self, generation: usize) -> String {
        let (steady, echo) = (self.steady.address(), self.echo.address());
        text(generation, self.tls, &steady, self.flapping, self.moving, &echo)
    }

    /// Resident memory in KiB.
    fn memory(&self) -> usize {
        let path = format!("/proc/{}/status", self.server.child.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// The config of a generation: a header tells its number, a site moves from port to port, and every
/// tenth changes what belongs to connections, so that open ones have to end.
fn text(
    generation: usize,
    tls: u16,
    steady: &str,
    flapping: [u16; 2],
    moving: [u16; 2],
    echo: &str,
) -> String {
    let (idle, moving) = (100 + generation / 10, moving[generation % 2]);
    let [one, two] = flapping;
    format!(
        "{{
	admin 127.0.0.1:{{admin}}
	skip_install_trust
	http_port {{port}}
	https_port {tls}
	servers {{
		timeouts {{
			idle {idle}s
		}}
	}}
}}
(site) {{
	header X-Generation {generation}
	reverse_proxy /tunnel {echo} {{
		stream_close_delay 10m
	}}
	reverse_proxy /steady {steady}
	reverse_proxy {steady} 127.0.0.1:{one} 127.0.0.1:{two} {{
		lb_policy round_robin
		lb_try_duration 5s
		lb_try_interval 10ms
		health_uri /health
		health_interval 50ms
	}}
}}
http://localhost:{{port}} {{
	import site
}}
https://localhost:{tls} {{
	tls internal
	import site
}}
http://localhost:{moving} {{
	respond moving
}}
"
    )
}

/// Clients until they are told to stop.
#[derive(Clone)]
struct Load {
    port: u16,
    tls: u16,
    root: PathBuf,
    stop: Arc<AtomicBool>,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Runs a client; gives how much it got answered.
    fn spawn(&self, client: impl FnOnce(&Self) -> usize + Send + 'static) -> JoinHandle<usize> {
        let own = self.clone();
        std::thread::spawn(move || client(&own))
    }

    /// The same, in a runtime of its own.
    fn spawn_async<F: Future<Output = usize>>(
        &self,
        client: impl FnOnce(Self) -> F + Send + 'static,
    ) -> JoinHandle<usize> {
        let own = self.clone();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(client(own))
        })
    }

    fn uri(&self) -> String {
        format!("https://localhost:{}/", self.tls)
    }
}

#[track_caller]
fn is_up(status: u16, body: &[u8]) {
    assert_eq!((status, body), (200, &b"up"[..]), "{}", String::from_utf8_lossy(body));
}

/// A new connection for each request.
fn fresh(load: &Load) -> usize {
    let mut asked = 0;
    while load.goes_on() {
        let answer = get(load.port, "/");
        is_up(answer.status, answer.body.as_bytes());
        asked += 1;
    }
    asked
}

/// One connection for many requests, bodies among them. A kept connection may end before anything
/// of an answer came; then the request may be sent again on a new one, once.
fn kept(load: &Load) -> usize {
    let mut asked = 0;
    let mut wire = Wire::connect(load.port);
    let mut used = false;
    while load.goes_on() {
        let request = match asked % 2 {
            0 => "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
            _ => format!(
                "POST /steady HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n{}",
                "x".repeat(5000)
            ),
        };
        let mut answer: Answer =
            if wire.send(&request) { wire.answer() } else { Answer::default() };
        if answer.status == 0 && used {
            wire = Wire::connect(load.port);
            assert!(wire.send(&request));
            answer = wire.answer();
        }
        is_up(answer.status, answer.body.as_bytes());
        asked += 1;
        used = answer.header("connection") != Some("close");
        if !used {
            wire = Wire::connect(load.port);
        }
    }
    asked
}

/// Four requests at a time on a connection of HTTP/2 over TLS. One that was told to be unprocessed
/// (by GOAWAY or REFUSED_STREAM) may be sent again.
async fn http2(load: Load) -> usize {
    let connect = async || {
        let stream = tls_stream(load.tls, "localhost", &load.root, b"h2").await;
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        sender
    };
    let mut sender: h2::client::SendRequest<Bytes> = connect().await;
    let mut asked = 0;
    while load.goes_on() {
        let mut under_way = Vec::new();
        while under_way.len() < 4 {
            let request = Request::get(load.uri()).body(()).unwrap();
            let sent = match sender.clone().ready().await {
                Ok(mut ready) => ready.send_request(request, true),
                Err(error) => Err(error),
            };
            match sent {
                Ok((response, _)) => under_way.push(response),
                // Nothing was sent: the connection took no more.
                Err(_) => sender = connect().await,
            }
        }
        for response in under_way {
            match response.await {
                Ok(response) => {
                    let (parts, mut stream) = response.into_parts();
                    let mut body = Vec::new();
                    while let Some(data) = stream.data().await {
                        let data = data.unwrap();
                        stream.flow_control().release_capacity(data.len()).unwrap();
                        body.extend(&data);
                    }
                    is_up(parts.status.as_u16(), &body);
                    asked += 1;
                }
                Err(error) => {
                    let unprocessed = error.is_go_away() && error.is_remote()
                        || error.reason() == Some(h2::Reason::REFUSED_STREAM);
                    assert!(unprocessed, "{error:?}");
                    sender = connect().await;
                }
            }
        }
    }
    asked
}

/// Requests of HTTP/3. Where no stream can be opened, nothing was sent.
async fn http3(load: Load) -> usize {
    let connect = async || Quic::connect(load.tls, "localhost", &load.root).await.unwrap();
    let mut client = connect().await;
    let mut asked = 0;
    while load.goes_on() {
        let request = Request::get(load.uri()).body(()).unwrap();
        let Ok(mut stream) = client.open(request).await else {
            client = connect().await;
            continue;
        };
        stream.finish().await.unwrap();
        let got = answer(&mut stream).await.unwrap();
        is_up(got.status, &got.body);
        asked += 1;
    }
    asked
}

/// Tunnels that live through reloads; each byte comes back.
fn tunnels(load: &Load) -> usize {
    let mut passed = 0;
    while load.goes_on() {
        let mut wire = Wire::connect(load.port);
        wire.send(UPGRADE);
        let head = wire.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        for number in 0..100_u32 {
            let words = format!("{number:>8}").repeat(20);
            assert!(wire.send(&words), "the tunnel takes no more after {number}");
            let back = wire.take(words.len());
            assert_eq!(String::from_utf8_lossy(&back), words, "word {number}");
            passed += 1;
            std::thread::sleep(Duration::from_millis(10));
        }
        wire.half_close();
        assert!(wire.ended());
    }
    passed
}

fn soak(length: Duration) {
    let mut field = Field::start();
    let load = Load {
        port: field.server.port,
        tls: field.tls,
        root: field.root.clone(),
        stop: Arc::default(),
    };
    let clients = [
        ("new connections", load.spawn(fresh)),
        ("kept connections", load.spawn(kept)),
        ("HTTP/2", load.spawn_async(http2)),
        ("HTTP/3", load.spawn_async(http3)),
        ("tunnels", load.spawn(tunnels)),
    ];
    let (begin, reloads) = (Instant::now(), AtomicUsize::new(0));
    let mut flapping: [Option<Upstream>; 2] = [None, None];
    let mut early = None;
    for generation in 1_usize.. {
        if begin.elapsed() > length || clients.iter().any(|(_, client)| client.is_finished()) {
            break;
        }
        let (accepted, said) = field.server.reload(&field.text(generation));
        assert!(accepted, "{said}");
        reloads.fetch_add(1, Ordering::Relaxed);
        let moving = field.moving[generation % 2];
        assert_eq!(get(moving, "/").body, "moving", "the port moved");
        // One that is refused changes nothing.
        let kind = [("Content-Type", "text/caddyfile")];
        let bad = format!(":{} {{\n\trespnd\n}}\n", field.server.port);
        let refused = request(field.server.admin, "POST", "/load", &kind, &bad).unwrap();
        assert_eq!(refused.status, 400, "{}", refused.body);
        // In turn one comes or goes, and now and then both are gone.
        let at = generation % 2;
        flapping[at] = match flapping[at].take() {
            Some(_) => None,
            None => Some(Upstream::start_on("up", field.flapping[at])),
        };
        if early.is_none() && begin.elapsed() > length / 4 {
            early = Some((field.memory(), field.server.descriptors()));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    load.stop.store(true, Ordering::Relaxed);
    for (what, client) in clients {
        let answered = client.join().unwrap_or_else(|_| panic!("{what}: see above"));
        println!("{what}: {answered}");
        assert!(answered > 20, "{what}: {answered}");
    }
    println!("reloads: {}", reloads.load(Ordering::Relaxed));
    assert!(!field.server.log().contains("panic"), "{}", field.server.log());
    // Neither memory nor descriptors grow with reloads.
    let (memory, descriptors) = early.unwrap();
    assert!(field.memory() < memory + 64 * 1024, "{} KiB from {memory}", field.memory());
    eventually("descriptors come back", || field.server.descriptors() < descriptors + 20);
    drop(flapping);
    field.server.signal("TERM");
    eventually("it ends", || matches!(field.server.child.try_wait(), Ok(Some(_))));
    assert!(field.server.child.wait().unwrap().success());
}

#[test]
fn no_request_is_lost_while_everything_changes() {
    soak(Duration::from_secs(5));
}

/// `cargo test --test tests -- --ignored a_minute` (run by `.ci/run`).
#[test]
#[ignore = "takes a minute; .ci/run runs it"]
fn no_request_is_lost_in_a_minute_of_changes() {
    soak(Duration::from_secs(60));
}
