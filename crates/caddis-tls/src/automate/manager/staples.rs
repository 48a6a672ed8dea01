//! Looking after the staples of all certificates.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::json;
use tokio::task::JoinSet;

use super::CertManager;
use crate::{
    automate::subject::{Event, step},
    certificate::Certificate,
    ocsp::Looked,
    storage::Storage,
};

/// How long a certificate waits for a staple that it demands.
pub(super) const STAPLE_WAIT: Duration = Duration::from_secs(10);

/// Seconds until a certificate is replaced that was revoked as soon as it had replaced another one: an
/// authority that revokes all it gives (or whose responder says so) is not to be stormed.
const REVOKED_AGAIN: i64 = 60 * 60;

/// Responders asked at the same time.
const AT_A_TIME: usize = 8;

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

    /// Gets the staples that are due, some at a time, so that responders that do not answer hold up
    /// those of others for a moment only.
    pub(in crate::automate) async fn look_at_staples(self: &Arc<Self>) {
        let Some(overrides) = self.lock().ocsp.clone() else { return };
        let overrides = Arc::new(overrides);
        let now = self.now();
        let index = self.store.load();
        self.staples.retain(index.all());
        if index.all().iter().any(|one| self.staples.has_lapsed(one, now)) {
            // Clients take one that is over for an error, where none is no matter to most.
            self.publish();
        }
        let due = index.all().iter().filter(|one| self.staples.is_due(one, now));
        let due: Vec<Arc<Certificate>> = due.cloned().collect();
        if due.is_empty() {
            return;
        }
        let storages = self.storages_of_their_own();
        let default = self.lock().storage.clone();
        for some in due.chunks(AT_A_TIME) {
            let mut looks = JoinSet::new();
            for certificate in some {
                let (this, certificate) = (self.clone(), certificate.clone());
                let overrides = overrides.clone();
                let storage = storages.get(&certificate.fingerprint).unwrap_or(&default).clone();
                looks.spawn(async move {
                    let looked = this.staples.look(&certificate, &storage, &overrides, now).await;
                    (certificate, looked)
                });
            }
            let mut news = false;
            // A panic there is told by the runtime; the next round tries again.
            while let Some(Ok((certificate, looked))) = looks.join_next().await {
                news |= looked != Looked::Same;
                if looked == Looked::Revoked {
                    self.replace_revoked(&certificate);
                }
            }
            if news {
                self.publish();
            }
        }
    }

    /// The storages of managed certificates that are not where the others are.
    fn storages_of_their_own(&self) -> HashMap<[u8; 32], Arc<dyn Storage>> {
        let inner = self.lock();
        let with_own = inner.entries.values().filter(|entry| entry.subject.storage.is_some());
        with_own
            .filter_map(|entry| {
                let print = entry.certificate()?.fingerprint;
                Some((print, entry.subject.storage(&inner.storage)))
            })
            .collect()
    }

    /// A managed certificate that was revoked is replaced at once, or after a while where it had just
    /// replaced another one.
    pub(super) fn replace_revoked(&self, certificate: &Certificate) {
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
                let again = entry.replaced_at.map_or(now, |at| at.saturating_add(REVOKED_AGAIN));
                let at = again.clamp(now, now.saturating_add(REVOKED_AGAIN));
                entry.replaced_at = Some(at);
                entry.state = step(entry.state, Event::RenewAt(at), now).0;
            }
        }
        self.wake.notify_one();
    }
}
