//! Session tickets.

use serde_json::Value;

use crate::value::Duration;

envelope! {
    /// `session_tickets`.
    pub struct SessionTicketService {
        /// Key module, key `provider`.
        pub key_source: Option<Value>,
        /// How often keys change.
        pub rotation_interval: Duration,
        /// Keys in use at a time.
        pub max_keys: i64,
        /// Keys do not change.
        pub disable_rotation: bool,
        /// No tickets.
        pub disabled: bool,
    }
}
