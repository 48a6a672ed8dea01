//! An HTTP/3 client: `h3` over quinn, and bare streams for what no client should send.

use std::{net::UdpSocket, path::Path, sync::Arc};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Request};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::{
    ClientConfig, RootCertStore,
    client::{EchConfig, EchMode},
    crypto::aws_lc_rs,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

type Sender = h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>;
pub type Stream = h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// Who connects, and how.
#[derive(Clone, Default)]
pub struct Options {
    /// A client certificate and its key.
    pub identity: Option<(CertificateDer<'static>, Vec<u8>)>,
    /// The `ECHConfigList` by which the hello is hidden.
    pub ech: Option<Vec<u8>>,
}

/// A connection.
pub struct Quic {
    pub endpoint: quinn::Endpoint,
    pub connection: quinn::Connection,
    pub sender: Sender,
    pub driver: tokio::task::JoinHandle<h3::error::ConnectionError>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: Option<HeaderMap>,
}

impl Got {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A bare connection, by a certificate that this root signed.
pub async fn dial(
    port: u16,
    name: &str,
    root: &Path,
    options: &Options,
) -> Result<(quinn::Endpoint, quinn::Connection), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(root).map_err(|error| text(&error))?)
        .map_err(|error| text(&error))?;
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = match &options.ech {
        None => builder.with_protocol_versions(&[&rustls::version::TLS13]),
        Some(list) => {
            let suites = aws_lc_rs::hpke::ALL_SUPPORTED_SUITES;
            let config = EchConfig::new(list.clone().into(), suites).unwrap();
            builder.with_ech(EchMode::Enable(config))
        }
    };
    let builder = builder.map_err(|error| text(&error))?.with_root_certificates(roots);
    let mut tls = match &options.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = PrivateKeyDer::try_from(key.clone()).unwrap();
            builder.with_client_auth_cert(vec![certificate.clone()], key).unwrap()
        }
    };
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let connecting = endpoint
        .connect_with(config, ([127, 0, 0, 1], port).into(), name)
        .map_err(|error| text(&error))?;
    let connection = connecting.await.map_err(|error| text(&error))?;
    Ok((endpoint, connection))
}

impl Quic {
    pub async fn connect(port: u16, name: &str, root: &Path) -> Result<Self, String> {
        Self::connect_with(port, name, root, &Options::default()).await
    }

    pub async fn connect_with(
        port: u16,
        name: &str,
        root: &Path,
        options: &Options,
    ) -> Result<Self, String> {
        let (endpoint, connection) = dial(port, name, root, options).await?;
        let (mut driver, sender) = h3::client::new(h3_quinn::Connection::new(connection.clone()))
            .await
            .map_err(|error| error.to_string())?;
        let driver =
            tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
        Ok(Self { endpoint, connection, sender, driver })
    }

    /// Sends a request's head.
    pub async fn open(&mut self, request: Request<()>) -> Result<Stream, String> {
        self.sender.send_request(request).await.map_err(|error| error.to_string())
    }

    /// A GET.
    pub async fn get(&mut self, uri: &str) -> Result<Got, String> {
        self.ask(Request::get(uri).body(()).unwrap(), b"").await
    }

    /// A request with a body, and its whole answer.
    pub async fn ask(&mut self, request: Request<()>, body: &[u8]) -> Result<Got, String> {
        let mut stream = self.open(request).await?;
        if !body.is_empty() {
            let body = Bytes::copy_from_slice(body);
            stream.send_data(body).await.map_err(|error| error.to_string())?;
        }
        stream.finish().await.map_err(|error| error.to_string())?;
        answer(&mut stream).await
    }

    /// Goes on from another port, as a client behind a NAT does.
    pub fn move_away(&self) {
        self.endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
    }
}

/// Reads a whole answer.
pub async fn answer(stream: &mut Stream) -> Result<Got, String> {
    let text = |error: h3::error::StreamError| error.to_string();
    let (parts, ()) = stream.recv_response().await.map_err(text)?.into_parts();
    let mut body = Vec::new();
    while let Some(mut data) = stream.recv_data().await.map_err(text)? {
        body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    let trailers = stream.recv_trailers().await.map_err(text)?;
    Ok(Got { status: parts.status.as_u16(), headers: parts.headers, body, trailers })
}

/// A TLS connection that agrees on one protocol.
pub async fn tls_stream(
    port: u16,
    name: &str,
    root: &Path,
    protocol: &[u8],
) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}
