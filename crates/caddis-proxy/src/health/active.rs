//! Active checks: a task per upstream on the control runtime, a connection per check.

use std::{
    borrow::Cow,
    fmt,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use caddis_config::ConfigError;
use caddis_core::{
    Body, Connection, Exchange, Request, Target, TaskCx, Template, Worker, event::Events,
    template::Unknown,
};
use caddis_wire::BodyFraming;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};
use regex::bytes::Regex;
use serde_json::json;

use crate::{
    parse::status_matches,
    reverse_proxy::config::ActiveConfig,
    transport::{
        Failure, Transport, fastcgi,
        http::{
            Answer, AnswerBody, Fields, Gunzip, HostPool, HttpTransport, Local, Outgoing,
            RequestBody, Sending,
        },
    },
    upstream::{ActiveState, Address},
};

const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a body that are read where no limit is set.
const MAX_BODY: usize = 10 << 20;
const MAX_REDIRECTS: usize = 10;
const TARGET_UPSTREAM: &str = "{http.reverse_proxy.active.target_upstream}";

/// A compiled definition of checks.
#[derive(Debug)]
pub(crate) struct Check {
    /// Equal for equal definitions over equal transports.
    pub(crate) key: String,
    target: String,
    upstream: Option<Address>,
    port: Option<u16>,
    headers: Vec<(String, Vec<String>)>,
    method: Method,
    body: String,
    follow_redirects: bool,
    interval: Duration,
    timeout: Duration,
    thresholds: (u32, u32),
    max_body: usize,
    expect_status: i64,
    expect_body: Option<Regex>,
}

/// Whether the definition turns checks on.
pub(crate) fn is_on(config: &ActiveConfig) -> bool {
    !config.uri.is_empty() || !config.path.is_empty() || config.port != 0
}

/// Names what is known about one address by one definition.
pub(crate) fn key(config: &ActiveConfig, fingerprint: &str, dial: &str) -> String {
    let definition = serde_json::to_string(config).unwrap_or_default();
    format!("{definition} {fingerprint} {dial}")
}

/// Compiles a definition.
pub(crate) fn compile(config: &ActiveConfig) -> Result<Check, ConfigError> {
    let wrong = |path: &str, why: String| ConfigError::new(path, why);
    let upstream = match config.upstream.as_str() {
        "" => None,
        text => Some(Address::parse(text).map_err(|error| wrong("upstream", error))?),
    };
    let port = match u16::try_from(config.port) {
        Ok(0) => None,
        Ok(port) => Some(port),
        Err(_) => return Err(wrong("port", format!("bad port number {}", config.port))),
    };
    let method = match config.method.as_str() {
        "" => Method::GET,
        text => Method::from_bytes(text.as_bytes())
            .map_err(|_| wrong("method", format!("invalid method {text:?}")))?,
    };
    let expect_body = match config.expect_body.as_str() {
        "" => None,
        text => Some(Regex::new(text).map_err(|error| {
            wrong("expect_body", format!("expect_body: compiling regular expression: {error}"))
        })?),
    };
    let target = if config.uri.is_empty() { &config.path } else { &config.uri };
    if Target::parse(target.as_str().into()).is_none() {
        let path = if config.uri.is_empty() { "path" } else { "uri" };
        return Err(wrong(path, format!("parse {target:?}: invalid URL escape")));
    }
    let slash = if target.starts_with('/') { "" } else { "/" };
    let threshold = |count: i64| u32::try_from(count).unwrap_or(1).max(1);
    Ok(Check {
        key: serde_json::to_string(config).map_err(|error| wrong("", error.to_string()))?,
        target: format!("{slash}{}", target.split('#').next().unwrap_or_default()),
        upstream,
        port,
        headers: config.headers.clone().into_iter().collect(),
        method,
        body: config.body.clone(),
        follow_redirects: config.follow_redirects,
        interval: config.interval.positive().unwrap_or(INTERVAL),
        timeout: config.timeout.positive().unwrap_or(TIMEOUT),
        thresholds: (threshold(config.passes), threshold(config.fails)),
        max_body: usize::try_from(config.max_size).ok().filter(|s| *s > 0).unwrap_or(MAX_BODY),
        expect_status: config.expect_status,
        expect_body,
    })
}

/// Checks one upstream again and again.
pub(crate) struct Checker {
    /// What to do.
    pub(crate) check: Arc<Check>,
    /// Over what.
    pub(crate) transport: Transport,
    /// The upstream's address as configured.
    pub(crate) dial: String,
    /// Where the outcome goes.
    pub(crate) state: Arc<ActiveState>,
}

impl Checker {
    /// The task; the first check is made at once.
    pub(crate) async fn run(self, task: TaskCx) {
        let worker = task.worker;
        let Some(address) = self.address() else { return };
        let mut clock = tokio::time::interval(self.check.interval);
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut first = true;
        loop {
            tokio::select! {
                () = task.cancel.cancelled() => return,
                _ = clock.tick() => {}
            }
            tokio::select! {
                () = task.cancel.cancelled() => return,
                () = self.once(&worker, &address, &task.events) => {}
            }
            if std::mem::take(&mut first) {
                // The first checks are all at once; those after spread over the interval.
                clock.reset_after(self.check.interval.mul_f64(fastrand::f64()));
            }
        }
    }

    /// The upstream's own address; placeholders must not need a request.
    fn address(&self) -> Option<Address> {
        let template = Template::parse(&self.dial);
        let text = if template.as_static().is_some() {
            self.dial.clone()
        } else {
            Template::render_global(&self.dial, Unknown::Keep)
        };
        let failed = |message: &str, error: &str| {
            tracing::error!(
                target: "http.handlers.reverse_proxy.health_checker.active",
                address = %text,
                error = %error,
                "{message}"
            );
        };
        if text.contains('{') {
            let message = "invalid use of placeholders in dial address for active health checks";
            failed(message, "unrecognized placeholder");
            return None;
        }
        Address::parse(&text).map_err(|error| failed("bad network address", &error)).ok()
    }

    async fn once(&self, worker: &Rc<Worker>, own: &Address, events: &Events) {
        let start = Instant::now();
        let outcome = match tokio::time::timeout(self.check.timeout, self.probe(worker, own)).await
        {
            Ok(outcome) => outcome,
            Err(_) => Err(Failed::request("context deadline exceeded".to_owned())),
        };
        let host = self.host(own);
        if let Err(failed) = &outcome {
            tracing::info!(
                target: "http.handlers.reverse_proxy.health_checker.active",
                %host,
                error = failed.error.as_deref(),
                status_code = failed.status,
                "{}",
                failed.what
            );
        }
        let outcome = outcome.map_err(|failed| failed.to_string());
        let Some(up) = self.state.note(outcome, start.elapsed(), self.check.thresholds) else {
            return;
        };
        let (event, message) =
            if up { ("healthy", "host is up") } else { ("unhealthy", "host is down") };
        tracing::info!(
            target: "http.handlers.reverse_proxy.health_checker.active",
            %host,
            "{message}"
        );
        // Spec R173.
        events.tell(event, "http.handlers.reverse_proxy", json!({ "host": host }));
    }

    /// The URL host of the check.
    fn host(&self, own: &Address) -> String {
        if let Some(other) = &self.check.upstream {
            return other.host_port.clone();
        }
        let host = if own.is_unix() { "localhost" } else { own.host.as_str() };
        match self.check.port {
            Some(port) => caddis_config::value::join_host_port(host, &port.to_string()),
            None if own.is_unix() => host.to_owned(),
            None => own.host_port.clone(),
        }
    }

    /// Where the check connects to.
    fn destination(&self, own: &Address) -> Address {
        if let Some(other) = &self.check.upstream {
            return other.clone();
        }
        let Some(port) = self.check.port else { return own.clone() };
        let mut address = own.clone();
        if own.is_unix() {
            "tcp".clone_into(&mut address.network);
            "localhost".clone_into(&mut address.host);
        }
        address.port = port;
        address.host_port = caddis_config::value::join_host_port(&address.host, &port.to_string());
        address
    }

    async fn probe(&self, worker: &Rc<Worker>, own: &Address) -> Result<(), Failed> {
        let check = &self.check;
        let address = self.destination(own);
        let mut target = check.target.clone();
        let mut answer = self.request(worker, &address, own, &target).await?;
        let mut hops = 0;
        while check.follow_redirects && answer.status.is_redirection() {
            let Some(next) = redirect(&answer.headers, &target) else { break };
            hops += 1;
            if hops >= MAX_REDIRECTS {
                return Err(Failed::request(format!("stopped after {MAX_REDIRECTS} redirects")));
            }
            target = next;
            answer = self.request(worker, &address, own, &target).await?;
        }
        let code = answer.status.as_u16();
        if check.expect_status > 0 {
            if !status_matches(code, check.expect_status) {
                return Err(Failed::status("unexpected status code", code));
            }
        } else if !answer.status.is_success() {
            return Err(Failed::status("status code out of tolerances", code));
        }
        let Some(expected) = &check.expect_body else { return Ok(()) };
        let body = read(answer, check.max_body).await?;
        if expected.is_match(&body) {
            Ok(())
        } else {
            Err(Failed { what: "response body failed expectations", error: None, status: None })
        }
    }

    async fn request(
        &self,
        worker: &Rc<Worker>,
        address: &Address,
        own: &Address,
        target: &str,
    ) -> Result<Answer, Failed> {
        let text = Template::render_global(&self.check.body, Unknown::Empty);
        let (framing, body) = match text.len() {
            0 => (BodyFraming::None, RequestBody::None),
            length => (BodyFraming::Length(length as u64), RequestBody::Full(Bytes::from(text))),
        };
        let mut host = self.host(own);
        if address.port == 80 && !self.transport.uses_tls(80)
            || address.port == 443 && self.transport.uses_tls(443)
        {
            host = host.rsplit_once(':').map_or(host.clone(), |(name, _)| name.to_owned());
        }
        let headers = self.headers(&mut host);
        let message = Message { target, host, headers, framing };
        let sent = match &self.transport {
            Transport::Http(http) => self.over_http(http, worker, address, &message, body).await,
            Transport::FastCgi(fastcgi) => {
                self.over_fastcgi(fastcgi, worker, address, message, body).await
            }
        };
        sent.map_err(|failure| Failed::request(failure.text()))
    }

    async fn over_http(
        &self,
        transport: &HttpTransport,
        worker: &Rc<Worker>,
        address: &Address,
        message: &Message<'_>,
        mut body: RequestBody,
    ) -> Result<Answer, Failure> {
        let Message { target, host, headers, framing } = message;
        let way = transport.static_way(address).map_err(Failure::Transport)?;
        let pool = HostPool::detached(address.clone(), way);
        let local = &worker.local::<Local>();
        let method = &self.check.method;
        let outgoing = Outgoing {
            method,
            target,
            host: host.as_bytes(),
            fields: Fields::Ready(headers),
            framing: *framing,
            close: false,
            ask_gzip: transport.compression
                && *method != Method::HEAD
                && !headers.contains_key(header::ACCEPT_ENCODING),
            upgrade: false,
        };
        let map = || headers.clone();
        let sending = Sending {
            on_new: false,
            pass: false,
            outgoing: &outgoing,
            map: &map,
            pool: &pool,
            local,
            server_name: transport.static_server_name(),
            proxy: None,
            informational: None,
        };
        transport.send(&sending, &mut body).await
    }

    /// What a client's request would tell is empty: there is no client, and no connection of one.
    async fn over_fastcgi(
        &self,
        transport: &fastcgi::FastCgi,
        worker: &Rc<Worker>,
        address: &Address,
        message: Message<'_>,
        mut body: RequestBody,
    ) -> Result<Answer, Failure> {
        let Message { target, host, headers, framing } = message;
        let connection = Connection {
            remote: None,
            remote_ip: Default::default(),
            local: None,
            local_name: Default::default(),
            tls: None,
        };
        let request = Request {
            method: self.check.method.clone(),
            target: Target::parse(target.to_owned().into()).unwrap_or_default(),
            version: Version::HTTP_11,
            host: host.into(),
            ..Request::default()
        };
        let ex = Exchange::new(request, Rc::new(connection), worker.clone());
        let head = fastcgi::Head {
            method: &self.check.method,
            uri: target,
            host: &ex.request.host,
            headers: &headers,
        };
        let pool = HostPool::detached(address.clone(), None);
        transport.send(&ex, &head, &pool, framing, &mut body).await
    }

    /// The configured fields; `Host` goes to its own place.
    fn headers(&self, host: &mut String) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if matches!(self.transport, Transport::Http(_)) {
            let agent = HeaderValue::from_static("caddis health check");
            headers.insert(header::USER_AGENT, agent);
        }
        let fill = |text: &str| -> String {
            let text: Cow<'_, str> = if text.contains(TARGET_UPSTREAM) {
                Cow::Owned(text.replace(TARGET_UPSTREAM, &self.dial))
            } else {
                Cow::Borrowed(text)
            };
            Template::render_global(&text, Unknown::Keep)
        };
        for (name, values) in &self.check.headers {
            if name.eq_ignore_ascii_case("host") {
                if let Some(value) = values.first() {
                    *host = fill(value);
                }
                continue;
            }
            let Ok(name) = HeaderName::try_from(fill(name)) else { continue };
            if name == header::USER_AGENT {
                headers.remove(&name);
            }
            for value in values {
                if let Ok(value) = HeaderValue::try_from(fill(value)) {
                    headers.append(name.clone(), value);
                }
            }
        }
        headers
    }
}

/// A check's request, over whatever transport.
struct Message<'a> {
    target: &'a str,
    host: String,
    headers: HeaderMap,
    framing: BodyFraming,
}

/// Why a check failed, in the words of Caddy's log.
#[derive(Debug)]
struct Failed {
    what: &'static str,
    error: Option<String>,
    status: Option<u16>,
}

impl Failed {
    fn request(error: String) -> Self {
        Self { what: "HTTP request failed", error: Some(error), status: None }
    }

    fn status(what: &'static str, status: u16) -> Self {
        Self { what, error: None, status: Some(status) }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)?;
        if let Some(error) = &self.error {
            write!(f, ": {error}")?;
        }
        if let Some(status) = self.status {
            write!(f, ": {status}")?;
        }
        Ok(())
    }
}

/// The path and query a redirect leads to, on the same host.
fn redirect(headers: &HeaderMap, from: &str) -> Option<String> {
    let location = headers.get(header::LOCATION)?.to_str().ok()?;
    let location = location.split('#').next().unwrap_or_default();
    if let Some((_, rest)) = location.split_once("://") {
        let path = rest.find(['/', '?']).map_or("", |at| &rest[at..]);
        return Some(if path.starts_with('/') { path.to_owned() } else { format!("/{path}") });
    }
    if location.starts_with('/') {
        return Some(location.to_owned());
    }
    let path = from.split('?').next().unwrap_or_default();
    let folder = &path[..path.rfind('/').map_or(0, |at| at + 1)];
    Some(format!("{folder}{location}"))
}

async fn read(answer: Answer, limit: usize) -> Result<Bytes, Failed> {
    let failed = |error: String| Failed {
        what: "failed to read response body",
        error: Some(error),
        status: None,
    };
    let gzip = answer
        .headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"gzip"));
    let body = match answer.body {
        AnswerBody::Whole(body) | AnswerBody::Multiplexed(body) => body,
        AnswerBody::Http1(body) => Body::Stream(Box::into_pin(body)),
        AnswerBody::Switched(_) => return Err(failed("unexpected protocol switch".to_owned())),
    };
    let mut body = if gzip { Body::stream(Gunzip::new(body)) } else { body };
    let mut all = Vec::new();
    while let Some(data) = body.next_data().await {
        let data = data.map_err(|error| failed(error.to_string()))?;
        let room = limit - all.len();
        all.extend_from_slice(&data[..data.len().min(room)]);
        if all.len() == limit {
            break;
        }
    }
    Ok(all.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_stay_on_the_host() {
        let to = |location: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, HeaderValue::from_static(location));
            redirect(&headers, "/a/b?x=1")
        };
        assert_eq!(to("/c?d#e").as_deref(), Some("/c?d"));
        assert_eq!(to("c").as_deref(), Some("/a/c"));
        assert_eq!(to("http://other/x").as_deref(), Some("/x"));
        assert_eq!(to("http://other").as_deref(), Some("/"));
        assert_eq!(redirect(&HeaderMap::new(), "/"), None);
    }

    #[test]
    fn what_turns_checks_on() {
        assert!(!is_on(&ActiveConfig { upstream: "a:1".into(), ..ActiveConfig::default() }));
        assert!(is_on(&ActiveConfig { port: 1, ..ActiveConfig::default() }));
        let check = compile(&ActiveConfig { uri: "up?x".into(), ..ActiveConfig::default() });
        assert_eq!(check.expect("valid").target, "/up?x");
        let wrong = ActiveConfig { expect_body: "(".into(), ..ActiveConfig::default() };
        assert!(compile(&wrong).is_err());
    }
}
