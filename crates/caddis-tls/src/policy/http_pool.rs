//! `tls.ca_pool.source.http`: authorities that are fetched when a configuration is taken.
//!
//! JSON: `{"provider": "http", "endpoints": ["https://…"], "tls": {"ca": {"provider": "…"},
//! "insecure_skip_verify": true, "handshake_timeout": "10s", "server_name": "…",
//! "renegotiation": "never"}}`. An endpoint answers with certificates in PEM; what else is in the
//! text is passed over. What cannot be fetched is an error of the configuration, as in Caddy, where
//! a fetch has no limit of time: here it has [`TIMEOUT`].

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use caddis_config::ConfigError;
use caddis_core::template::{Template, Unknown};
use caddis_dns::{
    http::HttpClient,
    server_check::{Anyone, ServerVerifier},
};
use http::{Request, Uri, header};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use serde::Deserialize;
use serde_json::Value;

use super::{BindCx, ca_pool::CaPool};
use crate::{
    certificate::{parse_chain, provider},
    error::{Context, Error, Result},
    url,
};

/// The longest time for one endpoint, redirects included.
const TIMEOUT: Duration = Duration::from_secs(15);
/// As many as Go's client follows.
const MAX_REDIRECTS: usize = 10;

/// Where authorities are fetched from, and whom is believed there.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpPool {
    endpoints: Vec<String>,
    /// The system's authorities if absent.
    ca: Option<Box<CaPool>>,
    insecure: bool,
    timeout: Duration,
    server_name: Option<ServerName<'static>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsConfig {
    ca: Option<Value>,
    insecure_skip_verify: bool,
    handshake_timeout: caddis_config::Duration,
    server_name: String,
    renegotiation: String,
}

impl HttpPool {
    /// `pool` compiles the pool that the endpoints themselves are checked against.
    pub(super) fn compile(
        endpoints: Vec<String>,
        tls: Option<TlsConfig>,
        pool: impl FnOnce(&Value) -> std::result::Result<CaPool, ConfigError>,
    ) -> std::result::Result<Self, ConfigError> {
        for (at, endpoint) in endpoints.iter().enumerate() {
            if !url::is_http(&Template::render_global(endpoint, Unknown::Keep)) {
                let message = format!("{endpoint:?} is no URL with http or https");
                return Err(ConfigError::new(at.to_string(), message).under("endpoints"));
            }
        }
        let TlsConfig { ca, insecure_skip_verify, handshake_timeout, server_name, renegotiation } =
            tls.unwrap_or_default();
        // None of the levels does anything: this client has no renegotiation, and TLS 1.3 neither.
        if !matches!(renegotiation.as_str(), "" | "never" | "once" | "freely") {
            let message = format!("invalid TLS renegotiation level: {renegotiation}");
            return Err(ConfigError::new("renegotiation", message).under("tls"));
        }
        let server_name = match server_name.as_str() {
            "" => None,
            name => Some(ServerName::try_from(name.to_owned()).map_err(|error| {
                ConfigError::new("server_name", format!("{name:?}: {error}")).under("tls")
            })?),
        };
        let ca = ca.as_ref().map(pool).transpose();
        let ca = ca.map_err(|error| error.under("ca").under("tls"))?.map(Box::new);
        let limit = u64::try_from(handshake_timeout.0).unwrap_or_default();
        let timeout = if limit == 0 { TIMEOUT } else { Duration::from_nanos(limit).min(TIMEOUT) };
        Ok(Self { endpoints, ca, insecure: insecure_skip_verify, timeout, server_name })
    }

    /// Fetches the certificates. Blocks.
    ///
    /// # Errors
    /// An endpoint that does not answer in time, or with something else than certificates.
    pub(super) fn load(&self, cx: &BindCx<'_>) -> Result<Vec<CertificateDer<'static>>> {
        let client = Arc::new(self.client(cx)?);
        let mut out = Vec::new();
        for endpoint in &self.endpoints {
            let url = Template::render_global(endpoint, Unknown::Keep);
            let text = fetch(client.clone(), url.clone(), self.timeout)?;
            out.extend(parse_chain(&text).context(format!("certificates from {url}"))?);
        }
        Ok(out)
    }

    fn client(&self, cx: &BindCx<'_>) -> Result<HttpClient> {
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions()?;
        let config = if self.insecure {
            let verifier = Arc::new(ServerVerifier::new(Anyone, provider()));
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        } else {
            let trusted = self.ca.as_deref().unwrap_or(&CaPool::System).load(cx)?;
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(trusted);
            builder.with_root_certificates(roots).with_no_client_auth()
        };
        Ok(HttpClient::with_tls(config, self.server_name.clone()))
    }
}

/// On a thread with a runtime of its own, since callers may be on one that must not wait.
fn fetch(client: Arc<HttpClient>, url: String, limit: Duration) -> Result<Bytes> {
    let name = url.clone();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("starting a runtime")?.block_on(async {
            let answer = tokio::time::timeout(limit, follow(&client, url)).await;
            answer.unwrap_or_else(|_| Err(Error::new("no answer in time")))
        })
    };
    let fetched = std::thread::spawn(work).join();
    let fetched = fetched.unwrap_or_else(|_| Err(Error::new("the fetch panicked")));
    fetched.context(format!("fetching CA certificate bundle from {name}"))
}

async fn follow(client: &HttpClient, mut url: String) -> Result<Bytes> {
    for _ in 0..=MAX_REDIRECTS {
        let request = Request::get(&url).body(Bytes::new()).map_err(Error::new)?;
        let answer = client.send(request).await.map_err(Error::new)?;
        let location = answer.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
        match location.filter(|_| answer.status().is_redirection()) {
            Some(location) => url = target(&url, location)?,
            None if answer.status().is_success() => return Ok(answer.into_body()),
            None => return Err(Error::new(format!("HTTP {}", answer.status().as_u16()))),
        }
    }
    Err(Error::new(format!("stopped after {MAX_REDIRECTS} redirects")))
}

/// Where a redirect leads: a URL or an absolute path.
fn target(from: &str, location: &str) -> Result<String> {
    if url::is_http(location) {
        return Ok(location.to_owned());
    }
    let from: Uri = from.parse().map_err(Error::new)?;
    match (from.scheme_str(), from.authority()) {
        (Some(scheme), Some(authority)) if location.starts_with('/') => {
            Ok(format!("{scheme}://{authority}{location}"))
        }
        _ => Err(Error::new(format!("redirect to {location:?} cannot be followed"))),
    }
}
