//! Options with one plain value.
//!
//! ```text
//! debug   local_certs   skip_install_trust
//! http_port <port>      https_port <port>
//! email <address>       default_sni <name>    fallback_sni <name>
//! acme_ca <url>         acme_ca_root <file>   key_type <type>
//! grace_period | shutdown_delay | renew_interval | ocsp_interval | cert_lifetime  <duration>
//! ```

use caddis_caddyfile::{Diagnostic, Result as ParseResult};
use caddis_config::Duration;

use super::{GlobalOption, OptionCx};
use crate::modules::{integer, one_arg};

/// The options of this file.
pub(super) const OPTIONS: &[GlobalOption] = &[
    GlobalOption { name: "debug", parse: flag },
    GlobalOption { name: "local_certs", parse: flag },
    GlobalOption { name: "skip_install_trust", parse: flag },
    GlobalOption { name: "http_port", parse: port },
    GlobalOption { name: "https_port", parse: port },
    GlobalOption { name: "email", parse: text },
    GlobalOption { name: "default_sni", parse: text },
    GlobalOption { name: "fallback_sni", parse: text },
    GlobalOption { name: "acme_ca", parse: text },
    GlobalOption { name: "acme_ca_root", parse: text },
    GlobalOption { name: "key_type", parse: text },
    GlobalOption { name: "grace_period", parse: duration },
    GlobalOption { name: "shutdown_delay", parse: duration },
    GlobalOption { name: "renew_interval", parse: duration },
    GlobalOption { name: "ocsp_interval", parse: duration },
    GlobalOption { name: "cert_lifetime", parse: duration },
];

fn flag(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.set(true);
    Ok(())
}

fn port(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.d.next();
    let text = one_arg(&mut cx.d)?;
    let port = integer(&cx.d, &text, &format!("converting port '{text}' to integer value"))?;
    cx.set(port);
    Ok(())
}

/// The one token after the name, on whatever line.
pub(super) fn single(cx: &mut OptionCx<'_>) -> ParseResult<String> {
    cx.d.next();
    if !cx.d.next() {
        return Err(cx.d.arg_err());
    }
    let text = cx.d.val().to_owned();
    if cx.d.next() {
        return Err(cx.d.arg_err());
    }
    Ok(text)
}

fn text(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    let text = single(cx)?;
    cx.set(text);
    Ok(())
}

fn duration(cx: &mut OptionCx<'_>) -> ParseResult<()> {
    cx.d.next();
    if !cx.d.next() {
        return Err(cx.d.arg_err());
    }
    // Caddy names no place here.
    let duration = Duration::parse(cx.d.val())
        .map_err(|error| Diagnostic::error(error).labelled(cx.d.token(), "no duration"))?;
    cx.set(duration.as_nanos());
    Ok(())
}
