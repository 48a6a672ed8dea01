//! The sites of one server: their order, their matchers, what is odd about them.

use caddis_caddyfile::Diagnostic;
use caddis_config::ModuleMap;
use caddis_config::value::join_host_port;
use caddis_core::directive::AdaptState;
use serde_json::Value as Json;

use crate::address::specificity;
use crate::go_sort::sort_stable_by;
use crate::listeners::Served;

impl Served {
    /// Hosts of the keys, sorted; none if a key has no host and so matches every host.
    pub(crate) fn hosts(&self) -> Vec<String> {
        if self.has_hostless_key() {
            return Vec::new();
        }
        sorted(self.keys.iter().map(|key| key.address.host.clone()))
    }

    /// Hosts of the keys as the `Host` header has them: with ports that are not usual.
    pub(crate) fn log_hosts(&self) -> Vec<String> {
        let addresses = self.keys.iter().map(|key| &key.address);
        sorted(addresses.filter(|address| !address.host.is_empty()).map(|address| {
            match address.port.as_str() {
                "" | "80" | "443" => address.host.clone(),
                port => join_host_port(&address.host, port),
            }
        }))
    }

    /// Hosts of the keys that are not for plain HTTP, sorted.
    pub(crate) fn https_hosts(&self, http_port: &str) -> Vec<String> {
        let addresses = self.keys.iter().map(|key| &key.address);
        sorted(
            addresses
                .filter(|a| !a.host.is_empty() && a.scheme != "http" && a.port != http_port)
                .map(|a| a.host.clone()),
        )
    }

    /// Whether a key names no host.
    pub(crate) fn has_hostless_key(&self) -> bool {
        self.keys.iter().any(|key| key.address.host.is_empty())
    }

    /// Whether all keys say `http://`.
    pub(crate) fn is_all_http(&self) -> bool {
        self.keys.iter().all(|key| key.address.scheme == "http")
    }
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.dedup();
    names
}

/// Whether one of the listeners has another port than this.
pub(crate) fn uses_other_port(listen: &[String], port: &str) -> bool {
    let Ok(port) = port.parse::<u16>() else { return false };
    listen
        .iter()
        .filter_map(|address| caddis_config::NetworkAddress::parse(address).ok())
        .any(|address| port > address.end_port || port < address.start_port)
}

/// Two sites of one server must not have the same key. What is defined again is a mistake and taken
/// out, so that it brings about no further ones.
pub(super) fn take_ambiguous(sites: &mut Vec<Served>, errors: &mut Vec<Diagnostic>) {
    let mut seen = std::collections::HashMap::new();
    let mut again = Vec::new();
    for (at, served) in sites.iter().enumerate() {
        for (number, key) in served.keys.iter().enumerate() {
            let (first, first_key) = seen.entry(&key.token.text).or_insert((at, key));
            if *first != at {
                let message = format!("ambiguous site definition: {}", key.token.text);
                let error = Diagnostic::error(message)
                    .code("adapter::ambiguous_site")
                    .labelled(&key.token, "defined again here")
                    .labelled(&first_key.token, "first defined here")
                    .help(
                        "put the directives of both into one block, or change one of the addresses",
                    );
                errors.push(error);
                again.push((at, number));
            }
        }
    }
    for (at, number) in again.into_iter().rev() {
        sites[at].keys.remove(number);
    }
    sites.retain(|served| !served.keys.is_empty());
}

/// What the place of a site depends on.
#[derive(Clone)]
struct SortKey {
    wildcard: bool,
    host: i64,
    path: i64,
}

impl SortKey {
    fn of(served: &Served) -> Self {
        let addresses = || served.keys.iter().map(|key| &key.address);
        let longest_path = addresses()
            .map(|address| address.path.as_str())
            .fold("", |best, path| if specificity(path) > specificity(best) { path } else { best });
        Self {
            wildcard: addresses().any(|a| a.host.is_empty() || a.host.contains('*')),
            host: addresses().map(|a| specificity(&a.host)).max().unwrap_or(0).max(0),
            path: longest_path.len() as i64,
        }
    }

    fn less(&self, other: &Self) -> bool {
        if self.host == 0 || other.host == 0 {
            return self.host != 0;
        }
        if self.wildcard != other.wildcard {
            return other.wildcard;
        }
        if self.host == other.host {
            return self.path > other.path;
        }
        self.host > other.host
    }
}

/// Most specific sites first: only the first that matches is run.
pub(super) fn sort(sites: &mut Vec<Served>) {
    let keys: Vec<SortKey> = sites.iter().map(SortKey::of).collect();
    let mut places: Vec<usize> = (0..sites.len()).collect();
    sort_stable_by(&mut places, |a, b| keys[*a].less(&keys[*b]));
    let mut taken: Vec<Option<Served>> = sites.drain(..).map(Some).collect();
    sites.extend(places.into_iter().filter_map(|at| taken[at].take()));
}

/// Warns of keys that are probably not meant as they are written.
pub(super) fn warn(served: &Served, shared: &mut AdaptState) {
    for key in &served.keys {
        let address = &key.address;
        let message = if !address.path.is_empty() {
            "Using a path in a site address is deprecated; please use the 'handle' directive instead"
        } else if address.host == "0.0.0.0" || address.host == "::" {
            "Site block has an unspecified IP address which only matches requests having that Host header; you probably want the 'bind' directive to configure the socket"
        } else {
            continue;
        };
        let warning = Diagnostic::warning(format!("{message}: {address}")).at(&key.token);
        shared.warnings.push(warning);
    }
}

/// The matchers of a site: hosts and paths of its keys, keys with the same path together.
pub(super) fn matcher_sets(served: &Served) -> Vec<ModuleMap> {
    let mut pairs: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut every_host = false;
    for address in served.keys.iter().map(|key| &key.address) {
        let at = pairs.iter().position(|(path, _)| *path == address.path).unwrap_or_else(|| {
            pairs.push((&address.path, Vec::new()));
            pairs.len() - 1
        });
        let hosts = &mut pairs[at].1;
        if address.host.is_empty() && !every_host {
            hosts.clear();
            every_host = true;
        }
        if !every_host && !hosts.contains(&address.host.as_str()) {
            hosts.push(&address.host);
        }
    }
    let set = |(path, hosts): &(&str, Vec<&str>)| {
        let mut set = ModuleMap::new();
        if !hosts.is_empty() {
            set.insert("host".to_owned(), Json::from(hosts.clone()));
        }
        if !path.is_empty() {
            set.insert("path".to_owned(), Json::from(vec![*path]));
        }
        set
    };
    pairs.iter().map(set).filter(|set| !set.is_empty()).collect()
}
