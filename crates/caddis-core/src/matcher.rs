//! Request matchers: a set is AND, sets are OR, no set at all matches.

use crate::{Exchange, Result};

/// One property of the request.
pub trait Matcher: Send + Sync + 'static {
    /// Whether the request has the property. May leave values (captures) in the exchange.
    ///
    /// # Errors
    /// A matcher's error ends the chain and goes to the error routes.
    fn matches(&self, ex: &mut Exchange) -> Result<bool>;
}

/// Matchers that must all match.
#[derive(Default)]
pub struct MatcherSet(pub Vec<Box<dyn Matcher>>);

impl MatcherSet {
    /// Whether every matcher matches; true for none.
    ///
    /// # Errors
    /// The first error of a matcher.
    pub fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        for matcher in &self.0 {
            if !matcher.matches(ex)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Sets of which one must match.
#[derive(Default)]
pub struct MatcherSets(pub Vec<MatcherSet>);

impl MatcherSets {
    /// Whether a set matches; true where there is none.
    ///
    /// # Errors
    /// The first error of a matcher.
    pub fn matches(&self, ex: &mut Exchange) -> Result<bool> {
        if self.0.is_empty() {
            return Ok(true);
        }
        for set in &self.0 {
            if set.matches(ex)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
