//! Upstream certificates checked against a pool that is loaded only when the plan is bound.

use std::sync::{Arc, OnceLock};

use caddis_config::Value;
use caddis_core::trust::TrustPool;
use caddis_dns::server_check::{ServerCheck, Shown};
use rustls::crypto::CryptoProvider;

use super::pinned::{Pinned, Roots};

/// Whether a pool (or one in it) lies in storage or with a local authority.
pub(super) fn is_loaded_late(pool: &Value) -> bool {
    let mut left = vec![pool];
    while let Some(pool) = left.pop() {
        match pool.get("provider").and_then(Value::as_str) {
            Some("pki_root" | "pki_intermediate" | "storage") => return true,
            Some("combined") => {
                left.extend(pool.get("sources").and_then(Value::as_array).into_iter().flatten());
            }
            _ => {}
        }
    }
    false
}

/// Checks against the pool as bind left it.
#[derive(Debug)]
pub(super) struct Deferred {
    pool: Arc<TrustPool>,
    provider: Arc<CryptoProvider>,
    pinned: OnceLock<Result<Pinned, String>>,
}

impl Deferred {
    pub(super) fn new(pool: Arc<TrustPool>, provider: Arc<CryptoProvider>) -> Self {
        Self { pool, provider, pinned: OnceLock::new() }
    }

    fn build(&self) -> Result<Pinned, String> {
        let mut roots = Roots::empty();
        for certificate in self.pool.certificates() {
            roots.add(certificate.clone().into())?;
        }
        Pinned::new(roots, self.provider.clone())
    }
}

impl ServerCheck for Deferred {
    fn check(&self, shown: &Shown<'_>) -> Result<(), rustls::Error> {
        match self.pinned.get_or_init(|| self.build()) {
            Ok(pinned) => pinned.check(shown),
            Err(error) => Err(rustls::Error::General(error.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use caddis_core::trust::TrustPools;
    use rustls::crypto::aws_lc_rs;
    use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
    use serde_json::json;

    use super::*;

    #[test]
    fn finds_late_pools() {
        let late = json!({"provider": "combined", "sources": [
            {"provider": "system"}, {"provider": "combined", "sources": [{"provider": "pki_root"}]}
        ]});
        assert!(is_loaded_late(&late));
        assert!(!is_loaded_late(
            &json!({"provider": "combined", "sources": [{"provider": "file"}]})
        ));
    }

    #[test]
    fn an_empty_pool_trusts_nothing() {
        let pool = TrustPools::default().want(json!({"provider": "pki_root"}));
        let late = Deferred::new(pool, Arc::new(aws_lc_rs::default_provider()));
        let name = ServerName::try_from("a.test").expect("a name");
        let (leaf, now) = (CertificateDer::from(vec![0]), UnixTime::now());
        let shown = Shown { leaf: &leaf, intermediates: &[], name: &name, staple: &[], now };
        late.check(&shown).expect_err("nothing is trusted");
    }
}
