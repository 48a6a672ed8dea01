//! Session tickets: one set of keys for all policies, so a session can be resumed on any of them,
//! and over reloads.
//!
//! JSON (J145): `{"key_source": {"provider": "standard"}, "rotation_interval": "12h", "max_keys": 4,
//! "disable_rotation": false, "disabled": false}`. Keys rotate on rustls' own schedule.

use std::sync::{Arc, Mutex, PoisonError};

use caddis_config::{ConfigError, tls::SessionTicketService};
use rustls::{crypto::aws_lc_rs::Ticketer, server::ProducesTickets};
use serde_json::Value;

use crate::error::Result;

/// The ticket keys.
#[derive(Debug, Default)]
pub struct Tickets {
    disabled: bool,
    ticketer: Arc<Mutex<Option<Arc<dyn ProducesTickets>>>>,
}

impl Tickets {
    /// The same keys under other settings.
    ///
    /// # Errors
    /// A key source that is not known.
    pub fn with_config(
        &self,
        config: Option<&SessionTicketService>,
    ) -> std::result::Result<Self, ConfigError> {
        let source = config.and_then(|config| config.key_source.as_ref());
        let provider = source
            .and_then(|source| source.get("provider"))
            .and_then(Value::as_str)
            .unwrap_or("standard");
        if provider != "standard" {
            let message = format!("unknown module: tls.stek.{provider} (not supported yet)");
            return Err(ConfigError::new("session_tickets.key_source", message));
        }
        let disabled = config.is_some_and(|config| config.disabled);
        Ok(Self { disabled, ticketer: self.ticketer.clone() })
    }

    /// The keys, made at first use; none where tickets are off.
    pub(crate) fn ticketer(&self) -> Result<Option<Arc<dyn ProducesTickets>>> {
        if self.disabled {
            return Ok(None);
        }
        let mut ticketer = self.ticketer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ticketer) = &*ticketer {
            return Ok(Some(ticketer.clone()));
        }
        let made = Ticketer::new()?;
        *ticketer = Some(made.clone());
        Ok(Some(made))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use caddis_config::tls::SessionTicketService;
    use serde_json::json;

    use super::Tickets;

    #[test]
    fn keys_are_shared_over_reloads() {
        let tickets = Tickets::default();
        let one = tickets.with_config(None).unwrap().ticketer().unwrap().unwrap();
        let two = tickets.with_config(None).unwrap().ticketer().unwrap().unwrap();
        assert!(Arc::ptr_eq(&one, &two));
        let off = SessionTicketService { disabled: true, ..SessionTicketService::default() };
        assert!(tickets.with_config(Some(&off)).unwrap().ticketer().unwrap().is_none());
        let source = Some(json!({"provider": "distributed"}));
        let other = SessionTicketService { key_source: source, ..SessionTicketService::default() };
        assert!(tickets.with_config(Some(&other)).is_err());
    }
}
