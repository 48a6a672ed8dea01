//! Which failures may be tried again, and until when.

use caddis_core::{Exchange, Result};
use caddis_wire::Headers;
use http::Method;

use super::{
    attempt::Problem,
    handler::{ReverseProxy, Run},
};
use crate::transport::Failure;

impl ReverseProxy {
    /// Whether there is another try; waits for the interval between tries.
    pub(super) async fn may_try_again(
        &self,
        ex: &mut Exchange,
        run: &mut Run,
        problem: &Problem,
        retries: u32,
    ) -> bool {
        let lb = &self.lb;
        if lb.retries == 0 && lb.try_duration.is_none() {
            return false;
        }
        if lb.try_duration.is_some_and(|limit| run.start.elapsed() >= limit) {
            return false;
        }
        if lb.retries > 0 && retries >= lb.retries {
            return false;
        }
        if !run.prepared.body.is_whole() || !self.is_retryable(ex, run, problem) {
            return false;
        }
        // A reload does not cut this short as it does in Caddy: no request is lost to one. The
        // limits above end it.
        if !lb.try_interval.is_zero() {
            tokio::time::sleep(lb.try_interval).await;
        }
        true
    }

    fn is_retryable(&self, ex: &mut Exchange, run: &mut Run, problem: &Problem) -> bool {
        match problem {
            Problem::NoUpstream | Problem::Unwanted(_) | Problem::Failed(Failure::Dial(_)) => true,
            Problem::Final(_) | Problem::Failed(Failure::RequestBody(_) | Failure::Request(_)) => {
                false
            }
            Problem::Failed(Failure::Transport(_) | Failure::Timeout(_)) => {
                if self.lb.retry_match.is_empty() {
                    return run.prepared.method == Method::GET;
                }
                run.info.set_transport_error(true);
                let matches = self.matches(ex, run, |_| true);
                run.info.set_transport_error(false);
                matches.unwrap_or_else(|error| {
                    tracing::error!(
                        target: "http.handlers.reverse_proxy",
                        %error,
                        "error matching request for retry"
                    );
                    false
                })
            }
        }
    }

    /// Whether an answer is one that `lb_retry_match` wants to be tried again.
    pub(super) fn is_unwanted(&self, ex: &mut Exchange, run: &mut Run) -> bool {
        if !self.lb.has_expression {
            return false;
        }
        self.matches(ex, run, |has_expression| has_expression).unwrap_or_else(|error| {
            tracing::error!(
                target: "http.handlers.reverse_proxy",
                %error,
                "error matching request for retry"
            );
            false
        })
    }

    /// Whether a matcher set matches the request as it went to the upstream.
    fn matches(
        &self,
        ex: &mut Exchange,
        run: &mut Run,
        wanted: impl Fn(bool) -> bool,
    ) -> Result<bool> {
        let own = swap(ex, run);
        let mut result = Ok(false);
        for (set, _) in self.lb.retry_match.iter().filter(|(_, has)| wanted(*has)) {
            result = set.matches(ex);
            if !matches!(result, Ok(false)) {
                break;
            }
        }
        restore(ex, run, own);
        result
    }
}

/// What was the client's own.
struct Own {
    method: Method,
    target: caddis_core::Target,
    headers: Option<Headers>,
}

/// Puts the prepared request in the place of the client's.
fn swap(ex: &mut Exchange, run: &mut Run) -> Own {
    let method = std::mem::replace(&mut ex.request.method, run.prepared.method.clone());
    let prepared = caddis_core::Target::parse(run.prepared.uri.clone()).unwrap_or_default();
    let target = std::mem::replace(&mut ex.request.target, prepared);
    let headers = run
        .prepared
        .headers
        .take()
        .map(|headers| std::mem::replace(&mut ex.request.headers, headers.into()));
    Own { method, target, headers }
}

fn restore(ex: &mut Exchange, run: &mut Run, own: Own) {
    ex.request.method = own.method;
    ex.request.target = own.target;
    if let Some(headers) = own.headers {
        let prepared = std::mem::replace(&mut ex.request.headers, headers);
        run.prepared.headers = Some(prepared.into_map());
    }
}
