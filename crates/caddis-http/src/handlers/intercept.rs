//! Replaces answers of later handlers: `intercept`.
//!
//! ```text
//! intercept [<matcher>] {
//!     @name <response matcher>
//!     handle_response [@name] {
//!         <directives...>
//!     }
//!     replace_status [@name] <code>
//! }
//! ```
//!
//! JSON: `{"handler": "intercept", "handle_response": [{"match": {}, "status_code": 404,
//! "routes": []}]}`.

use std::{collections::BTreeMap, rc::Rc};

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use caddis_config::{ConfigError, Route, WeakString};
use caddis_core::{
    CompileCx, Directive, DirectiveKind, Exchange, Handler, HandlerModule, Helper, LocalBoxFuture,
    Middleware, Next, NoSniff, Response, ResponseMatcher, Result as HttpResult, RouteList,
    Template, Value, exchange::PlaceholderSource, placeholder::header_value,
    response_matcher::ResponseMatcherConfig,
};
use http::{HeaderMap, HeaderName, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{
    response_matcher::parse_named,
    support::{parse_status, run_next},
};

/// `http.handlers.intercept`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.intercept", compile };
/// `intercept`.
pub static DIRECTIVE: Directive =
    Directive { name: "intercept", kind: DirectiveKind::Handler(parse), ordered: true };

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is done with which answer; the first that matches counts.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub handle_response: Vec<ResponseHandlerConfig>,
}

/// What is done with an answer; also in `reverse_proxy`'s `handle_response`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResponseHandlerConfig {
    /// What the answer must be like.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub matcher: Option<ResponseMatcherConfig>,
    /// A status to use instead; the answer stays otherwise.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "WeakString::is_empty"
    )]
    pub status_code: WeakString,
    /// Routes that answer instead.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
}

type Matchers = BTreeMap<String, ResponseMatcherConfig>;

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    let mut matchers = Matchers::new();
    let mut handlers = Vec::new();
    let mut segments = Vec::new();
    let d = &mut h.d;
    d.next();
    while d.next_block(0) {
        if d.val().starts_with('@') {
            parse_named(&mut d.new_from_next_segment(), &mut matchers)?;
            continue;
        }
        match d.val() {
            "handle_response" => segments.push(d.new_from_next_segment()),
            "replace_status" => handlers.push(parse_replace_status(d, &matchers)?),
            _ => {
                let names = ["handle_response", "replace_status"];
                return Err(d.unrecognized("subdirective", names));
            }
        }
    }
    for segment in segments {
        handlers.push(parse_handle_response(h, segment, &matchers)?);
    }
    // Those without a matcher take everything, so they come last.
    handlers.sort_by_key(|handler| handler.matcher.is_none());
    h.handler("intercept", &Config { handle_response: handlers })
}

/// Finds a response matcher by its name with the `@`.
fn find(d: &Dispenser, matchers: &Matchers, name: &str) -> ParseResult<ResponseMatcherConfig> {
    let Some(bare) = name.strip_prefix('@') else {
        return Err(d.err("must use a named response matcher, starting with '@'"));
    };
    matchers
        .get(name)
        .cloned()
        .ok_or_else(|| d.err(format!("no named response matcher defined with name '{bare}'")))
}

fn parse_replace_status(
    d: &mut Dispenser,
    matchers: &Matchers,
) -> ParseResult<ResponseHandlerConfig> {
    let args = d.remaining_args();
    let (matcher, status) = match args.as_slice() {
        [status] => (None, status),
        [name, status] => (Some(find(d, matchers, name)?), status),
        _ => {
            return Err(d.err(
                "must have one or two arguments: an optional response matcher, and a status code",
            ));
        }
    };
    let nesting = d.nesting();
    if d.next_block(nesting) {
        let message = "cannot define routes for 'replace_status', use 'handle_response' instead.";
        return Err(d.err(message));
    }
    Ok(ResponseHandlerConfig { matcher, status_code: status.as_str().into(), routes: Vec::new() })
}

/// Reads one `handle_response` with its block of directives.
fn parse_handle_response(
    h: &mut Helper<'_>,
    mut d: Dispenser,
    matchers: &Matchers,
) -> ParseResult<ResponseHandlerConfig> {
    d.next();
    let args = d.remaining_args();
    let matcher = match args.as_slice() {
        [] => None,
        [name] => Some(find(&d, matchers, name)?),
        _ => {
            let args = args.join(" ");
            return Err(d.err(format!(
                "too many arguments for 'handle_response': only a single response matcher name is \
                 allowed, but got: [{args}]"
            )));
        }
    };
    let outer = std::mem::replace(&mut h.d, d);
    let routes = h.parse_routes();
    h.d = outer;
    Ok(ResponseHandlerConfig { matcher, routes: routes?, ..ResponseHandlerConfig::default() })
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let config: Config = cx.decode(json, "handler")?;
    let mut handlers = Vec::with_capacity(config.handle_response.len());
    for (at, handler) in config.handle_response.iter().enumerate() {
        let compiled = compile_one(handler, cx)
            .map_err(|error| error.under(at.to_string()).under("handle_response"))?;
        handlers.push(compiled);
    }
    Ok(Handler::middleware(Intercept { handlers }))
}

fn compile_one(
    config: &ResponseHandlerConfig,
    cx: &mut CompileCx<'_>,
) -> Result<ResponseHandler, ConfigError> {
    let matcher = config
        .matcher
        .as_ref()
        .map(ResponseMatcher::compile)
        .transpose()
        .map_err(|error| error.under("match"))?;
    let action = if config.status_code.is_empty() {
        Action::Routes(cx.routes(&config.routes).map_err(|error| error.under("routes"))?)
    } else {
        Action::Status(Template::parse(config.status_code.as_str()))
    };
    Ok(ResponseHandler { matcher, action })
}

struct ResponseHandler {
    matcher: Option<ResponseMatcher>,
    action: Action,
}

enum Action {
    Status(Template),
    Routes(RouteList),
}

struct Intercept {
    handlers: Vec<ResponseHandler>,
}

impl Middleware for Intercept {
    fn handle<'a>(
        &'a self,
        ex: &'a mut Exchange,
        next: Next<'a>,
    ) -> LocalBoxFuture<'a, HttpResult<Response>> {
        Box::pin(async move {
            let outer_filters = ex.response_filters.len();
            let mut response = run_next(next, ex).await?;
            // The filters of later handlers belong to the answer that is looked at here.
            while ex.response_filters.len() > outer_filters
                && let Some(filter) = ex.response_filters.pop()
            {
                filter.apply(ex, &mut response);
            }
            let found = self.handlers.iter().find(|handler| {
                handler
                    .matcher
                    .as_ref()
                    .is_none_or(|matcher| matcher.matches(response.status(), response.headers()))
            });
            match found.map(|handler| &handler.action) {
                None => {
                    if response.body().exact_len().is_none() {
                        // The head goes out at once; it does not wait for bytes to guess a type.
                        response.extensions_mut().insert(NoSniff);
                    }
                    Ok(response)
                }
                Some(Action::Status(template)) => {
                    *response.status_mut() = parse_status(&template.render(ex))
                        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                    Ok(response)
                }
                Some(Action::Routes(routes)) => answer_instead(ex, routes, response).await,
            }
        })
    }
}

/// Runs the routes on top of the answer's header fields; where they do not answer, its body (and
/// status) stay.
async fn answer_instead(
    ex: &mut Exchange,
    routes: &RouteList,
    response: Response,
) -> HttpResult<Response> {
    let (mut head, body) = response.into_parts();
    let source = Source { status: head.status, headers: head.headers.clone() };
    ex.add_source(PREFIX, Rc::new(source));
    let length = head.headers.remove(header::CONTENT_LENGTH);
    // An answer that came without `Server`, as a proxied one may, does not get it now.
    let server_header = ex.server_header;
    ex.server_header = server_header && head.headers.contains_key(header::SERVER);
    ex.early_headers = head.headers;
    let had_nop = std::mem::take(&mut ex.nop);
    let result = run_next(Next::new(routes, None), ex).await;
    ex.server_header = server_header;
    let mut response = result?;
    if std::mem::replace(&mut ex.nop, had_nop) {
        *response.status_mut() = head.status;
        *response.body_mut() = body;
        if let Some(length) = length {
            response.headers_mut().insert(header::CONTENT_LENGTH, length);
        }
    } else {
        ex.nop = false;
    }
    Ok(response)
}

const PREFIX: &str = "http.intercept.";

struct Source {
    status: StatusCode,
    headers: HeaderMap,
}

impl PlaceholderSource for Source {
    fn value(&self, key: &str, _: &Exchange) -> Option<Value<'static>> {
        match key.strip_prefix(PREFIX)? {
            "status_code" => Some(Value::Int(self.status.as_u16().into())),
            "status_text" => Some(Value::str(self.status.canonical_reason().unwrap_or(""))),
            rest => {
                let name = HeaderName::try_from(rest.strip_prefix("header.")?).ok()?;
                self.headers
                    .contains_key(&name)
                    .then(|| header_value(&self.headers, &name).into_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::handlers::tests::{adapt, run_all};
    use serde_json::json;

    const INTERCEPT: &str = "intercept {
        @missing status 404
        handle_response @missing {
            respond \"{http.intercept.status_code} was {http.intercept.header.X-Why}\" 410
        }
        @quiet header X-Quiet *
        handle_response @quiet {
            vars a b
        }
        @teapot status 418
        replace_status @teapot 503
    }";

    #[test]
    fn adapts() {
        let want = json!({"handler": "intercept", "handle_response": [
            {"match": {"status_code": [418]}, "status_code": 503},
            {"match": {"status_code": [404]}, "routes": [{"handle": [{
                "handler": "static_response", "status_code": 410, "body":
                "{http.intercept.status_code} was {http.intercept.header.X-Why}"}]}]},
            {"match": {"headers": {"X-Quiet": ["*"]}},
                "routes": [{"handle": [{"handler": "vars", "a": "b"}]}]}
        ]});
        assert_eq!(adapt(INTERCEPT), Ok(want));
        let sorted =
            adapt("intercept {\n replace_status 500\n @a status 4xx\n replace_status @a 1\n}");
        let sorted = sorted.expect("adapts");
        assert_eq!(sorted["handle_response"][0]["status_code"], 1);
        for (text, want) in [
            ("intercept {\n nope\n}", "unrecognized subdirective nope"),
            ("intercept {\n replace_status a b c\n}", "must have one or two arguments"),
            ("intercept {\n replace_status @x 5\n}", "no named response matcher defined"),
            ("intercept {\n handle_response a {\n respond x\n}\n}", "must use a named response"),
            ("intercept {\n handle_response a 4 {\n}\n}", "but got: [a 4]"),
        ] {
            assert!(adapt(text).expect_err(text).contains(want), "{text}");
        }
    }

    #[test]
    fn replaces() {
        let why = "header X-Why gone";
        let run = |rest: &[&str]| {
            let all: Vec<&str> = [INTERCEPT].into_iter().chain(rest.iter().copied()).collect();
            run_all(&all, "/").expect("answers")
        };
        let answer = run(&[why, "respond old 404"]);
        assert_eq!((answer.status.as_u16(), &*answer.body), (410, "404 was gone"));
        assert_eq!(answer.headers["x-why"], "gone");
        let answer = run(&["respond old 418"]);
        assert_eq!((answer.status.as_u16(), &*answer.body), (503, "old"));
        let answer = run(&["header >X-Quiet yes", "respond old 203"]);
        assert_eq!((answer.status.as_u16(), &*answer.body), (203, "old"));
        assert_eq!(answer.headers["x-quiet"], "yes");
        let answer = run(&["respond fine"]);
        assert_eq!((answer.status.as_u16(), &*answer.body), (200, "fine"));
    }
}
