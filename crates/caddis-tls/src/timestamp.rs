//! Wall-clock time as the certificate logic counts it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub type Timestamp = i64;

/// The time now.
pub fn now() -> Timestamp {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
