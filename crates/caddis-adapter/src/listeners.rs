//! Sites to listeners: which addresses serve which keys of which sites, and which addresses serve
//! the same and so become one server.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use caddis_caddyfile::{Diagnostic, Token};
use caddis_config::NetworkAddress;
use caddis_config::value::{join_network_address, split_network_address};

use crate::address::Address;
use crate::options::Options;
use crate::site::{Bind, Site};

/// One key of a site.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    /// As written.
    pub(crate) token: Token,
    /// Its parts.
    pub(crate) address: Address,
}

/// A site with those of its keys that a listener serves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Served {
    /// Index of the site.
    pub(crate) site: usize,
    /// The keys.
    pub(crate) keys: Vec<Key>,
}

/// What becomes one server.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Pairing {
    /// Addresses, each with its protocols (the empty name for the server's own).
    pub(crate) addresses: Vec<(String, Vec<String>)>,
    /// The sites there.
    pub(crate) sites: Vec<Served>,
}

impl Pairing {
    /// The addresses alone.
    pub(crate) fn listen(&self) -> Vec<String> {
        self.addresses.iter().map(|(address, _)| address.clone()).collect()
    }
}

/// Per address and protocol what is served there.
type Map<T> = BTreeMap<String, BTreeMap<String, Vec<T>>>;

/// Pairs sites with listeners.
///
/// Keys that are no address, or cannot be listened on, are mistakes and left out.
pub(crate) fn pair(
    sites: &[Site],
    options: &Options,
    errors: &mut Vec<Diagnostic>,
) -> Vec<Pairing> {
    let mut map: Map<Served> = Map::new();
    let mut known = Known::new(options);
    for (at, site) in sites.iter().enumerate() {
        for (address, by_protocol) in keys_by_listener(at, site, &mut known, errors) {
            let here = map.entry(address).or_default();
            for (protocol, mut keys) in by_protocol {
                keys.shrink_to_fit();
                here.entry(protocol).or_default().push(Served { site: at, keys });
            }
        }
    }
    consolidate(map)
}

fn keys_by_listener(
    at: usize,
    site: &Site,
    known: &mut Known<'_>,
    errors: &mut Vec<Diagnostic>,
) -> Map<Key> {
    let mut map: Map<Key> = Map::new();
    for (number, token) in site.keys.iter().enumerate() {
        let found = Address::parse(&token.text)
            .map_err(|error| format!("parsing key: {error}"))
            .and_then(|address| match known.listeners(site, &address) {
                Ok(found) => Ok((address, found)),
                Err(error) => Err(format!(
                    "server block {at}, key {number} ({}): determining listener address: {error}",
                    token.text
                )),
            });
        let (address, found) = match found {
            Ok(found) => found,
            Err(message) => {
                errors.push(Diagnostic::error(message).labelled(token, "this address"));
                continue;
            }
        };
        let key = Key { token: token.clone(), address };
        for (listener, protocols) in &*found {
            let here = map.entry(listener.clone()).or_default();
            for protocol in protocols {
                here.entry(protocol.clone()).or_default().push(key.clone());
            }
        }
    }
    map
}

/// Listeners of a key with their protocols.
type Listeners = BTreeMap<String, BTreeSet<String>>;

/// Listeners of keys that were asked for before: most sites have the same.
struct Known<'a> {
    options: &'a Options,
    http_port: String,
    https_port: String,
    /// For sites without a `bind` of their own, by scheme and port.
    found: HashMap<(String, String), Rc<Listeners>>,
}

impl<'a> Known<'a> {
    fn new(options: &'a Options) -> Self {
        let (http_port, https_port) = (options.http_port(), options.https_port());
        Self { options, http_port, https_port, found: HashMap::new() }
    }

    fn listeners(&mut self, site: &Site, address: &Address) -> Result<Rc<Listeners>, String> {
        if !site.pile.binds.is_empty() {
            return listeners(site, address, self).map(Rc::new);
        }
        let key = (address.scheme.clone(), address.port.clone());
        if let Some(found) = self.found.get(&key) {
            return Ok(Rc::clone(found));
        }
        let found = Rc::new(listeners(site, address, self)?);
        self.found.insert(key, Rc::clone(&found));
        Ok(found)
    }
}

fn listeners(site: &Site, address: &Address, known: &Known<'_>) -> Result<Listeners, String> {
    match address.scheme.as_str() {
        "" | "http" | "https" => {}
        "wss" => {
            return Err(
                "the scheme wss:// is only supported in browsers; use https:// instead".into()
            );
        }
        "ws" => {
            return Err(
                "the scheme ws:// is only supported in browsers; use http:// instead".into()
            );
        }
        other => return Err(format!("unsupported URL scheme {other}://")),
    }
    let (http, https) = (&known.http_port, &known.https_port);
    let port = match (address.port.as_str(), address.scheme.as_str()) {
        ("", "http") => http,
        ("", _) => https,
        (port, _) => port,
    };
    if (address.scheme == "http" && port == *https) || (address.scheme == "https" && port == *http)
    {
        return Err(format!("[{address}] scheme and port violate convention"));
    }
    let everywhere = [Bind { addresses: vec![String::new()], protocols: Vec::new() }];
    let binds = match (&site.pile.binds, &known.options.default_bind) {
        (own, _) if !own.is_empty() => own.as_slice(),
        (_, Some(default)) => default.as_slice(),
        _ => &everywhere,
    };
    let mut found = BTreeMap::new();
    for bind in binds {
        for text in &bind.addresses {
            let (network, host, _) = split_network_address(text)
                .map_err(|error| format!("splitting listener address: {error}"))?;
            let listener = NetworkAddress::parse(&join_network_address(&network, &host, port))
                .map_err(|error| format!("parsing network address: {error}"))?;
            let protocols = match bind.protocols.as_slice() {
                [] => BTreeSet::from([String::new()]),
                protocols => protocols.iter().cloned().collect(),
            };
            found.insert(listener.to_string(), protocols);
        }
    }
    Ok(found)
}

/// An address and the sites that each of its protocols serves; none where they were taken.
type Slots = (String, Vec<(String, Option<Vec<Served>>)>);

/// Joins addresses and protocols that serve the same.
fn consolidate(map: Map<Served>) -> Vec<Pairing> {
    let slots = |by_protocol: BTreeMap<String, Vec<Served>>| {
        by_protocol.into_iter().map(|(protocol, sites)| (protocol, Some(sites))).collect()
    };
    let mut slots: Vec<Slots> =
        map.into_iter().map(|(address, by_protocol)| (address, slots(by_protocol))).collect();
    let alike = alike(&slots);
    let mut pairings = Vec::new();
    for at in 0..slots.len() {
        // Those that were joined with an earlier address are gone; those that are joined with an
        // earlier protocol of this address leave an empty server behind, as in Caddy.
        let waiting = |(_, sites): &(String, Option<Vec<Served>>)| sites.is_some();
        let own: Vec<usize> =
            (0..slots[at].1.len()).filter(|slot| waiting(&slots[at].1[*slot])).collect();
        for slot in own {
            let Some(sites) = slots[at].1[slot].1.take() else {
                pairings.push(Pairing::default());
                continue;
            };
            let mut addresses: Vec<(String, Vec<String>)> = Vec::new();
            for (other, other_slot) in &alike[&fingerprint(&sites)] {
                let (address, by_protocol) = &mut slots[*other];
                let (protocol, others) = &mut by_protocol[*other_slot];
                let own = (*other, *other_slot) == (at, slot);
                if !own && others.as_ref() != Some(&sites) {
                    continue;
                }
                *others = None;
                match addresses.last_mut() {
                    Some((last, protocols)) if last == address => protocols.push(protocol.clone()),
                    _ => addresses.push((address.clone(), vec![protocol.clone()])),
                }
            }
            pairings.push(Pairing { addresses, sites });
        }
    }
    pairings
}

/// Where lists of sites are that may be the same, by fingerprint.
fn alike(slots: &[Slots]) -> HashMap<u64, Vec<(usize, usize)>> {
    let mut alike: HashMap<u64, Vec<(usize, usize)>> = HashMap::new();
    for (at, (_, by_protocol)) in slots.iter().enumerate() {
        for (slot, (_, sites)) in by_protocol.iter().enumerate() {
            let sites = sites.as_deref().unwrap_or_default();
            alike.entry(fingerprint(sites)).or_default().push((at, slot));
        }
    }
    alike
}

fn fingerprint(sites: &[Served]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    for served in sites {
        (served.site, served.keys.len()).hash(&mut hasher);
    }
    hasher.finish()
}
