//! W3C Trace Context: `traceparent` and `tracestate`.

use http::{HeaderMap, HeaderName};

use super::{Context, first, hex, id, set, unhex};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Sampled, and random.
const KNOWN_FLAGS: u8 = 3;
/// Members of `tracestate` (§3.3.1.1).
const MOST_MEMBERS: usize = 32;

pub(super) fn extract(headers: &HeaderMap) -> Option<Context> {
    let mut parts = first(headers, &TRACEPARENT)?.splitn(5, '-');
    let [version] = unhex(parts.next()?)?;
    let (trace_id, span_id) = (id(parts.next()?)?, id(parts.next()?)?);
    let [flags] = unhex(parts.next()?)?;
    // A later version may have more parts and more flags.
    let more = parts.next().is_some_and(|more| !more.is_empty());
    if version == 0xff || (version == 0 && (more || flags > KNOWN_FLAGS)) {
        return None;
    }
    let mut context = Context::of(trace_id, span_id, flags & KNOWN_FLAGS);
    context.state = first(headers, &TRACESTATE).and_then(state).unwrap_or_default();
    Some(context)
}

/// A list of `key=value`, not looked at closer; `None` where it is none.
fn state(text: &str) -> Option<String> {
    let members = text.split(',').filter(|member| !member.trim().is_empty());
    let valid = |member: &str| {
        let pair = member.trim().split_once('=');
        pair.is_some_and(|(key, value)| !key.is_empty() && !value.is_empty())
    };
    let mut count = 0;
    for member in members {
        count += 1;
        if count > MOST_MEMBERS || !valid(member) {
            return None;
        }
    }
    Some(text.to_owned())
}

/// `tracestate` stays among the fields as it came.
pub(super) fn inject(context: &Context, headers: &mut HeaderMap) {
    let (trace, span) = (context.trace_hex(), context.span_hex());
    let flags = hex(&[context.flags & KNOWN_FLAGS]);
    set(headers, &TRACEPARENT, format!("00-{trace}-{span}-{flags}"));
}
