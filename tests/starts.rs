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

#[test]
fn descriptors_that_are_too_few_for_all_workers_are_told() {
    let folder = scratch();
    fs::write(folder.join("Caddyfile"), "{\n\tadmin off\n}\n").unwrap();
    let command = caddis(&folder);
    let output = std::process::Command::new("bash")
        .args(["-c", "ulimit -n 30; exec \"$0\" run --config Caddyfile"])
        .arg(command.get_program())
        .current_dir(&folder)
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("GOMAXPROCS", "32")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("starting 32 workers: too many open files; allow more"), "{said}");
}
