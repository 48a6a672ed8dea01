//! Distributed tracing: `tracing`. A request continues the trace of its `traceparent`, or begins
//! one; upstreams, the access log (`traceID`, `spanID`) and `{http.vars.trace_id}` learn of it.
//! Spans are not exported.
//!
//! ```text
//! tracing [<matcher>] {
//!     span <name>
//!     span_attributes {
//!         <key> <value>
//!     }
//! }
//! ```
//!
//! JSON: `{"handler": "tracing", "span": "name", "span_attributes": {"key": "value"}}`.

use std::collections::BTreeMap;

use caddis_caddyfile::Result as ParseResult;
use caddis_config::ConfigError;
use caddis_core::{
    CompileCx, Directive, DirectiveKind, Exchange, Filter, Flow, Handler, HandlerModule, Helper,
    Result as HttpResult, Value,
};
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// `http.handlers.tracing`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.tracing", compile };
/// `tracing`.
pub static DIRECTIVE: Directive =
    Directive { name: "tracing", kind: DirectiveKind::Handler(parse), ordered: true };

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The span's name.
    #[serde(deserialize_with = "caddis_config::nullable")]
    pub span: String,
    /// Attributes of the span.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub span_attributes: BTreeMap<String, String>,
}

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    let d = &mut h.d;
    d.next();
    if d.next_arg() {
        return Err(d.arg_err());
    }
    let mut config = Config::default();
    while d.next_block(0) {
        match d.val() {
            "span" => {
                let Some([name]) = d.all_args() else { return Err(d.arg_err()) };
                config.span = name;
            }
            "span_attributes" => {
                let nesting = d.nesting();
                while d.next_block(nesting) {
                    let key = d.val().to_owned();
                    let Some([value]) = d.all_args() else { return Err(d.arg_err()) };
                    config.span_attributes.insert(key, value);
                }
            }
            _ => return Err(d.arg_err()),
        }
    }
    h.handler("tracing", &config)
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let config: Config = cx.decode(json, "handler")?;
    cx.warnings.push(format!(
        "tracing: span '{}' gets ids and is passed on to upstreams, but spans are not exported",
        config.span
    ));
    Ok(Handler::filter(Tracing))
}

struct Tracing;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

impl Filter for Tracing {
    fn apply(&self, ex: &mut Exchange) -> HttpResult<Flow> {
        let headers = &mut ex.request.headers;
        let parent =
            headers.get(&TRACEPARENT).and_then(|value| Parent::parse(value.to_str().ok()?));
        // Without a parent the trace is new, and sampled.
        let Parent { trace, sampled } =
            parent.unwrap_or_else(|| Parent { trace: random_trace(), sampled: true });
        let span = format!("{:016x}", fastrand::u64(1..));
        let text = format!("00-{trace}-{span}-{:02x}", u8::from(sampled));
        // Hex digits and dashes are a valid value.
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(TRACEPARENT, value);
        }
        for (var, field, text) in [("trace_id", "traceID", trace), ("span_id", "spanID", span)] {
            let value = Value::string(text);
            ex.set_var(var, value.clone());
            ex.log.extra.push((field.into(), value));
        }
        Ok(Flow::Continue)
    }
}

fn random_trace() -> String {
    format!("{:032x}", fastrand::u128(1..))
}

/// What `traceparent` tells of the span that this request continues.
#[derive(Debug, PartialEq, Eq)]
struct Parent {
    trace: String,
    sampled: bool,
}

impl Parent {
    /// Reads the header (W3C Trace Context); `None` where it is not valid.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '-');
        let mut hex = |length: usize| {
            let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            parts.next().filter(|part| part.len() == length && part.bytes().all(digit))
        };
        let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let zero = |id: &str| id.bytes().all(|byte| byte == b'0');
        // A later version may have more parts.
        let more = parts.next().is_some();
        if version == "ff" || (version == "00" && more) || zero(trace) || zero(span) {
            return None;
        }
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        Some(Self { trace: trace.to_owned(), sampled })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::tests::adapt;
    use serde_json::json;

    #[test]
    fn adapts() {
        let want = json!({"handler": "tracing", "span": "a", "span_attributes": {"k": "v"}});
        let text = "tracing {\n span a\n span_attributes {\n k v\n }\n}";
        assert_eq!(adapt(text), Ok(want));
        assert_eq!(adapt("tracing"), Ok(json!({"handler": "tracing", "span": ""})));
        assert!(adapt("tracing {\n x y\n}").is_err());
    }

    #[test]
    fn reads_the_parent() {
        const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
        let parse = |text: &str| Parent::parse(&text.replace('T', TRACE));
        let found = |sampled| Some(Parent { trace: TRACE.to_owned(), sampled });
        assert_eq!(parse("00-T-b7ad6b7169203331-01"), found(true));
        assert_eq!(parse("00-T-b7ad6b7169203331-02"), found(false));
        assert_eq!(parse("cc-T-b7ad6b7169203331-01-more-parts"), found(true));
        for bad in [
            "",
            "00-zz-b7ad6b7169203331-01",
            "00-T-b7ad6b7169203331-01-more",
            "ff-T-b7ad6b7169203331-01",
            "00-T-0000000000000000-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn continues_and_begins_traces() {
        let mut ex = Exchange::for_test("/");
        Tracing.apply(&mut ex).expect("goes on");
        let first = ex.request.headers[TRACEPARENT].to_str().expect("text").to_owned();
        let parent = Parent::parse(&first).expect("valid");
        assert!(parent.sampled);
        let names: Vec<_> = ex.log.extra.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["traceID", "spanID"]);
        Tracing.apply(&mut ex).expect("goes on");
        let second = ex.request.headers[TRACEPARENT].to_str().expect("text");
        assert_ne!(first, second);
        assert_eq!(Parent::parse(second), Some(parent));
    }
}
