//! Sites to listeners: which addresses serve which keys of which sites, and which addresses serve
//! the same and so become one server.

use std::collections::{BTreeMap, BTreeSet};

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
/// # Errors
/// The first key that is no address, or cannot be listened on.
pub(crate) fn pair(sites: &[Site], options: &Options) -> Result<Vec<Pairing>, Diagnostic> {
    let mut map: Map<Served> = Map::new();
    for (at, site) in sites.iter().enumerate() {
        for (address, by_protocol) in keys_by_listener(at, site, options)? {
            let here = map.entry(address).or_default();
            for (protocol, keys) in by_protocol {
                here.entry(protocol).or_default().push(Served { site: at, keys });
            }
        }
    }
    Ok(consolidate(map))
}

fn keys_by_listener(at: usize, site: &Site, options: &Options) -> Result<Map<Key>, Diagnostic> {
    let mut map: Map<Key> = Map::new();
    for (number, token) in site.keys.iter().enumerate() {
        let wrong = |message: String| Diagnostic::error(message).labelled(token, "this address");
        let address =
            Address::parse(&token.text).map_err(|error| wrong(format!("parsing key: {error}")))?;
        let found = listeners(site, &address, options).map_err(|error| {
            wrong(format!(
                "server block {at}, key {number} ({}): determining listener address: {error}",
                token.text
            ))
        })?;
        let key = Key { token: token.clone(), address };
        for (listener, protocols) in found {
            let here = map.entry(listener).or_default();
            for protocol in protocols {
                here.entry(protocol).or_default().push(key.clone());
            }
        }
    }
    Ok(map)
}

/// The listeners of one key with their protocols.
fn listeners(
    site: &Site,
    address: &Address,
    options: &Options,
) -> Result<BTreeMap<String, BTreeSet<String>>, String> {
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
    let (http, https) = (options.http_port(), options.https_port());
    let port = match (address.port.as_str(), address.scheme.as_str()) {
        ("", "http") => &http,
        ("", _) => &https,
        (port, _) => port,
    };
    if (address.scheme == "http" && port == https) || (address.scheme == "https" && port == http) {
        return Err(format!("[{address}] scheme and port violate convention"));
    }
    let everywhere = [Bind { addresses: vec![String::new()], protocols: Vec::new() }];
    let binds = match (&site.pile.binds, &options.default_bind) {
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

/// Joins addresses and protocols that serve the same.
fn consolidate(mut map: Map<Served>) -> Vec<Pairing> {
    let order: Vec<(String, Vec<String>)> = map
        .iter()
        .map(|(address, protocols)| (address.clone(), protocols.keys().cloned().collect()))
        .collect();
    let mut pairings = Vec::new();
    for (address, _) in &order {
        // Those that were joined with an earlier address are gone; those that are joined with an
        // earlier protocol of this address leave an empty server behind, as in Caddy.
        let protocols: Vec<String> = map[address].keys().cloned().collect();
        for protocol in protocols {
            let sites = map[address].get(&protocol).cloned().unwrap_or_default();
            let mut addresses = Vec::new();
            for (other, by_protocol) in &mut map {
                let same: Vec<String> = by_protocol
                    .iter()
                    .filter(|(_, others)| **others == sites)
                    .map(|(protocol, _)| protocol.clone())
                    .collect();
                by_protocol.retain(|protocol, _| !same.contains(protocol));
                if !same.is_empty() {
                    addresses.push((other.clone(), same));
                }
            }
            pairings.push(Pairing { addresses, sites });
        }
    }
    pairings
}
