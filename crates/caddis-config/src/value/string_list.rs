//! A list of strings that may be written as one string.

use std::fmt;
use std::ops::Deref;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::omit::Omit;

/// Strings; JSON reads a string as a list of one, and always writes a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StringList(pub Vec<String>);

impl Deref for StringList {
    type Target = Vec<String>;

    fn deref(&self) -> &Vec<String> {
        &self.0
    }
}

impl From<Vec<String>> for StringList {
    fn from(strings: Vec<String>) -> Self {
        Self(strings)
    }
}

impl Omit for StringList {
    fn is_omitted(&self) -> bool {
        self.0.is_empty()
    }
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = StringList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E>(self, text: &str) -> Result<StringList, E> {
        Ok(StringList(vec![text.to_owned()]))
    }

    fn visit_unit<E>(self) -> Result<StringList, E> {
        Ok(StringList::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<StringList, A::Error> {
        let mut strings = Vec::new();
        while let Some(text) = seq.next_element()? {
            strings.push(text);
        }
        Ok(StringList(strings))
    }
}

impl<'de> Deserialize<'de> for StringList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::StringList;

    #[test]
    fn one_or_many() {
        let one: StringList = serde_json::from_str("\"a\"").unwrap();
        assert_eq!(serde_json::to_string(&one).unwrap(), "[\"a\"]");
        let many: StringList = serde_json::from_str("[\"a\",\"b\"]").unwrap();
        assert_eq!(many.len(), 2);
        assert!(serde_json::from_str::<StringList>("[1]").is_err());
    }
}
