use serde_json::json;
use time::OffsetDateTime;

use super::Encoder;
use crate::{
    Level,
    field::{Entry, Field, FieldSink, Object},
    writers::WriterPlan,
};

struct Fields;

struct Inner;

impl Object for Fields {
    fn fields(&self, out: &mut FieldSink<'_>) {
        out("a", Field::str("x\n\"\u{1}<é"));
        out("o", Field::Object(&Inner));
        out("d", Field::Duration(std::time::Duration::from_micros(1500)));
    }
}

impl Object for Inner {
    fn fields(&self, out: &mut FieldSink<'_>) {
        out("n", Field::Int(-1));
        out("l", Field::Strings(&["p".into(), "q".into()]));
        out("f", Field::Float(0.5));
    }
}

fn line(encoder: serde_json::Value, fields: &dyn Object) -> String {
    let encoder = Encoder::compile(Some(&encoder)).unwrap().resolve(&WriterPlan::Discard);
    let entry = Entry {
        level: Level::Info,
        time: OffsetDateTime::from_unix_timestamp_nanos(1_700_000_000_123_456_700).unwrap(),
        logger: "http",
        caller: None,
        message: "hello",
        fields,
    };
    let mut out = Vec::new();
    encoder.encode(&entry, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn json() {
    assert_eq!(
        line(json!({"format": "json"}), &Fields),
        "{\"level\":\"info\",\"ts\":1700000000.1234567,\"logger\":\"http\",\"msg\":\"hello\",\
         \"a\":\"x\\n\\\"\\u0001<é\",\"o\":{\"n\":-1,\"l\":[\"p\",\"q\"],\"f\":0.5},\"d\":0.0015}\n"
    );
    let options = json!({
        "format": "json", "message_key": "m", "level_key": "sev", "name_key": "", "time_key": "at",
        "time_format": "rfc3339", "duration_format": "string", "level_format": "upper",
        "line_ending": "\r\n",
    });
    assert_eq!(
        line(options, &()),
        "{\"sev\":\"INFO\",\"at\":\"2023-11-14T22:13:20Z\",\"m\":\"hello\"}\r\n"
    );
    for (format, duration, expected) in [
        ("unix_milli_float", "ms", "\"ts\":1700000000123.4568,"),
        ("unix_nano", "ns", "\"ts\":1700000000123456700,"),
        ("15h04", "string", "\"ts\":\"22h13\","),
        ("", "ms", "\"d\":1}"),
        ("", "ns", "\"d\":1500000}"),
        ("", "millis", "\"d\":1}"),
        ("", "nanos", "\"d\":1500000}"),
        ("", "string", "\"d\":\"1.5ms\"}"),
    ] {
        let options = json!({"format": "json", "time_format": format, "duration_format": duration});
        let line = line(options, &Fields);
        assert!(line.contains(expected), "{line}");
    }
}

#[test]
fn console() {
    let options = json!({"format": "console", "level_format": "upper", "time_format": "wall"});
    assert_eq!(
        line(options.clone(), &Inner),
        "2023/11/14 22:13:20\tINFO\thttp\thello\t{\"n\": -1, \"l\": [\"p\", \"q\"], \"f\": 0.5}\n"
    );
    assert_eq!(line(options, &()), "2023/11/14 22:13:20\tINFO\thttp\thello\n");
    assert_eq!(
        line(json!({"format": "console"}), &()),
        "2023/11/14 22:13:20.123\t\u{1b}[34mINFO\u{1b}[0m\thttp\thello\n"
    );
    assert_eq!(
        line(
            json!({"format": "journald", "wrap": {"format": "console", "level_format": "upper"}}),
            &()
        ),
        "<6>INFO\thttp\thello\n"
    );
}

#[test]
fn console_as_zap_writes_it() {
    // Numbers of the clock as Go prints them.
    for (format, time) in [
        ("unix_seconds_float", "1.7000000001234567e+09"),
        ("unix_milli_float", "1.7000000001234568e+12"),
        ("unix_nano", "1700000000123456700"),
    ] {
        let options = json!({"format": "console", "level_format": "upper", "time_format": format});
        assert_eq!(line(options, &()), format!("{time}\tINFO\thttp\thello\n"));
    }
    // A tab stands between parts that are there.
    let no_message = json!({"format": "console", "time_key": "", "level_format": "upper",
        "message_key": ""});
    let fields = "{\"n\": -1, \"l\": [\"p\", \"q\"], \"f\": 0.5}";
    assert_eq!(line(no_message, &Inner), format!("INFO\thttp\t{fields}\n"));
    let nothing = json!({"format": "console", "time_key": "", "level_key": "", "name_key": "",
        "message_key": ""});
    assert_eq!(line(nothing, &Inner), format!("{fields}\n"));
}

#[test]
fn appended_placeholders() {
    let base = json!({"format": "json", "time_key": "", "level_key": "", "name_key": ""});
    let append = |value: &str| json!({"format": "append", "wrap": base, "fields": {"k": value}});
    for (value, want) in [
        ("{system.slash}", "\"/\"".to_owned()),
        ("{http.request.uri}", "null".to_owned()),
        ("a{system.slash}b", "\"a{system.slash}b\"".to_owned()),
        ("{time.now.year}", format!("\"{}\"", OffsetDateTime::now_utc().year())),
    ] {
        assert_eq!(line(append(value), &()), format!("{{\"msg\":\"hello\",\"k\":{want}}}\n"));
    }
    // The clock is read for each entry.
    let append = append("{time.now.unix_ms}");
    let encoder = Encoder::compile(Some(&append)).unwrap().resolve(&WriterPlan::Discard);
    let now = || {
        let entry = Entry {
            level: Level::Info,
            time: OffsetDateTime::UNIX_EPOCH,
            logger: "",
            caller: None,
            message: "",
            fields: &(),
        };
        let mut out = Vec::new();
        encoder.encode(&entry, &mut out);
        out
    };
    let first = now();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while now() == first {
        assert!(std::time::Instant::now() < deadline, "the clock stands still");
    }
}

#[test]
fn filter_and_append() {
    let base = json!({"format": "json", "time_key": "", "level_key": "", "name_key": ""});
    let filter = json!({"format": "filter", "wrap": base, "fields": {
        "a": {"filter": "rename", "name": "b"},
        "o>l": {"filter": "replace", "value": "gone"},
        "o>n": {"filter": "delete"},
        "d": {"filter": "delete"},
        "k": {"filter": "hash"},
    }});
    assert_eq!(
        line(filter.clone(), &Fields),
        "{\"msg\":\"hello\",\"b\":\"x\\n\\\"\\u0001<é\",\"o\":{\"l\":\"gone\",\"f\":0.5}}\n"
    );
    // What is appended above a filter passes it.
    let append = json!({"format": "append", "wrap": filter, "fields": {"k": "hash me", "n": 1}});
    assert_eq!(line(append, &()), "{\"msg\":\"hello\",\"k\":\"eb201af5\",\"n\":1}\n");
    let outer = json!({"format": "filter", "fields": {"n": {"filter": "delete"}}, "wrap":
        {"format": "filter", "fields": {"l": {"filter": "delete"}}, "wrap": base}});
    assert_eq!(line(outer, &Inner), "{\"msg\":\"hello\",\"f\":0.5}\n");
}

#[test]
fn wrong_encoders_are_refused() {
    let mut nested = json!({"format": "json"});
    for _ in 0..20 {
        nested = json!({"format": "journald", "wrap": nested});
    }
    for wrong in [json!({"format": "nof"}), json!({"format": "json", "x": 1}), nested] {
        assert!(Encoder::compile(Some(&wrong)).is_err());
    }
}
