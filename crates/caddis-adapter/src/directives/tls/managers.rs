//! Certificate managers, on-demand permissions, and loaders of leaf certificates.
//!
//! ```text
//! tailscale
//! http <url>
//!
//! file | folder | pem | storage <name…>
//! ```

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use serde_json::{Value as Json, json};

use crate::fields::Fields;
use crate::modules::{Kind, next_arg, no_args, one_arg};

/// `get_certificate`.
pub(crate) const MANAGERS: Kind = Kind {
    namespace: "tls.get_certificate",
    key: "via",
    modules: &[("tailscale", tailscale), ("http", http)],
};

/// `permission` of on-demand TLS.
pub(crate) const PERMISSIONS: Kind =
    Kind { namespace: "tls.permission", key: "module", modules: &[("http", permission)] };

/// `verifier leaf`.
pub(super) const LEAF_LOADERS: Kind = Kind {
    namespace: "tls.leaf_cert_loader",
    key: "loader",
    modules: &[
        ("file", leaf_files),
        ("folder", leaf_folders),
        ("pem", leaf_certificates),
        ("storage", leaf_certificates),
    ],
};

fn tailscale(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    no_args(d)?;
    Ok(json!({}))
}

fn http(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    let mut fields = Fields::default();
    fields.text("url", next_arg(d)?);
    no_args(d)?;
    if d.next_block(0) {
        return Err(d.err("block not allowed here"));
    }
    Ok(fields.into())
}

fn permission(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    Ok(json!({ "endpoint": one_arg(d)? }))
}

fn leaf(d: &mut Dispenser, field: &str) -> ParseResult<Json> {
    d.next();
    let mut fields = Fields::default();
    fields.list(field, d.remaining_args());
    Ok(fields.into())
}

fn leaf_files(d: &mut Dispenser) -> ParseResult<Json> {
    leaf(d, "files")
}

fn leaf_folders(d: &mut Dispenser) -> ParseResult<Json> {
    leaf(d, "folders")
}

fn leaf_certificates(d: &mut Dispenser) -> ParseResult<Json> {
    leaf(d, "certificates")
}
