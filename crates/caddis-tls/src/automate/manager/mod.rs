//! The certificate manager: one for the whole process, over all reloads. It owns the state of every
//! managed name and publishes the snapshot that handshakes choose from.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use caddis_config::Ca as CaConfig;
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
};

use super::{
    driver,
    job::{self, JobCx, Outcome},
    on_demand::{OnDemandError, OnDemandPolicy, qualifies},
    subject::{Effect, Event, State, step},
};
use crate::{
    certificate::Certificate,
    index::{CertIndex, CertStore, normalized},
    key::KeyType,
    pki::Pki,
    storage::Storage,
    tickets::Tickets,
    timestamp::{self, Timestamp},
};

/// Names worked on at the same time.
const WORKERS: usize = 8;
/// How long `reconcile` waits for the certificates of new names.
const START_WAIT: Duration = Duration::from_secs(15);
/// On-demand names kept in memory (T053).
const MAX_ON_DEMAND: usize = 10_000;

/// Who makes a certificate.
#[derive(Debug, Clone, PartialEq)]
pub enum Issuer {
    /// `tls.issuance.internal`.
    Internal {
        /// The authority's id; `local` if empty.
        ca: String,
        /// Lifetime; 12 hours if absent.
        lifetime: Option<Duration>,
        /// Sign with the root itself.
        sign_with_root: bool,
    },
    /// `tls.issuance.acme`: stored certificates are served, new ones are not obtained yet.
    Acme {
        /// The directory's URL; empty for the default ones.
        directory: String,
    },
    /// Any other issuer, by its name in the storage; as ACME.
    Other(String),
}

/// A name to keep a certificate for.
#[derive(Debug, Clone, PartialEq)]
pub struct ManagedSubject {
    /// The name.
    pub name: String,
    /// Issuers in order.
    pub issuers: Vec<Issuer>,
    /// The kind of keys.
    pub key_type: KeyType,
    /// Keep the key at renewal.
    pub reuse_private_keys: bool,
    /// Share of the lifetime left at which to renew; 0 for the default.
    pub renewal_window_ratio: f64,
}

/// What a configuration wants.
#[derive(Debug)]
pub struct Reconcile {
    /// Names to keep certificates for.
    pub subjects: Vec<ManagedSubject>,
    /// Policies with `on_demand`, in order.
    pub on_demand: Vec<OnDemandPolicy>,
    /// Given certificates.
    pub loaded: Vec<Arc<Certificate>>,
    /// The storage.
    pub storage: Arc<dyn Storage>,
}

/// The manager.
#[derive(Debug)]
pub struct CertManager {
    store: Arc<CertStore>,
    pki: Arc<Pki>,
    tickets: Tickets,
    workers: Arc<Semaphore>,
    wake: Arc<Notify>,
    inner: Mutex<Inner>,
    on_demand_locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    clock: fn() -> Timestamp,
}

#[derive(Debug)]
struct Inner {
    storage: Arc<dyn Storage>,
    entries: HashMap<String, Entry>,
    on_demand: Arc<[OnDemandPolicy]>,
    loaded: Vec<Arc<Certificate>>,
    driven: bool,
}

#[derive(Debug)]
struct Entry {
    subject: Arc<ManagedSubject>,
    state: State,
    certificate: Option<Arc<Certificate>>,
    on_demand: bool,
    busy: bool,
}

impl CertManager {
    /// A manager without names.
    pub fn new(storage: Arc<dyn Storage>) -> Arc<Self> {
        Self::with_clock(storage, timestamp::now)
    }

    pub(super) fn with_clock(storage: Arc<dyn Storage>, clock: fn() -> Timestamp) -> Arc<Self> {
        Arc::new(Self {
            store: Arc::default(),
            pki: Arc::new(Pki::new(storage.clone())),
            tickets: Tickets::default(),
            workers: Arc::new(Semaphore::new(WORKERS)),
            wake: Arc::default(),
            inner: Mutex::new(Inner {
                storage,
                entries: HashMap::new(),
                on_demand: Arc::new([]),
                loaded: Vec::new(),
                driven: false,
            }),
            on_demand_locks: Mutex::default(),
            clock,
        })
    }

    /// Where handshakes find certificates.
    pub fn store(&self) -> &Arc<CertStore> {
        &self.store
    }

    /// The authorities.
    pub fn pki(&self) -> &Arc<Pki> {
        &self.pki
    }

    /// The session ticket keys.
    pub fn tickets(&self) -> &Tickets {
        &self.tickets
    }

    /// Takes over the authorities of a configuration; to be called before policies are bound.
    pub fn configure_pki(&self, storage: Arc<dyn Storage>, configs: BTreeMap<String, CaConfig>) {
        self.pki.configure(storage, configs);
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the managed names equal to those wanted: new ones are loaded or issued, gone ones
    /// forgotten. Returns when the certificates that can be had at once are served, within a
    /// bounded time; what fails is tried again later. To be called on the control runtime, which
    /// then also runs renewals.
    pub async fn reconcile(self: &Arc<Self>, wanted: Reconcile) {
        let fresh = self.take_over(wanted);
        self.publish();
        let mut jobs = JoinSet::new();
        for name in fresh {
            let this = self.clone();
            jobs.spawn(async move { this.work(name, false).await });
        }
        let all = async { while jobs.join_next().await.is_some() {} };
        if tokio::time::timeout(START_WAIT, all).await.is_err() {
            tracing::warn!(target: "tls", "certificates are still being made");
            jobs.detach_all();
        }
        if !std::mem::replace(&mut self.lock().driven, true) {
            tokio::spawn(driver::run(Arc::downgrade(self), self.wake.clone()));
        }
        self.wake.notify_one();
    }

    /// The names that are new or whose settings changed.
    fn take_over(&self, wanted: Reconcile) -> Vec<String> {
        let mut inner = self.lock();
        let moved = inner.storage.describe() != wanted.storage.describe();
        inner.storage = wanted.storage;
        inner.loaded = wanted.loaded;
        inner.on_demand = wanted.on_demand.into();
        let names: HashSet<String> =
            wanted.subjects.iter().map(|subject| normalized(&subject.name)).collect();
        let on_demand = inner.on_demand.clone();
        inner.entries.retain(|name, entry| {
            names.contains(name)
                || entry.on_demand && !moved && on_demand.iter().any(|policy| policy.covers(name))
        });
        let mut fresh = Vec::new();
        for mut subject in wanted.subjects {
            let name = normalized(&subject.name);
            subject.name.clone_from(&name);
            if let Some(entry) = inner.entries.get_mut(&name) {
                let same = *entry.subject == subject && !moved;
                entry.on_demand = false;
                if same {
                    continue;
                }
                if entry.subject.issuers != subject.issuers || moved {
                    entry.certificate = None;
                }
                entry.subject = Arc::new(subject);
                entry.state = State::Loading;
                entry.busy = false;
            } else {
                inner.entries.insert(name.clone(), Entry::new(subject, false));
            }
            fresh.push(name);
        }
        fresh
    }

    /// Puts the current certificates in place.
    fn publish(&self) {
        let inner = self.lock();
        let managed = inner.entries.values().filter_map(|entry| entry.certificate.clone());
        let index = CertIndex::new(inner.loaded.iter().cloned().chain(managed).collect());
        // Under the lock, so that an older snapshot never replaces a newer one.
        self.store.publish(index);
    }

    /// Does what a name's state asks for: loads, issues, and takes note of how it went.
    pub(super) async fn work(self: Arc<Self>, name: String, renew: bool) {
        let Ok(_permit) = self.workers.clone().acquire_owned().await else { return };
        let Some((subject, cx)) = self.begin(&name) else { return };
        if renew && let Err(reason) = self.may_renew(&name).await {
            return self.finish(&name, &subject, Err(reason));
        }
        let now = self.now();
        let job = {
            let (subject, cx) = (subject.clone(), cx);
            tokio::task::spawn_blocking(move || job::run(&cx, &subject, renew, now)).await
        };
        let outcome = match job {
            Ok(outcome) => outcome.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        self.finish(&name, &subject, outcome);
    }

    /// On-demand names need the permission for each renewal too (T099).
    async fn may_renew(&self, name: &str) -> Result<(), String> {
        let permission = {
            let inner = self.lock();
            if !inner.entries.get(name).is_some_and(|entry| entry.on_demand) {
                return Ok(());
            }
            let policy = inner.on_demand.iter().find(|policy| policy.covers(name));
            policy.and_then(|policy| policy.permission.clone())
        };
        match permission {
            Some(permission) => permission.ask(name).await,
            None => Ok(()),
        }
    }

    fn begin(&self, name: &str) -> Option<(Arc<ManagedSubject>, JobCx)> {
        let mut inner = self.lock();
        let storage = inner.storage.clone();
        let entry = inner.entries.get_mut(name)?;
        if std::mem::replace(&mut entry.busy, true) {
            return None;
        }
        Some((entry.subject.clone(), JobCx { storage, pki: self.pki.clone() }))
    }

    fn finish(&self, name: &str, subject: &Arc<ManagedSubject>, outcome: Result<Outcome, String>) {
        let now = self.now();
        let published = {
            let mut inner = self.lock();
            let Some(entry) = inner.entries.get_mut(name) else { return };
            if !Arc::ptr_eq(&entry.subject, subject) {
                return;
            }
            entry.busy = false;
            entry.apply(name, outcome, now)
        };
        if published {
            self.publish();
        }
        self.wake.notify_one();
    }

    /// The names whose time has come.
    pub(super) fn due(&self) -> Vec<String> {
        let now = self.now();
        let mut inner = self.lock();
        let mut due = Vec::new();
        for (name, entry) in &mut inner.entries {
            let (state, effects) = step(entry.state, Event::Tick, now);
            entry.state = state;
            if effects.contains(&Effect::Issue) && !entry.busy {
                due.push(name.clone());
            }
        }
        due
    }

    /// When the next name's time comes.
    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.lock().entries.values().filter_map(|entry| entry.state.wake_at()).min()
    }

    /// Gets an on-demand certificate for a name that none covers (see
    /// [`crate::Policy::missing_certificate`]); handshakes for the same name share one attempt. May
    /// be called on any runtime.
    ///
    /// # Errors
    /// The name may not have one, or the attempt failed.
    pub async fn get_or_issue(self: &Arc<Self>, name: &str) -> Result<(), OnDemandError> {
        let name = normalized(name);
        let policy = {
            let inner = self.lock();
            let found = inner.on_demand.iter().find(|policy| policy.covers(&name));
            found.filter(|_| qualifies(&name)).cloned().ok_or(OnDemandError::NotAllowed)?
        };
        let lock = self.single_flight(&name);
        let guard = lock.lock().await;
        let result = self.issue_on_demand(&name, &policy).await;
        drop(guard);
        self.end_flight(&name, lock);
        result
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
                    if count >= MAX_ON_DEMAND {
                        evict(&mut inner.entries);
                    }
                    inner.entries.insert(name.to_owned(), Entry::new(policy.subject(name), true));
                }
            }
        }
        self.clone().work(name.to_owned(), false).await;
        if self.serves(name) {
            return Ok(());
        }
        // Nothing is tried again in the background for names that strangers choose.
        let mut inner = self.lock();
        if inner.entries.get(name).is_some_and(|entry| !entry.busy) {
            inner.entries.remove(name);
        }
        Err(OnDemandError::Failed(format!("no certificate could be made for {name}")))
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

fn evict(entries: &mut HashMap<String, Entry>) {
    let victim = entries
        .iter()
        .filter(|(_, entry)| entry.on_demand && !entry.busy)
        .map(|(name, _)| name.clone())
        .next();
    if let Some(victim) = victim {
        entries.remove(&victim);
    }
}

impl Entry {
    fn new(subject: ManagedSubject, on_demand: bool) -> Self {
        Self {
            subject: Arc::new(subject),
            state: State::Loading,
            certificate: None,
            on_demand,
            busy: false,
        }
    }

    /// Takes note of a job's outcome; true where there is something new to serve.
    fn apply(&mut self, name: &str, outcome: Result<Outcome, String>, now: Timestamp) -> bool {
        let (event, certificate) = match outcome {
            Ok(Outcome::Found(found)) => {
                (Event::Found { renew_at: job::due_at(&self.subject, &found) }, Some(found))
            }
            Ok(Outcome::Issued(issued)) => {
                tracing::info!(
                    target: "tls.obtain",
                    identifier = name,
                    "certificate obtained successfully"
                );
                (Event::Issued { renew_at: job::due_at(&self.subject, &issued) }, Some(issued))
            }
            Ok(Outcome::Unsupported(found)) if self.state != State::Loading => {
                // Told before; looked at again in case another program renewed it.
                (Event::Unsupported, found)
            }
            Ok(Outcome::Unsupported(found)) => {
                tracing::error!(
                    target: "tls.obtain",
                    identifier = name,
                    "this name needs a certificate from an ACME issuer, which is not supported \
                     yet: handshakes for it fail unless one is in storage; use `tls internal` or \
                     certificate files"
                );
                (Event::Unsupported, found)
            }
            Err(error) => {
                tracing::error!(target: "tls.obtain", identifier = name, error, "will retry");
                if self.state == State::Loading {
                    self.state = step(State::Loading, Event::Missing, now).0;
                }
                (Event::Failed, None)
            }
        };
        let (state, effects) = step(self.state, event, now);
        self.state = state;
        if effects.contains(&Effect::GiveUp) {
            tracing::error!(target: "tls.obtain", identifier = name, "giving up");
        }
        let news = certificate.is_some();
        if let Some(certificate) = certificate {
            self.certificate = Some(certificate);
        }
        news
    }
}

#[cfg(test)]
mod tests;
