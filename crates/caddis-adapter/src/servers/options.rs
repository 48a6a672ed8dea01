//! What the `servers` option sets.

use std::collections::BTreeMap;

use caddis_config::Server;

/// One `servers` option.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerOptions {
    /// The listener whose server it is for; all others if empty.
    pub(crate) listener: String,
    /// Name of the server.
    pub(crate) name: String,
    /// The settings, in a server that has nothing else.
    pub(crate) settings: Server,
    /// Credentials go into access logs.
    pub(crate) log_credentials: bool,
    /// Handlers are logged.
    pub(crate) trace: bool,
}

/// Sets the options on the servers that they are for, and renames those.
///
/// # Errors
/// Two options with the same name.
pub(super) fn apply(
    servers: BTreeMap<String, Server>,
    all: &[ServerOptions],
) -> Result<BTreeMap<String, Server>, String> {
    let mut names: Vec<&String> =
        all.iter().map(|options| &options.name).filter(|name| !name.is_empty()).collect();
    names.sort();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("cannot use duplicate server name '{}'", pair[0]));
    }
    let mut renamed = BTreeMap::new();
    let mut done = BTreeMap::new();
    for (name, server) in servers {
        let found = all.iter().find(|options| {
            options.listener.is_empty() || server.listen.contains(&options.listener)
        });
        match found {
            Some(options) if !options.name.is_empty() => {
                renamed.insert(options.name.clone(), with_options(server, options));
            }
            Some(options) => {
                done.insert(name, with_options(server, options));
            }
            None => {
                done.insert(name, server);
            }
        }
    }
    done.append(&mut renamed);
    Ok(done)
}

fn with_options(server: Server, options: &ServerOptions) -> Server {
    let mut logs = server.logs;
    if options.log_credentials {
        logs.get_or_insert_default().should_log_credentials = true;
    }
    if options.trace {
        logs.get_or_insert_default().trace = true;
    }
    Server {
        listen: server.listen,
        listen_protocols: server.listen_protocols,
        routes: server.routes,
        errors: server.errors,
        named_routes: server.named_routes,
        tls_connection_policies: server.tls_connection_policies,
        automatic_https: server.automatic_https,
        logs,
        ..options.settings.clone()
    }
}
