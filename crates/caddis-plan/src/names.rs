//! Which names certificates are for (spec T106–T109).

use std::net::IpAddr;

/// Whether a certificate can be managed for a name at all.
pub fn qualifies(name: &str) -> bool {
    // More labels may be wildcards, which only authorities of our own make.
    let wildcard_ok = !name.contains('*') || name.starts_with("*.") || name == "*";
    !name.trim().is_empty()
        && !name.starts_with('.')
        && !name.ends_with('.')
        && wildcard_ok
        && !name.contains(|c: char| "()[]{}<> \t\n\"\\!@#$%^&|;'+=".contains(c))
}

/// Whether a name is one that no public authority can know.
pub fn internal_name(name: &str) -> bool {
    if let Ok(ip) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
        return internal_ip(ip);
    }
    let name = name.to_ascii_lowercase();
    name == "localhost"
        || [".localhost", ".local", ".internal", ".home.arpa"]
            .iter()
            .any(|suffix| name.ends_with(suffix))
}

fn internal_ip(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.octets().starts_with(&[0, 0])
        }
        IpAddr::V6(ip) => {
            let first = ip.segments()[0];
            first & 0xfe00 == 0 || first & 0xffc0 == 0xfe80 || first & 0xfe00 == 0xfc00
        }
    }
}

/// Whether a public authority may issue for a name.
pub fn public_name(name: &str) -> bool {
    qualifies(name)
        && name.trim_matches(['[', ']']).parse::<IpAddr>().is_err()
        && !internal_name(name)
        && match name.matches('*').count() {
            0 => true,
            1 => name.matches('.').count() >= 2,
            _ => false,
        }
}

/// Whether a wildcard name covers another name, label by label.
pub fn wildcard_covers(wildcard: &str, name: &str) -> bool {
    if wildcard.eq_ignore_ascii_case(name) {
        return true;
    }
    if !wildcard.contains('*') {
        return false;
    }
    let (left, right) = (wildcard.split('.'), name.split('.'));
    left.clone().count() == right.clone().count()
        && left.zip(right).all(|(want, label)| want == "*" || want.eq_ignore_ascii_case(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_names() {
        assert!(qualifies("*.example.com") && qualifies("localhost"));
        assert!(!qualifies("a.*.com") && !qualifies("{env.X}") && !qualifies(".a"));
        assert!(internal_name("127.0.0.1") && internal_name("a.localhost"));
        // The networks of certmagic (spec T108).
        for (name, internal) in [
            ("0.0.1.2", true),
            ("0.1.0.0", false),
            ("::1", true),
            ("64:ff9b::1", true),
            ("::ffff:8.8.8.8", false),
            ("fd00::1", true),
            ("2001:db8::1", false),
        ] {
            assert_eq!(internal_name(name), internal, "{name}");
        }
        assert!(!internal_name("8.8.8.8") && !internal_name("example.com"));
        assert!(public_name("example.com") && !public_name("*.com") && !public_name("1.1.1.1"));
        assert!(qualifies("*.*.example.com") && !public_name("*.*.example.com"));
        assert!(public_name("*.example.com") && qualifies("*") && !public_name("*"));
        assert!(wildcard_covers("*.a.com", "x.a.com") && !wildcard_covers("*.a.com", "x.y.a.com"));
    }
}
