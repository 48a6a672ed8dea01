//! Entity tags of a configuration: `"<path> <xxhash64 of the JSON line>"`, and `If-Match`.

use serde_json::Value;
use xxhash_rust::xxh64::xxh64;

use super::path::{PathError, get};
use super::write::to_line;

/// The tag of `value` as it is answered at `path`, with its quotes.
pub fn etag(path: &str, value: &Value) -> String {
    format!("\"{path} {}\"", hash(value))
}

/// Checks an `If-Match` header against the configuration; an empty one says nothing, 400 if it is
/// malformed, 412 if it is for other content.
pub fn check_if_match(config: &Value, header: &str) -> Result<(), PathError> {
    if header.is_empty() {
        return Ok(());
    }
    let inner = header.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let inner = inner
        .ok_or_else(|| PathError::bad_request("malformed If-Match header; expect quoted string"))?;
    let mut parts = inner.split_whitespace();
    let (Some(path), Some(expected), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(PathError::bad_request(
            "malformed If-Match header; expect format \"<path> <hash>\"",
        ));
    };
    if hash(&get(config, path)?) == expected {
        return Ok(());
    }
    Err(PathError::new(412, "If-Match header did not match current config hash"))
}

fn hash(value: &Value) -> String {
    // A JSON tree has only string keys, so writing it cannot fail.
    let line = to_line(value).unwrap_or_default();
    format!("{:016x}", xxh64(line.as_bytes(), 0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{check_if_match, etag};

    #[test]
    fn tags_match_their_content() {
        let config = json!({"apps": {"x": [1]}});
        let tag = etag("/config/apps/x", &config["apps"]["x"]);
        let recorded = json!([{"body": "<x>", "handler": "static_response"}]);
        assert_eq!(etag("/p", &recorded), "\"/p f4e884f76a702e2d\"");
        assert!(tag.starts_with("\"/config/apps/x ") && tag.ends_with('"'), "{tag}");
        assert_eq!(check_if_match(&config, &tag), Ok(()));
        let other = json!({"apps": {"x": [2]}});
        assert_eq!(check_if_match(&other, &tag).unwrap_err().status, 412);
        assert_eq!(check_if_match(&config, ""), Ok(()));
        let nowhere = check_if_match(&config, "\"/config/none/deep 1\"").unwrap_err();
        assert_eq!(nowhere.status, 500);
        for wrong in ["\"", "abc", "\"abc\"", "\"a b c\""] {
            assert_eq!(check_if_match(&config, wrong).unwrap_err().status, 400, "{wrong}");
        }
    }
}
