//! The process' metrics for Prometheus: `metrics`.
//!
//! ```text
//! metrics [<matcher>] {
//!     disable_openmetrics
//! }
//! ```
//!
//! JSON: `{"handler": "metrics", "disable_openmetrics": true}`.
//!
//! The format is what the client asks for: Prometheus' text, OpenMetrics or protobuf, compressed
//! with gzip where the client takes it.

mod format;
mod process;

use std::sync::Arc;

use caddis_caddyfile::Result as ParseResult;
use caddis_config::ConfigError;
use caddis_core::{
    CompileCx, Directive, DirectiveKind, Exchange, Handler, HandlerModule, Helper, HttpError,
    LocalBoxFuture, Middleware, Next, Response, Result as HttpResult, metrics::Metrics,
};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

pub use format::Format;

/// `http.handlers.metrics`.
pub static MODULE: HandlerModule = HandlerModule { id: "http.handlers.metrics", compile };
/// `metrics`.
pub static DIRECTIVE: Directive =
    Directive { name: "metrics", kind: DirectiveKind::Handler(parse), ordered: true };

/// JSON shape of the handler.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether the OpenMetrics format is not offered.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub disable_openmetrics: bool,
}

fn parse(h: &mut Helper<'_>) -> ParseResult<Json> {
    let d = &mut h.d;
    d.next();
    if !d.remaining_args().is_empty() {
        return Err(d.arg_err());
    }
    let mut config = Config::default();
    while d.next_block(0) {
        match d.val() {
            "disable_openmetrics" => config.disable_openmetrics = true,
            other => {
                let error = d.err(format!("unrecognized subdirective {other:?}"));
                return Err(d.did_you_mean(error, ["disable_openmetrics"]));
            }
        }
    }
    h.handler("metrics", &config)
}

fn compile(json: &Json, cx: &mut CompileCx<'_>) -> Result<Handler, ConfigError> {
    let config: Config = cx.decode(json, "handler")?;
    let metrics = cx.metrics.clone();
    Ok(Handler::middleware(MetricsHandler { metrics, open_metrics: !config.disable_openmetrics }))
}

struct MetricsHandler {
    metrics: Arc<Metrics>,
    open_metrics: bool,
}

impl Middleware for MetricsHandler {
    fn handle<'a>(
        &'a self,
        ex: &'a mut Exchange,
        _: Next<'a>,
    ) -> LocalBoxFuture<'a, HttpResult<Response>> {
        Box::pin(async move {
            let format = Format::wanted(&ex.request.headers, self.open_metrics);
            let metrics = self.metrics.clone();
            let _scrape = metrics.scrape();
            let text_of = metrics.clone();
            // The process' own numbers are read from files.
            let exposition = tokio::task::spawn_blocking(move || format.present(expose(&text_of)))
                .await
                .map_err(HttpError::internal)?;
            let mut response = ex.respond(StatusCode::OK);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, exposition.content_type);
            if let Some(encoding) = exposition.encoding {
                headers.insert(header::CONTENT_ENCODING, encoding);
            }
            *response.body_mut() = exposition.body.into();
            Ok(response)
        })
    }
}

/// All metrics in Prometheus' text format. Reads files.
pub fn expose(metrics: &Metrics) -> String {
    let mut text = metrics.expose();
    process::write(&mut text);
    text
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::handlers::tests::{adapt, run, run_in};
    use serde_json::json;

    #[test]
    fn adapts() {
        assert_eq!(adapt("metrics"), Ok(json!({"handler": "metrics"})));
        assert_eq!(
            adapt("metrics {\n disable_openmetrics\n}"),
            Ok(json!({"handler": "metrics", "disable_openmetrics": true}))
        );
        assert!(adapt("metrics {\n x\n}").is_err());
        assert!(adapt("metrics x").is_err());
    }

    #[test]
    fn negotiates() {
        let answer = run("metrics", "/").expect("answers");
        assert!(answer.headers["content-type"].as_bytes().starts_with(b"text/plain; version="));
        assert!(!answer.body.contains("# EOF"));
        let mut ex = Exchange::for_test("/");
        let accept = HeaderValue::from_static("application/openmetrics-text;version=1.0.0");
        ex.request.headers.insert(header::ACCEPT, accept);
        let answer = run_in(&["metrics"], &mut ex).expect("answers");
        assert!(answer.headers["content-type"].as_bytes().starts_with(b"application/openmetrics"));
        assert!(answer.body.ends_with("# EOF\n"));
    }

    #[test]
    fn tells_what_dashboards_ask_for() {
        let text = run("metrics", "/").expect("answers").body;
        for name in [
            "go_build_info{",
            "go_gc_duration_seconds{quantile=\"0.75\"}",
            "go_gc_duration_seconds_count",
            "go_goroutines",
            "go_info{",
            "go_memstats_alloc_bytes",
            "go_memstats_heap_inuse_bytes",
            "go_memstats_sys_bytes",
            "go_threads",
            "process_cpu_seconds_total",
            "process_max_fds",
            "process_network_receive_bytes_total",
            "process_network_transmit_bytes_total",
            "process_open_fds",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_virtual_memory_bytes",
            "process_virtual_memory_max_bytes",
            "promhttp_metric_handler_requests_in_flight 1",
            "promhttp_metric_handler_requests_total{code=\"200\"} 0",
        ] {
            let count = text.lines().filter(|line| line.starts_with(name)).count();
            assert_eq!(count, 1, "{name}: {text}");
        }
    }
}
