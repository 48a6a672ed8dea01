//! With a storage in a folder, and with one that fails as it is told to.

use std::{
    io,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use time::macros::datetime;

use super::*;
use crate::{storage::FileSystem, testing::TempDir};

const NOW: OffsetDateTime = datetime!(2026-11-29 12:00:00.123_456_789 UTC);
const DAY: time::Duration = time::Duration::DAY;

/// As made by Caddy 2.10.2.
const CADDY_KEY: &str = "06abec6b9acc5abdce938f51ccffbc43a7fd4ed1daa241a05a77aa710a554e11";
const CADDY_CONFIG: &str = "fe0d00457d0020002070169ee65ec3cef44ad6762aed5531a88dd04af4afd2fc5c442c2813bafee53e000c0001000100010002000100031e0e7075626c69632e6578616d706c650000";
const CADDY_META: &str = r#"{"created":"2026-11-29T11:30:05.889113766Z","publications":null}"#;

fn bytes(hex: &str) -> Vec<u8> {
    let (pairs, _) = hex.as_bytes().as_chunks::<2>();
    pairs
        .iter()
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn store_caddys(storage: &dyn Storage) {
    storage.store("ech/configs/125/key.bin", &bytes(CADDY_KEY)).unwrap();
    storage.store("ech/configs/125/config.bin", &bytes(CADDY_CONFIG)).unwrap();
    storage.store("ech/configs/125/meta.json", CADDY_META.as_bytes()).unwrap();
}

fn wanted() -> Vec<String> {
    vec!["public.example".to_owned()]
}

fn ids(keys: &[Stored]) -> Vec<u8> {
    keys.iter().map(|key| key.key.config.id).collect()
}

/// Passes calls on, unless it is told to fail those whose name and key have a text.
#[derive(Debug)]
struct Faulty {
    inner: FileSystem,
    fault: Mutex<Option<(&'static str, io::ErrorKind)>>,
    calls: Mutex<Vec<String>>,
}

impl Faulty {
    fn new(folder: &TempDir) -> Self {
        let inner = FileSystem::new(folder.path());
        Self { inner, fault: Mutex::default(), calls: Mutex::default() }
    }

    fn fail(&self, what: &'static str, kind: io::ErrorKind) {
        *self.fault.lock().unwrap() = Some((what, kind));
        self.calls.lock().unwrap().clear();
    }

    fn mend(&self) {
        *self.fault.lock().unwrap() = None;
    }

    fn call(&self, call: &str, key: &str) -> io::Result<()> {
        let text = format!("{call} {key}");
        let fault = *self.fault.lock().unwrap();
        let failed = fault.filter(|(what, _)| text.contains(what));
        self.calls.lock().unwrap().push(text);
        failed.map_or(Ok(()), |(_, kind)| Err(io::Error::new(kind, "scripted")))
    }

    fn called(&self, what: &str) -> bool {
        self.calls.lock().unwrap().iter().any(|call| call.contains(what))
    }
}

impl Storage for Faulty {
    fn load(&self, key: &str) -> io::Result<Vec<u8>> {
        self.call("load", key)?;
        self.inner.load(key)
    }

    fn store(&self, key: &str, content: &[u8]) -> io::Result<()> {
        self.call("store", key)?;
        self.inner.store(key, content)
    }

    fn exists(&self, key: &str) -> io::Result<bool> {
        self.call("exists", key)?;
        self.inner.exists(key)
    }

    fn delete(&self, key: &str) -> io::Result<()> {
        self.call("delete", key)?;
        self.inner.delete(key)
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        self.call("list", prefix)?;
        self.inner.list(prefix)
    }

    fn modified(&self, key: &str) -> io::Result<SystemTime> {
        self.inner.modified(key)
    }

    fn lock(&self, name: &str, wait: Duration) -> io::Result<Box<dyn LockGuard>> {
        self.call("lock", name)?;
        self.inner.lock(name, wait)
    }

    fn describe(&self) -> String {
        "faulty".to_owned()
    }
}

#[test]
fn keys_are_made_once() {
    let folder = TempDir::new();
    let storage = Faulty::new(&folder);
    let names = ["public.example", "other.example"].map(str::to_owned);
    let made = refreshed(&storage, &names, NOW).unwrap();
    assert_eq!(made.len(), 2);
    assert!(storage.called("lock ech_rotation"));
    for key in &made {
        let place = format!("ech/configs/{}", key.key.config.id);
        assert_eq!(storage.load(&format!("{place}/key.bin")).unwrap().len(), 32);
        let config = storage.load(&format!("{place}/config.bin")).unwrap();
        assert_eq!(EchConfig::parse(&config).unwrap(), key.key.config);
        let meta = storage.load(&format!("{place}/meta.json")).unwrap();
        let text = r#"{"created":"2026-11-29T12:00:00.123456789Z","publications":null}"#;
        assert_eq!(String::from_utf8(meta).unwrap(), text);
    }
    storage.calls.lock().unwrap().clear();
    let again = refreshed(&storage, &names, NOW + DAY).unwrap();
    let mut sorted = (ids(&made), ids(&again));
    sorted.0.sort_unstable();
    sorted.1.sort_unstable();
    assert_eq!(sorted.0, sorted.1);
    for what in ["store", "delete", "lock"] {
        assert!(!storage.called(what), "{what}");
    }
    // What another server made for another name is taken up.
    assert_eq!(refreshed(&storage, &[], NOW).unwrap().len(), 2);
}

#[test]
fn caddys_keys_are_used() {
    let folder = TempDir::new();
    let storage = FileSystem::new(folder.path());
    store_caddys(&storage);
    let keys = refreshed(&storage, &wanted(), NOW).unwrap();
    assert_eq!(ids(&keys), [125]);
    assert_eq!(keys[0].key.private.secret_bytes(), bytes(CADDY_KEY));
    assert_eq!(keys[0].key.config.as_bytes(), bytes(CADDY_CONFIG));
    assert_eq!(storage.load("ech/configs/125/meta.json").unwrap(), CADDY_META.as_bytes());
}

#[test]
fn keys_are_replaced_and_deleted_in_time() {
    let folder = TempDir::new();
    let storage = FileSystem::new(folder.path());
    store_caddys(&storage);
    let keys = refreshed(&storage, &wanted(), NOW + DAY * 31).unwrap();
    let [new, old] = &keys[..] else { panic!("{keys:?}") };
    assert!(new.is_current() && !old.is_current());
    assert_eq!(old.key.config.id, 125);
    assert_ne!(new.key.config.id, 125);
    let meta = String::from_utf8(storage.load("ech/configs/125/meta.json").unwrap()).unwrap();
    let replaced = r#""replaced":"2026-12-30T12:00:00.123456789Z""#;
    assert!(meta.contains(replaced), "{meta}");
    assert_eq!(refreshed(&storage, &wanted(), NOW + DAY * 32).unwrap().len(), 2);
    let kept = refreshed(&storage, &wanted(), NOW + DAY * 62).unwrap();
    assert_eq!(kept.iter().filter(|key| key.is_current()).count(), 1);
    assert_eq!(kept.len(), 3);
    let left = refreshed(&storage, &wanted(), NOW + DAY * 91).unwrap();
    assert!(!ids(&left).contains(&125));
    assert!(!storage.exists("ech/configs/125").unwrap());
}

#[test]
fn what_is_no_key_is_removed() {
    type Spoil = fn(&dyn Storage);
    let spoil: [(&str, Spoil); 10] = [
        ("key.bin is missing", |storage| storage.delete("ech/configs/125/key.bin").unwrap()),
        ("config.bin is missing", |storage| storage.delete("ech/configs/125/config.bin").unwrap()),
        ("key.bin", |storage| storage.store("ech/configs/125/key.bin", b"short").unwrap()),
        ("not the key", |storage| storage.store("ech/configs/125/key.bin", &[7; 32]).unwrap()),
        ("config.bin", |storage| storage.store("ech/configs/125/config.bin", b"").unwrap()),
        ("meta.json", |storage| storage.store("ech/configs/125/meta.json", b"{").unwrap()),
        ("meta.json", |storage| storage.store("ech/configs/125/meta.json", b"\xff\0").unwrap()),
        ("is missing", |storage| {
            storage.delete("ech/configs/125").unwrap();
            storage.store("ech/configs/125", b"no folder").unwrap();
        }),
        ("is missing", |storage| {
            storage.delete("ech/configs/125/key.bin").unwrap();
            storage.store("ech/configs/125/key.bin/x", b"no file").unwrap();
        }),
        ("is missing", |storage| {
            storage.delete("ech/configs/125").unwrap();
            storage.store("ech/configs/odd/x", b"").unwrap();
        }),
    ];
    for (why, spoil) in spoil {
        let folder = TempDir::new();
        let storage = FileSystem::new(folder.path());
        store_caddys(&storage);
        spoil(&storage);
        let found = read(&storage).unwrap();
        let [(_, told)] = &found.garbage[..] else { panic!("{why}: {found:?}") };
        assert!(told.to_string().contains(why), "{why}: {told}");
        let keys = refreshed(&storage, &wanted(), NOW).unwrap();
        assert_eq!(keys.len(), 1, "{why}");
        let mine = format!("ech/configs/{}", keys[0].key.config.id);
        assert_eq!(storage.list(CONFIGS).unwrap(), [mine], "{why}");
    }
}

#[test]
fn a_key_of_unknown_age_is_replaced_and_kept() {
    let folder = TempDir::new();
    let storage = FileSystem::new(folder.path());
    store_caddys(&storage);
    storage.delete("ech/configs/125/meta.json").unwrap();
    let keys = refreshed(&storage, &wanted(), NOW).unwrap();
    assert_eq!(keys.len(), 2);
    assert!(keys[0].is_current() && !keys[1].is_current());
    assert_eq!(keys[1].key.config.id, 125);
}

#[test]
fn a_storage_that_fails_loses_nothing() {
    let folder = TempDir::new();
    let storage = Faulty::new(&folder);
    store_caddys(&storage);
    // One that would be removed, were it certain.
    storage.store("ech/configs/7/config.bin", b"garbage").unwrap();
    storage.store("ech/configs/7/key.bin", b"garbage").unwrap();
    for kind in [io::ErrorKind::NotConnected, io::ErrorKind::PermissionDenied, io::ErrorKind::Other]
    {
        for what in ["list", "load ech/configs/125/key.bin", "config.bin", "125/meta.json"] {
            storage.fail(what, kind);
            let error = refreshed(&storage, &wanted(), NOW).unwrap_err().to_string();
            let has_remedy = error.contains("scripted (");
            assert_eq!(has_remedy, kind != io::ErrorKind::NotConnected, "{error}");
            assert!(!storage.called("delete") && !storage.called("store"), "{what} {kind}");
        }
        storage.fail("lock", kind);
        assert!(refreshed(&storage, &wanted(), NOW).is_err());
        assert!(!storage.called("delete") && !storage.called("store"), "{kind}");
    }
    // What the storage itself cannot read is left to people.
    storage.fail("load ech/configs/125/key.bin", io::ErrorKind::InvalidData);
    let keys = refreshed(&storage, &wanted(), NOW).unwrap();
    assert!(!storage.called("delete ech/configs/125"));
    assert!(keys.len() == 1 && ids(&keys) != [125]);
    storage.mend();
    assert_eq!(refreshed(&storage, &wanted(), NOW).unwrap().len(), 2);
}

#[test]
fn a_rotation_that_fails_is_done_later() {
    let folder = TempDir::new();
    let storage = Faulty::new(&folder);
    store_caddys(&storage);
    let later = NOW + DAY * 31;
    for what in ["store", "store ech/configs/125/meta.json"] {
        storage.fail(what, io::ErrorKind::StorageFull);
        let error = refreshed(&storage, &wanted(), later).unwrap_err().to_string();
        assert!(error.contains("make room"), "{error}");
        let keys = present(&storage).unwrap();
        assert!(keys.iter().any(|key| key.key.config.id == 125 && key.is_current()));
    }
    storage.mend();
    let keys = refreshed(&storage, &wanted(), later).unwrap();
    assert_eq!(keys.len(), 2, "the successor that was made is enough");
    assert!(keys[0].is_current());
    assert!(keys[1].key.config.id == 125 && !keys[1].is_current());
}

#[test]
fn ids_are_free_ones() {
    let folder = TempDir::new();
    let storage = FileSystem::new(folder.path());
    let names: Vec<String> = (0..256).map(|at| format!("n{at}.test")).collect();
    let keys = refreshed(&storage, &names, NOW).unwrap();
    let all: BTreeSet<u8> = ids(&keys).into_iter().collect();
    assert_eq!((keys.len(), all.len()), (256, 256));
    let one_more = [names.clone(), vec!["one.more.test".to_owned()]].concat();
    let error = refreshed(&storage, &one_more, NOW).unwrap_err().to_string();
    assert!(error.contains("all 256 ids"), "{error}");
    assert_eq!(refreshed(&storage, &names, NOW).unwrap().len(), 256);
}

#[test]
fn servers_on_one_storage_make_one_key() {
    let folder = TempDir::new();
    let storage = Arc::new(FileSystem::new(folder.path()));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let storage = storage.clone();
            std::thread::spawn(move || ids(&refreshed(&*storage, &wanted(), NOW).unwrap()))
        })
        .collect();
    let all: BTreeSet<Vec<u8>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(all.len(), 1, "{all:?}");
}

#[test]
fn publications_are_noted_beside_what_others_noted() {
    let folder = TempDir::new();
    let storage = FileSystem::new(folder.path());
    store_caddys(&storage);
    let keys = present(&storage).unwrap();
    // Replaced meanwhile, by another server.
    let meta = r#"{"created":"2026-11-29T11:30:05Z","replaced":"2026-11-29T12:30:05Z","publications":{"dns.providers.x":{"a.test":"2026-11-29T12:00:00Z"}}}"#;
    storage.store("ech/configs/125/meta.json", meta.as_bytes()).unwrap();
    let names = ["b.test".to_owned()];
    note_published(&storage, &keys, "dns.providers.x", &names, NOW).unwrap();
    let found = present(&storage).unwrap();
    let meta = &found[0].meta;
    assert!(meta.is_replaced());
    assert!(["a.test", "b.test"].iter().all(|name| meta.is_published("dns.providers.x", name)));
    storage.delete("ech/configs/125").unwrap();
    note_published(&storage, &keys, "dns.providers.x", &names, NOW).unwrap();
    assert!(!storage.exists("ech/configs/125").unwrap(), "what is gone stays so");
}

#[test]
fn configs_are_chosen_by_name() {
    let folder = TempDir::new();
    let storage = FileSystem::new(folder.path());
    let names = ["b.test", "a.test", "c.test"].map(str::to_owned);
    refreshed(&storage, &names, NOW).unwrap();
    let keys = refreshed(&storage, &names, NOW + DAY * 31).unwrap();
    assert_eq!(keys.len(), 6);
    let chosen = |order: &[String], all| -> Vec<String> {
        let chosen = current_of(&keys, order, all);
        chosen.iter().map(|key| key.public_name().to_owned()).collect()
    };
    assert_eq!(chosen(&names[..2], false), ["b.test", "a.test"]);
    assert_eq!(chosen(&names[..2], true), ["b.test", "a.test", "c.test"]);
    assert!(chosen(&["d.test".to_owned()], false).is_empty());
}
