//! `method`: the request's method.
//!
//! ```text
//! method <verbs...>
//! ```
//!
//! JSON: a list of verbs, compared as they are.

use caddis_config::ConfigError;
use caddis_core::{CompileCx, Exchange, Matcher, MatcherModule, Result};
use serde_json::Value as Json;

use super::{list_of_args, list_shape};

/// `http.matchers.method`.
pub static MODULE: MatcherModule =
    MatcherModule { id: "http.matchers.method", parse: |d| list_of_args(d, "method"), compile };

struct Method(Vec<String>);

fn compile(
    json: &Json,
    _: &mut CompileCx<'_>,
) -> std::result::Result<Box<dyn Matcher>, ConfigError> {
    Ok(Box::new(Method(list_shape(json)?)))
}

impl Matcher for Method {
    fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        Ok(self.0.iter().any(|verb| verb == ex.request.method.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::matches;
    use super::*;

    #[test]
    fn compares_verbs() {
        assert!(matches(&MODULE, "method POST GET", "/"));
        assert!(matches(&MODULE, "method POST\nmethod GET", "/"));
        assert!(!matches(&MODULE, "method get", "/"));
    }
}
