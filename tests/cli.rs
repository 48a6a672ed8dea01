//! Commands, as typed.

use std::io::Write;

use crate::support::{Server, caddis, eventually, free_port, get, scratch};

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
