//! `copy_response` and `copy_response_headers`: only inside `handle_response`.
//!
//! ```text
//! copy_response [<matcher>] [<status>] {
//!     status <status>
//! }
//! copy_response_headers [<matcher>] {
//!     include <fields...>
//!     exclude <fields...>
//! }
//! ```
//!
//! JSON: `{"handler": "copy_response", "status_code": …}`,
//! `{"handler": "copy_response_headers", "include": [], "exclude": []}`.

use std::{cell::RefCell, collections::HashMap, rc::Rc, result::Result as StdResult, sync::Arc};

use caddis_caddyfile::Result as ParseResult;
use caddis_config::{ConfigError, Value, WeakString};
use caddis_core::{
    CompileCx, Directive, DirectiveKind, Exchange, Filter, Flow, Handler, HandlerModule, Helper,
    HttpError, Result, Template,
};
use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{
    answer::{Content, Down, Head, SharedInfo, pass_content},
    info::PREFIX,
};
use caddis_wire::is_hop_by_hop;

use crate::parse::argument;

/// `http.handlers.copy_response`.
pub(crate) static MODULE: HandlerModule =
    HandlerModule { id: "http.handlers.copy_response", compile: compile_copy };
/// `http.handlers.copy_response_headers`.
pub(crate) static HEADERS_MODULE: HandlerModule =
    HandlerModule { id: "http.handlers.copy_response_headers", compile: compile_headers };
/// `copy_response`.
pub static DIRECTIVE: Directive =
    Directive { name: "copy_response", kind: DirectiveKind::Handler(parse_copy), ordered: true };
/// `copy_response_headers`.
pub static HEADERS_DIRECTIVE: Directive = Directive {
    name: "copy_response_headers",
    kind: DirectiveKind::Handler(parse_headers),
    ordered: true,
};

shape! {
    /// `copy_response`.
    struct CopyConfig {
        /// Another status.
        pub status_code: WeakString,
    }

    /// `copy_response_headers`.
    struct HeadersConfig {
        /// Fields to copy.
        pub include: Vec<String>,
        /// Fields not to copy.
        pub exclude: Vec<String>,
    }
}

/// An answer that routes may copy.
pub(crate) struct Pending {
    pub(crate) head: Head,
    pub(crate) content: Content,
    pub(crate) down: Arc<Down>,
    pub(crate) cookie: Option<HeaderValue>,
}

/// The answers that routes of this worker work on, by the proxied request they belong to.
#[derive(Default)]
struct Answers(RefCell<HashMap<usize, Pending>>);

/// Takes the answer away when the routes are done.
pub(super) struct Offer {
    answers: Rc<Answers>,
    key: usize,
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.answers.0.borrow_mut().remove(&self.key);
    }
}

/// Lets the routes of this exchange copy the answer.
pub(super) fn offer(ex: &Exchange, info: &SharedInfo, pending: Pending) -> Offer {
    let answers = ex.worker.local::<Answers>();
    let key = Rc::as_ptr(info).cast::<()>().addr();
    answers.0.borrow_mut().insert(key, pending);
    Offer { answers, key }
}

/// The key of the exchange's proxied request.
fn key(ex: &Exchange) -> Option<usize> {
    let (_, source) = ex.sources.iter().find(|(prefix, _)| *prefix == PREFIX)?;
    Some(Rc::as_ptr(source).cast::<()>().addr())
}

fn outside(name: &str) -> HttpError {
    HttpError::internal(format_args!(
        "cannot use '{name}' outside of reverse_proxy's handle_response routes"
    ))
}

fn parse_copy(h: &mut Helper<'_>) -> ParseResult<Value> {
    h.d.next();
    let mut config = CopyConfig::default();
    if let [status] = h.d.remaining_args().as_slice()
        && status.parse::<u32>().is_ok_and(|code| code > 0)
    {
        config.status_code = status.as_str().into();
        return h.handler("copy_response", &config);
    }
    while h.d.next_block(0) {
        if h.d.val() != "status" {
            return Err(h.d.err(format_args!("unrecognized subdirective '{}'", h.d.val())));
        }
        config.status_code = argument(&mut h.d)?.into();
    }
    h.handler("copy_response", &config)
}

fn parse_headers(h: &mut Helper<'_>) -> ParseResult<Value> {
    h.d.next();
    if !h.d.remaining_args().is_empty() {
        return Err(h.d.arg_err());
    }
    let mut config = HeadersConfig::default();
    while h.d.next_block(0) {
        match h.d.val() {
            "include" => config.include.extend(h.d.remaining_args()),
            "exclude" => config.exclude.extend(h.d.remaining_args()),
            other => return Err(h.d.err(format_args!("unrecognized subdirective '{other}'"))),
        }
    }
    h.handler("copy_response_headers", &config)
}

fn compile_copy(json: &Value, cx: &mut CompileCx<'_>) -> StdResult<Handler, ConfigError> {
    let config: CopyConfig = cx.decode(json, "handler")?;
    let status =
        (!config.status_code.is_empty()).then(|| Template::parse(config.status_code.as_str()));
    Ok(Handler::filter(Copy { status }))
}

struct Copy {
    status: Option<Template>,
}

impl Filter for Copy {
    fn apply(&self, ex: &mut Exchange) -> Result<Flow> {
        let answers = ex.worker.local::<Answers>();
        let pending = key(ex).and_then(|key| answers.0.borrow_mut().remove(&key));
        let Some(Pending { mut head, content, down, cookie }) = pending else {
            return Err(outside("copy_response"));
        };
        if let Some(status) = &self.status {
            let text = status.render(ex);
            head.status =
                text.parse().ok().and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(
                    || {
                        HttpError::internal(format_args!(
                            "strconv.Atoi: parsing {text:?}: invalid syntax"
                        ))
                    },
                )?;
        }
        pass_content(ex, head, content, &down, cookie).map(Flow::Respond)
    }
}

fn compile_headers(json: &Value, cx: &mut CompileCx<'_>) -> StdResult<Handler, ConfigError> {
    let config: HeadersConfig = cx.decode(json, "handler")?;
    if !config.include.is_empty() && !config.exclude.is_empty() {
        return Err(ConfigError::new(
            "",
            "cannot define both 'exclude' and 'include' lists at the same time",
        ));
    }
    let names = |list: &[String]| -> Vec<HeaderName> {
        list.iter().filter_map(|name| HeaderName::try_from(name.as_str()).ok()).collect()
    };
    Ok(Handler::filter(CopyHeaders {
        all: config.include.is_empty(),
        include: names(&config.include),
        exclude: names(&config.exclude),
    }))
}

struct CopyHeaders {
    all: bool,
    include: Vec<HeaderName>,
    exclude: Vec<HeaderName>,
}

impl CopyHeaders {
    fn takes(&self, name: &HeaderName) -> bool {
        (self.all || self.include.contains(name))
            && !self.exclude.contains(name)
            && !is_hop_by_hop(name)
            && name != header::CONTENT_LENGTH
    }
}

impl Filter for CopyHeaders {
    fn apply(&self, ex: &mut Exchange) -> Result<Flow> {
        let answers = ex.worker.local::<Answers>();
        let answers = answers.0.borrow();
        let Some(pending) = key(ex).and_then(|key| answers.get(&key)) else {
            return Err(outside("copy_response_headers"));
        };
        for (name, value) in &pending.head.headers {
            if self.takes(name) {
                // More fields than a map holds are dropped.
                let _ = ex.early_headers.try_append(name.clone(), value.clone());
            }
        }
        Ok(Flow::Continue)
    }
}
