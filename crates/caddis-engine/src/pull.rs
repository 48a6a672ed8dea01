//! Configs that are pulled from elsewhere (`admin.config.load`, spec G081).

use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use caddis_dns::http::{HttpClient, HttpOptions};
use caddis_plan::ConfigLoader;
use http::{Request, Response, StatusCode, header};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

use crate::{Engine, admin::adapt_by_type, generation::LoadError};

/// Attempts for one pull, and the pause between them.
const ATTEMPTS: usize = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// Pulls a config now.
///
/// # Errors
/// No answer after ten attempts, or one that is no config.
pub(crate) async fn pull(engine: &Engine, loader: &ConfigLoader) -> Result<Json, LoadError> {
    let failed = |why: String| {
        LoadError::Activate(format!("loading dynamic config from {}: {why}", loader.url))
    };
    let answer = fetch(loader).await.map_err(failed)?;
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

async fn fetch(loader: &ConfigLoader) -> Result<Response<Bytes>, String> {
    let client = client(loader)?;
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

fn client(loader: &ConfigLoader) -> Result<HttpClient, String> {
    if loader.roots.is_empty() {
        return Ok(HttpClient::new());
    }
    let mut roots = Vec::new();
    for file in &loader.roots {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let all = CertificateDer::pem_file_iter(file).map_err(|error| failed(&error))?;
        for one in all {
            roots.push(one.map_err(|error| failed(&error))?);
        }
    }
    Ok(HttpClient::with(HttpOptions { roots: Some(roots), ..HttpOptions::default() }))
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
