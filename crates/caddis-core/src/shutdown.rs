//! When the process is going to stop serving (`shutdown_delay`), for `{http.shutting_down}` and
//! `{http.time_until_shutdown}`. One fact of the whole process, so it lives beside it and not in a
//! plan.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

static AT: OnceLock<Instant> = OnceLock::new();

/// Notes that the process stops serving after this time. The first note counts.
pub fn announce(delay: Duration) {
    if let Some(at) = Instant::now().checked_add(delay) {
        // Whoever stops twice stops at the first time.
        let _ = AT.set(at);
    }
}

/// The time until the process stops serving; `None` where it is not about to.
pub fn time_left() -> Option<Duration> {
    AT.get().map(|at| at.saturating_duration_since(Instant::now()))
}
