//! The work for one name, in a blocking task: look in the storage, issue under the storage's lock,
//! store under the keys that Caddy uses.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use super::{
    manager::{Issuer, ManagedSubject},
    renewal,
};
use crate::{
    certificate::Certificate,
    error::{Context, Error, Result},
    key,
    pki::{LeafRequest, Pki},
    storage::{
        Storage,
        keys::{SiteKeys, acme_issuer_key},
    },
    timestamp::Timestamp,
};

/// How long another process may hold a name's lock.
const LOCK_WAIT: Duration = Duration::from_secs(60);
/// Lifetime of leaves of the internal issuer, seconds.
const INTERNAL_LIFETIME: i64 = 12 * 60 * 60;
const ACME_DEFAULTS: &[&str] =
    &["https://acme-v02.api.letsencrypt.org/directory", "https://acme.zerossl.com/v2/DV90"];

/// What a job works with.
#[derive(Debug, Clone)]
pub(super) struct JobCx {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) pki: Arc<Pki>,
}

/// What a job found out.
#[derive(Debug)]
pub(super) enum Outcome {
    /// In storage, and in its validity.
    Found(Arc<Certificate>),
    /// Fresh from the issuer.
    Issued(Arc<Certificate>),
    /// Only issuers that are not there yet; perhaps a stored certificate to serve meanwhile.
    Unsupported(Option<Arc<Certificate>>),
}

#[derive(Serialize)]
struct Metadata<'a> {
    sans: [&'a str; 1],
    issuer_data: Option<()>,
}

/// Loads a usable certificate, or issues one. `renew` means that the stored one is not enough.
pub(super) fn run(
    cx: &JobCx,
    subject: &ManagedSubject,
    renew: bool,
    now: Timestamp,
) -> Result<Outcome> {
    let fresh = |certificate: &Certificate| now < due_at(subject, certificate);
    let stored = stored(cx, subject, now);
    if let Some(certificate) = &stored
        && (fresh(certificate) || !renew && internal(subject).is_none())
    {
        return Ok(Outcome::Found(certificate.clone()));
    }
    let Some((ca, lifetime, sign_with_root)) = internal(subject) else {
        return Ok(Outcome::Unsupported(stored));
    };
    let lock = format!("issue_cert_{}", subject.name);
    let _guard = cx.storage.lock(&lock, LOCK_WAIT)?;
    // Another process may have been faster.
    if let Some(certificate) = self::stored(cx, subject, now).filter(|stored| fresh(stored)) {
        return Ok(Outcome::Found(certificate));
    }
    let request = LeafRequest { names: vec![subject.name.clone()], lifetime, sign_with_root };
    issue(cx, subject, ca, &request, now).map(Outcome::Issued)
}

/// When this subject's certificate is to be renewed.
pub(super) fn due_at(subject: &ManagedSubject, certificate: &Certificate) -> Timestamp {
    renewal::due_at(certificate.not_before, certificate.not_after, subject.renewal_window_ratio)
}

fn internal(subject: &ManagedSubject) -> Option<(&str, i64, bool)> {
    subject.issuers.iter().find_map(|issuer| match issuer {
        Issuer::Internal { ca, lifetime, sign_with_root } => {
            let lifetime = lifetime.map_or(INTERNAL_LIFETIME, |time| {
                i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
            });
            Some((ca_id(ca), lifetime.max(1), *sign_with_root))
        }
        Issuer::Acme { .. } | Issuer::Other(_) => None,
    })
}

fn ca_id(id: &str) -> &str {
    if id.is_empty() { crate::pki::DEFAULT_CA } else { id }
}

/// The folders in which a subject's certificate may lie, best first.
fn issuer_keys(subject: &ManagedSubject) -> Vec<String> {
    let mut keys = Vec::new();
    for issuer in &subject.issuers {
        match issuer {
            Issuer::Internal { ca, .. } => keys.push(ca_id(ca).to_owned()),
            Issuer::Acme { directory } if directory.is_empty() => {
                keys.extend(ACME_DEFAULTS.iter().map(|url| acme_issuer_key(url)));
            }
            Issuer::Acme { directory } => keys.push(acme_issuer_key(directory)),
            Issuer::Other(name) => keys.push(name.clone()),
        }
    }
    keys
}

/// The stored certificate that is valid the longest; unusable files are told and passed over.
fn stored(cx: &JobCx, subject: &ManagedSubject, now: Timestamp) -> Option<Arc<Certificate>> {
    let mut best: Option<Certificate> = None;
    for issuer_key in issuer_keys(subject) {
        let keys = SiteKeys::new(&issuer_key, &subject.name);
        if !cx.storage.exists(&keys.certificate) {
            continue;
        }
        match load(cx, &keys, &subject.name) {
            Ok(certificate) if certificate.is_expired(now) => {}
            Ok(certificate) => {
                if best.as_ref().is_none_or(|best| certificate.not_after > best.not_after) {
                    best = Some(certificate);
                }
            }
            Err(error) => tracing::error!(
                target: "tls",
                identifier = subject.name,
                error = %error,
                "stored certificate is unusable"
            ),
        }
    }
    best.map(Arc::new)
}

fn load(cx: &JobCx, keys: &SiteKeys, name: &str) -> Result<Certificate> {
    let chain = cx.storage.load(&keys.certificate)?;
    let key = cx.storage.load(&keys.private_key)?;
    let certificate = Certificate::from_pem(&chain, &key, Vec::new()).context(&keys.certificate)?;
    if certificate.covers(name) {
        Ok(certificate)
    } else {
        Err(Error::new(format!("{}: is not for {name}", keys.certificate)))
    }
}

fn issue(
    cx: &JobCx,
    subject: &ManagedSubject,
    ca: &str,
    request: &LeafRequest,
    now: Timestamp,
) -> Result<Arc<Certificate>> {
    let keys = SiteKeys::new(ca, &subject.name);
    let authority = cx.pki.authority(ca, now)?;
    let reused = if subject.reuse_private_keys {
        cx.storage.load(&keys.private_key).ok().and_then(|pem| key::signing_pair(&pem).ok())
    } else {
        None
    };
    let pair = match reused {
        Some(pair) => pair,
        None => subject.key_type.generate()?,
    };
    let issued = authority.issue(request, &pair, now)?;
    let key_pem = key::to_pem(&pair);
    let certificate =
        Certificate::from_pem(issued.chain_pem.as_bytes(), key_pem.as_bytes(), Vec::new())?;
    let metadata = Metadata { sans: [&subject.name], issuer_data: None };
    let metadata = caddis_config::json::write::to_string_pretty(&metadata).map_err(Error::new)?;
    let stored = cx
        .storage
        .store(&keys.private_key, key_pem.as_bytes())
        .and_then(|()| cx.storage.store(&keys.certificate, issued.chain_pem.as_bytes()))
        .and_then(|()| cx.storage.store(&keys.metadata, metadata.as_bytes()));
    if let Err(error) = stored {
        // It can be served all the same; the next start makes another one.
        tracing::error!(
            target: "tls",
            identifier = subject.name,
            error = %error,
            "storing certificate"
        );
    }
    Ok(Arc::new(certificate))
}
