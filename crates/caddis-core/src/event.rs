//! Events: what happened, told to whom the configuration names (spec T094, T095, A038, J017).
//!
//! An event of the module `a.b.c` goes to those who listen to `a.b.c`, then `a.b`, then `a`, then to
//! those who listen to any module; first those who named the event, then those who want all. A
//! handler may abort an event: then nobody else hears of it, and whoever told it may act on that.
//! Who waits for that [emits](Subscriptions::emit) an event, who does not [tells](Events::tell) it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use serde_json::Value as Json;

use crate::placeholder::{go_time, random_uuid};

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

/// Why a handler did not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was wrong.
    pub message: String,
    /// The event is aborted.
    pub aborts: bool,
}

/// An event was aborted by a handler, which gave this reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aborted(pub String);

impl fmt::Display for Aborted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event aborted: {}", self.0)
    }
}

/// What goes on while an event is heard.
pub type EventFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Hears an event. The future ends when the next handler may hear it; it needs no special runtime.
pub type EventHandler = Arc<dyn Fn(&Arc<Event>) -> EventFuture<Result<(), Refusal>> + Send + Sync>;

/// Runs work that nobody waits for.
pub type Spawn = Arc<dyn Fn(EventFuture<()>) + Send + Sync>;

/// Whom to tell what.
#[derive(Clone)]
pub struct Subscription {
    /// Names of events; all if empty or one of them is.
    pub events: Vec<String>,
    /// Ids or namespaces of modules; all if empty or one of them is.
    pub modules: Vec<String>,
    /// Who hears it.
    pub handlers: Vec<EventHandler>,
}

/// The subscriptions of one configuration.
#[derive(Clone, Default)]
pub struct Subscriptions(Arc<[Subscription]>);

/// The subscriptions in force.
#[derive(Default)]
pub struct Events {
    current: Mutex<Subscriptions>,
    /// There are subscriptions; saves the lock where there are none.
    any: AtomicBool,
    spawn: Mutex<Option<Spawn>>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Events")
    }
}

impl Events {
    /// Puts other subscriptions in place; `spawn` runs handlers that nobody waits for.
    pub fn set(&self, subscriptions: Subscriptions, spawn: Spawn) {
        *self.spawn.lock().unwrap_or_else(PoisonError::into_inner) = Some(spawn);
        let any = !subscriptions.0.is_empty();
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = subscriptions;
        self.any.store(any, Ordering::Release);
    }

    /// The subscriptions in force, where there are any.
    pub fn current(&self) -> Option<Subscriptions> {
        self.any.load(Ordering::Acquire).then(|| self.locked().clone())
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Subscriptions> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anybody wants an event.
    pub fn wants(&self, name: &str, module: &str) -> bool {
        self.any.load(Ordering::Acquire) && self.locked().wants(name, module)
    }

    /// Tells an event and waits until everybody has heard it.
    ///
    /// # Errors
    /// A handler aborted it.
    pub async fn emit(&self, name: &str, module: &str, data: Json) -> Result<(), Aborted> {
        match self.current() {
            Some(subscriptions) => subscriptions.emit(name, module, data).await,
            None => Ok(()),
        }
    }

    /// Tells an event and goes on.
    pub fn tell(&self, name: &str, module: &str, data: Json) {
        if let Some(subscriptions) = self.current() {
            self.tell_to(&subscriptions, name, module, data);
        }
    }

    /// Tells an event to subscriptions that may be no longer in force, and goes on.
    pub fn tell_to(&self, subscriptions: &Subscriptions, name: &str, module: &str, data: Json) {
        let spawn = self.spawn.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(spawn) = spawn.filter(|_| subscriptions.wants(name, module)) else { return };
        let (subscriptions, name) = (subscriptions.clone(), name.to_owned());
        let module = module.to_owned();
        spawn(Box::pin(async move {
            // That it was aborted is told where that happened.
            let _ = subscriptions.emit(&name, &module, data).await;
        }));
    }
}

impl From<Vec<Subscription>> for Subscriptions {
    fn from(all: Vec<Subscription>) -> Self {
        Self(all.into())
    }
}

impl Subscriptions {
    fn wants(&self, name: &str, module: &str) -> bool {
        !self.handlers(name, module).is_empty()
    }

    /// Who hears an event, in order.
    fn handlers(&self, name: &str, module: &str) -> Vec<&EventHandler> {
        let names: &[&str] = if name.is_empty() { &[""] } else { &[name, ""] };
        let origins = origins(module);
        let mut all = Vec::new();
        for name in names {
            for origin in &origins {
                let wants =
                    |one: &&Subscription| is_in(&one.events, name) && is_in(&one.modules, origin);
                all.extend(self.0.iter().filter(wants).flat_map(|one| &one.handlers));
            }
        }
        all
    }

    /// Tells an event and waits until everybody has heard it.
    ///
    /// # Errors
    /// A handler aborted it.
    pub async fn emit(&self, name: &str, module: &str, data: Json) -> Result<(), Aborted> {
        let handlers = self.handlers(name, module);
        if handlers.is_empty() {
            return Ok(());
        }
        let event = Arc::new(Event {
            id: random_uuid(),
            time: SystemTime::now(),
            name: name.to_owned(),
            module: module.to_owned(),
            data,
        });
        for handler in handlers {
            if let Err(refusal) = handler(&event).await
                && refusal.aborts
            {
                return Err(Aborted(refusal.message));
            }
        }
        Ok(())
    }
}

/// A module's id and the namespaces it is in, the last one empty.
fn origins(module: &str) -> Vec<&str> {
    let mut all = Vec::new();
    let mut rest = module;
    while !rest.is_empty() {
        all.push(rest);
        rest = rest.rsplit_once('.').map_or("", |(namespace, _)| namespace);
    }
    all.push("");
    all
}

/// Whether a list names it; an empty list names what is empty.
fn is_in(list: &[String], wanted: &str) -> bool {
    if list.is_empty() { wanted.is_empty() } else { list.iter().any(|one| one == wanted) }
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
        let since = self.time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        match key {
            "id" => self.id.clone(),
            "name" => self.name.clone(),
            "module" => self.module.clone(),
            "time" => go_time(self.time.into()),
            "time_unix" => since.as_millis().to_string(),
            "data" => shown(&self.data),
            _ => match key.strip_prefix("data.").and_then(|field| self.data.get(field)) {
                Some(value) => shown(value),
                None => String::new(),
            },
        }
    }
}

/// A value as Go prints it.
fn shown(value: &Json) -> String {
    match value {
        Json::Null => "<nil>".to_owned(),
        Json::String(text) => text.clone(),
        Json::Array(all) => {
            format!("[{}]", all.iter().map(shown).collect::<Vec<_>>().join(" "))
        }
        Json::Object(all) => {
            let pairs = all.iter().map(|(key, value)| format!("{key}:{}", shown(value)));
            format!("map[{}]", pairs.collect::<Vec<_>>().join(" "))
        }
        Json::Bool(_) | Json::Number(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        sync::{Arc, Mutex},
        task::{Context, Poll, Waker},
        time::{Duration, SystemTime},
    };

    use serde_json::json;

    use super::{Event, Events, Refusal, Subscription};

    fn ready<T>(work: impl Future<Output = T>) -> T {
        let mut cx = Context::from_waker(Waker::noop());
        match pin!(work).poll(&mut cx) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("handlers of this test are ready at once"),
        }
    }

    type Heard = Arc<Mutex<Vec<String>>>;

    fn on(
        heard: &Heard,
        events: &[&str],
        modules: &[&str],
        mark: &'static str,
        refusal: Option<bool>,
    ) -> Subscription {
        let heard = heard.clone();
        let text = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        Subscription {
            events: text(events),
            modules: text(modules),
            handlers: vec![Arc::new(move |event| {
                let told = event.fill("{event.name} {event.data.a} {event.data.b}{event.x} {x}");
                heard.lock().unwrap().push(format!("{mark}: {told}"));
                let refusal = refusal.map(|aborts| Refusal { message: "no".into(), aborts });
                Box::pin(std::future::ready(refusal.map_or(Ok(()), Err)))
            })],
        }
    }

    fn set(events: &Events, all: Vec<Subscription>) {
        events.set(all.into(), Arc::new(ready));
    }

    #[test]
    fn subscribers_hear_what_they_want() {
        let (events, heard) = (Events::default(), Heard::default());
        assert!(!events.wants("one", "tls"));
        set(
            &events,
            vec![
                on(&heard, &["one"], &[], "a", None),
                on(&heard, &[""], &["tls"], "b", None),
                on(&heard, &[], &["http"], "c", None),
            ],
        );
        assert!(events.wants("one", "x") && !events.wants("two", "x"));
        ready(events.emit("one", "tls", json!({ "a": "x", "b": [1, null, {"k": true}] }))).unwrap();
        events.tell("two", "tls.obtain", json!({}));
        events.tell("three", "tlsx", json!({}));
        let want = [
            "a: one x [1 <nil> map[k:true]] {x}",
            "b: one x [1 <nil> map[k:true]] {x}",
            "b: two   {x}",
        ];
        assert_eq!(*heard.lock().unwrap(), want);
    }

    #[test]
    fn times_are_written_as_go_does() {
        let event = Event {
            id: String::new(),
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1500),
            name: String::new(),
            module: String::new(),
            data: json!({}),
        };
        let filled = event.fill("{event.time}|{event.time_unix}");
        assert_eq!(filled, "1970-01-01 00:00:01.5 +0000 UTC|1500");
    }

    #[test]
    fn events_go_up_and_may_be_aborted() {
        let (events, heard) = (Events::default(), Heard::default());
        let all = |abort: Option<bool>| {
            vec![
                on(&heard, &[], &[], "all", None),
                on(&heard, &["e"], &[], "any module", None),
                on(&heard, &["e"], &["a"], "a", abort),
                on(&heard, &["e"], &["a.b.c"], "a.b.c", None),
                on(&heard, &["e"], &["a.b"], "a.b", None),
                on(&heard, &["e"], &["b.c"], "b.c", None),
                on(&heard, &[], &["a.b"], "all of a.b", None),
            ]
        };
        let marks = || -> Vec<String> {
            let all = std::mem::take(&mut *heard.lock().unwrap());
            all.iter().map(|one| one.split(':').next().unwrap_or_default().to_owned()).collect()
        };
        set(&events, all(None));
        assert_eq!(ready(events.emit("e", "a.b.c", json!({}))), Ok(()));
        let want = ["a.b.c", "a.b", "a", "any module", "all of a.b", "all"];
        assert_eq!(marks(), want);
        // Failing is not aborting.
        set(&events, all(Some(false)));
        assert_eq!(ready(events.emit("e", "a.b.c", json!({}))), Ok(()));
        assert_eq!(marks().len(), 6);
        set(&events, all(Some(true)));
        let aborted = ready(events.emit("e", "a.b.c", json!({}))).unwrap_err();
        assert_eq!(aborted.to_string(), "event aborted: no");
        assert_eq!(marks(), ["a.b.c", "a.b", "a"]);
    }
}
