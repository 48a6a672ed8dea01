//! Matchers and handlers in JSON.

use caddis_config::NetworkAddress;
use serde_json::Value as Json;

use super::{Findings, ports, proxy, texts};
use crate::lints::{admin, auth, headers, paths, regexps, tls};

/// A server and where it listens.
pub(super) struct At {
    listen: Vec<NetworkAddress>,
    /// Whether it speaks no TLS.
    is_plain: bool,
    /// Whether a rewrite may leave a path without its slash.
    rewritten: bool,
}

impl At {
    pub(super) fn new(config: &Json, server: &Json) -> Self {
        let listen = super::addresses(server);
        let policies = server.get("tls_connection_policies").and_then(Json::as_array);
        let automatic = server.get("automatic_https");
        let facts = auth::Facts {
            listen: &listen,
            has_policies: policies.is_some_and(|list| !list.is_empty()),
            trusts_proxies: server.get("trusted_proxies").is_some(),
            is_off: automatic.and_then(|one| one.get("disable")) == Some(&Json::Bool(true)),
            skip: automatic.into_iter().flat_map(|one| texts(one, "skip")).collect(),
            hosts: super::hosts(server).map(|(_, host)| host).collect(),
        };
        let is_plain = facts.is_plain(i64::from(ports::port(config, "http_port", 80)));
        Self { listen, is_plain, rewritten: rewrites(server) }
    }

    pub(super) fn object(&self, key: &str, object: &Json, path: &str, findings: &mut Findings<'_>) {
        match object.get("handler").and_then(Json::as_str) {
            Some("reverse_proxy") => proxy::run(object, &self.listen, path, findings),
            Some("authentication") => self.authentication(object, path, findings),
            Some("headers") => cors(object, path, findings),
            _ => {}
        }
        if object.get("handle").is_some() || object.get("match").is_some() {
            wildcards(object, path, self.rewritten, findings);
        }
        if key == "tls" && object.get("insecure_skip_verify").and_then(Json::as_bool) == Some(true)
        {
            let message = "the upstream's certificate is not verified";
            let help = "trust its certificate instead: `ca`, with the provider `file`";
            let label = "anyone can pose as the upstream";
            let path = format!("{path}.insecure_skip_verify");
            findings.add(&tls::INSECURE_UPSTREAM_TLS, path, message, label, help);
        }
        if let Some(pattern) = object.get("pattern").and_then(Json::as_str)
            && path.contains("_regexp")
            && let Some(label) = regexps::why_impossible(pattern, key == "path_regexp")
        {
            let message = format!("the pattern {pattern} can never match");
            let help = "what it is for never runs; correct the pattern";
            let path = format!("{path}.pattern");
            findings.add(&regexps::IMPOSSIBLE_REGEXP, path, message, label, help);
        }
        if key == "trusted_proxies" {
            let ranges = object.get("ranges").and_then(Json::as_array);
            for (at, range) in ranges.into_iter().flatten().enumerate() {
                if range.as_str().is_some_and(|range| ["0.0.0.0/0", "::/0"].contains(&range)) {
                    let message = "every client is trusted to name its own address";
                    let help = "list the proxies in front of this server";
                    let path = format!("{path}.ranges.{at}");
                    findings.add(&admin::TRUSTS_EVERYONE, path, message, "all addresses", help);
                }
            }
        }
    }

    fn authentication(&self, object: &Json, path: &str, findings: &mut Findings<'_>) {
        if self.is_plain && object.pointer("/providers/http_basic").is_some() {
            let message = "passwords are sent over plain HTTP";
            let help = "let the server speak TLS";
            let path = format!("{path}.providers.http_basic");
            findings.add(&auth::PLAIN_BASIC_AUTH, path, message, "asks for a password", help);
        }
    }
}

fn cors(object: &Json, path: &str, findings: &mut Findings<'_>) {
    let is = |name: &str, value: &str| {
        let set = object.pointer("/response/set").and_then(Json::as_object)?;
        let (key, values) = set.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        values.as_array()?.iter().any(|one| one == value).then_some(key)
    };
    if let Some(key) = is(headers::ALLOW_CREDENTIALS, "true")
        && is(headers::ALLOW_ORIGIN, "*").is_some()
    {
        let message = "browsers refuse credentials where the allowed origin is `*`";
        let path = format!("{path}.response.set.{key}");
        let help = "name the origin, or leave this away";
        findings.add(&headers::CORS_CREDENTIALS, path, message, "has no effect", help);
    }
}

/// Whether a path may lose its slash.
fn rewrites(json: &Json) -> bool {
    match json {
        Json::Object(object) => {
            let is_rewrite = object.get("handler").and_then(Json::as_str) == Some("rewrite");
            let uri = object.get("uri").and_then(Json::as_str).filter(|_| is_rewrite);
            uri.is_some_and(|uri| !uri.starts_with(['/', '{', '?']))
                || object.values().any(rewrites)
        }
        Json::Array(items) => items.iter().any(rewrites),
        _ => false,
    }
}

/// The directive that writes a handler.
fn directive(handler: &Json) -> &'static str {
    match handler.get("handler").and_then(Json::as_str) {
        Some("authentication") => "basic_auth",
        Some("file_server") => "file_server",
        Some("reverse_proxy") => "reverse_proxy",
        Some("subroute") => "handle",
        _ => "",
    }
}

/// The paths of the matchers of a route.
fn wildcards(route: &Json, path: &str, rewritten: bool, findings: &mut Findings<'_>) {
    let handlers = route.get("handle").and_then(Json::as_array);
    let directive = handlers.and_then(|list| list.first()).map_or("", directive);
    let sets = route.get("match").and_then(Json::as_array);
    for (at, set) in sets.into_iter().flatten().enumerate() {
        let is_alone = set.as_object().is_some_and(|set| set.len() == 1);
        for (number, pattern) in texts(set, "path").enumerate() {
            let path = format!("{path}.match.{at}.path.{number}");
            if let Some(label) = paths::why_impossible(pattern, rewritten) {
                let message = format!("the path {pattern} matches no request");
                let help =
                    "match a query by `query`, a host by `host`; a path begins with `/` or `*`";
                findings.add(&paths::IMPOSSIBLE_PATH, path, message, label, help);
            } else if is_alone && paths::is_suspicious(directive, pattern) {
                let base = pattern.trim_end_matches('/');
                let message = format!("this handler gets requests for exactly {pattern}");
                let help = match base {
                    "" => "leave the matcher away to match every request".to_owned(),
                    base => format!("for everything below write `{base}/*` (or `{base}*`)"),
                };
                let label = "matches this path alone";
                findings.add(&paths::PATH_WITHOUT_WILDCARD, path, message, label, help);
            }
        }
    }
}
