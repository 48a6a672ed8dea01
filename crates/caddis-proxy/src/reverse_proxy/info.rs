//! The placeholders `{http.reverse_proxy.*}`.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use caddis_core::{
    Exchange, Value,
    exchange::PlaceholderSource,
    placeholder::{go_duration, header_value},
};
use http::{HeaderMap, HeaderName, StatusCode};

use crate::transport::http::HostPool;

/// What all keys begin with.
pub(crate) const PREFIX: &str = "http.reverse_proxy.";

/// What is known about one proxied request.
pub(crate) struct Info {
    start: Instant,
    /// Each read is to be told.
    pub(super) verbose: bool,
    retries: Cell<u32>,
    attempt: RefCell<Option<Attempt>>,
    end: Cell<Option<Duration>>,
    status: Cell<Option<StatusCode>>,
    reason: RefCell<Option<Bytes>>,
    headers: RefCell<Option<HeaderMap>>,
    transport_error: Cell<bool>,
}

struct Attempt {
    pool: Rc<HostPool>,
    requests: i64,
    max_requests: i64,
    fails: i64,
    latency: Option<Duration>,
    duration: Option<Duration>,
}

impl Info {
    /// Nothing is known yet.
    pub(crate) fn new(start: Instant, verbose: bool) -> Rc<Self> {
        Rc::new(Self {
            start,
            verbose,
            retries: Cell::new(0),
            attempt: RefCell::default(),
            end: Cell::default(),
            status: Cell::default(),
            reason: RefCell::default(),
            headers: RefCell::default(),
            transport_error: Cell::new(false),
        })
    }

    /// An upstream was chosen.
    pub(crate) fn begin(
        &self,
        pool: Rc<HostPool>,
        (requests, max_requests, fails): (i64, i64, i64),
    ) {
        let attempt =
            Attempt { pool, requests, max_requests, fails, latency: None, duration: None };
        self.attempt.replace(Some(attempt));
    }

    /// The head of an answer arrived.
    pub(crate) fn answered(&self, latency: Duration, status: StatusCode, reason: Option<&Bytes>) {
        if let Some(attempt) = &mut *self.attempt.borrow_mut() {
            attempt.latency = Some(latency);
        }
        self.status.set(Some(status));
        *self.reason.borrow_mut() = reason.cloned();
    }

    /// The answer's fields, where something may ask for them.
    pub(crate) fn set_headers(&self, headers: HeaderMap) {
        *self.headers.borrow_mut() = Some(headers);
    }

    /// The whole answer was there to be passed on.
    pub(crate) fn finished(&self, at: Instant) {
        let elapsed = at.saturating_duration_since(self.start);
        if let Some(attempt) = &mut *self.attempt.borrow_mut() {
            attempt.duration = Some(elapsed);
        }
        self.end.set(Some(elapsed));
    }

    /// The handler is done, whatever the outcome.
    pub(crate) fn ended(&self, retries: u32) {
        self.retries.set(retries);
        if self.end.get().is_none() {
            self.end.set(Some(self.start.elapsed()));
        }
    }

    /// The upstream of the last try, and how long its head took, in seconds: for logs.
    pub(super) fn shown(&self) -> (String, f64) {
        let attempt = self.attempt.borrow();
        attempt.as_ref().map_or_else(Default::default, |attempt| {
            (attempt.pool.address.shown(), attempt.latency.unwrap_or_default().as_secs_f64())
        })
    }

    /// Whether a failure without an answer is being looked at.
    pub(crate) fn set_transport_error(&self, is: bool) {
        self.transport_error.set(is);
    }

    fn of_attempt(&self, field: &str) -> Option<Value<'static>> {
        let attempt = self.attempt.borrow();
        let attempt = attempt.as_ref()?;
        let address = &attempt.pool.address;
        Some(match field {
            "address" => Value::string(address.full()),
            "hostport" => Value::string(address.host_port.clone()),
            "host" => Value::string(address.host.clone()),
            "port" => Value::string(address.port.to_string()),
            "requests" => Value::Int(attempt.requests),
            "max_requests" => Value::Int(attempt.max_requests),
            "fails" => Value::Int(attempt.fails),
            "latency" => Value::string(go_duration(attempt.latency?)),
            "latency_ms" => Value::Float(attempt.latency?.as_secs_f64() * 1e3),
            "duration" => Value::string(go_duration(attempt.duration?)),
            "duration_ms" => Value::Float(attempt.duration?.as_secs_f64() * 1e3),
            _ => return None,
        })
    }

    fn status_text(&self) -> Option<String> {
        let status = self.status.get()?;
        Some(match &*self.reason.borrow() {
            Some(reason) => format!("{} {}", status.as_str(), String::from_utf8_lossy(reason)),
            None => status.to_string(),
        })
    }
}

impl PlaceholderSource for Info {
    fn value(&self, key: &str, _ex: &Exchange) -> Option<Value<'static>> {
        let key = key.strip_prefix(PREFIX)?;
        if let Some(field) = key.strip_prefix("upstream.") {
            return self.of_attempt(field);
        }
        if let Some(name) = key.strip_prefix("header.") {
            let name = HeaderName::try_from(name).ok()?;
            let headers = self.headers.borrow();
            let headers = headers.as_ref().filter(|headers| headers.contains_key(&name))?;
            return Some(header_value(headers, &name).into_owned());
        }
        Some(match key {
            "retries" => Value::Int(self.retries.get().into()),
            "status_code" => Value::Int(self.status.get()?.as_u16().into()),
            "status_text" => Value::string(self.status_text()?),
            "duration" => Value::string(go_duration(self.end.get()?)),
            "duration_ms" => Value::Float(self.end.get()?.as_secs_f64() * 1e3),
            "is_transport_error" if self.transport_error.get() => Value::Bool(true),
            _ => return None,
        })
    }
}
