//! Distinguished names as Go writes them: RFC 2253 style, in Go's fixed order.

use std::fmt::Write;

use x509_parser::{asn1_rs::ToDer, x509::X509Name};

/// The attributes that have a name, in the order of the text.
const KNOWN: &[(&str, &str)] = &[
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.3", "CN"),
    ("2.5.4.11", "OU"),
    ("2.5.4.10", "O"),
    ("2.5.4.17", "POSTALCODE"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.6", "C"),
];

/// The text of a name.
pub(crate) fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut known: Vec<Vec<String>> = vec![Vec::new(); KNOWN.len()];
    let mut others = Vec::new();
    for attribute in name.iter_attributes() {
        let oid = attribute.attr_type().to_id_string();
        let text = attribute.as_str();
        match (KNOWN.iter().position(|(known, _)| *known == oid), text) {
            (Some(at), Ok(text)) => known[at].push(escape(text)),
            (Some(_), Err(_)) => {}
            (None, _) => {
                let der = match attribute.as_str() {
                    Ok(text) => string_der(text),
                    Err(_) => attribute.attr_value().to_der_vec().unwrap_or_default(),
                };
                let hex: String = der.iter().map(|byte| format!("{byte:02x}")).collect();
                others.push(format!("{oid}=#{hex}"));
            }
        }
    }
    // These two hold one value in Go's form; the last one stays.
    for single in [0, 1] {
        let last = known[single].pop();
        known[single].clear();
        known[single].extend(last);
    }
    let mut parts = Vec::new();
    for ((_, label), values) in KNOWN.iter().zip(known) {
        if !values.is_empty() {
            let mut part = String::new();
            for (at, value) in values.iter().enumerate() {
                let join = if at > 0 { "+" } else { "" };
                // Writing to a string cannot fail.
                let _ = write!(part, "{join}{label}={value}");
            }
            parts.push(part);
        }
    }
    parts.extend(others.into_iter().rev());
    parts.join(",")
}

/// The DER of a string as Go encodes it, whatever kind of string it came as: a PrintableString
/// (X.680 §41.4) where it can be one, else an UTF8String.
fn string_der(text: &str) -> Vec<u8> {
    let printable = |byte: u8| byte.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&byte);
    let tag = if text.bytes().all(printable) { 0x13 } else { 0x0c };
    let length = text.len().to_be_bytes();
    let digits = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut der = vec![tag];
    match (text.len(), u8::try_from(text.len())) {
        (..0x80, Ok(short)) => der.push(short),
        _ => {
            der.push(0x80 | u8::try_from(digits.len()).unwrap_or(8));
            der.extend_from_slice(digits);
        }
    }
    der.extend_from_slice(text.as_bytes());
    der
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, c) in text.chars().enumerate() {
        let special = match c {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            ' ' => at == 0 || at == last,
            '#' => at == 0,
            _ => false,
        };
        if special {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{distinguished_name, escape, string_der};

    #[test]
    fn strings_of_unnamed_attributes() {
        assert_eq!(string_der("ex"), b"\x13\x02ex");
        assert_eq!(string_der("a@b"), b"\x0c\x03a@b");
        assert_eq!(string_der(&"a".repeat(200))[..3], *b"\x13\x81\xc8");
        assert_eq!(string_der(&"a".repeat(300))[..4], *b"\x13\x82\x01\x2c");
    }

    #[test]
    fn special_characters_are_escaped() {
        assert_eq!(escape(" a,b "), "\\ a\\,b\\ ");
        assert_eq!(escape("#x"), "\\#x");
    }

    #[test]
    fn the_order_is_fixed() {
        use rcgen::DnType;
        use x509_parser::prelude::{FromDer, X509Certificate};
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CustomDnType(vec![1, 2, 3]), "a@b");
        params.distinguished_name.push(DnType::CountryName, "DE");
        params.distinguished_name.push(DnType::StateOrProvinceName, "s");
        params.distinguished_name.push(DnType::CommonName, "x");
        params.distinguished_name.push(DnType::OrganizationName, "o");
        let der = params.self_signed(&key).unwrap();
        let (_, x509) = X509Certificate::from_der(der.der()).unwrap();
        assert_eq!(distinguished_name(x509.subject()), "CN=x,O=o,ST=s,C=DE,1.2.3=#0c03614062");
    }
}
