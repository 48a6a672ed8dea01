//! The work for one name: look in the storage, issue under the storage's lock, store under the keys
//! that Caddy uses.

mod acme;
mod internal;
mod issued;
mod request;
mod stored;
mod zerossl;

use std::{io, sync::Arc, time::Duration};

use caddis_core::event::Events;
use serde_json::json;

use super::{
    manager::{Issuer, ManagedSubject, SET_CLOCK},
    renewal,
};
use crate::{
    acme::{Acme, Failure},
    certificate::Certificate,
    pki::Pki,
    storage::{LockGuard, Storage, keys::SiteKeys},
    timestamp::{self, Timestamp},
};
pub(super) use stored::{Unstored, load_renewal_info, store_renewal_info};

use crate::acme::RenewalInfo;

/// How long a job waits for a name's lock before it makes room for others.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// What a job works with.
#[derive(Debug, Clone)]
pub(super) struct JobCx {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) pki: Arc<Pki>,
    pub(super) acme: Arc<Acme>,
    pub(super) events: Arc<Events>,
}

impl JobCx {
    /// Whether somebody hears what was asked for.
    fn wants_csr(&self) -> bool {
        self.events.wants("cert_obtained", "tls")
    }
}

/// How far a job goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    /// Ask the issuers; else only the storage is looked at.
    pub(super) issue: bool,
    /// A handshake waits: one in the storage that is due is served now, and renewed afterwards (T090).
    pub(super) serve_due: bool,
    /// Failed attempts before this one.
    pub(super) failures: u32,
    /// Something is served already: this is a renewal.
    pub(super) renew: bool,
    /// The certificate that is of no use any more, however long it is valid.
    pub(super) revoked: Option<[u8; 32]>,
    /// The local authority is to make one even where the storage does not work: what is served has
    /// expired, or will soon.
    pub(super) urgent: bool,
}

impl Attempt {
    fn is_fresh(&self, subject: &ManagedSubject, found: &Served, now: Timestamp) -> bool {
        // Others know the time; what they made is as good as their clocks.
        let ahead = subject.is_local() && found.certificate.is_ahead(now);
        let revoked = self.revoked == Some(found.certificate.fingerprint);
        now < due_at(subject, found) && !ahead && !revoked
    }
}

/// A certificate with what is known about where it came from.
#[derive(Debug, Clone)]
pub(super) struct Served {
    pub(super) certificate: Arc<Certificate>,
    /// The issuer's key in the storage.
    pub(super) issuer: String,
    /// The ACME directory.
    pub(super) directory: Option<String>,
    /// What the authority says about renewal.
    pub(super) renewal_info: Option<RenewalInfo>,
    /// Where it is stored.
    pub(super) keys: SiteKeys,
    /// Its files, where they could not be stored yet.
    pub(super) unstored: Option<Arc<Unstored>>,
    /// The request that it was made for, PEM, until it is told.
    pub(super) csr: Option<Box<str>>,
}

impl Served {
    /// Why its files could not be stored yet.
    pub(super) fn not_stored(&self) -> Option<&io::Error> {
        self.unstored.as_deref().and_then(Unstored::error)
    }
}

/// What a job found out.
#[derive(Debug)]
pub(super) enum Outcome {
    /// In storage, and not due.
    Found(Served),
    /// Fresh from the issuer.
    Issued(Served),
    /// There is no fresh one, and nobody was asked yet; perhaps a stored one to serve meanwhile.
    Missing(Option<Served>),
    /// Another process is at it.
    Busy,
    /// All issuers failed; perhaps a stored certificate to serve meanwhile.
    Failed(Failure, Option<Served>),
}

/// Runs blocking work.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(Failure::new)
}

/// Loads a usable certificate, or issues one.
pub(super) async fn run(
    cx: JobCx,
    subject: Arc<ManagedSubject>,
    attempt: Attempt,
    now: Timestamp,
) -> Outcome {
    let found = match look(&cx, &subject, true).await {
        Ok(found) => found,
        Err(failure) if attempt.urgent => {
            return without_storage(&cx, &subject, attempt, now, failure).await;
        }
        Err(failure) => return Outcome::Failed(failure, None),
    };
    if let Some(found) = found.clone().filter(|found| attempt.is_fresh(&subject, found, now)) {
        return Outcome::Found(found);
    }
    // Once, when it is found; later attempts know of it.
    if let Some(found) = found.as_ref().filter(|found| found.certificate.is_expired(now))
        && !attempt.renew
    {
        tracing::warn!(
            target: "tls",
            identifier = subject.name,
            certificate = found.keys.certificate,
            not_after = timestamp::text(found.certificate.not_after),
            now = timestamp::text(now),
            remedy = SET_CLOCK,
            "stored certificate has expired by the clock of this machine: it is served until \
             there is a new one"
        );
    }
    let is_usable = |found: &Served| {
        let revoked = attempt.revoked == Some(found.certificate.fingerprint);
        !found.certificate.is_expired(now) && !revoked
    };
    if !attempt.issue || attempt.serve_due && found.as_ref().is_some_and(is_usable) {
        return Outcome::Missing(found);
    }
    let lock = format!("issue_cert_{}", subject.name);
    tracing::info!(target: "tls.obtain", identifier = subject.name, "acquiring lock");
    let guard = match self::lock(&cx, lock).await {
        Ok(Some(guard)) => guard,
        Ok(None) => return Outcome::Busy,
        Err(failure) if attempt.urgent => {
            return without_storage(&cx, &subject, attempt, now, failure).await;
        }
        Err(failure) => return Outcome::Failed(failure, found),
    };
    tracing::info!(target: "tls.obtain", identifier = subject.name, "lock acquired");
    let guard: Arc<dyn LockGuard> = guard.into();
    let outcome = locked(&cx, &subject, attempt, &guard, now).await;
    tracing::info!(target: "tls.obtain", identifier = subject.name, "releasing lock");
    // It writes to the storage; whether it could is told there.
    let _ = blocking(move || drop(guard)).await;
    match outcome {
        Ok(outcome) => outcome,
        Err(failure) => Outcome::Failed(failure, found),
    }
}

/// Has the local authority make a certificate that is kept in memory until the storage works: it is
/// made without the name's lock, and nobody outside is asked. `failure` says what is wrong.
async fn without_storage(
    cx: &JobCx,
    subject: &Arc<ManagedSubject>,
    attempt: Attempt,
    now: Timestamp,
    failure: Failure,
) -> Outcome {
    match ask(cx, subject, attempt, None, now, None).await {
        Ok(outcome) => outcome,
        // What else is wrong follows from it.
        Err(_) => Outcome::Failed(failure, None),
    }
}

async fn lock(cx: &JobCx, name: String) -> Result<Option<Box<dyn LockGuard>>, Failure> {
    let storage = cx.storage.clone();
    match blocking(move || storage.lock(&name, LOCK_WAIT)).await? {
        Ok(guard) => Ok(Some(guard)),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(None),
        Err(error) => Err(Failure::of_storage("unable to acquire lock", &error)),
    }
}

/// What the storage has, where it is not due. Blocks; what is wrong with the storage is told by who
/// then does the whole work.
pub(super) fn stored(
    cx: &JobCx,
    subject: &ManagedSubject,
    attempt: Attempt,
    now: Timestamp,
) -> Option<Served> {
    let found = stored::newest(&*cx.storage, subject, false).ok().flatten()?;
    attempt.is_fresh(subject, &found, now).then_some(found)
}

async fn look(
    cx: &JobCx,
    subject: &Arc<ManagedSubject>,
    tell: bool,
) -> Result<Option<Served>, Failure> {
    let (storage, subject) = (cx.storage.clone(), subject.clone());
    let found = blocking(move || stored::newest(&*storage, &subject, tell)).await?;
    found.map_err(|error| Failure::of_storage("looking for a stored certificate", &error))
}

/// Works on a name under its lock.
async fn locked(
    cx: &JobCx,
    subject: &Arc<ManagedSubject>,
    attempt: Attempt,
    guard: &Arc<dyn LockGuard>,
    now: Timestamp,
) -> Result<Outcome, Failure> {
    // Another process may have been faster.
    let found = look(cx, subject, false).await?;
    if let Some(found) = found.clone().filter(|found| attempt.is_fresh(subject, found, now)) {
        return Ok(Outcome::Found(found));
    }
    ask(cx, subject, attempt, Some(guard), now, found).await
}

/// Asks one issuer after the other.
async fn ask(
    cx: &JobCx,
    subject: &Arc<ManagedSubject>,
    attempt: Attempt,
    guard: Option<&Arc<dyn LockGuard>>,
    now: Timestamp,
    found: Option<Served>,
) -> Result<Outcome, Failure> {
    let old = if attempt.renew { found } else { None };
    let target = if attempt.renew { "renewing certificate" } else { "obtaining certificate" };
    tracing::info!(target: "tls.obtain", identifier = subject.name, "{target}");
    let mut data = json!({ "identifier": subject.name });
    if let Some(old) = &old {
        let remaining = old.certificate.not_after.saturating_sub(now);
        data["renewal"] = true.into();
        data["forced"] = attempt.revoked.is_some().into();
        data["remaining"] = timestamp::span(remaining).into();
        data["issuer"] = old.issuer.as_str().into();
    }
    if let Err(error) = cx.events.emit("cert_obtaining", "tls", data).await {
        return Err(Failure::new(format!("{target} aborted by event handler: {error}")));
    }
    let mut failures: Vec<Failure> = Vec::new();
    for issuer in &subject.issuers {
        let made = match issuer {
            Issuer::Internal { ca, lifetime, sign_with_root } => {
                let request = internal::Request::new(ca, *lifetime, *sign_with_root);
                let (cx, subject) = (cx.clone(), subject.clone());
                let made = blocking(move || internal::issue(&cx, &subject, &request, now)).await?;
                made.map_err(Failure::from)
            }
            Issuer::Acme(config) => acme::issue(cx, subject, config, attempt, old.as_ref()).await,
            Issuer::ZeroSsl(config) => zerossl::issue(cx, subject, config).await,
        };
        match made {
            Ok(served) => {
                let (storage, subject) = (cx.storage.clone(), subject.clone());
                let guard = guard.cloned();
                let put = move || {
                    let fresh = |found: &Served| attempt.is_fresh(&subject, found, now);
                    stored::put(&*storage, &subject, guard.as_deref(), served, fresh)
                };
                return blocking(put).await;
            }
            Err(failure) => {
                tracing::error!(
                    target: "tls.obtain",
                    identifier = subject.name,
                    issuer = issuer.storage_key(),
                    error = %failure,
                    remedy = &*failure.remedy,
                    "could not get certificate from issuer"
                );
                failures.push(failure);
            }
        }
    }
    Err(together(failures))
}

/// All reasons; the next attempt may come as soon as one issuer allows it.
fn together(failures: Vec<Failure>) -> Failure {
    let at_least = failures.iter().map(|failure| failure.at_least).min().unwrap_or_default();
    let texts: Vec<String> = failures.iter().map(ToString::to_string).collect();
    let mut all = Failure::new(texts.join("; "));
    all.at_least = at_least;
    let mut remedies: Vec<&str> = Vec::new();
    for failure in &failures {
        if !failure.remedy.is_empty() && !remedies.contains(&&*failure.remedy) {
            remedies.push(&failure.remedy);
        }
    }
    all.remedy = remedies.join("; ").into();
    all.storage = !failures.is_empty() && failures.iter().all(|failure| failure.storage);
    all
}

/// When this subject's certificate is to be renewed.
pub(super) fn due_at(subject: &ManagedSubject, served: &Served) -> Timestamp {
    renewal::due_at(&renewal::Facts {
        not_before: served.certificate.not_before,
        not_after: served.certificate.not_after,
        ratio: subject.renewal_window_ratio,
        selected: served.renewal_info.as_ref().and_then(RenewalInfo::selected_at),
        spread: renewal::spread(&subject.name),
    })
}
