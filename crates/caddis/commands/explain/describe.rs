//! Matchers and handlers in words.

use caddis_core::{Exchange, Template};
use serde_json::Value as Json;

/// Longest text that is shown of a value.
const LONGEST: usize = 100;

/// A JSON value on one line, cut where it is long.
pub(super) fn brief(json: &Json) -> String {
    let mut text = match json {
        Json::String(text) => text.clone(),
        Json::Array(items) => items.iter().map(brief).collect::<Vec<_>>().join(" "),
        Json::Object(object) => object
            .iter()
            .map(|(key, value)| format!("{key} {}", brief(value)))
            .collect::<Vec<_>>()
            .join(", "),
        other => other.to_string(),
    };
    text = text.replace('\n', "\\n");
    if text.chars().count() > LONGEST {
        text = text.chars().take(LONGEST).chain(['…']).collect();
    }
    text
}

/// What a matcher looked at.
pub(super) fn seen(name: &str, json: &Json, ex: &Exchange) -> String {
    match name {
        "path" | "path_regexp" => format!("the path is {}", ex.request.target.path()),
        "host" => format!("the host is {}", ex.host()),
        "method" => format!("the method is {}", ex.request.method),
        "protocol" => format!("the request came by {}", ex.scheme()),
        "query" => format!("the query is '{}'", ex.request.target.query().unwrap_or_default()),
        "remote_ip" => {
            let peer = ex.connection.remote.map_or_else(String::new, |peer| peer.ip().to_string());
            format!("the client is {peer}")
        }
        "client_ip" => {
            format!("the client is {}", ex.client_ip.map_or_else(String::new, |ip| ip.to_string()))
        }
        "header" | "header_regexp" => {
            let fields = json.as_object().into_iter().flatten().map(|(field, _)| {
                let value = ex.request.headers.get(field).and_then(|value| value.to_str().ok());
                match value {
                    Some(value) => format!("{field} is '{value}'"),
                    None => format!("{field} is absent"),
                }
            });
            fields.collect::<Vec<_>>().join(", ")
        }
        _ => String::new(),
    }
}

fn text<'a>(json: &'a Json, pointer: &str) -> Option<&'a str> {
    json.pointer(pointer)?.as_str()
}

fn duration(json: &Json, pointer: &str) -> Option<String> {
    let nanos = json.pointer(pointer)?.as_i64()?;
    Some(caddis_config::Duration::from_nanos(nanos).to_string())
}

/// What a handler does, beyond its name.
pub(super) fn handler(json: &Json, ex: &Exchange) -> Vec<String> {
    match text(json, "/handler").unwrap_or_default() {
        "reverse_proxy" => proxy(json, ex),
        "rewrite" => {
            let fields =
                json.as_object().into_iter().flatten().filter(|(key, _)| *key != "handler");
            fields.map(|(key, value)| format!("{key} {}", brief(value))).collect()
        }
        "vars" | "map" | "encode" | "headers" | "request_body" | "log_append" => {
            let mut rest = json.clone();
            if let Some(object) = rest.as_object_mut() {
                object.remove("handler");
            }
            vec![brief(&rest)].into_iter().filter(|text| !text.is_empty()).collect()
        }
        _ => Vec::new(),
    }
}

fn proxy(json: &Json, ex: &Exchange) -> Vec<String> {
    let mut lines = Vec::new();
    let dials: Vec<String> = json
        .pointer("/upstreams")
        .and_then(Json::as_array)
        .into_iter()
        .flatten()
        .filter_map(|upstream| upstream.get("dial")?.as_str())
        .map(|dial| Template::parse(dial).render(ex).into_owned())
        .collect();
    if let Some(source) = text(json, "/dynamic_upstreams/source") {
        lines.push(format!("upstreams by {source} lookup"));
    } else {
        lines.push(format!("upstreams: {}", dials.join(", ")));
    }
    let policy = text(json, "/load_balancing/selection_policy/policy").unwrap_or("random");
    if dials.len() > 1 || json.pointer("/dynamic_upstreams").is_some() {
        let weights = json.pointer("/load_balancing/selection_policy/weights").map(brief);
        let weights = weights.map_or(String::new(), |weights| format!(" (weights {weights})"));
        lines.push(format!("policy: {policy}{weights}"));
    }
    if let Some(time) = duration(json, "/load_balancing/try_duration") {
        lines.push(format!("tries for {time}"));
    }
    if let Some(uri) = text(json, "/health_checks/active/uri") {
        let every = duration(json, "/health_checks/active/interval").unwrap_or("30s".into());
        lines.push(format!("only upstreams that answered {uri} well (asked every {every})"));
    }
    if let Some(time) = duration(json, "/health_checks/passive/fail_duration") {
        lines.push(format!("an upstream that fails is left out for {time}"));
    }
    let protocol = text(json, "/transport/protocol").unwrap_or("http");
    let tls = if json.pointer("/transport/tls").is_some() { " over TLS" } else { "" };
    if protocol != "http" || !tls.is_empty() {
        lines.push(format!("transport: {protocol}{tls}"));
    }
    if let Some(rewrite) = json.pointer("/rewrite") {
        lines.push(format!("asks for: {}", brief(rewrite)));
    }
    lines
}
