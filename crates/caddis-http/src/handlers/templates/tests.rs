use caddis_core::{Exchange, Value};
use serde_json::json;

use crate::handlers::tests::{adapt, block_on, compile_error, compiled, run_all};

/// What a text prints, or the error.
fn print(text: &str) -> Result<String, String> {
    let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
    let answer = "header Content-Type text/html";
    let text = format!("respond \"{quoted}\"");
    run_all(&["templates", answer, &text], "/a?q=1%202")
        .map(|answer| answer.body)
        .map_err(|error| error.message.clone())
}

#[test]
fn adapts() {
    let text = "templates {\n mime text/x\n between [[ ]]\n root /srv\n}";
    let want = json!({"handler": "templates", "file_root": "/srv", "mime_types": ["text/x"],
        "delimiters": ["[[", "]]"]});
    assert_eq!(adapt(text), Ok(want));
    assert!(adapt("templates {\n between x\n}").is_err());
    let bad = json!({"handler": "templates", "delimiters": ["a"]});
    assert!(compile_error(&bad).contains("exactly two elements"));
}

/// What a text prints by itself; nothing where it is an error.
fn printed(text: &str) -> Option<String> {
    let ex = Exchange::for_test("/page.html");
    let root = caddis_core::Template::parse(".");
    let page =
        super::Page { root: &root, headers: http::HeaderMap::new(), delimiters: ("{{", "}}") };
    let result = block_on(page.run(&ex, |run| run.text("/page.html", text, Vec::new())));
    result.ok().map(|(text, _)| text)
}

/// Templates and what Caddy 2.10.2 printed for them, `null` where it answered 500.
#[test]
fn prints_what_caddy_prints() {
    let cases: Vec<(String, Option<String>)> =
        serde_json::from_str(include_str!("cases.json")).expect("cases");
    let wrong: Vec<_> = cases
        .into_iter()
        .filter_map(|(text, want)| {
            let got = printed(&text);
            (got != want).then_some((text, want, got))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_functions_do_is_bounded() {
    for text in [
        "{{$x := repeat 1000000 `abcdefgh`}}{{range until 100000}}{{$y := upper $x}}{{end}}",
        "{{range until 1000}}{{$x := bcrypt `a`}}{{end}}",
        "{{$l := list}}{{range until 100000}}{{$l = append $l 1}}{{end}}",
        "{{$d := dict}}{{range until 100000}}{{$d = dict `a` $d `b` $d}}{{end}}{{toJson $d | len}}{{fail `x`}}",
        "{{printf `%999999999d` 1 | len | printf `%s`}}{{wrap 1 (repeat 1000000 `a b `) | len}}{{fail `x`}}",
        "{{template `/page.html`}}",
        "{{range 9000000000000000000}}{{end}}",
        "{{wrapWith 1 (repeat 1000000 `x`) (repeat 100000 `y`)}}",
        "{{$t := repeat 1000000 `x`}}{{$l := list}}{{range until 100}}{{$l = append $l $t}}{{end}}{{join `` $l}}",
        "{{regexReplaceAll `y` (repeat 100000 `y`) (repeat 100000 `x`)}}",
        "{{splitList `` (repeat 2000000 `x`) | len}}",
        "{{until 10000000 | len}}",
        "{{$l := list}}{{range until 5000}}{{$l = append $l .}}{{end}}{{range until 5000}}{{$_ := uniq $l}}{{end}}",
        "{{range until 40000}}{{$.RespHeader.Add (printf `x-%d` .) `y`}}{{end}}",
        "{{$c := dict}}{{$r := $c}}{{range until 100000}}{{$n := dict}}{{$_ := set $c `x` $n}}{{$c = $n}}{{end}}{{toJson $r}}",
    ] {
        assert_eq!(printed(text), None, "{text}");
    }
}

#[test]
fn odd_numbers_and_times_are_values() {
    for (text, want) in [
        ("{{int `-0x-8000000000000000`}} {{int `-9223372036854775808`}}", "0 -9223372036854775808"),
        ("{{subf 1.0 -170141183460469231731687303715884105728.0}}", "1.7014118346046923e+38"),
        ("{{(toDate `2006-01-02Z07:00` `9999-12-31-07:00`).UTC.Year}}", "9999"),
        ("{{dateInZone `15:04 MST -0700` 1720000000 `Europe/Berlin`}}", "11:46 CEST +0200"),
        ("{{dateInZone `15:04 MST` 1705000000 `America/New_York`}}", "14:06 EST"),
        ("{{htmlDateInZone 1720000000 `Pacific/Auckland`}}", "2024-07-03"),
        ("{{dateInZone `15:04 MST` 1720000000 `Nope/Nowhere`}}", "09:46 UTC"),
        ("{{010}} {{0x1F}} {{1e3}}", "8 31 1000"),
        (
            "{{trimAll `xy` `xyaxy`}}{{splitn `` 2 `äbc`}}{{splitList `` `äb`}}",
            "amap[_0:ä _1:bc][ä b]",
        ),
    ] {
        assert_eq!(printed(text).as_deref(), Some(want), "{text}");
    }
    for text in ["{{99999999999999999999}}", "{{08}}"] {
        assert_eq!(printed(text), None, "{text}");
    }
}

#[test]
fn prints() {
    for (text, want) in [
        ("plain", "plain"),
        (
            "{{.Req.Method}} {{.Req.URL.Path}} {{.Req.URL.Query.Get `q`}} {{.Host}}",
            "GET /a 1 2 example.com",
        ),
        ("{{if eq 1 2}}a{{else if true}}b{{else}}c{{end}}", "b"),
        ("{{range $i, $v := list `a` `b`}}{{$i}}={{$v}};{{else}}none{{end}}", "0=a;1=b;"),
        (
            "{{range $i := until 5}}{{if eq $i 1}}{{continue}}{{end}}{{if eq $i 3}}{{break}}{{end}}{{$i}}{{end}}",
            "02",
        ),
        ("{{with ``}}with{{else}}without{{end}} {{- ` t ` -}} x", "without t x"),
        ("{{/* c */}}{{$x := 1}}{{$x = add $x 2}}{{$x}}", "3"),
        ("{{define `h`}}<{{.}}>{{end}}{{template `h` 4}}{{block `own` 5}}[{{.}}]{{end}}", "<4>[5]"),
        ("{{printf `%05d|%q|%v|%x` 42 `q` true 255}}", "00042|\"q\"|true|ff"),
        (
            "{{dict `a` 1 `b` (list 1 2)}} {{dict `x` (list 1) | toJson}}",
            "map[a:1 b:[1 2]] {\"x\":[1]}",
        ),
        ("{{(list 1 2 3 | rest) | len}} {{index (dict `k` `v`) `k`}}", "2 v"),
        ("{{and 1 0}} {{or `` `b`}} {{not 1}} {{lt 1 2}} {{ne `a` `b`}}", "0 b false true true"),
        (
            "{{upper `a`}} {{title `some words`}} {{trunc 2 `hello`}} {{snakecase `HelloWorld`}}",
            "A Some Words he hello_world",
        ),
        ("{{$d := dict}}{{$_ := set $d `x` $d}}{{$d}}", "map[x:map[]]"),
        ("{{(splitFrontMatter `---\nt: x\n---\nbody`).Meta.t}}", "x"),
        (
            "{{regexReplaceAll `a(x*)b` `-ab-axxb-` `${1}W`}} {{humanize `size` `2048000`}}",
            "-W-xxW- 2.0 MB",
        ),
    ] {
        assert_eq!(print(text).as_deref(), Ok(want), "{text}");
    }
}

#[test]
fn mistakes_are_errors() {
    for (text, want) in [
        ("{{if}}", "missing value"),
        ("{{if 1}}", "unexpected EOF"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{index (list 1 2) 9}}", "out of range"),
        ("{{template `no`}}", "not defined"),
        ("{{noSuchFunction 1}}", "not defined"),
        ("{{fail `because`}}", "because"),
        ("{{define `a`}}{{template `a`}}{{end}}{{template `a`}}", "depth"),
        ("{{range until 100000}}{{range until 100000}}x{{end}}{{end}}", "too many steps"),
        ("{{repeat 100000000 `abc`}}", "too large"),
        (
            "{{define `a`}}{{if (((((1)))))}}{{if 1}}{{if 1}}{{template `a`}}{{end}}{{end}}{{end}}{{end}}{{template `a`}}",
            "template depth",
        ),
        ("{{div 1 0}}", "divide by zero"),
        ("{{break}}", "outside range"),
        ("{{`unclosed", "unterminated"),
    ] {
        let error = print(text).expect_err(text);
        assert!(error.contains(want), "{text}: {error}");
    }
    let deep = format!("{}1{}", "{{if 1}}".repeat(300), "{{end}}".repeat(300));
    assert!(print(&deep).expect_err("deep").contains("too deeply"));
    let deep = format!("{{{{{}1{}}}}}", "(".repeat(300), ")".repeat(300));
    assert!(print(&deep).expect_err("deep").contains("too deeply"));
}

#[test]
fn only_its_types_run_and_headers_change() {
    let answer = run_all(&["templates", "header Content-Type text/css", "respond {{1}}"], "/");
    assert_eq!(answer.expect("answers").body, "{{1}}");
    let all = ["templates", "header Etag \"x\"", "respond `{{.RespHeader.Set \"X-A\" \"b\"}}1`"];
    let answer = run_all(&all, "/").expect("answers");
    assert_eq!((&*answer.body, answer.headers["x-a"].to_str().expect("text")), ("1", "b"));
    assert!(!answer.headers.contains_key("etag"));
    let error = run_all(&["templates", "respond `{{httpError 418}}`"], "/").expect_err("fails");
    assert_eq!(error.status.as_u16(), 418);
}

#[test]
fn files_stay_below_the_root() {
    let folder = std::env::temp_dir().join(format!("caddis-templates-{}", std::process::id()));
    let below = folder.join("www");
    std::fs::create_dir_all(&below).expect("makes a folder");
    std::fs::write(below.join("part.txt"), "<{{index .Args 0}}>").expect("writes");
    std::fs::write(below.join("loop.txt"), "{{include `loop.txt`}}").expect("writes");
    std::fs::write(folder.join("secret.txt"), "secret").expect("writes");
    let print = |text: &str| {
        let routes = compiled(&["templates", &format!("respond `{text}`")]);
        let mut ex = Exchange::for_test("/");
        ex.set_var("root", Value::string(below.to_string_lossy()));
        let result = block_on(caddis_core::Next::new(&routes, None).run(&mut ex));
        match result {
            Ok(mut response) => {
                let body = block_on(response.body_mut().take().collect(1000)).expect("reads");
                String::from_utf8_lossy(&body).into_owned()
            }
            Err(error) => error.message,
        }
    };
    assert_eq!(print("{{include \"part.txt\" \"x\"}}{{fileExists \"no\"}}"), "<x>false");
    assert_eq!(print("{{listFiles \"/\"}}"), "[loop.txt part.txt]");
    assert_eq!(print("{{(fileStat \"part.txt\").Size}}"), "19");
    assert!(print("{{readFile \"../secret.txt\"}}").contains("secret.txt: "));
    assert!(print("{{include \"loop.txt\"}}").contains("depth"));
    std::fs::remove_dir_all(&folder).expect("removes");
}
