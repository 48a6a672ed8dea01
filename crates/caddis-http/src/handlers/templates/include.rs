//! `httpInclude`: a request to the own server, in memory. It is a `GET` with the fields of the
//! request that is answered, from 127.0.0.1 and without TLS, as Caddy makes it.

use std::{net::SocketAddr, rc::Rc};

use caddis_core::{Exchange, Request, Result as HttpResult, Target};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};

use super::MAX_SIZE;

/// Tells how many requests within each other there are.
const DEPTH: HeaderName = HeaderName::from_static("caddy-templates-include");
/// More are taken for a circle.
const MAX_DEPTH: u32 = 3;

/// The body of what the own server answers; inside, why there is none.
///
/// # Errors
/// The answer was an abort, which then is this one's, too.
pub(super) async fn ask(ex: &Exchange, uri: &str) -> HttpResult<Result<String, String>> {
    let inner = match request(ex, uri) {
        Ok(inner) => inner,
        Err(text) => return Ok(Err(text)),
    };
    let Some(server) = ex.own_server.clone() else {
        return Ok(Err("httpInclude: there is no server to ask".to_owned()));
    };
    let response = server.ask(inner).await?;
    if response.status() >= StatusCode::BAD_REQUEST {
        return Ok(Err(format!("http {}", response.status().as_u16())));
    }
    let body = response.into_body().collect(MAX_SIZE).await;
    Ok(body
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(|error| format!("httpInclude: {error}")))
}

fn request(ex: &Exchange, uri: &str) -> Result<Box<Exchange>, String> {
    let depth = match ex.request.headers.get(DEPTH) {
        None => 0,
        // Below zero there would be no end: the field is the client's, too.
        Some(value) => {
            let number = value.to_str().ok().and_then(|text| text.parse::<u32>().ok());
            number.ok_or_else(|| format!("parsing Caddy-Templates-Include: {value:?}"))?
        }
    };
    if depth >= MAX_DEPTH {
        return Err("virtual request cycle".to_owned());
    }
    let target = target(uri).ok_or_else(|| format!("parse {uri:?}: invalid URI for request"))?;
    let mut request = Request {
        method: Method::GET,
        target,
        version: Version::HTTP_11,
        host: ex.request.host.clone(),
        headers: ex.request.headers.clone(),
        ..Request::default()
    };
    // There is no body, whatever the client sent.
    request.headers.remove(header::CONTENT_LENGTH);
    request.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    request.headers.insert(DEPTH, HeaderValue::from(depth + 1));
    let mut connection = (*ex.connection).clone();
    connection.set_remote(SocketAddr::from(([127, 0, 0, 1], 10_000)));
    connection.tls = None;
    let mut inner = Exchange::new(request, Rc::new(connection), ex.worker.clone());
    inner.own_server.clone_from(&ex.own_server);
    inner.server_header = ex.server_header;
    Ok(inner)
}

/// Path and query of a URI; a host in it says nothing, since the own server is asked.
fn target(uri: &str) -> Option<Target> {
    if uri.bytes().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    let uri = uri.split('#').next().unwrap_or_default();
    let uri = match uri.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            rest.find(['/', '?']).map_or("", |at| &rest[at..])
        }
        _ => uri,
    };
    let slash = if uri.starts_with('/') { "" } else { "/" };
    Target::parse(format!("{slash}{uri}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_as_the_client_but_from_here() {
        let mut ex = Exchange::for_test("/outer");
        ex.request.method = Method::POST;
        ex.request.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("3"));
        ex.request.headers.insert(header::COOKIE, HeaderValue::from_static("a=b"));
        let inner = request(&ex, "http://other.test/x?q=1#f").expect("a request");
        assert_eq!(inner.request.target.as_str(), "/x?q=1");
        assert_eq!((inner.request.method.as_str(), &*inner.request.host), ("GET", "example.com"));
        assert_eq!(inner.request.headers["caddy-templates-include"], "1");
        assert_eq!(inner.request.headers["accept-encoding"], "identity");
        assert_eq!(inner.request.headers["cookie"], "a=b");
        assert!(!inner.request.headers.contains_key("content-length"));
        assert_eq!(inner.connection.remote_ip, "127.0.0.1");
    }

    #[test]
    fn circles_and_bad_addresses_are_errors() {
        let mut ex = Exchange::for_test("/");
        assert!(request(&ex, "/%zz").is_err());
        assert!(request(&ex, "/a\nb").is_err());
        ex.request.headers.insert(DEPTH, HeaderValue::from_static("3"));
        assert_eq!(request(&ex, "/").err().as_deref(), Some("virtual request cycle"));
        for text in ["x", "-9223372036854775808", "-1"] {
            ex.request.headers.insert(DEPTH, HeaderValue::from_static(text));
            assert!(request(&ex, "/").is_err(), "{text}");
        }
    }
}
