//! `caddis certs check` against a scripted name server.

use std::{net::UdpSocket, process::Output};

use crate::support::{caddis, free_port, scratch};

/// Answers by name and type; everything else has no records.
fn name_server(records: &'static [(&'static str, u16, &'static [u8])]) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((read, from)) = socket.recv_from(&mut buffer) {
            let asked = &buffer[..read];
            let (mut at, mut name) = (12, String::new());
            while asked[at] != 0 {
                let length = usize::from(asked[at]);
                name.push_str(std::str::from_utf8(&asked[at + 1..=at + length]).unwrap());
                name.push('.');
                at += length + 1;
            }
            let kind = u16::from_be_bytes([asked[at + 1], asked[at + 2]]);
            let found = records.iter().find(|one| format!("{}.", one.0) == name && one.1 == kind);
            let mut out = asked[..2].to_vec();
            out.extend([0x81, 0x80, 0, 1, 0, u8::from(found.is_some()), 0, 0, 0, 0]);
            out.extend(&asked[12..at + 5]);
            if let Some((_, _, data)) = found {
                out.extend([0xc0, 12]);
                out.extend(kind.to_be_bytes());
                out.extend([0, 1, 0, 0, 0, 9, 0, data.len() as u8]);
                out.extend(*data);
            }
            let _ = socket.send_to(&out, from);
        }
    });
    port
}

const HERE: &[u8] = &[127, 0, 0, 1];

fn check(sites: &str, ports: (u16, u16), resolver: u16, arguments: &[&str]) -> Output {
    check_with("", sites, ports, resolver, arguments)
}

fn check_with(
    option: &str,
    sites: &str,
    ports: (u16, u16),
    resolver: u16,
    arguments: &[&str],
) -> Output {
    let folder = scratch();
    let (http, https) = ports;
    let text = format!(
        "{{\n\tadmin 127.0.0.1:{}\n\thttp_port {http}\n\thttps_port {https}\n\tdefault_bind 127.0.0.1\n{option}}}\n{sites}",
        free_port()
    );
    std::fs::write(folder.join("Caddyfile"), text).unwrap();
    let output = caddis(&folder)
        .args(["certs", "check", "--config", "Caddyfile", "--resolver"])
        .arg(format!("127.0.0.1:{resolver}"))
        .args(arguments)
        .output()
        .unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    output
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn all_is_well() {
    let resolver = name_server(&[
        ("a.example.com", 1, HERE),
        ("example.com", 257, b"\x00\x05issueletsencrypt.org"),
    ]);
    let sites = "a.example.com {\n\trespond hi\n}\nlocalhost {\n\trespond hi\n}\n";
    let ports = (free_port(), free_port());
    let output = check(sites, ports, resolver, &[]);
    let told = text(&output);
    assert!(output.status.success(), "{told}");
    for line in [
        "✓ a.example.com",
        "p256 key from https://acme-v02.api.letsencrypt.org/directory, by http-01 or tls-alpn-01",
        "✓ dns: points here (127.0.0.1)",
        "✓ caa: records at example.com allow letsencrypt.org",
        "is free",
        "? storage: file_system:",
        "p256 key from local authority local",
    ] {
        assert!(told.contains(line), "{line:?} is not in {told}");
    }
}

#[test]
fn what_is_wrong_is_told() {
    let resolver = name_server(&[
        ("a.example.com", 1, HERE),
        ("a.example.com", 257, b"\x00\x05issueother.test"),
        ("example.com", 257, b"\x00\x05issueletsencrypt.org"),
    ]);
    let sites = "a.example.com, b.example.com, *.example.net {\n\trespond hi\n}\n";
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = (taken.local_addr().unwrap().port(), free_port());
    let names = ["a.example.com", "b.example.com", "x.example.net", "c.example.org", "--json"];
    let output = check(sites, ports, resolver, &names);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let reports: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let failed = |at: usize| -> Vec<String> {
        let checks = reports[at]["checks"].as_array().unwrap().iter();
        let failed = checks.filter(|point| point["status"] == "fail");
        failed.map(|point| format!("{}: {}", point["check"], point["detail"])).collect()
    };
    for (at, texts) in [
        (0, &["only others may issue", "in use by another program"][..]),
        (1, &["no A or AAAA record", "in use by another program"]),
        (2, &["a wildcard needs a DNS provider"]),
        (3, &["no site of the config"]),
    ] {
        let failed = failed(at).join("\n");
        for text in texts {
            assert!(failed.contains(text), "{at}: {text:?} is not in {failed}");
        }
        assert_eq!(reports[at]["ok"], false);
    }
}

#[test]
fn a_storage_that_does_not_work_is_told() {
    let resolver = name_server(&[]);
    let sites = "localhost {\n\ttls internal\n}\n";
    let folder = scratch();
    let good = format!("\tstorage file_system {}\n", folder.display());
    // Nobody may make a file there, not even root.
    for (option, code, line) in [
        (good.as_str(), 0, "✓ storage: file_system:"),
        ("\tstorage file_system /proc\n", 1, "✗ storage: file_system:/proc does not work: "),
    ] {
        let ports = (free_port(), free_port());
        let output = check_with(option, sites, ports, resolver, &[]);
        let told = text(&output);
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(line), "{told}");
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing is left there");
}
