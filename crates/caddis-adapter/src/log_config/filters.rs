//! Filters of log fields.
//!
//! ```text
//! delete   hash
//! rename  <name>
//! replace [<value>]
//! regexp  <pattern> <value>           several for one field become multi_regexp
//! ip_mask [<ipv4> [<ipv6>]] {
//!     ipv4 <bits>
//!     ipv6 <bits>
//! }
//! query | cookie | set_cookie {
//!     delete  <name>
//!     hash    <name>
//!     replace <name> <value>
//! }
//! multi_regexp {
//!     regexp <pattern> <value>
//! }
//! ```

use caddis_caddyfile::{Diagnostic, Dispenser, Result as ParseResult};
use caddis_config::module_object;
use serde_json::{Map, Value as Json, json};

use crate::fields::Fields;
use crate::modules::{Kind, integer, next_arg};

/// Filters of one field.
const FILTERS: Kind = Kind {
    namespace: "caddy.logging.encoders.filter",
    key: "filter",
    modules: &[
        ("delete", nothing),
        ("hash", nothing),
        ("rename", rename),
        ("replace", replace),
        ("regexp", regexp),
        ("ip_mask", ip_mask),
        ("query", query),
        ("cookie", cookie),
        ("set_cookie", cookie),
        ("multi_regexp", multi_regexp),
    ],
};

/// Most patterns of one field.
const MOST_PATTERNS: usize = 50;
/// Longest pattern of `multi_regexp`.
const LONGEST_PATTERN: usize = 1000;

/// The filters of an encoder while they are read.
#[derive(Default)]
pub(super) struct Found {
    filters: Map<String, Json>,
    regexps: Vec<(String, Vec<Json>)>,
}

impl Found {
    /// Reads a field with its filter; the field's name is the current token.
    ///
    /// # Errors
    /// Its mistake, or the field has another filter.
    pub(super) fn field(&mut self, d: &mut Dispenser) -> ParseResult<()> {
        let field = d.val().to_owned();
        let name = next_arg(d)?;
        let filter = FILTERS.parse(d)?;
        let regexps = self.regexps.iter_mut().find(|(known, _)| *known == field);
        match (regexps, name == "regexp") {
            (Some((_, all)), true) => all.push(filter),
            (None, true) => self.regexps.push((field, vec![filter])),
            (Some(_), false) => {
                return Err(d.err(format_args!(
                    "cannot mix regexp filters with other filter types for field {field}"
                )));
            }
            (None, false) if self.filters.contains_key(&field) => {
                return Err(d.err(format_args!(
                    "field {field} already has a filter; multiple non-regexp filters per field are not supported"
                )));
            }
            (None, false) => {
                self.filters.insert(field, filter);
            }
        }
        Ok(())
    }

    /// All filters by field.
    ///
    /// # Errors
    /// Too many patterns for a field.
    pub(super) fn finish(mut self, d: &Dispenser) -> ParseResult<Map<String, Json>> {
        for (field, mut all) in self.regexps {
            if all.len() == 1 {
                self.filters.insert(field, all.swap_remove(0));
                continue;
            }
            let mut operations = Vec::with_capacity(all.len());
            for filter in all {
                operations.push(operation(filter, operations.len()).map_err(|why| {
                    let message = format!("adding regexp operation for field {field}: {why}");
                    Diagnostic::error(message).labelled(d.token(), "in this encoder")
                })?);
            }
            let merged = json!({ "operations": operations });
            self.filters.insert(field, module_object(merged, "filter", "multi_regexp"));
        }
        Ok(self.filters)
    }
}

/// A `regexp` filter as one operation of several.
fn operation(mut filter: Json, before: usize) -> Result<Json, String> {
    if let Some(fields) = filter.as_object_mut() {
        fields.remove("filter");
    }
    let pattern = filter.get("regexp").and_then(Json::as_str).unwrap_or_default();
    check_pattern(pattern, before)?;
    Ok(filter)
}

fn check_pattern(pattern: &str, before: usize) -> Result<(), String> {
    if before >= MOST_PATTERNS {
        return Err(format!("too many regexp operations (maximum {MOST_PATTERNS} allowed)"));
    }
    if pattern.len() > LONGEST_PATTERN {
        return Err(format!("regexp pattern too long (maximum {LONGEST_PATTERN} characters)"));
    }
    if pattern.is_empty() {
        return Err("regexp pattern cannot be empty".to_owned());
    }
    Ok(())
}

fn nothing(_: &mut Dispenser) -> ParseResult<Json> {
    Ok(json!({}))
}

/// A lone argument, if there is one, as this field.
fn optional(d: &mut Dispenser, field: &str) -> ParseResult<Fields> {
    let mut fields = Fields::default();
    if d.next_arg() {
        fields.text(field, d.val().to_owned());
    }
    Ok(fields)
}

fn rename(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    Ok(optional(d, "name")?.into())
}

fn replace(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    Ok(optional(d, "value")?.into())
}

fn regexp(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    let mut fields = optional(d, "regexp")?;
    if d.next_arg() {
        fields.text("value", d.val().to_owned());
    }
    Ok(fields.into())
}

fn ip_mask(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    let args = d.remaining_args();
    if args.len() > 2 {
        return Err(d.err("too many arguments"));
    }
    let mut bits = [0, 0];
    let read = |d: &Dispenser, text: &str| integer(d, text, &format!("error parsing {text}"));
    for (slot, arg) in bits.iter_mut().zip(&args) {
        *slot = read(d, arg)?;
    }
    while d.next_block(0) {
        let slot = match d.val() {
            "ipv4" => &mut bits[0],
            "ipv6" => &mut bits[1],
            other => {
                let error = d.err(format_args!("unrecognized subdirective {other}"));
                return Err(d.did_you_mean(error, ["ipv4", "ipv6"]));
            }
        };
        let text = next_arg(d)?;
        *slot = read(d, &text)?;
    }
    let mut fields = Fields::default();
    fields.integer("ipv4_cidr", bits[0]);
    fields.integer("ipv6_cidr", bits[1]);
    Ok(fields.into())
}

fn query(d: &mut Dispenser) -> ParseResult<Json> {
    actions(d, "parameter")
}

fn cookie(d: &mut Dispenser) -> ParseResult<Json> {
    actions(d, "name")
}

fn actions(d: &mut Dispenser, key: &str) -> ParseResult<Json> {
    d.next();
    let mut actions = Vec::new();
    while d.next_block(0) {
        let kind = d.val().to_owned();
        if !["replace", "hash", "delete"].contains(&kind.as_str()) {
            let error = d.err(format_args!("unrecognized subdirective {kind}"));
            return Err(d.did_you_mean(error, ["replace", "hash", "delete"]));
        }
        let mut action = Fields::default();
        action.set(key, next_arg(d)?);
        if kind == "replace" {
            action.text("value", next_arg(d)?);
        }
        action.set("type", kind);
        actions.push(Json::from(action));
    }
    // Without an action Go writes its empty list as null.
    let actions = if actions.is_empty() { Json::Null } else { Json::Array(actions) };
    Ok(json!({ "actions": actions }))
}

fn multi_regexp(d: &mut Dispenser) -> ParseResult<Json> {
    d.next();
    let mut operations = Vec::new();
    while d.next_block(0) {
        if d.val() != "regexp" {
            let error = d.err(format_args!("unrecognized subdirective {}", d.val()));
            return Err(d.did_you_mean(error, ["regexp"]));
        }
        let pattern = next_arg(d)?;
        check_pattern(&pattern, operations.len()).map_err(|why| d.err(why))?;
        let mut operation = Fields::default();
        operation.text("regexp", pattern);
        operation.text("value", next_arg(d)?);
        operations.push(Json::from(operation));
    }
    if operations.is_empty() {
        return Err(d.err("multi_regexp filter requires at least one regexp operation"));
    }
    Ok(json!({ "operations": operations }))
}
