//! Answers from the configuration: `respond`, `redir`, `abort`.
//!
//! ```text
//! respond [<matcher>] <status>|<body> [<status>] {
//!     body <text>
//!     close
//! }
//! redir [<matcher>] <to> [permanent|temporary|html|<code>]
//! abort [<matcher>]
//! ```
//!
//! JSON: `{"handler": "static_response", "status_code": 200, "headers": {"X": ["v"]},
//! "body": "text", "close": true, "abort": true}`.

use std::collections::BTreeMap;

use bytes::Bytes;
use caddis_caddyfile::{Result as ParseResult, nearest};
use caddis_config::{ConfigError, WeakString};
use caddis_core::{
    Body, CompileCx, Directive, DirectiveKind, Exchange, Filter, Flow, Handler, HandlerModule,
    Helper, HttpError, Result as HttpResult, Template,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{
    request_body::with_body_placeholders,
    response_headers,
    support::{HeaderLists, escape_html, field_name, field_value, parse_status},
};

/// `http.handlers.static_response`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.static_response", compile };
/// `respond`.
pub static RESPOND: Directive =
    Directive { name: "respond", kind: DirectiveKind::Handler(parse_respond), ordered: true };
/// `redir`.
pub static REDIR: Directive =
    Directive { name: "redir", kind: DirectiveKind::Handler(parse_redir), ordered: true };
/// `abort`.
pub static ABORT: Directive =
    Directive { name: "abort", kind: DirectiveKind::Handler(parse_abort), ordered: true };

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The status; 200, or that of the error being handled, where it is missing.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "WeakString::is_empty"
    )]
    pub status_code: WeakString,
    /// Header fields to set.
    #[serde(
        deserialize_with = "super::support::header_lists",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub headers: HeaderLists,
    /// The body.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub body: String,
    /// Whether the connection is closed after the answer.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub close: bool,
    /// Whether the connection is closed without an answer.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub abort: bool,
}

fn parse_respond(h: &mut Helper<'_>) -> ParseResult<Json> {
    let d = &mut h.d;
    d.next();
    let mut config = Config::default();
    let args = d.remaining_args();
    match args.as_slice() {
        [one] if is_status(one) => config.status_code = one.as_str().into(),
        [one] => config.body.clone_from(one),
        [body, status] => {
            config.body.clone_from(body);
            config.status_code = status.as_str().into();
        }
        _ => return Err(d.arg_err()),
    }
    while d.next_block(0) {
        match d.val() {
            "body" => {
                if !config.body.is_empty() {
                    return Err(d.err("body already specified"));
                }
                let Some([body]) = d.all_args() else { return Err(d.arg_err()) };
                config.body = body;
            }
            "close" if config.close => return Err(d.err("close already specified")),
            "close" => config.close = true,
            other => {
                let error = d.err(format!("unrecognized subdirective '{other}'"));
                return Err(d.did_you_mean(error, ["body", "close"]));
            }
        }
    }
    h.handler("static_response", &config)
}

/// Whether a lone argument is a status: three characters that are a positive number.
pub(super) fn is_status(text: &str) -> bool {
    text.len() == 3 && text.parse::<i32>().is_ok_and(|number| number > 0)
}

fn parse_abort(h: &mut Helper<'_>) -> ParseResult<Json> {
    h.d.next();
    if h.d.next() || h.d.next_block(0) {
        return Err(h.d.arg_err());
    }
    h.handler("static_response", &Config { abort: true, ..Config::default() })
}

fn parse_redir(h: &mut Helper<'_>) -> ParseResult<Json> {
    let d = &mut h.d;
    d.next();
    if !d.next_arg() {
        return Err(d.arg_err());
    }
    let to = d.val().to_owned();
    let code = if d.next_arg() { d.val().to_owned() } else { String::new() };
    let mut config = Config::default();
    let mut location = ("Location", to.clone());
    match code.as_str() {
        "permanent" => config.status_code = "301".into(),
        "temporary" | "" => config.status_code = "302".into(),
        "html" => {
            config.status_code = "200".into();
            config.body = redirect_page(&to);
            location = ("Content-Type", "text/html; charset=utf-8".to_owned());
        }
        placeholder if placeholder.starts_with('{') => config.status_code = placeholder.into(),
        number => {
            let Ok(value) = number.parse::<i64>() else {
                let error = d.err(format!(
                    "Not a supported redir code type or not valid integer: '{number}'"
                ));
                return Err(match nearest(number, ["permanent", "temporary", "html"]) {
                    Some(near) => error.meant(near),
                    None => error,
                });
            };
            if !(300..=399).contains(&value) && value != 401 {
                return Err(d.err(format!("Redir code not in the 3xx range or 401: '{value}'")));
            }
            config.status_code = number.into();
        }
    }
    config.headers.insert(location.0.to_owned(), vec![location.1]);
    h.handler("static_response", &config)
}

/// The page of `redir … html`. The script comes first, as it keeps the page out of the history.
fn redirect_page(to: &str) -> String {
    let to = escape_html(to);
    format!(
        "<!DOCTYPE html>\n<html>\n\t<head>\n\t\t<title>Redirecting...</title>\n\
         \t\t<script>window.location.replace(\"{to}\");</script>\n\
         \t\t<meta http-equiv=\"refresh\" content=\"0; URL='{to}'\">\n\t</head>\n\
         \t<body>Redirecting to <a href=\"{to}\">{to}</a>...</body>\n</html>\n"
    )
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let config: Config = cx.decode(json, "handler")?;
    if config.abort {
        return Ok(Handler::filter(Abort));
    }
    let status = match config.status_code.as_str() {
        "" => Status::Default,
        // A text that is no status fails when it is asked for, as in Caddy.
        text => match parse_status(text) {
            Ok(status) => Status::Fixed(status),
            Err(_) => Status::Dynamic(Template::parse(text)),
        },
    };
    let body = match Template::parse(&config.body) {
        template if template.as_static().is_none() => Text::Dynamic(template),
        template => {
            let text = template.as_static().unwrap_or_default().to_owned();
            Text::Static(content_type(&text), Bytes::from(text))
        }
    };
    let headers = config
        .headers
        .iter()
        .map(|(name, values)| Field::compile(name, values))
        .collect::<Vec<_>>();
    let templates = headers.iter().flat_map(Field::templates);
    let templates: Vec<&Template> = templates
        .chain(match &body {
            Text::Dynamic(template) => Some(template),
            Text::Static(..) => None,
        })
        .collect();
    let wants_response_headers = response_headers::mentioned(&templates);
    let wants_body = super::request_body::mentioned(&templates);
    let handler =
        StaticResponse { status, headers, body, close: config.close, wants_response_headers };
    Ok(with_body_placeholders(handler, wants_body))
}

struct Abort;

impl Filter for Abort {
    fn apply(&self, _: &mut Exchange) -> HttpResult<Flow> {
        Err(HttpError::abort())
    }
}

enum Status {
    Default,
    Fixed(StatusCode),
    Dynamic(Template),
}

enum Text {
    Static(HeaderValue, Bytes),
    Dynamic(Template),
}

enum Field {
    Static(HeaderName, Vec<HeaderValue>),
    Dynamic(Template, Vec<Template>),
}

impl Field {
    fn compile(name: &str, values: &[String]) -> Self {
        let name_template = Template::parse(name);
        let values: Vec<_> = values.iter().map(|value| Template::parse(value)).collect();
        let fixed = name_template.as_static().and_then(field_name).zip(
            values
                .iter()
                .map(|value| value.as_static().map(field_value))
                .collect::<Option<Vec<_>>>(),
        );
        match fixed {
            Some((name, values)) => Self::Static(name, values),
            None => Self::Dynamic(name_template, values),
        }
    }

    fn templates(&self) -> Vec<&Template> {
        match self {
            Self::Static(..) => Vec::new(),
            Self::Dynamic(name, values) => std::iter::once(name).chain(values).collect(),
        }
    }

    fn set(&self, headers: &mut HeaderMap, ex: &Exchange) {
        match self {
            Self::Static(name, values) => set_all(headers, name, values.iter().cloned()),
            Self::Dynamic(name, values) => {
                let Some(name) = field_name(&name.render(ex)) else { return };
                set_all(headers, &name, values.iter().map(|value| field_value(&value.render(ex))));
            }
        }
    }
}

fn set_all(headers: &mut HeaderMap, name: &HeaderName, values: impl Iterator<Item = HeaderValue>) {
    headers.remove(name);
    for value in values {
        headers.append(name, value);
    }
}

struct StaticResponse {
    status: Status,
    headers: Vec<Field>,
    body: Text,
    close: bool,
    wants_response_headers: bool,
}

impl StaticResponse {
    /// Header fields are set before the status is looked at, so an answer to the error has them.
    #[cold]
    fn bad_status(&self, ex: &mut Exchange, error: impl std::fmt::Display) -> HttpError {
        let mut headers = std::mem::take(&mut ex.early_headers);
        for field in &self.headers {
            field.set(&mut headers, ex);
        }
        let content_type = match &self.body {
            Text::Static(_, body) if body.is_empty() => None,
            Text::Static(content_type, _) => Some(content_type.clone()),
            Text::Dynamic(template) => Some(template.render_known(ex))
                .filter(|text| !text.is_empty())
                .map(|text| content_type(&text)),
        };
        if let Some(content_type) = content_type {
            headers.entry(header::CONTENT_TYPE).or_insert(content_type);
        }
        ex.early_headers = headers;
        HttpError::internal(error)
    }
}

impl Filter for StaticResponse {
    fn apply(&self, ex: &mut Exchange) -> HttpResult<Flow> {
        if self.wants_response_headers {
            response_headers::offer_early(ex);
        }
        let status = match &self.status {
            Status::Default => ex.default_status(),
            Status::Fixed(status) => *status,
            Status::Dynamic(template) => {
                let parsed = parse_status(&template.render(ex));
                parsed.map_err(|error| self.bad_status(ex, error))?
            }
        };
        if self.close {
            ex.close = true;
        }
        let (content_type, body) = match &self.body {
            Text::Static(content_type, body) => (content_type.clone(), body.clone()),
            Text::Dynamic(template) => {
                let text = template.render_known(ex).into_owned();
                (content_type(&text), Bytes::from(text))
            }
        };
        let early = status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS;
        let mut headers = std::mem::take(&mut ex.early_headers);
        for field in &self.headers {
            field.set(&mut headers, ex);
        }
        if !body.is_empty() && headers.get(header::CONTENT_TYPE).is_none_or(HeaderValue::is_empty) {
            headers.insert(header::CONTENT_TYPE, content_type);
        }
        ex.early_headers = headers;
        if early {
            if let Some(send) = ex.informational.clone() {
                send(status, ex.early_headers.clone());
            }
            if status == StatusCode::EARLY_HINTS {
                return Ok(Flow::Continue);
            }
        }
        let mut response = ex.respond(if early { StatusCode::OK } else { status });
        *response.body_mut() = Body::from(body);
        Ok(Flow::Respond(response))
    }
}

/// JSON objects and arrays are recognised; all else is plain text, so that nothing is sniffed.
fn content_type(body: &str) -> HeaderValue {
    let content = body.trim();
    let looks = content.len() > 2
        && (content.starts_with('{') && content.ends_with('}')
            || content.starts_with('[') && content.ends_with(']'));
    if looks && serde_json::from_str::<serde::de::IgnoredAny>(content).is_ok() {
        HeaderValue::from_static("application/json")
    } else {
        HeaderValue::from_static("text/plain; charset=utf-8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::tests::{adapt, run};
    use serde_json::json;

    #[test]
    fn respond_forms() {
        let cases = [
            ("respond 204", json!({"handler": "static_response", "status_code": 204})),
            ("respond hello", json!({"handler": "static_response", "body": "hello"})),
            ("respond \"404\"", json!({"handler": "static_response", "status_code": 404})),
            (
                "respond teapot 418",
                json!({"handler": "static_response", "body": "teapot", "status_code": 418}),
            ),
            (
                "respond 202 {\n body x\n close\n}",
                json!({"handler": "static_response", "body": "x", "close": true,
                    "status_code": 202}),
            ),
            ("abort", json!({"handler": "static_response", "abort": true})),
            (
                "redir /to",
                json!({"handler": "static_response", "status_code": 302,
                    "headers": {"Location": ["/to"]}}),
            ),
            (
                "redir /to {query.code}",
                json!({"handler": "static_response", "status_code": "{query.code}",
                    "headers": {"Location": ["/to"]}}),
            ),
        ];
        for (text, want) in cases {
            assert_eq!(adapt(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn mistakes() {
        for (text, want) in [
            ("respond", "wrong argument count"),
            ("respond a b c", "wrong argument count"),
            ("respond a {\n body b\n}", "body already specified"),
            ("respond 200 {\n bod b\n}", "unrecognized subdirective 'bod'"),
            ("redir /x 200", "Redir code not in the 3xx range or 401: '200'"),
            ("redir /x nope", "Not a supported redir code type or not valid integer: 'nope'"),
            ("abort now", "wrong argument count"),
        ] {
            let error = adapt(text).expect_err(text);
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn answers() {
        let response = run("respond \"{http.request.method} {nope}\" 201", "/").expect("answers");
        assert_eq!(response.status, 201);
        assert_eq!(response.body, "GET {nope}");
        assert_eq!(response.headers["content-type"], "text/plain; charset=utf-8");
        let response = run("respond `{\"ok\":true}`", "/").expect("answers");
        assert_eq!(response.headers["content-type"], "application/json");
        let response = run("respond 204", "/").expect("answers");
        assert!(response.headers.get("content-type").is_none());
        let response = run("redir https://x.test{http.request.uri} 308", "/a?b").expect("answers");
        assert_eq!((response.status, &*response.body), (308.into_status(), ""));
        assert_eq!(response.headers["location"], "https://x.test/a?b");
        assert!(run("abort", "/").is_err());
        let error = run("respond x {http.request.uri.query.none}", "/").expect_err("no status");
        assert_eq!(error.status, 500);
        assert_eq!(error.message, "strconv.Atoi: parsing \"\": invalid syntax");
    }

    trait IntoStatus {
        fn into_status(self) -> StatusCode;
    }

    impl IntoStatus for u16 {
        fn into_status(self) -> StatusCode {
            StatusCode::from_u16(self).expect("valid")
        }
    }

    #[test]
    fn redirect_page_is_escaped() {
        let page = redirect_page("/x?q=<\"quoted\">");
        assert_eq!(page.len(), 342);
        assert!(page.contains("/x?q=&lt;&#34;quoted&#34;&gt;"));
    }
}
