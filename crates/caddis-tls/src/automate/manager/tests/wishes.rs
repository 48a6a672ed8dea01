//! What authorities wish about renewals, among servers that share a storage (T088).

use std::{sync::Arc, time::Duration};

use caddis_dns::testing::{Answer, Server, api};
use serde_json::{Value as Json, json};

use super::{one, subject, wanted};
use crate::{
    acme::{AcmeConfig, certificate_id},
    automate::manager::{CertManager, Issuer, State},
    certificate::parse_chain,
    key::{KeyType, to_pem},
    storage::{FileSystem, Storage, keys::SiteKeys},
    testing::TempDir,
    timestamp,
};

const DAY: i64 = 86_400;

/// An authority that wishes a renewal in ten days.
fn authority() -> Server {
    api(|seen, _| {
        if seen.path == "/dir" {
            let base = format!("http://{}/ari", seen.header("host"));
            return Answer::new(200, json!({ "renewalInfo": base }));
        }
        let at = |days: i64| timestamp::text(timestamp::now() + days * DAY);
        let window = json!({ "start": at(10), "end": at(11) });
        Answer::new(200, json!({ "suggestedWindow": window })).header("Retry-After", "3600")
    })
}

/// A certificate of that authority in the storage: its issuer, its name there, and its files.
fn stored(storage: &FileSystem, server: &Server) -> (Issuer, String, String) {
    let key = KeyType::P256.generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    params.not_before = time::OffsetDateTime::now_utc() - time::Duration::days(10);
    params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(80);
    params.use_authority_key_identifier_extension = true;
    let chain = params.self_signed(&key).unwrap().pem();
    let id = certificate_id(&parse_chain(chain.as_bytes()).unwrap()[0]).unwrap();
    let directory = format!("{}/dir", server.url);
    let issuer = Issuer::Acme(Arc::new(AcmeConfig { directory, ..AcmeConfig::default() }));
    let keys = SiteKeys::new(&issuer.storage_key(), "a.test");
    storage.store(&keys.certificate, chain.as_bytes()).unwrap();
    storage.store(&keys.private_key, to_pem(&key).as_bytes()).unwrap();
    let place = keys.metadata;
    write(storage, &place, &server.url, None);
    (issuer, id, place)
}

fn write(storage: &FileSystem, place: &str, url: &str, info: Option<Json>) {
    let mut data = json!({ "url": url, "ca": format!("{url}/dir") });
    if let Some(info) = info {
        data["renewal_info"] = info;
    }
    let metadata = json!({ "sans": ["a.test"], "issuer_data": data });
    storage.store(place, metadata.to_string().as_bytes()).unwrap();
}

fn read(storage: &FileSystem, place: &str) -> Json {
    let json: Json = serde_json::from_slice(&storage.load(place).unwrap()).unwrap();
    json["issuer_data"]["renewal_info"].clone()
}

/// A manager whose driver is the test.
async fn served(dir: &TempDir, issuer: &Issuer) -> Arc<CertManager> {
    let manager = CertManager::new(Arc::new(FileSystem::new(dir.path())));
    manager.lock().driven = true;
    manager.reconcile(wanted(dir, vec![subject("a.test", issuer.clone())])).await;
    assert!(one(&manager, "a.test").is_some());
    manager
}

fn renew_at(manager: &CertManager) -> i64 {
    match manager.lock().entries["a.test"].state {
        State::Valid { renew_at } => renew_at,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_asks_and_the_others_read() {
    let (dir, server) = (TempDir::new(), authority());
    let storage = FileSystem::new(dir.path());
    let (issuer, id, place) = stored(&storage, &server);
    let late = served(&dir, &issuer).await;
    let first = served(&dir, &issuer).await;
    // While another process asks, nobody else does.
    let guard = storage.lock(&format!("ari_{id}"), Duration::ZERO).unwrap();
    assert_eq!(first.to_ask(), ["a.test"]);
    first.clone().ask_renewal_info("a.test".to_owned()).await;
    assert!(server.seen().is_empty(), "{:?}", server.lines());
    assert!(first.lock().entries["a.test"].ask_at.unwrap() <= timestamp::now() + 60);
    drop(guard);
    first.clone().ask_renewal_info("a.test".to_owned()).await;
    assert_eq!(server.lines(), ["GET /dir".to_owned(), format!("GET /ari/{id}")]);
    let info = read(&storage, &place);
    assert_eq!(info["_uniqueIdentifier"], id);
    let due = renew_at(&first);
    let (from, to) = (timestamp::now() + 10 * DAY, timestamp::now() + 11 * DAY);
    assert!((from - 700..=to).contains(&due), "{due}");
    // The next one to ask finds the answer, and the time that was chosen, and does not ask before it is
    // time again.
    assert_eq!(late.to_ask(), ["a.test"]);
    late.clone().ask_renewal_info("a.test".to_owned()).await;
    assert_eq!(renew_at(&late), due);
    assert!(late.to_ask().is_empty());
    assert!(late.lock().entries["a.test"].ask_at.unwrap() > timestamp::now() + 3_000);
    // One that starts has the time, too, and asks all the same: a restart is to help where an authority
    // wants certificates to be replaced at once (RFC 9773 §4.1).
    let third = served(&dir, &issuer).await;
    assert_eq!(renew_at(&third), due);
    assert_eq!(third.to_ask(), ["a.test"]);
    assert_eq!(server.seen().len(), 2, "{:?}", server.lines());
    assert_eq!(read(&storage, &place), info);
    // What is known of another certificate is of no use.
    let mut other = info.clone();
    other["_uniqueIdentifier"] = "of.another".into();
    other["_retryAfter"] = timestamp::text(timestamp::now() + 2 * DAY).into();
    write(&storage, &place, &server.url, Some(other));
    late.clone().ask_renewal_info("a.test".to_owned()).await;
    assert_eq!(server.seen().len(), 4, "{:?}", server.lines());
    // The window moved by seconds; where it does not, the chosen time stays.
    assert_eq!(read(&storage, &place)["_uniqueIdentifier"], id);
}
