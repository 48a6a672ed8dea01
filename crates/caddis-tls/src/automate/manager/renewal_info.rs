//! Asking authorities when they want certificates to be renewed (T088). Who shares the storage shares
//! the answer, and the time that was chosen by it: one asks under a lock, and the others read.

use std::{io, sync::Arc, time::Duration};

use super::{CertManager, Issuer, entry};
use crate::{
    acme::{AcmeConfig, RenewalInfo, certificate_id},
    automate::{
        job::{Served, load_renewal_info, store_renewal_info},
        subject::{Event, step},
    },
    storage::{LockGuard, Storage},
    timestamp::Timestamp,
};

/// Seconds until the next question after one that failed.
const AFTER_FAILURE: i64 = 60 * 60;
/// The same where another process is asking.
const AFTER_OTHERS: i64 = 60;

impl CertManager {
    /// The names that are to be asked about.
    pub(in crate::automate) fn to_ask(&self) -> Vec<String> {
        let now = self.now();
        let mut inner = self.lock();
        let mut names = Vec::new();
        for (name, entry) in &mut inner.entries {
            if entry.ask_at.is_some_and(|at| now >= at) {
                // Until the answer is there.
                entry.ask_at = None;
                names.push(name.clone());
            }
        }
        names
    }

    /// Asks about a name's certificate and takes note of the answer.
    pub(in crate::automate) async fn ask_renewal_info(self: Arc<Self>, name: String) {
        let Ok(_permit) = self.workers.renewal_info.clone().acquire_owned().await else { return };
        let Some((config, served, storage)) = self.question(&name) else { return };
        let Some(directory) = served.directory.clone() else { return };
        let Some(leaf) = served.certificate.key.cert.first().cloned() else { return };
        // One that has no such name is asked about in vain; the authority's side says so.
        let lock = certificate_id(&leaf).unwrap_or_default();
        let guard = match asking(&storage, format!("ari_{lock}")).await {
            Ok(guard) => guard,
            Err(again) => return self.ask_later(&name, again),
        };
        let (reading, keys) = (storage.clone(), served.keys.clone());
        let stored = tokio::task::spawn_blocking(move || load_renewal_info(&*reading, &keys));
        let stored = stored.await.ok().flatten().filter(|stored| stored.identifier == lock);
        let known = served.renewal_info.as_ref();
        let now = self.now();
        if let Some(newer) = stored.clone().filter(|stored| is_news(stored, known, now)) {
            tracing::debug!(
                target: "tls.renew",
                identifier = name,
                "another process has asked for renewal information"
            );
            self.take_note(&name, &served, Some(newer));
            self.wake.notify_one();
            return release(guard).await;
        }
        let old = known.or(stored.as_ref());
        let asked = self.acme.renewal_info(&config, &directory, &leaf, old).await;
        let info = match asked {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(
                    target: "tls.renew",
                    identifier = name,
                    error = %error,
                    "failed getting renewal information"
                );
                self.ask_later(&name, AFTER_FAILURE);
                return release(guard).await;
            }
        };
        if let Some(info) = &info {
            self.keep(&name, &served, info, storage).await;
        }
        self.take_note(&name, &served, info);
        self.wake.notify_one();
        release(guard).await;
    }

    /// Seconds until the next question.
    fn ask_later(&self, name: &str, seconds: i64) {
        let again = self.now().saturating_add(seconds);
        if let Some(entry) = self.lock().entries.get_mut(name) {
            entry.ask_at = Some(again);
        }
    }

    fn question(&self, name: &str) -> Option<(Arc<AcmeConfig>, Served, Arc<dyn Storage>)> {
        let inner = self.lock();
        let entry = inner.entries.get(name)?;
        let served = entry.served.clone()?;
        let directory = served.directory.as_deref()?;
        let config = entry.subject.issuers.iter().find_map(|issuer| match issuer {
            Issuer::Acme(config) if config.directory == directory => Some(config.clone()),
            _ => None,
        })?;
        Some((config, served, entry.subject.storage(&inner.storage)))
    }

    async fn keep(
        &self,
        name: &str,
        served: &Served,
        info: &RenewalInfo,
        storage: Arc<dyn Storage>,
    ) {
        let (keys, info) = (served.keys.clone(), info.clone());
        let stored =
            tokio::task::spawn_blocking(move || store_renewal_info(&*storage, &keys, &info)).await;
        if let Ok(Err(error)) = stored {
            tracing::warn!(
                target: "tls.renew",
                identifier = name,
                error = %error,
                "storing renewal information"
            );
        }
    }

    fn take_note(&self, name: &str, asked: &Served, info: Option<RenewalInfo>) {
        let now = self.now();
        let mut inner = self.lock();
        let Some(entry) = inner.entries.get_mut(name) else { return };
        let Some(served) = &mut entry.served else { return };
        if served.certificate.fingerprint != asked.certificate.fingerprint {
            return;
        }
        served.renewal_info = info;
        let served = served.clone();
        entry.ask_at = Some(entry::ask_again(&served, now));
        let due = entry.due_at(&served, now);
        let (state, _) = step(entry.state, Event::RenewAt(due), now);
        if state != entry.state {
            tracing::info!(
                target: "tls.renew",
                identifier = name,
                renew_at = due,
                "the authority suggests a time for renewal"
            );
        }
        entry.state = state;
    }
}

/// Whether what is stored is an answer that counts still and came after the known one.
fn is_news(stored: &RenewalInfo, known: Option<&RenewalInfo>, now: Timestamp) -> bool {
    let known = known.and_then(RenewalInfo::ask_again_at);
    stored.selected_at().is_some()
        && stored.ask_again_at().is_some_and(|at| at > now && known.is_none_or(|old| at > old))
}

/// The lock of who asks; the seconds after which to try again where there is none to be had.
async fn asking(storage: &Arc<dyn Storage>, name: String) -> Result<Box<dyn LockGuard>, i64> {
    let storage = storage.clone();
    let locked = tokio::task::spawn_blocking(move || storage.lock(&name, Duration::ZERO)).await;
    match locked {
        Ok(Ok(guard)) => Ok(guard),
        Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Err(AFTER_OTHERS),
        Ok(Err(error)) => {
            tracing::debug!(target: "tls.renew", %error, "unable to obtain ARI lock");
            Err(AFTER_FAILURE)
        }
        // A panic there is told by the runtime.
        Err(_) => Err(AFTER_FAILURE),
    }
}

/// Lets go of the lock, which writes to the storage; whether it could is told there.
async fn release(guard: Box<dyn LockGuard>) {
    let _ = tokio::task::spawn_blocking(move || drop(guard)).await;
}
