//! B3 of Zipkin (openzipkin/b3-propagation): `b3` in one field, or several `X-B3-*`. Reading takes
//! either, the single one first.

use http::{HeaderMap, HeaderName};

use super::{Context, SAMPLED, first, id, set, trace_id};

const SINGLE: HeaderName = HeaderName::from_static("b3");
const TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const DECISION: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

pub(super) fn extract(headers: &HeaderMap) -> Option<Context> {
    first(headers, &SINGLE).and_then(single).or_else(|| several(headers))
}

/// `{trace}-{span}[-{decision}[-{parent}]]`.
fn single(text: &str) -> Option<Context> {
    let mut parts = text.split('-');
    let trace = parts.next().filter(|part| matches!(part.len(), 16 | 32))?;
    let mut context = Context::of(trace_id(trace)?, id(parts.next()?)?, 0);
    match parts.next() {
        None => context.b3_deferred = true,
        Some("d") => {
            context.b3_debug = true;
            context.flags = SAMPLED;
        }
        Some("1") => context.flags = SAMPLED,
        Some("0") => {}
        Some(_) => return None,
    }
    if let Some(parent) = parts.next() {
        // It is not used, but has to be one.
        id::<8>(parent)?;
    }
    parts.next().is_none().then_some(context)
}

fn several(headers: &HeaderMap) -> Option<Context> {
    let trace = trace_id(first(headers, &TRACE)?)?;
    let mut context = Context::of(trace, id(first(headers, &SPAN)?)?, 0);
    match first(headers, &DECISION).map(str::to_ascii_lowercase).as_deref() {
        None => context.b3_deferred = true,
        Some("1" | "true") => context.flags = SAMPLED,
        Some("0" | "false") => {}
        Some(_) => return None,
    }
    if first(headers, &FLAGS) == Some("1") {
        context.b3_deferred = false;
        context.b3_debug = true;
        context.flags = SAMPLED;
    }
    if let Some(parent) = first(headers, &PARENT) {
        id::<8>(parent)?;
    }
    Some(context)
}

pub(super) fn inject_single(context: &Context, headers: &mut HeaderMap) {
    let ids = format!("{}-{}", context.trace_hex(), context.span_hex());
    let value = match decision(context) {
        Some(_) if context.b3_debug => format!("{ids}-d"),
        Some(decision) => format!("{ids}-{decision}"),
        None => ids,
    };
    set(headers, &SINGLE, value);
}

pub(super) fn inject_several(context: &Context, headers: &mut HeaderMap) {
    set(headers, &TRACE, context.trace_hex());
    set(headers, &SPAN, context.span_hex());
    if context.b3_debug {
        // It says that it is sampled, too.
        set(headers, &FLAGS, "1".to_owned());
    } else if let Some(decision) = decision(context) {
        set(headers, &DECISION, decision.to_owned());
    }
}

/// Nothing where it is left to others.
fn decision(context: &Context) -> Option<&'static str> {
    let decision = if context.is_sampled() { "1" } else { "0" };
    (context.b3_debug || !context.b3_deferred).then_some(decision)
}
