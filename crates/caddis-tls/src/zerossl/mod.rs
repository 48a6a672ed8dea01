//! `tls.issuance.zerossl`: certificates by ZeroSSL's own API (spec T068), not by its ACME endpoint.
//!
//! JSON: `{"module": "zerossl", "api_key": "…", "validity_days": 90, "listen_host": "…",
//! "alternate_http_port": 8080, "cname_validation": {"provider": {…}, "resolvers": ["…"], …}}`.
//!
//! A certificate is created for a signing request, and its name shown to be ours by a file over
//! HTTP or, with a DNS provider, by a CNAME record; then it is asked for until it is issued. What was
//! created and not issued is canceled, so that no drafts are left to use up the account's number of
//! certificates.

mod api;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use caddis_config::{ConfigError, tls::ZeroSslIssuer};
use caddis_core::template::{Template, Unknown};
use serde_json::Value as Json;
use tokio::time::Instant;

use self::api::{Api, Status};
use crate::{
    acme::{Challenges, DnsChallenge, DnsRecord, Failure, Ports, dns_challenge},
    storage::Storage,
};

/// Its name in the storage (T126), of certificates and of what is to be shown.
pub(crate) const KEY: &str = "zerossl";
/// Where the API is.
const API: &str = "https://api.zerossl.com";
/// How often it is asked whether the certificate is issued.
const POLL: Duration = Duration::from_secs(5);
/// Longest time until it is.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// Polls in a row that may fail.
const MAX_FAILED: u32 = 3;

/// An issuer.
#[derive(Debug, Clone, PartialEq)]
pub struct ZeroSslConfig {
    api_key: String,
    validity_days: i64,
    listen_host: String,
    http_port: u16,
    cname: Option<DnsChallenge>,
    api: String,
    poll: Duration,
    limit: Duration,
}

impl ZeroSslConfig {
    /// How names are shown to be ours: `file` or `cname`.
    pub fn validation(&self) -> &'static str {
        if self.cname.is_some() { "cname" } else { "file" }
    }

    /// The host and port where files are shown; none where none are.
    pub fn listener(&self) -> Option<(&str, u16)> {
        self.cname.is_none().then_some((self.listen_host.as_str(), self.http_port))
    }
}

/// The settings from JSON, its `module` key removed.
///
/// # Errors
/// Unknown fields and providers, no key, settings that cannot be.
pub fn compile_zerossl(json: Json, ports: Ports) -> Result<ZeroSslConfig, ConfigError> {
    let config: ZeroSslIssuer = caddis_config::decode(json)?;
    let api_key = Template::render_global(&config.api_key, Unknown::Empty);
    if api_key.is_empty() {
        let message = "API key is required: it is on the Developer page of a ZeroSSL account";
        return Err(ConfigError::new("api_key", message));
    }
    let http_port = match config.alternate_http_port {
        0 => ports.http,
        port => u16::try_from(port).map_err(|_| {
            ConfigError::new("alternate_http_port", format!("invalid port: {port}"))
        })?,
    };
    // Without a provider the file is shown, as in Caddy; that of the TLS app does not count.
    let cname = config.cname_validation.filter(|cname| cname.provider.is_some());
    let cname = cname.map(|cname| dns_challenge(cname, None)).transpose();
    Ok(ZeroSslConfig {
        api_key,
        validity_days: config.validity_days,
        listen_host: config.listen_host,
        http_port,
        cname: cname.map_err(|error| error.under("cname_validation"))?,
        api: API.to_owned(),
        poll: POLL,
        limit: LIMIT,
    })
}

/// A certificate.
#[derive(Debug)]
pub(crate) struct Bought {
    /// The chain, PEM.
    pub(crate) chain: String,
    /// What the API says of it, which is kept beside it.
    pub(crate) about: Json,
}

/// Gets a certificate for a name and a signing request, DER.
///
/// # Errors
/// The API refuses or is gone, or the name was not shown to be ours; what was created is canceled.
pub(crate) async fn issue(
    config: &ZeroSslConfig,
    name: &str,
    csr: &[u8],
    challenges: &Arc<Challenges>,
    storage: &Arc<dyn Storage>,
) -> Result<Bought, Failure> {
    if name.starts_with("*.") && config.cname.is_none() {
        let text = format!("{name}: wildcard names need validation by CNAME: add `dns`");
        return Err(Failure::new(text));
    }
    let api = Api::new(&config.api, &config.api_key);
    tracing::info!(target: "tls.issuance.zerossl", identifier = name, "creating certificate");
    let created = api.create(name, csr, config.validity_days).await;
    let created = created.map_err(|failure| failure.while_doing("creating certificate"))?;
    let id = created.id.clone();
    tracing::info!(target: "tls.issuance.zerossl", identifier = name, cert_id = id, "created certificate");
    let work = validated(config, &api, name, &created, challenges, storage);
    let outcome = match tokio::time::timeout(config.limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::new("waiting for certificate to be issued: timeout")),
    };
    if outcome.is_err() {
        match api.cancel(&id).await {
            Ok(()) => tracing::info!(
                target: "tls.issuance.zerossl",
                identifier = name,
                cert_id = id,
                "canceled certificate"
            ),
            Err(error) => tracing::error!(
                target: "tls.issuance.zerossl",
                identifier = name,
                cert_id = id,
                %error,
                "unable to cancel certificate: cancel it by hand, for drafts count"
            ),
        }
    }
    outcome
}

/// What shows that a name is ours; taken away when it is dropped, or removed.
enum Shown {
    File { _until_dropped: crate::acme::Presented },
    Record(DnsRecord),
}

async fn validated(
    config: &ZeroSslConfig,
    api: &Api,
    name: &str,
    created: &api::Certificate,
    challenges: &Arc<Challenges>,
    storage: &Arc<dyn Storage>,
) -> Result<Bought, Failure> {
    let wanted = created.validation(name).ok_or_else(|| {
        Failure::new(format!("the API does not say how {name} is to be shown to be ours"))
    })?;
    let (shown, method) = match &config.cname {
        None => {
            let content = wanted.file_content.join("\n");
            let shown = challenges.present_file(
                name,
                &wanted.file_url,
                content,
                (&config.listen_host, config.http_port),
                storage,
            );
            let shown = shown.await.map_err(|failure| {
                failure.while_doing("presenting validation file for verification")
            })?;
            (Shown::File { _until_dropped: shown }, "HTTP_CSR_HASH")
        }
        Some(dns) => {
            let (from, to) = (&wanted.cname_name, &wanted.cname_target);
            let record = DnsRecord::present_cname(&challenges.records, dns, from, to).await;
            let record = record.map_err(|failure| failure.while_doing("creating CNAME record"))?;
            (Shown::Record(record), "CNAME_CSR_HASH")
        }
    };
    let issued = issued(config, api, name, &created.id, method).await;
    if let Shown::Record(record) = shown {
        record.remove().await;
    }
    let about = issued?;
    let chain = api.download(&created.id).await;
    let chain = chain.map_err(|failure| failure.while_doing("downloading certificate"))?;
    Ok(Bought { chain, about })
}

/// Has the name looked at, and waits until the certificate is issued.
async fn issued(
    config: &ZeroSslConfig,
    api: &Api,
    name: &str,
    id: &str,
    method: &str,
) -> Result<Json, Failure> {
    tracing::info!(
        target: "tls.issuance.zerossl",
        identifier = name,
        cert_id = id,
        verification_method = method,
        "validating identifiers"
    );
    let mut seen = api.verify(id, method).await;
    let deadline = Instant::now() + config.limit;
    let mut failed = 0;
    loop {
        match seen {
            Ok(certificate) => {
                failed = 0;
                match certificate.status() {
                    Status::Issued => return Ok(certificate.about),
                    Status::Pending => {}
                    Status::Other(status) => {
                        let text = format!("unexpected certificate status: {status}");
                        return Err(Failure::new(text));
                    }
                }
            }
            // While it looks, a moment without an answer does not matter.
            Err(failure) if failed > 0 && failed < MAX_FAILED && failure.transient => {
                tracing::warn!(target: "tls.issuance.zerossl", identifier = name, error = %failure.failure, "no answer");
            }
            Err(failure) => return Err(failure.while_doing("verifying identifiers")),
        }
        if Instant::now() + config.poll > deadline {
            return Err(Failure::new("waiting for certificate to be issued: timeout"));
        }
        tokio::time::sleep(config.poll).await;
        seen = api.get(id).await;
        failed += 1;
    }
}
