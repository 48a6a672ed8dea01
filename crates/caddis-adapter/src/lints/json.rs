//! The lints that need no Caddyfile, for configurations that are written as JSON.

use caddis_caddyfile::Diagnostic;
use caddis_config::{Duration, NetworkAddress};
use serde_json::Value as Json;

use super::{Lint, admin, health, reach, regexps, tls, upstreams};

/// What a lint found in a JSON configuration.
#[derive(Debug)]
pub struct JsonFinding {
    /// The dotted path of the part at fault, such as `apps.http.servers.srv0.routes.0`.
    pub path: String,
    /// The warning, without labels.
    pub warning: Diagnostic,
    /// A word for the place.
    pub label: &'static str,
}

/// Runs the lints that make sense on a JSON configuration, except the allowed ones, in the order of
/// their paths.
pub fn run_json(config: &Json, allowed: &[String]) -> Vec<JsonFinding> {
    let mut findings = Findings { allowed, list: Vec::new() };
    open_admin(config, &mut findings);
    on_demand(config, &mut findings);
    let servers = config.pointer("/apps/http/servers").and_then(Json::as_object);
    for (name, server) in servers.into_iter().flatten() {
        let path = format!("apps.http.servers.{name}");
        let server = At { json: server, listen: addresses(server) };
        walk(server.json, &path, &mut |key, object, path| {
            server.object(key, object, path, &mut findings);
        });
        routes(server.json, &path, &mut findings);
    }
    findings.list.sort_by(|a, b| a.path.cmp(&b.path));
    findings.list
}

struct Findings<'a> {
    allowed: &'a [String],
    list: Vec<JsonFinding>,
}

impl Findings<'_> {
    fn add(
        &mut self,
        lint: &Lint,
        path: impl Into<String>,
        message: impl Into<String>,
        label: &'static str,
        help: impl Into<String>,
    ) {
        if self.allowed.iter().any(|code| code == lint.code) {
            return;
        }
        let warning = Diagnostic::warning(message).code(lint.code).help(help);
        self.list.push(JsonFinding { path: path.into(), warning, label });
    }
}

/// Calls `see` with each object, the key that it stands under, and its path.
fn walk(json: &Json, path: &str, see: &mut dyn FnMut(&str, &Json, &str)) {
    let inner = |json: &Json| json.is_object() || json.is_array();
    match json {
        Json::Object(object) => {
            see(path.rsplit('.').next().unwrap_or_default(), json, path);
            for (key, value) in object.iter().filter(|(_, value)| inner(value)) {
                walk(value, &format!("{path}.{key}"), see);
            }
        }
        Json::Array(items) => {
            for (at, value) in items.iter().enumerate().filter(|(_, value)| inner(value)) {
                walk(value, &format!("{path}.{at}"), see);
            }
        }
        _ => {}
    }
}

fn texts<'a>(object: &'a Json, key: &str) -> impl Iterator<Item = &'a str> {
    object.get(key).and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str)
}

fn addresses(server: &Json) -> Vec<NetworkAddress> {
    texts(server, "listen").filter_map(|text| NetworkAddress::parse(text).ok()).collect()
}

fn open_admin(config: &Json, findings: &mut Findings<'_>) {
    let admin = config.get("admin");
    let off = admin.and_then(|admin| admin.get("disabled")).and_then(Json::as_bool);
    let listen = admin.and_then(|admin| admin.get("listen")).and_then(Json::as_str);
    let Some(listen) = listen.filter(|_| off != Some(true)) else { return };
    let Ok(parsed) = NetworkAddress::parse_with_defaults(listen, "tcp", 2019) else { return };
    if parsed.is_unix() || parsed.is_fd() || parsed.is_loopback() || parsed.host == "localhost" {
        return;
    }
    let help = format!("let it listen on `localhost:{}`", parsed.start_port);
    let message = "the admin endpoint can be reached from other machines";
    findings.add(&admin::OPEN_ADMIN, "admin.listen", message, "not a loopback address", help);
}

fn on_demand(config: &Json, findings: &mut Findings<'_>) {
    let automation = config.pointer("/apps/tls/automation");
    let permitted = automation.and_then(|automation| automation.get("on_demand"));
    let has = |name: &str| permitted.is_some_and(|config| config.get(name).is_some());
    if has("permission") || has("ask") {
        return;
    }
    let policies = automation.and_then(|automation| automation.get("policies")?.as_array());
    for (at, policy) in policies.into_iter().flatten().enumerate() {
        if policy.get("on_demand").and_then(Json::as_bool) == Some(true) {
            let path = format!("apps.tls.automation.policies.{at}.on_demand");
            let message = "certificates on demand without a permission";
            let help = "set `permission` in apps.tls.automation.on_demand";
            let label = "for any name that a client asks for";
            findings.add(&tls::ON_DEMAND_OPEN, path, message, label, help);
        }
    }
}

fn routes(server: &Json, base: &str, findings: &mut Findings<'_>) {
    let lists = ["routes", "errors", "named_routes"];
    for (key, value) in lists.iter().filter_map(|key| Some((*key, server.get(key)?))) {
        reach::lists(value, key == "routes", &format!("{base}.{key}"), &mut |list, path| {
            if let Some((cut, taker)) = reach::first_cut(list, path) {
                // A route without handlers is at fault itself.
                let cut = cut.strip_suffix(".handle.0").unwrap_or(&cut);
                let message = "this never gets a request";
                let help = format!("{taker} answers every request before it");
                findings.add(&reach::UNREACHABLE_ROUTE, cut, message, "never reached", help);
            }
            reach::each_shadowed(list, &mut |late, early| {
                let path_of = |at: usize| format!("{path}.{at}");
                let message = "this route never gets a request";
                let help = format!("{} takes all of its requests before it", path_of(early));
                let late = path_of(late);
                findings.add(&reach::SHADOWED_ROUTE, late, message, "never reached", help);
            });
        });
    }
}

/// A server and where it listens.
struct At<'a> {
    json: &'a Json,
    listen: Vec<NetworkAddress>,
}

impl At<'_> {
    fn object(&self, key: &str, object: &Json, path: &str, findings: &mut Findings<'_>) {
        if object.get("handler").and_then(Json::as_str) == Some("reverse_proxy") {
            self.proxy(object, path, findings);
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

    fn proxy(&self, proxy: &Json, path: &str, findings: &mut Findings<'_>) {
        let upstreams = proxy.get("upstreams").and_then(Json::as_array);
        let upstreams = upstreams.map_or(&[][..], Vec::as_slice);
        let transport = proxy.get("transport");
        let protocol = transport.and_then(|one| one.get("protocol")).and_then(Json::as_str);
        let is_plain = protocol.is_none_or(|name| name == "http")
            && transport.is_none_or(|one| one.get("tls").is_none());
        let names_host = proxy.pointer("/headers/request/set/Host").is_some();
        for (at, upstream) in upstreams.iter().enumerate() {
            let Some(dial) = upstream.get("dial").and_then(Json::as_str) else { continue };
            let path = format!("{path}.upstreams.{at}.dial");
            if !names_host && upstreams::leads_back(dial, &self.listen) {
                let message = format!("{dial} is the address of this very server");
                let help = "name the port of the backend";
                findings.add(&upstreams::UPSTREAM_LOOP, path, message, "leads back here", help);
            } else if is_plain && dial.ends_with(":443") {
                let message = format!("{dial} is spoken to in plain HTTP");
                let help = "add `\"tls\": {}` to the transport";
                let label = "expects TLS, most likely";
                findings.add(&upstreams::PLAIN_TO_HTTPS_PORT, path, message, label, help);
            }
        }
        let weights = proxy.pointer("/load_balancing/selection_policy/weights");
        if let Some(weights) = weights.and_then(Json::as_array)
            && proxy.get("dynamic_upstreams").is_none()
            && weights.len() != upstreams.len()
        {
            let (weights, count) = (weights.len(), upstreams.len());
            let message = format!("weights: {weights}, upstreams: {count}");
            let help = "give each upstream its weight, in the order of the upstreams";
            let path = format!("{path}.load_balancing.selection_policy.weights");
            let label = "one weight for each upstream";
            findings.add(&upstreams::WEIGHTS_MISMATCH, path, message, label, help);
        }
        self.health(proxy, path, findings);
    }

    fn health(&self, proxy: &Json, path: &str, findings: &mut Findings<'_>) {
        let Some(checks) = proxy.pointer("/health_checks/active") else { return };
        let of = |name: &str, default: i64| {
            let given = checks.get(name).cloned();
            let given = given.and_then(|text| serde_json::from_value::<Duration>(text).ok());
            let given = given.filter(|one| !one.is_zero());
            given.unwrap_or_else(|| Duration::from_nanos(default))
        };
        let interval = of("interval", 30 * health::SECOND);
        let timeout = of("timeout", 5 * health::SECOND);
        if interval >= timeout {
            return;
        }
        let message = format!("health checks every {interval}, each given up only after {timeout}");
        let help = format!("set the timeout below {interval}");
        let path = format!("{path}.health_checks.active.interval");
        findings.add(&health::HEALTH_TIMEOUT, path, message, "shorter than the timeout", help);
    }
}
