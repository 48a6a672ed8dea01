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

use crate::support::{Answer, Server, eventually, free_port, get};

/// A GET over TLS that trusts one root.
fn https(port: u16, name: &str, root: &Path) -> Result<Answer, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(root).map_err(|error| text(&error))?;
    roots.add(root).map_err(|error| text(&error))?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| text(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = ServerName::try_from(name.to_owned()).map_err(|error| text(&error))?;
    let client = ClientConnection::new(Arc::new(config), server).map_err(|error| text(&error))?;
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
