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
                None => any.push(at),
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
        Ok(Self { list, exact, any: any.into(), handlers: handlers.into() })
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
        found.map_or(&[], Hosted::as_slice)
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
