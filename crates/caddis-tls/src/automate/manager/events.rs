//! What is told of certificates and handshakes (T094, T095).

use serde_json::{Map, Value as Json, json};

use super::{CertManager, Issuer, ManagedSubject, Outcome};
use crate::timestamp::{self, Timestamp};

/// Who tells.
const MODULE: &str = "tls";

impl CertManager {
    /// Whether somebody wants to hear of handshakes.
    pub fn wants_hello(&self) -> bool {
        self.events.wants("tls_get_certificate", MODULE)
    }

    /// Tells of a handshake and waits for those who may abort it; `hello` is of
    /// [`crate::hello_data`]. May be called on any runtime.
    ///
    /// # Errors
    /// It was aborted, which ends the handshake.
    pub async fn tell_hello(&self, hello: Json) -> Result<(), String> {
        let name = hello.get("ServerName").and_then(Json::as_str).unwrap_or_default().to_owned();
        let data = json!({ "client_hello": hello });
        let told = self.events.emit("tls_get_certificate", MODULE, data).await;
        told.map_err(|error| {
            tracing::error!(
                target: "tls",
                server_name = name,
                %error,
                "TLS handshake aborted by event handler"
            );
            format!("handshake aborted by event handler: {error}")
        })
    }

    /// Tells of a certificate whose files can be read now.
    pub(super) fn tell_obtained(&self, data: Json) {
        self.events.tell("cert_obtained", MODULE, data);
    }

    /// Tells of an outcome. Trouble with the storage is told when it begins, and of a certificate
    /// that could not be stored it is told that it could not; that it was obtained is told when its
    /// files are there, since handlers read them.
    pub(super) fn tell(
        &self,
        name: &str,
        subject: &ManagedSubject,
        outcome: &mut Outcome,
        now: Timestamp,
    ) {
        if self.events.current().is_none() {
            return;
        }
        let (old, was_told) = {
            let inner = self.lock();
            let entry = inner.entries.get(name);
            let was_told = match &*outcome {
                Outcome::Failed(failure, _) => {
                    entry.is_some_and(|entry| entry.was_told(failure, now))
                }
                _ => false,
            };
            (entry.and_then(|entry| entry.certificate()), was_told)
        };
        let mut data = Map::new();
        data.insert("identifier".into(), name.into());
        data.insert("renewal".into(), old.is_some().into());
        if let Some(old) = old {
            let remaining = timestamp::span(old.not_after.saturating_sub(now));
            data.insert("remaining".into(), remaining.into());
        }
        let issuers =
            || -> Vec<String> { subject.issuers.iter().map(Issuer::storage_key).collect() };
        match outcome {
            Outcome::Issued(served) => {
                if let Some(error) = served.not_stored() {
                    let mut data = data.clone();
                    data.insert("issuers".into(), issuers().into());
                    let error = format!("certificate could not be stored: {error}");
                    data.insert("error".into(), error.into());
                    self.events.tell("cert_failed", MODULE, data.into());
                }
                let keys = &served.keys;
                let folder = keys.certificate.rsplit_once('/').map_or("", |(path, _)| path);
                data.insert("issuer".into(), served.issuer.as_str().into());
                data.insert("storage_path".into(), folder.into());
                data.insert("certificate_path".into(), keys.certificate.as_str().into());
                data.insert("private_key_path".into(), keys.private_key.as_str().into());
                data.insert("metadata_path".into(), keys.metadata.as_str().into());
                if let Some(csr) = served.csr.take() {
                    data.insert("csr_pem".into(), csr.into_string().into());
                }
                let data = Json::from(data);
                let untold = served.unstored.is_some().then(|| data.clone());
                if let Some(entry) = self.lock().entries.get_mut(name) {
                    entry.untold = untold;
                }
                if served.unstored.is_none() {
                    self.tell_obtained(data);
                }
            }
            Outcome::Failed(_, _) if was_told => {}
            Outcome::Failed(failure, _) => {
                data.insert("issuers".into(), issuers().into());
                data.insert("error".into(), failure.to_string().into());
                self.events.tell("cert_failed", MODULE, data.into());
            }
            _ => {}
        }
        if let Outcome::Issued(served) | Outcome::Found(served) = outcome {
            let sans = &served.certificate.names;
            self.events.tell("cached_managed_cert", MODULE, json!({ "sans": sans }));
        }
    }
}
