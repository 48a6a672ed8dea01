//! The sockets of HTTP/3 beside those for TCP, and how clients are told of them.

use std::{collections::HashMap, fmt, sync::Arc};

use caddis_core::error::plain;
use caddis_plan::{ListenerPlan, Plan};

use super::{Engine, LoadError};
use crate::{
    listen::{BoundSocket, Listener},
    quic::{self, Hold, QuicSlot},
};

/// Sockets of HTTP/3 for a listener.
pub(super) enum BoundQuic {
    New(Arc<QuicSlot>, Vec<quic::WorkerSocket>),
    Kept(Hold),
}

impl BoundQuic {
    fn slot(&self) -> &Arc<QuicSlot> {
        match self {
            Self::New(slot, _) => slot,
            Self::Kept(hold) => hold.slot(),
        }
    }
}

impl Engine {
    /// Opens sockets for HTTP/3 beside those for TCP.
    pub(super) fn bind_quic(
        &self,
        plan: &Plan,
        sockets: &HashMap<String, BoundSocket>,
    ) -> Result<HashMap<String, BoundQuic>, LoadError> {
        let failed = |error: &dyn fmt::Display| {
            LoadError::Activate(format!(
                "loading new config: http app module: start: starting HTTP/3 QUIC listener: {error}"
            ))
        };
        let mut all: HashMap<String, BoundQuic> = HashMap::new();
        for listener in plan.listeners.iter().filter(|listener| speaks_quic(listener)) {
            let key = listener.address.to_string();
            if all.contains_key(&key) {
                continue;
            }
            let tcp = sockets.get(&key).map(BoundSocket::port);
            let tcp = tcp.unwrap_or_else(|| self.listener(&key)?.port);
            let port = tcp.unwrap_or(listener.address.start_port);
            // An inherited socket has its own port, whatever the address says.
            let fits = |slot: &&Arc<QuicSlot>| slot.port == port || listener.address.is_fd();
            let running = self.quic.borrow().get(&key).filter(fits).cloned();
            let bound = match running.and_then(|slot| slot.hold()) {
                Some(hold) => BoundQuic::Kept(hold),
                None if listener.address.is_fd() => {
                    let (sockets, port) =
                        quic::inherit(&listener.address).map_err(|error| failed(&error))?;
                    let slot = QuicSlot::new(port).map_err(|error| failed(&error))?;
                    BoundQuic::New(slot, sockets)
                }
                None => {
                    let slot = QuicSlot::new(port).map_err(|error| failed(&error))?;
                    let workers = self.workers.borrow().count();
                    let sockets =
                        quic::bind(&listener.address, port, workers).map_err(|error| {
                            let at = listener.address.join_host_port(0);
                            failed(&format_args!("listen udp {at}: bind: {}", plain(&error)))
                        })?;
                    BoundQuic::New(slot, sockets)
                }
            };
            all.insert(key, bound);
        }
        Ok(all)
    }

    /// Puts the listeners in charge of their sockets for HTTP/3; others take no new connections.
    pub(super) fn commit_quic(
        &self,
        bound: HashMap<String, BoundQuic>,
        listeners: &HashMap<String, Arc<Listener>>,
    ) {
        let mut slots = self.quic.borrow_mut();
        for (key, slot) in slots.iter() {
            if bound.get(key).is_none_or(|bound| !Arc::ptr_eq(bound.slot(), slot)) {
                slot.close();
            }
        }
        for (key, bound) in bound {
            let Some(listener) = listeners.get(&key) else { continue };
            bound.slot().serve(listener.clone());
            if let BoundQuic::New(slot, sockets) = bound {
                self.workers.borrow().listen_quic(&slot, sockets);
                slots.insert(key, slot);
            }
        }
        slots.retain(|_, slot| !slot.is_retired());
    }

    /// Ends all connections of HTTP/3, and tells their clients.
    pub(super) async fn cut_quic(&self) {
        let slots: Vec<_> = self.quic.borrow().values().cloned().collect();
        for slot in &slots {
            slot.cut();
        }
        for slot in slots {
            slot.until_cut().await;
        }
    }
}

fn speaks_quic(listener: &ListenerPlan) -> bool {
    let address = &listener.address;
    let sockets = !address.is_unix() && (!address.is_fd() || address.is_datagram());
    listener.tls && listener.protocols.h3 && sockets
}

/// The value of `Alt-Svc` for a server: the ports where it speaks HTTP/3 (RFC 7838 §3), to be kept
/// in mind for thirty days.
pub(super) fn alt_svc(
    plan: &Plan,
    server: usize,
    quic: &HashMap<String, BoundQuic>,
) -> Option<http::HeaderValue> {
    let mut services: Vec<String> = Vec::new();
    for listener in plan.listeners.iter().filter(|listener| listener.server == server) {
        let Some(bound) = quic.get(&listener.address.to_string()) else { continue };
        let service = format!("h3=\":{}\"; ma=2592000", bound.slot().port);
        if speaks_quic(listener) && !services.contains(&service) {
            services.push(service);
        }
    }
    let value = (!services.is_empty()).then(|| services.join(","))?;
    http::HeaderValue::try_from(value).ok()
}
