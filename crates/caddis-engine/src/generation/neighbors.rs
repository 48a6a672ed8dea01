//! Other processes on the addresses that a server is about to listen on. As in Caddy all servers of
//! one user may share an address, and the kernel deals connections out among them: right for a change
//! of the program without a pause, and a riddle where somebody started the server twice.

use std::collections::BTreeSet;

use caddis_plan::Plan;

use crate::listen;

/// Tells the log of addresses that are shared. Before any of them is bound: of two addresses of one
/// plan one may hold the other (`:80` and `127.0.0.1:80`).
pub(super) fn tell(plan: &Plan) {
    let addresses = plan.listeners.iter().map(|listener| &listener.address);
    let shared = addresses.filter(|address| listen::is_shared(address));
    let shared: BTreeSet<String> = shared.map(ToString::to_string).collect();
    for address in shared {
        tracing::warn!(
            target: "http",
            address,
            "another process listens on this address, too, and gets a share of its connections; \
             if that is not wanted, stop one of both"
        );
    }
    if let Some(address) = plan.admin.listen.as_ref().filter(|address| listen::is_shared(address)) {
        tracing::warn!(
            target: "admin",
            %address,
            "another server has its admin endpoint on this address, too; what is asked there \
             (stop, reload) reaches either of both"
        );
    }
}
