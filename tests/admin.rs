//! The admin API.

use crate::support::{Server, get, request};

#[test]
fn config_can_be_read_and_changed() {
    let server = Server::start("http://localhost:{port} {\n\trespond one\n}\n");
    let admin = server.admin;
    let listen = get(admin, "/config/apps/http/servers/srv0/listen");
    assert_eq!(listen.body, format!("[\":{}\"]\n", server.port));
    let config: serde_json::Value = serde_json::from_str(&get(admin, "/config/").body).unwrap();
    let changed = config.to_string().replace("\"one\"", "\"two\"");
    let json = [("Content-Type", "application/json")];
    assert_eq!(request(admin, "POST", "/load", &json, &changed).unwrap().status, 200);
    assert_eq!(get(server.port, "/").body, "two");
    for bad in ["{", "{\"apps\": {\"http\": {\"nope\": 1}}}", "{\"apps\": {\"nope\": {}}}"] {
        let answer = request(admin, "POST", "/load", &json, bad).unwrap();
        assert_eq!(answer.status, 400, "{bad}");
        assert!(answer.body.starts_with("{\"error\":"), "{}", answer.body);
    }
    assert_eq!(get(server.port, "/").body, "two");
}

#[test]
fn caddyfiles_can_be_loaded_and_adapted() {
    let server = Server::start("http://localhost:{port} {\n\trespond one\n}\n");
    let text =
        Server::fill("http://localhost:{port} {\n\trespond two\n}\n", server.port, server.admin);
    let kind = [("Content-Type", "text/caddyfile")];
    let adapted = request(server.admin, "POST", "/adapt", &kind, &text).unwrap();
    assert!(adapted.body.contains("\"result\":{"), "{}", adapted.body);
    assert_eq!(get(server.port, "/").body, "one");
    assert_eq!(request(server.admin, "POST", "/load", &kind, &text).unwrap().status, 200);
    assert_eq!(get(server.port, "/").body, "two");
}

#[test]
fn strangers_are_kept_out() {
    let server = Server::start("http://localhost:{port} {\n\trespond one\n}\n");
    let ask = |headers: &[(&str, &str)]| {
        request(server.admin, "GET", "/config/", headers, "").unwrap().status
    };
    assert_eq!(ask(&[]), 200);
    assert_eq!(ask(&[("Host", "evil.example")]), 403);
    assert_eq!(ask(&[("Origin", "http://evil.example")]), 403);
    assert_eq!(ask(&[("Origin", "null")]), 400);
    assert_eq!(ask(&[("Sec-Fetch-Mode", "no-cors")]), 400);
}

#[test]
fn metrics_and_stop() {
    let mut server = Server::start(
        "{\n\tadmin 127.0.0.1:{admin}\n\tmetrics\n}\nhttp://localhost:{port} {\n\trespond one\n}\n",
    );
    get(server.port, "/");
    let metrics = get(server.admin, "/metrics").body;
    assert!(metrics.contains("caddy_http_requests_total{"), "{metrics}");
    assert!(metrics.contains("caddy_config_last_reload_successful 1"), "{metrics}");
    assert_eq!(get(server.admin, "/stop").status, 405);
    assert_eq!(request(server.admin, "POST", "/stop", &[], "").unwrap().status, 200);
    crate::support::eventually("the process ends", || {
        matches!(server.child.try_wait(), Ok(Some(_)))
    });
}

#[test]
fn paths_lead_where_they_say() {
    let server = Server::start("http://localhost:{port} {\n\trespond one\n}\n");
    let ask = |method: &str, path: &str, body: &str| {
        let json = [("Content-Type", "application/json")];
        request(server.admin, method, path, &json, body).unwrap()
    };
    for (path, want) in [
        ("/config", "/config/"),
        ("/config?x=1", "/config/?x=1"),
        ("/config/apps//http", "/config/apps/http"),
        ("/config/../stop", "/stop"),
        ("//id", "/id"),
    ] {
        let answer = ask("GET", path, "");
        assert_eq!((answer.status, answer.header("location")), (301, Some(want)), "{path}");
    }
    // Escapes are resolved in what is looked for, and never make a path of another one.
    assert_eq!(ask("GET", "/config/apps%2Fhttp/servers/srv0/listen/0", "").status, 200);
    assert_eq!(ask("GET", "/%73top", "").status, 405);
    assert_eq!(ask("GET", "/config%2Fapps", "").status, 404);
    assert_eq!(ask("GET", "/config/%", "").status, 400);
}

/// Status and sentences as of Caddy 2.10.2.
#[test]
fn edits_are_refused_as_in_caddy() {
    let server = Server::start("http://localhost:{port} {\n\trespond one\n}\n");
    let listen = "/config/apps/http/servers/srv0/listen";
    let refused = |method: &str, path: &str, body: &str, status: u16, error: &str| {
        let json = [("Content-Type", "application/json")];
        let answer = request(server.admin, method, path, &json, body).unwrap();
        let error = serde_json::json!({ "error": error });
        let found: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, found), (status, error), "{method} {path} {body}");
    };
    let item = format!("{listen}/7");
    refused("DELETE", &item, "", 500, &format!("[{item}] array index out of bounds: 7"));
    refused("GET", &item, "", 400, &format!("[{item}] array index out of bounds: 7"));
    refused("PATCH", "/config/a/b", "1", 500, "invalid traversal path at: config/a/b");
    refused("POST", &format!("{listen}/..."), "1", 500, "final element is not an array");
    refused("TRACE", "/config/", "", 405, "method TRACE not allowed");
    refused("PATCH", "/config/nope", "1", 404, "[/config/nope] key does not exist: nope");
    let wrong = "decoding request body: invalid character '}' looking for beginning of value, \
        at offset 6";
    refused("POST", listen, "{\"a\":}", 500, wrong);
    refused("POST", "/load", "{\"a\":}", 400, &format!("loading config: {wrong}"));
    let unknown = "loading new config: apps.nope: unknown module: nope";
    refused("PUT", "/config/apps/nope", "{}", 500, unknown);
    let text = "{\"apps\":{\"nope\":{}}}";
    refused("POST", "/load", text, 400, &format!("loading config: {unknown}"));
    let double = "[{\"@id\":\"a\"},{\"@id\":\"a\"}]";
    refused(
        "PUT",
        "/config/apps/http/servers/srv0/named_routes",
        double,
        400,
        "indexing config: duplicate ID 'a' found at \
         /config/apps/http/servers/srv0/named_routes/0 and \
         /config/apps/http/servers/srv0/named_routes/1",
    );
}

#[test]
fn content_types_of_loads() {
    let server = Server::start("http://localhost:{port} {\n\trespond one\n}\n");
    let config = get(server.admin, "/config/").body;
    let load = |kind: &[(&str, &str)]| {
        let answer = request(server.admin, "POST", "/load", kind, &config).unwrap();
        (answer.status, answer.body)
    };
    for kind in ["", "text/json", "Application/JSON; charset=utf-8", "application/json;"] {
        assert_eq!(load(&[("Content-Type", kind)]).0, 200, "{kind}");
    }
    assert_eq!(load(&[]).0, 200);
    for (kind, want) in [
        ("json", "malformed Content-Type"),
        ("application/x+json", "unrecognized config adapter 'x+json'"),
        ("text/", "invalid Content-Type: mime: expected token after slash"),
        ("a/json;b", "invalid Content-Type: mime: invalid media parameter"),
    ] {
        let want = format!("{{\"error\":\"{want}\"}}\n");
        assert_eq!(load(&[("Content-Type", kind)]), (400, want), "{kind}");
    }
    // An empty text is no config, which is none at all.
    assert_eq!(request(server.admin, "PUT", "/config/x", &[], "").unwrap().status, 400);
}
