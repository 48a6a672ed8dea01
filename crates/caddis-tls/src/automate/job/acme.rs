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
