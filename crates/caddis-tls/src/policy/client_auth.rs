//! `client_authentication`: whether clients show a certificate, and which are accepted.
//!
//! JSON (J118): `{"mode": "request" | "require" | "verify_if_given" | "require_and_verify",
//! "ca": {"provider": "…"}, "trusted_ca_certs": ["…"], "trusted_ca_certs_pem_files": ["…"],
//! "trusted_leaf_certs": ["…"], "verifiers": [{"verifier": "leaf", "leaf_certs_loaders":
//! [{"loader": "file" | "folder" | "pem" | "storage", …}]}]}`.

use std::{path::Path, sync::Arc};

use caddis_config::{ConfigError, tls::ClientAuthentication};
use caddis_core::template::{Template, Unknown};
use rustls::{
    CertificateError, DistinguishedName, RootCertStore,
    crypto::CryptoProvider,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    BindCx,
    ca_pool::{CaPool, decode},
    client_check::{ClientCheck, ClientVerifier},
};
use crate::{
    certificate::parse_chain,
    error::{Context, Error, Result},
    storage,
};

/// Folders with more entries than this are refused.
const MAX_FILES: usize = 100_000;

/// The compiled form.
#[derive(Debug)]
pub(super) struct ClientAuthPlan {
    mandatory: bool,
    verify: bool,
    pool: Option<CaPool>,
    trusted_leafs: Vec<CertificateDer<'static>>,
    verifiers: Vec<Vec<LeafLoader>>,
}

#[derive(Debug)]
enum LeafLoader {
    File(Vec<String>),
    Folder(Vec<String>),
    Pem(Vec<CertificateDer<'static>>),
    Storage(Option<Value>, Vec<String>),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct LeafConfig {
    #[serde(deserialize_with = "caddis_config::nullable")]
    leaf_certs_loaders: Vec<Value>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct LoaderConfig {
    files: Vec<String>,
    folders: Vec<String>,
    certificates: Vec<String>,
    storage: Option<Value>,
}

impl ClientAuthPlan {
    pub(super) fn compile(config: &ClientAuthentication) -> std::result::Result<Self, ConfigError> {
        let old_pool =
            !config.trusted_ca_certs.is_empty() || !config.trusted_ca_certs_pem_files.is_empty();
        let pool = match &config.ca {
            Some(_) if old_pool => {
                let message = "conflicting config for client authentication trust CA";
                return Err(ConfigError::new("", message));
            }
            Some(json) => Some(CaPool::compile(json).map_err(|error| error.under("ca"))?),
            None if old_pool => Some(CaPool::Combined(vec![
                CaPool::inline(&config.trusted_ca_certs)
                    .map_err(|error| error.under("trusted_ca_certs"))?,
                CaPool::File(config.trusted_ca_certs_pem_files.clone()),
            ])),
            None => None,
        };
        let (mandatory, verify) = match config.mode.as_str() {
            "request" => (false, false),
            "require" => (true, false),
            "verify_if_given" => (false, true),
            "require_and_verify" => (true, true),
            "" => (true, pool.is_some() || !config.trusted_leaf_certs.is_empty()),
            mode => {
                let message = format!("client auth mode not recognized: {mode}");
                return Err(ConfigError::new("mode", message));
            }
        };
        let trusted_leafs = config
            .trusted_leaf_certs
            .iter()
            .map(|text| decode(text).map_err(|error| error.under("trusted_leaf_certs")))
            .collect::<std::result::Result<_, _>>()?;
        let verifiers = config
            .verifiers
            .iter()
            .map(|json| verifier(json).map_err(|error| error.under("verifiers")))
            .collect::<std::result::Result<_, _>>()?;
        Ok(Self { mandatory, verify, pool, trusted_leafs, verifiers })
    }

    /// The files of authorities that cannot be read or used. Blocks.
    pub(super) fn faults(&self) -> Vec<Error> {
        self.pool.iter().filter(|_| self.verify).flat_map(CaPool::faults).collect()
    }

    /// Reads the files and builds the verifier; what is trusted goes into the digest, too. Blocks.
    pub(super) fn bind(
        &self,
        cx: &BindCx<'_>,
        provider: &Arc<CryptoProvider>,
        trusted: &mut Sha256,
    ) -> Result<Arc<dyn ClientCertVerifier>> {
        let mut leaf_sets = Vec::new();
        if !self.trusted_leafs.is_empty() {
            leaf_sets.push(self.trusted_leafs.clone());
        }
        for loaders in &self.verifiers {
            let mut set = Vec::new();
            for loader in loaders {
                set.extend(loader.load(cx)?);
            }
            leaf_sets.push(set);
        }
        let roots = match self.verify {
            true => self.pool.as_ref().unwrap_or(&CaPool::System).load(cx)?,
            false => Vec::new(),
        };
        for set in leaf_sets.iter().chain([&roots]) {
            trusted.update((set.len() as u64).to_le_bytes());
            for certificate in set {
                trusted.update(Sha256::digest(certificate));
            }
        }
        let chain = if self.verify { self.chain_verifier(roots.clone(), provider)? } else { None };
        let policy = Policy {
            // A leaf verifier fails where there is no certificate, whatever the mode.
            mandatory: self.mandatory || !leaf_sets.is_empty(),
            verify: self.verify,
            chain,
            roots,
            leaf_sets,
        };
        Ok(Arc::new(ClientVerifier::new(policy, provider.clone())))
    }

    fn chain_verifier(
        &self,
        certificates: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>> {
        let strict = self.pool.as_ref().is_some_and(|pool| *pool != CaPool::System);
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            let added = roots.add(certificate);
            if strict {
                added.context("trusted CA certificate")?;
            }
        }
        if roots.is_empty() {
            return Ok(None);
        }
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        builder.build().map(Some).map_err(Error::new)
    }
}

/// Whether a client's certificate, which is trusted as such, may be used now and for this: it needs
/// nobody who vouches for it, be it an authority's or not, as in Go.
pub(crate) fn trusted_itself(
    leaf: &CertificateDer<'_>,
    now: UnixTime,
) -> std::result::Result<(), rustls::Error> {
    let (_, certificate) =
        X509Certificate::from_der(leaf).map_err(|_| CertificateError::BadEncoding)?;
    in_time(&certificate, now)?;
    let usage = certificate.extended_key_usage().map_err(|_| CertificateError::BadEncoding)?;
    match usage.is_none_or(|usage| usage.value.client_auth || usage.value.any) {
        true => Ok(()),
        false => Err(CertificateError::InvalidPurpose.into()),
    }
}

/// Whether a certificate is valid at this time.
pub(crate) fn in_time(
    certificate: &X509Certificate<'_>,
    now: UnixTime,
) -> std::result::Result<(), CertificateError> {
    let validity = certificate.validity();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet);
    }
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired);
    }
    Ok(())
}

fn verifier(json: &Value) -> std::result::Result<Vec<LeafLoader>, ConfigError> {
    let name = json.get("verifier").and_then(Value::as_str).unwrap_or_default();
    if name != "leaf" {
        let message = format!("unknown module: tls.client_auth.verifier.{name}");
        return Err(ConfigError::new("", message));
    }
    let config: LeafConfig = caddis_config::decode(without(json, "verifier"))?;
    config.leaf_certs_loaders.iter().map(leaf_loader).collect()
}

fn leaf_loader(json: &Value) -> std::result::Result<LeafLoader, ConfigError> {
    let name = json.get("loader").and_then(Value::as_str).unwrap_or_default();
    let config: LoaderConfig = caddis_config::decode(without(json, "loader"))?;
    Ok(match name {
        "file" => LeafLoader::File(config.files),
        "folder" => LeafLoader::Folder(config.folders),
        "pem" => {
            let mut certificates = Vec::new();
            for text in &config.certificates {
                let parsed = parse_chain(text.as_bytes())
                    .map_err(|error| ConfigError::new("certificates", error.to_string()))?;
                certificates.extend(parsed);
            }
            LeafLoader::Pem(certificates)
        }
        "storage" => LeafLoader::Storage(config.storage, config.certificates),
        _ => {
            let message = format!("unknown module: tls.leaf_cert_loader.{name}");
            return Err(ConfigError::new("", message));
        }
    })
}

fn without(json: &Value, key: &str) -> Value {
    let mut json = json.clone();
    if let Some(object) = json.as_object_mut() {
        object.remove(key);
    }
    json
}

impl LeafLoader {
    fn load(&self, cx: &BindCx<'_>) -> Result<Vec<CertificateDer<'static>>> {
        let mut out = Vec::new();
        match self {
            Self::Pem(certificates) => out.extend(certificates.iter().cloned()),
            Self::File(files) => {
                for file in files {
                    let file = Template::render_global(file, Unknown::Keep);
                    let text = std::fs::read(&file).context(format!("reading {file}"))?;
                    out.extend(parse_chain(&text).context(&file)?);
                }
            }
            Self::Folder(folders) => {
                for folder in folders {
                    let folder = Template::render_global(folder, Unknown::Keep);
                    for file in pem_files(Path::new(&folder))? {
                        let text = std::fs::read(&file).context(file.display())?;
                        out.extend(parse_chain(&text).context(file.display())?);
                    }
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
        }
        Ok(out)
    }
}

/// All `.pem` files below a folder, sorted.
pub(crate) fn pem_files(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).context(folder.display())? {
            let entry = entry?;
            seen += 1;
            if seen > MAX_FILES {
                return Err(Error::new(format!("{}: too many files", folder.display())));
            }
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|extension| extension == "pem") {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

#[derive(Debug)]
struct Policy {
    mandatory: bool,
    verify: bool,
    /// None with `verify`: no authority is trusted.
    chain: Option<Arc<dyn ClientCertVerifier>>,
    /// Those authorities.
    roots: Vec<CertificateDer<'static>>,
    leaf_sets: Vec<Vec<CertificateDer<'static>>>,
}

impl ClientCheck for Policy {
    fn is_mandatory(&self) -> bool {
        self.mandatory
    }

    fn hints(&self) -> &[DistinguishedName] {
        self.chain.as_ref().map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> std::result::Result<(), rustls::Error> {
        if self.verify {
            let Some(chain) = &self.chain else {
                return Err(CertificateError::UnknownIssuer.into());
            };
            match self.roots.contains(leaf) {
                true => trusted_itself(leaf, now)?,
                false => {
                    chain.verify_client_cert(leaf, intermediates, now)?;
                }
            }
        }
        if self.leaf_sets.iter().any(|set| !set.iter().any(|trusted| trusted == leaf)) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(())
    }
}
