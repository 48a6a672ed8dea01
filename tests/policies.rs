//! The twelve load-balancing policies, each by the sequence it gives or the choice it must make.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use sha2::{Digest, Sha256};
use xxhash_rust::xxh64::xxh64;

use crate::support::{
    Server, Upstream, Wire, eventually, free_port, get, request, scratch, site_with,
};

/// Three upstreams named 1, 2 and 3.
fn three() -> [Upstream; 3] {
    ["1", "2", "3"].map(Upstream::start)
}

fn list(upstreams: &[Upstream]) -> String {
    upstreams.iter().map(Upstream::address).collect::<Vec<_>>().join(" ")
}

/// A site with one `handle` a policy; the path is the first word of each entry.
fn serve(upstreams: &[Upstream], policies: &[(&str, &str)]) -> Server {
    let to = list(upstreams);
    let handles: String = policies
        .iter()
        .map(|(path, options)| {
            format!(
                "\thandle {path} {{\n\t\treverse_proxy {to} {{\n\t\t\t{options}\n\t\t}}\n\t}}\n"
            )
        })
        .collect();
    Server::start(&site_with(&handles))
}

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

fn with(port: u16, target: &str, headers: &[(&str, &str)]) -> String {
    let answer = request(port, "GET", target, headers, "").unwrap();
    assert_eq!(answer.status, 200, "{target} {headers:?} {answer:?}");
    answer.body
}

/// The name of the upstream that rendezvous hashing gives a key to.
fn winner(upstreams: &[Upstream], key: &str) -> String {
    let place = (0..upstreams.len())
        .max_by_key(|&place| {
            let address = upstreams[place].address();
            xxh64(format!("{address}{key}").as_bytes(), 0)
        })
        .unwrap();
    (place + 1).to_string()
}

/// Has the server count a failure of an upstream: it is out for a minute.
const PASSIVE: &str = "fail_duration 60s\n\t\t\tunhealthy_status 5xx\n\t\t\t";

#[test]
fn the_example_behaves_as_documented() {
    let folder = scratch();
    let text = include_str!("../Caddyfile.example");
    let (one, two, tls) = (free_port(), free_port(), free_port());
    // No admin endpoint on its default port, where another server may be.
    let text = text
        .replacen("{\n", "{\n\tadmin 127.0.0.1:{admin}\n", 1)
        .replace("8080", "{port}")
        .replace("8443", &tls.to_string())
        .replace("8001", &one.to_string())
        .replace("8002", &two.to_string());
    let text = text[text.find("{\n").unwrap()..].to_owned();
    let server = Server::start_in(folder, &text);
    eventually("the backends answer", || {
        get(one, "/").status == 200 && get(two, "/").status == 200
    });
    let seen = names(server.port, "/balanced", 4);
    assert_eq!(seen, ["backend 1\n", "backend 2\n", "backend 1\n", "backend 2\n"]);
    assert_eq!(tally(&names(server.port, "/balanced-random", 60)).len(), 2);
    assert_eq!(tally(&names(server.port, "/balanced-ip", 8)).len(), 1);
    assert_eq!(tally(&names(server.port, "/balanced-least", 60)).len(), 2);
    let weighted = names(server.port, "/balanced-weighted", 9);
    let expected = HashMap::from([("backend 1\n", 6), ("backend 2\n", 3)]);
    assert_eq!(tally(&weighted), expected, "{weighted:?}");
    assert!(get(server.port, "/").body.starts_with("Try /balanced"));
}

#[test]
fn random_reaches_all() {
    let upstreams = three();
    let server = serve(
        &upstreams,
        &[
            ("/none", ""),
            ("/random", "lb_policy random"),
            ("/choose", "lb_policy random_choose 2"),
            ("/choose3", "lb_policy random_choose 3"),
        ],
    );
    for target in ["/none", "/random", "/choose", "/choose3"] {
        // (2/3)^90 is about 1e-16.
        assert_eq!(tally(&names(server.port, target, 90)).len(), 3, "{target}");
    }
}

#[test]
fn random_choose_prefers_the_less_busy() {
    let upstreams = three();
    let one = upstreams[0].address();
    let to = list(&upstreams);
    let server = Server::start(&site_with(&format!(
        "\thandle /one {{\n\t\treverse_proxy {one}\n\t}}\n\thandle {{\n\t\treverse_proxy {to} {{\n\t\t\tlb_policy random_choose 3\n\t\t}}\n\t}}\n"
    )));
    upstreams[0].set_delay(Duration::from_secs(2));
    let port = server.port;
    let busy = std::thread::spawn(move || get(port, "/one").body);
    eventually("the first is busy", || {
        get(server.admin, "/reverse_proxy/upstreams").body.contains("\"num_requests\":1")
    });
    let seen = names(port, "/", 20);
    assert!(!tally(&seen).contains_key("1"), "{seen:?}");
    assert_eq!(busy.join().unwrap(), "1");
}

#[test]
fn round_robin_goes_around_and_skips_the_sick() {
    let upstreams = three();
    let options = format!("{PASSIVE}lb_policy round_robin");
    let server = serve(&upstreams, &[("/plain", "lb_policy round_robin"), ("/sick", &options)]);
    let seen = names(server.port, "/plain", 7);
    let start = seen[0].parse::<usize>().unwrap() - 1;
    let expected: Vec<_> = (0..7).map(|step| ((start + step) % 3 + 1).to_string()).collect();
    assert_eq!(seen, expected);
    upstreams[1].set_status(500);
    let seen: Vec<_> = (0..3).map(|_| get(server.port, "/sick").status).collect();
    assert_eq!(seen.iter().filter(|status| **status == 500).count(), 1, "{seen:?}");
    let seen = names(server.port, "/sick", 12);
    assert!(!tally(&seen).contains_key("2"), "{seen:?}");
    assert_eq!(tally(&seen).len(), 2);
}

#[test]
fn weighted_round_robin_keeps_its_proportions() {
    let upstreams = three();
    let [a, b, c] = [0, 1, 2].map(|place| upstreams[place].address());
    let server = Server::start(&site_with(&format!(
        "	handle /args {{
		reverse_proxy {a} {b} {c} {{
			lb_policy weighted_round_robin 3 2 1
		}}
	}}
	handle /lines {{
		reverse_proxy {{
			to {a} 3
			to {b} 2
			to {c} 1
			lb_policy weighted_round_robin
		}}
	}}
	handle /line {{
		reverse_proxy {{
			to {a} 3 {b} 2 {c} 1
			lb_policy weighted_round_robin
		}}
	}}
	handle /zero {{
		reverse_proxy {a} {b} {c} {{
			lb_policy weighted_round_robin 2 0 1
		}}
	}}
	handle /single {{
		reverse_proxy {a} {b} {c} {{
			lb_policy weighted_round_robin 5
		}}
	}}
"
    )));
    for (target, expected) in [
        ("/args", vec![("1", 6), ("2", 4), ("3", 2)]),
        ("/lines", vec![("1", 6), ("2", 4), ("3", 2)]),
        ("/line", vec![("1", 6), ("2", 4), ("3", 2)]),
        ("/zero", vec![("1", 8), ("3", 4)]),
        ("/single", vec![("1", 12)]),
    ] {
        let seen = names(server.port, target, 12);
        assert_eq!(tally(&seen), expected.into_iter().collect(), "{target}: {seen:?}");
    }
    // Both notations give the same sequence.
    let mut sequences = ["/args", "/lines"].map(|target| names(server.port, target, 6));
    assert_eq!(sequences[0], sequences[1]);
    sequences[0].dedup();
    assert!(sequences[0].len() >= 3, "{sequences:?}");
}

#[test]
fn a_sick_upstream_takes_no_share_of_the_weights() {
    let upstreams = three();
    let options = format!("{PASSIVE}lb_policy weighted_round_robin 2 1 1");
    let server = serve(&upstreams, &[("/", &options)]);
    upstreams[0].set_status(503);
    eventually("the first is out", || get(server.port, "/").status == 503);
    let seen = names(server.port, "/", 12);
    assert!(!tally(&seen).contains_key("1"), "{seen:?}");
    assert_eq!(tally(&seen).len(), 2, "{seen:?}");
}

#[test]
fn first_fails_over_in_order() {
    let upstreams = three();
    let options = format!("{PASSIVE}lb_policy first");
    let server = serve(&upstreams, &[("/", &options)]);
    assert_eq!(tally(&names(server.port, "/", 5)), HashMap::from([("1", 5)]));
    upstreams[0].set_status(500);
    assert_eq!(get(server.port, "/").status, 500);
    assert_eq!(tally(&names(server.port, "/", 5)), HashMap::from([("2", 5)]));
    upstreams[1].set_status(500);
    assert_eq!(get(server.port, "/").status, 500);
    assert_eq!(tally(&names(server.port, "/", 5)), HashMap::from([("3", 5)]));
    upstreams[2].set_status(500);
    assert_eq!(get(server.port, "/").status, 500);
    assert_eq!(get(server.port, "/").status, 503);
}

#[test]
fn least_conn_avoids_the_busy() {
    let upstreams = three();
    let [a, b, c] = [0, 1, 2].map(|place| upstreams[place].address());
    let server = Server::start(&site_with(&format!(
        "\treverse_proxy /one {a}\n\treverse_proxy /two {b}\n\treverse_proxy /least {a} {b} {c} {{\n\t\tlb_policy least_conn\n\t}}\n"
    )));
    for upstream in &upstreams[..2] {
        upstream.set_delay(Duration::from_secs(2));
    }
    let port = server.port;
    let busy = ["/one", "/two"].map(|path| std::thread::spawn(move || get(port, path).body));
    eventually("two are busy", || {
        let status = get(server.admin, "/reverse_proxy/upstreams").body;
        status.matches("\"num_requests\":1").count() == 2
    });
    assert_eq!(tally(&names(port, "/least", 10)), HashMap::from([("3", 10)]));
    assert_eq!(busy.map(|one| one.join().unwrap()), ["1", "2"]);
}

fn from(source: &str, port: u16, target: &str, more: &str) -> String {
    let mut wire = Wire::connect_from(source, port);
    wire.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n"));
    wire.answer().body
}

#[test]
fn ip_hash_goes_by_the_peer() {
    let upstreams = three();
    let server = serve(&upstreams, &[("/", "lb_policy ip_hash")]);
    let mut seen = HashSet::new();
    for number in 1..20 {
        let source = format!("127.0.0.{number}");
        let expected = winner(&upstreams, &source);
        for _ in 0..2 {
            // What the client claims to be changes nothing.
            let forged = format!("X-Forwarded-For: 10.0.0.{number}\r\n");
            assert_eq!(from(&source, server.port, "/", &forged), expected, "{source}");
        }
        seen.insert(expected);
    }
    assert!(seen.len() > 1, "nineteen addresses all on {seen:?}");
}

#[test]
fn client_ip_hash_goes_by_whom_the_proxy_names() {
    let upstreams = three();
    let to = list(&upstreams);
    let server = Server::start(&format!(
        "{{\n\tadmin off\n\tservers {{\n\t\ttrusted_proxies static 127.0.0.2\n\t}}\n}}\n{}",
        site_with(&format!("\treverse_proxy {to} {{\n\t\tlb_policy client_ip_hash\n\t}}\n"))
    ));
    for number in 1..12 {
        let client = format!("10.0.0.{number}");
        let forwarded = format!("X-Forwarded-For: {client}\r\n");
        let trusted = from("127.0.0.2", server.port, "/", &forwarded);
        assert_eq!(trusted, winner(&upstreams, &client), "{client}");
        let stranger = from("127.0.0.3", server.port, "/", &forwarded);
        assert_eq!(stranger, winner(&upstreams, "127.0.0.3"), "{client}");
    }
}

#[test]
fn uri_hash_goes_by_path_and_query() {
    let upstreams = three();
    let to = list(&upstreams);
    let server = Server::start(&site_with(&format!(
        "\thandle /rewritten* {{\n\t\treverse_proxy {to} {{\n\t\t\tlb_policy uri_hash\n\t\t\trewrite /fixed\n\t\t}}\n\t}}\n\treverse_proxy {to} {{\n\t\tlb_policy uri_hash\n\t}}\n"
    )));
    for target in ["/", "/a", "/a?x=1", "/a?x=2", "/b%20c", "/long/path?with=query&and=more"] {
        assert_eq!(get(server.port, target).body, winner(&upstreams, target), "{target}");
    }
    let fixed = winner(&upstreams, "/fixed");
    for target in ["/rewritten", "/rewritten1", "/rewritten2"] {
        assert_eq!(get(server.port, target).body, fixed, "{target}");
    }
}

#[test]
fn query_and_header_hash_their_values_and_fall_back() {
    let upstreams = three();
    let server = serve(
        &upstreams,
        &[
            ("/query", "lb_policy query user"),
            ("/query-first", "lb_policy query user {\n\t\t\t\tfallback first\n\t\t\t}"),
            ("/header", "lb_policy header X-User"),
            ("/header-first", "lb_policy header X-User {\n\t\t\t\tfallback first\n\t\t\t}"),
            ("/host", "lb_policy header Host"),
            (
                "/nested",
                "lb_policy query a {\n\t\t\t\tfallback header X-User {\n\t\t\t\t\tfallback first\n\t\t\t\t}\n\t\t\t}",
            ),
        ],
    );
    let port = server.port;
    for user in ["ann", "bob", "carl", "dora", "emil", "fritz"] {
        let expected = winner(&upstreams, user);
        for path in ["/query", "/query-first"] {
            let target = format!("{path}?other=1&user={user}");
            assert_eq!(get(port, &target).body, expected, "{target}");
        }
        for path in ["/header", "/header-first", "/nested"] {
            assert_eq!(with(port, path, &[("X-User", user)]), expected, "{path} {user}");
        }
        let host = format!("{user}.localhost");
        let host_site = with(port, "/host", &[("Host", "localhost")]);
        assert_eq!(host_site, winner(&upstreams, "localhost"), "{host}");
    }
    assert_eq!(get(port, "/query?user=a&user=b").body, winner(&upstreams, "a,b"));
    // Without a key: the fallback, which is random where none is named.
    for path in ["/query-first", "/query-first?user=", "/query-first?user", "/header-first"] {
        assert_eq!(tally(&names(port, path, 6)), HashMap::from([("1", 6)]), "{path}");
    }
    assert_eq!(get(port, "/nested").body, "1");
    for path in ["/query", "/header"] {
        assert_eq!(tally(&names(port, path, 90)).len(), 3, "{path}");
    }
}

#[test]
fn a_hash_moves_only_the_keys_of_the_sick_upstream() {
    let upstreams = three();
    let options = format!("{PASSIVE}lb_policy header X-User");
    let server = serve(&upstreams, &[("/", &options)]);
    let users: Vec<_> = (0..24).map(|number| format!("user{number}")).collect();
    let before: Vec<_> =
        users.iter().map(|user| with(server.port, "/", &[("X-User", user)])).collect();
    upstreams[2].set_status(500);
    let victim = users.iter().find(|user| winner(&upstreams, user) == "3").unwrap();
    let status = request(server.port, "GET", "/", &[("X-User", victim)], "").unwrap().status;
    assert_eq!(status, 500);
    for (user, before) in users.iter().zip(&before) {
        let now = with(server.port, "/", &[("X-User", user)]);
        let expected = winner(&upstreams[..2], user);
        assert_eq!(now, expected, "{user}");
        assert!(*before == "3" || *before == now, "{user} moved from {before} to {now}");
    }
}

/// HMAC-SHA256 in hexadecimal digits.
fn hmac(secret: &str, text: &str) -> String {
    let mut key = [0; 64];
    key[..secret.len()].copy_from_slice(secret.as_bytes());
    let pad = |byte: u8| key.map(|one| one ^ byte);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The parts of a `Set-Cookie` line.
fn parts(line: &str) -> Vec<&str> {
    line.split(';').map(str::trim).collect()
}

#[test]
fn cookies_stick_and_are_signed() {
    let upstreams = three();
    let server = serve(
        &upstreams,
        &[
            ("/plain", "lb_policy cookie"),
            (
                "/named",
                "lb_policy cookie sticky s3cret {\n\t\t\t\tfallback first\n\t\t\t\tmax_age 90m\n\t\t\t}",
            ),
        ],
    );
    let port = server.port;
    let first = get(port, "/plain");
    let place: usize = first.body.parse().unwrap();
    let line = first.header("set-cookie").unwrap();
    let value = hmac("", &upstreams[place - 1].address());
    assert_eq!(parts(line)[0], format!("lb={value}"));
    let mut attributes = parts(line)[1..].to_vec();
    attributes.sort_unstable();
    assert_eq!(attributes, ["HttpOnly", "Path=/", "SameSite=Lax"]);
    let cookie = format!("a=b; lb={value}");
    for _ in 0..10 {
        let again = request(port, "GET", "/plain", &[("Cookie", &cookie)], "").unwrap();
        assert_eq!(again.body, first.body);
        assert_eq!(again.header("set-cookie"), None, "a good cookie is not set again");
    }

    let named = get(port, "/named");
    assert_eq!(named.body, "1");
    let line = named.header("set-cookie").unwrap();
    let value = hmac("s3cret", &upstreams[0].address());
    assert_eq!(parts(line)[0], format!("sticky={value}"));
    assert!(parts(line).contains(&"Max-Age=5400"), "{line}");
    let third = format!("sticky={}", hmac("s3cret", &upstreams[2].address()));
    assert_eq!(with(port, "/named", &[("Cookie", &third)]), "3");
    // A value that no upstream has, or one signed with another secret, is replaced.
    for forged in ["sticky=nonsense".to_owned(), format!("sticky={}", hmac("", "1"))] {
        let answer = request(port, "GET", "/named", &[("Cookie", &forged)], "").unwrap();
        assert_eq!(answer.body, "1");
        assert_eq!(parts(answer.header("set-cookie").unwrap())[0], format!("sticky={value}"));
    }
}

#[test]
fn a_cookie_of_a_sick_upstream_is_replaced() {
    let upstreams = three();
    let options = format!("{PASSIVE}lb_policy cookie");
    let server = serve(&upstreams, &[("/", &options)]);
    let sick = format!("lb={}", hmac("", &upstreams[1].address()));
    assert_eq!(with(server.port, "/", &[("Cookie", &sick)]), "2");
    upstreams[1].set_status(500);
    let answer = request(server.port, "GET", "/", &[("Cookie", &sick)], "").unwrap();
    assert_eq!(answer.status, 500);
    let answer = request(server.port, "GET", "/", &[("Cookie", &sick)], "").unwrap();
    assert_eq!(answer.status, 200);
    assert_ne!(answer.body, "2");
    let place: usize = answer.body.parse().unwrap();
    let expected = format!("lb={}", hmac("", &upstreams[place - 1].address()));
    assert_eq!(parts(answer.header("set-cookie").unwrap())[0], expected);
}

#[test]
fn cookies_are_secure_where_a_trusted_proxy_speaks_https() {
    let upstreams = three();
    let to = list(&upstreams);
    let server = Server::start(&format!(
        "{{\n\tadmin off\n\tservers {{\n\t\ttrusted_proxies static 127.0.0.2\n\t}}\n}}\n{}",
        site_with(&format!("\treverse_proxy {to} {{\n\t\tlb_policy cookie\n\t}}\n"))
    ));
    for (source, secure) in [("127.0.0.2", true), ("127.0.0.3", false)] {
        let mut wire = Wire::connect_from(source, server.port);
        wire.send("GET / HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Proto: https\r\n\r\n");
        let answer = wire.answer();
        let line = answer.header("set-cookie").unwrap();
        assert_eq!(parts(line).contains(&"Secure"), secure, "{source}: {line}");
        let same_site = if secure { "SameSite=None" } else { "SameSite=Lax" };
        assert!(parts(line).contains(&same_site), "{source}: {line}");
    }
}
