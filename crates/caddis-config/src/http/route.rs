//! Routes.

use serde_json::Value;

use crate::module::ModuleMap;

/// Routes, in order.
pub type RouteList = Vec<Route>;

envelope! {
    /// Matchers and what to do when one set of them matches.
    pub struct Route {
        /// Of the routes in one group, only the first that matches runs.
        pub group: String,
        /// Matcher sets: any set, all in a set; always if empty.
        #[serde(rename = "match")]
        pub matcher_sets: Vec<ModuleMap>,
        /// Handlers, key `handler`; the first is the outermost.
        pub handle: Vec<Value>,
        /// No route after this one.
        pub terminal: bool,
    }
}
