//! The lints that need no Caddyfile, for configurations that are written as JSON.

use caddis_caddyfile::Diagnostic;
use caddis_config::NetworkAddress;
use serde_json::Value as Json;

mod names;
mod ports;
mod proxy;
mod routes;
mod tls;

use super::{Lint, admin, reach};
use routes::At;

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
    ports::run(config, &mut findings);
    tls::run(config, &mut findings);
    let servers = config.pointer("/apps/http/servers").and_then(Json::as_object);
    for (name, server) in servers.into_iter().flatten() {
        let path = format!("apps.http.servers.{name}");
        let at = At::new(config, server);
        walk(server, &path, &mut |key, object, path| at.object(key, object, path, &mut findings));
        unreachable(server, &path, &mut findings);
        names::placeholders(server, &path, &mut findings);
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

fn unreachable(server: &Json, base: &str, findings: &mut Findings<'_>) {
    let lists = ["routes", "errors", "named_routes"];
    for (key, value) in lists.iter().filter_map(|key| Some((*key, server.get(key)?))) {
        let mut path = format!("{base}.{key}");
        reach::lists(value, key == "routes", &mut path, &mut |list, path| {
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

/// The hosts that the top routes of a server match, each with the path of its place in the server.
fn hosts(server: &Json) -> impl Iterator<Item = (String, &str)> {
    let routes = server.get("routes").and_then(Json::as_array).into_iter().flatten().enumerate();
    routes.flat_map(|(route, json)| {
        let sets = json.get("match").and_then(Json::as_array).into_iter().flatten().enumerate();
        sets.flat_map(move |(set, json)| {
            texts(json, "host")
                .enumerate()
                .map(move |(host, text)| (format!("routes.{route}.match.{set}.host.{host}"), text))
        })
    })
}

/// Whether a server listens on one port alone.
fn listens_only(server: &Json, port: u16) -> bool {
    let listen = addresses(server);
    !listen.is_empty() && listen.iter().all(|one| one.start_port == port)
}
