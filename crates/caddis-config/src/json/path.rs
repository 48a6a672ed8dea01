//! Reading and editing a configuration at a path, as the admin API does.
//!
//! A path is that of the request: `/config/apps/http/servers/srv0/listen/0`. `GET` of a missing
//! last key is `null`; `POST` sets, and appends to a list (all of a list if the path ends with
//! `/...`); `PUT` creates, or inserts into a list; `PATCH` replaces; `DELETE` removes. A refused
//! edit changes nothing.

use std::fmt;

use serde_json::{Map, Value};

/// Longest path: trees are walked recursively, so their depth has to end somewhere.
const MAX_DEPTH: usize = 128;

/// A refused access: the HTTP status and the sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathError {
    /// HTTP status: 400, 404, 409, 412, or 500 where the path leads nowhere (which is 400 in a GET).
    pub status: u16,
    /// What is wrong.
    pub message: String,
}

impl PathError {
    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }

    /// The path leads nowhere. Caddy's API says 500 to such an edit.
    fn no_way(message: impl Into<String>) -> Self {
        Self::new(500, message)
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for PathError {}

/// What an edit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Set, or append to a list.
    Post,
    /// Create, or insert into a list.
    Put,
    /// Replace.
    Patch,
    /// Remove.
    Delete,
}

/// The value at `path`; `null` if only the last key is missing.
pub fn get(config: &Value, path: &str) -> Result<Value, PathError> {
    let (parts, _) = split(path)?;
    let (first, rest) = parts.split_first().ok_or_else(no_path)?;
    if *first != "config" {
        return if rest.is_empty() { Ok(Value::Null) } else { Err(invalid_at(&parts[..2])) };
    }
    let mut at = config;
    for (i, part) in rest.iter().enumerate() {
        let last = i + 1 == rest.len();
        at = match at {
            Value::Object(fields) => match fields.get(*part) {
                Some(value) => value,
                None if last => return Ok(Value::Null),
                None => return Err(invalid_at(&parts[..i + 3])),
            },
            Value::Array(items) => {
                let shown = shown_path(&parts, i + 1, path);
                &items[array_index(part, items.len(), false, &shown)?]
            }
            _ => return Err(invalid_at(&parts[..i + 2])),
        };
    }
    Ok(at.clone())
}

/// Sets the value, or appends it (its elements, after `/...`) to a list.
pub fn post(config: &mut Value, path: &str, body: Value) -> Result<(), PathError> {
    edit(config, Method::Post, path, body)
}

/// Creates a key (409 if it exists) with the objects above it, or inserts into a list.
pub fn put(config: &mut Value, path: &str, body: Value) -> Result<(), PathError> {
    edit(config, Method::Put, path, body)
}

/// Replaces an existing value (404 if there is none).
pub fn patch(config: &mut Value, path: &str, body: Value) -> Result<(), PathError> {
    edit(config, Method::Patch, path, body)
}

/// Removes an existing value (404 if there is none); without a path, everything.
pub fn delete(config: &mut Value, path: &str) -> Result<(), PathError> {
    edit(config, Method::Delete, path, Value::Null)
}

/// One edit; `config` is untouched if it is refused.
pub fn edit(config: &mut Value, method: Method, path: &str, body: Value) -> Result<(), PathError> {
    let mut root = Map::new();
    root.insert("config".to_owned(), config.clone());
    let mut root = Value::Object(root);
    apply(&mut root, method, path, body)?;
    *config = root.get_mut("config").map(Value::take).unwrap_or_default();
    Ok(())
}

fn apply(root: &mut Value, method: Method, path: &str, body: Value) -> Result<(), PathError> {
    let (parts, all) = split(path)?;
    let (last, parents) = parts.split_last().ok_or_else(no_path)?;
    let mut at = root;
    for (i, part) in parents.iter().enumerate() {
        at = match at {
            Value::Object(fields) => {
                let next = fields.entry(*part).or_insert(Value::Null);
                if next.is_null() {
                    if method != Method::Put {
                        return Err(invalid_at(&parts[..i + 2]));
                    }
                    *next = Value::Object(Map::new());
                }
                next
            }
            Value::Array(items) => {
                let shown = shown_path(&parts, i, path);
                let index = array_index(part, items.len(), false, &shown)?;
                &mut items[index]
            }
            _ => return Err(invalid_at(&parts[..=i])),
        };
    }
    match at {
        Value::Object(fields) => edit_object(fields, method, last, path, body, all),
        Value::Array(items) => edit_array(items, method, last, path, body, all),
        _ => Err(invalid_at(&parts)),
    }
}

fn edit_object(
    fields: &mut Map<String, Value>,
    method: Method,
    key: &str,
    path: &str,
    body: Value,
    all: bool,
) -> Result<(), PathError> {
    let exists = fields.contains_key(key);
    let missing = || PathError::new(404, format!("[{path}] key does not exist: {key}"));
    match method {
        Method::Post => match fields.get_mut(key) {
            Some(Value::Array(items)) => append(items, body, all)?,
            _ => {
                fields.insert(key.to_owned(), body);
            }
        },
        Method::Put if exists => {
            return Err(PathError::new(409, format!("[{path}] key already exists: {key}")));
        }
        Method::Patch if !exists => return Err(missing()),
        Method::Put | Method::Patch => {
            fields.insert(key.to_owned(), body);
        }
        Method::Delete => {
            fields.remove(key).ok_or_else(missing)?;
        }
    }
    Ok(())
}

fn edit_array(
    items: &mut Vec<Value>,
    method: Method,
    index: &str,
    path: &str,
    body: Value,
    all: bool,
) -> Result<(), PathError> {
    if method == Method::Post {
        // Below a list, POST appends and does not look at the index.
        return append(items, body, all);
    }
    let index = array_index(index, items.len(), method == Method::Put, path)?;
    match method {
        Method::Put => items.insert(index, body),
        Method::Delete => {
            items.remove(index);
        }
        Method::Patch | Method::Post => items[index] = body,
    }
    Ok(())
}

fn append(items: &mut Vec<Value>, body: Value, all: bool) -> Result<(), PathError> {
    match body {
        Value::Array(more) if all => items.extend(more),
        _ if all => return Err(PathError::no_way("final element is not an array")),
        body => items.push(body),
    }
    Ok(())
}

/// The parts of a path, and whether it ended with `...`.
fn split(path: &str) -> Result<(Vec<&str>, bool), PathError> {
    let clean = path.trim_matches('/');
    if clean.is_empty() {
        return Err(no_path());
    }
    let mut parts: Vec<&str> = clean.split('/').collect();
    if parts.len() > MAX_DEPTH {
        return Err(PathError::no_way(format!("path has more than {MAX_DEPTH} elements")));
    }
    let all = parts.last() == Some(&"...");
    if all {
        parts.pop();
    }
    Ok((parts, all))
}

fn no_path() -> PathError {
    PathError::no_way("no traversable path")
}

fn invalid_at(parts: &[&str]) -> PathError {
    PathError::no_way(format!("invalid traversal path at: {}", parts.join("/")))
}

/// The path an index error shows: the request's at its end, else as far as it was walked.
fn shown_path(parts: &[&str], at: usize, path: &str) -> String {
    if at + 1 == parts.len() { path.to_owned() } else { format!("/{}", parts[..=at].join("/")) }
}

fn array_index(text: &str, len: usize, insert: bool, path: &str) -> Result<usize, PathError> {
    let signed = text.strip_prefix('-').unwrap_or(text);
    let invalid = |why: &str| {
        PathError::no_way(format!(
            "[{path}] invalid array index '{text}': strconv.Atoi: parsing {text:?}: {why}"
        ))
    };
    if signed.is_empty() || !signed.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid("invalid syntax"));
    }
    if signed.len() > 1 && signed.starts_with('0') {
        return Err(PathError::no_way(format!(
            "[{path}] invalid array index '{text}': non-canonical array index"
        )));
    }
    let index: i64 = text.parse().map_err(|_| invalid("value out of range"))?;
    let limit = len + usize::from(insert);
    usize::try_from(index)
        .ok()
        .filter(|index| *index < limit)
        .ok_or_else(|| PathError::no_way(format!("[{path}] array index out of bounds: {text}")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{delete, get, patch, post, put};

    fn sample() -> Value {
        json!({"apps": {"http": {"servers": {"s": {"listen": ["a", "b"], "routes": [{"handle": [{"body": "x"}]}], "p": [["h1"], null]}}}}})
    }

    const SERVER: &str = "/config/apps/http/servers/s";

    fn at(path: &str) -> String {
        format!("{SERVER}{path}")
    }

    #[test]
    fn get_walks() {
        let config = sample();
        assert_eq!(get(&config, "/config/").unwrap(), config);
        assert_eq!(get(&config, &at("/listen/1")).unwrap(), json!("b"));
        assert_eq!(get(&config, &at("/listen/")).unwrap(), json!(["a", "b"]));
        assert_eq!(get(&config, &at("/routes/0/handle/0/body")).unwrap(), json!("x"));
        assert_eq!(get(&config, &at("/p/0/0")).unwrap(), json!("h1"));
        assert_eq!(get(&config, "/config/nothing").unwrap(), Value::Null);
        for (path, message) in [
            (
                "/config/apps/none/deeper/still".to_owned(),
                "invalid traversal path at: config/apps/none/deeper",
            ),
            (
                at("/listen/7"),
                "[/config/apps/http/servers/s/listen/7] array index out of bounds: 7",
            ),
            (
                at("/listen/-1"),
                "[/config/apps/http/servers/s/listen/-1] array index out of bounds: -1",
            ),
            (
                at("/listen/x"),
                "[/config/apps/http/servers/s/listen/x] invalid array index 'x': strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (
                at("/routes/9/handle/0"),
                "[/config/apps/http/servers/s/routes/9] array index out of bounds: 9",
            ),
            (
                at("/listen/0/more"),
                "invalid traversal path at: config/apps/http/servers/s/listen/0/more",
            ),
            ("/".to_owned(), "no traversable path"),
        ] {
            let error = get(&config, &path).unwrap_err();
            assert_eq!((error.status, error.message.as_str()), (500, message));
        }
    }

    #[test]
    fn get_of_an_empty_configuration() {
        assert_eq!(get(&Value::Null, "/config/").unwrap(), Value::Null);
        let error = get(&Value::Null, "/config/apps").unwrap_err();
        assert_eq!(error.message, "invalid traversal path at: config/apps");
    }

    #[test]
    fn arrays() {
        let mut config = json!({"p": ["/a"]});
        post(&mut config, "/config/p", json!("/b")).unwrap();
        post(&mut config, "/config/p/...", json!(["/c", "/d"])).unwrap();
        put(&mut config, "/config/p/0", json!("/zero")).unwrap();
        put(&mut config, "/config/p/3", json!("/three")).unwrap();
        patch(&mut config, "/config/p/1", json!("/one")).unwrap();
        delete(&mut config, "/config/p/2").unwrap();
        assert_eq!(config, json!({"p": ["/zero", "/one", "/three", "/c", "/d"]}));
        put(&mut config, "/config/p/5", json!("/end")).unwrap();
        assert!(put(&mut config, "/config/p/9", json!(1)).is_err());
        assert!(patch(&mut config, "/config/p/6", json!(1)).is_err());
        assert!(patch(&mut config, "/config/p/00", json!(1)).is_err());
        let error = post(&mut config, "/config/p/...", json!(1)).unwrap_err();
        assert_eq!(error.message, "final element is not an array");
        let mut nested = json!({"p": [["h1"]]});
        put(&mut nested, "/config/p/0/0", json!("h2")).unwrap();
        delete(&mut nested, "/config/p/0/1").unwrap();
        assert_eq!(nested, json!({"p": [["h2"]]}));
    }

    #[test]
    fn objects() {
        let mut config = sample();
        let error = put(&mut config, "/config/apps/http/servers", json!({})).unwrap_err();
        assert_eq!(error.status, 409);
        assert_eq!(error.message, "[/config/apps/http/servers] key already exists: servers");
        let error = patch(&mut config, "/config/apps/tls", json!({})).unwrap_err();
        assert_eq!(error.status, 404);
        assert_eq!(error.message, "[/config/apps/tls] key does not exist: tls");
        assert_eq!(delete(&mut config, "/config/apps/http/servers/none").unwrap_err().status, 404);
        assert_eq!(post(&mut config, "/config/x/y", json!(1)).unwrap_err().status, 500);
        assert_eq!(config, sample());
        put(&mut config, "/config/x/y/z", json!(1)).unwrap();
        assert_eq!(config["x"], json!({"y": {"z": 1}}));
    }

    #[test]
    fn a_refused_put_leaves_no_parents() {
        let mut config = json!({"a": "text"});
        assert!(put(&mut config, "/config/a/b/c", json!(1)).is_err());
        assert!(put(&mut config, &format!("/config{}", "/a".repeat(50_000)), json!(1)).is_err());
        assert!(put(&mut config, "/config/n/m/", json!(1)).is_ok());
        let before = config.clone();
        assert!(put(&mut config, "/config/n/m/o/p", json!(1)).is_err());
        assert_eq!(config, before);
    }

    #[test]
    fn the_whole() {
        let mut config = sample();
        delete(&mut config, "/config/").unwrap();
        assert_eq!(config, Value::Null);
        post(&mut config, "/config/", json!({"a": 1})).unwrap();
        patch(&mut config, "/config", json!({"a": 2})).unwrap();
        assert_eq!(config, json!({"a": 2}));
        assert_eq!(put(&mut config, "/config/", json!({})).unwrap_err().status, 409);
    }
}
