//! How the program is operated: service managers, signals, watched files, and what logs, metrics
//! and placeholders tell; and that neither a full disk nor spent descriptors stop it.

use std::{
    fs,
    net::TcpStream,
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};

use crate::support::{
    Scripted, Server, Wire, caddis, eventually, get, ok, request, scratch, site_with,
};

const JSON: [(&str, &str); 1] = [("Content-Type", "application/json")];

fn site(text: &str) -> String {
    format!("http://localhost:{{port}} {{\n\trespond {text}\n}}\n")
}

/// A message of the service manager's protocol, its lines.
fn told(socket: &UnixDatagram) -> Vec<String> {
    let mut buffer = [0; 4096];
    let read = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..read]).lines().map(str::to_owned).collect()
}

#[test]
fn a_service_manager_is_told() {
    let folder = scratch();
    let path = folder.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let mut server = Server::start_with(&site("one"), |command, _| {
        command.env("NOTIFY_SOCKET", &path);
    });
    assert_eq!(told(&socket)[0], "READY=1");
    assert!(server.reload(&site("two")).0);
    let reloading = told(&socket);
    assert_eq!(reloading[0], "RELOADING=1");
    let at = reloading[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse::<u64>().unwrap();
    assert!(at > 0);
    assert_eq!(told(&socket)[0], "READY=1");
    // A config that is refused ends the reload, too.
    let refused = request(server.admin, "POST", "/load", &JSON, "{\"apps\":{\"x\":{}}}").unwrap();
    assert_eq!(refused.status, 400);
    assert_eq!(told(&socket)[0], "RELOADING=1");
    let failed = told(&socket);
    assert_eq!(failed[0], "READY=1");
    assert!(failed[1].contains("the last reload failed: apps.x"), "{failed:?}");
    // `Type=notify-reload` waits after each signal, whatever comes of it.
    server.signal("USR1");
    assert_eq!(told(&socket)[0], "RELOADING=1");
    assert_eq!(told(&socket), ["READY=1", "STATUS=serving"], "the file did not change");
    server.rewrite("nonsense {\n");
    server.signal("USR1");
    assert_eq!(told(&socket)[0], "RELOADING=1");
    let failed = told(&socket);
    assert!(failed[1].contains("the last reload failed: adapting config"), "{failed:?}");
    server.signal("TERM");
    assert_eq!(told(&socket)[0], "STOPPING=1");
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn sockets_of_a_service_manager_are_used() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(16).unwrap();
    socket.set_cloexec(false).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    let text = |body: &str| {
        format!(
            "http://localhost:{{port}} {{\n\trespond {body}\n}}\nhttp:// {{\n\tbind fd/3\n\trespond {body}-3\n}}\n"
        )
    };
    let server = Server::start_with(&text("one"), |command, folder| {
        let script = format!(
            "exec 3<&{}; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" run --config Caddyfile",
            std::os::fd::AsRawFd::as_raw_fd(&socket)
        );
        let mut bash = std::process::Command::new("bash");
        bash.args(["-c", &script]).arg(command.get_program()).current_dir(folder);
        bash.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        *command = bash;
    });
    drop(socket);
    assert_eq!(get(port, "/").body, "one-3");
    assert!(server.reload(&text("two")).0);
    assert_eq!(get(port, "/").body, "two-3");
    // Taken away and brought back.
    assert!(server.reload(&site("three")).0);
    assert!(server.reload(&text("four")).0);
    eventually("it is back", || get(port, "/").body == "four-3");
    let (accepted, said) = server.reload(&text("five").replace("fd/3", "fd/777"));
    assert!(!accepted && said.contains("invalid socket file descriptor: 777"), "{said}");
    assert_eq!(get(port, "/").body, "four-3");
}

#[test]
fn a_watched_file_is_loaded_when_what_it_imports_changes() {
    let text = "http://localhost:{port} {\n\timport *.conf\n}\n";
    let server = Server::start_with(text, |command, folder| {
        fs::write(folder.join("a.conf"), "header X-A 1\nrespond one\n").unwrap();
        command.arg("--watch");
    });
    assert_eq!(get(server.port, "/").body, "one");
    fs::write(server.folder.join("a.conf"), "respond two\n").unwrap();
    eventually("the import's new text is served", || get(server.port, "/").body == "two");
    fs::write(server.folder.join("b.conf"), "header X-B 1\n").unwrap();
    eventually("a new import counts", || get(server.port, "/").header("x-b") == Some("1"));
    // A mistake changes nothing, and the watch goes on.
    fs::write(server.folder.join("a.conf"), "respnd three\n").unwrap();
    eventually("it is told", || server.log().contains("unrecognized directive: respnd"));
    assert_eq!(get(server.port, "/").body, "two");
    fs::write(server.folder.join("a.conf"), "respond three\n").unwrap();
    eventually("the mended text is served", || get(server.port, "/").body == "three");
    // A file that is gone for a moment is watched on.
    let (file, aside) = (server.folder.join("Caddyfile"), server.folder.join("Caddyfile~"));
    fs::rename(&file, &aside).unwrap();
    eventually("it is missed", || server.log().contains("cannot be read; waiting for it"));
    fs::write(server.folder.join("a.conf"), "respond four\n").unwrap();
    fs::rename(&aside, &file).unwrap();
    eventually("it is back", || get(server.port, "/").body == "four");
}

#[test]
fn sigusr1_leaves_a_config_alone_that_the_api_changed() {
    let server = Server::start(&site("one"));
    // The same file by `caddis reload` stays the file.
    assert!(server.reload(&site("two")).0);
    server.rewrite(&site("three"));
    server.signal("USR1");
    eventually("the file is read", || get(server.port, "/").body == "three");
    let path = "/config/apps/http/servers/srv0/idle_timeout";
    assert_eq!(request(server.admin, "POST", path, &JSON, "\"10s\"").unwrap().status, 200);
    server.rewrite(&site("four"));
    server.signal("USR1");
    eventually("it is told", || server.log().contains("last config unknown, ignored SIGUSR1"));
    assert_eq!(get(server.port, "/").body, "three");
    assert_eq!(get(server.admin, path).body, "\"10s\"\n");
    // A config from elsewhere is none of the file's, either.
    let config = get(server.admin, "/config/").body.replace("three", "five");
    assert!(server.reload(&site("four")).0);
    assert_eq!(request(server.admin, "POST", "/load", &JSON, &config).unwrap().status, 200);
    let before = server.log().matches("ignored SIGUSR1").count();
    server.signal("USR1");
    eventually("it is told", || server.log().matches("ignored SIGUSR1").count() > before);
    assert_eq!(get(server.port, "/").body, "five");
}

#[test]
fn placeholders_tell_when_the_end_is_near() {
    let mut server = Server::start(
        "{\n\tadmin off\n\tshutdown_delay 2s\n}\nhttp://localhost:{port} {\n\trespond \"{http.shutting_down} {http.time_until_shutdown}\"\n}\n",
    );
    assert_eq!(get(server.port, "/").body, "false ");
    server.signal("TERM");
    eventually("it is told", || get(server.port, "/").body.starts_with("true 1."));
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn placeholders_of_connections_times_and_errors() {
    let server = Server::start(&site_with(
        "\troute {\n\trespond /local {http.request.local}\n\trespond /time {time.now}\n\trespond /a.b/c.d/ \"{http.request.uri.path.file.base} {http.request.uri.path.file.ext}\"\n\terror \"broken\" 503\n\t}\n\thandle_errors {\n\t\trespond {http.error}\n\t}\n",
    ));
    let body = |path: &str| get(server.port, path).body;
    // The listener is one of both families, and the connection one of IPv4.
    assert_eq!(body("/local"), format!("127.0.0.1:{}", server.port));
    let time = body("/time");
    let parts: Vec<_> = time.split(' ').collect();
    assert_eq!((parts.len(), parts[2], parts[3]), (4, "+0000", "UTC"), "{time}");
    assert_eq!(parts[0].len(), "2026-01-02".len(), "{time}");
    assert_eq!(parts[1].find(':'), Some(2), "{time}");
    assert_eq!(body("/a.b/c.d/"), "c.d ");
    let error = body("/x");
    assert!(error.starts_with("{id=") && error.ends_with("}: HTTP 503: broken"), "{error}");
}

#[test]
fn metrics_tell_hosts_sizes_and_the_process() {
    let upstream = Scripted::fixed(ok("up"));
    let server = Server::start(&format!(
        "{{\n\tadmin 127.0.0.1:{{admin}}\n\tmetrics {{\n\t\tper_host\n\t}}\n}}\nhttp://localhost:{{port}}, http://*.localhost:{{port}} {{\n\treverse_proxy {}\n}}\nhttp://:{{port}} {{\n\trespond any\n}}\n",
        upstream.address()
    ));
    let ask = |host: &str| {
        request(server.port, "POST", "/p", &[("Host", host)], &"x".repeat(1000)).unwrap().status
    };
    for host in ["LocalHost", "a.localhost", "nobody.test", "nobody2.test:99"] {
        assert_eq!(ask(host), 200, "{host}");
    }
    let text = get(server.admin, "/metrics").body;
    let line = |start: &str| {
        let line = text.lines().find(|line| line.starts_with(start));
        line.and_then(|line| line.rsplit(' ').next()).unwrap_or_default().to_owned()
    };
    for (host, handler, count) in [
        ("localhost", "subroute", "1"),
        ("a.localhost", "subroute", "1"),
        ("_other", "subroute", "2"),
    ] {
        let labels = format!("{{handler=\"{handler}\",host=\"{host}\",server=\"srv0\"}}");
        assert_eq!(line(&format!("caddy_http_requests_total{labels}")), count, "{host}\n{text}");
    }
    let in_flight = "caddy_http_requests_in_flight{handler=\"subroute\",host=\"localhost\"";
    assert_eq!(line(in_flight), "0", "{text}");
    assert!(!text.contains("nobody"), "{text}");
    // Line, fields and body.
    let sum = line(
        "caddy_http_request_size_bytes_sum{code=\"200\",handler=\"subroute\",host=\"localhost\"",
    );
    let sum: f64 = sum.parse().unwrap();
    assert!(sum > 1000.0 && sum < 1200.0, "{sum}");
    for name in ["process_open_fds", "process_resident_memory_bytes", "process_start_time_seconds"]
    {
        assert!(line(name).parse::<f64>().unwrap() > 0.0, "{name}");
    }
}

#[test]
fn logs_tell_of_aborts_proxying_handshakes_and_the_admin_api() {
    let upstream = Scripted::fixed(ok("up"));
    let server = Server::start(
        "{\n\tadmin 127.0.0.1:{admin}\n\tdebug\n\tskip_install_trust\n\tauto_https disable_redirects\n\thttps_port {port}\n}\nhttps://localhost:{port} {\n\ttls internal\n}\n",
    );
    let answer = get(server.port, "/");
    assert_eq!(answer.body, "Client sent an HTTP request to an HTTPS server.\n");
    eventually("the handshake is told", || {
        server.log().contains("http: TLS handshake error from 127.0.0.1:")
            && server.log().contains("client sent an HTTP request to an HTTPS server")
    });
    let entry = |text: &str, logger: &str, message: &str| -> Option<Json> {
        let entries = text.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
        entries.into_iter().find(|entry| entry["logger"] == logger && entry["msg"] == message)
    };
    let headers = [("X-Two", "1"), ("X-Two", "2"), ("Authorization", "Basic abc")];
    request(server.admin, "GET", "/config/", &headers, "").unwrap();
    let mut asked = None;
    eventually("the request is told", || {
        asked = entry(&server.log(), "admin.api", "received request");
        asked.is_some()
    });
    let asked = asked.unwrap();
    assert_eq!((&asked["uri"], &asked["remote_ip"]), (&"/config/".into(), &"127.0.0.1".into()));
    assert_eq!(asked["host"], format!("localhost:{}", server.admin));
    assert_eq!(asked["headers"]["X-Two"], json!(["1", "2"]));
    assert_eq!(asked["headers"]["Authorization"], json!(["REDACTED"]));
    // It was told before.
    let started = entry(&server.log(), "admin", "admin endpoint started").unwrap();
    assert_eq!(started["enforce_origin"], false);
    assert_eq!(started["origins"][0], format!("//localhost:{}", server.admin));
    assert_eq!(asked["headers"]["Host"], Json::Null);
    let server = Server::start(&format!(
        "{{\n\tadmin 127.0.0.1:{{admin}}\n\tdebug\n\tmetrics\n}}\nhttp://localhost:{{port}} {{\n\tlog\n\tabort /abort\n\treverse_proxy {}\n}}\n",
        upstream.address()
    ));
    assert_eq!(get(server.port, "/abort").status, 0);
    eventually("the abort is told", || {
        entry(&server.log(), "http.log.access", "handled request")
            .is_some_and(|entry| entry["status"] == 0 && entry["size"] == 0)
    });
    // Nothing was answered, so nothing is counted.
    let counted = |text: &str| {
        text.lines().any(|line| line.starts_with("caddy_http_request_duration_seconds_count"))
    };
    let text = get(server.admin, "/metrics").body;
    assert!(!counted(&text) && text.contains("caddy_http_requests_in_flight"), "{text}");
    assert_eq!(get(server.port, "/x?y").body, "up");
    eventually("the answer is counted", || counted(&get(server.admin, "/metrics").body));
    eventually("the upstream is told", || {
        let log = server.log();
        let chosen = entry(&log, "http.handlers.reverse_proxy", "selected upstream");
        let sent = entry(&log, "http.handlers.reverse_proxy", "upstream roundtrip");
        chosen.is_some_and(|entry| entry["dial"] == upstream.address())
            && sent.is_some_and(|entry| entry["status"] == 200 && entry["request"]["uri"] == "/x?y")
    });
}

#[test]
fn logs_tell_of_start_and_stop_and_of_errors_in_error_routes() {
    let mut server = Server::start(
        "{\n\tadmin 127.0.0.1:{admin}\n}\nhttp://localhost:{port} {\n\tlog\n\terror \"first\" 404\n\thandle_errors {\n\t\terror \"second\" 501\n\t}\n}\n",
    );
    assert_eq!(get(server.port, "/").status, 404);
    server.signal("TERM");
    eventually("it stops", || matches!(server.child.try_wait(), Ok(Some(_))));
    let log = server.log();
    let entries: Vec<Json> =
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let entry = |message: &str| {
        let mut found = entries.iter().filter(|entry| entry["msg"] == message);
        let first = found.next().unwrap_or_else(|| panic!("{message}: {log}"));
        assert!(found.next().is_none(), "{message}: {log}");
        first
    };
    assert_eq!(entry("adapted config to JSON")["adapter"], "caddyfile");
    assert!(entry("using config from file")["file"].is_string());
    assert_eq!(entry("server running")["protocols"], serde_json::json!(["h1", "h2", "h3"]));
    assert_eq!(entry("autosaved config (load with --resume flag)")["logger"], Json::Null);
    let failed = entry("error handling handler error");
    assert_eq!((&failed["level"], &failed["logger"]), (&"error".into(), &"http.log.error".into()));
    assert_eq!(failed["error"], "HTTP 501: second");
    let first = &failed["first_error"];
    assert_eq!((&first["msg"], &first["status"]), (&"first".into(), &404.into()));
    assert_eq!(entry("handled request")["status"], 404);
    let stopped = entry("shutdown complete");
    assert_eq!((&stopped["signal"], &stopped["exit_code"]), (&"SIGTERM".into(), &0.into()));
}

#[test]
fn a_server_tells_of_each_handler_where_that_is_wished() {
    let server = Server::start(
        "{\n\tadmin off\n\tdebug\n\tservers {\n\t\ttrace\n\t}\n}\nhttp://localhost:{port} {\n\theader X-A b\n\trespond /x no\n\trespond hello\n}\n",
    );
    assert_eq!(get(server.port, "/").body, "hello");
    let traced = || -> Vec<(String, Json)> {
        let log = server.log();
        let entries = log.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
        let ours = entries.filter(|entry| entry["logger"] == "http.log.trace");
        ours.map(|entry| {
            (entry["msg"].as_str().unwrap_or_default().to_owned(), entry["module"].clone())
        })
        .collect()
    };
    eventually("all handlers are told", || traced().len() >= 3);
    let all = traced();
    let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["subroute", "headers", "static_response"]);
    assert_eq!(all[0].1["routes"], serde_json::json!([{}, {}, {}]));
    assert_eq!(all[1].1["response"]["set"]["X-A"][0], "b");
    assert_eq!(all[2].1, serde_json::json!({"body": "hello"}));
}

#[test]
fn the_admin_api_knows_its_places() {
    let server = Server::start(&site("one"));
    for path in ["/pki/", "/pki/ca/", "/pki/ca/local/x", "/pki/ca/local/"] {
        let answer = get(server.admin, path);
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.body, format!("{{\"error\":\"resource not found: {path}\"}}\n"));
    }
    assert_eq!(get(server.admin, "/pki/ca/local").status, 200);
    assert_eq!(get(server.admin, "/debug/pprof/").status, 200);
    assert_eq!(get(server.admin, "/debug/pprof/heap").status, 501);
    let nowhere = get(server.admin, "/nowhere");
    assert_eq!(nowhere.header("content-type"), Some("text/plain; charset=utf-8"));
}

#[test]
fn commands_for_shells_and_servers() {
    let folder = scratch();
    let run = |arguments: &[&str]| {
        let output = caddis(&folder).args(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    };
    for flag in ["-v", "--version"] {
        let (code, version, _) = run(&[flag]);
        assert!(code == 0 && version.starts_with('v') && version.len() < 20, "{version}");
    }
    for (shell, part) in
        [("bash", "complete -F"), ("zsh", "#compdef caddis"), ("fish", "complete -c caddis")]
    {
        let (code, script, said) = run(&["completion", shell]);
        assert!(code == 0 && script.contains(part), "{shell}: {said}");
    }
    assert_eq!(run(&["completion", "tcsh"]).0, 1);
    assert_eq!(run(&["manpage"]).0, 3);
    assert_eq!(run(&["manpage", "-o", "man/pages"]).0, 0);
    let page = fs::read_to_string(folder.join("man/pages/caddis-reverse-proxy.8")).unwrap();
    assert!(page.contains("header\\-up"), "{page}");
    fs::write(folder.join("a.env"), "A=1\n").unwrap();
    fs::write(folder.join("b.env"), "B=2\n").unwrap();
    let (code, said, _) = run(&["environ", "--envfile", "a.env,b.env"]);
    assert!(code == 0 && said.contains("\nA=1\n") && said.contains("\nB=2\n"), "{said}");
    for line in ["caddy.HomeDir=/", "caddy.ConfigAutosavePath=/", "runtime.NumCPU="] {
        assert!(said.contains(line), "{line} in {said}");
    }
    // A text that `fmt` would change is told, and used all the same.
    fs::write(folder.join("Caddyfile"), ":80 {\n\tvars a b\n  respond hi\n}\n").unwrap();
    let (code, json, said) = run(&["adapt"]);
    assert!(code == 0 && json.contains("\"body\":\"hi\""), "{json}");
    assert!(said.contains("Caddyfile input is not formatted"), "{said}");
    fs::write(folder.join("Caddyfile"), ":80 {\n\trespond hi\n}\n").unwrap();
    assert_eq!(run(&["adapt"]).2, "");
}

#[test]
fn a_slow_client_of_the_admin_api_is_cut_off() {
    let server = Server::start(&site("one"));
    let begin = Instant::now();
    let mut wire = Wire::connect(server.admin);
    wire.send("POST /load HTTP/1.1\r\nHost: localhost:");
    wire.send(format!("{}\r\nContent-Length: 10\r\n\r\n{{", server.admin));
    let mut head = String::new();
    // Reads give up after ten seconds, too.
    while head.is_empty() && begin.elapsed() < Duration::from_secs(19) {
        head = wire.head();
    }
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    // Others were served meanwhile.
    assert_eq!(get(server.admin, "/config/apps/http/servers/srv0/listen").status, 200);
}

#[test]
fn what_the_admin_api_cannot_do_is_refused() {
    let server = Server::start(&site("one"));
    for (part, path) in [
        ("{\"remote\":{}}", "admin.remote"),
        ("{\"identity\":{},\"remote\":{}}", "admin.remote"),
        ("{\"identity\":{\"identifiers\":[\"\"]}}", "admin.identity.identifiers.0"),
        ("{\"identity\":{\"issuers\":[{}]}}", "admin.identity.issuers.0"),
        ("{\"config\":{\"load\":{\"module\":\"ftp\"}}}", "admin.config.load.module"),
        ("{\"config\":{\"load\":{\"module\":\"http\",\"url\":\"a\"}}}", "admin.config.load.url"),
    ] {
        let body = format!("{{\"admin\":{part}}}");
        let answer = request(server.admin, "POST", "/load", &JSON, &body).unwrap();
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.body.contains(&format!("{path}: ")), "{}", answer.body);
    }
    assert_eq!(get(server.port, "/").body, "one");
}

#[test]
fn configs_are_pulled() {
    let answers = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let (server, given) = (Server::start(&site("one")), answers.clone());
    let source = Scripted::start(move |wire| {
        while let Some((head, _)) = wire.request() {
            assert!(head.starts_with("GET /c HTTP/1.1\r\n") && head.contains("x-key: k"), "{head}");
            let body = given.lock().unwrap().clone();
            let json = body.starts_with("{\"") || body == "{";
            let kind = if json { "application/json" } else { "text/caddyfile" };
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            if !wire.send(head + &body) {
                return;
            }
        }
    });
    let wants = |delay: &str| {
        let load = format!(
            "{{\"module\":\"http\",\"url\":\"http://{}/c\",\"header\":{{\"X-Key\":[\"k\"]}}}}",
            source.address()
        );
        format!(
            "{{\"admin\":{{\"listen\":\"127.0.0.1:{}\",\"config\":{{\"load\":{load}{delay}}}}}}}",
            server.admin
        )
    };
    let serves = |text: &str, more: &str| {
        format!(
            "{{\"admin\":{{\"listen\":\"127.0.0.1:{}\"{more}}},\"apps\":{{\"http\":{{\"servers\":{{\"a\":{{\"listen\":[\":{}\"],\"routes\":[{{\"handle\":[{{\"handler\":\"static_response\",\"body\":\"{text}\"}}]}}]}}}}}}}}}}",
            server.admin, server.port
        )
    };
    let load = |config: &str| request(server.admin, "POST", "/load", &JSON, config).unwrap();
    // Nothing that is a config: the one that wants it is refused.
    *answers.lock().unwrap() = "http://localhost {\n\trespnd\n}\n".into();
    assert_eq!(load(&wants("")).status, 400);
    assert_eq!(get(server.port, "/").body, "one");
    // At once, as a Caddyfile.
    *answers.lock().unwrap() = Server::fill(&site("two"), server.port, server.admin);
    assert_eq!(load(&wants("")).status, 200);
    eventually("the pulled config serves", || get(server.port, "/").body == "two");
    // After a delay, and again after it changes.
    let again = wants(",\"load_delay\":\"50ms\"");
    let more = again.split_once(",\"config\"").unwrap().1;
    let more = format!(",\"config\"{}", &more[..more.len() - 2]);
    *answers.lock().unwrap() = serves("three", &more);
    assert_eq!(load(&again).status, 200);
    eventually("the next one serves", || get(server.port, "/").body == "three");
    *answers.lock().unwrap() = "{".into();
    eventually("a bad one is told", || server.log().contains("will retry"));
    assert_eq!(get(server.port, "/").body, "three");
    *answers.lock().unwrap() = serves("four", "");
    eventually("the last one serves", || get(server.port, "/").body == "four");
    let saved = fs::read_to_string(server.folder.join("config/caddy/autosave.json")).unwrap();
    assert!(!saved.contains("four"), "{saved}");
}

#[test]
fn the_admin_api_warns_of_unformatted_texts() {
    let server = Server::start(&site("one"));
    let kind = [("Content-Type", "text/caddyfile")];
    let answer = request(server.admin, "POST", "/adapt", &kind, ":80 {\n respond hi\n}\n").unwrap();
    let body: Json = serde_json::from_str(&answer.body).unwrap();
    let warning = &body["warnings"][0];
    assert_eq!((&warning["file"], &warning["line"]), (&"Caddyfile".into(), &2.into()), "{body}");
    let kind = [("Content-Type", "text/nginx")];
    for path in ["/adapt", "/load"] {
        let answer = request(server.admin, "POST", path, &kind, "x").unwrap();
        assert_eq!(answer.body, "{\"error\":\"unrecognized config adapter 'nginx'\"}\n");
    }
}

#[test]
fn a_file_server_can_run_templates() {
    let folder = scratch();
    fs::write(folder.join("page.html"), "{{1 | add 2}}").unwrap();
    let port = crate::support::free_port();
    let mut child = caddis(&folder)
        .args(["file-server", "--templates", "--listen", &format!("127.0.0.1:{port}")])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("the template runs", || get(port, "/page.html").body == "3");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_tls_hello_on_a_plain_port_is_refused_at_once() {
    let server = Server::start(&site("one"));
    // The start of a hello, with and without a byte that could end a line.
    for random in [0x0a, 0x55] {
        let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
        hello.extend([random; 32]);
        let begin = Instant::now();
        let mut wire = Wire::connect(server.port);
        wire.send(&hello);
        assert!(wire.head().starts_with("HTTP/1.1 400 "), "{random}");
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    }
}

#[test]
fn spent_descriptors_come_back() {
    let mut server = Server::start(&site("one"));
    assert_eq!(get(server.port, "/").body, "one");
    server.limit_descriptors(server.descriptors() + 20);
    let open: Vec<_> =
        (0..60).map(|_| TcpStream::connect(("127.0.0.1", server.port)).unwrap()).collect();
    eventually("it is told", || server.log().contains("accepting a connection failed"));
    // Told again and again, but not for each try.
    std::thread::sleep(Duration::from_millis(1500));
    let told = server.log().matches("accepting a connection failed").count();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    assert!(told <= 4 * threads, "{told} times");
    drop(open);
    eventually("it serves again", || get(server.port, "/").body == "one");
    assert!(matches!(server.child.try_wait(), Ok(None)));
}

#[test]
fn logs_that_nobody_takes_hold_nothing_up() {
    let folder = scratch();
    let pipe = folder.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Somebody has it open, and never reads.
    let reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    // Nobody has it open.
    let lonely = folder.join("lonely");
    assert!(std::process::Command::new("mkfifo").arg(&lonely).status().unwrap().success());
    for output in ["/dev/full", pipe.to_str().unwrap(), lonely.to_str().unwrap()] {
        let mut server = Server::start(&format!(
            "{{\n\tadmin 127.0.0.1:{{admin}}\n}}\nhttp://localhost:{{port}} {{\n\tlog {{\n\t\toutput file {output}\n\t}}\n\theader X-Long {}\n\trespond one\n}}\n",
            "x".repeat(1000)
        ));
        let begin = Instant::now();
        for _ in 0..300 {
            assert_eq!(get(server.port, "/").body, "one", "{output}");
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{output}: {:?}", begin.elapsed());
        let lost = |text: &str| {
            let name = format!("caddis_log_entries_dropped_total{{writer=\"file:{output}\"}} ");
            let count = text.lines().find_map(|line| line.strip_prefix(&name)).map(str::to_owned);
            count.unwrap_or_default()
        };
        // A full disk loses each of them; what waits in a pipe is not lost yet.
        let want = if output == "/dev/full" { "300" } else { "0" };
        eventually("losses are counted", || lost(&get(server.admin, "/metrics").body) == want);
        server.signal("TERM");
        eventually("it stops all the same", || matches!(server.child.try_wait(), Ok(Some(_))));
        assert!(server.child.wait().unwrap().success(), "{output}");
    }
    drop(reader);
}
