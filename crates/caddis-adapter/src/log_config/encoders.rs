//! How log entries are written.
//!
//! ```text
//! console | json {
//!     message_key | level_key | time_key | name_key | caller_key | stacktrace_key <key>
//!     line_ending     <text>
//!     time_format     <format>
//!     time_local
//!     duration_format <format>
//!     level_format    <format>
//! }
//! filter {
//!     wrap <encoder> …
//!     [fields {] <field> <filter> … [}]
//! }
//! append {
//!     wrap <encoder> …
//!     [fields {] <field> <value> [}]
//! }
//! journald {
//!     wrap <encoder> …
//! }
//! ```

use caddis_caddyfile::{Dispenser, Result as ParseResult};
use serde_json::{Map, Value as Json};

use super::filters;
use crate::fields::Fields;
use crate::modules::{Kind, next_arg, no_args, one_arg};
use crate::storage::scalar;

/// Log encoders.
pub(super) const ENCODERS: Kind = Kind {
    namespace: "caddy.logging.encoders",
    key: "format",
    modules: &[
        ("console", plain),
        ("json", plain),
        ("filter", filter),
        ("append", append),
        ("journald", journald),
    ],
};

fn plain(d: &mut Dispenser) -> ParseResult<Json> {
    const KEYS: [&str; 10] = [
        "message_key",
        "level_key",
        "time_key",
        "name_key",
        "caller_key",
        "stacktrace_key",
        "line_ending",
        "time_format",
        "duration_format",
        "level_format",
    ];
    /// Of these, an empty value is one too: it takes the key away.
    const MAY_BE_EMPTY: usize = 7;
    d.next();
    no_args(d)?;
    let mut fields = Fields::default();
    while d.next_block(0) {
        let word = d.val().to_owned();
        if word == "time_local" {
            no_args(d)?;
            fields.flag("time_local");
            continue;
        }
        let value = one_arg(d)?;
        match KEYS.iter().position(|key| *key == word) {
            Some(at) if at < MAY_BE_EMPTY => fields.set(&word, value),
            Some(_) => fields.text(&word, value),
            None => {
                let error = d.err(format_args!("unrecognized subdirective {word}"));
                return Err(d.did_you_mean(error, KEYS));
            }
        }
    }
    Ok(fields.into())
}

/// Reads a block with `wrap`, `fields` and the fields themselves.
fn wrapper(
    d: &mut Dispenser,
    mut field: impl FnMut(&mut Dispenser) -> ParseResult<()>,
) -> ParseResult<Fields> {
    d.next();
    let mut fields = Fields::default();
    while d.next_block(0) {
        match d.val() {
            "wrap" => fields.set("wrap", ENCODERS.parse_next(d)?),
            "fields" => {
                let nesting = d.nesting();
                while d.next_block(nesting) {
                    field(d)?;
                }
            }
            _ => field(d)?,
        }
    }
    Ok(fields)
}

fn append(d: &mut Dispenser) -> ParseResult<Json> {
    let mut values = Map::new();
    let mut fields = wrapper(d, |d| {
        let name = d.val().to_owned();
        next_arg(d)?;
        values.insert(name, scalar(d.scalar_val()));
        no_args(d)
    })?;
    if !values.is_empty() {
        fields.set("fields", values);
    }
    Ok(fields.into())
}

fn filter(d: &mut Dispenser) -> ParseResult<Json> {
    let mut found = filters::Found::default();
    let mut fields = wrapper(d, |d| found.field(d))?;
    let filters = found.finish(d)?;
    if !filters.is_empty() {
        fields.set("fields", filters);
    }
    Ok(fields.into())
}

fn journald(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    no_args(d)?;
    let mut fields = Fields::default();
    while d.next_block(0) {
        if d.val() != "wrap" {
            let error = d.err(format_args!("unrecognized subdirective {}", d.val()));
            return Err(d.did_you_mean(error, ["wrap"]));
        }
        fields.set("wrap", ENCODERS.parse_next(d)?);
    }
    Ok(fields.into())
}
