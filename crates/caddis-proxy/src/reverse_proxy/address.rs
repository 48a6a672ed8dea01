//! Upstream addresses as they are written in a Caddyfile.

use caddis_config::{
    NetworkAddress,
    value::{join_host_port, join_network_address, split_network_address},
};

/// An upstream address taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// The URL scheme, or empty.
    pub(crate) scheme: String,
    network: String,
    host: String,
    port: String,
}

/// Reads an address: a network address, or a URL of scheme, host and port.
pub(crate) fn parse(text: &str) -> Result<Written, String> {
    if text.contains("://") {
        return parse_url(text);
    }
    let (mut network, host, mut port) = split_network_address(text)
        .unwrap_or_else(|_| (String::new(), text.to_owned(), String::new()));
    let is_path = network.starts_with("unix") || network.starts_with("fd");
    if port.is_empty() && !host.contains('{') && !is_path {
        "80".clone_into(&mut port);
    }
    let mut scheme = String::new();
    if network == "unix+h2c" {
        "unix".clone_into(&mut network);
        "h2c".clone_into(&mut scheme);
    }
    Ok(Written { scheme, network, host, port })
}

/// What an upstream address says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamAddress {
    /// The URL scheme, or empty.
    pub scheme: String,
    /// The address to dial, ports as written.
    pub dial: String,
    /// The addresses it stands for: one, or one per port.
    pub dials: Vec<String>,
}

/// Reads an upstream address as the directive does.
///
/// # Errors
/// A sentence for what is no address, without the address.
pub fn upstream_address(text: &str) -> Result<UpstreamAddress, String> {
    let written = parse(text)?;
    Ok(UpstreamAddress { dial: written.dial(), dials: written.dials()?, scheme: written.scheme })
}

fn parse_url(text: &str) -> Result<Written, String> {
    if text.contains('{') {
        return Err("due to parsing difficulties, placeholders are not allowed when an upstream \
                    address contains a scheme"
            .to_owned());
    }
    let wrong = |why: String| format!("parsing upstream URL: parse \"{text}\": {why}");
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let scheme = scheme.to_ascii_lowercase();
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(wrong("missing protocol scheme".to_owned()));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, more) = rest.split_at(end);
    if !matches!(more, "" | "?" | "#" | "?#") {
        return Err("for now, URLs for proxy upstreams only support scheme, host, and port \
                    components"
            .to_owned());
    }
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = split_authority(authority);
    let port = match port {
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => port.to_owned(),
        Some(port) if port.matches('-').count() == 1 => port.to_owned(),
        Some(port) if port.contains('-') => {
            return Err(wrong(format!("port range invalid: {port}")));
        }
        Some(port) => return Err(wrong(format!("invalid port \":{port}\" after host"))),
        None => String::new(),
    };
    conflict(&scheme, &port)?;
    let port = match (port.as_str(), scheme.as_str()) {
        ("", "http" | "h2c") => "80".to_owned(),
        ("", "https") => "443".to_owned(),
        _ => port,
    };
    Ok(Written { scheme, network: String::new(), host: host.to_owned(), port })
}

fn split_authority(authority: &str) -> (&str, Option<&str>) {
    if let Some((inside, after)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']'))
    {
        return (inside, after.strip_prefix(':'));
    }
    match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    }
}

fn conflict(scheme: &str, port: &str) -> Result<(), String> {
    let name = match (scheme, port) {
        ("http" | "h2c", "443") => "HTTPS",
        ("https", "80") => "HTTP",
        _ => return Ok(()),
    };
    Err(format!(
        "upstream address has conflicting scheme ({scheme}://) and port (:{port}, the {name} port)"
    ))
}

impl Written {
    fn dial(&self) -> String {
        if !self.network.is_empty() {
            return join_network_address(&self.network, &self.host, &self.port);
        }
        if self.port.is_empty() && self.host.contains('{') {
            return self.host.clone();
        }
        join_host_port(&self.host, &self.port)
    }

    /// The dial addresses it stands for: one, or one per port.
    pub(crate) fn dials(&self) -> Result<Vec<String>, String> {
        let dial = self.dial();
        if self.port.contains('{') && self.port.contains('}') {
            return Ok(vec![dial]);
        }
        let address = NetworkAddress::parse(&dial)?;
        if self.network.starts_with("unix") || !self.port.contains('-') {
            return Ok(vec![dial]);
        }
        Ok((address.start_port..=address.end_port)
            .map(|port| join_host_port(&address.host, &port.to_string()))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn dial_addresses() {
        for (text, scheme, dials) in [
            ("localhost", "", vec!["localhost:80"]),
            ("localhost:9000", "", vec!["localhost:9000"]),
            (":9000", "", vec![":9000"]),
            ("{host}", "", vec!["{host}"]),
            ("127.0.0.1:{port}", "", vec!["127.0.0.1:{port}"]),
            ("http://h", "http", vec!["h:80"]),
            ("https://h", "https", vec!["h:443"]),
            ("h2c://h:1", "h2c", vec!["h:1"]),
            ("h:1-3", "", vec!["h:1", "h:2", "h:3"]),
            ("http://h:1-2", "http", vec!["h:1", "h:2"]),
            ("unix//run/s.sock", "", vec!["unix//run/s.sock"]),
            ("unix+h2c//run/s.sock", "h2c", vec!["unix//run/s.sock"]),
            ("tcp6/h:1", "", vec!["tcp6/h:1"]),
            ("http://[::1]:8080", "http", vec!["[::1]:8080"]),
        ] {
            let written = parse(text).expect(text);
            assert_eq!(written.scheme, scheme, "{text}");
            assert_eq!(written.dials().expect(text), dials, "{text}");
        }
    }

    #[test]
    fn wrong_addresses() {
        for (text, sentence) in [
            ("http://h/app", "only support scheme, host, and port"),
            ("http://{h}", "placeholders are not allowed"),
            ("http://h:443", "conflicting scheme (http://) and port (:443, the HTTPS port)"),
            ("https://h:80", "conflicting scheme (https://) and port (:80, the HTTP port)"),
            ("http://h:x", "invalid port \":x\" after host"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(sentence), "{text}: {error}");
        }
    }
}
