//! Runs a named route: `invoke`.
//!
//! JSON: `{"handler": "invoke", "name": "NAME"}`.

use std::sync::{Arc, OnceLock};

use caddis_config::ConfigError;
use caddis_core::{
    CompileCx, Exchange, Handler, HandlerModule, HttpError, LocalBoxFuture, Middleware, Next,
    Response, Result as HttpResult, RouteList,
};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// `http.handlers.invoke`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.invoke", compile };

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The route's name.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub name: String,
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let config: Config = cx.decode(json, "handler")?;
    // Named routes may invoke each other, so the route may be compiled later than this.
    let route = cx.named_routes.entry(config.name.clone()).or_default().clone();
    Ok(Handler::middleware(Invoke { name: config.name, route }))
}

struct Invoke {
    name: String,
    route: Arc<OnceLock<RouteList>>,
}

/// Named routes that call each other in a circle end here: the chain runs on the stack.
const MAX_DEPTH: usize = 100;

thread_local! {
    static DEPTH: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// One invocation deeper, for as long as it is polled.
struct Deeper;

impl Deeper {
    fn enter() -> Option<Self> {
        let depth = DEPTH.get();
        (depth < MAX_DEPTH).then(|| {
            DEPTH.set(depth + 1);
            Self
        })
    }
}

impl Drop for Deeper {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

impl Middleware for Invoke {
    fn handle<'a>(
        &'a self,
        ex: &'a mut Exchange,
        next: Next<'a>,
    ) -> LocalBoxFuture<'a, HttpResult<Response>> {
        Box::pin(async move {
            let Some(route) = self.route.get() else {
                let message = format!("invoke: route '{}' not found", self.name);
                return Err(HttpError::internal(message));
            };
            let mut chain = std::pin::pin!(Next::new(route, Some(&next)).run(ex));
            std::future::poll_fn(|cx| match Deeper::enter() {
                Some(_deeper) => chain.as_mut().poll(cx),
                None => {
                    let message = format!("invoke: route '{}' invokes itself", self.name);
                    std::task::Poll::Ready(Err(HttpError::internal(message)))
                }
            })
            .await
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::handlers::tests::{run_json, run_json_named};
    use serde_json::json;

    #[test]
    fn invokes() {
        let named = json!([{"handle": [{"handler": "vars", "a": "named"}]}]);
        let routes = json!([{"handle": [
            {"handler": "invoke", "name": "n"},
            {"handler": "static_response", "body": "{http.vars.a}"}
        ]}]);
        assert_eq!(run_json_named(&named, &routes, "/").expect("answers").body, "named");
        let error = run_json(&routes, "/").expect_err("no such route");
        assert_eq!(error.message, "invoke: route 'n' not found");
    }

    #[test]
    fn circles_end() {
        let named = json!([{"handle": [{"handler": "invoke", "name": "n"}]}]);
        let routes = json!([{"handle": [{"handler": "invoke", "name": "n"}]}]);
        let error = run_json_named(&named, &routes, "/").expect_err("a circle");
        assert_eq!(error.status.as_u16(), 500);
    }
}
