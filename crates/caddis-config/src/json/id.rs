//! `@id`: short paths to objects of a configuration.

use std::collections::BTreeMap;

use serde_json::Value;

use super::path::PathError;
use super::write;

const ID_KEY: &str = "@id";

/// Paths (`/config/…`) by id; an id that is neither text nor number, or is used twice, is an error.
pub fn index(config: &Value) -> Result<BTreeMap<String, String>, PathError> {
    let mut index = BTreeMap::new();
    walk(config, &mut "/config".to_owned(), &mut index)?;
    Ok(index)
}

fn walk(
    value: &Value,
    path: &mut String,
    index: &mut BTreeMap<String, String>,
) -> Result<(), PathError> {
    let is_inner = |value: &Value| value.is_object() || value.is_array();
    let length = path.len();
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if key == ID_KEY {
                    insert(value, path, index)?;
                } else if is_inner(value) {
                    path.push('/');
                    path.push_str(key);
                    walk(value, path, index)?;
                    path.truncate(length);
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate().filter(|(_, item)| is_inner(item)) {
                path.push_str(&format!("/{at}"));
                walk(item, path, index)?;
                path.truncate(length);
            }
        }
        _ => {}
    }
    Ok(())
}

fn insert(id: &Value, path: &str, index: &mut BTreeMap<String, String>) -> Result<(), PathError> {
    let id = match id {
        Value::String(id) => id.clone(),
        Value::Number(_) => write::to_string(id).unwrap_or_default(),
        _ => {
            let message =
                format!("indexing config: {path}: {ID_KEY} field must be a string or number");
            return Err(PathError::bad_request(message));
        }
    };
    if let Some(first) = index.get(&id) {
        let message = format!("indexing config: duplicate ID '{id}' found at {first} and {path}");
        return Err(PathError::bad_request(message));
    }
    index.insert(id, path.to_owned());
    Ok(())
}

/// The configuration path that `/id/<id>[/…]` stands for.
pub fn expand(index: &BTreeMap<String, String>, path: &str) -> Result<String, PathError> {
    let mut parts = path.splitn(4, '/');
    let head = (parts.next(), parts.next());
    let id = parts.next().unwrap_or_default();
    if id.is_empty() {
        return Err(PathError::bad_request("request path is missing object ID"));
    }
    if head != (Some(""), Some("id")) {
        return Err(PathError::bad_request("malformed object path"));
    }
    let Some(base) = index.get(id) else {
        return Err(PathError::new(404, format!("unknown object ID '{id}'")));
    };
    let mut expanded = base.clone();
    let rest = parts.next().unwrap_or_default();
    for part in rest.split('/').filter(|part| !part.is_empty()) {
        expanded.push('/');
        expanded.push_str(part);
    }
    Ok(expanded)
}

/// Takes every `@id` out, so that strict decoding does not meet it.
pub fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get(ID_KEY).is_some_and(|id| id.is_string() || id.is_number()) {
                fields.remove(ID_KEY);
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{expand, index, strip};

    #[test]
    fn ids_become_paths() {
        let mut config = json!({"apps": {"a": [{"@id": "one", "x": 1}, {"@id": 2}]}});
        let ids = index(&config).unwrap();
        assert_eq!(ids["one"], "/config/apps/a/0");
        assert_eq!(ids["2"], "/config/apps/a/1");
        assert_eq!(expand(&ids, "/id/one/x").unwrap(), "/config/apps/a/0/x");
        assert_eq!(expand(&ids, "/id/2/").unwrap(), "/config/apps/a/1");
        assert_eq!(expand(&ids, "/id/none").unwrap_err().status, 404);
        assert_eq!(expand(&ids, "/id/").unwrap_err().message, "request path is missing object ID");
        strip(&mut config);
        assert_eq!(config, json!({"apps": {"a": [{"x": 1}, {}]}}));
    }

    #[test]
    fn wrong_ids() {
        let error = index(&json!({"@id": true})).unwrap_err();
        assert_eq!(error.message, "indexing config: /config: @id field must be a string or number");
        let error = index(&json!([{"@id": "a"}, {"@id": "a"}])).unwrap_err();
        assert_eq!(
            error.message,
            "indexing config: duplicate ID 'a' found at /config/0 and /config/1"
        );
    }
}
