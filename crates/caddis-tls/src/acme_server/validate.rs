//! Challenges, over real connections: HTTP-01 (RFC 8555 §8.3), DNS-01 (§8.4), TLS-ALPN-01
//! (RFC 8737).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use caddis_dns::query;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

use super::{
    book::{Identifier, Kind, Task},
    problem::Problem,
};
use crate::{acme::reverse_name, certificate};

const DIAL: Duration = Duration::from_secs(5);
/// For one attempt, redirects and all.
const ATTEMPT: Duration = Duration::from_secs(20);
/// Waits before the attempts; a client may have been a moment too quick (RFC 8555 §8.2).
const ATTEMPTS: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(6)];
const MAX_REDIRECTS: usize = 10;
/// Bytes of an HTTP-01 answer with its head.
const MAX_ANSWER: u64 = 64 << 10;
/// The extension that holds the digest.
const ACME_IDENTIFIER: &str = "1.3.6.1.5.5.7.1.31";

/// Where and how to look.
#[derive(Debug, Clone)]
pub(super) struct Validator {
    /// Resolvers; the system's if empty.
    pub(super) resolvers: Vec<String>,
    pub(super) http_port: u16,
    pub(super) tls_port: u16,
}

/// Why a challenge is not met.
enum Unmet {
    /// Perhaps not yet.
    NotYet(Problem),
    /// The answer is wrong.
    Wrong(Problem),
}

impl Validator {
    /// Looks whether a challenge is met, a few times where nobody answers.
    pub(super) async fn validate(&self, task: &Task, thumbprint: &str) -> Result<(), Problem> {
        let authorization = format!("{}.{thumbprint}", task.token);
        let mut last = Problem::new(400, "connection", "no attempt was made");
        for wait in ATTEMPTS {
            tokio::time::sleep(wait).await;
            let attempt = async {
                match task.kind {
                    Kind::Http01 => self.http(task, &authorization).await,
                    Kind::TlsAlpn01 => self.tls(task, &authorization).await,
                    Kind::Dns01 => self.dns(task, &authorization).await,
                }
            };
            match tokio::time::timeout(ATTEMPT, attempt).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(Unmet::Wrong(problem))) => return Err(problem),
                Ok(Err(Unmet::NotYet(problem))) => last = problem,
                Err(_) => last = Problem::new(400, "connection", "time limit exceeded"),
            }
        }
        Err(last)
    }

    async fn http(&self, task: &Task, authorization: &str) -> Result<(), Unmet> {
        let host = match &task.identifier {
            Identifier::Ip(std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
            other => other.host(),
        };
        let path = format!("/.well-known/acme-challenge/{}", task.token);
        let mut at = Place { tls: false, host, port: self.http_port, target: path };
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.get(&at).await.map_err(|error| {
                Unmet::NotYet(Problem::new(400, "connection", format!("{}: {error}", at.url())))
            })?;
            match answer.status {
                200 => {
                    if answer.body.trim_ascii_end() == authorization.as_bytes() {
                        return Ok(());
                    }
                    let detail = format!("{}: not the expected key authorization", at.url());
                    return Err(Unmet::Wrong(Problem::new(403, "unauthorized", detail)));
                }
                301 | 302 | 303 | 307 | 308 => {
                    let next = answer.location.as_deref().and_then(|to| at.follow(to));
                    at = next.ok_or_else(|| {
                        let detail = format!("{}: redirect to nowhere", at.url());
                        Unmet::Wrong(Problem::new(400, "connection", detail))
                    })?;
                }
                status => {
                    let detail = format!("{}: status {status}", at.url());
                    return Err(Unmet::NotYet(Problem::new(403, "unauthorized", detail)));
                }
            }
        }
        let detail = format!("{}: too many redirects", at.url());
        Err(Unmet::Wrong(Problem::new(400, "connection", detail)))
    }

    async fn get(&self, at: &Place) -> std::io::Result<Answer> {
        let host = at.host.trim_matches(['[', ']']);
        let stream = self.dial(host, at.port).await?;
        if !at.tls {
            return fetch(stream, at).await;
        }
        // Whoever asks for a certificate has none that could be verified.
        let connector = tokio_rustls::TlsConnector::from(client(&[])?);
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        fetch(connector.connect(name, stream).await?, at).await
    }

    async fn tls(&self, task: &Task, authorization: &str) -> Result<(), Unmet> {
        let host = task.identifier.host();
        let name = match &task.identifier {
            Identifier::Ip(ip) => reverse_name(*ip),
            Identifier::Dns(_) => host.clone(),
        };
        let handshake = async {
            let stream = self.dial(&host, self.tls_port).await?;
            let config = client(&[b"acme-tls/1"])?;
            let name = ServerName::try_from(name).map_err(std::io::Error::other)?;
            tokio_rustls::TlsConnector::from(config).connect(name, stream).await
        };
        let stream = handshake.await.map_err(|error| {
            let detail = format!("{host}:{}: {error}", self.tls_port);
            Unmet::NotYet(Problem::new(400, "tls", detail))
        })?;
        let connection = stream.get_ref().1;
        let wrong = |detail: &str| {
            let detail = format!("{host}: {detail}");
            Err(Unmet::Wrong(Problem::new(403, "unauthorized", detail)))
        };
        if connection.alpn_protocol() != Some(b"acme-tls/1") {
            return wrong("the server does not speak acme-tls/1");
        }
        let Some(leaf) = connection.peer_certificates().and_then(<[_]>::first) else {
            return wrong("no certificate");
        };
        match shows(leaf, &task.identifier, &Sha256::digest(authorization)) {
            Ok(()) => Ok(()),
            Err(detail) => wrong(detail),
        }
    }

    async fn dns(&self, task: &Task, authorization: &str) -> Result<(), Unmet> {
        let name = format!("_acme-challenge.{}", task.identifier.host());
        let want = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(authorization));
        let mut servers = query::resolvers(&self.resolvers);
        fastrand::shuffle(&mut servers);
        let answer = query::ask_any(&servers, &name, query::TXT).await.map_err(|error| {
            Unmet::NotYet(Problem::new(400, "dns", format!("looking up TXT of {name}: {error}")))
        })?;
        let found = answer
            .answers
            .iter()
            .any(|record| record.kind == query::TXT && record.data == want.as_bytes());
        if found {
            return Ok(());
        }
        let detail = format!("{name} has no TXT record with the expected value");
        // Records take their time.
        Err(Unmet::NotYet(Problem::new(403, "unauthorized", detail)))
    }

    /// Connects to a host: by the resolvers that are configured, else as the system knows it.
    async fn dial(&self, host: &str, port: u16) -> std::io::Result<TcpStream> {
        let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "no such host");
        for address in self.addresses(host, port).await? {
            match tokio::time::timeout(DIAL, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = std::io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }

    async fn addresses(&self, host: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        let mut found = Vec::new();
        if !self.resolvers.is_empty() && host.parse::<std::net::IpAddr>().is_err() {
            let servers = query::resolvers(&self.resolvers);
            for kind in [query::A, query::AAAA] {
                let answer = query::ask_any(&servers, host, kind).await.unwrap_or_default();
                let records = answer.answers.iter().filter(|record| record.kind == kind);
                let addresses = records.filter_map(|record| certificate::address(&record.data));
                found.extend(addresses.map(|ip| SocketAddr::new(ip, port)));
            }
        }
        if found.is_empty() {
            found.extend(tokio::net::lookup_host((host, port)).await?);
        }
        Ok(found)
    }
}

/// Where an answer is looked for.
struct Place {
    tls: bool,
    /// As in a URL.
    host: String,
    port: u16,
    target: String,
}

impl Place {
    fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.target)
    }

    fn authority(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual {
            return self.host.clone();
        }
        format!("{}:{}", self.host, self.port)
    }

    /// Where a redirect leads.
    fn follow(&self, to: &str) -> Option<Self> {
        let to: http::Uri = to.parse().ok()?;
        let target = to.path_and_query()?.as_str().to_owned();
        let Some(authority) = to.authority() else {
            let host = self.host.clone();
            return Some(Self { tls: self.tls, host, port: self.port, target });
        };
        let tls = match to.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Some(Self { tls, host: authority.host().to_owned(), port, target })
    }
}

struct Answer {
    status: u16,
    location: Option<String>,
    body: Vec<u8>,
}

/// HTTP/1.0, so that the answer's end is the end of the connection (or the length that it tells).
async fn fetch(mut io: impl AsyncRead + AsyncWrite + Unpin, at: &Place) -> std::io::Result<Answer> {
    let head = format!(
        "GET {} HTTP/1.0\r\nHost: {}\r\nUser-Agent: caddis\r\nAccept: */*\r\n\r\n",
        at.target,
        at.authority()
    );
    io.write_all(head.as_bytes()).await?;
    let mut io = io.take(MAX_ANSWER);
    let mut all = Vec::new();
    while !complete(&all) {
        match io.read_buf(&mut all).await {
            Ok(0) => break,
            Ok(_) => {}
            // Closed without a goodbye, which is common.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    let bad = || std::io::Error::other("malformed answer");
    let (head, body) = split(&all).ok_or_else(bad)?;
    let mut words = head.lines().next().unwrap_or_default().split_ascii_whitespace();
    let version = words.next().filter(|version| version.starts_with("HTTP/1."));
    let status = version.and_then(|_| words.next()?.parse().ok()).ok_or_else(bad)?;
    let location = field(head, "location").map(str::to_owned);
    let body = match length(head) {
        Some(length) => body.get(..length).unwrap_or(body),
        None => body,
    };
    Ok(Answer { status, location, body: body.to_vec() })
}

fn complete(answer: &[u8]) -> bool {
    let Some((head, body)) = split(answer) else { return false };
    length(head).is_some_and(|length| body.len() >= length)
}

fn split(answer: &[u8]) -> Option<(&str, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    Some((head, answer.get(end + 4..)?))
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn length(head: &str) -> Option<usize> {
    field(head, "content-length")?.parse().ok()
}

/// Whether a certificate is the answer: for this name alone, with the digest (RFC 8737 §3).
fn shows(leaf: &[u8], identifier: &Identifier, digest: &[u8]) -> Result<(), &'static str> {
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| "malformed certificate")?;
    let names = leaf.subject_alternative_name().ok().flatten();
    let named = match names.map(|names| names.value.general_names.as_slice()) {
        Some([GeneralName::DNSName(name)]) => {
            matches!(identifier, Identifier::Dns(own) if own.eq_ignore_ascii_case(name))
        }
        Some([GeneralName::IPAddress(bytes)]) => {
            matches!(identifier, Identifier::Ip(own) if certificate::address(bytes) == Some(*own))
        }
        _ => false,
    };
    if !named {
        return Err("the certificate is not for exactly this name");
    }
    let extensions = leaf.extensions().iter();
    let mut extensions = extensions.filter(|one| one.oid.to_id_string() == ACME_IDENTIFIER);
    let extension = extensions.next().ok_or("the certificate has no acmeIdentifier extension")?;
    if !extension.critical || extension.value != [&[0x04, 0x20], digest].concat() {
        return Err("the acmeIdentifier extension does not hold the expected value");
    }
    Ok(())
}

fn client(protocols: &[&[u8]]) -> std::io::Result<Arc<ClientConfig>> {
    let mut config = ClientConfig::builder_with_provider(certificate::provider())
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unverified))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

/// Takes any certificate: what counts is what it says, not who signed it.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // The certificate may hold a critical extension that the usual check refuses.
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        certificate::provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, complete, field, split};

    #[test]
    fn redirects_are_followed_to_hosts_and_paths() {
        let at = Place { tls: false, host: "a.test".into(), port: 5002, target: "/x".into() };
        let to = |text: &str| at.follow(text).map(|place| place.url());
        assert_eq!(to("/y?z").as_deref(), Some("http://a.test:5002/y?z"));
        assert_eq!(to("https://b.test/y").as_deref(), Some("https://b.test/y"));
        assert_eq!(to("http://[::1]:81/").as_deref(), Some("http://[::1]:81/"));
        assert!(to("ftp://b.test/").is_none() && to("\r\n").is_none());
    }

    #[test]
    fn answers_are_read_to_their_end() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-length: 2\r\n\r\nok";
        assert!(complete(whole) && !complete(&whole[..whole.len() - 1]));
        assert!(!complete(b"HTTP/1.0 200 OK\r\n\r\nok"), "the end of the connection ends it");
        let (head, body) = split(whole).unwrap();
        assert_eq!((field(head, "Content-Length"), body), (Some("2"), &b"ok"[..]));
        assert!(split(b"garbage").is_none());
    }
}
