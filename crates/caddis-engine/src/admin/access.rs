//! Who may use the admin API (spec A004–A008): a web page in somebody's browser may not.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};

use super::{ApiError, Peer};
use crate::Engine;

/// Checks host and origin; adds the CORS headers of an allowed origin. A preflight goes on to its
/// endpoint, which knows no such method (405, with these headers): as in Caddy, pages of other
/// origins may send what needs no preflight, and nothing else.
pub(crate) fn check(
    engine: &Engine,
    parts: &Parts,
    peer: &Peer,
    cors: &mut HeaderMap,
) -> Result<(), ApiError> {
    let Some(plan) = engine.admin_plan() else { return Ok(()) };
    // Bytes that are no text are none that is allowed, but they are there.
    let text = |name: HeaderName| {
        let value = parts.headers.get(name).map(HeaderValue::as_bytes).unwrap_or_default();
        String::from_utf8_lossy(value)
    };
    if text(header::UPGRADE).to_ascii_lowercase().contains("websocket") {
        return Err(ApiError::bad_request("WebSocket connections aren't allowed."));
    }
    let mode = HeaderName::from_static("sec-fetch-mode");
    if text(mode.clone()).contains("no-cors") {
        let message = "Disabling same-origin restrictions is not allowed.";
        return Err(ApiError::bad_request(message));
    }
    let origin = text(header::ORIGIN);
    if origin == "null" {
        return Err(ApiError::bad_request("Buggy browser is sending null Origin header."));
    }
    // A client of the remote endpoint shows who it is by its certificate, whatever the host; what a
    // browser sends there is from no page of ours.
    let (check_host, enforce_origin, origins) = match peer.is_remote() {
        true => (false, false, &[][..]),
        false => (plan.check_host, plan.enforce_origin, &plan.origins[..]),
    };
    if check_host {
        let named = parts.uri.authority().map(|authority| authority.as_str().into());
        let host: Cow<'_, str> = named.unwrap_or_else(|| text(header::HOST));
        if !origins.iter().any(|allowed| host_of(allowed) == Some(&*host)) {
            let message = format!("host not allowed: {host}");
            return Err(ApiError::new(StatusCode::FORBIDDEN, message));
        }
    }
    let of_browser = parts.headers.contains_key(header::ORIGIN) || parts.headers.contains_key(mode);
    if enforce_origin || of_browser {
        let claimed = if origin.is_empty() { text(header::REFERER) } else { origin };
        if !origins.iter().any(|allowed| same_origin(allowed, &claimed)) {
            let message = format!("client is not allowed to access from origin '{claimed}'");
            return Err(ApiError::new(StatusCode::FORBIDDEN, message));
        }
        if let Ok(value) = HeaderValue::from_str(origin_of(&claimed)) {
            cors.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
        }
        if parts.method == Method::OPTIONS {
            cors.insert(
                header::ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static("OPTIONS, GET, POST, PUT, PATCH, DELETE"),
            );
            cors.insert(
                header::ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static("Content-Type, Content-Length, Cache-Control"),
            );
            cors.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
    Ok(())
}

/// The scheme and host of a URL.
fn origin_of(url: &str) -> &str {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            &url[..scheme.len() + 3 + host.len()]
        }
        None => url,
    }
}

/// The host and port of an allowed origin, which may have a scheme.
fn host_of(allowed: &str) -> Option<&str> {
    match allowed.split_once("://") {
        Some((_, rest)) => rest.split(['/', '?', '#']).next(),
        None => Some(allowed),
    }
}

/// Hosts must be equal, and schemes where the allowed origin names one. What is claimed is a URL.
fn same_origin(allowed: &str, claimed: &str) -> bool {
    let claimed = origin_of(claimed);
    let Some((_, host)) = claimed.split_once("://") else { return false };
    match allowed.contains("://") {
        true => origin_of(allowed).eq_ignore_ascii_case(claimed),
        false => allowed.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        assert!(same_origin("localhost:2019", "http://localhost:2019/page"));
        assert!(same_origin("http://a:1", "http://a:1"));
        assert!(same_origin("http://a:1/page", "http://a:1"));
        assert!(!same_origin("https://a:1", "http://a:1"));
        assert!(!same_origin("localhost:2019", "localhost:2019"));
        assert!(!same_origin("localhost:2019", ""));
        assert!(!same_origin("", ""));
        assert_eq!(host_of("http://a:1/page"), Some("a:1"));
        assert!(!same_origin("localhost:2019", "http://localhost:2019.evil.example"));
    }
}
