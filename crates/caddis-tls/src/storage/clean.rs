//! Tidying the storage (T093): staples that are over, certificates that expired two weeks ago, and what
//! killed processes left.

use std::{
    fs, io,
    path::Path,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{FileSystem, Storage, keys::CERTIFICATES};
use crate::{
    certificate::{Facts, parse_chain},
    ocsp,
    timestamp::Timestamp,
};

/// Seconds for which expired certificates are kept.
const GRACE: i64 = 14 * 24 * 60 * 60;
/// Challenges are kept for so long at least.
const UNANSWERED: Duration = Duration::from_secs(24 * 60 * 60);
const STAMP: &str = "last_clean.json";

#[derive(Default, Serialize, Deserialize)]
struct Stamp {
    #[serde(default)]
    tls: Last,
}

#[derive(Default, Serialize, Deserialize)]
struct Last {
    #[serde(default)]
    timestamp: String,
    #[serde(default)]
    instance_id: String,
}

/// Tidies where nobody did within the interval; says whether it did. Blocks.
pub(crate) fn clean(
    storage: &dyn Storage,
    now: Timestamp,
    interval: Duration,
    instance_id: String,
) -> io::Result<bool> {
    let _guard = match storage.lock("storage_clean", Duration::ZERO) {
        Ok(guard) => guard,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(false),
        Err(error) => return Err(error),
    };
    let stamp = storage.load(STAMP).unwrap_or_default();
    let stamp: Stamp = serde_json::from_slice(&stamp).unwrap_or_default();
    let last = OffsetDateTime::parse(&stamp.tls.timestamp, &Rfc3339).ok();
    let interval = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX);
    if last.is_some_and(|last| now < last.unix_timestamp().saturating_add(interval)) {
        return Ok(false);
    }
    tracing::info!(target: "tls", storage = storage.describe(), "cleaning storage unit");
    storage.sweep()?;
    for key in storage.list("ocsp")? {
        let over =
            storage.load(&key).is_ok_and(|der| ocsp::ends(&der).is_none_or(|end| end <= now));
        if over {
            storage.delete(&key)?;
        }
    }
    for authority in storage.list("acme")? {
        for token in storage.list(&format!("{authority}/challenge_tokens"))? {
            // Nobody waits for an answer for so long: its server was stopped meanwhile.
            let age = storage.modified(&token).map(|at| SystemTime::now().duration_since(at));
            if age.is_ok_and(|age| age.is_ok_and(|age| age > UNANSWERED)) {
                storage.delete(&token)?;
            }
        }
    }
    for issuer in storage.list(CERTIFICATES)? {
        for site in storage.list(&issuer)? {
            clean_site(storage, &site, now)?;
        }
    }
    let timestamp = OffsetDateTime::from_unix_timestamp(now)
        .ok()
        .and_then(|now| now.format(&Rfc3339).ok())
        .unwrap_or_default();
    let stamp = serde_json::to_vec(&Stamp { tls: Last { timestamp, instance_id } })?;
    storage.store(STAMP, &stamp)?;
    Ok(true)
}

/// The id of this installation in its data folder (T137); made where there is none. A folder that
/// cannot be written to costs nothing but an id that lasts.
pub(crate) fn instance_id(folder: &Path) -> String {
    let path = folder.join("instance.uuid");
    let known = fs::read_to_string(&path).unwrap_or_default();
    let is_uuid = |c: char| c.is_ascii_hexdigit() || c == '-';
    if known.len() == 36 && known.chars().all(is_uuid) {
        return known;
    }
    // Version 4 (RFC 9562 §5.4).
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0b11 << 62) | (4 << 76) | (0b10 << 62);
    let hex = format!("{bits:032x}");
    let id =
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    let kept = FileSystem::new(folder).store("instance.uuid", id.as_bytes());
    if let Err(error) = kept {
        tracing::debug!(target: "tls", %error, "instance id is not kept");
    }
    id
}

/// Deletes what belongs to a certificate that expired long ago, and the folder where nothing else is
/// in it. What cannot be read is left alone.
fn clean_site(storage: &dyn Storage, site: &str, now: Timestamp) -> io::Result<()> {
    let delete = |key: &str| match storage.delete(key) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    };
    let mut deleted = false;
    for key in storage.list(site)? {
        let Some(base) = key.strip_suffix(".crt") else { continue };
        if is_over(storage, &key, now) {
            tracing::info!(target: "tls", key, "deleting expired certificate");
            for extension in ["crt", "key", "json"] {
                delete(&format!("{base}.{extension}"))?;
            }
            deleted = true;
        }
    }
    if deleted && storage.list(site)?.is_empty() { delete(site) } else { Ok(()) }
}

fn is_over(storage: &dyn Storage, certificate: &str, now: Timestamp) -> bool {
    let Ok(text) = storage.load(certificate) else { return false };
    let Ok(chain) = parse_chain(&text) else { return false };
    let facts = chain.first().and_then(|leaf| Facts::parse(leaf).ok());
    facts.is_some_and(|facts| now.saturating_sub(facts.not_after) > GRACE)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{clean, instance_id};
    use crate::{
        storage::{FileSystem, Storage},
        testing::TempDir,
        timestamp,
    };

    const INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn only_what_is_long_over_goes() {
        let dir = TempDir::new();
        let id = || instance_id(dir.path());
        let storage = FileSystem::new(dir.path());
        let now = timestamp::now();
        for (name, days) in
            [("kept.test", -20), ("late.test", -10), ("good.test", 10), ("old.test", -20)]
        {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.not_before = time::OffsetDateTime::now_utc() - time::Duration::days(90);
            params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(days);
            let pem = params.self_signed(&key).unwrap().pem();
            let base = format!("certificates/ca/{name}/{name}");
            storage.store(&format!("{base}.crt"), pem.as_bytes()).unwrap();
            storage.store(&format!("{base}.key"), b"key").unwrap();
        }
        // What is not of the certificate stays, and so does its folder (T093).
        let other = "certificates/ca/kept.test/kept.test.key.compromised";
        storage.store(other, b"key").unwrap();
        storage.store("certificates/ca/odd.test/odd.test.crt", b"garbage").unwrap();
        storage.store("ocsp/a.test-1", b"garbage").unwrap();
        let tokens =
            ["old", "new"].map(|name| format!("acme/ca/challenge_tokens/{name}.test.json"));
        for (token, days) in tokens.iter().zip([2, 0]) {
            storage.store(token, b"{}").unwrap();
            let file = std::fs::File::options().write(true).open(dir.path().join(token)).unwrap();
            file.set_modified(std::time::SystemTime::now() - days * INTERVAL).unwrap();
        }
        assert!(clean(&storage, now, INTERVAL, id()).unwrap());
        assert_eq!(storage.list("acme/ca/challenge_tokens").unwrap(), tokens[1..]);
        let left = storage.list("certificates/ca").unwrap();
        let names = ["good.test", "kept.test", "late.test", "odd.test"];
        assert_eq!(left, names.map(|name| format!("certificates/ca/{name}")));
        assert_eq!(storage.list("certificates/ca/kept.test").unwrap(), [other]);
        assert!(storage.list("ocsp").unwrap().is_empty());
        assert!(!clean(&storage, now + 60, INTERVAL, id()).unwrap(), "once a day is enough");
        assert!(clean(&storage, now + 90_000, INTERVAL, id()).unwrap());
        let stamp = String::from_utf8(storage.load("last_clean.json").unwrap()).unwrap();
        assert!(stamp.contains(&id()) && id().len() == 36, "{stamp}");
    }
}
