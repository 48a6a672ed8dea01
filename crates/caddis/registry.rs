//! The standard modules: the lists of the module crates, joined.

use caddis_core::{Registry, State, metrics::Exposition};

/// Directives in Caddy's default order, outermost first (spec L164–L202).
const ORDER: &[&str] = &[
    "tracing",
    "map",
    "vars",
    "fs",
    "root",
    "log_append",
    "skip_log",
    "log_skip",
    "log_name",
    "header",
    "copy_response_headers",
    "request_body",
    "timeouts",
    "redir",
    "method",
    "rewrite",
    "uri",
    "try_files",
    "basicauth",
    "basic_auth",
    "forward_auth",
    "request_header",
    "encode",
    "push",
    "intercept",
    "templates",
    "invoke",
    "handle",
    "handle_path",
    "route",
    "abort",
    "error",
    "copy_response",
    "respond",
    "metrics",
    "reverse_proxy",
    "php_fastcgi",
    "file_server",
    "acme_server",
];

/// Modules of the engine and the adapter that are no entry of another list.
const ENGINE_IDS: &[&str] = &[
    "admin.api.load",
    "admin.api.metrics",
    "admin.api.pki",
    "admin.api.reverse_proxy",
    "caddy.adapters.caddyfile",
    "caddy.config_loaders.http",
    "caddy.listeners.http_redirect",
    "caddy.listeners.proxy_protocol",
    "caddy.listeners.tls",
    "caddy.network_proxy.none",
    "caddy.network_proxy.url",
    "events",
    "events.handlers.exec",
    "http",
    "http.ip_sources.static",
    "pki",
    "tls",
];

/// Every module that is compiled in.
pub(crate) fn standard() -> Registry {
    let mut directives: Vec<_> =
        [caddis_http::DIRECTIVES, caddis_proxy::DIRECTIVES, caddis_adapter::DIRECTIVES].concat();
    let place = |name: &str| ORDER.iter().position(|other| *other == name).unwrap_or(ORDER.len());
    directives.sort_by_key(|directive| place(directive.name));
    Registry {
        directives,
        handlers: [caddis_http::HANDLERS, caddis_proxy::HANDLERS, caddis_tls::HANDLERS].concat(),
        matchers: caddis_http::MATCHERS.to_vec(),
        other_ids: [
            ENGINE_IDS,
            caddis_dns::OTHER_IDS,
            caddis_http::OTHER_IDS,
            caddis_proxy::OTHER_IDS,
            caddis_tls::OTHER_IDS,
            caddis_logging::OTHER_IDS,
        ]
        .concat(),
        parse_routes: caddis_adapter::parse_routes,
    }
}

/// The state of all upstreams, for the admin API.
pub(crate) fn upstreams(state: &State) -> String {
    let all = caddis_proxy::upstream_status(state);
    caddis_config::json::write::to_line(&all).unwrap_or_else(|_| "[]\n".into())
}

/// All metrics and those of the process, for the admin API.
pub(crate) fn metrics(metrics: &caddis_core::metrics::Metrics) -> String {
    caddis_http::handlers::metrics::expose(metrics)
}

/// Metrics as a client of the admin API asks for them; OpenMetrics is not among it, as in Caddy
/// (spec O111).
pub(crate) fn present_metrics(text: String, headers: &http::HeaderMap) -> Exposition {
    caddis_http::handlers::metrics::Format::wanted(headers, false).present(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ordered_directive_has_a_place() {
        for directive in standard().directives {
            let placed = ORDER.contains(&directive.name);
            assert_eq!(placed, directive.ordered, "{}", directive.name);
        }
    }

    #[test]
    fn no_name_is_given_twice() {
        let mut names: Vec<_> = standard().directives.iter().map(|one| one.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
