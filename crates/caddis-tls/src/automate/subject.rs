//! The state machine of one managed name: no I/O, no clock.
//!
//! ```text
//! Loading ─found─► Valid ─due─► Renewing ─issued─► Valid
//!    └─missing─► Obtaining ─issued─► Valid
//!                    └─failed─► Waiting ─due─► Obtaining (or Renewing, where one is still served)
//! ```
//!
//! After a month of failures there is one attempt a day: Caddy gives up then where there is nothing to
//! renew (T081), and a name whose trouble ends later would need somebody who reloads the config.

use super::backoff;
use crate::timestamp::Timestamp;

/// Seconds after which a name is looked at again that another process is working on.
const BUSY: i64 = 3;

/// Seconds after which the storage is tried again that did not work. Nobody outside is bothered
/// by that, so it neither takes longer each time nor counts as a failure of an issuer.
const NO_STORAGE: i64 = 20;

/// Where a name stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The storage is being looked at.
    Loading,
    /// Served; due at the time.
    Valid { renew_at: Timestamp },
    /// Nothing to serve; an attempt is under way.
    Obtaining { failures: u32, since: Timestamp },
    /// The old one is served; an attempt is under way.
    Renewing { failures: u32, since: Timestamp },
    /// Between attempts.
    Waiting { failures: u32, since: Timestamp, retry_at: Timestamp, served: bool },
    /// A month of failures: one attempt a day.
    Stuck { failures: u32, since: Timestamp, retry_at: Timestamp, served: bool },
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A usable certificate was in storage.
    Found { renew_at: Timestamp },
    /// No fresh one was; an old one may be served.
    Missing { served: bool },
    /// A certificate was issued.
    Issued { renew_at: Timestamp },
    /// The attempt failed. The next one must not come before `at_least` seconds; `jitter`, from 0
    /// to 1000, is chance.
    Failed { at_least: i64, jitter: u16 },
    /// The storage did not work, so nobody was asked; `jitter` as above.
    NoStorage { jitter: u16 },
    /// Another process is working on the name.
    Busy,
    /// The authority wants another time for the renewal.
    RenewAt(Timestamp),
    /// Time passed.
    Tick,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Ask the issuer.
    Issue,
    /// The certificate that came with the event is to be served.
    Publish,
    /// Look again at this time.
    WakeAt(Timestamp),
    /// Hardly any more attempts; somebody must look.
    GiveUp,
}

/// One step.
pub(super) fn step(state: State, event: Event, now: Timestamp) -> (State, Vec<Effect>) {
    match (state, event) {
        (_, Event::Issued { renew_at }) => issued(state, renew_at, now),
        (_, Event::Found { renew_at }) => valid(renew_at, now),
        (State::Valid { .. }, Event::RenewAt(renew_at)) => valid(renew_at, now),
        (State::Loading, Event::Missing { served }) => {
            let waiting = State::Waiting { failures: 0, since: now, retry_at: now, served };
            (waiting, vec![Effect::WakeAt(now)])
        }
        (State::Obtaining { failures, since }, Event::Failed { at_least, jitter }) => {
            wait((failures, since, false), (at_least, jitter), now)
        }
        (State::Renewing { failures, since }, Event::Failed { at_least, jitter }) => {
            wait((failures, since, true), (at_least, jitter), now)
        }
        (
            State::Obtaining { failures, since } | State::Renewing { failures, since },
            Event::Busy | Event::NoStorage { .. },
        ) => {
            let served = matches!(state, State::Renewing { .. });
            let after = match event {
                Event::NoStorage { jitter } => {
                    NO_STORAGE + NO_STORAGE * i64::from(jitter.min(1_000)) / 1_000
                }
                _ => BUSY,
            };
            let retry_at = now.saturating_add(after);
            let waiting = State::Waiting { failures, since, retry_at, served };
            (waiting, vec![Effect::WakeAt(retry_at)])
        }
        (State::Valid { renew_at }, Event::Tick) if now >= renew_at => {
            (State::Renewing { failures: 0, since: now }, vec![Effect::Issue])
        }
        (
            State::Waiting { failures, since, retry_at, served }
            | State::Stuck { failures, since, retry_at, served },
            Event::Tick,
        ) if now >= retry_at => {
            let next = if served {
                State::Renewing { failures, since }
            } else {
                State::Obtaining { failures, since }
            };
            (next, vec![Effect::Issue])
        }
        (
            State::Valid { renew_at: at }
            | State::Waiting { retry_at: at, .. }
            | State::Stuck { retry_at: at, .. },
            Event::Tick,
        ) => (state, vec![Effect::WakeAt(at)]),
        // Late news of an attempt that no longer counts.
        _ => (state, Vec::new()),
    }
}

impl State {
    /// When a tick can change something.
    pub(super) fn wake_at(self) -> Option<Timestamp> {
        match self {
            Self::Valid { renew_at } => Some(renew_at),
            Self::Waiting { retry_at, .. } | Self::Stuck { retry_at, .. } => Some(retry_at),
            Self::Loading | Self::Obtaining { .. } | Self::Renewing { .. } => None,
        }
    }

    /// The same after the clock was set by so many seconds: times that were counted from now move
    /// with it, so that nobody waits for days where it was set back, or gives up at once where it
    /// was set forward (a machine without a clock of its own starts in the past). A clock set
    /// forward may be a machine that slept, so no attempt is put off by that.
    pub(super) fn clock_set(self, by: i64) -> Self {
        let moved = |since: Timestamp| since.saturating_add(by);
        match self {
            Self::Obtaining { failures, since } => {
                Self::Obtaining { failures, since: moved(since) }
            }
            Self::Renewing { failures, since } => Self::Renewing { failures, since: moved(since) },
            Self::Waiting { failures, since, retry_at, served } => {
                let retry_at = retry_at.saturating_add(by.min(0));
                Self::Waiting { failures, since: moved(since), retry_at, served }
            }
            Self::Stuck { failures, since, retry_at, served } => {
                let retry_at = retry_at.saturating_add(by.min(0));
                Self::Stuck { failures, since: moved(since), retry_at, served }
            }
            // When a certificate is due is told by the certificate.
            Self::Loading | Self::Valid { .. } => self,
        }
    }

    /// Attempts that failed since the last success.
    pub(super) fn failures(self) -> u32 {
        match self {
            Self::Obtaining { failures, .. }
            | Self::Renewing { failures, .. }
            | Self::Waiting { failures, .. }
            | Self::Stuck { failures, .. } => failures,
            Self::Loading | Self::Valid { .. } => 0,
        }
    }
}

fn valid(renew_at: Timestamp, now: Timestamp) -> (State, Vec<Effect>) {
    // It may be due when it comes; never again within a second.
    let renew_at = renew_at.max(now.saturating_add(1));
    (State::Valid { renew_at }, vec![Effect::Publish, Effect::WakeAt(renew_at)])
}

/// A fresh certificate that is due already (a clock that is wrong by days, an authority that gives
/// old ones) must not lead to one order after the other: the next one waits as after a failure.
fn issued(state: State, renew_at: Timestamp, now: Timestamp) -> (State, Vec<Effect>) {
    if renew_at > now {
        return valid(renew_at, now);
    }
    let failures = state.failures().saturating_add(1);
    let retry_at = now.saturating_add(backoff::delay(failures, 0));
    let waiting = State::Waiting { failures, since: now, retry_at, served: true };
    (waiting, vec![Effect::Publish, Effect::WakeAt(retry_at)])
}

fn wait(
    (failures, since, served): (u32, Timestamp, bool),
    (at_least, jitter): (i64, u16),
    now: Timestamp,
) -> (State, Vec<Effect>) {
    let failures = failures.saturating_add(1);
    if now.saturating_sub(since) >= backoff::GIVE_UP_AFTER {
        let retry_at = now.saturating_add(backoff::stuck(jitter).max(at_least));
        let stuck = State::Stuck { failures, since, retry_at, served };
        return (stuck, vec![Effect::GiveUp, Effect::WakeAt(retry_at)]);
    }
    let retry_at = now.saturating_add(backoff::delay(failures, jitter).max(at_least));
    (State::Waiting { failures, since, retry_at, served }, vec![Effect::WakeAt(retry_at)])
}

#[cfg(test)]
mod tests {
    use super::{Effect, Event, State, step};

    const FAILED: Event = Event::Failed { at_least: 0, jitter: 0 };

    #[test]
    fn a_life() {
        let (state, _) = step(State::Loading, Event::Missing { served: false }, 100);
        let (state, effects) = step(state, Event::Tick, 100);
        assert_eq!(state, State::Obtaining { failures: 0, since: 100 });
        assert_eq!(effects, [Effect::Issue]);
        let (state, effects) = step(state, FAILED, 100);
        let waiting = State::Waiting { failures: 1, since: 100, retry_at: 160, served: false };
        assert_eq!((state, effects), (waiting, vec![Effect::WakeAt(160)]));
        assert_eq!(step(state, Event::Tick, 159), (waiting, vec![Effect::WakeAt(160)]));
        let (state, effects) = step(state, Event::Tick, 160);
        assert_eq!((state, effects.len()), (State::Obtaining { failures: 1, since: 100 }, 1));
        let (state, effects) = step(state, Event::Issued { renew_at: 900 }, 165);
        assert_eq!(state, State::Valid { renew_at: 900 });
        assert_eq!(effects, [Effect::Publish, Effect::WakeAt(900)]);
        let (state, _) = step(state, Event::Tick, 900);
        assert_eq!(state, State::Renewing { failures: 0, since: 900 });
        let (state, _) = step(state, FAILED, 905);
        assert!(matches!(state, State::Waiting { served: true, retry_at: 965, .. }));
        let (state, _) = step(state, Event::Tick, 970);
        assert!(matches!(state, State::Renewing { failures: 1, .. }));
    }

    #[test]
    fn after_a_month_it_hardly_tries() {
        const DAY: i64 = 86_400;
        for served in [false, true] {
            let mut state = match served {
                true => State::Renewing { failures: 0, since: 0 },
                false => State::Obtaining { failures: 0, since: 0 },
            };
            let mut now = 0;
            let mut attempts = 0;
            loop {
                let (next, effects) = step(state, FAILED, now);
                attempts += 1;
                state = next;
                if effects.contains(&Effect::GiveUp) {
                    break;
                }
                now = next.wake_at().unwrap();
                state = step(next, Event::Tick, now).0;
                assert!(attempts < 1_000);
            }
            assert!((30 * DAY..31 * DAY).contains(&now));
            // Once a day from then on, and each time it is told.
            for _ in 0..10 {
                assert!(matches!(state, State::Stuck { served: one, .. } if one == served));
                let wake = state.wake_at().unwrap();
                assert!((DAY..=DAY + DAY / 10).contains(&(wake - now)));
                assert_eq!(step(state, Event::Tick, wake - 1), (state, vec![Effect::WakeAt(wake)]));
                now = wake;
                let (next, effects) = step(state, Event::Tick, now);
                assert_eq!(effects, [Effect::Issue]);
                let (next, effects) = step(next, FAILED, now);
                assert_eq!(effects.first(), Some(&Effect::GiveUp));
                state = next;
            }
            // A storage that is gone then does not make it a short wait for ever.
            let (trying, _) = step(state, Event::Tick, state.wake_at().unwrap());
            let (waiting, _) = step(trying, Event::NoStorage { jitter: 0 }, now);
            assert!(matches!(waiting, State::Waiting { .. }));
            let (trying, _) = step(waiting, Event::Tick, waiting.wake_at().unwrap());
            assert!(matches!(step(trying, FAILED, now).0, State::Stuck { .. }));
            // The first success ends it.
            let (valid, _) = step(state, Event::Issued { renew_at: now + 900 }, now);
            assert_eq!(valid, State::Valid { renew_at: now + 900 });
        }
    }

    #[test]
    fn a_storage_that_is_gone_does_not_count() {
        let mut state = State::Renewing { failures: 2, since: 0 };
        for round in 0..1_000 {
            let now = round * 100;
            state = step(state, Event::NoStorage { jitter: 500 }, now).0;
            assert_eq!((state.wake_at(), state.failures()), (Some(now + 30), 2));
            state = step(state, Event::Tick, now + 30).0;
            assert!(matches!(state, State::Renewing { .. }));
        }
    }

    #[test]
    fn late_news_change_nothing() {
        let valid = State::Valid { renew_at: 50 };
        assert_eq!(step(valid, FAILED, 10), (valid, vec![]));
        assert_eq!(step(valid, Event::Missing { served: false }, 10), (valid, vec![]));
        let stuck = State::Stuck { failures: 9, since: 0, retry_at: 20, served: false };
        assert_eq!(step(stuck, FAILED, 10), (stuck, vec![]));
        let (state, _) = step(stuck, Event::Found { renew_at: 5 }, 10);
        assert_eq!(state, State::Valid { renew_at: 11 });
    }

    #[test]
    fn the_authority_has_a_say() {
        let obtaining = State::Obtaining { failures: 0, since: 100 };
        let limited = Event::Failed { at_least: 3_600, jitter: 0 };
        assert_eq!(step(obtaining, limited, 100).0.wake_at(), Some(3_700));
        let jittered = Event::Failed { at_least: 0, jitter: 1_000 };
        assert_eq!(step(obtaining, jittered, 100).0.wake_at(), Some(166));
        let valid = State::Valid { renew_at: 9_000 };
        assert_eq!(step(valid, Event::RenewAt(50), 100).0, State::Valid { renew_at: 101 });
        assert_eq!(step(obtaining, Event::RenewAt(50), 100).0, obtaining);
        let (state, _) = step(obtaining, Event::Busy, 100);
        assert_eq!((state.wake_at(), state.failures()), (Some(103), 0));
    }

    #[test]
    fn a_clock_that_is_set_neither_delays_nor_ends_attempts() {
        const YEAR: i64 = 365 * 86_400;
        // Started in 1970, and then told the time.
        let (state, _) = step(State::Obtaining { failures: 0, since: 100 }, FAILED, 110);
        let state = state.clock_set(50 * YEAR);
        assert_eq!(state.wake_at(), Some(170), "due at once");
        let now = 50 * YEAR + 115;
        let (state, _) = step(state, Event::Tick, now);
        assert_eq!(state, State::Obtaining { failures: 1, since: 50 * YEAR + 100 });
        let (state, effects) = step(state, FAILED, now);
        assert!(!effects.contains(&Effect::GiveUp));
        assert!(matches!(state, State::Waiting { failures: 2, .. }));
        // Ahead by a year, and set back.
        let waits = state.wake_at().unwrap() - now;
        let state = state.clock_set(-YEAR);
        assert_eq!(state.wake_at(), Some(now - YEAR + waits));
        let valid = State::Valid { renew_at: 900 };
        assert_eq!(valid.clock_set(-500), valid);
    }

    #[test]
    fn certificates_that_are_born_old_are_not_ordered_again_and_again() {
        let mut state = State::Obtaining { failures: 0, since: 0 };
        let mut now = 0;
        let mut orders = 0;
        while now < 24 * 3_600 {
            state = step(state, Event::Issued { renew_at: now - 1 }, now).0;
            assert!(matches!(state, State::Waiting { served: true, .. }));
            orders += 1;
            now = state.wake_at().unwrap();
            state = step(state, Event::Tick, now).0;
        }
        assert!(orders < 32, "{orders} orders in a day");
    }
}
