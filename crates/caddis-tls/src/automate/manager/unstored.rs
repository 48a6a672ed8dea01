//! Certificates that could not be stored when they were made: served from memory, and stored as soon
//! as that works, so that neither a restart nor another server has to ask for them again.

use std::{sync::Arc, time::Duration};

use super::{CertManager, Event, entry::STORE_AGAIN, step};

impl CertManager {
    /// The names whose certificates are to be stored.
    pub(in crate::automate) fn to_store(&self) -> Vec<String> {
        let now = self.now();
        let mut inner = self.lock();
        let mut names = Vec::new();
        for (name, entry) in &mut inner.entries {
            if entry.store_at.is_some_and(|at| now >= at) {
                // Until it is known how it went.
                entry.store_at = None;
                names.push(name.clone());
            }
        }
        names
    }

    /// Stores a name's certificate.
    pub(in crate::automate) async fn store_again(self: Arc<Self>, name: String) {
        let Ok(_permit) = self.workers.load.clone().acquire_owned().await else { return };
        let (served, unstored, storage) = {
            let inner = self.lock();
            let Some(entry) = inner.entries.get(&name) else { return };
            let Some(served) = entry.served.clone() else { return };
            let Some(unstored) = served.unstored.clone() else { return };
            (served, unstored, entry.subject.storage(&inner.storage))
        };
        let (keys, not_after) = (served.keys.clone(), served.certificate.not_after);
        let lock = format!("issue_cert_{name}");
        let stored = tokio::task::spawn_blocking(move || {
            // Whoever has it may be writing.
            let _guard = storage.lock(&lock, Duration::ZERO)?;
            unstored.store(&*storage, &keys, not_after)
        });
        let stored = match stored.await {
            Ok(Ok(ours)) => Some(ours),
            Ok(Err(error)) => {
                tracing::debug!(target: "tls", identifier = name, %error, "still not stored");
                None
            }
            Err(_) => None,
        };
        let now = self.now();
        let mut inner = self.lock();
        let Some(entry) = inner.entries.get_mut(&name) else { return };
        let same = |print: [u8; 32]| print == served.certificate.fingerprint;
        let Some(current) = entry.served.as_mut().filter(|one| same(one.certificate.fingerprint))
        else {
            return;
        };
        let Some(ours) = stored else {
            entry.store_at = Some(now.saturating_add(STORE_AGAIN));
            drop(inner);
            self.wake.notify_one();
            return;
        };
        current.unstored = None;
        entry.last_error = None;
        let untold = entry.untold.take();
        if ours {
            tracing::info!(target: "tls", identifier = name, "certificate is stored now");
            drop(inner);
            if let Some(data) = untold {
                self.tell_obtained(data);
            }
        } else {
            // All servers of a storage serve the same: the next look takes it.
            tracing::info!(
                target: "tls",
                identifier = name,
                "another process stored a certificate meanwhile: it is used"
            );
            entry.state = step(entry.state, Event::RenewAt(now), now).0;
            drop(inner);
            self.wake.notify_one();
        }
    }
}
