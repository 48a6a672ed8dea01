//! HTTPS by the internal authority.

use std::process::Command;

use crate::support::{Server, eventually, free_port, get};

/// `curl` is on every machine that has a C compiler in practice; where it is not, `openssl` tests
/// in `.ci/run` cover the handshake. Here rustls itself is the client.
fn https(port: u16, name: &str, root: &std::path::Path) -> Result<String, String> {
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "10", "--resolve"])
        .arg(format!("{name}:{port}:127.0.0.1"))
        .arg("--cacert")
        .arg(root)
        .arg(format!("https://{name}:{port}/"))
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn internal_certificates_and_redirects() {
    let tls = free_port();
    let server = Server::start(&format!(
        "{{\n\tadmin off\n\thttp_port {{port}}\n\thttps_port {tls}\n\tskip_install_trust\n}}\nlocalhost, other.localhost {{\n\trespond {{http.request.tls.server_name}}\n}}\n"
    ));
    let root = server.folder.join("data/caddy/pki/authorities/local/root.crt");
    eventually("the site is up", || https(tls, "localhost", &root).is_ok());
    assert_eq!(https(tls, "localhost", &root).as_deref(), Ok("localhost"));
    assert_eq!(https(tls, "other.localhost", &root).as_deref(), Ok("other.localhost"));
    let redirect = get(server.port, "/path?x=1");
    assert_eq!(redirect.status, 308);
    assert_eq!(redirect.header("location"), Some("https://localhost/path?x=1"));
}
