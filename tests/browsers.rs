//! What others say of our TLS: a browser that trusts the local root, and a program that looks for
//! weaknesses (`apt-get install chromium libnss3-tools testssl.sh`).

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use crate::support::{Scripted, Server, caddis, eventually, free_port, scratch};

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

/// Makes the database of a browser's authorities in its home.
fn make_database(home: &Path) {
    let database = home.join(".pki/nssdb");
    fs::create_dir_all(&database).unwrap();
    let made = Command::new("certutil")
        .args(["-N", "--empty-password", "-d"])
        .arg(format!("sql:{}", database.display()))
        .status()
        .expect("certutil is installed (apt-get install libnss3-tools)");
    assert!(made.success());
}

/// A browser accepts a site of the local authority after `caddis trust`, and does not after
/// `caddis untrust`; curl needs no `-k`.
#[test]
#[ignore = "needs chromium and certutil"]
fn a_browser_accepts_the_local_authority() {
    let (folder, tls) = (scratch(), free_port());
    make_database(&folder);
    let certificates = folder.join("trust/usr/local/share/ca-certificates");
    fs::create_dir_all(&certificates).unwrap();
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

/// Answers questions of DNS over HTTP (RFC 8484): every name is here, and hides its hello by `ech`.
fn name_server(ech: Vec<u8>) -> Scripted {
    Scripted::start(move |wire| {
        while let Some((_, question)) = wire.request() {
            let Some(answer) = answer(&question, &ech) else { return };
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\n\
                 Content-Length: {}\r\n\r\n",
                answer.len()
            );
            if !wire.send([head.as_bytes(), &answer].concat()) {
                return;
            }
        }
    })
}

/// The answer to one question (RFC 1035 §4.1, RFC 9460 §2.2).
fn answer(question: &[u8], ech: &[u8]) -> Option<Vec<u8>> {
    const A: u16 = 1;
    const HTTPS: u16 = 65;
    let (header, rest) = question.split_at_checked(12)?;
    let name = rest.iter().position(|byte| *byte == 0)? + 1;
    let asked = rest.get(..name + 4)?;
    let kind = u16::from_be_bytes([asked[name], asked[name + 1]]);
    let data = match kind {
        A => vec![127, 0, 0, 1],
        HTTPS => {
            // Priority, the host, and the parameter `ech`. For ports of their own, the host is asked
            // for as `_8443._https.host`.
            let mut host = &asked[..name];
            while let [length, b'_', ..] = host {
                host = &host[1 + usize::from(*length)..];
            }
            let length = u16::try_from(ech.len()).ok()?.to_be_bytes();
            [&[0, 1], host, &[0, 5], &length, ech].concat()
        }
        _ => Vec::new(),
    };
    let answers = u8::from(!data.is_empty());
    let mut message = [&header[..2], &[0x81, 0x80, 0, 1, 0, answers, 0, 0, 0, 0], asked].concat();
    if answers == 1 {
        message.extend([0xc0, 12]);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 60]);
        message.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        message.extend(data);
    }
    Some(message)
}

/// A browser that reads HTTPS records hides the name that it asks for.
#[test]
#[ignore = "needs chromium and certutil"]
fn a_browser_hides_the_name() {
    let (folder, tls) = (scratch(), free_port());
    make_database(&folder);
    let text = |resolver: &str| {
        format!(
            "{{\n\tadmin 127.0.0.1:{{admin}}\n\thttp_port {{port}}\n\thttps_port {tls}\n\
             \tskip_install_trust\n\tlocal_certs\n\tech public.example.test\n}}\n\
             secret.example.test {{\n\trespond \"hidden: {{http.request.tls.ech}} \
             {{http.request.tls.server_name}}\"\n}}\nlocalhost {{\n{resolver}}}\n"
        )
    };
    let server = Server::start_in(folder, &text(""));
    let data = server.folder.join("data/caddy");
    eventually("certificates are there", || {
        ["secret", "public"].iter().all(|name| {
            data.join(format!("certificates/local/{name}.example.test/{name}.example.test.crt"))
                .exists()
        })
    });
    let config = fs::read_dir(data.join("ech/configs")).unwrap().flatten().next().unwrap();
    let config = fs::read(config.path().join("config.bin")).unwrap();
    let list = [&u16::try_from(config.len()).unwrap().to_be_bytes()[..], &config].concat();
    let resolver = name_server(list);
    let (ok, said) = server.reload(&text(&format!("\treverse_proxy {}\n", resolver.address())));
    assert!(ok, "{said}");
    let trusted = Command::new("certutil")
        .args(["-A", "-n", "local", "-t", "C,,", "-i"])
        .arg(data.join("pki/authorities/local/root.crt"))
        .arg("-d")
        .arg(format!("sql:{}", server.folder.join(".pki/nssdb").display()))
        .status()
        .unwrap();
    assert!(trusted.success());
    let profile = server.folder.join("profile");
    fs::create_dir_all(&profile).unwrap();
    let state = serde_json::json!({ "dns_over_https": {
        "mode": "secure", "templates": format!("https://localhost:{tls}/dns-query"),
    }});
    fs::write(profile.join("Local State"), state.to_string()).unwrap();
    let page = browse(&server.folder, &format!("https://secret.example.test:{tls}/"));
    assert!(page.contains("hidden: true secret.example.test"), "{page}");
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
