//! A certificate that an authority outside gave: seen to be what was asked for.

use std::sync::Arc;

use serde_json::Value as Json;

use super::{
    JobCx, ManagedSubject, Served, blocking,
    request::{Prepared, pem_of},
    stored,
};
use crate::{
    acme::{AMISS, Failure},
    certificate::Certificate,
    error::{Context, Error},
    storage::keys::SiteKeys,
};

/// Looks whether the chain is what was asked for; `data` is what the issuer wants kept beside it.
pub(super) async fn take(
    cx: &JobCx,
    subject: &Arc<ManagedSubject>,
    issuer: String,
    keys: SiteKeys,
    prepared: Prepared,
    chain: String,
    data: Json,
) -> Result<Served, Failure> {
    let name = subject.name.clone();
    let csr = cx.wants_csr().then(|| pem_of(&prepared.csr).into_boxed_str());
    let key = prepared.key;
    let served = blocking(move || {
        let certificate = Certificate::from_pem(chain.as_bytes(), key.as_bytes(), Vec::new())
            .context("the authority's certificate is unusable")?;
        if !certificate.covers(&name) {
            return Err(Error::new(format!("the authority's certificate is not for {name}")));
        }
        let unstored = Some(stored::files(&name, (&key, &chain), Some(data)));
        Ok(Served {
            certificate: Arc::new(certificate),
            issuer,
            directory: None,
            renewal_info: None,
            keys,
            unstored,
            csr,
        })
    });
    served.await?.map_err(|error| Failure::from(error).remedied(AMISS))
}
