//! `tls.permission.http`: asks a URL whether a name may get a certificate (T098).
//!
//! JSON: `{"permission": {"module": "http", "endpoint": "http://…"}}`, or the old form
//! `{"ask": "http://…"}`. A GET with `domain=name` in the query; any 2xx answer allows; redirects are not
//! followed; ten seconds.

use std::{sync::Arc, time::Duration};

use caddis_config::{ConfigError, tls::OnDemandConfig};
use caddis_core::template::{Template, Unknown};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use crate::{automate::Permission, certificate::provider, getters::with_query};

const TIMEOUT: Duration = Duration::from_secs(10);
/// A status line longer than this is no HTTP.
const MAX_STATUS_LINE: usize = 1024;

/// The permission of a configuration; none where none is configured.
///
/// # Errors
/// An unknown module, an unusable URL.
pub fn on_demand_permission(
    config: Option<&OnDemandConfig>,
) -> Result<Option<Permission>, ConfigError> {
    let Some(config) = config else { return Ok(None) };
    let endpoint = match &config.permission {
        Some(json) => {
            let module = json.get("module").and_then(Value::as_str).unwrap_or_default();
            if module != "http" {
                let message = format!("unknown module: tls.permission.{module}");
                return Err(ConfigError::new("permission", message));
            }
            json.get("endpoint").and_then(Value::as_str).unwrap_or_default()
        }
        None if config.ask.is_empty() => return Ok(None),
        None => &config.ask,
    };
    let endpoint: Arc<str> = Template::render_global(endpoint, Unknown::Keep).into();
    Url::parse(&endpoint).ok_or_else(|| {
        ConfigError::new("permission", format!("parsing permission endpoint URL: {endpoint}"))
    })?;
    Ok(Some(Permission::new(move |name| {
        let endpoint = endpoint.clone();
        async move {
            let asked = tokio::time::timeout(TIMEOUT, ask(&endpoint, &name)).await;
            match asked {
                Ok(Ok(200..=299)) => Ok(()),
                Ok(Ok(status)) => Err(format!("{name}: non-2xx status code {status}")),
                Ok(Err(error)) => Err(format!("{name}: asking {endpoint}: {error}")),
                Err(_) => Err(format!("{name}: asking {endpoint}: timeout")),
            }
        }
    })))
}

struct Url<'a> {
    tls: bool,
    /// Host and port as written.
    authority: &'a str,
    host: &'a str,
    port: u16,
    /// Path and query.
    target: &'a str,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let rest = rest.split('#').next()?;
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() || text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return None;
        }
        let (host, port) = caddis_core::exchange::split_host_port(authority);
        let port = match port {
            "" => {
                if tls {
                    443
                } else {
                    80
                }
            }
            port => port.parse().ok()?,
        };
        Some(Self { tls, authority, host, port, target })
    }

    fn request(&self, name: &str) -> String {
        let slash = if self.target.starts_with('/') { "" } else { "/" };
        // A domain that the URL itself names must not be what is asked about.
        let target = with_query(self.target, vec![("domain", name.to_owned())]);
        let host = self.authority;
        format!(
            "GET {slash}{target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: caddis\r\n\
             Connection: close\r\n\r\n"
        )
    }
}

async fn ask(endpoint: &str, name: &str) -> std::io::Result<u16> {
    let url = Url::parse(endpoint).ok_or_else(|| std::io::Error::other("bad URL"))?;
    let request = url.request(name);
    let stream = TcpStream::connect((url.host, url.port)).await?;
    if !url.tls {
        return exchange(stream, &request).await;
    }
    let mut roots = RootCertStore::empty();
    let native = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    roots.add_parsable_certificates(native.map_err(std::io::Error::other)?.certs);
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let host = ServerName::try_from(url.host.to_owned()).map_err(std::io::Error::other)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    exchange(connector.connect(host, stream).await?, &request).await
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> std::io::Result<u16> {
    stream.write_all(request.as_bytes()).await?;
    let mut line = Vec::new();
    let mut buffer = [0; 256];
    while line.len() < MAX_STATUS_LINE && !line.contains(&b'\n') {
        match stream.read(&mut buffer).await? {
            0 => break,
            read => line.extend_from_slice(&buffer[..read]),
        }
    }
    let line = String::from_utf8_lossy(&line);
    let mut words = line.split_ascii_whitespace();
    match (words.next(), words.next().and_then(|status| status.parse().ok())) {
        (Some(version), Some(status)) if version.starts_with("HTTP/1.") => Ok(status),
        _ => Err(std::io::Error::other("malformed answer")),
    }
}

#[cfg(test)]
mod tests {
    use caddis_config::tls::OnDemandConfig;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::{Url, on_demand_permission};

    #[test]
    fn requests_name_the_domain() {
        let line = |url: &str| {
            let request = Url::parse(url).unwrap().request("a b.test");
            request.lines().next().unwrap().to_owned()
        };
        assert_eq!(line("http://h"), "GET /?domain=a+b.test HTTP/1.1");
        assert_eq!(line("http://h:1/x?y=1#f"), "GET /x?domain=a+b.test&y=1 HTTP/1.1");
        assert_eq!(line("http://h/?domain=z&a=1"), "GET /?a=1&domain=a+b.test HTTP/1.1");
        for bad in ["", "ftp://h", "http://", "http://h:x/", "http://h/\r\nX: y"] {
            assert!(Url::parse(bad).is_none(), "{bad}");
        }
    }

    #[tokio::test]
    async fn only_2xx_allows() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/ask", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for status in ["200 OK", "302 Found", "404 Not Found"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 512];
                let read = stream.read(&mut request).await.unwrap();
                let text = std::str::from_utf8(&request[..read]).unwrap();
                assert!(text.starts_with("GET /ask?domain=a.test HTTP/1.1\r\n"), "{text}");
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let config = OnDemandConfig { ask: endpoint, permission: None };
        let permission = on_demand_permission(Some(&config)).unwrap().unwrap();
        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(permission.ask("a.test").await.is_ok());
        }
        assert_eq!(answers, [true, false, false]);
    }
}
