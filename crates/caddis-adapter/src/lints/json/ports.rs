//! Ports in JSON: `port-clash`, `https-without-certificate`.

use caddis_config::NetworkAddress;
use serde_json::Value as Json;

use super::{Findings, texts};
use crate::lints::{https, ports};

/// The port of HTTP or HTTPS.
pub(super) fn port(config: &Json, name: &str, usual: u16) -> u16 {
    let given = config.pointer("/apps/http").and_then(|http| http.get(name)).and_then(Json::as_u64);
    given.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0).unwrap_or(usual)
}

pub(super) fn run(config: &Json, findings: &mut Findings<'_>) {
    let explicit = |name: &str| config.pointer("/apps/http").and_then(|http| http.get(name));
    if explicit("http_port").is_some() && explicit("http_port") == explicit("https_port") {
        let message = "http_port and https_port are the same";
        let help = "give one of them another port";
        let path = "apps.http.https_port";
        findings.add(&ports::PORT_CLASH, path, message, "the same port", help);
    }
    let servers =
        || config.pointer("/apps/http/servers").and_then(Json::as_object).into_iter().flatten();
    let admin = admin(config);
    let https_port = port(config, "https_port", 443);
    let any_name = servers().any(|(_, server)| super::hosts(server).next().is_some());
    let has_certificates = any_name || gets_certificates(config);
    for (name, server) in servers() {
        let path = |at: usize| format!("apps.http.servers.{name}.listen.{at}");
        let listen: Vec<_> = texts(server, "listen").map(NetworkAddress::parse).collect();
        let listen =
            || listen.iter().enumerate().filter_map(|(at, one)| Some((at, one.as_ref().ok()?)));
        let clash =
            admin.as_ref().and_then(|admin| listen().find(|(_, own)| ports::clash(own, admin)));
        if let Some((at, own)) = clash {
            let message = format!("port {} is the admin endpoint's", own.start_port);
            let help = "give the server another port, or move the admin endpoint (`admin.listen`)";
            findings.add(&ports::PORT_CLASH, path(at), message, "listens there too", help);
        }
        let Some((at, _)) =
            listen().find(|(_, one)| !one.is_unix() && one.start_port == https_port)
        else {
            continue;
        };
        let policies = server.get("tls_connection_policies").and_then(Json::as_array);
        let automatic = server.get("automatic_https");
        let flag = |name: &str| automatic.and_then(|one| one.get(name)) == Some(&Json::Bool(true));
        if policies.is_none_or(Vec::is_empty) && flag("disable") {
            let message = format!("plain HTTP is spoken on port {https_port}");
            let help = "add `\"tls_connection_policies\": [{}]`, or listen on another port";
            let label = "no TLS, since automatic HTTPS is off";
            findings.add(&https::HTTPS_WITHOUT_CERTIFICATE, path(at), message, label, help);
        } else if !has_certificates && !flag("disable") && !flag("disable_certificates") {
            let message = "there is no certificate for this server";
            let help = "match the names that it serves (`host`), or load a certificate";
            let label = "no name to get one for";
            findings.add(&https::HTTPS_WITHOUT_CERTIFICATE, path(at), message, label, help);
        }
    }
}

/// The admin endpoint, if it is one that a server can clash with.
fn admin(config: &Json) -> Option<NetworkAddress> {
    let admin = config.get("admin");
    if admin.and_then(|admin| admin.get("disabled")) == Some(&Json::Bool(true)) {
        return None;
    }
    let listen = admin.and_then(|admin| admin.get("listen")).and_then(Json::as_str);
    let listen = listen.filter(|listen| !listen.is_empty()).unwrap_or("localhost:2019");
    let parsed = NetworkAddress::parse_with_defaults(listen, "tcp", 2019).ok()?;
    (!parsed.is_unix() && !parsed.is_fd()).then_some(parsed)
}

/// Whether certificates come from somewhere else than from the names of routes.
fn gets_certificates(config: &Json) -> bool {
    let has = |json: &Json, name: &str| json.get(name).is_some();
    let policy = |policy: &Json| {
        ["on_demand", "get_certificate", "subjects"].iter().any(|name| has(policy, name))
    };
    let Some(tls) = config.pointer("/apps/tls") else { return false };
    let policies = tls.pointer("/automation/policies").and_then(Json::as_array);
    has(tls, "certificates") || policies.into_iter().flatten().any(policy)
}
