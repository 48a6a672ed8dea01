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

    /// Tells of an outcome.
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
        let old = {
            let inner = self.lock();
            inner.entries.get(name).and_then(|entry| entry.certificate())
        };
        let mut data = Map::new();
        data.insert("identifier".into(), name.into());
        data.insert("renewal".into(), old.is_some().into());
        if let Some(old) = old {
            let remaining = timestamp::span(old.not_after.saturating_sub(now));
            data.insert("remaining".into(), remaining.into());
        }
        match outcome {
            Outcome::Issued(served) => {
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
                self.events.tell("cert_obtained", MODULE, data.into());
            }
            Outcome::Failed(failure, _) => {
                let issuers: Vec<String> =
                    subject.issuers.iter().map(Issuer::storage_key).collect();
                data.insert("issuers".into(), issuers.into());
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
