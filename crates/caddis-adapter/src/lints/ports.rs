//! `port-clash`: one port for two purposes.

use caddis_config::NetworkAddress;

use super::subject::Subject;
use super::{Findings, Lint, Run};

pub(super) static PORT_CLASH: Lint = Lint {
    code: "port-clash",
    summary: "a port that is taken for something else already",
    explanation: "\
A site listens on the port of the admin endpoint (`localhost:2019` unless the `admin` option says
otherwise), or `http_port` and `https_port` are the same. The second to bind fails, or takes the
requests of the first. Give one of them another port.",
    run: Run::Sites(run),
};

fn run(subject: &Subject<'_>, findings: &mut Findings) {
    let Some(http) = &subject.adapted.config.apps.http else { return };
    if let (Some(plain), Some(secure)) =
        (subject.text.option("http_port"), subject.text.option("https_port"))
        && plain.word(1) == secure.word(1)
        && let (Some(at), Some(other)) = (secure.words.get(1), plain.words.get(1))
    {
        let message = format!("http_port and https_port are both {}", at.text);
        let finding = findings.add(at, message, "the same port");
        finding.labels.push((other.span, "taken here".into()));
    }
    let admin = subject.adapted.config.admin.clone().unwrap_or_default();
    if admin.disabled {
        return;
    }
    let listen = if admin.listen.is_empty() { "localhost:2019" } else { admin.listen.as_str() };
    let Ok(admin) = NetworkAddress::parse_with_defaults(listen, "tcp", 2019) else { return };
    if admin.is_unix() {
        return;
    }
    let mut taken: Vec<String> = Vec::new();
    for server in http.servers.values() {
        for text in &server.listen {
            let Ok(own) = NetworkAddress::parse(text) else { continue };
            if clash(&own, &admin) {
                taken.push(admin.start_port.to_string());
            }
        }
    }
    for site in subject.text.real_sites() {
        for (key, address) in site.block.keys.iter().zip(site.addresses()) {
            if taken.contains(&address.port) {
                let message = format!("port {} is the admin endpoint's", address.port);
                findings.add(key, message, "listens there too").help = Some(
                    "give the site another port, or move the admin endpoint with the `admin` option"
                        .into(),
                );
            }
        }
    }
}

/// Whether a server's address takes the admin endpoint's.
pub(super) fn clash(own: &NetworkAddress, admin: &NetworkAddress) -> bool {
    let same_host = own.host.is_empty() || admin.host.is_empty() || own.host == admin.host;
    let same_port = own.start_port <= admin.start_port && admin.start_port <= own.end_port;
    same_host && same_port && !own.is_unix()
}
