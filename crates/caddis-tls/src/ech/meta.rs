//! `meta.json` of an ECH configuration, as Caddy keeps it (J154):
//! `{"created":"2026-11-29T17:30:05.889113766Z","publications":null}`, with `replaced` once another
//! key has taken its place.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// When which name was published, by publisher.
type History = BTreeMap<String, Option<BTreeMap<String, GoTime>>>;

/// What is known of a configuration besides itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Meta {
    /// When it was made; the zero time where that is not known.
    pub(super) created: GoTime,
    /// When another one took its place; the zero time before.
    #[serde(skip_serializing_if = "GoTime::is_zero")]
    pub(super) replaced: GoTime,
    /// Absent before the first publication.
    publications: Option<History>,
}

/// A time as Go writes it. Its zero is the beginning of the year 1, by which absence is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GoTime(pub(super) OffsetDateTime);

// === impl Meta ===

impl Meta {
    pub(super) fn new(created: OffsetDateTime) -> Self {
        Self { created: GoTime(created), ..Self::default() }
    }

    /// Reads what is stored. An empty file says nothing, as for Caddy.
    pub(super) fn parse(json: &[u8]) -> serde_json::Result<Self> {
        if json.is_empty() {
            return Ok(Self::default());
        }
        serde_json::from_slice::<Option<Self>>(json).map(Option::unwrap_or_default)
    }

    /// As it is stored.
    pub(super) fn write(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    pub(super) fn is_replaced(&self) -> bool {
        !self.replaced.is_zero()
    }

    /// Whether a publisher has published it for a name.
    pub(super) fn is_published(&self, publisher: &str, name: &str) -> bool {
        let by = self.publications.as_ref().and_then(|all| all.get(publisher));
        by.and_then(Option::as_ref).is_some_and(|names| names.contains_key(name))
    }

    /// Takes note of a publication.
    pub(super) fn note_published<'a>(
        &mut self,
        publisher: &str,
        names: impl IntoIterator<Item = &'a str>,
        at: OffsetDateTime,
    ) {
        let all = self.publications.get_or_insert_default();
        let by = all.entry(publisher.to_owned()).or_default().get_or_insert_default();
        by.extend(names.into_iter().map(|name| (name.to_owned(), GoTime(at))));
    }
}

// === impl GoTime ===

impl GoTime {
    /// Seconds from the beginning of the year 1 to 1970.
    const ZERO: i64 = -62_135_596_800;

    pub(super) fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for GoTime {
    fn default() -> Self {
        Self(OffsetDateTime::from_unix_timestamp(Self::ZERO).unwrap_or(OffsetDateTime::UNIX_EPOCH))
    }
}

impl Serialize for GoTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.0.format(&Rfc3339).map_err(S::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for GoTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Go leaves a time as it is where there is `null`.
        let Some(text) = Option::<String>::deserialize(deserializer)? else {
            return Ok(Self::default());
        };
        OffsetDateTime::parse(&text, &Rfc3339).map(Self).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::Meta;

    /// As written by Caddy 2.10.2.
    const FRESH: &str = r#"{"created":"2026-11-29T17:30:05.889113766Z","publications":null}"#;

    #[test]
    fn caddys_bytes_come_back() {
        let mut meta = Meta::parse(FRESH.as_bytes()).unwrap();
        assert_eq!(meta.created.0, datetime!(2026-11-29 17:30:05.889_113_766 UTC));
        assert_eq!(meta.write().unwrap(), FRESH.as_bytes());
        assert_eq!(meta, Meta::new(meta.created.0));
        assert!(!meta.is_replaced() && !meta.is_published("dns.providers.x", "a.test"));
        meta.note_published(
            "dns.providers.x",
            ["b.test", "a.test"],
            datetime!(2026-12-01 0:00 UTC),
        );
        meta.replaced.0 = datetime!(2026-12-30 12:00:00.5 +01:00);
        let text = r#"{"created":"2026-11-29T17:30:05.889113766Z","replaced":"2026-12-30T12:00:00.5+01:00","publications":{"dns.providers.x":{"a.test":"2026-12-01T00:00:00Z","b.test":"2026-12-01T00:00:00Z"}}}"#;
        assert_eq!(String::from_utf8(meta.write().unwrap()).unwrap(), text);
        let read = Meta::parse(text.as_bytes()).unwrap();
        assert_eq!(read, meta);
        assert!(read.is_replaced() && read.is_published("dns.providers.x", "a.test"));
        assert!(!read.is_published("dns.providers.x", "c.test"));
        assert!(!read.is_published("dns.providers.y", "a.test"));
    }

    #[test]
    fn what_go_takes_is_taken() {
        for text in [
            "",
            "null",
            "{}",
            r#"{"created": null, "replaced": null, "other": 1}"#,
            r#"{"created": "0001-01-01T00:00:00Z", "publications": null}"#,
        ] {
            let meta = Meta::parse(text.as_bytes()).unwrap();
            assert_eq!(meta, Meta::default(), "{text}");
            assert!(meta.created.is_zero() && !meta.is_replaced());
        }
        let zero = r#"{"created":"0001-01-01T00:00:00Z","publications":null}"#;
        assert_eq!(Meta::default().write().unwrap(), zero.as_bytes());
        let holes = r#"{"publications": {"a": null, "b": {"c": null}}}"#;
        let holes = Meta::parse(holes.as_bytes()).unwrap();
        assert!(holes.is_published("b", "c") && !holes.is_published("a", "c"));
        for garbage in ["{", "7", "\"\"", r#"{"created": "yesterday"}"#, r#"{"publications": []}"#]
        {
            assert!(Meta::parse(garbage.as_bytes()).is_err(), "{garbage}");
        }
    }
}
