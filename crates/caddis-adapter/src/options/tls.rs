//! Other options of TLS.
//!
//! ```text
//! on_demand_tls {
//!     ask        <url>
//!     permission <module> { … }
//! }
//! ocsp_stapling off
//! renewal_window_ratio <ratio>
//! ech <public_name…> {
//!     dns <provider> …
//! }
//! ```

use caddis_caddyfile::Result as ParseResult;
use caddis_config::tls::{Ech, EchConfiguration, EchPublication, OnDemandConfig};
use serde_json::json;

use super::simple::single;
use super::{GlobalOption, OptionCx};
use crate::directives::tls::managers::PERMISSIONS;
use crate::directives::tls::window_ratio;
use crate::dns::dns_provider;
use crate::modules::{next_arg, no_args, one_arg, some_args};

/// The options of this file.
pub(super) const OPTIONS: &[GlobalOption] = &[
    GlobalOption { name: "on_demand_tls", parse: on_demand_tls },
    GlobalOption { name: "ocsp_stapling", parse: ocsp_stapling },
    GlobalOption { name: "renewal_window_ratio", parse: renewal_window_ratio },
    GlobalOption { name: "ech", parse: ech },
];

fn on_demand_tls(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.d.next();
    no_args(&mut cx.d)?;
    let mut permission = None;
    while cx.d.next_block(0) {
        let word = cx.d.val().to_owned();
        match word.as_str() {
            "ask" | "permission" => {
                let name = next_arg(&mut cx.d)?;
                if permission.is_some() {
                    let message = "on-demand TLS permission module (or 'ask') already specified";
                    return Err(cx.d.err(message));
                }
                permission = Some(match word.as_str() {
                    "ask" => json!({ "endpoint": name, "module": "http" }),
                    _ => PERMISSIONS.parse(&mut cx.d)?,
                });
            }
            "interval" | "burst" => {
                return Err(cx.d.err(format_args!(
                    "the on_demand_tls '{word}' option is no longer supported, remove it from your config"
                )));
            }
            _ => {
                let message = format!("unrecognized parameter '{word}'");
                return Err(cx.unknown(message, &["ask", "permission"]));
            }
        }
    }
    if permission.is_none() {
        return Err(cx.d.err("expected at least one config parameter for on_demand_tls"));
    }
    cx.options.on_demand = Some(OnDemandConfig { permission, ..OnDemandConfig::default() });
    cx.set(true);
    Ok(())
}

fn ocsp_stapling(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.d.next();
    let word = one_arg(&mut cx.d)?;
    if word != "off" {
        return Err(cx.d.err(format_args!("invalid argument '{word}'")));
    }
    cx.set(word);
    Ok(())
}

fn renewal_window_ratio(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    let text = single(cx)?;
    let ratio = window_ratio(&cx.d, &text)?;
    cx.set(ratio);
    Ok(())
}

fn ech(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.d.next();
    let names = some_args(&mut cx.d)?;
    let configuration = |name: &String| EchConfiguration { public_name: name.clone() };
    let mut ech = Ech { configs: names.iter().map(configuration).collect(), ..Ech::default() };
    while cx.d.next_block(0) {
        if cx.d.val() != "dns" {
            let message = format!("ech: unrecognized subdirective '{}'", cx.d.val());
            return Err(cx.unknown(message, &["dns"]));
        }
        if !cx.d.next() {
            return Err(cx.d.arg_err());
        }
        let provider = dns_provider(&mut cx.d)?;
        ech.publication.get_or_insert_default().push(EchPublication {
            configs: Some(names.clone()),
            publishers: [("dns".to_owned(), json!({ "provider": provider }))].into(),
            ..EchPublication::default()
        });
    }
    cx.options.ech = Some(ech);
    cx.set(true);
    Ok(())
}
