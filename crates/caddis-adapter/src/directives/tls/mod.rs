//! `tls`: certificates and handshakes of a site.
//!
//! ```text
//! tls [internal | force_automate | <email> | <cert_file> <key_file>] {
//!     protocols <min> [<max>]
//!     ciphers <suite…>      curves <curve…>      alpn <protocol…>
//!     client_auth { … }
//!     load <folder…>
//!     issuer <issuer> { … }
//!     get_certificate <manager> …
//!     ca <url>   ca_root <file>   eab <key_id> <mac_key>
//!     dns [<provider> …]   resolvers <address…>   dns_ttl <duration>
//!     propagation_delay <duration>   propagation_timeout <duration> | -1
//!     dns_challenge_override_domain <domain>
//!     key_type <type>   on_demand   reuse_private_keys   renewal_window_ratio <ratio>
//!     insecure_secrets_log <file>
//! }
//! ```

mod block;
mod client_auth;
pub(crate) mod issuers;
pub(crate) mod managers;
mod names;
mod trust_pools;

use std::collections::HashMap;

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::tls::{AcmeIssuer, CertKeyFilePair, CustomCertSelectionPolicy};
use caddis_config::{ConnectionPolicy, Value as Json};
use caddis_core::{ConfigValue, Directive, DirectiveKind, Helper};
use serde_json::json;

use crate::issuer::{acme_json, acme_of, default_issuers, internal, merge};
use crate::modules::payload;

/// The directive.
pub(super) static DIRECTIVE: Directive =
    Directive { name: "tls", kind: DirectiveKind::Values(parse), ordered: false };

/// Tags of certificate files by name: a file is loaded once, whatever the number of sites.
type Tags = HashMap<String, String>;

/// What the directive says.
#[derive(Default)]
struct Tls {
    policy: ConnectionPolicy,
    files: Vec<Json>,
    folders: Vec<String>,
    /// ACME settings without an issuer around them.
    acme: Option<AcmeIssuer>,
    internal: bool,
    issuers: Vec<Json>,
    managers: Vec<Json>,
    key_type: String,
    on_demand: bool,
    reuse_private_keys: bool,
    force_automate: bool,
    renewal_window_ratio: Option<f64>,
    /// Settings of the DNS challenge that need a provider.
    dns_settings: Vec<&'static str>,
}

fn parse(h: &mut Helper<'_>) -> ParseResult<Vec<ConfigValue>> {
    h.d.next();
    let mut tls = Tls::default();
    let args = h.d.remaining_args();
    first_line(h, &args, &mut tls)?;
    let has_block = block::parse(h, &mut tls)?;
    check(h, &tls)?;
    if args.is_empty() && !has_block {
        return Err(h.d.arg_err());
    }
    if !tls.issuers.is_empty() && (tls.acme.is_some() || tls.internal) {
        return Err(h.d.err("cannot mix issuer subdirective (explicit issuers) with other issuer-specific subdirectives (implicit issuers)"));
    }
    if tls.acme.is_some() && tls.internal {
        return Err(h.d.err("cannot create both ACME and internal certificate issuers"));
    }
    let implicit = tls.acme.take().map(|acme| implicit_issuers(h, &acme));
    Ok(values(tls, implicit))
}

fn first_line(h: &mut Helper<'_>, args: &[String], tls: &mut Tls) -> ParseResult<()> {
    match args {
        [] => {}
        [word] if word == "internal" => tls.internal = true,
        [word] if word == "force_automate" => tls.force_automate = true,
        [email] if email.contains('@') => {
            tls.acme = Some(AcmeIssuer { email: email.clone(), ..AcmeIssuer::default() });
        }
        [_] => {
            return Err(h.d.err(
                "single argument must either be 'internal', 'force_automate', or an email address",
            ));
        }
        [certificate, key] => {
            let tags = h.shared.note::<Tags>("tls_cert_tags");
            let fresh = format!("cert{}", tags.len());
            let known = tags.get(certificate).cloned();
            let tag = known.clone().unwrap_or(fresh);
            tags.insert(certificate.clone(), tag.clone());
            if known.is_none() {
                let pair = CertKeyFilePair {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    tags: vec![tag.clone()],
                    ..CertKeyFilePair::default()
                };
                tls.files.push(payload(&h.d, &pair)?);
            }
            let any_tag = vec![tag];
            tls.policy.certificate_selection =
                Some(CustomCertSelectionPolicy { any_tag, ..CustomCertSelectionPolicy::default() });
        }
        _ => return Err(h.d.arg_err()),
    }
    Ok(())
}

/// Settings of the DNS challenge need a provider somewhere.
fn check(h: &Helper<'_>, tls: &Tls) -> ParseResult<()> {
    let dns = tls.acme.as_ref().and_then(|acme| acme.challenges.as_ref()?.dns.as_ref());
    let has_provider = dns.is_some_and(|dns| dns.provider.is_some())
        || ["dns", "acme_dns"].iter().any(|name| h.option(name).is_some_and(|it| !it.is_null()));
    if dns.is_none() || tls.dns_settings.is_empty() || has_provider {
        return Ok(());
    }
    Err(h.d.err(format_args!(
        "setting DNS challenge options [{}] requires a DNS provider (set with the 'dns' subdirective or 'acme_dns' global option)",
        tls.dns_settings.join(", ")
    )))
}

/// Issuers for ACME settings without an issuer around them: the ACME ones of the `cert_issuer`
/// option with these settings, else the default ones.
fn implicit_issuers(h: &Helper<'_>, acme: &AcmeIssuer) -> Vec<Json> {
    let global = h.option("cert_issuer").and_then(Json::as_array);
    let is_acme = |json: &&Json| json.get("module").and_then(Json::as_str) == Some("acme");
    let mut bases: Vec<AcmeIssuer> =
        global.into_iter().flatten().filter(is_acme).filter_map(acme_of).collect();
    if bases.is_empty() {
        bases = match acme.ca.is_empty() {
            true => default_issuers(&acme.email),
            false => vec![AcmeIssuer::default()],
        };
    }
    bases.iter().map(|base| acme_json(&merge(base, acme))).collect()
}

/// The values of the directive, in Caddy's order.
fn values(tls: Tls, implicit: Option<Vec<Json>>) -> Vec<ConfigValue> {
    let mut values = Vec::new();
    if !tls.files.is_empty() {
        values.push(ConfigValue::CertLoader("load_files".to_owned(), Json::Array(tls.files)));
    }
    if !tls.folders.is_empty() {
        values.push(ConfigValue::CertLoader("load_folders".to_owned(), json!(tls.folders)));
    }
    let issuers = match (implicit, tls.internal) {
        (Some(implicit), _) => implicit,
        (None, true) => vec![internal()],
        (None, false) => tls.issuers,
    };
    values.extend(issuers.into_iter().map(ConfigValue::Issuer));
    if !tls.key_type.is_empty() {
        values.push(ConfigValue::KeyType(tls.key_type));
    }
    if tls.on_demand {
        values.push(ConfigValue::OnDemand);
    }
    values.extend(tls.managers.into_iter().map(ConfigValue::CertManager));
    if tls.reuse_private_keys {
        values.push(ConfigValue::ReusePrivateKeys);
    }
    values.extend(tls.renewal_window_ratio.map(ConfigValue::RenewalWindowRatio));
    if tls.force_automate {
        values.push(ConfigValue::ForceAutomate);
    }
    // Always: it says that the site speaks TLS.
    values.push(ConfigValue::ConnectionPolicy(Box::new(tls.policy)));
    values
}

/// A share of the lifetime, between 0 and 1.
///
/// # Errors
/// The text is no such number.
pub(crate) fn window_ratio(d: &Dispenser, text: &str) -> ParseResult<f64> {
    let ratio: f64 = text.parse().map_err(|_| {
        d.err(format_args!(
            "parsing renewal_window_ratio: strconv.ParseFloat: parsing {text:?}: invalid syntax"
        ))
    })?;
    if ratio > 0.0 && ratio < 1.0 {
        return Ok(ratio);
    }
    Err(d.err("renewal_window_ratio must be between 0 and 1 (exclusive)"))
}
