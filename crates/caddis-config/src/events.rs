//! The `events` app.

use serde_json::Value;

envelope! {
    /// `apps.events`.
    pub struct EventsApp {
        /// What is to happen on which event.
        pub subscriptions: Vec<Subscription>,
    }

    /// One subscription.
    pub struct Subscription {
        /// Names of events; all if empty.
        pub events: Vec<String>,
        /// Ids (or namespaces) of the modules that emit them; all if empty.
        pub modules: Vec<String>,
        /// Handlers, key `handler`.
        pub handlers: Vec<Value>,
    }
}
