//! Wall-clock time as the certificate logic counts it.

use std::time::{SystemTime, UNIX_EPOCH};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Seconds since 1970.
pub type Timestamp = i64;

/// The time now.
pub fn now() -> Timestamp {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// Whether a validity that starts at this time was set by a clock that was ahead of ours.
pub(crate) fn is_ahead(not_before: Timestamp, now: Timestamp) -> bool {
    /// Seconds by which the clocks of a fleet may differ without a word.
    const CLOCKS: i64 = 60 * 60;
    not_before.saturating_sub(now) > CLOCKS
}

/// A time for people, as in RFC 3339; empty for one that no calendar has.
pub(crate) fn text(at: Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp(at)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// So many seconds, as Go writes a duration: `719h30m0s`.
pub(crate) fn span(seconds: i64) -> String {
    caddis_config::Duration(seconds.saturating_mul(1_000_000_000)).to_string()
}
