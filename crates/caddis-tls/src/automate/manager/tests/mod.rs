//! The manager with local authorities and with ones that cannot be reached.

mod staples;
mod storage;
mod trouble;
mod wishes;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use std::sync::Mutex;

use caddis_core::event::{EventHandler, Subscription};
use serde_json::Value as Json;

use super::{Cause, CertManager, Issuer, ManagedSubject, Reconcile};
use crate::{
    acme::AcmeConfig,
    automate::{OnDemandError, OnDemandPolicy, Permission},
    certificate::Certificate,
    key::{KeyType, to_pem},
    loaders::{Loaders, compile_loaders},
    policy::Missing,
    storage::{FileSystem, OtherStorage, Storage},
    testing::{TempDir, logged},
};

fn internal() -> Issuer {
    Issuer::Internal { ca: String::new(), lifetime: None, sign_with_root: false }
}

fn subject(name: &str, issuer: Issuer) -> ManagedSubject {
    ManagedSubject {
        name: name.to_owned(),
        issuers: vec![issuer],
        key_type: KeyType::P256,
        reuse_private_keys: false,
        renewal_window_ratio: 0.0,
        must_staple: false,
        storage: None,
    }
}

fn wanted(dir: &TempDir, subjects: Vec<ManagedSubject>) -> Reconcile {
    let storage = Arc::new(FileSystem::new(dir.path()));
    Reconcile {
        subjects,
        unless_loaded: Default::default(),
        on_demand: Vec::new(),
        capacity: 2,
        loaded: Vec::new(),
        ocsp: None,
        clean: None,
        loaders: Loaders::default(),
        storage,
    }
}

fn manager(dir: &TempDir) -> Arc<CertManager> {
    CertManager::new(Arc::new(FileSystem::new(dir.path())))
}

fn one(manager: &CertManager, name: &str) -> Option<Arc<Certificate>> {
    manager.store().load().named(name).first().cloned()
}

/// Events with their data.
type Heard = Arc<Mutex<Vec<(String, Json)>>>;

/// Writes down what a manager tells from now on.
fn hear(manager: &CertManager) -> Heard {
    let heard = Heard::default();
    let seen = heard.clone();
    let handler: EventHandler = Arc::new(move |event| {
        seen.lock().unwrap().push((event.name.clone(), event.data.clone()));
        Box::pin(async { Ok(()) })
    });
    let all = Subscription { events: vec![], modules: vec![], handlers: vec![handler] };
    // The handler has nothing to wait for.
    let now = Arc::new(|mut work: caddis_core::event::EventFuture<()>| {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(work.as_mut().poll(&mut cx).is_ready());
    });
    manager.events().set(vec![all].into(), now);
    heard
}

/// Takes the events of one kind.
fn take(heard: &Heard, kind: &str) -> Vec<Json> {
    let (taken, left) =
        std::mem::take(&mut *heard.lock().unwrap()).into_iter().partition(|(name, _)| name == kind);
    *heard.lock().unwrap() = left;
    let taken: Vec<(String, Json)> = taken;
    taken.into_iter().map(|(_, data)| data).collect()
}

/// All files with their contents.
fn files(dir: &TempDir) -> Vec<(String, Vec<u8>)> {
    let storage = FileSystem::new(dir.path());
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for key in storage.list(&folder).unwrap() {
            match storage.load(&key) {
                Ok(content) => found.push((key, content)),
                Err(_) => folders.push(key),
            }
        }
    }
    found.sort();
    found
}

/// An ACME issuer that cannot be reached, with certificates of that issuer in the storage.
fn unreachable(storage: &FileSystem, name: &str, days: std::ops::Range<i64>) -> Issuer {
    let key = KeyType::P256.generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = time::OffsetDateTime::now_utc() + time::Duration::days(days.start);
    params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(days.end);
    let chain = params.self_signed(&key).unwrap().pem();
    let base = format!("certificates/127.0.0.1-1-dir/{name}/{name}");
    storage.store(&format!("{base}.crt"), chain.as_bytes()).unwrap();
    storage.store(&format!("{base}.key"), to_pem(&key).as_bytes()).unwrap();
    let directory = "http://127.0.0.1:1/dir".to_owned();
    Issuer::Acme(Arc::new(AcmeConfig { directory, ..AcmeConfig::default() }))
}

/// Entries of a level about a name, whose messages begin so.
fn told(identifier: &str, level: &str, message: &str) -> Vec<Json> {
    let mut all = logged(identifier);
    all.retain(|entry| {
        entry["level"] == level && entry["message"].as_str().unwrap().starts_with(message)
    });
    all
}

/// When the next attempt for a name comes, seconds from now.
fn wait_of(manager: &CertManager, name: &str) -> i64 {
    let state = manager.lock().entries[name].state;
    state.wake_at().unwrap() - manager.now()
}

#[tokio::test]
async fn certificates_are_there_after_the_first_call() {
    let dir = TempDir::new();
    let manager = manager(&dir);
    let names = ["a.test", "*.b.test", "127.0.0.1"];
    let subjects = names.map(|name| subject(name, internal())).to_vec();
    manager.reconcile(wanted(&dir, subjects.clone())).await;
    for name in names {
        assert!(one(&manager, name).is_some(), "{name}");
    }
    let storage = FileSystem::new(dir.path());
    let base = "certificates/local/wildcard_.b.test/wildcard_.b.test";
    let metadata = String::from_utf8(storage.load(&format!("{base}.json")).unwrap()).unwrap();
    assert_eq!(metadata, "{\n\t\"sans\": [\n\t\t\"*.b.test\"\n\t],\n\t\"issuer_data\": null\n}");
    assert!(storage.exists(&format!("{base}.key")).unwrap());

    let before = files(&dir);
    let again = self::manager(&dir);
    again.reconcile(wanted(&dir, subjects.clone())).await;
    assert_eq!(files(&dir), before, "an existing storage is used as it is");
    let same =
        |name| one(&again, name).unwrap().fingerprint == one(&manager, name).unwrap().fingerprint;
    assert!(names.into_iter().all(same));

    manager.reconcile(wanted(&dir, subjects[..1].to_vec())).await;
    assert!(one(&manager, "a.test").is_some());
    assert!(one(&manager, "127.0.0.1").is_none(), "names that are gone are forgotten");
}

#[tokio::test]
async fn broken_leaves_are_issued_again() {
    let dir = TempDir::new();
    let storage = FileSystem::new(dir.path());
    let subjects = vec![subject("a.test", internal())];
    manager(&dir).reconcile(wanted(&dir, subjects.clone())).await;
    let key = storage.load("pki/authorities/local/root.key").unwrap();
    storage.store("certificates/local/a.test/a.test.crt", b"garbage").unwrap();
    let again = manager(&dir);
    again.reconcile(wanted(&dir, subjects.clone())).await;
    assert!(one(&again, "a.test").is_some());
    assert_eq!(storage.load("pki/authorities/local/root.key").unwrap(), key);

    storage.store("certificates/local/a.test/a.test.crt", b"garbage").unwrap();
    storage.store("pki/authorities/local/root.crt", b"garbage").unwrap();
    let again = manager(&dir);
    again.reconcile(wanted(&dir, subjects)).await;
    assert!(one(&again, "a.test").is_none());
    assert_eq!(storage.load("pki/authorities/local/root.key").unwrap(), key);
}

#[tokio::test]
async fn stored_certificates_are_served_while_the_authority_is_away() {
    let dir = TempDir::new();
    let storage = FileSystem::new(dir.path());
    let key = KeyType::P256.generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["stored.test".to_owned()]).unwrap();
    params.not_before = time::OffsetDateTime::now_utc();
    params.not_after = time::OffsetDateTime::now_utc() + Duration::from_secs(90 * 86_400);
    let chain = params.self_signed(&key).unwrap().pem();
    let base = "certificates/127.0.0.1-1-dir/stored.test/stored.test";
    storage.store(&format!("{base}.crt"), chain.as_bytes()).unwrap();
    storage.store(&format!("{base}.key"), to_pem(&key).as_bytes()).unwrap();
    let unreachable = "http://127.0.0.1:1/dir".to_owned();
    let config = AcmeConfig { directory: unreachable, ..AcmeConfig::default() };
    let acme = Issuer::Acme(Arc::new(config));
    let subjects = vec![
        subject("stored.test", acme.clone()),
        subject("new.test", acme),
        subject("own.test", internal()),
    ];
    let manager = manager(&dir);
    manager.reconcile(wanted(&dir, subjects)).await;
    assert!(one(&manager, "stored.test").is_some());
    assert!(one(&manager, "new.test").is_none());
    assert!(one(&manager, "own.test").is_some(), "the rest of the server works");
}

#[tokio::test]
async fn due_certificates_are_renewed_and_the_old_one_is_served_on() {
    let dir = TempDir::new();
    let short = |lifetime| Issuer::Internal {
        ca: String::new(),
        lifetime: Some(Duration::from_secs(lifetime)),
        sign_with_root: false,
    };
    let manager = manager(&dir);
    let subjects = vec![subject("a.test", short(3_600))];
    manager.reconcile(wanted(&dir, subjects)).await;
    let old = one(&manager, "a.test").unwrap();
    // An hour later, seen from a manager whose clock is ahead.
    let later = CertManager::with_clock(Arc::new(FileSystem::new(dir.path())), || {
        crate::timestamp::now() + 3_000
    });
    later.reconcile(wanted(&dir, vec![subject("a.test", short(3_600))])).await;
    let new = one(&later, "a.test").unwrap();
    assert!(new.not_after >= old.not_after + 2_990);
    manager.clone().work("a.test".to_owned(), Cause::Due).await;
    let taken = one(&manager, "a.test").unwrap();
    assert_eq!(taken.fingerprint, new.fingerprint, "what another process made is taken");
}

#[tokio::test]
async fn on_demand_asks_once_and_issues_once() {
    let dir = TempDir::new();
    let manager = manager(&dir);
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let permission = Permission::new(move |name: String| {
        counter.fetch_add(1, Ordering::Relaxed);
        async move { if name.starts_with("good") { Ok(()) } else { Err("no".to_owned()) } }
    });
    let policy = OnDemandPolicy {
        subjects: vec!["*.test".to_owned()],
        issuers: vec![internal()],
        key_type: KeyType::P256,
        reuse_private_keys: false,
        renewal_window_ratio: 0.0,
        storage: None,
        must_staple: false,
        getters: Vec::new(),
        taken: Default::default(),
        permission: Some(permission),
    };
    let with_policy = || Reconcile { on_demand: vec![policy.clone()], ..wanted(&dir, vec![]) };
    manager.reconcile(with_policy()).await;
    let missing = |name: &str| Missing { asked: name.to_owned(), name: name.to_owned() };
    let good = missing("good.test");
    let (one_, two) = tokio::join!(manager.get_or_issue(&good), manager.get_or_issue(&good));
    assert_eq!((one_, two, asked.load(Ordering::Relaxed)), (Ok(()), Ok(()), 1));
    assert!(one(&manager, "good.test").is_some());
    let denied = manager.get_or_issue(&missing("bad.test")).await;
    assert_eq!(denied, Err(OnDemandError::Denied("no".to_owned())));
    for name in ["good.other", "", "*.test", "a b.test"] {
        let refused = manager.get_or_issue(&missing(name)).await;
        assert_eq!(refused, Err(OnDemandError::NotAllowed), "{name}");
    }
    let nameless = Missing { asked: String::new(), name: "good.test".to_owned() };
    let refused = manager.get_or_issue(&nameless).await;
    assert_eq!(refused, Err(OnDemandError::NotAllowed), "only a policy for all names has none");
    manager.reconcile(with_policy()).await;
    assert!(one(&manager, "good.test").is_some(), "kept over a reload");
    // Of more names than are to be kept (T053) those are forgotten that are not asked for now.
    for name in ["good1.test", "good2.test", "good3.test"] {
        assert_eq!(manager.get_or_issue(&missing(name)).await, Ok(()));
        assert!(one(&manager, name).is_some(), "{name}");
    }
    let all = ["good.test", "good1.test", "good2.test", "good3.test"];
    assert_eq!(all.iter().filter(|name| one(&manager, name).is_some()).count(), 2);
    manager.reconcile(wanted(&dir, vec![])).await;
    assert!(one(&manager, "good.test").is_none());
}

/// A handshake is not to wait for an authority where there is a certificate in the storage (T090).
#[tokio::test]
async fn what_is_due_is_served_and_renewed_afterwards() {
    let dir = TempDir::new();
    let storage = FileSystem::new(dir.path());
    let acme = unreachable(&storage, "due.test", -80..10);
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let permission = Permission::new(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        async { Ok(()) }
    });
    let policy = OnDemandPolicy {
        subjects: Vec::new(),
        issuers: vec![acme],
        key_type: KeyType::P256,
        reuse_private_keys: false,
        renewal_window_ratio: 0.0,
        storage: None,
        must_staple: false,
        getters: Vec::new(),
        taken: Default::default(),
        permission: Some(permission),
    };
    let manager = manager(&dir);
    manager.lock().driven = true;
    manager.reconcile(Reconcile { on_demand: vec![policy], ..wanted(&dir, vec![]) }).await;
    let missing = Missing { asked: "due.test".to_owned(), name: "due.test".to_owned() };
    manager.get_or_issue(&missing).await.unwrap();
    assert!(one(&manager, "due.test").is_some());
    assert_eq!(manager.counts(), (0, 0), "nobody was asked yet");
    // Its time has come, and the permission is asked for that, too (T099).
    assert_eq!(manager.due(), ["due.test"]);
    manager.clone().work("due.test".to_owned(), Cause::Due).await;
    assert_eq!((manager.counts(), asked.load(Ordering::Relaxed)), ((0, 1), 2));
    assert!(one(&manager, "due.test").is_some(), "it is served on");
}

#[tokio::test]
async fn changed_files_are_read_again() {
    let dir = TempDir::new();
    let storage = FileSystem::new(dir.path());
    let write = |days: i64| {
        let key = KeyType::P256.generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["f.test".to_owned()]).unwrap();
        params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(days);
        storage.store("f.crt", params.self_signed(&key).unwrap().pem().as_bytes()).unwrap();
        storage.store("f.key", to_pem(&key).as_bytes()).unwrap();
    };
    write(10);
    let path = |name: &str| dir.path().join(name).display().to_string();
    let json = serde_json::json!({
        "load_files": [{"certificate": path("f.crt"), "key": path("f.key")}],
    });
    let loaders = compile_loaders(&serde_json::from_value(json).unwrap()).unwrap();
    let loaded = loaders.load(&storage).unwrap();
    let manager = manager(&dir);
    manager.reconcile(Reconcile { loaded, loaders, ..wanted(&dir, vec![]) }).await;
    manager.look_at_files().await;
    let first = one(&manager, "f.test").unwrap();
    storage.store("f.crt", b"half a file").unwrap();
    manager.look_at_files().await;
    assert_eq!(one(&manager, "f.test").unwrap().fingerprint, first.fingerprint);
    // A new certificate beside the key of the old one.
    let key = storage.load("f.key").unwrap();
    write(1_000);
    storage.store("f.key", &key).unwrap();
    manager.look_at_files().await;
    assert_eq!(one(&manager, "f.test").unwrap().fingerprint, first.fingerprint);
    write(2_000);
    manager.look_at_files().await;
    assert_ne!(one(&manager, "f.test").unwrap().fingerprint, first.fingerprint);
}

#[tokio::test]
async fn policies_may_have_storages_of_their_own() {
    let (dir, own) = (TempDir::new(), TempDir::new());
    let json = serde_json::json!({"module": "file_system", "root": own.path()});
    let other = OtherStorage::open(&json).unwrap();
    let apart = ManagedSubject { storage: Some(other), ..subject("b.test", internal()) };
    let manager = manager(&dir);
    manager.reconcile(wanted(&dir, vec![subject("a.test", internal()), apart])).await;
    let place = |name: &str| format!("certificates/local/{name}/{name}.crt");
    for (storage, has, lacks) in [(&dir, "a.test", "b.test"), (&own, "b.test", "a.test")] {
        let storage = FileSystem::new(storage.path());
        assert!(storage.exists(&place(has)).unwrap() && !storage.exists(&place(lacks)).unwrap());
    }
    assert_eq!(manager.lock().storages().len(), 2);
    assert!(!FileSystem::new(own.path()).exists("pki").unwrap(), "authorities stay where they are");
}
