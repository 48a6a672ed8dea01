use std::sync::Arc;

use caddis_config::Ca as CaConfig;

use super::{Ca, DAY, LeafRequest};
use crate::{
    certificate::{Certificate, Facts},
    key::{KeyType, to_pem},
    storage::{FileSystem, Storage},
    testing::TempDir,
};

const NOW: i64 = 1_790_000_000;

fn open(dir: &TempDir, now: i64) -> crate::error::Result<Ca> {
    Ca::open("local", &CaConfig::default(), Arc::new(FileSystem::new(dir.path())), now)
}

fn read(dir: &TempDir, file: &str) -> Vec<u8> {
    FileSystem::new(dir.path()).load(&format!("pki/authorities/local/{file}")).unwrap()
}

fn write(dir: &TempDir, file: &str, content: &[u8]) {
    let key = format!("pki/authorities/local/{file}");
    FileSystem::new(dir.path()).store(&key, content).unwrap();
}

#[test]
fn an_authority_is_made_once() {
    let dir = TempDir::new();
    let ca = open(&dir, NOW).unwrap();
    let root = Facts::parse(&ca.root[0]).unwrap();
    let year = time::OffsetDateTime::now_utc().year();
    assert_eq!(root.common_name, format!("Caddy Local Authority - {year} ECC Root"));
    assert_eq!(root.not_after - root.not_before, 3600 * DAY);
    let intermediate = Facts::parse(&ca.intermediate_der()[0]).unwrap();
    assert_eq!(intermediate.common_name, "Caddy Local Authority - ECC Intermediate");
    assert_eq!(intermediate.not_after - intermediate.not_before, 7 * DAY);
    let files = ["root.crt", "root.key", "intermediate.crt", "intermediate.key"];
    let before = files.map(|file| read(&dir, file));
    let again = open(&dir, NOW + DAY).unwrap();
    assert_eq!(files.map(|file| read(&dir, file)), before);
    assert_eq!(again.info(), ca.info());
    assert_eq!(ca.info().root_common_name, root.common_name);
}

#[test]
fn the_intermediate_is_renewed_in_its_last_fifth() {
    let dir = TempDir::new();
    let ca = open(&dir, NOW).unwrap();
    let old = ca.intermediate_der();
    assert!(!ca.renew_if_due(NOW + 5 * DAY).unwrap());
    assert!(ca.renew_if_due(NOW + 6 * DAY).unwrap());
    assert_ne!(ca.intermediate_der(), old);
    let root = read(&dir, "root.crt");
    let later = open(&dir, NOW + 100 * DAY).unwrap();
    assert_eq!(root, later.root_pem().into_bytes(), "the root stays");
}

#[test]
fn leaves_are_clamped_to_their_issuer() {
    let dir = TempDir::new();
    let ca = open(&dir, NOW).unwrap();
    let key = KeyType::P256.generate().unwrap();
    let names = vec!["a.test".to_owned(), "::1".to_owned()];
    let request = LeafRequest { names, lifetime: 30 * DAY, sign_with_root: false };
    let issued = ca.issue(&request, &key, NOW).unwrap();
    let leaf = Certificate::from_pem(issued.chain_pem.as_bytes(), to_pem(&key).as_bytes(), vec![])
        .unwrap();
    assert_eq!(leaf.not_after, NOW + 7 * DAY);
    assert_eq!(leaf.names, ["a.test", "::1"]);
    assert_eq!(leaf.key.cert.len(), 2);
    let request = LeafRequest { sign_with_root: true, ..request };
    let issued = ca.issue(&request, &key, NOW).unwrap();
    assert_eq!(issued.not_after, NOW + 30 * DAY);
    let request = LeafRequest { names: vec!["ü.test".to_owned()], ..request };
    assert!(ca.issue(&request, &key, NOW).is_err());
}

#[test]
fn broken_files_are_told_and_the_root_key_stays() {
    let dir = TempDir::new();
    open(&dir, NOW).unwrap();
    let (root, key) = (read(&dir, "root.crt"), read(&dir, "root.key"));
    write(&dir, "intermediate.crt", b"garbage");
    open(&dir, NOW).expect("the intermediate can be made anew");
    write(&dir, "root.crt", b"garbage");
    let error = open(&dir, NOW).unwrap_err();
    assert!(error.to_string().contains("root.crt"), "{error}");
    assert_eq!(
        (read(&dir, "root.crt"), read(&dir, "root.key")),
        (b"garbage".to_vec(), key.clone())
    );
    FileSystem::new(dir.path()).delete("pki/authorities/local/root.crt").unwrap();
    open(&dir, NOW).unwrap();
    assert_eq!(read(&dir, "root.key"), key, "the key is used for a new certificate");
    assert_ne!(read(&dir, "root.crt"), root);
}

#[test]
fn an_expired_root_stays_and_nothing_breaks() {
    let dir = TempDir::new();
    let ca = open(&dir, NOW).unwrap();
    let root = read(&dir, "root.crt");
    let key = KeyType::P256.generate().unwrap();
    let request =
        LeafRequest { names: vec!["a.test".to_owned()], lifetime: DAY, sign_with_root: false };
    for late in [3_600, 3_601, 10_000] {
        let again = open(&dir, NOW + late * DAY).expect("it is told, not fatal");
        let issued = again.issue(&request, &key, NOW + late * DAY).unwrap();
        assert_eq!(issued.not_after, NOW + (late + 1) * DAY, "for who does not look at roots");
        assert_eq!(read(&dir, "root.crt"), root, "others trust it");
    }
    // The clock was wrong: all is as before.
    let again = open(&dir, NOW + DAY).unwrap();
    let issued = again.issue(&request, &key, NOW + DAY).unwrap();
    assert_eq!(issued.not_after, NOW + 2 * DAY);
    assert_eq!(again.root_pem(), ca.root_pem());
    let intermediate = Facts::parse(&again.intermediate_der()[0]).unwrap();
    assert!(intermediate.not_before <= NOW + DAY && intermediate.not_after > NOW + 2 * DAY);
}

/// What is given has to be there and to belong together (T153, T154); nothing is made.
#[test]
fn what_cannot_be_is_told_beforehand() {
    use caddis_config::KeyPair;
    let (dir, empty) = (TempDir::new(), TempDir::new());
    let now = crate::timestamp::now();
    open(&dir, now).unwrap();
    let storage: Arc<dyn Storage> = Arc::new(FileSystem::new(empty.path()));
    let faults = |config: &CaConfig| {
        let configs = [("local".to_owned(), config.clone())].into();
        let all = crate::pki::faults(&configs, &storage);
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let path = |file: &str| dir.path().join("pki/authorities/local").join(file);
    let pair = |certificate: &str, key: &str| {
        let file = |name: &str| match name {
            "" => String::new(),
            name => path(name).display().to_string(),
        };
        Some(KeyPair {
            certificate: file(certificate),
            private_key: file(key),
            ..Default::default()
        })
    };
    let days = |days: i64| CaConfig {
        intermediate_lifetime: caddis_config::Duration(days * DAY * 1_000_000_000),
        ..CaConfig::default()
    };
    assert_eq!(faults(&days(3_599)), "");
    let long = "provisioning CA 'local': intermediate certificate lifetime must be less than actual \
                root certificate lifetime (86400h0m0s)";
    assert_eq!(faults(&days(3_600)), long);
    let of = |root, intermediate| CaConfig { root, intermediate, ..CaConfig::default() };
    for (root, intermediate, want) in [
        (pair("root.crt", "root.key"), None, ""),
        (pair("root.crt", ""), pair("intermediate.crt", "intermediate.key"), ""),
        (pair("root.crt", ""), None, "the root's private key is not configured"),
        (pair("root.crt", "none"), None, "none"),
        (pair("none", "root.key"), None, "none"),
        (pair("root.crt", "intermediate.key"), None, "does not match"),
        (None, pair("intermediate.crt", "root.key"), "does not match"),
        (None, pair("intermediate.crt", "none"), "none"),
    ] {
        let told = faults(&of(root, intermediate));
        assert!(told.contains(want) && told.is_empty() == want.is_empty(), "{want}: {told}");
    }
    // With an intermediate in the storage the root's key may be elsewhere (T150).
    storage.store("pki/authorities/local/intermediate.crt", b"there").unwrap();
    assert_eq!(faults(&of(pair("root.crt", "none"), None)), "");
    assert_eq!(storage.list("pki/authorities/local").unwrap().len(), 1);
}
