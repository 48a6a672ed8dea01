//! Which listener, and so which server, takes a request.

use caddis_config::Config;
use caddis_plan::{ListenerPlan, Plan, ServerPlan};

use super::request::Asked;

/// The listener that takes the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) address: String,
    pub(super) server: String,
    pub(super) tls: bool,
}

/// What becomes of the connection.
pub(super) enum Choice<'a> {
    /// Nobody listens there.
    None(String),
    /// The listener speaks something else.
    Refused { listener: Listener, why: String },
    /// A server takes it.
    Takes { listener: Listener, server: &'a ServerPlan },
}

pub(super) fn choose<'a>(plan: &'a Plan, config: &Config, asked: &Asked) -> Choice<'a> {
    let ports = Ports::of(config);
    let wanted: Vec<(u16, bool)> = match (asked.https, asked.port) {
        (Some(https), port) => vec![(port.unwrap_or(ports.usual(https)), https)],
        (None, Some(port)) => vec![(port, true), (port, false)],
        (None, None) => vec![(443, true), (80, false)],
    };
    // Without a scheme the first of both that somebody speaks.
    let fits = |(port, https): (u16, bool)| {
        best(plan, port, asked).filter(|listener| listener.tls == https).map(|one| (one, https))
    };
    if let Some((listener, _)) = wanted.iter().find_map(|wanted| fits(*wanted))
        && let Some(server) = plan.servers.get(listener.server)
    {
        return Choice::Takes { listener: shown(listener, server), server };
    }
    let Some((port, https)) = wanted.first().copied() else {
        return Choice::None("nobody listens".into());
    };
    match best(plan, port, asked).and_then(|one| Some((one, plan.servers.get(one.server)?))) {
        Some((listener, server)) => {
            let why = if https {
                "the TLS handshake fails: this listener speaks plain HTTP"
            } else {
                "answered with 400: this listener speaks HTTPS"
            };
            Choice::Refused { listener: shown(listener, server), why: why.into() }
        }
        None => Choice::None(nobody(plan, port)),
    }
}

struct Ports {
    http: u16,
    https: u16,
}

impl Ports {
    fn of(config: &Config) -> Self {
        let app = config.apps.http.as_ref();
        let port = |configured: i64, usual: u16| {
            u16::try_from(configured).ok().filter(|port| *port != 0).unwrap_or(usual)
        };
        Self {
            http: port(app.map_or(0, |app| app.http_port), 80),
            https: port(app.map_or(0, |app| app.https_port), 443),
        }
    }

    /// The port that a URL without one means; the configured ones stand behind the usual ones.
    fn usual(&self, https: bool) -> u16 {
        if https { self.https } else { self.http }
    }
}

/// The listener on a port: one for the very host wins over one for all.
fn best<'a>(plan: &'a Plan, port: u16, asked: &Asked) -> Option<&'a ListenerPlan> {
    let (host, _) = caddis_core::exchange::split_host_port(&asked.host);
    let on_port = || {
        plan.listeners
            .iter()
            .filter(move |one| !one.address.is_unix() && one.address.start_port == port)
    };
    on_port()
        .find(|one| one.address.host == host)
        .or_else(|| on_port().find(|one| one.address.host.is_empty()))
        .or_else(|| on_port().next())
}

fn shown(listener: &ListenerPlan, server: &ServerPlan) -> Listener {
    Listener {
        address: listener.address.to_string(),
        server: server.name.clone(),
        tls: listener.tls,
    }
}

fn nobody(plan: &Plan, port: u16) -> String {
    let mut all: Vec<String> = plan.listeners.iter().map(|one| one.address.to_string()).collect();
    all.dedup();
    all.truncate(20);
    format!("nobody listens on port {port}; listeners: {}", all.join(", "))
}
