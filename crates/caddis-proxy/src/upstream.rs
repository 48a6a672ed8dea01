//! One backend: its address, its counters, and whether it may be used.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use caddis_config::NetworkAddress;
use caddis_core::{State, Template};
use serde::Serialize;

use crate::transport::http::PoolId;

/// Counters of one dial address, shared by all handlers and plans that use it.
#[derive(Debug, Default)]
pub(crate) struct UpstreamState {
    /// Requests in flight.
    pub(crate) requests: AtomicI64,
    /// Failures remembered at the moment.
    pub(crate) fails: AtomicI64,
}

/// What active checks of one definition found out about one address.
#[derive(Debug, Default)]
pub(crate) struct ActiveState {
    /// The address as configured.
    pub(crate) address: String,
    /// Whether the checks found it down.
    pub(crate) down: AtomicBool,
    /// Passed checks in a row.
    pub(crate) passes: AtomicU32,
    /// Failed checks in a row.
    pub(crate) fails: AtomicU32,
    /// How long the last check took, in nanoseconds; 0 before the first.
    pub(crate) latency: AtomicU64,
    /// Why the last failed check failed; empty after one that passed.
    pub(crate) last_error: Mutex<String>,
}

impl ActiveState {
    /// Notes the outcome of one check; gives the new state where it changed.
    pub(crate) fn note(
        &self,
        outcome: Result<(), String>,
        took: Duration,
        (passes, fails): (u32, u32),
    ) -> Option<bool> {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.latency.store(nanos.max(1), Ordering::Relaxed);
        let passed = outcome.is_ok();
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) =
            outcome.err().unwrap_or_default();
        let (mine, other, needed) = if passed {
            (&self.passes, &self.fails, passes)
        } else {
            (&self.fails, &self.passes, fails)
        };
        other.store(0, Ordering::Relaxed);
        let run = mine.load(Ordering::Relaxed).saturating_add(1);
        mine.store(run, Ordering::Relaxed);
        (run >= needed && self.down.swap(!passed, Ordering::Relaxed) == passed).then_some(passed)
    }
}

/// A parsed dial address: exactly one socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// `tcp`, `tcp4`, `unix`, …
    pub(crate) network: String,
    /// The host, or the path of a unix socket.
    pub(crate) host: String,
    /// The port; 0 without one.
    pub(crate) port: u16,
    /// `host:port`, or the path.
    pub(crate) host_port: String,
    /// The host where it is an IP address.
    pub(crate) ip: Option<IpAddr>,
}

impl Address {
    /// Reads a dial address without placeholders.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let address = NetworkAddress::parse(text)
            .map_err(|error| format!("upstream {text}: invalid dial address {text}: {error}"))?;
        let size = address.port_range_size();
        if size != 1 {
            return Err(format!(
                "upstream {text}: dial address must represent precisely one socket: {text} \
                 represents {size}"
            ));
        }
        Ok(Self {
            ip: if address.is_unix() { None } else { address.ip() },
            host_port: address.join_host_port(0),
            port: address.start_port,
            network: address.network,
            host: address.host,
        })
    }

    /// Whether it is a unix socket.
    pub(crate) fn is_unix(&self) -> bool {
        self.network.starts_with("unix")
    }

    /// `host:port`, with the network where it is not TCP: for logs.
    pub(crate) fn shown(&self) -> String {
        if self.network == "tcp" { self.host_port.clone() } else { self.full() }
    }

    /// `network/host:port`.
    pub(crate) fn full(&self) -> String {
        format!("{}/{}", self.network, self.host_port)
    }
}

/// Where an upstream is.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// Known when compiled.
    Fixed(Address),
    /// Known per request.
    Template(Template),
    /// Nowhere, and why. As in Caddy this is an error of each request and of health checks, so
    /// that the other upstreams of a config still serve.
    Wrong(String),
}

/// One backend of a handler.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    /// The address as configured; policies hash it.
    pub(crate) dial: String,
    /// The address to connect to.
    pub(crate) target: Target,
    /// Counters.
    pub(crate) state: Arc<UpstreamState>,
    /// Active health, where it is checked.
    pub(crate) active: Option<Arc<ActiveState>>,
    /// Requests in flight at which it is full; 0 for no limit.
    pub(crate) max_requests: i64,
    /// Failures at which it is down; `None` without passive checks.
    pub(crate) max_fails: Option<i64>,
    /// Where its connections are pooled.
    pub(crate) pool: Arc<PoolId>,
}

impl Upstream {
    /// Whether it takes another request.
    pub(crate) fn available(&self) -> bool {
        self.healthy() && !self.full()
    }

    /// Whether neither kind of check says that it is down.
    pub(crate) fn healthy(&self) -> bool {
        let up = self.active.as_ref().is_none_or(|state| !state.down.load(Ordering::Relaxed));
        up && self.max_fails.is_none_or(|max| self.state.fails.load(Ordering::Relaxed) < max)
    }

    fn full(&self) -> bool {
        self.max_requests > 0 && self.requests() >= self.max_requests
    }

    /// Requests in flight.
    pub(crate) fn requests(&self) -> i64 {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// Remembers a failure for a while.
    pub(crate) fn count_failure(&self, memory: Duration) {
        let state = self.state.clone();
        state.fails.fetch_add(1, Ordering::Relaxed);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(memory).await;
            state.fails.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// One upstream as the admin API shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UpstreamStatus {
    /// The dial address.
    pub address: String,
    /// Requests in flight.
    pub num_requests: i64,
    /// Failures remembered at the moment.
    pub fails: i64,
    /// What active checks say, where there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    /// Why the last active check failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_error: String,
    /// How long the last active check took, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
}

/// All upstreams in use, sorted by address.
pub fn upstream_status(state: &State) -> Vec<UpstreamStatus> {
    let mut checks: HashMap<String, Vec<Arc<ActiveState>>> = HashMap::new();
    for (_, check) in state.table::<String, ActiveState>().live() {
        checks.entry(check.address.clone()).or_default().push(check);
    }
    let mut all: Vec<_> = state
        .table::<String, UpstreamState>()
        .live()
        .into_iter()
        .map(|(address, counters)| {
            let checks = checks.get(&address).map(Vec::as_slice).unwrap_or_default();
            status_of(address, &counters, checks)
        })
        .collect();
    all.sort_by(|a, b| a.address.cmp(&b.address));
    all
}

fn status_of(
    address: String,
    counters: &UpstreamState,
    checks: &[Arc<ActiveState>],
) -> UpstreamStatus {
    let mut status = UpstreamStatus {
        num_requests: counters.requests.load(Ordering::Relaxed),
        fails: counters.fails.load(Ordering::Relaxed),
        healthy: None,
        last_error: String::new(),
        latency_ms: None,
        address,
    };
    for check in checks {
        let up = !check.down.load(Ordering::Relaxed);
        status.healthy = Some(up && status.healthy.unwrap_or(true));
        let error = check.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        if !error.is_empty() {
            status.last_error.clone_from(&error);
        }
        let latency = check.latency.load(Ordering::Relaxed);
        if latency > 0 {
            status.latency_ms = Some(Duration::from_nanos(latency).as_secs_f64() * 1e3);
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let address = Address::parse("127.0.0.1:8080").expect("valid");
        assert_eq!((address.full().as_str(), address.port), ("tcp/127.0.0.1:8080", 8080));
        assert!(address.ip.is_some());
        let address = Address::parse("unix//run/app.sock").expect("valid");
        assert!(address.is_unix());
        assert_eq!(
            (address.host_port.as_str(), address.host.as_str()),
            ("/run/app.sock", "/run/app.sock")
        );
        assert_eq!(address.full(), "unix//run/app.sock");
        let error = Address::parse("127.0.0.1:80-90").expect_err("a range");
        assert!(error.ends_with("represents 11"), "{error}");
        assert!(Address::parse("127.0.0.1:x").is_err());
    }

    #[test]
    fn checks_count_in_a_row() {
        let state = ActiveState::default();
        let note = |state: &ActiveState, ok: bool| {
            let outcome = if ok { Ok(()) } else { Err("bad".to_owned()) };
            state.note(outcome, Duration::from_millis(1), (2, 2))
        };
        assert_eq!(note(&state, false), None);
        assert_eq!(note(&state, true), None);
        assert_eq!(note(&state, false), None, "an opposite result resets the count");
        assert_eq!(note(&state, false), Some(false));
        assert_eq!(note(&state, false), None);
        assert_eq!(note(&state, true), None);
        assert_eq!(note(&state, true), Some(true));
        assert!(state.last_error.lock().unwrap().is_empty());
    }
}
