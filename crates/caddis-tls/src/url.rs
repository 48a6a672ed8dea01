//! URLs of a configuration that requests are sent to.

use std::collections::BTreeMap;

use caddis_core::target::{encode_query, query_pairs};
use http::Uri;

/// Whether a text is a URL with `http` or `https` and a host.
pub(crate) fn is_http(text: &str) -> bool {
    let parsed: Option<Uri> = bare(text).parse().ok();
    parsed.is_some_and(|url| {
        let host = url.host().is_some_and(|host| !host.is_empty());
        let port = url.authority().is_some_and(|at| {
            let (_, port) = caddis_core::exchange::split_host_port(at.as_str());
            port.is_empty() || at.port_u16().is_some()
        });
        matches!(url.scheme_str(), Some("http" | "https")) && host && port
    })
}

/// A URL with these values in its query, in place of others of their names; sorted by name, as Go
/// does.
pub(crate) fn with_query<const N: usize>(url: &str, own: [(&str, String); N]) -> String {
    let bare = bare(url);
    let (before, query) = bare.split_once('?').unwrap_or((bare, ""));
    let mut pairs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (key, value) in query_pairs(query) {
        pairs.entry(key).or_default().push(value);
    }
    for (key, value) in own {
        pairs.insert(key.to_owned(), vec![value]);
    }
    let encoded: Vec<String> = pairs
        .iter()
        .flat_map(|(key, values)| values.iter().map(move |value| (key, value)))
        .map(|(key, value)| format!("{}={}", encode_query(key), encode_query(value)))
        .collect();
    format!("{before}?{}", encoded.join("&"))
}

/// Without the fragment, which is never sent.
fn bare(url: &str) -> &str {
    url.split('#').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{is_http, with_query};

    #[test]
    fn values_go_into_the_query() {
        let to = |url: &str| with_query(url, [("domain", "a b.test".to_owned())]);
        assert_eq!(to("http://h"), "http://h?domain=a+b.test");
        assert_eq!(to("http://h:1/x?y=1#f"), "http://h:1/x?domain=a+b.test&y=1");
        assert_eq!(to("http://h/?domain=x&a=1&a=2"), "http://h/?a=1&a=2&domain=a+b.test");
    }

    #[test]
    fn what_is_no_url() {
        assert!(is_http("http://h") && is_http("https://[::1]:9/x?y#z"));
        for bad in ["", "ftp://h", "http://", "http://h:x/", "http://h/\r\nX: y", "h"] {
            assert!(!is_http(bad), "{bad}");
        }
    }
}
