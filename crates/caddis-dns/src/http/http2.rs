//! HTTP/2 with prior knowledge (RFC 9113 §3.3), or by ALPN over TLS: one kept connection, whole
//! answers with their trailers.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::sync::Mutex;

use super::{HttpClient, HttpError, HttpOptions, MAX_BODY, Target, connect, fail};
use crate::forward_proxy::Scheme;

/// A client for one server; cheap to share by `Arc`.
#[derive(Debug)]
pub struct Http2Client {
    inner: HttpClient,
    tls: OnceLock<Arc<ClientConfig>>,
    kept: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl Http2Client {
    /// A client with these settings.
    pub fn with(options: HttpOptions) -> Self {
        Self { inner: HttpClient::with(options), tls: OnceLock::new(), kept: Mutex::default() }
    }

    /// Sends a request with an absolute URI, always to the same server, and reads the whole answer
    /// with its trailers.
    ///
    /// # Errors
    /// No connection, no trust, no HTTP/2, no answer in time, an answer that is too large.
    pub async fn send(
        &self,
        request: Request<Bytes>,
    ) -> Result<(Response<Bytes>, HeaderMap), HttpError> {
        match tokio::time::timeout(self.inner.timeout, self.attempt(request)).await {
            Ok(result) => result,
            Err(_) => {
                // The connection may be dead without a word.
                *self.kept.lock().await = None;
                Err(HttpError::timeout())
            }
        }
    }

    async fn attempt(
        &self,
        mut request: Request<Bytes>,
    ) -> Result<(Response<Bytes>, HeaderMap), HttpError> {
        let at = Target::of(request.uri())?;
        if !request.headers().contains_key(header::USER_AGENT) {
            request.headers_mut().insert(header::USER_AGENT, HeaderValue::from_static("caddis"));
        }
        let mut sender = self.sender(&at).await?;
        let answer = sender.send_request(request.map(Full::new)).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                // The next request makes a new connection.
                *self.kept.lock().await = None;
                return Err(fail(&at.authority, error));
            }
        };
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body = body.map_err(|error| fail("reading response", error))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok((Response::from_parts(parts, body.to_bytes()), trailers))
    }

    /// The kept connection, or a new one.
    async fn sender(&self, at: &Target) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let mut kept = self.kept.lock().await;
        if let Some(sender) = &mut *kept
            && sender.ready().await.is_ok()
        {
            return Ok(sender.clone());
        }
        let proxy = self.inner.route.proxy(at);
        let proxy = proxy.as_deref();
        let needs_tls = at.tls || proxy.is_some_and(|proxy| proxy.scheme == Scheme::Https);
        let plain = if needs_tls { Some(self.inner.config().await?) } else { None };
        let stream = connect::open(&self.inner.route, at, proxy, false, plain.as_ref()).await?;
        let with_alpn = plain.filter(|_| at.tls).map(|plain| {
            self.tls.get_or_init(|| {
                let mut config = ClientConfig::clone(&plain);
                config.alpn_protocols = vec![b"h2".to_vec()];
                Arc::new(config)
            })
        });
        let stream = self.inner.secured(at, stream, with_alpn).await?;
        let made = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(|error| fail("http2", error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(target: "http.client", %error, "connection ended");
            }
        });
        Ok(kept.insert(sender).clone())
    }
}
