//! Caddyfiles that are made to hurt: each gets an error with its place, soon and in little memory.

use std::{
    fs,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value as Json;

use crate::support::{Server, caddis, request, scratch};

/// A debug build on a busy machine takes far longer than what is shipped.
const SOON: Duration = Duration::from_secs(60);

/// The most memory that a child had, in MiB; `None` where it is gone or the system does not say.
fn peak(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib / 1024)
}

/// Adapts `Caddyfile` of a folder: exit code, standard error, most memory in MiB.
fn adapt(folder: &Path) -> (i32, String, u64) {
    let said = folder.join("said");
    let mut child = caddis(folder)
        .args(["adapt", "--config", "Caddyfile"])
        .stdout(Stdio::null())
        .stderr(fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    let (begin, mut most) = (Instant::now(), 0);
    let code = loop {
        most = most.max(peak(&child).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            break status.code().unwrap_or(-1);
        }
        if begin.elapsed() > SOON {
            child.kill().unwrap();
            panic!("still running after {SOON:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    (code, String::from_utf8_lossy(&fs::read(said).unwrap()).into_owned(), most)
}

/// Fails unless the text is refused with a sentence of the place, in memory of this size at most.
#[track_caller]
fn refused(what: &str, text: &[u8], files: &[(&str, &str)], place: &str, megabytes: u64) {
    let folder = scratch();
    fs::write(folder.join("Caddyfile"), text).unwrap();
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
    let (code, said, most) = adapt(&folder);
    assert_eq!(code, 1, "{what}: {said:.2000}");
    // Where the sentence names no place, as Caddy's does not, the drawing does.
    assert!(said.contains("Error: ") && said.contains(place), "{what}: {said:.2000}");
    assert!(said.len() < 64 << 10, "{what}: {} bytes were said", said.len());
    assert!(most < megabytes, "{what}: {most} MiB");
    assert!(!said.contains("panicked"), "{what}: {said:.2000}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn imports_without_end() {
    let mut bomb = String::new();
    for level in 0..40 {
        let next = format!("\timport s{}\n", level + 1).repeat(10);
        bomb.push_str(&format!("(s{level}) {{\n{next}}}\n"));
    }
    bomb.push_str("(s40) {\n\trespond x\n}\n:8080 {\n\timport s0\n}\n");
    refused("a bomb of snippets", bomb.as_bytes(), &[], "Caddyfile:", 512);
    let files = [("a.conf", "import b.conf\n"), ("b.conf", "import a.conf\n")];
    refused("files in a circle", b":8080 {\n\timport a.conf\n}\n", &files, ".conf:1", 64);
    let own = b"(a) {\n\timport b\n}\n(b) {\n\timport a\n}\n:8080 {\n\timport a\n}\n";
    refused("snippets in a circle", own, &[], "Caddyfile:", 64);
    refused("a file that imports itself", b"import Caddyfile\n", &[], "Caddyfile:1", 64);
}

#[test]
fn braces_without_end() {
    let deep = |levels: usize| {
        let open = "handle {\n".repeat(levels);
        format!(":8080 {{\n{open}respond x\n{}}}\n", "}\n".repeat(levels))
    };
    refused("deep nesting", deep(100_000).as_bytes(), &[], "Caddyfile:", 512);
    refused("braces on lines", "{\n".repeat(10 << 20).as_bytes(), &[], "Caddyfile:", 1024);
    refused("braces in a row", "{".repeat(20 << 20).as_bytes(), &[], "Caddyfile:", 1024);
    refused("braces apart", "{ ".repeat(10 << 20).as_bytes(), &[], "Caddyfile:", 1024);
}

#[test]
fn texts_that_are_none() {
    refused("no UTF-8", b":8080 {\n\trespnd \xff\xfe\n}\n", &[], "Caddyfile:2", 64);
    refused("NUL", b":8080 {\n\tresp\0nd x\n}\n", &[], "Caddyfile:2", 64);
    refused("an open quote", b":8080 {\n\trespond \"x\n}\n", &[], "Caddyfile:", 64);
    refused("an open backtick", b":8080 {\n\trespond `x\n}\n", &[], "Caddyfile:", 64);
    refused("an open heredoc", b":8080 {\n\trespond <<END\n\tx\n}\n", &[], "Caddyfile:", 64);
    refused("a heredoc without name", b":8080 {\n\trespond <<\n}\n", &[], "Caddyfile:", 64);
    let line = format!(":8080 {{\n\trespnd {}\n}}\n", "x".repeat(10 << 20));
    refused("a long word", line.as_bytes(), &[], "Caddyfile:2", 512);
    let line = format!(":8080 {{\n\t{}\n}}\n", "x ".repeat(5 << 20));
    refused("a long line", line.as_bytes(), &[], "Caddyfile:2", 2048);
}

#[test]
fn no_command_reaches_the_terminal() {
    let folder = scratch();
    let text =
        "localhost {\n\tres\u{1b}[31mpond \u{202e}hi\n\trespond \u{9b}1m {\n\t\tno\u{7}\n\t}\n}\n";
    fs::write(folder.join("Caddyfile"), text).unwrap();
    for command in ["check", "adapt", "run"] {
        let args = [command, "--config", "Caddyfile"];
        let output = caddis(&folder).args(args).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains("res?[31mpond"), "{command}: {said}");
        let bad = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!said.contains(bad), "{command}: {said:?}");
    }
}

#[test]
fn the_admin_api_names_every_mistake() {
    let server = Server::start("http://localhost:{port} {\n\trespond one\n}\n");
    let part = server.folder.join("part.conf");
    fs::write(&part, "encode gzpi\n").unwrap();
    let odd = "@odd path_regexp (\n\trespond @odd hi";
    let text = format!(":8080 {{\n\trespnd x\n\timport {}\n\t{odd}\n}}\n", part.display());
    let kind = [("Content-Type", "text/caddyfile")];
    for path in ["/adapt?findings", "/load?findings"] {
        let answer = request(server.admin, "POST", path, &kind, &text).unwrap();
        let body: Json = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer.status, 400, "{body}");
        let sentence =
            "adapting config using caddyfile adapter: Caddyfile:2: unrecognized directive: respnd";
        assert_eq!(body["error"], sentence, "{body}");
        let findings = body["findings"].as_array().unwrap();
        assert_eq!(findings.len(), 3, "{body}");
        assert_eq!(findings[2]["line"], 4, "{body}");
        assert_eq!((&findings[0]["line"], &findings[0]["column"]), (&2.into(), &2.into()));
        assert!(findings[1]["file"].as_str().unwrap().ends_with("part.conf"), "{body}");
        assert_eq!(findings[1]["imports"][0]["line"], 3, "{body}");
    }
}

#[test]
fn numbers_stay_as_they_are() {
    let server = Server::start("http://localhost:{port} {\n\trespond one\n}\n");
    let json = [("Content-Type", "application/json")];
    let path = "/config/apps/tls";
    for number in ["0.9073038322028689", "0.48183792520110524", "0.43295284981322557"] {
        let body = format!(
            "{{\"automation\":{{\"policies\":[{{\"subjects\":[\"a.localhost\"],\"renewal_window_ratio\":{number}}}]}}}}"
        );
        let answer = request(server.admin, "POST", path, &json, &body).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let kept = request(server.admin, "GET", path, &[], "").unwrap().body;
        assert!(kept.contains(&format!("\"renewal_window_ratio\":{number}")), "{kept}");
    }
}
