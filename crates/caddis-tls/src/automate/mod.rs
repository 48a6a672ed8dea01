//! Managed certificates: what is due when (pure), and the manager that does it.

mod backoff;
mod driver;
mod job;
mod manager;
mod on_demand;
mod renewal;
mod subject;

pub use manager::{CertManager, CertReport, Issuer, ManagedSubject, Reconcile};
pub(crate) use on_demand::qualifies;
pub use on_demand::{OnDemandError, OnDemandPolicy, Permission, PermissionFuture, Taken};

#[cfg(test)]
mod tests;
