//! Global options in automation policies and issuers.

use caddis_config::AutomationPolicy;
use caddis_config::tls::AcmeIssuer;
use serde_json::Value as Json;

use super::Policy;
use crate::issuer::{SharedIssuer, challenges, dns_challenge, internal};
use crate::options::Options;

/// A policy with what the global options say; none if they say nothing and none is needed.
///
/// # Errors
/// Options that contradict each other.
pub(super) fn base_policy(options: &Options, always: bool) -> Result<Option<Policy>, String> {
    let own = ["cert_issuer", "local_certs", "key_type", "ocsp_stapling", "renewal_window_ratio"];
    let acme = has_acme_options(options, false);
    if !acme && !own.iter().any(|name| options.is_set(name)) {
        return Ok(always.then(Policy::default));
    }
    let config = AutomationPolicy {
        key_type: options.text("key_type"),
        disable_ocsp_stapling: options.is_set("ocsp_stapling"),
        renewal_window_ratio: options.number("renewal_window_ratio").unwrap_or_default(),
        ..AutomationPolicy::default()
    };
    let issuers = match (&options.cert_issuers[..], options.is_set("local_certs")) {
        ([], false) => Vec::new(),
        ([], true) => vec![SharedIssuer::of(&internal())],
        (issuers, false) => issuers.to_vec(),
        (_, true) => {
            return Err("global options are ambiguous: local_certs is confusing when combined with cert_issuer, because local_certs is also a specific kind of issuer".to_owned());
        }
    };
    if acme {
        for (at, issuer) in issuers.iter().enumerate() {
            fill_in(issuer, options).map_err(|error| {
                format!("filling in global issuer defaults for issuer {at}: {error}")
            })?;
        }
    }
    Ok(Some(Policy { config, issuers }))
}

/// Whether options for ACME issuers are set.
pub(super) fn has_acme_options(options: &Options, with_email: bool) -> bool {
    let names = ["acme_ca", "acme_ca_root", "acme_dns", "acme_eab", "preferred_chains"];
    names.iter().any(|name| options.is_set(name)) || (with_email && options.is_set("email"))
}

/// Sets in an ACME issuer what global options say and it leaves open.
///
/// # Errors
/// `acme_dns` without a provider anywhere.
pub(super) fn fill_in(issuer: &SharedIssuer, options: &Options) -> Result<(), String> {
    issuer.change_acme(|acme| fill_in_acme(acme, options)).unwrap_or(Ok(()))
}

fn fill_in_acme(acme: &mut AcmeIssuer, options: &Options) -> Result<(), String> {
    if acme.email.is_empty() {
        acme.email = options.text("email");
    }
    if acme.ca.is_empty() {
        acme.ca = options.text("acme_ca");
    }
    let root = options.text("acme_ca_root");
    if !root.is_empty() && !acme.trusted_roots_pem_files.contains(&root) {
        acme.trusted_roots_pem_files.push(root);
    }
    if let Some(provider) = options.values.get("acme_dns") {
        fill_in_provider(acme, provider, options)?;
    }
    if acme.external_account.is_none() {
        acme.external_account = options.decoded("acme_eab");
    }
    if acme.preferred_chains.is_none() {
        acme.preferred_chains = options.decoded("preferred_chains");
    }
    fill_in_ports(acme, options);
    fill_in_bind_host(acme, options);
    if acme.certificate_lifetime.is_zero() {
        acme.certificate_lifetime = options.duration("cert_lifetime").unwrap_or_default();
    }
    let resolvers: Vec<String> = options.decoded("tls_resolvers").unwrap_or_default();
    let dns = acme.challenges.as_mut().and_then(|challenges| challenges.dns.as_mut());
    if let Some(dns) = dns
        && dns.resolvers.is_empty()
        && (options.is_set("acme_dns") || dns.provider.is_some())
    {
        dns.resolvers = resolvers;
    }
    Ok(())
}

fn fill_in_provider(
    acme: &mut AcmeIssuer,
    provider: &Json,
    options: &Options,
) -> Result<(), String> {
    let dns = acme.challenges.as_ref().and_then(|challenges| challenges.dns.as_ref());
    if dns.is_some_and(|dns| dns.provider.is_some()) {
        return Ok(());
    }
    if provider.is_null() && !options.is_set("dns") {
        return Err("acme_dns specified without DNS provider config, but no provider specified with 'dns' global option".to_owned());
    }
    let dns = dns_challenge(acme);
    if !provider.is_null() {
        dns.provider = Some(provider.clone());
    }
    Ok(())
}

/// Other ports for the challenges that need one; with the DNS challenge none of those is used.
fn fill_in_ports(acme: &mut AcmeIssuer, options: &Options) {
    let dns = |acme: &AcmeIssuer| acme.challenges.as_ref().is_some_and(|all| all.dns.is_some());
    if dns(acme) {
        return;
    }
    if let Some(port) = options.integer("http_port") {
        let http = challenges(acme).http.get_or_insert_default();
        if http.alternate_port == 0 {
            http.alternate_port = port;
        }
    }
    if let Some(port) = options.integer("https_port") {
        let alpn = challenges(acme).tls_alpn.get_or_insert_default();
        if alpn.alternate_port == 0 {
            alpn.alternate_port = port;
        }
    }
}

/// The challenges listen where the sites do.
fn fill_in_bind_host(acme: &mut AcmeIssuer, options: &Options) {
    let open = acme
        .challenges
        .as_ref()
        .is_none_or(|challenges| challenges.dns.is_none() && challenges.bind_host.is_empty());
    let first = options.default_bind.iter().flatten().next();
    if let Some(host) = first.and_then(|bind| bind.addresses.first())
        && open
    {
        challenges(acme).bind_host.clone_from(host);
    }
}
