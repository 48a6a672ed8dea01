//! `get_certificate tailscale` (T058, T070): certificates of names below `ts.net`, from the Tailscale
//! daemon of this machine over its unix socket.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use caddis_dns::{
    aws::encode,
    http::{HttpClient, HttpOptions, Route},
};
use http::{Request, Response, header};
use rustls::sign::CertifiedKey;
use serde::Deserialize;

use crate::{certificate::Certificate, index::wildcards};

/// All names that Tailscale gives end so.
const DOMAIN: &str = ".ts.net";
/// Where the daemon listens on Linux, and where there is no such folder.
const SOCKET: &str = "/var/run/tailscale/tailscaled.sock";
const OTHER_SOCKET: &str = "tailscaled.sock";
/// The daemon takes requests with this host alone.
const HOST: &str = "local-tailscaled.sock";
/// For an answer; the first certificate of a name takes the daemon a while.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The daemon.
#[derive(Debug, Clone)]
pub(crate) struct Tailscale {
    client: Arc<HttpClient>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Status {
    #[serde(default)]
    cert_domains: Option<Vec<String>>,
}

impl Tailscale {
    pub(crate) fn new() -> Self {
        let known = Path::new("/var/run").is_dir();
        Self::at(Path::new(if known { SOCKET } else { OTHER_SOCKET }))
    }

    fn at(socket: &Path) -> Self {
        let route = Route::Socket(socket.to_owned());
        let options = HttpOptions { route, timeout: TIMEOUT, ..HttpOptions::default() };
        Self { client: Arc::new(HttpClient::with(options)) }
    }

    /// The certificate of a name; none where it is not one of Tailscale's, or the daemon has none
    /// for it.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Arc<CertifiedKey>>, String> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        if !name.ends_with(DOMAIN) {
            return Ok(None);
        }
        match self.domains().await {
            Ok(domains) if !domains.iter().any(|domain| covers(domain, &name)) => {
                return Ok(None);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(
                target: "tls.get_certificate.tailscale",
                error,
                "could not get status; will try to get certificate anyway"
            ),
        }
        let path = format!("/localapi/v0/cert/{}?type=pair", encode(&name));
        let answer = self.ask(&path).await?;
        let certificate = Certificate::from_bundle(answer.body(), Vec::new());
        certificate.map(|one| Some(one.key)).map_err(|error| error.to_string())
    }

    /// The names that the daemon can get certificates for.
    async fn domains(&self) -> Result<Vec<String>, String> {
        let answer = self.ask("/localapi/v0/status?peers=false").await?;
        let status: Status =
            serde_json::from_slice(answer.body()).map_err(|error| error.to_string())?;
        Ok(status.cert_domains.unwrap_or_default())
    }

    async fn ask(&self, path: &str) -> Result<Response<Bytes>, String> {
        let request = Request::get(format!("http://{HOST}{path}"))
            .header(header::HOST, HOST)
            .body(Bytes::new())
            .map_err(|error| error.to_string())?;
        let answer = self.client.send(request).await.map_err(|error| {
            format!("{error}: is tailscaled running, and may this user open its socket?")
        })?;
        if !answer.status().is_success() {
            let text = String::from_utf8_lossy(answer.body()).trim().to_owned();
            return Err(format!("tailscaled: HTTP {}: {text}", answer.status().as_u16()));
        }
        Ok(answer)
    }
}

/// Whether a name is a domain, or covered by it where it is a wildcard.
fn covers(domain: &str, name: &str) -> bool {
    let domain = domain.to_ascii_lowercase();
    domain == name || wildcards(name).any(|candidate| candidate == domain)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixListener,
    };

    use super::Tailscale;
    use crate::{
        key::{KeyType, to_pem},
        testing::TempDir,
    };

    /// Serves these answers, one a connection; gives the first lines of the requests.
    fn daemon(
        listener: UnixListener,
        answers: Vec<(u16, String)>,
    ) -> tokio::task::JoinHandle<Vec<String>> {
        tokio::spawn(async move {
            let mut lines = Vec::new();
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 1024];
                let read = stream.read(&mut buffer).await.unwrap();
                let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                assert!(text.contains("\r\nhost: local-tailscaled.sock\r\n"), "{text}");
                lines.push(text.lines().next().unwrap().to_owned());
                let answer = format!(
                    "HTTP/1.1 {status} Status\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            lines
        })
    }

    #[tokio::test]
    async fn names_of_the_daemon() {
        let dir = TempDir::new();
        let socket = dir.path().join("sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let key = KeyType::P256.generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.b.ts.net".to_owned()]).unwrap();
        let pair = format!("{}{}", to_pem(&key), params.self_signed(&key).unwrap().pem());
        let status = r#"{"Version":"1","CertDomains":["a.b.ts.net"]}"#.to_owned();
        let answers = vec![
            (200, status.clone()),
            (200, pair.clone()),
            (200, r#"{"CertDomains":null}"#.to_owned()),
            // Without a status it is tried all the same.
            (403, "no".to_owned()),
            (200, pair),
            (200, status),
            (500, "not enabled".to_owned()),
        ];
        let served = daemon(listener, answers);
        let tailscale = Tailscale::at(&socket);
        assert!(tailscale.get("other.test").await.unwrap().is_none());
        assert!(tailscale.get("A.b.ts.net").await.unwrap().is_some());
        assert!(tailscale.get("a.b.ts.net").await.unwrap().is_none());
        assert!(tailscale.get("a.b.ts.net").await.unwrap().is_some());
        let error = tailscale.get("a.b.ts.net").await.unwrap_err();
        assert_eq!(error, "tailscaled: HTTP 500: not enabled");
        let lines = served.await.unwrap();
        assert_eq!(lines[0], "GET /localapi/v0/status?peers=false HTTP/1.1");
        assert_eq!(lines[1], "GET /localapi/v0/cert/a.b.ts.net?type=pair HTTP/1.1");
        let error = Tailscale::at(&dir.path().join("none")).get("a.ts.net").await.unwrap_err();
        assert!(error.contains("is tailscaled running"), "{error}");
    }
}
