//! Routes.

use serde::Serialize;
use serde::ser::{SerializeMap, SerializeSeq, Serializer};
use serde_json::{Map, Value};

use crate::module::ModuleMap;

/// Routes, in order.
pub type RouteList = Vec<Route>;

envelope! {
    /// Matchers and what to do when one set of them matches.
    pub struct Route {
        /// Of the routes in one group, only the first that matches runs.
        pub group: String,
        /// Matcher sets: any set, all in a set; always if empty.
        #[serde(rename = "match", serialize_with = "matcher_sets")]
        pub matcher_sets: Vec<ModuleMap>,
        /// Handlers, key `handler`; the first is the outermost.
        pub handle: Vec<Value>,
        /// No route after this one.
        pub terminal: bool,
    }
}

/// The fields of the `file` matcher in Caddy's order. All other matchers are in alphabetical order
/// anyway, and what is inside of handlers is sorted.
const FILE_FIELDS: [&str; 5] = ["fs", "root", "try_files", "try_policy", "split_path"];

fn matcher_sets<S: Serializer>(sets: &[ModuleMap], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(sets.iter().map(|set| Set(set.iter())))
}

/// A matcher set.
struct Set<I>(I);

impl<'a, I, K> Serialize for Set<I>
where
    I: Iterator<Item = (K, &'a Value)> + Clone,
    K: AsRef<str>,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, matcher) in self.0.clone() {
            match (name.as_ref(), matcher) {
                ("file", Value::Object(fields)) => map.serialize_entry("file", &File(fields))?,
                ("not", Value::Array(sets)) => map.serialize_entry("not", &Not(sets))?,
                (name, matcher) => map.serialize_entry(name, matcher)?,
            }
        }
        map.end()
    }
}

struct Not<'a>(&'a [Value]);

impl Serialize for Not<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for set in self.0 {
            match set {
                Value::Object(set) => seq.serialize_element(&Set(set.iter()))?,
                other => seq.serialize_element(other)?,
            }
        }
        seq.end()
    }
}

struct File<'a>(&'a Map<String, Value>);

impl Serialize for File<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let known = FILE_FIELDS.iter().filter_map(|name| self.0.get_key_value(*name));
        let other = self.0.iter().filter(|(name, _)| !FILE_FIELDS.contains(&name.as_str()));
        serializer.collect_map(known.chain(other))
    }
}

#[cfg(test)]
mod tests {
    use crate::json::write::to_string;

    use super::Route;

    #[test]
    fn file_matchers_have_their_own_order() {
        let file =
            r#"{"file":{"root":"/a","try_files":["b"],"try_policy":"x","split_path":[".php"]}}"#;
        let text = format!(r#"{{"match":[{file},{{"not":[{file}],"path":["/"]}}]}}"#);
        let route: Route = serde_json::from_str(&text).unwrap();
        assert_eq!(to_string(&route).unwrap(), text);
    }
}
