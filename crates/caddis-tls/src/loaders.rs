//! `tls.certificates.*`: certificates that are given, not obtained (T160–T167).
//!
//! JSON, a map by loader: `automate: ["name"]`, `load_files: [{"certificate", "key", "format",
//! "tags"}]`, `load_folders: ["dir"]`, `load_pem: [{"certificate", "key", "tags"}]`,
//! `load_storage: {"pairs": [{"certificate", "key", "format", "tags"}], "storage": {…}}`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use caddis_config::{
    ConfigError, ModuleMap,
    tls::{CertKeyFilePair, CertKeyPemPair},
};
use caddis_core::template::{Template, Unknown};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    certificate::Certificate,
    error::{Context, Error, Result},
    policy::pem_files,
    storage::{self, Storage},
};

/// The loaders of a configuration.
#[derive(Debug, Clone, Default)]
pub struct Loaders {
    /// Names to manage (`automate`).
    pub automate: Vec<String>,
    files: Vec<CertKeyFilePair>,
    folders: Vec<String>,
    pems: Vec<CertKeyPemPair>,
    stored: StorageLoader,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StorageLoader {
    storage: Option<Value>,
    pairs: Vec<CertKeyFilePair>,
}

/// Reads the loaders' JSON; no certificate is read yet.
///
/// # Errors
/// An unknown loader, unknown fields.
pub fn compile_loaders(modules: &ModuleMap) -> std::result::Result<Loaders, ConfigError> {
    let mut loaders = Loaders::default();
    for (name, json) in modules {
        let json = json.clone();
        let decoded = match name.as_str() {
            "automate" => caddis_config::decode(json).map(|names| loaders.automate = names),
            "load_files" => caddis_config::decode(json).map(|files| loaders.files = files),
            "load_folders" => caddis_config::decode(json).map(|dirs| loaders.folders = dirs),
            "load_pem" => caddis_config::decode(json).map(|pems| loaders.pems = pems),
            "load_storage" => caddis_config::decode(json).map(|stored| loaders.stored = stored),
            _ => Err(ConfigError::new("", format!("unknown module: tls.certificates.{name}"))),
        };
        decoded.map_err(|error| error.under(name))?;
    }
    for pair in loaders.files.iter().chain(&loaders.stored.pairs) {
        if !matches!(pair.format.as_str(), "" | "pem") {
            let message = format!("unrecognized certificate/key encoding format: {}", pair.format);
            return Err(ConfigError::new("", message));
        }
    }
    Ok(loaders)
}

/// The files of a configuration as they were at some time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<(PathBuf, Option<(SystemTime, u64)>)>);

impl Loaders {
    /// What the files look like now; another stamp means that they are to be read again. Blocks.
    pub(crate) fn stamp(&self) -> Stamp {
        let pairs = self.files.iter().flat_map(|pair| [&pair.certificate, &pair.key]);
        let mut paths: Vec<PathBuf> = pairs.map(|file| PathBuf::from(global(file))).collect();
        for folder in &self.folders {
            // A folder that cannot be read now is told when it is loaded.
            paths.extend(pem_files(Path::new(&global(folder))).unwrap_or_default());
        }
        let seen = |path: &PathBuf| {
            let facts = std::fs::metadata(path).ok()?;
            Some((facts.modified().ok()?, facts.len()))
        };
        Stamp(paths.into_iter().map(|path| (path.clone(), seen(&path))).collect())
    }

    /// Whether there are files that may change.
    pub(crate) fn watchable(&self) -> bool {
        !self.files.is_empty() || !self.folders.is_empty()
    }

    /// Reads all certificates. Blocks.
    ///
    /// # Errors
    /// The first file that cannot be read or used.
    pub fn load(&self, default_storage: &dyn Storage) -> Result<Vec<Arc<Certificate>>> {
        let mut all = Ok(Vec::new());
        self.each(default_storage, &mut |one| match (one, &mut all) {
            (Ok(certificate), Ok(list)) => list.push(certificate),
            (Err(error), Ok(_)) => all = Err(error),
            (_, Err(_)) => {}
        });
        all
    }

    /// Every file that cannot be read or used. Blocks.
    pub fn faults(&self, default_storage: &dyn Storage) -> Vec<Error> {
        let mut all = Vec::new();
        self.each(default_storage, &mut |one| all.extend(one.err()));
        all
    }

    /// Calls `see` with each certificate, or why there is none.
    fn each(&self, default_storage: &dyn Storage, see: &mut dyn FnMut(Result<Arc<Certificate>>)) {
        for pair in &self.files {
            see(file_pair(pair));
        }
        for folder in &self.folders {
            match pem_files(Path::new(&global(folder))) {
                Ok(files) => files.iter().for_each(|file| see(bundle(file))),
                Err(error) => see(Err(error)),
            }
        }
        for (at, pair) in self.pems.iter().enumerate() {
            let (chain, key) = (pair.certificate.as_bytes(), pair.key.as_bytes());
            let certificate = Certificate::from_pem(chain, key, pair.tags.clone());
            see(usable(certificate, format!("PEM pair {at}")));
        }
        let own = self.stored.storage.as_ref();
        let own = own.map(|_| storage::from_config(&self.stored.storage)).transpose();
        match own.map_err(Error::new) {
            Ok(own) => {
                let storage = own.as_deref().unwrap_or(default_storage);
                self.stored.pairs.iter().for_each(|pair| see(stored_pair(pair, storage)));
            }
            Err(error) => see(Err(error)),
        }
    }
}

fn file_pair(pair: &CertKeyFilePair) -> Result<Arc<Certificate>> {
    let (certificate, key) = (global(&pair.certificate), global(&pair.key));
    let chain =
        std::fs::read(&certificate).context(format!("loading certificates: open {certificate}"))?;
    let key = std::fs::read(&key).context(format!("loading certificates: open {key}"))?;
    usable(Certificate::from_pem(&chain, &key, pair.tags.clone()), certificate)
}

fn bundle(file: &Path) -> Result<Arc<Certificate>> {
    let bundle = std::fs::read(file).context(file.display())?;
    usable(Certificate::from_bundle(&bundle, Vec::new()), file.display())
}

fn stored_pair(pair: &CertKeyFilePair, storage: &dyn Storage) -> Result<Arc<Certificate>> {
    let chain = storage.load(&pair.certificate).context(&pair.certificate)?;
    let key = storage.load(&pair.key).context(&pair.key)?;
    usable(Certificate::from_pem(&chain, &key, pair.tags.clone()), &pair.certificate)
}

fn usable(
    certificate: Result<Certificate>,
    what: impl std::fmt::Display,
) -> Result<Arc<Certificate>> {
    certificate.map(Arc::new).context(format!("loading certificates: {what}"))
}

fn global(text: &str) -> String {
    Template::render_global(text, Unknown::Keep)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::compile_loaders;
    use crate::{
        key::{KeyType, to_pem},
        storage::{FileSystem, Storage},
        testing::TempDir,
    };

    #[test]
    fn every_loader_loads() {
        let dir = TempDir::new();
        let storage = FileSystem::new(dir.path());
        let make = |name: &str| {
            let key = KeyType::P256.generate().unwrap();
            let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.self_signed(&key).unwrap().pem(), to_pem(&key))
        };
        let (chain, key) = make("a.test");
        storage.store("a.crt", chain.as_bytes()).unwrap();
        storage.store("a.key", key.as_bytes()).unwrap();
        let (chain, key) = make("b.test");
        storage.store("dir/sub/b.pem", format!("{chain}{key}").as_bytes()).unwrap();
        storage.store("dir/readme.txt", b"not a certificate").unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (chain, key) = make("c.test");
        let json = json!({
            "automate": ["x.test"],
            "load_files": [{"certificate": path("a.crt"), "key": path("a.key"), "tags": ["cert0"]}],
            "load_folders": [path("dir")],
            "load_pem": [{"certificate": chain, "key": key}],
            "load_storage": {"pairs": [{"certificate": "a.crt", "key": "a.key"}]},
        });
        let loaders = compile_loaders(&serde_json::from_value(json).unwrap()).unwrap();
        assert_eq!(loaders.automate, ["x.test"]);
        let loaded = loaders.load(&storage).unwrap();
        assert_eq!(loaded.len(), 4);
        assert_eq!(loaded[0].tags, ["cert0"]);
        assert!(loaded[1].covers("b.test"));
    }

    #[test]
    fn missing_files_are_named() {
        let json = json!({"load_files": [{"certificate": "/none.crt", "key": "/none.key"}]});
        let loaders = compile_loaders(&serde_json::from_value(json).unwrap()).unwrap();
        let error = loaders.load(&FileSystem::new("/none")).unwrap_err();
        assert!(error.to_string().contains("/none.crt"), "{error}");
        let json = serde_json::from_value(json!({"x": 1})).unwrap();
        assert_eq!(
            compile_loaders(&json).unwrap_err().message,
            "unknown module: tls.certificates.x"
        );
    }
}
