use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Context, Propagators};
use crate::testing::env;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn propagators(names: &str) -> Propagators {
    let vars = env(&[("OTEL_PROPAGATORS", names)]);
    let mut warnings = Vec::new();
    let found = Propagators::from_env(&vars.env(), &mut warnings);
    assert!(warnings.is_empty(), "{warnings:?}");
    found
}

/// Fields, `T` and `S` being the ids.
fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        let value = value.replace('T', TRACE).replace('S', SPAN);
        map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(value).unwrap());
    }
    map
}

fn extract(names: &str, pairs: &[(&str, &str)]) -> Option<Context> {
    propagators(names).extract(&fields(pairs))
}

fn sampled(names: &str, pairs: &[(&str, &str)]) -> Option<bool> {
    let context = extract(names, pairs)?;
    assert_eq!(context.span_hex(), SPAN);
    assert!(TRACE.ends_with(context.trace_hex().trim_start_matches('0')));
    Some(context.is_sampled())
}

/// What a context becomes that came in these fields.
fn round_trip(names: &str, pairs: &[(&str, &str)]) -> Vec<String> {
    let context = extract(names, pairs).expect("valid");
    let mut out = HeaderMap::new();
    propagators(names).inject(&context, &mut out);
    let mut lines: Vec<_> = out
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .map(|line| line.replace(TRACE, "T").replace(SPAN, "S"))
        .collect();
    lines.sort();
    lines
}

#[test]
fn trace_context() {
    let read = |text| sampled("tracecontext", &[("traceparent", text)]);
    assert_eq!(read("00-T-S-01"), Some(true));
    assert_eq!(read("00-T-S-02"), Some(false));
    assert_eq!(read("cc-T-S-09-more-parts"), Some(true));
    for bad in [
        "",
        "00-zz-S-01",
        "00-T-S",
        "00-T-S-04",
        "00-T-S-01-more",
        "ff-T-S-01",
        "0-T-S-01",
        "00-T-0000000000000000-01",
        "00-00000000000000000000000000000000-S-01",
        "00-0AF7651916CD43DD8448EB211C80319C-S-01",
    ] {
        assert_eq!(read(bad), None, "{bad}");
    }
    let state = |text| {
        let pairs = [("traceparent", "00-T-S-01"), ("tracestate", text)];
        extract("tracecontext", &pairs).map(|context| context.state)
    };
    assert_eq!(state("a=1,b=2").as_deref(), Some("a=1,b=2"));
    assert_eq!(state("nothing").as_deref(), Some(""));
    assert_eq!(
        round_trip("tracecontext", &[("traceparent", "00-T-S-03")]),
        ["traceparent: 00-T-S-03"]
    );
}

#[test]
fn b3() {
    let single = |text| sampled("b3", &[("b3", text)]);
    assert_eq!(single("T-S-1"), Some(true));
    assert_eq!(single("T-S-0-S"), Some(false));
    assert_eq!(single("8448eb211c80319c-S-d"), Some(true));
    assert_eq!(single("T-S"), Some(false));
    for bad in ["", "1", "T", "T-S-", "T-S-x", "T-S-1-zz", "T-S-1-S-1", "T-S-S", "-S-1"] {
        assert_eq!(single(bad), None, "{bad}");
    }
    assert_eq!(round_trip("b3", &[("b3", "T-S-1")]), ["b3: T-S-1"]);
    assert_eq!(round_trip("b3", &[("b3", "T-S-d")]), ["b3: T-S-d"]);
    assert_eq!(round_trip("b3", &[("b3", "T-S")]), ["b3: T-S"]);
    // The single field is not valid: the others are read.
    let pairs =
        [("b3", "x"), ("x-b3-traceid", "T"), ("x-b3-spanid", "S"), ("x-b3-sampled", "TRUE")];
    let pairs = pairs.map(|(name, value)| (name, if value == "TRUE" { "true" } else { value }));
    let want = ["x-b3-sampled: 1", "x-b3-spanid: S", "x-b3-traceid: T"];
    assert_eq!(round_trip("b3multi", &pairs), want);
    let pairs = [("x-b3-traceid", "T"), ("x-b3-spanid", "S"), ("x-b3-flags", "1")];
    let want = ["x-b3-flags: 1", "x-b3-spanid: S", "x-b3-traceid: T"];
    assert_eq!(round_trip("b3multi", &pairs), want);
    assert_eq!(extract("b3multi", &[("x-b3-traceid", "T")]), None);
}

#[test]
fn jaeger() {
    let read = |text| sampled("jaeger", &[("uber-trace-id", text)]);
    assert_eq!(read("T:S:0:1"), Some(true));
    assert_eq!(read("8448eb211c80319c:S::0"), Some(false));
    for bad in ["", "T:S:0", "T:S:0:1:1", "T:S:0:x", ":S:0:1", "T:0:0:1"] {
        assert_eq!(read(bad), None, "{bad}");
    }
    assert_eq!(round_trip("jaeger", &[("uber-trace-id", "T:S:0:3")]), ["uber-trace-id: T:S:0:3"]);
    // Debug without sampled means nothing.
    assert_eq!(round_trip("jaeger", &[("uber-trace-id", "T:S:0:2")]), ["uber-trace-id: T:S:0:0"]);
}

#[test]
fn xray() {
    let read = |text: &str| {
        let mut map = HeaderMap::new();
        map.insert("x-amzn-trace-id", HeaderValue::try_from(text).unwrap());
        propagators("xray").extract(&map)
    };
    let root = "Root=1-0af76519-16cd43dd8448eb211c80319c";
    let whole = format!("{root};Parent={SPAN};Sampled=1");
    for bad in [root, "Root=1-0af-16;Parent=b7ad6b7169203331", "Sampled=1", "x"] {
        assert_eq!(read(bad), None, "{bad}");
    }
    let context = read(&whole).expect("valid");
    assert_eq!((context.trace_hex().as_str(), context.is_sampled()), (TRACE, true));
    let mut out = HeaderMap::new();
    propagators("xray").inject(&context, &mut out);
    assert_eq!(out["x-amzn-trace-id"], whole);
}

#[test]
fn ottrace() {
    let pairs = [
        ("ot-tracer-traceid", "8448eb211c80319c"),
        ("ot-tracer-spanid", "S"),
        ("ot-tracer-sampled", "true"),
    ];
    assert_eq!(sampled("ottrace", &pairs), Some(true));
    let want =
        ["ot-tracer-sampled: true", "ot-tracer-spanid: S", "ot-tracer-traceid: 8448eb211c80319c"];
    assert_eq!(round_trip("ottrace", &pairs), want);
}

#[test]
fn several_at_once() {
    let both = [("traceparent", "00-T-S-00"), ("b3", "T-S-1")];
    // The last that is valid counts, all are written.
    assert_eq!(sampled("tracecontext,b3", &both), Some(true));
    assert_eq!(sampled("b3,tracecontext", &both), Some(false));
    assert_eq!(
        round_trip("tracecontext,baggage,b3", &both),
        ["b3: T-S-1", "traceparent: 00-T-S-01"]
    );
    assert_eq!(extract("b3,none", &both), None);
    let vars = env(&[("OTEL_PROPAGATORS", "x,b3")]);
    let mut warnings = Vec::new();
    assert_eq!(Propagators::from_env(&vars.env(), &mut warnings), propagators("b3"));
    assert_eq!(warnings, ["OTEL_PROPAGATORS: unknown propagator: x"]);
    let vars = env(&[("OTEL_PROPAGATORS", "x")]);
    assert_eq!(Propagators::from_env(&vars.env(), &mut warnings), Propagators::default());
}
