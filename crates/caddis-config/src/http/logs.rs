//! Access log settings of a server.

use std::collections::BTreeMap;

use crate::value::StringList;

envelope! {
    /// `logs`: access logs of a server.
    pub struct ServerLogConfig {
        /// Logger of hosts without an own one.
        pub default_logger_name: String,
        /// Loggers by host.
        pub logger_names: BTreeMap<String, StringList>,
        /// Hosts that are not logged.
        pub skip_hosts: Vec<String>,
        /// Log only hosts in `logger_names`.
        pub skip_unmapped_hosts: bool,
        /// Write credentials in clear.
        pub should_log_credentials: bool,
        /// Log every handler that is called, at level debug.
        pub trace: bool,
    }
}
