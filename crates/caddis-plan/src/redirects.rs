//! HTTP → HTTPS redirects as routes (spec T112–T117).

use std::collections::{BTreeMap, BTreeSet};

use caddis_config::{HttpApp, NetworkAddress, Route, Server};
use serde_json::json;

/// The name of the server made for redirects where no server listens on the HTTP port.
const SERVER: &str = "remaining_auto_https_redirects";

/// What is to be redirected: names and the address their HTTPS server listens on.
#[derive(Default)]
pub(crate) struct Redirects {
    /// HTTPS listener address → names; an empty name is every host.
    wanted: Vec<(NetworkAddress, BTreeSet<String>)>,
    logs: Option<caddis_config::ServerLogConfig>,
}

impl Redirects {
    pub(crate) fn add(&mut self, listen: NetworkAddress, names: BTreeSet<String>, server: &Server) {
        self.wanted.push((listen, names));
        if self.logs.is_none() {
            self.logs.clone_from(&server.logs);
        }
    }

    /// Adds the routes to the servers on the HTTP port, or a server for them.
    pub(crate) fn install(self, app: &mut HttpApp, http_port: u16, https_port: u16) {
        let mut by_listener: BTreeMap<String, BTreeMap<u16, BTreeSet<String>>> = BTreeMap::new();
        let mut taken: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut wanted = self.wanted;
        // The standard port wins where a name is served on several.
        wanted.sort_by_key(|(listen, _)| listen.start_port != https_port);
        for (listen, names) in wanted {
            let redirect =
                NetworkAddress { start_port: http_port, end_port: http_port, ..listen.clone() };
            let key = redirect.to_string();
            for name in names {
                if taken.entry(key.clone()).or_default().insert(name.clone()) {
                    by_listener
                        .entry(key.clone())
                        .or_default()
                        .entry(listen.start_port)
                        .or_default()
                        .insert(name);
                }
            }
        }
        let mut leftover: BTreeMap<String, Vec<Route>> = BTreeMap::new();
        for (listener, ports) in by_listener {
            let routes = routes(&ports, https_port);
            match server_on(app, &listener) {
                Some(server) => insert(server, routes, &ports, https_port),
                None => {
                    let mut routes = routes;
                    routes.push(catch_all(&ports, https_port));
                    leftover.insert(listener, routes);
                }
            }
        }
        add_server(app, leftover, self.logs);
    }
}

fn add_server(
    app: &mut HttpApp,
    leftover: BTreeMap<String, Vec<Route>>,
    logs: Option<caddis_config::ServerLogConfig>,
) {
    let mut listeners: Vec<String> = Vec::new();
    let mut all: Vec<Route> = Vec::new();
    for (listener, routes) in leftover {
        listeners.push(listener);
        for route in routes {
            if !all.contains(&route) {
                all.push(route);
            }
        }
    }
    if listeners.is_empty() {
        return;
    }
    // Routes for any host come after those for named ones.
    all.sort_by_key(|route| !route.matcher_sets.iter().any(|set| set.contains_key("host")));
    let server = Server { listen: listeners, routes: all, logs, ..Server::default() };
    app.servers.insert(SERVER.to_owned(), server);
}

/// Routes for names: longer names first, wildcards after plain names.
fn routes(ports: &BTreeMap<u16, BTreeSet<String>>, https_port: u16) -> Vec<Route> {
    let mut routes = Vec::new();
    for (port, names) in ports {
        let mut names: Vec<&String> = names.iter().filter(|name| !name.is_empty()).collect();
        names.sort_by_key(|name| (name.contains('*'), std::cmp::Reverse(name.len())));
        if !names.is_empty() {
            routes.push(redirect(Some(json!(names)), *port, https_port));
        }
    }
    routes
}

fn catch_all(ports: &BTreeMap<u16, BTreeSet<String>>, https_port: u16) -> Route {
    let port =
        ports.iter().find(|(_, names)| names.contains("")).map_or(https_port, |(port, _)| *port);
    redirect(None, port, https_port)
}

fn redirect(hosts: Option<serde_json::Value>, port: u16, https_port: u16) -> Route {
    let mut location = "https://{http.request.host}".to_owned();
    if port != https_port && port != 443 {
        location.push_str(&format!(":{port}"));
    }
    location.push_str("{http.request.uri}");
    let mut set = BTreeMap::from([("protocol".to_owned(), json!("http"))]);
    if let Some(hosts) = hosts {
        set.insert("host".to_owned(), hosts);
    }
    Route {
        matcher_sets: vec![set],
        handle: vec![json!({
            "handler": "static_response",
            "status_code": "308",
            "headers": { "Location": [location], "Connection": ["close"] },
            "close": true,
        })],
        ..Route::default()
    }
}

fn server_on<'a>(app: &'a mut HttpApp, listener: &str) -> Option<&'a mut Server> {
    app.servers.values_mut().find(|server| {
        server.listen.iter().any(|text| {
            NetworkAddress::parse(text)
                .is_ok_and(|address| address.expand().iter().any(|one| one.to_string() == listener))
        })
    })
}

/// Puts redirects after the last route with a host matcher, and one for all hosts at the end.
fn insert(
    server: &mut Server,
    routes: Vec<Route>,
    ports: &BTreeMap<u16, BTreeSet<String>>,
    https_port: u16,
) {
    let has_host = |route: &Route| route.matcher_sets.iter().any(|set| set.contains_key("host"));
    let at = server.routes.iter().rposition(has_host).map_or(0, |at| at + 1);
    for (offset, route) in routes.into_iter().enumerate() {
        server.routes.insert(at + offset, route);
    }
    server.routes.push(catch_all(ports, https_port));
}
