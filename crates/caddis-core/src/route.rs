//! Routes: matcher sets, handlers, group, terminal.

use crate::{Exchange, Handler, MatcherSets, Result};

/// One compiled route.
#[derive(Default)]
pub struct Route {
    /// When it applies.
    pub matchers: MatcherSets,
    /// What it does, in order.
    pub handlers: Vec<Handler>,
    /// Whether no later route of the list runs after it matched.
    pub terminal: bool,
    /// Of the routes of one group only the first that matches runs. Numbered by `CompileCx::group`.
    pub group: Option<u32>,
}

impl Route {
    /// Whether the route applies; enters its group if so. Waits where a matcher has to.
    ///
    /// # Errors
    /// A matcher's error.
    pub async fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        if let Some(group) = self.group
            && ex.groups.contains(&group)
        {
            return Ok(false);
        }
        if !self.matchers.matches_when_known(ex).await? {
            return Ok(false);
        }
        if let Some(group) = self.group {
            ex.groups.push(group);
        }
        Ok(true)
    }
}

/// Compiled routes in order.
#[derive(Default)]
pub struct RouteList {
    /// The routes.
    pub routes: Vec<Route>,
}
