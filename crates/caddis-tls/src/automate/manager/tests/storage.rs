//! Storages that are gone, full, slow, read-only or hold garbage.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use caddis_core::event::{EventHandler, Subscription};
use serde_json::Value as Json;

use super::{hear, internal, manager, one, subject, take, told, wait_of, wanted};
use crate::{
    automate::manager::{Cause, CertManager, Issuer, ManagedSubject, Reconcile, START_WAIT, State},
    certificate::Certificate,
    key::{KeyType, to_pem},
    storage::{FileSystem, LockGuard, Storage},
    testing::{TempDir, all_logged},
};

/// A storage that may be gone, full or read-only.
#[derive(Debug)]
struct Moody {
    inner: FileSystem,
    gone: AtomicBool,
    read_only: AtomicBool,
    /// Milliseconds that each call takes.
    slow: AtomicUsize,
    /// Nothing longer than this can be stored.
    room: AtomicUsize,
}

impl Moody {
    fn new(dir: &TempDir) -> Arc<Self> {
        let inner = FileSystem::new(dir.path());
        let (gone, read_only) = (AtomicBool::new(false), AtomicBool::new(false));
        let room = AtomicUsize::new(usize::MAX);
        Arc::new(Self { inner, gone, read_only, slow: AtomicUsize::new(0), room })
    }

    fn change(&self) -> io::Result<&FileSystem> {
        if self.read_only.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "storage moody: sealed"));
        }
        self.ask()
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
        self.change()?.store(key, content)
    }

    fn exists(&self, key: &str) -> io::Result<bool> {
        self.ask()?.exists(key)
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        self.change()?.delete(key)
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        self.ask()?.list(prefix)
    }

    fn modified(&self, key: &str) -> io::Result<SystemTime> {
        self.ask()?.modified(key)
    }

    fn lock(&self, name: &str, wait: Duration) -> io::Result<Box<dyn LockGuard>> {
        self.change()?.lock(name, wait)
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
    let old = vec![subject("old.gone.test", internal())];
    manager.reconcile(on(&storage, old.clone(), &dir)).await;
    let first = one(&manager, "old.gone.test").unwrap();
    let both = vec![old[0].clone(), subject("new.gone.test", internal())];
    storage.is_gone(true);
    let heard = hear(&manager);
    all_logged();
    manager.reconcile(on(&storage, both.clone(), &dir)).await;
    manager.clone().work("old.gone.test".to_owned(), Cause::Due).await;
    assert_eq!(one(&manager, "old.gone.test").unwrap().fingerprint, first.fingerprint);
    let mut failed = take(&heard, "cert_failed");
    failed.sort_by_key(|data| data["identifier"].to_string());
    assert_eq!(failed.len(), 2, "{failed:?}");
    let (new, old) = (&failed[0], &failed[1]);
    assert_eq!((&new["identifier"], &new["renewal"]), (&"new.gone.test".into(), &false.into()));
    assert_eq!((&old["identifier"], &old["renewal"]), (&"old.gone.test".into(), &true.into()));
    assert_eq!(new["issuers"], serde_json::json!(["local"]));
    assert!(old["remaining"].is_string() && new["remaining"].is_null(), "{failed:?}");
    assert!(new["error"].as_str().unwrap().contains("storage moody: gone"), "{new}");
    // It is tried again and again, and told once.
    for _ in 0..3 {
        manager.clone().work("new.gone.test".to_owned(), Cause::Due).await;
        manager.clone().work("old.gone.test".to_owned(), Cause::Due).await;
    }
    assert_eq!(take(&heard, "cert_failed"), Vec::<Json>::new());
    let report = manager.report();
    let new = report.iter().find(|one| one.names == ["new.gone.test"]).unwrap();
    let error = new.last_error.as_deref().unwrap();
    assert!(error.contains("storage moody: gone"), "{error}");
    assert_eq!((new.status, new.failures), ("waiting", 0), "no issuer failed");
    assert!((19..=41).contains(&wait_of(&manager, "new.gone.test")));
    for name in ["old.gone.test", "new.gone.test"] {
        let lines = told(name, "error", "storage is not ready");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0]["remedy"], "see whether the storage is there and answers");
    }
    assert_eq!(new.remedy.as_deref(), Some("see whether the storage is there and answers"));
    storage.is_gone(false);
    manager.clone().work("new.gone.test".to_owned(), Cause::Due).await;
    assert!(one(&manager, "new.gone.test").is_some());
    assert_eq!(take(&heard, "cert_obtained").len(), 1);
    assert!(
        manager.report().iter().all(|one| one.remedy.is_none() || one.names == ["old.gone.test"])
    );
    // A reload to a storage elsewhere that does not answer leaves what is served, too.
    let elsewhere = TempDir::new();
    let other = Moody::new(&elsewhere);
    other.is_gone(true);
    let subjects = both.clone();
    let moved =
        Reconcile { storage: Arc::new(Renamed(other.clone())), ..on(&other, subjects, &dir) };
    manager.reconcile(moved).await;
    assert_eq!(one(&manager, "old.gone.test").unwrap().fingerprint, first.fingerprint);
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
    let subjects = vec![subject("first.test", internal()), subject("a.full.test", internal())];
    let heard = hear(&manager);
    all_logged();
    manager.reconcile(on(&storage, subjects.clone(), &dir)).await;
    let served = one(&manager, "a.full.test").unwrap();
    let place = "certificates/local/a.full.test/a.full.test.crt";
    assert!(!storage.exists(place).unwrap());
    manager.clone().store_again("a.full.test".to_owned()).await;
    assert!(!storage.exists(place).unwrap());
    let lines = told("a.full.test", "error", "certificate could not be stored");
    assert_eq!((lines.len(), &lines[0]["remedy"]), (1, &"make room in the storage".into()));
    let again = manager.lock().entries["a.full.test"].store_at.unwrap() - manager.now();
    assert!((3..=5).contains(&again), "{again}");
    let failed = take(&heard, "cert_failed");
    assert_eq!((failed.len(), &failed[0]["identifier"]), (1, &"a.full.test".into()));
    let error = failed[0]["error"].as_str().unwrap();
    assert!(error.starts_with("certificate could not be stored: ") && error.ends_with("full"));
    assert_eq!(take(&heard, "cert_obtained"), Vec::<Json>::new(), "there are no files to read");
    let report = |name: &str| manager.report().into_iter().find(|one| one.names == [name]).unwrap();
    let full = report("a.full.test");
    assert_eq!((full.status, full.remedy.as_deref()), ("valid", Some("make room in the storage")));
    assert_eq!(full.last_error.as_deref(), Some(error));
    storage.room.store(usize::MAX, Ordering::Relaxed);
    manager.clone().store_again("a.full.test".to_owned()).await;
    assert!(storage.exists(place).unwrap());
    assert_eq!(told("a.full.test", "info", "certificate is stored now").len(), 1);
    let obtained = take(&heard, "cert_obtained");
    assert_eq!((obtained.len(), &obtained[0]["certificate_path"]), (1, &place.into()));
    assert_eq!(report("a.full.test").last_error, None);
    // The next start takes it.
    let again = CertManager::new(storage.clone());
    again.reconcile(on(&storage, subjects, &dir)).await;
    assert_eq!(one(&again, "a.full.test").unwrap().fingerprint, served.fingerprint);
}

#[tokio::test]
async fn half_written_and_foreign_files_are_replaced() {
    let dir = TempDir::new();
    let storage = FileSystem::new(dir.path());
    let subjects = vec![subject("a.half.test", internal())];
    manager(&dir).reconcile(wanted(&dir, subjects.clone())).await;
    let base = "certificates/local/a.half.test/a.half.test";
    let read = |end: &str| storage.load(&format!("{base}.{end}")).unwrap();
    let (chain, key) = (read("crt"), read("key"));
    let other = to_pem(&KeyType::P256.generate().unwrap());
    all_logged();
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
        let before = one(&again, "a.half.test").unwrap();
        storage.store(&format!("{base}.{end}"), content).unwrap();
        let lines = told("a.half.test", "error", "stored certificate is unusable").len();
        let again = manager(&dir);
        let heard = hear(&again);
        again.reconcile(wanted(&dir, subjects.clone())).await;
        let lines = told("a.half.test", "error", "stored certificate is unusable").split_off(lines);
        assert_eq!(lines.len(), usize::from(!stays), "{end} {}: {lines:?}", content.len());
        assert!(lines.iter().all(|line| line["remedy"].is_string()), "{lines:?}");
        let obtained = take(&heard, "cert_obtained").len();
        assert_eq!(obtained, usize::from(!stays), "{end} {}", content.len());
        let after = one(&again, "a.half.test").unwrap();
        assert_eq!(after.fingerprint == before.fingerprint, stays, "{end} {}", content.len());
        again.clone().work("a.half.test".to_owned(), Cause::Due).await;
    }
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
    let (since, retry_at) = (manager.now() - 31 * 86_400, manager.now() + 86_400);
    manager.lock().entries.get_mut("a.test").unwrap().state =
        State::Stuck { failures: 130, since, retry_at, served: false };
    assert_eq!(manager.report()[0].status, "stuck");
    storage.is_gone(false);
    manager.reconcile(on(&storage, subjects, &dir)).await;
    assert!(one(&manager, "a.test").is_some());
}

#[tokio::test]
async fn a_storage_that_becomes_read_only_and_writable_again() {
    let dir = TempDir::new();
    let storage = Moody::new(&dir);
    let manager = CertManager::new(storage.clone());
    let [old, new] = ["old.sealed.test", "new.sealed.test"].map(|name| subject(name, internal()));
    all_logged();
    manager.reconcile(on(&storage, vec![old.clone()], &dir)).await;
    let first = one(&manager, &old.name).unwrap();
    storage.read_only.store(true, Ordering::Relaxed);
    let heard = hear(&manager);
    manager.reconcile(on(&storage, vec![old.clone(), new.clone()], &dir)).await;
    for _ in 0..3 {
        manager.clone().work(new.name.clone(), Cause::Due).await;
    }
    assert_eq!(one(&manager, &old.name).unwrap().fingerprint, first.fingerprint);
    let remedy = "mount the storage writable, or name another folder: `storage file_system PATH`";
    let lines = told(&new.name, "error", "storage is not ready");
    assert_eq!(lines.len(), 1, "told once: {lines:?}");
    assert_eq!(lines[0]["remedy"], remedy);
    assert!(lines[0]["error"].as_str().unwrap().contains("storage moody: sealed"), "{lines:?}");
    let failed = take(&heard, "cert_failed");
    assert_eq!((failed.len(), &failed[0]["identifier"]), (1, &new.name.as_str().into()));
    assert!((19..=41).contains(&wait_of(&manager, &new.name)));
    let report = manager.report();
    let report = report.iter().find(|one| one.names == [new.name.clone()]).unwrap();
    assert_eq!(report.remedy.as_deref(), Some(remedy));
    // A new start serves what it can read, and renews nothing that it could not keep.
    let again = CertManager::new(storage.clone());
    again.reconcile(on(&storage, vec![old.clone()], &dir)).await;
    assert_eq!(one(&again, &old.name).unwrap().fingerprint, first.fingerprint);
    storage.read_only.store(false, Ordering::Relaxed);
    manager.clone().work(new.name.clone(), Cause::Due).await;
    assert!(one(&manager, &new.name).is_some());
    assert_eq!(take(&heard, "cert_obtained").len(), 1);
    assert!(manager.report().iter().all(|one| one.last_error.is_none()));
}

/// An issuer whose certificates live for so many seconds.
fn short(lifetime: u64) -> Issuer {
    let lifetime = Some(Duration::from_secs(lifetime));
    Issuer::Internal { ca: String::new(), lifetime, sign_with_root: false }
}

#[tokio::test]
async fn local_certificates_are_renewed_in_memory_before_they_end() {
    static AHEAD: AtomicI64 = AtomicI64::new(0);
    let dir = TempDir::new();
    for sealed in [true, false] {
        AHEAD.store(0, Ordering::Relaxed);
        let storage = Moody::new(&dir);
        let manager = CertManager::with_clock(storage.clone(), || {
            crate::timestamp::now() + AHEAD.load(Ordering::Relaxed)
        });
        let name = if sealed { "a.memory.test" } else { "b.memory.test" };
        manager.reconcile(on(&storage, vec![subject(name, short(600))], &dir)).await;
        let old = one(&manager, name).unwrap();
        let seal = if sealed { &storage.read_only } else { &storage.gone };
        seal.store(true, Ordering::Relaxed);
        // Due, but it has time.
        AHEAD.store(450, Ordering::Relaxed);
        manager.clone().work(name.to_owned(), Cause::Due).await;
        assert_eq!(one(&manager, name).unwrap().fingerprint, old.fingerprint);
        AHEAD.store(550, Ordering::Relaxed);
        manager.clone().work(name.to_owned(), Cause::Due).await;
        let new = one(&manager, name).unwrap();
        assert!(new.not_after > old.not_after + 500, "{} {}", new.not_after, old.not_after);
        manager.clone().store_again(name.to_owned()).await;
        let key = format!("certificates/local/{name}/{name}.crt");
        let text = String::from_utf8(storage.inner.load(&key).unwrap()).unwrap();
        let first = |one: &Certificate| crate::key::encode("CERTIFICATE", &one.key.cert[0]);
        assert!(text.starts_with(&first(&old)), "it could not be written");
        seal.store(false, Ordering::Relaxed);
        manager.clone().store_again(name.to_owned()).await;
        let text = String::from_utf8(storage.inner.load(&key).unwrap()).unwrap();
        assert!(text.starts_with(&first(&new)));
    }
}

#[tokio::test]
async fn without_room_for_the_chain_the_old_key_stays() {
    let dir = TempDir::new();
    let storage = Moody::new(&dir);
    let subjects = vec![subject("a.room.test", short(3_600))];
    CertManager::new(storage.clone()).reconcile(on(&storage, subjects.clone(), &dir)).await;
    let base = "certificates/local/a.room.test/a.room.test";
    let read = || ["key", "crt"].map(|end| storage.load(&format!("{base}.{end}")).unwrap());
    let before = read();
    storage.room.store(300, Ordering::Relaxed);
    let later = CertManager::with_clock(storage.clone(), || crate::timestamp::now() + 3_000);
    later.reconcile(on(&storage, subjects, &dir)).await;
    assert!(one(&later, "a.room.test").unwrap().not_after > crate::timestamp::now() + 5_000);
    assert_eq!(read(), before, "a key without its chain would make both useless");
    storage.room.store(usize::MAX, Ordering::Relaxed);
    later.clone().store_again("a.room.test".to_owned()).await;
    assert_ne!(read(), before);
}

#[tokio::test]
async fn what_others_stored_first_is_served_by_all() {
    let dir = TempDir::new();
    let storage = Moody::new(&dir);
    let subjects = vec![subject("a.first.test", internal())];
    let manager = CertManager::new(storage.clone());
    // The authority is there, and has room for no more.
    manager.reconcile(on(&storage, vec![subject("b.first.test", internal())], &dir)).await;
    storage.room.store(300, Ordering::Relaxed);
    manager.reconcile(on(&storage, subjects.clone(), &dir)).await;
    let ours = one(&manager, "a.first.test").unwrap();
    let other = CertManager::with_clock(Arc::new(FileSystem::new(dir.path())), || {
        crate::timestamp::now() + 60
    });
    other.reconcile(wanted(&dir, subjects)).await;
    let theirs = one(&other, "a.first.test").unwrap();
    assert_ne!(ours.fingerprint, theirs.fingerprint);
    storage.room.store(usize::MAX, Ordering::Relaxed);
    manager.clone().store_again("a.first.test".to_owned()).await;
    let end = std::time::Instant::now() + Duration::from_secs(30);
    while one(&manager, "a.first.test").unwrap().fingerprint != theirs.fingerprint {
        assert!(std::time::Instant::now() < end, "it serves its own");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_others_made_while_this_process_stood_still_stays() {
    let dir = TempDir::new();
    let storage = Arc::new(FileSystem::new(dir.path()));
    let subjects = vec![subject("a.still.test", internal())];
    let [slow, other] = [(); 2].map(|()| CertManager::new(storage.clone()));
    // While the first one is at it, its lock ends, and another process does all of the work.
    let handler: EventHandler = Arc::new({
        let (storage, other, subjects) = (storage.clone(), other.clone(), subjects.clone());
        let wanted = Mutex::new(Some(wanted(&dir, subjects)));
        move |_| {
            let (storage, other) = (storage.clone(), other.clone());
            let wanted = wanted.lock().unwrap().take();
            Box::pin(async move {
                storage.delete("locks/issue_cert_a.still.test.lock").unwrap();
                other.reconcile(wanted.unwrap()).await;
                Ok(())
            })
        }
    });
    let obtaining = Subscription {
        events: vec!["cert_obtaining".to_owned()],
        modules: vec![],
        handlers: vec![handler],
    };
    slow.events().set(vec![obtaining].into(), Arc::new(|_| ()));
    slow.reconcile(wanted(&dir, subjects.clone())).await;
    let theirs = one(&other, "a.still.test").unwrap();
    assert_eq!(one(&slow, "a.still.test").unwrap().fingerprint, theirs.fingerprint);
    let again = manager(&dir);
    again.reconcile(wanted(&dir, subjects)).await;
    assert_eq!(one(&again, "a.still.test").unwrap().fingerprint, theirs.fingerprint);
}

#[tokio::test]
async fn a_slow_storage_is_told_and_waited_for() {
    let dir = TempDir::new();
    let storage = Moody::new(&dir);
    let manager = CertManager::new(storage.clone());
    let (old, new) = (subject("a.slow.test", internal()), subject("b.slow.test", internal()));
    manager.reconcile(on(&storage, vec![old.clone()], &dir)).await;
    let heard = hear(&manager);
    all_logged();
    storage.slow.store(6_000, Ordering::Relaxed);
    let start = std::time::Instant::now();
    manager.reconcile(on(&storage, vec![old, new.clone()], &dir)).await;
    assert!(start.elapsed() < START_WAIT + Duration::from_secs(10), "it has an end");
    storage.slow.store(0, Ordering::Relaxed);
    let all = all_logged();
    let slow = all.iter().find(|entry| entry["identifiers"] == new.name.as_str()).unwrap();
    assert_eq!((&slow["level"], &slow["storage"]), (&"warn".into(), &"moody".into()), "{slow}");
    assert!(slow["remedy"].as_str().unwrap().contains("storage"), "{slow}");
    let end = std::time::Instant::now() + Duration::from_secs(120);
    while one(&manager, &new.name).is_none() {
        assert!(std::time::Instant::now() < end, "it is made all the same");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(take(&heard, "cert_failed"), Vec::<Json>::new(), "nothing has failed");
    assert_eq!(take(&heard, "cert_obtained").len(), 1);
}
