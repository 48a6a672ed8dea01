//! `regexp` and `multi_regexp`: replace what matches.
//!
//! JSON: `{"filter": "regexp", "regexp": "…", "value": "…"}`, and
//! `{"filter": "multi_regexp", "operations": [{"regexp": "…", "value": "…"}]}`.

use caddis_config::ConfigError;
use regex::Regex;
use serde::Deserialize;
use serde_json::Value as Json;

const MAX_OPERATIONS: usize = 50;
const MAX_PATTERN: usize = 1000;
const MAX_INPUT: usize = 1_000_000;

/// Patterns with their replacements, applied one after another.
#[derive(Debug, Clone)]
pub(crate) struct Regexps(Vec<(Regex, String)>);

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Operation {
    regexp: String,
    value: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Multi {
    operations: Vec<Operation>,
}

impl Regexps {
    pub(crate) fn single(json: Json) -> Result<Self, ConfigError> {
        let operation: Operation = caddis_config::decode(json)?;
        Ok(Self(vec![compile(operation)?]))
    }

    pub(crate) fn multi(json: Json) -> Result<Self, ConfigError> {
        let multi: Multi = caddis_config::decode(json)?;
        if multi.operations.is_empty() {
            return Err(ConfigError::new(
                "operations",
                "at least one regexp operation must be configured",
            ));
        }
        if multi.operations.len() > MAX_OPERATIONS {
            let count = multi.operations.len();
            return Err(ConfigError::new(
                "operations",
                format!("too many regexp operations: {count} (maximum {MAX_OPERATIONS})"),
            ));
        }
        let mut compiled = Vec::with_capacity(multi.operations.len());
        for (at, operation) in multi.operations.into_iter().enumerate() {
            let one = if operation.regexp.is_empty() {
                Err(ConfigError::new("regexp", "regexp pattern cannot be empty"))
            } else if operation.regexp.len() > MAX_PATTERN {
                Err(ConfigError::new("regexp", "regexp pattern is too long"))
            } else {
                compile(operation)
            };
            compiled.push(one.map_err(|error| error.under(format!("operations.{at}")))?);
        }
        Ok(Self(compiled))
    }

    pub(crate) fn replace(&self, text: &str) -> String {
        let mut end = text.len().min(MAX_INPUT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut out = text[..end].to_owned();
        for (regex, value) in &self.0 {
            if let std::borrow::Cow::Owned(replaced) = regex.replace_all(&out, value.as_str()) {
                out = replaced;
            }
        }
        out
    }
}

fn compile(operation: Operation) -> Result<(Regex, String), ConfigError> {
    let regex = Regex::new(&operation.regexp)
        .map_err(|error| ConfigError::new("regexp", format!("error parsing regexp: {error}")))?;
    Ok((regex, operation.value))
}
