//! AWS X-Ray's `X-Amzn-Trace-Id`: `Root=1-{8 digits}-{24 digits};Parent={span};Sampled={0|1}`.

use http::{HeaderMap, HeaderName};

use super::{Context, SAMPLED, first, id, set};

const FIELD: HeaderName = HeaderName::from_static("x-amzn-trace-id");

pub(super) fn extract(headers: &HeaderMap) -> Option<Context> {
    let (mut trace, mut span, mut flags) = (None, None, 0);
    for part in first(headers, &FIELD)?.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=')?;
        match key {
            "Root" => trace = Some(root(value)?),
            "Parent" => span = Some(id(value)?),
            "Sampled" => flags = if value == "1" { SAMPLED } else { 0 },
            _ => {}
        }
    }
    Some(Context::of(trace?, span?, flags))
}

fn root(text: &str) -> Option<[u8; 16]> {
    let (time, unique) = text.strip_prefix("1-")?.split_once('-')?;
    if time.len() != 8 {
        return None;
    }
    id(&format!("{time}{unique}"))
}

pub(super) fn inject(context: &Context, headers: &mut HeaderMap) {
    let (trace, span) = (context.trace_hex(), context.span_hex());
    let (time, unique) = trace.split_at(8);
    let sampled = u8::from(context.is_sampled());
    set(headers, &FIELD, format!("Root=1-{time}-{unique};Parent={span};Sampled={sampled}"));
}
