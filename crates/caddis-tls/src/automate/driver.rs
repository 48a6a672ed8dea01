//! The task that renews: sleeps until the earliest name is due, and looks after intermediates.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::manager::{Cause, CertManager};
use crate::timestamp::Timestamp;

/// The longest sleep.
const MAX_SLEEP: i64 = 10 * 60;
/// How often it is seen whether the clock was set, or the machine slept: what has expired meanwhile is
/// not to be served for minutes.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(15);
/// Seconds of difference that are nothing.
const CLOCK_SLACK: i64 = 60;
/// How often certificate files are looked at.
const LOOK_AT_FILES: Duration = Duration::from_secs(5);
/// How often it is asked whether the storage is to be tidied, unless that is to be done more often.
const LOOK_TO_TIDY: Duration = Duration::from_secs(60 * 60);
/// How often the keys of session tickets are looked at.
const LOOK_AT_TICKETS: Duration = Duration::from_secs(60);
/// How often staples are looked at; most have nothing to do then.
const LOOK_AT_STAPLES: Duration = Duration::from_secs(30);

/// Runs until the manager is gone.
pub(super) async fn run(manager: Weak<CertManager>, wake: Arc<Notify>) {
    let mut clock: Option<(Timestamp, Instant)> = None;
    loop {
        let Some(this) = manager.upgrade() else { return };
        let seen = (this.now(), Instant::now());
        if let Some(by) = clock.and_then(|before| was_set(before, seen)) {
            this.clock_set(by);
        }
        clock = Some(seen);
        this.publish_news();
        for name in this.due() {
            // Bounded by the manager's workers.
            tokio::spawn(this.clone().work(name, Cause::Due));
        }
        for name in this.to_ask() {
            tokio::spawn(this.clone().ask_renewal_info(name));
        }
        for name in this.to_store() {
            tokio::spawn(this.clone().store_again(name));
        }
        renew_intermediates(&this).await;
        this.look_at_roots();
        let now = this.now();
        let sleep = this.next_wake().map_or(MAX_SLEEP, |at| at.saturating_sub(now));
        let sleep = Duration::from_secs(sleep.clamp(1, MAX_SLEEP).unsigned_abs());
        drop(this);
        if !rest(&manager, &wake, seen, (sleep, LOOK_AT_CLOCK)).await {
            return;
        }
    }
}

/// Sleeps until there is something to do: the time is over, somebody wakes, or the clock was set since
/// `seen`, which is looked at now and then. False where the manager is gone.
async fn rest(
    manager: &Weak<CertManager>,
    wake: &Notify,
    seen: (Timestamp, Instant),
    (sleep, look): (Duration, Duration),
) -> bool {
    let end = Instant::now() + sleep;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        let woken = tokio::time::timeout(left.min(look), wake.notified()).await;
        if woken.is_ok() {
            // Several at once come in one go.
            tokio::time::sleep(Duration::from_millis(20)).await;
            return true;
        }
        let Some(this) = manager.upgrade() else { return false };
        if was_set(seen, (this.now(), Instant::now())).is_some() {
            return true;
        }
    }
}

/// By how many seconds the clock was set between two looks at it, where that is more than clocks are
/// put right by all the time.
fn was_set(before: (Timestamp, Instant), now: (Timestamp, Instant)) -> Option<i64> {
    let passed = now.1.saturating_duration_since(before.1).as_secs();
    let expected = before.0.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX));
    let by = now.0.saturating_sub(expected);
    (by.saturating_abs() > CLOCK_SLACK).then_some(by)
}

/// Looks at certificate files until the manager is gone.
pub(super) async fn watch(manager: Weak<CertManager>) {
    loop {
        let Some(this) = manager.upgrade() else { return };
        this.look_at_files().await;
        drop(this);
        tokio::time::sleep(LOOK_AT_FILES).await;
    }
}

/// Tidies the storage until the manager is gone.
pub(super) async fn tidy(manager: Weak<CertManager>) {
    loop {
        let Some(this) = manager.upgrade() else { return };
        this.tidy().await;
        let every = this.tidies_every().map_or(LOOK_TO_TIDY, |every| every.min(LOOK_TO_TIDY));
        drop(this);
        tokio::time::sleep(every.max(Duration::from_secs(1))).await;
    }
}

/// Looks at session ticket keys until the manager is gone.
pub(super) async fn tickets(manager: Weak<CertManager>) {
    loop {
        tokio::time::sleep(LOOK_AT_TICKETS).await;
        let Some(this) = manager.upgrade() else { return };
        let (tickets, now) = (this.tickets().clone(), this.now());
        drop(this);
        // A panic there is told by the runtime; the next round tries again.
        let _ = tokio::task::spawn_blocking(move || tickets.look(now)).await;
    }
}

/// Looks at staples until the manager is gone.
pub(super) async fn staple(manager: Weak<CertManager>) {
    loop {
        let Some(this) = manager.upgrade() else { return };
        this.look_at_staples().await;
        let news = this.staple_news();
        drop(this);
        // New certificates do not wait for their first staple.
        if tokio::time::timeout(LOOK_AT_STAPLES, news.notified()).await.is_ok() {
            // Several at once come in one go.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn renew_intermediates(manager: &Arc<CertManager>) {
    let now = manager.now();
    let due: Vec<_> = manager
        .pki()
        .open_authorities()
        .into_iter()
        .filter(|ca| ca.intermediate_due_at().is_some_and(|at| now >= at))
        .collect();
    if due.is_empty() {
        return;
    }
    let renewed = tokio::task::spawn_blocking(move || {
        for ca in due {
            if let Err(error) = ca.renew_if_due(now) {
                tracing::error!(
                    target: "pki.ca",
                    ca = ca.id(),
                    %error,
                    remedy = "see whether the root's key can be read and the storage be written",
                    "intermediate certificate could not be renewed; trying again in ten minutes"
                );
            }
        }
    });
    // A panic there is told by the runtime; the next round tries again.
    let _ = renewed.await;
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicI64, Ordering},
        },
        time::Duration,
    };

    use tokio::{sync::Notify, time::Instant};

    use super::{rest, was_set};
    use crate::{
        automate::CertManager, storage::FileSystem, testing::TempDir, timestamp::Timestamp,
    };

    #[test]
    fn a_clock_that_was_set_is_noticed() {
        let start = Instant::now();
        let later = start + Duration::from_secs(600);
        for (now, by) in [
            (1_600, None),
            (1_630, None),
            (1_000 + 600 + 86_400, Some(86_400)),
            (1_000 + 600 - 86_400, Some(-86_400)),
            (i64::MAX, Some(i64::MAX - 1_600)),
        ] {
            assert_eq!(was_set((1_000, start), (now, later)), by, "{now}");
        }
    }
    #[tokio::test]
    async fn nobody_sleeps_on_when_the_clock_was_set() {
        static CLOCK: AtomicI64 = AtomicI64::new(1_000);
        const LONG: Duration = Duration::from_secs(600);
        const SHORT: Duration = Duration::from_millis(5);
        let dir = TempDir::new();
        let storage = Arc::new(FileSystem::new(dir.path()));
        let manager = CertManager::with_clock(storage, || CLOCK.load(Ordering::Relaxed));
        let (weak, wake) = (Arc::downgrade(&manager), Notify::new());
        let seen = || -> (Timestamp, Instant) { (manager.now(), Instant::now()) };
        assert!(rest(&weak, &wake, seen(), (SHORT, LONG)).await, "the time is over");
        wake.notify_one();
        assert!(rest(&weak, &wake, seen(), (LONG, LONG)).await, "somebody wakes");
        for by in [86_400, -86_400] {
            let seen = seen();
            let resting = rest(&weak, &wake, seen, (LONG, SHORT));
            let setting = async {
                tokio::time::sleep(4 * SHORT).await;
                CLOCK.fetch_add(by, Ordering::Relaxed);
            };
            let both = async { tokio::join!(resting, setting) };
            let done = tokio::time::timeout(Duration::from_secs(30), both).await;
            assert_eq!(done.unwrap(), (true, ()), "{by}");
        }
        let seen = seen();
        drop(manager);
        assert!(!rest(&weak, &wake, seen, (LONG, SHORT)).await, "nobody is left");
    }
}
