//! Which top-level routes a host can reach, without asking each of them.

use std::collections::HashMap;

use caddis_core::{Exchange, Next, Response, Result, RouteList};

/// The routes of a server with an index over their host matchers.
///
/// A route whose every matcher set names only literal hosts is a candidate for these hosts alone;
/// all others are candidates for every host. The order of the routes stays.
#[derive(Default)]
pub struct SiteRoutes {
    list: RouteList,
    exact: HashMap<Box<str>, Box<[u32]>>,
    any: Box<[u32]>,
    /// The first handler of each route, for metrics.
    handlers: Box<[Box<str>]>,
}

impl SiteRoutes {
    /// Indexes compiled routes by the config they came from.
    pub fn new(list: RouteList, config: &[caddis_config::Route]) -> Self {
        let mut exact: HashMap<Box<str>, Vec<u32>> = HashMap::new();
        let mut any = Vec::new();
        for (at, route) in (0..).zip(config) {
            match literal_hosts(route) {
                Some(hosts) => {
                    for host in hosts {
                        let routes = exact.entry(host.to_lowercase().into()).or_default();
                        if routes.last() != Some(&at) {
                            routes.push(at);
                        }
                    }
                }
                None => any.push(at),
            }
        }
        let exact = exact.into_iter().map(|(host, routes)| (host, routes.into())).collect();
        let first_handler = |route: &caddis_config::Route| {
            let name = route.handle.first().and_then(|handler| handler.get("handler")?.as_str());
            name.unwrap_or_default().into()
        };
        let handlers = config.iter().map(first_handler).collect();
        Self { list, exact, any: any.into(), handlers }
    }

    /// Runs the chain for a request.
    ///
    /// # Errors
    /// The first error of a handler or matcher.
    pub async fn run(&self, ex: &mut Exchange) -> Result<Response> {
        let hosted: &[u32] = if self.exact.is_empty() { &[] } else { self.for_host(ex.host()) };
        let mut merged = Merge { left: hosted, right: &self.any };
        while let Some(at) = merged.pop() {
            let Some(route) = self.list.routes.get(at as usize) else { continue };
            if route.matches(ex)? {
                ex.top_route = Some(at);
                let rest = &self.list.routes[at as usize + 1..];
                return Next::entered(route, rest).run(ex).await;
            }
        }
        Ok(ex.unhandled())
    }

    fn for_host(&self, host: &str) -> &[u32] {
        let found = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            self.exact.get(host.to_ascii_lowercase().as_str())
        } else {
            self.exact.get(host)
        };
        found.map_or(&[], |routes| routes)
    }

    /// The name of the first handler of the route that a request took; empty where it took none.
    pub fn handler_of(&self, ex: &Exchange) -> &str {
        let place = ex.top_route.and_then(|at| self.handlers.get(at as usize));
        place.map_or("", |name| name)
    }

    /// The number of top-level routes.
    pub fn len(&self) -> usize {
        self.list.routes.len()
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.list.routes.is_empty()
    }
}

/// Two ascending lists as one.
struct Merge<'a> {
    left: &'a [u32],
    right: &'a [u32],
}

impl Merge<'_> {
    fn pop(&mut self) -> Option<u32> {
        let side = match (self.left.first(), self.right.first()) {
            (Some(left), Some(right)) if left <= right => &mut self.left,
            (Some(_), None) => &mut self.left,
            _ => &mut self.right,
        };
        let (first, rest) = side.split_first()?;
        *side = rest;
        Some(*first)
    }
}

/// The hosts of a route, where every set has a host matcher with literal names only.
fn literal_hosts(route: &caddis_config::Route) -> Option<Vec<&str>> {
    if route.matcher_sets.is_empty() {
        return None;
    }
    let mut all = Vec::new();
    for set in &route.matcher_sets {
        for host in set.get("host")?.as_array()? {
            let host = host.as_str()?;
            if !host.is_ascii() || host.contains(['*', '{', '[', ']']) {
                return None;
            }
            all.push(host);
        }
    }
    Some(all)
}
