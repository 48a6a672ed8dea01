//! What many clients leave behind: nothing. And what they take while they are there: little.

use std::{
    fs,
    io::Write,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;

use crate::support::{Scripted, Server, Wire, eventually, free_port, get, ok, site_with};

impl Server {
    /// Resident memory in MiB.
    pub fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
    }

    /// Time on a processor so far, in ticks of a hundredth of a second.
    pub fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

fn upstream() -> Scripted {
    Scripted::start(|wire| {
        while let Some((head, _)) = wire.request() {
            let sent = match head.split(' ').nth(1) {
                Some("/close") => {
                    wire.send(
                        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nup",
                    );
                    false
                }
                Some("/large") => wire.send(ok(&"x".repeat(1 << 20))),
                Some("/ws") => {
                    wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi");
                    wire.rest();
                    false
                }
                _ => wire.send(ok("up")),
            };
            if !sent {
                return;
            }
        }
    })
}

/// A server with an upstream, and the descriptors it has after its first requests.
fn serve() -> (Server, Scripted, usize) {
    let upstream = upstream();
    let server = Server::start(&site_with(&format!(
        "\trespond /fine ok\n\treverse_proxy {}\n",
        upstream.address()
    )));
    for _ in 0..20 {
        assert_eq!(get(server.port, "/").body, "up");
    }
    let before = server.descriptors();
    (server, upstream, before)
}

fn settled(server: &Server, before: usize) {
    eventually("the descriptors come back", || server.descriptors() <= before + 8);
    eventually("nothing is under way", || {
        get(server.admin, "/reverse_proxy/upstreams").body.contains("\"num_requests\":0")
    });
    assert_eq!(get(server.port, "/fine").body, "ok");
    assert!(!server.log().contains("panic"), "{}", server.log());
}

#[test]
fn new_connections_leave_nothing_behind() {
    let (server, _upstream, before) = serve();
    for _ in 0..500 {
        assert_eq!(get(server.port, "/").body, "up");
    }
    let memory = server.memory();
    for target in ["/", "/close"] {
        for _ in 0..700 {
            assert_eq!(get(server.port, target).body, "up");
        }
    }
    settled(&server, before);
    let after = server.memory();
    assert!(after < memory + 20, "{memory} MiB became {after} MiB");
}

#[test]
fn clients_that_leave_early_leave_nothing_behind() {
    let (server, _upstream, before) = serve();
    let memory = server.memory();
    for number in 0..300 {
        let mut wire = Wire::connect(server.port);
        wire.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
        wire.take(1000);
        if number % 2 == 0 {
            wire.reset();
        }
    }
    settled(&server, before);
    let after = server.memory();
    assert!(after < memory + 40, "{memory} MiB became {after} MiB");
}

#[test]
fn tunnels_leave_nothing_behind() {
    let (server, upstream, before) = serve();
    for number in 0..150 {
        let mut wire = Wire::connect(server.port);
        wire.send(
            "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        assert!(wire.head().starts_with("HTTP/1.1 101 "));
        assert_eq!(wire.take(2), b"hi");
        if number % 2 == 0 {
            wire.reset();
        }
    }
    settled(&server, before);
    assert!(upstream.connections() >= 150);
}

#[test]
fn broken_handshakes_leave_nothing_behind() {
    let tls = free_port();
    let server = Server::start(&format!(
        "{{\n\tadmin 127.0.0.1:{{admin}}\n\thttp_port {{port}}\n\thttps_port {tls}\n\
         \tskip_install_trust\n}}\nhttp://localhost {{\n\trespond ok\n}}\n\
         https://localhost {{\n\trespond ok\n}}\n"
    ));
    eventually("the TLS port is open", || TcpStream::connect(("127.0.0.1", tls)).is_ok());
    let before = server.descriptors();
    for number in 0..300 {
        let mut stream = TcpStream::connect(("127.0.0.1", tls)).unwrap();
        let hello = [22, 3, 1, 0, 100, 1, 0, 0, 96, 3, 3];
        stream.write_all(&hello[..number % hello.len()]).unwrap();
    }
    eventually("the descriptors come back", || server.descriptors() <= before + 8);
    assert_eq!(get(server.port, "/").body, "ok");
}

#[test]
fn connections_of_http2_leave_nothing_behind() {
    let upstream = upstream();
    let server = Server::start(&format!(
        "{{\n\tadmin 127.0.0.1:{{admin}}\n\tservers {{\n\t\tprotocols h1 h2c\n\t}}\n}}\n{}",
        site_with(&format!("\trespond /fine ok\n\treverse_proxy {}\n", upstream.address()))
    ));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let round = |connections: usize| {
        runtime.block_on(async {
            for _ in 0..connections {
                let stream = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await;
                let (mut sender, connection) =
                    h2::client::handshake(stream.unwrap()).await.unwrap();
                let connection = tokio::spawn(connection);
                let mut answers = Vec::new();
                for _ in 0..20 {
                    let request = Request::get("http://localhost/").body(()).unwrap();
                    sender = sender.ready().await.unwrap();
                    answers.push(sender.send_request(request, true).unwrap().0);
                }
                for answer in answers {
                    let mut body = answer.await.unwrap().into_body();
                    let data: Bytes = body.data().await.unwrap().unwrap();
                    assert_eq!(data, "up");
                }
                drop(sender);
                let _ = connection.await;
            }
        });
    };
    round(10);
    let before = server.descriptors();
    round(100);
    settled(&server, before + 20);
}

#[test]
fn idle_connections_hold_nobody_up() {
    let (server, _upstream, before) = serve();
    let idle: Vec<_> = (0..800)
        .map(|number| {
            let mut wire = Wire::connect(server.port);
            if number % 2 == 0 {
                wire.send("GET /fine HTTP/1.1\r\nHost: a\r\n\r\n");
                assert_eq!(wire.answer().body, "ok");
            }
            wire
        })
        .collect();
    let begin = Instant::now();
    for _ in 0..20 {
        assert_eq!(get(server.port, "/").body, "up");
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    drop(idle);
    settled(&server, before);
}

#[test]
fn an_idle_server_does_nothing() {
    let (server, _upstream, _) = serve();
    // Some connections that wait, some that were broken.
    let kept: Vec<_> = (0..20).map(|_| Wire::connect(server.port)).collect();
    for _ in 0..20 {
        let mut wire = Wire::connect(server.port);
        wire.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
        wire.take(10);
        wire.reset();
    }
    settled(&server, usize::MAX - 8);
    let before = server.ticks();
    std::thread::sleep(Duration::from_secs(2));
    let used = server.ticks() - before;
    assert!(used < 30, "{used} hundredths of a second in two seconds");
    drop(kept);
}

/// Traffic keeps away from an upstream while it is down, and no request fails meanwhile.
#[test]
fn an_upstream_that_comes_and_goes_costs_no_request() {
    let up = Arc::new(AtomicUsize::new(1));
    let is_up = up.clone();
    let flapping = Scripted::start(move |wire| {
        while wire.request().is_some() {
            let sent = match is_up.load(Ordering::SeqCst) {
                0 => wire.send("HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n"),
                _ => wire.send(ok("flapping")),
            };
            if !sent {
                return;
            }
        }
    });
    let steady = upstream();
    let server = Server::start(&site_with(&format!(
        "\treverse_proxy {} {} {{\n\t\tlb_policy round_robin\n\t\tlb_retries 2\n\
         \t\tlb_retry_match expression `{{http.reverse_proxy.status_code}} == 503`\n\
         \t\thealth_uri /health\n\t\thealth_interval 100ms\n\t}}\n",
        flapping.address(),
        steady.address()
    )));
    for round in 0..4 {
        up.store(round % 2, Ordering::SeqCst);
        let down = round % 2 == 0;
        eventually("it is seen", || {
            let count = |word: &str| {
                let told = get(server.admin, "/reverse_proxy/upstreams").body;
                told.matches(word).count()
            };
            let answer = get(server.port, "/");
            assert_eq!(answer.status, 200, "{answer:?}");
            count("\"healthy\":false") == usize::from(down)
        });
        for _ in 0..20 {
            let body = get(server.port, "/").body;
            assert!(body == "up" || (!down && body == "flapping"), "{body}");
        }
    }
}
