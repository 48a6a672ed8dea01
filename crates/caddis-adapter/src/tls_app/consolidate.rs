//! Automation policies joined: more specific ones first, empty ones gone, equal ones one.

use std::collections::{HashMap, HashSet};

use caddis_config::AutomationPolicy;
use serde_json::{Value as Json, json};

use super::Policy;
use super::subjects::is_public;
use crate::go_sort::sort_stable_by;
use crate::issuer::internal;
use crate::servers::matches_wildcard;

/// Joins policies that say the same.
pub(super) fn consolidate(policies: Vec<Policy>) -> Vec<Policy> {
    if policies.iter().all(is_empty) {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..policies.len()).collect();
    sort_stable_by(&mut order, |a, b| {
        let (a, b) = (&policies[*a], &policies[*b]);
        if is_subset(a, b) {
            return true;
        }
        !is_subset(b, a) && a.config.subjects.len() > b.config.subjects.len()
    });
    let mut policies: Vec<Option<Policy>> = policies.into_iter().map(Some).collect();
    let policies: Vec<Policy> = order.into_iter().filter_map(|at| policies[at].take()).collect();
    join(remove_empty(policies))
}

/// Whether a policy says nothing but whom it is for.
fn is_empty(policy: &Policy) -> bool {
    let AutomationPolicy {
        subjects: _,
        issuers,
        get_certificate,
        must_staple,
        renewal_window_ratio,
        key_type,
        storage,
        on_demand,
        reuse_private_keys,
        disable_ocsp_stapling,
        ocsp_overrides,
    } = &policy.config;
    let switches = [must_staple, on_demand, reuse_private_keys, disable_ocsp_stapling];
    policy.issuers.is_empty()
        && issuers.is_empty()
        && get_certificate.is_empty()
        && switches.iter().all(|switch| !**switch)
        && *renewal_window_ratio == 0.0
        && key_type.is_empty()
        && storage.is_none()
        && ocsp_overrides.is_empty()
}

/// Removes empty policies, unless they keep a later one from names.
fn remove_empty(policies: Vec<Policy>) -> Vec<Policy> {
    let cover = Cover::of(&policies);
    // Managers may remain in a later one: a wildcard's do not bear on what it covers.
    let harmless: Vec<bool> = policies
        .iter()
        .map(|policy| {
            let mut policy = policy.clone();
            policy.config.get_certificate.clear();
            is_empty(&policy)
        })
        .collect();
    let needless: Vec<bool> = (0..policies.len())
        .map(|at| {
            let last = at + 1 == policies.len();
            is_empty(&policies[at])
                && (last || cover.shadowed(at, &policies).is_some_and(|later| harmless[later]))
        })
        .collect();
    let kept = policies.into_iter().zip(needless).filter(|(_, needless)| !needless);
    kept.map(|(policy, _)| policy).collect()
}

/// Where names are, to find the policies that cover a name without looking at all.
struct Cover {
    by_name: HashMap<String, Vec<usize>>,
    catch_all: Vec<usize>,
}

/// A host has no more labels; texts with more are looked for one by one.
const LABELS: usize = 127;

impl Cover {
    fn of(policies: &[Policy]) -> Self {
        let mut cover = Self { by_name: HashMap::new(), catch_all: Vec::new() };
        for (at, policy) in policies.iter().enumerate() {
            if policy.config.subjects.is_empty() {
                cover.catch_all.push(at);
            }
            for name in &policy.config.subjects {
                cover.by_name.entry(name.to_ascii_lowercase()).or_default().push(at);
            }
        }
        cover
    }

    /// The first later policy that covers the names of one.
    fn shadowed(&self, at: usize, policies: &[Policy]) -> Option<usize> {
        let names = &policies[at].config.subjects;
        let covers = |later: &usize| is_subset(&policies[at], &policies[*later]);
        if names.iter().any(|name| name.matches('.').count() >= LABELS) {
            return (at + 1..policies.len()).find(covers);
        }
        let later = |list: &Vec<usize>| -> Option<usize> {
            let from = list.partition_point(|one| *one <= at);
            list[from..].iter().copied().find(covers)
        };
        let by_name = names.first().into_iter().flat_map(|name| covering(name));
        let by_name = by_name.filter_map(|name| self.by_name.get(&name).and_then(later)).min();
        [by_name, later(&self.catch_all)].into_iter().flatten().min()
    }
}

/// All names that cover one: itself, and with stars for its first labels.
fn covering(name: &str) -> Vec<String> {
    let name = name.to_ascii_lowercase();
    let mut all = vec![name.clone()];
    let mut stars = String::new();
    let mut rest = name.as_str();
    while let Some((_, tail)) = rest.split_once('.') {
        stars.push_str("*.");
        all.push(format!("{stars}{tail}"));
        rest = tail;
    }
    all.push(format!("{stars}*"));
    all
}

/// Joins policies with equal settings and issuers.
fn join(policies: Vec<Policy>) -> Vec<Policy> {
    // Computed once: a policy that grows name by name would be looked at over and over.
    let mut classes: Vec<Class> =
        policies.iter().map(|policy| implicit_class(&policy.config)).collect();
    let mut kinds: HashMap<String, Vec<usize>> = HashMap::new();
    let mut kind_of = Vec::with_capacity(policies.len());
    for (at, policy) in policies.iter().enumerate() {
        let kind = kind(&policy.config);
        kinds.entry(kind.clone()).or_default().push(at);
        kind_of.push(kind);
    }
    let mut policies: Vec<Option<Policy>> = policies.into_iter().map(Some).collect();
    for at in 0..policies.len() {
        let Some(mut policy) = policies[at].take() else { continue };
        let others = kinds.get_mut(&kind_of[at]).map(std::mem::take).unwrap_or_default();
        let mut left = Vec::with_capacity(others.len());
        let mut names: HashSet<String> = HashSet::new();
        let mut gone = false;
        let mut shadow = None;
        for other in others.into_iter().filter(|other| *other > at) {
            let Some(another) = policies[other].as_ref().filter(|_| !gone) else {
                left.push(other);
                continue;
            };
            if policy == *another {
                policies[other] = None;
                continue;
            }
            let same = same_settings(&policy, another)
                && same_issuers((&policy, classes[at]), (another, classes[other]));
            if !same {
                left.push(other);
                continue;
            }
            if another.config.subjects.is_empty() && !policy.config.subjects.is_empty() {
                left.push(other);
                // The catch-all says the same, if no policy between the two says otherwise.
                let shadow = *shadow.get_or_insert_with(|| shadowed(&policy, at, &policies));
                gone = shadow.is_some_and(|shadow| shadow >= other);
                continue;
            }
            let Some(another) = policies[other].take() else { continue };
            if classes[at] == Class::CatchAll {
                classes[at] = classes[other];
            }
            if names.is_empty() {
                names.extend(policy.config.subjects.iter().cloned());
            }
            let new = another.config.subjects.into_iter();
            policy.config.subjects.extend(new.filter(|name| names.insert(name.clone())));
            shadow = None;
        }
        kinds.insert(kind_of[at].clone(), left);
        policies[at] = (!gone).then_some(policy);
    }
    policies.into_iter().flatten().collect()
}

/// Policies of different kinds are never joined.
fn kind(config: &AutomationPolicy) -> String {
    let internal = config.issuers.is_empty() || config.issuers == [internal()];
    let issuers = if internal { Json::Null } else { Json::from(config.issuers.clone()) };
    let settings = json!([
        config.key_type,
        config.on_demand,
        config.reuse_private_keys,
        config.must_staple,
        config.storage,
        config.get_certificate,
        issuers
    ]);
    settings.to_string()
}

fn same_settings(a: &Policy, b: &Policy) -> bool {
    let (one, two) = (&a.config, &b.config);
    one.key_type == two.key_type
        && one.on_demand == two.on_demand
        && one.reuse_private_keys == two.reuse_private_keys
        && one.renewal_window_ratio == two.renewal_window_ratio
        && one.must_staple == two.must_staple
        && one.storage == two.storage
        && one.get_certificate == two.get_certificate
}

fn same_issuers((a, one): (&Policy, Class), (b, two): (&Policy, Class)) -> bool {
    if a.config.issuers != b.config.issuers {
        return uses_internal(a, one) && uses_internal(b, two);
    }
    has_issuers(a)
        || has_issuers(b)
        || one == Class::CatchAll
        || two == Class::CatchAll
        || one == two
}

fn has_issuers(policy: &Policy) -> bool {
    !policy.config.issuers.is_empty() || !policy.issuers.is_empty()
}

fn uses_internal(policy: &Policy, class: Class) -> bool {
    if !has_issuers(policy) {
        return class == Class::Internal;
    }
    policy.issuers.is_empty() && policy.config.issuers == [internal()]
}

/// What issuers a policy without any gets.
#[derive(Clone, Copy, PartialEq)]
enum Class {
    CatchAll,
    Public,
    Internal,
    Mixed,
}

fn implicit_class(policy: &AutomationPolicy) -> Class {
    if policy.subjects.is_empty() {
        return Class::CatchAll;
    }
    let public = policy.subjects.iter().filter(|name| is_public(policy, name)).count();
    match public {
        0 => Class::Internal,
        all if all == policy.subjects.len() => Class::Public,
        _ => Class::Mixed,
    }
}

/// Whether a policy's names are all covered by another's.
fn is_subset(a: &Policy, b: &Policy) -> bool {
    let (a, b) = (&a.config.subjects, &b.config.subjects);
    b.is_empty()
        || (!a.is_empty() && a.iter().all(|name| b.iter().any(|wide| matches_wildcard(name, wide))))
}

/// The first later policy that covers the names of one.
fn shadowed(policy: &Policy, at: usize, policies: &[Option<Policy>]) -> Option<usize> {
    let covers =
        |later: &usize| policies[*later].as_ref().is_some_and(|one| is_subset(policy, one));
    (at + 1..policies.len()).find(covers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(subjects: &[&str], key_type: &str) -> Policy {
        let subjects = subjects.iter().map(|name| (*name).to_owned()).collect();
        let key_type = key_type.to_owned();
        Policy {
            config: AutomationPolicy { subjects, key_type, ..AutomationPolicy::default() },
            issuers: Vec::new(),
        }
    }

    #[test]
    fn empty_policies_go() {
        assert_eq!(consolidate(vec![policy(&["a.com"], ""), policy(&[], "")]), []);
        let kept = consolidate(vec![policy(&["a.b.com"], ""), policy(&["*.b.com"], "p384")]);
        assert_eq!(kept, [policy(&["a.b.com"], ""), policy(&["*.b.com"], "p384")]);
    }

    #[test]
    fn equal_settings_are_joined() {
        let joined = consolidate(vec![policy(&["a.com"], "p384"), policy(&["b.com"], "p384")]);
        assert_eq!(joined, [policy(&["a.com", "b.com"], "p384")]);
        let all = consolidate(vec![policy(&["a.com"], "p384"), policy(&[], "p384")]);
        assert_eq!(all, [policy(&[], "p384")]);
    }

    #[test]
    fn the_first_policy_that_covers_is_found() {
        let all = [&["a.b.com"][..], &["c.com"], &["*.b.com"], &["*.*.com"], &[]];
        let all: Vec<Policy> = all.iter().map(|names| policy(names, "")).collect();
        let cover = Cover::of(&all);
        let found: Vec<_> = (0..all.len()).map(|at| cover.shadowed(at, &all)).collect();
        assert_eq!(found, [Some(2), Some(4), Some(3), Some(4), None]);
    }

    #[test]
    fn many_policies_are_joined() {
        let names: Vec<String> = (0..3_000).map(|at| format!("a{at}.com")).collect();
        let key = |at: usize| ["p256", "p384", "rsa2048"][at % 3];
        let all = names.iter().enumerate().map(|(at, name)| policy(&[name], key(at))).collect();
        let joined = consolidate(all);
        assert_eq!(joined.len(), 3);
        let own: Vec<_> = names.iter().skip(1).step_by(3).cloned().collect();
        assert_eq!((&joined[1].config.key_type[..], &joined[1].config.subjects), ("p384", &own));
    }
}
