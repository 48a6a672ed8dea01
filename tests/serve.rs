//! Sites, routes and the HTTP/1 front.

use crate::support::{Answer, Server, get, request, scratch, send_raw};

#[test]
fn sites_are_told_apart_by_host() {
    let server = Server::start(
        "http://a.test:{port} {\n\trespond a\n}\nhttp://*.b.test:{port} {\n\trespond \"any b\"\n}\nhttp://:{port} {\n\trespond other 404\n}\n",
    );
    for (host, status, body) in [
        ("a.test", 200, "a"),
        ("A.TEST", 200, "a"),
        ("x.b.test", 200, "any b"),
        ("x.y.b.test", 404, "other"),
        ("nobody.test", 404, "other"),
    ] {
        let answer = request(server.port, "GET", "/", &[("Host", host)], "").unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{host}");
    }
}

#[test]
fn keep_alive_and_pipelining() {
    let server = Server::start("http://localhost:{port} {\n\trespond {http.request.uri.path}\n}\n");
    let requests = b"GET /1 HTTP/1.1\r\nHost: localhost\r\n\r\nPOST /2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let raw = send_raw(server.port, requests).unwrap();
    let text = String::from_utf8_lossy(&raw);
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3, "{text}");
    let places: Vec<_> = ["/1", "/2", "/3"].iter().map(|body| text.find(body).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
}

#[test]
fn ambiguous_requests_are_refused() {
    let server = Server::start("http://localhost:{port} {\n\trespond ok\n}\n");
    for (raw, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n", 400),
        ("GET / HTTP/3.7\r\nHost: a\r\n\r\n", 505),
        ("rubbish\r\n\r\n", 400),
    ] {
        let answer = Answer::parse(&send_raw(server.port, raw.as_bytes()).unwrap());
        assert_eq!(answer.status, status, "{raw:?}");
    }
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    assert_eq!(Answer::parse(&send_raw(server.port, long.as_bytes()).unwrap()).status, 431);
    assert_eq!(get(server.port, "/").body, "ok");
}

#[test]
fn files_are_served() {
    let folder = scratch();
    std::fs::create_dir_all(folder.join("site/sub")).unwrap();
    std::fs::write(folder.join("site/index.html"), "<h1>hi</h1>").unwrap();
    std::fs::write(folder.join("site/sub/index.html"), "sub").unwrap();
    std::fs::write(folder.join("site/a.txt"), "0123456789").unwrap();
    std::fs::write(folder.join("secret.txt"), "secret").unwrap();
    let server =
        Server::start_in(folder, "http://localhost:{port} {\n\troot site\n\tfile_server\n}\n");
    let index = get(server.port, "/");
    assert_eq!((index.status, index.body.as_str()), (200, "<h1>hi</h1>"));
    assert_eq!(index.header("content-type"), Some("text/html; charset=utf-8"));
    let part = request(server.port, "GET", "/a.txt", &[("Range", "bytes=2-4")], "").unwrap();
    assert_eq!((part.status, part.body.as_str()), (206, "234"));
    let tag = get(server.port, "/a.txt").header("etag").unwrap().to_owned();
    let same = request(server.port, "GET", "/a.txt", &[("If-None-Match", &tag)], "").unwrap();
    assert_eq!((same.status, same.body.as_str()), (304, ""));
    for target in
        ["/../secret.txt", "/%2e%2e/secret.txt", "/sub/..%2f..%2fsecret.txt", "/Caddyfile"]
    {
        assert_ne!(get(server.port, target).status, 200, "{target}");
    }
    assert_eq!(get(server.port, "/missing").status, 404);
    assert_eq!(get(server.port, "/sub").status, 308);
}

#[test]
fn error_routes_answer() {
    let server = Server::start(
        "http://localhost:{port} {\n\terror /gone \"it is gone\" 410\n\trespond ok\n\thandle_errors {\n\t\trespond \"{err.status_code} {err.message}\"\n\t}\n}\n",
    );
    let answer = get(server.port, "/gone");
    assert_eq!((answer.status, answer.body.as_str()), (410, "410 it is gone"));
    assert_eq!(get(server.port, "/").body, "ok");
}

#[test]
fn access_log_is_json() {
    let server = Server::start(
        "http://localhost:{port} {\n\tlog {\n\t\toutput file access.log\n\t}\n\trespond hello\n}\n",
    );
    request(server.port, "GET", "/x?y=1", &[("Authorization", "secret")], "").unwrap();
    let path = server.folder.join("access.log");
    crate::support::eventually("the entry is written", || {
        std::fs::read_to_string(&path).is_ok_and(|text| text.contains("handled request"))
    });
    let text = std::fs::read_to_string(&path).unwrap();
    let line = text.lines().find(|line| line.contains("/x?y=1")).unwrap();
    let entry: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(entry["status"], 200);
    assert_eq!(entry["size"], 5);
    assert_eq!(entry["request"]["uri"], "/x?y=1");
    assert_eq!(entry["request"]["headers"]["Authorization"][0], "REDACTED");
}

#[test]
fn templates_include_what_the_server_answers() {
    let server = Server::start(
        "http://localhost:{port} {\n\ttemplates\n\theader Content-Type text/html\n\
         \trespond /outer `[{{httpInclude \"/inner?q=1\"}}]`\n\
         \trespond /inner `{{.Req.URL.RawQuery}} {{.RemoteIP}} {{.Req.Header.Get \"Accept-Encoding\"}} {{.Req.Header.Get \"X-A\"}}`\n\
         \trespond /gone gone 404\n\
         \trespond /missing `{{httpInclude \"/gone\"}}`\n\
         \trespond /circle `{{httpInclude \"/circle\"}}`\n}\n",
    );
    let headers = [("Host", "localhost"), ("X-A", "b"), ("Accept-Encoding", "gzip")];
    let answer = request(server.port, "POST", "/outer", &headers, "body").unwrap();
    assert_eq!((answer.status, &*answer.body), (200, "[q=1 127.0.0.1 identity b]"));
    for path in ["/missing", "/circle"] {
        let answer = request(server.port, "GET", path, &headers, "").unwrap();
        assert_eq!((answer.status, &*answer.body), (500, ""), "{path}");
    }
}
