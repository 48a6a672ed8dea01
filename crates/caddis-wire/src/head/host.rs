//! What may stand in `Host`, and before the path of an absolute target.

/// Whether `text` is a host with an optional port: no user, no path, no list.
pub(crate) fn is_host(text: &[u8]) -> bool {
    let (host, port) = match text {
        [b'[', rest @ ..] => {
            let Some(close) = memchr::memchr(b']', rest) else { return false };
            if !is_ipv6(&rest[..close]) {
                return false;
            }
            (&text[..close + 2], &rest[close + 1..])
        }
        _ => {
            let colon = memchr::memchr(b':', text).unwrap_or(text.len());
            (&text[..colon], &text[colon..])
        }
    };
    if host.is_empty() || !is_port(port) {
        return false;
    }
    host[0] == b'[' || is_name(host)
}

/// Whether `text` is a host with a port that is not empty.
pub(crate) fn is_host_with_port(text: &[u8]) -> bool {
    is_host(text)
        && memchr::memrchr(b':', text)
            .is_some_and(|colon| colon + 1 < text.len() && !text[colon..].contains(&b']'))
}

fn is_port(port: &[u8]) -> bool {
    match port {
        [] => true,
        [b':', digits @ ..] => {
            digits.len() <= 5
                && digits.iter().all(u8::is_ascii_digit)
                && digits.iter().fold(0u32, |n, b| n * 10 + u32::from(b - b'0')) <= 65535
        }
        _ => false,
    }
}

/// A comma may stand in a registered name by the grammar, but what it means there is a list.
fn is_name(host: &[u8]) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&b);
    host.iter().all(|&b| plain(b) || b == b'%') && escapes_are_whole(host)
}

fn is_ipv6(text: &[u8]) -> bool {
    let zone = memchr::memchr(b'%', text).unwrap_or(text.len());
    let (address, zone) = text.split_at(zone);
    let zone_ok = |b: &u8| b.is_ascii_alphanumeric() || b"-._~%".contains(b);
    std::str::from_utf8(address).is_ok_and(|a| a.parse::<std::net::Ipv6Addr>().is_ok())
        && zone.iter().all(zone_ok)
}

/// Whether each `%` is followed by two hex digits.
pub(crate) fn escapes_are_whole(text: &[u8]) -> bool {
    memchr::memchr_iter(b'%', text).all(|at| {
        matches!(text.get(at + 1..at + 3), Some([a, b]) if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
    })
}
