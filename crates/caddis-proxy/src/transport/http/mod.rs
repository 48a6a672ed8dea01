//! The http transport: own clients for HTTP/1 and HTTP/3 and one over `h2`'s streams for HTTP/2, with
//! pools per worker.
//!
//! ```text
//! transport http {
//!     dial_timeout | dial_fallback_delay | response_header_timeout | expect_continue_timeout
//!     read_timeout | write_timeout <duration>
//!     read_buffer | write_buffer | max_response_header <size>
//!     versions <1.1|2|h2c...>|3       compression off        proxy_protocol v1|v2
//!     keepalive <duration>|off        keepalive_interval <duration>
//!     keepalive_idle_conns <n>        keepalive_idle_conns_per_host <n>
//!     max_conns_per_host <n>          local_address <addr>   resolvers <addresses...>
//!     network_proxy none|url <url>    forward_proxy_url <url>
//!     tls                             tls_server_name <name> tls_timeout <duration>
//!     tls_client_auth <name> | <certificate> <key>           tls_insecure_skip_verify
//!     tls_curves <names...>           tls_except_ports <ports...>
//!     tls_trust_pool <module> ...     tls_trusted_ca_certs <files...>
//!     tls_renegotiation never|once|freely
//! }
//! ```
//!
//! JSON: `{"protocol": "http", …}`, see `config`.

mod body;
mod client_auth;
mod compile;
mod config;
mod connect;
mod directive;
mod forward_proxy;
mod gzip;
mod h1;
mod h2;
mod h3;
mod outgoing;
mod pinned;
mod pool;
mod proxy_protocol;
mod slot;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod trust;
mod upload;

use std::{borrow::Cow, rc::Rc, sync::Arc, time::Duration};

use caddis_core::{Exchange, HttpError, Template};
use http::{HeaderMap, StatusCode};

use super::Failure;
use crate::upstream::Address;

pub(crate) use compile::compile;
pub(crate) use config::{HttpTransportConfig, ResolverConfig};
pub(crate) use connect::{DialSettings, dial, is_number};
pub(crate) use directive::{parse, resolvers};
pub(crate) use forward_proxy::{Varying as VaryingProxy, Way};
pub(crate) use gzip::Gunzip;
pub(crate) use h1::{Answer, AnswerBody, Informational};
pub(crate) use outgoing::{Fields, Forwarded, Outgoing};
pub(crate) use pool::{Conn, HostPool, KeepAlive, Local, PoolId};
pub(crate) use proxy_protocol::Header as ProxyHeader;
pub(crate) use stream::{Carrier, Stream};
pub(crate) use upload::RequestBody;

use h1::{Broken, Call};
use slot::Turn;

/// A compiled http transport.
#[derive(Debug)]
pub(crate) struct HttpTransport {
    dial: DialSettings,
    /// What becomes of idle connections.
    pub(crate) keep: KeepAlive,
    tls: Option<tls::TlsSettings>,
    /// What decides on the proxy that leads to an upstream.
    forward: forward_proxy::Source,
    /// TLS to a proxy, where there is none to upstreams.
    forward_tls: Option<tls::TlsSettings>,
    h2: bool,
    h2c: bool,
    /// HTTP/3, and nothing else.
    h3: bool,
    /// Whether gzip is asked for on behalf of clients that do not.
    pub(crate) compression: bool,
    proxy_protocol: Option<proxy_protocol::Version>,
    max_head: usize,
    header_timeout: Option<Duration>,
    continue_timeout: Option<Duration>,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    /// Most connections to one address; 0 for no limit.
    pub(crate) max_conns: usize,
    /// Equal for equal settings: with the address it names a pool.
    pub(crate) fingerprint: String,
}

/// One request for the transport.
pub(crate) struct Sending<'a> {
    /// The answer's fields may stay as they are.
    pub(crate) pass: bool,
    /// It goes on a new connection: what is lost with one that the upstream ends meanwhile cannot be
    /// sent again.
    pub(crate) on_new: bool,
    /// Its head.
    pub(crate) outgoing: &'a Outgoing<'a>,
    /// Its fields as a map, for HTTP/2.
    pub(crate) map: &'a dyn Fn() -> HeaderMap,
    /// The connections to there.
    pub(crate) pool: &'a Rc<HostPool>,
    /// The worker's buffers.
    pub(crate) local: &'a Rc<Local>,
    /// Name for TLS, where it is not the host.
    pub(crate) server_name: Option<Cow<'a, str>>,
    /// PROXY header for a new connection.
    pub(crate) proxy: Option<ProxyHeader>,
    /// Takes 1xx.
    pub(crate) informational: Informational<'a>,
}

impl Sending<'_> {
    /// Whether sending it twice does no harm.
    fn is_idempotent(&self) -> bool {
        h1::is_idempotent(self.outgoing.method, &(self.map)())
    }
}

impl HttpTransport {
    /// Whether connections to this port are encrypted.
    pub(crate) fn uses_tls(&self, port: u16) -> bool {
        self.tls.as_ref().is_some_and(|tls| {
            tls.except_ports.is_empty() || !tls.except_ports.contains(&port.to_string())
        })
    }

    /// Whether it is to speak HTTP/3 without the TLS that this needs.
    pub(crate) fn lacks_tls(&self) -> bool {
        self.h3 && self.tls.is_none()
    }

    /// The name for TLS, where one is configured.
    pub(crate) fn server_name<'a>(&'a self, ex: &'a Exchange) -> Option<Cow<'a, str>> {
        Some(self.tls.as_ref()?.server_name.as_ref()?.render(ex))
    }

    /// The name for TLS where there is no request.
    pub(crate) fn static_server_name(&self) -> Option<Cow<'_, str>> {
        let name = self.tls.as_ref()?.server_name.as_ref()?;
        Some(name.as_static().map_or_else(
            || {
                let unknown = caddis_core::template::Unknown::Empty;
                Cow::Owned(Template::render_global(name.raw(), unknown))
            },
            Cow::Borrowed,
        ))
    }

    /// The PROXY header for this request's connection.
    pub(crate) fn proxy_header(&self, ex: &Exchange) -> Option<ProxyHeader> {
        // Over QUIC there is none, as in Caddy.
        let version = self.proxy_protocol.filter(|_| !self.h3)?;
        let remote = ex.connection.remote?;
        let ip = ex.client_ip.unwrap_or_else(|| remote.ip());
        // The port is the peer's only if the peer is the client.
        let port = if ip == remote.ip().to_canonical() { remote.port() } else { 0 };
        Some(ProxyHeader {
            version,
            source: (ip, port).into(),
            destination: ex.connection.local.unwrap_or_else(|| ([0, 0, 0, 0], 0).into()),
        })
    }

    /// This request's forward proxy, where its URL holds placeholders.
    pub(crate) fn varying_proxy(&self, ex: &Exchange) -> Result<Option<VaryingProxy>, String> {
        if self.h3 {
            return Ok(None);
        }
        self.forward.varying(ex)
    }

    /// The way to an upstream that is reached through a forward proxy.
    pub(crate) fn way(
        &self,
        address: &Address,
        varying: Option<&VaryingProxy>,
    ) -> Option<Box<Way>> {
        let tls = self.uses_tls(address.port);
        // None of these proxies passes UDP on, and few know HTTP/2 in clear text; Caddy goes past
        // them, too.
        if self.h3 || self.h2c && !tls {
            return None;
        }
        self.forward.way(address, tls, varying)
    }

    /// The same where there is no request.
    pub(crate) fn static_way(&self, address: &Address) -> Result<Option<Box<Way>>, String> {
        Ok(self.way(address, self.forward.varying_global()?.as_ref()))
    }

    /// Sends a request and waits for the answer's head.
    pub(crate) async fn send(
        &self,
        sending: &Sending<'_>,
        body: &mut RequestBody,
    ) -> Result<Answer, Failure> {
        let tls = self.uses_tls(sending.pool.address.port);
        if self.h3 {
            return Box::pin(self.over_h3(sending, body)).await;
        }
        let http2 = if tls { self.h2 } else { self.h2c }
            && !sending.outgoing.upgrade
            && sending.pool.absolute().is_none();
        let mut ready = None;
        if http2 && !sending.pool.only_h1.get() {
            match Box::pin(self.over_h2(sending, tls, body)).await? {
                Over::Answered(answer) => return Ok(answer),
                Over::Http1(conn) => ready = conn,
            }
        }
        let mut fresh = sending.on_new || ready.is_some();
        loop {
            let idle = match &sending.pool.permits {
                None if !fresh && ready.is_none() => sending.pool.take(),
                _ => None,
            };
            let conn = match ready.take().or(idle) {
                Some(conn) => conn,
                // Boxed, so that a request that finds a connection does not carry the state of this.
                None => match Box::pin(self.acquire(sending, tls, http2, &mut fresh)).await? {
                    Acquired::Http1(conn) => conn,
                    Acquired::Http2(stream) => {
                        let first = Box::pin(self.first_h2(sending, stream, body));
                        return first.await.map_err(Broken::into_failure);
                    }
                },
            };
            let broken = match h1::exchange(conn, &self.call(sending), body).await {
                Ok(answer) => return Ok(answer),
                Err(broken) => broken,
            };
            let (failure, safe) = broken.judge(|| sending.is_idempotent());
            if fresh || !safe || !body.is_whole() {
                return Err(failure);
            }
        }
    }

    fn call<'a>(&self, sending: &'a Sending<'a>) -> Call<'a> {
        Call {
            pass: sending.pass,
            outgoing: sending.outgoing,
            local: sending.local,
            pool: sending.pool,
            max_head: self.max_head,
            header_timeout: self.header_timeout,
            continue_timeout: self
                .continue_timeout
                .filter(|_| (sending.map)().contains_key(http::header::EXPECT)),
            informational: sending.informational,
        }
    }

    /// Waits for a place under `max_conns_per_host`; then an idle connection, or a new one where
    /// there is none or the last one was `fresh`.
    async fn acquire(
        &self,
        sending: &Sending<'_>,
        tls: bool,
        http2: bool,
        fresh: &mut bool,
    ) -> Result<Acquired, Failure> {
        let permit = match &sending.pool.permits {
            Some(permits) => permits.clone().acquire_owned().await.ok(),
            None => None,
        };
        if !*fresh && let Some(mut conn) = sending.pool.take() {
            conn.permit = permit;
            return Ok(Acquired::Http1(conn));
        }
        let (stream, agreed_h2) = self.connect(sending, tls, http2).await?;
        if agreed_h2 {
            return Ok(Acquired::Http2(stream));
        }
        *fresh = true;
        Ok(Acquired::Http1(Conn::new(stream, permit)))
    }

    /// A new connection, and whether it speaks HTTP/2.
    async fn connect(
        &self,
        sending: &Sending<'_>,
        tls: bool,
        http2: bool,
    ) -> Result<(Stream, bool), Failure> {
        let address = &sending.pool.address;
        let header = sending.proxy.as_ref();
        let carrier = match &sending.pool.way {
            None => {
                let make_room = || sending.local.close_idle();
                connect::dial_or(address, &self.dial, header, make_room).await?
            }
            Some(way) => {
                let tls = self.tls.as_ref().or(self.forward_tls.as_ref());
                Box::pin(way.open(&self.dial, header, tls)).await?
            }
        };
        let (carrier, agreed) = match &self.tls {
            Some(settings) if tls => {
                let config = if http2 { &settings.any } else { &settings.only_h1 };
                let name = sending.server_name.as_deref().unwrap_or(&address.host);
                let limit = settings.handshake_timeout;
                tls::connect(carrier, Arc::clone(config), name, limit).await?
            }
            _ => (carrier, http2),
        };
        Ok((Stream::new(carrier, self.read_timeout, self.write_timeout), agreed))
    }

    /// Sends a request over HTTP/2, unless it turns out that the upstream does not speak it.
    async fn over_h2(
        &self,
        sending: &Sending<'_>,
        tls: bool,
        body: &mut RequestBody,
    ) -> Result<Over, Failure> {
        let pool = sending.pool;
        let (mut fresh, mut again) = (false, false);
        loop {
            // What is not kept is nothing to wait for.
            let turn = if pool.keeps() { pool.h2().turn(fresh).await? } else { Turn::Dial(None) };
            let result = match turn {
                Turn::Go(opened) => h2::exchange(opened, self.h2_ask(sending, !fresh), body).await,
                Turn::Dial(_) if pool.only_h1.get() => return Ok(Over::Http1(None)),
                Turn::Dial(turn) => {
                    let full = pool.h2().full().and_then(|sessions| sessions.first().cloned());
                    if let Some(session) = full.filter(|_| !fresh && pool.keeps()) {
                        drop(turn);
                        h2::exchange(session.open(), self.h2_ask(sending, true), body).await
                    } else {
                        fresh = true;
                        let permit = match &pool.permits {
                            Some(permits) => permits.clone().acquire_owned().await.ok(),
                            None => None,
                        };
                        let made = match self.connect(sending, tls, true).await {
                            Ok((stream, true)) => {
                                self.h2_session(sending, stream).await.map(Made::Http2)
                            }
                            Ok((stream, false)) => Ok(Made::Http1(stream)),
                            Err(failure) => Err(failure),
                        };
                        if turn.is_some() {
                            pool.h2().attempted(made.as_ref().err());
                        }
                        let session = match made? {
                            Made::Http2(session) => session,
                            Made::Http1(stream) => {
                                pool.only_h1.set(true);
                                return Ok(Over::Http1(Some(Conn::new(stream, permit))));
                            }
                        };
                        drop(turn);
                        h2::exchange(session.open(), self.h2_ask(sending, false), body).await
                    }
                }
            };
            let broken = match result {
                Ok(answer) => return Ok(Over::Answered(answer)),
                Err(broken) => broken,
            };
            // What was surely not taken goes out once more even where the connection is new.
            let unsent = matches!(broken, Broken::Unsent(_));
            let (failure, safe) = broken.judge(|| sending.is_idempotent());
            if again || fresh && !unsent || !safe || !body.is_whole() {
                return Err(failure);
            }
            (fresh, again) = (true, true);
        }
    }

    async fn h2_session(
        &self,
        sending: &Sending<'_>,
        stream: Stream,
    ) -> Result<Rc<h2::Session>, Failure> {
        let session = h2::Session::begin(stream, self.max_head).await?;
        if sending.pool.keeps() {
            sending.pool.h2().push(session.clone());
        }
        Ok(session)
    }

    fn h2_ask<'a>(&self, sending: &'a Sending<'a>, reused: bool) -> h2::Ask<'a> {
        h2::Ask {
            outgoing: sending.outgoing,
            headers: (sending.map)(),
            tls: self.uses_tls(sending.pool.address.port),
            header_timeout: self.header_timeout,
            reused,
            informational: sending.informational,
        }
    }

    /// The first request on a connection of an upstream that spoke HTTP/1 before.
    async fn first_h2(
        &self,
        sending: &Sending<'_>,
        stream: Stream,
        body: &mut RequestBody,
    ) -> Result<Answer, Broken> {
        sending.pool.only_h1.set(false);
        let session = self.h2_session(sending, stream).await.map_err(Broken::Failed)?;
        h2::exchange(session.open(), self.h2_ask(sending, false), body).await
    }

    async fn over_h3(
        &self,
        sending: &Sending<'_>,
        body: &mut RequestBody,
    ) -> Result<Answer, Failure> {
        let pool = sending.pool;
        let settings = self.tls.as_ref().filter(|_| self.uses_tls(pool.address.port));
        let Some((tls, config)) = settings.and_then(|tls| Some((tls, tls.quic.as_ref()?))) else {
            let why = "http3: unsupported protocol scheme: http";
            return Err(Failure::Request(HttpError::new(StatusCode::BAD_GATEWAY, why)));
        };
        if pool.address.is_unix() {
            let why = "http3: unix sockets carry no QUIC";
            return Err(Failure::Request(HttpError::new(StatusCode::BAD_GATEWAY, why)));
        }
        let dialing = h3::Dialing {
            address: &pool.address,
            settings: &self.dial,
            tls: &config.0,
            handshake_timeout: tls.handshake_timeout,
            server_name: sending.server_name.as_deref().unwrap_or(&pool.address.host),
            max_section: self.max_head,
        };
        let (mut fresh, mut again) = (false, false);
        loop {
            let (opened, is_new) = h3::ready(pool.h3(), fresh, pool.keeps(), &dialing).await?;
            fresh = is_new;
            let ask = h3::Ask {
                outgoing: sending.outgoing,
                headers: (sending.map)(),
                max_section: self.max_head,
                header_timeout: self.header_timeout,
                alive_within: self.dial.timeout,
                reused: !fresh,
                informational: sending.informational,
            };
            let broken = match h3::exchange(opened, ask, body).await {
                Ok(answer) => return Ok(answer),
                Err(broken) => broken,
            };
            // What was surely not taken goes out once more even where the connection is new.
            let unsent = matches!(broken, Broken::Unsent(_));
            let (failure, safe) = broken.judge(|| sending.is_idempotent());
            if again || fresh && !unsent || !safe || !body.is_whole() {
                return Err(failure);
            }
            (fresh, again) = (true, true);
        }
    }
}

/// A connection to send a request on.
enum Acquired {
    Http1(Conn),
    /// A new one that speaks HTTP/2.
    Http2(Stream),
}

/// A new connection, by what was agreed on.
enum Made {
    Http1(Stream),
    Http2(Rc<h2::Session>),
}

/// What came of trying HTTP/2.
enum Over {
    Answered(Answer),
    /// It is to be HTTP/1; on this new connection, where one was made.
    Http1(Option<Conn>),
}
