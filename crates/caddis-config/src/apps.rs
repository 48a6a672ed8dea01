//! `apps`: the known ones typed, the rest kept raw.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::omit::Omit;
use crate::{EventsApp, Filesystems, HttpApp, Pki, TlsApp};

/// Apps by name; written with sorted keys, as Go writes a map.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Apps {
    /// `caddy.filesystems`: named file systems.
    pub filesystems: Option<Filesystems>,
    /// `events`: subscriptions.
    pub events: Option<EventsApp>,
    /// `http`: servers and routes.
    pub http: Option<HttpApp>,
    /// `pki`: certificate authorities.
    pub pki: Option<Pki>,
    /// `tls`: certificates and their automation.
    pub tls: Option<TlsApp>,
    /// Every other app, raw.
    pub other: BTreeMap<String, Value>,
}

impl Apps {
    /// Whether no app is configured.
    pub fn is_empty(&self) -> bool {
        self.filesystems.is_none()
            && self.events.is_none()
            && self.http.is_none()
            && self.pki.is_none()
            && self.tls.is_none()
            && self.other.is_empty()
    }
}

impl Omit for Apps {
    fn is_omitted(&self) -> bool {
        self.is_empty()
    }
}

/// One app, borrowed for writing.
#[derive(Serialize)]
#[serde(untagged)]
enum App<'a> {
    Filesystems(&'a Filesystems),
    Events(&'a EventsApp),
    Http(&'a HttpApp),
    Pki(&'a Pki),
    Tls(&'a TlsApp),
    Other(&'a Value),
}

impl Serialize for Apps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all: BTreeMap<&str, App<'_>> = BTreeMap::new();
        for (name, value) in &self.other {
            all.insert(name, App::Other(value));
        }
        let known = [
            ("caddy.filesystems", self.filesystems.as_ref().map(App::Filesystems)),
            ("events", self.events.as_ref().map(App::Events)),
            ("http", self.http.as_ref().map(App::Http)),
            ("pki", self.pki.as_ref().map(App::Pki)),
            ("tls", self.tls.as_ref().map(App::Tls)),
        ];
        for (name, app) in known {
            if let Some(app) = app {
                all.insert(name, app);
            }
        }
        let mut map = serializer.serialize_map(Some(all.len()))?;
        for (name, app) in &all {
            map.serialize_entry(name, app)?;
        }
        map.end()
    }
}

struct AppsVisitor;

impl<'de> Visitor<'de> for AppsVisitor {
    type Value = Apps;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of apps")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Apps, A::Error> {
        let mut apps = Apps::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "caddy.filesystems" => apps.filesystems = map.next_value()?,
                "events" => apps.events = map.next_value()?,
                "http" => apps.http = map.next_value()?,
                "pki" => apps.pki = map.next_value()?,
                "tls" => apps.tls = map.next_value()?,
                _ => {
                    let value = map.next_value()?;
                    apps.other.insert(name, value);
                }
            }
        }
        Ok(apps)
    }
}

impl<'de> Deserialize<'de> for Apps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(AppsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use crate::{from_str, json::write};

    #[test]
    fn apps_are_written_sorted() {
        let text = r#"{"apps":{"caddy.filesystems":{"filesystems":[{"name":"a"}]},"events":{},"http":{},"layer4":{"x":1},"pki":{},"tls":{}}}"#;
        let config = from_str(text).unwrap();
        assert_eq!(config.apps.other.len(), 1);
        assert_eq!(write::to_string(&config).unwrap(), text);
    }
}
