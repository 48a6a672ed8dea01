//! Storages that several servers share: `redis`, `postgres`, `s3`, with the options of the plugins
//! that Caddy has for them.
//!
//! ```text
//! redis [cluster | failover] {
//!     host <host…> | { … }
//!     …
//! }
//! postgres {
//!     connection_string <string>
//!     …
//! }
//! s3 {
//!     bucket <name>
//!     …
//! }
//! ```

use caddis_caddyfile::{Dispenser, Result as ParseResult, nearest};
use caddis_config::Duration;
use serde_json::{Map, Value as Json};

/// What an option takes.
#[derive(Clone, Copy)]
enum Takes {
    Text,
    /// One or more, on the line or in a block.
    Texts,
    Bool,
    Duration,
    /// `flate`, `zlib`, or a boolean.
    Compression,
}

/// Options of a storage: their names here, in JSON, and what they take.
type Options = &'static [(&'static str, &'static str, Takes)];

const REDIS: Options = &[
    ("address", "address", Takes::Texts),
    ("host", "host", Takes::Texts),
    ("port", "port", Takes::Texts),
    ("db", "db", Takes::Text),
    ("timeout", "timeout", Takes::Text),
    ("username", "username", Takes::Text),
    ("password", "password", Takes::Text),
    ("sentinel_password", "sentinel_password", Takes::Text),
    ("master_name", "master_name", Takes::Text),
    ("key_prefix", "key_prefix", Takes::Text),
    ("encryption_key", "encryption_key", Takes::Text),
    ("aes_key", "encryption_key", Takes::Text),
    ("compression", "compression", Takes::Compression),
    ("tls_enabled", "tls_enabled", Takes::Bool),
    ("tls_insecure", "tls_insecure", Takes::Bool),
    ("tls_server_certs_pem", "tls_server_certs_pem", Takes::Text),
    ("tls_server_certs_path", "tls_server_certs_path", Takes::Text),
    ("route_by_latency", "route_by_latency", Takes::Bool),
    ("route_randomly", "route_randomly", Takes::Bool),
];

const POSTGRES: Options = &[
    ("connection_string", "connection_string", Takes::Text),
    ("host", "host", Takes::Text),
    ("port", "port", Takes::Text),
    ("user", "user", Takes::Text),
    ("password", "password", Takes::Text),
    ("dbname", "dbname", Takes::Text),
    ("sslmode", "sslmode", Takes::Text),
    ("disable_ddl", "disable_ddl", Takes::Bool),
    ("query_timeout", "query_timeout", Takes::Duration),
    ("lock_timeout", "lock_timeout", Takes::Duration),
];

const S3: Options = &[
    ("host", "host", Takes::Text),
    ("endpoint", "endpoint", Takes::Text),
    ("bucket", "bucket", Takes::Text),
    ("region", "region", Takes::Text),
    ("access_id", "access_id", Takes::Text),
    ("access_key", "access_key", Takes::Text),
    ("secret_key", "secret_key", Takes::Text),
    ("profile", "profile", Takes::Text),
    ("role_arn", "role_arn", Takes::Text),
    ("prefix", "prefix", Takes::Text),
    ("insecure", "insecure", Takes::Bool),
    ("use_iam_provider", "use_iam_provider", Takes::Bool),
    ("use_path_style", "use_path_style", Takes::Bool),
    ("encryption_key", "encryption_key", Takes::Text),
];

/// `redis`
pub(crate) fn redis(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    let mut fields = Map::new();
    if d.next_arg() {
        if !["cluster", "failover"].contains(&d.val()) {
            return Err(d.arg_err());
        }
        fields.insert("client_type".to_owned(), d.val().into());
    }
    read(d, REDIS, fields)
}

/// `postgres`
pub(crate) fn postgres(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    read(d, POSTGRES, Map::new())
}

/// `s3`
pub(crate) fn s3(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    read(d, S3, Map::new())
}

fn read(d: &mut Dispenser, options: Options, mut fields: Map<String, Json>) -> ParseResult<Json> {
    if d.next_arg() {
        return Err(d.arg_err());
    }
    while d.next_block(0) {
        let name = d.val().to_owned();
        let Some((_, field, takes)) = options.iter().find(|(known, ..)| *known == name) else {
            let error = d.err(format_args!("unknown configuration key: {name}"));
            let near = nearest(&name, options.iter().map(|(known, ..)| *known));
            return Err(match near {
                Some(near) => error.meant(near),
                None => error,
            });
        };
        let mut values = d.remaining_args();
        if values.is_empty() {
            let nesting = d.nesting();
            while d.next_block(nesting) {
                values.push(d.val().to_owned());
            }
        }
        let value = value(d, &name, *takes, values)?;
        fields.insert((*field).to_owned(), value);
    }
    Ok(Json::Object(fields))
}

fn value(d: &Dispenser, name: &str, takes: Takes, mut values: Vec<String>) -> ParseResult<Json> {
    if values.is_empty() {
        return Err(d.err(format_args!("no value supplied for configuration key '{name}'")));
    }
    if matches!(takes, Takes::Texts) {
        return Ok(values.into());
    }
    let text = values.swap_remove(0);
    if let Some(more) = values.first() {
        return Err(d.err(format_args!("'{name}' takes one value; unexpected '{more}'")));
    }
    match takes {
        Takes::Text | Takes::Texts => Ok(text.into()),
        Takes::Bool => match boolean(&text) {
            Some(bool) => Ok(bool.into()),
            // Filled in when the storage is opened.
            None if text.contains('{') => Ok(text.into()),
            None => Err(d.err(format_args!("invalid boolean value for '{name}': {text}"))),
        },
        Takes::Duration => {
            let duration = Duration::parse(&text)
                .map_err(|error| d.err(format_args!("invalid duration for '{name}': {error}")))?;
            Ok(duration.as_nanos().into())
        }
        Takes::Compression => match (boolean(&text), text.as_str()) {
            (Some(true), _) => Ok("flate".into()),
            (Some(false), _) => Ok("false".into()),
            (None, "flate" | "zlib") => Ok(text.into()),
            (None, _) if text.contains('{') => Ok(text.into()),
            (None, _) => Err(d.err(format_args!(
                "invalid value for '{name}': {text} (expected 'true', 'flate', 'zlib', or 'false')"
            ))),
        },
    }
}

/// Go's `strconv.ParseBool`.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
