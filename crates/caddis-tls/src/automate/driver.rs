//! The task that renews: sleeps until the earliest name is due, and looks after intermediates.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::Notify;

use super::manager::CertManager;

/// The longest sleep, so that a clock that was set is noticed.
const MAX_SLEEP: i64 = 10 * 60;

/// Runs until the manager is gone.
pub(super) async fn run(manager: Weak<CertManager>, wake: Arc<Notify>) {
    loop {
        let Some(this) = manager.upgrade() else { return };
        for name in this.due() {
            // Bounded by the manager's workers.
            tokio::spawn(this.clone().work(name, true));
        }
        renew_intermediates(&this).await;
        let now = this.now();
        let sleep = this.next_wake().map_or(MAX_SLEEP, |at| at.saturating_sub(now));
        let sleep = Duration::from_secs(sleep.clamp(1, MAX_SLEEP).unsigned_abs());
        drop(this);
        let woken = tokio::time::timeout(sleep, wake.notified()).await;
        if woken.is_ok() {
            // Several at once come in one go.
            tokio::time::sleep(Duration::from_millis(20)).await;
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
                tracing::error!(target: "pki.ca", ca = ca.id(), error = %error);
            }
        }
    });
    // A panic there is told by the runtime; the next round tries again.
    let _ = renewed.await;
}
