//! Small things that several handlers share: header names and values from text, status codes,
//! shapes of header maps, text in HTML, dates of files, the rest of a chain.

use std::{borrow::Cow, collections::BTreeMap, time::SystemTime};

use caddis_core::{Exchange, Next, Response, Result as HttpResult};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Deserializer};
use time::{Duration, OffsetDateTime};

/// Header fields in JSON: name to values.
pub type HeaderLists = BTreeMap<String, Vec<String>>;

/// Reads header fields; `null` is an empty list.
pub(crate) fn header_lists<'de, D>(deserializer: D) -> Result<HeaderLists, D::Error>
where
    D: Deserializer<'de>,
{
    let lists: Option<BTreeMap<String, Option<Vec<String>>>> = Option::deserialize(deserializer)?;
    Ok(lists
        .unwrap_or_default()
        .into_iter()
        .map(|(name, values)| (name, values.unwrap_or_default()))
        .collect())
}

/// A header name as Go's `CanonicalHeaderKey` writes it; text that is none stays as it is.
pub fn canonical(name: &str) -> Cow<'_, str> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.bytes().all(is_token) {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len());
    let mut upper = true;
    for char in name.chars() {
        out.push(if upper { char.to_ascii_uppercase() } else { char.to_ascii_lowercase() });
        upper = char == '-';
    }
    Cow::Owned(out)
}

/// A header name; `None` where the text is none.
pub(crate) fn field_name(text: &str) -> Option<HeaderName> {
    HeaderName::try_from(text).ok()
}

/// A header value; what cannot travel becomes a space, as Go does with line breaks.
pub(crate) fn field_value(text: &str) -> HeaderValue {
    if let Ok(value) = HeaderValue::from_str(text) {
        return value;
    }
    let clean: Vec<u8> = text
        .bytes()
        .map(|byte| if (byte < 0x20 && byte != b'\t') || byte == 0x7f { b' ' } else { byte })
        .collect();
    HeaderValue::from_bytes(clean.trim_ascii()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Text inside of HTML, as Go's `html.EscapeString` writes it.
pub(crate) fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\'' => out.push_str("&#39;"),
            '"' => out.push_str("&#34;"),
            other => out.push(other),
        }
    }
    out
}

/// A file's time as a date; one beyond the calendar's end (some file systems know them) is 1970's
/// beginning.
pub(crate) fn date_time(time: SystemTime) -> OffsetDateTime {
    let since = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => Duration::try_from(after).ok(),
        Err(before) => Duration::try_from(before.duration()).ok().map(|before| -before),
    };
    let date = since.and_then(|since| OffsetDateTime::UNIX_EPOCH.checked_add(since));
    date.unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// The rest of the chain, on a reborrowed exchange, which the handler goes on with afterwards.
pub(crate) async fn run_next(next: Next<'_>, ex: &mut Exchange) -> HttpResult<Response> {
    next.run(ex).await
}

/// A status code from text.
///
/// # Errors
/// Go's sentence where it is no number, or that it is none of HTTP's.
pub(crate) fn parse_status(text: &str) -> Result<StatusCode, String> {
    let number: i64 =
        text.parse().map_err(|_| format!("strconv.Atoi: parsing {text:?}: invalid syntax"))?;
    u16::try_from(number)
        .ok()
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| format!("invalid WriteHeader code {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_names() {
        for (name, want) in [
            ("content-type", "Content-Type"),
            ("X-ABC", "X-Abc"),
            ("{http.request.header.x}", "{http.request.header.x}"),
            ("a b", "a b"),
        ] {
            assert_eq!(canonical(name), want);
        }
    }

    #[test]
    fn every_time_of_a_file_is_a_date() {
        let second = std::time::Duration::from_secs(1);
        let after = SystemTime::UNIX_EPOCH + second;
        assert_eq!(date_time(after).unix_timestamp(), 1);
        assert_eq!(date_time(SystemTime::UNIX_EPOCH - second).unix_timestamp(), -1);
        // The year 11476.
        let beyond = SystemTime::UNIX_EPOCH + second * 3_000_000_000 * 100;
        assert_eq!(date_time(beyond), OffsetDateTime::UNIX_EPOCH);
    }

    #[test]
    fn values_stay_on_their_line() {
        assert_eq!(field_value("a\r\nX-Evil: 1"), "a  X-Evil: 1");
        assert_eq!(field_value("\n"), "");
        assert_eq!(field_value("ü").as_bytes(), "ü".as_bytes());
    }
}
