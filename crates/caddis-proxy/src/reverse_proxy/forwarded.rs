//! The request as the upstream gets it: hop-by-hop fields off, `X-Forwarded-*` and `Via` on.

use std::net::IpAddr;

use base64::Engine as _;
use caddis_core::Exchange;
use http::{HeaderMap, HeaderName, HeaderValue, Version, header};

use caddis_wire::{FieldKind, Headers, is_hop_by_hop};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What the fields of a request ask for, seen in one pass.
#[derive(Default)]
pub(crate) struct Seen {
    /// `Connection` names something else than `keep-alive` and `close`.
    named: bool,
    upgrade: bool,
    te: bool,
    /// An `X-Forwarded-*` is there.
    forwarded: bool,
    /// `Accept-Encoding` or `Range` is there.
    pub(crate) encoding: bool,
}

impl Seen {
    /// Looks at all fields once.
    pub(crate) fn of(headers: &Headers) -> Self {
        match headers.written() {
            Some(written) => Self {
                named: written.values(FieldKind::Connection).any(names_more),
                upgrade: written.has(FieldKind::Upgrade),
                te: written.has(FieldKind::Te),
                forwarded: written.has(FieldKind::Forwarded),
                encoding: written.has(FieldKind::Encoding),
            },
            None => Self::in_map(headers),
        }
    }

    fn in_map(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                "connection" => seen.named |= names_more(value.as_bytes()),
                "upgrade" => seen.upgrade = true,
                "te" => seen.te = true,
                "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" => {
                    seen.forwarded = true;
                }
                "accept-encoding" | "range" => seen.encoding = true,
                _ => {}
            }
        }
        seen
    }

    /// Whether the fields can be written as they are, with the usual ones left out and put on.
    pub(crate) fn is_plain(&self, trusted: bool) -> bool {
        !(self.named || self.te || (trusted && self.forwarded))
    }

    /// The protocol that the client wants to switch to.
    pub(crate) fn upgrade(&self, headers: &Headers) -> Option<HeaderValue> {
        if !self.upgrade || !self.named {
            return None;
        }
        let wants = headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(tokens)
            .any(|token| token.eq_ignore_ascii_case("upgrade"));
        if wants { headers.get(header::UPGRADE).cloned() } else { None }
    }
}

/// Whether `Connection` names something else than `keep-alive` and `close`.
fn names_more(value: &[u8]) -> bool {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|token| {
        !token.is_empty()
            && !token.eq_ignore_ascii_case(b"keep-alive")
            && !token.eq_ignore_ascii_case(b"close")
    })
}

/// The tokens of a comma-separated field.
pub(crate) fn tokens(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or("").split(',').map(str::trim).filter(|token| !token.is_empty())
}

/// `Via` of a request by the client's version.
pub(crate) fn via(version: Version) -> &'static HeaderValue {
    static VIA_10: HeaderValue = HeaderValue::from_static("1.0 caddis");
    static VIA_11: HeaderValue = HeaderValue::from_static("1.1 caddis");
    static VIA_2: HeaderValue = HeaderValue::from_static("2.0 caddis");
    static VIA_3: HeaderValue = HeaderValue::from_static("3.0 caddis");
    match version {
        Version::HTTP_10 | Version::HTTP_09 => &VIA_10,
        Version::HTTP_2 => &VIA_2,
        Version::HTTP_3 => &VIA_3,
        _ => &VIA_11,
    }
}

/// Takes off what belongs to one connection, and what `Connection` names.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let mut found: smallvec::SmallVec<[HeaderName; 4]> = smallvec::SmallVec::new();
    for (name, value) in &*headers {
        if is_hop_by_hop(name) {
            found.push(name.clone());
            if name == header::CONNECTION {
                let named = tokens(value).filter(|token| !token.eq_ignore_ascii_case("keep-alive"));
                found.extend(named.filter_map(|token| HeaderName::try_from(token).ok()));
            }
        }
    }
    for name in found {
        headers.remove(name);
    }
}

/// The fields for the upstream as a map of their own.
pub(crate) fn prepare(
    ex: &Exchange,
    trusted: bool,
    upgrade: Option<&HeaderValue>,
    trailer: Option<&HeaderValue>,
) -> HeaderMap {
    let mut headers = ex.request.headers.clone().into_map();
    let trailers =
        headers.get_all(header::TE).iter().flat_map(tokens).any(|token| {
            token.split(';').next().is_some_and(|t| t.eq_ignore_ascii_case("trailers"))
        });
    remove_hop_by_hop(&mut headers);
    headers.remove(header::CONTENT_LENGTH);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, protocol.clone());
    } else if let Some(trailer) = trailer {
        headers.insert(header::TRAILER, trailer.clone());
    }
    add_forwarded(&mut headers, ex, trusted);
    headers.append(header::VIA, via(ex.request.version).clone());
    headers
}

fn add_forwarded(headers: &mut HeaderMap, ex: &Exchange, trusted: bool) {
    let peer = ex.connection.remote.map(|peer| peer.ip().to_canonical());
    if peer.is_none() && !trusted {
        headers.remove(X_FORWARDED_FOR);
        headers.remove(X_FORWARDED_PROTO);
        headers.remove(X_FORWARDED_HOST);
        return;
    }
    let prior: Vec<_> = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    let prior = prior.join(", ");
    let chain = match peer {
        Some(peer) if trusted && !prior.is_empty() => Some(format!("{prior}, {peer}")),
        Some(peer) => Some(peer.to_string()),
        None => (!prior.is_empty()).then_some(prior),
    };
    set(headers, X_FORWARDED_FOR, chain.as_deref());
    let kept = |name: &HeaderName| {
        let last = headers.get_all(name).iter().next_back().filter(|value| !value.is_empty());
        last.filter(|_| trusted).cloned()
    };
    let (proto, host) = (kept(&X_FORWARDED_PROTO), kept(&X_FORWARDED_HOST));
    match proto {
        Some(proto) => drop(headers.insert(X_FORWARDED_PROTO, proto)),
        None => set(headers, X_FORWARDED_PROTO, Some(ex.scheme())),
    }
    match host {
        Some(host) => drop(headers.insert(X_FORWARDED_HOST, host)),
        None => set(headers, X_FORWARDED_HOST, Some(&ex.request.host)),
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: Option<&str>) {
    if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
        headers.insert(name, value);
    }
}

/// Turns an extended CONNECT (RFC 8441) into the upgrade request it stands for.
pub(crate) fn websocket_upgrade(headers: &mut HeaderMap) {
    let key = base64::engine::general_purpose::STANDARD.encode(fastrand::u128(..).to_be_bytes());
    set(headers, HeaderName::from_static("sec-websocket-key"), Some(&key));
}

/// The peer, where it has an address.
pub(crate) fn peer(ex: &Exchange) -> Option<IpAddr> {
    ex.connection.remote.map(|peer| peer.ip().to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(fields: &[(&'static str, &'static str)]) -> Box<Exchange> {
        let mut ex = Exchange::for_test("/");
        for (name, value) in fields {
            ex.request.headers.append(*name, HeaderValue::from_static(value));
        }
        ex
    }

    fn prepared(fields: &[(&'static str, &'static str)], trusted: bool) -> Vec<String> {
        let ex = exchange(fields);
        let mut lines: Vec<_> = prepare(&ex, trusted, None, None)
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn forwarding_fields() {
        let fresh = [
            "via: 1.1 caddis",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: example.com",
            "x-forwarded-proto: http",
        ];
        assert_eq!(prepared(&[], false), fresh);
        let spoofed = [
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-for", "5.6.7.8"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
        ];
        assert_eq!(prepared(&spoofed, false), fresh);
        assert_eq!(
            prepared(&spoofed, true),
            [
                "via: 1.1 caddis",
                "x-forwarded-for: 1.2.3.4, 5.6.7.8, 127.0.0.1",
                "x-forwarded-host: evil",
                "x-forwarded-proto: https",
            ]
        );
    }

    #[test]
    fn hop_by_hop_fields() {
        let lines = prepared(
            &[
                ("connection", "X-Private, keep-alive"),
                ("x-private", "1"),
                ("keep-alive", "timeout=9"),
                ("proxy-authorization", "Basic abc"),
                ("te", "gzip, trailers"),
                ("upgrade", "h2c"),
                ("x-kept", "yes"),
            ],
            false,
        );
        assert_eq!(lines[0], "te: trailers");
        assert_eq!(lines[lines.len() - 1], "x-kept: yes");
        assert_eq!(lines.len(), 6);
    }

    #[test]
    fn what_is_plain() {
        let seen =
            |fields: &[(&'static str, &'static str)]| Seen::of(&exchange(fields).request.headers);
        assert!(seen(&[("connection", "keep-alive")]).is_plain(false));
        assert!(seen(&[("x-forwarded-for", "1")]).is_plain(false));
        assert!(!seen(&[("x-forwarded-for", "1")]).is_plain(true));
        assert!(!seen(&[("te", "trailers")]).is_plain(false));
        let ex = exchange(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        let seen = Seen::of(&ex.request.headers);
        assert!(!seen.is_plain(false));
        assert_eq!(seen.upgrade(&ex.request.headers).expect("wanted"), "websocket");
    }
}
