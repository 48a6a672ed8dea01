//! Parts of times and durations.

use caddis_core::Result;
use time::{OffsetDateTime, UtcOffset};

use crate::matchers::expression::{
    eval::{error, no_overload},
    node::Val::{self, Duration, Int, Str, Time},
};

/// A part of a time, in UTC or in the zone that is given as an offset.
pub(super) fn in_zone(args: &[Val], get: fn(&OffsetDateTime) -> i64) -> Result<Val> {
    match args {
        [Time(at)] => Ok(Int(get(&at.to_offset(UtcOffset::UTC)))),
        [Time(at), Str(zone)] => {
            let offset = offset(zone)
                .ok_or_else(|| error(format_args!("unknown time zone {zone} (write an offset)")))?;
            Ok(Int(get(&at.to_offset(offset))))
        }
        _ => Err(no_overload()),
    }
}

fn offset(zone: &str) -> Option<UtcOffset> {
    if matches!(zone, "UTC" | "" | "Z") {
        return Some(UtcOffset::UTC);
    }
    let (sign, digits) = match zone.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, zone.strip_prefix('+').unwrap_or(zone)),
    };
    let (hours, minutes) = digits.split_once(':')?;
    let (hours, minutes): (i8, i8) = (hours.parse().ok()?, minutes.parse().ok()?);
    UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()
}

/// A part of a time, or how often a unit is in a duration.
pub(super) fn part(args: &[Val], unit: i64, get: fn(&OffsetDateTime) -> i64) -> Result<Val> {
    match args {
        [Duration(nanoseconds)] => Ok(Int(nanoseconds / unit)),
        args => in_zone(args, get),
    }
}
