//! Several servers on one storage: each name is issued once, locks end with their holder, and a
//! storage may go away and come back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{round_trip, site};
use crate::{
    acme::{shown, wait_for},
    support::{
        Fault, Faulty, Heard, Pebble, PebbleOptions, Postgres, Redis, Redises, S3, S3s, Server,
        Store, eventually, free_port, get,
    },
};

/// A server of a fleet; the authority looks for challenges on `http` and `tls`.
fn member(pebble: &Pebble, option: &str, (http, tls): (u16, u16), names: &[&str]) -> Server {
    let options = pebble.options_without_storage(http, tls, option);
    let sites: String = names.iter().map(|name| site(name)).collect();
    Server::start(&format!("{options}{sites}:{{port}} {{\n\trespond up\n}}\n"))
}

#[track_caller]
fn issues_once(option: &str) {
    let pebble = Pebble::start(&PebbleOptions { slow: Some(1), ..PebbleOptions::default() });
    let names = ["a.example.test", "b.example.test", "c.example.test"];
    // The authority reaches the second one only, which answers for the first one, too.
    let ports = (free_port(), free_port());
    let one = member(&pebble, option, ports, &names);
    let two = member(&pebble, option, (pebble.http, pebble.tls), &names);
    for name in names {
        let leaf = wait_for(ports.1, name, 60);
        assert_eq!(wait_for(pebble.tls, name, 60), leaf);
    }
    assert_eq!(pebble.issued(), names.len());
    drop((one, two));
    // All is found again after a start.
    let _again = member(&pebble, option, ports, &names);
    wait_for(ports.1, names[0], 20);
    assert_eq!(pebble.issued(), names.len());
}

#[track_caller]
fn takes_over(option: &str, is_locked: &dyn Fn() -> bool) {
    let pebble = Pebble::start(&PebbleOptions { slow: Some(4), ..PebbleOptions::default() });
    let name = "a.example.test";
    let mut one = member(&pebble, option, (free_port(), free_port()), &[name]);
    eventually("a challenge is under way", || pebble.count("POST /chalZ/") > 0);
    assert!(is_locked());
    one.child.kill().unwrap();
    one.child.wait().unwrap();
    let killed = Instant::now();
    let _two = member(&pebble, option, (pebble.http, pebble.tls), &[name]);
    assert!(is_locked(), "the lock is there still");
    wait_for(pebble.tls, name, 90);
    assert!(killed.elapsed() > Duration::from_secs(2), "the lock was waited for");
    assert_eq!(pebble.issued(), 1);
    eventually("the lock is freed", || !is_locked());
}

#[track_caller]
fn goes_and_comes_back(store: &mut dyn Store) {
    let pebble = Pebble::start(&PebbleOptions::default());
    let heard = Heard::new();
    let option = store.option("") + &heard.option(&["cert_failed", "cert_obtained"]);
    let (old, new, late) = ("old.example.test", "new.example.test", "late.example.test");
    let server = member(&pebble, &option, (pebble.http, pebble.tls), &[old]);
    let leaf = wait_for(pebble.tls, old, 30);
    for frozen in [true, false] {
        if frozen {
            store.freeze(true);
        } else {
            store.down();
        }
        // A new name has to wait; what is served stays.
        let name = if frozen { new } else { late };
        let sites =
            if frozen { site(old) + &site(new) } else { site(old) + &site(new) + &site(late) };
        let options = pebble.options_without_storage(pebble.http, pebble.tls, &option);
        let began = Instant::now();
        let (reloaded, text) =
            server.reload(&format!("{options}{sites}:{{port}} {{\n\trespond up\n}}\n"));
        assert!(reloaded, "{text}");
        assert!(began.elapsed() < Duration::from_secs(30), "a reload has an end");
        eventually("it is told", || {
            let report = get(server.admin, "/tls/certificates").body;
            report.contains("\"last_error\"") && server.log().contains("storage is gone")
        });
        let failed = format!("cert_failed {name} false ");
        eventually("programs hear of it", || heard.count(&failed) > 0);
        let line = heard.line(&failed).unwrap();
        // The first of the reasons, which is that it did not answer.
        assert!(line.contains("looking for a stored certificate: storage "), "{line}");
        let report = get(server.admin, "/tls/certificates").body;
        assert!(report.contains("\"remedy\""), "{report}");
        assert_eq!(shown(pebble.tls, old).as_ref(), Some(&leaf));
        assert!(shown(pebble.tls, name).is_none());
        assert_eq!(get(server.port, "/").body, "up");
        if frozen {
            store.freeze(false);
        } else {
            store.up();
        }
        wait_for(pebble.tls, name, 90);
        assert!(server.log().contains("storage is back"));
        eventually("programs hear of it, too", || {
            heard.count(&format!("cert_obtained {name} false ")) == 1
        });
    }
    assert_eq!(heard.count(&format!("cert_failed {old} ")), 0, "nothing was wrong with it");
    assert_eq!(shown(pebble.tls, old), Some(leaf));
    assert_eq!(pebble.issued(), 3, "what could not be looked up was not ordered again");
}

#[test]
#[ignore = "needs redis and pebble"]
fn a_fleet_on_redis_issues_once() {
    issues_once(&Redis::start().option(""));
}

#[test]
#[ignore = "needs redis and pebble"]
fn a_lock_in_redis_ends_with_its_holder() {
    let redis = Redis::start();
    let key = "caddy/locks/issue_cert_a.example.test";
    takes_over(&redis.option(""), &|| redis.command(&["EXISTS", key]) == ":1");
}

#[test]
#[ignore = "needs redis and pebble"]
fn redis_goes_and_comes_back() {
    goes_and_comes_back(&mut Redis::start());
}

/// The master that has a lock dies in the middle of an issuance, and its replica takes over: what was
/// stored is there, the name has one certificate, and the lock, which Redis may even have forgotten,
/// is held and freed.
#[track_caller]
fn survives_a_failover(mut redis: Redises) {
    let pebble = Pebble::start(&PebbleOptions::default());
    let late = Arc::new(AtomicBool::new(false));
    let (is_late, asked) = (late.clone(), Arc::new(AtomicUsize::new(0)));
    let counter = asked.clone();
    let faults = move |path: &str| match path.starts_with("/chalZ/") {
        true if is_late.load(Ordering::Relaxed) => {
            counter.fetch_add(1, Ordering::Relaxed);
            Fault::Late(Duration::from_secs(12))
        }
        _ => Fault::None,
    };
    let front = Faulty::start(&pebble, Arc::new(faults));
    let text = |ports: (u16, u16), names: &[&str]| {
        let options = pebble.options_without_storage(ports.0, ports.1, redis.option());
        let sites: String = names.iter().map(|name| site(name)).collect();
        let options = options.replace(&pebble.directory(), &front.directory());
        format!("{options}{sites}:{{port}} {{\n\trespond up\n}}\n")
    };
    let names = ["old.example.test", "mid.example.test", "new.example.test"];
    let ports = (pebble.http, pebble.tls);
    let (two, three) = (text(ports, &names[..2]), text(ports, &names));
    let other_ports = (free_port(), free_port());
    let other = text(other_ports, &names[..2]);
    let server = Server::start(&text(ports, &names[..1]));
    let old = wait_for(pebble.tls, names[0], 30);
    let place = front.directory().replace("https://", "").replace([':', '/'], "-");
    let stored = |name: &str| format!("caddy/certificates/{place}/{name}/{name}.crt");
    eventually("the first one is stored", || redis.holder(&stored(names[0])).is_some());

    late.store(true, Ordering::Relaxed);
    let (reloaded, said) = server.reload(&two);
    assert!(reloaded, "{said}");
    eventually("a challenge is under way", || asked.load(Ordering::Relaxed) > 0);
    let lock = format!("caddy/locks/issue_cert_{}", names[1]);
    redis.forget(&lock);
    eventually("the lock is taken again", || redis.holder(&lock).is_some());
    let master = redis.holder(&lock).unwrap();
    redis.settle(master);
    redis.kill(master);
    late.store(false, Ordering::Relaxed);

    let mid = wait_for(pebble.tls, names[1], 90);
    assert_eq!(shown(pebble.tls, names[0]).as_ref(), Some(&old));
    let end = Instant::now() + Duration::from_secs(60);
    while redis.holder(&stored(names[1])).is_none() || redis.holder(&lock).is_some() {
        assert!(Instant::now() < end, "not stored, or locked: {}", server.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(redis.holder(&stored(names[0])).is_some_and(|now| now != master));
    assert_eq!(pebble.issued(), 2);
    // Another server finds both; the node that died follows, and new names are issued.
    let second = Server::start(&other);
    assert_eq!(wait_for(other_ports.1, names[0], 20), old);
    assert_eq!(wait_for(other_ports.1, names[1], 20), mid);
    drop(second);
    redis.up(master);
    let (reloaded, said) = server.reload(&three);
    assert!(reloaded, "{said}");
    wait_for(pebble.tls, names[2], 60);
    assert_eq!(pebble.issued(), 3);
}

#[test]
#[ignore = "needs redis and pebble"]
fn redis_fails_over_by_sentinels() {
    survives_a_failover(Redises::failover());
}

#[test]
#[ignore = "needs redis and pebble"]
fn redis_fails_over_in_a_cluster() {
    let cluster = Redises::cluster();
    round_trip(cluster.option());
    survives_a_failover(cluster);
}

#[test]
#[ignore = "needs postgres and pebble"]
fn a_fleet_on_postgres_issues_once() {
    issues_once(&Postgres::start().option(""));
}

#[test]
#[ignore = "needs postgres and pebble"]
fn a_lock_in_postgres_ends_with_its_holder() {
    let postgres = Postgres::start();
    let rows = "select count(*) from certmagic_locks where key = 'issue_cert_a.example.test'";
    takes_over(&postgres.option(""), &|| postgres.sql(rows) == "1");
}

#[test]
#[ignore = "needs postgres and pebble"]
fn postgres_goes_and_comes_back() {
    goes_and_comes_back(&mut Postgres::start());
}

#[test]
#[ignore = "needs s3s-fs and pebble"]
fn a_fleet_on_an_s3_server_issues_once() {
    issues_once(&S3s::start().option(""));
}

#[test]
#[ignore = "needs s3s-fs and pebble"]
fn a_lock_on_an_s3_server_ends_with_its_holder() {
    let s3 = S3s::start();
    takes_over(&s3.option(""), &|| s3.has("fleet/issue_cert_a.example.test.lock"));
}

#[test]
#[ignore = "needs s3s-fs and pebble"]
fn an_s3_server_goes_and_comes_back() {
    goes_and_comes_back(&mut S3s::start());
}

#[test]
#[ignore = "needs pebble"]
fn a_fleet_on_s3_issues_once() {
    issues_once(&S3::start().option(""));
}

#[test]
#[ignore = "needs pebble"]
fn a_lock_in_s3_ends_with_its_holder() {
    let s3 = S3::start();
    let key = "fleet/issue_cert_a.example.test.lock";
    takes_over(&s3.option(""), &|| s3.content(key).is_some());
}

#[test]
#[ignore = "needs pebble"]
fn s3_goes_and_comes_back() {
    goes_and_comes_back(&mut S3::start());
}

#[test]
#[ignore = "needs pebble"]
fn s3_without_conditions_is_told_and_works() {
    let s3 = S3::start();
    s3.careless();
    let pebble = Pebble::start(&PebbleOptions::default());
    let ports = (pebble.http, pebble.tls);
    let server = member(&pebble, &s3.option(""), ports, &["a.example.test"]);
    wait_for(pebble.tls, "a.example.test", 30);
    assert!(server.log().contains("does not keep conditions of writes"));
    eventually("the lock is freed", || !s3.keys().iter().any(|key| key.ends_with(".lock")));
}
