//! The `tls` app: automation policies, loaded certificates, global TLS options.

mod consolidate;
mod defaults;
mod subjects;

use std::collections::BTreeSet;

use caddis_caddyfile::Diagnostic;
use caddis_config::{AutomationConfig, AutomationPolicy, TlsApp};
use serde_json::{Value as Json, json};

use crate::issuer::{SharedIssuer, challenges, default_issuers, internal};
use crate::listeners::{Pairing, Served};
use crate::options::Options;
use crate::servers::uses_other_port;
use crate::site::{Pile, Site};

/// A policy while it is built: its issuers are typed until the end.
#[derive(Debug, Clone, Default, PartialEq)]
struct Policy {
    config: AutomationPolicy,
    issuers: Vec<SharedIssuer>,
}

/// Policies in order. One may stand in the list more than once: the catch-all one, once for each site
/// without a host.
#[derive(Default)]
struct Policies {
    all: Vec<Policy>,
    list: Vec<usize>,
    catch_all: Option<usize>,
    /// What a site's policy begins with, where that is the same for each: no issuers are shared.
    base: Option<Policy>,
    http_port: String,
}

impl Policies {
    fn add(&mut self, policy: Policy) -> usize {
        self.all.push(policy);
        self.all.len() - 1
    }

    fn push(&mut self, policy: Policy) {
        let at = self.add(policy);
        self.list.push(at);
    }
}

/// Builds the app; none if it would be empty.
///
/// Sites or options that contradict each other are mistakes; it goes on without them.
pub(crate) fn build(
    pairings: &[Pairing],
    sites: &[Site],
    options: &Options,
    errors: &mut Vec<Diagnostic>,
) -> Option<TlsApp> {
    let mut app = TlsApp::default();
    let http_port = options.http_port();
    let mut policies = Policies { http_port: http_port.clone(), ..Policies::default() };
    match defaults::base_policy(options, false) {
        Ok(Some(policy)) => {
            policies.push(policy);
            policies.catch_all = Some(0);
        }
        Ok(None) => {}
        // The same would be said of each site.
        Err(error) => {
            errors.push(Diagnostic::error(error));
            return None;
        }
    }
    let mut forced = BTreeSet::new();
    for pairing in pairings.iter().filter(|p| uses_other_port(&p.listen(), &http_port)) {
        for served in pairing.sites.iter().filter(|served| !served.is_all_http()) {
            let pile = &sites[served.site].pile;
            if let Err(error) = add_site(&mut policies, served, pile, options) {
                errors.push(error);
                continue;
            }
            if pile.force_automate {
                forced.extend(served.hosts());
            }
            for (name, items) in &pile.cert_loaders {
                load(&mut app, name, items);
            }
        }
    }
    let mut automation = AutomationConfig::default();
    if let Err(error) = set_options(&mut app, &mut automation, &mut policies, options) {
        errors.push(error);
        return None;
    }
    automate(&mut app, &mut policies, shared_with_hostless(pairings, options), forced, options);
    automation.policies = finish(policies, pairings, sites, options, errors);
    if automation != AutomationConfig::default() {
        app.automation = Some(automation);
    }
    (app != TlsApp::default()).then_some(app)
}

/// Hosts of sites that also have a key without a host: they are in no route matcher.
fn shared_with_hostless(pairings: &[Pairing], options: &Options) -> BTreeSet<String> {
    let mut hosts = BTreeSet::new();
    if options.auto_https().iter().any(|word| word == "off") {
        return hosts;
    }
    let http_port = options.http_port();
    for served in pairings.iter().flat_map(|pairing| &pairing.sites) {
        if served.has_hostless_key() {
            hosts.extend(served.https_hosts(&http_port));
        }
    }
    hosts
}

/// Adds the policy of a site.
fn add_site(
    policies: &mut Policies,
    served: &Served,
    pile: &Pile,
    options: &Options,
) -> Result<(), Diagnostic> {
    let hostless = served.keys.is_empty() || served.has_hostless_key();
    let at = match policies.catch_all {
        Some(catch_all) if hostless => catch_all,
        _ => {
            let base = match &policies.base {
                Some(base) => base.clone(),
                None => {
                    let base = defaults::base_policy(options, true).map_err(Diagnostic::error)?;
                    let base = base.unwrap_or_default();
                    policies.base = base.issuers.is_empty().then(|| base.clone());
                    base
                }
            };
            policies.add(base)
        }
    };
    let is_catch_all = policies.catch_all == Some(at);
    let policy = &mut policies.all[at];
    policy.config.on_demand |= pile.on_demand;
    policy.config.reuse_private_keys |= pile.reuse_private_keys;
    if let Some(key_type) = &pile.key_type {
        policy.config.key_type.clone_from(key_type);
    }
    if let Some(ratio) = pile.renewal_window_ratio.or(options.number("renewal_window_ratio")) {
        policy.config.renewal_window_ratio = ratio;
    }
    if !pile.issuers.is_empty() {
        if is_catch_all && policy.issuers != pile.issuers {
            return Err(conflict(&policy.issuers, &pile.issuers, served));
        }
        policy.issuers.clone_from(&pile.issuers);
    }
    policy.config.get_certificate.extend(pile.cert_managers.iter().cloned());
    for bind in &pile.binds {
        set_bind_host(&policy.issuers, bind.addresses.first());
    }
    if hostless {
        policies.catch_all.get_or_insert(at);
    }
    let policy = &mut policies.all[at];
    policy.config.subjects = served.https_hosts(&policies.http_port);
    let internal = split_internal(policy, served)?;
    policies.list.push(at);
    if let Some(internal) = internal {
        policies.push(internal);
    }
    Ok(())
}

fn conflict(global: &[SharedIssuer], own: &[SharedIssuer], served: &Served) -> Diagnostic {
    let shown = |issuers: &[SharedIssuer]| {
        let all: Vec<Json> = issuers.iter().map(SharedIssuer::to_json).collect();
        Json::Array(all).to_string()
    };
    let message = format!(
        "automation policy from site block is also default/catch-all policy because of key without hostname, and the two are in conflict: {} != {}",
        shown(global),
        shown(own)
    );
    let error = Diagnostic::error(message);
    match served.keys.first() {
        Some(key) => error.labelled(&key.token, "this site"),
        None => error,
    }
}

/// ACME challenges listen on the first host of `bind`.
fn set_bind_host(issuers: &[SharedIssuer], host: Option<&String>) {
    for issuer in issuers {
        issuer.change_acme(|acme| {
            let challenges = challenges(acme);
            if challenges.bind_host.is_empty() {
                challenges.bind_host = host.cloned().unwrap_or_default();
            }
        });
    }
}

/// Where a site without issuers has public and internal names, the internal ones get a policy of
/// their own.
fn split_internal(policy: &mut Policy, served: &Served) -> Result<Option<Policy>, Diagnostic> {
    if !policy.issuers.is_empty() {
        return Ok(None);
    }
    let (mut public, mut local) = (Vec::new(), Vec::new());
    for name in &policy.config.subjects {
        if subjects::is_tailscale(name) {
            continue;
        }
        if !subjects::qualifies(name) {
            let message = format!("subject does not qualify for certificate: '{name}'");
            let error = Diagnostic::error(message);
            return Err(match served.keys.iter().find(|key| key.address.host == *name) {
                Some(key) => error.labelled(&key.token, "this host"),
                None => error,
            });
        }
        let list = if subjects::is_public(&policy.config, name) { &mut public } else { &mut local };
        list.push(name.clone());
    }
    if public.is_empty() || local.is_empty() {
        return Ok(None);
    }
    policy.config.subjects = public;
    let mut other = policy.clone();
    other.config.subjects = local;
    other.config.issuers = vec![internal()];
    Ok(Some(other))
}

/// Adds items to a certificate loader.
fn load(app: &mut TlsApp, name: &str, items: &Json) {
    let all = app.certificates.entry(name.to_owned()).or_insert_with(|| json!([]));
    match (all, items) {
        (Json::Array(all), Json::Array(items)) => all.extend(items.iter().cloned()),
        (all, items) => *all = items.clone(),
    }
}

/// Sets what global options say.
fn set_options(
    app: &mut TlsApp,
    automation: &mut AutomationConfig,
    policies: &mut Policies,
    options: &Options,
) -> Result<(), Diagnostic> {
    automation.on_demand.clone_from(&options.on_demand);
    app.dns = options.values.get("dns").filter(|dns| !dns.is_null()).cloned();
    app.resolvers = options.decoded("tls_resolvers").unwrap_or_default();
    if let Some(ech) = &options.ech {
        let base = defaults::base_policy(options, true).map_err(Diagnostic::error)?;
        let mut policy = base.unwrap_or_default();
        let names = ech.configs.iter().map(|config| &config.public_name);
        policy.config.subjects.extend(names.filter(|name| !name.is_empty()).cloned());
        policies.push(policy);
        app.encrypted_client_hello = Some(ech.clone());
    }
    app.disable_storage_check = options.is_set("storage_check");
    app.disable_storage_clean = options.values.get("storage_clean_interval") == Some(&json!(false));
    app.disable_ocsp_stapling = options.is_set("ocsp_stapling");
    automation.storage_clean_interval =
        options.duration("storage_clean_interval").unwrap_or_default();
    automation.renew_interval = options.duration("renew_interval").unwrap_or_default();
    automation.ocsp_interval = options.duration("ocsp_interval").unwrap_or_default();
    Ok(())
}

/// Names that are managed although no route or only a wildcard has them.
fn automate(
    app: &mut TlsApp,
    policies: &mut Policies,
    shared: BTreeSet<String>,
    forced: BTreeSet<String>,
    options: &Options,
) {
    let off = options.auto_https().iter().any(|word| word == "off" || word == "disable_certs");
    let mut local = Policy::default();
    let mut names = forced;
    if !off {
        let is_local = |name: &&String| !subjects::qualifies_for_public(name);
        local.config.subjects = shared.iter().filter(is_local).cloned().collect();
        names.extend(shared);
    }
    if !names.is_empty() {
        app.certificates.insert("automate".to_owned(), json!(names));
    }
    if !local.config.subjects.is_empty() {
        local.config.issuers = vec![internal()];
        policies.push(local);
    }
}

/// Fills in defaults, writes the issuers out, joins what is equal.
fn finish(
    mut policies: Policies,
    pairings: &[Pairing],
    sites: &[Site],
    options: &Options,
    errors: &mut Vec<Diagnostic>,
) -> Vec<AutomationPolicy> {
    if defaults::has_acme_options(options, true) {
        for at in &policies.list {
            give_default_issuers(&mut policies.all[*at], options);
        }
    }
    for (number, at) in policies.list.iter().enumerate() {
        let policy = &mut policies.all[*at];
        for (issuer_number, issuer) in policy.issuers.iter().enumerate() {
            if let Err(error) = defaults::fill_in(issuer, options) {
                // It is the same for each issuer.
                errors.push(Diagnostic::error(format!(
                    "filling in global issuer defaults for AP {number}, issuer {issuer_number}: {error}"
                )));
                return Vec::new();
            }
        }
    }
    // Issuers may be shared, so they are written out when all are filled in.
    let mut list = Vec::with_capacity(policies.list.len());
    for at in &policies.list {
        let mut policy = if policies.catch_all == Some(*at) {
            policies.all[*at].clone()
        } else {
            std::mem::take(&mut policies.all[*at])
        };
        if policy.config.issuers.is_empty() {
            policy.config.issuers = policy.issuers.iter().map(SharedIssuer::to_json).collect();
        }
        list.push(policy);
    }
    let joined = consolidate::consolidate(list);
    let mut seen = BTreeSet::new();
    for name in joined.iter().flat_map(|policy| &policy.config.subjects) {
        if !seen.insert(name) {
            errors.push(ambiguous(name, pairings, sites));
        }
    }
    joined.into_iter().map(|policy| policy.config).collect()
}

/// A name in several policies, at the `tls` directives or keys of its sites.
fn ambiguous(name: &str, pairings: &[Pairing], sites: &[Site]) -> Diagnostic {
    let message = format!(
        "hostname appears in more than one automation policy, making certificate management ambiguous: {name}"
    );
    let mut error = Diagnostic::error(message).code("adapter::ambiguous_policy");
    let mut seen = BTreeSet::new();
    for served in pairings.iter().flat_map(|pairing| &pairing.sites) {
        let key = served.keys.iter().find(|key| key.address.host == name);
        let Some(key) = key.filter(|_| seen.insert(served.site)) else { continue };
        let label = if error.labels.is_empty() { "settings for it here" } else { "others here" };
        error = match sites[served.site].pile.tls_at {
            Some(at) if error.labels.is_empty() => {
                error.imports = key.token.imports().cloned();
                error.label(at, label)
            }
            // Sites may have their settings from one snippet.
            Some(at) if !error.labels.iter().any(|(span, _)| *span == at) => error.label(at, label),
            _ => error.labelled(&key.token, label),
        };
    }
    error.help("give its sites the same `tls` settings")
}

/// Public names get the default issuers, so that global options have something to be filled into.
fn give_default_issuers(policy: &mut Policy, options: &Options) {
    let public =
        |name: &String| subjects::is_public(&policy.config, name) && !subjects::is_tailscale(name);
    if !policy.issuers.is_empty() || !policy.config.subjects.iter().all(public) {
        return;
    }
    let email = if options.is_set("acme_ca") { String::new() } else { options.text("email") };
    policy.issuers = default_issuers(&email).into_iter().map(SharedIssuer::acme).collect();
}
