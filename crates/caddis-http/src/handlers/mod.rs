//! The handlers of this crate and their directives.

use caddis_core::{Directive, HandlerModule};

pub mod authentication;
pub mod encode;
pub mod error;
pub mod file_server;
pub mod headers;
pub mod intercept;
pub mod invoke;
pub mod log_append;
pub mod map;
pub mod metrics;
pub mod push;
pub mod request_body;
pub mod response_headers;
pub mod response_matcher;
pub mod rewrite;
pub mod static_response;
pub mod subroute;
pub mod support;
pub mod templates;
#[cfg(test)]
pub(crate) mod tests;
pub mod timeouts;
pub mod tracing;
pub mod vars;

/// `http.handlers.*` of this crate.
pub static HANDLERS: &[&HandlerModule] = &[
    &authentication::MODULE,
    &encode::MODULE,
    &error::MODULE,
    &file_server::MODULE,
    &headers::MODULE,
    &intercept::MODULE,
    &invoke::MODULE,
    &log_append::MODULE,
    &map::MODULE,
    &metrics::MODULE,
    &push::MODULE,
    &request_body::MODULE,
    &rewrite::MODULE,
    &static_response::MODULE,
    &subroute::MODULE,
    &templates::MODULE,
    &timeouts::MODULE,
    &tracing::MODULE,
    &vars::MODULE,
];

/// Directives of this crate, in Caddy's default order.
pub static DIRECTIVES: &[&Directive] = &[
    &tracing::DIRECTIVE,
    &map::DIRECTIVE,
    &vars::DIRECTIVE,
    &vars::FS,
    &vars::ROOT,
    &log_append::DIRECTIVE,
    &vars::SKIP_LOG,
    &vars::LOG_SKIP,
    &vars::LOG_NAME,
    &headers::HEADER,
    &request_body::DIRECTIVE,
    &timeouts::DIRECTIVE,
    &static_response::REDIR,
    &rewrite::METHOD,
    &rewrite::REWRITE,
    &rewrite::URI,
    &authentication::BASICAUTH,
    &authentication::DIRECTIVE,
    &headers::REQUEST_HEADER,
    &encode::DIRECTIVE,
    &push::DIRECTIVE,
    &intercept::DIRECTIVE,
    &templates::DIRECTIVE,
    &static_response::ABORT,
    &error::DIRECTIVE,
    &static_response::RESPOND,
    &metrics::DIRECTIVE,
    &file_server::DIRECTIVE,
];
