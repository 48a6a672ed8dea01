//! The subdirectives of `reverse_proxy`, each with the function that reads it.

use std::collections::BTreeMap;

use caddis_caddyfile::{Dispenser, Result};
use caddis_config::{ModuleMap, value::split_host_port};
use caddis_core::Helper;
use caddis_http::handlers::headers::{HeaderOpsConfig, RespHeaderOpsConfig, request_op};

use super::{config::ResponseHandlerConfig, directive::Parsing};
use crate::parse::{
    argument, arguments, duration, duration_bare, duration_or_nanos, integer, no_more,
    only_argument, parse_integer, status,
};

pub(super) type Read = fn(&mut Helper<'_>, &mut Parsing) -> Result<()>;

/// All of them.
pub(super) const SUBDIRECTIVES: &[(&str, Read)] = &[
    ("to", |h, p| {
        let args = arguments(&mut h.d)?;
        p.add_upstreams(&h.d, &args)
    }),
    ("dynamic", |h, p| {
        argument(&mut h.d)?;
        if !p.config.dynamic_upstreams.is_null() {
            return Err(h.d.err("dynamic upstreams already specified"));
        }
        set(&mut p.config.dynamic_upstreams, crate::upstreams::parse(&mut h.d))
    }),
    ("lb_policy", |h, p| p.policy(&mut h.d)),
    ("lb_retries", |h, p| {
        set(&mut p.config.balancing().retries, integer(&mut h.d, "bad lb_retries number"))
    }),
    ("lb_try_duration", |h, p| {
        set(&mut p.config.balancing().try_duration, duration_bare(&mut h.d, "bad duration value"))
    }),
    ("lb_try_interval", |h, p| {
        set(&mut p.config.balancing().try_interval, duration(&mut h.d, "bad interval value"))
    }),
    ("lb_retry_match", |h, p| {
        let set =
            matcher_set(h).map_err(|error| error.context("failed to parse lb_retry_match"))?;
        p.config.balancing().retry_match.push(set);
        Ok(())
    }),
    ("health_uri", |h, p| set(&mut p.config.active().uri, argument(&mut h.d))),
    ("health_path", |h, p| {
        h.warn("the 'health_path' subdirective is deprecated, please use 'health_uri' instead!");
        set(&mut p.config.active().path, argument(&mut h.d))
    }),
    ("health_upstream", health_upstream),
    ("health_port", |h, p| {
        let text = argument(&mut h.d)?;
        if !p.config.active().upstream.is_empty() {
            return Err(h
                .d
                .err("the 'health_port' subdirective is ignored if 'health_upstream' is used!"));
        }
        let port = parse_integer(&text)
            .map_err(|error| h.d.err(format_args!("bad port number '{text}': {error}")))?;
        p.config.active().port = port;
        Ok(())
    }),
    ("health_headers", health_headers),
    ("health_method", |h, p| set(&mut p.config.active().method, argument(&mut h.d))),
    ("health_request_body", |h, p| set(&mut p.config.active().body, argument(&mut h.d))),
    ("health_interval", |h, p| {
        set(&mut p.config.active().interval, duration_bare(&mut h.d, "bad interval value"))
    }),
    ("health_timeout", |h, p| {
        set(&mut p.config.active().timeout, duration_bare(&mut h.d, "bad timeout value"))
    }),
    ("health_status", |h, p| {
        let text = argument(&mut h.d)?;
        set(&mut p.config.active().expect_status, status(&h.d, &text))
    }),
    ("health_body", |h, p| set(&mut p.config.active().expect_body, argument(&mut h.d))),
    ("health_follow_redirects", |h, p| {
        no_more(&mut h.d)?;
        p.config.active().follow_redirects = true;
        Ok(())
    }),
    ("health_passes", |h, p| {
        set(&mut p.config.active().passes, integer(&mut h.d, "invalid passes count"))
    }),
    ("health_fails", |h, p| {
        set(&mut p.config.active().fails, integer(&mut h.d, "invalid fails count"))
    }),
    ("max_fails", |h, p| {
        set(&mut p.config.passive().max_fails, integer(&mut h.d, "invalid maximum fail count"))
    }),
    ("fail_duration", |h, p| {
        set(&mut p.config.passive().fail_duration, duration(&mut h.d, "bad duration value"))
    }),
    ("unhealthy_request_count", |h, p| {
        let count = integer(&mut h.d, "invalid maximum connection count");
        set(&mut p.config.passive().unhealthy_request_count, count)
    }),
    ("unhealthy_status", |h, p| {
        for text in arguments(&mut h.d)? {
            let code = status(&h.d, &text)?;
            p.config.passive().unhealthy_status.push(code);
        }
        Ok(())
    }),
    ("unhealthy_latency", |h, p| {
        set(&mut p.config.passive().unhealthy_latency, duration(&mut h.d, "bad duration value"))
    }),
    ("flush_interval", |h, p| set(&mut p.config.flush_interval, duration_or_nanos(&mut h.d))),
    ("request_buffers", |h, p| set(&mut p.config.request_buffers, buffers(&mut h.d))),
    ("response_buffers", |h, p| set(&mut p.config.response_buffers, buffers(&mut h.d))),
    ("stream_buffer_size", |h, p| set(&mut p.config.stream_buffer_size, buffers(&mut h.d))),
    ("stream_timeout", |h, p| set(&mut p.config.stream_timeout, duration_or_nanos(&mut h.d))),
    ("stream_close_delay", |h, p| {
        set(&mut p.config.stream_close_delay, duration_or_nanos(&mut h.d))
    }),
    ("trusted_proxies", |h, p| {
        while h.d.next_arg() {
            if h.d.val() == "private_ranges" {
                let ranges = caddis_config::private_ranges().iter().map(|text| (*text).to_owned());
                p.config.trusted_proxies.extend(ranges);
            } else {
                p.config.trusted_proxies.push(h.d.val().to_owned());
            }
        }
        Ok(())
    }),
    ("header_up", header_up),
    ("header_down", header_down),
    ("method", |h, p| {
        set(&mut p.config.rewrite.get_or_insert_default().method, only_argument(&mut h.d))
    }),
    ("rewrite", |h, p| {
        set(&mut p.config.rewrite.get_or_insert_default().uri, only_argument(&mut h.d))
    }),
    ("transport", |h, p| p.transport(&mut h.d)),
    ("handle_response", |h, p| {
        p.handle_response.push(h.d.new_from_next_segment());
        Ok(())
    }),
    ("replace_status", replace_status),
    ("verbose_logs", |h, p| {
        if p.config.verbose_logs {
            return Err(h.d.err("verbose_logs already specified"));
        }
        p.config.verbose_logs = true;
        Ok(())
    }),
];

fn set<T>(target: &mut T, value: Result<T>) -> Result<()> {
    *target = value?;
    Ok(())
}

/// A set of request matchers, on the line or in a block.
fn matcher_set(h: &mut Helper<'_>) -> Result<ModuleMap> {
    let mut tokens: BTreeMap<String, Vec<caddis_caddyfile::Token>> = BTreeMap::new();
    let nesting = h.d.nesting();
    while h.d.next_arg() || h.d.next_block(nesting) {
        let token = h.d.token();
        if token.is_quoted() {
            // A quoted text is an expression.
            let name = caddis_caddyfile::Token { text: "expression".into(), ..token.clone() };
            let both = [name, token.clone()];
            tokens.entry("expression".to_owned()).or_default().extend(both);
            continue;
        }
        let name = token.text.to_string();
        tokens.entry(name).or_default().extend(h.d.next_segment().0);
    }
    let mut set = ModuleMap::new();
    for (name, tokens) in tokens {
        let Some(module) = h.registry.matcher(&name) else {
            return Err(h.d.err(format_args!(
                "getting matcher module '{name}': module not registered: http.matchers.{name}"
            )));
        };
        let mut inner = Dispenser::new(tokens);
        inner.next();
        set.insert(name, (module.parse)(&mut inner)?);
    }
    Ok(set)
}

fn health_upstream(h: &mut Helper<'_>, p: &mut Parsing) -> Result<()> {
    let text = argument(&mut h.d)?;
    let (_, port) = split_host_port(&text)
        .map_err(|error| h.d.err(format_args!("health_upstream is malformed '{text}': {error}")))?;
    parse_integer(port)
        .map_err(|error| h.d.err(format_args!("bad port number '{text}': {error}")))?;
    p.config.active().upstream = text;
    Ok(())
}

fn health_headers(h: &mut Helper<'_>, p: &mut Parsing) -> Result<()> {
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let nesting = h.d.nesting();
    while h.d.next_block(nesting) {
        let field = h.d.val().to_owned();
        let mut values = h.d.remaining_args();
        if values.is_empty() {
            values.push(String::new());
        }
        headers.entry(field).or_default().extend(values);
    }
    p.config.active().headers = headers;
    Ok(())
}

fn buffers(d: &mut Dispenser) -> Result<i64> {
    let text = argument(d)?;
    let size = if text == "unlimited" {
        -1
    } else {
        caddis_config::Size::parse(&text)
            .map_err(|error| d.err(format_args!("invalid byte size '{text}': {error}")))?
            .as_i64()
    };
    no_more(d)?;
    Ok(size)
}

fn header_op(h: &mut Helper<'_>, ops: &mut HeaderOpsConfig) -> Result<Vec<String>> {
    let args = h.d.remaining_args();
    let result = match args.as_slice() {
        [field] => request_op(ops, field, "", None),
        [field, value] => request_op(ops, field, value, None),
        [field, value, replacement] => request_op(ops, field, value, Some(replacement)),
        _ => return Err(h.d.arg_err()),
    };
    result.map_err(|error| h.d.err(error))?;
    Ok(args)
}

fn header_up(h: &mut Helper<'_>, p: &mut Parsing) -> Result<()> {
    let headers = p.config.headers.get_or_insert_default();
    let args = header_op(h, headers.request.get_or_insert_default())?;
    let [field, value] = args.as_slice() else { return Ok(()) };
    let usual: &[&str] = match field.to_ascii_lowercase().as_str() {
        "x-forwarded-for" => {
            &["remote", "http.request.remote", "remote_host", "http.request.remote.host"]
        }
        "x-forwarded-proto" => &["scheme", "http.request.scheme"],
        "x-forwarded-host" => &["host", "http.request.host", "hostport", "http.request.hostport"],
        _ => &[],
    };
    let key = value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or("");
    if usual.contains(&key) {
        let field = caddis_wire::canonical_name(field);
        h.warn(format!(
            "Unnecessary header_up {field}: the reverse proxy's default behavior is to pass \
             headers to the upstream"
        ));
    }
    Ok(())
}

fn header_down(h: &mut Helper<'_>, p: &mut Parsing) -> Result<()> {
    let response = p.config.headers.get_or_insert_default().response.get_or_insert_default();
    let RespHeaderOpsConfig { add, set, delete, replace, .. } = std::mem::take(response);
    let mut ops = HeaderOpsConfig { add, set, delete, replace };
    header_op(h, &mut ops)?;
    let HeaderOpsConfig { add, set, delete, replace } = ops;
    *response = RespHeaderOpsConfig { add, set, delete, replace, ..Default::default() };
    Ok(())
}

fn replace_status(h: &mut Helper<'_>, p: &mut Parsing) -> Result<()> {
    let args = h.d.remaining_args();
    let entry = match args.as_slice() {
        [name, code] => ResponseHandlerConfig {
            matcher: Some(p.matcher(&h.d, name)?),
            status_code: code.as_str().into(),
            ..ResponseHandlerConfig::default()
        },
        [code] => ResponseHandlerConfig { status_code: code.as_str().into(), ..Default::default() },
        _ => {
            return Err(h.d.err(
                "must have one or two arguments: an optional response matcher, and a status code",
            ));
        }
    };
    let nesting = h.d.nesting();
    if h.d.next_block(nesting) {
        return Err(h
            .d
            .err("cannot define routes for 'replace_status', use 'handle_response' instead."));
    }
    p.config.handle_response.push(entry);
    Ok(())
}
