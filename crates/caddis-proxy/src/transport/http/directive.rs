//! `transport http { … }`.

use caddis_caddyfile::{Diagnostic, Dispenser, Result};
use caddis_config::module_object;
use serde_json::json;

use super::config::{HttpTransportConfig, KeepAliveConfig, ResolverConfig, TlsConfig};
use crate::parse::{argument, arguments, duration, integer, no_more, size, unknown_module};

type Option_ = fn(&mut Dispenser, &mut HttpTransportConfig) -> Result<()>;

const OPTIONS: &[(&str, Option_)] = &[
    ("read_buffer", |d, c| set(&mut c.read_buffer_size, size(d, "invalid read buffer size"))),
    ("write_buffer", |d, c| set(&mut c.write_buffer_size, size(d, "invalid write buffer size"))),
    ("read_timeout", |d, c| set(&mut c.read_timeout, duration(d, "invalid read timeout duration"))),
    ("write_timeout", |d, c| {
        set(&mut c.write_timeout, duration(d, "invalid write timeout duration"))
    }),
    ("max_response_header", |d, c| {
        set(&mut c.max_response_header_size, size(d, "invalid max response header size"))
    }),
    ("proxy_protocol", proxy_protocol),
    ("forward_proxy_url", |d, c| {
        let url = argument(d)?;
        c.network_proxy = json!({"from": "url", "url": url});
        Ok(())
    }),
    ("network_proxy", network_proxy),
    ("dial_timeout", |d, c| set(&mut c.dial_timeout, duration(d, "bad timeout value"))),
    ("dial_fallback_delay", |d, c| {
        set(&mut c.dial_fallback_delay, duration(d, "bad fallback delay value"))
    }),
    ("response_header_timeout", |d, c| {
        set(&mut c.response_header_timeout, duration(d, "bad timeout value"))
    }),
    ("expect_continue_timeout", |d, c| {
        set(&mut c.expect_continue_timeout, duration(d, "bad timeout value"))
    }),
    ("resolvers", |d, c| set(&mut c.resolver, resolvers(d).map(Some))),
    ("tls", |_, c| {
        tls(c);
        Ok(())
    }),
    ("tls_client_auth", client_auth),
    ("tls_insecure_skip_verify", |d, c| {
        no_more(d)?;
        tls(c).insecure_skip_verify = true;
        Ok(())
    }),
    ("tls_curves", |d, c| set(&mut tls(c).curves, arguments(d))),
    ("tls_timeout", |d, c| set(&mut tls(c).handshake_timeout, duration(d, "bad timeout value"))),
    ("tls_trusted_ca_certs", trusted_ca_certs),
    ("tls_trust_pool", trust_pool),
    ("tls_server_name", |d, c| set(&mut tls(c).server_name, argument(d))),
    ("tls_renegotiation", |d, c| {
        let text = argument(d)?;
        if !matches!(text.as_str(), "never" | "once" | "freely") {
            return Err(d.arg_err());
        }
        tls(c).renegotiation = text;
        Ok(())
    }),
    ("tls_except_ports", |d, c| set(&mut tls(c).except_ports, arguments(d))),
    ("keepalive", keepalive),
    ("keepalive_interval", |d, c| {
        set(&mut keep(c).probe_interval, duration(d, "bad interval value"))
    }),
    ("keepalive_idle_conns", |d, c| {
        set(&mut keep(c).max_idle_conns, integer(d, "bad integer value"))
    }),
    ("keepalive_idle_conns_per_host", |d, c| {
        set(&mut keep(c).max_idle_conns_per_host, integer(d, "bad integer value"))
    }),
    ("versions", |d, c| set(&mut c.versions, arguments(d))),
    ("compression", |d, c| {
        if d.next_arg() && d.val() == "off" {
            c.compression = Some(false);
        }
        Ok(())
    }),
    ("max_conns_per_host", |d, c| set(&mut c.max_conns_per_host, integer(d, "bad integer value"))),
    ("local_address", |d, c| set(&mut c.local_address, argument(d))),
];

/// Reads the block; the cursor stands before the transport's name.
pub(crate) fn parse(d: &mut Dispenser) -> Result<HttpTransportConfig> {
    let mut config = HttpTransportConfig::default();
    d.next();
    while d.next_block(0) {
        match OPTIONS.iter().find(|(name, _)| *name == d.val()) {
            Some((_, read)) => read(d, &mut config)?,
            None => {
                return Err(d.unrecognized("subdirective", OPTIONS.iter().map(|(name, _)| *name)));
            }
        }
    }
    Ok(config)
}

fn set<T>(target: &mut T, value: Result<T>) -> Result<()> {
    *target = value?;
    Ok(())
}

fn tls(config: &mut HttpTransportConfig) -> &mut TlsConfig {
    config.tls.get_or_insert_default()
}

fn keep(config: &mut HttpTransportConfig) -> &mut KeepAliveConfig {
    config.keep_alive.get_or_insert_default()
}

/// `resolvers ADDRESS...`
pub(crate) fn resolvers(d: &mut Dispenser) -> Result<ResolverConfig> {
    let addresses = d.remaining_args();
    if addresses.is_empty() {
        return Err(d.err("must specify at least one resolver address"));
    }
    Ok(ResolverConfig { addresses })
}

fn proxy_protocol(d: &mut Dispenser, config: &mut HttpTransportConfig) -> Result<()> {
    let version = argument(d)?;
    if !matches!(version.as_str(), "v1" | "v2") {
        return Err(d.err(format_args!("invalid proxy protocol version '{version}'")));
    }
    config.proxy_protocol = version;
    Ok(())
}

fn network_proxy(d: &mut Dispenser, config: &mut HttpTransportConfig) -> Result<()> {
    argument(d)?;
    let word = d.token().clone();
    let mut inner = d.new_from_next_segment();
    inner.next();
    config.network_proxy = match word.text.as_str() {
        // What else is on the line is not looked at, as in Caddy.
        "none" => json!({"from": "none"}),
        "url" => json!({"from": "url", "url": argument(&mut inner)?}),
        _ => return Err(unknown_module(&word, "caddy.network_proxy")),
    };
    Ok(())
}

fn client_auth(d: &mut Dispenser, config: &mut HttpTransportConfig) -> Result<()> {
    let tls = tls(config);
    match d.remaining_args().as_slice() {
        [name] => tls.client_certificate_automate.clone_from(name),
        [certificate, key] => {
            tls.client_certificate_file.clone_from(certificate);
            tls.client_certificate_key_file.clone_from(key);
        }
        _ => return Err(d.arg_err()),
    }
    Ok(())
}

fn trusted_ca_certs(d: &mut Dispenser, config: &mut HttpTransportConfig) -> Result<()> {
    let files = arguments(d)?;
    let tls = tls(config);
    if !tls.ca.is_null() {
        return Err(d.err("cannot specify both 'tls_trust_pool' and 'tls_trusted_ca_certs"));
    }
    tls.root_ca_pem_files = files;
    Ok(())
}

fn trust_pool(d: &mut Dispenser, config: &mut HttpTransportConfig) -> Result<()> {
    argument(d)?;
    let pool = pool_module(d)?;
    let tls = tls(config);
    if !tls.root_ca_pem_files.is_empty() {
        return Err(d.err("cannot specify both 'tls_trust_pool' and 'tls_trusted_ca_certs'"));
    }
    if !tls.ca.is_null() {
        return Err(d.err("cannot specify \"tls_trust_pool\" twice in caddyfile"));
    }
    tls.ca = pool;
    Ok(())
}

/// A trust pool whose name is the current token.
fn pool_module(d: &mut Dispenser) -> Result<serde_json::Value> {
    let word = d.token().clone();
    let name = word.text.to_string();
    let mut inner = d.new_from_next_segment();
    inner.next();
    let payload = match name.as_str() {
        "inline" => pool_inline(&mut inner)?,
        "file" => pool_list(&mut inner, "pem_file", "pem_files")?,
        "pki_root" | "pki_intermediate" => pool_list(&mut inner, "authority", "authority")?,
        "system" => json!({}),
        "http" => pool_list(&mut inner, "endpoints", "endpoints")?,
        "storage" => pool_storage(&mut inner)?,
        "combined" => pool_combined(&mut inner)?,
        _ => return Err(unknown_module(&word, "tls.ca_pool.source")),
    };
    Ok(module_object(payload, "provider", &name))
}

fn pool_inline(d: &mut Dispenser) -> Result<serde_json::Value> {
    no_more(d)?;
    let mut certificates = Vec::new();
    while d.next_block(0) {
        match d.val() {
            "trust_der" => certificates.extend(d.remaining_args()),
            _ => return Err(unrecognized(d)),
        }
    }
    if certificates.is_empty() {
        return Err(d.err("no certificates specified"));
    }
    Ok(json!({ "trusted_ca_certs": certificates }))
}

fn pool_list(d: &mut Dispenser, option: &str, key: &str) -> Result<serde_json::Value> {
    let mut items = d.remaining_args();
    while d.next_block(0) {
        if d.val() != option {
            return Err(unrecognized(d));
        }
        items.extend(d.remaining_args());
    }
    if items.is_empty() {
        return Err(d.err(match key {
            "pem_files" => "no certificates specified",
            "authority" => "no authorities specified",
            _ => "no endpoints specified",
        }));
    }
    Ok(json!({ key: items }))
}

fn pool_storage(d: &mut Dispenser) -> Result<serde_json::Value> {
    no_more(d)?;
    let mut keys = Vec::new();
    while d.next_block(0) {
        match d.val() {
            "keys" => keys.extend(d.remaining_args()),
            "storage" => return Err(d.err("storage modules are not supported in trust pools yet")),
            _ => return Err(unrecognized(d)),
        }
    }
    Ok(json!({ "pem_keys": keys }))
}

fn pool_combined(d: &mut Dispenser) -> Result<serde_json::Value> {
    no_more(d)?;
    let mut sources = Vec::new();
    while d.next_block(0) {
        if d.val() != "source" {
            return Err(unrecognized(d));
        }
        argument(d)?;
        sources.push(pool_module(d)?);
    }
    Ok(json!({ "sources": sources }))
}

fn unrecognized(d: &Dispenser) -> Diagnostic {
    d.err(format_args!("unrecognized directive: {}", d.val()))
}

fn keepalive(d: &mut Dispenser, config: &mut HttpTransportConfig) -> Result<()> {
    let text = argument(d)?;
    let keep = keep(config);
    if text == "off" {
        keep.enabled = Some(false);
        return Ok(());
    }
    d.prev();
    keep.idle_timeout = duration(d, "bad duration value")?;
    Ok(())
}
