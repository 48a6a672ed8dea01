//! Issuers of certificates.
//!
//! ```text
//! acme [<directory>] {
//!     dir | test_dir <url>      email <address>      profile <name>
//!     timeout | lifetime <duration>
//!     disable_http_challenge    disable_tlsalpn_challenge    distributed false
//!     alt_http_port | alt_tlsalpn_port <port>
//!     eab <key_id> <mac_key>    trusted_roots <pem_file…>
//!     dns [<provider> …]        resolvers <address…>         dns_ttl <duration>
//!     propagation_delay <duration>    propagation_timeout <duration> | -1
//!     dns_challenge_override_domain <domain>
//!     preferred_chains …
//! }
//! internal {
//!     ca <id>
//!     lifetime <duration>
//!     sign_with_root
//! }
//! zerossl <api_key> {
//!     validity_days <days>      alt_http_port <port>
//!     dns <provider> …          resolvers <address…>         dns_ttl <duration>
//!     propagation_delay <duration>    propagation_timeout <duration> | -1
//! }
//! ```

use caddis_caddyfile::{Diagnostic, Dispenser, Result as ParseResult};
use caddis_config::Duration;
use caddis_config::tls::{
    AcmeIssuer, ChainPreference, DnsChallengeConfig, ExternalAccount, InternalIssuer, ZeroSslIssuer,
};
use serde_json::Value as Json;

use super::block::{only_arg, propagation_timeout};
use crate::dns::dns_provider;
use crate::issuer::{challenges, dns_challenge};
use crate::modules::{Kind, duration, integer, next_arg, no_args, one_arg, payload, some_args};

/// `issuer` and `cert_issuer`.
pub(crate) const ISSUERS: Kind = Kind {
    namespace: "tls.issuance",
    key: "module",
    modules: &[("acme", acme), ("internal", internal), ("zerossl", zerossl)],
};

fn acme(d: &mut Dispenser) -> ParseResult<Json> {
    const KNOWN: [&str; 20] = [
        "lifetime",
        "dir",
        "test_dir",
        "email",
        "profile",
        "timeout",
        "disable_http_challenge",
        "disable_tlsalpn_challenge",
        "distributed",
        "alt_http_port",
        "alt_tlsalpn_port",
        "eab",
        "trusted_roots",
        "dns",
        "propagation_delay",
        "propagation_timeout",
        "resolvers",
        "dns_ttl",
        "dns_challenge_override_domain",
        "preferred_chains",
    ];
    d.next();
    let mut issuer = AcmeIssuer::default();
    if d.next_arg() {
        d.val().clone_into(&mut issuer.ca);
        no_args(d)?;
    }
    while d.next_block(0) {
        let word = d.val().to_owned();
        if acme_account(d, &word, &mut issuer)?
            || acme_challenges(d, &word, &mut issuer)?
            || dns_setting(d, &word, || dns_challenge(&mut issuer))?
        {
            continue;
        }
        match word.as_str() {
            "dns" => {
                let provider = d.next_arg().then(|| dns_provider(d)).transpose()?;
                let dns = dns_challenge(&mut issuer);
                dns.provider = provider.or(dns.provider.take());
            }
            "dns_challenge_override_domain" => {
                dns_challenge(&mut issuer).override_domain = only_arg(d)?;
            }
            _ => {
                let error = d.err(format_args!("unrecognized ACME issuer property: {word}"));
                return Err(d.did_you_mean(error, KNOWN));
            }
        }
    }
    payload(d, &issuer)
}

/// Directory, account and chain. Says whether the word is one of those.
fn acme_account(d: &mut Dispenser, word: &str, issuer: &mut AcmeIssuer) -> ParseResult<bool> {
    match word {
        "lifetime" => {
            let text = one_arg(d)?;
            let lifetime = duration(d, &text, &format!("invalid lifetime {text}"))?;
            if lifetime < Duration::ZERO {
                return Err(d.err(format_args!("lifetime must be >= 0: {lifetime}")));
            }
            issuer.certificate_lifetime = lifetime;
        }
        "dir" => {
            if !issuer.ca.is_empty() {
                let message = format_args!("directory is already specified: {}", issuer.ca);
                return Err(d.err(message));
            }
            issuer.ca = one_arg(d)?;
        }
        "test_dir" => issuer.test_ca = one_arg(d)?,
        "email" => issuer.email = one_arg(d)?,
        "profile" => issuer.profile = one_arg(d)?,
        "timeout" => {
            let text = one_arg(d)?;
            issuer.acme_timeout = duration(d, &text, &format!("invalid timeout duration {text}"))?;
        }
        "eab" => {
            let Some([key_id, mac_key]) = d.all_args::<2>() else { return Err(d.arg_err()) };
            issuer.external_account = Some(ExternalAccount { key_id, mac_key });
        }
        "trusted_roots" => issuer.trusted_roots_pem_files = d.remaining_args(),
        "preferred_chains" => issuer.preferred_chains = Some(preferred_chains(d)?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Challenges other than DNS. Says whether the word is of those.
fn acme_challenges(d: &mut Dispenser, word: &str, issuer: &mut AcmeIssuer) -> ParseResult<bool> {
    match word {
        "disable_http_challenge" => {
            no_args(d)?;
            challenges(issuer).http.get_or_insert_default().disabled = true;
        }
        "disable_tlsalpn_challenge" => {
            no_args(d)?;
            challenges(issuer).tls_alpn.get_or_insert_default().disabled = true;
        }
        "distributed" => {
            if next_arg(d)? != "false" {
                return Err(d.err("only accepted value is 'false'"));
            }
            challenges(issuer).distributed = Some(false);
        }
        "alt_http_port" => {
            challenges(issuer).http.get_or_insert_default().alternate_port = port(d)?;
        }
        "alt_tlsalpn_port" => {
            challenges(issuer).tls_alpn.get_or_insert_default().alternate_port = port(d)?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn port(d: &mut Dispenser) -> ParseResult<i64> {
    let text = next_arg(d)?;
    integer(d, &text, &format!("invalid port {text}"))
}

/// Settings of the look-up of DNS records. Says whether the word is one.
fn dns_setting<'a>(
    d: &mut Dispenser,
    word: &str,
    config: impl FnOnce() -> &'a mut DnsChallengeConfig,
) -> ParseResult<bool> {
    match word {
        "propagation_delay" => {
            let text = next_arg(d)?;
            config().propagation_delay =
                duration(d, &text, &format!("invalid propagation_delay duration {text}"))?;
        }
        "propagation_timeout" => {
            let text = next_arg(d)?;
            config().propagation_timeout = propagation_timeout(d, &text)?;
        }
        "resolvers" => config().resolvers = some_args(d)?,
        "dns_ttl" => {
            let text = next_arg(d)?;
            config().ttl = duration(d, &text, &format!("invalid dns_ttl duration {text}"))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn internal(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    let mut issuer = InternalIssuer::default();
    while d.next_block(0) {
        match d.val() {
            "ca" => issuer.ca = one_arg(d)?,
            "lifetime" => {
                let text = next_arg(d)?;
                // Caddy names no place here.
                issuer.lifetime = Duration::parse(&text)
                    .map_err(|error| Diagnostic::error(error).labelled(d.token(), "no duration"))?;
            }
            "sign_with_root" => {
                no_args(d)?;
                issuer.sign_with_root = true;
            }
            other => {
                let error = d.err(format_args!("unrecognized subdirective '{other}'"));
                return Err(d.did_you_mean(error, ["ca", "lifetime", "sign_with_root"]));
            }
        }
    }
    payload(d, &issuer)
}

fn zerossl(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    let mut issuer = ZeroSslIssuer { api_key: next_arg(d)?, ..ZeroSslIssuer::default() };
    no_args(d)?;
    while d.next_block(0) {
        let word = d.val().to_owned();
        if dns_setting(d, &word, || issuer.cname_validation.get_or_insert_default())? {
            continue;
        }
        match word.as_str() {
            "validity_days" => {
                if issuer.validity_days != 0 {
                    return Err(d.err(format_args!(
                        "validity days is already specified: {}",
                        issuer.validity_days
                    )));
                }
                let text = next_arg(d)?;
                issuer.validity_days =
                    integer(d, &text, &format!("invalid number of days {text}"))?;
            }
            "alt_http_port" => issuer.alternate_http_port = port(d)?,
            "dns" => {
                next_arg(d)?;
                let provider = dns_provider(d)?;
                issuer.cname_validation.get_or_insert_default().provider = Some(provider);
            }
            _ => {
                let message = format_args!("unrecognized zerossl issuer property: {word}");
                let known = ["validity_days", "alt_http_port", "dns", "resolvers", "dns_ttl"];
                return Err(d.did_you_mean(d.err(message), known));
            }
        }
    }
    payload(d, &issuer)
}

/// Reads what comes after `preferred_chains`.
///
/// # Errors
/// Nothing is said, or more than one thing.
pub(crate) fn preferred_chains(d: &mut Dispenser) -> ParseResult<ChainPreference> {
    let mut chains = ChainPreference::default();
    if d.next_arg() {
        if d.val() != "smallest" {
            return Err(d.err(format_args!("Invalid argument '{}'", d.val())));
        }
        chains.smallest = Some(true);
        no_args(d)?;
        let nesting = d.nesting();
        if d.next_block(nesting) {
            let message = "No more options are accepted when using the 'smallest' option";
            return Err(d.err(message));
        }
    }
    let nesting = d.nesting();
    while d.next_block(nesting) {
        match d.val() {
            "root_common_name" => {
                chains.root_common_name.extend(some_args(d)?);
                if !chains.any_common_name.is_empty() {
                    let message = "Can't set root_common_name when any_common_name is already set";
                    return Err(d.err(message));
                }
            }
            "any_common_name" => {
                chains.any_common_name.extend(some_args(d)?);
                if !chains.root_common_name.is_empty() {
                    let message = "Can't set any_common_name when root_common_name is already set";
                    return Err(d.err(message));
                }
            }
            other => {
                let error = d.err(format_args!("Received unrecognized parameter '{other}'"));
                return Err(d.did_you_mean(error, ["root_common_name", "any_common_name"]));
            }
        }
    }
    if chains == ChainPreference::default() {
        return Err(d.err("No options for preferred_chains received"));
    }
    Ok(chains)
}
