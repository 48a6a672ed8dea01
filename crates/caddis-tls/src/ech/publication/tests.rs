//! With a publisher that does as it is told, on a storage in a folder.

use std::sync::{Mutex, PoisonError};

use time::macros::datetime;

use super::*;
use crate::{ech::stored::refreshed, storage::FileSystem, testing::TempDir};

const NOW: OffsetDateTime = datetime!(2026-11-29 12:00 UTC);

fn clock() -> OffsetDateTime {
    NOW
}

/// Names with `broken` fail, those with `bare` are passed over.
#[derive(Debug, Default)]
struct Scripted {
    key: &'static str,
    /// Names with their protocols, and the list.
    asked: Mutex<Vec<(Vec<String>, Vec<u8>)>>,
}

impl Scripted {
    fn new(key: &'static str) -> Arc<Self> {
        Arc::new(Self { key, ..Self::default() })
    }

    /// What it was asked for since the last look.
    fn asked(&self) -> Vec<Vec<String>> {
        self.taken().into_iter().map(|(names, _)| names).collect()
    }

    fn taken(&self) -> Vec<(Vec<String>, Vec<u8>)> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Publisher for Scripted {
    fn key(&self) -> &str {
        self.key
    }

    async fn publish(
        &self,
        names: &[PublishedName],
        config_list: &[u8],
    ) -> Vec<(String, Result<Published>)> {
        let texts =
            names.iter().map(|name| format!("{} {}", name.name, name.alpn.join(","))).collect();
        self.asked.lock().unwrap().push((texts, config_list.to_vec()));
        let result = |name: &String| match name {
            name if name.contains("broken") => Err(Error::new("no access to the zone")),
            name if name.contains("bare") => Ok(Published::Skipped),
            _ => Ok(Published::Set),
        };
        names.iter().map(|name| (name.name.clone(), result(&name.name))).collect()
    }
}

struct Fixture {
    _folder: TempDir,
    storage: Arc<dyn Storage>,
    public_names: Vec<String>,
    publishing: Publishing,
}

impl Fixture {
    fn new(public_names: &[&str]) -> Self {
        let folder = TempDir::new();
        let storage: Arc<dyn Storage> = Arc::new(FileSystem::new(folder.path()));
        let public_names: Vec<String> =
            public_names.iter().map(|name| (*name).to_owned()).collect();
        refreshed(&*storage, &public_names, NOW).unwrap();
        Self { _folder: folder, storage, public_names, publishing: Publishing::default() }
    }

    async fn publish(&mut self, publications: &[Publication<Scripted>]) {
        let Self { storage, public_names, publishing, .. } = self;
        publishing.publish(storage, publications, public_names, clock).await.unwrap();
    }

    fn meta(&self, public_name: &str) -> String {
        let keys = stored::present(&*self.storage).unwrap();
        let key = keys.iter().find(|key| key.is_current() && key.public_name() == public_name);
        String::from_utf8(key.unwrap().meta.write().unwrap()).unwrap()
    }
}

fn publication(publisher: &Arc<Scripted>, names: &[&str]) -> Publication<Scripted> {
    let named = |name: &&str| PublishedName {
        name: (*name).to_owned(),
        alpn: vec!["h3".to_owned(), "h2".to_owned()],
    };
    let names = names.iter().map(named).collect();
    Publication { configs: None, names, publishers: vec![publisher.clone()] }
}

#[tokio::test]
async fn each_name_is_published_once() {
    let mut fixture = Fixture::new(&["public.test"]);
    let publisher = Scripted::new("dns.providers.one");
    let all = [publication(&publisher, &["a.test", "b.test"])];
    fixture.publish(&all).await;
    let taken = publisher.taken();
    let [(names, list)] = &taken[..] else { panic!("{taken:?}") };
    assert_eq!(names, &["a.test h3,h2", "b.test h3,h2"]);
    let keys = stored::present(&*fixture.storage).unwrap();
    assert_eq!(*list, EchConfig::list([&keys[0].key.config]).unwrap());
    let meta = r#"{"created":"2026-11-29T12:00:00Z","publications":{"dns.providers.one":{"a.test":"2026-11-29T12:00:00Z","b.test":"2026-11-29T12:00:00Z"}}}"#;
    assert_eq!(fixture.meta("public.test"), meta);
    fixture.publish(&all).await;
    // As after a restart.
    fixture.publishing = Publishing::default();
    fixture.publish(&all).await;
    assert!(publisher.asked().is_empty());
    // Another name, and another publisher.
    let more = [publication(&publisher, &["a.test", "c.test"])];
    fixture.publish(&more).await;
    assert_eq!(publisher.asked(), [["c.test h3,h2"]]);
    let other = Scripted::new("dns.providers.other");
    fixture.publish(&[publication(&other, &["a.test"])]).await;
    assert_eq!(other.asked(), [["a.test h3,h2"]]);
    assert!(!fixture.storage.exists("locks/ech_rotation.lock").unwrap());
}

#[tokio::test]
async fn new_keys_are_published_without_the_old_ones() {
    let mut fixture = Fixture::new(&["public.test"]);
    let publisher = Scripted::new("dns.providers.one");
    let all = [publication(&publisher, &["a.test"])];
    fixture.publish(&all).await;
    let later = NOW + time::Duration::days(31);
    let keys = refreshed(&*fixture.storage, &fixture.public_names, later).unwrap();
    assert_eq!(keys.len(), 2);
    publisher.asked();
    fixture.publish(&all).await;
    let taken = publisher.taken();
    let [(_, list)] = &taken[..] else { panic!("{taken:?}") };
    let new = keys.iter().find(|key| key.is_current()).unwrap();
    assert_eq!(*list, EchConfig::list([&new.key.config]).unwrap());
    fixture.publish(&all).await;
    assert!(publisher.asked().is_empty());
}

#[tokio::test]
async fn failures_are_tried_again_and_told() {
    let mut fixture = Fixture::new(&["public.test"]);
    let publisher = Scripted::new("dns.providers.failing");
    let all = [publication(&publisher, &["a.test", "broken.test"])];
    fixture.publish(&all).await;
    publisher.asked();
    assert!(fixture.meta("public.test").contains("a.test"));
    assert!(!fixture.meta("public.test").contains("broken.test"));
    fixture.publish(&all).await;
    assert_eq!(publisher.asked(), [["broken.test h3,h2"]]);
}

#[tokio::test]
async fn names_without_records_are_tried_again_after_a_day() {
    let mut fixture = Fixture::new(&["public.test"]);
    let publisher = Scripted::new("dns.providers.one");
    let all = [publication(&publisher, &["bare.test"])];
    fixture.publish(&all).await;
    assert_eq!(publisher.asked().len(), 1);
    fixture.publish(&all).await;
    assert!(publisher.asked().is_empty());
    fixture.publishing.skipped_for = Duration::ZERO;
    fixture.publish(&all).await;
    assert_eq!(publisher.asked().len(), 1);
    assert!(!fixture.meta("public.test").contains("bare.test"));
}

#[tokio::test]
async fn configs_are_those_of_the_publication() {
    let mut fixture = Fixture::new(&["b.public.test", "a.public.test"]);
    let (one, two) = (Scripted::new("dns.providers.one"), Scripted::new("dns.providers.two"));
    let some = Publication {
        configs: Some(vec!["a.public.test".to_owned()]),
        ..publication(&one, &["a.test"])
    };
    let none = Publication { configs: Some(Vec::new()), ..publication(&one, &["b.test"]) };
    fixture.publish(&[some, none, publication(&two, &["a.test"])]).await;
    let taken = one.taken();
    let [(names, list)] = &taken[..] else { panic!("{taken:?}") };
    assert_eq!(names, &["a.test h3,h2"]);
    let keys = stored::present(&*fixture.storage).unwrap();
    let of = |name: &str| {
        let key = keys.iter().find(|key| key.public_name() == name);
        &key.unwrap().key.config
    };
    assert_eq!(*list, EchConfig::list([of("a.public.test")]).unwrap());
    // All of them in the order of the configuration.
    let (_, list) = &two.taken()[0];
    assert_eq!(*list, EchConfig::list([of("b.public.test"), of("a.public.test")]).unwrap());
    assert!(!fixture.meta("b.public.test").contains("dns.providers.one"));
}

#[tokio::test]
async fn one_server_publishes_at_a_time() {
    let mut fixture = Fixture::new(&["public.test"]);
    let publisher = Scripted::new("dns.providers.one");
    let all = [publication(&publisher, &["a.test"])];
    fixture.publishing.lock_poll = Duration::from_millis(5);
    let other = fixture.storage.lock(LOCK, Duration::ZERO).unwrap();
    let publishing = fixture.publish(&all);
    let first = tokio::time::timeout(Duration::from_millis(100), publishing).await;
    assert!(first.is_err() && publisher.asked().is_empty());
    // The other one has published the same.
    let keys = stored::present(&*fixture.storage).unwrap();
    let names = ["a.test".to_owned()];
    stored::note_published(&*fixture.storage, &keys, publisher.key, &names, NOW).unwrap();
    drop(other);
    fixture.publish(&all).await;
    assert!(publisher.asked().is_empty());
    // Nobody waits for ever.
    fixture.publishing.lock_wait = Duration::from_millis(20);
    let _held = fixture.storage.lock(LOCK, Duration::ZERO).unwrap();
    let Fixture { storage, public_names, publishing, .. } = &mut fixture;
    let more = [publication(&publisher, &["b.test"])];
    let error = publishing.publish(storage, &more, public_names, clock).await.unwrap_err();
    assert!(error.to_string().contains("locking ech_publish"), "{error}");
}
