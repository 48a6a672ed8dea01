//! Storage modules (`storage file_system …`; those for fleets are in `shared_storage.rs`) and DNS providers (`dns <provider> …`).
//!
//! ```text
//! file_system [<root>] {
//!     root <path>
//! }
//!
//! <provider> [<argument>] {
//!     <field> <value>
//! }
//! ```
//!
//! Which fields a provider has is its own matter, so they are taken as they are written; a lone
//! argument is the field that the provider has for one.

use caddis_caddyfile::{Dispenser, Result as ParseResult, ScalarVal};
use caddis_config::module_object;
use serde_json::{Map, Value as Json, json};

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

/// What the lone argument of a provider is.
const ARGUMENTS: &[(&str, &str)] = &[
    ("cloudflare", "api_token"),
    ("desec", "token"),
    ("digitalocean", "auth_token"),
    ("duckdns", "api_token"),
    ("gandi", "bearer_token"),
    ("hetzner", "api_token"),
    ("linode", "api_token"),
    ("netlify", "personal_access_token"),
    ("vultr", "api_token"),
];

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

/// Reads a DNS provider whose name is the current token, to the end of its block.
///
/// # Errors
/// More than one argument, or a field without a value.
pub(crate) fn dns_provider(d: &mut Dispenser) -> ParseResult<Json> {
    let name = d.val().to_owned();
    let mut d = d.new_from_next_segment();
    d.next();
    let mut fields = Map::new();
    if name == "exec" {
        let command = d.remaining_args();
        if !command.is_empty() {
            fields.insert("command".to_owned(), command.into());
        }
    } else if d.next_arg() {
        let field = ARGUMENTS.iter().find(|(provider, _)| *provider == name);
        let field = field.map_or("argument", |(_, field)| *field);
        fields.insert(field.to_owned(), d.val().into());
    }
    if d.next_arg() {
        return Err(d.err(format_args!("unexpected argument '{}'", d.val())));
    }
    while d.next_block(0) {
        let field = d.val().to_owned();
        let mut values = Vec::new();
        while d.next_arg() {
            values.push(scalar(d.scalar_val()));
        }
        let value = match values.len() {
            0 => Json::Bool(true),
            1 => values.swap_remove(0),
            _ => Json::Array(values),
        };
        fields.insert(field, value);
    }
    Ok(module_object(Json::Object(fields), "name", &name))
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
