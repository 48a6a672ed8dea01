//! `get_certificate`: sources outside that give a certificate during a handshake (T020, T070).
//!
//! JSON: `{"via": "tailscale"}` (see [`crate::tailscale`]) or `{"via": "http", "url": "http://…"}`.
//! The latter is a GET with `server_name`, `signature_schemes`, `cipher_suites` (numbers in
//! hexadecimal, comma separated) and `local_ip` in the query; 200 with chain and key as PEM, or 204
//! where the source has no certificate for this handshake. Nothing is kept: each handshake asks, as
//! in Caddy, so that a source can change its mind. Unlike there, an answer has ten seconds, and
//! redirects are not followed.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use caddis_config::ConfigError;
use caddis_dns::http::HttpClient;
use http::{Request, StatusCode};
use rustls::{server::ClientHello, sign::CertifiedKey};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::{certificate::Certificate, tailscale::Tailscale, url};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A source of certificates.
#[derive(Debug, Clone)]
pub struct CertGetter(Source);

#[derive(Debug, Clone)]
enum Source {
    Http(HttpSource),
    Tailscale(Tailscale),
}

#[derive(Debug, Clone)]
struct HttpSource {
    url: Arc<str>,
    client: Arc<HttpClient>,
}

/// What a source is told of a handshake.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The name that the client asked for.
    pub name: String,
    /// The server's address.
    pub local: Option<IpAddr>,
    schemes: String,
    suites: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpConfig {
    #[serde(default)]
    url: String,
}

/// Compiles the sources of an automation policy.
///
/// # Errors
/// An unknown module, a URL that is none.
pub fn compile_getters(all: &[Json]) -> Result<Vec<CertGetter>, ConfigError> {
    let compiled = all.iter().enumerate().map(|(at, json)| {
        compile(json).map_err(|error| error.under(at.to_string()).under("get_certificate"))
    });
    compiled.collect()
}

fn compile(json: &Json) -> Result<CertGetter, ConfigError> {
    let module = json.get("via").and_then(Json::as_str).unwrap_or_default();
    match module {
        "http" | "tailscale" => {}
        other => {
            let message = format!("unknown module: tls.get_certificate.{other}");
            return Err(ConfigError::new("", message));
        }
    }
    let mut bare = json.clone();
    if let Some(object) = bare.as_object_mut() {
        object.remove("via");
    }
    if module == "tailscale" {
        let Nothing {} = caddis_config::decode(bare)?;
        return Ok(CertGetter(Source::Tailscale(Tailscale::new())));
    }
    let config: HttpConfig = caddis_config::decode(bare)?;
    if !url::is_http(&config.url) {
        let message = format!("{:?} is no URL with http or https", config.url);
        return Err(ConfigError::new("url", message));
    }
    let source = HttpSource { url: config.url.into(), client: Arc::default() };
    Ok(CertGetter(Source::Http(source)))
}

impl Asked {
    /// What a hello says, where it names a server.
    pub fn new(name: &str, hello: &ClientHello<'_>, local: Option<IpAddr>) -> Self {
        let schemes: Vec<String> = hello
            .signature_schemes()
            .iter()
            .map(|scheme| format!("{:x}", u16::from(*scheme)))
            .collect();
        let suites: Vec<String> =
            hello.cipher_suites().iter().map(|suite| format!("{:x}", u16::from(*suite))).collect();
        Self { name: name.to_owned(), local, schemes: schemes.join(","), suites: suites.join(",") }
    }
}

impl CertGetter {
    /// Asks for a certificate; none where the source has none for this handshake.
    ///
    /// # Errors
    /// No answer in time, another status, content that is no certificate with its key.
    pub async fn get(&self, asked: &Asked) -> Result<Option<Arc<CertifiedKey>>, String> {
        match &self.0 {
            Source::Http(source) => source.get(asked).await,
            Source::Tailscale(tailscale) => tailscale.get(&asked.name).await,
        }
    }

    /// The source's URL or name, for logs.
    pub fn url(&self) -> &str {
        match &self.0 {
            Source::Http(source) => &source.url,
            Source::Tailscale(_) => "tailscale",
        }
    }
}

impl HttpSource {
    async fn get(&self, asked: &Asked) -> Result<Option<Arc<CertifiedKey>>, String> {
        let request = Request::get(self.url_for(asked)).body(Bytes::new());
        let request = request.map_err(|error| error.to_string())?;
        let answer = tokio::time::timeout(TIMEOUT, self.client.send(request)).await;
        let answer = answer.map_err(|_| "timeout awaiting response".to_owned())?;
        let answer = answer.map_err(|error| error.to_string())?;
        match answer.status() {
            StatusCode::NO_CONTENT => Ok(None),
            StatusCode::OK => {
                let certificate = Certificate::from_bundle(answer.body(), Vec::new());
                certificate.map(|one| Some(one.key)).map_err(|error| error.to_string())
            }
            status => Err(format!("got HTTP {}", status.as_u16())),
        }
    }

    fn url_for(&self, asked: &Asked) -> String {
        let own = [
            ("server_name", asked.name.clone()),
            ("signature_schemes", asked.schemes.clone()),
            ("cipher_suites", asked.suites.clone()),
        ];
        let url = url::with_query(&self.url, own);
        match asked.local {
            Some(local) => url::with_query(&url, [("local_ip", local.to_string())]),
            None => url,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::{Asked, compile_getters};
    use crate::key::{KeyType, to_pem};

    fn asked() -> Asked {
        Asked {
            name: "a.test".to_owned(),
            local: "127.0.0.1".parse().ok(),
            schemes: "403,804".to_owned(),
            suites: "1301".to_owned(),
        }
    }

    #[tokio::test]
    async fn answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/cert?server_name=x&k=v", listener.local_addr().unwrap());
        let key = KeyType::P256.generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let bundle = format!("{}{}", params.self_signed(&key).unwrap().pem(), to_pem(&key));
        tokio::spawn(async move {
            for (status, body) in [
                ("200 OK", bundle.as_str()),
                ("204 No Content", ""),
                ("500 Oh", ""),
                ("200 OK", "nonsense"),
            ] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 1024];
                let read = stream.read(&mut buffer).await.unwrap();
                let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                let line = "GET /cert?cipher_suites=1301&k=v&local_ip=127.0.0.1&server_name=a.test&\
                            signature_schemes=403%2C804 HTTP/1.1\r\n";
                assert!(text.starts_with(line), "{text}");
                let answer = format!(
                    "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let getters = compile_getters(&[json!({ "via": "http", "url": url })]).unwrap();
        let mut results = Vec::new();
        for _ in 0..4 {
            results.push(getters[0].get(&asked()).await);
        }
        assert!(matches!(&results[0], Ok(Some(_))), "{:?}", results[0]);
        assert!(matches!(&results[1], Ok(None)));
        assert_eq!(results[2].as_ref().unwrap_err(), "got HTTP 500");
        assert!(results[3].is_err());
    }

    #[test]
    fn sources_that_are_refused() {
        for (json, text) in [
            (json!({ "via": "tailscale", "x": 1 }), "x"),
            (json!({ "via": "x" }), "unknown module: tls.get_certificate.x"),
            (json!({ "via": "http", "url": "ftp://x" }), "no URL"),
            (json!({ "via": "http", "uri": "x" }), "uri"),
        ] {
            let error = compile_getters(&[json]).unwrap_err();
            assert!(error.path.starts_with("get_certificate.0"), "{}", error.path);
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
