//! Access logs: which loggers the hosts of a server have.

use caddis_config::Server;
use caddis_config::value::split_host_port;

use crate::listeners::Served;
use crate::site::NamedLog;

/// Adds the loggers of a site, or that it has none.
pub(super) fn associate(server: &mut Server, served: &Served, logs: &[NamedLog], every_host: bool) {
    let Some(config) = &mut server.logs else { return };
    let hosts = served.log_hosts();
    for log in logs.iter().filter(|log| !log.no_hostname) {
        if served.has_hostless_key() && log.hostnames.is_empty() {
            config.default_logger_name.clone_from(&log.name);
            continue;
        }
        let names = if log.hostnames.is_empty() { &hosts } else { &log.hostnames };
        for name in names {
            let has_port = log.hostnames.is_empty() && name.contains(':');
            let host = match has_port.then(|| split_host_port(name)) {
                Some(Ok((host, _))) => host,
                _ => name,
            };
            config.logger_names.entry(host.to_owned()).or_default().0.push(log.name.clone());
        }
    }
    if logs.is_empty() {
        config.skip_unmapped_hosts |= every_host;
        config.skip_hosts.extend(hosts);
    }
}
