//! What metrics tell of the admin API (spec A012).

use std::sync::atomic::Ordering;

use http::{Method, StatusCode};

use crate::Engine;

/// Counts a request, and its failure.
pub(super) fn count(
    engine: &Engine,
    path: &str,
    method: &Method,
    status: StatusCode,
    failed: bool,
) {
    // What is no endpoint is not counted, so that nobody makes series by asking.
    let Some(path) = endpoint(path) else { return };
    let labels = [
        ("handler", "admin"),
        ("path", path),
        ("code", status.as_str()),
        ("method", method.as_str()),
    ];
    let help = "Counter of requests made to the Admin API's HTTP endpoints.";
    engine
        .metrics
        .counter("caddy_admin_http_requests_total", help, &labels)
        .fetch_add(1, Ordering::Relaxed);
    if failed {
        let labels = [("handler", "admin"), ("path", path), ("method", method.as_str())];
        let help = "Number of requests resulting in middleware errors.";
        engine
            .metrics
            .counter("caddy_admin_http_request_errors_total", help, &labels)
            .fetch_add(1, Ordering::Relaxed);
    }
}

/// The endpoint that a path belongs to, by the name that it has in metrics (spec A012).
fn endpoint(path: &str) -> Option<&'static str> {
    const PATHS: [&str; 10] = [
        "/load",
        "/stop",
        "/adapt",
        "/metrics",
        "/reverse_proxy/upstreams",
        "/tls/certificates",
        "/debug/vars",
        "/debug/pprof/cmdline",
        "/debug/pprof/profile",
        "/debug/pprof/symbol",
    ];
    const FOLDERS: [&str; 4] = ["/config/", "/id/", "/pki/", "/debug/pprof/"];
    let is_path = |known: &&str| *known == path;
    let is_below = |known: &&str| path.starts_with(known);
    PATHS.into_iter().find(is_path).or_else(|| FOLDERS.into_iter().find(is_below))
}
