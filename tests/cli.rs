//! Commands, as typed.

use std::io::{BufRead, Write};

use crate::support::{Server, caddis, eventually, free_port, get, request, scratch};

fn run(folder: &std::path::Path, arguments: &[&str]) -> (i32, String, String) {
    let output = caddis(folder).args(arguments).output().unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn check_names_every_mistake() {
    let folder = scratch();
    let text = ":80 {\n\treverse_prxy localhost:1\n\trespond @nope hi\n\trespond a b c d\n}\n";
    std::fs::write(folder.join("Caddyfile"), text).unwrap();
    for command in ["check", "validate"] {
        let (code, _, said) = run(&folder, &[command]);
        assert_eq!(code, 1, "{said}");
        for part in ["did you mean `reverse_proxy`?", "@nope", "Caddyfile:2", "Caddyfile:4"] {
            assert!(said.contains(part), "{part} in {said}");
        }
    }
    std::fs::write(folder.join("Caddyfile"), ":80 {\n\trespond hi\n}\n").unwrap();
    let (code, said, _) = run(&folder, &["check"]);
    assert_eq!((code, said.trim()), (0, "Valid configuration"));
}

#[test]
fn whoever_loads_a_config_is_told_every_mistake() {
    let folder = scratch();
    let text = ":80 {\n\t@odd path_regexp (\n\trespond @odd hi\n\trespnd hi\n}\n";
    std::fs::write(folder.join("Caddyfile"), text).unwrap();
    let sentence = "Caddyfile:4: unrecognized directive: respnd";
    for command in ["check", "adapt", "run", "start", "reload"] {
        let (code, _, said) = run(&folder, &[command]);
        assert_eq!(code, 1, "{command}: {said}");
        // What only the set-up of modules shows is told, too, in the order of the text.
        let at =
            |part: &str| said.find(part).unwrap_or_else(|| panic!("{command}: {part} in {said}"));
        assert!(at("error parsing regexp: missing closing )") < at(sentence), "{command}: {said}");
        assert!(at("did you mean `respond`?") > 0);
        let mut errors = said.lines().filter(|line| line.starts_with("Error: "));
        assert!(errors.any(|line| line.ends_with(sentence)), "{command}: {said}");
    }
}

#[test]
fn adapt_and_fmt() {
    let folder = scratch();
    std::fs::write(folder.join("Caddyfile"), ":8080 {\nrespond    hi\n}\n").unwrap();
    let (code, json, _) = run(&folder, &["adapt"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(code, 0);
    assert_eq!(json["apps"]["http"]["servers"]["srv0"]["listen"][0], ":8080");
    let (code, text, said) = run(&folder, &["fmt"]);
    assert_eq!((code, text.as_str()), (1, ":8080 {\n\trespond hi\n}\n"), "{said}");
    assert_eq!(run(&folder, &["fmt", "--overwrite"]).0, 0);
    assert_eq!(run(&folder, &["fmt"]).0, 0);
}

#[test]
fn small_commands() {
    let folder = scratch();
    let (code, version, _) = run(&folder, &["version"]);
    assert!(code == 0 && version.starts_with('v'), "{version}");
    let (code, modules, _) = run(&folder, &["list-modules"]);
    assert!(code == 0 && modules.contains("http.handlers.reverse_proxy\n"), "{modules}");
    let (code, hash, said) = run(&folder, &["hash-password", "-p", "secret", "--bcrypt-cost", "4"]);
    assert!(code == 0 && hash.starts_with("$2"), "{hash}{said}");
    assert_eq!(run(&folder, &["no-such-command"]).0, 1);
    assert_eq!(run(&folder, &["run", "--config", "missing"]).0, 1);
    assert_eq!(run(&folder, &["check"]).0, 1);
}

/// Scripts look at exit codes and at which stream says what.
#[test]
fn words_of_all_kinds() {
    let folder = scratch();
    std::fs::write(folder.join("Caddyfile"), ":80 {\n\trespond hi\n}\n").unwrap();
    std::fs::write(folder.join("empty.caddyfile"), "").unwrap();
    std::fs::write(folder.join("comment.caddyfile"), "# nothing\n").unwrap();
    for (arguments, code, out, err) in [
        (
            &["nope"][..],
            1,
            "",
            "Error: unknown command \"nope\" for \"caddis\"\nRun 'caddis --help' for usage.\n",
        ),
        (&["run", "--nope"], 1, "", "Error: unknown flag: --nope\n"),
        (&["run", "--config"], 1, "", "Error: flag needs an argument: --config\n"),
        (&["help", "nope"], 0, "", "Unknown help topic [`nope`]\n"),
        (&["help", "run"], 0, "Serves until it is stopped", ""),
        (&["run", "--help"], 0, "  -w, --watch\n", ""),
        (&["storage"], 0, "Usage: caddis storage", ""),
        (&["storage", "nope"], 1, "", "Error: unknown command \"nope\" for \"caddis storage\""),
        (&["manpage"], 3, "", "Error: designated output directory"),
        (&["completion"], 1, "", "Error: accepts 1 arg(s), received 0\n"),
        (&["version", "x"], 0, "v", "Warning: ignored x"),
        (
            &["validate", "other"],
            0,
            "Valid configuration\n",
            "Warning: ignored other; a config file is named with --config\n",
        ),
        (
            &["adapt", "--config", "", "--adapter="],
            1,
            "",
            "Error: adapter name is required (use --adapt flag or leave unspecified for default)\n",
        ),
        (&["adapt", "--config", "", "--pretty=false"], 0, "{\"apps\"", ""),
        (&["adapt", "-c", "none", "-c", "Caddyfile"], 0, "{\"apps\"", ""),
        (&["adapt", "-c", "empty.caddyfile"], 1, "", "Error: EOF\n"),
        (
            &["validate", "-c", "empty.caddyfile"],
            1,
            "",
            "Error: adapting config using caddyfile: EOF\n",
        ),
        (&["adapt", "-c", "comment.caddyfile"], 0, "{}\n", ""),
        (&["fmt", "a", "b"], 1, "", "Error: fmt does not support multiple files  a b\n"),
        (&["stop", "--address", "a:1-2"], 1, "", "Error: invalid admin address a:1-2: "),
        (&["list-modules", "-s"], 0, "", ""),
        (&["list-modules", "-s", "--json"], 0, "[]\n", ""),
        (&["list-modules"], 0, "\n\n  Standard modules: ", ""),
        (
            &["list-modules", "--versions", "--packages"],
            0,
            "caddy.listeners.http_redirect v0.1.0 caddis\n",
            "",
        ),
        (
            &["untrust", "--cert", "a", "--ca", "b"],
            1,
            "",
            "Error: conflicting command line arguments, cannot use --cert with other flags\n",
        ),
        (&["upgrade"], 1, "", "Error: caddis does not replace itself"),
        (&["add-package"], 1, "", "Error: at least one package name must be specified\n"),
        (
            &["add-package", "github.com/caddy-dns/cloudflare"],
            1,
            "",
            "dns.providers.cloudflare is built in",
        ),
        (
            &["add-package", "github.com/a/b"],
            1,
            "",
            "packages of Go cannot be loaded: github.com/a/b",
        ),
        (&["remove-package", "github.com/a/b"], 1, "", "no plugins to remove: github.com/a/b"),
        (
            &["hash-password", "-p", "x", "-a", "nope"],
            1,
            "",
            "Error: unrecognized hash algorithm: nope\n",
        ),
        (
            &["hash-password", "-p", "x", "-a", "argon2id", "--argon2id-memory", "64"],
            0,
            "$argon2id$v=19$m=64,t=1,p=1$",
            "",
        ),
        (&["hash-password"], 1, "", "Error: plaintext is required\n"),
        (&["respond", "a", "b"], 1, "", "Error: too many unflagged arguments\n"),
        (
            &["respond", "-H", "bad"],
            1,
            "",
            "Error: header 0: invalid format \"bad\" (expecting \"Field: value\")\n",
        ),
        (&["respond", "--body", "{{.N"], 1, "", "Error: "),
        (
            &["respond", "-l", "no.such.host.invalid:0"],
            1,
            "",
            "Error: listening on no.such.host.invalid:0: ",
        ),
        (&["reverse-proxy"], 1, "", "Error: --to is required\n"),
        (
            &["reverse-proxy", "--from", "a/b", "--to", "c"],
            1,
            "",
            "Error: paths are not allowed: a/b\n",
        ),
        (
            &["file-server", "--precompressed", "nope"],
            1,
            "",
            "Error: getting module named 'http.precompressed.nope': ",
        ),
        (&["file-server", "export-template"], 0, "<!DOCTYPE html>\n", ""),
    ] {
        let (got, said, told) = run(&folder, arguments);
        assert_eq!(got, code, "{arguments:?}: {said}{told}");
        assert!(said.contains(out) && said.is_empty() == out.is_empty(), "{arguments:?}: {said}");
        assert!(told.contains(err) && told.is_empty() == err.is_empty(), "{arguments:?}: {told}");
    }
}

/// `caddis environ | head -1` ends without a word.
#[test]
fn a_reader_may_go_away() {
    let folder = scratch();
    for arguments in [&["environ"][..], &["list-modules"], &["help"], &["completion", "bash"]] {
        let mut child = caddis(&folder)
            .args(arguments)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*said), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn answers_of_several_servers() {
    let folder = scratch();
    let first = (0..)
        .map(|_| free_port())
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", port + 1)).is_ok());
    let first = first.unwrap();
    let mut child = caddis(&folder)
        .args(["respond", "--listen", &format!("127.0.0.1:{first}-{}", first + 1)])
        .args(["-H", "x-a: 1", "-H", "X-A: 2", "201"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let body = "{{if eq .N 0}}first{{else}}{{printf \"%d\" .N}}{{end}} {{ .Port }} {{.Address}}";
    child.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    for (number, name) in [(0, "first"), (1, "1")] {
        let port = first + number;
        let line = lines.next().unwrap().unwrap();
        assert_eq!(line, format!("Server address: 127.0.0.1:{port}"));
        // It serves when it says so.
        let answer = get(port, "/");
        assert_eq!((answer.status, answer.header("x-a")), (201, Some("2")));
        assert_eq!(answer.body, format!("{name} {port} 127.0.0.1:{port}"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_proxy_of_flags_alone() {
    let folder = scratch();
    let up = |name: &str| {
        let answer = crate::support::ok(name);
        crate::support::Scripted::fixed(answer)
    };
    let (one, two) = (up("one"), up("two"));
    let port = free_port();
    let mut child = caddis(&folder)
        .args(["reverse-proxy", "--from", &format!("http://localhost:{port}"), "--insecure"])
        .args(["--to", &one.address(), "--to", &two.address(), "--header-down", "X-Down: yes"])
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("the proxy proxies", || get(port, "/").status == 200);
    let mut seen = std::collections::BTreeSet::new();
    eventually("both have answered", || {
        let answer = get(port, "/");
        assert_eq!(answer.header("x-down"), Some("yes"));
        seen.insert(answer.body);
        seen.len() == 2
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_file_with_the_process_id() {
    let mut server = Server::start_with(
        "{\n\tadmin 127.0.0.1:{admin}\n}\nhttp://localhost:{port} {\n\trespond hi\n}\n",
        |command, _| {
            command.args(["--pidfile", "pid"]);
        },
    );
    let pid = || std::fs::read_to_string(server.folder.join("pid")).unwrap_or_default();
    let own = format!("{}\n", server.child.id());
    assert_eq!(pid(), own);
    // A second server that does not get to serve takes nothing away.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let second = format!("{{\n\tadmin off\n}}\nhttp://:{port} {{\n\tbind 127.0.0.1\n}}\n");
    std::fs::write(server.folder.join("second.caddyfile"), second).unwrap();
    let arguments = ["run", "--config", "second.caddyfile", "--pidfile", "pid"];
    let (code, _, said) = run(&server.folder, &arguments);
    assert_eq!(code, 1, "{said}");
    let why = format!("bind: address already in use (`ss -ltnp 'sport = :{port}'` tells");
    assert!(said.contains(&why), "{said}");
    assert!(!said.contains("another process listens"), "it shares nothing: {said}");
    assert_eq!(pid(), own);
    server.signal("TERM");
    eventually("it ends", || matches!(server.child.try_wait(), Ok(Some(_))));
    assert_eq!(pid(), "");
    // A server runs without the file where it cannot be written.
    let server =
        Server::start_with("http://localhost:{port} {\n\trespond hi\n}\n", |command, _| {
            command.args(["--pidfile", "no/such/folder/pid"]);
        });
    eventually("it is told", || server.log().contains("unable to write PID file"));
}

#[test]
fn what_cannot_be_resumed() {
    let folder = scratch();
    std::fs::create_dir_all(folder.join("config/caddy")).unwrap();
    std::fs::write(folder.join("config/caddy/autosave.json"), "{\"apps\":").unwrap();
    let text = "http://localhost:{port} {\n\trespond hi\n}\n";
    std::fs::write(folder.join("Caddyfile"), text.replace("{port}", "0")).unwrap();
    let (code, _, said) = run(&folder, &["run", "--resume", "--config", "Caddyfile"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("autosave.json: EOF while parsing"), "{said}");
    let server = Server::start_with(text, |command, _| {
        command.arg("--resume");
    });
    eventually("it is told", || server.log().contains("no autosave file exists"));
}

#[test]
fn start_and_stop() {
    let folder = scratch();
    let (port, admin) = (free_port(), free_port());
    let text = format!(
        "{{\n\tadmin 127.0.0.1:{admin}\n}}\nhttp://localhost:{port} {{\n\trespond hi\n}}\n"
    );
    std::fs::write(folder.join("Caddyfile"), text).unwrap();
    let output = std::fs::File::create(folder.join("out")).unwrap();
    let status = caddis(&folder)
        .arg("start")
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(get(port, "/").body, "hi");
    let (code, _, said) = run(&folder, &["stop"]);
    assert_eq!(code, 0, "{said}");
    eventually("nobody listens", || get(port, "/").status == 0);
}

#[test]
fn quick_servers() {
    let folder = scratch();
    std::fs::write(folder.join("file.txt"), "text").unwrap();
    let (files, fixed, proxy) = (free_port(), free_port(), free_port());
    let listen = |port: u16| format!("127.0.0.1:{port}");
    let mut children = vec![
        caddis(&folder)
            .args(["file-server", "--listen", &listen(files)])
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap(),
        caddis(&folder)
            .args(["respond", "--listen", &listen(fixed), "--status", "201", "--body", "made"])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap(),
        caddis(&folder)
            .args([
                "reverse-proxy",
                "--from",
                &format!("http://localhost:{proxy}"),
                "--to",
                &listen(fixed),
            ])
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap(),
    ];
    eventually("files are served", || get(files, "/file.txt").body == "text");
    eventually("the answer is fixed", || get(fixed, "/").status == 201);
    eventually("the proxy proxies", || get(proxy, "/").body == "made");
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn environment_files_and_standard_input() {
    let folder = scratch();
    std::fs::write(folder.join("vars.env"), "BODY=\"from a file\"\n").unwrap();
    let text = ":80 {\n\trespond \"{$BODY}\"\n}\n";
    std::fs::write(folder.join("Caddyfile"), text).unwrap();
    let (code, json, said) = run(&folder, &["adapt", "--envfile", "vars.env"]);
    assert!(code == 0 && json.contains("from a file"), "{json}{said}");
    let mut child = caddis(&folder)
        .args(["adapt", "--config", "-", "--adapter", "caddyfile"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
}

#[test]
fn sentences_people_search_for() {
    let folder = scratch();
    std::fs::write(folder.join("bad.json"), "{\"apps\":").unwrap();
    std::fs::write(folder.join("bad.env"), "nonsense\n").unwrap();
    let port = free_port();
    let address = format!("localhost:{port}");
    for (arguments, want) in [
        (
            &["stop", "--address", &address][..],
            format!("performing request: Post \"http://localhost:{port}/stop\": dial tcp localhost:{port}: connect: connection refused"),
        ),
        (
            &["stop", "--config", "nope"],
            "couldn't determine admin API address: reading config from file: open nope: no such file or directory".to_owned(),
        ),
        (&["validate", "--config", "bad.json"], "unexpected end of JSON input; did you mean".to_owned()),
        (
            &["run", "--envfile", "nope.env"],
            "loading additional environment variables: reading environment file: open nope.env: no such file or directory".to_owned(),
        ),
        (
            &["run", "--envfile", "bad.env"],
            "loading additional environment variables: parsing environment file: ".to_owned(),
        ),
        (&["start", "--config", "nope"], "process exited with error: exit status 1".to_owned()),
    ] {
        let (code, _, said) = run(&folder, arguments);
        assert_eq!(code, 1, "{arguments:?}");
        assert!(said.contains(&want), "{said}");
    }
}

/// The commands say where they come from, which such an endpoint wants to know.
#[test]
fn commands_speak_to_an_endpoint_with_enforced_origins() {
    let mut server = Server::start(
        "{\n\tadmin localhost:{admin} {\n\t\tenforce_origin\n\t}\n\tskip_install_trust\n}\nhttp://localhost:{port} {\n\trespond one\n}\n",
    );
    let text = std::fs::read_to_string(server.folder.join("Caddyfile")).unwrap();
    let (done, said) = server.reload(&text.replace("respond one", "respond two"));
    assert!(done, "{said}");
    assert_eq!(get(server.port, "/").body, "two");
    let address = format!("localhost:{}", server.admin);
    let (code, _, said) = run(&server.folder, &["stop", "--address", &address]);
    assert_eq!(code, 0, "{said}");
    eventually("it ends", || matches!(server.child.try_wait(), Ok(Some(_))));
}

/// The system's errors are told in Go's words, in the log, by the admin API, to clients and by
/// commands.
#[test]
fn numbers_of_errors_are_for_nobody() {
    let folder = scratch();
    let file = folder.join("file");
    std::fs::write(&file, "").unwrap();
    let file = file.display();
    let (tls, nobody) = (free_port(), free_port());
    let server = Server::start(&format!(
        "{{\n\tadmin 127.0.0.1:{{admin}}\n\tskip_install_trust\n\tstorage file_system {file}\n}}\n\
         http://:{{port}} {{\n\treverse_proxy unix/{file}/x.sock\n\
         \thandle_errors {{\n\t\trespond \"{{err.message}}\"\n\t}}\n}}\n\
         localhost:{tls} {{\n\ttls internal\n}}\n"
    ));
    let told = get(server.port, "/").body;
    assert_eq!(told, format!("dial unix {file}/x.sock: connect: not a directory"));
    eventually("the storage's trouble is told", || server.log().contains("storage is not ready"));
    let log = server.log();
    assert!(log.contains(": not a directory\""), "{log}");
    let report = get(server.admin, "/tls/certificates").body;
    assert!(report.contains("not a directory"), "{report}");
    let load =
        r#"{"logging": {"logs": {"x": {"writer": {"output": "file", "filename": "FILE/x"}}}}}"#;
    let load = load.replace("FILE", &file.to_string());
    let fields = [("Content-Type", "application/json")];
    let refused = request(server.admin, "POST", "/load", &fields, &load).unwrap().body;
    assert!(refused.contains(&format!("open {file}/x: file exists")), "{refused}");
    for text in [&log, &report, &refused] {
        assert!(!text.contains("os error"), "{text}");
    }

    let (nowhere, net) = (format!("{file}/x"), folder.join("net"));
    let text = format!(
        "{{\n\tadmin off\n\tlog {{\n\t\toutput net 127.0.0.1:{nobody}\n\t}}\n}}\nhttp://:{tls} {{\n}}\n"
    );
    std::fs::write(&net, text).unwrap();
    let net = net.display().to_string();
    for (arguments, sentence) in [
        (&["adapt", "--config", &nowhere][..], format!("open {nowhere}: not a directory")),
        (&["stop", "--address", "nobody.invalid:80"], "lookup nobody.invalid: no such host".into()),
        (
            &["run", "--adapter", "caddyfile", "--config", &net],
            format!("dial tcp 127.0.0.1:{nobody}: connect: connection refused"),
        ),
    ] {
        let (code, _, told) = run(&folder, arguments);
        assert_eq!(code, 1, "{told}");
        assert!(told.contains(&sentence) && !told.contains("os error"), "{sentence}: {told}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
