//! Clocks that are wrong, keys that do not match, roots that expired, locks of others, and authorities
//! that are away for a month.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use serde_json::Value as Json;

use super::{hear, internal, manager, one, subject, take, told, unreachable, wait_of, wanted};
use crate::{
    automate::manager::{Cause, CertManager, State},
    key::{KeyType, to_pem},
    storage::{FileSystem, Storage},
    testing::{TempDir, all_logged, logged},
};

#[tokio::test]
async fn a_clock_that_is_wrong_by_days_costs_no_certificate() {
    let dir = TempDir::new();
    let storage = FileSystem::new(dir.path());
    let acme = unreachable(&storage, "a.clock.test", -5..85);
    let subjects = vec![subject("a.clock.test", acme)];
    let clocks: [fn() -> i64; 3] = [
        || crate::timestamp::now() + 100 * 86_400,
        || crate::timestamp::now() - 100 * 86_400,
        || 0,
    ];
    all_logged();
    for (at, clock) in clocks.into_iter().enumerate() {
        let manager = CertManager::with_clock(Arc::new(FileSystem::new(dir.path())), clock);
        manager.lock().driven = true;
        manager.reconcile(wanted(&dir, subjects.clone())).await;
        let served =
            one(&manager, "a.clock.test").expect("what clients may still accept is served");
        // The authority is asked, says nothing, and nothing is lost by it.
        let heard = hear(&manager);
        manager.due();
        manager.clone().work("a.clock.test".to_owned(), Cause::Due).await;
        assert_eq!(one(&manager, "a.clock.test").unwrap().fingerprint, served.fingerprint);
        let failed = take(&heard, "cert_failed");
        assert!(failed.len() <= 1, "{failed:?}");
        assert!(failed.iter().all(|data| data["renewal"] == true), "{failed:?}");
        if at == 0 {
            // It seems to have expired.
            let lines = told("a.clock.test", "warn", "stored certificate has expired by the clock");
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0]["remedy"].as_str().unwrap().contains("NTP"), "{lines:?}");
            let retry = told("a.clock.test", "error", "will retry");
            assert!(!retry[0]["remedy"].as_str().unwrap().is_empty(), "{retry:?}");
            assert!((59..=66).contains(&wait_of(&manager, "a.clock.test")));
            assert_eq!(failed.len(), 1, "{failed:?}");
        }
    }
    // Put right again, it is as valid as before.
    let manager = manager(&dir);
    manager.reconcile(wanted(&dir, subjects)).await;
    assert_eq!((manager.report()[0].status, manager.report()[0].failures), ("valid", 0));
}

#[tokio::test]
async fn local_certificates_of_a_clock_that_was_ahead_are_made_again() {
    let dir = TempDir::new();
    let subjects = vec![subject("a.test", internal())];
    let ahead = CertManager::with_clock(Arc::new(FileSystem::new(dir.path())), || {
        crate::timestamp::now() + 3 * 86_400
    });
    ahead.reconcile(wanted(&dir, subjects.clone())).await;
    let early = one(&ahead, "a.test").unwrap();
    let manager = manager(&dir);
    manager.reconcile(wanted(&dir, subjects)).await;
    let now = crate::timestamp::now();
    let made = one(&manager, "a.test").unwrap();
    assert!(early.is_ahead(now) && !made.is_ahead(now));
    for der in &made.key.cert {
        let facts = crate::certificate::Facts::parse(der).unwrap();
        assert!(facts.not_before <= now && now < facts.not_after, "the intermediate, too");
    }
}

#[tokio::test]
async fn a_renewed_certificate_with_another_key_costs_nothing_that_works() {
    let dir = TempDir::new();
    let storage = FileSystem::new(dir.path());
    // Due, and renewed by another process that left the wrong key.
    let acme = unreachable(&storage, "a.key.test", -80..10);
    let manager = manager(&dir);
    manager.lock().driven = true;
    manager.reconcile(wanted(&dir, vec![subject("a.key.test", acme)])).await;
    let served = one(&manager, "a.key.test").unwrap();
    unreachable(&storage, "a.key.test", 0..90);
    let heard = hear(&manager);
    let place = "certificates/127.0.0.1-1-dir/a.key.test/a.key.test.key";
    let right = storage.load(place).unwrap();
    let other = to_pem(&KeyType::P256.generate().unwrap());
    storage.store(place, other.as_bytes()).unwrap();
    all_logged();
    manager.due();
    manager.clone().work("a.key.test".to_owned(), Cause::Due).await;
    assert_eq!(one(&manager, "a.key.test").unwrap().fingerprint, served.fingerprint);
    let report = manager.report();
    assert!(report[0].last_error.is_some() && report[0].remedy.is_some(), "{report:?}");
    let failed = take(&heard, "cert_failed");
    assert_eq!((failed.len(), &failed[0]["renewal"]), (1, &true.into()), "{failed:?}");
    let lines = told("a.key.test", "error", "stored certificate is unusable");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0]["remedy"].as_str().unwrap().contains("what else writes"), "{lines:?}");
    let retry = told("a.key.test", "error", "will retry");
    assert_eq!(retry.len(), 1, "{retry:?}");
    assert!(!retry[0]["remedy"].as_str().unwrap().is_empty(), "{retry:?}");
    assert!((59..=66).contains(&wait_of(&manager, "a.key.test")));
    // With the right key it is taken at the next attempt.
    storage.store(place, &right).unwrap();
    manager.clone().work("a.key.test".to_owned(), Cause::Due).await;
    assert_ne!(one(&manager, "a.key.test").unwrap().fingerprint, served.fingerprint);
    assert_eq!(manager.report()[0].last_error, None);
}

#[tokio::test]
async fn a_root_that_has_expired_is_told_once_a_day() {
    const DAY: i64 = 86_400;
    let dir = TempDir::new();
    let subjects = vec![subject("a.test", internal())];
    manager(&dir).reconcile(wanted(&dir, subjects.clone())).await;
    let now: fn() -> i64 = crate::timestamp::now;
    let clocks = [
        (now, None),
        (|| crate::timestamp::now() + 3_550 * DAY, Some("ca_root_expiring")),
        (|| crate::timestamp::now() + 3_601 * DAY, Some("ca_root_expired")),
    ];
    for (clock, event) in clocks {
        let manager = CertManager::with_clock(Arc::new(FileSystem::new(dir.path())), clock);
        let heard = hear(&manager);
        // The driver looks, too; whoever comes first tells it.
        manager.reconcile(wanted(&dir, subjects.clone())).await;
        manager.look_at_roots();
        manager.look_at_roots();
        let told: Vec<(String, Json)> = heard.lock().unwrap().clone();
        let told: Vec<_> = told.iter().filter(|(name, _)| name.starts_with("ca_root_")).collect();
        let names: Vec<&str> = told.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, Vec::from_iter(event));
        if let Some((name, data)) = told.first() {
            assert_eq!(data["ca"], "local");
            assert!(data["subject"].as_str().unwrap().contains("ECC Root"), "{data}");
            let subject = &data["subject"];
            let lines = all_logged();
            let lines = lines.iter().filter(|line| {
                let about = line["not_after"] == data["not_after"] && line["subject"] == *subject;
                about
                    && line["message"].as_str().unwrap().contains(
                        match *name == "ca_root_expired" {
                            true => "has expired",
                            false => "expires soon",
                        },
                    )
            });
            assert!(lines.clone().count() >= 1);
            assert!(lines.clone().all(|line| {
                line["remedy"].as_str().unwrap().contains("put another root into the config")
            }));
        }
        assert!(one(&manager, "a.test").is_some(), "who does not look at roots is served");
    }
}

#[tokio::test]
async fn who_waits_for_a_lock_says_so() {
    let dir = TempDir::new();
    let storage = FileSystem::new(dir.path());
    let manager = manager(&dir);
    let heard = hear(&manager);
    all_logged();
    let lock = storage.lock("issue_cert_a.lock.test", Duration::ZERO).unwrap();
    manager.reconcile(wanted(&dir, vec![subject("a.lock.test", internal())])).await;
    let report = manager.report();
    let error = report[0].last_error.as_deref().unwrap_or_default();
    assert!(error.contains("it has the lock issue_cert_a.lock.test"), "{report:?}");
    assert_eq!((report[0].status, report[0].failures), ("waiting", 0));
    assert_eq!(take(&heard, "cert_failed"), Vec::<Json>::new(), "nothing has failed");
    let lines = told("a.lock.test", "info", "another process works on this name");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0]["remedy"].as_str().unwrap().contains("ends by itself"), "{lines:?}");
    assert!((1..=4).contains(&wait_of(&manager, "a.lock.test")));
    drop(lock);
    manager.clone().work("a.lock.test".to_owned(), Cause::Due).await;
    assert!(one(&manager, "a.lock.test").is_some());
    assert_eq!(manager.report()[0].last_error, None);
}

#[tokio::test]
async fn after_a_month_it_is_told_and_tried_each_day() {
    const DAY: i64 = 86_400;
    static NOW: AtomicI64 = AtomicI64::new(0);
    NOW.store(crate::timestamp::now(), Ordering::Relaxed);
    let dir = TempDir::new();
    let storage = FileSystem::new(dir.path());
    let names = ["old.month.test", "new.month.test"];
    let acme = unreachable(&storage, names[0], -80..10);
    let manager = CertManager::with_clock(Arc::new(FileSystem::new(dir.path())), || {
        NOW.load(Ordering::Relaxed)
    });
    let subjects = names.map(|name| subject(name, acme.clone())).to_vec();
    all_logged();
    // The driver would see that time leaps.
    manager.lock().driven = true;
    manager.reconcile(wanted(&dir, subjects.clone())).await;
    let served = one(&manager, names[0]).unwrap();
    // What a month of failures leaves behind.
    for name in names {
        let (since, retry_at) = (manager.now() - 30 * DAY, manager.now());
        let served = name == names[0];
        manager.lock().entries.get_mut(name).unwrap().state =
            State::Waiting { failures: 130, since, retry_at, served };
    }
    let heard = hear(&manager);
    for day in 1..=3 {
        assert_eq!(manager.due().len(), names.len());
        for (name, renewal) in names.iter().zip([true, false]) {
            manager.clone().work((*name).to_owned(), Cause::Due).await;
            let lines = told(name, "error", "failing for a month");
            assert_eq!(lines.len(), day, "{:?}", logged(name));
            let line = lines.last().unwrap();
            assert!(line["remedy"].as_str().unwrap().contains("reaches the authority"), "{line}");
            assert!((DAY..=DAY + DAY / 10).contains(&line["retrying_in"].as_i64().unwrap()));
            assert_eq!(line["attempt"], 130 + day);
            let failed = take(&heard, "cert_failed");
            assert_eq!((failed.len(), &failed[0]["identifier"]), (1, &(*name).into()));
            assert_eq!(failed[0]["renewal"], renewal);
        }
        let report = manager.report();
        assert!(report.iter().all(|one| one.status == "stuck" && one.remedy.is_some()));
        assert_eq!(one(&manager, names[0]).unwrap().fingerprint, served.fingerprint);
        assert_eq!(manager.due(), Vec::<String>::new());
        NOW.fetch_add(DAY + DAY / 10, Ordering::Relaxed);
    }
    // Another server got one meanwhile: the next look takes it, without a reload.
    manager.due();
    for name in names {
        unreachable(&storage, name, 0..90);
        manager.clone().work(name.to_owned(), Cause::Due).await;
        assert_ne!(one(&manager, name).unwrap().fingerprint, served.fingerprint);
    }
    let report = manager.report();
    assert!(report.iter().all(|one| one.status == "valid" && one.last_error.is_none()));
}

#[tokio::test]
async fn a_wildcard_without_dns_is_told_before_anybody_is_asked() {
    let dir = TempDir::new();
    let name = "*.wild.test";
    let acme = unreachable(&FileSystem::new(dir.path()), "other.test", 0..90);
    let manager = manager(&dir);
    manager.lock().driven = true;
    all_logged();
    manager.reconcile(wanted(&dir, vec![subject(name, acme)])).await;
    manager.due();
    manager.clone().work(name.to_owned(), Cause::Due).await;
    let retry = told(name, "error", "will retry");
    assert_eq!(retry.len(), 1, "{retry:?}");
    let error = "no solvers available for *.wild.test: wildcard names need the DNS challenge";
    assert_eq!(retry[0]["error"], error);
    assert!(retry[0]["remedy"].as_str().unwrap().contains("DNS provider"), "{retry:?}");
}

#[tokio::test]
async fn an_expired_root_is_replaced_by_a_reload() {
    const LATER: i64 = 3_601 * 86_400;
    let dir = TempDir::new();
    let storage = FileSystem::new(dir.path());
    let subjects = vec![subject("a.root.test", internal()), subject("b.root.test", internal())];
    let clock = || crate::timestamp::now() + LATER;
    manager(&dir).reconcile(wanted(&dir, subjects[..1].to_vec())).await;
    let manager = CertManager::with_clock(Arc::new(FileSystem::new(dir.path())), clock);
    manager.lock().driven = true;
    manager.reconcile(wanted(&dir, subjects.clone())).await;
    let heard = hear(&manager);
    manager.look_at_roots();
    assert_eq!(take(&heard, "ca_root_expired").len(), 1);
    let old = one(&manager, "a.root.test").unwrap();
    // A root of the operator's.
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "the next root");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_before = time::OffsetDateTime::now_utc();
    params.not_after = params.not_before + time::Duration::seconds(2 * LATER);
    let root = params.self_signed(&key).unwrap();
    storage.store("next.crt", root.pem().as_bytes()).unwrap();
    storage.store("next.key", key.serialize_pem().as_bytes()).unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let config = caddis_config::Ca {
        root: Some(caddis_config::KeyPair {
            certificate: path("next.crt"),
            private_key: path("next.key"),
            format: String::new(),
        }),
        ..Default::default()
    };
    let configs = [("local".to_owned(), config)].into();
    manager.pki().configure(Arc::new(FileSystem::new(dir.path())), configs);
    manager.reconcile(wanted(&dir, subjects)).await;
    assert_eq!(one(&manager, "a.root.test").unwrap().fingerprint, old.fingerprint, "served on");
    manager.lock().entries.values_mut().for_each(|entry| {
        assert!(entry.state.wake_at().unwrap() <= manager.now() + 1, "due at once");
    });
    for name in ["a.root.test", "b.root.test"] {
        manager.clone().work(name.to_owned(), Cause::Due).await;
        let new = one(&manager, name).unwrap();
        let (_, last) = x509_parser::parse_x509_certificate(new.key.cert.last().unwrap()).unwrap();
        assert_eq!(last.issuer().to_string(), "CN=the next root");
        assert!(!new.is_expired(manager.now()));
    }
    assert_eq!(take(&heard, "cert_obtained").len(), 2);
    manager.look_at_roots();
    assert_eq!(take(&heard, "ca_root_expired"), Vec::<Json>::new());
}
