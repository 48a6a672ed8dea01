//! Module slots: raw payloads by name.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Raw payloads by module name; keys come out sorted, as Go sorts a map.
pub type ModuleMap = BTreeMap<String, Value>;

/// A module object: the payload's fields plus the inline key that names the module
/// (`{"handler": "static_response", …}`). A payload that is no object contributes no fields.
pub fn module_object(payload: Value, inline_key: &str, name: &str) -> Value {
    let mut fields = match payload {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    fields.insert(inline_key.to_owned(), Value::String(name.to_owned()));
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::module_object;

    #[test]
    fn the_inline_key_joins_the_payload() {
        let object = module_object(json!({"body": "x"}), "handler", "static_response");
        assert_eq!(object, json!({"body": "x", "handler": "static_response"}));
        assert_eq!(module_object(json!(null), "output", "stdout"), json!({"output": "stdout"}));
    }
}
