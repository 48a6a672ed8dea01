//! Jaeger's `uber-trace-id`: `{trace}:{span}:{parent}:{flags}`.

use http::{HeaderMap, HeaderName};

use super::{Context, SAMPLED, first, padded, set};

const FIELD: HeaderName = HeaderName::from_static("uber-trace-id");
const DEBUG: u8 = 2;

pub(super) fn extract(headers: &HeaderMap) -> Option<Context> {
    let mut parts = first(headers, &FIELD)?.split(':');
    let (trace, span) = (padded(parts.next()?)?, padded(parts.next()?)?);
    // The parent's span is deprecated.
    parts.next()?;
    let flags = parts.next()?;
    if parts.next().is_some() {
        return None;
    }
    let flags = if flags.is_empty() { 0 } else { i64::from_str_radix(flags, 16).ok()? };
    let sampled = flags & i64::from(SAMPLED) != 0;
    let mut context = Context::of(trace, span, if sampled { SAMPLED } else { 0 });
    context.jaeger_debug = sampled && flags & i64::from(DEBUG) != 0;
    Some(context)
}

pub(super) fn inject(context: &Context, headers: &mut HeaderMap) {
    let flags = match (context.jaeger_debug, context.is_sampled()) {
        (true, _) => DEBUG | SAMPLED,
        (false, true) => SAMPLED,
        (false, false) => 0,
    };
    let (trace, span) = (context.trace_hex(), context.span_hex());
    set(headers, &FIELD, format!("{trace}:{span}:0:{flags:x}"));
}
