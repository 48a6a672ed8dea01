//! Client authentication of a wildcard site does not hold for the more specific sites under it that
//! have no TLS settings: they get a copy of its policy without that, before it.

use caddis_config::ConnectionPolicy;
use serde_json::json;

/// Names that a policy matches.
pub(super) fn server_names(policy: &ConnectionPolicy) -> Vec<String> {
    let names = policy.matchers.get("sni").and_then(|names| names.as_array());
    names.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

/// Puts the copies before the policies that they shield from.
pub(super) fn raise(policies: Vec<ConnectionPolicy>, empty: &[String]) -> Vec<ConnectionPolicy> {
    let wildcards: Vec<Vec<String>> = policies
        .iter()
        .map(|policy| match policy.client_authentication {
            Some(_) => server_names(policy).into_iter().filter(|name| name.contains('*')).collect(),
            None => Vec::new(),
        })
        .collect();
    let mut shielded = vec![Vec::<String>::new(); policies.len()];
    for host in empty {
        let covers = |names: &Vec<String>| names.iter().any(|name| matches_wildcard(host, name));
        if let Some(at) = wildcards.iter().position(covers) {
            shielded[at].push(host.clone());
        }
    }
    let mut raised = Vec::with_capacity(policies.len());
    for (policy, mut hosts) in policies.into_iter().zip(shielded) {
        if !hosts.is_empty() {
            hosts.sort();
            hosts.dedup();
            let mut shield = policy.clone();
            shield.client_authentication = None;
            shield.matchers = [("sni".to_owned(), json!(hosts))].into();
            raised.push(shield);
        }
        raised.push(policy);
    }
    raised
}

/// Whether a wildcard covers a name; each `*` of its first labels stands for one label.
pub(crate) fn matches_wildcard(subject: &str, wildcard: &str) -> bool {
    if !wildcard.starts_with('*') {
        return subject.eq_ignore_ascii_case(wildcard);
    }
    let (mut names, mut pattern) = (subject.split('.'), wildcard.split('.'));
    let mut stars = true;
    loop {
        match (names.next(), pattern.next()) {
            (None, None) => return true,
            (Some(name), Some(label)) => {
                stars &= label == "*";
                let any = stars && !name.is_empty();
                if !any && !name.eq_ignore_ascii_case(label) {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        assert!(matches_wildcard("a.b.com", "*.b.com"));
        assert!(matches_wildcard("A.b.com", "*.*.com"));
        assert!(!matches_wildcard("a.b.com", "*.com"));
        assert!(!matches_wildcard("b.com", "*.b.com"));
        assert!(!matches_wildcard("a.b.com", "a.*.com"));
        assert!(matches_wildcard("b.com", "B.com"));
        assert!(matches_wildcard("*.com", "*.com"));
        assert!(!matches_wildcard("a.b.com", "*.*.*.com"));
    }
}
