//! The standard modules as one value, built by the program and passed down.

use caddis_caddyfile::Result as ParseResult;

use crate::{Directive, HandlerModule, Helper, MatcherModule, module::short_name};

/// Whether a module's id ends in this short name; most ids are told apart by their ends.
fn is_named(id: &str, name: &str) -> bool {
    id.ends_with(name) && short_name(id) == name
}

/// Every module that is compiled in.
#[derive(Clone)]
pub struct Registry {
    /// Directives; ordered ones first, in Caddy's default order.
    pub directives: Vec<&'static Directive>,
    /// `http.handlers.*`.
    pub handlers: Vec<&'static HandlerModule>,
    /// `http.matchers.*`.
    pub matchers: Vec<&'static MatcherModule>,
    /// Ids of all other modules, for `list-modules`.
    pub other_ids: Vec<&'static str>,
    /// Parses the block at the dispenser's cursor as routes (given by the adapter): the body of
    /// `handle`, `route`, `handle_response`, and the like.
    pub parse_routes: fn(&mut Helper<'_>) -> ParseResult<Vec<caddis_config::Route>>,
}

impl Registry {
    /// The handler module of this short name.
    pub fn handler(&self, name: &str) -> Option<&'static HandlerModule> {
        self.handlers.iter().copied().find(|module| is_named(module.id, name))
    }

    /// The matcher module of this short name.
    pub fn matcher(&self, name: &str) -> Option<&'static MatcherModule> {
        self.matchers.iter().copied().find(|module| is_named(module.id, name))
    }

    /// The directive of this name.
    pub fn directive(&self, name: &str) -> Option<&'static Directive> {
        self.directives.iter().copied().find(|directive| directive.name == name)
    }

    /// All module ids, sorted.
    pub fn module_ids(&self) -> Vec<&'static str> {
        let mut ids: Vec<_> = self
            .handlers
            .iter()
            .map(|module| module.id)
            .chain(self.matchers.iter().map(|module| module.id))
            .chain(self.other_ids.iter().copied())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}
