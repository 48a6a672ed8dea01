use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
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
    storage::{FileSystem, LockGuard, OtherStorage, Storage},
    testing::TempDir,
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
    manager.reconcile(wanted(&dir, vec![])).await;
    assert!(one(&manager, "good.test").is_none());
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

/// A storage that may be gone or full.
#[derive(Debug)]
struct Moody {
    inner: FileSystem,
    gone: AtomicBool,
    /// Milliseconds that each call takes.
    slow: AtomicUsize,
    /// Nothing longer than this can be stored.
    room: AtomicUsize,
}

impl Moody {
    fn new(dir: &TempDir) -> Arc<Self> {
        let inner = FileSystem::new(dir.path());
        let (gone, room) = (AtomicBool::new(false), AtomicUsize::new(usize::MAX));
        Arc::new(Self { inner, gone, slow: AtomicUsize::new(0), room })
    }

    fn is_gone(&self, gone: bool) {
        self.gone.store(gone, Ordering::Relaxed);
    }

    fn ask(&self) -> io::Result<&FileSystem> {
        if self.gone.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "storage moody: gone"));
        }
        std::thread::sleep(Duration::from_millis(self.slow.load(Ordering::Relaxed) as u64));
        Ok(&self.inner)
    }
}

impl Storage for Moody {
    fn load(&self, key: &str) -> io::Result<Vec<u8>> {
        self.ask()?.load(key)
    }

    fn store(&self, key: &str, content: &[u8]) -> io::Result<()> {
        if content.len() > self.room.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "storage moody: full"));
        }
        self.ask()?.store(key, content)
    }

    fn exists(&self, key: &str) -> io::Result<bool> {
        self.ask()?.exists(key)
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        self.ask()?.delete(key)
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        self.ask()?.list(prefix)
    }

    fn modified(&self, key: &str) -> io::Result<SystemTime> {
        self.ask()?.modified(key)
    }

    fn lock(&self, name: &str, wait: Duration) -> io::Result<Box<dyn LockGuard>> {
        self.ask()?.lock(name, wait)
    }

    fn describe(&self) -> String {
        "moody".to_owned()
    }
}

fn on(storage: &Arc<Moody>, subjects: Vec<ManagedSubject>, dir: &TempDir) -> Reconcile {
    Reconcile { storage: storage.clone(), ..wanted(dir, subjects) }
}

#[tokio::test]
async fn a_storage_that_is_gone_costs_nothing_that_is_served() {
    let dir = TempDir::new();
    let storage = Moody::new(&dir);
    let manager = CertManager::new(storage.clone());
    let old = vec![subject("old.test", internal())];
    manager.reconcile(on(&storage, old.clone(), &dir)).await;
    let first = one(&manager, "old.test").unwrap();
    let both = vec![old[0].clone(), subject("new.test", internal())];
    storage.is_gone(true);
    let heard = hear(&manager);
    manager.reconcile(on(&storage, both.clone(), &dir)).await;
    manager.clone().work("old.test".to_owned(), Cause::Due).await;
    assert_eq!(one(&manager, "old.test").unwrap().fingerprint, first.fingerprint);
    let mut failed = take(&heard, "cert_failed");
    failed.sort_by_key(|data| data["identifier"].to_string());
    assert_eq!(failed.len(), 2, "{failed:?}");
    let (new, old) = (&failed[0], &failed[1]);
    assert_eq!((&new["identifier"], &new["renewal"]), (&"new.test".into(), &false.into()));
    assert_eq!((&old["identifier"], &old["renewal"]), (&"old.test".into(), &true.into()));
    assert_eq!(new["issuers"], serde_json::json!(["local"]));
    assert!(old["remaining"].is_string() && new["remaining"].is_null(), "{failed:?}");
    assert!(new["error"].as_str().unwrap().contains("storage moody: gone"), "{new}");
    // It is tried again and again, and told once.
    for _ in 0..3 {
        manager.clone().work("new.test".to_owned(), Cause::Due).await;
        manager.clone().work("old.test".to_owned(), Cause::Due).await;
    }
    assert_eq!(take(&heard, "cert_failed"), Vec::<Json>::new());
    let report = manager.report();
    let new = report.iter().find(|one| one.names == ["new.test"]).unwrap();
    let error = new.last_error.as_deref().unwrap();
    assert!(error.contains("storage moody: gone"), "{error}");
    assert_eq!((new.status, new.failures), ("waiting", 0), "no issuer failed");
    assert_eq!(new.remedy.as_deref(), Some("see whether the storage is there and answers"));
    storage.is_gone(false);
    manager.clone().work("new.test".to_owned(), Cause::Due).await;
    assert!(one(&manager, "new.test").is_some());
    assert_eq!(take(&heard, "cert_obtained").len(), 1);
    assert!(manager.report().iter().all(|one| one.remedy.is_none() || one.names == ["old.test"]));
    // A reload to a storage elsewhere that does not answer leaves what is served, too.
    let elsewhere = TempDir::new();
    let other = Moody::new(&elsewhere);
    other.is_gone(true);
    let subjects = both.clone();
    let moved =
        Reconcile { storage: Arc::new(Renamed(other.clone())), ..on(&other, subjects, &dir) };
    manager.reconcile(moved).await;
    assert_eq!(one(&manager, "old.test").unwrap().fingerprint, first.fingerprint);
}

/// The same under another name.
#[derive(Debug)]
struct Renamed(Arc<Moody>);

impl Storage for Renamed {
    fn load(&self, key: &str) -> io::Result<Vec<u8>> {
        self.0.load(key)
    }

    fn store(&self, key: &str, content: &[u8]) -> io::Result<()> {
        self.0.store(key, content)
    }

    fn exists(&self, key: &str) -> io::Result<bool> {
        self.0.exists(key)
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        self.0.delete(key)
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        self.0.list(prefix)
    }

    fn modified(&self, key: &str) -> io::Result<SystemTime> {
        self.0.modified(key)
    }

    fn lock(&self, name: &str, wait: Duration) -> io::Result<Box<dyn LockGuard>> {
        self.0.lock(name, wait)
    }

    fn describe(&self) -> String {
        "elsewhere".to_owned()
    }
}

#[tokio::test]
async fn what_a_full_storage_has_no_room_for_is_stored_later() {
    let dir = TempDir::new();
    let storage = Moody::new(&dir);
    let manager = CertManager::new(storage.clone());
    manager.reconcile(on(&storage, vec![subject("first.test", internal())], &dir)).await;
    // The key has room, the chain has not.
    storage.room.store(300, Ordering::Relaxed);
    let subjects = vec![subject("first.test", internal()), subject("a.test", internal())];
    let heard = hear(&manager);
    manager.reconcile(on(&storage, subjects.clone(), &dir)).await;
    let served = one(&manager, "a.test").unwrap();
    let place = "certificates/local/a.test/a.test.crt";
    assert!(!storage.exists(place).unwrap());
    manager.clone().store_again("a.test".to_owned()).await;
    assert!(!storage.exists(place).unwrap());
    let failed = take(&heard, "cert_failed");
    assert_eq!((failed.len(), &failed[0]["identifier"]), (1, &"a.test".into()));
    let error = failed[0]["error"].as_str().unwrap();
    assert!(error.starts_with("certificate could not be stored: ") && error.ends_with("full"));
    assert_eq!(take(&heard, "cert_obtained"), Vec::<Json>::new(), "there are no files to read");
    let report = |name: &str| manager.report().into_iter().find(|one| one.names == [name]).unwrap();
    let full = report("a.test");
    assert_eq!((full.status, full.remedy.as_deref()), ("valid", Some("make room in the storage")));
    assert_eq!(full.last_error.as_deref(), Some(error));
    storage.room.store(usize::MAX, Ordering::Relaxed);
    manager.clone().store_again("a.test".to_owned()).await;
    assert!(storage.exists(place).unwrap());
    let obtained = take(&heard, "cert_obtained");
    assert_eq!((obtained.len(), &obtained[0]["certificate_path"]), (1, &place.into()));
    assert_eq!(report("a.test").last_error, None);
    // The next start takes it.
    let again = CertManager::new(storage.clone());
    again.reconcile(on(&storage, subjects, &dir)).await;
    assert_eq!(one(&again, "a.test").unwrap().fingerprint, served.fingerprint);
}

#[tokio::test]
async fn half_written_and_foreign_files_are_replaced() {
    let dir = TempDir::new();
    let storage = FileSystem::new(dir.path());
    let subjects = vec![subject("a.test", internal())];
    manager(&dir).reconcile(wanted(&dir, subjects.clone())).await;
    let base = "certificates/local/a.test/a.test";
    let read = |end: &str| storage.load(&format!("{base}.{end}")).unwrap();
    let (chain, key) = (read("crt"), read("key"));
    let other = to_pem(&KeyType::P256.generate().unwrap());
    let cases: [(&str, &[u8], bool); 7] = [
        ("json", b"{\"sans\": [\"a.te", true),
        ("json", b"[]", true),
        ("crt", &chain[..chain.len() / 3], false),
        ("crt", b"", false),
        ("key", &key[..key.len() / 2], false),
        ("key", other.as_bytes(), false),
        ("crt", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", false),
    ];
    for (end, content, stays) in cases {
        let again = manager(&dir);
        again.reconcile(wanted(&dir, subjects.clone())).await;
        let before = one(&again, "a.test").unwrap();
        storage.store(&format!("{base}.{end}"), content).unwrap();
        let again = manager(&dir);
        again.reconcile(wanted(&dir, subjects.clone())).await;
        let after = one(&again, "a.test").unwrap();
        assert_eq!(after.fingerprint == before.fingerprint, stays, "{end} {}", content.len());
        again.clone().work("a.test".to_owned(), Cause::Due).await;
    }
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

#[tokio::test]
async fn a_clock_that_is_wrong_by_days_costs_no_certificate() {
    let dir = TempDir::new();
    let storage = FileSystem::new(dir.path());
    let acme = unreachable(&storage, "a.test", -5..85);
    let subjects = vec![subject("a.test", acme)];
    let clocks: [fn() -> i64; 3] = [
        || crate::timestamp::now() + 100 * 86_400,
        || crate::timestamp::now() - 100 * 86_400,
        || 0,
    ];
    for clock in clocks {
        let manager = CertManager::with_clock(Arc::new(FileSystem::new(dir.path())), clock);
        manager.reconcile(wanted(&dir, subjects.clone())).await;
        let served = one(&manager, "a.test").expect("what clients may still accept is served");
        // The authority is asked, says nothing, and nothing is lost by it.
        let heard = hear(&manager);
        manager.clone().work("a.test".to_owned(), Cause::Due).await;
        assert_eq!(one(&manager, "a.test").unwrap().fingerprint, served.fingerprint);
        let failed = take(&heard, "cert_failed");
        assert!(failed.len() <= 1, "{failed:?}");
        assert!(failed.iter().all(|data| data["renewal"] == true), "{failed:?}");
    }
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
    let acme = unreachable(&storage, "a.test", -80..10);
    let manager = manager(&dir);
    manager.reconcile(wanted(&dir, vec![subject("a.test", acme)])).await;
    let served = one(&manager, "a.test").unwrap();
    unreachable(&storage, "a.test", 0..90);
    let heard = hear(&manager);
    let other = to_pem(&KeyType::P256.generate().unwrap());
    storage.store("certificates/127.0.0.1-1-dir/a.test/a.test.key", other.as_bytes()).unwrap();
    manager.clone().work("a.test".to_owned(), Cause::Due).await;
    assert_eq!(one(&manager, "a.test").unwrap().fingerprint, served.fingerprint);
    let report = manager.report();
    assert!(report[0].last_error.is_some() && report[0].remedy.is_some(), "{report:?}");
    let failed = take(&heard, "cert_failed");
    assert_eq!((failed.len(), &failed[0]["renewal"]), (1, &true.into()), "{failed:?}");
}

#[tokio::test]
async fn a_slow_storage_holds_up_nothing_that_is_served() {
    let dir = TempDir::new();
    let storage = Moody::new(&dir);
    let manager = CertManager::new(storage.clone());
    let old = subject("old.test", internal());
    manager.reconcile(on(&storage, vec![old.clone()], &dir)).await;
    let first = one(&manager, "old.test").unwrap();
    storage.slow.store(200, Ordering::Relaxed);
    let both = vec![old, subject("new.test", internal())];
    let working = tokio::spawn({
        let (manager, wanted) = (manager.clone(), on(&storage, both, &dir));
        async move { manager.reconcile(wanted).await }
    });
    // Handshakes look into memory alone.
    while !working.is_finished() {
        let start = std::time::Instant::now();
        assert_eq!(one(&manager, "old.test").unwrap().fingerprint, first.fingerprint);
        assert!(start.elapsed() < Duration::from_millis(100));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    working.await.unwrap();
    assert!(one(&manager, "new.test").is_some(), "it takes its time, and that is all");
}

#[tokio::test]
async fn what_was_given_up_starts_again_with_a_reload() {
    let dir = TempDir::new();
    let storage = Moody::new(&dir);
    let manager = CertManager::new(storage.clone());
    let subjects = vec![subject("a.test", internal())];
    storage.is_gone(true);
    manager.reconcile(on(&storage, subjects.clone(), &dir)).await;
    manager.lock().entries.get_mut("a.test").unwrap().state = super::State::Stuck;
    assert_eq!(manager.report()[0].status, "stuck");
    storage.is_gone(false);
    manager.reconcile(on(&storage, subjects, &dir)).await;
    assert!(one(&manager, "a.test").is_some());
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
        if let Some((_, data)) = told.first() {
            assert_eq!(data["ca"], "local");
            assert!(data["subject"].as_str().unwrap().contains("ECC Root"), "{data}");
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
    let lock = storage.lock("issue_cert_a.test", Duration::ZERO).unwrap();
    manager.reconcile(wanted(&dir, vec![subject("a.test", internal())])).await;
    let report = manager.report();
    let error = report[0].last_error.as_deref().unwrap_or_default();
    assert!(error.contains("it has the lock issue_cert_a.test"), "{report:?}");
    assert_eq!((report[0].status, report[0].failures), ("waiting", 0));
    assert_eq!(take(&heard, "cert_failed"), Vec::<Json>::new(), "nothing has failed");
    drop(lock);
    manager.clone().work("a.test".to_owned(), Cause::Due).await;
    assert!(one(&manager, "a.test").is_some());
    assert_eq!(manager.report()[0].last_error, None);
}
