//! Parts of times and durations.

use caddis_core::Result;
use time::{OffsetDateTime, UtcOffset};

use crate::{
    matchers::expression::{
        eval::{error, no_overload},
        node::Val::{self, Duration, Int, Str, Time},
    },
    zones,
};

/// A part of a time, in UTC or in the zone that is given as an offset.
pub(super) fn in_zone(args: &[Val], get: fn(&OffsetDateTime) -> i64) -> Result<Val> {
    match args {
        [Time(at)] => local(at, UtcOffset::UTC).map(|at| Int(get(&at))),
        [Time(at), Str(zone)] => {
            let offset = match zone.contains(':') {
                true => offset(zone),
                false => zones::zone(zone).and_then(|zone| Some(zones::offset(&zone, at)?.0)),
            };
            let offset = offset.ok_or_else(|| error(format_args!("unknown time zone {zone}")))?;
            local(at, offset).map(|at| Int(get(&at)))
        }
        _ => Err(no_overload()),
    }
}

/// A time elsewhere; there may be none at the ends of the calendar.
fn local(at: &OffsetDateTime, offset: UtcOffset) -> Result<OffsetDateTime> {
    at.checked_to_offset(offset).ok_or_else(|| error("timestamp overflow"))
}

fn offset(zone: &str) -> Option<UtcOffset> {
    let (sign, digits) = match zone.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, zone.strip_prefix('+').unwrap_or(zone)),
    };
    let (hours, minutes) = digits.split_once(':')?;
    let (hours, minutes): (u8, u8) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds = i32::from(hours) * 3600 + i32::from(minutes) * 60;
    UtcOffset::from_whole_seconds(sign * seconds).ok()
}

/// A part of a time, or how often a unit is in a duration.
pub(super) fn part(args: &[Val], unit: i64, get: fn(&OffsetDateTime) -> i64) -> Result<Val> {
    match args {
        [Duration(nanoseconds)] => Ok(Int(nanoseconds / unit)),
        args => in_zone(args, get),
    }
}
