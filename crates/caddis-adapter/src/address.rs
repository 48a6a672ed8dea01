//! Site addresses: `[scheme://][host][:port][/path]`.
//!
//! ```text
//! example.com   :8080   http://a.b   *.example.com:8443   https://   [::1]:443   localhost/old
//! ```

use std::fmt;
use std::net::Ipv6Addr;

use caddis_config::value::{join_host_port, split_host_port};

/// Longest address that is read; the rest is cut off.
const LONGEST: usize = 4096;

/// One site address in its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Address {
    /// As written.
    pub original: String,
    /// `http`, `https`, or what else was written.
    pub scheme: String,
    /// Host, lowercased outside of placeholders; empty for every host.
    pub host: String,
    /// Port as written.
    pub port: String,
    /// Path with its slash; empty for every path.
    pub path: String,
}

impl Address {
    /// Reads an address and brings it into its normal form.
    ///
    /// # Errors
    /// A port that is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let end = (0..=LONGEST.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
        let original = text[..end.unwrap_or(0)].trim();
        let (scheme, rest) = original.split_once("://").unwrap_or(("", original));
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, ""),
        };
        let with_colon;
        let (host, port) = if authority.contains([':', '[', ']']) {
            with_colon = format!("{authority}:");
            split_host_port(authority)
                .or_else(|_| split_host_port(&with_colon))
                .unwrap_or((authority, ""))
        } else {
            (authority, "")
        };
        check_port(port)?;
        Ok(Self {
            original: original.to_owned(),
            scheme: lower_outside_placeholders(scheme),
            host: lower_outside_placeholders(&normal_ip(host.trim())),
            port: port.to_owned(),
            path: path.to_owned(),
        })
    }
}

/// A whole URL, as far as the parts go.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.is_empty() && self.port.is_empty() {
            return Ok(());
        }
        let scheme = match self.scheme.as_str() {
            "" if self.port == "443" => "https",
            "" => "http",
            scheme => scheme,
        };
        let usual = match scheme {
            "https" => self.port == "443",
            "http" => self.port == "80",
            _ => true,
        };
        if self.port.is_empty() || usual {
            return write!(f, "{scheme}://{}{}", self.host, self.path);
        }
        write!(f, "{scheme}://{}{}", join_host_port(&self.host, &self.port), self.path)
    }
}

fn check_port(port: &str) -> Result<(), String> {
    if port.is_empty() {
        return Ok(());
    }
    let digits = port.strip_prefix(['+', '-']).unwrap_or(port);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        let why = format!("strconv.Atoi: parsing {port:?}: invalid syntax");
        return Err(format!("invalid port '{port}': {why}"));
    }
    match port.parse::<i64>() {
        Ok(0..=65535) => Ok(()),
        Ok(number) => Err(format!("port {number} is out of range")),
        Err(_) => {
            let why = format!("strconv.Atoi: parsing {port:?}: value out of range");
            Err(format!("invalid port '{port}': {why}"))
        }
    }
}

/// IPv6 addresses in their canonical form, the rest as it is.
fn normal_ip(host: &str) -> String {
    let (ip, zone) = match host.split_once('%') {
        Some((ip, zone)) => (ip, Some(zone)),
        None => (host, None),
    };
    match ip.parse::<Ipv6Addr>() {
        Ok(ip) if ip.to_ipv4_mapped().is_none() => match zone {
            Some(zone) => format!("{ip}%{zone}"),
            None => ip.to_string(),
        },
        _ => host.to_owned(),
    }
}

/// Lowercases what is not inside `{…}`; `\{` opens nothing.
pub(crate) fn lower_outside_placeholders(text: &str) -> String {
    if text.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let (mut escaped, mut inside) = (false, false);
    for c in text.chars() {
        if c == '\\' && !escaped {
            escaped = true;
            out.push(c);
            continue;
        }
        if c == '{' && !escaped {
            inside = true;
        }
        if c == '}' && inside && !escaped {
            inside = false;
        }
        if inside {
            out.push(c);
        } else {
            out.extend(c.to_lowercase());
        }
        escaped = false;
    }
    out
}

/// How specific a host or path is: its length without `*` and without placeholders.
pub(crate) fn specificity(text: &str) -> i64 {
    let mut length = text.len() as i64 - text.matches('*').count() as i64;
    let mut rest = text;
    while let Some(start) = rest.find('{') {
        let Some(end) = rest[start..].find('}').map(|end| start + end + 1) else { break };
        length -= (end - start) as i64;
        rest = &rest[end..];
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> [String; 4] {
        let address = Address::parse(text).unwrap();
        [address.scheme, address.host, address.port, address.path]
    }

    #[test]
    fn splits() {
        assert_eq!(
            parts("HTTPS://Example.COM:8443/Path"),
            ["https", "example.com", "8443", "/Path"]
        );
        assert_eq!(parts(":80"), ["", "", "80", ""]);
        assert_eq!(parts("[0:0::1]:9"), ["", "::1", "9", ""]);
        assert_eq!(parts("::1"), ["", "::1", "", ""]);
        assert_eq!(parts("{env.HOST}.COM"), ["", "{env.HOST}.com", "", ""]);
        assert_eq!(parts("http://"), ["http", "", "", ""]);
        assert_eq!(parts(""), ["", "", "", ""]);
    }

    #[test]
    fn refuses_ports() {
        let message = |text: &str| Address::parse(text).unwrap_err();
        assert!(message("a:x").starts_with("invalid port 'x': strconv.Atoi"));
        assert_eq!(message("a:65536"), "port 65536 is out of range");
        assert_eq!(message("a:-1"), "port -1 is out of range");
    }

    #[test]
    fn shows() {
        let shown = |text: &str| Address::parse(text).unwrap().to_string();
        assert_eq!(shown("a.b"), "http://a.b");
        assert_eq!(shown("a.b:443"), "https://a.b");
        assert_eq!(shown("http://a.b:8080/x"), "http://a.b:8080/x");
        assert_eq!(shown("/x"), "");
    }

    #[test]
    fn weighs() {
        assert_eq!(specificity("*.a.com"), 6);
        assert_eq!(specificity("{x}.a"), 2);
        assert_eq!(specificity("{x"), 2);
        assert_eq!(specificity(""), 0);
    }
}
