//! A server speaks HTTP or HTTPS, not both.

use caddis_caddyfile::Diagnostic;
use caddis_config::Server;

use crate::address::Address;
use crate::listeners::Served;
use crate::options::Options;

/// # Errors
/// Keys of both kinds, or TLS settings where HTTP is spoken.
pub(super) fn check(
    server: &Server,
    sites: &[Served],
    options: &Options,
) -> Result<(), Diagnostic> {
    let (http, https) = (options.http_port(), options.https_port());
    let has_policies = !server.tls_connection_policies.is_empty();
    let listen = format!("[{}]", server.listen.join(" "));
    let mut speaks = "";
    let mut first = None;
    for key in sites.iter().flat_map(|served| &served.keys) {
        let address = &key.address;
        let wants = if address.scheme == "http" || address.port == http {
            "HTTP"
        } else if address.scheme == "https" || address.port == https || has_policies {
            "HTTPS"
        } else if address.host.is_empty() {
            "HTTP"
        } else {
            continue;
        };
        let wrong = |message: String| {
            Diagnostic::error(message).code("adapter::mixed_schemes").labelled(&key.token, wants)
        };
        if !speaks.is_empty() && speaks != wants {
            let error = wrong(mixed(&listen, speaks, address));
            return Err(match first {
                Some(first) => error.labelled(first, speaks),
                None => error,
            });
        }
        if wants == "HTTP" && has_policies {
            return Err(wrong(format!(
                "server listening on {listen} is HTTP, but attempts to configure TLS connection policies"
            )));
        }
        speaks = wants;
        first.get_or_insert(&key.token);
    }
    Ok(())
}

fn mixed(listen: &str, speaks: &str, address: &Address) -> String {
    let mut message = format!(
        "server listening on {listen} is configured for {speaks} and cannot natively multiplex HTTP and HTTPS: {}",
        address.original
    );
    if speaks == "HTTPS" && address.scheme.is_empty() && address.host.is_empty() {
        message.push_str(" (try specifying https:// in the address)");
    }
    message
}
