//! TLS connection policies of a server: one per `tls` directive, a last one for all other names,
//! joined where that changes nothing.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{Hash, Hasher};

use caddis_config::{ConnectionPolicy, ModuleMap, Server, Value as Json};
use serde_json::json;

use super::{shields, uses_other_port};
use crate::address::Address;
use crate::options::Options;

/// Collects the policies of a server while its sites are gone through.
pub(crate) struct PolicyBuilder {
    default_sni: String,
    fallback_sni: String,
    /// Port of plain HTTP.
    pub(super) http_port: String,
    https_port: String,
    policies: Vec<ConnectionPolicy>,
    /// Names without own settings, which may need a shield.
    empty: Vec<String>,
    has_catch_all: bool,
    qualifies_for_tls: bool,
    automatic: bool,
    /// Whether the server has ports for other than plain HTTP.
    other_ports: bool,
    /// Hosts that get no certificate.
    skipped: HashSet<String>,
}

impl PolicyBuilder {
    /// For a server whose addresses and settings of automatic HTTPS are known.
    pub(super) fn new(options: &Options, server: &Server) -> Self {
        let automatic_https = server.automatic_https.as_ref();
        Self {
            default_sni: options.text("default_sni"),
            fallback_sni: options.text("fallback_sni"),
            http_port: options.http_port(),
            https_port: options.https_port(),
            policies: Vec::new(),
            empty: Vec::new(),
            has_catch_all: false,
            qualifies_for_tls: false,
            automatic: automatic_https.is_none_or(|config| !config.disable),
            other_ports: uses_other_port(&server.listen, &options.http_port()),
            skipped: HashSet::new(),
        }
    }

    /// Adds the policies of a site with these hosts.
    pub(super) fn add_site(
        &mut self,
        own: &[ConnectionPolicy],
        force_automate: bool,
        hosts: &[String],
    ) {
        if own.is_empty() {
            let specific = |host: &&String| !host.is_empty() && !host.contains('*');
            self.empty.extend(hosts.iter().filter(specific).cloned());
            return;
        }
        let mut names = hosts.to_vec();
        for policy in own {
            let mut policy = policy.clone();
            self.cover(&mut policy, &mut names);
            let forced = force_automate && names.iter().any(|name| hosts.contains(name));
            if forced || !is_empty(&policy) {
                self.policies.push(policy);
                self.has_catch_all = names.is_empty();
            } else if !names.is_empty() {
                self.empty.extend(shields::server_names(&policy));
            }
        }
    }

    /// Makes a policy match the hosts of its site, and requests without a name where one of the
    /// hosts stands for those.
    fn cover(&self, policy: &mut ConnectionPolicy, names: &mut Vec<String>) {
        let special = names.iter().find(|name| {
            !name.is_empty() && (**name == self.default_sni || **name == self.fallback_sni)
        });
        if let Some(name) = special {
            if *name == self.default_sni {
                policy.default_sni.clone_from(&self.default_sni);
            } else {
                policy.fallback_sni.clone_from(&self.fallback_sni);
            }
            if !names.iter().any(String::is_empty) {
                names.push(String::new());
            }
        }
        if names.is_empty() {
            policy.default_sni.clone_from(&self.default_sni);
            policy.fallback_sni.clone_from(&self.fallback_sni);
        } else {
            names.sort();
            policy.matchers = server_names(&names.iter().collect::<Vec<_>>());
        }
    }

    /// Learns from a key whether the server needs TLS. A host that is written with `http://` gets no
    /// certificate, where the server has other ports too.
    pub(super) fn look_at(&mut self, address: &Address, has_policies: bool, server: &mut Server) {
        let plain = address.scheme == "http" && !address.host.is_empty() && self.other_ports;
        if plain && self.skipped.insert(address.host.clone()) {
            server.automatic_https.get_or_insert_default().skip.push(address.host.clone());
        }
        let skipped = self.skipped.contains(&address.host);
        let enabled = has_policies || (!address.host.is_empty() && !skipped);
        if address.scheme == "https"
            || (address.scheme != "http" && address.port != self.http_port && enabled)
        {
            self.qualifies_for_tls = true;
        }
        self.automatic &= address.port == self.https_port
            || (address.port != self.http_port && !address.host.is_empty());
    }

    /// The policies of the sites so far.
    pub(super) fn taken(&mut self) -> Vec<ConnectionPolicy> {
        std::mem::take(&mut self.policies)
    }

    /// The policies with shields and the one for all other names, joined.
    ///
    /// # Errors
    /// Two policies for the same names that contradict each other.
    pub(super) fn finish(
        self,
        policies: Vec<ConnectionPolicy>,
    ) -> Result<Vec<ConnectionPolicy>, Conflict> {
        let mut policies = shields::raise(policies, &self.empty);
        let names_given = !self.default_sni.is_empty() || !self.fallback_sni.is_empty();
        if self.qualifies_for_tls
            && !self.has_catch_all
            && (!policies.is_empty() || !self.automatic || names_given)
        {
            policies.push(ConnectionPolicy {
                default_sni: self.default_sni,
                fallback_sni: self.fallback_sni,
                ..ConnectionPolicy::default()
            });
        }
        consolidate(policies)
    }
}

/// Two policies that contradict each other.
#[derive(Debug)]
pub(super) struct Conflict {
    /// How.
    pub(super) message: String,
    /// The server names that both are for; none if they are for all.
    pub(super) names: Vec<String>,
}

fn names(matchers: &ModuleMap) -> Vec<String> {
    let names = matchers.get("sni").and_then(Json::as_array).into_iter().flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

fn server_names(names: &[&String]) -> ModuleMap {
    [("sni".to_owned(), json!(names))].into()
}

/// Whether a policy sets nothing but whom it is for.
fn is_empty(policy: &ConnectionPolicy) -> bool {
    ConnectionPolicy { matchers: ModuleMap::new(), ..policy.clone() } == ConnectionPolicy::default()
}

/// Whether two policies differ in nothing but whom they are for.
fn same_settings(a: &mut ConnectionPolicy, b: &mut ConnectionPolicy) -> bool {
    let matchers = (std::mem::take(&mut a.matchers), std::mem::take(&mut b.matchers));
    let same = a == b;
    (a.matchers, b.matchers) = matchers;
    same
}

/// Policies for all names last, equal ones joined.
fn consolidate(mut policies: Vec<ConnectionPolicy>) -> Result<Vec<ConnectionPolicy>, Conflict> {
    policies.sort_by_key(|policy| policy.matchers.is_empty());
    let mut list = Joined::new(policies);
    let mut at = list.after(0);
    while at < list.slots.len() {
        // What was joined may now equal yet another one.
        if !list.join_with_another(at)? {
            at = list.after(at + 1);
        }
    }
    Ok(list.slots.into_iter().flatten().collect())
}

/// Policies of which some were joined with others, found by whom they are for.
struct Joined {
    slots: Vec<Option<ConnectionPolicy>>,
    alike: HashMap<u64, BTreeSet<usize>>,
    /// For an empty slot where to go on.
    skip: Vec<usize>,
}

impl Joined {
    fn new(policies: Vec<ConnectionPolicy>) -> Self {
        let mut alike: HashMap<u64, BTreeSet<usize>> = HashMap::new();
        for (at, policy) in policies.iter().enumerate() {
            alike.entry(fingerprint(&policy.matchers)).or_default().insert(at);
        }
        let skip = (1..=policies.len()).collect();
        Self { slots: policies.into_iter().map(Some).collect(), alike, skip }
    }

    /// The first policy that is still there, from an index on.
    fn after(&mut self, from: usize) -> usize {
        let mut at = from;
        while self.slots.get(at).is_some_and(Option::is_none) {
            at = self.skip[at];
        }
        if let Some(skip) = self.skip.get_mut(from).filter(|_| at > from) {
            *skip = at;
        }
        at
    }

    /// Takes one out.
    fn take(&mut self, at: usize) -> ConnectionPolicy {
        let policy = self.slots[at].take().unwrap_or_default();
        if let Some(same) = self.alike.get_mut(&fingerprint(&policy.matchers)) {
            same.remove(&at);
        }
        policy
    }

    fn put(&mut self, at: usize, policy: ConnectionPolicy) {
        self.alike.entry(fingerprint(&policy.matchers)).or_default().insert(at);
        self.slots[at] = Some(policy);
    }

    /// Joins the policy at an index with one other: one with equal settings right after it, or one
    /// for the same names.
    fn join_with_another(&mut self, at: usize) -> Result<bool, Conflict> {
        let mut policy = self.take(at);
        let next = self.after(at + 1);
        let same = self.alike.get(&fingerprint(&policy.matchers));
        let first_same = same.and_then(|same| {
            same.iter().copied().find(|other| {
                self.slots[*other].as_ref().is_some_and(|one| one.matchers == policy.matchers)
            })
        });
        let neighbour = self.slots.get_mut(next).and_then(Option::as_mut);
        let neighbour = neighbour.filter(|_| first_same.is_none_or(|first| first > next));
        let joined = if neighbour.is_some_and(|one| {
            same_settings(&mut policy, one) && join_names(&mut policy.matchers, &one.matchers)
        }) {
            self.take(next);
            true
        } else if let Some(other) = first_same {
            let other = self.take(other);
            if policy != other {
                check_conflicts(&policy, &other)
                    .map_err(|message| Conflict { message, names: names(&policy.matchers) })?;
                reconcile(&mut policy, other);
            }
            true
        } else {
            false
        };
        self.put(at, policy);
        Ok(joined)
    }
}

/// Equal for equal matchers, and cheap for many names.
fn fingerprint(matchers: &ModuleMap) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    for (name, matcher) in matchers {
        name.hash(&mut hasher);
        match matcher {
            Json::Array(names) => {
                names.len().hash(&mut hasher);
                let ends = [names.first(), names.last()];
                ends.map(|name| name.map(Json::to_string)).hash(&mut hasher);
            }
            other => other.to_string().hash(&mut hasher),
        }
    }
    hasher.finish()
}

/// Adds names to names, where both have nothing else.
fn join_names(matchers: &mut ModuleMap, others: &ModuleMap) -> bool {
    if matchers.len() != 1 || others.len() != 1 {
        return false;
    }
    let (Some(Json::Array(names)), Some(Json::Array(more))) =
        (matchers.get_mut("sni"), others.get("sni"))
    else {
        return false;
    };
    names.extend(more.iter().cloned());
    true
}

/// # Errors
/// A setting that both have, with different values.
fn check_conflicts(a: &ConnectionPolicy, b: &ConnectionPolicy) -> Result<(), String> {
    let conflict = |what: &str, a: String, b: String| {
        Err(format!("two policies with same match criteria have conflicting {what}: {a} vs. {b}"))
    };
    let none = Vec::new();
    let lists = [
        ("ALPN", a.alpn.as_ref().unwrap_or(&none), b.alpn.as_ref().unwrap_or(&none)),
        ("cipher suites", &a.cipher_suites, &b.cipher_suites),
        ("curves", &a.curves, &b.curves),
    ];
    for (what, one, two) in lists {
        if !one.is_empty() && !two.is_empty() && one != two {
            let shown = |list: &[String]| format!("[{}]", list.join(" "));
            return conflict(what, shown(one), shown(two));
        }
    }
    if a.client_authentication.is_none() && b.client_authentication.is_some() {
        let two = serde_json::to_string(&b.client_authentication).unwrap_or_default();
        return conflict("client auth configuration", "<nil>".to_owned(), two);
    }
    let texts = [
        ("default SNI", &a.default_sni, &b.default_sni),
        ("fallback SNI", &a.fallback_sni, &b.fallback_sni),
        ("min protocol", &a.protocol_min, &b.protocol_min),
        ("max protocol", &a.protocol_max, &b.protocol_max),
    ];
    for (what, one, two) in texts {
        if !one.is_empty() && !two.is_empty() && one != two {
            return conflict(what, one.clone(), two.clone());
        }
    }
    if let (Some(one), Some(two)) = (&a.certificate_selection, &b.certificate_selection) {
        let mut tagged = two.clone();
        tagged.any_tag.clone_from(&one.any_tag);
        if tagged != *one {
            let shown = |s| serde_json::to_string(s).unwrap_or_default();
            return conflict("cert selections", shown(one), shown(two));
        }
    }
    Ok(())
}

/// Takes over what only the other policy sets.
fn reconcile(policy: &mut ConnectionPolicy, other: ConnectionPolicy) {
    let list = |own: &mut Vec<String>, other: Vec<String>| {
        if own.is_empty() {
            *own = other;
        }
    };
    let text = |own: &mut String, other: String| {
        if own.is_empty() {
            *own = other;
        }
    };
    policy.alpn = policy.alpn.take().or(other.alpn);
    list(&mut policy.cipher_suites, other.cipher_suites);
    list(&mut policy.curves, other.curves);
    text(&mut policy.default_sni, other.default_sni);
    text(&mut policy.fallback_sni, other.fallback_sni);
    text(&mut policy.protocol_min, other.protocol_min);
    text(&mut policy.protocol_max, other.protocol_max);
    match (&mut policy.certificate_selection, other.certificate_selection) {
        (Some(own), Some(other)) => {
            let seen: BTreeSet<String> = own.any_tag.iter().cloned().collect();
            own.any_tag.extend(other.any_tag.into_iter().filter(|tag| !seen.contains(tag)));
        }
        (own, other) => *own = own.take().or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(names: &[&str], alpn: &str) -> ConnectionPolicy {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let matchers = if names.is_empty() {
            ModuleMap::new()
        } else {
            server_names(&names.iter().collect::<Vec<_>>())
        };
        let alpn = (!alpn.is_empty()).then(|| vec![alpn.to_owned()]);
        ConnectionPolicy { matchers, alpn, ..ConnectionPolicy::default() }
    }

    #[test]
    fn neighbours_with_equal_settings_are_joined() {
        let all = vec![policy(&[], ""), policy(&["a"], "h2"), policy(&["b"], "h2")];
        assert_eq!(consolidate(all).unwrap(), [policy(&["a", "b"], "h2"), policy(&[], "")]);
    }

    #[test]
    fn conflicts_are_named() {
        let error = consolidate(vec![policy(&["a"], "h2"), policy(&["a"], "h1")]).unwrap_err();
        assert!(error.message.ends_with("conflicting ALPN: [h2] vs. [h1]"), "{error:?}");
        assert_eq!(error.names, ["a"]);
    }

    #[test]
    fn many_policies_are_joined() {
        let names: Vec<String> = (0..3_000).map(|at| format!("a{at}.com")).collect();
        let mut all: Vec<_> = names.iter().map(|name| policy(&[name], "h2")).collect();
        all.extend(names.iter().map(|name| policy(&[name], "")));
        let joined = consolidate(all).unwrap();
        let every: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(joined, [policy(&every, "h2")]);
    }

    #[test]
    fn settings_for_the_same_names_are_put_together() {
        let mut other = policy(&["a"], "");
        other.protocol_min = "tls1.3".to_owned();
        let between = policy(&["b"], "h1");
        let joined = consolidate(vec![policy(&["a"], "h2"), between.clone(), other]).unwrap();
        let both = ConnectionPolicy { protocol_min: "tls1.3".to_owned(), ..policy(&["a"], "h2") };
        assert_eq!(joined, [both, between]);
    }
}
