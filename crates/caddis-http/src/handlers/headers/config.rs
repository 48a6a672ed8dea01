//! The JSON shape of header operations, and their Caddyfile syntax.

use std::collections::BTreeMap;

use caddis_core::response_matcher::ResponseMatcherConfig;
use serde::{Deserialize, Serialize};

use crate::handlers::support::{HeaderLists, canonical};

/// JSON shape of the `headers` handler, and of `reverse_proxy`'s `headers`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What happens to the request's fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<HeaderOpsConfig>,
    /// What happens to the response's fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<RespHeaderOpsConfig>,
}

/// Operations on header fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderOpsConfig {
    /// Values to add.
    #[serde(
        deserialize_with = "crate::handlers::support::header_lists",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub add: HeaderLists,
    /// Values to set.
    #[serde(
        deserialize_with = "crate::handlers::support::header_lists",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub set: HeaderLists,
    /// Fields to delete; `*` at either end stands for anything.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub delete: Vec<String>,
    /// Replacements within values, by field; `*` is all fields.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub replace: BTreeMap<String, Vec<Replacement>>,
}

/// Operations on the response's fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RespHeaderOpsConfig {
    /// Values to add.
    #[serde(
        deserialize_with = "crate::handlers::support::header_lists",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub add: HeaderLists,
    /// Values to set.
    #[serde(
        deserialize_with = "crate::handlers::support::header_lists",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub set: HeaderLists,
    /// Fields to delete.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub delete: Vec<String>,
    /// Replacements within values, by field.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub replace: BTreeMap<String, Vec<Replacement>>,
    /// What the response must be like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require: Option<ResponseMatcherConfig>,
    /// Whether the operations wait for the response.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub deferred: bool,
}

/// One replacement within values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Replacement {
    /// Text to look for.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub search: String,
    /// Expression to look for.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub search_regexp: String,
    /// What to put there; may use the expression's captures.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub replace: String,
}

impl RespHeaderOpsConfig {
    /// The operations alone.
    pub fn ops(&self) -> HeaderOpsConfig {
        HeaderOpsConfig {
            add: self.add.clone(),
            set: self.set.clone(),
            delete: self.delete.clone(),
            replace: self.replace.clone(),
        }
    }
}

/// Where an operation of the Caddyfile goes.
enum Target<'a> {
    Request(&'a mut HeaderOpsConfig),
    Response(&'a mut RespHeaderOpsConfig),
}

impl Target<'_> {
    fn add(&mut self) -> &mut HeaderLists {
        match self {
            Target::Request(ops) => &mut ops.add,
            Target::Response(ops) => &mut ops.add,
        }
    }

    fn set(&mut self) -> &mut HeaderLists {
        match self {
            Target::Request(ops) => &mut ops.set,
            Target::Response(ops) => &mut ops.set,
        }
    }

    fn delete(&mut self) -> &mut Vec<String> {
        match self {
            Target::Request(ops) => &mut ops.delete,
            Target::Response(ops) => &mut ops.delete,
        }
    }

    fn replace(&mut self) -> &mut BTreeMap<String, Vec<Replacement>> {
        match self {
            Target::Request(ops) => &mut ops.replace,
            Target::Response(ops) => &mut ops.replace,
        }
    }

    fn defer(&mut self) {
        if let Target::Response(ops) = self {
            ops.deferred = true;
        }
    }
}

/// Adds one operation on the request's fields, as `request_header` and `header_up` write it:
/// `[+|-|>]<field> [<value>|<find> [<replace>]]`.
///
/// # Errors
/// A `?` in front of the field.
pub fn request_op(
    ops: &mut HeaderOpsConfig,
    field: &str,
    value: &str,
    replacement: Option<&str>,
) -> Result<(), String> {
    apply(Target::Request(ops), field, value, replacement)
}

/// Adds one operation on the response's fields, as `header` and `header_down` write it. Deletions,
/// `>` and `?` set more than the operation.
///
/// # Errors
/// None yet.
pub fn response_op(
    ops: &mut RespHeaderOpsConfig,
    field: &str,
    value: &str,
    replacement: Option<&str>,
) -> Result<(), String> {
    apply(Target::Response(ops), field, value, replacement)
}

fn apply(
    mut target: Target<'_>,
    field: &str,
    value: &str,
    replacement: Option<&str>,
) -> Result<(), String> {
    if let Some(name) = field.strip_prefix('+') {
        target.add().entry(canonical(name).into_owned()).or_default().push(value.to_owned());
    } else if let Some(name) = field.strip_prefix('-') {
        target.delete().push(name.to_owned());
        target.defer();
    } else if let Some(name) = field.strip_prefix('?') {
        let Target::Response(ops) = &mut target else {
            return Err(format!(
                "{field}: the default header modifier ('?') can only be used on response headers; \
                 for conditional manipulation of request headers, use matchers"
            ));
        };
        ops.require.get_or_insert_default().headers.insert(name.to_owned(), None);
        ops.set.insert(canonical(name).into_owned(), vec![value.to_owned()]);
    } else if let Some(replace) = replacement {
        if field.starts_with('>') {
            target.defer();
        }
        let name = field.trim_start_matches(['+', '-', '?', '>']).to_owned();
        target.replace().entry(name).or_default().push(Replacement {
            search_regexp: value.to_owned(),
            replace: replace.to_owned(),
            ..Replacement::default()
        });
    } else {
        let name = field.strip_prefix('>');
        if name.is_some() {
            target.defer();
        }
        let name = canonical(name.unwrap_or(field)).into_owned();
        target.set().insert(name, vec![value.to_owned()]);
    }
    Ok(())
}
