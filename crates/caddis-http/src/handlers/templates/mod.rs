//! Page templates: `templates`. Answers of some media types are run as Go's `text/template` with
//! Caddy's functions and sprig's, those left out that make keys, passwords and certificates.
//!
//! ```text
//! templates [<matcher>] {
//!     mime    <types...>
//!     between <open_delim> <close_delim>
//!     root    <path>
//! }
//! ```
//!
//! JSON: `{"handler": "templates", "file_root": "", "mime_types": [], "delimiters": []}`.

mod eval;
mod front_matter;
mod functions;
mod include;
mod lexer;
pub(crate) mod listing;
mod markdown;
mod needs;
mod objects;
mod parser;
#[cfg(test)]
mod tests;
mod value;
mod yaml;

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use caddis_caddyfile::Result as ParseResult;
use caddis_config::ConfigError;
use caddis_core::{
    Body, CompileCx, Connection, Directive, DirectiveKind, Exchange, Handler, HandlerModule,
    Helper, HttpError, LocalBoxFuture, Middleware, Next, Request, Response, Result as HttpResult,
    Template, Worker,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub use self::value::ServerData;
use self::{
    eval::{Run, Stop},
    needs::{Loaded, Need},
    value::{Object, Val},
};

/// `http.handlers.templates`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.templates", compile };
/// `templates`.
pub static DIRECTIVE: Directive =
    Directive { name: "templates", kind: DirectiveKind::Handler(parse), ordered: true };

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where included files are.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub file_root: String,
    /// Media types of answers that are templates.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub mime_types: Vec<String>,
    /// What opens and closes an action.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub delimiters: Vec<String>,
    /// Function modules.
    #[serde(
        rename = "match",
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub functions: BTreeMap<String, Json>,
}

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    let d = &mut h.d;
    d.next();
    let mut config = Config::default();
    while d.next_block(0) {
        match d.val() {
            "mime" => {
                config.mime_types = d.remaining_args();
                if config.mime_types.is_empty() {
                    return Err(d.arg_err());
                }
            }
            "between" => {
                config.delimiters = d.remaining_args();
                if config.delimiters.len() != 2 {
                    return Err(d.arg_err());
                }
            }
            "root" => {
                let Some([root]) = d.all_args() else { return Err(d.arg_err()) };
                config.file_root = root;
            }
            "extensions" => {
                if d.next_arg() {
                    return Err(d.arg_err());
                }
                let nesting = d.nesting();
                if d.next_block(nesting) {
                    // Functions are modules of plugins; none is compiled in.
                    let id = format!("http.handlers.templates.functions.{}", d.val());
                    return Err(d.err(format_args!(
                        "getting module named '{id}': module not registered: {id}"
                    )));
                }
            }
            _ => {}
        }
    }
    h.handler("templates", &config)
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let config: Config = cx.decode(json, "handler")?;
    if let Some(name) = config.functions.keys().next() {
        let namespace = "http.handlers.templates.functions";
        return Err(caddis_core::compile::unknown_module(namespace, name, "match"));
    }
    let delimiters = match config.delimiters.as_slice() {
        [] => ("{{".to_owned(), "}}".to_owned()),
        [open, close] if !open.is_empty() && !close.is_empty() => (open.clone(), close.clone()),
        _ => {
            let message = "delimiters must consist of exactly two elements: opening and closing";
            return Err(ConfigError::new("delimiters", message));
        }
    };
    let types = match config.mime_types.is_empty() {
        true => DEFAULT_TYPES.map(str::to_owned).to_vec(),
        false => config.mime_types,
    };
    let root = match config.file_root.as_str() {
        "" => "{http.vars.root}",
        root => root,
    };
    cx.asks_own_server = true;
    Ok(Handler::middleware(Templates { root: Template::parse(root), types, delimiters }))
}

const DEFAULT_TYPES: [&str; 3] = ["text/html", "text/plain", "text/markdown"];
/// The largest answer that is run, and the largest file that is read.
const MAX_SIZE: usize = 64 << 20;
/// Files that one template may ask for.
const MAX_FILES: usize = 200;

struct Templates {
    root: Template,
    types: Vec<String>,
    delimiters: (String, String),
}

impl Middleware for Templates {
    fn handle<'a>(
        &'a self,
        ex: &'a mut Exchange,
        next: Next<'a>,
    ) -> LocalBoxFuture<'a, HttpResult<Response>> {
        Box::pin(async move {
            let outer_filters = ex.response_filters.len();
            let mut response = next.run(ex).await?;
            // The filters of later handlers belong to the answer that is looked at here.
            while ex.response_filters.len() > outer_filters
                && let Some(filter) = ex.response_filters.pop()
            {
                filter.apply(ex, &mut response);
            }
            if self.is_template(&response) { self.run(ex, response).await } else { Ok(response) }
        })
    }
}

impl Templates {
    fn is_template(&self, response: &Response) -> bool {
        let value = response.headers().get(header::CONTENT_TYPE);
        let kind = value.and_then(|value| value.to_str().ok()).unwrap_or_default();
        response.status() != StatusCode::NOT_MODIFIED
            && self.types.iter().any(|known| kind.contains(known.as_str()))
    }

    async fn run(&self, ex: &mut Exchange, mut response: Response) -> HttpResult<Response> {
        let bytes = response.body_mut().take().collect(MAX_SIZE).await?;
        let text = String::from_utf8_lossy(&bytes);
        match self.text(ex, &text, response.headers().clone()).await {
            Ok((text, mut headers)) => {
                for name in [
                    header::ACCEPT_RANGES,
                    header::LAST_MODIFIED,
                    header::ETAG,
                    header::CONTENT_LENGTH,
                ] {
                    headers.remove(name);
                }
                if ex.request.method == Method::HEAD {
                    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
                }
                *response.headers_mut() = headers;
                *response.body_mut() = Body::from(text);
                Ok(response)
            }
            Err(error) => {
                let mut headers = std::mem::take(response.headers_mut());
                for name in [
                    header::ACCEPT_RANGES,
                    header::LAST_MODIFIED,
                    header::ETAG,
                    header::CONTENT_LENGTH,
                    header::CONTENT_TYPE,
                ] {
                    headers.remove(name);
                }
                ex.early_headers = headers;
                Err(error)
            }
        }
    }

    async fn text(
        &self,
        ex: &Exchange,
        text: &str,
        headers: HeaderMap,
    ) -> HttpResult<(String, HeaderMap)> {
        let delimiters = (&*self.delimiters.0, &*self.delimiters.1);
        let page = Page { root: &self.root, headers, delimiters };
        let name = ex.request.target.path();
        page.run(ex, |run| run.text(name, text, Vec::new())).await
    }
}

/// Runs a text with nothing but the data of a server, and without a request: it may read no file.
///
/// # Errors
/// A mistake of the template, as Go says it.
pub fn run_body(text: &str, server: ServerData) -> Result<String, String> {
    let connection = Connection {
        remote: None,
        remote_ip: Default::default(),
        local: None,
        local_name: Default::default(),
        tls: None,
    };
    let ex = Exchange::new(Request::default(), Rc::new(connection), Worker::new(1));
    let files = HashMap::new();
    let mut run = Run::new(&ex, &files, HeaderMap::new(), ("{{", "}}"));
    let dot = Val::Object(Object::Server(Rc::new(server)));
    run.data("body", text, dot).map_err(|stop| match stop {
        Stop::Need(_) => "template: body: there is no request to ask this of".to_owned(),
        Stop::Text(text) => format!("template: body: {text}"),
        other => finish(other).to_string(),
    })
}

/// A text that is to be run.
struct Page<'a> {
    /// Where its files are.
    root: &'a Template,
    /// The answer's fields before it runs.
    headers: HeaderMap,
    delimiters: (&'a str, &'a str),
}

impl Page<'_> {
    /// Runs it; begins anew each time that something had to be loaded first. What it prints, and
    /// the answer's fields.
    async fn run(
        self,
        ex: &Exchange,
        run_once: impl Fn(&mut Run<'_>) -> Result<String, Stop>,
    ) -> HttpResult<(String, HeaderMap)> {
        let mut files = HashMap::new();
        let mut steps = 0;
        loop {
            let mut run = Run::new(ex, &files, self.headers.clone(), self.delimiters);
            run.steps = steps;
            let result = run_once(&mut run);
            // All rounds together are bounded.
            steps = run.steps;
            let changed = run.headers.take();
            drop(run);
            match result {
                Ok(text) => return Ok((text, changed)),
                Err(Stop::Need(need)) if files.len() < MAX_FILES => {
                    let loaded = match &need {
                        Need::Http(uri) => Loaded::Text(include::ask(ex, uri).await?),
                        _ => needs::load(self.root.render(ex).into_owned(), need.clone()).await,
                    };
                    files.insert(need, loaded);
                }
                Err(stop) => return Err(finish(stop)),
            }
        }
    }
}

/// A run's end as an error of the handler.
fn finish(stop: Stop) -> HttpError {
    match stop {
        Stop::Need(_) => HttpError::internal("too many files"),
        Stop::Status(status) => HttpError::status(status),
        Stop::Text(text) => HttpError::internal(format_args!("template: {text}")),
        Stop::Break | Stop::Continue => {
            HttpError::internal("template: break or continue outside range")
        }
    }
}
