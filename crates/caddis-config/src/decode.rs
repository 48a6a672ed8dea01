//! Strict decoding with the path of what is wrong.

use serde::de::{DeserializeOwned, Deserializer, value::MapDeserializer};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use crate::{Config, ConfigError};

/// Reads a typed shape out of raw JSON; an unknown field is an error.
pub fn decode<T: DeserializeOwned>(value: Value) -> Result<T, ConfigError> {
    read(value)
}

/// [`decode`] for a value that stays, as if the member with this name were not in it. Nothing is copied
/// that the shape does not hold.
pub fn decode_without<T: DeserializeOwned>(value: &Value, key: &str) -> Result<T, ConfigError> {
    let Some(object) = value.as_object() else { return read(value) };
    let members = object.iter().filter(|(name, _)| *name != key);
    read(MapDeserializer::new(members.map(|(name, value)| (name.as_str(), value))))
}

fn read<'de, T: DeserializeOwned>(
    from: impl Deserializer<'de, Error = serde_json::Error>,
) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(from).map_err(|error| {
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
    fn a_member_may_be_passed_over() {
        let value = serde_json::json!({"handler": "x", "group": "g", "terminal": true});
        let route: crate::Route = super::decode_without(&value, "handler").unwrap();
        assert_eq!((route.group.as_str(), route.terminal), ("g", true));
        let error = super::decode_without::<crate::Route>(&value, "none").unwrap_err();
        assert_eq!(error.path, "handler");
        let error = super::decode_without::<crate::Route>(&serde_json::json!(1), "x").unwrap_err();
        assert!(error.message.starts_with("invalid type: integer"), "{error}");
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
            r#"{"admin":null,"apps":{"tls":null,"http":{"http_port":null,"servers":null}}}"#,
        )
        .unwrap();
        assert!(config.admin.is_none() && config.storage.is_none());
        // A module stays one, which has no name, and written it is the same again.
        let text = r#"{"storage":null}"#;
        let module = from_str(text).unwrap();
        assert_eq!(module.storage, Some(serde_json::Value::Null));
        assert_eq!(serde_json::to_string(&module).unwrap(), text);
        assert!(from_str("null").unwrap().apps.is_empty());
        assert!(from_str("{").is_err());
    }
}
