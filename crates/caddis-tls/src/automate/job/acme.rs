//! A certificate of an ACME authority.

use std::sync::Arc;

use super::{Attempt, JobCx, ManagedSubject, Served, issued, request::Prepared, stored};
use crate::{
    acme::{AcmeConfig, Certified, Failure, Order},
    storage::keys::SiteKeys,
};

pub(super) async fn issue(
    cx: &JobCx,
    subject: &Arc<ManagedSubject>,
    config: &Arc<AcmeConfig>,
    attempt: Attempt,
    old: Option<&Served>,
) -> Result<Served, Failure> {
    let issuer = crate::storage::keys::acme_issuer_key(&config.directory);
    let keys = SiteKeys::new(&issuer, &subject.name);
    let prepared = Prepared::new(cx, subject, &keys).await?;
    let replaces = old.and_then(|old| {
        let leaf = old.certificate.key.cert.first()?;
        Some((old.directory.clone()?, leaf.to_vec()))
    });
    let csr = prepared.csr.clone();
    let order = Order { name: subject.name.clone(), csr, failures: attempt.failures, replaces };
    let certified = cx.acme.issue(config, &order, &cx.storage).await?;
    let Certified { chain, url, directory, account, renewal_info } = certified;
    let data = stored::IssuerData {
        url,
        ca: directory.clone(),
        account,
        renewal_info: renewal_info.clone(),
    };
    let data = serde_json::to_value(data).unwrap_or_default();
    let served = issued::take(cx, subject, issuer, keys, prepared, chain, data).await?;
    Ok(Served { directory: Some(directory), renewal_info, ..served })
}

#[cfg(test)]
mod tests {
    use super::super::request::request;
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
