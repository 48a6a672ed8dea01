//! Configs that are pulled from elsewhere (`admin.config.load`, spec G081).

use std::{path::Path, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use caddis_dns::http::{HttpClient, HttpOptions};
use caddis_plan::{ConfigLoader, LoaderCertificate};
use caddis_tls::Certificate;
use http::{Request, Response, StatusCode, header};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

use crate::{Engine, admin::adapt_by_type, generation::LoadError};

/// Attempts for one pull, and the pause between them.
const ATTEMPTS: usize = 10;
const PAUSE: Duration = Duration::from_millis(500);
/// How long a pull waits for this server's own certificate.
const IDENTITY_WAIT: Duration = Duration::from_secs(60);

/// Pulls a config now.
///
/// # Errors
/// No answer after ten attempts, or one that is no config.
pub(crate) async fn pull(engine: &Engine, loader: &ConfigLoader) -> Result<Json, LoadError> {
    let failed = |why: String| {
        LoadError::Activate(format!("loading dynamic config from {}: {why}", loader.url))
    };
    let answer = fetch(engine, loader).await.map_err(failed)?;
    let kind = match loader.adapter.as_str() {
        "" => {
            let kind = answer.headers().get(header::CONTENT_TYPE);
            kind.and_then(|kind| kind.to_str().ok()).unwrap_or("application/json").to_owned()
        }
        adapter => format!("text/{adapter}"),
    };
    match adapt_by_type(engine, &kind, answer.body()) {
        Ok((config, _)) => Ok(config),
        Err(error) => Err(failed(error.message)),
    }
}

async fn fetch(engine: &Engine, loader: &ConfigLoader) -> Result<Response<Bytes>, String> {
    let client = client(engine, loader).await?;
    let mut attempt = 0;
    loop {
        attempt += 1;
        let error = match once(&client, loader).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if attempt >= ATTEMPTS {
            return Err(error);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn once(client: &HttpClient, loader: &ConfigLoader) -> Result<Response<Bytes>, String> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = loader.url.clone();
    *request.method_mut() = loader.method.clone();
    *request.headers_mut() = loader.headers.clone();
    let answer = crate::h1::within(loader.timeout, client.send(request))
        .await
        .ok_or("timeout awaiting response")?
        .map_err(|error| error.to_string())?;
    match answer.status() {
        StatusCode::OK => Ok(answer),
        status => Err(format!("server responded with HTTP {}", status.as_u16())),
    }
}

async fn client(engine: &Engine, loader: &ConfigLoader) -> Result<HttpClient, String> {
    let certificate = match &loader.certificate {
        Some(LoaderCertificate::Identity(names)) => Some(identity(engine, names).await?),
        Some(LoaderCertificate::Files { chain, key }) => Some(read_pair(chain, key).await?),
        None => None,
    };
    if loader.roots.is_empty() {
        return Ok(HttpClient::with(HttpOptions { certificate, ..HttpOptions::default() }));
    }
    let mut roots = Vec::new();
    for file in &loader.roots {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let all = CertificateDer::pem_file_iter(file).map_err(|error| failed(&error))?;
        for one in all {
            roots.push(one.map_err(|error| failed(&error))?);
        }
    }
    let roots = Some(roots);
    Ok(HttpClient::with(HttpOptions { roots, certificate, ..HttpOptions::default() }))
}

/// This server's own certificate; an authority outside may need some time for it.
async fn identity(engine: &Engine, names: &[String]) -> Result<Arc<CertifiedKey>, String> {
    let until = tokio::time::Instant::now() + IDENTITY_WAIT;
    loop {
        let found =
            names.iter().find_map(|name| engine.shared.identity_of(name).into_iter().next());
        match found {
            Some(found) => return Ok(found.key),
            None if tokio::time::Instant::now() >= until => {
                let names = names.join(", ");
                return Err(format!(
                    "getting server identity credentials: no certificate for {names} yet"
                ));
            }
            None => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn read_pair(chain: &Path, key: &Path) -> Result<Arc<CertifiedKey>, String> {
    let read = async |file: &Path| {
        tokio::fs::read(file).await.map_err(|error| format!("{}: {error}", file.display()))
    };
    let (chain_text, key_text) = (read(chain).await?, read(key).await?);
    let certificate = Certificate::from_pem(&chain_text, &key_text, Vec::new());
    Ok(certificate.map_err(|error| format!("{}: {error}", chain.display()))?.key)
}

/// Pulls again and again after a delay, until there is a config other than the running one; that
/// one says whether there is more to pull.
pub(crate) async fn pull_later(
    engine: Rc<Engine>,
    loader: ConfigLoader,
    delay: Duration,
    cancel: CancellationToken,
) {
    loop {
        let pulled = async {
            tokio::time::sleep(delay).await;
            pull(&engine, &loader).await
        };
        // The config that wanted this may go meanwhile.
        let Some(pulled) = cancel.run_until_cancelled(pulled).await else { return };
        match pulled {
            Ok(config) => engine.load_pulled(config).await,
            Err(error) => {
                tracing::error!(target: "admin", %error, "failed loading dynamic config; will retry");
            }
        }
        if cancel.is_cancelled() {
            return;
        }
    }
}
