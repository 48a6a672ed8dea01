//! Access logs of a server (`logs` of a server), and its error log.
//!
//! JSON: `{"default_logger_name": "…", "logger_names": {"host": ["name"]}, "skip_hosts": ["…"],
//! "skip_unmapped_hosts": true, "should_log_credentials": true}`.
//!
//! Entries go to the loggers `http.log.access[.name]`. Which logs take them is worked out when a
//! configuration is loaded, so that a request costs one look-up by host.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use caddis_config::ServerLogConfig;
use caddis_core::{Exchange, HttpError, exchange::split_host_port};
use http::HeaderMap;
use time::OffsetDateTime;

use crate::{
    Level, Logging,
    field::{Caller, Entry, Field, FieldSink, Object},
    request::{LoggedHeaders, LoggedRequest},
};

const ACCESS: &str = "http.log.access";
const ERROR: &str = "http.log.error";

/// Writes a server's access and error logs.
pub struct AccessLogger {
    logging: Arc<Logging>,
    enabled: bool,
    hosts: HashMap<String, Vec<Target>>,
    default: Vec<Target>,
    /// Exact names, and patterns with `*` labels.
    skipped: HashSet<String>,
    skip_unmapped: bool,
    credentials: bool,
    /// Whether a log exists that only a name given by a handler may reach.
    by_name: bool,
}

/// A logger name and the logs that take its entries.
struct Target {
    access: String,
    error: String,
    access_logs: Vec<usize>,
}

/// What an access log entry says about an answer.
pub struct AccessRecord<'a> {
    /// The answer's status.
    pub status: u16,
    /// Bytes of response body written.
    pub size: u64,
    /// Bytes of request body read.
    pub bytes_read: u64,
    /// Time until the answer was complete.
    pub duration: Duration,
    /// The answer's header fields.
    pub response_headers: &'a HeaderMap,
    /// The request's header fields as they came; those of the exchange if there is no copy.
    pub request_headers: Option<&'a HeaderMap>,
}

/// A request whose chain failed.
pub struct FailedRequest<'a> {
    /// What it failed with.
    pub error: &'a HttpError,
    /// How long after its start.
    pub after: Duration,
    /// What the error routes made of it.
    pub handled: Handled<'a>,
}

/// What error routes made of an error.
#[derive(Clone, Copy)]
pub enum Handled<'a> {
    /// There are none.
    No,
    /// They answered.
    Yes,
    /// They failed as well.
    Failed(&'a HttpError),
}

impl AccessLogger {
    /// Joins a server's `logs` with the open logs. Without `logs` there are error logs only.
    pub fn new(config: Option<&ServerLogConfig>, logging: &Arc<Logging>) -> Self {
        let none = ServerLogConfig::default();
        let enabled = config.is_some();
        let config = config.unwrap_or(&none);
        let targets = |names: &[String]| -> Vec<Target> {
            names.iter().map(|name| Target::new(name, logging)).collect()
        };
        let hosts = config
            .logger_names
            .iter()
            .map(|(host, names)| (host.clone(), targets(names)))
            .collect();
        let by_name = logging
            .logs
            .iter()
            .any(|log| log.rules.include.iter().any(|name| name.starts_with("http.log.access.")));
        Self {
            logging: logging.clone(),
            enabled,
            hosts,
            default: vec![Target::new(&config.default_logger_name, logging)],
            skipped: config.skip_hosts.iter().map(|host| host.to_lowercase()).collect(),
            skip_unmapped: config.skip_unmapped_hosts,
            credentials: config.should_log_credentials,
            by_name,
        }
    }

    /// Whether an entry for this host (a port is ignored) may be written: then the caller keeps a
    /// copy of the request's headers.
    pub fn wants(&self, host: &str) -> bool {
        if !self.enabled {
            return false;
        }
        let host = split_host_port(host).0;
        let taken = |target: &Target| !target.access_logs.is_empty();
        self.is_logged(host) && (self.by_name || self.targets(host).iter().any(taken))
    }

    fn is_logged(&self, host: &str) -> bool {
        if self.hosts.contains_key(host) {
            return true;
        }
        if !self.skipped.is_empty() {
            let host = host.to_lowercase();
            if self.skipped.contains(&host)
                || wildcards(&host).any(|pattern| self.skipped.contains(&pattern))
            {
                return false;
            }
        }
        !self.skip_unmapped
    }

    /// The loggers of a host: exact, then with labels replaced from the left, then the default.
    fn targets(&self, host: &str) -> &[Target] {
        if self.hosts.is_empty() {
            return &self.default;
        }
        if let Some(targets) = self.hosts.get(host) {
            return targets;
        }
        wildcards(host).find_map(|pattern| self.hosts.get(&pattern)).unwrap_or(&self.default)
    }

    /// Writes the access log entry of a request, unless its host or a handler says otherwise.
    pub fn log(&self, ex: &Exchange, record: &AccessRecord<'_>) {
        let host = split_host_port(&ex.request.host).0;
        if !self.enabled || ex.log.skip || !self.is_logged(host) {
            return;
        }
        let status = if ex.nop && ex.error.is_none() { 0 } else { record.status };
        let fields = AccessFields { ex, record, status, credentials: self.credentials };
        let mut entry = Entry {
            level: if status >= 500 { Level::Error } else { Level::Info },
            time: OffsetDateTime::now_utc(),
            logger: ACCESS,
            caller: Some(Caller { file: file!(), line: line!() }),
            message: if ex.nop { "NOP" } else { "handled request" },
            fields: &fields,
        };
        if let Some(names) = &ex.log.names {
            for name in names {
                self.logging.emit(&Entry { logger: &named(ACCESS, name), ..entry });
            }
            return;
        }
        for target in self.targets(host) {
            entry.logger = &target.access;
            for log in &target.access_logs {
                if let Some(log) = self.logging.logs.get(*log) {
                    log.write(&entry);
                }
            }
        }
    }

    /// Writes the error log entry of a request whose chain failed: at `error` if nothing handled
    /// a status of 500 or more, or the error routes failed as well (spec D109), else at `debug`.
    /// Call it after `Exchange::enter_error`.
    pub fn log_error(&self, ex: &Exchange, failed: &FailedRequest<'_>) {
        let error = failed.error;
        let status = error.status.as_u16();
        let level = match failed.handled {
            Handled::No if status >= 500 => Level::Error,
            Handled::Failed(_) => Level::Error,
            Handled::No | Handled::Yes => Level::Debug,
        };
        if self.logging.least().is_none_or(|least| level < least) {
            return;
        }
        let id = ex.error.as_ref().map_or("", |error| error.id.as_str());
        let headers = &ex.request.headers;
        let request = LoggedRequest { ex, headers, credentials: self.credentials };
        let text;
        let reason = if error.message.is_empty() {
            text = format!("{{id={id}}}: HTTP {status}");
            &text
        } else {
            &error.message
        };
        let (message, again) = match failed.handled {
            Handled::Failed(again) => ("error handling handler error", Some(again)),
            _ => (reason.as_str(), None),
        };
        let first = FirstError { message: reason, status, id };
        let fields = ErrorFields { request, duration: failed.after, again, first };
        let entry = Entry {
            level,
            time: OffsetDateTime::now_utc(),
            logger: ERROR,
            caller: Some(Caller { file: file!(), line: line!() }),
            message,
            fields: &fields,
        };
        if let Some(names) = &ex.log.names {
            for name in names {
                self.logging.emit(&Entry { logger: &named(ERROR, name), ..entry });
            }
            return;
        }
        for target in self.targets(split_host_port(&ex.request.host).0) {
            self.logging.emit(&Entry { logger: &target.error, ..entry });
        }
    }
}

impl Target {
    fn new(name: &str, logging: &Logging) -> Self {
        let (access, error) = (named(ACCESS, name).into_owned(), named(ERROR, name).into_owned());
        let access_logs = logging.takers(&access);
        Self { access, error, access_logs }
    }
}

/// A logger below another one; without a name the other one itself (spec D142).
fn named<'a>(base: &'a str, name: &str) -> Cow<'a, str> {
    match name {
        "" => Cow::Borrowed(base),
        name => Cow::Owned(format!("{base}.{name}")),
    }
}

/// The patterns that a host matches: labels replaced by `*` one after another from the left.
fn wildcards(host: &str) -> impl Iterator<Item = String> {
    // A name has at most 128 labels; what is longer is no name.
    let host = if host.len() > 255 { "" } else { host };
    let mut stars = String::new();
    let mut rest = Some(host);
    std::iter::from_fn(move || {
        loop {
            let (label, after) = match rest?.split_once('.') {
                Some((label, after)) => (label, Some(after)),
                None => (rest?, None),
            };
            rest = after;
            if !stars.is_empty() {
                stars.push('.');
            }
            if label.is_empty() {
                after?;
                continue;
            }
            stars.push('*');
            return Some(match after {
                Some(after) => format!("{stars}.{after}"),
                None => stars.clone(),
            });
        }
    })
}

struct AccessFields<'a> {
    ex: &'a Exchange,
    record: &'a AccessRecord<'a>,
    status: u16,
    credentials: bool,
}

impl Object for AccessFields<'_> {
    fn fields(&self, out: &mut FieldSink<'_>) {
        let Self { ex, record, credentials, .. } = *self;
        let headers = record.request_headers.unwrap_or(&ex.request.headers);
        out("request", Field::Object(&LoggedRequest { ex, headers, credentials }));
        out("bytes_read", Field::Uint(record.bytes_read));
        out("user_id", Field::str(&ex.log.user_id));
        out("duration", Field::Duration(record.duration));
        out("size", Field::Uint(record.size));
        out("status", Field::Uint(self.status.into()));
        let headers = record.response_headers;
        out("resp_headers", Field::Object(&LoggedHeaders { headers, credentials }));
        if let Some(uuid) = ex.uuid.get() {
            out("uuid", Field::str(uuid));
        }
        for (key, value) in &ex.log.extra {
            out(key, Field::of(value));
        }
    }
}

struct ErrorFields<'a> {
    request: LoggedRequest<'a>,
    duration: Duration,
    /// What the error routes failed with.
    again: Option<&'a HttpError>,
    first: FirstError<'a>,
}

struct FirstError<'a> {
    message: &'a str,
    status: u16,
    id: &'a str,
}

impl Object for ErrorFields<'_> {
    fn fields(&self, out: &mut FieldSink<'_>) {
        out("request", Field::Object(&self.request));
        out("duration", Field::Duration(self.duration));
        match self.again {
            None => self.first.status_and_id(out),
            Some(again) => {
                let status = again.status.as_u16();
                let text = match again.message.as_str() {
                    "" => format!("HTTP {status}"),
                    message => format!("HTTP {status}: {message}"),
                };
                out("error", Field::str(&text));
                out("first_error", Field::Object(&self.first));
            }
        }
    }
}

impl FirstError<'_> {
    fn status_and_id(&self, out: &mut FieldSink<'_>) {
        out("status", Field::Uint(self.status.into()));
        out("err_id", Field::str(self.id));
        out("err_trace", Field::str(""));
    }
}

impl Object for FirstError<'_> {
    fn fields(&self, out: &mut FieldSink<'_>) {
        out("msg", Field::str(self.message));
        self.status_and_id(out);
    }
}

#[cfg(test)]
mod tests;
