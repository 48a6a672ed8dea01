//! `caddis certs check`: what would become of the certificates of a config, without asking for one.
//!
//! For each name: whether DNS points here, whether the authority can be reached and gives what is
//! wanted, whether CAA records allow it, whether the ports of the challenges can be had, whether the
//! storage works, and what would be issued. DNS and the storage are asked, and of the authorities
//! their directories.

mod authority;

use std::{
    cell::RefCell,
    collections::HashMap,
    fmt::Write,
    io::ErrorKind,
    net::{IpAddr, TcpListener, UdpSocket},
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use caddis_core::State;
use caddis_dns::{caa, query};
use caddis_plan::Plan;
use caddis_tls::{
    AcmeConfig, Issuer, ManagedSubject,
    storage::{self, OtherStorage, Storage},
};
use serde::Serialize;

use self::authority::Authorities;
use super::{Outcome, drawn};
use crate::{args::CertsCheck, client, registry, source};

/// What is known of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    /// It cannot be told from here.
    Unknown,
    Fail,
}

/// One point.
#[derive(Debug, Serialize)]
struct Point {
    check: &'static str,
    status: Status,
    detail: String,
}

/// What would be asked for.
#[derive(Debug, Serialize)]
struct Planned {
    /// The ACME directory, or the id of the local authority.
    issuer: String,
    challenges: Vec<&'static str>,
}

/// What is told of a name.
#[derive(Debug, Serialize)]
struct Report {
    name: String,
    ok: bool,
    issuers: Vec<Planned>,
    key_type: &'static str,
    checks: Vec<Point>,
}

impl Point {
    fn new(check: &'static str, status: Status, detail: impl Into<String>) -> Self {
        Self { check, status, detail: detail.into() }
    }
}

/// Checks and prints. Exit code 1 where a point fails.
pub(crate) fn check(flags: &CertsCheck) -> Outcome {
    let registry = registry::standard();
    let loaded = source::load(&flags.client.config, &registry).map_err(|error| drawn(&error))?;
    let loaded = loaded.ok_or("no config file to check; name one with --config")?;
    let mut json = loaded.json;
    caddis_config::json::id::strip(&mut json);
    let config = caddis_config::decode(json).map_err(|error| error.to_string())?;
    let default = caddis_plan::DEFAULT_ADMIN;
    let plan = caddis_plan::compile(config, &registry, &State::default(), &Arc::default(), default);
    let plan = plan.map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        texts.join("; ")
    })?;
    let runs = client::address(&flags.client)
        .is_ok_and(|address| client::get(&address, "/config/").is_ok());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let given = if flags.resolver.is_empty() { &plan.tls.resolvers } else { &flags.resolver };
    let resolvers = query::resolvers(given);
    let mut cx =
        Cx { resolvers, runs, storages: RefCell::default(), authorities: Authorities::default() };
    let reports = runtime.block_on(cx.all(&plan, &flags.names));
    if flags.json {
        let text = serde_json::to_string(&reports).map_err(|error| error.to_string())?;
        crate::say::say!("{text}");
    } else {
        crate::say::out(text(&reports));
    }
    let ok = reports.iter().all(|report| report.ok);
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Cx {
    resolvers: Vec<String>,
    /// A server answers at the admin endpoint.
    runs: bool,
    /// What was seen of each storage, by its description.
    storages: RefCell<HashMap<String, (Status, String)>>,
    authorities: Authorities,
}

impl Cx {
    async fn all(&mut self, plan: &Plan, names: &[String]) -> Vec<Report> {
        let subjects = &plan.tls.subjects;
        let find = |name: &str| {
            let parent = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
            let of = |name: &str| subjects.iter().find(|one| one.name.eq_ignore_ascii_case(name));
            of(name).or_else(|| of(parent.as_deref()?))
        };
        let wanted: Vec<Result<&ManagedSubject, &str>> = if names.is_empty() {
            subjects.iter().map(Ok).collect()
        } else {
            names.iter().map(|name| find(name).ok_or(name.as_str())).collect()
        };
        let managed = wanted.iter().filter_map(|one| one.as_ref().ok().copied());
        self.authorities = Authorities::read(managed).await;
        let mut reports = Vec::new();
        for one in wanted {
            reports.push(match one {
                Ok(subject) => self.subject(subject, plan).await,
                Err(name) => unmanaged(name),
            });
        }
        reports
    }

    async fn subject(&self, subject: &ManagedSubject, plan: &Plan) -> Report {
        let mut issuers = Vec::new();
        let mut checks = Vec::new();
        let mut ports = Vec::new();
        let mut from_outside = false;
        let own = subject.storage.as_ref().map(OtherStorage::storage);
        let storage = own.unwrap_or(&plan.tls.storage);
        for issuer in &subject.issuers {
            match issuer {
                Issuer::Internal { ca, .. } => {
                    let id = if ca.is_empty() { caddis_tls::pki::DEFAULT_CA } else { ca };
                    let issuer = format!("local authority {id}");
                    issuers.push(Planned { issuer, challenges: Vec::new() });
                }
                Issuer::Acme(config) => {
                    let challenges = challenges(config, &subject.name);
                    if challenges.is_empty() {
                        let detail = "no challenge is left that could prove this name; a wildcard \
                                      needs a DNS provider";
                        checks.push(Point::new("challenges", Status::Fail, detail));
                    }
                    checks.extend(self.authorities.points(config, storage).await);
                    checks.push(self.caa(&subject.name, config, &challenges).await);
                    from_outside |= config.dns.is_none();
                    let wanted =
                        [("http-01", config.ports.http), ("tls-alpn-01", config.ports.https)];
                    let wanted = wanted.into_iter().filter(|(kind, _)| challenges.contains(kind));
                    ports.extend(wanted.map(|(_, port)| (config.bind_host.clone(), port)));
                    issuers.push(Planned { issuer: config.directory.clone(), challenges });
                }
                Issuer::ZeroSsl(config) => {
                    let challenge = config.validation();
                    if subject.name.starts_with("*.") && config.listener().is_some() {
                        let detail = "a wildcard needs validation by CNAME: add a DNS provider";
                        checks.push(Point::new("challenges", Status::Fail, detail));
                    }
                    if let Some((host, port)) = config.listener() {
                        from_outside = true;
                        ports.push((host.to_owned(), port));
                    }
                    let issuer = "ZeroSSL's API".to_owned();
                    issuers.push(Planned { issuer, challenges: vec![challenge] });
                }
            }
        }
        if from_outside {
            checks.insert(0, self.dns(&subject.name).await);
        }
        ports.sort_unstable();
        ports.dedup();
        checks.extend(ports.iter().map(|(host, port)| self.port(host, *port)));
        checks.push(self.storage(storage).await);
        let ok = checks.iter().all(|point| point.status != Status::Fail);
        let key_type = subject.key_type.name();
        Report { name: subject.name.clone(), ok, issuers, key_type, checks }
    }

    /// Whether the storage works, which is looked at once. A folder that is not there yet is not
    /// made: it would belong to whoever runs the check.
    async fn storage(&self, storage: &Arc<dyn Storage>) -> Point {
        let name = storage.describe();
        if let Some((status, detail)) = self.storages.borrow().get(&name) {
            return Point::new("storage", *status, detail.as_str());
        }
        let folder = name.strip_prefix("file_system:").map(Path::new);
        let (status, detail) = if folder.is_some_and(|folder| !folder.exists()) {
            (Status::Unknown, format!("{name} is not there yet; it is made at the start"))
        } else {
            let probed = storage.clone();
            let seen = tokio::task::spawn_blocking(move || storage::probe(&*probed)).await;
            match seen.map_err(std::io::Error::other).flatten() {
                Ok(()) => (Status::Ok, format!("{name} can be written and read")),
                Err(error) => {
                    let remedy = storage::remedy(error.kind());
                    (Status::Fail, format!("{name} does not work: {error}; {remedy}"))
                }
            }
        };
        self.storages.borrow_mut().insert(name, (status, detail.clone()));
        Point::new("storage", status, detail)
    }

    /// Whether the name's addresses are this machine's.
    async fn dns(&self, name: &str) -> Point {
        let mut found: Vec<IpAddr> = name.parse().into_iter().collect();
        if found.is_empty() {
            for kind in [query::A, query::AAAA] {
                let answer = match query::ask_any(&self.resolvers, name, kind).await {
                    Ok(answer) => answer,
                    Err(error) => return Point::new("dns", Status::Unknown, unasked(&error)),
                };
                let records = answer.answers.iter().filter(|record| record.kind == kind);
                found.extend(records.filter_map(|record| address(&record.data)));
            }
        }
        if found.is_empty() {
            let detail = "no A or AAAA record: add one that leads to this machine";
            return Point::new("dns", Status::Fail, detail);
        }
        let (here, elsewhere): (Vec<IpAddr>, Vec<IpAddr>) =
            found.into_iter().partition(|ip| is_own(*ip));
        let list = |ips: &[IpAddr]| {
            let texts: Vec<String> = ips.iter().map(ToString::to_string).collect();
            texts.join(", ")
        };
        if elsewhere.is_empty() {
            return Point::new("dns", Status::Ok, format!("points here ({})", list(&here)));
        }
        if !has_public_address() {
            let detail = format!(
                "points to {}; this machine has no public address of its own, and the one that \
                 others see is unknown",
                list(&elsewhere)
            );
            return Point::new("dns", Status::Unknown, detail);
        }
        if here.is_empty() {
            let detail = format!(
                "points to {}, not to this machine: change the record, unless what is there passes \
                 challenges on to here",
                list(&elsewhere)
            );
            return Point::new("dns", Status::Fail, detail);
        }
        let detail = format!("points here ({}), and to {}", list(&here), list(&elsewhere));
        Point::new("dns", Status::Unknown, detail)
    }

    async fn caa(&self, name: &str, config: &AcmeConfig, challenges: &[&str]) -> Point {
        if name.parse::<IpAddr>().is_ok() {
            return Point::new("caa", Status::Ok, "not looked for at addresses");
        }
        let found = match caa::relevant(name, &self.resolvers).await {
            Ok(found) => found,
            Err(error) => return Point::new("caa", Status::Unknown, unasked(&error)),
        };
        if found.properties.is_empty() {
            return Point::new("caa", Status::Ok, "no records: every authority may issue");
        }
        let domains = authority::caa_domains(config, self.authorities.directory(config));
        let Some(first) = domains.first() else {
            let host = authority::host(config);
            // It may still be that nobody at all is allowed.
            let nobody = found.allows(name.starts_with("*."), &[host], challenges).is_err();
            let detail = format!(
                "records at {}{}; by which domain {host} is named there is not known",
                found.domain,
                if nobody { " do not name it by its host" } else { "" }
            );
            return Point::new("caa", Status::Unknown, detail);
        };
        match found.allows(name.starts_with("*."), &domains, challenges) {
            Ok(()) => {
                let detail = format!("records at {} allow {first}", found.domain);
                Point::new("caa", Status::Ok, detail)
            }
            Err(reason) => {
                let detail = format!("records at {} forbid it: {reason}", found.domain);
                Point::new("caa", Status::Fail, detail)
            }
        }
    }

    /// Whether a challenge's port can be had. From outside it is reached by what the authority
    /// knows as 80 or 443, which only the authority can see.
    fn port(&self, host: &str, port: u16) -> Point {
        let host = if host.is_empty() { "0.0.0.0" } else { host };
        let (status, detail) = match TcpListener::bind((host, port)) {
            Ok(_) => (Status::Ok, format!("port {port} is free")),
            Err(error) if error.kind() == ErrorKind::AddrInUse && self.runs => {
                (Status::Ok, format!("port {port} is in use, and a server of ours is running"))
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                (Status::Fail, format!("port {port} is in use by another program"))
            }
            Err(error) => (Status::Fail, format!("port {port} cannot be had: {error}")),
        };
        Point::new("port", status, detail)
    }
}

/// A resolver that did not answer, and what to do.
fn unasked(error: &impl std::fmt::Display) -> String {
    format!("{error}; see whether the resolver is up, or name another one by --resolver")
}

fn unmanaged(name: &str) -> Report {
    let detail = "no site of the config gets a managed certificate for this name";
    let checks = vec![Point::new("config", Status::Fail, detail)];
    Report { name: name.to_owned(), ok: false, issuers: Vec::new(), key_type: "", checks }
}

fn challenges(config: &AcmeConfig, name: &str) -> Vec<&'static str> {
    if config.dns.is_some() {
        return vec!["dns-01"];
    }
    if name.starts_with("*.") {
        return Vec::new();
    }
    let all = [(config.http, "http-01"), (config.tls_alpn, "tls-alpn-01")];
    all.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect()
}

fn address(data: &[u8]) -> Option<IpAddr> {
    match data.len() {
        4 => <[u8; 4]>::try_from(data).ok().map(Into::into),
        16 => <[u8; 16]>::try_from(data).ok().map(Into::into),
        _ => None,
    }
}

/// Whether an address is one of this machine: then a socket can be bound to it.
fn is_own(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// Whether packets to the Internet would leave with a public address. None is sent.
fn has_public_address() -> bool {
    let by = |own: &str, far: &str| -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind(own)?;
        socket.connect(far)?;
        Ok(socket.local_addr()?.ip())
    };
    match by("0.0.0.0:0", "198.51.100.1:9") {
        Ok(IpAddr::V4(ip)) if !ip.is_private() && !ip.is_loopback() && !ip.is_link_local() => {
            // Shared address space of carriers (RFC 6598).
            return !(ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64);
        }
        _ => {}
    }
    let six = by("[::]:0", "[2001:db8::1]:9");
    matches!(six, Ok(IpAddr::V6(ip)) if ip.segments()[0] & 0xe000 == 0x2000)
}

fn text(reports: &[Report]) -> String {
    let mut out = String::new();
    for report in reports {
        let mark = if report.ok { "✓" } else { "✗" };
        let _ = writeln!(out, "{mark} {}", report.name);
        for issuer in &report.issuers {
            let by = if issuer.challenges.is_empty() {
                String::new()
            } else {
                format!(", by {}", issuer.challenges.join(" or "))
            };
            let _ = writeln!(out, "  {} key from {}{by}", report.key_type, issuer.issuer);
        }
        for point in &report.checks {
            let mark = match point.status {
                Status::Ok => "✓",
                Status::Unknown => "?",
                Status::Fail => "✗",
            };
            let _ = writeln!(out, "  {mark} {}: {}", point.check, point.detail);
        }
    }
    if reports.is_empty() {
        out.push_str("no site of the config gets a managed certificate\n");
    }
    out
}
