//! One span: a request from the handler on to the end of its answer.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Instant, SystemTime},
};

use http::StatusCode;

use crate::{
    Context, Tracer,
    proto::{self, KeyValue, SpanKind, SpanMessage, Status},
    settings::Env,
};

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Attribute {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// How much of a span is kept: `OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT` and
/// `OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT`, or the same without `SPAN_`. Spans here have no events
/// and no links, so their limits change nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    attributes: usize,
    /// In characters.
    length: usize,
}

impl Limits {
    pub(crate) fn from_env(env: &Env<'_>, warnings: &mut Vec<String>) -> Self {
        let mut limit = |what: &str, default: usize| {
            let names = [format!("OTEL_SPAN_ATTRIBUTE_{what}"), format!("OTEL_ATTRIBUTE_{what}")];
            let found = names.iter().find_map(|name| env.number(name, warnings));
            // A negative number is no limit.
            found.map_or(default, |number| usize::try_from(number).unwrap_or(usize::MAX))
        };
        Self {
            attributes: limit("COUNT_LIMIT", 128),
            length: limit("VALUE_LENGTH_LIMIT", usize::MAX),
        }
    }
}

/// A span that goes on; it ends when it is dropped.
pub struct Span {
    tracer: Arc<Tracer>,
    begun: Instant,
    /// Taken at the end.
    data: Option<Box<SpanData>>,
}

/// What is exported of a span.
#[derive(Debug)]
pub(crate) struct SpanData {
    pub(crate) context: Context,
    pub(crate) parent: Option<[u8; 8]>,
    pub(crate) name: String,
    pub(crate) start: SystemTime,
    pub(crate) end: SystemTime,
    pub(crate) attributes: Vec<(Cow<'static, str>, Attribute)>,
    pub(crate) dropped: u32,
    /// Whether it failed.
    pub(crate) error: bool,
}

impl Span {
    pub(crate) fn begin(
        tracer: Arc<Tracer>,
        context: Context,
        parent: Option<[u8; 8]>,
        name: String,
    ) -> Self {
        let start = SystemTime::now();
        let data = SpanData {
            context,
            parent,
            name,
            start,
            end: start,
            attributes: Vec::with_capacity(16),
            dropped: 0,
            error: false,
        };
        Self { tracer, begun: Instant::now(), data: Some(Box::new(data)) }
    }

    /// Sets an attribute; a later value replaces an earlier one.
    pub fn set(&mut self, key: impl Into<Cow<'static, str>>, value: impl Into<Attribute>) {
        let limits = self.tracer.limits();
        let Some(data) = &mut self.data else { return };
        let (key, mut value) = (key.into(), value.into());
        if key.is_empty() {
            data.dropped += 1;
            return;
        }
        if let Attribute::Text(text) = &mut value
            && text.len() > limits.length
            && let Some((at, _)) = text.char_indices().nth(limits.length)
        {
            text.truncate(at);
        }
        let room = data.attributes.len() < limits.attributes;
        match data.attributes.iter_mut().find(|(other, _)| *other == key) {
            Some(slot) => slot.1 = value,
            None if room => data.attributes.push((key, value)),
            None => data.dropped += 1,
        }
    }

    /// Sets the answer's status; one of 500 or above makes the span an error.
    pub fn answered(&mut self, status: StatusCode) {
        self.set("http.response.status_code", i64::from(status.as_u16()));
        if let Some(data) = &mut self.data {
            data.error = status.as_u16() >= 500;
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(mut data) = self.data.take() {
            // The clock may have been set meanwhile.
            data.end = data.start + self.begun.elapsed();
            self.tracer.ended(data);
        }
    }
}

impl SpanData {
    pub(crate) fn into_message(self) -> SpanMessage {
        /// It is known whether the parent is remote, and whether it is.
        const KNOWN: u32 = 0x100;
        const REMOTE: u32 = 0x200;
        let remote = if self.parent.is_some() { REMOTE } else { 0 };
        let code = if self.error { proto::StatusCode::Error } else { proto::StatusCode::Unset };
        SpanMessage {
            trace_id: self.context.trace_id.to_vec(),
            span_id: self.context.span_id.to_vec(),
            trace_state: self.context.state,
            parent_span_id: self.parent.map(|id| id.to_vec()).unwrap_or_default(),
            name: self.name,
            kind: SpanKind::Server.into(),
            start_time_unix_nano: nanos(self.start),
            end_time_unix_nano: nanos(self.end),
            attributes: self
                .attributes
                .into_iter()
                .map(|(key, value)| match value {
                    Attribute::Text(text) => KeyValue::text(key, text),
                    Attribute::Number(number) => KeyValue::number(key, number),
                })
                .collect(),
            dropped_attributes_count: self.dropped,
            status: Some(Status { message: String::new(), code: code.into() }),
            flags: u32::from(self.context.flags) | KNOWN | remote,
        }
    }
}

/// Nanoseconds since 1970.
pub(crate) fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
