//! Configs that are checked one after the other.

use std::sync::Arc;

use caddis_config::Config;
use caddis_core::{Registry, State, metrics::Metrics};

use crate::faults;

/// Tells whether configs would run, as far as that can be seen without sockets. What they lease, such as
/// the system's authorities, is read once for all of them.
pub struct Checker<'a> {
    registry: &'a Registry,
    state: State,
    metrics: Arc<Metrics>,
}

impl<'a> Checker<'a> {
    /// For configs of these modules.
    pub fn new(registry: &'a Registry) -> Self {
        Self { registry, state: State::default(), metrics: Arc::default() }
    }

    /// Whether a config has no mistake; without `files`, certificates and the like are not read.
    pub fn accepts(&self, config: Config, files: bool) -> bool {
        let admin = caddis_plan::DEFAULT_ADMIN;
        let plan = caddis_plan::compile(config, self.registry, &self.state, &self.metrics, admin);
        plan.is_ok_and(|plan| !files || faults::validate(&plan).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use caddis_core::Registry;
    use serde_json::json;

    use super::Checker;

    #[test]
    fn mistakes_are_seen() {
        let registry = Registry {
            directives: Vec::new(),
            handlers: Vec::new(),
            matchers: Vec::new(),
            other_ids: Vec::new(),
            parse_routes: |_| Ok(Vec::new()),
        };
        let checker = Checker::new(&registry);
        let config = |json| serde_json::from_value(json).unwrap();
        assert!(checker.accepts(config(json!({})), true));
        let pair = json!([{"certificate": "/none/cert.pem", "key": "/none/key.pem"}]);
        let tls = json!({"apps": {"tls": {"certificates": {"load_files": pair}}}});
        assert!(checker.accepts(config(tls.clone()), false));
        assert!(!checker.accepts(config(tls), true));
        let routes = json!([{"handle": [{"handler": "none"}]}]);
        let server = json!({"listen": [":1"], "routes": routes});
        let http = json!({"apps": {"http": {"servers": {"a": server}}}});
        assert!(!checker.accepts(config(http), false));
    }
}
