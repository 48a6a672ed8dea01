//! `tls.ca_pool.source.*`: the authorities that client certificates may come from.
//!
//! JSON, key `provider`: `inline {trusted_ca_certs}`, `file {pem_files}`,
//! `pki_root {authority}`, `pki_intermediate {authority}`, `storage {pem_keys}`, `system {}`,
//! `combined {sources}`, `http {endpoints, tls}`.

use base64::{Engine, prelude::BASE64_STANDARD};
use caddis_config::ConfigError;
use caddis_core::template::{Template, Unknown};
use rustls_pki_types::CertificateDer;
use serde::Deserialize;
use serde_json::Value;

use super::{
    BindCx,
    http_pool::{HttpPool, TlsConfig},
};
use crate::{
    certificate::parse_chain,
    error::{Context, Error, Result},
    storage, timestamp,
};

/// Pools in pools deeper than this are refused.
const MAX_DEPTH: usize = 8;

/// Where authorities come from.
#[derive(Debug, Clone, PartialEq)]
pub enum CaPool {
    /// In the configuration.
    Inline(Vec<CertificateDer<'static>>),
    /// PEM files.
    File(Vec<String>),
    /// Roots of own authorities.
    PkiRoot(Vec<String>),
    /// Intermediates of own authorities.
    PkiIntermediate(Vec<String>),
    /// Keys in a storage.
    Storage(Option<Value>, Vec<String>),
    /// The system's.
    System,
    /// All of these.
    Combined(Vec<Self>),
    /// Fetched.
    Http(HttpPool),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Fields {
    trusted_ca_certs: Option<Vec<String>>,
    pem_files: Option<Vec<String>>,
    authority: Option<Vec<String>>,
    storage: Option<Value>,
    pem_keys: Option<Vec<String>>,
    sources: Option<Vec<Value>>,
    endpoints: Option<Vec<String>>,
    tls: Option<TlsConfig>,
}

impl CaPool {
    /// Reads the JSON of a pool.
    ///
    /// # Errors
    /// An unknown provider, unknown fields, broken certificates.
    pub fn compile(json: &Value) -> std::result::Result<Self, ConfigError> {
        Self::at_depth(json, 0)
    }

    fn at_depth(json: &Value, depth: usize) -> std::result::Result<Self, ConfigError> {
        if depth > MAX_DEPTH {
            return Err(ConfigError::new("", "CA pools are nested too deeply"));
        }
        let provider = json.get("provider").and_then(Value::as_str).unwrap_or_default();
        if provider.is_empty() {
            let message = "module name not specified with key 'provider'";
            return Err(ConfigError::new("", message));
        }
        let mut rest = json.clone();
        if let Some(object) = rest.as_object_mut() {
            object.remove("provider");
        }
        let allowed: &[&str] = match provider {
            "inline" => &["trusted_ca_certs"],
            "file" => &["pem_files"],
            "pki_root" | "pki_intermediate" => &["authority"],
            "storage" => &["storage", "pem_keys"],
            "system" => &[],
            "combined" => &["sources"],
            "http" => &["endpoints", "tls"],
            _ => {
                let message = format!("unknown module: tls.ca_pool.source.{provider}");
                return Err(ConfigError::new("", message));
            }
        };
        if let Some(name) = rest
            .as_object()
            .and_then(|object| object.keys().find(|key| !allowed.contains(&key.as_str())))
        {
            return Err(ConfigError::new("", format!("json: unknown field {name:?}")));
        }
        let fields: Fields = caddis_config::decode(rest)?;
        Ok(match provider {
            "inline" => Self::inline(&fields.trusted_ca_certs.unwrap_or_default())?,
            "file" => Self::File(fields.pem_files.unwrap_or_default()),
            "pki_root" => Self::PkiRoot(fields.authority.unwrap_or_default()),
            "pki_intermediate" => Self::PkiIntermediate(fields.authority.unwrap_or_default()),
            "storage" => match fields.pem_keys.filter(|keys| !keys.is_empty()) {
                Some(keys) => Self::Storage(fields.storage, keys),
                None => return Err(ConfigError::new("pem_keys", "no PEM keys specified")),
            },
            "combined" => match fields.sources.filter(|sources| !sources.is_empty()) {
                Some(sources) => Self::Combined(
                    sources
                        .iter()
                        .map(|source| Self::at_depth(source, depth + 1))
                        .collect::<std::result::Result<_, _>>()?,
                ),
                None => {
                    let message = "no sources specified for combined CA pool";
                    return Err(ConfigError::new("sources", message));
                }
            },
            "http" => Self::Http(HttpPool::compile(
                fields.endpoints.unwrap_or_default(),
                fields.tls,
                |json| Self::at_depth(json, depth + 1),
            )?),
            _ => Self::System,
        })
    }

    /// Certificates in base64.
    pub(super) fn inline(texts: &[String]) -> std::result::Result<Self, ConfigError> {
        texts
            .iter()
            .map(|text| decode(text))
            .collect::<std::result::Result<_, _>>()
            .map(Self::Inline)
    }

    /// The files that cannot be read or used. Blocks.
    pub(super) fn faults(&self) -> Vec<Error> {
        match self {
            Self::File(files) => files.iter().filter_map(|file| read(file).err()).collect(),
            Self::Combined(pools) => pools.iter().flat_map(Self::faults).collect(),
            _ => Vec::new(),
        }
    }

    /// The certificates. Blocks.
    ///
    /// # Errors
    /// Unreadable files, unknown authorities.
    pub fn load(&self, cx: &BindCx<'_>) -> Result<Vec<CertificateDer<'static>>> {
        let mut out = Vec::new();
        match self {
            Self::Inline(certificates) => out.extend(certificates.iter().cloned()),
            Self::File(files) => {
                for file in files {
                    out.extend(read(file)?);
                }
            }
            Self::PkiRoot(ids) => {
                for id in ids {
                    out.extend_from_slice(cx.pki.authority(id, timestamp::now())?.root_der());
                }
            }
            Self::PkiIntermediate(ids) => {
                for id in ids {
                    out.extend(cx.pki.authority(id, timestamp::now())?.intermediate_der());
                }
            }
            Self::Storage(config, keys) => {
                let own = config.as_ref().map(|_| storage::from_config(config)).transpose();
                let own = own.map_err(Error::new)?;
                let storage = own.as_deref().unwrap_or(cx.storage);
                for key in keys {
                    let text = storage.load(key).context(format!("loading {key}"))?;
                    out.extend(parse_chain(&text).context(key)?);
                }
            }
            Self::System => out.extend(rustls_native_certs::load_native_certs().certs),
            Self::Http(pool) => out.extend(pool.load(cx)?),
            Self::Combined(pools) => {
                for pool in pools {
                    out.extend(pool.load(cx)?);
                }
            }
        }
        Ok(out)
    }
}

fn read(file: &str) -> Result<Vec<CertificateDer<'static>>> {
    let file = Template::render_global(file, Unknown::Keep);
    let text = std::fs::read(&file).context(format!("reading {file}"))?;
    parse_chain(&text).context(&file)
}

/// A certificate in base64 DER.
pub(crate) fn decode(text: &str) -> std::result::Result<CertificateDer<'static>, ConfigError> {
    BASE64_STANDARD
        .decode(text)
        .map(CertificateDer::from)
        .map_err(|error| ConfigError::new("", format!("parsing certificate: {error}")))
}
