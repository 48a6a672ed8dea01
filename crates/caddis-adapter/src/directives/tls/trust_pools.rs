//! Pools of authorities that client certificates are checked against.
//!
//! ```text
//! inline { trust_der <base64…> }
//! file <pem_file…> { pem_file <file…> }
//! pki_root | pki_intermediate <id…> { authority <id…> }
//! storage <key…> { storage <module> …; keys <key…> }
//! http <url…> { endpoints <url…>; tls { … } }
//! system
//! combined { source <pool> … }
//! ```

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use serde_json::{Value as Json, json};

use crate::fields::Fields;
use crate::modules::{Kind, duration, next_arg, no_args, some_args};
use crate::storage::STORAGE;

/// `trust_pool`.
pub(super) const POOLS: Kind = Kind {
    namespace: "tls.ca_pool.source",
    key: "provider",
    modules: &[
        ("inline", inline),
        ("file", file),
        ("pki_root", authorities),
        ("pki_intermediate", authorities),
        ("storage", storage),
        ("http", http),
        ("system", system),
        ("combined", combined),
    ],
};

/// Arguments of the first line and of one word in the block.
fn listed(d: &mut Dispenser, word: &str, field: &str, none: &str) -> ParseResult<Json> {
    d.next();
    let mut all = d.remaining_args();
    while d.next_block(0) {
        if d.val() != word {
            return Err(unknown(d, &[word]));
        }
        all.extend(d.remaining_args());
    }
    if all.is_empty() {
        return Err(d.err(none));
    }
    let mut fields = Fields::default();
    fields.list(field, all);
    Ok(fields.into())
}

fn unknown(d: &Dispenser, known: &[&str]) -> caddis_caddyfile::Diagnostic {
    let error = d.err(format_args!("unrecognized directive: {}", d.val()));
    d.did_you_mean(error, known.iter().copied())
}

fn inline(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    if d.count_remaining_args() > 0 {
        return Err(d.arg_err());
    }
    d.reset();
    listed(d, "trust_der", "trusted_ca_certs", "no certificates specified")
}

fn file(d: &mut Dispenser) -> ParseResult<Json> {
    listed(d, "pem_file", "pem_files", "no certificates specified")
}

fn authorities(d: &mut Dispenser) -> ParseResult<Json> {
    listed(d, "authority", "authority", "no authorities specified")
}

fn storage(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    let mut keys = d.remaining_args();
    let mut module = None;
    while d.next_block(0) {
        match d.val() {
            "storage" if module.is_some() => return Err(d.err("storage module already set")),
            "storage" => module = Some(STORAGE.parse_next(d)?),
            "keys" => keys.extend(d.remaining_args()),
            _ => return Err(unknown(d, &["storage", "keys"])),
        }
    }
    let mut fields = Fields::default();
    fields.set("storage", module);
    fields.list("pem_keys", keys);
    Ok(fields.into())
}

fn http(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    let mut endpoints = d.remaining_args();
    let mut tls = None;
    while d.next_block(0) {
        match d.val() {
            "endpoints" => endpoints.extend(some_args(d)?),
            "tls" if tls.is_some() => return Err(d.err("tls block already defined")),
            "tls" => tls = Some(client_tls(d)?),
            _ => return Err(unknown(d, &["endpoints", "tls"])),
        }
    }
    let mut fields = Fields::default();
    fields.list("endpoints", endpoints);
    fields.set("tls", tls);
    Ok(fields.into())
}

/// TLS towards the endpoints.
fn client_tls(d: &mut Dispenser) -> ParseResult<Json> {
    const KNOWN: [&str; 5] =
        ["ca", "insecure_skip_verify", "handshake_timeout", "server_name", "renegotiation"];
    let mut fields = Fields::default();
    let nesting = d.nesting();
    while d.next_block(nesting) {
        match d.val() {
            "ca" => fields.set("ca", POOLS.parse_next(d)?),
            "insecure_skip_verify" => fields.flag("insecure_skip_verify"),
            "handshake_timeout" => {
                let text = next_arg(d)?;
                let timeout = duration(d, &text, &format!("bad timeout value '{text}'"))?;
                fields.integer("handshake_timeout", timeout.as_nanos());
            }
            "server_name" => fields.text("server_name", next_arg(d)?),
            "renegotiation" => {
                let level = next_arg(d)?;
                if !["never", "once", "freely"].contains(&level.as_str()) {
                    // Caddy's sentence ends here; the level is drawn.
                    let error = d.err("unrecognized renegotiation level: ");
                    return Err(error.help("one of: never, once, freely"));
                }
                fields.text("renegotiation", level);
            }
            _ => return Err(unknown(d, &KNOWN)),
        }
    }
    Ok(fields.into())
}

fn system(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    no_args(d)?;
    if d.next_block(0) {
        return Err(d.err("system trust pool does not support any configuration"));
    }
    Ok(json!({}))
}

fn combined(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    no_args(d)?;
    let mut sources = Vec::new();
    while d.next_block(0) {
        if d.val() != "source" {
            return Err(unknown(d, &["source"]));
        }
        sources.push(POOLS.parse_next(d)?);
    }
    if sources.is_empty() {
        return Err(d.err("no sources specified"));
    }
    Ok(json!({ "sources": sources }))
}
