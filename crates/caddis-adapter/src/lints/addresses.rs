//! What the addresses of sites mean with the ports that the options give.

use super::subject::Text;
use crate::address::Address;

/// The ports of HTTP and HTTPS of a file.
pub(super) struct Ports<'a> {
    http: &'a str,
    https: &'a str,
    /// Whether automatic HTTPS is off.
    off: bool,
}

impl<'a> Ports<'a> {
    pub(super) fn of(text: &Text<'a>) -> Self {
        let port = |name: &str, usual: &'static str| -> &'a str {
            text.option(name).and_then(|option| option.word(1)).unwrap_or(usual)
        };
        let auto = text.option("auto_https");
        let off = auto.is_some_and(|option| option.words[1..].iter().any(|one| one.text == "off"));
        Self { http: port("http_port", "80"), https: port("https_port", "443"), off }
    }

    /// Whether a site with this address speaks TLS, as far as the address says.
    pub(super) fn is_secure(&self, address: &Address) -> bool {
        match address.scheme.as_str() {
            "https" => true,
            "" if address.port == self.http => false,
            "" if address.port == self.https => true,
            "" => !self.off && !address.host.is_empty(),
            _ => false,
        }
    }

    /// The port of an address.
    pub(super) fn port<'s>(&'s self, address: &'s Address) -> &'s str {
        if !address.port.is_empty() {
            &address.port
        } else if self.is_secure(address) {
            self.https
        } else {
            self.http
        }
    }
}
