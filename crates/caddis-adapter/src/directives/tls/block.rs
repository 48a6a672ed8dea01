//! The block of `tls`.

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::Duration;
use caddis_config::tls::{AcmeIssuer, ExternalAccount};
use caddis_core::Helper;

use super::{Tls, client_auth, issuers, managers, names, window_ratio};
use crate::dns::dns_provider;
use crate::issuer::dns_challenge;
use crate::modules::{duration, next_arg, no_args, some_args};

/// Words of the block.
const KNOWN: [&str; 22] = [
    "protocols",
    "ciphers",
    "curves",
    "client_auth",
    "alpn",
    "load",
    "ca",
    "ca_root",
    "key_type",
    "eab",
    "issuer",
    "get_certificate",
    "dns",
    "resolvers",
    "propagation_delay",
    "propagation_timeout",
    "dns_ttl",
    "dns_challenge_override_domain",
    "on_demand",
    "reuse_private_keys",
    "insecure_secrets_log",
    "renewal_window_ratio",
];

/// Reads the block; says whether there is one.
pub(super) fn parse(h: &mut Helper<'_>, tls: &mut Tls) -> ParseResult<bool> {
    let mut any = false;
    while h.d.next_block(0) {
        any = true;
        let word = h.d.val().to_owned();
        if handshake(&mut h.d, &word, tls)? || certificates(&mut h.d, &word, tls)? {
            continue;
        }
        if !KNOWN.contains(&word.as_str()) {
            let error = h.d.err(format_args!("unknown subdirective: {word}"));
            return Err(h.d.did_you_mean(error, KNOWN));
        }
        let issuer = tls.acme.get_or_insert_default();
        acme(h, &word, issuer, &mut tls.dns_settings)?;
    }
    Ok(any)
}

/// Settings of handshakes. Says whether the word is one.
fn handshake(d: &mut Dispenser, word: &str, tls: &mut Tls) -> ParseResult<bool> {
    let policy = &mut tls.policy;
    match word {
        "protocols" => {
            let args = d.remaining_args();
            if args.is_empty() {
                return Err(d.err("protocols requires one or two arguments"));
            }
            for protocol in args.iter().take(2) {
                names::check_protocol(d, protocol)?;
            }
            policy.protocol_min.clone_from(&args[0]);
            if let Some(max) = args.get(1) {
                policy.protocol_max.clone_from(max);
            }
        }
        "ciphers" => {
            while d.next_arg() {
                names::check_cipher(d)?;
                policy.cipher_suites.push(d.val().to_owned());
            }
        }
        "curves" => {
            while d.next_arg() {
                names::check_curve(d)?;
                policy.curves.push(d.val().to_owned());
            }
        }
        "client_auth" => {
            let mut inner = d.new_from_next_segment();
            policy.client_authentication = Some(client_auth::parse(&mut inner)?);
        }
        "alpn" => policy.alpn = Some(some_args(d)?),
        "insecure_secrets_log" => policy.insecure_secrets_log = next_arg(d)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// Settings of certificates, whoever issues them. Says whether the word is one.
fn certificates(d: &mut Dispenser, word: &str, tls: &mut Tls) -> ParseResult<bool> {
    match word {
        "load" => tls.folders.extend(d.remaining_args()),
        "key_type" => tls.key_type = only_arg(d)?,
        "issuer" => tls.issuers.push(issuers::ISSUERS.parse_next(d)?),
        "get_certificate" => tls.managers.push(managers::MANAGERS.parse_next(d)?),
        "on_demand" => {
            no_args(d)?;
            tls.on_demand = true;
        }
        "reuse_private_keys" => {
            no_args(d)?;
            tls.reuse_private_keys = true;
        }
        "renewal_window_ratio" => {
            let text = only_arg(d)?;
            tls.renewal_window_ratio = Some(window_ratio(d, &text)?);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Settings of ACME issuers.
fn acme(
    h: &mut Helper<'_>,
    word: &str,
    acme: &mut AcmeIssuer,
    dns_settings: &mut Vec<&'static str>,
) -> ParseResult<()> {
    let d = &mut h.d;
    match word {
        "ca" => acme.ca = only_arg(d)?,
        "ca_root" => acme.trusted_roots_pem_files.push(only_arg(d)?),
        "eab" => match d.remaining_args().as_slice() {
            [key_id, mac_key] => {
                let (key_id, mac_key) = (key_id.clone(), mac_key.clone());
                acme.external_account = Some(ExternalAccount { key_id, mac_key });
            }
            _ => return Err(d.arg_err()),
        },
        "dns" => {
            if d.next_arg() {
                let provider = dns_provider(d)?;
                dns_challenge(acme).provider = Some(provider);
            } else if h.options.get("dns").is_none_or(|dns| dns.is_null()) {
                return Err(d.arg_err());
            } else {
                dns_challenge(acme);
            }
        }
        "resolvers" => {
            dns_challenge(acme).resolvers = some_args(d)?;
            dns_settings.push("resolvers");
        }
        "propagation_delay" => {
            dns_challenge(acme).propagation_delay = only_duration(d, word)?;
            dns_settings.push("propagation_delay");
        }
        "propagation_timeout" => {
            let text = only_arg(d)?;
            dns_challenge(acme).propagation_timeout = propagation_timeout(d, &text)?;
            dns_settings.push("propagation_timeout");
        }
        "dns_ttl" => {
            dns_challenge(acme).ttl = only_duration(d, word)?;
            dns_settings.push("dns_ttl");
        }
        "dns_challenge_override_domain" => {
            dns_challenge(acme).override_domain = only_arg(d)?;
            dns_settings.push("dns_challenge_override_domain");
        }
        _ => {}
    }
    Ok(())
}

/// The only argument; the cursor is on the last one if there are several.
pub(super) fn only_arg(d: &mut Dispenser) -> ParseResult<String> {
    let mut args = d.remaining_args();
    match args.len() {
        1 => Ok(args.swap_remove(0)),
        _ => Err(d.arg_err()),
    }
}

fn only_duration(d: &mut Dispenser, word: &str) -> ParseResult<Duration> {
    let text = only_arg(d)?;
    duration(d, &text, &format!("invalid {word} duration {text}"))
}

/// A duration, or `-1` for no check at all.
pub(super) fn propagation_timeout(d: &Dispenser, text: &str) -> ParseResult<Duration> {
    if text == "-1" {
        return Ok(Duration::from_nanos(-1));
    }
    duration(d, text, &format!("invalid propagation_timeout duration {text}"))
}
