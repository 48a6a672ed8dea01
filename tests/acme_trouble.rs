//! An authority that lies, limits, is late or changes its mind, and a server that is killed: nothing
//! that works is lost, and nobody has to start anything again. Needs pebble (`apt-get install
//! pebble`).

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use time::OffsetDateTime;

use crate::{
    acme::{shown, wait_for},
    support::{
        Fault, Faulty, Heard, Past, Pebble, PebbleOptions, Server, eventually, get, scratch,
    },
};

fn site(name: &str) -> String {
    format!("{name} {{\n\trespond \"hello {name}\"\n}}\n")
}

/// A server whose authority is the faulty one.
fn serve(pebble: &Pebble, faulty: &Faulty, storage: &Path, sites: &str) -> Server {
    let options = pebble.options(storage, pebble.http, pebble.tls, "");
    let options = options.replace(&pebble.directory(), &faulty.directory());
    Server::start(&format!("{options}{sites}\n:{{port}} {{\n\trespond up\n}}\n"))
}

fn problem(kind: &str) -> String {
    format!("{{\"type\":\"urn:ietf:params:acme:error:{kind}\",\"detail\":\"not today\"}}")
}

/// The files below a folder.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else if let Ok(content) = fs::read(entry.path()) {
                found.insert(entry.path(), content);
            }
        }
    }
    found
}

/// The wait that the authority asks for is kept, and told.
#[test]
#[ignore = "needs pebble"]
fn a_limit_is_kept() {
    let pebble = Pebble::start(&PebbleOptions::default());
    let orders = Arc::new(AtomicUsize::new(0));
    let counter = orders.clone();
    let faulty = Faulty::start(
        &pebble,
        Arc::new(move |path| {
            if path != "/order-plz" {
                return Fault::None;
            }
            counter.fetch_add(1, Ordering::Relaxed);
            let head = "429 Too Many Requests\r\nContent-Type: application/problem+json\r\n\
                        Retry-After: 7200\r\nReplay-Nonce: bm9uY2U";
            Fault::Answer(head.to_owned(), problem("rateLimited"))
        }),
    );
    let storage = scratch();
    let heard = Heard::new();
    let options =
        pebble.options(&storage, pebble.http, pebble.tls, &heard.option(&["cert_failed"]));
    let options = options.replace(&pebble.directory(), &faulty.directory());
    let sites = site("a.example.test");
    let server = Server::start(&format!("{options}{sites}\n:{{port}} {{\n\trespond up\n}}\n"));
    eventually("the limit is told", || server.log().contains("will retry"));
    let log = server.log();
    let line = log.lines().find(|line| line.contains("will retry")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert!(line["retrying_in"].as_u64().unwrap() >= 7200, "{line}");
    assert!(line["error"].as_str().unwrap().contains("rateLimited"), "{line}");
    assert!(line["remedy"].as_str().unwrap().starts_with("wait: it is tried again"), "{line}");
    eventually("programs hear of it", || heard.count("cert_failed a.example.test false ") == 1);
    assert!(heard.line("cert_failed ").unwrap().contains("rateLimited"), "{}", heard.text());
    assert_eq!(orders.load(Ordering::Relaxed), 1, "no other challenge is tried at once");
    let report = get(server.admin, "/tls/certificates").body;
    assert!(report.contains("\"waiting\"") && report.contains("rateLimited"), "{report}");
}

/// What an authority does to some requests.
struct Trouble {
    /// Their paths begin so.
    path: &'static str,
    /// The status that they are answered with; if empty they are answered far too late.
    head: &'static str,
    body: String,
    /// A word that people are told.
    word: &'static str,
    /// Certificates that the authority gives in vain.
    lost: usize,
    /// Seconds until the next attempt, at least; up to a tenth more.
    wait: i64,
}

/// Two names, of which one has a certificate that is due, and an authority in trouble: it is told in
/// the log, by an event and in the report, the next attempt waits a minute or as long as the authority
/// says, what works is served on, and when the trouble is over both have new certificates, without a word.
fn is_told_and_passes(Trouble { path, head, body, word, lost, wait }: Trouble) {
    const NAMES: [&str; 2] = ["old.example.test", "new.example.test"];
    let pebble = Pebble::start(&PebbleOptions::default());
    let (is_over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (over, counter) = (is_over.clone(), asked.clone());
    let json = "Content-Type: application/json\r\nReplay-Nonce: bm9uY2U";
    let faulty = Faulty::start(
        &pebble,
        Arc::new(move |asked| {
            if over.load(Ordering::Relaxed) || !asked.starts_with(path) {
                return Fault::None;
            }
            counter.fetch_add(1, Ordering::Relaxed);
            if head.is_empty() {
                return Fault::Late(Duration::from_secs(300));
            }
            Fault::Answer(format!("{head}\r\n{json}"), body.clone())
        }),
    );
    let storage = scratch();
    let now = OffsetDateTime::now_utc();
    let days = |days: i64| now + time::Duration::days(days);
    let mut past = Past::new(&faulty.directory());
    past.validity = (days(-80), days(10));
    past.fill(&storage, [NAMES[0]]);
    let heard = Heard::new();
    let event = &heard.option(&["cert_failed", "cert_obtained"]);
    let options = pebble.options(&storage, pebble.http, pebble.tls, event);
    let options = options.replace(&pebble.directory(), &faulty.directory());
    let sites = NAMES.map(site).concat();
    let text = format!("{options}{sites}\n:{{port}} {{\n\trespond up\n}}\n");
    let server = Server::start(&text);
    let old = wait_for(pebble.tls, NAMES[0], 20);

    let failed = |name: &str| heard.line(&format!("cert_failed {name} "));
    // Each request has half a minute, and is tried again twice.
    let end = Instant::now() + Duration::from_secs(if head.is_empty() { 150 } else { 30 });
    while !NAMES.iter().all(|name| failed(name).is_some()) {
        assert!(Instant::now() < end, "{path}: no event: {}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    for (name, renewal) in NAMES.iter().zip(["true", "false"]) {
        let line = failed(name).unwrap();
        assert!(line.starts_with(&format!("cert_failed {name} {renewal} ")), "{line}");
        assert!(line.contains(word), "{word}: {line}");
        let log = server.log();
        let retry = log.lines().find(|line| line.contains("will retry") && line.contains(name));
        let retry: serde_json::Value = serde_json::from_str(retry.unwrap()).unwrap();
        assert_eq!((&retry["level"], &retry["attempt"]), (&"error".into(), &1.into()), "{retry}");
        let waits = retry["retrying_in"].as_i64().unwrap();
        assert!((wait..=wait + wait / 10).contains(&waits), "{retry}");
        assert!(retry["error"].as_str().unwrap().contains(word), "{retry}");
        assert!(!retry["remedy"].as_str().unwrap().is_empty(), "{retry}");
    }
    let report = get(server.admin, "/tls/certificates").body;
    assert_eq!(report.matches("\"waiting\"").count(), NAMES.len(), "{report}");
    assert!(report.contains(word), "{report}");
    assert_eq!(shown(pebble.tls, NAMES[0]).as_ref(), Some(&old), "what works is served on");
    assert!(shown(pebble.tls, NAMES[1]).is_none());
    let before = asked.load(Ordering::Relaxed);
    // A nonce that is refused is no failure at once, so some of these are many.
    assert!(before <= 100, "{path}: asked {before} times");

    is_over.store(true, Ordering::Relaxed);
    wait_for(pebble.tls, NAMES[1], 120);
    let end = Instant::now() + Duration::from_secs(30);
    while shown(pebble.tls, NAMES[0]).is_none_or(|now| now == old) {
        assert!(Instant::now() < end, "{path}: not renewed: {}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let report = get(server.admin, "/tls/certificates").body;
    assert!(!report.contains("\"last_error\""), "{report}");
    assert_eq!(pebble.issued(), NAMES.len() + lost, "{path}");
    for (name, renewal) in NAMES.iter().zip(["true", "false"]) {
        eventually("programs hear that it is over", || {
            heard.count(&format!("cert_obtained {name} {renewal} ")) == 1
        });
    }
}

#[test]
#[ignore = "needs pebble"]
fn every_trouble_is_told_and_passes() {
    let refused = |kind: &str| problem(kind);
    let invalid = |what: &str| {
        format!(
            "{{\"status\":\"invalid\",\"expires\":\"2036-01-01T00:00:00Z\",\"error\":{},\
             \"identifiers\":[],\"authorizations\":[],\"finalize\":\"https://127.0.0.1/\",\
             \"identifier\":{{\"type\":\"dns\",\"value\":\"x\"}},\"challenges\":[]}}",
            problem(what)
        )
    };
    // For a key that nobody has.
    let key = rcgen::KeyPair::generate().unwrap();
    let names = ["old.example.test", "new.example.test"].map(str::to_owned).to_vec();
    let foreign = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap().pem();
    let told = |path, head, body, word| Trouble { path, head, body, word, lost: 0, wait: 60 };
    let error = "500 Internal Server Error";
    let troubles = vec![
        told("/dir", "503 Service Unavailable", "{}".to_owned(), "503"),
        told("/dir", "200 OK", "[]".to_owned(), "invalid"),
        told("/order-plz", "", String::new(), "timeout"),
        told("/order-plz", "400 Bad Request", refused("badNonce"), "badNonce"),
        told("/order-plz", error, refused("serverInternal"), "serverInternal"),
        Trouble {
            wait: 75,
            ..told(
                "/order-plz",
                "429 Too Many Requests\r\nRetry-After: 75",
                refused("rateLimited"),
                "rateLimited",
            )
        },
        told("/my-order/", "200 OK", invalid("rejectedIdentifier"), "rejectedIdentifier"),
        told("/authZ/", "403 Forbidden", refused("unauthorized"), "unauthorized"),
        told("/finalize-order/", "400 Bad Request", refused("badCSR"), "badCSR"),
        Trouble { lost: 2, ..told("/certZ/", "200 OK", foreign, "certificate is unusable") },
    ];
    std::thread::scope(|scope| {
        for trouble in troubles {
            scope.spawn(move || is_told_and_passes(trouble));
        }
    });
}

/// Each fault happens once; all names have their certificates in the end, without a word.
#[test]
#[ignore = "needs pebble"]
fn an_authority_that_lies_and_changes_its_mind() {
    let pebble = Pebble::start(&PebbleOptions::default());
    let key = rcgen::KeyPair::generate().unwrap();
    let other = rcgen::CertificateParams::new(vec!["a.example.test".to_owned()]).unwrap();
    let other = other.self_signed(&key).unwrap().pem();
    let seen: [AtomicUsize; 4] = Default::default();
    let first = move |at: usize| seen[at].fetch_add(1, Ordering::Relaxed) == 0;
    let json = "\r\nContent-Type: application/problem+json\r\nReplay-Nonce: bm9uY2U";
    let faulty = Faulty::start(
        &pebble,
        Arc::new(move |path| match path {
            // A certificate for another key.
            path if path.starts_with("/certZ/") && first(0) => {
                let head = "200 OK\r\nContent-Type: application/pem-certificate-chain\r\n\
                            Replay-Nonce: bm9uY2U";
                Fault::Answer(head.to_owned(), other.clone())
            }
            // The order was ready, and is not any more.
            path if path.starts_with("/finalize-order/") && first(1) => {
                Fault::Answer(format!("403 Forbidden{json}"), problem("orderNotReady"))
            }
            // A page of somebody in between.
            "/order-plz" if first(2) => {
                let head = "200 OK\r\nContent-Type: text/html".to_owned();
                Fault::Answer(head, "<h1>Welcome to our network</h1>".to_owned())
            }
            path if path.starts_with("/chalZ/") && first(3) => Fault::Late(Duration::from_secs(3)),
            _ => Fault::None,
        }),
    );
    let storage = scratch();
    let names: Vec<String> = (0..5).map(|at| format!("n{at}.example.test")).collect();
    let sites: String = names.iter().map(|name| site(name)).collect();
    let server = serve(&pebble, &faulty, &storage, &sites);
    for name in &names {
        wait_for(pebble.tls, name, 150);
    }
    let log = server.log();
    for told in ["certificate is unusable", "orderNotReady", "could not get certificate"] {
        assert!(log.contains(told), "{told}: {log}");
    }
    let report = get(server.admin, "/tls/certificates").body;
    assert!(!report.contains("\"last_error\""), "{report}");
}

/// Killed twenty times at any point; every certificate that was there stays, the account is kept, and
/// the next start gets what is missing.
#[test]
#[ignore = "needs pebble"]
fn killed_at_any_point() {
    const KILLS: usize = 20;
    let pebble = Pebble::start(&PebbleOptions::default());
    let storage = scratch();
    let start = |count: usize| {
        let names = (0..count).map(|at| site(&format!("n{at}.example.test")));
        let options = pebble.options(&storage, pebble.http, pebble.tls, "");
        let sites: String = names.collect();
        Server::start(&format!("{options}{sites}\n:{{port}} {{\n\trespond up\n}}\n"))
    };
    let mut kept: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    let is_kept = |path: &Path| {
        let name = path.to_string_lossy();
        (name.contains("/certificates/") || name.contains("/users/")) && !name.contains(".tmp")
    };
    for round in 1..=KILLS {
        let mut server = start(round);
        let name = format!("n{}.example.test", round - 1);
        eventually("the newest name is worked on", || {
            server.log().contains("acquiring lock") && server.log().contains(&name)
        });
        // Chance is what this is about: from the lock to after the last file.
        let end = Instant::now() + Duration::from_millis(fastrand::u64(0..=900));
        while Instant::now() < end && shown(pebble.tls, &name).is_none() {
            std::thread::sleep(Duration::from_millis(fastrand::u64(0..=20)));
        }
        server.child.kill().unwrap();
        server.child.wait().unwrap();
        let now = tree(&storage);
        for (path, content) in &kept {
            assert_eq!(now.get(path), Some(content), "{} after kill {round}", path.display());
        }
        // What is complete has to stay; a key without its certificate may be made anew.
        let complete = |path: &Path| {
            let of_account = path.extension().is_some_and(|end| end == "key")
                || now.contains_key(&path.with_extension("key"));
            let beside = |end: &str| now.contains_key(&path.with_extension(end));
            let of_certificate = beside("crt") && beside("key") && beside("json");
            if path.to_string_lossy().contains("/users/") { of_account } else { of_certificate }
        };
        kept = now
            .iter()
            .filter(|(path, _)| is_kept(path) && complete(path))
            .map(|(path, content)| (path.clone(), content.clone()))
            .filter(|(path, _)| path.extension().is_some_and(|end| end == "crt" || end == "key"))
            .collect();
    }
    let orders = pebble.orders();
    // What lies beside chain and key is not needed to serve them.
    let now = tree(&storage);
    let usable = now.keys().filter(|path| {
        is_kept(path)
            && path.extension().is_some_and(|end| end == "crt")
            && now.contains_key(&path.with_extension("key"))
    });
    let there = usable.count();
    let _server = start(KILLS);
    for at in 0..KILLS {
        wait_for(pebble.tls, &format!("n{at}.example.test"), 90);
    }
    let now = tree(&storage);
    for (path, content) in &kept {
        assert_eq!(now.get(path), Some(content), "{} at the end", path.display());
    }
    let more = pebble.orders() - orders;
    assert_eq!(more, KILLS - there, "only what was missing is ordered");
    let accounts = now.keys().filter(|path| {
        path.to_string_lossy().contains("/users/") && path.extension().is_some_and(|e| e == "key")
    });
    assert_eq!(accounts.count(), 1);
}

/// Serves one name by an authority that loses an answer, once, for each of these paths.
fn with_lost_answers(pebble: &Pebble, storage: &Path, lost: &[&str], list: bool) -> Server {
    let left = Mutex::new(lost.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
    let faulty = Faulty::start(
        pebble,
        Arc::new(move |path| {
            let mut left = left.lock().unwrap();
            if let Some(at) = left.iter().position(|lost| path.starts_with(lost.as_str())) {
                left.remove(at);
                return Fault::Lost;
            }
            if !list && path.starts_with("/list-orderz/") {
                let head = "404 Not Found\r\nReplay-Nonce: bm9uY2U";
                return Fault::Answer(head.to_owned(), problem("malformed"));
            }
            Fault::None
        }),
    );
    serve(pebble, &faulty, storage, &site("a.example.test"))
}

/// Orders count at authorities: where the answer to one is lost, it is looked for and gone on with.
#[test]
#[ignore = "needs pebble"]
fn an_order_whose_answer_is_lost_is_gone_on_with() {
    let pebble = Pebble::start(&PebbleOptions::default());
    let storage = scratch();
    let lost = ["/sign-me-up", "/order-plz", "/chalZ/", "/finalize-order/", "/certZ/"];
    let server = with_lost_answers(&pebble, &storage, &lost, true);
    wait_for(pebble.tls, "a.example.test", 30);
    assert!(server.log().contains("going on with the order whose answer was lost"));
    assert_eq!((pebble.orders(), pebble.issued()), (1, 1), "{}", server.log());
}

/// An authority that tells nobody of its orders gets no second one at once.
#[test]
#[ignore = "needs pebble"]
fn an_order_that_nobody_can_look_for_waits_for_the_back_off() {
    let pebble = Pebble::start(&PebbleOptions::default());
    let storage = scratch();
    let server = with_lost_answers(&pebble, &storage, &["/order-plz"], false);
    eventually("it is told", || server.log().contains("will retry"));
    let log = server.log();
    let line = log.lines().find(|line| line.contains("will retry")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert!(line["retrying_in"].as_u64().unwrap() >= 60, "{line}");
    assert!(line["error"].as_str().unwrap().starts_with("creating new order: "), "{line}");
    assert!(!line["remedy"].as_str().unwrap().is_empty(), "{line}");
    assert_eq!(pebble.orders(), 1, "{log}");
}
