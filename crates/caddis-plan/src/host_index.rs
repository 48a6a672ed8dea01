//! Which top-level routes a host can reach, without asking each of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use caddis_config::ConfigError;
use caddis_core::{CompileCx, Exchange, Next, Response, Result as Answer, RouteList};

/// The routes of a server with an index over their host matchers.
///
/// A route whose every matcher set names only literal hosts is a candidate for these hosts alone;
/// all others are candidates for every host. The order of the routes stays.
#[derive(Default)]
pub struct SiteRoutes {
    list: RouteList,
    exact: HashMap<Box<str>, Hosted>,
    any: Box<[u32]>,
    /// Hosts of routes that are no candidate by host alone, for metrics.
    others: HashSet<Box<str>>,
    /// The first handler of each route, for metrics.
    handlers: Box<[Arc<str>]>,
}

impl SiteRoutes {
    /// Compiles routes one by one and indexes them by the config they come from.
    ///
    /// # Errors
    /// The first mistake, with its path below the list.
    pub fn compile(
        routes: Vec<caddis_config::Route>,
        cx: &mut CompileCx<'_>,
    ) -> Result<Self, ConfigError> {
        let mut exact: HashMap<Box<str>, Hosted> = HashMap::new();
        let mut any = Vec::new();
        let mut others = HashSet::new();
        // Few names for many routes.
        let mut names: HashSet<Arc<str>> = HashSet::new();
        let mut handlers = Vec::with_capacity(routes.len());
        let mut at = 0;
        let list = cx.own_routes(routes, |route| {
            match literal_hosts(route) {
                Some(hosts) => {
                    for host in hosts {
                        exact.entry(host.to_lowercase().into()).or_default().push(at);
                    }
                }
                None => {
                    others.extend(named_hosts(route));
                    any.push(at);
                }
            }
            let first = route.handle.first();
            let name = first.and_then(|handler| handler.get("handler")?.as_str());
            let name = name.unwrap_or_default();
            let shared = names.get(name).cloned().unwrap_or_else(|| {
                let shared: Arc<str> = name.into();
                names.insert(Arc::clone(&shared));
                shared
            });
            handlers.push(shared);
            at += 1;
        })?;
        exact.shrink_to_fit();
        Ok(Self { list, exact, any: any.into(), others, handlers: handlers.into() })
    }

    /// Runs the chain for a request.
    ///
    /// # Errors
    /// The first error of a handler or matcher.
    pub async fn run(&self, ex: &mut Exchange) -> Answer<Response> {
        let hosted: &[u32] = if self.exact.is_empty() { &[] } else { self.for_host(ex.host()) };
        let mut merged = Merge { left: hosted, right: &self.any };
        while let Some(at) = merged.pop() {
            let Some(route) = self.list.routes.get(at as usize) else { continue };
            if route.matches(ex).await? {
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
        found.map_or(&[], Hosted::as_slice)
    }

    /// The name of the first handler of the first route that a host can reach; empty where there is
    /// none. What becomes of a request is not known before it is routed.
    pub fn handler_for(&self, host: &str) -> &str {
        let mut merged = Merge { left: self.for_host(host), right: &self.any };
        let place = merged.pop().and_then(|at| self.handlers.get(at as usize));
        place.map_or("", |name| name)
    }

    /// The name of the first handler of the route that a request took; empty where it took none.
    pub fn handler_of(&self, ex: &Exchange) -> &str {
        let place = ex.top_route.and_then(|at| self.handlers.get(at as usize));
        place.map_or("", |name| name)
    }

    /// Whether a top-level route names this host, literally or with a wildcard for its first label.
    pub fn names_host(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let wildcard = || host.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        self.exact.contains_key(host.as_str())
            || (!self.others.is_empty()
                && (self.others.contains(host.as_str())
                    || wildcard().is_some_and(|name| self.others.contains(name.as_str()))))
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

/// The routes of one host, ascending; nearly always one.
enum Hosted {
    One([u32; 1]),
    More(Vec<u32>),
}

impl Default for Hosted {
    fn default() -> Self {
        Self::More(Vec::new())
    }
}

impl Hosted {
    fn push(&mut self, at: u32) {
        match self {
            Self::More(routes) if routes.is_empty() => *self = Self::One([at]),
            _ if self.as_slice().last() == Some(&at) => {}
            Self::One([first]) => *self = Self::More(vec![*first, at]),
            Self::More(routes) => routes.push(at),
        }
    }

    fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(one) => one,
            Self::More(routes) => routes,
        }
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

/// The hosts that a route names, whatever else it asks for.
fn named_hosts(route: &caddis_config::Route) -> impl Iterator<Item = Box<str>> {
    let sets = route.matcher_sets.iter();
    let lists = sets.filter_map(|set| set.get("host")?.as_array());
    lists.flatten().filter_map(|host| host.as_str()).map(|host| host.to_lowercase().into())
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
