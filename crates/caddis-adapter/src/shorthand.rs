//! Short names of placeholders: `{host}` → `{http.request.host}`.
//!
//! Replaced in every token of sites and named routes; not in global options.

use std::borrow::Cow;

use caddis_caddyfile::{Segment, ServerBlock};

/// Names that stand for one placeholder.
const PLAIN: &[(&str, &str)] = &[
    ("client_ip", "http.vars.client_ip"),
    ("dir", "http.request.uri.path.dir"),
    ("file", "http.request.uri.path.file"),
    ("host", "http.request.host"),
    ("hostport", "http.request.hostport"),
    ("method", "http.request.method"),
    ("orig_method", "http.request.orig_method"),
    ("orig_uri", "http.request.orig_uri"),
    ("orig_path", "http.request.orig_uri.path"),
    ("orig_dir", "http.request.orig_uri.path.dir"),
    ("orig_file", "http.request.orig_uri.path.file"),
    ("orig_query", "http.request.orig_uri.query"),
    ("orig_?query", "http.request.orig_uri.prefixed_query"),
    ("path", "http.request.uri.path"),
    ("%path", "http.request.uri.path_escaped"),
    ("port", "http.request.port"),
    ("query", "http.request.uri.query"),
    ("%query", "http.request.uri.query_escaped"),
    ("?query", "http.request.uri.prefixed_query"),
    ("remote", "http.request.remote"),
    ("remote_host", "http.request.remote.host"),
    ("remote_port", "http.request.remote.port"),
    ("scheme", "http.request.scheme"),
    ("tls_cipher", "http.request.tls.cipher_suite"),
    ("tls_version", "http.request.tls.version"),
    ("tls_client_fingerprint", "http.request.tls.client.fingerprint"),
    ("tls_client_issuer", "http.request.tls.client.issuer"),
    ("tls_client_serial", "http.request.tls.client.serial"),
    ("tls_client_subject", "http.request.tls.client.subject"),
    ("tls_client_certificate_pem", "http.request.tls.client.certificate_pem"),
    ("tls_client_certificate_der_base64", "http.request.tls.client.certificate_der_base64"),
    ("upstream_hostport", "http.reverse_proxy.upstream.hostport"),
    ("uri", "http.request.uri"),
    ("%uri", "http.request.uri_escaped"),
    ("uuid", "http.request.uuid"),
];

/// Families: the first part of the name, what it becomes, and whether the rest may hold dots.
const FAMILIES: &[(&str, &str, bool)] = &[
    ("cookie", "http.request.cookie", false),
    ("err", "http.error", true),
    ("file", "http.request.uri.path.file", false),
    ("file_match", "http.matchers.file", false),
    ("header", "http.request.header", false),
    ("labels", "http.request.host.labels", false),
    ("path", "http.request.uri.path", false),
    ("query", "http.request.uri.query", false),
    ("re", "http.regexp", true),
    ("resp", "http.intercept", true),
    ("rp", "http.reverse_proxy", true),
    ("vars", "http.vars", false),
];

/// A block with long names; itself if it has no braces in its words.
pub(crate) fn expanded(block: &ServerBlock) -> Cow<'_, ServerBlock> {
    let segments = || block.segments.iter().flat_map(|segment| &segment.0);
    if !segments().any(|token| token.text.len() > 2 && token.text.contains('{')) {
        return Cow::Borrowed(block);
    }
    let mut block = block.clone();
    block.segments.iter_mut().for_each(expand_segment);
    Cow::Owned(block)
}

/// Replaces the short names in the tokens of a segment.
pub(crate) fn expand_segment(segment: &mut Segment) {
    for token in &mut segment.0 {
        if let Some(text) = expand(&token.text) {
            token.text = text.into();
        }
    }
}

/// The text with long names; none if it has no short one.
fn expand(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut changed = false;
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at(open);
        out.push_str(before);
        let close = from[1..].find(['{', '}']).map(|at| at + 1);
        let name = close.filter(|at| from.as_bytes()[*at] == b'}').map(|at| &from[1..at]);
        match name.and_then(|name| Some((name, long_name(name)?))) {
            Some((name, long)) => {
                out.push('{');
                out.push_str(&long);
                out.push('}');
                changed = true;
                rest = &from[name.len() + 2..];
            }
            None => {
                out.push('{');
                rest = &from[1..];
            }
        }
    }
    out.push_str(rest);
    changed.then_some(out)
}

/// The short names, for "did you mean".
pub(crate) fn short_names() -> impl Iterator<Item = &'static str> {
    PLAIN.iter().map(|(short, _)| *short)
}

/// The name that a short one stands for.
pub(crate) fn long_name(name: &str) -> Option<String> {
    if let Some((_, long)) = PLAIN.iter().find(|(short, _)| *short == name) {
        return Some((*long).to_owned());
    }
    let (family, rest) = name.split_once('.')?;
    let (_, long, dots) = FAMILIES.iter().find(|(short, ..)| *short == family)?;
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-' || (*dots && b == b'.');
    rest.bytes().all(fits).then(|| format!("{long}.{rest}"))
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn expands() {
        let of = |text: &str| expand(text).unwrap_or_else(|| text.to_owned());
        assert_eq!(of("{host}"), "{http.request.host}");
        assert_eq!(
            of("a{path}b{?query}"),
            "a{http.request.uri.path}b{http.request.uri.prefixed_query}"
        );
        assert_eq!(of("{re.name.1}"), "{http.regexp.name.1}");
        assert_eq!(of("{header.X-Y}"), "{http.request.header.X-Y}");
        assert_eq!(of("{file.base}"), "{http.request.uri.path.file.base}");
        assert_eq!(of("{host{host}"), "{host{http.request.host}");
    }

    #[test]
    fn leaves_the_rest() {
        for text in ["{file./etc/x}", "{env.A}", "{", "}", "{}", "{vars.a.b}", "plain", "{host"] {
            assert_eq!(expand(text), None, "{text}");
        }
    }
}
