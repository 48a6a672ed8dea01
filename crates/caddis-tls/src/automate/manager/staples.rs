//! Looking after the staples of all certificates.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use super::CertManager;
use crate::{
    automate::subject::{Event, step},
    certificate::Certificate,
    ocsp::Looked,
    storage::Storage,
};

/// How long a certificate waits for a staple that it demands.
pub(super) const STAPLE_WAIT: Duration = Duration::from_secs(10);

impl CertManager {
    /// Gets the staple of a certificate that clients refuse without one, before it is served: a
    /// responder has a while, and then the certificate is served as it is, as in Caddy.
    pub(super) async fn staple_first(&self, certificate: &Certificate, storage: Arc<dyn Storage>) {
        if !certificate.must_staple {
            return;
        }
        let Some(overrides) = self.lock().ocsp.clone() else { return };
        let now = self.now();
        if self.staples.is_due(certificate, now) {
            let looking = self.staples.look(certificate, &storage, &overrides, now);
            // What came of it is asked for below; the task that looks after all goes on from there.
            let _ = tokio::time::timeout(STAPLE_WAIT, looking).await;
        }
        if !self.staples.has(certificate, now) {
            tracing::warn!(
                target: "tls",
                identifiers = certificate.names.join(","),
                "the certificate demands an OCSP staple, and there is none: clients may refuse it"
            );
        }
    }

    /// Gets the staples that are due, one after the other.
    pub(in crate::automate) async fn look_at_staples(self: &Arc<Self>) {
        let (overrides, storage) = {
            let inner = self.lock();
            let Some(overrides) = inner.ocsp.clone() else { return };
            (overrides, inner.storage.clone())
        };
        let now = self.now();
        let index = self.store.load();
        self.staples.retain(index.all());
        let due = index.all().iter().filter(|one| self.staples.is_due(one, now));
        let mut news = false;
        for certificate in due {
            let storage = self.storage_of(certificate).unwrap_or_else(|| storage.clone());
            match self.staples.look(certificate, &storage, &overrides, now).await {
                Looked::Same => {}
                Looked::New => news = true,
                Looked::Revoked => {
                    news = true;
                    self.replace_revoked(certificate);
                }
            }
        }
        if news {
            self.publish();
        }
    }

    /// The storage of a managed certificate's own.
    fn storage_of(&self, certificate: &Certificate) -> Option<Arc<dyn Storage>> {
        let inner = self.lock();
        let mut with_own = inner.entries.values().filter(|entry| entry.subject.storage.is_some());
        let entry = with_own.find(|entry| {
            entry.certificate().is_some_and(|one| one.fingerprint == certificate.fingerprint)
        })?;
        Some(entry.subject.storage(&inner.storage))
    }

    /// A managed certificate that was revoked is replaced at once.
    fn replace_revoked(&self, certificate: &Certificate) {
        tracing::error!(
            target: "tls",
            identifiers = certificate.names.join(","),
            serial = certificate.serial,
            "certificate was revoked by its authority"
        );
        self.events.tell(
            "cert_ocsp_revoked",
            "tls",
            json!({
                "subjects": certificate.names,
                "serial": certificate.serial,
            }),
        );
        let now = self.now();
        let mut inner = self.lock();
        for entry in inner.entries.values_mut() {
            let print = entry.certificate().map(|one| one.fingerprint);
            if print == Some(certificate.fingerprint) && entry.revoked != print {
                entry.revoked = print;
                entry.state = step(entry.state, Event::RenewAt(now), now).0;
            }
        }
        self.wake.notify_one();
    }
}
