//! What a module's `compile` function works with: decoding with JSON path, nested modules and
//! routes, leases of shared state, tasks. Nothing here opens, spawns or reads a clock.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, OnceLock},
};

use caddis_config::ConfigError;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use crate::{
    Exchange, Filter, Flow, Handler, Matcher, MatcherSet, MatcherSets, Registry, Route, RouteList,
    State, Task, metrics::Metrics,
};

/// The context of one compilation.
pub struct CompileCx<'a> {
    /// The modules.
    pub registry: &'a Registry,
    /// What outlives plans.
    pub state: &'a State,
    /// The process' metrics.
    pub metrics: Arc<Metrics>,
    /// Background work that commit is to start.
    pub tasks: Vec<Task>,
    /// Things worth a word in the log, though the config is valid.
    pub warnings: Vec<String>,
    certificates: RefCell<BTreeSet<String>>,
    /// Named routes of the server being compiled, filled when all are compiled.
    pub named_routes: HashMap<String, Arc<OnceLock<RouteList>>>,
    /// The name of the server being compiled (`srv0`).
    pub server: String,
    /// Whether a handler of the server being compiled asks the server itself (`httpInclude`), so
    /// that its requests are to know it.
    pub asks_own_server: bool,
    /// Told of each handler of the server being compiled when it is invoked: the module's name, and
    /// its settings as JSON text.
    pub trace: Option<fn(&str, &str)>,
    groups: HashMap<String, u32>,
    next_group: u32,
    depth: usize,
}

/// Routes nested deeper than this are refused: the chain runs on the stack.
const MAX_DEPTH: usize = 100;

impl<'a> CompileCx<'a> {
    /// A context over these modules and this state.
    pub fn new(registry: &'a Registry, state: &'a State, metrics: Arc<Metrics>) -> Self {
        Self {
            registry,
            state,
            metrics,
            tasks: Vec::new(),
            warnings: Vec::new(),
            certificates: RefCell::default(),
            named_routes: HashMap::new(),
            server: String::new(),
            asks_own_server: false,
            trace: None,
            groups: HashMap::new(),
            next_group: 0,
            depth: 0,
        }
    }

    /// Asks for a certificate of this name to be had and kept; it is found in
    /// [`ClientCertificates`](crate::client_certificates::ClientCertificates).
    pub fn manage_certificate(&self, name: &str) {
        self.certificates.borrow_mut().insert(name.to_owned());
    }

    /// The names that were asked for.
    pub fn take_certificates(&self) -> BTreeSet<String> {
        self.certificates.take()
    }

    /// Decodes a module's JSON strictly, its inline key (`handler`, `policy`, …) taken off.
    ///
    /// # Errors
    /// An unknown field, a wrong type; the path is relative to the module.
    pub fn decode<C: DeserializeOwned>(
        &self,
        json: &Json,
        inline_key: &str,
    ) -> Result<C, ConfigError> {
        caddis_config::decode_without(json, inline_key)
    }

    /// Compiles one handler object.
    ///
    /// # Errors
    /// An unknown module, or what the module finds.
    pub fn handler(&mut self, json: &Json) -> Result<Handler, ConfigError> {
        let name = json.get("handler").and_then(Json::as_str).unwrap_or_default();
        let module = self
            .registry
            .handler(name)
            .ok_or_else(|| unknown_module("http.handlers", name, "handler"))?;
        (module.compile)(json, self)
    }

    /// Compiles one matcher by name.
    ///
    /// # Errors
    /// An unknown module, or what the module finds.
    pub fn matcher(&mut self, name: &str, json: &Json) -> Result<Box<dyn Matcher>, ConfigError> {
        let module = self
            .registry
            .matcher(name)
            .ok_or_else(|| unknown_module("http.matchers", name, name))?;
        (module.compile)(json, self).map_err(|error| error.under(name))
    }

    /// Compiles matcher sets (`match`).
    ///
    /// # Errors
    /// The first error of a matcher.
    pub fn matcher_sets(
        &mut self,
        sets: &[BTreeMap<String, Json>],
    ) -> Result<MatcherSets, ConfigError> {
        let mut compiled = Vec::with_capacity(sets.len());
        for (at, set) in sets.iter().enumerate() {
            let matchers = set
                .iter()
                .map(|(name, json)| self.matcher(name, json))
                .collect::<Result<_, _>>()
                .map_err(|error| error.under(at.to_string()))?;
            compiled.push(MatcherSet(matchers));
        }
        Ok(MatcherSets(compiled))
    }

    /// Compiles a list of routes. A group is the same in all lists of a server, as in Caddy, where a
    /// request remembers those that it entered by their names.
    ///
    /// # Errors
    /// The first error, with its path below `routes`.
    pub fn routes(&mut self, routes: &[caddis_config::Route]) -> Result<RouteList, ConfigError> {
        if self.depth == MAX_DEPTH {
            return Err(ConfigError::new("", "routes are nested too deeply"));
        }
        self.depth += 1;
        let compiled = routes
            .iter()
            .enumerate()
            .map(|(at, route)| self.route(route).map_err(|error| error.under(at.to_string())))
            .collect::<Result<_, _>>();
        self.depth -= 1;
        Ok(RouteList { routes: compiled? })
    }

    /// [`routes`](Self::routes) of a list that is used up, each shown to `see` before it is compiled
    /// and gone afterwards.
    ///
    /// # Errors
    /// As [`routes`](Self::routes).
    pub fn own_routes(
        &mut self,
        routes: Vec<caddis_config::Route>,
        mut see: impl FnMut(&caddis_config::Route),
    ) -> Result<RouteList, ConfigError> {
        if self.depth == MAX_DEPTH {
            return Err(ConfigError::new("", "routes are nested too deeply"));
        }
        self.depth += 1;
        let mut compiled = Vec::with_capacity(routes.len());
        let mut mistake = None;
        for (at, route) in routes.into_iter().enumerate() {
            see(&route);
            match self.route(&route) {
                Ok(route) => compiled.push(route),
                Err(error) => {
                    mistake = Some(error.under(at.to_string()));
                    break;
                }
            }
        }
        self.depth -= 1;
        mistake.map_or(Ok(RouteList { routes: compiled }), Err)
    }

    /// Compiles one route.
    ///
    /// # Errors
    /// The first error, with its path below the route.
    pub fn route(&mut self, route: &caddis_config::Route) -> Result<Route, ConfigError> {
        let matchers =
            self.matcher_sets(&route.matcher_sets).map_err(|error| error.under("match"))?;
        let mut handlers = Vec::with_capacity(route.handle.len());
        for (at, json) in route.handle.iter().enumerate() {
            let handler =
                self.handler(json).map_err(|error| error.under(at.to_string()).under("handle"))?;
            if let Some(tell) = self.trace {
                handlers.push(Handler::filter(Traced::new(json, tell)));
            }
            handlers.push(handler);
        }
        let group = (!route.group.is_empty()).then(|| self.group(&route.group));
        Ok(Route { matchers, handlers, terminal: route.terminal, group })
    }

    /// The number of a group name.
    pub fn group(&mut self, name: &str) -> u32 {
        if let Some(group) = self.groups.get(name) {
            return *group;
        }
        let group = self.next_group;
        self.next_group = self.next_group.saturating_add(1);
        self.groups.insert(name.to_owned(), group);
        group
    }

    /// Forgets group numbers and named routes: a new server begins.
    pub fn begin_server(&mut self, name: &str) {
        name.clone_into(&mut self.server);
        self.groups.clear();
        self.next_group = 0;
        self.named_routes.clear();
        self.asks_own_server = false;
        self.trace = None;
    }
}

/// Tells that the handler after it is invoked.
struct Traced {
    name: String,
    settings: String,
    tell: fn(&str, &str),
}

impl Traced {
    fn new(json: &Json, tell: fn(&str, &str)) -> Self {
        let mut settings = json.clone();
        let mut name = String::new();
        if let Some(object) = settings.as_object_mut() {
            if let Some(Json::String(handler)) = object.remove("handler") {
                name = handler;
            }
            // Handlers further inside tell of themselves.
            if let Some(Json::Array(routes)) = object.get_mut("routes") {
                let objects = routes.iter_mut().filter_map(Json::as_object_mut);
                objects
                    .for_each(|route| route.retain(|key, _| key == "group" || key == "terminal"));
            }
        }
        Self { name, settings: settings.to_string(), tell }
    }
}

impl Filter for Traced {
    fn apply(&self, _: &mut Exchange) -> crate::Result<Flow> {
        (self.tell)(&self.name, &self.settings);
        Ok(Flow::Continue)
    }
}

/// The error for a module that is not compiled in.
pub fn unknown_module(namespace: &str, name: &str, path: &str) -> ConfigError {
    ConfigError::new(path, format!("unknown module: {namespace}.{name}"))
}
