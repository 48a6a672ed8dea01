//! What handlers of events are told of a handshake, with the names of Go's `ClientHelloInfo`.

use std::net::SocketAddr;

use rustls::server::ClientHello;
use serde_json::{Map, Value as Json, json};

/// The client's hello as data of the event `tls_get_certificate`. Point formats and versions are
/// left out: the library does not tell them.
pub fn hello_data(
    hello: &ClientHello<'_>,
    remote: Option<SocketAddr>,
    local: Option<SocketAddr>,
) -> Json {
    let suites: Vec<u16> = hello.cipher_suites().iter().map(|one| u16::from(*one)).collect();
    let schemes: Vec<u16> = hello.signature_schemes().iter().map(|one| u16::from(*one)).collect();
    let groups = hello.named_groups().unwrap_or_default();
    let groups: Vec<u16> = groups.iter().map(|one| u16::from(*one)).collect();
    let protocols: Vec<String> = hello
        .alpn()
        .into_iter()
        .flatten()
        .map(|one| String::from_utf8_lossy(one).into_owned())
        .collect();
    let mut data = Map::new();
    data.insert("CipherSuites".into(), suites.into());
    data.insert("ServerName".into(), hello.server_name().unwrap_or_default().into());
    data.insert("SupportedCurves".into(), groups.into());
    data.insert("SignatureSchemes".into(), schemes.into());
    data.insert("SupportedProtos".into(), protocols.into());
    for (name, address) in [("RemoteAddr", remote), ("LocalAddr", local)] {
        let address = address.map(|address| {
            let ip = address.ip().to_canonical().to_string();
            json!({ "IP": ip, "Port": address.port(), "Zone": "" })
        });
        data.insert(name.into(), address.unwrap_or_default());
    }
    data.into()
}
