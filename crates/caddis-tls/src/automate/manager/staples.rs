//! Looking after the staples of all certificates.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::json;
use tokio::task::JoinSet;

use super::CertManager;
use crate::{
    automate::subject::{Event, step},
    certificate::Certificate,
    ocsp::{Looked, Revocation},
    storage::{self, Storage, keys::SiteKeys},
    timestamp::{self, Timestamp},
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
        let Some(rules) = self.lock().ocsp.clone() else { return };
        let now = self.now();
        if self.staples.is_due(certificate, now) {
            let looking = self.staples.look(certificate, &storage, &rules, now);
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
        let Some(rules) = self.lock().ocsp.clone() else { return };
        let now = self.now();
        let index = self.store.load();
        self.staples.retain(index.all());
        let lapsed = |one: &&Arc<Certificate>| self.staples.has_lapsed(one, now);
        let (due, rest): (Vec<_>, Vec<_>) =
            index.all().iter().cloned().partition(|one| self.staples.is_due(one, now));
        if rest.iter().any(|one| lapsed(&one)) {
            // Clients take one that is over for an error, where none is no matter to most.
            self.publish();
        }
        if due.is_empty() {
            return;
        }
        let storages = self.storages_of_their_own();
        let default = self.lock().storage.clone();
        for some in due.chunks(AT_A_TIME) {
            let mut looks = JoinSet::new();
            for certificate in some {
                let (this, certificate) = (self.clone(), certificate.clone());
                let rules = rules.clone();
                let storage = storages.get(&certificate.fingerprint).unwrap_or(&default).clone();
                looks.spawn(async move {
                    let looked = this.staples.look(&certificate, &storage, &rules, now).await;
                    (certificate, looked)
                });
            }
            let mut news = false;
            // A panic there is told by the runtime; the next round tries again.
            while let Some(Ok((certificate, looked))) = looks.join_next().await {
                news |= looked != Looked::Same;
                if let Looked::Revoked(revocation) = looked {
                    self.replace_revoked(&certificate, revocation).await;
                }
            }
            // Where a responder answers in time its new staple takes the place of one that is over.
            if news || some.iter().any(|one| lapsed(&one)) {
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
    pub(super) async fn replace_revoked(&self, certificate: &Certificate, revocation: Revocation) {
        let revoked_at = timestamp::text(revocation.at);
        tracing::error!(
            target: "tls",
            identifiers = certificate.names.join(","),
            serial = certificate.serial,
            reason = revocation.reason,
            revoked_at,
            "certificate was revoked by its authority"
        );
        let now = self.now();
        let revoked = self.mark_revoked(certificate, now);
        // A given certificate is replaced by who gave it.
        if revoked.is_empty() {
            return;
        }
        self.events.tell(
            "cert_ocsp_revoked",
            "tls",
            json!({
                "subjects": certificate.names,
                "serial": certificate.serial,
                "reason": revocation.reason,
                "revoked_at": revoked_at,
            }),
        );
        if revocation.is_of_key() {
            let moved = tokio::task::spawn_blocking(move || {
                for (storage, keys) in revoked {
                    put_away(&*storage, &keys);
                }
            });
            // A panic there is told by the runtime.
            let _ = moved.await;
        }
        for entry in self.lock().entries.values_mut() {
            if let (Some(print), Some(at)) = (entry.revoked, entry.replaced_at)
                && print == certificate.fingerprint
            {
                entry.state = step(entry.state, Event::RenewAt(at), now).0;
            }
        }
        self.wake.notify_one();
    }

    /// Notes when the names of a revoked certificate get another one; where the files of those are of
    /// which this is news.
    fn mark_revoked(
        &self,
        certificate: &Certificate,
        now: Timestamp,
    ) -> Vec<(Arc<dyn Storage>, SiteKeys)> {
        let mut inner = self.lock();
        let mut revoked = Vec::new();
        let storage = inner.storage.clone();
        for entry in inner.entries.values_mut() {
            let Some(served) = &entry.served else { continue };
            let print = Some(served.certificate.fingerprint);
            if print == Some(certificate.fingerprint) && entry.revoked != print {
                revoked.push((entry.subject.storage(&storage), served.keys.clone()));
                entry.revoked = print;
                let again = entry.replaced_at.map_or(now, |at| at.saturating_add(REVOKED_AGAIN));
                entry.replaced_at = Some(again.clamp(now, now.saturating_add(REVOKED_AGAIN)));
            }
        }
        revoked
    }
}

/// Moves a key that others may have out of use, so that it is not in the next certificate, too
/// (`reuse_private_keys`). Blocks.
fn put_away(storage: &dyn Storage, keys: &SiteKeys) {
    let key = &keys.private_key;
    let moved = storage.load(key).and_then(|pem| {
        let kept = storage.store(&format!("{key}.compromised"), &pem);
        // Whether or not there is a copy, it is used no more.
        storage.delete(key).and(kept)
    });
    match moved {
        Ok(()) => tracing::info!(
            target: "tls",
            key,
            "removed certificate's compromised private key from use"
        ),
        Err(error) => tracing::error!(
            target: "tls",
            key,
            %error,
            remedy = storage::remedy(error.kind()),
            "could not remove compromised private key from use"
        ),
    }
}
