//! Starts beside another server, and with less than a server needs.

use std::fs;

use crate::support::{Server, caddis, eventually, scratch};

fn site(text: &str) -> String {
    format!("http://localhost:{{port}} {{\n\trespond {text}\n}}\n")
}

#[test]
fn a_second_server_on_the_same_addresses_is_told() {
    let first = Server::start(&site("one"));
    assert!(!first.log().contains("another"), "{}", first.log());
    // As in Caddy it serves beside the first one, which is rarely meant.
    let log = first.folder.join("second.log");
    let mut second = caddis(&first.folder)
        .args(["run", "--config", "Caddyfile"])
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let said = || fs::read_to_string(&log).unwrap_or_default();
    eventually("it serves", || said().contains("serving initial configuration"));
    second.kill().unwrap();
    second.wait().unwrap();
    let said = said();
    let of_admin = format!("\"address\":\"127.0.0.1:{}\"", first.admin);
    let warned = |what: &str, address: &str| {
        said.lines().any(|line| line.contains(what) && line.contains(address))
    };
    assert!(
        warned("another process listens", &format!("\"address\":\":{}\"", first.port)),
        "{said}"
    );
    assert!(warned("another server has its admin endpoint", &of_admin), "{said}");
    // A reload is no other process.
    assert!(first.reload(&site("two")).0);
    assert!(!first.log().contains("another"), "{}", first.log());
}
