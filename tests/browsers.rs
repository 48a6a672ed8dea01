//! What others say of our TLS: a browser that trusts the local root, and a program that looks for
//! weaknesses (`apt-get install chromium libnss3-tools testssl.sh`).

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use crate::support::{Server, caddis, eventually, free_port, scratch};

fn serve(folder: std::path::PathBuf, tls: u16, lines: &str) -> Server {
    Server::start_in(
        folder,
        &format!(
            "{{\n\tadmin 127.0.0.1:{{admin}}\n\thttp_port {{port}}\n\thttps_port {tls}\n{lines}}}\n\
             localhost {{\n\ttls internal\n\trespond \"hello to browsers\"\n}}\n"
        ),
    )
}

/// What a browser makes of a page, by a profile of its own.
fn browse(folder: &Path, url: &str) -> String {
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--disable-background-networking", "--timeout=20000"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .args(["--dump-dom", url])
        .env("HOME", folder)
        .output()
        .expect("chromium is installed (apt-get install chromium)");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A browser accepts a site of the local authority after `caddis trust`, and does not after
/// `caddis untrust`; curl needs no `-k`.
#[test]
#[ignore = "needs chromium and certutil"]
fn a_browser_accepts_the_local_authority() {
    let (folder, tls) = (scratch(), free_port());
    let database = folder.join(".pki/nssdb");
    fs::create_dir_all(&database).unwrap();
    let certificates = folder.join("trust/usr/local/share/ca-certificates");
    fs::create_dir_all(&certificates).unwrap();
    let made = Command::new("certutil")
        .args(["-N", "--empty-password", "-d"])
        .arg(format!("sql:{}", database.display()))
        .status()
        .expect("certutil is installed (apt-get install libnss3-tools)");
    assert!(made.success());
    let server = serve(folder, tls, "\tskip_install_trust\n");
    let url = format!("https://localhost:{tls}/");
    let curl = |arguments: &[&str]| {
        Command::new("curl").args(["-sS", &url]).args(arguments).output().unwrap()
    };
    eventually("the site is up", || curl(&["-k"]).status.success());
    assert!(!curl(&[]).status.success(), "nobody trusts it yet");
    let page = browse(&server.folder, &url);
    assert!(!page.contains("hello to browsers"), "{page}");

    let run = |command: &str| -> Output {
        caddis(&server.folder)
            .args([command, "--address", &format!("127.0.0.1:{}", server.admin)])
            .output()
            .unwrap()
    };
    let done = run("trust");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let root = fs::read_dir(&certificates).unwrap().flatten().next().unwrap().path();
    let answer = curl(&["--cacert", root.to_str().unwrap()]);
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "hello to browsers");
    let page = browse(&server.folder, &url);
    assert!(page.contains("hello to browsers"), "{page}");

    let done = run("untrust");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(fs::read_dir(&certificates).unwrap().next().is_none());
    let page = browse(&server.folder, &url);
    assert!(!page.contains("hello to browsers"), "{page}");
}

/// Protocols, ciphers, forward secrecy, defaults and known weaknesses.
#[test]
#[ignore = "needs testssl"]
fn a_tester_finds_no_weakness() {
    let tls = free_port();
    let server = serve(scratch(), tls, "\tskip_install_trust\n");
    let root = server.folder.join("data/caddy/pki/authorities/local/root.crt");
    eventually("the root is there", || root.exists());
    let report = server.folder.join("report.json");
    let output = Command::new("testssl")
        .args(["--quiet", "--color", "0", "--fast", "--warnings", "batch", "--add-ca"])
        .arg(&root)
        .arg("--jsonfile")
        .arg(&report)
        .args(["-p", "-s", "-f", "-P", "-S", "-U"])
        .arg(format!("https://localhost:{tls}/"))
        .output()
        .expect("testssl is installed (apt-get install testssl.sh)");
    let text = String::from_utf8_lossy(&output.stdout);
    let report = fs::read_to_string(&report).unwrap_or_default();
    let report: serde_json::Value = serde_json::from_str(&report).expect(&text);
    let findings = report.as_array().unwrap();
    // Certificates of the local authority live for twelve hours and are not revoked.
    let of_local_ones =
        ["cert_expirationStatus", "cert_notAfter", "cert_revocation", "DNS_CAArecord"];
    let bad: Vec<String> = findings
        .iter()
        .filter(|one| {
            ["LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL"]
                .contains(&one["severity"].as_str().unwrap())
                && !of_local_ones.contains(&one["id"].as_str().unwrap())
        })
        .map(ToString::to_string)
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let finding = |id: &str| {
        let found = findings.iter().find(|one| one["id"] == id);
        found.map(|one| one["finding"].as_str().unwrap().to_owned()).unwrap_or_default()
    };
    assert!(finding("TLS1_3").starts_with("offered"), "{text}");
    assert!(
        finding("TLS1").starts_with("not offered") && finding("TLS1_1").starts_with("not offered")
    );
    assert!(finding("cert_chain_of_trust").starts_with("passed"), "{text}");
}
