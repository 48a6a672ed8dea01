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
