//! The seam of the house: what a handler is, and how a chain of them runs.
//!
//! Filters run in a plain loop; only a middleware boxes a future. So a handler that does not need
//! to await the rest of the chain is a `Filter`, with a `ResponseFilter` for its way back.

use std::{future::Future, pin::Pin, sync::Arc};

use crate::{Exchange, Response, Result, Route, RouteList};

/// A future that stays on its worker.
pub type LocalBoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// One compiled handler of a route.
pub enum Handler {
    /// Acts on the request, may answer, never waits.
    Filter(Box<dyn Filter>),
    /// Waits for I/O or for the rest of the chain.
    Middleware(Box<dyn Middleware>),
}

impl Handler {
    /// Boxes a filter.
    pub fn filter(filter: impl Filter) -> Self {
        Self::Filter(Box::new(filter))
    }

    /// Boxes a middleware.
    pub fn middleware(middleware: impl Middleware) -> Self {
        Self::Middleware(Box::new(middleware))
    }
}

/// What a filter decided.
pub enum Flow {
    /// The next handler's turn.
    Continue,
    /// This is the answer.
    Respond(Response),
}

/// A handler that acts and does not wait.
pub trait Filter: Send + Sync + 'static {
    /// Changes the exchange, or answers.
    ///
    /// # Errors
    /// An error ends the chain and goes to the error routes.
    fn apply(&self, ex: &mut Exchange) -> Result<Flow>;
}

/// A handler that waits: for a peer, a file, or the rest of the chain (`next.run(ex)`).
pub trait Middleware: Send + Sync + 'static {
    /// Answers the request, by itself or with what `next` answers.
    fn handle<'a>(
        &'a self,
        ex: &'a mut Exchange,
        next: Next<'a>,
    ) -> LocalBoxFuture<'a, Result<Response>>;

    /// Whether it hands on the answers of `next` without a look at their fields.
    fn passes_answers(&self) -> bool {
        false
    }
}

/// Changes a response on its way out; pushed by a filter with `Exchange::on_response`, run by the
/// engine, last pushed first. Not run on errors.
pub trait ResponseFilter: Send + Sync + 'static {
    /// Changes head or body of the response.
    fn apply(&self, ex: &mut Exchange, response: &mut Response);
}

/// The rest of a chain: handlers left in this route, routes left in this list, and the list around.
#[derive(Clone, Copy)]
pub struct Next<'a> {
    handlers: &'a [Handler],
    routes: &'a [Route],
    outer: Option<&'a Self>,
}

impl<'a> Next<'a> {
    /// A chain through `routes`, then on with `outer`.
    pub fn new(routes: &'a RouteList, outer: Option<&'a Self>) -> Self {
        Next { handlers: &[], routes: &routes.routes, outer }
    }

    /// The chain of a route that matched, and the routes after it unless it is terminal.
    pub fn entered(route: &'a Route, rest: &'a [Route]) -> Self {
        let routes = if route.terminal { &[] } else { rest };
        Next { handlers: &route.handlers, routes, outer: None }
    }

    /// Whether nothing is left to run.
    pub fn is_empty(&self) -> bool {
        self.handlers.is_empty()
            && self.routes.is_empty()
            && self.outer.is_none_or(|outer| outer.is_empty())
    }

    /// Runs the chain to its answer. Where nobody answers: an empty 200 (or the status of the
    /// error that is being handled), marked as unhandled for the log.
    ///
    /// # Errors
    /// The first error of a handler or matcher.
    pub async fn run(self, ex: &'a mut Exchange) -> Result {
        let mut level = self;
        loop {
            while let Some((first, rest)) = level.handlers.split_first() {
                level.handlers = rest;
                match first {
                    Handler::Filter(filter) => match filter.apply(ex)? {
                        Flow::Continue => {}
                        Flow::Respond(response) => return Ok(response),
                    },
                    Handler::Middleware(middleware) => {
                        ex.may_pass &= middleware.passes_answers();
                        return middleware.handle(ex, level).await;
                    }
                }
            }
            if let Some((route, rest)) = level.routes.split_first() {
                level.routes = rest;
                if route.matches(ex).await? {
                    level.handlers = &route.handlers;
                    if route.terminal {
                        // As in Caddy, nothing after it runs, not even in the lists around.
                        level.routes = &[];
                        level.outer = None;
                    }
                }
                continue;
            }
            match level.outer {
                Some(outer) => level = *outer,
                None => return Ok(ex.unhandled()),
            }
        }
    }
}

/// Lets handlers share one response filter object between requests.
pub type SharedResponseFilter = Arc<dyn ResponseFilter>;
