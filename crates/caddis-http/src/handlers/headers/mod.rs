//! Changes header fields of requests and responses: `header`, `request_header`.
//!
//! ```text
//! header [<matcher>] [[+|-|?|>]<field> [<value>|<find>] [<replace>]] {
//!     [+|-|?|>]<field> [<value>|<find>] [<replace>]
//!     defer
//!     match <response matcher>
//! }
//! request_header [<matcher>] [[+|-]<field> [<value>|<find>] [<replace>]]
//! ```
//!
//! JSON: `{"handler": "headers", "request": {"add": {}, "set": {}, "delete": [], "replace": {}},
//! "response": {…, "require": {}, "deferred": true}}`.

mod config;
mod ops;

use std::{collections::BTreeMap, sync::Arc};

use caddis_caddyfile::Result as ParseResult;
use caddis_config::ConfigError;
use caddis_core::{
    CompileCx, ConfigValue, Directive, DirectiveKind, Exchange, Filter, Flow, Handler,
    HandlerModule, Helper, Response, ResponseFilter, ResponseMatcher, Result as HttpResult,
    directive::MatcherSetConfig, exchange::SERVER,
};
use http::header;
use serde_json::Value as Json;

pub use config::{
    Config, HeaderOpsConfig, Replacement, RespHeaderOpsConfig, request_op, response_op,
};
pub use ops::{HeaderOps, Rendered};

use super::{
    request_body::{mentioned as mentions_body, with_body_placeholders},
    response_headers, response_matcher,
};

/// `http.handlers.headers`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.headers", compile };
/// `header`.
pub static HEADER: Directive =
    Directive { name: "header", kind: DirectiveKind::Values(parse_header), ordered: true };
/// `request_header`.
pub static REQUEST_HEADER: Directive = Directive {
    name: "request_header",
    kind: DirectiveKind::Values(parse_request_header),
    ordered: true,
};

/// The value and the replacement after a field.
fn value_and_replacement(h: &mut Helper<'_>) -> (String, Option<String>) {
    let value = if h.d.next_arg() { h.d.val().to_owned() } else { String::new() };
    let replacement = h.d.next_arg().then(|| h.d.val().to_owned());
    (value, replacement)
}

fn parse_header(h: &mut Helper<'_>) -> ParseResult<Vec<ConfigValue>> {
    let set = h.extract_matcher_set()?;
    h.d.next();
    let mut plain = RespHeaderOpsConfig::default();
    // Defaults (`?`) of a block have a handler of their own, as only they need to look at the
    // response.
    let mut with_require = RespHeaderOpsConfig::default();
    let has_args = h.d.next_arg();
    if has_args {
        let field = h.d.val().to_owned();
        let (value, replacement) = value_and_replacement(h);
        response_op(&mut plain, &field, &value, replacement.as_deref())
            .map_err(|error| h.d.err(error))?;
    }
    while h.d.next_block(0) {
        match h.d.val() {
            "defer" => {
                plain.deferred = true;
                continue;
            }
            "match" => {
                let mut matchers = BTreeMap::new();
                response_matcher::parse_named(&mut h.d.new_from_next_segment(), &mut matchers)?;
                plain.require = matchers.remove("match");
                continue;
            }
            _ if has_args => {
                return Err(h.d.err("cannot specify headers in both arguments and block"));
            }
            _ => {}
        }
        let field = h.d.val();
        let field = field.strip_suffix(':').unwrap_or(field).to_owned();
        let (value, replacement) = value_and_replacement(h);
        let ops = if field.starts_with('?') { &mut with_require } else { &mut plain };
        response_op(ops, &field, &value, replacement.as_deref()).map_err(|error| h.d.err(error))?;
    }
    let mut values = Vec::new();
    for response in [plain, with_require] {
        if response != RespHeaderOpsConfig::default() {
            let config = Config { request: None, response: Some(response) };
            values.extend(routes(h, set.clone(), &config)?);
        }
    }
    Ok(values)
}

fn routes(
    h: &Helper<'_>,
    set: Option<MatcherSetConfig>,
    config: &Config,
) -> ParseResult<Vec<ConfigValue>> {
    let handler = h.handler("headers", config)?;
    Ok(h.route(set, handler))
}

fn parse_request_header(h: &mut Helper<'_>) -> ParseResult<Vec<ConfigValue>> {
    let set = h.extract_matcher_set()?;
    h.d.next();
    if !h.d.next_arg() {
        return Err(h.d.arg_err());
    }
    let field = h.d.val();
    let field = field.strip_suffix(':').unwrap_or(field).to_owned();
    let (value, replacement) = value_and_replacement(h);
    if h.d.next_arg() {
        return Err(h.d.arg_err());
    }
    let mut ops = HeaderOpsConfig::default();
    request_op(&mut ops, &field, &value, replacement.as_deref()).map_err(|error| h.d.err(error))?;
    routes(h, set, &Config { request: Some(ops), response: None })
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let config: Config = cx.decode(json, "handler")?;
    let request = config
        .request
        .as_ref()
        .map(HeaderOps::compile)
        .transpose()
        .map_err(|error| error.under("request"))?
        .filter(|ops| !ops.is_empty());
    let response = config
        .response
        .as_ref()
        .map(ResponsePart::compile)
        .transpose()
        .map_err(|error| error.under("response"))?;
    let mut templates = request.as_ref().map(HeaderOps::templates).unwrap_or_default();
    templates.extend(response.iter().flat_map(ResponsePart::templates));
    let wants_body = mentions_body(&templates);
    Ok(with_body_placeholders(Headers { request, response }, wants_body))
}

struct Headers {
    request: Option<HeaderOps>,
    response: Option<ResponsePart>,
}

enum ResponsePart {
    Early { ops: HeaderOps, touches_server: bool, wants_response_headers: bool },
    Deferred(Arc<Deferred>),
}

impl ResponsePart {
    fn compile(config: &RespHeaderOpsConfig) -> Result<Self, ConfigError> {
        let ops = HeaderOps::compile(&config.ops())?;
        let wants_response_headers = response_headers::mentioned(&ops.templates());
        if !config.deferred && config.require.is_none() {
            let touches_server = ops.may_touch(&header::SERVER);
            return Ok(Self::Early { ops, touches_server, wants_response_headers });
        }
        let require = config
            .require
            .as_ref()
            .map(ResponseMatcher::compile)
            .transpose()
            .map_err(|error| error.under("require"))?;
        Ok(Self::Deferred(Arc::new(Deferred { ops, require, wants_response_headers })))
    }

    fn templates(&self) -> Vec<&caddis_core::Template> {
        match self {
            Self::Early { ops, .. } => ops.templates(),
            Self::Deferred(deferred) => deferred.ops.templates(),
        }
    }
}

/// Operations that wait for the response.
struct Deferred {
    ops: HeaderOps,
    require: Option<ResponseMatcher>,
    wants_response_headers: bool,
}

impl Filter for Headers {
    fn apply(&self, ex: &mut Exchange) -> HttpResult<Flow> {
        if let Some(ops) = &self.request {
            let rendered = ops.render(ex);
            let request = &mut ex.request;
            rendered.apply_to_request(&mut request.headers, &mut request.host);
        }
        match &self.response {
            None => {}
            Some(ResponsePart::Deferred(deferred)) => ex.on_response(deferred.clone()),
            Some(ResponsePart::Early { ops, touches_server, wants_response_headers }) => {
                if *wants_response_headers {
                    response_headers::offer_early(ex);
                }
                let rendered = ops.render(ex);
                // `Server` is on every answer, so it can be changed before there is one.
                if *touches_server
                    && ex.server_header
                    && !ex.early_headers.contains_key(header::SERVER)
                {
                    ex.early_headers.insert(header::SERVER, SERVER);
                }
                rendered.apply(&mut ex.early_headers);
                if *touches_server {
                    ex.server_header = ex.early_headers.contains_key(header::SERVER);
                }
            }
        }
        Ok(Flow::Continue)
    }
}

impl ResponseFilter for Deferred {
    fn apply(&self, ex: &mut Exchange, response: &mut Response) {
        if let Some(require) = &self.require
            && !require.matches(response.status(), response.headers())
        {
            return;
        }
        if self.wants_response_headers {
            response_headers::offer(ex, response.headers());
        }
        self.ops.apply(response.headers_mut(), ex);
    }
}

#[cfg(test)]
mod tests;
