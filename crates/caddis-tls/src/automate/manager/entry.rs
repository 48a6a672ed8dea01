//! One name as the manager keeps it.

use std::sync::Arc;

use serde_json::Value as Json;

use super::ManagedSubject;
use crate::{
    acme::Failure,
    automate::{
        job::{self, Outcome, Served},
        subject::{Effect, Event, State, step},
    },
    certificate::Certificate,
    storage,
    timestamp::{self, Timestamp},
};

/// Seconds within which a certificate of our own making is not replaced at the authority's wish.
const HOLD: i64 = 6 * 60 * 60;
/// With less than this share of its lifetime left a local certificate is replaced even where the new
/// one cannot be stored.
const URGENT: i64 = 6;
/// Seconds until an authority without an opinion is asked again.
const ASK_AGAIN: i64 = 6 * 60 * 60;
/// Seconds until a certificate is stored again that could not be: sooner than another process that waits
/// for the same storage asks an authority for one.
pub(super) const STORE_AGAIN: i64 = 5;
/// After a start, so many names are asked about per second.
const ASK_RATE: usize = 10;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) subject: Arc<ManagedSubject>,
    pub(super) state: State,
    pub(super) served: Option<Served>,
    pub(super) on_demand: bool,
    pub(super) busy: bool,
    /// When the authority is to be asked about renewal.
    pub(super) ask_at: Option<Timestamp>,
    /// When the certificate is to be stored that could not be yet.
    pub(super) store_at: Option<Timestamp>,
    /// When the certificate was made, if by this process.
    issued_at: Option<Timestamp>,
    /// The certificate that its authority revoked.
    pub(super) revoked: Option<[u8; 32]>,
    /// When one that was revoked was replaced, or will be.
    pub(super) replaced_at: Option<Timestamp>,
    pub(super) last_error: Option<Trouble>,
    /// The event of a certificate whose files are not stored yet.
    pub(super) untold: Option<Json>,
}

/// Why an attempt failed.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) error: String,
    /// What may be done about it; empty where that is not known.
    pub(super) remedy: String,
    pub(super) at: Timestamp,
    /// Of the storage.
    storage: bool,
    /// When it was told.
    told_at: Timestamp,
}

/// Seconds after which trouble with the storage that stays the same is told again.
const TELL_AGAIN: i64 = 60 * 60;

impl Entry {
    pub(super) fn new(subject: ManagedSubject, on_demand: bool) -> Self {
        Self {
            subject: Arc::new(subject),
            state: State::Loading,
            served: None,
            on_demand,
            busy: false,
            ask_at: None,
            store_at: None,
            issued_at: None,
            revoked: None,
            replaced_at: None,
            last_error: None,
            untold: None,
        }
    }

    /// Whether a failure was told already, so that a storage that is away does not tell it twice a
    /// minute for each name.
    pub(super) fn was_told(&self, failure: &Failure, now: Timestamp) -> bool {
        let last = self.last_error.as_ref();
        failure.storage
            && last.is_some_and(|last| {
                last.storage
                    && last.error == failure.message
                    && now.saturating_sub(last.told_at) < TELL_AGAIN
            })
    }

    pub(super) fn certificate(&self) -> Option<Arc<Certificate>> {
        self.served.as_ref().map(|served| served.certificate.clone())
    }

    /// Whether a certificate of the local authority has expired, or will soon: long after its renewal
    /// was due.
    pub(super) fn is_urgent(&self, now: Timestamp) -> bool {
        self.subject.is_local()
            && self.served.as_ref().is_some_and(|served| {
                let Certificate { not_before, not_after, .. } = *served.certificate;
                let lifetime = not_after.saturating_sub(not_before);
                not_after.saturating_sub(now) < lifetime / URGENT
            })
    }

    /// Takes note of a job's outcome; true where there is something new to serve. `count` is the
    /// number of all names.
    pub(super) fn apply(
        &mut self,
        name: &str,
        outcome: Outcome,
        now: Timestamp,
        count: usize,
    ) -> bool {
        let (event, served) = match outcome {
            Outcome::Found(found) => {
                let renew_at = job::due_at(&self.subject, &found);
                // Whenever it was asked before: what is wanted may have changed while nobody looked.
                self.ask_at = found.directory.as_ref().map(|_| soon(now, count));
                (Event::Found { renew_at }, Some(found))
            }
            Outcome::Issued(issued) => {
                tracing::info!(
                    target: "tls.obtain",
                    identifier = name,
                    issuer = issued.issuer,
                    "certificate obtained successfully"
                );
                tell_wrong_time(name, &issued, now);
                self.issued_at = Some(now);
                self.ask_at = issued.directory.as_ref().map(|_| ask_again(&issued, now));
                (Event::Issued { renew_at: self.due_at(&issued, now) }, Some(issued))
            }
            Outcome::Missing(found) => (Event::Missing { served: found.is_some() }, found),
            Outcome::Busy => {
                self.begin_where_loading(now);
                self.note_busy(name, now);
                (Event::Busy, None)
            }
            Outcome::Failed(failure, found) => {
                if self.served.is_none() {
                    self.served.clone_from(&found);
                }
                self.begin_where_loading(now);
                let jitter = fastrand::u16(0..=1_000);
                let mut told_at = now;
                let event = if failure.storage {
                    if self.was_told(&failure, now) {
                        told_at = self.last_error.as_ref().map_or(now, |last| last.told_at);
                    } else {
                        self.tell_no_storage(name, &failure);
                    }
                    Event::NoStorage { jitter }
                } else {
                    let at_least = i64::try_from(failure.at_least.as_secs()).unwrap_or(i64::MAX);
                    Event::Failed { at_least, jitter }
                };
                let (storage, remedy) = (failure.storage, failure.remedy.into_owned());
                let error = failure.message;
                self.last_error = Some(Trouble { error, remedy, at: now, storage, told_at });
                (event, found)
            }
        };
        let (state, effects) = step(self.state, event, now);
        if let Event::Failed { .. } = event {
            self.tell_failure(name, state, &effects, now);
        }
        self.state = state;
        if matches!(event, Event::Found { .. } | Event::Issued { .. }) {
            self.last_error = None;
        }
        if let Some(error) = served.as_ref().and_then(|served| served.not_stored()) {
            let remedy = storage::remedy(error.kind()).to_owned();
            let error = format!("certificate could not be stored: {error}");
            let trouble = Trouble { error, remedy, at: now, storage: true, told_at: now };
            self.last_error = Some(trouble);
        }
        let news = served.is_some();
        if let Some(served) = served {
            self.store_at = served.unstored.as_ref().map(|_| now.saturating_add(STORE_AGAIN));
            self.served = Some(served);
        }
        news
    }

    /// The first attempt of a name that was never looked for before.
    fn begin_where_loading(&mut self, now: Timestamp) {
        if self.state == State::Loading {
            let served = self.served.is_some();
            let state = step(State::Loading, Event::Missing { served }, now).0;
            self.state = step(state, Event::Tick, now).0;
        }
    }

    /// Another process has the name's lock: it is tried again every few seconds, and told once.
    fn note_busy(&mut self, name: &str, now: Timestamp) {
        let error =
            format!("another process works on this name: it has the lock issue_cert_{name}");
        if self.last_error.as_ref().is_some_and(|last| last.error == error) {
            return;
        }
        let remedy = "wait; a lock whose holder died ends by itself".to_owned();
        tracing::info!(target: "tls.obtain", identifier = name, remedy, "{error}; waiting for it");
        self.last_error = Some(Trouble { error, remedy, at: now, storage: false, told_at: now });
    }

    /// Tells once what then may hold for many tries of many names.
    fn tell_no_storage(&self, name: &str, failure: &Failure) {
        let served = if self.served.is_some() { "; what is served stays" } else { "" };
        tracing::error!(
            target: "tls.obtain",
            identifier = name,
            error = failure.message,
            remedy = &*failure.remedy,
            "storage is not ready; trying again every half minute{served}"
        );
    }

    fn tell_failure(&self, name: &str, state: State, effects: &[Effect], now: Timestamp) {
        let last = self.last_error.as_ref();
        let error = last.map_or("", |last| last.error.as_str());
        let remedy = last.map_or("", |last| last.remedy.as_str());
        if effects.contains(&Effect::GiveUp) {
            tracing::error!(
                target: "tls.obtain",
                identifier = name,
                error,
                remedy,
                attempt = state.failures(),
                retrying_in = state.wake_at().map_or(0, |at| at.saturating_sub(now)),
                "failing for a month: will retry once a day; a reload of the config tries at once"
            );
            return;
        }
        if self.on_demand && self.served.is_none() {
            tracing::error!(
                target: "tls.on_demand",
                identifier = name,
                error,
                remedy,
                "no certificate for a handshake; one that comes later tries again"
            );
            return;
        }
        let retrying_in = state.wake_at().map_or(0, |at| at.saturating_sub(now));
        tracing::error!(
            target: "tls.obtain",
            identifier = name,
            error,
            remedy,
            attempt = state.failures(),
            retrying_in,
            "will retry"
        );
    }

    /// The clock was set by so many seconds: what was to happen some time from now still does.
    pub(super) fn clock_set(&mut self, by: i64, now: Timestamp) {
        self.state = self.state.clock_set(by);
        let ahead = |one: &Served| one.certificate.is_ahead(now);
        if self.subject.is_local() && self.served.as_ref().is_some_and(ahead) {
            self.state = step(self.state, Event::RenewAt(now), now).0;
        }
        let back = by.min(0);
        for at in [&mut self.ask_at, &mut self.store_at].into_iter().flatten() {
            *at = at.saturating_add(back);
        }
        self.issued_at = self.issued_at.map(|at| at.saturating_add(by));
    }

    /// When a certificate is due, where a wish of the authority does not undo what was just done.
    pub(super) fn due_at(&self, served: &Served, now: Timestamp) -> Timestamp {
        let due = job::due_at(&self.subject, served);
        let wished = served.renewal_info.is_some();
        match self.issued_at {
            Some(issued_at) if wished && now.saturating_sub(issued_at) < HOLD => {
                let bare = Served { renewal_info: None, ..served.clone() };
                due.max(issued_at.saturating_add(HOLD))
                    .min(job::due_at(&self.subject, &bare).max(due))
            }
            _ => due,
        }
    }
}

/// What may be done where times make no sense.
pub(in crate::automate) const SET_CLOCK: &str =
    "see whether the clock of this machine is right (`date`), and let it be set by NTP";

/// Tells where a certificate that was just issued is not valid by our clock.
fn tell_wrong_time(name: &str, issued: &Served, now: Timestamp) {
    let certificate = &issued.certificate;
    if !certificate.is_ahead(now) && !certificate.is_expired(now) {
        return;
    }
    tracing::error!(
        target: "tls.obtain",
        identifier = name,
        not_before = timestamp::text(certificate.not_before),
        not_after = timestamp::text(certificate.not_after),
        now = timestamp::text(now),
        remedy = SET_CLOCK,
        "the new certificate is not valid at this time: is the clock of this machine right?"
    );
}

/// When to ask about a certificate that was found: soon, but not about all names at once.
fn soon(now: Timestamp, count: usize) -> Timestamp {
    let range = i64::try_from(count / ASK_RATE).unwrap_or(i64::MAX);
    now.saturating_add(fastrand::i64(0..=range))
}

/// When the authority is to be asked again.
pub(super) fn ask_again(served: &Served, now: Timestamp) -> Timestamp {
    let told = served.renewal_info.as_ref().and_then(crate::acme::RenewalInfo::ask_again_at);
    told.unwrap_or(0).max(now.saturating_add(60)).max(match told {
        Some(_) => 0,
        None => now.saturating_add(ASK_AGAIN),
    })
}
