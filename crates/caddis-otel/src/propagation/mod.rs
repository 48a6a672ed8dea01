//! How a trace's context travels in header fields: `OTEL_PROPAGATORS`.
//!
//! A request is read by all that are named, the last valid one counts; what goes on to upstreams is
//! written by all of them. `baggage` needs nothing here: its field stays among the request's.

mod b3;
mod jaeger;
mod ottrace;
mod tracecontext;
mod xray;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::settings::Env;

/// What is known of a span in other processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// The trace's id, not zero.
    pub trace_id: [u8; 16],
    /// The span's id, not zero.
    pub span_id: [u8; 8],
    /// Bit 0: sampled. Bit 1: the trace's id is random.
    pub flags: u8,
    /// `tracestate` as it came, where it is valid.
    pub state: String,
    /// B3: record it in any case.
    pub(crate) b3_debug: bool,
    /// B3: the decision is left to others.
    pub(crate) b3_deferred: bool,
    /// Jaeger: record it in any case.
    pub(crate) jaeger_debug: bool,
}

const SAMPLED: u8 = 1;

impl Context {
    /// A context of these ids.
    pub(crate) fn of(trace_id: [u8; 16], span_id: [u8; 8], flags: u8) -> Self {
        Self {
            trace_id,
            span_id,
            flags,
            state: String::new(),
            b3_debug: false,
            b3_deferred: false,
            jaeger_debug: false,
        }
    }

    /// Whether the trace is recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED == SAMPLED
    }

    pub(crate) fn set_sampled(&mut self, sampled: bool) {
        self.flags = if sampled { self.flags | SAMPLED } else { self.flags & !SAMPLED };
    }

    /// The trace's id, 32 hexadecimal digits.
    pub fn trace_hex(&self) -> String {
        hex(&self.trace_id)
    }

    /// The span's id, 16 hexadecimal digits.
    pub fn span_hex(&self) -> String {
        hex(&self.span_id)
    }
}

/// The formats that are read and written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Propagators(Vec<Format>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    TraceContext,
    Baggage,
    B3,
    B3Multi,
    Jaeger,
    XRay,
    OtTrace,
}

impl Default for Propagators {
    fn default() -> Self {
        Self(vec![Format::TraceContext, Format::Baggage])
    }
}

impl Propagators {
    /// From the environment; a name that is unknown is told and not used, `none` is nothing at all.
    pub fn from_env(env: &Env<'_>, warnings: &mut Vec<String>) -> Self {
        let Some(names) = env.text("OTEL_PROPAGATORS") else { return Self::default() };
        let mut formats = Vec::new();
        for name in names.split(',') {
            formats.push(match name {
                "tracecontext" => Format::TraceContext,
                "baggage" => Format::Baggage,
                "b3" => Format::B3,
                "b3multi" => Format::B3Multi,
                "jaeger" => Format::Jaeger,
                "xray" => Format::XRay,
                "ottrace" => Format::OtTrace,
                "none" => return Self(Vec::new()),
                other => {
                    warnings.push(format!("OTEL_PROPAGATORS: unknown propagator: {other}"));
                    continue;
                }
            });
        }
        if formats.is_empty() { Self::default() } else { Self(formats) }
    }

    /// The context that a request came with.
    pub fn extract(&self, headers: &HeaderMap) -> Option<Context> {
        let mut found = None;
        for format in &self.0 {
            let read = match format {
                Format::TraceContext => tracecontext::extract(headers),
                Format::Baggage => None,
                Format::B3 | Format::B3Multi => b3::extract(headers),
                Format::Jaeger => jaeger::extract(headers),
                Format::XRay => xray::extract(headers),
                Format::OtTrace => ottrace::extract(headers),
            };
            found = read.or(found);
        }
        found
    }

    /// Writes a context into the fields for upstreams.
    pub fn inject(&self, context: &Context, headers: &mut HeaderMap) {
        for format in &self.0 {
            match format {
                Format::TraceContext => tracecontext::inject(context, headers),
                Format::Baggage => {}
                Format::B3 => b3::inject_single(context, headers),
                Format::B3Multi => b3::inject_several(context, headers),
                Format::Jaeger => jaeger::inject(context, headers),
                Format::XRay => xray::inject(context, headers),
                Format::OtTrace => ottrace::inject(context, headers),
            }
        }
    }
}

/// The first value of a field, where it is text and not empty.
fn first<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().filter(|text| !text.is_empty())
}

fn set(headers: &mut HeaderMap, name: &HeaderName, value: String) {
    // Digits and separators are a valid value.
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// Hexadecimal digits in lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// Bytes of exactly so many digits in lower case.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (slot, [high, low]) in bytes.iter_mut().zip(pairs) {
        *slot = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// An id: digits that are not all zero.
fn id<const N: usize>(text: &str) -> Option<[u8; N]> {
    unhex(text).filter(|bytes| bytes.iter().any(|byte| *byte != 0))
}

/// The id of a trace, 32 digits, or 16 with zeros before them.
fn trace_id(text: &str) -> Option<[u8; 16]> {
    if text.len() == 16 { padded(text) } else { id(text) }
}

/// An id of at most so many digits, zeros before it.
fn padded<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.is_empty() || text.len() > 2 * N {
        return None;
    }
    id(&format!("{text:0>width$}", width = 2 * N))
}

#[cfg(test)]
mod tests;
