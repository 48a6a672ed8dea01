//! The request as it goes out, written without building a map where nothing asks for one.

use std::io::Write as _;

use caddis_wire::{BodyFraming, Headers, is_hop_by_hop, write_header};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::forward_proxy::Absolute;

/// A request head on its way to the upstream.
pub(crate) struct Outgoing<'a> {
    /// The method.
    pub(crate) method: &'a Method,
    /// Path and query.
    pub(crate) target: &'a str,
    /// The host.
    pub(crate) host: &'a [u8],
    /// The fields.
    pub(crate) fields: Fields<'a>,
    /// How the end of the body is told.
    pub(crate) framing: BodyFraming,
    /// Whether the connection is to be closed afterwards.
    pub(crate) close: bool,
    /// Whether the transport asks for gzip.
    pub(crate) ask_gzip: bool,
    /// Whether the request must have a connection that can be upgraded.
    pub(crate) upgrade: bool,
}

/// Where the fields come from.
#[derive(Clone, Copy)]
pub(crate) enum Fields<'a> {
    /// As they are.
    Ready(&'a HeaderMap),
    /// The client's, without hop-by-hop and forwarding fields, and with these.
    Edited(&'a Headers, Forwarded<'a>),
}

/// The fields that say where a request comes from.
#[derive(Clone, Copy)]
pub(crate) struct Forwarded<'a> {
    /// The peer, for `X-Forwarded-For`.
    pub(crate) peer: &'a str,
    /// `X-Forwarded-Proto`.
    pub(crate) scheme: &'static str,
    /// `X-Forwarded-Host`.
    pub(crate) host: &'a str,
    /// `Via`.
    pub(crate) via: &'static HeaderValue,
    /// `Trailer`, where the request announced some.
    pub(crate) trailer: Option<&'a HeaderValue>,
}

impl Outgoing<'_> {
    /// Writes the head; in absolute form where a proxy reads it.
    pub(crate) fn write(&self, out: &mut Vec<u8>, absolute: Option<&Absolute>) {
        // The codec sees to it that the target stays one.
        match absolute {
            None => {
                caddis_wire::write_request_line(out, self.method, self.target.as_bytes());
                line(out, b"Host: ", self.host);
            }
            Some(absolute) => self.write_absolute(out, absolute),
        }
        let authorizes = absolute.is_some_and(|absolute| absolute.authorization.is_some());
        match self.fields {
            Fields::Ready(headers) => {
                for (name, value) in headers {
                    let is_anew = name == header::HOST
                        || is_framing(name)
                        || authorizes && name == header::PROXY_AUTHORIZATION;
                    if !is_anew {
                        write_header(out, name, value);
                    }
                }
            }
            Fields::Edited(headers, forwarded) => forwarded.write(out, headers),
        }
        if self.ask_gzip {
            out.extend_from_slice(b"Accept-Encoding: gzip\r\n");
        }
        if self.close {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        match self.framing {
            // Writing to a Vec cannot fail.
            BodyFraming::Length(length) => drop(write!(out, "Content-Length: {length}\r\n")),
            BodyFraming::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            BodyFraming::None | BodyFraming::UntilClose => {}
        }
        out.extend_from_slice(b"\r\n");
    }

    fn write_absolute(&self, out: &mut Vec<u8>, absolute: &Absolute) {
        // `*` has no absolute form but the one without a path.
        let path = if self.target == "*" { "" } else { self.target };
        let url = format!("http://{}{path}", absolute.authority);
        caddis_wire::write_request_line(out, self.method, url.as_bytes());
        line(out, b"Host: ", absolute.authority.as_bytes());
        if let Some(authorization) = &absolute.authorization {
            line(out, b"Proxy-Authorization: ", authorization.as_bytes());
        }
    }
}

impl Forwarded<'_> {
    fn write(&self, out: &mut Vec<u8>, headers: &Headers) {
        match headers.written() {
            Some(written) => written.write_for_next_hop(out),
            None => {
                for (name, value) in &**headers {
                    if !is_left_out(name) {
                        write_header(out, name, value);
                    }
                }
            }
        }
        line(out, b"X-Forwarded-For: ", self.peer.as_bytes());
        line(out, b"X-Forwarded-Proto: ", self.scheme.as_bytes());
        line(out, b"X-Forwarded-Host: ", self.host.as_bytes());
        line(out, b"Via: ", self.via.as_bytes());
        if let Some(trailer) = self.trailer {
            line(out, b"Trailer: ", trailer.as_bytes());
        }
    }
}

/// Makes fields fit for HTTP/2 and HTTP/3, which have none of a connection (RFC 9113 §8.2.2, RFC
/// 9114 §4.2).
pub(crate) fn fit_for_streams(headers: &mut HeaderMap, outgoing: &Outgoing<'_>) {
    headers.remove(header::HOST);
    caddis_wire::remove_connection_fields(headers);
    if headers.get(header::TE).is_some_and(|value| value != "trailers") {
        headers.remove(header::TE);
    }
    if outgoing.ask_gzip {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    }
    match outgoing.framing {
        BodyFraming::Length(length) => {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        _ => drop(headers.remove(header::CONTENT_LENGTH)),
    }
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn is_framing(name: &HeaderName) -> bool {
    name == header::CONTENT_LENGTH || name == header::TRANSFER_ENCODING
}

/// Whether the fast way leaves a field out: framing, hop-by-hop, and what is written anew.
fn is_left_out(name: &HeaderName) -> bool {
    is_hop_by_hop(name)
        || matches!(
            name.as_str(),
            "content-length"
                | "host"
                | "x-forwarded-for"
                | "x-forwarded-proto"
                | "x-forwarded-host"
        )
}
