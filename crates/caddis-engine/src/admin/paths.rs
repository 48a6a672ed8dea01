//! Paths of the API as Go's router takes them: matched segment by segment with `%` escapes resolved,
//! and redirected to their clean form, so that nothing is reached by a path that says otherwise.

use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use percent_encoding::{percent_decode_str, utf8_percent_encode};

use super::{ApiError, ApiResponse};

/// What stays as it is in the `Location` of a redirect (RFC 3986 §3.3).
const PATH: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'%')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b',')
    .remove(b':')
    .remove(b';')
    .remove(b'=')
    .remove(b'@');

/// A path with its escapes resolved.
///
/// # Errors
/// An escape that is none, or text that is not UTF-8.
pub(crate) fn decoded(path: &str) -> Result<String, ApiError> {
    let wrong = || ApiError::bad_request(format!("invalid path: {path}"));
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        let hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
        if byte == b'%' && !(hex(bytes.next()) && hex(bytes.next())) {
            return Err(wrong());
        }
    }
    Ok(percent_decode_str(path).decode_utf8().map_err(|_| wrong())?.into_owned())
}

/// The segments of a path, each with its escapes resolved: `/config/` has `config` and an empty one.
pub(crate) fn segments(path: &str) -> Vec<String> {
    path.trim_start_matches('/')
        .split('/')
        .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
        .collect()
}

/// The shortest path of the same meaning; where it is written so already, nothing.
pub(crate) fn cleaned(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut clean = format!("/{}", parts.join("/"));
    if path.ends_with('/') && clean.len() > 1 {
        clean.push('/');
    }
    (clean != path).then_some(clean)
}

/// Sends the client to another path, with its query.
pub(crate) fn redirect(parts: &Parts, path: &str) -> ApiResponse {
    let mut location = utf8_percent_encode(path, PATH).to_string();
    if let Some(query) = parts.uri.query() {
        location.push('?');
        location.push_str(query);
    }
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    let escaped = location.replace('&', "&amp;").replace('"', "&#34;").replace('\'', "&#39;");
    let escaped = escaped.replace('<', "&lt;").replace('>', "&gt;");
    let text = format!("<a href=\"{escaped}\">Moved Permanently</a>.\n\n");
    let mut response = Response::new(Full::from(if reads { text } else { String::new() }));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let headers = response.headers_mut();
    if reads {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, html);
    }
    // It is ASCII by now, and so a valid value.
    if let Ok(location) = HeaderValue::try_from(location) {
        headers.insert(header::LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::{cleaned, decoded, segments};

    #[test]
    fn paths_are_cleaned() {
        for path in ["/", "/config/", "/config/apps", "/a/%2e%2e/b", "/a/.../b"] {
            assert_eq!(cleaned(path), None, "{path}");
        }
        for (path, want) in [
            ("//config/", "/config/"),
            ("/config/apps/../x", "/config/x"),
            ("/a/./b/", "/a/b/"),
            ("/../../a", "/a"),
            ("/a//", "/a/"),
            ("/..", "/"),
            ("", "/"),
        ] {
            assert_eq!(cleaned(path).as_deref(), Some(want), "{path}");
        }
    }

    #[test]
    fn escapes_are_resolved() {
        assert_eq!(decoded("/config/a%2Fb/%c3%a9").unwrap(), "/config/a/b/é");
        for path in ["/%", "/%2", "/%zz", "/%ff"] {
            assert!(decoded(path).is_err(), "{path}");
        }
        assert_eq!(segments("/con%66ig/"), ["config", ""]);
        assert_eq!(segments("/config%2Fapps"), ["config/apps"]);
    }
}
