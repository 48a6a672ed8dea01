//! Asking authorities when they want certificates to be renewed (T088).

use std::sync::Arc;

use super::{CertManager, Issuer, entry};
use crate::{
    acme::{AcmeConfig, RenewalInfo},
    automate::{
        job::{Served, store_renewal_info},
        subject::{Event, step},
    },
    storage::Storage,
};

/// Seconds until the next question after one that failed.
const AFTER_FAILURE: i64 = 60 * 60;

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
        let asked =
            self.acme.renewal_info(&config, &directory, &leaf, served.renewal_info.as_ref()).await;
        let info = match asked {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(
                    target: "tls.renew",
                    identifier = name,
                    error = %error,
                    "failed getting renewal information"
                );
                let again = self.now().saturating_add(AFTER_FAILURE);
                if let Some(entry) = self.lock().entries.get_mut(&name) {
                    entry.ask_at = Some(again);
                }
                return;
            }
        };
        if let Some(info) = &info {
            self.keep(&name, &served, info, storage).await;
        }
        self.take_note(&name, &served, info);
        self.wake.notify_one();
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
