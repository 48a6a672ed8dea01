//! Events: what happened, told to whom the configuration names (spec T094, A038).
//!
//! Nobody is waited for, so that no subscriber can hold up or stop what is told.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use serde_json::Value as Json;

use crate::placeholder::random_uuid;

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Event {
    /// A UUID.
    pub id: String,
    /// When.
    pub time: SystemTime,
    /// What, for example `cert_obtained`.
    pub name: String,
    /// The id of the module that tells it; empty for the program itself.
    pub module: String,
    /// Its particulars, an object.
    pub data: Json,
}

/// Hears an event; must not block.
pub type EventHandler = Arc<dyn Fn(&Event) + Send + Sync>;

/// Whom to tell what.
#[derive(Clone)]
pub struct Subscription {
    /// Names of events; all if empty or one of them is.
    pub events: Vec<String>,
    /// Ids or namespaces of modules; all if empty.
    pub modules: Vec<String>,
    /// Who hears it.
    pub handlers: Vec<EventHandler>,
}

/// The subscriptions in force.
#[derive(Default)]
pub struct Events(Mutex<Arc<[Subscription]>>);

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    /// Puts other subscriptions in place.
    pub fn set(&self, subscriptions: Vec<Subscription>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = subscriptions.into();
    }

    /// Tells an event.
    pub fn emit(&self, name: &str, module: &str, data: Json) {
        let subscriptions = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if subscriptions.is_empty() {
            return;
        }
        let event = Event {
            id: random_uuid(),
            time: SystemTime::now(),
            name: name.to_owned(),
            module: module.to_owned(),
            data,
        };
        for subscription in subscriptions.iter().filter(|one| one.wants(&event)) {
            for handler in &subscription.handlers {
                handler(&event);
            }
        }
    }
}

impl Subscription {
    fn wants(&self, event: &Event) -> bool {
        let named = self.events.is_empty()
            || self.events.iter().any(|name| name.is_empty() || *name == event.name);
        let within = |namespace: &String| {
            event.module == *namespace
                || event
                    .module
                    .strip_prefix(namespace.as_str())
                    .is_some_and(|rest| rest.starts_with('.'))
        };
        named && (self.modules.is_empty() || self.modules.iter().any(within))
    }
}

impl Event {
    /// A text with the event's placeholders (`{event.name}`, `{event.data.identifier}`, …) filled
    /// in; those of other kinds stay.
    pub fn fill(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{event.") {
            out.push_str(before);
            let Some((key, after)) = after.split_once('}') else {
                out.push_str("{event.");
                rest = after;
                continue;
            };
            out.push_str(&self.value(key));
            rest = after;
        }
        out.push_str(rest);
        out
    }

    fn value(&self, key: &str) -> String {
        let seconds = self.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        match key {
            "id" => self.id.clone(),
            "name" => self.name.clone(),
            "module" => self.module.clone(),
            "time_unix" => seconds.as_secs().to_string(),
            "data" => self.data.to_string(),
            _ => match key.strip_prefix("data.").and_then(|field| self.data.get(field)) {
                Some(Json::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => String::new(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::json;

    use super::{Events, Subscription};

    #[test]
    fn subscribers_hear_what_they_want() {
        let events = Events::default();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let on = |events: &[&str], modules: &[&str], mark: &'static str| {
            let heard = heard.clone();
            let text = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
            Subscription {
                events: text(events),
                modules: text(modules),
                handlers: vec![Arc::new(move |event| {
                    let told =
                        event.fill("{event.name} {event.data.a} {event.data.b}{event.x} {x}");
                    heard.lock().unwrap().push(format!("{mark}: {told}"));
                })],
            }
        };
        events.set(vec![on(&["one"], &[], "a"), on(&[""], &["tls"], "b"), on(&[], &["http"], "c")]);
        events.emit("one", "tls", json!({ "a": "x", "b": 1 }));
        events.emit("two", "tls.obtain", json!({}));
        events.emit("three", "tlsx", json!({}));
        let want = ["a: one x 1 {x}", "b: one x 1 {x}", "b: two   {x}"];
        assert_eq!(*heard.lock().unwrap(), want);
    }
}
