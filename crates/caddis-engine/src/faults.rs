//! What keeps a plan from being bound, and shows in files and the storage only.

use std::fmt::Display;

use caddis_config::ConfigError;
use caddis_plan::{Plan, TlsPlan};
use caddis_tls::{AcmeConfig, Tickets};

use crate::generation::LoadError;

/// Checks what binding would find, without opening sockets: everything that it would refuse, each
/// without a path in the configuration. Blocks.
pub(crate) fn validate(plan: &Plan) -> Result<(), LoadError> {
    let tls = &plan.tls;
    let of_app = |error: &dyn Display| format!("loading tls app module: {error}");
    let loaders = tls.loaders.faults(&*tls.storage);
    let mut all: Vec<_> = loaders.iter().map(|error| of_app(error)).collect();
    all.extend(of_tls(tls));
    let tickets = Tickets::default().with_config(tls.tickets.as_ref(), &tls.storage);
    all.extend(tickets.err().map(|error| of_app(&error)));
    for server in &plan.servers {
        let faults = server.tls_policies.iter().flat_map(|policies| policies.faults());
        all.extend(faults.map(|error| format!("server {}: {error}", server.name)));
    }
    // Sites with the same settings have policies of their own.
    all.dedup();
    if all.is_empty() {
        return Ok(());
    }
    Err(LoadError::Config(all.into_iter().map(|message| ConfigError::new("", message)).collect()))
}

/// Authorities of the PKI app and roots of ACME authorities that cannot be what they are to be. Makes
/// nothing. Blocks.
pub(crate) fn of_tls(tls: &TlsPlan) -> Vec<String> {
    let authorities = caddis_tls::pki::faults(&tls.authorities, &tls.storage);
    let authorities = authorities.iter().map(|error| format!("loading pki app module: {error}"));
    let roots = tls.acme_issuers().into_iter().filter_map(AcmeConfig::roots_fault);
    authorities.chain(roots.map(|error| format!("loading tls app module: {error}"))).collect()
}
