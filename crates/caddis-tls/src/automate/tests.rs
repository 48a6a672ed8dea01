//! What a fleet of names does to an authority over a year, at any speed: no I/O, no clock.

use std::{cmp::Reverse, collections::BinaryHeap, ops::Range};

use super::{
    renewal::{Facts, due_at, spread},
    subject::{Effect, Event, State, step},
};
use crate::timestamp::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const NAMES: usize = 2_000;
const LIFETIME: i64 = 90 * DAY;

/// Names that were all issued in the same moment, and what became of them.
struct Fleet {
    names: Vec<Name>,
    wakes: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// Times at which the authority was asked.
    orders: Vec<Timestamp>,
    issued: usize,
    /// The least time that a certificate had left when it was replaced.
    least_left: i64,
    chance: fastrand::Rng,
    /// When the authority wants certificates to be renewed, after they were issued.
    window: Option<Range<i64>>,
}

struct Name {
    state: State,
    spread: f64,
    not_after: Timestamp,
}

impl Fleet {
    fn new(window: Option<Range<i64>>) -> Self {
        let mut this = Self {
            names: Vec::new(),
            wakes: BinaryHeap::new(),
            orders: Vec::new(),
            issued: 0,
            least_left: LIFETIME,
            chance: fastrand::Rng::with_seed(7),
            window,
        };
        for at in 0..NAMES {
            let spread = spread(&format!("n{at}.example.test"));
            this.names.push(Name { state: State::Loading, spread, not_after: LIFETIME });
            let renew_at = this.due(at, 0);
            this.news(at, Event::Found { renew_at }, 0);
        }
        this
    }

    /// When a certificate that is issued now is due.
    fn due(&mut self, at: usize, now: Timestamp) -> Timestamp {
        let chosen = self.window.clone().map(|window| now + self.chance.i64(window));
        due_at(&Facts {
            not_before: now,
            not_after: now + LIFETIME,
            ratio: 0.0,
            selected: chosen,
            spread: self.names[at].spread,
        })
    }

    fn news(&mut self, at: usize, event: Event, now: Timestamp) -> Vec<Effect> {
        let (state, effects) = step(self.names[at].state, event, now);
        self.names[at].state = state;
        for effect in &effects {
            if let Effect::WakeAt(time) = effect {
                self.wakes.push(Reverse((*time, at)));
            }
        }
        effects
    }

    /// Lives until a time; the authority answers nothing while it is `away`. Ten orders in ten
    /// seconds are let through (T083).
    fn live(&mut self, until: Timestamp, away: &Range<Timestamp>) {
        let mut free = 0;
        while let Some(Reverse((time, at))) = self.wakes.pop() {
            if time >= until {
                self.wakes.push(Reverse((time, at)));
                return;
            }
            if !self.news(at, Event::Tick, time).contains(&Effect::Issue) {
                continue;
            }
            let now = time.max(free);
            free = now + 1;
            self.orders.push(now);
            if away.contains(&now) {
                let jitter = self.chance.u16(0..=1_000);
                let effects = self.news(at, Event::Failed { at_least: 0, jitter }, now);
                assert!(!effects.contains(&Effect::GiveUp));
                continue;
            }
            self.least_left = self.least_left.min(self.names[at].not_after - now);
            self.names[at].not_after = now + LIFETIME;
            self.issued += 1;
            let renew_at = self.due(at, now);
            self.news(at, Event::Issued { renew_at }, now);
        }
    }

    /// The most orders within ten minutes, from a time on.
    fn crowd(&self, from: Timestamp) -> usize {
        let mut orders: Vec<_> = self.orders.iter().filter(|at| **at >= from).collect();
        orders.sort_unstable();
        let mut first = 0;
        let crowds = orders.iter().enumerate().map(|(last, at)| {
            while *orders[first] + 10 * MINUTE <= **at {
                first += 1;
            }
            last - first + 1
        });
        crowds.max().unwrap_or(0)
    }
}

#[test]
fn names_that_were_issued_together_are_renewed_one_by_one() {
    let mut fleet = Fleet::new(None);
    fleet.live(365 * DAY, &(0..0));
    // After sixty days each, six times in a year.
    assert_eq!((fleet.orders.len(), fleet.issued), (6 * NAMES, 6 * NAMES));
    // Two thousand within fourteen hours are 23 in ten minutes.
    assert!(fleet.crowd(0) < 60, "{} within ten minutes", fleet.crowd(0));
    assert!(fleet.least_left > 29 * DAY, "{} left", fleet.least_left);
}

#[test]
fn the_windows_of_an_authority_spread_them_further() {
    let mut fleet = Fleet::new(Some(58 * DAY..62 * DAY));
    fleet.live(365 * DAY, &(0..0));
    assert_eq!(fleet.orders.len(), fleet.issued);
    assert!(fleet.crowd(0) < 25, "{} within ten minutes", fleet.crowd(0));
    assert!(fleet.least_left > 27 * DAY, "{} left", fleet.least_left);
}

#[test]
fn an_authority_that_is_away_when_all_are_due_is_not_stormed() {
    let away = 60 * DAY..70 * DAY;
    let mut fleet = Fleet::new(None);
    fleet.live(100 * DAY, &away);
    assert_eq!(fleet.issued, NAMES);
    // Each name asks less and less: in ten days as in the table of T080, not more.
    let failed = fleet.orders.len() - fleet.issued;
    assert!((20 * NAMES..65 * NAMES).contains(&failed), "{} per name", failed / NAMES);
    assert!(fleet.crowd(0) <= 600, "{} within ten minutes", fleet.crowd(0));
    let back = fleet.crowd(away.end);
    assert!(back <= 250, "{back} within ten minutes when the authority is back");
    // All are renewed within the longest wait, long before anything ends.
    let last = fleet.orders.iter().max().copied().unwrap_or(0);
    assert!(last < away.end + 7 * HOUR, "the last one {} s after", last - away.end);
    assert!(fleet.least_left > 19 * DAY, "{} left", fleet.least_left);
    // The next time they are apart, too.
    fleet.live(150 * DAY, &(0..0));
    assert_eq!(fleet.issued, 2 * NAMES);
    assert!(fleet.crowd(110 * DAY) < 120, "{} within ten minutes", fleet.crowd(110 * DAY));
}
