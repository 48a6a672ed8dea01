//! Directives that shape sites and routes.

mod acme_server;
pub(crate) mod bind;
mod forward_auth;
mod handle;
mod handle_errors;
mod handle_path;
mod invoke;
mod log;
mod php_fastcgi;
mod proxied;
mod route;
pub(crate) mod tls;
mod try_files;

use caddis_core::Directive;

/// The directives of this crate.
pub static DIRECTIVES: &[&Directive] = &[
    &acme_server::DIRECTIVE,
    &bind::DIRECTIVE,
    &forward_auth::DIRECTIVE,
    &handle::DIRECTIVE,
    &handle_errors::DIRECTIVE,
    &handle_path::DIRECTIVE,
    &invoke::DIRECTIVE,
    &log::DIRECTIVE,
    &php_fastcgi::DIRECTIVE,
    &route::DIRECTIVE,
    &tls::DIRECTIVE,
    &try_files::DIRECTIVE,
];
