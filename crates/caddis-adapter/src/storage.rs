//! Storage modules (`storage file_system …`; those for fleets are in `shared_storage.rs`).
//!
//! ```text
//! file_system [<root>] {
//!     root <path>
//! }
//! ```

use caddis_caddyfile::{Dispenser, Result as ParseResult, ScalarVal};
use serde_json::{Value as Json, json};

use crate::{
    modules::{Kind, next_arg, no_args},
    shared_storage,
};

/// Storage modules.
pub(crate) const STORAGE: Kind = Kind {
    namespace: "caddy.storage",
    key: "module",
    modules: &[
        ("file_system", file_system),
        ("postgres", shared_storage::postgres),
        ("redis", shared_storage::redis),
        ("s3", shared_storage::s3),
    ],
};

fn file_system(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    let mut root = String::new();
    if d.next_arg() {
        d.val().clone_into(&mut root);
    }
    no_args(d)?;
    while d.next_block(0) {
        if d.val() != "root" {
            return Err(d.err(format_args!("unrecognized parameter '{}'", d.val())));
        }
        let path = next_arg(d)?;
        if !root.is_empty() {
            return Err(d.err("root already set"));
        }
        root = path;
        no_args(d)?;
    }
    if root.is_empty() {
        return Err(d.err("missing root path (to use default, omit storage config entirely)"));
    }
    Ok(json!({ "root": root }))
}

/// A scalar as JSON.
pub(crate) fn scalar(value: ScalarVal) -> Json {
    match value {
        ScalarVal::Int(int) => int.into(),
        ScalarVal::Float(float) => float.into(),
        ScalarVal::Bool(bool) => bool.into(),
        ScalarVal::String(text) => text.into(),
    }
}
