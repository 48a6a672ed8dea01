//! Reload and stop: nothing is lost.

use std::time::Duration;

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

/// A connection that never spoke, of each kind, and one that speaks late.
#[test]
fn new_connections_get_their_first_answer_and_silent_ones_hold_nothing_up() {
    use crate::support::{Wire, free_port};
    let tls = free_port();
    let text = |idle: u32| {
        format!(
            "{{\n\tadmin 127.0.0.1:{{admin}}\n\tskip_install_trust\n\thttp_port {{port}}\n\thttps_port {tls}\n\tservers :{{port}} {{\n\t\tprotocols h1 h2c\n\t}}\n\tservers {{\n\t\ttimeouts {{\n\t\t\tidle {idle}s\n\t\t}}\n\t}}\n}}\nhttp://localhost:{{port}} {{\n\trespond hi\n}}\nhttps://localhost:{tls} {{\n\ttls internal\n\trespond hi\n}}\n"
        )
    };
    let plain = |idle: u32| {
        format!(
            "{{\n\tadmin 127.0.0.1:{{admin}}\n\tservers {{\n\t\ttimeouts {{\n\t\t\tidle {idle}s\n\t\t}}\n\t}}\n}}\nhttp://localhost:{{port}} {{\n\trespond hi\n}}\n"
        )
    };
    // A reload that ends open connections: one that is new is answered still.
    let server = Server::start(&plain(100));
    let mut new = Wire::connect(server.port);
    let (accepted, said) = server.reload(&plain(101));
    assert!(accepted, "{said}");
    new.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = new.answer();
    assert_eq!((answer.status, answer.body.as_str()), (200, "hi"));
    assert_eq!(answer.header("connection"), Some("close"));
    let mut server = Server::start(&text(100));
    eventually("the TLS port is open", || std::net::TcpStream::connect(("127.0.0.1", tls)).is_ok());
    let silent = [Wire::connect(server.port), Wire::connect(tls)];
    server.signal("TERM");
    eventually("the process ends", || matches!(server.child.try_wait(), Ok(Some(_))));
    drop(silent);
}
