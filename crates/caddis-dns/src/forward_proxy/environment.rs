//! `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY` and their lower-case forms, by the rules of Go's
//! `httpproxy` package.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use super::{Proxy, Scheme};

/// Proxies by the scheme of the upstream, and whom they are not for.
#[derive(Debug, PartialEq, Eq)]
pub struct Environment {
    http: Option<Arc<Proxy>>,
    https: Option<Arc<Proxy>>,
    except: Vec<Except>,
}

/// One entry of `NO_PROXY`.
#[derive(Debug, PartialEq, Eq)]
enum Except {
    All,
    Net(IpAddr, u32),
    Ip(IpAddr, Option<String>),
    Name {
        /// With a dot before it.
        suffix: String,
        /// Whether the name itself counts, beside those below it.
        itself: bool,
        port: Option<String>,
    },
}

/// The process's own, read once.
static OF_PROCESS: OnceLock<Option<Arc<Environment>>> = OnceLock::new();

impl Environment {
    /// The environment's proxies as they were when first asked for; `None` where it names none.
    pub fn of_process() -> Option<Arc<Self>> {
        OF_PROCESS.get_or_init(|| Self::read(|name| std::env::var(name).ok()).map(Arc::new)).clone()
    }

    /// Reads the variables. `HTTP_PROXY` does not count where `REQUEST_METHOD` is set: to a CGI
    /// program it is a header of the client.
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let get = |upper: &str| {
            let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
            set(upper).or_else(|| set(&upper.to_ascii_lowercase()))
        };
        let proxy = |name: &str| {
            let value = get(name)?;
            match Proxy::parse(&value) {
                Ok(proxy) => Some(Arc::new(proxy)),
                Err(error) => {
                    tracing::warn!(
                        target: "network",
                        variable = name,
                        %error,
                        "ignoring a proxy of the environment"
                    );
                    None
                }
            }
        };
        let is_cgi = lookup("REQUEST_METHOD").is_some_and(|value| !value.is_empty());
        let http = if is_cgi { None } else { proxy("HTTP_PROXY") };
        let https = proxy("HTTPS_PROXY");
        if http.is_none() && https.is_none() {
            return None;
        }
        let list = get("NO_PROXY").unwrap_or_default();
        let except = list.split(',').filter_map(Except::parse).collect();
        Some(Self { http, https, except })
    }

    /// Whether one of them is spoken to over TLS.
    pub fn may_use_tls(&self) -> bool {
        [&self.http, &self.https].into_iter().flatten().any(|proxy| proxy.scheme == Scheme::Https)
    }

    /// The proxy on the way to a host, given without brackets. This machine is always reached
    /// directly.
    pub fn proxy_for(&self, host: &str, port: u16, tls: bool) -> Option<&Arc<Proxy>> {
        let proxy = if tls { &self.https } else { &self.http }.as_ref()?;
        let host = host.to_ascii_lowercase();
        let ip = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        if host.is_empty() || host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
            return None;
        }
        let port = port.to_string();
        let is_excepted = self.except.iter().any(|except| except.matches(&host, ip, &port));
        (!is_excepted).then_some(proxy)
    }
}

impl Except {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text == "*" {
            return Some(Self::All);
        }
        if let Some(net) = net(&text) {
            return Some(net);
        }
        let (host, port) = match caddis_config::value::split_host_port(&text) {
            Ok((host, port)) => (host, Some(port.to_owned()).filter(|port| !port.is_empty())),
            Err(_) => (text.trim_matches(['[', ']']), None),
        };
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Some(Self::Ip(ip.to_canonical(), port));
        }
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        match host.strip_prefix('.') {
            Some(_) => Some(Self::Name { suffix: host.to_owned(), itself: false, port }),
            None if host.is_empty() => None,
            None => Some(Self::Name { suffix: format!(".{host}"), itself: true, port }),
        }
    }

    fn matches(&self, host: &str, ip: Option<IpAddr>, port: &str) -> bool {
        let on_port = |wanted: &Option<String>| wanted.as_deref().is_none_or(|own| own == port);
        match self {
            Self::All => true,
            Self::Net(net, bits) => ip.is_some_and(|ip| is_within(ip, *net, *bits)),
            Self::Ip(own, wanted) => ip == Some(*own) && on_port(wanted),
            Self::Name { suffix, itself, port } => {
                let named = host.ends_with(suffix.as_str())
                    || *itself && suffix.strip_prefix('.') == Some(host);
                named && on_port(port)
            }
        }
    }
}

/// `address/bits`.
fn net(text: &str) -> Option<Except> {
    let (ip, bits) = text.split_once('/')?;
    let (ip, bits): (IpAddr, u32) = (ip.parse().ok()?, bits.parse().ok()?);
    let most = if ip.is_ipv4() { 32 } else { 128 };
    (bits <= most).then_some(Except::Net(ip, bits))
}

fn is_within(ip: IpAddr, net: IpAddr, bits: u32) -> bool {
    match (ip, net) {
        (IpAddr::V4(ip), IpAddr::V4(net)) => {
            (ip.to_bits() ^ net.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(ip), IpAddr::V6(net)) => {
            (ip.to_bits() ^ net.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Option<Environment> {
        Environment::read(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn proxied(no_proxy: &str, address: &str) -> bool {
        let variables = [("HTTP_PROXY", "http://p:1"), ("no_proxy", no_proxy)];
        let environment = read(&variables).expect("a proxy");
        let (host, port) = caddis_config::value::split_host_port(address).expect(address);
        environment.proxy_for(host, port.parse().expect(address), false).is_some()
    }

    #[test]
    fn which_variable() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[("NO_PROXY", "x"), ("HTTP_PROXY", "")]), None);
        assert_eq!(read(&[("HTTP_PROXY", "ftp://x")]), None);
        let all = [("http_proxy", "one:1"), ("HTTPS_PROXY", "https://two"), ("https_proxy", "x")];
        let environment = read(&all).expect("proxies");
        let host = |tls| environment.proxy_for("a.test", 80, tls).map(|p| p.host.clone());
        assert_eq!((host(false).as_deref(), host(true).as_deref()), (Some("one"), Some("two")));
        assert!(environment.may_use_tls());
        let cgi = read(&[all[0], all[1], ("REQUEST_METHOD", "GET")]).expect("one");
        assert!(
            cgi.proxy_for("a.test", 80, false).is_none()
                && cgi.proxy_for("a.test", 80, true).is_some()
        );
    }

    #[test]
    fn exceptions() {
        for own in ["localhost:80", "127.0.0.1:80", "127.9.9.9:1", "[::1]:80", ":80"] {
            assert!(!proxied("", own), "{own}");
        }
        for (list, address, want) in [
            ("", "a.test:80", true),
            ("*", "a.test:80", false),
            ("b.test, A.test", "a.test:80", false),
            ("a.test", "x.A.test:80", false),
            ("a.test", "ba.test:80", true),
            (".a.test", "a.test:80", true),
            (".a.test", "x.a.test:80", false),
            ("*.a.test", "x.a.test:80", false),
            ("a.test:81", "a.test:80", true),
            ("a.test:80", "a.test:80", false),
            ("10.0.0.0/8", "10.1.2.3:80", false),
            ("10.0.0.0/8", "11.1.2.3:80", true),
            ("0.0.0.0/0", "11.1.2.3:80", false),
            ("10.0.0.1", "10.0.0.1:80", false),
            ("10.0.0.1:81", "10.0.0.1:80", true),
            ("2001:db8::/32", "[2001:db8::5]:80", false),
            ("[2001:db8::5]:80", "[2001:db8::5]:80", false),
            ("2001:db8::5", "[2001:db8::6]:80", true),
            (",:80, /,10.0.0.0/99", "10.0.0.1:80", true),
        ] {
            assert_eq!(proxied(list, address), want, "{list} {address}");
        }
    }
}
