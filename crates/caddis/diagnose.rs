//! Mistakes in a configuration, at their places: in the Caddyfile that it came from, or in its JSON.

use std::sync::Arc;

use caddis_adapter::{Adapted, Repaired, lints::JsonFinding, locate};
use caddis_caddyfile::{Diagnostic, File, FsLoader, Source, SourceMap, Span};
use caddis_config::{Config, ConfigError};
use caddis_core::{Registry, error::plain_text};
use caddis_engine::{Engine, LoadError};
use serde_json::{Value as Json, json};

use crate::{json_place, source::Text};

/// Most mistakes looked for.
const LIMIT: usize = 64;
const NOT_SUPPORTED: &str = "not supported yet";

/// Diagnostics and the texts that they point into.
pub(crate) type Found = (Vec<Diagnostic>, Arc<SourceMap>);

/// A Caddyfile that was adapted with its places kept.
pub(crate) struct Traced {
    pub(crate) file: File,
    pub(crate) adapted: Adapted,
    /// Whether the configuration is that of the file as it is written.
    is_whole: bool,
}

impl Traced {
    /// Adapts a text again, for its places. `None` where it has mistakes.
    pub(crate) fn new(text: &Text, registry: &Registry) -> Option<Self> {
        if text.is_json() {
            return None;
        }
        let (file, _) = caddis_caddyfile::parse(&text.name, &text.bytes, &FsLoader);
        Self::of(file, registry).ok()
    }

    /// Adapts a parsed file with its places; gives it back with the mistakes where it has any.
    pub(crate) fn of(file: File, registry: &Registry) -> Result<Self, (File, Vec<Diagnostic>)> {
        match caddis_adapter::adapt_traced(&file, registry) {
            Ok(adapted) => Ok(Self { file, adapted, is_whole: true }),
            Err(errors) => Err((file, errors)),
        }
    }

    /// A mistake in the configuration as one in the Caddyfile.
    pub(crate) fn at(&self, error: &ConfigError, registry: &Registry) -> Diagnostic {
        let message = sentence(error);
        let token = locate(&self.file, &self.adapted, &error.path, &error.message);
        let mut one = Diagnostic::error(message).code(code(error));
        if let Some(token) = token {
            let label =
                if sentence(error).contains(NOT_SUPPORTED) { NOT_SUPPORTED } else { "here" };
            one = one.placed_at(&token).labelled(&token, label);
        }
        let remedy = REMEDIES.iter().find(|(part, _)| one.message.contains(part));
        let choice = CHOICES
            .iter()
            .find_map(|(part, known)| Some((one.message.split_once(part)?.1.to_owned(), *known)));
        if let Some(near) = near_module(&error.message, registry) {
            one = one.meant(near);
        } else if let Some((word, known)) = choice {
            one = one.meant_one_of(&word, known.iter().copied());
        } else if let Some((_, remedy)) = remedy {
            one = one.help(*remedy);
        }
        let path = Some(&error.path).filter(|path| self.is_whole && !path.is_empty());
        match (one.help.clone(), path) {
            (_, None) => one,
            (None, Some(path)) => one.help(format!("in the JSON config: {path}")),
            (Some(help), Some(path)) => one.help(format!("{help} (in the JSON config: {path})")),
        }
    }
}

/// The mistakes that show in the configuration which the rest of a file makes whose mistakes were taken
/// out; what may be a consequence is left out.
pub(crate) fn beyond(repaired: Repaired, registry: &Registry) -> (Vec<Diagnostic>, SourceMap) {
    let Repaired { file, adapted, gone } = repaired;
    let json = || serde_json::to_value(&adapted.config).unwrap_or_default();
    let found = mistakes(registry, json(), json);
    let traced = Traced { file, adapted, is_whole: false };
    let mut all: Vec<_> = found.iter().map(|error| traced.at(error, registry)).collect();
    all.retain(|one| !gone.explains(one));
    (all, traced.file.sources)
}

/// The mistakes of a configuration that came from a text.
pub(crate) fn locate_all(text: &Text, errors: &[ConfigError], registry: &Registry) -> Found {
    if let Some(traced) = Traced::new(text, registry) {
        let all = errors.iter().map(|error| traced.at(error, registry)).collect();
        return (all, Arc::new(traced.file.sources));
    }
    if text.is_json() {
        return in_json(text, errors, Vec::new(), registry);
    }
    let plain = |error: &ConfigError| Diagnostic::error(error.to_string()).code(code(error));
    (errors.iter().map(plain).collect(), Arc::default())
}

/// Mistakes drawn in the JSON text.
pub(crate) fn in_json(
    text: &Text,
    errors: &[ConfigError],
    odd: Vec<JsonFinding>,
    registry: &Registry,
) -> Found {
    let mut sources = SourceMap::new();
    let content = String::from_utf8_lossy(&text.bytes).into_owned();
    let id = sources.add(Source::new(text.name.as_str(), content.as_str()));
    let span_of = |path: &str| {
        let range = json_place::find(&content, path);
        Span::new(id, range.start as u32, range.end as u32)
    };
    let placed = |mut one: Diagnostic, span: Span| {
        let (line, _) = sources.line_col(span);
        one.place = Some((text.name.as_str().into(), line));
        one
    };
    let diagnostic = |error: &ConfigError| {
        let near = near_module(&error.message, registry);
        let span = span_of(&error.path);
        let message = if error.path.is_empty() {
            sentence(error)
        } else {
            format!("{}: {}", error.path, sentence(error))
        };
        let one = placed(Diagnostic::error(message).code(code(error)).label(span, "here"), span);
        match near {
            Some(near) => one.help(format!("did you mean `{near}`?")),
            None => one,
        }
    };
    let mut all: Vec<Diagnostic> = errors.iter().map(diagnostic).collect();
    all.extend(odd.into_iter().map(|finding| {
        let span = span_of(&finding.path);
        let mut warning = finding.warning.label(span, finding.label);
        warning.message = format!("{}: {}", finding.path, warning.message);
        placed(warning, span)
    }));
    (all, Arc::new(sources))
}

/// The module whose name is nearest to an unknown one.
fn near_module(message: &str, registry: &Registry) -> Option<&'static str> {
    let (_, id) = message.split_once("unknown module: ")?;
    let (namespace, name) = id.rsplit_once('.')?;
    let ids = registry
        .handlers
        .iter()
        .map(|module| module.id)
        .chain(registry.matchers.iter().map(|module| module.id))
        .chain(registry.other_ids.iter().copied());
    let names = ids.filter_map(|known| {
        let (space, name) = known.rsplit_once('.')?;
        (space == namespace).then_some(name)
    });
    caddis_caddyfile::nearest(name, names)
}

/// A text that is no JSON.
pub(crate) fn no_json(text: &Text, error: &serde_json::Error) -> Found {
    let mut sources = SourceMap::new();
    let content = String::from_utf8_lossy(&text.bytes).into_owned();
    let before: usize =
        content.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let at = (before + error.column().saturating_sub(1)).min(content.len());
    let id = sources.add(Source::new(text.name.as_str(), content));
    let reason = match caddis_config::json::syntax::check(&text.bytes) {
        // As Go says it, which is what people search for.
        Some(wrong) => wrong.message,
        None => error.to_string(),
    };
    let reason = reason.split(" at line ").next().unwrap_or(&reason);
    let message = format!(
        "{}:{}:{}: config is not valid JSON: {reason}; did you mean to use a config adapter (the --adapter flag)?",
        text.name,
        error.line(),
        error.column()
    );
    let mut one = Diagnostic::error(message)
        .code("json::syntax")
        .label(Span::new(id, at as u32, at as u32 + 1), reason);
    let before = text.bytes.get(..at).unwrap_or_default().trim_ascii_end();
    if before.ends_with(b",") && matches!(text.bytes.get(at), Some(b'}' | b']')) {
        one = one.help("take out the comma before it: JSON has none after the last member");
    }
    (vec![one], Arc::new(sources))
}

fn code(error: &ConfigError) -> &'static str {
    if sentence(error).contains(NOT_SUPPORTED) { "config::not_supported" } else { "config::error" }
}

/// The reason, in which a module of Caddy that has no run time yet is called so, and the system's errors
/// are as Go has them.
fn sentence(error: &ConfigError) -> String {
    let message = plain_text(error.message.clone());
    let Some((before, id)) = message.split_once("unknown module: ") else { return message };
    if message.contains(NOT_SUPPORTED) || !STANDARD.contains(&id) {
        return message;
    }
    format!("{before}module {id} is {NOT_SUPPORTED}")
}

/// What to do about a mistake that only the configuration shows, by a part of the sentence.
const REMEDIES: &[(&str, &str)] = &[
    ("module value cannot be null", "give it at least one argument"),
    ("look-around", "match what is wanted, and take the rest out by a `not` matcher"),
    ("missing closing", "close what opens in the expression, or write a backslash before it"),
    ("unclosed", "close what opens in the expression, or write a backslash before it"),
    (
        "no such file or directory",
        "name a file that is there; paths are seen from the folder in which the server is started",
    ),
    ("permission denied", "let the user that the server runs as read it"),
];

/// Words of which there are few, by what stands before them in the sentence.
const CHOICES: &[(&str, &[&str])] = &[
    (
        "client auth mode not recognized: ",
        &["request", "require", "verify_if_given", "require_and_verify"],
    ),
    ("unrecognized log level: ", &["debug", "info", "warn", "error", "panic", "fatal"]),
];

/// Modules of Caddy itself, all of which are meant to come.
const STANDARD: &[&str] = &[
    "caddy.config_loaders.http",
    "caddy.filesystems",
    "caddy.listeners.http_redirect",
    "caddy.listeners.proxy_protocol",
    "caddy.network_proxy.none",
    "caddy.network_proxy.url",
    "http.handlers.templates",
    "http.ip_sources.static",
    "http.reverse_proxy.upstreams.multi",
    "http.reverse_proxy.upstreams.srv",
    "tls.ca_pool.source.http",
    "tls.ca_pool.source.pki_intermediate",
    "tls.ca_pool.source.pki_root",
    "tls.ca_pool.source.storage",
    "tls.certificates.load_storage",
    "tls.ech.publishers.dns",
    "tls.get_certificate.tailscale",
    "tls.issuance.acme",
    "tls.issuance.zerossl",
    "tls.permission.http",
];

/// Every mistake of a configuration: each one found is taken out, and the rest checked again. `again`
/// gives the configuration once more where it has a mistake: a large one need not be there twice.
pub(crate) fn mistakes(
    registry: &Registry,
    json: Json,
    again: impl FnOnce() -> Json,
) -> Vec<ConfigError> {
    let mut found: Vec<ConfigError> = Vec::new();
    let mut result = Engine::validate(registry, json);
    if result.is_ok() {
        return found;
    }
    let mut json = again();
    let mut gone: Vec<String> = Vec::new();
    while found.len() < LIMIT {
        let errors = match result {
            Ok(()) => break,
            Err(LoadError::Activate(message)) => vec![ConfigError::new("", message)],
            Err(LoadError::Config(errors)) => errors,
        };
        let mut changed = false;
        for mut error in errors {
            error.path = as_written(&json, &error.path);
            // What is kept in another storage cannot be found in the one that stands in for it.
            if error.path.is_empty() && gone.iter().any(|path| path.starts_with("storage")) {
                continue;
            }
            if is_around(&error.path, &gone) {
                // Most likely it lacks what was taken out.
                changed |= take_out(&mut json, &error.path);
            } else if !found.contains(&error) {
                changed |= take_out(&mut json, &error.path);
                gone.push(error.path.clone());
                found.push(error);
            }
        }
        if !changed {
            break;
        }
        result = Engine::validate(registry, json.clone());
    }
    found
}

/// A path in the configuration as it was before automatic HTTPS put its redirects in.
pub(crate) fn as_written(json: &Json, path: &str) -> String {
    shifted(json, path).unwrap_or_else(|| path.to_owned())
}

fn shifted(json: &Json, path: &str) -> Option<String> {
    let rest = path.strip_prefix("apps.http.servers.")?;
    let (server, rest) = rest.split_once(".routes.")?;
    let (number, rest) = rest.split_once('.').unwrap_or((rest, ""));
    let number: usize = number.parse().ok()?;
    let before: Config = caddis_config::decode(json.clone()).ok()?;
    let mut after = before.clone();
    caddis_plan::auto_https(&mut after).ok()?;
    let routes = |config: &Config| {
        config
            .apps
            .http
            .as_ref()
            .and_then(|http| http.servers.get(server))
            .map(|s| s.routes.clone())
    };
    let (before, after) = (routes(&before)?, routes(&after)?);
    let mut own = 0;
    for (at, route) in after.iter().enumerate() {
        let is_own = before.get(own) == Some(route);
        if at == number {
            return is_own.then(|| {
                let rest = if rest.is_empty() { String::new() } else { format!(".{rest}") };
                format!("apps.http.servers.{server}.routes.{own}{rest}")
            });
        }
        own += usize::from(is_own);
    }
    None
}

/// Whether a path is one of these or leads to one.
fn is_around(path: &str, others: &[String]) -> bool {
    let leads = |other: &String| {
        other.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    !path.is_empty() && others.iter().any(leads)
}

/// Takes a part out so that the rest can be checked: a matcher, a member of a handler, or a handler, in
/// whose place comes one that does nothing. Says whether something changed.
fn take_out(json: &mut Json, path: &str) -> bool {
    let parts: Vec<&str> = path.split('.').collect();
    let handler = handler_at(&parts);
    let matcher = (2..parts.len())
        .rev()
        .find(|at| parts[at - 2] == "match" && parts[at - 1].parse::<usize>().is_ok());
    match (handler, matcher) {
        (handler, Some(at)) if handler.is_none_or(|handler| handler < at) => {
            remove(json, &parts[..=at])
        }
        (Some(at), _) => {
            (at + 2..=parts.len()).rev().any(|length| remove(json, &parts[..length]))
                || take_out_handler(json, path)
        }
        _ => (2..=parts.len()).rev().any(|length| remove(json, &parts[..length])),
    }
}

/// Puts a handler that does nothing in the place of the innermost one of a path.
fn take_out_handler(json: &mut Json, path: &str) -> bool {
    let parts: Vec<&str> = path.split('.').collect();
    let Some(at) = handler_at(&parts) else { return false };
    let Some(slot) = reach(json, &parts[..=at]) else { return false };
    let nothing = json!({ "handler": "vars" });
    let changed = *slot != nothing;
    *slot = nothing;
    changed
}

/// The number of the part that is the innermost handler's.
fn handler_at(parts: &[&str]) -> Option<usize> {
    (1..parts.len())
        .rev()
        .find(|at| parts[at - 1] == "handle" && parts[*at].parse::<usize>().is_ok())
}

fn reach<'a>(json: &'a mut Json, parts: &[&str]) -> Option<&'a mut Json> {
    parts.iter().try_fold(json, |json, part| match json {
        Json::Object(object) => object.get_mut(*part),
        Json::Array(items) => items.get_mut(part.parse::<usize>().ok()?),
        _ => None,
    })
}

fn remove(json: &mut Json, parts: &[&str]) -> bool {
    let Some((last, around)) = parts.split_last() else { return false };
    let Some(Json::Object(object)) = reach(json, around) else { return false };
    object.remove(*last).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_taken_out() {
        let mut json =
            json!({"routes": [{"match": [{"x": 1}], "handle": [{"handler": "y", "z": 1}]}]});
        assert!(take_out(&mut json, "routes.0.match.0.x.more"));
        assert!(take_out(&mut json, "routes.0.handle.0.z.more"));
        assert_eq!(json["routes"][0]["handle"][0], json!({"handler": "y"}));
        assert!(take_out(&mut json, "routes.0.handle.0.z"));
        assert!(!take_out(&mut json, "routes.0.handle.0.z"));
        assert_eq!(json, json!({"routes": [{"match": [{}], "handle": [{"handler": "vars"}]}]}));
        let mut json = json!({"a": {"b": {"c": 1}}});
        assert!(take_out(&mut json, "a.b.c.d") && json == json!({"a": {"b": {}}}));
    }

    #[test]
    fn what_lacks_something_is_around_it() {
        let gone = ["a.handle.0.x.y".to_owned()];
        assert!(is_around("a.handle.0", &gone) && is_around("a.handle.0.x.y", &gone));
        assert!(!is_around("a.handle.0.x.z", &gone) && !is_around("a.handle.0.x.y.z", &gone));
        assert!(!is_around("", &gone) && !is_around("a.hand", &gone));
    }

    #[test]
    fn every_mistake_is_found() {
        let json = json!({"apps": {"http": {"servers": {"a": {"listen": [":1"], "routes": [
            {"match": [{"nope": 1}], "handle": [{"handler": "nope"}, {"handler": "static_response", "nope": 1}]},
        ]}}}}});
        let found = mistakes(&crate::registry::standard(), json.clone(), || json);
        let paths: Vec<_> = found.iter().map(|error| error.path.as_str()).collect();
        let base = "apps.http.servers.a.routes.0";
        assert_eq!(paths.len(), 3, "{found:?}");
        assert!(paths.iter().all(|path| path.starts_with(base)), "{paths:?}");
    }
}
