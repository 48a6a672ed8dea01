//! One try against one upstream.

use std::{rc::Rc, time::Instant};

use caddis_core::{ByteString, Exchange, HttpError, Next, Response};
use caddis_wire::FieldKind;
use http::{HeaderMap, StatusCode, header};

use super::{
    answer::Responded,
    debug_log::{self, Sent},
    forwarded,
    handler::{Prepared, ReverseProxy, Run},
    passed_on::InFlight,
};
use crate::{
    parse::status_matches,
    selection::{self, View},
    transport::{
        Failure, Transport, fastcgi,
        http::{Answer, Fields, Forwarded, HostPool, Local, Outgoing, RequestBody, Sending},
    },
    upstream::{Address, Target, Upstream},
};

/// The name that logs choose these entries by.
const LOGGER: &str = "http.handlers.reverse_proxy";

/// Why a try gave no response.
#[derive(Debug)]
pub(super) enum Problem {
    /// No upstream is available.
    NoUpstream,
    /// The upstream failed.
    Failed(Failure),
    /// The answer was one that is to be tried again.
    Unwanted(StatusCode),
    /// Not to be tried again.
    Final(HttpError),
}

impl Problem {
    /// What happened, for logs.
    pub(super) fn text(&self) -> String {
        match self {
            Self::NoUpstream => "no upstreams available".to_owned(),
            Self::Failed(failure) => failure.text(),
            Self::Unwanted(status) => {
                format!("upstream response matched retry_match (status {})", status.as_u16())
            }
            Self::Final(error) => error.to_string(),
        }
    }

    pub(super) fn into_error(self) -> HttpError {
        match self {
            Self::NoUpstream => HttpError::new(StatusCode::SERVICE_UNAVAILABLE, self.text()),
            Self::Failed(Failure::Dial(text) | Failure::Transport(text)) => {
                HttpError::new(StatusCode::BAD_GATEWAY, text)
            }
            Self::Failed(Failure::Timeout(text)) => {
                HttpError::new(StatusCode::GATEWAY_TIMEOUT, text)
            }
            Self::Failed(Failure::RequestBody(error)) => error.into(),
            Self::Failed(Failure::Request(error)) => error,
            Self::Unwanted(status) => HttpError::new(status, self.text()),
            Self::Final(error) => error,
        }
    }
}

impl ReverseProxy {
    /// Chooses an upstream and sends the request there.
    pub(super) async fn attempt(
        &self,
        ex: &mut Exchange,
        run: &mut Run,
        next: Next<'_>,
    ) -> Result<Response, Problem> {
        let found = match &self.dynamic {
            None => None,
            Some(dynamic) => Box::pin(dynamic.upstreams(ex, run.again))
                .await
                .map_err(|error| {
                    tracing::error!(
                        target: "http.handlers.reverse_proxy",
                        %error,
                        "failed getting dynamic upstreams; falling back to static upstreams"
                    );
                })
                .ok(),
        };
        let upstreams = found.as_deref().unwrap_or(&self.upstreams);
        if self.dynamic.is_some() {
            run.tried = selection::places(&run.tried_dials, upstreams);
        }
        let at = self.choose(upstreams, ex, run).ok_or(Problem::NoUpstream)?;
        run.tried.push(at);
        let upstream = &upstreams[at];
        if self.dynamic.is_some() {
            run.tried_dials.push(upstream.dial.clone());
        }
        let pool = self
            .pool(ex, &run.local, upstream)
            .map_err(|error| Problem::Final(HttpError::new(StatusCode::BAD_GATEWAY, error)))?;
        tracing::debug!(
            target: LOGGER,
            dial = pool.address.host_port.as_str(),
            total_upstreams = upstreams.len(),
            "selected upstream"
        );
        let counts = (
            upstream.requests(),
            upstream.max_requests,
            upstream.state.fails.load(std::sync::atomic::Ordering::Relaxed),
        );
        run.info.begin(pool.clone(), counts);
        let in_flight = InFlight::new(pool.clone(), &upstream.state);
        // The first one begins with the handler, unless something had to be waited for.
        let at_once = self.dynamic.is_none() && self.request_buffers == 0 && run.tried.len() == 1;
        let started = if at_once { run.start } else { Instant::now() };
        let answer = match self.send(ex, run, &pool).await {
            Ok(answer) => answer,
            Err(failure) => {
                self.count_failure(upstream, &failure);
                return Err(Problem::Failed(failure));
            }
        };
        let latency = answer.at.saturating_duration_since(started);
        run.info.answered(latency, answer.status, answer.reason.as_ref());
        self.judge(upstream, answer.status, latency);
        match self.respond(ex, run, answer, in_flight, next) {
            Responded::Now(response) => response,
            Responded::Later(response) => response.await.map_err(Problem::Final),
        }
    }

    fn choose(&self, upstreams: &[Upstream], ex: &Exchange, run: &mut Run) -> Option<usize> {
        if let [single] = upstreams
            && !matches!(self.lb.policy, selection::Policy::Cookie(_))
        {
            // The policies agree where there is nothing to choose.
            return single.available().then_some(0);
        }
        let view = View { ex, uri: &run.prepared.uri, prepared: run.prepared.headers.as_ref() };
        self.lb.policy.select(upstreams, &run.tried, &view, &mut run.cookies)
    }

    /// This worker's connections to the upstream.
    fn pool(
        &self,
        ex: &Exchange,
        local: &Rc<Local>,
        upstream: &Upstream,
    ) -> Result<Rc<HostPool>, String> {
        let keep = self.transport.keep();
        let varying = self.transport.varying_proxy(ex)?;
        let make = |address: Address| {
            let way = self.transport.way(&address, varying.as_ref());
            HostPool::new(address, way, keep.clone(), &upstream.pool, upstream.state.clone())
        };
        let header = self.transport.proxy_header(ex);
        let address = match &upstream.target {
            Target::Fixed(address) if header.is_none() && varying.is_none() => {
                return Ok(local.fixed(&upstream.pool, || make(address.clone())));
            }
            Target::Fixed(address) => address.clone(),
            Target::Template(template) => Address::parse(&template.render(ex))
                .map_err(|error| format!("making dial info: {error}"))?,
            Target::Wrong(error) => return Err(format!("making dial info: {error}")),
        };
        let mut name = address.full();
        if let Some(header) = header {
            name.push_str(&format!(" {}", header.source));
        }
        if let Some(varying) = &varying {
            name.push_str(&format!(" by {}", varying.url));
        }
        Ok(local.named(&upstream.pool, name, || make(address)))
    }

    async fn send(
        &self,
        ex: &Exchange,
        run: &mut Run,
        pool: &Rc<HostPool>,
    ) -> Result<Answer, Failure> {
        let prepared = &mut run.prepared;
        let mut host = ex.request.host.clone();
        let mut changed = None;
        if self.transport.uses_tls(pool.address.port) {
            host = ByteString::from(pool.address.host_port.as_str());
        }
        if let (Some(ops), Some(headers)) = (&self.request_ops, &prepared.headers) {
            let mut headers = headers.clone();
            ops.render(ex).apply_to_request(&mut headers, &mut host);
            changed = Some(headers);
        }
        let ask_gzip = prepared.ask_gzip
            && changed
                .as_ref()
                .is_none_or(|headers| !headers.contains_key(header::ACCEPT_ENCODING));
        let Prepared { method, uri, headers, body, framing, upgrade, trailer, trusted, .. } =
            prepared;
        let ready = changed.as_ref().or(headers.as_ref());
        let peer = ex.connection.remote.map(|_| ex.connection.remote_ip.as_str());
        let fields = match (ready, peer) {
            (Some(headers), _) => Fields::Ready(headers),
            (None, Some(peer)) => Fields::Edited(
                &ex.request.headers,
                Forwarded {
                    peer,
                    scheme: ex.scheme(),
                    host: &ex.request.host,
                    via: forwarded::via(ex.request.version),
                    trailer: trailer.as_ref(),
                },
            ),
            // Requests without a peer address are never plain.
            (None, None) => Fields::Ready(&ex.request.headers),
        };
        let map = || -> HeaderMap {
            ready
                .cloned()
                .unwrap_or_else(|| forwarded::prepare(ex, *trusted, None, trailer.as_ref()))
        };
        let debug = debug_log::is_on().then(Instant::now);
        let tell = |outcome: &Result<Answer, Failure>| {
            let Some(start) = debug else { return };
            let (address, headers) = (&pool.address, &map());
            let sent = Sent { ex, address, method, uri, host: &host, headers };
            debug_log::roundtrip(&sent, start.elapsed(), outcome);
        };
        let transport = match &self.transport {
            Transport::Http(http) => http,
            Transport::FastCgi(fastcgi) => {
                let headers = map();
                let head = fastcgi::Head { method, uri, host: &host, headers: &headers };
                let outcome = Box::pin(fastcgi.send(ex, &head, pool, *framing, body)).await;
                tell(&outcome);
                return outcome;
            }
        };
        let outgoing = Outgoing {
            method,
            target: uri,
            host: host.as_bytes(),
            fields,
            framing: *framing,
            close: !self.transport.keep().enabled && upgrade.is_none(),
            ask_gzip,
            upgrade: upgrade.is_some(),
        };
        let pass = self.passes_fields
            && ex.may_pass
            && debug.is_none()
            && !ask_gzip
            && upgrade.is_none()
            && run.cookies.is_none()
            && ex.response_filters.is_empty()
            && (ex.early_headers.is_empty() || only_alt_svc(&ex.early_headers));
        // Who asks before sending a body has a long one, which is not kept.
        let expects = || {
            let headers = &ex.request.headers;
            let expect = headers.may_have(FieldKind::Expect);
            expect.unwrap_or_else(|| headers.contains_key(header::EXPECT))
        };
        let sending = Sending {
            pass,
            on_new: matches!(body, RequestBody::Stream(_)) && expects(),
            outgoing: &outgoing,
            map: &map,
            pool,
            local: &run.local,
            server_name: self.transport.server_name(ex),
            proxy: self.transport.proxy_header(ex),
            informational: ex.informational.as_deref(),
        };
        let outcome = transport.send(&sending, body).await;
        tell(&outcome);
        outcome
    }

    fn count_failure(&self, upstream: &Upstream, failure: &Failure) {
        if matches!(failure, Failure::RequestBody(_) | Failure::Request(_)) {
            return;
        }
        if let Some(memory) = self.passive.as_ref().and_then(|passive| passive.memory) {
            upstream.count_failure(memory);
        }
    }

    /// Counts bad statuses and slow answers as failures.
    fn judge(&self, upstream: &Upstream, status: StatusCode, latency: std::time::Duration) {
        let Some(passive) = &self.passive else { return };
        let Some(memory) = passive.memory else { return };
        for wanted in &passive.statuses {
            if status_matches(status.as_u16(), *wanted) {
                upstream.count_failure(memory);
            }
        }
        if passive.latency.is_some_and(|limit| latency >= limit) {
            upstream.count_failure(memory);
        }
    }
}

/// `Alt-Svc` is set by the front on every answer over TLS, and can go before lines that are passed.
fn only_alt_svc(headers: &HeaderMap) -> bool {
    headers.len() == 1 && headers.contains_key(header::ALT_SVC)
}
