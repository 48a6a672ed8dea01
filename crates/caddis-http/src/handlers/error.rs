//! Raises an error for the error routes: `error`.
//!
//! ```text
//! error [<matcher>] <status>|<message> [<status>] {
//!     message <text>
//! }
//! ```
//!
//! JSON: `{"handler": "error", "error": "message", "status_code": 500}`.

use caddis_caddyfile::Result as ParseResult;
use caddis_config::{ConfigError, WeakString};
use caddis_core::{
    CompileCx, Directive, DirectiveKind, Exchange, Filter, Flow, Handler, HandlerModule, Helper,
    HttpError, Result as HttpResult, Template, Value,
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{
    request_body::{mentioned, with_body_placeholders},
    static_response::is_status,
    support::parse_status,
};

/// `http.handlers.error`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.error", compile };
/// `error`.
pub static DIRECTIVE: Directive =
    Directive { name: "error", kind: DirectiveKind::Handler(parse), ordered: true };

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The error's text.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub error: String,
    /// The status, 500 where it is missing.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "WeakString::is_empty"
    )]
    pub status_code: WeakString,
}

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    let d = &mut h.d;
    d.next();
    let mut config = Config::default();
    let args = d.remaining_args();
    match args.as_slice() {
        [one] if is_status(one) => config.status_code = one.as_str().into(),
        [one] => config.error.clone_from(one),
        [message, status] => {
            config.error.clone_from(message);
            config.status_code = status.as_str().into();
        }
        _ => return Err(d.arg_err()),
    }
    while d.next_block(0) {
        match d.val() {
            "message" => {
                if !config.error.is_empty() {
                    return Err(d.err("message already specified"));
                }
                let Some([message]) = d.all_args() else { return Err(d.arg_err()) };
                config.error = message;
            }
            other => {
                let error = d.err(format!("unrecognized subdirective '{other}'"));
                return Err(d.did_you_mean(error, ["message"]));
            }
        }
    }
    h.handler("error", &config)
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let config: Config = cx.decode(json, "handler")?;
    let status = config.status_code.as_str();
    let handler =
        StaticError { message: Template::parse(&config.error), status: Template::parse(status) };
    let wants_body = mentioned(&[&handler.message]);
    Ok(with_body_placeholders(handler, wants_body))
}

struct StaticError {
    message: Template,
    status: Template,
}

impl Filter for StaticError {
    fn apply(&self, ex: &mut Exchange) -> HttpResult<Flow> {
        let status = if self.status.raw().is_empty() {
            StatusCode::INTERNAL_SERVER_ERROR
        } else {
            parse_status(&self.status.render(ex)).map_err(HttpError::internal)?
        };
        let message = self.message.render_known(ex).into_owned();
        if message.is_empty() {
            // An empty message stays empty; elsewhere the status' text stands for a missing one.
            ex.set_value("http.error.message", Value::Str("".into()));
        }
        Err(HttpError::new(status, message))
    }
}

#[cfg(test)]
mod tests {
    use crate::handlers::tests::{adapt, run};
    use serde_json::json;

    #[test]
    fn forms() {
        let cases = [
            ("error 418", json!({"handler": "error", "status_code": 418})),
            ("error wrong", json!({"handler": "error", "error": "wrong"})),
            ("error wrong 503", json!({"handler": "error", "error": "wrong", "status_code": 503})),
            (
                "error 403 {\n message \"not you\"\n}",
                json!({"handler": "error", "error": "not you", "status_code": 403}),
            ),
        ];
        for (text, want) in cases {
            assert_eq!(adapt(text), Ok(want), "{text}");
        }
        assert!(adapt("error").is_err());
        assert!(adapt("error a {\n message b\n}").is_err());
    }

    #[test]
    fn raises() {
        let error = run("error \"no {http.request.uri.path}\" 410", "/x").expect_err("an error");
        assert_eq!((error.status.as_u16(), error.message.as_str()), (410, "no /x"));
        let error = run("error text", "/x").expect_err("an error");
        assert_eq!((error.status.as_u16(), error.message.as_str()), (500, "text"));
    }
}
