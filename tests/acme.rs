//! Certificates from an ACME authority: pebble, which has to be installed (`apt-get install pebble`).

use std::{
    collections::HashSet,
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use caddis_dns::server_check::{Anyone, ServerVerifier};
use rustls::{ClientConfig, ClientConnection, crypto::aws_lc_rs};
use rustls_pki_types::ServerName;

use crate::support::{
    Faulty, Heard, Named, Pebble, PebbleOptions, Server, caddis, eventually, free_port, get,
    scratch, send_raw,
};

/// The leaf that a server shows for a name.
pub fn shown(port: u16, name: &str) -> Option<Vec<u8>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(Anyone, provider)))
        .with_no_client_auth();
    let server = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), server).unwrap();
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    while client.is_handshaking() {
        client.complete_io(&mut socket).ok()?;
    }
    client.peer_certificates()?.first().map(|leaf| leaf.to_vec())
}

/// Waits for a certificate, however long an attempt takes.
#[track_caller]
pub fn wait_for(port: u16, name: &str, seconds: u64) -> Vec<u8> {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(leaf) = shown(port, name) {
            return leaf;
        }
        assert!(Instant::now() < end, "no certificate for {name}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A server with these sites, on the ports on which the authority looks.
fn serve(pebble: &Pebble, storage: &Path, lines: &str, sites: &str) -> Server {
    serve_on(pebble, storage, (pebble.http, pebble.tls), lines, sites)
}

fn serve_on(
    pebble: &Pebble,
    storage: &Path,
    (http, tls): (u16, u16),
    lines: &str,
    sites: &str,
) -> Server {
    let options = pebble.options(storage, http, tls, lines);
    Server::start(&format!("{options}{sites}\n:{{port}} {{\n\trespond up\n}}\n"))
}

/// The same where many names are asked for at once.
fn serve_many(pebble: &Pebble, storage: &Path, sites: &str) -> Server {
    let front = Faulty::orders_in_turn(pebble);
    let options = pebble.options(storage, pebble.http, pebble.tls, "");
    let options = options.replace(&pebble.directory(), &front.directory());
    Server::start(&format!("{options}{sites}\n:{{port}} {{\n\trespond up\n}}\n"))
}

fn site(name: &str) -> String {
    format!("{name} {{\n\trespond \"hello {name}\"\n}}\n")
}

/// The files of a certificate in the storage.
fn files(storage: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let certificates = storage.join("certificates");
    for issuer in fs::read_dir(certificates).into_iter().flatten().flatten() {
        for file in fs::read_dir(issuer.path().join(name)).into_iter().flatten().flatten() {
            found.push(file.path());
        }
    }
    found.sort();
    found
}

/// The log tells that a name is tried again in a minute, and what may be done.
#[track_caller]
fn will_retry(server: &Server, name: &str, remedy: &str) {
    let log = server.log();
    let line = log.lines().find(|line| line.contains("will retry") && line.contains(name));
    let line: serde_json::Value = serde_json::from_str(line.unwrap()).unwrap();
    assert_eq!((&line["level"], &line["attempt"]), (&"error".into(), &1.into()), "{line}");
    assert!((60..=66).contains(&line["retrying_in"].as_i64().unwrap()), "{line}");
    assert!(line["remedy"].as_str().unwrap().contains(remedy), "{line}");
}

const HTTP_ONLY: &str = "\tcert_issuer acme {\n\t\tdisable_tlsalpn_challenge\n\t}\n";
const TLS_ONLY: &str = "\tcert_issuer acme {\n\t\tdisable_http_challenge\n\t}\n";

#[test]
#[ignore = "needs pebble"]
fn http_01_and_a_restart_without_an_order() {
    let pebble = Pebble::start(&PebbleOptions::default());
    let storage = scratch();
    let server = serve(&pebble, &storage, HTTP_ONLY, &site("a.example.test"));
    let leaf = wait_for(pebble.tls, "a.example.test", 20);
    assert!(pebble.count("Attempting to validate w/ HTTP") > 0);
    assert_eq!(files(&storage, "a.example.test").len(), 3);
    let users = storage.join(format!(
        "acme/127.0.0.1-{}-dir/users/tests@example.test",
        pebble.directory().rsplit(':').next().unwrap().trim_end_matches("/dir")
    ));
    assert!(users.join("tests.json").exists() && users.join("tests.key").exists());
    // The certificate is known to people, too.
    let report = get(server.admin, "/tls/certificates").body;
    assert!(report.contains("a.example.test") && report.contains("\"valid\""), "{report}");
    // Redirects are there for all but the authority.
    assert_eq!(get(pebble.http, "/.well-known/acme-challenge/unknown").status, 308);
    drop(server);
    let orders = pebble.orders();
    let _again = serve(&pebble, &storage, HTTP_ONLY, &site("a.example.test"));
    assert_eq!(wait_for(pebble.tls, "a.example.test", 10), leaf);
    assert_eq!(pebble.orders(), orders);
}

#[test]
#[ignore = "needs pebble"]
fn tls_alpn_01() {
    let pebble = Pebble::start(&PebbleOptions::default());
    let storage = scratch();
    let ports = (free_port(), pebble.tls);
    let _server = serve_on(&pebble, &storage, ports, TLS_ONLY, &site("a.example.test"));
    wait_for(pebble.tls, "a.example.test", 20);
    assert_eq!(pebble.count("Attempting to validate w/ HTTP"), 0);
}

#[test]
#[ignore = "needs pebble"]
fn dns_01_for_a_wildcard() {
    let pebble = Pebble::start(&PebbleOptions::default());
    let storage = scratch();
    let (hook, resolver) = (pebble.dns_hook(), pebble.name_server());
    let tls = free_port();
    let sites = format!(
        "*.example.test {{\n\ttls {{\n\t\tdns {hook}\n\t\tresolvers {resolver}\n\t}}\n\trespond hello\n}}\n"
    );
    let _server = serve_on(&pebble, &storage, (free_port(), tls), "", &sites);
    wait_for(tls, "x.example.test", 20);
    assert!(!files(&storage, "wildcard_.example.test").is_empty());
    let history = fs::read_to_string(pebble.folder.join("history")).unwrap();
    assert_eq!(history, "_acme-challenge.example.test.\n");
    eventually("the record is gone", || {
        fs::read_dir(pebble.folder.join("txt")).unwrap().next().is_none()
    });
}

/// A name and its wildcard are validated by two records of one name, at the same time.
#[test]
#[ignore = "needs pebble and named"]
fn dns_01_by_updates_of_a_name_server() {
    let named = Named::start();
    let options = PebbleOptions { name_server: Some(named.port), ..PebbleOptions::default() };
    let pebble = Pebble::start(&options);
    let storage = scratch();
    let tls = free_port();
    let sites = format!(
        "example.test, *.example.test {{\n\ttls {{\n\t\tdns {}\n\t\tresolvers 127.0.0.1:{}\n\t}}\n\trespond hello\n}}\n",
        named.provider(),
        named.port
    );
    let _server = serve_on(&pebble, &storage, (free_port(), tls), "", &sites);
    wait_for(tls, "x.example.test", 30);
    wait_for(tls, "example.test", 30);
    for name in ["example.test", "wildcard_.example.test"] {
        assert_eq!(files(&storage, name).len(), 3, "{name}");
    }
    let count = |text: &str| named.log().matches(text).count();
    eventually("both records are gone", || count("deleting an RR at _acme-challenge") == 2);
    assert_eq!(count("adding an RR at '_acme-challenge.example.test' TXT"), 2);
}

#[test]
#[ignore = "needs pebble"]
fn dns_01_at_another_name() {
    let pebble = Pebble::start(&PebbleOptions::default());
    let storage = scratch();
    let (hook, resolver) = (pebble.dns_hook(), pebble.name_server());
    let tls = free_port();
    let sites = format!(
        "a.example.test {{\n\ttls {{\n\t\tdns {hook}\n\t\tresolvers {resolver}\n\t\tpropagation_timeout -1\n\t\tdns_challenge_override_domain _acme-challenge.a.example.test\n\t}}\n\trespond hello\n}}\n"
    );
    let _server = serve_on(&pebble, &storage, (free_port(), tls), "", &sites);
    wait_for(tls, "a.example.test", 20);
}

#[test]
#[ignore = "needs pebble"]
fn renewal_in_time() {
    let pebble = Pebble::start(&PebbleOptions { validity: Some(15), ..PebbleOptions::default() });
    let storage = scratch();
    let _server = serve(&pebble, &storage, "", &site("a.example.test"));
    let first = wait_for(pebble.tls, "a.example.test", 20);
    eventually("another certificate is served", || {
        shown(pebble.tls, "a.example.test").is_some_and(|leaf| leaf != first)
    });
    assert!(pebble.issued() <= 3, "{} certificates", pebble.issued());
}

#[test]
#[ignore = "needs pebble"]
fn external_account_and_bad_nonces() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W".to_owned();
    let external = Some(("kid-1".to_owned(), key.clone()));
    let options = PebbleOptions { bad_nonces: 50, external, ..PebbleOptions::default() };
    let pebble = Pebble::start(&options);
    let storage = scratch();
    let eab = format!("\tacme_eab {{\n\t\tkey_id kid-1\n\t\tmac_key {key}\n\t}}\n");
    let _server = serve(&pebble, &storage, &eab, &site("a.example.test"));
    wait_for(pebble.tls, "a.example.test", 40);
}

#[test]
#[ignore = "needs pebble"]
fn an_authority_that_was_away() {
    let mut pebble = Pebble::start(&PebbleOptions::default());
    pebble.down();
    let storage = scratch();
    let heard = Heard::new();
    let events = heard.option(&["cert_failed", "cert_obtained"]);
    let server = serve(&pebble, &storage, &events, &site("a.example.test"));
    eventually("the failure is told", || {
        let report = get(server.admin, "/tls/certificates").body;
        report.contains("\"last_error\"") && report.contains("\"waiting\"")
    });
    eventually("programs hear of it", || heard.count("cert_failed a.example.test false ") == 1);
    will_retry(&server, "a.example.test", "reaches the authority");
    pebble.up();
    // The first retry comes after a minute.
    wait_for(pebble.tls, "a.example.test", 100);
    eventually("that it is over, too", || heard.count("cert_obtained a.example.test false ") == 1);
}

#[test]
#[ignore = "needs pebble"]
fn killed_in_the_middle_of_an_order() {
    let pebble = Pebble::start(&PebbleOptions { slow: Some(3), ..PebbleOptions::default() });
    let storage = scratch();
    let mut server = serve(&pebble, &storage, "", &site("a.example.test"));
    eventually("a challenge is under way", || pebble.count("POST /chalZ/") > 0);
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    assert!(storage.join("locks/issue_cert_a.example.test.lock").exists());
    let again = serve(&pebble, &storage, "", &site("a.example.test"));
    wait_for(pebble.tls, "a.example.test", 60);
    let log = again.log();
    let stale = log.lines().find(|line| line.contains("removing stale lock"));
    assert!(stale.is_some_and(|line| line.contains("issue_cert_a.example.test.lock")), "{log}");
}

#[test]
#[ignore = "needs pebble"]
fn ten_names_and_one_that_fails() {
    let blocked = vec!["bad.example.test".to_owned()];
    let mut pebble = Pebble::start(&PebbleOptions { blocked, ..PebbleOptions::default() });
    let storage = scratch();
    let names: Vec<String> = (0..9).map(|at| format!("n{at}.example.test")).collect();
    let mut sites = site("bad.example.test");
    sites.extend(names.iter().map(|name| site(name)));
    let heard = Heard::new();
    let events = heard.option(&["cert_failed", "cert_obtained"]);
    let server = serve(&pebble, &storage, &events, &sites);
    for name in &names {
        wait_for(pebble.tls, name, 40);
    }
    assert!(shown(pebble.tls, "bad.example.test").is_none());
    assert_eq!(pebble.issued(), 9);
    eventually("programs hear of it", || heard.count("cert_failed bad.example.test false ") == 1);
    let line = heard.line("cert_failed").unwrap();
    assert!(line.contains("rejectedIdentifier"), "{line}");
    eventually("and of the others", || heard.count("cert_obtained ") == 9);
    assert_eq!(heard.count("cert_failed "), 1, "{}", heard.text());
    let report = get(server.admin, "/tls/certificates").body;
    assert!(report.contains("gives nothing for such names"), "{report}");
    let metrics = get(server.admin, "/metrics").body;
    assert!(metrics.contains("caddis_tls_certificate_failures_total 1\n"), "{metrics}");
    let bad = "caddis_tls_certificates{kind=\"managed\",status=\"waiting\"} 1\n";
    assert!(metrics.contains(bad), "{metrics}");
    will_retry(&server, "bad.example.test", "gives nothing for such names");
    // The authority changes its mind, and nobody has to say so.
    pebble.down();
    pebble.unblock();
    pebble.up();
    wait_for(pebble.tls, "bad.example.test", 100);
    eventually("programs hear of it, too", || heard.count("cert_obtained ") == 10);
    assert_eq!(pebble.issued(), 10, "the others were not asked for again");
}

#[test]
#[ignore = "needs pebble"]
fn two_servers_on_one_storage() {
    let pebble = Pebble::start(&PebbleOptions { slow: Some(2), ..PebbleOptions::default() });
    let storage = scratch();
    // The authority reaches the second one only.
    let ports = (free_port(), free_port());
    let _one = serve_on(&pebble, &storage, ports, "", &site("a.example.test"));
    let _two = serve(&pebble, &storage, "", &site("a.example.test"));
    // Where the second one was slow to start, the first attempt fails, and the next is a minute later.
    let leaf = wait_for(ports.1, "a.example.test", 150);
    assert_eq!(wait_for(pebble.tls, "a.example.test", 20), leaf);
    assert_eq!(pebble.issued(), 1);
}

#[test]
#[ignore = "needs pebble"]
fn on_demand_in_the_handshake() {
    let pebble = Pebble::start(&PebbleOptions::default());
    let storage = scratch();
    let ask = Server::start(
        "http://:{port} {\n\t@ok query domain=good.example.test\n\trespond @ok 200\n\trespond 403\n}\n",
    );
    let lines = format!("\ton_demand_tls {{\n\t\task http://127.0.0.1:{}/\n\t}}\n", ask.port);
    let sites = "https:// {\n\ttls {\n\t\ton_demand\n\t}\n\trespond hello\n}\n";
    let _server = serve(&pebble, &storage, &lines, sites);
    let all: Vec<_> = (0..5)
        .map(|_| {
            let port = pebble.tls;
            std::thread::spawn(move || shown(port, "good.example.test"))
        })
        .collect();
    let leaves: Vec<_> = all.into_iter().map(|one| one.join().unwrap()).collect();
    assert!(leaves[0].is_some() && leaves.iter().all(|leaf| *leaf == leaves[0]));
    assert_eq!(pebble.issued(), 1, "handshakes share one attempt");
    assert!(shown(pebble.tls, "bad.example.test").is_none());
    assert_eq!(pebble.issued(), 1);
}

/// More names than are worked on at the same time, with an authority that refuses half of all
/// nonces and is gone for a while: each gets one certificate.
#[test]
#[ignore = "needs pebble"]
fn many_names_and_an_authority_in_trouble() {
    let mut pebble = Pebble::start(&PebbleOptions { bad_nonces: 50, ..PebbleOptions::default() });
    let storage = scratch();
    let names: Vec<String> = (0..60).map(|at| format!("n{at}.example.test")).collect();
    // An account for every twelve, since an account has ten orders in ten seconds (T083).
    let sites: String = names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let account = at / 12;
            format!("{name} {{\n\ttls a{account}@example.test\n\trespond hello\n}}\n")
        })
        .collect();
    let server = serve_many(&pebble, &storage, &sites);
    let busy = AtomicUsize::new(0);
    let stored = || {
        let locks = fs::read_dir(storage.join("locks")).into_iter().flatten().flatten();
        let issuing =
            locks.filter(|lock| lock.file_name().to_string_lossy().starts_with("issue_cert_"));
        busy.fetch_max(issuing.count(), Ordering::Relaxed);
        names.iter().filter(|name| files(&storage, name).len() == 3).count()
    };
    // Half of all requests are refused once, so this takes its time where others work, too.
    let end = Instant::now() + Duration::from_secs(60);
    while stored() < 15 {
        assert!(Instant::now() < end, "{} issued: {}", stored(), server.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    pebble.down();
    eventually("failures are told", || {
        get(server.admin, "/tls/certificates").body.contains("\"last_error\"")
    });
    pebble.up();
    let end = Instant::now() + Duration::from_secs(150);
    while stored() < names.len() {
        assert!(Instant::now() < end, "{} of {}", stored(), names.len());
        std::thread::sleep(Duration::from_millis(20));
    }
    let leaves: HashSet<Vec<u8>> =
        names.iter().map(|name| wait_for(pebble.tls, name, 10)).collect();
    assert_eq!(leaves.len(), names.len());
    let busy = busy.into_inner();
    assert!((2..=64).contains(&busy), "{busy} at the same time");
    // Some that were issued when the authority went may not have been fetched.
    assert!((60..=105).contains(&pebble.issued()), "{} certificates", pebble.issued());
}

/// A forward proxy; gives its port and what it was asked to connect to.
fn forward_proxy() -> (u16, Arc<std::sync::Mutex<Vec<String>>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = asked.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let seen = seen.clone();
            std::thread::spawn(move || tunnel(client, &seen));
        }
    });
    (port, asked)
}

fn tunnel(mut client: TcpStream, seen: &std::sync::Mutex<Vec<String>>) -> Option<()> {
    use std::io::{Read, Write};
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let line = String::from_utf8(head).ok()?.lines().next()?.to_owned();
    let target = line.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
    let mut server = TcpStream::connect(&target).ok()?;
    seen.lock().unwrap().push(target);
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let (mut to, mut from) = (server.try_clone().ok()?, client.try_clone().ok()?);
    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
    std::io::copy(&mut server, &mut client).ok()?;
    Some(())
}

/// A Caddyfile as JSON, with the ports of a server.
pub fn adapted(server: &Server, text: &str) -> String {
    fs::write(server.folder.join("other"), Server::fill(text, server.port, server.admin)).unwrap();
    let output = caddis(&server.folder)
        .args(["adapt", "--adapter", "caddyfile", "--config", "other"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Gives a server another configuration.
pub fn load(server: &Server, json: &str) {
    let head = format!(
        "POST /load HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{json}",
        server.admin,
        json.len()
    );
    let answer = send_raw(server.admin, head.as_bytes()).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
#[ignore = "needs pebble"]
fn an_authority_behind_a_forward_proxy() {
    let pebble = Pebble::start(&PebbleOptions::default());
    let storage = scratch();
    let (proxy, asked) = forward_proxy();
    let server = Server::start("{\n\tadmin 127.0.0.1:{admin}\n}\n:{port} {\n\trespond up\n}\n");
    // The field is one of JSON alone.
    let options = pebble.options(&storage, pebble.http, pebble.tls, HTTP_ONLY);
    let json = adapted(&server, &format!("{options}{}", site("a.example.test")));
    let way = format!(
        r#""module":"acme","network_proxy":{{"from":"url","url":"http://127.0.0.1:{proxy}"}}"#
    );
    let json = json.replace(r#""module":"acme""#, &way);
    assert!(json.contains("network_proxy"), "{json}");
    load(&server, &json);
    wait_for(pebble.tls, "a.example.test", 20);
    let authority = pebble.directory().replace("https://", "").replace("/dir", "");
    let asked = asked.lock().unwrap();
    assert!(!asked.is_empty() && asked.iter().all(|target| *target == authority), "{asked:?}");
}

/// All at once, as after a move to another server: each name has one order and one certificate, and
/// is served. Fifty accounts, since each has ten orders in ten seconds (T083).
#[test]
#[ignore = "needs pebble"]
fn five_hundred_names() {
    let pebble = Pebble::start(&PebbleOptions::default());
    let storage = scratch();
    let names: Vec<String> = (0..500).map(|at| format!("n{at}.example.test")).collect();
    let sites: String = names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let account = at / 10;
            format!("{name} {{\n\ttls a{account}@example.test\n\trespond hello\n}}\n")
        })
        .collect();
    let heard = Heard::new();
    let front = Faulty::orders_in_turn(&pebble);
    let events = heard.option(&["cert_failed"]);
    let options = pebble.options(&storage, pebble.http, pebble.tls, &events);
    let options = options.replace(&pebble.directory(), &front.directory());
    let server = Server::start(&format!("{options}{sites}\n:{{port}} {{\n\trespond up\n}}\n"));
    // Much less alone; others may work on the machine, too.
    let end = Instant::now() + Duration::from_secs(300);
    let mut busy = 0;
    loop {
        let locks = fs::read_dir(storage.join("locks")).into_iter().flatten().flatten();
        let issuing = |name: String| name.starts_with("issue_cert_");
        let now = locks.filter(|lock| issuing(lock.file_name().to_string_lossy().into_owned()));
        busy = busy.max(now.count());
        let stored = names.iter().filter(|name| files(&storage, name).len() == 3).count();
        if stored == names.len() {
            break;
        }
        assert!(Instant::now() < end, "{stored} of {}", names.len());
        std::thread::sleep(Duration::from_millis(200));
    }
    let leaves: HashSet<Vec<u8>> =
        names.iter().map(|name| wait_for(pebble.tls, name, 10)).collect();
    assert_eq!(leaves.len(), names.len(), "each name is served with its own");
    let counts = (pebble.orders(), pebble.issued());
    assert_eq!(counts, (names.len(), names.len()), "one order for each: {}", server.log());
    assert!((2..=64).contains(&busy), "{busy} at the same time");
    let report = get(server.admin, "/tls/certificates").body;
    assert_eq!(report.matches("\"valid\"").count(), names.len(), "{report}");
    assert_eq!(heard.text(), "", "nothing has failed");
    let errors: Vec<String> =
        server.log().lines().filter(|line| line.contains("\"error\"")).map(str::to_owned).collect();
    assert_eq!(errors, Vec::<String>::new());
}
