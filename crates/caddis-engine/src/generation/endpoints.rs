//! The admin endpoints, which stay where they are over reloads unless their addresses change.

use std::{rc::Rc, sync::Arc};

use caddis_config::NetworkAddress;
use caddis_plan::{AdminPlan, RemotePlan};
use serde_json::json;

use super::{Engine, LoadError};
use crate::{
    admin::AdminServer,
    listen::{self, BoundSocket},
};

impl Engine {
    /// Binds the admin endpoint, unless it runs there already or is disabled.
    pub(super) fn bind_admin(&self, plan: &AdminPlan) -> Result<Option<BoundSocket>, LoadError> {
        let Some(address) = &plan.listen else { return Ok(None) };
        let is_there =
            |admin: &AdminServer| listen::place(&admin.address) == listen::place(address);
        if self.admin.borrow().as_ref().is_some_and(is_there) {
            return Ok(None);
        }
        bind_stream(address).map(Some).map_err(|why| {
            LoadError::Activate(format!(
                "loading new config: starting caddy administration endpoint: {why}"
            ))
        })
    }

    /// The same for the endpoint that others use.
    pub(super) fn bind_remote_admin(
        &self,
        plan: &AdminPlan,
    ) -> Result<Option<BoundSocket>, LoadError> {
        let Some(remote) = &plan.remote else { return Ok(None) };
        let address = &remote.listen;
        if self.remote_admin.borrow().as_ref().is_some_and(|admin| admin.address == *address) {
            return Ok(None);
        }
        bind_stream(address).map(Some).map_err(|why| {
            LoadError::Activate(format!(
                "loading new config: provisioning remote admin endpoint: {why}"
            ))
        })
    }

    /// Starts or ends the admin endpoint, as the plan has it.
    pub(super) fn swap_admin(self: &Rc<Self>, plan: &AdminPlan, socket: Option<BoundSocket>) {
        let mut running = self.admin.borrow_mut();
        match (&plan.listen, socket) {
            (None, _) => {
                tracing::warn!(target: "admin", "admin endpoint disabled");
                *running = None;
            }
            (Some(address), Some(socket)) => {
                *running = Some(AdminServer::start(self, address.clone(), socket));
                if running.as_ref().is_none_or(|server| !server.listens) {
                    return;
                }
                let origins = json!(plan.shown_origins()).to_string();
                tracing::info!(
                    target: "admin",
                    address = %address,
                    enforce_origin = plan.enforce_origin,
                    json.origins = origins,
                    "admin endpoint started"
                );
                if !plan.check_host {
                    tracing::warn!(
                        target: "admin",
                        address = %address,
                        "admin endpoint on open interface; host checking disabled"
                    );
                }
            }
            (Some(address), None) => listen::set_mode(address),
        }
    }

    /// The same for the endpoint that others use.
    pub(super) fn swap_remote_admin(
        self: &Rc<Self>,
        plan: &AdminPlan,
        socket: Option<BoundSocket>,
    ) {
        let mut running = self.remote_admin.borrow_mut();
        match (&plan.remote, socket) {
            (None, _) => *running = None,
            (Some(remote), Some(socket)) => {
                *running = Some(AdminServer::start_remote(self, remote.listen.clone(), socket));
            }
            (Some(_), None) => {}
        }
    }

    /// What the endpoint in place is to do.
    pub(crate) fn admin_plan(&self) -> Option<AdminPlan> {
        self.current.borrow().as_ref().map(|running| running.admin.clone())
    }

    /// Who may use the endpoint for others, where there is one.
    pub(crate) fn remote_plan(&self) -> Option<Arc<RemotePlan>> {
        self.current.borrow().as_ref()?.admin.remote.clone()
    }
}

/// Binds an address for an admin endpoint; why not, in a sentence.
fn bind_stream(address: &NetworkAddress) -> Result<BoundSocket, String> {
    match listen::bind(address, 1, None) {
        Ok(BoundSocket::Datagrams) => Err(format!(
            "listen {address}: this is for datagrams; name a stream socket (tcp, unix, fd)"
        )),
        Ok(socket) => Ok(socket),
        Err(error) => {
            let at = match address.network.starts_with("tcp") {
                true => format!("{} {}", address.network, address.join_host_port(0)),
                false => address.to_string(),
            };
            Err(format!("listen {at}: bind: {}", listen::why_not(address, &error)))
        }
    }
}
