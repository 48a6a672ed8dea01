//! OpenTracing's `ot-tracer-*`. Its baggage (`ot-baggage-*`) stays among the fields.

use http::{HeaderMap, HeaderName};

use super::{Context, SAMPLED, first, id, set, trace_id};

const TRACE: HeaderName = HeaderName::from_static("ot-tracer-traceid");
const SPAN: HeaderName = HeaderName::from_static("ot-tracer-spanid");
const DECISION: HeaderName = HeaderName::from_static("ot-tracer-sampled");

pub(super) fn extract(headers: &HeaderMap) -> Option<Context> {
    let trace = trace_id(first(headers, &TRACE)?)?;
    let span = id(first(headers, &SPAN)?)?;
    let flags = match first(headers, &DECISION).map(str::to_ascii_lowercase).as_deref() {
        Some("1" | "true") => SAMPLED,
        None | Some("0" | "false") => 0,
        Some(_) => return None,
    };
    Some(Context::of(trace, span, flags))
}

/// The lower half of the trace's id is all that the format has.
pub(super) fn inject(context: &Context, headers: &mut HeaderMap) {
    let trace = context.trace_hex();
    set(headers, &TRACE, trace.split_at(16).1.to_owned());
    set(headers, &SPAN, context.span_hex());
    set(headers, &DECISION, context.is_sampled().to_string());
}
