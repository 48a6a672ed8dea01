//! The media type of a `Content-Type` field, with Go's sentences for what is none.

/// The type in lower case, without parameters.
///
/// # Errors
/// What Go's `mime` package says of the text.
pub(crate) fn parse(text: &str) -> Result<String, &'static str> {
    let (base, mut parameters) = text.split_at(text.find(';').unwrap_or(text.len()));
    let media_type = base.trim().to_ascii_lowercase();
    let (kind, rest) = token(&media_type);
    if kind.is_empty() {
        return Err("mime: no media type");
    }
    if !rest.is_empty() {
        let rest = rest.strip_prefix('/').ok_or("mime: expected slash after first token")?;
        match token(rest) {
            ("", _) => return Err("mime: expected token after slash"),
            (_, "") => {}
            _ => return Err("mime: unexpected content after media subtype"),
        }
    }
    while !matches!(parameters.trim(), "" | ";") {
        parameters = parameter(parameters).ok_or("mime: invalid media parameter")?;
    }
    Ok(media_type)
}

/// What is left after one `; name=value`.
fn parameter(text: &str) -> Option<&str> {
    let (name, rest) = token(text.trim_start().strip_prefix(';')?.trim_start());
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let Some(quoted) = rest.strip_prefix('"') else {
        let (value, rest) = token(rest);
        return (!name.is_empty() && !value.is_empty()).then_some(rest);
    };
    let mut escaped = false;
    for (at, byte) in quoted.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return quoted.get(at + 1..).filter(|_| !name.is_empty()),
            b'\r' | b'\n' => return None,
            _ => escaped = byte == b'\\' && !escaped,
        }
    }
    None
}

/// The token (RFC 9110 §5.6.2) that a text begins with, and the rest.
fn token(text: &str) -> (&str, &str) {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let end = text.bytes().position(|byte| !is_token(byte)).unwrap_or(text.len());
    // Everything before is ASCII.
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn media_types() {
        for (text, want) in [
            ("text/caddyfile", "text/caddyfile"),
            ("Text/CADDYFILE ; charset=utf-8", "text/caddyfile"),
            ("application/json; a=\"b;\\\"c\"; d=e;", "application/json"),
            ("json", "json"),
        ] {
            assert_eq!(parse(text), Ok(want.to_owned()), "{text}");
        }
        for (text, want) in [
            (";;", "mime: no media type"),
            ("/", "mime: no media type"),
            ("é", "mime: no media type"),
            ("a b", "mime: expected slash after first token"),
            ("text/", "mime: expected token after slash"),
            ("a/b/c", "mime: unexpected content after media subtype"),
            ("a/b;charset", "mime: invalid media parameter"),
            ("a/b;c=\"d", "mime: invalid media parameter"),
            ("a/b;=d", "mime: invalid media parameter"),
        ] {
            assert_eq!(parse(text), Err(want), "{text}");
        }
    }
}
