//! Events: what handlers hear of, and what they stop.

use std::{path::Path, time::Duration};

use crate::{
    acme::shown,
    support::{Scripted, Server, eventually, free_port, get, ok, quic::Quic, scratch},
};

/// What programs wrote.
fn heard(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("heard")).unwrap_or_default()
}

/// Global options with these lines in `events`, a site on `tls`, and more sites.
fn text(tls: u16, events: &str, sites: &str) -> String {
    format!(
        "{{\n\tadmin 127.0.0.1:{{admin}}\n\thttp_port {{port}}\n\thttps_port {tls}\n\
         \tskip_install_trust\n\tevents {{\n{events}\t}}\n}}\n{sites}"
    )
}

#[test]
fn handlers_may_stop_handshakes() {
    let folder = scratch();
    let script = "case \"$*\" in *ServerName:bad.localhost*) exit 3 ;; esac\necho \"$1\" >>heard\n";
    std::fs::write(folder.join("gate.sh"), script).unwrap();
    let tls = free_port();
    let events = "\t\ton tls_get_certificate exec sh gate.sh {event.name} {event.data.client_hello} {\n\
                  \t\t\tforeground\n\t\t\tabort_codes 3\n\t\t}\n";
    let sites = "good.localhost, bad.localhost {\n\ttls internal\n\trespond hi\n}\n";
    let server = Server::start_in(folder, &text(tls, events, sites));
    eventually("the good one is served", || shown(tls, "good.localhost").is_some());
    assert!(shown(tls, "bad.localhost").is_none());
    assert!(heard(&server.folder).starts_with("tls_get_certificate\n"));
    eventually("it is told", || server.log().contains("TLS handshake aborted by event handler"));
    // Over QUIC, too.
    let root = server.folder.join("data/caddy/pki/authorities/local/root.crt");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let limit = Duration::from_secs(20);
        let good = tokio::time::timeout(limit, Quic::connect(tls, "good.localhost", &root));
        good.await.expect("in time").expect("a connection");
        let bad = tokio::time::timeout(limit, Quic::connect(tls, "bad.localhost", &root));
        let error = bad.await.expect("in time").err().expect("it is refused");
        assert!(error.contains("abort"), "{error}");
    });
    // Without the handler all is well again.
    let (done, said) = server.reload(&text(tls, "", sites));
    assert!(done, "{said}");
    eventually("it is served", || shown(tls, "bad.localhost").is_some());
}

#[test]
fn handlers_may_stop_certificates() {
    let folder = scratch();
    let script = "[ \"$1\" = bad.localhost ] && exit 7\nexit 0\n";
    std::fs::write(folder.join("gate.sh"), script).unwrap();
    std::fs::write(folder.join("note.sh"), "echo \"$*\" >>heard\n").unwrap();
    let tls = free_port();
    let events = "\t\ton cert_obtaining exec sh gate.sh {event.data.identifier} {\n\
                  \t\t\tforeground\n\t\t\tabort_codes 7\n\t\t}\n\
                  \t\ton cert_obtained exec sh note.sh {event.data.identifier} {event.data.renewal} {event.data.storage_path} {event.data.csr_pem}\n";
    let sites = "good.localhost, bad.localhost {\n\ttls internal\n\trespond hi\n}\n";
    let server = Server::start_in(folder, &text(tls, events, sites));
    eventually("the good one is served", || shown(tls, "good.localhost").is_some());
    assert!(shown(tls, "bad.localhost").is_none());
    let start =
        "good.localhost false certificates/local/good.localhost -----BEGIN CERTIFICATE REQUEST";
    eventually("it is told", || heard(&server.folder).contains(start));
    let report = get(server.admin, "/tls/certificates").body;
    let want = "obtaining certificate aborted by event handler: event aborted: sh: exit status: 7";
    assert!(report.contains(want), "{report}");
}

#[test]
fn starts_stops_and_upstreams() {
    let folder = scratch();
    std::fs::write(folder.join("note.sh"), "echo \"$*\" >>heard\n").unwrap();
    let note = "exec sh note.sh {event.name} {event.module} {event.data}";
    let events = |more: &str| {
        format!(
            "\t\ton started {note}\n\t\ton stopping {note} {more} {{\n\t\t\tforeground\n\t\t}}\n\t\ton unhealthy {note}\n\t\ton healthy {note}\n"
        )
    };
    let upstream = Scripted::fixed(ok("up"));
    let address = upstream.address();
    let sites = format!(
        ":{{port}} {{\n\treverse_proxy {address} {{\n\t\thealth_uri /\n\t\thealth_interval 50ms\n\t}}\n}}\n"
    );
    let tls = free_port();
    let mut server = Server::start_in(folder, &text(tls, &events("first"), &sites));
    eventually("it is told", || heard(&server.folder).contains("started  map[]\n"));
    assert!(!heard(&server.folder).contains("stopping"));
    drop(upstream);
    let want = format!("unhealthy http.handlers.reverse_proxy map[host:{address}]\n");
    eventually("the upstream is told", || heard(&server.folder).contains(&want));
    // Those of the config that ends hear that it does.
    let (done, said) = server.reload(&text(tls, &events("second"), &sites));
    assert!(done, "{said}");
    eventually("it is told", || heard(&server.folder).contains("stopping  map[] first\n"));
    let starts = || heard(&server.folder).matches("started").count();
    eventually("another start is told", || starts() == 2);
    server.signal("TERM");
    eventually("it ends", || matches!(server.child.try_wait(), Ok(Some(_))));
    assert!(
        heard(&server.folder).ends_with("stopping  map[] second\n"),
        "{}",
        heard(&server.folder)
    );
}
