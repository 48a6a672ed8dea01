//! Certificates that a handshake asks for.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::sign::CertifiedKey;
use tokio::time::Instant;

use super::{Cause, CertManager, Entry};
use crate::{
    automate::{
        on_demand::{OnDemandError, OnDemandPolicy, may_be_asked},
        subject::State,
    },
    getters::Asked,
    index::normalized,
    policy::Missing,
};

/// How long a handshake waits (T091).
const WAIT: Duration = Duration::from_secs(180);
/// How long a refusal is remembered, so that strangers cannot make us ask all the time.
const DENIED: Duration = Duration::from_secs(5);
/// How long a failed attempt is remembered.
const FAILED: Duration = Duration::from_secs(30);
const MAX_RECENT: usize = 10_000;

/// Names that got no certificate lately, and why.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<HashMap<String, (Instant, OnDemandError)>>);

impl Recent {
    fn get(&self, name: &str) -> Option<OnDemandError> {
        let recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, error) = recent.get(name)?;
        (Instant::now() < *until).then(|| error.clone())
    }

    fn note(&self, name: &str, error: &OnDemandError) {
        let time = match error {
            OnDemandError::NotAllowed => return,
            OnDemandError::Denied(_) => DENIED,
            OnDemandError::Failed(_) => FAILED,
        };
        let now = Instant::now();
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= MAX_RECENT {
            recent.retain(|_, (until, _)| now < *until);
            if recent.len() >= MAX_RECENT {
                recent.clear();
            }
        }
        recent.insert(name.to_owned(), (now + time, error.clone()));
    }

    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl CertManager {
    /// Whether a handshake for this name could get a certificate.
    fn demand_policy(&self, missing: &Missing) -> Option<OnDemandPolicy> {
        if !may_be_asked(&missing.name) {
            return None;
        }
        self.asked_policy(&missing.asked)
    }

    /// The policy of what the client asked for, which may be nothing: the sites of any name.
    fn asked_policy(&self, asked: &str) -> Option<OnDemandPolicy> {
        let inner = self.lock();
        inner.on_demand.iter().find(|policy| policy.covers(asked)).cloned()
    }

    /// Asks the sources of a name's policy for a certificate for one handshake; none where there
    /// are none or they have none. May be called on any runtime.
    ///
    /// # Errors
    /// The last one failed: then no certificate is made either, as in Caddy, since nobody knows
    /// whether there is to be one.
    pub async fn ask_getters(
        &self,
        asked: &Asked,
    ) -> Result<Option<Arc<CertifiedKey>>, OnDemandError> {
        let name = normalized(&asked.name);
        let policy = self.asked_policy(&name).filter(|_| name.is_empty() || may_be_asked(&name));
        let mut failed = None;
        for getter in policy.iter().flat_map(|policy| &policy.getters) {
            failed = None;
            match getter.get(asked).await {
                Ok(Some(key)) => return Ok(Some(key)),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(
                        target: "tls.handshake",
                        sni = asked.name,
                        cert_manager = getter.url(),
                        error,
                        "external certificate manager"
                    );
                    failed = Some(error);
                }
            }
        }
        match failed {
            None => Ok(None),
            Some(error) => Err(OnDemandError::Failed(format!(
                "external certificate manager indicated that it is unable to yield certificate: \
                 {error}"
            ))),
        }
    }

    /// Gets an on-demand certificate where none covers what a client asked for (see
    /// [`crate::Policy::missing_certificate`]); handshakes for the same name share one attempt,
    /// which goes on when the client has gone. May be called on any runtime.
    ///
    /// # Errors
    /// The name may not have one, or the attempt failed.
    pub async fn get_or_issue(self: &Arc<Self>, missing: &Missing) -> Result<(), OnDemandError> {
        let policy = self.demand_policy(missing).ok_or(OnDemandError::NotAllowed)?;
        let name = missing.name.clone();
        if let Some(error) = self.recent.get(&name) {
            return Err(error);
        }
        let this = self.clone();
        let attempt = async move {
            let lock = this.single_flight(&name);
            let guard = lock.lock().await;
            let result = match this.recent.get(&name) {
                Some(error) if !this.serves(&name) => Err(error),
                _ => this.issue_on_demand(&name, &policy).await,
            };
            if let Err(error) = &result {
                this.recent.note(&name, error);
            }
            drop(guard);
            this.end_flight(&name, lock);
            result
        };
        let Some(runtime) = self.runtime.get() else { return attempt.await };
        match tokio::time::timeout(WAIT, runtime.spawn(attempt)).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(OnDemandError::Failed(error.to_string())),
            Err(_) => Err(OnDemandError::Failed("timed out waiting for a certificate".into())),
        }
    }

    async fn issue_on_demand(
        self: &Arc<Self>,
        name: &str,
        policy: &OnDemandPolicy,
    ) -> Result<(), OnDemandError> {
        if self.serves(name) {
            return Ok(());
        }
        if let Some(permission) = &policy.permission {
            permission.ask(name).await.map_err(OnDemandError::Denied)?;
        }
        {
            let mut inner = self.lock();
            let count = inner.entries.values().filter(|entry| entry.on_demand).count();
            match inner.entries.get_mut(name) {
                Some(entry) if !entry.on_demand => {
                    // A managed name has its own times for attempts.
                    return Err(OnDemandError::Failed("certificate is not ready".to_owned()));
                }
                Some(entry) => entry.state = State::Loading,
                None => {
                    let too_many = (count + 1).saturating_sub(inner.capacity);
                    evict(&mut inner.entries, too_many);
                    inner.entries.insert(name.to_owned(), Entry::new(policy.subject(name), true));
                }
            }
        }
        self.clone().work(name.to_owned(), Cause::Demand).await;
        self.publish_news();
        if self.serves(name) {
            return Ok(());
        }
        // Nothing is tried again in the background for names that strangers choose.
        let mut reason = format!("no certificate could be made for {name}");
        let removed = {
            let mut inner = self.lock();
            let idle = inner.entries.get(name).is_some_and(|entry| !entry.busy);
            if idle { inner.entries.remove(name) } else { None }
        };
        if let Some(entry) = removed {
            // An old one from the storage goes with it.
            if entry.served.is_some() {
                self.publish();
            }
            if let Some(last) = entry.last_error {
                reason = last.error;
            }
        }
        Err(OnDemandError::Failed(reason))
    }

    fn serves(&self, name: &str) -> bool {
        let now = self.now();
        self.store.load().named(name).iter().any(|certificate| !certificate.is_expired(now))
    }

    fn single_flight(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.on_demand_locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.entry(name.to_owned()).or_default().clone()
    }

    fn end_flight(&self, name: &str, lock: Arc<tokio::sync::Mutex<()>>) {
        let mut locks = self.on_demand_locks.lock().unwrap_or_else(PoisonError::into_inner);
        drop(lock);
        if locks.get(name).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(name);
        }
    }
}

/// Forgets some on-demand names, whichever they are.
fn evict(entries: &mut HashMap<String, Entry>, count: usize) {
    entries.extract_if(|_, entry| entry.on_demand && !entry.busy).take(count).for_each(drop);
}
