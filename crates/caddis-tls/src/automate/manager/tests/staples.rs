//! Staples that end, and certificates that are revoked.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, Issuer, KeyPair};

use super::{internal, manager, one, subject, wait_of, wanted};
use crate::{
    automate::manager::{Cause, CertManager, Reconcile},
    certificate::Certificate,
    key::{KeyType, encode, to_pem},
    ocsp::{self, Revocation, StapleRules},
    storage::{FileSystem, Storage},
    testing::TempDir,
};

/// A chain whose leaf names a responder that is not there, and a staple from 2020 to 2040.
fn stapled(name: &str) -> (Certificate, Vec<u8>) {
    let key = KeyType::P256.generate().unwrap();
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_der = root.self_signed(&key).unwrap().der().to_vec();
    let mut leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
    // AuthorityInfoAccess: id-ad-ocsp and a URI (RFC 5280 §4.2.2.1).
    let url = b"http://127.0.0.1:1";
    let location = [&[0x86, url.len() as u8], &url[..]].concat();
    let method = [&b"\x06\x08\x2b\x06\x01\x05\x05\x07\x30\x01"[..], &location].concat();
    let access = [&[0x30, method.len() as u8], &method[..]].concat();
    let access = [&[0x30, access.len() as u8], &access[..]].concat();
    let oid = [1, 3, 6, 1, 5, 5, 7, 1, 1];
    leaf.custom_extensions.push(CustomExtension::from_oid_content(&oid, access));
    let own = KeyPair::generate().unwrap();
    let leaf = leaf.signed_by(&own, &Issuer::from_params(&root, &key)).unwrap();
    let staple = ocsp::response(leaf.der(), &root_der, &key, &[0x80, 0]);
    let chain = leaf.pem() + &encode("CERTIFICATE", &root_der);
    let own = to_pem(&own);
    (Certificate::from_pem(chain.as_bytes(), own.as_bytes(), Vec::new()).unwrap(), staple)
}

#[tokio::test]
async fn a_staple_is_not_served_past_its_end() {
    static AHEAD: AtomicI64 = AtomicI64::new(0);
    let dir = TempDir::new();
    let storage = Arc::new(FileSystem::new(dir.path()));
    let (certificate, staple) = stapled("a.staple.test");
    storage.store(&ocsp::storage_key(&certificate), &staple).unwrap();
    let manager = CertManager::with_clock(storage, || {
        crate::timestamp::now() + AHEAD.load(Ordering::Relaxed)
    });
    let loaded = vec![Arc::new(certificate)];
    let given =
        Reconcile { loaded, ocsp: Some(StapleRules::default()), ..wanted(&dir, Vec::new()) };
    manager.reconcile(given).await;
    let served = || one(&manager, "a.staple.test").unwrap().key.ocsp.clone();
    manager.look_at_staples().await;
    assert_eq!(served(), Some(staple.clone()), "from the storage");
    // The responder is away.
    let end = 2_208_988_800 - crate::timestamp::now();
    AHEAD.store(end - 3_600, Ordering::Relaxed);
    manager.look_at_staples().await;
    assert_eq!(served(), Some(staple), "as long as it is valid");
    AHEAD.store(end, Ordering::Relaxed);
    manager.look_at_staples().await;
    assert_eq!(served(), None, "clients take one that is over for an error");
}

#[tokio::test]
async fn an_authority_that_revokes_all_is_not_stormed() {
    let dir = TempDir::new();
    let manager = manager(&dir);
    manager.reconcile(wanted(&dir, vec![subject("a.revoked.test", internal())])).await;
    let mut before = one(&manager, "a.revoked.test").unwrap();
    for wait in [0..=2, 3_590..=3_600] {
        for _ in 0..2 {
            manager.replace_revoked(&before, Revocation { reason: 0, at: 0 }).await;
        }
        let waits = wait_of(&manager, "a.revoked.test");
        assert!(wait.contains(&waits), "{waits}");
        manager.clone().work("a.revoked.test".to_owned(), Cause::Due).await;
        let after = one(&manager, "a.revoked.test").unwrap();
        assert_ne!(after.fingerprint, before.fingerprint);
        before = after;
    }
}
