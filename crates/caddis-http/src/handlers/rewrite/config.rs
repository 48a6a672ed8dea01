//! The JSON shape of rewrites.

use serde::{Deserialize, Serialize};

/// JSON shape of the `rewrite` handler, and of `reverse_proxy`'s `rewrite`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The new method.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub method: String,
    /// The new path, query (`?…`), or both.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub uri: String,
    /// What to take off the path's start.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub strip_path_prefix: String,
    /// What to take off the path's end.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub strip_path_suffix: String,
    /// Replacements in path and query.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub uri_substring: Vec<Substring>,
    /// Replacements in the path by expression.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub path_regexp: Vec<PathRegexp>,
    /// Operations on the query's parameters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<QueryOps>,
}

/// A replacement in path and query.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Substring {
    /// What to look for.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub find: String,
    /// What to put there.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub replace: String,
    /// How many times at most; 0 is no limit.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "caddis_config::Omit::is_omitted"
    )]
    pub limit: i64,
}

/// A replacement in the path by expression.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PathRegexp {
    /// The expression.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub find: String,
    /// What to put there; may use captures.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub replace: String,
}

/// Operations on the query's parameters, done in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueryOps {
    /// New names.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub rename: Vec<QueryArgument>,
    /// Values to set.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<QueryArgument>,
    /// Values to add.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<QueryArgument>,
    /// Replacements within values.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub replace: Vec<QueryReplacement>,
    /// Parameters to delete.
    #[serde(deserialize_with = "caddis_config::nullable", skip_serializing_if = "Vec::is_empty")]
    pub delete: Vec<String>,
}

/// A parameter and its value (or new name).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueryArgument {
    /// The parameter.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub key: String,
    /// The value.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub val: String,
}

/// A replacement within a parameter's values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueryReplacement {
    /// The parameter.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub key: String,
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
    /// What to put there; may use captures.
    #[serde(
        deserialize_with = "caddis_config::nullable",
        skip_serializing_if = "String::is_empty"
    )]
    pub replace: String,
}
