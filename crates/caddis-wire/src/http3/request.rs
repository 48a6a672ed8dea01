//! The head of a request out of its field section (RFC 9114 §4.2, §4.3).

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, header,
    uri::{Authority, Scheme},
};

use super::{
    Http3Error, code,
    qpack::{self, Name},
};
use crate::encode::is_of_connection;

/// A request's head, checked.
#[derive(Debug, Default)]
pub struct Http3Request {
    /// The method.
    pub method: Method,
    /// Path and query, or `*`; `None` for CONNECT without a protocol.
    pub path: Option<Bytes>,
    /// The host as sent, with its port: `:authority`, or `Host` in its absence. ASCII.
    pub host: Bytes,
    /// The protocol of an extended CONNECT (RFC 9220).
    pub protocol: Option<Bytes>,
    /// The fields, without `Host`; cookie crumbs are one field again.
    pub headers: HeaderMap,
    /// How long the body is declared to be.
    pub content_length: Option<u64>,
}

pub(super) const fn malformed(reason: &'static str) -> Http3Error {
    Http3Error::Stream(code::MESSAGE_ERROR, reason)
}

/// Pseudo-header fields and `Host`, as they came.
#[derive(Default)]
struct Pseudo {
    method: Option<Method>,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
    protocol: Option<Bytes>,
}

impl Http3Request {
    /// Reads the head of a request.
    ///
    /// # Errors
    /// It is malformed, or larger than `max_size` (counted as in RFC 9114 §4.2.2).
    pub fn parse(block: &Bytes, max_size: usize) -> Result<Self, Http3Error> {
        let mut pseudo = Pseudo::default();
        let mut headers = HeaderMap::new();
        let mut cookies: Vec<Bytes> = Vec::new();
        let mut fields_begun = false;
        qpack::decode(block, max_size, |name, value| {
            if name.as_bytes().first() == Some(&b':') {
                if fields_begun {
                    return Err(malformed("pseudo-header field after other fields"));
                }
                return pseudo.take(name.as_bytes(), value);
            }
            fields_begun = true;
            let (name, value) = field(&name, value)?;
            if name == header::COOKIE {
                cookies.push(Bytes::copy_from_slice(value.as_bytes()));
            } else {
                let too_many = |_| Http3Error::TooLarge;
                headers.try_append(name, value).map_err(too_many)?;
            }
            Ok(())
        })?;
        if let Some(cookie) = join_cookies(cookies)? {
            headers.insert(header::COOKIE, cookie);
        }
        let content_length = content_length(&headers)?;
        pseudo.into_request(headers, content_length)
    }
}

impl Pseudo {
    fn take(&mut self, name: &[u8], value: Bytes) -> Result<(), Http3Error> {
        let slot = match name {
            b":method" => {
                let method = Method::from_bytes(&value).map_err(|_| malformed("bad method"))?;
                return match self.method.replace(method) {
                    None => Ok(()),
                    Some(_) => Err(malformed("repeated pseudo-header field")),
                };
            }
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            b":protocol" => &mut self.protocol,
            _ => return Err(malformed("unknown pseudo-header field")),
        };
        match slot.replace(value) {
            None => Ok(()),
            Some(_) => Err(malformed("repeated pseudo-header field")),
        }
    }

    fn into_request(
        self,
        mut headers: HeaderMap,
        content_length: Option<u64>,
    ) -> Result<Http3Request, Http3Error> {
        let method = self.method.ok_or(malformed("no method"))?;
        let bare_connect = method == Method::CONNECT && self.protocol.is_none();
        if self.protocol.is_some() && method != Method::CONNECT {
            return Err(malformed(":protocol without CONNECT"));
        }
        if bare_connect != self.scheme.is_none() || bare_connect != self.path.is_none() {
            return Err(malformed(":scheme and :path do not fit the method"));
        }
        let known = |scheme: &Bytes| {
            Scheme::try_from(scheme.as_ref())
                .is_ok_and(|scheme| scheme == Scheme::HTTPS || scheme == Scheme::HTTP)
        };
        if !self.scheme.as_ref().is_none_or(known) {
            return Err(malformed("unknown scheme"));
        }
        if let Some(path) = &self.path {
            let whole = path.as_ref() == b"*" && method == Method::OPTIONS;
            // What may stand in a request line may stand here; it is escaped where it has to be.
            let fits = path.iter().all(|byte| *byte > b' ' && *byte != 0x7f);
            if !whole && (path.first() != Some(&b'/') || !fits) {
                return Err(malformed("bad path"));
            }
        }
        let mut hosts = headers.get_all(header::HOST).iter();
        let field = hosts.next().map(|host| Bytes::copy_from_slice(host.as_bytes()));
        if hosts.next().is_some() {
            return Err(malformed("repeated Host"));
        }
        if let (Some(field), Some(authority)) = (&field, &self.authority)
            && !field.eq_ignore_ascii_case(authority)
        {
            // One of the two would hide from those who look at the other.
            return Err(malformed("Host differs from :authority"));
        }
        headers.remove(header::HOST);
        let host = self.authority.or(field).ok_or(malformed("no host"))?;
        // User information has no place in a request (RFC 9114 §4.3.1).
        if host.contains(&b'@') || Authority::try_from(host.as_ref()).is_err() {
            return Err(malformed("bad host"));
        }
        let Self { path, protocol, .. } = self;
        Ok(Http3Request { method, path, host, protocol, headers, content_length })
    }
}

/// Reads trailers.
///
/// # Errors
/// They are malformed, or larger than `max_size`.
pub fn trailers(block: &Bytes, max_size: usize) -> Result<HeaderMap, Http3Error> {
    let mut headers = HeaderMap::new();
    qpack::decode(block, max_size, |name, value| {
        let (name, value) = field(&name, value)?;
        headers.try_append(name, value).map_err(|_| Http3Error::TooLarge)?;
        Ok(())
    })?;
    Ok(headers)
}

/// A field that is no pseudo-header field.
pub(super) fn field(name: &Name, value: Bytes) -> Result<(HeaderName, HeaderValue), Http3Error> {
    // Upper case is malformed, too (RFC 9114 §4.2); so are pseudo-header fields in trailers.
    let name = HeaderName::from_lowercase(name.as_bytes()).map_err(|_| malformed("bad name"))?;
    let value = HeaderValue::from_maybe_shared(value).map_err(|_| malformed("bad value"))?;
    if is_of_connection(&name) || name == header::TE && value.as_bytes() != b"trailers" {
        return Err(malformed("field of a connection"));
    }
    Ok((name, value))
}

/// Cookie crumbs become one field again (RFC 9114 §4.2.1).
fn join_cookies(mut crumbs: Vec<Bytes>) -> Result<Option<HeaderValue>, Http3Error> {
    let joined = match crumbs.len() {
        0 => return Ok(None),
        1 => crumbs.remove(0),
        _ => crumbs.join(&b"; "[..]).into(),
    };
    HeaderValue::from_maybe_shared(joined).map(Some).map_err(|_| malformed("bad value"))
}

pub(super) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Http3Error> {
    let mut length = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let bad = || malformed("bad Content-Length");
        let text = value.to_str().map_err(|_| bad())?;
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad());
        }
        let value: u64 = text.parse().map_err(|_| bad())?;
        if length.replace(value).is_some_and(|other| other != value) {
            return Err(bad());
        }
    }
    Ok(length)
}
