//! The program under test, scripted upstreams, a plain client, waiting with a deadline.

mod client;
mod server;
mod upstream;

use std::time::{Duration, Instant};

pub use client::{Answer, get, request, send_raw};
pub use server::{Server, caddis, free_port, scratch};
pub use upstream::Upstream;

/// How long a condition may take to come true.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// Waits until a condition holds; panics with `what` after the deadline.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
