//! Issuers and DNS.
//!
//! ```text
//! cert_issuer <issuer> { … }        several are tried in order
//! acme_eab {
//!     key_id  <id>
//!     mac_key <key>
//! }
//! acme_dns [<provider> …]           without a provider: that of dns
//! dns <provider> …
//! tls_resolvers <address…>
//! preferred_chains smallest | { root_common_name <name…> | any_common_name <name…> }
//! ```

use caddis_caddyfile::Result as ParseResult;
use caddis_config::tls::ExternalAccount;
use serde_json::{Value as Json, json};

use super::{GlobalOption, OptionCx};
use crate::directives::tls::issuers;
use crate::dns::dns_provider;
use crate::issuer::SharedIssuer;
use crate::modules::{next_arg, no_args, payload, some_args};

/// The options of this file.
pub(super) const OPTIONS: &[GlobalOption] = &[
    GlobalOption { name: "cert_issuer", parse: cert_issuer },
    GlobalOption { name: "acme_eab", parse: acme_eab },
    GlobalOption { name: "acme_dns", parse: dns },
    GlobalOption { name: "dns", parse: dns },
    GlobalOption { name: "tls_resolvers", parse: tls_resolvers },
    GlobalOption { name: "preferred_chains", parse: preferred_chains },
];

fn cert_issuer(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.d.next();
    if !cx.d.next() {
        return Err(cx.d.arg_err());
    }
    let issuer = issuers::ISSUERS.parse(&mut cx.d)?;
    cx.options.cert_issuers.push(SharedIssuer::of(&issuer));
    let all = cx.options.values.entry(cx.name.to_owned()).or_insert_with(|| json!([]));
    if let Json::Array(all) = all {
        all.push(issuer);
    }
    Ok(())
}

fn acme_eab(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.d.next();
    no_args(&mut cx.d)?;
    let mut account = ExternalAccount::default();
    while cx.d.next_block(0) {
        match cx.d.val() {
            "key_id" => account.key_id = next_arg(&mut cx.d)?,
            "mac_key" => account.mac_key = next_arg(&mut cx.d)?,
            other => {
                let message = format!("unrecognized parameter '{other}'");
                return Err(cx.unknown(message, &["key_id", "mac_key"]));
            }
        }
    }
    let json = payload(&cx.d, &account)?;
    cx.set(json);
    Ok(())
}

fn dns(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.d.next();
    if !cx.d.next() {
        if cx.name != "acme_dns" {
            return Err(cx.d.arg_err());
        }
        cx.set(Json::Null);
        return Ok(());
    }
    let provider = dns_provider(&mut cx.d)?;
    cx.set(provider);
    Ok(())
}

fn tls_resolvers(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.d.next();
    let resolvers = some_args(&mut cx.d)?;
    cx.set(resolvers);
    Ok(())
}

fn preferred_chains(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.d.next();
    let chains = issuers::preferred_chains(&mut cx.d)?;
    let json = payload(&cx.d, &chains)?;
    cx.set(json);
    Ok(())
}
