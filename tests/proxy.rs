//! Load balancing, health, retries, as a user meets them.

use std::{collections::HashMap, time::Duration};

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
