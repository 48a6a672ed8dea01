//! Routes within a route (`subroute`), with error routes of their own.
//!
//! JSON: `{"handler": "subroute", "routes": […], "errors": {"routes": […]}}`.

use caddis_config::{ConfigError, HttpErrorConfig, Route};
use caddis_core::{
    CompileCx, ErrorKind, Exchange, Handler, HandlerModule, HttpError, LocalBoxFuture, Middleware,
    Next, Response, Result as HttpResult, RouteList,
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// `http.handlers.subroute`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.subroute", compile };

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The routes.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// What handles their errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<HttpErrorConfig>,
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let config: Config = cx.decode(json, "handler")?;
    let routes = cx.routes(&config.routes).map_err(|error| error.under("routes"))?;
    let Some(errors) = &config.errors else {
        return Ok(Handler::middleware(Subroute { routes }));
    };
    let errors = cx.routes(&errors.routes).map_err(|error| error.under("errors.routes"))?;
    Ok(Handler::middleware(WithErrors { routes, errors }))
}

struct Subroute {
    routes: RouteList,
}

impl Middleware for Subroute {
    fn handle<'a>(
        &'a self,
        ex: &'a mut Exchange,
        next: Next<'a>,
    ) -> LocalBoxFuture<'a, HttpResult<Response>> {
        Box::pin(async move { Next::new(&self.routes, Some(&next)).run(ex).await })
    }

    fn passes_answers(&self) -> bool {
        true
    }
}

struct WithErrors {
    routes: RouteList,
    errors: RouteList,
}

impl Middleware for WithErrors {
    fn handle<'a>(
        &'a self,
        ex: &'a mut Exchange,
        next: Next<'a>,
    ) -> LocalBoxFuture<'a, HttpResult<Response>> {
        Box::pin(async move {
            let outer_filters = ex.response_filters.len();
            match Next::new(&self.routes, Some(&next)).run(ex).await {
                Err(error) if error.kind == ErrorKind::Handler => {
                    enter_here(ex, &error, outer_filters);
                    Next::new(&self.errors, Some(&next)).run(ex).await
                }
                done => done,
            }
        })
    }
}

/// Enters error handling below a route: unlike at the server's own error routes, rewrites so far
/// and the response filters of the handlers around stay.
fn enter_here(ex: &mut Exchange, error: &HttpError, outer_filters: usize) {
    let method = std::mem::take(&mut ex.request.method);
    let target = std::mem::take(&mut ex.request.target);
    let mut filters = std::mem::take(&mut ex.response_filters);
    filters.truncate(outer_filters);
    let groups = std::mem::take(&mut ex.groups);
    ex.enter_error(error);
    ex.request.method = method;
    ex.request.target = target;
    ex.response_filters = filters;
    ex.groups = groups;
}

#[cfg(test)]
mod tests {
    use crate::handlers::tests::run_json;
    use serde_json::json;

    #[test]
    fn nests_and_goes_on() {
        let routes = json!([
            {"handle": [{"handler": "subroute", "routes": [
                {"handle": [{"handler": "vars", "a": "x"}]}
            ]}]},
            {"handle": [{"handler": "static_response", "body": "{http.vars.a}"}]}
        ]);
        assert_eq!(run_json(&routes, "/").expect("answers").body, "x");
    }

    #[test]
    fn own_error_routes() {
        let routes = json!([{"handle": [{"handler": "subroute",
            "routes": [{"handle": [
                {"handler": "rewrite", "uri": "/new"},
                {"handler": "error", "error": "bad", "status_code": 418}
            ]}],
            "errors": {"routes": [{"handle": [{"handler": "static_response",
                "body": "{http.error.status_code} {http.error.message} {http.request.uri}"}]}]}
        }]}]);
        let response = run_json(&routes, "/old").expect("answers");
        assert_eq!((response.status.as_u16(), &*response.body), (418, "418 bad /new"));
    }
}
