//! The request that is asked about.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use caddis_core::{Connection, Exchange, Request, Target, TlsInfo, Worker};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use crate::args::Explain;

/// Port from which the made-up client comes.
const CLIENT_PORT: u16 = 50_000;
const TLS_1_3: u16 = 0x0304;
const TLS_AES_128_GCM_SHA256: u16 = 0x1301;

/// What was asked, in parts.
pub(super) struct Asked {
    pub(super) method: Method,
    /// `None`: either.
    pub(super) https: Option<bool>,
    /// The host as sent.
    pub(super) host: String,
    /// `None`: the usual one of the scheme.
    pub(super) port: Option<u16>,
    /// Path and query.
    pub(super) target: String,
    headers: HeaderMap,
    from: IpAddr,
}

impl Asked {
    pub(super) fn parse(flags: &Explain) -> Result<Self, String> {
        let method = Method::from_bytes(flags.method.to_uppercase().as_bytes())
            .map_err(|_| format!("'{}' is no method", flags.method))?;
        let (https, rest) = match flags.url.split_once("://") {
            Some(("http", rest)) => (Some(false), rest),
            Some(("https", rest)) => (Some(true), rest),
            Some((scheme, _)) => return Err(format!("'{scheme}' is not http or https")),
            None => (None, flags.url.as_str()),
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let (authority, target) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let target = if target.starts_with('?') { format!("/{target}") } else { target.to_owned() };
        let authority = if authority.is_empty() { "localhost" } else { authority };
        let (name, port) = caddis_core::exchange::split_host_port(authority);
        let port = match port {
            "" => None,
            port => Some(port.parse().map_err(|_| format!("'{port}' is no port"))?),
        };
        if name.is_empty() {
            return Err(format!("'{}' names no host", flags.url));
        }
        let mut headers = HeaderMap::new();
        let mut host = authority.to_owned();
        for line in &flags.header {
            let (field, value) =
                line.split_once(':').ok_or_else(|| format!("'{line}' is not 'Field: value'"))?;
            let value = value.trim();
            if field.eq_ignore_ascii_case("host") {
                value.clone_into(&mut host);
                continue;
            }
            let field = HeaderName::try_from(field.trim())
                .map_err(|_| format!("'{field}' is no header field"))?;
            let value = HeaderValue::try_from(value)
                .map_err(|_| format!("'{value}' is no header value"))?;
            headers.append(field, value);
        }
        Ok(Self { method, https, host, port, target, headers, from: flags.from })
    }

    /// The URL, with its scheme.
    pub(super) fn url(&self, https: bool) -> String {
        let scheme = if https { "https" } else { "http" };
        format!("{scheme}://{}{}", self.host, self.target)
    }

    /// The request as a server gets it.
    pub(super) fn exchange(&self, tls: bool) -> Box<Exchange> {
        let request = Request {
            method: self.method.clone(),
            target: Target::parse(self.target.clone().into()).unwrap_or_default(),
            version: if tls { Version::HTTP_2 } else { Version::HTTP_11 },
            host: self.host.clone().into(),
            headers: self.headers.clone().into(),
            ..Request::default()
        };
        let (name, _) = caddis_core::exchange::split_host_port(&self.host);
        let port = self.port.unwrap_or(if tls { 443 } else { 80 });
        let tls = tls.then(|| TlsInfo {
            version: TLS_1_3,
            cipher_suite: TLS_AES_128_GCM_SHA256,
            cipher_name: "TLS_AES_128_GCM_SHA256",
            alpn: "h2".into(),
            server_name: name.into(),
            ..TlsInfo::default()
        });
        let local = name.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut connection = Connection {
            remote: None,
            remote_ip: Default::default(),
            local: Some(SocketAddr::new(local, port)),
            local_name: Default::default(),
            tls,
        };
        connection.set_remote(SocketAddr::new(self.from, CLIENT_PORT));
        Exchange::new(request, Rc::new(connection), Worker::new(1))
    }
}
