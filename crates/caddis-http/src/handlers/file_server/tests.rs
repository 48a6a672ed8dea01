//! Requests against directories.

use std::sync::Arc;

use caddis_core::{
    Body, CompileCx, Exchange, Handler, HttpError, Middleware, Next, Response, RouteList, State,
    Value, metrics::Metrics,
};
use http::{HeaderName, Method, StatusCode};
use serde_json::json;

use super::{TEMPLATE, test_dir::TestDir};
use crate::matchers::testing::registry;

fn server(config: serde_json::Value) -> Box<dyn Middleware> {
    let (registry, state) = (registry(), State::default());
    let mut cx = CompileCx::new(&registry, &state, Arc::new(Metrics::default()));
    match (super::MODULE.compile)(&config, &mut cx).expect("compiles") {
        Handler::Middleware(middleware) => middleware,
        Handler::Filter(_) => panic!("a middleware"),
    }
}

fn exchange(dir: &TestDir, target: &str, headers: &[(&str, &str)]) -> Box<Exchange> {
    let mut ex = Exchange::for_test(target);
    ex.set_var("root", Value::string(dir.path()));
    for (name, value) in headers {
        let name = HeaderName::try_from(*name).expect("name");
        ex.request.headers.append(name, value.parse().expect("value"));
    }
    ex
}

async fn run(config: &serde_json::Value, ex: &mut Exchange) -> Result<Response, HttpError> {
    let rest = RouteList::default();
    server(config.clone()).handle(ex, Next::new(&rest, None)).await
}

async fn text(response: &mut Response) -> String {
    let body = std::mem::take(response.body_mut());
    String::from_utf8(body.collect(1 << 20).await.expect("reads").to_vec()).expect("text")
}

async fn get(config: &serde_json::Value, dir: &TestDir, target: &str) -> (u16, String) {
    match run(config, &mut exchange(dir, target, &[])).await {
        Ok(mut response) => (response.status().as_u16(), text(&mut response).await),
        Err(error) => (error.status.as_u16(), String::new()),
    }
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().expect("text"))
}

#[tokio::test]
async fn files_indexes_and_redirects() {
    let dir = TestDir::new(&[
        ("www/index.html", "root"),
        ("www/sub/index.html", "sub"),
        ("www/txt/index.txt", "text"),
        ("www/page.html", "page"),
        ("www/empty/x/y", ""),
        ("www/a b/index.html", "space"),
        ("www/weird/index.html/x", ""),
        ("outside.txt", "outside"),
    ]);
    let config = json!({"root": format!("{}/www", dir.path())});
    for (target, status, body) in [
        ("/", 200, "root"),
        ("/index.html", 200, "root"),
        ("/sub", 308, "<a href=\"/sub/\">Permanent Redirect</a>.\n\n"),
        ("/sub?x=1&y=2", 308, "<a href=\"/sub/?x=1&amp;y=2\">Permanent Redirect</a>.\n\n"),
        ("//sub", 308, "<a href=\"/sub/\">Permanent Redirect</a>.\n\n"),
        ("/sub//", 200, "sub"),
        ("/txt/", 200, "text"),
        ("/page.html/", 308, "<a href=\"/page.html\">Permanent Redirect</a>.\n\n"),
        ("/a%20b", 308, "<a href=\"/a b/\">Permanent Redirect</a>.\n\n"),
        ("/empty/", 404, ""),
        ("/weird/", 404, ""),
        ("/none", 404, ""),
        ("/page.html/x", 404, ""),
        ("/../outside.txt", 404, ""),
        ("/..%2foutside.txt", 404, ""),
        ("/sub/%2e%2e%2f%2e%2e%2foutside.txt", 404, ""),
        ("/..\\outside.txt", 404, ""),
        ("/page.html%00", 400, ""),
        ("/./sub/../page.html", 200, "page"),
    ] {
        assert_eq!(get(&config, &dir, target).await, (status, body.into()), "{target}");
    }
    let mut ex = exchange(&dir, "/sub", &[]);
    ex.request.target.set_path("/page.html/");
    assert_eq!(run(&config, &mut ex).await.expect("rewritten").status(), StatusCode::OK);
}

#[tokio::test]
async fn headers_of_a_file() {
    let dir = TestDir::new(&[("a.txt", "file a"), ("b.unknown", "<html>")]);
    let mut response = run(&json!({}), &mut exchange(&dir, "/a.txt", &[])).await.expect("ok");
    assert_eq!(header(&response, "content-type"), "text/plain; charset=utf-8");
    assert_eq!(header(&response, "accept-ranges"), "bytes");
    assert_eq!(header(&response, "vary"), "Accept-Encoding");
    assert!(header(&response, "etag").ends_with("-6\""));
    assert!(header(&response, "last-modified").ends_with("GMT"));
    assert_eq!(text(&mut response).await, "file a");
    let etag = header(&response, "etag").to_owned();

    let mut ex = exchange(&dir, "/a.txt", &[("if-none-match", &etag)]);
    let response = run(&json!({}), &mut ex).await.expect("304");
    assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(header(&response, "etag"), etag);
    assert_eq!(header(&response, "content-type"), "");
    assert_eq!(header(&response, "last-modified"), "");

    let mut ex = exchange(&dir, "/a.txt", &[]);
    ex.request.method = Method::HEAD;
    let response = run(&json!({}), &mut ex).await.expect("ok");
    assert_eq!(header(&response, "content-length"), "6");
    assert!(matches!(response.body(), Body::Empty));

    let response = run(&json!({}), &mut exchange(&dir, "/b.unknown", &[])).await.expect("ok");
    assert_eq!(header(&response, "content-type"), "");

    let mut ex = exchange(&dir, "/a.txt", &[]);
    ex.request.method = Method::POST;
    let error = run(&json!({}), &mut ex).await.expect_err("405");
    assert_eq!(error.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(ex.early_headers.get("allow").expect("allow"), "GET, HEAD");
}

#[tokio::test]
async fn ranges() {
    let dir = TestDir::new(&[("d.txt", "0123456789")]);
    for (range, status, content_range, body) in [
        ("bytes=2-5", 206, "bytes 2-5/10", "2345"),
        ("bytes=-3", 206, "bytes 7-9/10", "789"),
        ("bytes=20-30", 416, "bytes */10", "invalid range: failed to overlap\n"),
        ("bytes=5-2", 416, "", "invalid range\n"),
    ] {
        let mut ex = exchange(&dir, "/d.txt", &[("range", range)]);
        let mut response = run(&json!({}), &mut ex).await.expect("answered");
        assert_eq!(response.status().as_u16(), status, "{range}");
        assert_eq!(header(&response, "content-range"), content_range, "{range}");
        assert_eq!(text(&mut response).await, body, "{range}");
    }
    let mut ex = exchange(&dir, "/d.txt", &[("range", "bytes=0-1,4-5")]);
    let mut response = run(&json!({}), &mut ex).await.expect("answered");
    let kind = header(&response, "content-type").to_owned();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("multipart");
    let part = |range: &str, text: &str| {
        format!(
            "--{boundary}\r\nContent-Range: bytes {range}/10\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n"
        )
    };
    let want = format!("{}{}--{boundary}--\r\n", part("0-1", "01"), part("4-5", "45"));
    assert_eq!(response.body().exact_len(), Some(want.len() as u64));
    assert_eq!(text(&mut response).await, want);
}

#[tokio::test]
async fn precompressed_files() {
    let dir = TestDir::new(&[("app.js", "plain"), ("app.js.gz", "fake gzip"), ("app.js.br", "br")]);
    let config = json!({"precompressed": {"br": {}, "gzip": {}, "zstd": {}},
        "precompressed_order": ["zstd", "br", "gzip"]});
    for (accept, coding, body) in [
        ("", "", "plain"),
        ("gzip", "gzip", "fake gzip"),
        ("gzip, br, zstd", "br", "br"),
        ("br;q=0.5, gzip;q=0.9", "gzip", "fake gzip"),
        ("gzip;q=0", "", "plain"),
    ] {
        let mut ex = exchange(&dir, "/app.js", &[("accept-encoding", accept)]);
        let mut response = run(&config, &mut ex).await.expect("ok");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header(&response, "content-encoding"), coding, "{accept}");
        assert_eq!(header(&response, "content-type"), "text/javascript; charset=utf-8");
        assert_eq!(text(&mut response).await, body, "{accept}");
    }
}

#[tokio::test]
async fn options() {
    let dir = TestDir::new(&[("a.txt", "a"), ("a.txt.tag", "\"t\"\n"), ("d/secret", "s")]);
    let ok = |status: u16, body: &str| (status, body.to_owned());
    assert_eq!(get(&json!({"status_code": 410}), &dir, "/a.txt").await, ok(410, "a"));
    let config = json!({"status_code": "{http.request.uri.query.s}"});
    assert_eq!(get(&config, &dir, "/a.txt?s=418").await, ok(418, "a"));
    assert_eq!(get(&config, &dir, "/a.txt?s=x").await, ok(500, ""));
    assert_eq!(get(&json!({"pass_thru": true}), &dir, "/none").await, ok(200, ""));
    assert_eq!(get(&json!({"hide": ["secret"]}), &dir, "/d/secret").await, ok(404, ""));
    assert_eq!(get(&json!({"canonical_uris": false}), &dir, "/a.txt/").await, ok(200, "a"));
    assert_eq!(get(&json!({"index_names": ["a.txt"]}), &dir, "/").await, ok(200, "a"));
    assert_eq!(get(&json!({"fs": "other"}), &dir, "/a.txt").await, ok(404, ""));
    let config = json!({"etag_file_extensions": [".none", ".tag"]});
    let response = run(&config, &mut exchange(&dir, "/a.txt", &[])).await.expect("ok");
    assert_eq!(header(&response, "etag"), "\"t\"");
    let mut ex = exchange(&dir, "/a.txt", &[]);
    ex.request.method = Method::POST;
    ex.enter_error(&HttpError::status(StatusCode::BAD_GATEWAY));
    let response = run(&json!({}), &mut ex).await.expect("an error page");
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn large_files_stream() {
    let content = "x".repeat(300_000);
    let dir = TestDir::new(&[("big", &content)]);
    let mut response = run(&json!({}), &mut exchange(&dir, "/big", &[])).await.expect("ok");
    assert!(matches!(response.body(), Body::Stream(_)));
    assert_eq!(response.body().exact_len(), Some(300_000));
    assert_eq!(text(&mut response).await.len(), 300_000);
}

#[tokio::test]
async fn listings() {
    let dir = TestDir::new(&[
        ("b.txt", "bb"),
        ("a.txt", "a"),
        ("Z.txt", "zzz"),
        ("hidden.txt", "h"),
        ("dir/x", "x"),
        ("we<ird>&.txt", "s"),
    ]);
    let config = json!({"browse": {}, "hide": ["hidden.txt"]});
    let names = |text: &str| -> Vec<String> {
        let items: Vec<serde_json::Value> = serde_json::from_str(text).expect("JSON");
        items.iter().map(|item| item["name"].as_str().expect("name").to_owned()).collect()
    };
    for (target, want) in [
        ("/", "dir/ a.txt b.txt we<ird>&.txt Z.txt"),
        ("/?sort=size&order=desc", "Z.txt b.txt we<ird>&.txt a.txt dir/"),
        ("/?limit=2&offset=1", "a.txt b.txt"),
        ("/?sort=name", "a.txt b.txt dir/ we<ird>&.txt Z.txt"),
    ] {
        let mut ex = exchange(&dir, target, &[("accept", "application/json")]);
        let mut response = run(&config, &mut ex).await.expect("ok");
        assert_eq!(header(&response, "vary"), "Accept, Accept-Encoding");
        assert_eq!(names(&text(&mut response).await).join(" "), want, "{target}");
    }
    let (status, page) = get(&config, &dir, "/").await;
    assert_eq!(status, 200);
    assert!(page.contains("<a href=\"./we%3Cird%3E&amp;.txt\">we&lt;ird&gt;&amp;.txt</a>"));
    assert!(!page.contains("hidden"));
    let mut ex = exchange(&dir, "/", &[("accept", "text/plain")]);
    let table = text(&mut run(&config, &mut ex).await.expect("ok")).await;
    assert!(table.starts_with("Name\t\tSize\tModified\n----\t\t----\t--------\ndir/"), "{table}");
    assert!(table.contains("\nwe<ird>&.txt\t1 B\t"), "{table}");
    let mut ex = exchange(&dir, "/?sort=size", &[]);
    let response = run(&config, &mut ex).await.expect("ok");
    assert_eq!(header(&response, "set-cookie"), "sort=size");
    // What the administrator chose counts before what the client chose last time.
    let config = json!({"browse": {"sort": ["size", "desc"]}});
    let mut ex = exchange(&dir, "/", &[("accept", "application/json"), ("cookie", "sort=name")]);
    let mut response = run(&config, &mut ex).await.expect("ok");
    let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["sort=size", "order=desc"]);
    assert!(names(&text(&mut response).await).join(" ").starts_with("Z.txt "));
    assert_eq!(get(&config, &dir, "/dir").await.0, 308);
}

#[tokio::test]
async fn listings_by_template() {
    let dir = TestDir::new(&[
        ("www/docs/a.md", "aa"),
        ("www/docs/b.txt", "b"),
        ("www/docs/sub/x", ""),
        (
            "page.html",
            "{{.Name}} {{.Path}} {{.CanGoUp}} {{.NumDirs}}+{{.NumFiles}} {{.TotalFileSize}} \
             {{.HumanTotalFileSize}} {{.Sort}}/{{.Order}} {{.Req.Method}} {{len .Items}}\n\
             {{range .Breadcrumbs}}[{{.Link}}|{{.Text}}]{{end}}\n\
             {{range .Items}}{{.Name}} {{.URL}} {{.HumanSize}} {{.IsDir}} {{.HasExt \".MD\"}} \
             {{.HumanModTime \"2006\" | len}} {{.Tpl.Name | upper}}\n{{end}}",
        ),
    ]);
    let template = format!("{}/page.html", dir.path());
    let config =
        json!({"browse": {"template_file": template}, "root": format!("{}/www", dir.path())});
    let (status, page) = get(&config, &dir, "/docs/?sort=name").await;
    assert_eq!(status, 200);
    assert_eq!(
        page,
        "docs /docs true 1+2 3 3 B name/asc GET 3\n[../|/][|docs]\n\
         a.md ./a.md 2 B false true 4 DOCS\nb.txt ./b.txt 1 B false false 4 DOCS\n"
            .to_owned()
            + &page[page.find("sub/").expect("listed")..]
    );
    std::fs::write(&template, "{{.Nope}}").expect("written");
    assert_eq!(get(&config, &dir, "/docs/").await.0, 500);
    std::fs::remove_file(&template).expect("removed");
    assert_eq!(get(&config, &dir, "/docs/").await.0, 500);
}

/// What `caddis file-server export-template` prints is a template that lists.
#[tokio::test]
async fn the_exported_template_lists() {
    let dir =
        TestDir::new(&[("www/docs/a<b.md", "aa"), ("www/docs/sub/x", ""), ("page.html", TEMPLATE)]);
    let template = format!("{}/page.html", dir.path());
    let config =
        json!({"browse": {"template_file": template}, "root": format!("{}/www", dir.path())});
    let (status, page) = get(&config, &dir, "/docs/?sort=size&order=desc").await;
    assert_eq!(status, 200, "{page}");
    for part in [
        "<title>docs</title>",
        "<h1><a href=\"../\">/</a><a href=\"\">docs/</a></h1>",
        "<p>1 directory · 1 file · <a href=\"?layout=grid\">Grid</a></p>",
        "<th><a href=\"?sort=namedirfirst&amp;order=asc\">Name</a></th>",
        "<th><a href=\"?sort=size&amp;order=asc\">Size ↓</a></th>",
        "<tr><td><a href=\"..\">Up</a></td><td></td><td></td></tr>",
        "<a href=\"./a%3Cb.md\">a&lt;b.md</a></td><td>2 B</td>",
        "<a href=\"./sub/\">sub/</a></td><td>—</td>",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    let (_, page) = get(&config, &dir, "/docs/?layout=grid").await;
    assert!(
        page.contains("<li><a href=\"./a%3Cb.md\">a&lt;b.md</a><small>2 B</small></li>"),
        "{page}"
    );
}

#[tokio::test]
async fn names_that_are_no_utf8() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};
    let dir = TestDir::new(&[("www/plain", "p")]);
    let root = Path::new(dir.path()).join("www");
    std::fs::write(root.join(OsStr::from_bytes(b"caf\xe9.txt")), "latin").expect("written");
    std::fs::create_dir(root.join(OsStr::from_bytes(b"d\xff"))).expect("made");
    std::fs::write(root.join(OsStr::from_bytes(b"d\xff/index.html")), "index").expect("written");
    let config = json!({"browse": {}, "root": root, "hide": ["*.secret"]});
    for (target, want) in [
        ("/caf%E9.txt", (200, "latin")),
        ("/caf%e9.txt", (200, "latin")),
        ("/d%FF/", (200, "index")),
        ("/caf%EF%BF%BD.txt", (404, "")),
        ("/caf%F4%8F%BB%A9.txt", (404, "")),
        ("/d%FF/../caf%E9.txt", (200, "latin")),
        ("/%FF/../../page", (404, "")),
    ] {
        let (status, body) = get(&config, &dir, target).await;
        assert_eq!((status, body.as_str()), want, "{target}");
    }
    let (_, page) = get(&config, &dir, "/").await;
    assert!(page.contains("<a href=\"./caf%E9.txt\">caf\u{fffd}.txt</a>"), "{page}");
    assert!(page.contains("<a href=\"./d%FF/\">d\u{fffd}/</a>"), "{page}");
}
