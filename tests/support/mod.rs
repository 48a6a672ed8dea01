//! The program under test, scripted upstreams, a plain client, waiting with a deadline.

mod client;
pub mod collector;
mod faulty;
mod filled;
pub mod frames;
mod heard;
mod named;
mod pebble;
pub mod protobuf;
pub mod quic;
pub mod quic_upstream;
mod scripted;
mod server;
mod stores;
mod upstream;
mod wire;

use std::time::{Duration, Instant};

pub use client::{Answer, get, request, send_raw};
pub use faulty::{Fault, Faulty};
pub use filled::Past;
pub use heard::Heard;
pub use named::Named;
pub use pebble::{Options as PebbleOptions, Pebble, name_server};
pub use quic::tls_stream;
pub use scripted::{Scripted, ok};
pub use server::{Server, caddis, free_port, scratch, site_with};
pub use stores::{Postgres, Redis, Redises, S3, S3s, Store};
pub use upstream::Upstream;
pub use wire::Wire;

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
