//! Reload and stop: nothing is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::support::{Server, Upstream, eventually, get, send_raw};

fn site(text: &str) -> String {
    format!("http://localhost:{{port}} {{\n\trespond {text}\n}}\n")
}

#[test]
fn a_reload_changes_the_answer_and_a_bad_one_does_not() {
    let server = Server::start(&site("one"));
    assert_eq!(get(server.port, "/").body, "one");
    let (ok, said) = server.reload(&site("two"));
    assert!(ok, "{said}");
    assert_eq!(get(server.port, "/").body, "two");
    let (ok, said) = server.reload("http://localhost:{port} {\n\trespnd three\n}\n");
    assert!(!ok && said.contains("unrecognized directive: respnd"), "{said}");
    assert!(said.contains("did you mean `respond`"), "{said}");
    assert_eq!(get(server.port, "/").body, "two");
}

#[test]
fn sigusr1_reloads_from_the_file() {
    let server = Server::start(&site("one"));
    server.rewrite(&site("two"));
    server.signal("USR1");
    eventually("the new answer", || get(server.port, "/").body == "two");
}

#[test]
fn kept_alive_connections_meet_the_new_config() {
    use std::io::{Read, Write};
    let server = Server::start(&site("one"));
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let mut ask = || {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    };
    assert!(ask().ends_with("one"));
    let (ok, said) = server.reload(&site("two"));
    assert!(ok, "{said}");
    assert!(ask().ends_with("two"));
}

#[test]
fn sigterm_finishes_what_is_under_way() {
    let slow = Upstream::start("done");
    slow.set_delay(Duration::from_millis(600));
    let mut server = Server::start(&format!(
        "{{\n\tadmin off\n\tgrace_period 10s\n}}\nhttp://localhost:{{port}} {{\n\treverse_proxy {}\n}}\n",
        slow.address()
    ));
    let port = server.port;
    let under_way = std::thread::spawn(move || get(port, "/"));
    std::thread::sleep(Duration::from_millis(200));
    server.signal("TERM");
    let answer = under_way.join().unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "done"));
    eventually("the process ends", || matches!(server.child.try_wait(), Ok(Some(_))));
    assert!(server.child.wait().unwrap().success());
    assert!(send_raw(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").is_err());
}

#[test]
fn requests_know_of_a_shutdown_that_is_to_come() {
    let mut server = Server::start(
        "{\n\tadmin 127.0.0.1:{admin}\n\tshutdown_delay 2s\n}\nhttp://localhost:{port} {\n\
         \trespond \"{http.shutting_down} {http.time_until_shutdown}\"\n}\n",
    );
    assert_eq!(get(server.port, "/").body, "false ");
    server.signal("TERM");
    eventually("requests know", || {
        let answer = get(server.port, "/").body;
        answer.starts_with("true 1.") && answer.ends_with('s')
    });
    eventually("it ended", || matches!(server.child.try_wait(), Ok(Some(_))));
}

/// Reloads and backends going up and down under load: no GET is lost.
fn soak(length: Duration) {
    let (one, two) = (Upstream::start("1"), Upstream::start("2"));
    let text = |generation: usize| {
        format!(
            "http://localhost:{{port}} {{
	header X-Generation {generation}
	reverse_proxy {} {} {{
		lb_policy round_robin
		lb_try_duration 5s
		lb_try_interval 10ms
		health_uri /health
		health_interval 50ms
	}}
}}
",
            one.address(),
            two.address()
        )
    };
    let server = Server::start(&text(0));
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, asked, port) = (stop.clone(), asked.clone(), server.port);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let answer = get(port, "/");
                    assert_eq!(answer.status, 200, "{answer:?}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let end = Instant::now() + length;
    let (port, address) = (two.port, two.address());
    let mut two = Some(two);
    for generation in 1.. {
        if Instant::now() > end {
            break;
        }
        let text = format!(
            "http://localhost:{{port}} {{
	header X-Generation {generation}
	reverse_proxy {} {address} {{
		lb_policy round_robin
		lb_try_duration 5s
		lb_try_interval 10ms
		health_uri /health
		health_interval 50ms
	}}
}}
",
            one.address(),
        );
        let (ok, said) = server.reload(&text);
        assert!(ok, "{said}");
        two = match two {
            Some(running) => {
                drop(running);
                None
            }
            None => Some(Upstream::start_on("2", port)),
        };
        std::thread::sleep(Duration::from_millis(100));
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    assert!(asked.load(Ordering::Relaxed) > 100);
}

#[test]
fn no_request_is_lost_while_everything_changes() {
    soak(Duration::from_secs(5));
}

/// `cargo test --workspace -- --ignored a_minute` (run by `.ci/run`).
#[test]
#[ignore = "takes a minute; .ci/run runs it"]
fn no_request_is_lost_in_a_minute_of_changes() {
    soak(Duration::from_secs(60));
}
