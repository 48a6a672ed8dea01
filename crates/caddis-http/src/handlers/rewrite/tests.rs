use serde_json::json;

use crate::handlers::tests::{adapt, adapt_values, compile_error, run_all};

/// The URI and the decoded path after a directive.
fn uri(directive: &str, target: &str) -> String {
    let show = "respond \"{http.request.uri} | {http.request.uri.path}\"";
    run_all(&[directive, show], target).expect("answers").body
}

#[test]
fn adapts() {
    assert_eq!(
        adapt_values("rewrite /new"),
        Ok(json!([{"handle": [{"handler": "rewrite", "uri": "/new"}]}]))
    );
    assert_eq!(
        adapt_values("rewrite /old* /new?{query}"),
        Ok(json!([{"match": [{"path": ["/old*"]}],
            "handle": [{"handler": "rewrite", "uri": "/new?{query}"}]}]))
    );
    for (text, want) in [
        ("method put", json!({"method": "put"})),
        ("uri strip_prefix /a", json!({"strip_path_prefix": "/a"})),
        ("uri strip_suffix .a", json!({"strip_path_suffix": ".a"})),
        (
            "uri replace a b 2",
            json!({"uri_substring": [{"find": "a", "replace": "b", "limit": 2}]}),
        ),
        ("uri path_regexp a b", json!({"path_regexp": [{"find": "a", "replace": "b"}]})),
        ("uri query a b", json!({"query": {"set": [{"key": "a", "val": "b"}]}})),
        ("uri query +a b", json!({"query": {"add": [{"key": "a", "val": "b"}]}})),
        ("uri query -a", json!({"query": {"delete": ["a"]}})),
        ("uri query a>b", json!({"query": {"rename": [{"key": "a", "val": "b"}]}})),
        (
            "uri query {\n findme value replacement\n +foo1 baz\n}",
            json!({"query": {"add": [{"key": "foo1", "val": "baz"}], "replace":
                [{"key": "findme", "replace": "replacement", "search_regexp": "value"}]}}),
        ),
    ] {
        let mut want = want;
        want["handler"] = "rewrite".into();
        assert_eq!(adapt(text), Ok(want), "{text}");
    }
    assert!(adapt_values("rewrite").is_err());
    for text in [
        "method",
        "method a b",
        "uri",
        "uri nope x",
        "uri strip_prefix",
        "uri replace a b c d",
        "uri replace a b c",
        "uri query -a b",
        "uri query a b c d",
        "uri query a b {\n c d\n}",
    ] {
        assert!(adapt(text).is_err(), "{text}");
    }
}

#[test]
fn whole_uri() {
    for (to, target, want) in [
        ("/new", "/path?a=1", "/new?a=1 | /new"),
        ("?only=query", "/query?a=1", "/query?only=query | /query"),
        ("/p?q=1", "/both?a=1", "/p?q=1 | /p"),
        ("/kept?{http.request.uri.query}&more=1", "/keep?a=1", "/kept?a=1&more=1 | /kept"),
        ("/kept?{http.request.uri.query}&more=1", "/keep", "/kept?more=1 | /kept"),
        ("/dropped?", "/drop?a=1", "/dropped | /dropped"),
        // A query out of a placeholder counts only where one is asked for and none is written.
        ("/p/{http.request.uri.query.b}", "/?b=x%3Fy=1", "/p/x?b=x%3Fy=1 | /p/x"),
        ("/p/{http.request.uri.query.b}?", "/?b=x%3Fy=1", "/p/x?y=1 | /p/x"),
        ("/p/{http.request.uri.query.b}", "/?b=x%23y", "/p/x%23y?b=x%23y | /p/x#y"),
        ("/p?a=&b=", "/", "/p?a=&b | /p"),
        (
            "/index.php?u={http.request.uri.path}",
            "/seg/a%20b?x=1",
            "/index.php?u=%2Fseg%2Fa+b | /index.php",
        ),
        ("/e{http.request.uri.path}", "/encoded/%2F%20x", "/e/encoded//%20x | /e/encoded// x"),
        ("\"/with space\"", "/space", "/with%20space | /with space"),
        ("/x#frag", "/y?q", "/x?q | /x"),
        ("{http.request.uri.query.to}?", "/y?to=%2Fa%3Fb%3D%7Bc%7D", "/a?b=%7Bc%7D | /a"),
        ("/a?x=1=2&y", "/", "/a?x=1=2&y | /a"),
    ] {
        assert_eq!(uri(&format!("rewrite {to}"), target), want, "{to}");
    }
}

#[test]
fn strips() {
    for (directive, target, want) in [
        ("strip_prefix /api", "/api/v1/x?y=1", "/v1/x?y=1 | /v1/x"),
        ("strip_prefix /api", "/api/", "/ | /"),
        ("strip_prefix /api", "/api", "/ | "),
        ("strip_prefix /CASE", "/case/a", "/a | /a"),
        ("strip_prefix /slash", "/slashes", "es | es"),
        ("strip_prefix noslash", "/noslash/a", "/a | /a"),
        ("strip_prefix /esc/a%2Fb", "/esc/a%2Fb/c", "/c | /c"),
        ("strip_prefix /esc/a%2Fb", "/esc/a/b/c", "/esc/a/b/c | /esc/a/b/c"),
        ("strip_prefix /api", "/api/%20x", "/%20x | / x"),
        ("strip_prefix /api", "/api//double", "/double | /double"),
        ("strip_prefix /api", "/api/%2Fz", "/%2Fz | //z"),
        ("strip_suffix .html", "/page.html?x=.html", "/page?x=.html | /page"),
        ("strip_suffix .html", "/page%2ehtml", "/page%2ehtml | /page.html"),
        ("strip_suffix .HTML", "/page.html", "/page | /page"),
        ("strip_suffix tail", "/end/tail", "/end/ | /end/"),
    ] {
        assert_eq!(uri(&format!("uri {directive}"), target), want, "{directive} {target}");
    }
}

#[test]
fn replaces() {
    for (directive, target, want) in [
        ("replace foo bar", "/r/foo/foo?a=foo", "/r/bar/bar?a=bar | /r/bar/bar"),
        ("replace foo bar 1", "/l/foo/foo", "/l/bar/foo | /l/bar/foo"),
        ("replace / - 2", "/limit/a/b/c", "-limit-a/b/c | -limit-a/b/c"),
        ("replace %20 _", "/e/a%20b%20c", "/e/a_b_c | /e/a_b_c"),
        ("replace X {http.request.uri.query.w}", "/aXb?w=Y", "/aYb?w=Y | /aYb"),
        ("path_regexp \"/{2,}\" /", "/x//y///z", "/x/y/z | /x/y/z"),
        ("path_regexp (\\d+) <$1>", "/d/12/34", "/d/%3C12%3E/%3C34%3E | /d/<12>/<34>"),
        (
            "path_regexp ^/docs/(\\w+)/(\\d+)$ /d/$2/$1",
            "/docs/intro/12?x=1",
            "/d/12/intro?x=1 | /d/12/intro",
        ),
    ] {
        assert_eq!(uri(&format!("uri {directive}"), target), want, "{directive} {target}");
    }
}

#[test]
fn queries() {
    for (directive, target, want) in [
        ("query a new", "/?a=1&b=2", "/?a=new&b=2 | /"),
        ("query a new", "/", "/?a=new | /"),
        ("query +a 2", "/?a=1&z=", "/?a=1&a=2&z= | /"),
        ("query -a", "/?a=1&b=2&a=3", "/?b=2 | /"),
        ("query a>b", "/?a=1&c=3", "/?b=1&c=3 | /"),
        ("query old>new", "/?other=1", "/?other=1 | /"),
        ("query text \"([a-z])(\\d)\" \"$2$1\"", "/?text=a1b2", "/?text=1a2b | /"),
        ("query -a", "/?a=1", "/ | /"),
        (
            "query {\n -drop\n +extra v{http.request.uri.path}\n mode>kind\n set \"a b&c\"\n}",
            "/block?drop=1&mode=m&q=%20+x",
            "/block?extra=v%2Fblock&kind=m&q=++x&set=a+b%26c | /block",
        ),
    ] {
        assert_eq!(uri(&format!("uri {directive}"), target), want, "{directive} {target}");
    }
}

#[test]
fn methods() {
    let show = "respond \"{http.request.method} {http.request.orig_method}\"";
    assert_eq!(run_all(&["method purge", show], "/").expect("answers").body, "PURGE GET");
    let template = "method {http.request.uri.query.m}";
    assert_eq!(run_all(&[template, show], "/?m=put").expect("answers").body, "PUT GET");
    assert_eq!(run_all(&[template, show], "/?m=a%20b").expect("answers").body, "GET GET");
}

#[test]
fn refuses_malformed_expressions() {
    for json in [
        json!({"handler": "rewrite", "path_regexp": [{"find": "("}]}),
        json!({"handler": "rewrite", "path_regexp": [{"replace": "x"}]}),
        json!({"handler": "rewrite", "query": {"replace": [{"key": "a", "search_regexp": "["}]}}),
    ] {
        assert!(!compile_error(&json).is_empty());
    }
}
