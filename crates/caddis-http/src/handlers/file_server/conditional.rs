//! Conditional requests (RFC 9110 §13) and ranges (§14), as Go's `http.ServeContent` reads them.

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, header};

/// What the conditions of a request come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Answer as usual; ranges count only if `ranges`.
    Proceed {
        ranges: bool,
    },
    NotModified,
    PreconditionFailed,
}

/// Looks at the conditions. `read` tells whether the method is GET or HEAD.
pub(super) fn check(
    headers: &HeaderMap,
    etag: &str,
    modified: Option<SystemTime>,
    read: bool,
) -> Verdict {
    let passes = match text(headers, &header::IF_MATCH) {
        Some(list) => matches_any(list, etag, true),
        None => match date(headers, &header::IF_UNMODIFIED_SINCE).zip(modified) {
            Some((date, modified)) => modified <= date,
            None => true,
        },
    };
    if !passes {
        return Verdict::PreconditionFailed;
    }
    match text(headers, &header::IF_NONE_MATCH) {
        Some(list) => {
            if matches_any(list, etag, false) {
                return if read { Verdict::NotModified } else { Verdict::PreconditionFailed };
            }
        }
        None => {
            let since = date(headers, &header::IF_MODIFIED_SINCE).filter(|_| read);
            if since.zip(modified).is_some_and(|(since, modified)| modified <= since) {
                return Verdict::NotModified;
            }
        }
    }
    Verdict::Proceed { ranges: read && if_range(headers, etag, modified) }
}

fn if_range(headers: &HeaderMap, etag: &str, modified: Option<SystemTime>) -> bool {
    let Some(value) = text(headers, &header::IF_RANGE) else { return true };
    if let Some((tag, _)) = scan(value) {
        return strong(tag, etag);
    }
    let date = httpdate::parse_http_date(value).ok();
    date.zip(modified).is_some_and(|(date, modified)| date == modified)
}

/// A header's first value; an empty one counts as absent.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty())
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    text(headers, name).and_then(|value| httpdate::parse_http_date(value).ok())
}

/// Whether an entity tag is in a list; `*` stands for any.
fn matches_any(list: &str, etag: &str, only_strong: bool) -> bool {
    let mut rest = list.trim_start();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(',') {
            rest = after;
            continue;
        }
        if rest.starts_with('*') {
            return true;
        }
        let Some((tag, after)) = scan(rest) else { return false };
        let same = if only_strong {
            strong(tag, etag)
        } else {
            tag.trim_start_matches("W/") == etag.trim_start_matches("W/")
        };
        if same {
            return true;
        }
        rest = after;
    }
}

fn strong(one: &str, two: &str) -> bool {
    one == two && one.starts_with('"')
}

/// An entity tag at the start, and what follows it.
fn scan(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let start = if text.starts_with("W/") { 2 } else { 0 };
    let inside = text[start..].strip_prefix('"')?;
    let end = inside.find('"')?;
    let valid = inside[..end].bytes().all(|byte| byte == 0x21 || byte >= 0x23 && byte != 0x7f);
    valid.then(|| text.split_at(start + end + 2))
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) length: u64,
}

/// Why there are no ranges to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RangeError {
    Malformed,
    /// None of the ranges is in the file.
    NoOverlap,
}

/// Reads `Range`. An empty list is: send everything.
pub(super) fn ranges(value: &str, size: u64) -> Result<Vec<Span>, RangeError> {
    let list = value.strip_prefix("bytes=").ok_or(RangeError::Malformed)?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<i64>().ok()).flatten().and_then(|n| u64::try_from(n).ok())
    };
    let (mut found, mut outside) = (Vec::new(), false);
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (start, end) = range.split_once('-').ok_or(RangeError::Malformed)?;
        let (start, end) = (start.trim(), end.trim());
        if start.is_empty() {
            let length = number(end).ok_or(RangeError::Malformed)?.min(size);
            found.push(Span { start: size - length, length });
            continue;
        }
        let start = number(start).ok_or(RangeError::Malformed)?;
        if start >= size {
            outside = true;
            continue;
        }
        let last = if end.is_empty() {
            size - 1
        } else {
            let last = number(end).filter(|last| *last >= start).ok_or(RangeError::Malformed)?;
            last.min(size - 1)
        };
        found.push(Span { start, length: last - start + 1 });
    }
    if found.is_empty() && outside {
        // Some clients ask for a range of everything, even of an empty file.
        return if size == 0 { Ok(found) } else { Err(RangeError::NoOverlap) };
    }
    // More than the whole file: an attack, or not worth it.
    let sum = found.iter().fold(0_u64, |sum, span| sum.saturating_add(span.length));
    Ok(if sum > size { Vec::new() } else { found })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const TIME: &str = "Tue, 02 Jan 2024 03:04:05 GMT";

    fn verdict(fields: &[(HeaderName, &str)]) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(name, value.parse().expect("value"));
        }
        let modified = UNIX_EPOCH + Duration::from_secs(1_704_164_645);
        check(&headers, "\"a\"", Some(modified), true)
    }

    #[test]
    fn conditions() {
        use header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE};
        let go = Verdict::Proceed { ranges: true };
        for (fields, want) in [
            (vec![], go),
            (vec![(IF_NONE_MATCH, "\"a\"")], Verdict::NotModified),
            (vec![(IF_NONE_MATCH, "W/\"a\"")], Verdict::NotModified),
            (vec![(IF_NONE_MATCH, "\"x\", \"a\"")], Verdict::NotModified),
            (vec![(IF_NONE_MATCH, "*")], Verdict::NotModified),
            (vec![(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, TIME)], go),
            (vec![(IF_MODIFIED_SINCE, TIME)], Verdict::NotModified),
            (vec![(IF_MODIFIED_SINCE, "Mon, 01 Jan 2024 00:00:00 GMT")], go),
            (vec![(IF_MODIFIED_SINCE, "not a date")], go),
            (vec![(IF_MATCH, "\"x\"")], Verdict::PreconditionFailed),
            (vec![(IF_MATCH, "W/\"a\"")], Verdict::PreconditionFailed),
            (vec![(IF_MATCH, "\"a\"")], go),
            (
                vec![(IF_UNMODIFIED_SINCE, "Mon, 01 Jan 2024 00:00:00 GMT")],
                Verdict::PreconditionFailed,
            ),
            (vec![(IF_RANGE, "\"x\"")], Verdict::Proceed { ranges: false }),
            (vec![(IF_RANGE, "\"a\"")], go),
            (vec![(IF_RANGE, TIME)], go),
            (vec![(IF_RANGE, "nonsense")], Verdict::Proceed { ranges: false }),
        ] {
            assert_eq!(verdict(&fields), want, "{fields:?}");
        }
    }

    #[test]
    fn parts() {
        let one = |start, length| Ok(vec![Span { start, length }]);
        for (value, want) in [
            ("bytes=2-5", one(2, 4)),
            ("bytes=-3", one(7, 3)),
            ("bytes=7-", one(7, 3)),
            ("bytes=0-100", one(0, 10)),
            ("bytes=-100", one(0, 10)),
            ("bytes=20-30", Err(RangeError::NoOverlap)),
            ("bytes=5-2", Err(RangeError::Malformed)),
            ("lines=1-2", Err(RangeError::Malformed)),
            ("bytes=+1-2", Err(RangeError::Malformed)),
            ("bytes=--2", Err(RangeError::Malformed)),
            ("bytes=99999999999999999999-", Err(RangeError::Malformed)),
            ("bytes=0-9,0-9", Ok(vec![])),
            ("bytes= 0-1 ,20-30", one(0, 2)),
        ] {
            assert_eq!(ranges(value, 10), want, "{value}");
        }
        assert_eq!(ranges("bytes=0-", 0), Ok(vec![]));
    }
}
