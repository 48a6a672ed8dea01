//! Adds a field to the request's access log entry: `log_append`.
//!
//! ```text
//! log_append [<matcher>] [<]<field> <value>
//! ```
//!
//! The value is a placeholder, the name of a variable, or a constant. It is read after the other
//! handlers are done, or before them where `<` stands in front of the field.
//!
//! JSON: `{"handler": "log_append", "key": "field", "value": "{placeholder}", "early": true}`.

use base64::Engine as _;
use caddis_caddyfile::Result as ParseResult;
use caddis_config::ConfigError;
use caddis_core::{
    CompileCx, Directive, DirectiveKind, Exchange, Filter, Flow, Handler, HandlerModule, Helper,
    LocalBoxFuture, Middleware, Next, Response, Result as HttpResult, Template, Value,
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{
    request_body::{mentioned, with_body_placeholders},
    response_headers,
    support::run_next,
};

/// `http.handlers.log_append`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.log_append", compile };
/// `log_append`.
pub static DIRECTIVE: Directive =
    Directive { name: "log_append", kind: DirectiveKind::Handler(parse), ordered: true };

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The field's name; with a `<` in front it is added early.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub key: String,
    /// Placeholder, variable or constant.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub value: String,
    /// Whether it is added before the other handlers run.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub early: bool,
}

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    h.d.next();
    // What else is on the line is not looked at, as in Caddy.
    let mut next = || if h.d.next_arg() { Ok(h.d.val().to_owned()) } else { Err(h.d.arg_err()) };
    let (key, value) = (next()?, next()?);
    h.handler("log_append", &Config { key, value, early: false })
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let config: Config = cx.decode(json, "handler")?;
    let (key, marked) = match config.key.strip_prefix('<') {
        Some(key) if !key.is_empty() => (key.to_owned(), true),
        _ => (config.key, false),
    };
    let base64 = match config.value.as_str() {
        "{http.response.body}" => Some(false),
        "{http.response.body_base64}" => Some(true),
        _ => None,
    };
    if let Some(base64) = base64 {
        return Ok(Handler::middleware(ResponseBody { key, base64 }));
    }
    let looks_like_placeholder = config.value.starts_with('{')
        && config.value.ends_with('}')
        && config.value.matches('{').count() == 1;
    let field = if looks_like_placeholder {
        Field { key, value: Source::Placeholder(Template::parse(&config.value)) }
    } else {
        Field { key, value: Source::VarOrConstant(config.value) }
    };
    let wants_body = match &field.value {
        Source::Placeholder(template) => mentioned(&[template]),
        Source::VarOrConstant(_) => false,
    };
    Ok(if wants_body || marked || config.early {
        with_body_placeholders(Early(field), wants_body)
    } else {
        Handler::middleware(Late(field))
    })
}

struct Field {
    key: String,
    value: Source,
}

enum Source {
    Placeholder(Template),
    VarOrConstant(String),
}

impl Field {
    fn add(&self, ex: &mut Exchange) {
        let value = match &self.value {
            Source::Placeholder(template) => match template.single_value(ex) {
                // A field that the request lacks is an empty text in Caddy.
                Some(Value::Null) if template.keys().all(|key| key.starts_with(HEADER)) => {
                    Value::str("")
                }
                value => value.unwrap_or(Value::Null).into_owned(),
            },
            Source::VarOrConstant(text) => {
                ex.var(text).cloned().unwrap_or_else(|| Value::string(text.as_str()))
            }
        };
        ex.log.extra.push((self.key.as_str().into(), value));
    }
}

/// The beginning of placeholders of the request's fields.
const HEADER: &str = "http.request.header.";

struct Early(Field);

impl Filter for Early {
    fn apply(&self, ex: &mut Exchange) -> HttpResult<Flow> {
        self.0.add(ex);
        Ok(Flow::Continue)
    }
}

struct Late(Field);

impl Middleware for Late {
    fn handle<'a>(
        &'a self,
        ex: &'a mut Exchange,
        next: Next<'a>,
    ) -> LocalBoxFuture<'a, HttpResult<Response>> {
        Box::pin(async move {
            let result = run_next(next, ex).await;
            if let (Source::Placeholder(template), Ok(response)) = (&self.0.value, &result)
                && response_headers::mentioned(&[template])
            {
                response_headers::offer(ex, response.headers());
            }
            self.0.add(ex);
            result
        })
    }
}

struct ResponseBody {
    key: String,
    base64: bool,
}

/// The most of a body that goes to the log; longer ones are cut there.
const MOST: usize = 16 << 20;

impl Middleware for ResponseBody {
    fn handle<'a>(
        &'a self,
        ex: &'a mut Exchange,
        next: Next<'a>,
    ) -> LocalBoxFuture<'a, HttpResult<Response>> {
        Box::pin(async move {
            let mut response = run_next(next, ex).await?;
            let ahead = response.body_mut().take().read_ahead(MOST).await;
            let bytes = ahead.read().get(..MOST).unwrap_or(ahead.read());
            let text = if self.base64 {
                base64::engine::general_purpose::STANDARD.encode(bytes)
            } else {
                String::from_utf8_lossy(bytes).into_owned()
            };
            *response.body_mut() = ahead.into_body();
            ex.log.extra.push((self.key.as_str().into(), Value::string(text)));
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::handlers::tests::{adapt, run_in};
    use caddis_core::{Exchange, Value};
    use serde_json::json;

    #[test]
    fn adapts() {
        assert_eq!(
            adapt("log_append area static"),
            Ok(json!({"handler": "log_append", "key": "area", "value": "static"}))
        );
        assert_eq!(
            adapt("log_append <path {http.request.uri.path}"),
            Ok(json!({"handler": "log_append", "key": "<path",
                "value": "{http.request.uri.path}"}))
        );
        assert!(adapt("log_append area").is_err());
        assert_eq!(adapt("log_append a b c"), adapt("log_append a b"));
    }

    #[test]
    fn appends() {
        let mut ex = Exchange::for_test("/old");
        ex.request.body = "in".into();
        let directives = [
            "log_append <early {http.request.uri.path}",
            "log_append late {http.request.uri.path}",
            "log_append constant text",
            "log_append variable count",
            "log_append response {http.response.body}",
            "log_append base {http.response.body_base64}",
            "log_append request {http.request.body}",
            "log_append type {http.response.header.Content-Type}",
            "log_append absent {http.request.header.Nope}",
            "log_append unknown {http.nope}",
            "vars count 3",
            "rewrite /new",
            "respond out",
        ];
        assert_eq!(run_in(&directives, &mut ex).expect("answers").body, "out");
        let mut fields: Vec<_> =
            ex.log.extra.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        fields.sort_by_key(|(key, _)| *key);
        let text = |text: &'static str| Value::str(text);
        assert_eq!(
            fields,
            [
                ("absent", text("")),
                ("base", text("b3V0")),
                ("constant", text("text")),
                ("early", text("/old")),
                ("late", text("/new")),
                ("request", text("in")),
                ("response", text("out")),
                ("type", text("text/plain; charset=utf-8")),
                ("unknown", Value::Null),
                ("variable", Value::Int(3)),
            ]
        );
    }

    #[test]
    fn appends_after_errors() {
        let mut ex = Exchange::for_test("/");
        assert!(run_in(&["log_append a b", "error 500"], &mut ex).is_err());
        assert_eq!(ex.log.extra.len(), 1);
    }
}
