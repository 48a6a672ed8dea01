//! Commands, as typed.

use std::io::Write;

use crate::support::{caddis, eventually, free_port, get, scratch};

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
