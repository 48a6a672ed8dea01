//! `admin.config.load`: a config that is pulled from elsewhere (spec G081, J014).
//!
//! ```json
//! {"admin": {"config": {
//!     "load": {"module": "http", "url": "http://config.internal/caddis.json", "timeout": "5s"},
//!     "load_delay": "10s"
//! }}}
//! ```

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use caddis_config::{ConfigError, ConfigSettings};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde::Deserialize;
use serde_json::Value as Json;

use crate::IdentityPlan;

/// Where a config is pulled from, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigLoader {
    /// `http` or `https`.
    pub url: Uri,
    /// GET if not configured.
    pub method: Method,
    /// Fields of the request.
    pub headers: HeaderMap,
    /// For one attempt; `None` leaves it to the client.
    pub timeout: Option<Duration>,
    /// The adapter; empty where the answer's `Content-Type` names it.
    pub adapter: String,
    /// PEM files of the roots to trust; the system's where there are none.
    pub roots: Vec<PathBuf>,
    /// The certificate to show where the server asks for one.
    pub certificate: Option<LoaderCertificate>,
    /// The wait before each attempt. `None`: it is pulled once, before the config that says so is in
    /// force, which fails without it.
    pub delay: Option<Duration>,
}

/// A certificate for where configs are pulled from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoaderCertificate {
    /// One that this server has for itself, by names in the order in which they are tried.
    Identity(Vec<String>),
    /// From PEM files.
    Files {
        /// Leaf and intermediates.
        chain: PathBuf,
        /// The private key.
        key: PathBuf,
    },
}

/// JSON shape of the module `http`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Http {
    #[serde(rename = "module")]
    _module: String,
    method: String,
    url: String,
    header: BTreeMap<String, Vec<String>>,
    timeout: caddis_config::Duration,
    adapter: String,
    tls: Option<Tls>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tls {
    use_server_identity: bool,
    client_certificate_file: String,
    client_certificate_key_file: String,
    root_ca_pem_files: Vec<PathBuf>,
}

impl ConfigLoader {
    /// Resolves the settings; `None` where no config is to be pulled.
    ///
    /// # Errors
    /// Another module than `http`, or settings of it that are wrong.
    pub fn compile(
        settings: &ConfigSettings,
        identity: Option<&IdentityPlan>,
    ) -> Result<Option<Self>, ConfigError> {
        let Some(json) = &settings.load else { return Ok(None) };
        let fail = |field: &str, message: String| {
            let path = format!("admin.config.load.{field}");
            ConfigError::new(path.trim_end_matches('.'), message)
        };
        let module = json.get("module").and_then(Json::as_str).unwrap_or_default();
        if module != "http" {
            let message = format!("unknown module: caddy.config_loaders.{module}");
            return Err(fail("module", message));
        }
        let http: Http = Http::deserialize(json).map_err(|error| fail("", error.to_string()))?;
        let url: Uri =
            http.url.parse().map_err(|error| fail("url", format!("'{}': {error}", http.url)))?;
        if url.host().is_none() || !matches!(url.scheme_str(), Some("http" | "https")) {
            let message = format!("'{}' is no http or https URL", http.url);
            return Err(fail("url", message));
        }
        let method = match http.method.as_str() {
            "" => Method::GET,
            method => Method::from_bytes(method.as_bytes())
                .map_err(|_| fail("method", format!("'{method}' is no method")))?,
        };
        let mut headers = HeaderMap::new();
        for (name, values) in &http.header {
            let wrong = || fail("header", format!("'{name}' has no valid name or value"));
            let name = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
            for value in values {
                let value = HeaderValue::try_from(value.as_str()).map_err(|_| wrong())?;
                headers.append(name.clone(), value);
            }
        }
        let tls = http.tls.unwrap_or_default();
        let (chain, key) = (&tls.client_certificate_file, &tls.client_certificate_key_file);
        let certificate = match (tls.use_server_identity, chain.is_empty(), key.is_empty()) {
            (true, ..) => {
                let names = identity.into_iter().flat_map(|identity| &identity.subjects);
                let names: Vec<_> = names.map(|subject| subject.name.clone()).collect();
                if names.is_empty() {
                    let message = "no server identity configured: name this server in \
                        `admin.identity.identifiers`";
                    return Err(fail("tls.use_server_identity", message.to_owned()));
                }
                Some(LoaderCertificate::Identity(names))
            }
            (false, true, true) => None,
            (false, false, false) => {
                Some(LoaderCertificate::Files { chain: chain.into(), key: key.into() })
            }
            _ => {
                let message = "a certificate needs `client_certificate_file` and \
                    `client_certificate_key_file`";
                return Err(fail("tls", message.to_owned()));
            }
        };
        Ok(Some(Self {
            url,
            method,
            headers,
            timeout: http.timeout.positive(),
            adapter: http.adapter,
            roots: tls.root_ca_pem_files,
            certificate,
            delay: settings.load_delay.positive(),
        }))
    }
}
