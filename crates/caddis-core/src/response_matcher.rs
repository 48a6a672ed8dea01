//! Response matchers (spec M043–M046): status and headers.

use caddis_config::ConfigError;
use http::{HeaderMap, HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// JSON shape of a response matcher.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResponseMatcherConfig {
    /// Codes, or classes as one digit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status_code: Vec<u16>,
    /// Field to patterns; `null` or no pattern at all means that the field is absent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Option<Vec<String>>>,
}

/// A compiled response matcher.
#[derive(Debug, Clone, Default)]
pub struct ResponseMatcher {
    status: Vec<u16>,
    headers: Vec<(HeaderName, Option<Vec<HeaderPattern>>)>,
}

/// A header value pattern with `*` at either end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderPattern {
    /// `*`: any value, but the field is there.
    Any,
    /// Equal.
    Exact(String),
    /// `x*`.
    Prefix(String),
    /// `*x`.
    Suffix(String),
    /// `*x*`.
    Contains(String),
}

impl HeaderPattern {
    /// Reads a pattern; every text is one.
    pub fn parse(text: &str) -> Self {
        if text == "*" {
            return Self::Any;
        }
        match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (Some(_), Some(_)) => Self::Contains(text[1..text.len() - 1].to_owned()),
            (Some(rest), None) => Self::Suffix(rest.to_owned()),
            (None, Some(rest)) => Self::Prefix(rest.to_owned()),
            (None, None) => Self::Exact(text.to_owned()),
        }
    }

    /// Whether a value fits.
    pub fn matches(&self, value: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(text) => value == text,
            Self::Prefix(text) => value.starts_with(text.as_str()),
            Self::Suffix(text) => value.ends_with(text.as_str()),
            Self::Contains(text) => value.contains(text.as_str()),
        }
    }
}

impl ResponseMatcher {
    /// Compiles the JSON shape.
    ///
    /// # Errors
    /// A header field name that is none.
    pub fn compile(config: &ResponseMatcherConfig) -> Result<Self, ConfigError> {
        let mut headers = Vec::new();
        for (name, values) in &config.headers {
            let field = HeaderName::try_from(name.as_str()).map_err(|_| {
                ConfigError::new("headers", format!("invalid header field name '{name}'"))
            })?;
            let patterns = values
                .as_ref()
                .filter(|values| !values.is_empty())
                .map(|values| values.iter().map(|value| HeaderPattern::parse(value)).collect());
            headers.push((field, patterns));
        }
        Ok(Self { status: config.status_code.clone(), headers })
    }

    /// Whether a response head fits.
    pub fn matches(&self, status: StatusCode, headers: &HeaderMap) -> bool {
        let code = status.as_u16();
        let status_fits = self.status.is_empty()
            || self.status.iter().any(|want| code == *want || (*want < 100 && code / 100 == *want));
        status_fits
            && self.headers.iter().all(|(name, patterns)| match patterns {
                None => !headers.contains_key(name),
                Some(patterns) => headers.get_all(name).iter().any(|value| {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    patterns.iter().any(|pattern| pattern.matches(&value))
                }),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_headers() {
        let config: ResponseMatcherConfig =
            serde_json::from_str(r#"{"status_code":[2,404],"headers":{"X-A":["a*"],"X-B":null}}"#)
                .expect("shape");
        let matcher = ResponseMatcher::compile(&config).expect("compiles");
        let mut headers = HeaderMap::new();
        assert!(!matcher.matches(StatusCode::OK, &headers));
        headers.insert("x-a", "abc".parse().expect("value"));
        assert!(matcher.matches(StatusCode::NO_CONTENT, &headers));
        assert!(matcher.matches(StatusCode::NOT_FOUND, &headers));
        assert!(!matcher.matches(StatusCode::FOUND, &headers));
    }
}
