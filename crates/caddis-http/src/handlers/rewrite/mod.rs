//! Changes method, path and query of a request: `rewrite`, `uri`, `method`.
//!
//! ```text
//! rewrite [<matcher>] <to>
//! method [<matcher>] <method>
//! uri [<matcher>] strip_prefix|strip_suffix <text>
//! uri [<matcher>] replace <find> <replacement> [<limit>]
//! uri [<matcher>] path_regexp <expression> <replacement>
//! uri [<matcher>] query [-|+]<key> [<value>] …
//! uri [<matcher>] query {
//!     <key> <value> | +<key> <value> | -<key> | <key>><new key> | <key> <find> <replacement>
//! }
//! ```
//!
//! JSON: `{"handler": "rewrite", "method": "", "uri": "", "strip_path_prefix": "",
//! "strip_path_suffix": "", "uri_substring": [], "path_regexp": [], "query": {}}`.

mod config;
mod path;
mod query;

use caddis_caddyfile::Result as ParseResult;
use caddis_config::ConfigError;
use caddis_core::{
    CompileCx, ConfigValue, Directive, DirectiveKind, Exchange, Filter, Flow, Handler,
    HandlerModule, Helper, Result as HttpResult, Target, Template,
};
use http::Method;
use serde_json::Value as Json;

pub use config::{Config, PathRegexp, QueryArgument, QueryOps, QueryReplacement, Substring};

use super::request_body::{mentioned, with_body_placeholders};
use path::{PathOp, Uri};
use query::Query;

/// `http.handlers.rewrite`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.rewrite", compile };
/// `rewrite`.
pub static REWRITE: Directive =
    Directive { name: "rewrite", kind: DirectiveKind::Values(parse_rewrite), ordered: true };
/// `method`.
pub static METHOD: Directive =
    Directive { name: "method", kind: DirectiveKind::Handler(parse_method), ordered: true };
/// `uri`.
pub static URI: Directive =
    Directive { name: "uri", kind: DirectiveKind::Handler(parse_uri), ordered: true };

fn parse_rewrite(h: &mut Helper<'_>) -> ParseResult<Vec<ConfigValue>> {
    h.d.next();
    let set = match h.d.count_remaining_args() {
        0 => return Err(h.d.err("too few arguments; must have at least a rewrite URI")),
        1 => None,
        2 => {
            h.d.reset();
            let set = h.extract_matcher_set()?;
            h.d.next();
            set
        }
        _ => return Err(h.d.err("too many arguments; should only be a matcher and a URI")),
    };
    h.d.next_arg();
    let config = Config { uri: h.d.val().to_owned(), ..Config::default() };
    let handler = h.handler("rewrite", &config)?;
    Ok(h.route(set, handler))
}

fn parse_method(h: &mut Helper<'_>) -> ParseResult<Json> {
    h.d.next();
    if !h.d.next_arg() {
        return Err(h.d.arg_err());
    }
    let method = h.d.val().to_owned();
    if h.d.next_arg() {
        return Err(h.d.arg_err());
    }
    h.handler("rewrite", &Config { method, ..Config::default() })
}

fn parse_uri(h: &mut Helper<'_>) -> ParseResult<Json> {
    const KINDS: [&str; 5] = ["strip_prefix", "strip_suffix", "replace", "path_regexp", "query"];
    h.d.next();
    let args = h.d.remaining_args();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut config = Config::default();
    match args.as_slice() {
        [] => return Err(h.d.arg_err()),
        ["strip_prefix", prefix] => config.strip_path_prefix = (*prefix).to_owned(),
        ["strip_suffix", suffix] => config.strip_path_suffix = (*suffix).to_owned(),
        ["replace", find, replace, rest @ ..] if rest.len() < 2 => {
            let limit = match rest.first() {
                Some(text) if !text.is_empty() => text.parse().map_err(|_| {
                    h.d.err(format!(
                        "limit must be an integer; invalid: strconv.Atoi: parsing {text:?}: \
                         invalid syntax"
                    ))
                })?,
                _ => 0,
            };
            let (find, replace) = ((*find).to_owned(), (*replace).to_owned());
            config.uri_substring.push(Substring { find, replace, limit });
        }
        ["path_regexp", find, replace] => {
            let (find, replace) = ((*find).to_owned(), (*replace).to_owned());
            config.path_regexp.push(PathRegexp { find, replace });
        }
        ["query", ops @ ..] if ops.len() < 4 => config.query = Some(parse_query(h, ops)?),
        [kind, ..] if KINDS.contains(kind) => return Err(h.d.arg_err()),
        [other, ..] => {
            let error = h.d.err(format!("unrecognized URI manipulation '{other}'"));
            return Err(error.meant_one_of(other, KINDS));
        }
    }
    h.handler("rewrite", &config)
}

fn parse_query(h: &mut Helper<'_>, args: &[&str]) -> ParseResult<QueryOps> {
    let mut ops = QueryOps::default();
    if !args.is_empty() {
        parse_query_op(h, &mut ops, args)?;
    }
    while h.d.next_block(0) {
        if !args.is_empty() {
            let message = "Cannot specify uri query rewrites in both argument and block";
            return Err(h.d.err(message));
        }
        let mut line = vec![h.d.val().to_owned()];
        line.extend(h.d.remaining_args());
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        parse_query_op(h, &mut ops, &line)?;
    }
    Ok(ops)
}

fn parse_query_op(h: &Helper<'_>, ops: &mut QueryOps, args: &[&str]) -> ParseResult<()> {
    let pair = |key: &str, val: &str| QueryArgument { key: key.to_owned(), val: val.to_owned() };
    match args {
        [key] if key.starts_with('-') => {
            ops.delete.push(key.trim_start_matches('-').to_owned());
        }
        [key, val] if key.starts_with('+') => {
            ops.add.push(pair(key.trim_start_matches('+'), val));
        }
        [key, ..] if key.starts_with(['-', '+']) => return Err(h.d.arg_err()),
        [key] if key.contains('>') => {
            let mut names = key.split('>');
            let (old, new) = (names.next().unwrap_or(""), names.next().unwrap_or(""));
            ops.rename.push(pair(old, new));
        }
        [key, _, ..] if key.contains('>') => return Err(h.d.arg_err()),
        [key, search, replace] => ops.replace.push(QueryReplacement {
            key: (*key).to_owned(),
            search_regexp: (*search).to_owned(),
            replace: (*replace).to_owned(),
            ..QueryReplacement::default()
        }),
        [key, val] => ops.set.push(pair(key, val)),
        _ => return Err(h.d.arg_err()),
    }
    Ok(())
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let config: Config = cx.decode(json, "handler")?;
    let rewrite = Rewrite::compile(&config)?;
    let wants_body = mentioned(&rewrite.templates());
    Ok(with_body_placeholders(RewriteHandler(rewrite), wants_body))
}

/// A compiled rewrite.
#[derive(Debug)]
pub struct Rewrite {
    method: Option<NewMethod>,
    uri: Option<Uri>,
    path: Vec<PathOp>,
    query: Option<Query>,
}

#[derive(Debug)]
enum NewMethod {
    Fixed(Method),
    Template(Template),
}

impl Rewrite {
    /// Compiles the JSON shape.
    ///
    /// # Errors
    /// A malformed expression.
    pub fn compile(config: &Config) -> Result<Self, ConfigError> {
        let method = (!config.method.is_empty()).then(|| {
            let template = Template::parse(&config.method);
            match template.as_static().and_then(parse_verb) {
                Some(method) => NewMethod::Fixed(method),
                None => NewMethod::Template(template),
            }
        });
        let uri = (!config.uri.is_empty()).then(|| Uri::compile(&config.uri));
        Ok(Self {
            method,
            uri,
            path: PathOp::compile_all(config)?,
            query: config.query.as_ref().map(Query::compile).transpose()?,
        })
    }

    /// Rewrites a request that is not part of the exchange; placeholders speak of the exchange's.
    pub fn apply(&self, method: &mut Method, target: &mut Target, ex: &Exchange) {
        match &self.method {
            Some(NewMethod::Fixed(new)) => *method = new.clone(),
            Some(NewMethod::Template(template)) => {
                if let Some(new) = parse_verb(&template.render(ex)) {
                    *method = new;
                }
            }
            None => {}
        }
        if let Some(uri) = &self.uri {
            uri.apply(target, ex);
        }
        for op in &self.path {
            op.apply(target, ex);
        }
        if let Some(query) = &self.query {
            query.apply(target, ex);
        }
    }

    /// Rewrites the exchange's request.
    pub fn apply_to_exchange(&self, ex: &mut Exchange) {
        let mut method = ex.request.method.clone();
        let mut target = ex.request.target.clone();
        self.apply(&mut method, &mut target, ex);
        ex.request.method = method;
        ex.request.target = target;
    }

    /// All templates, to see what they ask for.
    pub fn templates(&self) -> Vec<&Template> {
        let mut all = Vec::new();
        if let Some(NewMethod::Template(template)) = &self.method {
            all.push(template);
        }
        all.extend(self.uri.iter().flat_map(Uri::templates));
        all.extend(self.path.iter().flat_map(PathOp::templates));
        all.extend(self.query.iter().flat_map(Query::templates));
        all
    }
}

fn parse_verb(text: &str) -> Option<Method> {
    Method::from_bytes(text.to_ascii_uppercase().as_bytes()).ok()
}

struct RewriteHandler(Rewrite);

impl Filter for RewriteHandler {
    fn apply(&self, ex: &mut Exchange) -> HttpResult<Flow> {
        self.0.apply_to_exchange(ex);
        Ok(Flow::Continue)
    }
}

#[cfg(test)]
mod tests;
