//! The admin API.

use crate::support::{Server, caddis, eventually, free_port, get, request, scratch};

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
    eventually("the process ends", || matches!(server.child.try_wait(), Ok(Some(_))));
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

#[test]
fn preflights_are_answered_as_in_caddy() {
    let server = Server::start("http://localhost:{port} {\n\trespond one\n}\n");
    let origin = format!("http://localhost:{}", server.admin);
    for path in ["/load", "/config/apps", "/stop"] {
        let headers = [("Origin", origin.as_str()), ("Access-Control-Request-Method", "POST")];
        let answer = request(server.admin, "OPTIONS", path, &headers, "").unwrap();
        assert_eq!(answer.status, 405, "{path}");
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin.as_str()));
        let methods = answer.header("access-control-allow-methods");
        assert_eq!(methods, Some("OPTIONS, GET, POST, PUT, PATCH, DELETE"));
    }
    let headers = [("Origin", "http://evil.example")];
    let answer = request(server.admin, "OPTIONS", "/load", &headers, "").unwrap();
    assert_eq!(answer.status, 403);
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(get(server.port, "/").body, "one");
}

#[test]
fn variables_and_profiles() {
    let server = Server::start("http://localhost:{port} {\n\trespond one\n}\n");
    let vars = get(server.admin, "/debug/vars");
    let kind = vars.header("content-type").map(str::to_owned);
    let vars: serde_json::Value = serde_json::from_str(&vars.body).unwrap();
    assert_eq!(kind.as_deref(), Some("application/json; charset=utf-8"));
    assert_eq!(vars["cmdline"][1], "run");
    assert!(vars["memstats"]["Sys"].as_u64().unwrap() > 1 << 20, "{vars}");
    let cmdline = get(server.admin, "/debug/pprof/cmdline").body;
    assert!(cmdline.ends_with("\0run\0--config\0Caddyfile"), "{cmdline:?}");
    assert_eq!(get(server.admin, "/debug/pprof").status, 301);
    let refused = get(server.admin, "/debug/pprof/profile?seconds=1");
    assert_eq!(refused.status, 501);
    assert!(refused.body.contains("perf record"), "{}", refused.body);
    // Endpoints are counted, and what is none makes no series.
    get(server.admin, "/nowhere");
    let metrics = get(server.admin, "/metrics").body;
    let counts = |path: &str| {
        metrics.contains(&format!("caddy_admin_http_requests_total{{code=\"200\",handler=\"admin\",method=\"GET\",path=\"{path}\"}} 1\n"))
    };
    assert!(counts("/debug/vars") && counts("/debug/pprof/cmdline"), "{metrics}");
    assert!(!metrics.contains("\"other\""), "{metrics}");
}

/// Permissions of a socket's file change while the socket stays; what is no socket is left alone.
#[cfg(unix)]
#[test]
fn sockets_with_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = scratch();
    let path = |name: &str| folder.join(name).display().to_string();
    let (admin, site) = (path("admin.sock"), path("site.sock"));
    let text = |mode: &str| {
        format!(
            "{{\n\tadmin unix/{admin}|{mode}\n\tskip_install_trust\n}}\nhttp:// {{\n\tbind unix/{site}|{mode}\n\trespond {mode}\n}}\n"
        )
    };
    let port = free_port();
    let hello = format!("http://localhost:{port} {{\n\trespond hi\n}}\n");
    let write = |mode: &str| std::fs::write(folder.join("Caddyfile"), text(mode) + &hello).unwrap();
    write("0220");
    let mut child = caddis(&folder).arg("run").stderr(std::process::Stdio::null()).spawn().unwrap();
    eventually("it serves", || get(port, "/").status == 200);
    let mode = |path: &str| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&admin), mode(&site)), (0o220, 0o220));
    write("0260");
    let output = caddis(&folder).arg("reload").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((mode(&admin), mode(&site)), (0o260, 0o260));
    // It moves, and takes its file along.
    let other = path("other.sock");
    let moved = text("0200").replace(&admin, &other) + &hello;
    std::fs::write(folder.join("moved"), moved).unwrap();
    let arguments = ["reload", "-c", "moved", "-a", "caddyfile", "--address"];
    let reload = |address: &str| {
        let output = caddis(&folder).args(arguments).arg(format!("unix/{address}")).output();
        let output = output.unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (done, said) = reload(&admin);
    assert!(done, "{said}");
    assert_eq!(mode(&other), 0o200);
    eventually("the old one is gone", || !std::path::Path::new(&admin).exists());
    // A file that somebody needs is no socket.
    std::fs::write(folder.join("precious"), "text").unwrap();
    let wrong = text("0200").replace(&admin, &path("precious")) + &hello;
    std::fs::write(folder.join("moved"), wrong).unwrap();
    let (done, said) = reload(&other);
    assert!(!done && said.contains("precious exists and is no socket"), "{said}");
    assert_eq!(std::fs::read_to_string(folder.join("precious")).unwrap(), "text");
    let stop = ["stop", "--address", &format!("unix/{other}")];
    assert!(caddis(&folder).args(stop).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    eventually("its file is gone", || !std::path::Path::new(&other).exists());
}

/// Header fields that are no text are there all the same.
#[test]
fn origins_that_are_no_text() {
    let server = Server::start("http://localhost:{port} {\n\trespond one\n}\n");
    let admin = server.admin;
    let head = format!(
        "GET /config/ HTTP/1.1\r\nHost: localhost:{admin}\r\nConnection: close\r\nReferer: http://localhost:{admin}/\r\nOrigin: http://evil"
    );
    let mut bytes = head.into_bytes();
    bytes.extend(b"\xff\r\n\r\n");
    let answer = crate::support::send_raw(admin, &bytes).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 403 "), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn heads_that_are_refused() {
    let server = Server::start("http://localhost:{port} {\n\trespond one\n}\n");
    let admin = server.admin;
    let host = format!("Host: localhost:{admin}\r\n");
    let long = format!("{host}X: {}\r\n", "a".repeat(66_000));
    for (fields, status) in [
        (host.clone(), "200"),
        (format!("{host}Host: evil.example\r\n"), "400"),
        (format!("Host: evil.example\r\n{host}"), "400"),
        (String::new(), "400"),
        (long, "431"),
    ] {
        let head = format!("GET /config/ HTTP/1.1\r\nConnection: close\r\n{fields}\r\n");
        let answer = crate::support::send_raw(admin, head.as_bytes()).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}
