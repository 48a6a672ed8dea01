//! Roots of the local authorities that expire: nobody can renew them but people, since every client
//! has to be told to trust the next one (T151).

use std::sync::PoisonError;

use serde_json::json;

use super::CertManager;
use crate::{
    automate::subject::{Event, step},
    timestamp::{self, Timestamp},
};

/// How long before its end a root is told of, seconds.
const AHEAD: Timestamp = 90 * 24 * 60 * 60;
/// No more than this share of its lifetime.
const SHARE: Timestamp = 5;
/// How often, seconds.
const TELL_EVERY: Timestamp = 24 * 60 * 60;

impl CertManager {
    /// Tells of roots that have expired or soon will, in the log and by the events
    /// `ca_root_expired` and `ca_root_expiring` of the module `pki`, which Caddy does not have.
    pub(in crate::automate) fn look_at_roots(&self) {
        let now = self.now();
        for ca in self.pki.open_authorities() {
            let Some(root) = ca.root_facts() else { continue };
            let left = root.not_after.saturating_sub(now);
            let lifetime = root.not_after.saturating_sub(root.not_before);
            if left > AHEAD.min(lifetime / SHARE) || !self.is_news(ca.id(), now) {
                continue;
            }
            let not_after = timestamp::text(root.not_after);
            if left <= 0 {
                tracing::error!(
                    target: "pki.ca",
                    ca = ca.id(),
                    subject = root.common_name,
                    not_after,
                    remedy = REMEDY,
                    "root certificate has expired: certificates are made all the same, and clients \
                     that look at the root refuse them"
                );
            } else {
                tracing::warn!(
                    target: "pki.ca",
                    ca = ca.id(),
                    subject = root.common_name,
                    not_after,
                    remedy = REMEDY,
                    "root certificate expires soon, and is not renewed by itself"
                );
            }
            let name = if left <= 0 { "ca_root_expired" } else { "ca_root_expiring" };
            let data = json!({
                "ca": ca.id(),
                "subject": root.common_name,
                "not_after": not_after,
                "remaining": timestamp::span(left),
            });
            self.events.tell(name, "pki", data);
        }
    }

    /// Lets names have new certificates whose authorities have another root than before: clients
    /// that know the new one need not know the old one, or know that it has expired. What there is
    /// is served until then.
    pub(super) async fn renew_under_new_roots(&self) {
        if self.beside || !self.pki.has_replaced() {
            return;
        }
        let (pki, now) = (self.pki.clone(), self.now());
        // A panic there is told by the runtime; the names are renewed when they are due.
        let replaced = tokio::task::spawn_blocking(move || pki.new_roots(now)).await;
        let replaced = replaced.unwrap_or_default();
        for entry in self.lock().entries.values_mut() {
            let Some(served) = &entry.served else { continue };
            if replaced.contains(&served.issuer) && entry.subject.is_local() {
                entry.revoked = Some(served.certificate.fingerprint);
                entry.state = step(entry.state, Event::RenewAt(now), now).0;
            }
        }
    }

    fn is_news(&self, ca: &str, now: Timestamp) -> bool {
        let mut told = self.roots_told.lock().unwrap_or_else(PoisonError::into_inner);
        match told.get(ca) {
            // A clock that was set back is no reason to be silent.
            Some(at) if now.saturating_sub(*at) < TELL_EVERY && *at <= now => false,
            _ => {
                told.insert(ca.to_owned(), now);
                true
            }
        }
    }
}

const REMEDY: &str = "put another root into the config (`pki`), or move the authority's folder away \
    from the storage and start again; then let clients trust the new root (`caddis trust`)";
