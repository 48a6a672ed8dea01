//! Where in the file a part of the configuration comes from.

use std::collections::BTreeMap;

use caddis_caddyfile::Span;
use caddis_config::{Server, TlsApp};

use crate::listeners::Pairing;
use crate::servers::Places;

/// Places by dotted JSON path, such as `apps.http.servers.srv0`.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    places: BTreeMap<String, Span>,
}

impl Origins {
    /// The place of the longest known beginning of a path.
    pub fn find(&self, path: &str) -> Option<Span> {
        let mut path = path;
        loop {
            if let Some(span) = self.places.get(path) {
                return Some(*span);
            }
            path = path.rsplit_once('.')?.0;
        }
    }

    /// All places.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Span)> {
        self.places.iter().map(|(path, span)| (path.as_str(), *span))
    }

    fn add(&mut self, path: String, span: Span) {
        if !span.is_none() {
            self.places.entry(path).or_insert(span);
        }
    }
}

/// The servers, each at the first key of its first site, and their routes.
pub(crate) fn of_servers(
    pairings: &[Pairing],
    places: Vec<Places>,
    servers: &BTreeMap<String, Server>,
) -> Origins {
    let mut origins = Origins::default();
    for (pairing, places) in pairings.iter().zip(places) {
        let listen = pairing.listen();
        let Some((name, _)) = servers.iter().find(|(_, server)| server.listen == listen) else {
            continue;
        };
        let server = format!("apps.http.servers.{name}");
        if let Some(key) = pairing.sites.first().and_then(|served| served.keys.first()) {
            origins.add(server.clone(), key.token.span);
        }
        for (path, span) in places {
            origins.add(format!("{server}.{path}"), span);
        }
    }
    origins
}

impl Origins {
    /// The automation policies, each at a site that it is for.
    pub(crate) fn add_policies(&mut self, pairings: &[Pairing], tls: &TlsApp) {
        let policies = tls.automation.iter().flat_map(|automation| &automation.policies);
        let keys: BTreeMap<&str, Span> = pairings
            .iter()
            .flat_map(|pairing| &pairing.sites)
            .flat_map(|served| &served.keys)
            .map(|key| (key.address.host.as_str(), key.token.span))
            .collect();
        for (at, policy) in policies.enumerate() {
            let first = policy.subjects.first().and_then(|name| keys.get(name.as_str()));
            if let Some(span) = first {
                self.add(format!("apps.tls.automation.policies.{at}"), *span);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use caddis_caddyfile::FileId;

    use super::*;

    #[test]
    fn the_nearest_known_part_counts() {
        let mut origins = Origins::default();
        let span = Span::new(FileId(0), 1, 2);
        origins.add("a.b".to_owned(), span);
        origins.add("a.c".to_owned(), Span::NONE);
        assert_eq!(origins.find("a.b.0.c"), Some(span));
        assert_eq!(origins.find("a.c"), None);
        assert_eq!(origins.iter().count(), 1);
    }
}
