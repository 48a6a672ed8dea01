//! Variables of a request: `vars`, `root`, `fs`, `log_skip` (and its old name `skip_log`),
//! `log_name`.
//!
//! ```text
//! vars [<matcher>] [<name> <value>] {
//!     <name> <value>
//! }
//! root [<matcher>] <path>
//! fs [<matcher>] <name>
//! log_skip [<matcher>]
//! log_name [<matcher>] <names...>
//! ```
//!
//! JSON: `{"handler": "vars", "NAME": VALUE}`.

use caddis_caddyfile::{Diagnostic, Result as ParseResult, ScalarVal};
use caddis_config::ConfigError;
use caddis_core::{
    CompileCx, ConfigValue, Directive, DirectiveKind, Exchange, Filter, Flow, Handler,
    HandlerModule, Helper, Result as HttpResult, Template, Value,
};
use serde_json::{Map, Value as Json, json};

use super::request_body::{mentioned, with_body_placeholders};

/// `http.handlers.vars`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.vars", compile };
/// `vars`.
pub static DIRECTIVE: Directive =
    Directive { name: "vars", kind: DirectiveKind::Handler(parse), ordered: true };
/// `root`.
pub static ROOT: Directive =
    Directive { name: "root", kind: DirectiveKind::Values(parse_root), ordered: true };
/// `fs`.
pub static FS: Directive =
    Directive { name: "fs", kind: DirectiveKind::Handler(parse_fs), ordered: true };
/// `log_skip`.
pub static LOG_SKIP: Directive =
    Directive { name: "log_skip", kind: DirectiveKind::Handler(parse_log_skip), ordered: true };
/// `skip_log`.
pub static SKIP_LOG: Directive =
    Directive { name: "skip_log", kind: DirectiveKind::Handler(parse_log_skip), ordered: true };
/// `log_name`.
pub static LOG_NAME: Directive =
    Directive { name: "log_name", kind: DirectiveKind::Handler(parse_log_name), ordered: true };

/// The variable that keeps a request out of the access log.
const LOG_SKIP_VAR: &str = "log_skip";
/// The variable that names the access loggers.
const LOGGER_NAMES_VAR: &str = "access_logger_names";
/// A variable that is also the authenticated user.
const USER_ID: &str = "http.auth.user.id";

/// A token as a typed JSON value.
pub(super) fn scalar(value: ScalarVal) -> Json {
    match value {
        ScalarVal::Int(number) => number.into(),
        ScalarVal::Float(number) => number.into(),
        ScalarVal::Bool(truth) => truth.into(),
        ScalarVal::String(text) => text.into(),
    }
}

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    h.d.next();
    let mut vars = Map::new();
    if h.d.next_arg() {
        parse_var(h, &mut vars)?;
    }
    while h.d.next_block(0) {
        parse_var(h, &mut vars)?;
    }
    h.handler("vars", &vars)
}

fn parse_var(h: &mut Helper<'_>, vars: &mut Map<String, Json>) -> Result<(), Diagnostic> {
    let name = h.d.val().to_owned();
    if !h.d.next_arg() {
        return Err(h.d.arg_err());
    }
    vars.insert(name, scalar(h.d.scalar_val()));
    if h.d.next_arg() {
        return Err(h.d.arg_err());
    }
    Ok(())
}

fn parse_root(h: &mut Helper<'_>) -> ParseResult<Vec<ConfigValue>> {
    h.d.next();
    let set = match h.d.count_remaining_args() {
        0 => return Err(h.d.err("too few arguments; must have at least a root path")),
        1 => None,
        2 => {
            h.d.reset();
            let set = h.extract_matcher_set()?;
            h.d.next();
            set
        }
        _ => return Err(h.d.err("too many arguments; should only be a matcher and a path")),
    };
    if !h.d.next_arg() {
        return Err(h.d.arg_err());
    }
    let handler = h.handler("vars", &json!({ "root": h.d.val() }))?;
    Ok(h.route(set, handler))
}

fn parse_fs(h: &mut Helper<'_>) -> ParseResult<Json> {
    h.d.next();
    if !h.d.next_arg() {
        return Err(h.d.arg_err());
    }
    let name = h.d.val().to_owned();
    if h.d.next_arg() {
        return Err(h.d.arg_err());
    }
    h.handler("vars", &json!({ "fs": name }))
}

fn parse_log_skip(h: &mut Helper<'_>) -> ParseResult<Json> {
    h.d.next();
    if h.d.val() == "skip_log" {
        h.warn("the 'skip_log' directive is deprecated, please use 'log_skip' instead!");
    }
    if h.d.next_arg() {
        return Err(h.d.arg_err());
    }
    if h.d.next_block(0) {
        return Err(h.d.err("log_skip directive does not accept blocks"));
    }
    h.handler("vars", &json!({ LOG_SKIP_VAR: true }))
}

fn parse_log_name(h: &mut Helper<'_>) -> ParseResult<Json> {
    h.d.next();
    let names = h.d.remaining_args();
    // A list that is not there is no empty list.
    let names = (!names.is_empty()).then_some(names);
    h.handler("vars", &json!({ LOGGER_NAMES_VAR: names }))
}

fn compile(json: &Json, _: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let Some(object) = json.as_object() else {
        return Err(ConfigError::new("", "vars must be an object"));
    };
    let vars: Vec<_> = object
        .iter()
        .filter(|(name, _)| *name != "handler")
        .map(|(name, value)| {
            let value = match value {
                Json::String(text) => Source::Text(Template::parse(text)),
                other => Source::Constant(Value::from_json(other)),
            };
            (Template::parse(name), value)
        })
        .collect();
    let wants_body = vars
        .iter()
        .any(|(_, value)| matches!(value, Source::Text(template) if mentioned(&[template])));
    Ok(with_body_placeholders(Vars(vars), wants_body))
}

enum Source {
    Text(Template),
    Constant(Value<'static>),
}

struct Vars(Vec<(Template, Source)>);

impl Filter for Vars {
    fn apply(&self, ex: &mut Exchange) -> HttpResult<Flow> {
        for (name, source) in &self.0 {
            let value = match source {
                Source::Text(template) => Value::string(template.render(ex)),
                Source::Constant(value) => value.clone(),
            };
            match name.as_static() {
                Some(name) => set(ex, name, value),
                None => {
                    let name = name.render(ex).into_owned();
                    set(ex, &name, value);
                }
            }
        }
        Ok(Flow::Continue)
    }
}

/// Sets a variable, with its effect where it is a special one.
fn set(ex: &mut Exchange, name: &str, value: Value<'static>) {
    match name {
        LOG_SKIP_VAR => ex.log.skip = value == Value::Bool(true),
        LOGGER_NAMES_VAR => {
            ex.log.names = match &value {
                Value::List(names) => Some(names.as_slice().into()),
                // Only a list names loggers, as in Caddy.
                _ => None,
            };
        }
        USER_ID => {
            ex.log.user_id = value.text().into_owned();
            ex.set_value(USER_ID, value.clone());
        }
        _ => {}
    }
    ex.set_var(name, value);
}

#[cfg(test)]
mod tests {
    use crate::handlers::tests::{adapt, adapt_values, run, run_in};
    use caddis_core::Exchange;
    use serde_json::json;

    #[test]
    fn forms() {
        let cases = [
            ("vars a 1", json!({"handler": "vars", "a": 1})),
            (
                "vars x y {\n b true\n c 2.5\n d \"3\"\n}",
                json!({"handler": "vars", "x": "y", "b": true, "c": 2.5, "d": "3"}),
            ),
            ("fs disk", json!({"handler": "vars", "fs": "disk"})),
            ("log_skip", json!({"handler": "vars", "log_skip": true})),
            ("skip_log", json!({"handler": "vars", "log_skip": true})),
            ("log_name a b", json!({"handler": "vars", "access_logger_names": ["a", "b"]})),
        ];
        for (text, want) in cases {
            assert_eq!(adapt(text), Ok(want), "{text}");
        }
        assert!(adapt("vars a").is_err());
        assert!(adapt("vars a b c").is_err());
        assert!(adapt("log_skip {\n x\n}").is_err());
    }

    #[test]
    fn root_with_and_without_matcher() {
        for (text, want) in [
            ("root /srv", json!([{"handle": [{"handler": "vars", "root": "/srv"}]}])),
            (
                "root /a/* /srv",
                json!([{"match": [{"path": ["/a/*"]}],
                    "handle": [{"handler": "vars", "root": "/srv"}]}]),
            ),
            ("root * /srv", json!([{"handle": [{"handler": "vars", "root": "/srv"}]}])),
        ] {
            assert_eq!(adapt_values(text), Ok(want), "{text}");
        }
        assert!(adapt_values("root").is_err());
        assert!(adapt_values("root a b c").is_err());
    }

    #[test]
    fn sets() {
        let mut ex = Exchange::for_test("/p");
        let directives = [
            "vars a \"[{http.request.uri.path}]\"",
            "vars b 3",
            "log_skip",
            "log_name x",
            "respond \"{http.vars.a} {http.vars.b} {http.vars.c}|\"",
        ];
        assert_eq!(run_in(&directives, &mut ex).expect("answers").body, "[/p] 3 |");
        assert!(ex.log.skip);
        assert_eq!(ex.log.names.as_deref(), Some(&["x".to_owned()][..]));
        // A text names no logger.
        let directives = ["vars access_logger_names x", "respond x"];
        assert!(run_in(&directives, &mut ex).is_ok());
        assert_eq!(ex.log.names, None);
        assert!(run("respond x", "/").is_ok());
    }
}
