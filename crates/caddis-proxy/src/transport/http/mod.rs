//! The http transport: HTTP/1 with an own client over per-worker pools, HTTP/2 with hyper.
//!
//! ```text
//! transport http {
//!     dial_timeout | dial_fallback_delay | response_header_timeout | expect_continue_timeout
//!     read_timeout | write_timeout <duration>
//!     read_buffer | write_buffer | max_response_header <size>
//!     versions <1.1|2|h2c...>         compression off        proxy_protocol v1|v2
//!     keepalive <duration>|off        keepalive_interval <duration>
//!     keepalive_idle_conns <n>        keepalive_idle_conns_per_host <n>
//!     max_conns_per_host <n>          local_address <ip>     resolvers <addresses...>
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
mod outgoing;
mod pool;
mod proxy_protocol;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod trust;
mod upload;

use std::{borrow::Cow, rc::Rc, sync::Arc, time::Duration};

use caddis_core::{Exchange, Template};
use http::HeaderMap;

use super::Failure;
use crate::upstream::Address;

pub(crate) use compile::compile;
pub(crate) use config::{HttpTransportConfig, ResolverConfig};
pub(crate) use connect::{DialSettings, dial};
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

impl HttpTransport {
    /// Whether connections to this port are encrypted.
    pub(crate) fn uses_tls(&self, port: u16) -> bool {
        self.tls.as_ref().is_some_and(|tls| {
            tls.except_ports.is_empty() || !tls.except_ports.contains(&port.to_string())
        })
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
        let version = self.proxy_protocol?;
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
        self.forward.varying(ex)
    }

    /// The way to an upstream that is reached through a forward proxy.
    pub(crate) fn way(
        &self,
        address: &Address,
        varying: Option<&VaryingProxy>,
    ) -> Option<Box<Way>> {
        self.forward.way(address, self.uses_tls(address.port), varying)
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
        let http2 = if tls { self.h2 } else { self.h2c }
            && !sending.outgoing.upgrade
            && sending.pool.absolute().is_none();
        if http2 {
            let known = sending.pool.h2.borrow().clone();
            if let Some(sender) = known
                && !sender.is_closed()
            {
                match Box::pin(self.over_h2(sending, sender, body)).await {
                    Err(h2::Refused::Failed(failure)) => return Err(failure),
                    Err(h2::Refused::Unsent(unsent, _)) => {
                        restore(body, unsent);
                        sending.pool.h2.take();
                    }
                    Ok(answer) => return Ok(answer),
                }
            }
        }
        let mut fresh = sending.on_new;
        loop {
            let idle = match &sending.pool.permits {
                None if !fresh => sending.pool.take(),
                _ => None,
            };
            let conn = match idle {
                Some(conn) => conn,
                // Boxed, so that a request that finds a connection does not carry the state of this.
                None => match Box::pin(self.acquire(sending, tls, http2, &mut fresh)).await? {
                    Acquired::Http1(conn) => conn,
                    Acquired::Http2(stream) => {
                        return Box::pin(self.first_h2(sending, stream, body)).await;
                    }
                },
            };
            let (failure, safe) = match h1::exchange(conn, &self.call(sending), body).await {
                Ok(answer) => return Ok(answer),
                Err(Broken::Failed(failure)) => return Err(failure),
                Err(Broken::Unsent(text)) => (Failure::Transport(text), true),
                Err(Broken::Stale(text)) => {
                    let headers = (sending.map)();
                    let method = sending.outgoing.method;
                    (Failure::Transport(text), h1::is_idempotent(method, &headers))
                }
            };
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
        Ok(Acquired::Http1(Conn { stream, buf: bytes::BytesMut::new(), reused: false, permit }))
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
            None => dial(address, &self.dial, header).await?,
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

    async fn first_h2(
        &self,
        sending: &Sending<'_>,
        stream: Stream,
        body: &mut RequestBody,
    ) -> Result<Answer, Failure> {
        let sender = h2::open(stream).await?;
        if self.keep.enabled {
            *sending.pool.h2.borrow_mut() = Some(sender.clone());
        }
        match self.over_h2(sending, sender, body).await {
            Ok(answer) => Ok(answer),
            Err(h2::Refused::Failed(failure)) => Err(failure),
            Err(h2::Refused::Unsent(unsent, text)) => {
                restore(body, unsent);
                Err(Failure::Transport(text))
            }
        }
    }

    async fn over_h2(
        &self,
        sending: &Sending<'_>,
        mut sender: hyper::client::conn::http2::SendRequest<caddis_core::Body>,
        body: &mut RequestBody,
    ) -> Result<Answer, h2::Refused> {
        let tls = self.uses_tls(sending.pool.address.port);
        let head = h2::Head::new(sending.outgoing, (sending.map)(), tls)
            .map_err(|error| h2::Refused::Failed(Failure::Transport(error)))?;
        let body = body.take();
        h2::exchange(&mut sender, &head, body, self.header_timeout).await
    }
}

/// A connection to send a request on.
enum Acquired {
    Http1(Conn),
    /// A new one that speaks HTTP/2.
    Http2(Stream),
}

/// Gives a body back that did not leave.
fn restore(body: &mut RequestBody, unsent: caddis_core::Body) {
    if matches!(body, RequestBody::Gone) {
        *body = RequestBody::Stream(unsent);
    }
}
