//! The JSON shape of a regular expression with a name, and the Caddyfile syntax
//! `[name] <field> <regexp>` that two matchers share.

use std::collections::BTreeMap;

use caddis_caddyfile::{Dispenser, MATCHER_NAME, Result as ParseResult};
use caddis_config::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{no_block, shape};
use crate::regexp::Regexp;

/// `{"name", "pattern"}`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RegexpConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    pub(super) pattern: String,
}

impl RegexpConfig {
    pub(super) fn compile(&self) -> Result<Regexp, ConfigError> {
        let regexp = Regexp::new(&self.name, &self.pattern).map_err(|error| {
            let message = format!("compiling matcher regexp {}: {error}", self.pattern);
            ConfigError::new("pattern", message)
        })?;
        let is_word = |char: char| char.is_ascii_alphanumeric() || char == '_';
        if !self.name.is_empty() && !self.name.contains(is_word) {
            let message =
                format!("invalid regexp name (must contain only word characters): {}", self.name);
            return Err(ConfigError::new("name", message));
        }
        Ok(regexp)
    }
}

/// Compiles a shape of fields and their expressions; `of` says what a field's name stands for.
///
/// # Errors
/// Another shape, or a malformed expression.
pub(super) fn compile_fields<T>(
    json: &Json,
    of: impl Fn(&str) -> T,
) -> Result<Vec<(T, Regexp)>, ConfigError> {
    let fields: BTreeMap<String, RegexpConfig> = shape(json)?;
    let compiled = fields.iter().map(|(name, config)| {
        let regexp = config.compile().map_err(|error| error.under(name))?;
        Ok((of(name), regexp))
    });
    compiled.collect()
}

/// Reads `[name] <field> <regexp>` lines into such a shape; `once` refuses a field's second line.
pub(super) fn parse_fields(d: &mut Dispenser, matcher: &str, once: bool) -> ParseResult<Json> {
    let mut all = BTreeMap::new();
    loop {
        let (mut first, mut second, mut third) = (String::new(), String::new(), String::new());
        if !d.args(&mut [&mut first, &mut second]) {
            return Err(d.arg_err());
        }
        let (mut name, field, pattern) = if d.args(&mut [&mut third]) {
            (first, second, third)
        } else {
            (String::new(), first, second)
        };
        if name.is_empty() {
            d.context(MATCHER_NAME).clone_into(&mut name);
        }
        if once && all.contains_key(&field) {
            return Err(d.err(format_args!(
                "{matcher} matcher can only be used once per named matcher, per header field: {field}"
            )));
        }
        all.insert(field, RegexpConfig { name, pattern });
        no_block(d, matcher)?;
        if !d.next() {
            return serde_json::to_value(all).map_err(|error| d.err(error));
        }
    }
}
