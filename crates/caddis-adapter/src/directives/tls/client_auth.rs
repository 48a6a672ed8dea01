//! Client certificates.
//!
//! ```text
//! client_auth {
//!     mode request | require | verify_if_given | require_and_verify
//!     trust_pool <pool> …
//!     verifier leaf <loader> …
//!     trusted_ca_cert        <base64>      old
//!     trusted_ca_cert_file   <pem_file>    old
//!     trusted_leaf_cert      <base64>      old
//!     trusted_leaf_cert_file <pem_file>    old
//! }
//! ```

use caddis_caddyfile::{Dispenser, Result as ParseResult, nearest};
use caddis_config::tls::ClientAuthentication;
use serde_json::{Value as Json, json};

use super::managers::LEAF_LOADERS;
use super::trust_pools::POOLS;
use crate::modules::{Kind, next_arg};

const VERIFIERS: Kind =
    Kind { namespace: "tls.client_auth.verifier", key: "verifier", modules: &[("leaf", leaf)] };

const KNOWN: [&str; 7] = [
    "mode",
    "trust_pool",
    "verifier",
    "trusted_ca_cert",
    "trusted_ca_cert_file",
    "trusted_leaf_cert",
    "trusted_leaf_cert_file",
];

/// Reads the block; the cursor is before `client_auth`.
pub(super) fn parse(d: &mut Dispenser) -> ParseResult<ClientAuthentication> {
    d.next();
    d.remaining_args();
    let mut auth = ClientAuthentication::default();
    while d.next_block(0) {
        let word = d.val().to_owned();
        match word.as_str() {
            "mode" => {
                if d.count_remaining_args() > 1 {
                    return Err(d.arg_err());
                }
                auth.mode = next_arg(d)?;
            }
            "trust_pool" => {
                if !auth.trusted_ca_certs.is_empty() {
                    return Err(both(d));
                }
                auth.ca = Some(POOLS.parse_next_wrapped(d)?);
            }
            "verifier" => auth.verifiers.push(verifier(d)?),
            "trusted_ca_cert" | "trusted_ca_cert_file" => {
                if auth.ca.is_some() {
                    return Err(both(d));
                }
                let given = next_arg(d)?;
                auth.trusted_ca_certs.extend(certificates(d, &word, given)?);
            }
            "trusted_leaf_cert" | "trusted_leaf_cert_file" => {
                let given = next_arg(d)?;
                auth.trusted_leaf_certs.extend(certificates(d, &word, given)?);
            }
            _ => {
                let message = format_args!("unknown subdirective for client_auth: {word}");
                return Err(d.did_you_mean(d.err(message), KNOWN));
            }
        }
    }
    if !auth.trusted_ca_certs.is_empty() {
        let certificates = std::mem::take(&mut auth.trusted_ca_certs);
        auth.ca = Some(json!({ "provider": "inline", "trusted_ca_certs": certificates }));
    }
    Ok(auth)
}

/// Reads a verifier. A lone name that is not known is kept: whether there is such a module shows when
/// the configuration is loaded.
fn verifier(d: &mut Dispenser) -> ParseResult<Json> {
    let name = next_arg(d)?;
    let known = || VERIFIERS.modules.iter().map(|(name, _)| *name);
    let is_lone = d.count_remaining_args() == 0 && d.is_next_on_new_line();
    if is_lone && nearest(&name, known()).is_none() {
        return Ok(json!({ "verifier": name }));
    }
    VERIFIERS.parse(d)
}

fn both(d: &Dispenser) -> caddis_caddyfile::Diagnostic {
    d.err("cannot specify both 'trust_pool' and 'trusted_ca_cert' or 'trusted_ca_cert_file'")
}

/// Certificates in base64: the argument itself, or those in the file that it names.
fn certificates(d: &Dispenser, word: &str, given: String) -> ParseResult<Vec<String>> {
    if !word.ends_with("_file") {
        return Ok(vec![given]);
    }
    let pem = std::fs::read_to_string(&given).map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            _ => error.to_string(),
        };
        d.err(format_args!("open {given}: {why}"))
    })?;
    pem_bodies(&pem).ok_or_else(|| d.err(format_args!("no CERTIFICATE pem block found in {given}")))
}

/// The base64 bodies of the certificates in a PEM text; none if it has something else in it.
fn pem_bodies(pem: &str) -> Option<Vec<String>> {
    let mut bodies = Vec::new();
    let mut rest = pem;
    while let Some(start) = rest.find("-----BEGIN ") {
        let block = rest[start..].strip_prefix("-----BEGIN CERTIFICATE-----")?;
        let end = block.find("-----END CERTIFICATE-----")?;
        bodies.push(block[..end].split_whitespace().collect());
        rest = &block[end..];
    }
    (!bodies.is_empty()).then_some(bodies)
}

fn leaf(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    let mut loaders = Vec::new();
    if d.count_remaining_args() > 1 {
        loaders.push(LEAF_LOADERS.parse_next_wrapped(d)?);
    } else {
        d.remaining_args();
        while d.next_block(0) {
            loaders.push(LEAF_LOADERS.parse_wrapped(d)?);
        }
    }
    if loaders.is_empty() {
        return Ok(json!({}));
    }
    Ok(json!({ "leaf_certs_loaders": loaders }))
}

#[cfg(test)]
mod tests {
    use super::pem_bodies;

    #[test]
    fn bodies() {
        let pem = "x\n-----BEGIN CERTIFICATE-----\nAB\nCD\n-----END CERTIFICATE-----\n";
        assert_eq!(pem_bodies(&pem.repeat(2)), Some(vec!["ABCD".to_owned(), "ABCD".to_owned()]));
        assert_eq!(pem_bodies(""), None);
        assert_eq!(pem_bodies("-----BEGIN KEY-----"), None);
    }
}
