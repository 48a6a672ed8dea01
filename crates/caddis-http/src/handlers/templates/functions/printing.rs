//! Escapes for HTML, JavaScript and paths; sizes and times in words.

use time::OffsetDateTime;

use super::Res;
use crate::handlers::{support::escape_html, templates::eval::Stop};

/// Text inside of HTML as Go's `text/template` writes it.
pub(in super::super) fn html(text: &str) -> String {
    escape_html(text).replace('\0', "\u{fffd}")
}

pub(super) fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '<' => out.push_str("\\u003C"),
            '>' => out.push_str("\\u003E"),
            '&' => out.push_str("\\u0026"),
            '=' => out.push_str("\\u003D"),
            c if c < ' ' => {
                out.push_str("\\u00");
                out.push_str(&format!("{:02X}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

/// Takes tags off, which end outside of quotes only.
pub(super) fn strip_html(text: &str) -> String {
    let mut out = String::new();
    let mut depth = 0usize;
    let mut quote = None;
    for c in text.chars() {
        match (c, quote) {
            ('"' | '\'', None) if depth > 0 => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('<', None) => depth += 1,
            ('>', None) if depth > 0 => depth -= 1,
            _ if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}

pub(super) fn path_escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'_'
            | b'.'
            | b'~'
            | b'$'
            | b'&'
            | b'+'
            | b':'
            | b'='
            | b'@' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// A size or a time in words.
pub(super) fn humanize(what: &str, text: &str) -> Res<String> {
    let mut parts = what.split(':');
    match parts.next() {
        Some("size") => {
            let bytes = text
                .parse()
                .map_err(|error| Stop::text(format!("humanize: size cannot be parsed: {error}")))?;
            Ok(size(bytes))
        }
        Some("time") => {
            // What is behind a further colon does not count, as in Caddy.
            let layout = parts.next().unwrap_or("Mon, 02 Jan 2006 15:04:05 -0700");
            let time = caddis_core::Layout::parse(layout)
                .read(text)
                .map_err(|error| Stop::text(format!("humanize: time cannot be parsed: {error}")))?;
            let seconds = (OffsetDateTime::now_utc() - time).whole_seconds();
            Ok(relative(seconds))
        }
        _ => Err(Stop::text("no know function was given")),
    }
}

fn size(bytes: u64) -> String {
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit < 6 {
        value /= 1000.0;
        unit += 1;
    }
    let value = (value * 10.0 + 0.5).floor() / 10.0;
    let digits = usize::from(value < 10.0);
    format!("{value:.digits$} {}", ["B", "kB", "MB", "GB", "TB", "PB", "EB"][unit])
}

/// So many seconds ago, or from now where they are negative.
fn relative(seconds: i64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    const WEEK: u64 = 7 * DAY;
    const MONTH: u64 = 30 * DAY;
    const YEAR: u64 = 12 * MONTH;
    let label = if seconds < 0 { "from now" } else { "ago" };
    let size = seconds.unsigned_abs();
    let many = |unit: u64, name: &str| format!("{} {name} {label}", size / unit);
    match size {
        0 => "now".to_owned(),
        1 => format!("1 second {label}"),
        _ if size < MINUTE => many(1, "seconds"),
        _ if size < 2 * MINUTE => format!("1 minute {label}"),
        _ if size < HOUR => many(MINUTE, "minutes"),
        _ if size < 2 * HOUR => format!("1 hour {label}"),
        _ if size < DAY => many(HOUR, "hours"),
        _ if size < 2 * DAY => format!("1 day {label}"),
        _ if size < WEEK => many(DAY, "days"),
        _ if size < 2 * WEEK => format!("1 week {label}"),
        _ if size < MONTH => many(WEEK, "weeks"),
        _ if size < 2 * MONTH => format!("1 month {label}"),
        _ if size < YEAR => many(MONTH, "months"),
        _ if size < 18 * MONTH => format!("1 year {label}"),
        _ if size < 2 * YEAR => format!("2 years {label}"),
        _ if size < 37 * YEAR => many(YEAR, "years"),
        _ => format!("a long while {label}"),
    }
}
