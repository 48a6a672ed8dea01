//! The URL of a forward proxy.

use base64::Engine as _;
use caddis_config::{NetworkAddress, value::join_host_port};
use percent_encoding::percent_decode_str;

/// How a proxy is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP in clear text.
    Http,
    /// HTTP over TLS.
    Https,
    /// SOCKS 5; names are resolved by the proxy (`socks5` and `socks5h`).
    Socks5,
}

/// A forward proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Its host, an IPv6 address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Both, as addresses are written.
    pub host_port: String,
    /// User and password.
    pub user: Option<(Vec<u8>, Vec<u8>)>,
}

impl Proxy {
    /// Reads `[scheme://][user[:password]@]host[:port]`; without a scheme it is `http`. A path is
    /// of no meaning. The ports are 80, 443 and 1080 where none is given.
    ///
    /// # Errors
    /// What is wrong with the URL; user and password are not repeated.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (user, host_port) = match rest[..end].rsplit_once('@') {
            Some((user, host_port)) => (Some(user), host_port),
            None => (None, &rest[..end]),
        };
        let wrong = |why: &str| format!("proxy URL {scheme}://{host_port}: {why}");
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err("proxy URL: spaces and control characters are not allowed".to_owned());
        }
        let (scheme, port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Scheme::Http, 80),
            "https" => (Scheme::Https, 443),
            "socks5" | "socks5h" => (Scheme::Socks5, 1080),
            _ => return Err(wrong("the scheme must be http, https, socks5 or socks5h")),
        };
        let (host, port) = match split(host_port) {
            Some((host, "")) => (host, port),
            Some((host, text)) => match text.parse() {
                Ok(port) if port > 0 => (host, port),
                _ => return Err(wrong("invalid port")),
            },
            None => return Err(wrong("invalid host")),
        };
        if host.is_empty() {
            return Err(wrong("the host is missing"));
        }
        let host_port = join_host_port(host, &port.to_string());
        NetworkAddress::parse(&host_port).map_err(|error| wrong(&error.to_string()))?;
        let host = host.to_owned();
        let decode = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
        let user = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            (decode(name), decode(password))
        });
        Ok(Self { scheme, host, port, host_port, user })
    }

    /// `Basic …`, where the URL names a user.
    pub fn authorization(&self) -> Option<String> {
        let (name, password) = self.user.as_ref()?;
        let mut pair = name.clone();
        pair.push(b':');
        pair.extend_from_slice(password);
        Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
    }
}

/// Host, without brackets, and port; the port is empty where there is none.
fn split(text: &str) -> Option<(&str, &str)> {
    if let Some(inside) = text.strip_prefix('[') {
        let (host, after) = inside.split_once(']')?;
        return if after.is_empty() {
            Some((host, ""))
        } else {
            after.strip_prefix(':').map(|port| (host, port))
        };
    }
    let (host, port) = text.split_once(':').unwrap_or((text, ""));
    (!host.contains(['[', ']', '%', '\\']) && !port.contains(':')).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, scheme, address) in [
            ("http://proxy:3128", Scheme::Http, "proxy:3128"),
            ("proxy:3128", Scheme::Http, "proxy:3128"),
            ("HTTP://proxy/", Scheme::Http, "proxy:80"),
            ("https://proxy?x", Scheme::Https, "proxy:443"),
            ("socks5://[2001:db8::1]", Scheme::Socks5, "[2001:db8::1]:1080"),
            ("socks5h://[::1]:9", Scheme::Socks5, "[::1]:9"),
        ] {
            let proxy = Proxy::parse(text).expect(text);
            assert_eq!((proxy.scheme, proxy.host_port.as_str()), (scheme, address));
            assert_eq!(proxy.authorization(), None);
        }
        for text in [
            "",
            "http://",
            "ftp://x",
            "http://:80",
            "http://x:y",
            "http://x:0",
            "http://[::1",
            "a b",
        ] {
            assert!(Proxy::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn user_information() {
        let proxy = Proxy::parse("http://us%40er:p%3Ass@h:1").expect("valid");
        assert_eq!(proxy.user, Some((b"us@er".to_vec(), b"p:ss".to_vec())));
        assert_eq!(proxy.authorization().as_deref(), Some("Basic dXNAZXI6cDpzcw=="));
        let error = Proxy::parse("http://user:secret@:x").expect_err("no port");
        assert!(!error.contains("secret"), "{error}");
    }
}
