//! Certificate authorities.
//!
//! ```text
//! pki {
//!     ca [<id>] {
//!         name                  <name>
//!         root_cn               <name>
//!         intermediate_cn       <name>
//!         intermediate_lifetime <duration>
//!         maintenance_interval  <duration>
//!         renewal_window_ratio  <ratio>
//!         root | intermediate {
//!             cert   <file>
//!             key    <file>
//!             format <format>
//!         }
//!     }
//! }
//! ```

use caddis_caddyfile::{Diagnostic, Dispenser, Result as ParseResult};
use caddis_config::{Ca, Duration, KeyPair};

use super::{GlobalOption, OptionCx};
use crate::modules::{next_arg, no_args};

/// The options of this file.
pub(super) const OPTIONS: &[GlobalOption] = &[GlobalOption { name: "pki", parse: pki }];

fn pki(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.d.next();
    cx.options.cas.clear();
    while cx.d.next_block(0) {
        if cx.d.val() != "ca" {
            let message = format!("unrecognized pki option '{}'", cx.d.val());
            return Err(cx.unknown(message, &["ca"]));
        }
        let mut id = String::new();
        if cx.d.next_arg() {
            cx.d.val().clone_into(&mut id);
            no_args(&mut cx.d)?;
        }
        if id.is_empty() {
            "local".clone_into(&mut id);
        }
        let ca = ca(&mut cx.d)?;
        cx.options.cas.insert(id, ca);
    }
    cx.set(true);
    Ok(())
}

fn ca(d: &mut Dispenser) -> ParseResult<Ca> {
    const KNOWN: [&str; 8] = [
        "name",
        "root_cn",
        "intermediate_cn",
        "intermediate_lifetime",
        "maintenance_interval",
        "renewal_window_ratio",
        "root",
        "intermediate",
    ];
    let mut ca = Ca::default();
    let nesting = d.nesting();
    while d.next_block(nesting) {
        match d.val() {
            "name" => ca.name = next_arg(d)?,
            "root_cn" => ca.root_common_name = next_arg(d)?,
            "intermediate_cn" => ca.intermediate_common_name = next_arg(d)?,
            "intermediate_lifetime" => ca.intermediate_lifetime = duration(d)?,
            "maintenance_interval" => ca.maintenance_interval = duration(d)?,
            "renewal_window_ratio" => ca.renewal_window_ratio = ratio(d)?,
            "root" => key_pair(d, "root", ca.root.get_or_insert_default())?,
            "intermediate" => {
                key_pair(d, "intermediate", ca.intermediate.get_or_insert_default())?;
            }
            other => {
                let error = d.err(format_args!("unrecognized pki ca option '{other}'"));
                return Err(d.did_you_mean(error, KNOWN));
            }
        }
    }
    Ok(ca)
}

fn duration(d: &mut Dispenser) -> ParseResult<Duration> {
    let text = next_arg(d)?;
    // Caddy names no place here.
    Duration::parse(&text)
        .map_err(|error| Diagnostic::error(error).labelled(d.token(), "no duration"))
}

fn ratio(d: &mut Dispenser) -> ParseResult<f64> {
    let text = next_arg(d)?;
    text.parse().ok().filter(|ratio| *ratio > 0.0 && *ratio <= 1.0).ok_or_else(|| {
        d.err(format_args!("renewal_window_ratio must be a number in (0, 1], got {text}"))
    })
}

fn key_pair(d: &mut Dispenser, what: &str, pair: &mut KeyPair) -> ParseResult<()> {
    let nesting = d.nesting();
    while d.next_block(nesting) {
        match d.val() {
            "cert" => pair.certificate = next_arg(d)?,
            "key" => pair.private_key = next_arg(d)?,
            "format" => pair.format = next_arg(d)?,
            other => {
                let error = d.err(format_args!("unrecognized pki ca {what} option '{other}'"));
                return Err(d.did_you_mean(error, ["cert", "key", "format"]));
            }
        }
    }
    Ok(())
}
