//! Active and passive health checks, and retries.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{
    Scripted, Server, Upstream, eventually, free_port, get, ok, request, site_with,
};

/// A site over two upstreams, the first one preferred, with more lines in its block.
fn serve(addresses: &[String], options: &str) -> Server {
    let to = addresses.join(" ");
    Server::start(&site_with(&format!("\treverse_proxy {to} {{\n{options}\n\t}}\n")))
}

fn upstreams(server: &Server) -> String {
    get(server.admin, "/reverse_proxy/upstreams").body
}

/// What an upstream was asked for its health, and what it answers to that.
#[derive(Default)]
struct Checked {
    heads: Mutex<Vec<(String, Vec<u8>)>>,
    answer: Mutex<String>,
}

impl Checked {
    fn answers(&self, answer: &str) {
        *self.answer.lock().unwrap() = answer.to_owned();
    }
}

/// An upstream that answers requests with its name and checks (a path with `health`) as told.
fn checked(name: &'static str) -> (Scripted, Arc<Checked>) {
    let checked = Arc::new(Checked::default());
    checked.answers(&ok("fine"));
    let state = checked.clone();
    let upstream = Scripted::start(move |wire| {
        while let Some((head, body)) = wire.request() {
            let path = head.split(' ').nth(1).unwrap_or_default();
            let answer = if path.contains("health") {
                state.heads.lock().unwrap().push((head.clone(), body));
                state.answer.lock().unwrap().clone()
            } else {
                ok(name)
            };
            if !wire.send(answer) {
                return;
            }
        }
    });
    (upstream, checked)
}

const FAST: &str = "\t\tlb_policy first\n\t\thealth_uri /health\n\t\thealth_interval 50ms\n";

/// Runs a site whose upstream is checked with options and goes through `answers`: an answer
/// to a check and whether the upstream counts as healthy by it.
fn judged(options: &str, answers: &[(&str, bool)]) {
    let (one, checks) = checked("1");
    let server = serve(&[one.address()], &format!("{FAST}{options}"));
    for (answer, healthy) in answers {
        checks.answers(answer);
        let expected = if *healthy { 200 } else { 503 };
        eventually(&format!("{options}: {expected} answers after {answer:?}"), || {
            get(server.port, "/").status == expected
        });
        // It stays so for some checks more.
        let seen = checks.heads.lock().unwrap().len();
        eventually("more checks", || checks.heads.lock().unwrap().len() > seen + 2);
        assert_eq!(get(server.port, "/").status, expected, "{options}: {answer:?}");
    }
}

#[test]
fn any_2xx_is_healthy_by_default() {
    judged(
        "",
        &[
            ("HTTP/1.1 204 No Content\r\n\r\n", true),
            ("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.1 299 Fine\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
            ("rubbish\r\n\r\n", false),
        ],
    );
}

#[test]
fn a_status_can_be_asked_for() {
    judged(
        "\t\thealth_status 418",
        &[
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n", true),
        ],
    );
    judged(
        "\t\thealth_status 3xx",
        &[
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.1 304 Same\r\n\r\n", true),
        ],
    );
}

#[test]
fn a_body_can_be_asked_for() {
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n5\r\n good\r\n0\r\n\r\n";
    judged(
        "\t\thealth_body \"^all (good|well)$\"",
        &[(&ok("all well"), true), (&ok("not all well"), false), (chunked, true)],
    );
}

#[test]
fn redirects_are_followed_when_told() {
    let away = "HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n";
    // `/there` is answered with 200.
    judged("\t\thealth_follow_redirects", &[(away, true)]);
    judged("", &[(away, false)]);
}

#[test]
fn a_slow_check_fails_after_its_timeout() {
    let (one, two) = (Upstream::start("1"), Upstream::start("2"));
    one.set_delay(Duration::from_millis(400));
    let server =
        serve(&[one.address(), two.address()], &format!("{FAST}\t\thealth_timeout 100ms\n"));
    eventually("the slow one is out", || get(server.port, "/").body == "2");
    one.set_delay(Duration::ZERO);
    eventually("the first one is back", || get(server.port, "/").body == "1");
}

#[test]
fn checks_ask_what_they_are_told_to() {
    let (one, checks) = checked("1");
    let server = serve(
        &[one.address()],
        "		health_uri /deep/health?full=1
		health_interval 50ms
		health_method POST
		health_request_body \"are you {http.reverse_proxy.active.target_upstream} well\"
		health_headers {
			Host health.test
			X-Check one two
			X-Check three
		}
		header_up X-Not-For-Checks 1",
    );
    assert_eq!(get(server.port, "/").body, "1");
    eventually("it is checked", || !checks.heads.lock().unwrap().is_empty());
    let (head, body) = checks.heads.lock().unwrap()[0].clone();
    let lower = head.to_lowercase();
    assert!(head.starts_with("POST /deep/health?full=1 HTTP/1.1\r\n"), "{head}");
    for line in
        ["\r\nhost: health.test\r\n", "x-check: one\r\n", "x-check: two\r\n", "x-check: three\r\n"]
    {
        assert!(lower.contains(line), "{line:?} in {head}");
    }
    for name in ["x-forwarded", "x-not-for-checks"] {
        assert!(!lower.contains(name), "{name} in {head}");
    }
    assert!(String::from_utf8_lossy(&body).starts_with("are you "), "{body:?}");
}

#[test]
fn another_port_can_be_checked() {
    let (one, two) = (Upstream::start("1"), Upstream::start("2"));
    let (checker, checks) = checked("checker");
    let server = serve(
        &[one.address(), two.address()],
        &format!("{FAST}\t\thealth_port {}\n", checker.port),
    );
    eventually("both are checked there", || checks.heads.lock().unwrap().len() > 3);
    assert_eq!(get(server.port, "/").body, "1");
    assert!(one.heads().iter().all(|head| !head.contains("/health")));
    checks.answers("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
    eventually("none is left", || get(server.port, "/").status == 503);
    checks.answers(&ok("fine"));
    eventually("both are back", || get(server.port, "/").status == 200);
}

#[test]
fn another_upstream_can_be_checked() {
    let one = Upstream::start("1");
    let (checker, checks) = checked("checker");
    let server =
        serve(&[one.address()], &format!("{FAST}\t\thealth_upstream {}\n", checker.address()));
    eventually("it is checked there", || !checks.heads.lock().unwrap().is_empty());
    assert!(one.heads().is_empty());
    checks.answers("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
    eventually("it is out", || get(server.port, "/").status == 503);
}

#[test]
fn passes_and_fails_are_counted() {
    let ((one, checks), two) = (checked("1"), Upstream::start("2"));
    let server = serve(
        &[one.address(), two.address()],
        &format!("{FAST}\t\thealth_fails 4\n\t\thealth_passes 3\n"),
    );
    let count = || checks.heads.lock().unwrap().len();
    eventually("it is checked", || count() > 1);
    let (bad, before) = ("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", count());
    checks.answers(bad);
    // The answer of the check that ran meanwhile may have been either.
    eventually("the first one is out", || get(server.port, "/").body == "2");
    assert!(count() >= before + 4, "out after {} checks", count() - before);
    let before = count();
    checks.answers(&ok("fine"));
    eventually("the first one is back", || get(server.port, "/").body == "1");
    assert!(count() >= before + 3, "back after {} checks", count() - before);
}

#[test]
fn the_first_check_is_at_once_and_all_start_healthy() {
    let (one, checks) = checked("1");
    let dead = free_port();
    let server = serve(
        &[one.address(), format!("127.0.0.1:{dead}")],
        "\t\tlb_policy first\n\t\thealth_uri /health\n\t\thealth_interval 1h",
    );
    assert_eq!(get(server.port, "/").body, "1");
    eventually("it is checked", || checks.heads.lock().unwrap().len() == 1);
    eventually("the dead one is down", || upstreams(&server).contains("\"healthy\":false"));
}

#[test]
fn a_latency_and_statuses_count_as_failures() {
    let (one, two) = (Upstream::start("1"), Upstream::start("2"));
    one.set_delay(Duration::from_millis(150));
    let server = serve(
        &[one.address(), two.address()],
        "\t\tlb_policy first\n\t\tfail_duration 60s\n\t\tunhealthy_latency 100ms",
    );
    let seen: Vec<_> = (0..3).map(|_| get(server.port, "/").body).collect();
    assert_eq!(seen, ["1", "2", "2"]);

    let (one, two) = (Upstream::start("1"), Upstream::start("2"));
    let server = serve(
        &[one.address(), two.address()],
        "\t\tlb_policy first\n\t\tfail_duration 60s\n\t\tmax_fails 3\n\t\tunhealthy_status 404 5xx",
    );
    for status in [404, 403, 599, 200, 404] {
        one.set_status(status);
        assert_eq!(get(server.port, "/").status, status);
    }
    assert_eq!(get(server.port, "/").body, "2");
}

#[test]
fn failures_are_forgotten() {
    let (one, two) = (Upstream::start("1"), Upstream::start("2"));
    one.set_status(500);
    let server = serve(
        &[one.address(), two.address()],
        "\t\tlb_policy first\n\t\tfail_duration 300ms\n\t\tunhealthy_status 5xx",
    );
    assert_eq!(get(server.port, "/").status, 500);
    assert_eq!(get(server.port, "/").body, "2");
    one.set_status(200);
    let before = Instant::now();
    eventually("the failure is forgotten", || get(server.port, "/").body == "1");
    assert!(before.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_dead_upstream_counts_as_a_failure() {
    let (dead, two) = (free_port(), Upstream::start("2"));
    let server = serve(
        &[format!("127.0.0.1:{dead}"), two.address()],
        "\t\tlb_policy first\n\t\tfail_duration 60s",
    );
    assert_eq!(get(server.port, "/").status, 502);
    assert_eq!(get(server.port, "/").body, "2");
    assert!(upstreams(&server).contains("\"fails\":1"), "{}", upstreams(&server));
}

#[test]
fn too_many_requests_make_an_upstream_full() {
    let (one, two) = (Upstream::start("1"), Upstream::start("2"));
    one.set_delay(Duration::from_millis(1500));
    let server = serve(
        &[one.address(), two.address()],
        "\t\tlb_policy first\n\t\tunhealthy_request_count 2",
    );
    let port = server.port;
    let busy = [(); 2].map(|()| std::thread::spawn(move || get(port, "/").body));
    eventually("two are under way", || upstreams(&server).contains("\"num_requests\":2"));
    assert_eq!(get(port, "/").body, "2");
    assert_eq!(busy.map(|one| one.join().unwrap()), ["1", "1"]);
    one.set_delay(Duration::ZERO);
    eventually("there is room again", || get(port, "/").body == "1");
}

#[test]
fn retries_have_a_number_and_a_time() {
    let (dead, asked) = (free_port(), Arc::new(AtomicUsize::new(0)));
    let count = asked.clone();
    let rude = Scripted::start(move |wire| {
        wire.head();
        count.fetch_add(1, Ordering::SeqCst);
    });
    let (dead, rude) = (format!("127.0.0.1:{dead}"), rude);
    let address = rude.address();
    let server = Server::start(&site_with(&format!(
        "	handle /once {{
		reverse_proxy {address}
	}}
	handle /three {{
		reverse_proxy {address} {{
			lb_retries 3
		}}
	}}
	handle /time {{
		reverse_proxy {dead} {{
			lb_try_duration 600ms
			lb_try_interval 50ms
		}}
	}}
	handle /both {{
		reverse_proxy {address} {{
			lb_retries 2
			lb_try_duration 1h
			lb_try_interval 10ms
		}}
	}}
"
    )));
    for (target, attempts) in [("/once", 1), ("/three", 4), ("/both", 3)] {
        let before = asked.load(Ordering::SeqCst);
        assert_eq!(get(server.port, target).status, 502, "{target}");
        assert_eq!(asked.load(Ordering::SeqCst) - before, attempts, "{target}");
    }
    // What was sent is not sent again unless it is a GET.
    let before = asked.load(Ordering::SeqCst);
    assert_eq!(request(server.port, "POST", "/three", &[], "x").unwrap().status, 502);
    assert_eq!(asked.load(Ordering::SeqCst) - before, 1);
    let before = Instant::now();
    assert_eq!(get(server.port, "/time").status, 502);
    let took = before.elapsed();
    assert!(took >= Duration::from_millis(500) && took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn retry_matchers_choose_the_requests() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let rude = Scripted::start(move |wire| {
        wire.head();
        count.fetch_add(1, Ordering::SeqCst);
    });
    let server = serve(
        &[rude.address()],
        "		lb_retries 2
		lb_retry_match {
			method PUT
			path /put*
		}
		lb_retry_match {
			path /any
		}",
    );
    for (method, target, attempts) in
        [("PUT", "/put", 3), ("POST", "/put", 1), ("POST", "/any", 3), ("GET", "/other", 1)]
    {
        let before = asked.load(Ordering::SeqCst);
        let answer = request(server.port, method, target, &[], "").unwrap();
        assert_eq!(answer.status, 502, "{method} {target}");
        assert_eq!(asked.load(Ordering::SeqCst) - before, attempts, "{method} {target}");
    }
}

#[test]
fn a_post_that_was_not_sent_is_tried_elsewhere() {
    let (dead, two) = (free_port(), Upstream::start("2"));
    let server = serve(
        &[format!("127.0.0.1:{dead}"), two.address()],
        "\t\tlb_policy first\n\t\tlb_retries 1",
    );
    let answer = request(server.port, "POST", "/", &[], "precious").unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "2"));
}

#[test]
fn a_retry_prefers_an_upstream_that_was_not_tried() {
    let dead: Vec<_> = (0..3).map(|_| format!("127.0.0.1:{}", free_port())).collect();
    let live = Upstream::start("live");
    for policy in ["first", "random", "round_robin", "least_conn", "ip_hash", "uri_hash", "cookie"]
    {
        let mut to = dead.clone();
        to.push(live.address());
        let server = serve(&to, &format!("\t\tlb_policy {policy}\n\t\tlb_retries 3"));
        for number in 0..6 {
            let answer = get(server.port, &format!("/{number}"));
            assert_eq!((answer.status, answer.body.as_str()), (200, "live"), "{policy}");
        }
    }
}

#[test]
fn a_request_waits_for_an_upstream_to_come_up() {
    let port = free_port();
    let server = serve(
        &[format!("127.0.0.1:{port}")],
        "\t\tlb_try_duration 10s\n\t\tlb_try_interval 20ms\n\t\tfail_duration 1s",
    );
    let site = server.port;
    let waiting = std::thread::spawn(move || get(site, "/"));
    eventually("it has failed before", || upstreams(&server).contains("\"fails\":1"));
    let _late = Upstream::start_on("late", port);
    let answer = waiting.join().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "late"));
}

#[test]
fn a_backend_stopped_under_load_costs_no_request() {
    let (one, two) = (Upstream::start("1"), Upstream::start("2"));
    let port_one = one.port;
    let server = serve(
        &[one.address(), two.address()],
        "		lb_policy round_robin
		lb_try_duration 5s
		lb_try_interval 10ms
		health_uri /health
		health_interval 50ms
		health_timeout 1s",
    );
    let stop = Arc::new(AtomicBool::new(false));
    let port = server.port;
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut seen = HashSet::new();
                while !stop.load(Ordering::Relaxed) {
                    let answer = get(port, "/");
                    assert_eq!(answer.status, 200, "{answer:?}");
                    seen.insert(answer.body);
                }
                seen
            })
        })
        .collect();
    eventually("there is load", || one.hits() + two.hits() > 50);
    drop(one);
    eventually("it counts as down", || upstreams(&server).contains("\"healthy\":false"));
    let before = two.hits();
    eventually("the other one does it all", || two.hits() > before + 50);
    let one = Upstream::start_on("1", port_one);
    eventually("it counts as up", || !upstreams(&server).contains("\"healthy\":false"));
    let serves = |upstream: &Upstream| {
        upstream.heads().iter().filter(|head| head.starts_with("GET / ")).count()
    };
    eventually("it is used again", || serves(&one) > 10);
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert_eq!(client.join().unwrap().len(), 2);
    }
}

#[test]
fn programs_hear_when_an_upstream_goes_and_comes() {
    let (upstream, checked) = checked("1");
    let server = Server::start(&format!(
        "{{
	admin off
	events {{
		on unhealthy exec touch down-{{event.data.host}}
		on healthy exec touch up-{{event.data.host}}
	}}
}}
http://localhost:{{port}} {{
	reverse_proxy {} {{
		health_uri /health
		health_interval 50ms
	}}
}}
",
        upstream.address()
    ));
    let file = |what: &str| server.folder.join(format!("{what}-{}", upstream.address()));
    checked.answers("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    eventually("the program was run for an upstream that is down", || file("down").exists());
    assert!(!file("up").exists());
    checked.answers(&ok("fine"));
    eventually("the program was run for an upstream that is up", || file("up").exists());
}
