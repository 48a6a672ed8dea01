//! HTTP/2 server push: `push`. Browsers have dropped it, so the settings are accepted and nothing
//! is pushed; `Link` headers with `rel=preload` do the same job.
//!
//! ```text
//! push [<matcher>] [<resource>] {
//!     [GET|HEAD] <resource>
//!     headers {
//!         [+|-]<field> [<value>|<find>] [<replacement>]
//!     }
//! }
//! ```
//!
//! JSON: `{"handler": "push", "resources": [{"method": "GET", "target": "/x"}], "headers": {}}`.

use caddis_caddyfile::Result as ParseResult;
use caddis_config::ConfigError;
use caddis_core::{
    CompileCx, Directive, DirectiveKind, Exchange, Filter, Flow, Handler, HandlerModule, Helper,
    Result as HttpResult,
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::headers::{HeaderOps, HeaderOpsConfig, request_op};

/// `http.handlers.push`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.push", compile };
/// `push`.
pub static DIRECTIVE: Directive =
    Directive { name: "push", kind: DirectiveKind::Handler(parse), ordered: true };

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What to push.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<Resource>,
    /// Header fields of the push requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<HeaderOpsConfig>,
}

/// One resource to push.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resource {
    /// GET or HEAD.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub method: String,
    /// The path.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub target: String,
}

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    let d = &mut h.d;
    d.next();
    let mut config = Config::default();
    if d.next_arg() {
        config.resources.push(Resource { target: d.val().to_owned(), ..Resource::default() });
    }
    while d.next_block(0) {
        match d.val() {
            "headers" => {
                if d.next_arg() {
                    return Err(d.arg_err());
                }
                let nesting = d.nesting();
                while d.next_block(nesting) {
                    let field = d.val().to_owned();
                    let args = d.remaining_args();
                    let ops = config.headers.get_or_insert_default();
                    let (value, replacement) = match args.as_slice() {
                        [] => ("", None),
                        [value] => (value.as_str(), None),
                        [value, replacement] => (value.as_str(), Some(replacement.as_str())),
                        _ => return Err(d.arg_err()),
                    };
                    request_op(ops, &field, value, replacement).map_err(|error| d.err(error))?;
                }
            }
            method @ ("GET" | "HEAD") => {
                let method = method.to_owned();
                if !d.next_arg() {
                    return Err(d.arg_err());
                }
                config.resources.push(Resource { method, target: d.val().to_owned() });
            }
            target => {
                let target = target.to_owned();
                config.resources.push(Resource { target, ..Resource::default() });
            }
        }
    }
    h.handler("push", &config)
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let config: Config = cx.decode(json, "handler")?;
    if let Some(headers) = &config.headers {
        HeaderOps::compile(headers).map_err(|error| error.under("headers"))?;
    }
    Ok(Handler::filter(Push))
}

struct Push;

impl Filter for Push {
    fn apply(&self, _: &mut Exchange) -> HttpResult<Flow> {
        Ok(Flow::Continue)
    }
}

#[cfg(test)]
mod tests {
    use crate::handlers::tests::{adapt, run_all};
    use serde_json::json;

    #[test]
    fn adapts() {
        for (text, want) in [
            ("push", json!({"handler": "push"})),
            ("push /a.css", json!({"handler": "push", "resources": [{"target": "/a.css"}]})),
            (
                "push {\n GET /a\n HEAD /b\n headers {\n Foo bar\n }\n}",
                json!({"handler": "push", "headers": {"set": {"Foo": ["bar"]}}, "resources":
                    [{"method": "GET", "target": "/a"}, {"method": "HEAD", "target": "/b"}]}),
            ),
        ] {
            assert_eq!(adapt(text), Ok(want), "{text}");
        }
        assert_eq!(run_all(&["push /x", "respond ok"], "/").expect("answers").body, "ok");
    }
}
