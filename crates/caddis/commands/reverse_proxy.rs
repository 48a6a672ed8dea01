//! `caddis reverse-proxy`: made of a Caddyfile, so that addresses mean the same as there.

use super::Outcome;
use crate::{args::ReverseProxy, registry, source};

/// Proxies until stopped.
pub(crate) fn reverse_proxy(flags: &ReverseProxy) -> Outcome {
    if flags.to.is_empty() {
        return Err("--to is required".into());
    }
    let text = caddyfile(flags)?;
    let logging = caddis_logging::init();
    let (json, _, _) =
        source::adapt_caddyfile("reverse-proxy", text.as_bytes(), &registry::standard())
            .map_err(|failure| super::drawn(&failure))?;
    tracing::info!(from = flags.from, to = flags.to.join(" "), "proxying");
    super::run::serve(json, logging, None, None, None)
}

fn caddyfile(flags: &ReverseProxy) -> Result<String, String> {
    let mut text = String::from("{\n\tadmin off\n\tpersist_config off\n");
    if flags.debug {
        text.push_str("\tdebug\n");
    }
    if flags.disable_redirects {
        text.push_str("\tauto_https disable_redirects\n");
    }
    text.push_str("}\n");
    text.push_str(&format!("{} {{\n", quote(&flags.from)?));
    if flags.access_log {
        text.push_str("\tlog\n");
    }
    if flags.internal_certs {
        text.push_str("\ttls internal\n");
    }
    text.push_str("\treverse_proxy");
    for to in &flags.to {
        text.push_str(&format!(" {}", quote(to)?));
    }
    text.push_str(" {\n");
    for (name, all) in [("header_up", &flags.header_up), ("header_down", &flags.header_down)] {
        for header in all {
            let (field, value) = header
                .split_once(':')
                .ok_or_else(|| format!("header '{header}' is not of the form 'Field: value'"))?;
            text.push_str(&format!(
                "\t\t{name} {} {}\n",
                quote(field.trim())?,
                quote(value.trim())?
            ));
        }
    }
    if flags.change_host_header {
        text.push_str("\t\theader_up Host {upstream_hostport}\n");
    }
    if flags.insecure {
        text.push_str("\t\ttransport http {\n\t\t\ttls_insecure_skip_verify\n\t\t}\n");
    }
    text.push_str("\t}\n}\n");
    Ok(text)
}

/// A word of a Caddyfile.
fn quote(word: &str) -> Result<String, String> {
    if word.contains('`') || word.contains('\n') {
        return Err(format!("'{word}' cannot be used here"));
    }
    Ok(format!("`{word}`"))
}
