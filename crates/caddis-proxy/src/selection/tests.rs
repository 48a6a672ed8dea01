//! Policies against tables of upstream states.

use std::sync::{Arc, atomic::Ordering};

use caddis_core::State;
use http::HeaderMap;
use serde_json::{Value, json};

use super::*;
use crate::{
    transport::http::PoolId,
    upstream::{Address, Target, UpstreamState},
};

/// Upstreams `127.0.0.1:1`, `:2`, … with these requests in flight; a negative number is down.
fn pool(states: &[i64]) -> Vec<Upstream> {
    let state = State::default();
    states
        .iter()
        .enumerate()
        .map(|(at, requests)| {
            let dial = format!("127.0.0.1:{}", at + 1);
            let counters = UpstreamState::default();
            counters.requests.store((*requests).max(0), Ordering::Relaxed);
            counters.fails.store(i64::from(*requests < 0), Ordering::Relaxed);
            Upstream {
                target: Target::Fixed(Address::parse(&dial).expect("an address")),
                state: Arc::new(counters),
                active: None,
                max_requests: 100,
                max_fails: Some(1),
                pool: PoolId::lease(&state.table(), "", &dial, 0),
                dial,
            }
        })
        .collect()
}

struct Choice {
    policy: Policy,
    cookie: Cookies,
    headers: HeaderMap,
    uri: &'static str,
}

fn choice(json: Value) -> Choice {
    Choice {
        policy: compile(&json).expect("a policy"),
        cookie: None,
        headers: HeaderMap::new(),
        uri: "/",
    }
}

impl Choice {
    fn of(&mut self, pool: &[Upstream]) -> Option<usize> {
        self.retry(pool, &[])
    }

    fn retry(&mut self, pool: &[Upstream], tried: &[usize]) -> Option<usize> {
        let ex = Exchange::for_test("/");
        let view = View { ex: &ex, uri: self.uri, prepared: Some(&self.headers) };
        self.cookie = None;
        self.policy.select(pool, &Tried::from_slice(tried), &view, &mut self.cookie)
    }

    fn many(&mut self, pool: &[Upstream], count: usize) -> Vec<Option<usize>> {
        (0..count).map(|_| self.of(pool)).collect()
    }
}

const ALL: &[&str] =
    &["random", "least_conn", "round_robin", "first", "ip_hash", "client_ip_hash", "uri_hash"];

#[test]
fn nobody_is_left() {
    for policy in ALL {
        let mut choice = choice(json!({"policy": policy}));
        assert_eq!(choice.of(&[]), None, "{policy}");
        assert_eq!(choice.of(&pool(&[-1, 100])), None, "{policy}: down, full");
        assert_eq!(choice.of(&pool(&[-1, 0, 100])), Some(1), "{policy}");
    }
}

#[test]
fn a_retry_prefers_the_untried() {
    for policy in ALL {
        let mut choice = choice(json!({"policy": policy}));
        for _ in 0..10 {
            assert_eq!(choice.retry(&pool(&[0, 0, -1]), &[0]), Some(1), "{policy}");
            assert!(choice.retry(&pool(&[0, 0]), &[0, 1]).is_some(), "{policy}: all tried");
        }
    }
}

#[test]
fn round_robin_begins_with_the_second() {
    let mut choice = choice(json!({"policy": "round_robin"}));
    let want = [1, 2, 0, 1, 2, 0, 1].map(Some);
    assert_eq!(choice.many(&pool(&[0, 0, 0]), 7), want);
    assert_eq!(choice.many(&pool(&[0, 0, -1]), 3), [0, 1, 0].map(Some));
}

#[test]
fn weights_are_followed() {
    let mut weighted = choice(json!({"policy": "weighted_round_robin", "weights": [3, 1, 2]}));
    let want = [0, 0, 1, 2, 2, 0, 0, 0, 1, 2, 2, 0].map(Some);
    assert_eq!(weighted.many(&pool(&[0, 0, 0]), 12), want);
    let mut weighted = choice(json!({"policy": "weighted_round_robin", "weights": [0, 4]}));
    assert_eq!(weighted.many(&pool(&[0, 0]), 3), [1, 1, 1].map(Some));
    assert_eq!(weighted.of(&pool(&[0, -1])), None);
    for weights in [json!([]), json!([0, 0]), json!([1, -1])] {
        assert!(compile(&json!({"policy": "weighted_round_robin", "weights": weights})).is_err());
    }
}

#[test]
fn least_conn_and_random_choose() {
    let mut least = choice(json!({"policy": "least_conn"}));
    assert_eq!(least.of(&pool(&[3, 1, 2])), Some(1));
    assert_eq!(least.of(&pool(&[3, -1, 2])), Some(2));
    let mut choose = choice(json!({"policy": "random_choose", "choose": 3}));
    assert_eq!(choose.of(&pool(&[3, 1, 2])), Some(1));
    assert!(compile(&json!({"policy": "random_choose", "choose": 1})).is_err());
}

#[test]
fn first_and_random() {
    let mut first = choice(json!({"policy": "first"}));
    assert_eq!(first.of(&pool(&[-1, 5, 0])), Some(1));
    let mut random = choice(json!({"policy": "random"}));
    let mut seen = [0; 3];
    for _ in 0..300 {
        seen[random.of(&pool(&[0, 0, 0])).expect("one")] += 1;
    }
    assert!(seen.iter().all(|count| *count > 30), "{seen:?}");
}

#[test]
fn hashes_stay_where_they_were() {
    let mut hash = choice(json!({"policy": "uri_hash"}));
    let mut moved = 0;
    for uri in ["/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h"] {
        hash.uri = uri;
        let at = hash.of(&pool(&[0, 0, 0])).expect("one");
        assert_eq!(hash.of(&pool(&[0, 0, 0])), Some(at));
        let without_last = hash.of(&pool(&[0, 0, -1])).expect("one");
        if at == 2 {
            moved += 1;
        } else {
            assert_eq!(without_last, at, "{uri} moved without need");
        }
    }
    assert!(moved < 8);
    // The hash itself: xxhash64 of address and key.
    assert_eq!(xxhash_rust::xxh64::xxh64(b"", 0), 0xef46_db37_51d8_e999);
}

#[test]
fn query_and_header_fall_back() {
    let fallback = json!({"policy": "first"});
    let mut query = choice(json!({"policy": "query", "key": "user", "fallback": fallback}));
    let pool = pool(&[0, 0, 0]);
    for uri in ["/", "/?user=", "/?User=x"] {
        query.uri = uri;
        assert_eq!(query.of(&pool), Some(0), "{uri}");
    }
    query.uri = "/?user=a&user=b";
    let both = query.of(&pool);
    query.uri = "/?user=a%2Cb";
    assert_eq!(query.of(&pool), both);
    let mut header = choice(json!({"policy": "header", "field": "X-Tenant", "fallback": fallback}));
    assert_eq!(header.of(&pool), Some(0));
    header.headers.insert("x-tenant", "alpha".parse().expect("a value"));
    assert_eq!(header.of(&pool), header.of(&pool));
    assert!(compile(&json!({"policy": "query"})).is_err());
    assert!(compile(&json!({"policy": "fastest"})).is_err());
    assert!(compile(&json!({"policy": "first", "weights": [1]})).is_err());
}

#[test]
fn the_cookie_sticks() {
    let pool_up = pool(&[0, 0]);
    let mut sticky = choice(json!({
        "policy": "cookie", "name": "lb", "secret": "s", "max_age": "2h",
        "fallback": {"policy": "first"}
    }));
    assert_eq!(sticky.of(&pool_up), Some(0));
    let cookie = sticky.cookie.take().expect("a new cookie");
    let cookie = cookie.to_str().expect("text").to_owned();
    let (value, rest) = cookie.split_once("; ").expect("attributes");
    assert_eq!(rest, "Path=/; Max-Age=7200; HttpOnly; SameSite=Lax");
    assert_eq!(value.len(), "lb=".len() + 64);

    let backwards: Vec<_> = pool(&[0, 0]).into_iter().rev().collect();
    sticky.headers.insert("cookie", format!("a=1; {value}").parse().expect("a value"));
    assert_eq!(sticky.of(&backwards), Some(1), "the same upstream at another place");
    assert!(sticky.cookie.is_none());
    assert_eq!(sticky.of(&pool(&[-1, 0])), Some(1));
    assert!(sticky.cookie.is_some(), "a new one for the new upstream");
    sticky.headers.insert("cookie", "lb=0000".parse().expect("a value"));
    assert_eq!(sticky.of(&pool_up), Some(0));
    assert!(sticky.cookie.is_some());
}

#[test]
fn what_was_tried_is_found_in_another_list() {
    let mut all = pool(&[0, 0, 0]);
    let tried = [all[0].dial.clone(), "127.0.0.1:9".to_owned()];
    assert_eq!(&*places(&tried, &all), [0]);
    all.rotate_left(1);
    assert_eq!(&*places(&tried, &all), [2]);
    assert!(places(&[], &all).is_empty());
}
