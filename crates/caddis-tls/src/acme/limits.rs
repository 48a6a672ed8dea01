//! Our own limit for new orders per authority and account (T083): ten in ten seconds.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

const EVENTS: usize = 10;
/// A little more than ten seconds: the way to the authority is not the same for all.
const WINDOW: Duration = Duration::from_millis(10_200);
/// Between those that have to wait; all at once at the end of each window, some would come before it.
const APART: Duration = Duration::from_millis(1_020);

/// The times of the last orders.
#[derive(Debug, Default)]
pub(super) struct Limits(Mutex<HashMap<(String, String), VecDeque<Instant>>>);

impl Limits {
    /// Waits until an order is allowed.
    pub(super) async fn wait(&self, directory: &str, email: &str) {
        let at = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let times = all.entry((directory.to_owned(), email.to_owned())).or_default();
            reserve(times, Instant::now())
        };
        tokio::time::sleep_until(at).await;
    }
}

/// Takes the next free place and says when it is.
fn reserve(times: &mut VecDeque<Instant>, now: Instant) -> Instant {
    let at = match (times.front(), times.back()) {
        (Some(first), Some(last)) if times.len() >= EVENTS => {
            (*first + WINDOW).max(*last + APART).max(now)
        }
        _ => now,
    };
    if times.len() >= EVENTS {
        times.pop_front();
    }
    times.push_back(at);
    at
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, time::Duration};

    use tokio::time::Instant;

    use super::reserve;

    #[test]
    fn ten_in_ten_seconds() {
        let mut times = VecDeque::new();
        let now = Instant::now();
        let waits: Vec<u128> =
            (0..1_000).map(|_| (reserve(&mut times, now) - now).as_millis()).collect();
        assert_eq!(waits[..10], [0; 10]);
        assert_eq!(waits[10..13], [10_200, 11_220, 12_240]);
        // Ten seconds at the authority, where some come a fifth of a second late and others do not.
        let most = waits
            .iter()
            .map(|at| waits.iter().filter(|other| (*at..*at + 10_200).contains(*other)).count());
        assert!(most.max().unwrap() <= 10);
        assert!(waits[999] < 1_020_000, "a thousand take seventeen minutes");
        let later = now + Duration::from_secs(6_000);
        assert_eq!(reserve(&mut times, later), later);
    }
}
