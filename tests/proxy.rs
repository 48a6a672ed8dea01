//! Load balancing, health, retries, as a user meets them.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::support::{
    Scripted, Server, Upstream, Wire, eventually, free_port, get, ok, request, site_with,
};

fn names(port: u16, target: &str, count: usize) -> Vec<String> {
    (0..count).map(|_| get(port, target).body).collect()
}

fn tally(names: &[String]) -> HashMap<&str, usize> {
    let mut tally = HashMap::new();
    for name in names {
        *tally.entry(name.as_str()).or_default() += 1;
    }
    tally
}

#[test]
fn round_robin_alternates() {
    let (one, two) = (Upstream::start("1"), Upstream::start("2"));
    let server = Server::start(&format!(
        "http://localhost:{{port}} {{\n\treverse_proxy {} {} {{\n\t\tlb_policy round_robin\n\t}}\n}}\n",
        one.address(),
        two.address()
    ));
    let seen = names(server.port, "/", 8);
    for pair in seen.windows(2) {
        assert_ne!(pair[0], pair[1], "{seen:?}");
    }
    // One worker or several: the counter is common.
    assert_eq!(tally(&seen), HashMap::from([("1", 4), ("2", 4)]));
}

#[test]
fn weights_have_two_notations() {
    let (one, two) = (Upstream::start("1"), Upstream::start("2"));
    let (a, b) = (one.address(), two.address());
    let server = Server::start(&format!(
        "http://localhost:{{port}} {{
	handle /caddy {{
		reverse_proxy {a} {b} {{
			lb_policy weighted_round_robin 2 1
		}}
	}}
	handle /users {{
		reverse_proxy {{
			to {a} 2
			to {b} 1
			lb_policy weighted_round_robin
		}}
	}}
}}
"
    ));
    for target in ["/caddy", "/users"] {
        let seen = names(server.port, target, 9);
        assert_eq!(tally(&seen), HashMap::from([("1", 6), ("2", 3)]), "{target}: {seen:?}");
    }
}

#[test]
fn ip_hash_is_sticky_and_least_conn_avoids_the_busy_one() {
    let (one, two) = (Upstream::start("1"), Upstream::start("2"));
    let (a, b) = (one.address(), two.address());
    let server = Server::start(&format!(
        "http://localhost:{{port}} {{
	handle /ip {{
		reverse_proxy {a} {b} {{
			lb_policy ip_hash
		}}
	}}
	handle /least {{
		reverse_proxy {a} {b} {{
			lb_policy least_conn
		}}
	}}
	handle /one {{
		reverse_proxy {a}
	}}
}}
"
    ));
    assert_eq!(tally(&names(server.port, "/ip", 6)).len(), 1);
    one.set_delay(Duration::from_secs(1));
    let port = server.port;
    let before = one.heads().len();
    let busy = std::thread::spawn(move || get(port, "/one"));
    eventually("the upstream counts as busy", || {
        get_upstreams(&server).contains("\"num_requests\":1") && one.heads().len() == before
    });
    assert_eq!(get(port, "/least").body, "2");
    assert_eq!(busy.join().unwrap().body, "1");
}

fn get_upstreams(server: &Server) -> String {
    get(server.admin, "/reverse_proxy/upstreams").body
}

#[test]
fn a_stopped_backend_leaves_the_rotation_and_comes_back() {
    let (one, two) = (Upstream::start("1"), Upstream::start("2"));
    let (port_one, a, b) = (one.port, one.address(), two.address());
    let server = Server::start(&format!(
        "http://localhost:{{port}} {{
	reverse_proxy {a} {b} {{
		lb_policy round_robin
		lb_try_duration 5s
		lb_try_interval 20ms
		health_uri /health
		health_interval 100ms
		health_timeout 1s
	}}
}}
"
    ));
    assert_eq!(tally(&names(server.port, "/", 4)).len(), 2);
    drop(one);
    // No request fails, from the first one on.
    for _ in 0..20 {
        let answer = get(server.port, "/");
        assert_eq!((answer.status, answer.body.as_str()), (200, "2"));
    }
    eventually("the admin API shows it down", || {
        get_upstreams(&server).contains("\"healthy\":false")
    });
    let one = Upstream::start_on("1", port_one);
    eventually("it is back", || get(server.port, "/").body == "1");
    assert!(one.hits() > 0);
}

#[test]
fn health_status_decides() {
    let (one, two) = (Upstream::start("1"), Upstream::start("2"));
    let server = Server::start(&format!(
        "http://localhost:{{port}} {{
	reverse_proxy {} {} {{
		lb_policy first
		health_uri /health
		health_interval 50ms
		health_status 2xx
	}}
}}
",
        one.address(),
        two.address()
    ));
    eventually("the first is asked", || get(server.port, "/").body == "1");
    one.set_status(503);
    eventually("the first is out", || get(server.port, "/").body == "2");
    one.set_status(204);
    eventually("the first is in again", || {
        get(server.port, "/").body == "1" || get(server.port, "/").status == 204
    });
}

#[test]
fn passive_checks_take_a_failing_backend_out() {
    let (one, two) = (Upstream::start("1"), Upstream::start("2"));
    one.set_status(500);
    let server = Server::start(&format!(
        "http://localhost:{{port}} {{
	reverse_proxy {} {} {{
		lb_policy first
		fail_duration 60s
		max_fails 2
		unhealthy_status 5xx
	}}
}}
",
        one.address(),
        two.address()
    ));
    let statuses: Vec<_> = (0..5).map(|_| get(server.port, "/").status).collect();
    assert_eq!(statuses, [500, 500, 200, 200, 200]);
}

#[test]
fn errors_have_their_statuses() {
    let dead = free_port();
    let slow = Upstream::start("slow");
    slow.set_delay(Duration::from_secs(3));
    let server = Server::start(&format!(
        "http://localhost:{{port}} {{
	handle /dead {{
		reverse_proxy 127.0.0.1:{dead}
	}}
	handle /none {{
		reverse_proxy
	}}
	handle /slow {{
		reverse_proxy {} {{
			transport http {{
				response_header_timeout 100ms
			}}
		}}
	}}
}}
",
        slow.address()
    ));
    assert_eq!(get(server.port, "/dead").status, 502);
    assert_eq!(get(server.port, "/none").status, 503);
    assert_eq!(get(server.port, "/slow").status, 504);
}

#[test]
fn requests_are_prepared() {
    let one = Upstream::start("1");
    let server = Server::start(&format!(
        "http://localhost:{{port}} {{
	reverse_proxy {} {{
		header_up X-Mine {{http.request.method}}
		header_up -X-Gone
	}}
}}
",
        one.address()
    ));
    let headers = [
        ("X-Gone", "1"),
        ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "1"),
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Kept", "yes"),
    ];
    assert_eq!(request(server.port, "POST", "/a?b=c", &headers, "body").unwrap().body, "1");
    let head = one.heads().pop().unwrap().to_lowercase();
    assert!(head.starts_with("post /a?b=c http/1.1\r\n"), "{head}");
    for line in [
        "x-mine: post",
        "x-forwarded-for: 127.0.0.1\r",
        "x-forwarded-proto: http",
        "x-kept: yes",
        "via: 1.1 ",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    for line in ["x-gone", "x-hop", "6.6.6.6"] {
        assert!(!head.contains(line), "{line} in {head}");
    }
}

/// Waits for a line of the log, and gives its JSON.
fn logged(server: &Server, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let mut found = None;
    eventually("the line is in the log", || {
        let log = server.log();
        found = log.lines().filter_map(|line| serde_json::from_str(line).ok()).find(|l| wanted(l));
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn debug_logs_tell_what_went_to_the_upstream() {
    let one = Upstream::start("1");
    let nobody = free_port();
    let server = Server::start(&format!(
        "{{
\tadmin off
\tdebug
}}
http://localhost:{{port}} {{
\treverse_proxy 127.0.0.1:{nobody} {} {{
\t\tlb_policy first
\t\tlb_retries 1
\t\tverbose_logs
\t\theader_up X-Added yes
\t}}
}}
",
        one.address()
    ));
    let answer = request(server.port, "GET", "/x", &[("Authorization", "Basic abc")], "").unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "1"));
    let says = |message: &'static str| move |line: &serde_json::Value| line["msg"] == message;
    let chosen = logged(&server, says("selected upstream"));
    assert_eq!(chosen["dial"], format!("127.0.0.1:{nobody}"));
    assert_eq!(chosen["total_upstreams"], 2);
    let failed = logged(&server, says("upstream roundtrip"));
    assert_eq!(failed["upstream"], format!("127.0.0.1:{nobody}"));
    assert!(failed["error"].as_str().unwrap().contains("connection refused"), "{failed}");
    assert!(logged(&server, says("retrying"))["error"].is_string());
    let told = logged(&server, |line| line["msg"] == "upstream roundtrip" && line["status"] == 200);
    assert_eq!(told["upstream"], one.address());
    assert_eq!(told["request"]["uri"], "/x");
    let headers = &told["request"]["headers"];
    assert_eq!(headers["X-Added"], serde_json::json!(["yes"]));
    assert_eq!(headers["Authorization"], serde_json::json!(["REDACTED"]));
    assert!(told["headers"]["Content-Length"].is_array(), "{told}");
}

#[test]
fn paths_are_escaped_for_upstreams() {
    let one = Upstream::start("1");
    let server = Server::start(&format!(
        "http://localhost:{{port}} {{\n\treverse_proxy {}\n}}\n",
        one.address()
    ));
    assert_eq!(get(server.port, "/a|b%2Fc\"?q=|").status, 200);
    assert_eq!(get(server.port, "/a%2Fb?q=|").status, 200);
    let lines: Vec<String> =
        one.heads().iter().filter_map(|head| head.lines().next().map(str::to_owned)).collect();
    assert_eq!(lines, ["GET /a%7Cb/c%22?q=| HTTP/1.1", "GET /a%2Fb?q=| HTTP/1.1"]);
}

#[test]
fn clients_that_leave_early_are_in_the_log_and_in_the_metrics() {
    let asked = Arc::new(AtomicBool::new(false));
    let seen = asked.clone();
    let silent = Scripted::start(move |wire| {
        if wire.request().is_some() {
            seen.store(true, Ordering::SeqCst);
            // Until the proxy lets go.
            let _ = wire.request();
        }
    });
    let server = Server::start(&format!(
        "{{
\tadmin 127.0.0.1:{{admin}}
\tmetrics
}}
http://localhost:{{port}} {{
\tlog
\treverse_proxy {}
}}
",
        silent.address()
    ));
    let mut client = std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    std::io::Write::write_all(&mut client, b"GET /left HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    eventually("the request is at the upstream", || asked.load(Ordering::SeqCst));
    drop(client);
    let entry = logged(&server, |line| line["request"]["uri"] == "/left");
    assert_eq!((&entry["msg"], &entry["level"]), (&"handled request".into(), &"info".into()));
    assert_eq!(entry["status"], 499);
    let metrics = get(server.admin, "/metrics").body;
    let open: Vec<_> =
        metrics.lines().filter(|l| l.starts_with("caddy_http_requests_in_flight{")).collect();
    assert!(!open.is_empty() && open.iter().all(|line| line.ends_with(" 0")), "{open:?}");
}

/// A DNS server whose service has the first port in the first answer, then the other one.
fn services(ports: [u16; 2]) -> u16 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let own = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut buffer, mut asked) = ([0; 512], 0);
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let Some(name) = buffer[12..length].iter().position(|byte| *byte == 0) else { return };
            let end = 12 + name + 5;
            let mut answer = buffer[..end].to_vec();
            answer[2..4].copy_from_slice(&[0x81, 0x80]);
            answer[6..12].fill(0);
            answer[7] = 1;
            // Name, type SRV, class, time to live, length; priority, weight, port, target.
            answer.extend([0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 60, 0, 17, 0, 1, 0, 1]);
            answer.extend(ports[asked.min(1)].to_be_bytes());
            answer.extend(b"\x09localhost\0");
            asked += 1;
            if socket.send_to(&answer, peer).is_err() {
                return;
            }
        }
    });
    own
}

#[test]
fn services_are_looked_up_anew_for_another_try() {
    let alive = Upstream::start("alive");
    let dns = services([free_port(), alive.port]);
    let server = Server::start(&format!(
        "http://localhost:{{port}} {{
	reverse_proxy {{
		lb_retries 1
		dynamic srv _http._tcp.app.test {{
			resolvers 127.0.0.1:{dns}
		}}
	}}
}}
"
    ));
    let answer = get(server.port, "/");
    assert_eq!((answer.status, answer.body.as_str()), (200, "alive"));
}

#[test]
fn a_handler_that_stalls_holds_up_no_other_one() {
    let upstream = Scripted::start(|wire| {
        while let Some((head, _)) = wire.request() {
            if head.contains("/stall") {
                wire.rest();
                return;
            }
            if !wire.send(ok("fine")) {
                return;
            }
        }
    });
    let proxy = format!(
        "reverse_proxy {} {{\n\t\t\ttransport http {{\n\t\t\t\tmax_conns_per_host 1\n\t\t\t}}\n\t\t}}\n",
        upstream.address()
    );
    let server = Server::start(&site_with(&format!(
        "\thandle /stall {{\n\t\t{proxy}\t}}\n\thandle {{\n\t\t{proxy}\t}}\n"
    )));
    let mut stalled = Wire::connect(server.port);
    stalled.send("GET /stall HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("it has its connection", || upstream.connections() == 1);
    assert_eq!(get(server.port, "/other").body, "fine");
}
