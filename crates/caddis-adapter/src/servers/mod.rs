//! Pairings to servers.

mod connection_policies;
mod logs;
mod options;
mod schemes;
mod shields;
mod sites;

use std::collections::BTreeMap;

use caddis_caddyfile::Diagnostic;
use caddis_config::{AutoHttpsConfig, HttpErrorConfig, Route, Server, ServerLogConfig};
use caddis_core::Registry;
use caddis_core::directive::AdaptState;

use crate::listeners::{Pairing, Served};
use crate::named_routes::NamedRoutes;
use crate::options::Options;
use crate::routes;
use crate::site::Site;

use connection_policies::PolicyBuilder;
pub(crate) use options::ServerOptions;
pub(crate) use shields::matches_wildcard;
pub(crate) use sites::uses_other_port;

/// What servers are built from.
pub(crate) struct Inputs<'a> {
    /// All sites.
    pub(crate) sites: &'a [Site],
    /// All named routes.
    pub(crate) named_routes: &'a NamedRoutes,
    /// Global options.
    pub(crate) options: &'a Options,
    /// Modules.
    pub(crate) registry: &'a Registry,
}

/// Builds the servers, named `srv0`, `srv1`, … or as the `servers` option says.
///
/// # Errors
/// Sites that cannot share a server.
pub(crate) fn build(
    pairings: &mut [Pairing],
    inputs: &Inputs<'_>,
    shared: &mut AdaptState,
) -> Result<BTreeMap<String, Server>, Diagnostic> {
    let mut servers = BTreeMap::new();
    for (number, pairing) in pairings.iter_mut().enumerate() {
        let server = build_one(number, pairing, inputs, shared)?;
        servers.insert(format!("srv{number}"), server);
    }
    options::apply(servers, &inputs.options.servers)
        .map_err(|error| Diagnostic::error(format!("applying global server options: {error}")))
}

fn build_one(
    number: usize,
    pairing: &mut Pairing,
    inputs: &Inputs<'_>,
    shared: &mut AdaptState,
) -> Result<Server, Diagnostic> {
    sites::check_ambiguous(&pairing.sites)?;
    sites::sort(&mut pairing.sites);
    let mut server = Server {
        listen: pairing.listen(),
        listen_protocols: listen_protocols(pairing),
        automatic_https: automatic_https(inputs.options),
        ..Server::default()
    };
    let pile = |served: &Served| &inputs.sites[served.site].pile;
    if pairing.sites.iter().any(|served| !pile(served).logs.is_empty()) {
        server.logs = Some(ServerLogConfig::default());
    }
    let invoked = pairing.sites.iter().flat_map(|served| &pile(served).invoked);
    server.named_routes = inputs.named_routes.needed(invoked)?;

    let mut policies = PolicyBuilder::new(inputs.options, server.automatic_https.as_ref());
    for served in &pairing.sites {
        sites::warn(served, shared);
        let pile = pile(served);
        let names = served.hosts();
        policies.add_site(&pile.connection_policies, pile.force_automate, &names);
        for key in &served.keys {
            sites::skip_plain_http(&mut server, &key.address, &policies.http_port);
            policies.look_at(&key.address, !pile.connection_policies.is_empty(), &server);
        }
        add_routes(&mut server, served, pairing.sites.len() == 1, inputs, shared)?;
        logs::associate(&mut server, served, &pile.logs, names.is_empty());
    }
    if let Some(logs) = &mut server.logs {
        logs.skip_hosts.sort();
    }
    server.tls_connection_policies = policies.taken();
    schemes::check(&server, &pairing.sites, inputs.options)?;
    let taken = std::mem::take(&mut server.tls_connection_policies);
    server.tls_connection_policies = policies.finish(taken).map_err(|error| {
        Diagnostic::error(format!(
            "consolidating TLS connection policies for server {number}: {error}"
        ))
    })?;
    server.routes = routes::consolidate(server.routes);
    Ok(server)
}

/// Protocols per address, if one of them has its own.
fn listen_protocols(pairing: &Pairing) -> Vec<Option<Vec<String>>> {
    let own = |protocols: &Vec<String>| protocols.iter().any(|protocol| !protocol.is_empty());
    if !pairing.addresses.iter().any(|(_, protocols)| own(protocols)) {
        return Vec::new();
    }
    let of = |protocols: &Vec<String>| own(protocols).then(|| protocols.clone());
    pairing.addresses.iter().map(|(_, protocols)| of(protocols)).collect()
}

fn automatic_https(options: &Options) -> Option<AutoHttpsConfig> {
    let mut config = AutoHttpsConfig::default();
    for word in options.auto_https() {
        match word.as_str() {
            "off" => config.disable = true,
            "disable_redirects" => config.disable_redirects = true,
            "disable_certs" => config.disable_certificates = true,
            "ignore_loaded_certs" => config.ignore_loaded_certificates = true,
            _ => {}
        }
    }
    (config != AutoHttpsConfig::default()).then_some(config)
}

/// Adds the routes and error routes of a site.
fn add_routes(
    server: &mut Server,
    served: &Served,
    alone: bool,
    inputs: &Inputs<'_>,
    shared: &mut AdaptState,
) -> Result<(), Diagnostic> {
    let pile = &inputs.sites[served.site].pile;
    let matchers = sites::matcher_sets(served);
    let site_routes = routes::build_sorted(pile.routes.clone(), inputs.registry, shared)?;
    append(&mut server.routes, site_routes, &matchers, alone);
    if pile.error_routes.is_empty() {
        return Ok(());
    }
    let mut error_routes = pile.error_routes.clone();
    crate::go_sort::sort_stable_by(&mut error_routes, |a, b| {
        !a.matcher_sets.is_empty() || b.matcher_sets.is_empty()
    });
    let errors = server.errors.get_or_insert_with(HttpErrorConfig::default);
    append(&mut errors.routes, error_routes, &matchers, alone);
    Ok(())
}

/// Adds a site's routes: wrapped into one route with the site's matchers, or as they are where the
/// site is alone and matches everything.
fn append(
    list: &mut Vec<Route>,
    site_routes: Vec<Route>,
    matchers: &[caddis_config::ModuleMap],
    alone: bool,
) {
    if matchers.is_empty() && site_routes.is_empty() {
        return;
    }
    // A host matcher inside must not come to the top: its names would get certificates.
    let host_inside = || {
        let mut sets = site_routes.iter().flat_map(|route| &route.matcher_sets);
        sets.any(|set| set.contains_key("host"))
    };
    if matchers.is_empty() && alone && !host_inside() {
        list.extend(site_routes);
        return;
    }
    let handle = match site_routes.is_empty() {
        true => Vec::new(),
        false => vec![routes::subroute(&site_routes)],
    };
    list.push(Route {
        matcher_sets: matchers.to_vec(),
        handle,
        terminal: true,
        ..Route::default()
    });
}
