//! Connection strings: a URL or `key=value` pairs. What concerns TLS is taken out, since the driver
//! knows fewer modes than libpq.

/// A connection string in parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// Without the parts below.
    pub(super) rest: String,
    /// `sslmode`
    pub(super) mode: Option<String>,
    /// `sslrootcert`: path of a PEM file.
    pub(super) root: Option<String>,
    /// Options that cannot be kept.
    pub(super) unknown: Vec<String>,
}

/// Takes a connection string apart.
pub(super) fn split(text: &str) -> Parts {
    let mut parts = Parts::default();
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let kept: Vec<&str> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .filter(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                !parts.take(key, &decoded(value))
            })
            .collect();
        parts.rest =
            if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
        return parts;
    }
    let mut kept = Vec::new();
    for pair in pairs(text) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !parts.take(key.trim(), &unquoted(value.trim())) {
            kept.push(pair);
        }
    }
    parts.rest = kept.join(" ");
    parts
}

impl Parts {
    fn take(&mut self, key: &str, value: &str) -> bool {
        match key {
            "sslmode" => self.mode = Some(value.to_owned()),
            "sslrootcert" => self.root = Some(value.to_owned()),
            "sslcert" | "sslkey" | "sslpassword" | "sslcrl" => self.unknown.push(key.to_owned()),
            // How the Go driver splits queries.
            "binary_parameters" | "fallback_application_name" | "sslinline" | "sslsni" => {}
            _ => return false,
        }
        true
    }
}

/// A value for `key=value`.
pub(super) fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Divides at spaces that are not in quotes.
fn pairs(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut start, mut in_quotes, mut escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' => in_quotes = !in_quotes,
            c if c.is_whitespace() && !in_quotes => {
                out.push(&text[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out.retain(|pair| !pair.is_empty());
    out
}

fn unquoted(value: &str) -> String {
    let inner = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\''));
    let mut out = String::new();
    let mut chars = inner.unwrap_or(value).chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}

fn decoded(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let pair = value.get(at + 1..at + 3).filter(|_| *byte == b'%');
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{quoted, split};

    #[test]
    fn tls_is_taken_out() {
        let parts = split("postgres://u:p@h:1/db?sslmode=verify-full&application_name=x");
        assert_eq!(parts.rest, "postgres://u:p@h:1/db?application_name=x");
        assert_eq!(parts.mode.as_deref(), Some("verify-full"));
        let parts = split("postgresql://h/db?sslrootcert=%2Fa%20b.pem&sslkey=k");
        assert_eq!(
            (parts.rest.as_str(), parts.root.as_deref()),
            ("postgresql://h/db", Some("/a b.pem"))
        );
        assert_eq!(parts.unknown, ["sslkey"]);
        let parts = split("host=h password='a b\\' sslmode=x' sslmode='disable'  dbname=d");
        assert_eq!(parts.rest, "host=h password='a b\\' sslmode=x' dbname=d");
        assert_eq!(parts.mode.as_deref(), Some("disable"));
        for odd in ["", "%", "postgres://", "postgres://?%=&&", "'", "\\", "a='", "=%zz"] {
            split(odd);
        }
    }

    #[test]
    fn quotes_are_read_back() {
        let password = "it's \\ here";
        let config = format!("host=h password={}", quoted(password));
        let config: tokio_postgres::Config = config.parse().unwrap();
        assert_eq!(config.get_password(), Some(password.as_bytes()));
    }
}
