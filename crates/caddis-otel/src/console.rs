//! Spans on standard output, an object a line, in the shape that the Go SDK's exporter `console`
//! has.

use std::{io::Write as _, time::SystemTime};

use serde_json::{Value as Json, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    Attribute,
    batch::Batch,
    propagation::hex,
    proto::{AttributeValue, Resource},
    resource,
    span::SpanData,
};

pub(crate) fn print(batch: &Batch, resource: &Resource) {
    let resource: Vec<Json> = resource
        .attributes
        .iter()
        .filter_map(|pair| match pair.value.as_ref()?.value.as_ref()? {
            AttributeValue::Text(text) => Some(pair_json(&pair.key, "STRING", json!(text))),
            AttributeValue::Number(number) => Some(pair_json(&pair.key, "INT64", json!(number))),
        })
        .collect();
    let mut out = String::new();
    for span in batch {
        out.push_str(&object(span, &resource).to_string());
        out.push('\n');
    }
    let mut stdout = std::io::stdout().lock();
    // Nobody may read it.
    let _ = stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush());
}

fn object(span: &SpanData, resource: &[Json]) -> Json {
    let attributes: Vec<Json> = span
        .attributes
        .iter()
        .map(|(key, value)| match value {
            Attribute::Text(text) => pair_json(key, "STRING", json!(text)),
            Attribute::Number(number) => pair_json(key, "INT64", json!(number)),
        })
        .collect();
    let scope = resource::scope();
    let context = |span_id: &[u8], flags: u8, remote: bool| {
        json!({
            "TraceID": hex(&span.context.trace_id),
            "SpanID": hex(span_id),
            "TraceFlags": hex(&[flags]),
            "TraceState": span.context.state,
            "Remote": remote,
        })
    };
    let parent = span.parent.map_or_else(
        || {
            json!({
                "TraceID": hex(&[0; 16]),
                "SpanID": hex(&[0; 8]),
                "TraceFlags": "00",
                "TraceState": "",
                "Remote": false,
            })
        },
        |id| context(&id, span.context.flags, true),
    );
    json!({
        "Name": span.name,
        "SpanContext": context(&span.context.span_id, span.context.flags, false),
        "Parent": parent,
        "SpanKind": 2,
        "StartTime": timestamp(span.start),
        "EndTime": timestamp(span.end),
        "Attributes": attributes,
        "Events": null,
        "Links": null,
        "Status": {"Code": if span.error { "Error" } else { "Unset" }, "Description": ""},
        "DroppedAttributes": span.dropped,
        "DroppedEvents": 0,
        "DroppedLinks": 0,
        "ChildSpanCount": 0,
        "Resource": resource,
        "InstrumentationScope": {
            "Name": scope.name,
            "Version": scope.version,
            "SchemaURL": "",
            "Attributes": null,
        },
    })
}

fn pair_json(key: &str, kind: &str, value: Json) -> Json {
    json!({"Key": key, "Value": {"Type": kind, "Value": value}})
}

fn timestamp(time: SystemTime) -> String {
    // Years beyond 9999 cannot be written.
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_default()
}
