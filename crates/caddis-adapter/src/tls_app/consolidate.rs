//! Automation policies joined: more specific ones first, empty ones gone, equal ones one.

use caddis_config::AutomationPolicy;

use super::Policy;
use super::subjects::is_public;
use crate::go_sort::sort_stable_by;
use crate::issuer::internal;
use crate::servers::matches_wildcard;

/// Joins policies that say the same.
pub(super) fn consolidate(policies: Vec<Policy>) -> Vec<Policy> {
    let mut order: Vec<usize> = (0..policies.len()).collect();
    sort_stable_by(&mut order, |a, b| {
        let (a, b) = (&policies[*a], &policies[*b]);
        if is_subset(a, b) {
            return true;
        }
        !is_subset(b, a) && a.config.subjects.len() > b.config.subjects.len()
    });
    let mut policies: Vec<Policy> = order.into_iter().map(|at| policies[at].clone()).collect();
    if policies.iter().all(is_empty) {
        return Vec::new();
    }
    remove_empty(&mut policies);
    join(&mut policies);
    policies
}

/// Whether a policy says nothing but whom it is for.
fn is_empty(policy: &Policy) -> bool {
    let subjects = policy.config.subjects.clone();
    policy.issuers.is_empty()
        && policy.config == AutomationPolicy { subjects, ..AutomationPolicy::default() }
}

/// Removes empty policies, unless they keep a later one from names.
fn remove_empty(policies: &mut Vec<Policy>) {
    let mut at = 0;
    while at < policies.len() {
        let needless = is_empty(&policies[at])
            && (at + 1 == policies.len()
                || shadowed(at, policies).is_some_and(|later| {
                    // Managers may remain: a wildcard's do not bear on what it covers.
                    let mut later = policies[later].clone();
                    later.config.get_certificate.clear();
                    is_empty(&later)
                }));
        if needless {
            policies.remove(at);
        } else {
            at += 1;
        }
    }
}

fn join(policies: &mut Vec<Policy>) {
    // Computed once: a policy that grows name by name would be looked at over and over.
    let mut classes: Vec<Class> =
        policies.iter().map(|policy| implicit_class(&policy.config)).collect();
    let mut at = 0;
    'policies: while at < policies.len() {
        let mut other = at + 1;
        while other < policies.len() {
            if policies[at] == policies[other] {
                policies.remove(other);
                classes.remove(other);
                continue 'policies;
            }
            if !same_settings(&policies[at], &policies[other])
                || !same_issuers((&policies[at], classes[at]), (&policies[other], classes[other]))
            {
                other += 1;
                continue;
            }
            let catch_all = policies[other].config.subjects.is_empty();
            if catch_all && !policies[at].config.subjects.is_empty() {
                // The catch-all says the same, if no policy between the two says otherwise.
                if shadowed(at, policies).is_some_and(|shadow| shadow >= other) {
                    policies.remove(at);
                    classes.remove(at);
                    continue 'policies;
                }
                other += 1;
            } else {
                let gone = policies.remove(other);
                let class = classes.remove(other);
                if classes[at] == Class::CatchAll {
                    classes[at] = class;
                }
                let subjects = &mut policies[at].config.subjects;
                for subject in gone.config.subjects {
                    if !subjects.contains(&subject) {
                        subjects.push(subject);
                    }
                }
            }
        }
        at += 1;
    }
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
fn shadowed(at: usize, policies: &[Policy]) -> Option<usize> {
    (at + 1..policies.len()).find(|later| is_subset(&policies[at], &policies[*later]))
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
}
