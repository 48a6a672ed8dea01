//! Strict decoding with the path of what is wrong.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use crate::{Config, ConfigError};

/// Reads a typed shape out of raw JSON; an unknown field is an error.
pub fn decode<T: DeserializeOwned>(value: Value) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = dotted(error.path());
        explain(path, &error.into_inner().to_string())
    })
}

/// Reads a whole configuration; the last of two equal keys wins, as in Go.
pub fn from_slice(bytes: &[u8]) -> Result<Config, ConfigError> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| ConfigError::new("", format!("invalid JSON: {error}")))?;
    if value.is_null() {
        return Ok(Config::default());
    }
    decode(value)
}

/// [`from_slice`] for text.
pub fn from_str(text: &str) -> Result<Config, ConfigError> {
    from_slice(text.as_bytes())
}

fn dotted(path: &Path) -> String {
    let mut out = String::new();
    for segment in path.iter() {
        let part = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } => key.clone(),
            Segment::Enum { variant } => variant.clone(),
            Segment::Unknown => continue,
        };
        if !out.is_empty() {
            out.push('.');
        }
        out.push_str(&part);
    }
    out
}

/// Go's sentence for an unknown field, with the field at the end of the path.
fn explain(path: String, message: &str) -> ConfigError {
    let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
    let Some((field, _)) = unknown else {
        return ConfigError::new(path, message);
    };
    let sentence = format!("json: unknown field \"{field}\"");
    if path == field || path.ends_with(&format!(".{field}")) {
        return ConfigError::new(path, sentence);
    }
    ConfigError::new(field, sentence).under(path)
}

#[cfg(test)]
mod tests {
    use super::from_str;

    #[test]
    fn an_unknown_field_names_its_path() {
        let error = from_str(r#"{"apps":{"http":{"servers":{"srv0":{"listn":[]}}}}}"#).unwrap_err();
        assert_eq!(error.path, "apps.http.servers.srv0.listn");
        assert_eq!(error.message, "json: unknown field \"listn\"");
        let error = from_str(r#"{"app":{}}"#).unwrap_err();
        assert_eq!(error.to_string(), "app: json: unknown field \"app\"");
    }

    #[test]
    fn a_wrong_type_names_its_path() {
        let error = from_str(
            r#"{"apps":{"http":{"servers":{"a":{"routes":[{"handle":[]},{"terminal":1}]}}}}}"#,
        )
        .unwrap_err();
        assert_eq!(error.path, "apps.http.servers.a.routes.1.terminal");
        assert!(error.message.contains("expected a boolean"), "{error}");
        let error = from_str(r#"{"apps":{"http":{"grace_period":"1q"}}}"#).unwrap_err();
        assert_eq!(error.path, "apps.http.grace_period");
        assert_eq!(error.message, "time: unknown unit \"q\" in duration \"1q\"");
    }

    #[test]
    fn null_is_the_default() {
        let config = from_str(
            r#"{"admin":null,"storage":null,"apps":{"tls":null,"http":{"http_port":null,"servers":null}}}"#,
        )
        .unwrap();
        assert!(config.admin.is_none() && config.storage.is_none());
        assert!(from_str("null").unwrap().apps.is_empty());
        assert!(from_str("{").is_err());
    }
}
