//! Pairings to servers.

mod connection_policies;
mod logs;
mod options;
mod schemes;
mod shields;
mod sites;

use std::collections::BTreeMap;

use caddis_caddyfile::{Diagnostic, Span};
use caddis_config::{AutoHttpsConfig, HttpErrorConfig, ModuleMap, Route, Server, ServerLogConfig};
use caddis_core::Registry;
use caddis_core::directive::AdaptState;

use crate::listeners::{Pairing, Served};
use crate::named_routes::NamedRoutes;
use crate::options::Options;
use crate::site::Site;
use crate::{freeze, routes};

use connection_policies::{Conflict, PolicyBuilder};
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

/// Places of routes by their JSON path inside a server.
pub(crate) type Places = Vec<(String, Span)>;

/// Builds the servers, named `srv0`, `srv1`, … or as the `servers` option says; and for each pairing
/// the places of its routes.
///
/// Sites that cannot share a server are mistakes; it goes on without them.
pub(crate) fn build(
    pairings: &mut [Pairing],
    inputs: &Inputs<'_>,
    shared: &mut AdaptState,
    errors: &mut Vec<Diagnostic>,
) -> (BTreeMap<String, Server>, Vec<Places>) {
    let mut servers = BTreeMap::new();
    let mut places = Vec::with_capacity(pairings.len());
    let mut uses = vec![0; inputs.sites.len()];
    for served in pairings.iter().flat_map(|pairing| &pairing.sites) {
        uses[served.site] += 1;
    }
    for (number, pairing) in pairings.iter_mut().enumerate() {
        let (server, found) = build_one(number, pairing, inputs, &mut uses, shared, errors);
        servers.insert(format!("srv{number}"), server);
        places.push(found);
    }
    let servers = options::apply(servers, &inputs.options.servers).unwrap_or_else(|error| {
        errors.push(Diagnostic::error(format!("applying global server options: {error}")));
        BTreeMap::new()
    });
    (servers, places)
}

fn build_one(
    number: usize,
    pairing: &mut Pairing,
    inputs: &Inputs<'_>,
    uses: &mut [usize],
    shared: &mut AdaptState,
    errors: &mut Vec<Diagnostic>,
) -> (Server, Places) {
    sites::take_ambiguous(&mut pairing.sites, errors);
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
    server.named_routes = inputs.named_routes.needed(invoked, errors);

    let mut policies = PolicyBuilder::new(inputs.options, &server);
    let mut lists = RouteLists { alone: pairing.sites.len() == 1, ..RouteLists::default() };
    for served in &pairing.sites {
        sites::warn(served, shared);
        let pile = pile(served);
        let names = served.hosts();
        policies.add_site(&pile.connection_policies, pile.force_automate, &names);
        for key in &served.keys {
            policies.look_at(&key.address, !pile.connection_policies.is_empty(), &mut server);
        }
        uses[served.site] -= 1;
        lists.add(served, inputs, uses[served.site] == 0, shared, errors);
        logs::associate(&mut server, served, &pile.logs, names.is_empty());
    }
    if let Some(logs) = &mut server.logs {
        logs.skip_hosts.sort();
    }
    server.tls_connection_policies = policies.taken();
    if let Err(error) = schemes::check(&server, &pairing.sites, inputs.options) {
        errors.push(error);
        // Policies of a server that should have none would contradict each other too.
        server.tls_connection_policies.clear();
    }
    let taken = std::mem::take(&mut server.tls_connection_policies);
    match policies.finish(taken) {
        Ok(policies) => server.tls_connection_policies = policies,
        Err(conflict) => errors.push(conflicting(number, &conflict, pairing, inputs)),
    }
    let places = lists.finish(&mut server, shared);
    (server, places)
}

/// Policies that contradict each other, at the `tls` directives of the sites that they are for.
fn conflicting(
    number: usize,
    conflict: &Conflict,
    pairing: &Pairing,
    inputs: &Inputs<'_>,
) -> Diagnostic {
    let message = &conflict.message;
    let mut error = Diagnostic::error(format!(
        "consolidating TLS connection policies for server {number}: {message}"
    ))
    .code("adapter::tls_conflict");
    for served in &pairing.sites {
        let pile = &inputs.sites[served.site].pile;
        let hosts = served.hosts();
        let concerned = conflict.names.iter().any(|name| hosts.contains(name))
            || (conflict.names.is_empty() && hosts.is_empty());
        let Some(at) = pile.tls_at.filter(|_| concerned && !pile.connection_policies.is_empty())
        else {
            continue;
        };
        if error.labels.is_empty() {
            error.imports = served.keys.first().and_then(|key| key.token.imports().cloned());
        }
        let label = if error.labels.is_empty() { "this" } else { "and this contradict each other" };
        error = error.label(at, label);
    }
    error.help("sites with the same names need the same settings; one `tls` of them is enough")
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

/// The routes of a server while its sites are gone through.
#[derive(Default)]
struct RouteLists {
    /// Whether there is only one site.
    alone: bool,
    /// Whether the handlers of the routes are in no later server.
    consume: bool,
    routes: Vec<(Route, Place)>,
    errors: Vec<(Route, Place)>,
    has_errors: bool,
}

/// Where a route comes from, and the routes inside it.
type Place = (Span, Vec<Span>);

impl RouteLists {
    /// Adds the routes and error routes of a site, which are taken out of it if this is the last use.
    fn add(
        &mut self,
        served: &Served,
        inputs: &Inputs<'_>,
        is_last: bool,
        shared: &mut AdaptState,
        errors: &mut Vec<Diagnostic>,
    ) {
        let pile = &inputs.sites[served.site].pile;
        let mut matchers = sites::matcher_sets(served);
        let at = served.keys.first().map_or(Span::NONE, |key| key.token.span);
        // The last server with the site need not leave its routes to another one.
        let values = if is_last { pile.routes.take() } else { pile.routes.borrow().clone() };
        let mut values = values;
        let found = routes::take_unordered(&mut values, inputs.registry, shared);
        errors.extend(found);
        let own = match routes::build_placed(values, inputs.registry, shared) {
            Ok(own) => own,
            Err(error) => return errors.push(error),
        };
        let errors_too = !pile.error_routes.is_empty();
        let own_matchers =
            if errors_too { matchers.clone() } else { std::mem::take(&mut matchers) };
        // Handlers are shared between servers only where they are not wrapped.
        self.consume = is_last || !self.alone;
        for (route, place) in wrapped(own, own_matchers, self.alone, at, is_last, shared) {
            self.push(route, place, shared);
        }
        if pile.error_routes.is_empty() {
            return;
        }
        self.has_errors = true;
        let mut own = pile.error_routes.clone();
        // Those for certain statuses first.
        crate::go_sort::sort_stable_by(&mut own, |a, b| {
            !a.matcher_sets.is_empty() || b.matcher_sets.is_empty()
        });
        let own = own.into_iter().map(|route| (route, at)).collect();
        self.errors.extend(wrapped(own, matchers, self.alone, at, is_last, shared));
    }

    /// Adds a route: joins it with the one before if that says the same, else the one before is
    /// complete and can be frozen.
    fn push(&mut self, route: Route, place: Place, shared: &mut AdaptState) {
        let Some((route, place)) = routes::join(self.routes.last_mut(), route, place) else {
            return;
        };
        self.freeze_last(shared);
        self.routes.push((route, place));
    }

    fn freeze_last(&mut self, shared: &mut AdaptState) {
        if let Some((last, _)) = self.routes.last_mut() {
            *last = freeze::route(shared, std::mem::take(last), self.consume);
        }
    }

    /// Puts the routes into the server; gives their places, unless nobody asks for them.
    fn finish(mut self, server: &mut Server, shared: &mut AdaptState) -> Places {
        self.freeze_last(shared);
        let mut places = Places::new();
        if freeze::is_on(shared) {
            server.routes = self.routes.into_iter().map(|(route, _)| route).collect();
            if self.has_errors {
                let routes = self.errors.into_iter().map(|(route, _)| route).collect();
                server.errors = Some(HttpErrorConfig { routes });
            }
            return places;
        }
        let mut list = |routes: Vec<(Route, Place)>, name: &str| -> Vec<Route> {
            let place = |(at, (route, (span, inner))): (usize, (Route, Place))| {
                places.push((format!("{name}.{at}"), span));
                let path =
                    |(inner_at, span)| (format!("{name}.{at}.handle.0.routes.{inner_at}"), span);
                places.extend(inner.into_iter().enumerate().map(path));
                route
            };
            routes.into_iter().enumerate().map(place).collect()
        };
        server.routes = list(self.routes, "routes");
        let errors = list(self.errors, "errors.routes");
        if self.has_errors {
            server.errors = Some(HttpErrorConfig { routes: errors });
        }
        places
    }
}

/// A site's routes: wrapped into one route with the site's matchers, or as they are where the site is
/// alone and matches everything.
fn wrapped(
    own: Vec<(Route, Span)>,
    matchers: Vec<ModuleMap>,
    alone: bool,
    at: Span,
    is_last: bool,
    shared: &mut AdaptState,
) -> Vec<(Route, Place)> {
    if matchers.is_empty() && own.is_empty() {
        return Vec::new();
    }
    // A host matcher inside must not come to the top: its names would get certificates.
    let host_inside = || {
        let mut sets = own.iter().flat_map(|(route, _)| &route.matcher_sets);
        sets.any(|set| set.contains_key("host"))
    };
    if matchers.is_empty() && alone && !host_inside() {
        return own.into_iter().map(|(route, span)| (route, (span, Vec::new()))).collect();
    }
    let (own, spans): (Vec<Route>, Vec<Span>) = own.into_iter().unzip();
    let handle = match own.as_slice() {
        [] => Vec::new(),
        own => freeze::subroute(shared, own, is_last).into_iter().collect(),
    };
    let route = Route { matcher_sets: matchers, handle, terminal: true, ..Route::default() };
    vec![(route, (at, spans))]
}
