//! Load balancing policies (`http.reverse_proxy.selection_policies.*`).
//!
//! ```text
//! lb_policy random | least_conn | round_robin | first | ip_hash | client_ip_hash | uri_hash
//! lb_policy random_choose <n>
//! lb_policy weighted_round_robin <weights...>
//! lb_policy query <key> { fallback <policy> }
//! lb_policy header <field> { fallback <policy> }
//! lb_policy cookie [<name> [<secret>]] { fallback <policy>; max_age <duration> }
//! ```
//!
//! JSON: `{"policy": "<name>", …}` with `choose`, `weights`, `key`, `field`, `name`, `secret`,
//! `max_age`, `fallback`.

mod config;
mod cookie;
mod directive;
#[cfg(test)]
mod tests;

use std::{
    hash::Hasher,
    sync::atomic::{AtomicU32, Ordering},
};

use caddis_core::{Exchange, target::query_pairs};
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;
use xxhash_rust::xxh64::Xxh64;

use crate::upstream::Upstream;

pub(crate) use config::compile;
pub(crate) use directive::parse;

/// A compiled policy.
#[derive(Debug)]
pub(crate) enum Policy {
    Random,
    RandomChoose(usize),
    LeastConn,
    RoundRobin(AtomicU32),
    WeightedRoundRobin { weights: Vec<u32>, total: u32, counter: AtomicU32 },
    First,
    IpHash,
    ClientIpHash,
    UriHash,
    Query { key: String, fallback: Box<Self> },
    Header { field: HeaderName, fallback: Box<Self> },
    Cookie(cookie::Sticky),
}

/// What a policy may look at: the request as it goes to the upstream.
pub(crate) struct View<'a> {
    /// The exchange.
    pub(crate) ex: &'a Exchange,
    /// Path and query after the handler's own rewrite.
    pub(crate) uri: &'a str,
    /// Header fields, where they are not the client's own.
    pub(crate) prepared: Option<&'a HeaderMap>,
}

impl<'a> View<'a> {
    /// Header fields; asked only by the policies that look at them.
    fn headers(&self) -> &'a HeaderMap {
        self.prepared.unwrap_or(&self.ex.request.headers)
    }
}

/// Upstreams that this request was already sent to, by index.
pub(crate) type Tried = SmallVec<[usize; 4]>;

/// Where upstreams with these addresses are in a list: looked up anew, it has another order.
pub(crate) fn places(dials: &[String], pool: &[Upstream]) -> Tried {
    let all = pool.iter().enumerate();
    all.filter(|(_, upstream)| dials.contains(&upstream.dial)).map(|(at, _)| at).collect()
}

/// A `Set-Cookie` that the choice brings along.
pub(crate) type Cookies = Option<HeaderValue>;

/// The upstreams from which a policy may choose.
struct Candidates<'a> {
    pool: &'a [Upstream],
    tried: &'a [usize],
}

impl Candidates<'_> {
    fn takes(&self, at: usize) -> bool {
        !self.tried.contains(&at) && self.pool.get(at).is_some_and(Upstream::available)
    }

    fn indexes(&self) -> impl Iterator<Item = usize> {
        (0..self.pool.len()).filter(|at| self.takes(*at))
    }
}

impl Policy {
    /// Chooses an upstream; one that was not tried yet goes before one that was.
    pub(crate) fn select(
        &self,
        pool: &[Upstream],
        tried: &Tried,
        view: &View<'_>,
        cookies: &mut Cookies,
    ) -> Option<usize> {
        if !tried.is_empty()
            && let Some(at) = self.choose(&Candidates { pool, tried }, view, cookies)
        {
            return Some(at);
        }
        self.choose(&Candidates { pool, tried: &[] }, view, cookies)
    }

    fn choose(
        &self,
        from: &Candidates<'_>,
        view: &View<'_>,
        cookies: &mut Cookies,
    ) -> Option<usize> {
        match self {
            Self::Random => random(from),
            Self::RandomChoose(count) => random_choose(from, *count),
            Self::LeastConn => least_conn(from),
            Self::RoundRobin(counter) => round_robin(from, counter),
            Self::WeightedRoundRobin { weights, total, counter } => {
                weighted(from, weights, *total, counter)
            }
            Self::First => from.indexes().next(),
            Self::IpHash => by_ip(from, view.ex.connection.remote.map(|peer| peer.ip())),
            Self::ClientIpHash => by_ip(from, view.ex.client_ip),
            Self::UriHash => by_hash(from, view.uri),
            Self::Query { key, fallback } => {
                let value = query_value(view.uri, key);
                if value.is_empty() {
                    return fallback.choose(from, view, cookies);
                }
                by_hash(from, &value)
            }
            Self::Header { field, fallback } => {
                if field == http::header::HOST && !view.ex.request.host.is_empty() {
                    return by_hash(from, &view.ex.request.host);
                }
                match view.headers().get(field) {
                    Some(value) if !value.is_empty() => {
                        by_hash(from, &String::from_utf8_lossy(value.as_bytes()))
                    }
                    _ => fallback.choose(from, view, cookies),
                }
            }
            Self::Cookie(sticky) => sticky.choose(from, view, cookies),
        }
    }
}

fn random(from: &Candidates<'_>) -> Option<usize> {
    let mut chosen = None;
    for (seen, at) in from.indexes().enumerate() {
        if fastrand::usize(..=seen) == 0 {
            chosen = Some(at);
        }
    }
    chosen
}

fn random_choose(from: &Candidates<'_>, count: usize) -> Option<usize> {
    let mut sample: SmallVec<[usize; 8]> = SmallVec::new();
    for (seen, at) in from.indexes().enumerate() {
        if sample.len() < count {
            sample.push(at);
            continue;
        }
        let slot = fastrand::usize(..=seen);
        if slot < count {
            sample[slot] = at;
        }
    }
    fewest(from.pool, sample.into_iter())
}

fn least_conn(from: &Candidates<'_>) -> Option<usize> {
    fewest(from.pool, from.indexes())
}

/// The one with the fewest requests in flight; ties at random.
fn fewest(pool: &[Upstream], indexes: impl Iterator<Item = usize>) -> Option<usize> {
    let (mut best, mut least, mut ties) = (None, i64::MAX, 0);
    for at in indexes {
        let requests = pool[at].requests();
        if requests < least {
            (least, ties) = (requests, 0);
        }
        if requests == least {
            ties += 1;
            if best.is_none() || fastrand::u32(..ties) == 0 {
                best = Some(at);
            }
        }
    }
    best
}

fn round_robin(from: &Candidates<'_>, counter: &AtomicU32) -> Option<usize> {
    let count = u32::try_from(from.pool.len()).ok().filter(|count| *count > 0)?;
    (0..count).find_map(|_| {
        let turn = counter.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let at = (turn % count) as usize;
        from.takes(at).then_some(at)
    })
}

fn weighted(
    from: &Candidates<'_>,
    weights: &[u32],
    total: u32,
    counter: &AtomicU32,
) -> Option<usize> {
    if weights.len() < 2 {
        return (!from.pool.is_empty()).then_some(0);
    }
    let turn = counter.fetch_add(1, Ordering::Relaxed).wrapping_add(1) % total.max(1);
    let mut sum = 0;
    let index = weights
        .iter()
        .filter(|weight| **weight > 0)
        .position(|weight| {
            sum += weight;
            turn < sum
        })
        .unwrap_or(0);
    let weighty = |at: &usize| weights.get(*at).is_some_and(|weight| *weight > 0);
    let count = from.indexes().filter(weighty).count();
    if count == 0 {
        return None;
    }
    from.indexes().filter(weighty).nth(index % count)
}

fn by_ip(from: &Candidates<'_>, ip: Option<std::net::IpAddr>) -> Option<usize> {
    match ip {
        Some(ip) => by_hash(from, &ip.to_canonical().to_string()),
        None => by_hash(from, "@"),
    }
}

/// Rendezvous hashing: the highest hash of address and key wins.
fn by_hash(from: &Candidates<'_>, key: &str) -> Option<usize> {
    let (mut best, mut highest) = (None, 0);
    for at in from.indexes() {
        let mut hasher = Xxh64::new(0);
        hasher.update(from.pool[at].dial.as_bytes());
        hasher.update(key.as_bytes());
        let hash = hasher.finish();
        if hash > highest {
            (best, highest) = (Some(at), hash);
        }
    }
    best
}

fn query_value(uri: &str, key: &str) -> String {
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    let values: Vec<_> =
        query_pairs(query).filter(|(name, _)| name == key).map(|(_, value)| value).collect();
    values.join(",")
}

/// The last value of a field.
fn last_value(headers: &HeaderMap, name: &str) -> Option<String> {
    headers
        .get_all(name)
        .iter()
        .next_back()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}
