//! Time zones by name, of the system or, where it has none, of those in the program.

use jiff::{Timestamp, tz::TimeZone};
use time::{OffsetDateTime, PrimitiveDateTime, UtcOffset};

/// The zone of this name, for example `Europe/Berlin`; `Local` is the one of this process (`TZ`),
/// none or `UTC` is UTC.
pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    match name {
        "" | "UTC" | "Z" => Some(TimeZone::UTC),
        "Local" => Some(TimeZone::system()),
        name => TimeZone::get(name).ok(),
    }
}

/// A zone's offset at a time, and what it is called then (`CEST`).
pub(crate) fn offset(zone: &TimeZone, at: &OffsetDateTime) -> Option<(UtcOffset, String)> {
    let at = Timestamp::from_second(at.unix_timestamp()).ok()?;
    let info = zone.to_offset_info(at);
    let offset = UtcOffset::from_whole_seconds(info.offset().seconds()).ok()?;
    Some((offset, info.abbreviation().to_owned()))
}

/// A zone's offset at a time that a clock there shows; of a time that is twice or never, the one that
/// Go's `time.Date` takes. UTC's beyond the calendar's ends.
pub(crate) fn offset_by_clock(zone: &TimeZone, shown: PrimitiveDateTime) -> UtcOffset {
    let near = |offset: UtcOffset| {
        let back = time::Duration::seconds(offset.whole_seconds().into());
        let at = shown.assume_utc().checked_sub(back)?;
        Some(self::offset(zone, &at)?.0)
    };
    near(UtcOffset::UTC).and_then(near).unwrap_or(UtcOffset::UTC)
}

#[cfg(test)]
mod tests {
    use time::macros::{datetime, offset};

    use super::*;

    #[test]
    fn places_and_their_clocks() {
        let berlin = zone("Europe/Berlin").expect("known");
        for (at, want, name) in [
            (datetime!(2024-01-01 12:00 UTC), offset!(+1), "CET"),
            (datetime!(2024-07-01 12:00 UTC), offset!(+2), "CEST"),
        ] {
            assert_eq!(offset(&berlin, &at), Some((want, name.to_owned())));
            let shown = at.to_offset(want);
            let shown = PrimitiveDateTime::new(shown.date(), shown.time());
            assert_eq!(offset_by_clock(&berlin, shown), want);
        }
        // In the hour that is left out, and in the one that comes twice.
        assert_eq!(offset_by_clock(&berlin, datetime!(2024-03-31 02:30)), offset!(+1));
        assert_eq!(offset_by_clock(&berlin, datetime!(2024-10-27 02:30)), offset!(+1));
        assert!(zone("Nope/Zone").is_none());
        assert_eq!(zone("UTC"), Some(TimeZone::UTC));
    }
}
