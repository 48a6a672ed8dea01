//! What the storage has for a name.

use std::{
    fmt, io,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ManagedSubject, Outcome, Served};
use crate::{
    acme::RenewalInfo,
    certificate::Certificate,
    error::{Context, Error, Result},
    storage::{self, LockGuard, Storage, keys::SiteKeys},
    timestamp::Timestamp,
};

/// Writing that took longer may have been interrupted for so long that the lock was lost.
const DOUBT: Duration = Duration::from_secs(5);

/// What lies beside a certificate, as Caddy writes it (T124).
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) sans: Vec<String>,
    #[serde(default)]
    pub(super) issuer_data: Option<Value>,
}

/// What an ACME issuer writes there.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct IssuerData {
    #[serde(default)]
    pub(super) url: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) ca: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) account: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) renewal_info: Option<RenewalInfo>,
}

/// The stored certificate that is valid the longest; unusable files are passed over, and told where
/// `tell` says so: a name is looked for several times on its way. One that has expired is still
/// better than none: it is the clock that may be wrong, and clients judge by their own.
///
/// # Errors
/// The storage cannot be read: what it has is not known.
pub(super) fn newest(
    storage: &dyn Storage,
    subject: &ManagedSubject,
    tell: bool,
) -> io::Result<Option<Served>> {
    let mut best: Option<Served> = None;
    for issuer in subject.issuers.iter().flat_map(|issuer| issuer.storage_keys()) {
        let keys = SiteKeys::new(&issuer, &subject.name);
        let Some(chain) = content(storage, &keys.certificate)? else { continue };
        let key = content(storage, &keys.private_key)?.unwrap_or_default();
        match usable(&chain, &key, &keys, &subject.name) {
            Ok(certificate) => {
                let later = |best: &Served| certificate.not_after > best.certificate.not_after;
                if best.as_ref().is_none_or(later) {
                    best = Some(served(storage, issuer, keys, certificate));
                }
            }
            Err(error) if tell => tracing::error!(
                target: "tls",
                identifier = subject.name,
                error = %error,
                remedy = REPLACED,
                "stored certificate is unusable; it is replaced"
            ),
            Err(_) => {}
        }
    }
    Ok(best)
}

/// What lies at a key. Where that is garbage it is as good as an empty file.
fn content(storage: &dyn Storage, key: &str) -> io::Result<Option<Vec<u8>>> {
    match storage.load(key) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::error!(target: "tls", key, %error, remedy = REPLACED, "stored value is garbage");
            Ok(Some(Vec::new()))
        }
        Err(error) => Err(error),
    }
}

/// What may be done about broken files.
const REPLACED: &str = "wait for the next certificate, and see what else writes to the storage";

fn usable(chain: &[u8], key: &[u8], keys: &SiteKeys, name: &str) -> Result<Certificate> {
    let certificate = Certificate::from_pem(chain, key, Vec::new()).context(&keys.certificate)?;
    if certificate.covers(name) {
        Ok(certificate)
    } else {
        Err(Error::new(format!("{}: is not for {name}", keys.certificate)))
    }
}

fn served(
    storage: &dyn Storage,
    issuer: String,
    keys: SiteKeys,
    certificate: Certificate,
) -> Served {
    // Without them the certificate is as good; only the authority's wishes are not known.
    let data = issuer_data(storage, &keys).unwrap_or_default();
    Served {
        certificate: Arc::new(certificate),
        issuer,
        directory: Some(data.ca).filter(|ca| !ca.is_empty()),
        renewal_info: data.renewal_info,
        keys,
        unstored: None,
        csr: None,
    }
}

fn issuer_data(storage: &dyn Storage, keys: &SiteKeys) -> Option<IssuerData> {
    let metadata = storage.load(&keys.metadata).ok()?;
    let metadata: Metadata = serde_json::from_slice(&metadata).ok()?;
    serde_json::from_value(metadata.issuer_data?).ok()
}

/// An authority's wishes as they lie beside the certificate now.
pub(in crate::automate) fn load_renewal_info(
    storage: &dyn Storage,
    keys: &SiteKeys,
) -> Option<RenewalInfo> {
    issuer_data(storage, keys)?.renewal_info
}

/// The files of a certificate that could not be stored yet.
pub(in crate::automate) struct Unstored {
    key: String,
    chain: String,
    metadata: String,
    error: Option<io::Error>,
}

impl fmt::Debug for Unstored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unstored")
    }
}

impl Unstored {
    /// Why they could not.
    pub(in crate::automate) fn error(&self) -> Option<&io::Error> {
        self.error.as_ref()
    }

    /// Writes the files; false where others stored a certificate meanwhile that is valid longer: it
    /// stays.
    pub(in crate::automate) fn store(
        &self,
        storage: &dyn Storage,
        keys: &SiteKeys,
        not_after: Timestamp,
    ) -> io::Result<bool> {
        let there =
            match (content(storage, &keys.certificate)?, content(storage, &keys.private_key)?) {
                (Some(chain), Some(key)) => Certificate::from_pem(&chain, &key, Vec::new()).ok(),
                _ => None,
            };
        if there.is_some_and(|there| there.not_after > not_after) {
            return Ok(false);
        }
        self.write(storage, keys)?;
        Ok(true)
    }

    /// Writes key, chain and metadata.
    fn write(&self, storage: &dyn Storage, keys: &SiteKeys) -> io::Result<()> {
        let key = (&*keys.private_key, self.key.as_bytes());
        storage::store_pair(storage, key, (&keys.certificate, self.chain.as_bytes()))?;
        storage.store(&keys.metadata, self.metadata.as_bytes())
    }

    /// Whether key and chain are what lies in the storage; where it does not tell they are.
    fn is_in(&self, storage: &dyn Storage, keys: &SiteKeys) -> bool {
        let same = |key: &str, ours: &str| match storage.load(key) {
            Ok(content) => content == ours.as_bytes(),
            Err(_) => true,
        };
        same(&keys.private_key, &self.key) && same(&keys.certificate, &self.chain)
    }

    fn copied(&self) -> Self {
        let (key, chain, metadata) = (&self.key, &self.chain, &self.metadata);
        Self { key: key.clone(), chain: chain.clone(), metadata: metadata.clone(), error: None }
    }
}

/// The files of a certificate that was just made.
pub(super) fn files(
    name: &str,
    (key, chain): (&str, &str),
    issuer_data: Option<Value>,
) -> Arc<Unstored> {
    let metadata = Metadata { sans: vec![name.to_owned()], issuer_data };
    let metadata = caddis_config::json::write::to_string_pretty(&metadata).unwrap_or_default();
    let (key, chain) = (key.to_owned(), chain.to_owned());
    Arc::new(Unstored { key, chain, metadata, error: None })
}

/// Stores a certificate that was just made, under the name's lock, and says what is to be served. One
/// that cannot be stored is served all the same, and stored later.
///
/// A process that was stopped for a while, or slept with its machine, has lost the lock meanwhile:
/// what others made since stays, and is taken; `fresh` says whether it will do. Blocks.
pub(super) fn put(
    storage: &dyn Storage,
    subject: &ManagedSubject,
    lock: Option<&dyn LockGuard>,
    served: Served,
    fresh: impl Fn(&Served) -> bool,
) -> Outcome {
    let Some(files) = served.unstored.clone() else { return Outcome::Issued(served) };
    let theirs = || newest(storage, subject, false).ok().flatten().filter(&fresh);
    if let Some(found) = theirs() {
        return others(subject, found);
    }
    let start = Instant::now();
    let written = match lock {
        // Where the storage does not tell it says more when it is written to.
        Some(lock) if !lock.is_ours().unwrap_or(true) => Err(lost()),
        _ => files.write(storage, &served.keys),
    };
    // Stopped in the middle of it: another one's files may lie among ours.
    let doubt = written.is_ok() && start.elapsed() > DOUBT;
    let written = match written {
        Ok(()) if doubt && !files.is_in(storage, &served.keys) => match theirs() {
            Some(found) => return others(subject, found),
            None => Err(lost()),
        },
        other => other,
    };
    let unstored = written.err().map(|error| {
        tracing::error!(
            target: "tls",
            identifier = subject.name,
            %error,
            remedy = storage::remedy(error.kind()),
            "certificate could not be stored: it is served from memory, and stored when that works"
        );
        Arc::new(Unstored { error: Some(error), ..files.copied() })
    });
    Outcome::Issued(Served { unstored, ..served })
}

fn others(subject: &ManagedSubject, found: Served) -> Outcome {
    tracing::warn!(
        target: "tls.obtain",
        identifier = subject.name,
        certificate = found.keys.certificate,
        "another process was faster, and this one lost the lock meanwhile: its certificate is used"
    );
    Outcome::Found(found)
}

/// Why a certificate is not stored at once that was made without the lock.
fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the lock was lost: this process stood still")
}

/// Writes an authority's wishes beside the certificate, for the next start and for others.
pub(in crate::automate) fn store_renewal_info(
    storage: &dyn Storage,
    keys: &SiteKeys,
    info: &RenewalInfo,
) -> Result<()> {
    let text = storage.load(&keys.metadata)?;
    let mut metadata: Metadata = serde_json::from_slice(&text).map_err(Error::new)?;
    let info = serde_json::to_value(info).map_err(Error::new)?;
    if let Some(Value::Object(data)) = &mut metadata.issuer_data {
        data.insert("renewal_info".to_owned(), info);
    }
    let text = caddis_config::json::write::to_string_pretty(&metadata).map_err(Error::new)?;
    storage.store(&keys.metadata, text.as_bytes())?;
    Ok(())
}
