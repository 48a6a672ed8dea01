//! Where in the file a part of the configuration comes from.

use std::collections::BTreeMap;

use caddis_caddyfile::Span;

use crate::listeners::Pairing;

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

/// The servers, each at the first key of its first site.
pub(crate) fn of_servers<'a>(
    pairings: &[Pairing],
    listen: impl Iterator<Item = (&'a String, &'a Vec<String>)>,
) -> Origins {
    let mut origins = Origins::default();
    for (name, addresses) in listen {
        let pairing = pairings.iter().find(|pairing| pairing.listen() == *addresses);
        let key = pairing.and_then(|pairing| pairing.sites.first()?.keys.first());
        if let Some(key) = key {
            origins.add(format!("apps.http.servers.{name}"), key.token.span);
        }
    }
    origins
}
