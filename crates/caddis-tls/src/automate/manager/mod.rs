//! The certificate manager: one for the whole process, over all reloads. It owns the state of every
//! managed name and publishes the snapshot that handshakes choose from.

mod demand;
mod entry;
mod events;
mod files;
mod renewal_info;
mod report;
mod roots;
mod staples;
mod subject;
mod unstored;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use caddis_config::Ca as CaConfig;
use caddis_core::{event::Events, finish::Finish};
use serde_json::json;
use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore},
    task::JoinSet,
};

use super::{
    driver,
    job::{self, Attempt, JobCx, Outcome},
    on_demand::OnDemandPolicy,
    subject::{Effect, Event, State, step},
};
use crate::{
    acme::{Acme, Challenges, Failure, storage_prefix},
    certificate::Certificate,
    index::{CertIndex, CertStore, normalized},
    loaders::{Loaders, Stamp},
    ocsp::{StapleRules, Staples},
    pki::Pki,
    storage::{OtherStorage, Storage},
    tickets::Tickets,
    timestamp::{self, Timestamp},
    zerossl,
};
use demand::Recent;
use entry::Entry;
pub(in crate::automate) use entry::SET_CLOCK;
pub use report::CertReport;
pub use subject::{Issuer, ManagedSubject};

/// Names looked for in the storage at the same time.
const WORKERS: usize = 8;
/// Names for which authorities are asked at the same time, and as many more for handshakes. Most
/// wait: for validation, for minutes until a record has spread (T072), for our own limit of orders
/// (T083), which is what keeps from a storm. Fewer would let some names that are slow to fail hold
/// up all others.
const ORDERS: usize = 64;
/// How long `reconcile` waits for the certificates of new names.
const START_WAIT: Duration = Duration::from_secs(15);
/// How often certificates are published while many are loaded.
const PUBLISH_EVERY: Duration = Duration::from_millis(250);
/// So many names are looked for in the storage in one go.
const BATCH: usize = 256;
/// How long a server that stops takes away the records of DNS challenges.
const END_WAIT: Duration = Duration::from_secs(5);
/// With fewer names each news is published at once.
const FEW: usize = 256;

/// What a configuration wants.
#[derive(Debug)]
pub struct Reconcile {
    /// Names to keep certificates for.
    pub subjects: Vec<ManagedSubject>,
    /// Those of them that are not to be managed where a given certificate covers them.
    pub unless_loaded: HashSet<String>,
    /// Policies with `on_demand`, in order.
    pub on_demand: Vec<OnDemandPolicy>,
    /// How many on-demand names are kept in memory (T053); those that are not are in the storage.
    pub capacity: usize,
    /// Given certificates.
    pub loaded: Vec<Arc<Certificate>>,
    /// What policies say of OCSP staples; absent where nothing is stapled.
    pub ocsp: Option<StapleRules>,
    /// How often the storage is tidied; never if absent.
    pub clean: Option<Duration>,
    /// Where they are from; files are read again when they change.
    pub loaders: Loaders,
    /// The storage.
    pub storage: Arc<dyn Storage>,
}

/// The manager.
#[derive(Debug)]
pub struct CertManager {
    store: Arc<CertStore>,
    pki: Arc<Pki>,
    acme: Arc<Acme>,
    tickets: Tickets,
    workers: Workers,
    wake: Arc<Notify>,
    /// There are certificates whose staples were not looked at.
    unstapled: Arc<Notify>,
    /// Something is to be published.
    news: AtomicBool,
    /// Certificates issued, and attempts that failed, since the start.
    counts: (AtomicU64, AtomicU64),
    inner: Mutex<Inner>,
    on_demand_locks: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    recent: Recent,
    /// When it was told of roots that expire, by authority.
    roots_told: Mutex<HashMap<String, Timestamp>>,
    events: Arc<Events>,
    staples: Staples,
    /// The control runtime; work that a handshake started goes on there when the client is gone.
    runtime: OnceLock<Handle>,
    clock: fn() -> Timestamp,
    /// Another manager says where challenges may lie.
    beside: bool,
}

/// Places for work, so that a slow authority holds up neither the local one nor handshakes.
#[derive(Debug)]
struct Workers {
    load: Arc<Semaphore>,
    issue: Arc<Semaphore>,
    demand: Arc<Semaphore>,
    renewal_info: Arc<Semaphore>,
}

/// Why a name is worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is new.
    Load,
    /// Its time has come.
    Due,
    /// A handshake waits for it.
    Demand,
}

#[derive(Debug)]
struct Inner {
    storage: Arc<dyn Storage>,
    entries: HashMap<String, Entry>,
    on_demand: Arc<[OnDemandPolicy]>,
    capacity: usize,
    loaded: Vec<Arc<Certificate>>,
    loaders: Loaders,
    stamp: Option<Stamp>,
    ocsp: Option<StapleRules>,
    clean: Option<Duration>,
    driven: bool,
}

impl CertManager {
    /// A manager without names.
    pub fn new(storage: Arc<dyn Storage>) -> Arc<Self> {
        Self::with_clock(storage, timestamp::now)
    }

    /// A manager of other names, whose certificates are found in a store of their own. Authorities
    /// and challenges are those of this one.
    pub fn beside(&self, storage: Arc<dyn Storage>) -> Arc<Self> {
        let (pki, acme) = (self.pki.clone(), self.acme.clone());
        Arc::new(Self { beside: true, ..Self::assemble(storage, self.clock, pki, acme) })
    }

    pub(super) fn with_clock(storage: Arc<dyn Storage>, clock: fn() -> Timestamp) -> Arc<Self> {
        let pki = Arc::new(Pki::new(storage.clone()));
        Arc::new(Self::assemble(storage, clock, pki, Arc::default()))
    }

    fn assemble(
        storage: Arc<dyn Storage>,
        clock: fn() -> Timestamp,
        pki: Arc<Pki>,
        acme: Arc<Acme>,
    ) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            store: Arc::default(),
            pki,
            acme,
            tickets: Tickets::default(),
            workers: Workers {
                load: places(WORKERS),
                issue: places(ORDERS),
                demand: places(ORDERS),
                renewal_info: places(2),
            },
            wake: Arc::default(),
            unstapled: Arc::default(),
            news: AtomicBool::default(),
            counts: Default::default(),
            inner: Mutex::new(Inner {
                storage,
                entries: HashMap::new(),
                on_demand: Arc::new([]),
                loaded: Vec::new(),
                loaders: Loaders::default(),
                stamp: None,
                ocsp: None,
                capacity: usize::MAX,
                clean: None,
                driven: false,
            }),
            on_demand_locks: Mutex::default(),
            recent: Recent::default(),
            roots_told: Mutex::default(),
            events: Arc::default(),
            staples: Staples::default(),
            runtime: OnceLock::new(),
            clock,
            beside: false,
        }
    }

    /// Where handshakes find certificates.
    pub fn store(&self) -> &Arc<CertStore> {
        &self.store
    }

    /// The authorities.
    pub fn pki(&self) -> &Arc<Pki> {
        &self.pki
    }

    /// Where certificates are kept that have no storage of their own.
    pub fn storage(&self) -> Arc<dyn Storage> {
        self.lock().storage.clone()
    }

    /// The challenges that are to be answered.
    pub fn challenges(&self) -> &Challenges {
        &self.acme.challenges
    }

    /// Whom to tell what happens.
    pub fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// The session ticket keys.
    pub fn tickets(&self) -> &Tickets {
        &self.tickets
    }

    /// Certificates issued, and attempts that failed, since the start.
    pub fn counts(&self) -> (u64, u64) {
        (self.counts.0.load(Ordering::Relaxed), self.counts.1.load(Ordering::Relaxed))
    }

    /// Takes over the authorities of a configuration; to be called before policies are bound.
    pub fn configure_pki(&self, storage: Arc<dyn Storage>, configs: BTreeMap<String, CaConfig>) {
        self.pki.configure(storage, configs);
    }

    /// Puts the roots of the authorities in use into the trust stores (T152); nobody waits for it,
    /// and what fails is only told. To be called on the control runtime.
    pub fn install_roots(&self) {
        let pki = self.pki.clone();
        // A panic there is told by the runtime.
        drop(tokio::task::spawn_blocking(move || pki.install_roots()));
    }

    /// Told when there may be certificates whose staples were not looked at.
    pub(super) fn staple_news(&self) -> Arc<Notify> {
        self.unstapled.clone()
    }

    pub(super) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the managed names equal to those wanted: new ones are loaded or issued, gone ones
    /// forgotten. Returns when the certificates that can be had at once are served, within a
    /// bounded time; authorities outside are asked afterwards, and what fails is tried again later.
    /// To be called on the control runtime, which then also runs renewals.
    pub async fn reconcile(self: &Arc<Self>, wanted: Reconcile) {
        let _ = self.runtime.set(Handle::current());
        if !self.beside {
            self.acme.challenges.share(places(&wanted));
        }
        let fresh = self.take_over(wanted);
        self.renew_under_new_roots().await;
        self.recent.forget();
        let (given, storage) = {
            let inner = self.lock();
            (inner.loaded.clone(), inner.storage.clone())
        };
        for one in &given {
            self.events.tell("cached_unmanaged_cert", "tls", json!({ "sans": one.names }));
        }
        let first = async {
            for one in &given {
                self.staple_first(one, storage.clone()).await;
            }
        };
        // Those that are left are looked after when all runs.
        let _ = tokio::time::timeout(staples::STAPLE_WAIT, first).await;
        self.publish();
        let mut jobs = JoinSet::new();
        let each = fresh.len().div_ceil(WORKERS).clamp(1, BATCH);
        for names in fresh.chunks(each) {
            jobs.spawn(self.clone().load(names.to_vec()));
        }
        let all = async {
            let mut ticker = tokio::time::interval(PUBLISH_EVERY);
            loop {
                tokio::select! {
                    done = jobs.join_next() => {
                        if done.is_none() {
                            return;
                        }
                    }
                    _ = ticker.tick() => self.publish_news(),
                }
            }
        };
        if tokio::time::timeout(START_WAIT, all).await.is_err() {
            self.tell_slow();
            jobs.detach_all();
        }
        self.publish_news();
        if !std::mem::replace(&mut self.lock().driven, true) {
            tokio::spawn(driver::run(Arc::downgrade(self), self.wake.clone()));
            tokio::spawn(driver::watch(Arc::downgrade(self)));
            tokio::spawn(driver::staple(Arc::downgrade(self)));
            tokio::spawn(driver::tidy(Arc::downgrade(self)));
            tokio::spawn(driver::tickets(Arc::downgrade(self)));
        }
        self.wake.notify_one();
    }

    /// Tells which names a start or a reload does not wait for any longer.
    fn tell_slow(&self) {
        const MOST: usize = 5;
        let inner = self.lock();
        let busy = inner.entries.iter().filter(|(_, entry)| entry.busy && !entry.on_demand);
        let mut names: Vec<&str> = busy.map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        tracing::warn!(
            target: "tls",
            count = names.len(),
            identifiers = names[..names.len().min(MOST)].join(" "),
            storage = inner.storage.describe(),
            remedy = "see whether the storage, or a program that events wait for, is slow",
            "certificates are still being looked for or made; all else is served meanwhile"
        );
    }

    /// The names that are new or whose settings changed.
    fn take_over(&self, mut wanted: Reconcile) -> Vec<String> {
        let given = CertIndex::new(wanted.loaded.clone());
        wanted.subjects.retain(|subject| {
            let skipped =
                wanted.unless_loaded.contains(&subject.name) && given.covers(&subject.name);
            if skipped {
                tracing::info!(
                    target: "http.auto_https",
                    domain = subject.name,
                    "skipping automatic certificate management because one or more matching \
                     certificates are already loaded"
                );
            }
            !skipped
        });
        let mut inner = self.lock();
        let moved = inner.storage.describe() != wanted.storage.describe();
        inner.storage = wanted.storage;
        inner.loaded = wanted.loaded;
        inner.loaders = wanted.loaders;
        inner.stamp = None;
        if std::mem::replace(&mut inner.ocsp, wanted.ocsp) != inner.ocsp {
            self.staples.forget();
        }
        inner.clean = wanted.clean;
        inner.capacity = wanted.capacity;
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
                // Whoever reloads may have done something about what fails for a month.
                let stuck = matches!(entry.state, State::Stuck { .. });
                let same = *entry.subject == subject && !moved && !stuck;
                entry.on_demand = false;
                if same {
                    continue;
                }
                // In a storage of another place there may be none yet: what is served stays until
                // there is.
                if entry.subject.issuers != subject.issuers {
                    entry.served = None;
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
        self.news.store(false, Ordering::Relaxed);
        let managed = inner.entries.values().filter_map(Entry::certificate);
        let all = inner.loaded.iter().cloned().chain(managed);
        let now = self.now();
        let index = CertIndex::new(all.map(|one| self.staples.staple(one, now)).collect());
        // Under the lock, so that an older snapshot never replaces a newer one.
        self.store.publish(index);
        self.unstapled.notify_one();
    }

    /// The same where something changed since.
    pub(super) fn publish_news(&self) {
        if self.news.load(Ordering::Relaxed) {
            self.publish();
        }
    }

    /// Looks for new names in the storage, many in one go on one thread: with thousands of names,
    /// handing each over to another thread would cost more than reading it. Those that need more
    /// than that are then worked on one by one.
    async fn load(self: Arc<Self>, names: Vec<String>) {
        let more = {
            let Ok(_permit) = self.workers.load.clone().acquire_owned().await else { return };
            let this = self.clone();
            let all = names.clone();
            let looked = tokio::task::spawn_blocking(move || {
                all.into_iter().filter(|name| !this.look(name)).collect()
            });
            // Where that panicked it is told, and each name is tried by itself.
            looked.await.unwrap_or(names)
        };
        let mut jobs = JoinSet::new();
        for name in more {
            jobs.spawn(self.clone().work(name, Cause::Load));
        }
        while jobs.join_next().await.is_some() {}
    }

    /// Takes a name's certificate from the storage, where it has one that is not due; else all stays
    /// as it is. Blocks.
    fn look(&self, name: &str) -> bool {
        let Some((subject, cx, attempt)) = self.begin(name, Cause::Load) else { return true };
        let found = job::stored(&cx, &subject, attempt, self.now());
        // One that demands a staple is better served with it.
        let found = found.filter(|found| !found.certificate.must_staple);
        match found {
            Some(found) => {
                self.finish(name, &subject, Outcome::Found(found));
                true
            }
            None => {
                let mut inner = self.lock();
                let entry = inner.entries.get_mut(name);
                if let Some(entry) = entry.filter(|entry| Arc::ptr_eq(&entry.subject, &subject)) {
                    entry.busy = false;
                }
                false
            }
        }
    }

    /// Does what a name's state asks for: loads, issues, and takes note of how it went.
    pub(super) async fn work(self: Arc<Self>, name: String, cause: Cause) {
        let places = match cause {
            Cause::Load => &self.workers.load,
            Cause::Due => &self.workers.issue,
            Cause::Demand => &self.workers.demand,
        };
        let Ok(_permit) = places.clone().acquire_owned().await else { return };
        let Some((subject, cx, attempt)) = self.begin(&name, cause) else { return };
        if attempt.renew
            && let Err(reason) = self.may_renew(&name).await
        {
            let outcome = Outcome::Failed(Failure::new(reason), None);
            return self.finish(&name, &subject, outcome);
        }
        let storage = cx.storage.clone();
        // In a task of its own, so that a panic is an outcome like any other.
        let job = tokio::spawn(job::run(cx, subject.clone(), attempt, self.now())).await;
        let outcome = job.unwrap_or_else(|error| Outcome::Failed(Failure::new(error), None));
        if let Outcome::Issued(served) | Outcome::Found(served) = &outcome {
            self.staple_first(&served.certificate, storage).await;
        }
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

    fn begin(&self, name: &str, cause: Cause) -> Option<(Arc<ManagedSubject>, JobCx, Attempt)> {
        let mut inner = self.lock();
        let default = inner.storage.clone();
        let entry = inner.entries.get_mut(name)?;
        if std::mem::replace(&mut entry.busy, true) {
            return None;
        }
        let cx = JobCx {
            storage: entry.subject.storage(&default),
            pki: self.pki.clone(),
            acme: self.acme.clone(),
            events: self.events.clone(),
        };
        let attempt = Attempt {
            // The local authority answers at once; others are asked when all is in place.
            issue: cause != Cause::Load || entry.subject.is_local(),
            serve_due: cause == Cause::Demand && !entry.subject.is_local(),
            failures: entry.state.failures(),
            renew: cause == Cause::Due && entry.served.is_some(),
            revoked: entry.revoked,
            urgent: cause == Cause::Due && entry.is_urgent((self.clock)()),
        };
        Some((entry.subject.clone(), cx, attempt))
    }

    fn finish(&self, name: &str, subject: &Arc<ManagedSubject>, mut outcome: Outcome) {
        let now = self.now();
        self.tell(name, subject, &mut outcome, now);
        match &outcome {
            Outcome::Issued(_) => self.counts.0.fetch_add(1, Ordering::Relaxed),
            Outcome::Failed(..) => self.counts.1.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        let few = {
            let mut inner = self.lock();
            let few = inner.entries.len() < FEW;
            let count = inner.entries.len();
            let Some(entry) = inner.entries.get_mut(name) else { return };
            if !Arc::ptr_eq(&entry.subject, subject) {
                return;
            }
            entry.busy = false;
            if entry.apply(name, outcome, now, count) {
                self.news.store(true, Ordering::Relaxed);
            }
            few
        };
        if few {
            self.publish_news();
        }
        self.wake.notify_one();
    }

    /// The clock was set by so many seconds, forward or back.
    pub(super) fn clock_set(&self, by: i64) {
        tracing::warn!(
            target: "tls",
            seconds = by,
            remedy = SET_CLOCK,
            "the clock of this machine was set; what was to be done soon still is"
        );
        let now = self.now();
        for entry in self.lock().entries.values_mut() {
            entry.clock_set(by, now);
        }
    }

    /// The names whose time has come.
    pub(super) fn due(&self) -> Vec<String> {
        let now = self.now();
        let mut inner = self.lock();
        let mut due = Vec::new();
        for (name, entry) in &mut inner.entries {
            if entry.busy {
                continue;
            }
            let (state, effects) = step(entry.state, Event::Tick, now);
            entry.state = state;
            if effects.contains(&Effect::Issue) {
                due.push(name.clone());
            }
        }
        due
    }

    /// When the next name's time comes.
    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        let inner = self.lock();
        let times = inner.entries.values().flat_map(|entry| {
            let wake = entry.state.wake_at().filter(|_| !entry.busy);
            [wake, entry.ask_at, entry.store_at]
        });
        times.flatten().min()
    }
}

/// Takes away the records of DNS challenges that are under way.
impl Finish for CertManager {
    fn finish(&self) {
        let records = &self.acme.challenges.records;
        let Some(runtime) = self.runtime.get().filter(|_| records.stop()) else { return };
        let removing = async { tokio::time::timeout(END_WAIT, records.remove()).await };
        if runtime.block_on(removing).is_err() {
            tracing::warn!(
                target: "tls.issuance.acme",
                remedy = "delete the records `_acme-challenge` at the DNS provider",
                "records of DNS challenges could not be taken away in time"
            );
        }
    }
}

/// The storages that a configuration uses, each with the places of its authorities' challenges.
fn places(wanted: &Reconcile) -> Vec<(Arc<dyn Storage>, Vec<String>)> {
    let managed = wanted.subjects.iter().map(|subject| (&subject.storage, &subject.issuers));
    let demanded = wanted.on_demand.iter().map(|policy| (&policy.storage, &policy.issuers));
    let mut all: Vec<(Option<&OtherStorage>, Vec<String>)> = Vec::new();
    for (storage, issuers) in managed.chain(demanded) {
        let storage = storage.as_ref();
        let at = all.iter().position(|(known, _)| *known == storage);
        let at = at.unwrap_or_else(|| {
            all.push((storage, Vec::new()));
            all.len() - 1
        });
        for issuer in issuers {
            let found = match issuer {
                Issuer::Internal { .. } => Vec::new(),
                Issuer::Acme(config) => [&config.directory, &config.test_directory]
                    .into_iter()
                    .filter(|directory| !directory.is_empty())
                    .map(|directory| storage_prefix(directory))
                    .collect(),
                Issuer::ZeroSsl(_) => vec![zerossl::KEY.to_owned()],
            };
            for place in found {
                if !all[at].1.contains(&place) {
                    all[at].1.push(place);
                }
            }
        }
    }
    let opened = |storage: Option<&OtherStorage>| {
        storage.map_or(&wanted.storage, OtherStorage::storage).clone()
    };
    all.into_iter().map(|(storage, places)| (opened(storage), places)).collect()
}

impl Inner {
    /// All storages in use, each once.
    fn storages(&self) -> Vec<Arc<dyn Storage>> {
        let managed = self.entries.values().filter_map(|entry| entry.subject.storage.as_ref());
        let demanded = self.on_demand.iter().filter_map(|policy| policy.storage.as_ref());
        let mut others: Vec<&OtherStorage> = Vec::new();
        for other in managed.chain(demanded) {
            if !others.contains(&other) {
                others.push(other);
            }
        }
        let others = others.into_iter().map(|other| other.storage().clone());
        std::iter::once(self.storage.clone()).chain(others).collect()
    }
}

#[cfg(test)]
mod tests;
