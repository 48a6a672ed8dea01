//! Who may use the admin API (spec A004–A008): a web page in somebody's browser may not.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};

use super::ApiError;
use crate::Engine;

/// What the checks allow.
pub(crate) enum Verdict {
    /// Go on.
    Allowed,
    /// A CORS preflight: answer with the CORS headers alone.
    Preflight,
}

/// Checks host and origin; adds the CORS headers of an allowed origin.
pub(crate) fn check(
    engine: &Engine,
    parts: &Parts,
    cors: &mut HeaderMap,
) -> Result<Verdict, ApiError> {
    let Some(plan) = engine.admin_plan() else { return Ok(Verdict::Allowed) };
    let text = |name: HeaderName| {
        parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    };
    if text(header::UPGRADE).to_ascii_lowercase().contains("websocket") {
        return Err(ApiError::bad_request("websocket connections aren't allowed"));
    }
    let mode = text(HeaderName::from_static("sec-fetch-mode"));
    if mode == "no-cors" {
        return Err(ApiError::bad_request("client attempted to make request with no-cors mode"));
    }
    let origin = text(header::ORIGIN);
    if origin == "null" {
        return Err(ApiError::bad_request("requests with Origin null are not allowed"));
    }
    if plan.check_host {
        let host = parts.uri.authority().map_or(text(header::HOST), |authority| authority.as_str());
        if !plan.origins.iter().any(|allowed| bare(allowed) == host) {
            let message = format!("host not allowed: {host}");
            return Err(ApiError::new(StatusCode::FORBIDDEN, message));
        }
    }
    if plan.enforce_origin || !origin.is_empty() || !mode.is_empty() {
        let claimed = if origin.is_empty() { text(header::REFERER) } else { origin };
        let allowed =
            !claimed.is_empty() && plan.origins.iter().any(|allowed| same_origin(allowed, claimed));
        if !allowed {
            let message = if claimed.is_empty() {
                "missing required Origin header".to_owned()
            } else {
                format!("client is not allowed to access from origin '{claimed}'")
            };
            return Err(ApiError::new(StatusCode::FORBIDDEN, message));
        }
        if let Ok(value) = HeaderValue::from_str(origin_of(claimed)) {
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
            return Ok(Verdict::Preflight);
        }
    }
    Ok(Verdict::Allowed)
}

/// An allowed origin without its scheme.
fn bare(allowed: &str) -> &str {
    allowed.split_once("://").map_or(allowed, |(_, host)| host)
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

/// Hosts must be equal, and schemes where the allowed origin names one.
fn same_origin(allowed: &str, claimed: &str) -> bool {
    let claimed = origin_of(claimed);
    match allowed.split_once("://") {
        Some(_) => allowed.eq_ignore_ascii_case(claimed),
        None => allowed.eq_ignore_ascii_case(bare(claimed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        assert!(same_origin("localhost:2019", "http://localhost:2019/page"));
        assert!(same_origin("http://a:1", "http://a:1"));
        assert!(!same_origin("https://a:1", "http://a:1"));
        assert!(!same_origin("localhost:2019", "http://localhost:2019.evil.example"));
    }
}
