//! Issuers while the configuration is built: ACME ones typed, so that global settings can be filled
//! in, the rest as they are.

use std::cell::RefCell;
use std::rc::Rc;

use caddis_config::module_object;
use caddis_config::tls::{AcmeIssuer, ChallengesConfig, DnsChallengeConfig};
use serde_json::{Value as Json, json};

/// Directory of ZeroSSL.
pub(crate) const ZEROSSL_CA: &str = "https://acme.zerossl.com/v2/DV90";

/// One issuer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Issuer {
    /// `acme`.
    Acme(Box<AcmeIssuer>),
    /// Any other, with its `module` key.
    Other(Json),
}

/// An issuer that several policies may have: what is filled in for one holds for all.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SharedIssuer(Rc<RefCell<Issuer>>);

impl SharedIssuer {
    /// An issuer from its JSON object.
    pub(crate) fn of(json: &Json) -> Self {
        let acme = json.get("module").and_then(Json::as_str) == Some("acme");
        let issuer = if acme { acme_of(json).map(Box::new).map(Issuer::Acme) } else { None };
        Self::new(issuer.unwrap_or_else(|| Issuer::Other(json.clone())))
    }

    /// An ACME issuer.
    pub(crate) fn acme(issuer: AcmeIssuer) -> Self {
        Self::new(Issuer::Acme(Box::new(issuer)))
    }

    fn new(issuer: Issuer) -> Self {
        Self(Rc::new(RefCell::new(issuer)))
    }

    /// Changes it if it is an ACME one.
    pub(crate) fn change_acme<R>(&self, change: impl FnOnce(&mut AcmeIssuer) -> R) -> Option<R> {
        match &mut *self.0.borrow_mut() {
            Issuer::Acme(acme) => Some(change(acme)),
            Issuer::Other(_) => None,
        }
    }

    /// Its JSON object.
    pub(crate) fn to_json(&self) -> Json {
        match &*self.0.borrow() {
            Issuer::Acme(acme) => acme_json(acme),
            Issuer::Other(json) => json.clone(),
        }
    }
}

/// The JSON object of an ACME issuer.
pub(crate) fn acme_json(issuer: &AcmeIssuer) -> Json {
    module_object(serde_json::to_value(issuer).unwrap_or_default(), "module", "acme")
}

/// The ACME issuer of a JSON object, if it is one.
pub(crate) fn acme_of(json: &Json) -> Option<AcmeIssuer> {
    let mut json = json.clone();
    json.as_object_mut()?.remove("module");
    serde_json::from_value(json).ok()
}

/// The issuers of a site that names none: Let's Encrypt, and ZeroSSL for those with an address.
pub(crate) fn default_issuers(email: &str) -> Vec<AcmeIssuer> {
    let mut issuers = vec![AcmeIssuer::default()];
    if !email.trim().is_empty() {
        let (ca, email) = (ZEROSSL_CA.to_owned(), email.to_owned());
        issuers.push(AcmeIssuer { ca, email, ..AcmeIssuer::default() });
    }
    issuers
}

/// The issuer that signs with the local authority.
pub(crate) fn internal() -> Json {
    json!({ "module": "internal" })
}

/// The challenge settings, made on first use.
pub(crate) fn challenges(issuer: &mut AcmeIssuer) -> &mut ChallengesConfig {
    issuer.challenges.get_or_insert_default()
}

/// The DNS challenge settings, made on first use.
pub(crate) fn dns_challenge(issuer: &mut AcmeIssuer) -> &mut DnsChallengeConfig {
    challenges(issuer).dns.get_or_insert_default()
}

/// `base` with what `over` sets.
pub(crate) fn merge(base: &AcmeIssuer, over: &AcmeIssuer) -> AcmeIssuer {
    let text = |base: &String, over: &String| if over.is_empty() { base } else { over }.clone();
    let mut trusted_roots_pem_files = base.trusted_roots_pem_files.clone();
    for root in &over.trusted_roots_pem_files {
        if !trusted_roots_pem_files.contains(root) {
            trusted_roots_pem_files.push(root.clone());
        }
    }
    AcmeIssuer {
        ca: text(&base.ca, &over.ca),
        test_ca: text(&base.test_ca, &over.test_ca),
        email: text(&base.email, &over.email),
        profile: text(&base.profile, &over.profile),
        account_key: text(&base.account_key, &over.account_key),
        external_account: over.external_account.clone().or(base.external_account.clone()),
        acme_timeout: nonzero(base.acme_timeout, over.acme_timeout),
        challenges: merge_challenges(base.challenges.as_ref(), over.challenges.as_ref()),
        trusted_roots_pem_files,
        preferred_chains: over.preferred_chains.clone().or(base.preferred_chains.clone()),
        certificate_lifetime: nonzero(base.certificate_lifetime, over.certificate_lifetime),
        network_proxy: over.network_proxy.clone().or(base.network_proxy.clone()),
    }
}

fn nonzero(
    base: caddis_config::Duration,
    over: caddis_config::Duration,
) -> caddis_config::Duration {
    if over.is_zero() { base } else { over }
}

fn merge_challenges(
    base: Option<&ChallengesConfig>,
    over: Option<&ChallengesConfig>,
) -> Option<ChallengesConfig> {
    let (Some(base), Some(over)) = (base, over) else {
        return over.or(base).cloned();
    };
    let mut merged = base.clone();
    if let Some(over) = &over.http {
        let http = merged.http.get_or_insert_default();
        http.disabled |= over.disabled;
        if over.alternate_port != 0 {
            http.alternate_port = over.alternate_port;
        }
    }
    if let Some(over) = &over.tls_alpn {
        let alpn = merged.tls_alpn.get_or_insert_default();
        alpn.disabled |= over.disabled;
        if over.alternate_port != 0 {
            alpn.alternate_port = over.alternate_port;
        }
    }
    if let Some(over) = &over.dns {
        merge_dns(merged.dns.get_or_insert_default(), over);
    }
    if !over.bind_host.is_empty() {
        merged.bind_host.clone_from(&over.bind_host);
    }
    merged.distributed = over.distributed.or(merged.distributed);
    Some(merged)
}

fn merge_dns(base: &mut DnsChallengeConfig, over: &DnsChallengeConfig) {
    if over.provider.is_some() {
        base.provider.clone_from(&over.provider);
    }
    base.ttl = nonzero(base.ttl, over.ttl);
    base.propagation_delay = nonzero(base.propagation_delay, over.propagation_delay);
    base.propagation_timeout = nonzero(base.propagation_timeout, over.propagation_timeout);
    if !over.resolvers.is_empty() {
        base.resolvers.clone_from(&over.resolvers);
    }
    if !over.override_domain.is_empty() {
        base.override_domain.clone_from(&over.override_domain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acme_is_typed_and_shared() {
        let issuer = SharedIssuer::of(&json!({ "module": "acme", "ca": "x" }));
        let other = issuer.clone();
        other.change_acme(|acme| acme.email = "a@b".into());
        assert_eq!(issuer.to_json(), json!({ "module": "acme", "ca": "x", "email": "a@b" }));
        assert_eq!(SharedIssuer::of(&internal()).change_acme(|_| ()), None);
    }

    #[test]
    fn merging_prefers_what_is_set() {
        let mut over = AcmeIssuer { ca: "over".into(), ..AcmeIssuer::default() };
        dns_challenge(&mut over).override_domain = "d".into();
        let base = AcmeIssuer { ca: "base".into(), email: "e".into(), ..AcmeIssuer::default() };
        let merged = merge(&base, &over);
        assert_eq!((merged.ca.as_str(), merged.email.as_str()), ("over", "e"));
        assert_eq!(merged.challenges, over.challenges);
        assert_eq!(default_issuers(" ").len(), 1);
    }
}
