//! A certificate of an ACME authority.

use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};

use super::{Attempt, JobCx, ManagedSubject, Served, blocking, stored};
use crate::{
    acme::{AcmeConfig, Certified, Failure, Order},
    certificate::Certificate,
    error::{Context, Error, Result},
    key,
    storage::{Storage, keys::SiteKeys},
};

pub(super) async fn issue(
    cx: &JobCx,
    subject: &Arc<ManagedSubject>,
    config: &Arc<AcmeConfig>,
    attempt: Attempt,
    old: Option<&Served>,
) -> std::result::Result<Served, Failure> {
    let issuer = crate::storage::keys::acme_issuer_key(&config.directory);
    let keys = SiteKeys::new(&issuer, &subject.name);
    let (csr, pem) = {
        let (storage, subject, keys) = (cx.storage.clone(), subject.clone(), keys.clone());
        blocking(move || {
            check(&*storage).map_err(|error| {
                Failure::storage(format!(
                    "failed storage check; storage is probably misconfigured: {error}"
                ))
            })?;
            prepare(&*storage, &subject, &keys).map_err(Failure::from)
        })
        .await??
    };
    let replaces = old.and_then(|old| {
        let leaf = old.certificate.key.cert.first()?;
        Some((old.directory.clone()?, leaf.to_vec()))
    });
    let order = Order { name: subject.name.clone(), csr, failures: attempt.failures, replaces };
    let certified = cx.acme.issue(config, &order, &cx.storage).await?;
    let (storage, name) = (cx.storage.clone(), subject.name.clone());
    let served = blocking(move || finish(&*storage, &name, issuer, keys, &pem, certified)).await?;
    Ok(served?)
}

/// Makes key and request.
fn prepare(
    storage: &dyn Storage,
    subject: &ManagedSubject,
    keys: &SiteKeys,
) -> Result<(Vec<u8>, String)> {
    let pair = subject.key_pair(storage, keys)?;
    let csr = request(subject, &pair)?;
    Ok((csr, key::to_pem(&pair)))
}

/// Sees that the storage works before an authority is bothered (T085).
fn check(storage: &dyn Storage) -> Result<()> {
    let key = format!("rw_test_{:016x}", fastrand::u64(..));
    let content: Vec<u8> = (0..64).map(|_| fastrand::u8(..)).collect();
    storage.store(&key, &content)?;
    let read = storage.load(&key);
    let removed = storage.delete(&key);
    if read? != content {
        return Err(Error::new("the storage does not give back what was written"));
    }
    removed?;
    Ok(())
}

fn request(subject: &ManagedSubject, pair: &KeyPair) -> Result<Vec<u8>> {
    let mut params = CertificateParams::new(vec![subject.name.clone()])?;
    params.distinguished_name = DistinguishedName::new();
    if subject.must_staple {
        // RFC 7633: the feature status_request.
        let feature = vec![0x30, 0x03, 0x02, 0x01, 0x05];
        let oid = [1, 3, 6, 1, 5, 5, 7, 1, 24];
        params.custom_extensions.push(CustomExtension::from_oid_content(&oid, feature));
    }
    Ok(params.serialize_request(pair)?.der().to_vec())
}

/// Looks whether the chain is what was asked for, and stores it.
fn finish(
    storage: &dyn Storage,
    name: &str,
    issuer: String,
    keys: SiteKeys,
    key: &str,
    certified: Certified,
) -> Result<Served> {
    let Certified { chain, url, directory, account, renewal_info } = certified;
    let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes(), Vec::new())
        .context("the authority's certificate is unusable")?;
    if !certificate.covers(name) {
        return Err(Error::new(format!("the authority's certificate is not for {name}")));
    }
    let data = stored::IssuerData {
        url,
        ca: directory.clone(),
        account,
        renewal_info: renewal_info.clone(),
    };
    let unstored = stored::save(storage, &keys, name, (key, &chain), Some(data));
    Ok(Served {
        certificate: Arc::new(certificate),
        issuer,
        directory: Some(directory),
        renewal_info,
        keys,
        unstored,
    })
}

#[cfg(test)]
mod tests {
    use super::request;
    use crate::{automate::ManagedSubject, key::KeyType};

    #[test]
    fn requests_demand_staples_where_wanted() {
        for must_staple in [true, false] {
            let subject = ManagedSubject {
                name: "a.test".to_owned(),
                issuers: Vec::new(),
                key_type: KeyType::P256,
                reuse_private_keys: false,
                renewal_window_ratio: 0.0,
                must_staple,
                storage: None,
            };
            let csr = request(&subject, &KeyType::P256.generate().unwrap()).unwrap();
            // The extension's name and content (RFC 7633 §4.1).
            let wanted = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x01\x18\x04\x05\x30\x03\x02\x01\x05";
            let found = csr.windows(wanted.len()).any(|window| window == wanted);
            assert_eq!(found, must_staple);
        }
    }
}
