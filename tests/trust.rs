//! Whom to believe: forwarding headers, fields about the connection, paths and file names.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt};

use crate::support::{
    Scripted, Server, Upstream, Wire, eventually, free_port, get, request, scratch, send_raw,
    site_with,
};

/// The value of a field in a recorded head; several are joined by ` | `.
fn field(head: &str, name: &str) -> String {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let values = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
    values.map(|(_, value)| value.trim()).collect::<Vec<_>>().join(" | ")
}

/// Sends a request with header lines from an address and returns what the upstream saw of it.
fn forwarded(server: &Server, up: &Upstream, source: &str, lines: &str) -> String {
    let mut wire = Wire::connect_from(source, server.port);
    wire.send(format!("GET / HTTP/1.1\r\nHost: site.test\r\n{lines}\r\n"));
    assert_eq!(wire.answer().status, 200, "{lines:?}");
    up.heads().pop().unwrap()
}

fn behind(options: &str, block: &str, up: &Upstream) -> Server {
    let site = site_with(&format!(
        "\treverse_proxy {} {{\n{block}\n\t\theader_up X-Client {{client_ip}}\n\t}}\n",
        up.address()
    ));
    Server::start(&format!("{{\n\tadmin off\n\tservers {{\n{options}\n\t}}\n}}\n{site}"))
}

const CLAIMS: &str = "X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 7.7.7.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\n";

#[test]
fn strangers_are_not_believed() {
    let up = Upstream::start("up");
    let server = behind("", "", &up);
    let head = forwarded(&server, &up, "127.0.0.1", CLAIMS);
    for (name, value) in [
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "site.test"),
        ("X-Client", "127.0.0.1"),
        ("Host", "site.test"),
        ("Forwarded", ""),
        ("X-Real-IP", ""),
    ] {
        assert_eq!(field(&head, name), value, "{name} in {head}");
    }
    assert!(!head.contains("6.6.6.6") && !head.contains("evil.test"), "{head}");
}

#[test]
fn trusted_proxies_are_believed() {
    let up = Upstream::start("up");
    let server = behind("\t\ttrusted_proxies static 127.0.0.2/32", "", &up);
    let head = forwarded(&server, &up, "127.0.0.2", CLAIMS);
    let chain = field(&head, "X-Forwarded-For").replace(" | ", ", ");
    assert_eq!(chain, "6.6.6.6, 7.7.7.7, 127.0.0.2");
    assert_eq!(field(&head, "X-Forwarded-Proto"), "https");
    assert_eq!(field(&head, "X-Forwarded-Host"), "evil.test");
    assert_eq!(field(&head, "X-Client"), "6.6.6.6");
    // The same server, another peer.
    let head = forwarded(&server, &up, "127.0.0.3", CLAIMS);
    assert_eq!(field(&head, "X-Forwarded-For"), "127.0.0.3");
    assert_eq!(field(&head, "X-Client"), "127.0.0.3");
    // What is no address names no one.
    let head = forwarded(&server, &up, "127.0.0.2", "X-Forwarded-For: nonsense\r\n");
    assert_eq!(field(&head, "X-Client"), "127.0.0.2", "{head}");
}

#[test]
fn a_proxy_may_trust_for_itself() {
    let up = Upstream::start("up");
    let server = behind("", "\t\ttrusted_proxies 127.0.0.2", &up);
    let head = forwarded(
        &server,
        &up,
        "127.0.0.2",
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n",
    );
    assert_eq!(field(&head, "X-Forwarded-For"), "6.6.6.6, 127.0.0.2");
    assert_eq!(field(&head, "X-Forwarded-Proto"), "https");
    // It says nothing about the client address of the server.
    assert_eq!(field(&head, "X-Client"), "127.0.0.2");
    let head = forwarded(&server, &up, "127.0.0.3", "X-Forwarded-For: 6.6.6.6\r\n");
    assert_eq!(field(&head, "X-Forwarded-For"), "127.0.0.3");
}

#[test]
fn strict_trust_reads_from_the_right() {
    let up = Upstream::start("up");
    let options = "\t\ttrusted_proxies static 127.0.0.2 10.0.0.0/8\n";
    let lines = "X-Forwarded-For: 6.6.6.6, 8.8.8.8, 10.1.1.1\r\n";
    let server = behind(options, "", &up);
    assert_eq!(field(&forwarded(&server, &up, "127.0.0.2", lines), "X-Client"), "6.6.6.6");
    let server = behind(&format!("{options}\t\ttrusted_proxies_strict"), "", &up);
    assert_eq!(field(&forwarded(&server, &up, "127.0.0.2", lines), "X-Client"), "8.8.8.8");
}

#[test]
fn other_headers_can_name_the_client() {
    let up = Upstream::start("up");
    let server = behind(
        "\t\ttrusted_proxies static 127.0.0.2\n\t\tclient_ip_headers CF-Connecting-IP X-Forwarded-For",
        "",
        &up,
    );
    for (lines, client) in [
        ("CF-Connecting-IP: 9.9.9.9\r\nX-Forwarded-For: 6.6.6.6\r\n", "9.9.9.9"),
        ("X-Forwarded-For: 6.6.6.6\r\n", "6.6.6.6"),
        ("X-Real-IP: 5.5.5.5\r\n", "127.0.0.2"),
        ("CF-Connecting-IP: [2001:db8::1]:443\r\n", "2001:db8::1"),
    ] {
        let head = forwarded(&server, &up, "127.0.0.2", lines);
        assert_eq!(field(&head, "X-Client"), client, "{lines:?}");
        let head = forwarded(&server, &up, "127.0.0.3", lines);
        assert_eq!(field(&head, "X-Client"), "127.0.0.3", "{lines:?}");
    }
}

#[test]
fn matchers_go_by_the_peer_or_the_believed_client() {
    let server = Server::start(&format!(
        "{{\n\tadmin off\n\tservers {{\n\t\ttrusted_proxies static 127.0.0.2\n\t}}\n}}\n{}",
        site_with(
            "\t@remote remote_ip 6.6.6.6\n\t@client client_ip 6.6.6.6\n\trespond @remote remote\n\trespond @client client\n\trespond none\n"
        )
    ));
    for (source, body) in [("127.0.0.2", "client"), ("127.0.0.3", "none")] {
        let mut wire = Wire::connect_from(source, server.port);
        wire.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n");
        assert_eq!(wire.answer().body, body, "{source}");
    }
}

#[test]
fn fields_of_one_connection_stay_on_it() {
    let up = Upstream::start("up");
    let server = behind("", "", &up);
    let head = forwarded(
        &server,
        &up,
        "127.0.0.1",
        "Connection: keep-alive, X-Mine,X-Yours\r\nX-Mine: 1\r\nx-yours: 2\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\nTE: gzip\r\nTrailer: X-Sum\r\nUpgrade: none\r\nX-Stays: 3\r\n",
    );
    for name in [
        "X-Mine",
        "X-Yours",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authorization",
        "TE",
        "Upgrade",
    ] {
        assert_eq!(field(&head, name), "", "{name} in {head}");
    }
    assert_eq!(field(&head, "X-Stays"), "3");
    // No field that the proxy itself answers for can be taken off this way.
    let names = "X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, Host, Via";
    let head = forwarded(&server, &up, "127.0.0.1", &format!("Connection: {names}\r\n{CLAIMS}"));
    for (name, value) in [
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "site.test"),
        ("Host", "site.test"),
        ("Via", "1.1 caddis"),
    ] {
        assert_eq!(field(&head, name), value, "{name} in {head}");
    }
    // A body keeps its framing.
    let headers = [("Connection", "Content-Length, close")];
    assert_eq!(request(server.port, "POST", "/", &headers, "body").unwrap().body, "up");
    let head = up.heads().pop().unwrap();
    assert!(field(&head, "Content-Length") == "4", "{head}");
}

#[test]
fn an_upgrade_cannot_smuggle() {
    // The upstream does not switch: what follows the request is the next request, and is judged.
    let upstream = Scripted::fixed(crate::support::ok("plain"));
    let server = Server::start(&site_with(&format!(
        "\trespond /admin* 403\n\treverse_proxy {}\n",
        upstream.address()
    )));
    for upgrade in ["websocket", "h2c", "HTTP/2.0"] {
        let raw = format!(
            "GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        );
        let answer =
            String::from_utf8_lossy(&send_raw(server.port, raw.as_bytes()).unwrap()).into_owned();
        let statuses: Vec<_> = answer.split("HTTP/1.1 ").skip(1).map(|rest| &rest[..3]).collect();
        assert!(statuses.last() == Some(&"403") || statuses.len() == 1, "{upgrade}: {answer}");
        assert!(!statuses.contains(&"101"), "{answer}");
    }
    let raw = "CONNECT evil.test:80 HTTP/1.1\r\nHost: evil.test:80\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer =
        String::from_utf8_lossy(&send_raw(server.port, raw.as_bytes()).unwrap()).into_owned();
    assert!(answer.contains(" 403 ") || answer.matches("HTTP/1.1").count() <= 1, "{answer}");
}

#[test]
fn the_proxy_protocol_is_believed_only_where_allowed() {
    let server = Server::start(&format!(
        "{{\n\tadmin off\n\tservers {{\n\t\tlistener_wrappers {{\n\t\t\tproxy_protocol {{\n\t\t\t\tallow 127.0.0.2/32\n\t\t\t\tfallback_policy reject\n\t\t\t}}\n\t\t}}\n\t}}\n}}\n{}",
        site_with("\trespond {remote_host}\n")
    ));
    let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut wire = Wire::connect_from("127.0.0.2", server.port);
    wire.send(format!("PROXY TCP4 6.6.6.6 1.2.3.4 1000 80\r\n{request}"));
    assert_eq!(wire.answer().body, "6.6.6.6");
    let mut wire = Wire::connect_from("127.0.0.3", server.port);
    wire.send(format!("PROXY TCP4 6.6.6.6 1.2.3.4 1000 80\r\n{request}"));
    assert_ne!(wire.answer().status, 200, "a stranger was believed");
}

fn files() -> Server {
    let folder = scratch();
    let root = folder.join("site");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::create_dir_all(root.join("private")).unwrap();
    fs::create_dir_all(root.join(".git")).unwrap();
    for (name, text) in [
        ("sub/a.txt", "a"),
        ("private/secret.txt", "secret"),
        (".git/config", "secret"),
        ("hidden.conf", "secret"),
        ("with space.txt", "space"),
        ("../outside.txt", "secret"),
    ] {
        fs::write(root.join(name), text).unwrap();
    }
    fs::create_dir_all(folder.join("site-sibling")).unwrap();
    fs::write(folder.join("site-sibling/s.txt"), "secret").unwrap();
    Server::start_in(
        folder,
        &site_with(
            "\trespond /private/* 403\n\troot site\n\tfile_server {\n\t\thide .git hidden.conf\n\t}\n",
        ),
    )
}

#[test]
fn no_spelling_reaches_what_is_closed() {
    let server = files();
    assert_eq!(get(server.port, "/sub/a.txt").body, "a");
    assert_eq!(get(server.port, "/with%20space.txt").body, "space");
    for target in [
        // Outside the root.
        "/../outside.txt",
        "/sub/../../outside.txt",
        "/%2e%2e/outside.txt",
        "/%2e%2e%2foutside.txt",
        "/..%2foutside.txt",
        "/sub/..%2f..%2foutside.txt",
        "/.%2e/outside.txt",
        "/%252e%252e%252foutside.txt",
        "/..%5coutside.txt",
        "/..\\outside.txt",
        "/%c0%ae%c0%ae/outside.txt",
        "/..;/outside.txt",
        "/....//outside.txt",
        "/..%00/outside.txt",
        "/../site-sibling/s.txt",
        "/%2e%2e%2fsite-sibling/s.txt",
        "/./../outside.txt",
        "//../outside.txt",
        "/.../outside.txt",
        "/%ef%bc%8e%ef%bc%8e/outside.txt",
        "//etc/passwd",
        "/%2fetc/passwd",
        // What a route closes.
        "/private/secret.txt",
        "/private//secret.txt",
        "//private/secret.txt",
        "/./private/secret.txt",
        "/sub/../private/secret.txt",
        "/sub/..%2fprivate/secret.txt",
        "/%70rivate/secret.txt",
        "/private%2fsecret.txt",
        "/.//private/./secret.txt",
        "/%2e/private/secret.txt",
        "/private/%73ecret.txt",
        "/%2fprivate/secret.txt",
        "/private/secret.txt%00.html",
        "/private/secret.txt/",
        "/PRIVATE/../private/secret.txt",
        // What is hidden.
        "/.git/config",
        "/.git%2fconfig",
        "/%2egit/config",
        "/sub/../.git/config",
        "//.git/config",
        "/hidden.conf",
        "/hidden%2econf",
        "/hidden.conf/",
        "/hidden.conf%00",
        "/.git//config",
        "/.git",
        "/.git/",
        "/sub/a.txt%00",
        "/%00",
    ] {
        let answer = get(server.port, target);
        assert!(
            !answer.body.contains("secret") && !answer.body.contains("root:"),
            "{target}: {answer:?}"
        );
        assert!(matches!(answer.status, 301..=499), "{target}: {answer:?}");
        if let Some(location) = answer.header("location") {
            assert!(!location.starts_with("//"), "{target} leads away to {location}");
        }
    }
    // A folder's redirect never leads to another host.
    let away = get(server.port, "//evil.test/..%2fsub");
    assert!(away.header("location").is_none_or(|to| !to.starts_with("//")), "{away:?}");
}

#[test]
fn odd_files_do_no_harm() {
    let server = files();
    let root = server.folder.join("site");
    fs::write(root.join(OsStr::from_bytes(b"odd-\xff.txt")), "odd").unwrap();
    fs::write(root.join("odd-\u{e9}.txt"), "accent").unwrap();
    fs::write(root.join("<b>&\".txt"), "sharp").unwrap();
    fs::write(root.join("percent%20.txt"), "percent").unwrap();
    fs::write(root.join("back\\slash.txt"), "slash").unwrap();
    std::os::unix::fs::symlink(root.join("sub/a.txt"), root.join("inside")).unwrap();
    std::os::unix::fs::symlink(server.folder.join("outside.txt"), root.join("outside")).unwrap();
    std::os::unix::fs::symlink(root.join("loop"), root.join("loop")).unwrap();
    std::os::unix::fs::symlink("nowhere", root.join("dangling")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(root.join("fifo")).status();
    assert!(fifo.unwrap().success());
    for (target, body) in [
        ("/%3Cb%3E&%22.txt", "sharp"),
        ("/odd-%c3%a9.txt", "accent"),
        ("/percent%2520.txt", "percent"),
        // Links are followed, wherever they lead.
        ("/inside", "a"),
        ("/outside", "secret"),
    ] {
        assert_eq!(get(server.port, target).body, body, "{target}");
    }
    for target in ["/loop", "/dangling", "/fifo", "/loop/x", "/odd-%fe.txt"] {
        assert!(get(server.port, target).status >= 400, "{target}");
    }
    let long = format!("/{}", "x".repeat(5000));
    assert!(matches!(get(server.port, &long).status, 404 | 414));
    assert_eq!(request(server.port, "POST", "/sub/a.txt", &[], "x").unwrap().status, 405);
    assert_eq!(get(server.port, "/sub/a.txt").body, "a");
}

#[test]
fn a_proxy_shows_the_certificate_that_is_managed_for_a_name() {
    let tls = free_port();
    let proxy = |port: &str, auth: &str| {
        format!(
            "http://localhost:{port} {{\n\treverse_proxy https://localhost:{tls} {{\n\
             \t\ttransport http {{\n\t\t\ttls_trust_pool pki_root local\n{auth}\n\t\t}}\n\t}}\n}}\n"
        )
    };
    let without = free_port();
    let server = Server::start(&format!(
        "{{\n\tadmin off\n\tskip_install_trust\n\thttps_port {tls}\n}}\nlocalhost:{tls} {{\n\
         \ttls {{\n\t\tclient_auth {{\n\t\t\tmode require_and_verify\n\
         \t\t\ttrust_pool pki_root {{\n\t\t\t\tauthority local\n\t\t\t}}\n\t\t}}\n\t}}\n\
         \trespond {{http.request.tls.client.san.dns_names.0}}\n}}\n{}{}",
        proxy("{port}", "\t\t\ttls_client_auth client.internal"),
        proxy(&without.to_string(), ""),
    ));
    eventually("it is shown", || get(server.port, "/").body == "client.internal");
    assert_eq!(get(without, "/").status, 502);
}
