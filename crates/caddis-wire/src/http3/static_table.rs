//! The static table of QPACK (RFC 9204 appendix A).

/// The entry at an index.
pub(super) fn entry(index: u64) -> Option<(&'static str, &'static str)> {
    usize::try_from(index).ok().and_then(|index| ENTRIES.get(index)).copied()
}

/// Where a field is in the table.
pub(super) enum Found {
    /// Name and value.
    Both(u64),
    /// An entry with the same name.
    Name(u64),
    /// The name is not there.
    No,
}

/// Looks a field up. Where entries with one name lie apart, only the first ones are compared.
pub(super) fn find(name: &str, value: &[u8]) -> Found {
    let Ok(at) = BY_NAME.binary_search_by(|(known, _)| (*known).cmp(name)) else {
        return Found::No;
    };
    let first = BY_NAME[at].1;
    let same = ENTRIES[first..].iter().take_while(|(known, _)| *known == name);
    match same.zip(first..).find(|((_, known), _)| known.as_bytes() == value) {
        Some((_, index)) => Found::Both(index as u64),
        None => Found::Name(first as u64),
    }
}

#[rustfmt::skip]
const ENTRIES: [(&str, &str); 99] = [
    (":authority", ""),
    (":path", "/"),
    ("age", "0"),
    ("content-disposition", ""),
    ("content-length", "0"),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("referer", ""),
    ("set-cookie", ""),
    (":method", "CONNECT"),
    (":method", "DELETE"),
    (":method", "GET"),
    (":method", "HEAD"),
    (":method", "OPTIONS"),
    (":method", "POST"),
    (":method", "PUT"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "103"),
    (":status", "200"),
    (":status", "304"),
    (":status", "404"),
    (":status", "503"),
    ("accept", "*/*"),
    ("accept", "application/dns-message"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-ranges", "bytes"),
    ("access-control-allow-headers", "cache-control"),
    ("access-control-allow-headers", "content-type"),
    ("access-control-allow-origin", "*"),
    ("cache-control", "max-age=0"),
    ("cache-control", "max-age=2592000"),
    ("cache-control", "max-age=604800"),
    ("cache-control", "no-cache"),
    ("cache-control", "no-store"),
    ("cache-control", "public, max-age=31536000"),
    ("content-encoding", "br"),
    ("content-encoding", "gzip"),
    ("content-type", "application/dns-message"),
    ("content-type", "application/javascript"),
    ("content-type", "application/json"),
    ("content-type", "application/x-www-form-urlencoded"),
    ("content-type", "image/gif"),
    ("content-type", "image/jpeg"),
    ("content-type", "image/png"),
    ("content-type", "text/css"),
    ("content-type", "text/html; charset=utf-8"),
    ("content-type", "text/plain"),
    ("content-type", "text/plain;charset=utf-8"),
    ("range", "bytes=0-"),
    ("strict-transport-security", "max-age=31536000"),
    ("strict-transport-security", "max-age=31536000; includesubdomains"),
    ("strict-transport-security", "max-age=31536000; includesubdomains; preload"),
    ("vary", "accept-encoding"),
    ("vary", "origin"),
    ("x-content-type-options", "nosniff"),
    ("x-xss-protection", "1; mode=block"),
    (":status", "100"),
    (":status", "204"),
    (":status", "206"),
    (":status", "302"),
    (":status", "400"),
    (":status", "403"),
    (":status", "421"),
    (":status", "425"),
    (":status", "500"),
    ("accept-language", ""),
    ("access-control-allow-credentials", "FALSE"),
    ("access-control-allow-credentials", "TRUE"),
    ("access-control-allow-headers", "*"),
    ("access-control-allow-methods", "get"),
    ("access-control-allow-methods", "get, post, options"),
    ("access-control-allow-methods", "options"),
    ("access-control-expose-headers", "content-length"),
    ("access-control-request-headers", "content-type"),
    ("access-control-request-method", "get"),
    ("access-control-request-method", "post"),
    ("alt-svc", "clear"),
    ("authorization", ""),
    ("content-security-policy", "script-src 'none'; object-src 'none'; base-uri 'none'"),
    ("early-data", "1"),
    ("expect-ct", ""),
    ("forwarded", ""),
    ("if-range", ""),
    ("origin", ""),
    ("purpose", "prefetch"),
    ("server", ""),
    ("timing-allow-origin", "*"),
    ("upgrade-insecure-requests", "1"),
    ("user-agent", ""),
    ("x-forwarded-for", ""),
    ("x-frame-options", "deny"),
    ("x-frame-options", "sameorigin"),
];

/// Names in order, with the first index of each.
#[rustfmt::skip]
const BY_NAME: [(&str, usize); 52] = [
    (":authority", 0),
    (":method", 15),
    (":path", 1),
    (":scheme", 22),
    (":status", 24),
    ("accept", 29),
    ("accept-encoding", 31),
    ("accept-language", 72),
    ("accept-ranges", 32),
    ("access-control-allow-credentials", 73),
    ("access-control-allow-headers", 33),
    ("access-control-allow-methods", 76),
    ("access-control-allow-origin", 35),
    ("access-control-expose-headers", 79),
    ("access-control-request-headers", 80),
    ("access-control-request-method", 81),
    ("age", 2),
    ("alt-svc", 83),
    ("authorization", 84),
    ("cache-control", 36),
    ("content-disposition", 3),
    ("content-encoding", 42),
    ("content-length", 4),
    ("content-security-policy", 85),
    ("content-type", 44),
    ("cookie", 5),
    ("date", 6),
    ("early-data", 86),
    ("etag", 7),
    ("expect-ct", 87),
    ("forwarded", 88),
    ("if-modified-since", 8),
    ("if-none-match", 9),
    ("if-range", 89),
    ("last-modified", 10),
    ("link", 11),
    ("location", 12),
    ("origin", 90),
    ("purpose", 91),
    ("range", 55),
    ("referer", 13),
    ("server", 92),
    ("set-cookie", 14),
    ("strict-transport-security", 56),
    ("timing-allow-origin", 93),
    ("upgrade-insecure-requests", 94),
    ("user-agent", 95),
    ("vary", 59),
    ("x-content-type-options", 61),
    ("x-forwarded-for", 96),
    ("x-frame-options", 97),
    ("x-xss-protection", 62),
];

#[cfg(test)]
mod tests {
    use super::{BY_NAME, ENTRIES, Found, entry, find};

    #[test]
    fn names_are_sorted_and_first() {
        assert!(BY_NAME.is_sorted());
        for (name, first) in BY_NAME {
            assert_eq!(ENTRIES.iter().position(|(known, _)| *known == name), Some(first));
        }
        assert!(ENTRIES.iter().all(|(name, _)| BY_NAME.iter().any(|(known, _)| known == name)));
    }

    #[test]
    fn finds() {
        assert!(matches!(find(":status", b"200"), Found::Both(25)));
        assert!(matches!(find(":status", b"500"), Found::Name(24)));
        assert!(matches!(find("x-frame-options", b"sameorigin"), Found::Both(98)));
        assert!(matches!(find("x", b""), Found::No));
        assert_eq!(entry(98), Some(("x-frame-options", "sameorigin")));
        assert_eq!(entry(99), None);
    }
}
