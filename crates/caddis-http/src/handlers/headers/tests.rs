use caddis_core::Exchange;
use serde_json::json;

use crate::handlers::tests::{Answer, adapt_values, compile_error, run_all, run_in, run_json};

#[test]
fn adapts() {
    let route = |response: serde_json::Value| json!([{"handle": [{"handler": "headers", "response": response}]}]);
    let cases = [
        ("header denis Ritchie", route(json!({"set": {"Denis": ["Ritchie"]}}))),
        ("header +Edsger Dijkstra", route(json!({"add": {"Edsger": ["Dijkstra"]}}))),
        (
            "header ?John Neumann",
            route(json!({"require": {"headers": {"John": null}}, "set": {"John": ["Neumann"]}})),
        ),
        ("header -Wolfram", route(json!({"deferred": true, "delete": ["Wolfram"]}))),
        ("header >Set Defer", route(json!({"deferred": true, "set": {"Set": ["Defer"]}}))),
        (
            "header >X find new",
            route(json!({"deferred": true,
                "replace": {"X": [{"replace": "new", "search_regexp": "find"}]}})),
        ),
        (
            "header {\n+Link Foo\n+Link Bar\nmatch status 200\n}",
            route(json!({"add": {"Link": ["Foo", "Bar"]}, "require": {"status_code": [200]}})),
        ),
        (
            "header {\n Grace: Hopper\n +Ray x\n ?Tim y\n defer\n}",
            json!([
                {"handle": [{"handler": "headers", "response": {"add": {"Ray": ["x"]},
                    "deferred": true, "set": {"Grace": ["Hopper"]}}}]},
                {"handle": [{"handler": "headers", "response":
                    {"require": {"headers": {"Tim": null}}, "set": {"Tim": ["y"]}}}]}
            ]),
        ),
        (
            "request_header /a X-B: c",
            json!([{"match": [{"path": ["/a"]}],
                "handle": [{"handler": "headers", "request": {"set": {"X-B": ["c"]}}}]}]),
        ),
        (
            "request_header -X",
            json!([{"handle": [{"handler": "headers", "request": {"delete": ["X"]}}]}]),
        ),
    ];
    for (text, want) in cases {
        assert_eq!(adapt_values(text), Ok(want), "{text}");
    }
    for (text, want) in [
        ("header A b {\n C d\n}", "cannot specify headers in both arguments and block"),
        ("request_header ?A b", "the default header modifier ('?') can only be used on response"),
        ("request_header", "wrong argument count"),
        ("request_header a b c d", "wrong argument count"),
    ] {
        assert!(adapt_values(text).expect_err(text).contains(want), "{text}");
    }
}

fn all(answer: &Answer, name: &str) -> Vec<String> {
    let values = answer.headers.get_all(name).iter();
    values.map(|value| value.to_str().expect("text").to_owned()).collect()
}

#[test]
fn responses() {
    let block = "header {\n X-Set one\n +X-Add first\n +X-Add second\n -Server\n ?X-Default fall\n\
                 X-Empty \"\"\n ?X-Set no\n}";
    let answer = run_all(&[block, "respond ok"], "/").expect("answers");
    assert_eq!(all(&answer, "x-set"), ["one"]);
    assert_eq!(all(&answer, "x-add"), ["first", "second"]);
    assert_eq!(all(&answer, "x-default"), ["fall"]);
    assert_eq!(all(&answer, "x-empty"), [""]);
    assert!(all(&answer, "server").is_empty());
    let answer = run_all(&["header Server own", "respond ok"], "/").expect("answers");
    assert_eq!(all(&answer, "server"), ["own"]);
    let answer = run_all(&["header +Server own", "respond ok"], "/").expect("answers");
    assert_eq!(all(&answer, "server"), ["caddis", "own"]);
}

#[test]
fn deferred_sees_the_response() {
    let directives = [
        "header X-Now \"[{http.response.header.Content-Type}]\"",
        "header >X-Late \"[{http.response.header.Content-Type}]\"",
        "header >Content-Type \"text/(\\w+)\" \"x/$1\"",
        "respond ok",
    ];
    let answer = run_all(&directives, "/").expect("answers");
    assert_eq!(all(&answer, "x-now"), ["[]"]);
    assert_eq!(all(&answer, "x-late"), ["[x/plain; charset=utf-8]"]);
    assert_eq!(all(&answer, "content-type"), ["x/plain; charset=utf-8"]);
}

#[test]
fn deletes_by_pattern() {
    let add = "header {\n X-A-One 1\n X-A-Two 2\n X-End 3\n X-Mid-X 4\n Keep 5\n}";
    for (delete, left) in [
        ("header -X-A-*", vec!["x-end", "x-mid-x", "keep"]),
        ("header -*-End", vec!["x-a-one", "x-a-two", "x-mid-x", "keep"]),
        ("header -*Mid*", vec!["x-a-one", "x-a-two", "x-end", "keep"]),
        ("header -x-a-one", vec!["x-a-two", "x-end", "x-mid-x", "keep"]),
        ("header -*", vec![]),
    ] {
        let answer = run_all(&[delete, add, "respond 200"], "/").expect("answers");
        for name in ["x-a-one", "x-a-two", "x-end", "x-mid-x", "keep"] {
            assert_eq!(answer.headers.contains_key(name), left.contains(&name), "{delete} {name}");
        }
    }
}

#[test]
fn requests() {
    let mut ex = Exchange::for_test("/p");
    for (name, value) in [("x-multi", "one"), ("x-gone", "x"), ("x-text", "bad word")] {
        ex.request.headers.insert(name, value.parse().expect("value"));
    }
    let directives = [
        "request_header X-New \"value {http.request.uri.path}\"",
        "request_header +X-Multi added",
        "request_header -X-Gone",
        "request_header X-Text \"bad (\\w+)\" \"good $1\"",
        "request_header Host changed.test",
        "respond \"{http.request.header.X-New}|{http.request.header.X-Multi}|\
         {http.request.header.X-Gone}|{http.request.header.X-Text}|{http.request.hostport}\"",
    ];
    let answer = run_in(&directives, &mut ex).expect("answers");
    assert_eq!(answer.body, "value /p|one,added||good word|changed.test");
    assert!(!ex.request.headers.contains_key("host"));
}

#[test]
fn json_only_forms() {
    let routes = json!([{"handle": [
        {"handler": "headers", "response": {"set": {"X": ["a b", "c"]},
            "replace": {"*": [{"search": "b", "replace": "{http.request.method}"}]}}},
        {"handler": "headers", "response": {"set": {"Y": ["1"]}, "require": {"status_code": [4]}}},
        {"handler": "static_response"}
    ]}]);
    let answer = run_json(&routes, "/").expect("answers");
    assert_eq!(all(&answer, "x"), ["a GET,c"]);
    assert!(all(&answer, "y").is_empty());
    let error = compile_error(&json!({"handler": "headers", "request":
        {"replace": {"X": [{"search_regexp": "("}]}}}));
    assert!(error.contains("replacement 0 for header field 'X'"), "{error}");
    let error = compile_error(&json!({"handler": "headers", "nope": 1}));
    assert!(error.contains("unknown field \"nope\""), "{error}");
}

#[test]
fn expressions_with_placeholders() {
    let directives = [
        "header X-A \"p{2}q port-80\"",
        "header X-A \"port-{http.request.local.port}\" x",
        "respond 200",
    ];
    let answer = run_all(&directives, "/").expect("answers");
    assert_eq!(all(&answer, "x-a"), ["p{2}q x"]);
}
