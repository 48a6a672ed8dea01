//! Placeholders whose values depend on another value: `map`.
//!
//! ```text
//! map [<matcher>] <source> <destinations...> {
//!     [~]<input> <outputs...>
//!     default    <defaults...>
//! }
//! ```
//!
//! JSON: `{"handler": "map", "source": "{x}", "destinations": ["{y}"], "mappings": [{"input": "a",
//! "input_regexp": "b", "outputs": [1, null]}], "defaults": ["c"]}`.

use std::{cell::Cell, rc::Rc, sync::Arc};

use caddis_caddyfile::Result as ParseResult;
use caddis_config::ConfigError;
use caddis_core::{
    CompileCx, Directive, DirectiveKind, Exchange, Filter, Flow, Handler, HandlerModule, Helper,
    Result as HttpResult, Template, Value, exchange::PlaceholderSource,
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{
    request_body::{mentioned, with_body_placeholders},
    vars::scalar,
};
use crate::regexp;

/// `http.handlers.map`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.map", compile };
/// `map`.
pub static DIRECTIVE: Directive =
    Directive { name: "map", kind: DirectiveKind::Handler(parse), ordered: true };

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The value to look at.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub source: String,
    /// The placeholders to define.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<String>,
    /// Inputs and their outputs, in order.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub mappings: Vec<Mapping>,
    /// Values where no input matches.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub defaults: Vec<String>,
}

/// One input and its outputs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mapping {
    /// The value itself.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub input: String,
    /// An expression for the value.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub input_regexp: String,
    /// One output for each destination; `null` leaves it to later mappings.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<Json>,
}

/// Shorthands of the Caddyfile and what they stand for, below `http.` (spec L105–L143).
const SHORTHANDS: &[(&str, &str)] = &[
    ("{client_ip}", "vars.client_ip"),
    ("{dir}", "request.uri.path.dir"),
    ("{file}", "request.uri.path.file"),
    ("{host}", "request.host"),
    ("{hostport}", "request.hostport"),
    ("{method}", "request.method"),
    ("{orig_method}", "request.orig_method"),
    ("{orig_uri}", "request.orig_uri"),
    ("{orig_path}", "request.orig_uri.path"),
    ("{orig_dir}", "request.orig_uri.path.dir"),
    ("{orig_file}", "request.orig_uri.path.file"),
    ("{orig_query}", "request.orig_uri.query"),
    ("{orig_?query}", "request.orig_uri.prefixed_query"),
    ("{path}", "request.uri.path"),
    ("{%path}", "request.uri.path_escaped"),
    ("{port}", "request.port"),
    ("{query}", "request.uri.query"),
    ("{%query}", "request.uri.query_escaped"),
    ("{?query}", "request.uri.prefixed_query"),
    ("{remote}", "request.remote"),
    ("{remote_host}", "request.remote.host"),
    ("{remote_port}", "request.remote.port"),
    ("{scheme}", "request.scheme"),
    ("{uri}", "request.uri"),
    ("{%uri}", "request.uri_escaped"),
    ("{uuid}", "request.uuid"),
    ("{tls_cipher}", "request.tls.cipher_suite"),
    ("{tls_version}", "request.tls.version"),
    ("{tls_client_fingerprint}", "request.tls.client.fingerprint"),
    ("{tls_client_issuer}", "request.tls.client.issuer"),
    ("{tls_client_serial}", "request.tls.client.serial"),
    ("{tls_client_subject}", "request.tls.client.subject"),
    ("{tls_client_certificate_pem}", "request.tls.client.certificate_pem"),
    ("{tls_client_certificate_der_base64}", "request.tls.client.certificate_der_base64"),
    ("{upstream_hostport}", "reverse_proxy.upstream.hostport"),
];

fn replaced_shorthand(token: &str) -> Option<&'static str> {
    let key = token.trim_matches(['{', '}']).strip_prefix("http.")?;
    SHORTHANDS.iter().find(|(_, long)| *long == key).map(|(short, _)| *short)
}

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    let d = &mut h.d;
    d.next();
    if !d.next_arg() {
        return Err(d.arg_err());
    }
    let mut config = Config { source: d.val().to_owned(), ..Config::default() };
    config.destinations = d.remaining_args();
    if config.destinations.is_empty() {
        return Err(d.err("missing destination argument(s)"));
    }
    if let Some(short) = config.destinations.iter().find_map(|dest| replaced_shorthand(dest)) {
        let message =
            format!("destination {short} conflicts with a Caddyfile placeholder shorthand");
        return Err(d.err(message));
    }
    while d.next_block(0) {
        let count = config.destinations.len();
        if d.val() == "default" {
            if !config.defaults.is_empty() {
                return Err(d.err("defaults already defined"));
            }
            config.defaults = d.remaining_args();
            let length = config.defaults.len().max(count);
            config.defaults.resize(length, String::new());
            continue;
        }
        let input = d.val().to_owned();
        let mut outputs = Vec::with_capacity(count);
        while d.next_arg() {
            let value = scalar(d.scalar_val());
            outputs.push(if value == "-" { Json::Null } else { value });
        }
        if outputs.len() > count {
            return Err(d.err("too many outputs"));
        }
        outputs.resize(count, Json::Null);
        config.mappings.push(match input.strip_prefix('~') {
            Some(regexp) => {
                Mapping { input_regexp: regexp.to_owned(), outputs, ..Mapping::default() }
            }
            None => Mapping { input, outputs, ..Mapping::default() },
        });
    }
    h.handler("map", &config)
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let config: Config = cx.decode(json, "handler")?;
    let mut destinations = Vec::with_capacity(config.destinations.len());
    for destination in &config.destinations {
        if destination.matches('{').count() != 1 || !destination.starts_with('{') {
            return Err(ConfigError::new(
                "destinations",
                "destination must be a placeholder and only a placeholder",
            ));
        }
        destinations.push(destination.trim_matches(['{', '}']).to_owned());
    }
    if !config.defaults.is_empty() && config.defaults.len() != destinations.len() {
        let (dest, def) = (destinations.len(), config.defaults.len());
        return Err(ConfigError::new("defaults", format!("{dest} destinations != {def} defaults")));
    }
    let mut mappings = Vec::with_capacity(config.mappings.len());
    for at in 0..config.mappings.len() {
        let rule = rule(&config.mappings, at, &destinations)
            .map_err(|message| ConfigError::new(format!("mappings.{at}"), message))?;
        mappings.push(rule);
    }
    let source = Template::parse(&config.source);
    let wants_body = mentioned(&[&source]);
    let map = Map { source, destinations, mappings, defaults: config.defaults };
    Ok(with_body_placeholders(MapHandler(Arc::new(map)), wants_body))
}

fn rule(mappings: &[Mapping], at: usize, destinations: &[String]) -> Result<Rule, String> {
    let mapping = &mappings[at];
    if !mapping.input.is_empty() && !mapping.input_regexp.is_empty() {
        return Err(format!(
            "mapping {at} has both input and input_regexp fields specified, which is confusing"
        ));
    }
    let key = |mapping: &Mapping| {
        if mapping.input_regexp.is_empty() {
            mapping.input.clone()
        } else {
            mapping.input_regexp.clone()
        }
    };
    let input = key(mapping);
    if let Some(prev) = mappings[..at].iter().position(|earlier| key(earlier) == input) {
        return Err(format!(
            "mapping {at} has a duplicate input '{input}' previously used with mapping {prev}"
        ));
    }
    let texts: Vec<_> = mapping.outputs.iter().map(Value::from_json).collect();
    for dest in destinations {
        let braced = format!("{{{dest}}}");
        let used = texts.iter().any(|text| text.text().contains(&braced));
        if used || mapping.input.contains(&braced) {
            return Err(format!(
                "mapping {at} requires value of {{{dest}}} to define value of {{{dest}}}: \
                 infinite recursion"
            ));
        }
    }
    if mapping.outputs.len() != destinations.len() {
        let (outputs, dests) = (mapping.outputs.len(), destinations.len());
        return Err(format!(
            "mapping {at} has {outputs} outputs but there are {dests} destinations defined"
        ));
    }
    let input = if mapping.input_regexp.is_empty() {
        Input::Exact(mapping.input.clone())
    } else {
        let regexp = regexp::compile(&mapping.input_regexp)
            .map_err(|error| format!("compiling regexp for mapping {at}: {error}"))?;
        Input::Regexp(regexp)
    };
    let outputs = texts
        .into_iter()
        .map(|value| match value {
            Value::Null => None,
            value => Some(Template::parse(&value.text())),
        })
        .collect();
    Ok(Rule { input, outputs })
}

enum Input {
    Exact(String),
    Regexp(regex::Regex),
}

struct Rule {
    input: Input,
    outputs: Vec<Option<Template>>,
}

struct Map {
    source: Template,
    destinations: Vec<String>,
    mappings: Vec<Rule>,
    defaults: Vec<String>,
}

impl Map {
    fn look_up(&self, at: usize, ex: &Exchange) -> Value<'static> {
        let input = self.source.render(ex);
        for rule in &self.mappings {
            let Some(output) = rule.outputs.get(at).and_then(Option::as_ref) else { continue };
            match &rule.input {
                Input::Exact(text) if *text == *input => {
                    return Value::string(output.render(ex));
                }
                Input::Exact(_) => {}
                Input::Regexp(regexp) => {
                    if let Some(captures) = regexp.captures(&input) {
                        let mut text = String::new();
                        captures.expand(output.raw(), &mut text);
                        return Value::string(text);
                    }
                }
            }
        }
        self.defaults.get(at).map_or(Value::Null, |text| Value::string(text.as_str()))
    }
}

struct MapHandler(Arc<Map>);

impl Filter for MapHandler {
    fn apply(&self, ex: &mut Exchange) -> HttpResult<Flow> {
        // Every key may be a destination, so all maps of a request share one source: the later
        // ones ask the earlier ones.
        let earlier = ex
            .sources
            .iter()
            .find(|(prefix, _)| prefix.is_empty())
            .map(|(_, source)| source.clone());
        let map = self.0.clone();
        ex.add_source("", Rc::new(Source { map, earlier, busy: Cell::new(false) }));
        Ok(Flow::Continue)
    }
}

struct Source {
    map: Arc<Map>,
    earlier: Option<Rc<dyn PlaceholderSource>>,
    /// Set while a value is looked up: a source that asks for its own destination gets nothing.
    busy: Cell<bool>,
}

impl PlaceholderSource for Source {
    fn value(&self, key: &str, ex: &Exchange) -> Option<Value<'static>> {
        if let Some(source) = &self.earlier
            && let Some(value) = source.value(key, ex)
        {
            return Some(value);
        }
        let at = self.map.destinations.iter().position(|destination| destination == key)?;
        if self.busy.replace(true) {
            return None;
        }
        let value = self.map.look_up(at, ex);
        self.busy.set(false);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use crate::handlers::tests::{adapt, compile_error, run_all};
    use serde_json::json;

    const MAP: &str = "map {http.request.uri.path} {tier} {label} {
        /gold gold top
        ~^/silver/(.*)$ silver \"rest is ${1}\"
        /none - lonely
        default unknown nothing
    }";

    #[test]
    fn adapts() {
        let want = json!({"handler": "map", "source": "{http.request.uri.path}",
            "destinations": ["{tier}", "{label}"],
            "mappings": [
                {"input": "/gold", "outputs": ["gold", "top"]},
                {"input_regexp": "^/silver/(.*)$", "outputs": ["silver", "rest is ${1}"]},
                {"input": "/none", "outputs": [null, "lonely"]}
            ],
            "defaults": ["unknown", "nothing"]});
        assert_eq!(adapt(MAP), Ok(want));
        let typed = adapt("map a {b} {c} {d} {\n x true 1.5 \"7\"\n}").expect("adapts");
        assert_eq!(typed["mappings"][0]["outputs"], json!([true, 1.5, "7"]));
        for (text, want) in [
            ("map a", "missing destination argument(s)"),
            ("map a {b} {\n x 1 2\n}", "too many outputs"),
            ("map a {b} {\n default 1\n default 2\n}", "defaults already defined"),
            ("map a {http.request.host} {\n}", "destination {host} conflicts"),
        ] {
            assert!(adapt(text).expect_err(text).contains(want), "{text}");
        }
    }

    #[test]
    fn maps() {
        let respond = "respond \"{tier}|{label}\"";
        for (path, want) in [
            ("/gold", "gold|top"),
            ("/silver/a/b", "silver|rest is a/b"),
            ("/none", "unknown|lonely"),
            ("/else", "unknown|nothing"),
        ] {
            assert_eq!(run_all(&[MAP, respond], path).expect("answers").body, want, "{path}");
        }
        let two = "map {tier} {color} {\n gold yellow\n}";
        let respond = "respond \"[{color}] [{label}]\"";
        assert_eq!(run_all(&[MAP, two, respond], "/gold").expect("answers").body, "[yellow] [top]");
        assert_eq!(run_all(&[MAP, two, respond], "/x").expect("answers").body, "[] [nothing]");
    }

    #[test]
    fn circles_end() {
        let map = "map {a} {a} {\n x y\n default z\n}";
        assert_eq!(run_all(&[map, "respond [{a}]"], "/").expect("answers").body, "[z]");
    }

    #[test]
    fn refuses() {
        for (json, want) in [
            (json!({"handler": "map", "destinations": ["a"]}), "must be a placeholder"),
            (
                json!({"handler": "map", "destinations": ["{a}"], "defaults": ["x", "y"]}),
                "1 destinations != 2 defaults",
            ),
            (
                json!({"handler": "map", "destinations": ["{a}"],
                    "mappings": [{"input": "x", "outputs": [1]}, {"input": "x", "outputs": [2]}]}),
                "mapping 1 has a duplicate input 'x' previously used with mapping 0",
            ),
            (
                json!({"handler": "map", "destinations": ["{a}"],
                    "mappings": [{"input_regexp": "(", "outputs": [1]}]}),
                "compiling regexp for mapping 0",
            ),
        ] {
            let error = compile_error(&json);
            assert!(error.contains(want), "{error}");
        }
    }
}
