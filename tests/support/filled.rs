//! A storage that is full of certificates, as a server has it after years.

use std::{fs, path::Path};

use time::{Duration, OffsetDateTime};

/// A certificate authority outside that was asked for all of them.
pub struct Past {
    /// Its directory.
    pub directory: String,
    /// When the certificates were issued, and until when they are valid.
    pub validity: (OffsetDateTime, OffsetDateTime),
}

impl Past {
    /// An authority whose certificates of 90 days were all issued ten days ago.
    pub fn new(directory: &str) -> Self {
        let from = OffsetDateTime::now_utc() - Duration::days(10);
        Self { directory: directory.to_owned(), validity: (from, from + Duration::days(90)) }
    }

    /// Fills a storage with a certificate, key and metadata for each name, as Caddy lays them out
    /// (T122–T125). Each has a key of its own.
    pub fn fill<'a>(&self, storage: &Path, names: impl IntoIterator<Item = &'a str>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut root = rcgen::CertificateParams::default();
        root.distinguished_name.push(rcgen::DnType::CommonName, "Root of the past");
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root_pem = root.self_signed(&key).unwrap().pem();
        let issuer = rcgen::Issuer::new(root, key);
        let place = self.directory.trim_start_matches("https://").replace([':', '/'], "-");
        for name in names {
            let mut leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
            (leaf.not_before, leaf.not_after) = self.validity;
            let key = rcgen::KeyPair::generate().unwrap();
            let chain = leaf.signed_by(&key, &issuer).unwrap().pem() + &root_pem;
            let metadata = serde_json::json!({
                "sans": [name],
                "issuer_data": { "url": "https://127.0.0.1/certificate", "ca": self.directory },
            });
            let name = name.replace('*', "wildcard_");
            let folder = storage.join("certificates").join(&place).join(&name);
            fs::create_dir_all(&folder).unwrap();
            for (end, content) in [
                ("crt", chain),
                ("key", key.serialize_pem()),
                ("json", serde_json::to_string_pretty(&metadata).unwrap()),
            ] {
                fs::write(folder.join(format!("{name}.{end}")), content).unwrap();
            }
        }
    }
}
