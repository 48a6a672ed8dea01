//! Where in the file a part of the configuration comes from.

use std::collections::{BTreeMap, HashMap};

use caddis_caddyfile::{Segment, Span, Token};
use caddis_config::{Server, TlsApp};

use crate::listeners::Pairing;
use crate::servers::Places;
use crate::site::Site;

/// The directive that a handler is from.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its name.
    pub token: Token,
    /// Its matcher, as written there.
    pub matcher: Option<Token>,
    /// The name at the definition of a named matcher.
    pub definition: Option<Token>,
}

/// Places by dotted JSON path, such as `apps.http.servers.srv0`.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    places: HashMap<String, Span>,
    directives: HashMap<String, Place>,
}

impl Origins {
    /// The place of the longest known beginning of a path.
    pub fn find(&self, path: &str) -> Option<Span> {
        let mut path = path;
        loop {
            if let Some(place) = self.directives.get(path) {
                return Some(place.token.span);
            }
            if let Some(span) = self.places.get(path) {
                return Some(*span);
            }
            path = path.rsplit_once('.')?.0;
        }
    }

    /// The directive of the longest known beginning of a path, if nothing else is known nearer.
    pub fn directive(&self, path: &str) -> Option<&Place> {
        let mut path = path;
        loop {
            if let Some(place) = self.directives.get(path) {
                return Some(place);
            }
            if self.places.contains_key(path) {
                return None;
            }
            path = path.rsplit_once('.')?.0;
        }
    }

    /// The directives of all handlers with their paths, in no order.
    pub fn directives(&self) -> impl Iterator<Item = (&str, &Place)> {
        self.directives.iter().map(|(path, place)| (path.as_str(), place))
    }

    pub(crate) fn add_place(&mut self, path: String, place: Place) {
        self.directives.entry(path).or_insert(place);
    }

    /// All places, in no order.
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
    sites: &[Site],
    places: Vec<Places>,
    servers: &BTreeMap<String, Server>,
) -> Origins {
    let mut origins = Origins::default();
    // The first of servers with the same addresses, as there may be empty ones.
    let names: HashMap<&Vec<String>, &String> =
        servers.iter().rev().map(|(name, server)| (&server.listen, name)).collect();
    for (pairing, places) in pairings.iter().zip(places) {
        let listen = pairing.listen();
        let Some(name) = names.get(&listen) else { continue };
        let server = format!("apps.http.servers.{name}");
        if let Some(key) = pairing.sites.first().and_then(|served| served.keys.first()) {
            origins.add(server.clone(), key.token.span);
        }
        let tls_at = pairing.sites.iter().find_map(|served| sites[served.site].pile.tls_at);
        if let Some(span) = tls_at {
            origins.add(format!("{server}.tls_connection_policies"), span);
        }
        for (path, span) in places {
            origins.add(format!("{server}.{path}"), span);
        }
    }
    origins
}

impl Origins {
    /// The automation policies, each at a site that it is for.
    pub(crate) fn add_policies(&mut self, pairings: &[Pairing], sites: &[Site], tls: &TlsApp) {
        let policies = tls.automation.iter().flat_map(|automation| &automation.policies);
        let keys: BTreeMap<&str, Span> = pairings
            .iter()
            .flat_map(|pairing| &pairing.sites)
            .flat_map(|served| served.keys.iter().map(|key| (key, sites[served.site].pile.tls_at)))
            .map(|(key, tls)| (key.address.host.as_str(), tls.unwrap_or(key.token.span)))
            .collect();
        for (at, policy) in policies.enumerate() {
            let first = policy.subjects.first().and_then(|name| keys.get(name.as_str()));
            if let Some(span) = first {
                self.add(format!("apps.tls.automation.policies.{at}"), *span);
            }
        }
        // What is for all names comes from the options or from the only `tls` directive.
        if let Some(span) = sites.iter().find_map(|site| site.pile.tls_at) {
            self.add("apps.tls".to_owned(), span);
        }
    }

    /// The global options.
    pub(crate) fn add_options<'a>(
        &mut self,
        segments: &[Segment],
        servers: impl Iterator<Item = &'a String> + Clone,
    ) {
        for segment in segments {
            let Some(token) = segment.name() else { continue };
            if let Some((_, path)) = OPTIONS.iter().find(|(name, _)| *name == token.text) {
                self.add((*path).to_owned(), token.span);
            }
            if token.text != "servers" {
                continue;
            }
            for line in top_lines(segment) {
                for server in servers.clone() {
                    self.add(format!("apps.http.servers.{server}.{}", line.text), line.span);
                }
            }
        }
    }
}

/// Options and the part of the configuration that they make.
const OPTIONS: &[(&str, &str)] = &[
    ("acme_ca", "apps.tls.automation"),
    ("acme_dns", "apps.tls.automation"),
    ("admin", "admin"),
    ("cert_issuer", "apps.tls.automation"),
    ("dns", "apps.tls.dns"),
    ("ech", "apps.tls.encrypted_client_hello"),
    ("email", "apps.tls.automation"),
    ("events", "apps.events"),
    ("filesystem", "apps.caddy.filesystems"),
    ("grace_period", "apps.http.grace_period"),
    ("http_port", "apps.http.http_port"),
    ("https_port", "apps.http.https_port"),
    ("local_certs", "apps.tls.automation"),
    ("log", "logging"),
    ("metrics", "apps.http.metrics"),
    ("on_demand_tls", "apps.tls.automation.on_demand"),
    ("pki", "apps.pki"),
    ("storage", "storage"),
];

/// The first word of each line at the top of a segment's block.
fn top_lines(segment: &Segment) -> impl Iterator<Item = &Token> {
    let mut depth = 0_usize;
    segment.0.windows(2).filter_map(move |pair| {
        let [before, token] = pair else { return None };
        depth += usize::from(before.is_open_brace());
        depth = depth.saturating_sub(usize::from(token.is_close_brace()));
        (depth == 1 && before.next_is_on_new_line(token) && !token.is_close_brace())
            .then_some(token)
    })
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
