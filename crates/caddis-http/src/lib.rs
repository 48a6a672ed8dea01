//! HTTP handlers, matchers, encoders and their directives.
//!
//! Every feature has one file: its Caddyfile syntax, its JSON shape, its compilation and what it
//! does at run time. `handlers` and `matchers` list them for the program's registry.

mod disk;
pub mod encoders;
pub mod glob;
pub mod handlers;
pub mod hashes;
pub mod matchers;
pub mod mime;
mod names;
pub mod path;
pub mod regexp;
mod zones;

pub use handlers::{DIRECTIVES, HANDLERS};
pub use matchers::ALL as MATCHERS;

/// Ids of the modules that are neither handlers nor matchers.
pub static OTHER_IDS: &[&str] = &[
    "caddy.filesystems",
    "http.authentication.hashes.argon2id",
    "http.authentication.hashes.bcrypt",
    "http.authentication.providers.http_basic",
    "http.encoders.gzip",
    "http.encoders.zstd",
    "http.precompressed.br",
    "http.precompressed.gzip",
    "http.precompressed.zstd",
];
