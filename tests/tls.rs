//! HTTPS by the internal authority.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

use crate::support::{
    Answer, Scripted, Server, eventually, free_port, get, quic::Quic, request, scratch,
};

/// A GET over TLS that trusts one root.
fn https(port: u16, name: &str, root: &Path) -> Result<Answer, String> {
    connect(port, name, trusting(root)?)
}

/// A client that trusts one root.
fn trusting(root: &Path) -> Result<Arc<ClientConfig>, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(root).map_err(|error| text(&error))?;
    roots.add(root).map_err(|error| text(&error))?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| text(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn connect(port: u16, name: &str, config: Arc<ClientConfig>) -> Result<Answer, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let server = ServerName::try_from(name.to_owned()).map_err(|error| text(&error))?;
    let client = ClientConnection::new(config, server).map_err(|error| text(&error))?;
    let socket = TcpStream::connect(("127.0.0.1", port)).map_err(|error| text(&error))?;
    socket.set_read_timeout(Some(Duration::from_secs(10))).map_err(|error| text(&error))?;
    let mut stream = StreamOwned::new(client, socket);
    write!(stream, "GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n")
        .map_err(|error| text(&error))?;
    let mut answer = Vec::new();
    // A close without notify still leaves the whole answer.
    let read = stream.read_to_end(&mut answer);
    if answer.is_empty() {
        read.map_err(|error| text(&error))?;
    }
    Ok(Answer::parse(&answer))
}

#[test]
fn internal_certificates_and_redirects() {
    let tls = free_port();
    let server = Server::start(&format!(
        "{{\n\tadmin off\n\thttp_port {{port}}\n\thttps_port {tls}\n\tskip_install_trust\n}}\nlocalhost, other.localhost {{\n\trespond {{http.request.tls.server_name}}\n}}\n"
    ));
    let root = server.folder.join("data/caddy/pki/authorities/local/root.crt");
    eventually("the site is up", || https(tls, "localhost", &root).is_ok());
    for name in ["localhost", "other.localhost"] {
        assert_eq!(https(tls, name, &root).unwrap().body, name);
    }
    // A name that no site has gets no certificate.
    assert!(https(tls, "stranger.test", &root).is_err());
    let redirect = get(server.port, "/path?x=1");
    assert_eq!(redirect.status, 308);
    assert_eq!(redirect.header("location"), Some("https://localhost/path?x=1"));
}

#[test]
fn a_restart_keeps_the_authority_and_plain_http_is_told() {
    let tls = free_port();
    let text = format!(
        "{{\n\tadmin off\n\thttp_port {{port}}\n\thttps_port {tls}\n\tskip_install_trust\n}}\nlocalhost {{\n\trespond secret\n}}\n"
    );
    let server = Server::start(&text);
    let folder = server.folder.clone();
    let root = folder.join("data/caddy/pki/authorities/local/root.crt");
    eventually("the site is up", || https(tls, "localhost", &root).is_ok());
    let before = std::fs::read(&root).unwrap();
    let told = get(tls, "/");
    assert_eq!(told.status, 400);
    assert!(told.body.contains("HTTP request to an HTTPS server"), "{told:?}");
    server.signal("TERM");
    let mut server = server;
    eventually("it ends", || matches!(server.child.try_wait(), Ok(Some(_))));
    let again = Server::start_in(folder, &text);
    eventually("the site is up again", || https(tls, "localhost", &root).is_ok());
    assert_eq!(std::fs::read(&root).unwrap(), before);
    drop(again);
    // The first server's folder is gone with the second one.
    std::mem::forget(server);
}

#[test]
fn certificates_from_a_source_outside() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    let bundle = format!("{}{}", certificate.pem(), key.serialize_pem());
    let source = Scripted::start(move |wire| {
        while let Some((head, _)) = wire.request() {
            let known = head.contains("server_name=a.test");
            let (status, body) = match (known, head.contains("server_name=c.test")) {
                (true, _) => ("200 OK", bundle.as_str()),
                (false, true) => ("204 No Content", ""),
                (false, false) => ("503 Down", ""),
            };
            let length = body.len();
            wire.send(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}"));
        }
    });
    let (tls, url) = (free_port(), format!("http://127.0.0.1:{}/x", source.port));
    let server = Server::start(&format!(
        "{{\n\tadmin off\n\thttp_port {{port}}\n\thttps_port {tls}\n\tskip_install_trust\n}}\n\
         a.test, b.test {{\n\ttls {{\n\t\tget_certificate http {url}\n\t}}\n\trespond {{host}}\n}}\n\
         c.test {{\n\ttls {{\n\t\tget_certificate http {url}\n\t\tissuer internal\n\t}}\n\trespond {{host}}\n}}\n"
    ));
    let root = server.folder.join("given.crt");
    std::fs::write(&root, certificate.pem()).unwrap();
    eventually("the TLS port is open", || TcpStream::connect(("127.0.0.1", tls)).is_ok());
    assert_eq!(https(tls, "a.test", &root).unwrap().body, "a.test");
    assert_eq!(https(tls, "a.test", &root).unwrap().body, "a.test", "each handshake asks");
    // No permission, so nobody else is asked; the local authority needs none.
    assert!(https(tls, "b.test", &root).is_err());
    eventually("it is told", || server.log().contains("got HTTP 503"));
    let local = server.folder.join("data/caddy/pki/authorities/local/root.crt");
    // Its root comes to be with the first handshake.
    assert!(https(tls, "c.test", &root).is_err());
    assert_eq!(https(tls, "c.test", &local).unwrap().body, "c.test");
}

/// Over QUIC, too, and for clients that send no name.
#[test]
fn a_source_outside_is_asked_for_all_kinds_of_clients() {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["a.test".to_owned(), "127.0.0.1".to_owned()];
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let bundle = format!("{}{}", certificate.pem(), key.serialize_pem());
    let source = Scripted::start(move |wire| {
        while let Some((head, _)) = wire.request() {
            let known =
                ["server_name=a.test&", "server_name=&"].iter().any(|one| head.contains(one));
            let (status, body) = if known { ("200 OK", bundle.as_str()) } else { ("503 Down", "") };
            let length = body.len();
            wire.send(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}"));
        }
    });
    let (tls, url) = (free_port(), format!("http://127.0.0.1:{}/x", source.port));
    let server = Server::start(&format!(
        "{{\n\tadmin off\n\thttp_port {{port}}\n\thttps_port {tls}\n\tskip_install_trust\n}}\n\
         https:// {{\n\ttls {{\n\t\tget_certificate http {url}\n\t}}\n\trespond hello\n}}\n"
    ));
    let root = server.folder.join("given.crt");
    std::fs::write(&root, certificate.pem()).unwrap();
    assert_eq!(https(tls, "a.test", &root).unwrap().body, "hello");
    assert_eq!(https(tls, "127.0.0.1", &root).unwrap().body, "hello", "without a name");
    let error = https(tls, "b.test", &root).unwrap_err();
    assert!(error.contains("InternalError"), "{error}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for name in ["a.test", "127.0.0.1"] {
            let mut client = Quic::connect(tls, name, &root).await.unwrap();
            let got = client.get("https://a.test/").await.unwrap();
            assert_eq!((got.status, got.text().as_str()), (200, "hello"), "{name}");
        }
        assert!(Quic::connect(tls, "b.test", &root).await.is_err());
    });
}

/// What a policy refuses, and what there is no certificate for, is told in the words of TLS.
#[test]
fn refused_handshakes_are_told() {
    let tls = free_port();
    let server = Server::start(&format!(
        "{{\n\tadmin 127.0.0.1:{{admin}}\n\thttp_port {{port}}\n\thttps_port {tls}\n\
         \tskip_install_trust\n}}\nlocalhost, dropped.localhost {{\n\trespond hello\n}}\n"
    ));
    // There is no word for it in a Caddyfile.
    let (path, json) = ("/config/apps/http/servers", [("Content-Type", "application/json")]);
    let mut servers: serde_json::Value =
        serde_json::from_str(&get(server.admin, path).body).unwrap();
    let policies = serde_json::json!([
        { "match": { "sni": ["dropped.localhost"] }, "drop": true },
        { "match": { "sni_regexp": { "pattern": "^(localhost|stranger)" } } },
    ]);
    for one in servers.as_object_mut().unwrap().values_mut() {
        one["tls_connection_policies"] = policies.clone();
    }
    let set = request(server.admin, "POST", path, &json, &servers.to_string()).unwrap();
    assert_eq!(set.status, 200, "{}", set.body);
    let root = server.folder.join("data/caddy/pki/authorities/local/root.crt");
    eventually("the site is up", || https(tls, "localhost", &root).is_ok());
    for name in ["dropped.localhost", "stranger.test", "other.test"] {
        let error = https(tls, name, &root).unwrap_err();
        assert!(error.contains("InternalError"), "{name}: {error}");
    }
    // Nor is there a challenge under way.
    let mut config = (*trusting(&root).unwrap()).clone();
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let error = connect(tls, "localhost", Arc::new(config)).unwrap_err();
    assert!(error.contains("InternalError"), "{error}");
}

/// A site with several wildcards has a certificate of the local authority, as in Caddy.
#[test]
fn wildcards_of_several_labels() {
    let tls = free_port();
    let server = Server::start(&format!(
        "{{\n\tadmin off\n\thttp_port {{port}}\n\thttps_port {tls}\n\tskip_install_trust\n}}\n\
         *.*.deep.localhost {{\n\trespond {{host}}\n}}\n"
    ));
    let root = server.folder.join("data/caddy/pki/authorities/local/root.crt");
    let place = "data/caddy/certificates/local/wildcard_.wildcard_.deep.localhost";
    eventually("there is a certificate", || server.folder.join(place).exists());
    // Clients that look at names want one wildcard; it is shown all the same.
    let name = "x.y.deep.localhost";
    eventually("it is shown", || crate::acme::shown(tls, name).is_some());
    assert!(https(tls, name, &root).is_err());
    assert!(crate::acme::shown(tls, "y.deep.localhost").is_none());
}

/// Names with letters beyond ASCII are managed under the form they travel in.
#[test]
fn names_beyond_ascii() {
    let tls = free_port();
    let server = Server::start(&format!(
        "{{\n\tadmin off\n\thttp_port {{port}}\n\thttps_port {tls}\n\tskip_install_trust\n}}\n\
         bücher.localhost {{\n\trespond hello\n}}\n"
    ));
    let folder = server.folder.join("data/caddy");
    let root = folder.join("pki/authorities/local/root.crt");
    let name = "xn--bcher-kva.localhost";
    eventually("the site is up", || https(tls, name, &root).is_ok());
    assert_eq!(https(tls, name, &root).unwrap().body, "hello");
    assert!(folder.join(format!("certificates/local/{name}/{name}.crt")).exists());
}

#[test]
fn two_servers_resume_each_others_sessions() {
    let storage = scratch();
    let start = |tls: u16| {
        let server = Server::start(&format!(
            "{{\n\tadmin 127.0.0.1:{{admin}}\n\thttp_port {{port}}\n\thttps_port {tls}\n\
             \tskip_install_trust\n\tstorage file_system {}\n}}\nlocalhost {{\n\trespond hello\n}}\n",
            storage.display()
        ));
        // There is no word for it in a Caddyfile.
        let (path, json) = ("/config/apps/tls", [("Content-Type", "application/json")]);
        let mut app: serde_json::Value =
            serde_json::from_str(&get(server.admin, path).body).unwrap_or_default();
        app["session_tickets"] = serde_json::json!({ "key_source": { "provider": "distributed" } });
        let set = request(server.admin, "POST", path, &json, &app.to_string()).unwrap();
        assert_eq!(set.status, 200, "{}", set.body);
        server
    };
    let ports = [free_port(), free_port()];
    let _servers = ports.map(start);
    let mut roots = RootCertStore::empty();
    let root = storage.join("pki/authorities/local/root.crt");
    roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    let kinds = [ports[0], ports[1], ports[0]].map(|port| {
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(config.clone(), name).unwrap();
        let mut stream = StreamOwned::new(client, TcpStream::connect(("127.0.0.1", port)).unwrap());
        write!(stream, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
        stream.conn.handshake_kind().unwrap()
    });
    use rustls::HandshakeKind::{Full, FullWithHelloRetryRequest, Resumed};
    assert!(matches!(kinds[0], Full | FullWithHelloRetryRequest), "{kinds:?}");
    assert_eq!(kinds[1..], [Resumed, Resumed]);
    std::fs::remove_dir_all(storage).unwrap();
}

#[test]
fn the_root_goes_into_the_trust_store() {
    let caddyfile = |lines: &str| {
        format!(
            "{{\n\tadmin off\n\thttp_port {{port}}\n\thttps_port {}\n{lines}}}\nlocalhost {{\n\trespond hi\n}}\n",
            free_port()
        )
    };
    // The store of Debian, below the folder that stands for the system's.
    let store = |folder: &Path| folder.join("trust/usr/local/share/ca-certificates");
    let installed = |folder: &Path| {
        let files = std::fs::read_dir(store(folder)).into_iter().flatten().flatten();
        files.map(|file| std::fs::read(file.path()).unwrap()).collect::<Vec<_>>()
    };
    let folder = scratch();
    std::fs::create_dir_all(store(&folder)).unwrap();
    let server = Server::start_in(folder, &caddyfile(""));
    eventually("the root is in the store", || !installed(&server.folder).is_empty());
    let root = server.folder.join("data/caddy/pki/authorities/local/root.crt");
    eventually("it is whole", || installed(&server.folder) == [std::fs::read(&root).unwrap()]);
    drop(server);
    let folder = scratch();
    std::fs::create_dir_all(store(&folder)).unwrap();
    let server = Server::start_in(folder, &caddyfile("\tskip_install_trust\n"));
    eventually("it is told", || server.log().contains("trust store installation disabled"));
    assert!(installed(&server.folder).is_empty());
    // Without a store a server runs all the same.
    let server = Server::start(&caddyfile(""));
    eventually("it is told", || server.log().contains("failed to install root certificate"));
    assert_eq!(get(server.port, "/").status, 308);
}

#[test]
fn programs_hear_of_certificates() {
    let folder = scratch();
    let script = "echo \"$@\" >>heard";
    std::fs::write(folder.join("hook.sh"), script).unwrap();
    let server = Server::start_in(
        folder,
        &format!(
            "{{\n\tadmin off\n\thttp_port {{port}}\n\thttps_port {}\n\tskip_install_trust\n\tevents {{\n\
         \t\ton * exec sh hook.sh {{event.name}} {{event.data.identifier}} {{event.data.certificate_path}}\n\
         \t}}\n}}\nlocalhost {{\n\trespond hi\n}}\n",
            free_port()
        ),
    );
    let heard = || std::fs::read_to_string(server.folder.join("heard")).unwrap_or_default();
    for line in [
        "cert_obtaining localhost",
        "cert_obtained localhost certificates/local/localhost/localhost.crt\n",
        "cached_managed_cert",
        "started",
    ] {
        eventually(line, || heard().contains(line));
    }
    eventually("it is told", || server.log().contains("events.handlers.exec"));
}

#[test]
fn a_managed_certificate_is_shown_to_upstreams() {
    let tls = free_port();
    let server = Server::start(&format!(
        "{{
\tadmin off
\thttp_port {{port}}
\thttps_port {tls}
\tskip_install_trust
}}
http://localhost {{
\treverse_proxy /with https://localhost:{tls} {{
\t\ttransport http {{
\t\t\ttls_trust_pool pki_root local
\t\t\ttls_client_auth client.localhost
\t\t}}
\t}}
\treverse_proxy /without https://localhost:{tls} {{
\t\ttransport http {{
\t\t\ttls_trust_pool pki_root local
\t\t}}
\t}}
}}
localhost {{
\ttls {{
\t\tclient_auth {{
\t\t\tmode require_and_verify
\t\t\ttrust_pool pki_root local
\t\t}}
\t}}
\trespond {{http.request.tls.client.san.dns_names.0}}
}}
"
    ));
    let mut answer = get(server.port, "/with");
    eventually("the certificate is there", || {
        answer = get(server.port, "/with");
        answer.status == 200
    });
    assert_eq!(answer.body, "client.localhost");
    assert_eq!(get(server.port, "/without").status, 502);
    let kept = "data/caddy/certificates/local/client.localhost/client.localhost.crt";
    assert!(server.folder.join(kept).exists(), "it is managed as any other");
}

/// An empty list of protocols is none (spec T009): clients get HTTP/1.1, whatever they offer.
#[test]
fn an_empty_list_of_protocols_is_none() {
    let tls = free_port();
    let server = Server::start(&format!(
        "{{\n\tadmin 127.0.0.1:{{admin}}\n\thttp_port {{port}}\n\thttps_port {tls}\n\
         \tskip_install_trust\n}}\nlocalhost {{\n\trespond {{http.request.proto}}\n}}\n"
    ));
    let root = server.folder.join("data/caddy/pki/authorities/local/root.crt");
    eventually("the site is up", || https(tls, "localhost", &root).is_ok());
    let (path, json) = ("/config/apps/http/servers", [("Content-Type", "application/json")]);
    let agreed = |offered: &[&[u8]]| {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&root).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let mut config = builder
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(("127.0.0.1", tls)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut stream = StreamOwned::new(client, socket);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        Some((stream.conn.alpn_protocol().map(<[u8]>::to_vec), Answer::parse(&answer).body))
    };
    assert_eq!(agreed(&[b"h2", b"http/1.1"]).unwrap().0, Some(b"h2".to_vec()));
    let mut servers: serde_json::Value =
        serde_json::from_str(&get(server.admin, path).body).unwrap();
    for one in servers.as_object_mut().unwrap().values_mut() {
        one["tls_connection_policies"] = serde_json::json!([{ "alpn": [] }]);
    }
    let set = request(server.admin, "POST", path, &json, &servers.to_string()).unwrap();
    assert_eq!(set.status, 200, "{}", set.body);
    eventually("the new policy counts", || {
        agreed(&[b"h2", b"http/1.1"]) == Some((None, "HTTP/1.1".to_owned()))
    });
    assert_eq!(agreed(&[b"foo"]), Some((None, "HTTP/1.1".to_owned())));
}
