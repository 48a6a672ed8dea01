//! Our own limit for new orders per authority and account (T083): ten in ten seconds.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

const EVENTS: usize = 10;
const WINDOW: Duration = Duration::from_secs(10);

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
    let at = match times.front() {
        Some(first) if times.len() >= EVENTS => (*first + WINDOW).max(now),
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
        let waits: Vec<u64> = (0..25).map(|_| (reserve(&mut times, now) - now).as_secs()).collect();
        assert_eq!(waits[..10], [0; 10]);
        assert_eq!(waits[10..20], [10; 10]);
        assert_eq!(waits[20..], [20; 5]);
        let later = now + Duration::from_secs(60);
        assert_eq!(reserve(&mut times, later), later);
    }
}
